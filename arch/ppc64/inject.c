/* SPDX-License-Identifier: MIT */
/* ppc64le: a system call into registers and its result out, and the code that makes many. */
#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "arch/fit.h"

/* Words of struct pt_regs. */
enum { R0, R1, R3 = 3, R28 = 28, R30 = 30, R31, NIP, MSR, ORIG_R3, CTR, LR, XER, CR, SOFTE };
enum { TRAP = 40, NKEPT, NREGS = 48, TRAP_SC = 0xc00, TRAP_SCV = 0x3000 };
enum { NT_DSCR = 0x105 };

#define CR0_SO 0x10000000ull

/*
 * The part of a signal frame that the kernel reads, struct ucontext: in 64-bit words, from Linux
 * arch/powerpc/include/uapi/asm/{ucontext,sigcontext}.h. The same for swapcontext, a system call
 * that this CPU alone has.
 */
struct context {
	uint64_t flags, link, ss_sp, ss_flags, ss_size, sigmask, unused[15];
	uint64_t unused2[4], signal, handler, oldmask, regs;
	uint64_t gp[NREGS], fp[33], v_regs, vmx[101];
};

static_assert(sizeof(struct context) == 1696, "code");
static_assert(offsetof(struct context, sigmask) == 40, "code");
static_assert(offsetof(struct context, gp) == 232, "code");

struct control {
	uint64_t regs[NKEPT];
	uint64_t sigmask;
	uint8_t siginfo[128];
};

/*
 * The stack pointer of a run stands below the control block, with room for a context between them:
 *
 *	r1 + 0x000	what the ABI wants a stack to begin with
 *	r1 + 0x080	a context
 *	r1 + 0x800	the control block
 */
enum { CONTROL_OFF = 0x800, CONTEXT_OFF = 0x80 };

static_assert(CONTEXT_OFF + sizeof(struct context) <= CONTROL_OFF, "code");
static_assert(offsetof(struct control, sigmask) == 328, "code");
static_assert(offsetof(struct control, siginfo) == 336, "code");
static_assert(sizeof(struct arch_call) == 64 && offsetof(struct arch_call, ret) == 56, "code");
static_assert(SYS_gettid == 207 && SYS_getpid == 20 && SYS_rt_tgsigqueueinfo == 322 &&
		      SYS_swapcontext == 249,
	      "code");

/*
 * r30: next call, r31: end of the table, r28: the closing signal, r1: the stack. System calls
 * change r0, r3 to r12, CR0, CTR and XER alone. gettid and getpid, because our numbers are not
 * those of the target's pid namespace.
 *
 * A thread whose tracer died has no register to spare for a jump to where it was: the kernel loads
 * them all at once. rt_sigreturn would forget the deadline of a sleep; swapcontext does not. It
 * first stores a context, for the vector registers, which are the thread's own all the time; then
 * words 0 to 40 but MSR and the mask come from the control block.
 */
__asm__(".pushsection .rodata\n"
	".balign 16\n"
	"stasis_code:\n"
	"1:	cmpld 30, 31\n"
	"	bge 4f\n"
	"	ld 0, 0(30)\n"
	"	ld 3, 8(30)\n"
	"	ld 4, 16(30)\n"
	"	ld 5, 24(30)\n"
	"	ld 6, 32(30)\n"
	"	ld 7, 40(30)\n"
	"	ld 8, 48(30)\n"
	"	sc\n"
	"	bns 2f\n"
	"	neg 3, 3\n"
	"2:	std 3, 56(30)\n"
	"	addi 30, 30, 64\n"
	"	b 1b\n"
	"stasis_code_lazy:\n"
	"	mfspr 9, 3\n" /* DSCR */
	"	mtspr 3, 9\n"
	"stasis_code_boot:\n"
	"	sc\n"
	"	bns 3f\n"
	"	neg 3, 3\n"
	"3:	mr 30, 3\n"
	"4:	li 0, 207\n" /* gettid */
	"	sc\n"
	"	mr 31, 3\n"
	"	li 0, 20\n" /* getpid */
	"	sc\n"
	"	mr 4, 31\n"
	"	mr 5, 28\n"
	"	addi 6, 1, 0x800 + 336\n"
	"	li 0, 322\n" /* rt_tgsigqueueinfo */
	"	sc\n"
	"stasis_code_stopped:\n"
	"	addi 3, 1, 0x80\n"
	"	li 4, 0\n"
	"	li 5, 1696\n"
	"	li 0, 249\n" /* swapcontext */
	"	sc\n"
	"	addi 6, 1, 0x800 - 8\n"
	"	addi 7, 1, 0x80 + 232 - 8\n"
	"	li 8, 33\n"
	"	mtctr 8\n"
	"5:	ldu 9, 8(6)\n"
	"	stdu 9, 8(7)\n"
	"	bdnz 5b\n"
	"	addi 6, 6, 8\n"
	"	addi 7, 7, 8\n"
	"	li 8, 7\n"
	"	mtctr 8\n"
	"6:	ldu 9, 8(6)\n"
	"	stdu 9, 8(7)\n"
	"	bdnz 6b\n"
	"	ldu 9, 8(6)\n"
	"	std 9, 0x80 + 40(1)\n"
	"	li 3, 0\n"
	"	addi 4, 1, 0x80\n"
	"	li 5, 1696\n"
	"	li 0, 249\n"
	"	sc\n"
	"stasis_code_end:\n"
	".popsection\n");

/* Hidden: by way of the table of addresses (GOT) all local labels of a section are its start. */
#pragma GCC visibility push(hidden)
extern const uint8_t stasis_code[], stasis_code_lazy[], stasis_code_boot[], stasis_code_stopped[];
extern const uint8_t stasis_code_end[];
#pragma GCC visibility pop

/* sc; blr, and the same that returns only without an error, as in C libraries */
static const uint8_t sc_blr[] = {2, 0, 0, 0x44, 0x20, 0, 0x80, 0x4e};
static const uint8_t sc_bnslr[] = {2, 0, 0, 0x44, 0x20, 0, 0x83, 0x4c};
static const uint8_t sc_bnslr_likely[] = {2, 0, 0, 0x44, 0x20, 0, 0xe3, 0x4c};
/* addi r1, r1, 128; li r0, 172; sc: the end of a signal handler, in the vdso */
static const uint8_t handler_end[] = {0x80, 0, 0x21, 0x38, 0xac, 0, 0, 0x38, 2, 0, 0, 0x44};

static const struct arch_gadget gadgets_syscall_ret[] = {
	{sc_blr, sizeof(sc_blr)},
	{sc_bnslr, sizeof(sc_bnslr)},
	{sc_bnslr_likely, sizeof(sc_bnslr_likely)},
	{NULL, 0},
};

static const struct arch_gadget gadgets_sigreturn[] = {
	{handler_end, sizeof(handler_end)},
	{NULL, 0},
};

/* The registers as an array, which is what struct pt_regs is. */
static void load(uint64_t r[NREGS], const void *prstatus)
{
	memcpy(r, prstatus, NREGS * sizeof(r[0]));
}

static void store(void *prstatus, const uint64_t r[NREGS])
{
	memcpy(prstatus, r, NREGS * sizeof(r[0]));
}

static void args_to_regs(uint64_t r[NREGS], uint64_t nr, const uint64_t args[6])
{
	r[R0] = nr;
	memcpy(&r[R3], args, 6 * sizeof(args[0]));
	r[ORIG_R3] = args[0];
	/* No call was interrupted: there is none to make again. */
	r[TRAP] = 0;
}

static void ppc64_set_call(void *prstatus, uint64_t pc, uint64_t sp, uint64_t back, uint64_t nr,
			   const uint64_t args[6])
{
	uint64_t r[NREGS];

	load(r, prstatus);
	args_to_regs(r, nr, args);
	r[NIP] = pc;
	r[R1] = sp;
	r[LR] = back;
	store(prstatus, r);
}

static int64_t ppc64_call_ret(const void *prstatus)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	if (r[TRAP] != TRAP_SCV && r[CR] & CR0_SO)
		return -(int64_t)r[R3];
	return (int64_t)r[R3];
}

static void ppc64_set_ret(void *prstatus, int64_t value)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	if (r[TRAP] != TRAP_SCV) {
		r[CR] = value < 0 ? r[CR] | CR0_SO : r[CR] & ~CR0_SO;
		value = value < 0 ? -value : value;
	}
	r[R3] = (uint64_t)value;
	store(prstatus, r);
}

/* The number is a register of the program's, which is its own again at any other stop. */
static void ppc64_skip_call(void *prstatus)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	r[R0] = (uint64_t)-1;
	store(prstatus, r);
}

static void ppc64_no_call(void *prstatus)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	r[TRAP] = 0;
	store(prstatus, r);
}

static void ppc64_set_signo(void *prstatus, int signo)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	r[R28] = (uint64_t)signo;
	store(prstatus, r);
}

enum { ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516, SEMOP = 1, SEMTIMEDOP = 4 };

static bool waits_forever(const uint64_t r[NREGS])
{
	switch (r[R0]) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		return (int)r[R3 + 3] < 0;
	case 441: /* epoll_pwait2, Linux 5.11 */
	case 392: /* semtimedop, Linux 5.1 */
		return !r[R3 + 3];
	case SYS_ipc:
		return (r[ORIG_R3] & 0xffff) == SEMOP ||
		       ((r[ORIG_R3] & 0xffff) == SEMTIMEDOP && !r[R3 + 5]);
	case SYS_rt_sigtimedwait:
		return !r[R3 + 2];
	case SYS_io_getevents:
	case 388: /* io_pgetevents, Linux 4.18 */
		return !r[R3 + 4];
	default:
		return false;
	}
}

static bool ppc64_wait_again(void *prstatus, bool look)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	if ((r[TRAP] != TRAP_SC && r[TRAP] != TRAP_SCV) || ppc64_call_ret(prstatus) != -EINTR ||
	    !waits_forever(r))
		return false;
	if (!look)
		ppc64_set_ret(prstatus, -ERESTARTNOHAND);
	return true;
}

/*
 * The code before a call, for the "li r0, NUMBER" among it. C libraries put `sc` or `scv` apart:
 *
 *		li r0, 167	among the eight instructions before the call, or before a branch to
 *		bne 1f		it
 *		sc
 *		...
 *	1:	scv 0
 */
enum { CALL_CODE = 512, NEAR = 32 };
enum { LI_R0 = 0x3800, OP_BC = 16, OP_SC = 17, OP_B = 18, OP_31 = 31, OP_LD = 58 };
enum { BLR = 0x4e800020, BCTR = 0x4e800420, MR = 444 };

static uint32_t insn(const uint8_t *code, int at)
{
	uint32_t word;

	memcpy(&word, code + at, sizeof(word));
	return word;
}

/* What comes behind it comes from elsewhere, or r0 is another there. */
static bool number_ends(uint32_t word)
{
	switch (word >> 26) {
	case OP_SC:
	case OP_B:
		return true;
	case OP_31: /* mr r0, ... */
		return (word >> 1 & 0x3ff) == MR && !(word >> 16 & 31);
	case OP_LD:
		return !(word >> 21 & 31);
	default:
		return word == BLR || word == BCTR;
	}
}

/* The number in r0 before the instruction at @end; SYS_restart_syscall when that is not told. */
static uint64_t number_at(const uint8_t *code, int end)
{
	for (int at = end - 4; at >= 0 && at >= end - NEAR; at -= 4) {
		uint32_t word = insn(code, at);

		if (word >> 16 == LI_R0)
			return word & 0xffff;
		if (number_ends(word))
			break;
	}
	return SYS_restart_syscall;
}

/* Whether the instruction at @at goes to @to. */
static bool goes_to(const uint8_t *code, int at, int to)
{
	uint32_t word = insn(code, at);
	int off;

	/* Neither a call nor to a fixed address. */
	if (word & 3)
		return false;
	if (word >> 26 == OP_BC)
		off = (int16_t)(word & 0xfffc);
	else if (word >> 26 == OP_B)
		off = (int)((word & 0x3fffffc) ^ 0x2000000) - 0x2000000;
	else
		return false;
	return off == to - at;
}

static uint64_t number_told(const uint8_t *code)
{
	const int call = CALL_CODE - 4;
	uint64_t nr = number_at(code, call);

	for (int at = call - 4; nr == SYS_restart_syscall && at >= 0; at -= 4)
		if (goes_to(code, at, call))
			nr = number_at(code, at);
	return nr;
}

static bool ppc64_call_made(const void *prstatus, const uint8_t *code, struct arch_call *ret)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	if (r[TRAP] != TRAP_SC && r[TRAP] != TRAP_SCV)
		return false;
	if (r[R0] == SYS_restart_syscall)
		r[R0] = number_told(code);
	*ret = (struct arch_call){
		.nr = r[R0],
		.args = {r[ORIG_R3], r[R3 + 1], r[R3 + 2], r[R3 + 3], r[R3 + 4], r[R3 + 5]}};
	return true;
}

/*
 * What the kernel would do with the interrupted call, had nobody stopped the thread. The first
 * argument stays where it was, too: the kernel would leave the error number in its place, and who
 * dumps the program once more could not tell what it waits for.
 */
static bool restart(void *prstatus, bool keep_deadline)
{
	uint64_t r[NREGS];

	if (arch_ppc64.restart_code(prstatus) != -ERESTART_RESTARTBLOCK || !keep_deadline)
		return arch_ppc64.restart_fixup(prstatus);
	load(r, prstatus);
	r[R0] = SYS_restart_syscall;
	r[R3] = r[ORIG_R3];
	r[NIP] -= 4;
	store(prstatus, r);
	return true;
}

enum {
	FP_LEN = 264,
	VMX_LEN = 544,
	VSX_LEN = 256,
	MSR_LE = 1,
	MSR_VEC = 1 << 25,
	MSR_VSX = 1 << 23
};

static const uint32_t frame_notes[] = {NT_PRFPREG, NT_PPC_VMX, NT_PPC_VSX, 0};

/*
 * The number is gone all the same, as it is when the kernel goes on with a sleep by itself: no
 * other register is ours to keep it in.
 */
static bool ppc64_keep_args(void *prstatus)
{
	if (arch_ppc64.restart_code(prstatus) != -ERESTART_RESTARTBLOCK)
		return false;
	restart(prstatus, true);
	ppc64_no_call(prstatus);
	return true;
}

static size_t ppc64_frame(void *buf, size_t room, uint64_t addr, uint64_t sigreturn_pc,
			  const void *prstatus, const struct arch_set *sets, uint64_t sigmask)
{
	const size_t len = CONTEXT_OFF + sizeof(struct context);
	uint8_t regs[NREGS * 8];
	struct context c = {0};
	uint8_t *v;

	if (room < len || sets[0].len != FP_LEN || sets[1].len != VMX_LEN || sets[2].len != VSX_LEN)
		return 0;
	memcpy(regs, prstatus, sizeof(regs));
	restart(regs, false);
	load(c.gp, regs);
	c.gp[MSR] = MSR_LE | MSR_VEC | MSR_VSX;
	c.gp[TRAP] = 0;
	/* Not a mode of sigaltstack(2): the kernel then leaves the alternate stack as it is. */
	c.ss_flags = 0x7fff;
	c.sigmask = sigmask;
	memcpy(c.fp, sets[0].data, FP_LEN);
	/* On 16 bytes. */
	c.v_regs = (addr + CONTEXT_OFF + offsetof(struct context, vmx) + 15) & ~15ull;
	v = (uint8_t *)&c + (c.v_regs - addr - CONTEXT_OFF);
	memcpy(v, sets[1].data, VMX_LEN);
	memcpy(v + VMX_LEN, sets[2].data, VSX_LEN);
	memset(buf, 0, CONTEXT_OFF);
	memcpy((uint8_t *)buf + CONTEXT_OFF, &c, sizeof(c));
	return len;
}

static size_t ppc64_control(void *control, uint64_t addr, const void *prstatus,
			    const struct arch_set lost[ARCH_LOST_NOTES], bool asleep,
			    uint64_t sigmask, int signo, uint64_t sigval)
{
	siginfo_t info = {.si_signo = signo, .si_code = SI_QUEUE};
	struct control c = {0};
	uint8_t regs[NREGS * 8];

	memcpy(regs, prstatus, sizeof(regs));
	restart(regs, true);
	memcpy(c.regs, regs, sizeof(c.regs));
	c.regs[TRAP] = 0;
	c.sigmask = sigmask;
	info.si_value.sival_ptr = (void *)(uintptr_t)sigval;
	memcpy(c.siginfo, &info, sizeof(c.siginfo));
	memcpy(control, &c, sizeof(c));
	return sizeof(c);
}

static void ppc64_code(void *buf, uint64_t addr, uint64_t control)
{
	memcpy(buf, stasis_code, (size_t)(stasis_code_end - stasis_code));
}

static void set_code(uint64_t r[NREGS], uint64_t code, uint64_t control, const uint8_t *entry,
		     int signo)
{
	r[NIP] = code + (uint64_t)(entry - stasis_code);
	r[R1] = control - CONTROL_OFF;
	r[R28] = (uint64_t)signo;
}

static void ppc64_set_run(void *prstatus, uint64_t code, uint64_t control, uint64_t table,
			  uint64_t n, int signo)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	args_to_regs(r, 0, (const uint64_t[6]){0});
	set_code(r, code, control, stasis_code, signo);
	r[R30] = table;
	r[R31] = table + n * sizeof(struct arch_call);
	store(prstatus, r);
}

static void ppc64_set_boot(void *prstatus, uint64_t code, uint64_t control, uint64_t nr,
			   const uint64_t args[6], int signo)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	args_to_regs(r, nr, args);
	set_code(r, code, control, stasis_code_boot, signo);
	store(prstatus, r);
}

/* Linux arch/powerpc/kernel/process.c, restore_sprs(): dscr_inherit. */
static void ppc64_set_lazy(void *prstatus, uint64_t code, uint64_t control, uint64_t area)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	args_to_regs(r, SYS_getpid, (const uint64_t[6]){0});
	set_code(r, code, control, stasis_code_lazy, 0);
	store(prstatus, r);
}

/*
 * PPR, the priority of a hardware thread: Linux arch/powerpc/kernel/interrupt_64.S loads it in
 * interrupt_return, not in syscall_exit. So a call of the program's own resets it, too.
 */
static bool ppc64_by_interrupt(const void *prstatus)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	return r[TRAP] != TRAP_SC && r[TRAP] != TRAP_SCV;
}

static int64_t ppc64_boot_ret(const void *prstatus)
{
	uint64_t r[NREGS];

	load(r, prstatus);
	return (int64_t)r[R30];
}

const struct arch_inject arch_inject = {
	.elf_machine = EM_PPC64,
	.prstatus_len = NREGS * 8,
	.syscall_ret = gadgets_syscall_ret,
	.sigreturn = gadgets_sigreturn,
	.code_align = 4,
	.set_call = ppc64_set_call,
	.call_ret = ppc64_call_ret,
	.skip_call = ppc64_skip_call,
	.no_call = ppc64_no_call,
	.set_signo = ppc64_set_signo,
	.wait_again = ppc64_wait_again,
	.keep_args = ppc64_keep_args,
	.call_made = ppc64_call_made,
	.call_code_len = CALL_CODE,
	.set_ret = ppc64_set_ret,
	.regset_fit = ppc64_regset_fit,
	.set_lost = ppc64_set_lost,
	/* NT_PPC_PKEY shows IAMR, and takes AMR alone of the three. */
	.keys_lost = "no tracer can say who may execute by them (IAMR)",
	.red_zone = 512, /* ELFv2: 512 bytes below r1, of which the kernel keeps 288 */
	.frame_notes = frame_notes,
	.frame = ppc64_frame,
	.code_start = stasis_code,
	.code_stopped = stasis_code_stopped,
	.code_end = stasis_code_end,
	.code = ppc64_code,
	.control_len = sizeof(struct control),
	.control = ppc64_control,
	.set_run = ppc64_set_run,
	.set_boot = ppc64_set_boot,
	.boot_ret = ppc64_boot_ret,
	.by_interrupt = ppc64_by_interrupt,
	.lazy_note = NT_DSCR,
	.set_lazy = ppc64_set_lazy,
};
