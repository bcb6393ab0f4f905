/* SPDX-License-Identifier: MIT */
/* s390x: a system call into registers and its result out, and the code that makes many. */
#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include "arch/fit.h"

/* A thread's state: NT_PRSTATUS, and NT_S390_SYSTEM_CALL behind it. */
struct state {
	uint64_t psw_mask, psw_addr;
	uint64_t gprs[16];
	uint32_t acrs[16];
	uint64_t orig_gpr2;
	uint32_t system_call;
};

enum {
	PRSTATUS_LEN = 216,
	STATE_LEN = 220,
	FPREGS_LEN = 136,
	VXRS_LOW_LEN = 128,
	VXRS_HIGH_LEN = 256,
};
static_assert(offsetof(struct state, system_call) == PRSTATUS_LEN, "s390_regs of <asm/ptrace.h>");

/* Address space, condition code and program mask (which lets overflows trap) of the PSW mask. */
#define PSW_MASK_PROGRAM 0x0000ff0000000000ull
/* 64-bit addresses. */
#define PSW_MASK_64 0x0000000180000000ull

/*
 * The signal frame that rt_sigreturn reads at r15: Linux arch/s390/kernel/signal.c. The siginfo in
 * it is read by nobody, so the closing signal's lies there.
 */
struct frame {
	uint8_t save_area[160];
	uint16_t svc_insn;
	uint8_t pad[6];
	uint8_t siginfo[128];
	uint64_t uc_flags, uc_link;
	uint64_t ss_sp;
	uint32_t ss_flags, ss_pad;
	uint64_t ss_size;
	uint64_t psw_mask, psw_addr;
	uint64_t gprs[16];
	uint32_t acrs[16];
	uint8_t fpregs[FPREGS_LEN];
	uint64_t sigmask;
	uint8_t unused[120];
	uint8_t vxrs_low[VXRS_LOW_LEN];
	uint8_t vxrs_high[VXRS_HIGH_LEN];
	uint8_t reserved[128];
};

static_assert(offsetof(struct frame, siginfo) == 168, "code");
static_assert(offsetof(struct frame, uc_flags) == 296, "struct rt_sigframe");
static_assert(offsetof(struct frame, fpregs) == 544, "code");
static_assert(offsetof(struct frame, vxrs_low) == 808, "code");
static_assert(offsetof(struct frame, vxrs_high) == 936, "code");
static_assert(sizeof(struct frame) == 1320, "struct rt_sigframe");
static_assert(sizeof(struct arch_call) == 64 && offsetof(struct arch_call, ret) == 56, "code");
static_assert(SYS_mmap == 90 && SYS_gettid == 236 && SYS_getpid == 20 &&
		      SYS_rt_tgsigqueueinfo == 330 && SYS_rt_sigreturn == 173,
	      "code");

/*
 * r8: next call, r9: end of the table, r11: the closing signal, r15: the control block, which is a
 * signal frame. System calls change r2 alone. mmap takes the address of its six arguments: in the
 * table they lie side by side. gettid and getpid, because our numbers are not those of the target's
 * pid namespace.
 *
 * No instruction jumps to any address with all registers loaded. So a thread whose tracer died
 * returns from the frame, in which everything is but the floating-point and vector registers: no
 * code of ours changes those, and they are put there when it has come to that.
 */
__asm__(".pushsection .rodata\n"
	".machine push\n"
	".machine z13\n"
	".balign 16\n"
	"stasis_code:\n"
	"1:	clgr %r8, %r9\n"
	"	jhe 3f\n"
	"	lg %r1, 0(%r8)\n"
	"	lmg %r2, %r7, 8(%r8)\n"
	"	cghi %r1, 90\n" /* mmap */
	"	jne 2f\n"
	"	la %r2, 8(%r8)\n"
	"2:	svc 0\n"
	"	stg %r2, 56(%r8)\n"
	"	la %r8, 64(%r8)\n"
	"	j 1b\n"
	"stasis_code_boot:\n"
	"	svc 0\n"
	"	lgr %r12, %r2\n"
	"3:	svc 236\n" /* gettid */
	"	lgr %r10, %r2\n"
	"	svc 20\n" /* getpid */
	"	lgr %r3, %r10\n"
	"	lgr %r4, %r11\n"
	"	la %r5, 168(%r15)\n"
	"	lghi %r1, 330\n" /* rt_tgsigqueueinfo */
	"	svc 0\n"
	"stasis_code_stopped:\n"
	"	stfpc 544(%r15)\n"
	"	std %f0, 552(%r15)\n"
	"	std %f1, 560(%r15)\n"
	"	std %f2, 568(%r15)\n"
	"	std %f3, 576(%r15)\n"
	"	std %f4, 584(%r15)\n"
	"	std %f5, 592(%r15)\n"
	"	std %f6, 600(%r15)\n"
	"	std %f7, 608(%r15)\n"
	"	std %f8, 616(%r15)\n"
	"	std %f9, 624(%r15)\n"
	"	std %f10, 632(%r15)\n"
	"	std %f11, 640(%r15)\n"
	"	std %f12, 648(%r15)\n"
	"	std %f13, 656(%r15)\n"
	"	std %f14, 664(%r15)\n"
	"	std %f15, 672(%r15)\n"
	"stasis_code_vx:\n" /* v0 to v15 where v16 to v31 are to lie, their lower halves from there
			     */
	"	vstm %v0, %v15, 936(%r15)\n"
	"	la %r1, 944(%r15)\n"
	"	la %r2, 808(%r15)\n"
	"	lghi %r3, 16\n"
	"4:	mvc 0(8, %r2), 0(%r1)\n"
	"	la %r1, 16(%r1)\n"
	"	la %r2, 8(%r2)\n"
	"	brctg %r3, 4b\n"
	"	vstm %v16, %v31, 936(%r15)\n"
	"stasis_code_return:\n"
	"	svc 173\n" /* rt_sigreturn */
	"stasis_code_end:\n"
	".machine pop\n"
	".popsection\n");

/* Hidden: by way of the table of addresses (GOT) all local labels of a section are its start. */
#pragma GCC visibility push(hidden)
extern const uint8_t stasis_code[], stasis_code_boot[], stasis_code_stopped[], stasis_code_vx[],
	stasis_code_return[], stasis_code_end[];
#pragma GCC visibility pop

/* The calls that do nothing but tell a number, and return: "svc NUMBER; br %r14". */
static const uint8_t getpid_br[] = {0x0a, SYS_getpid, 0x07, 0xfe};
static const uint8_t gettid_br[] = {0x0a, SYS_gettid, 0x07, 0xfe};
static const uint8_t getppid_br[] = {0x0a, SYS_getppid, 0x07, 0xfe};
static const uint8_t getuid_br[] = {0x0a, SYS_getuid, 0x07, 0xfe};
static const uint8_t geteuid_br[] = {0x0a, SYS_geteuid, 0x07, 0xfe};
static const uint8_t getgid_br[] = {0x0a, SYS_getgid, 0x07, 0xfe};
static const uint8_t getegid_br[] = {0x0a, SYS_getegid, 0x07, 0xfe};
static const uint8_t sched_yield_br[] = {0x0a, SYS_sched_yield, 0x07, 0xfe};
static const uint8_t svc_rt_sigreturn[] = {0x0a, SYS_rt_sigreturn};

static const struct arch_gadget gadgets_syscall_ret[] = {
	{getpid_br, 4}, {gettid_br, 4},	 {getppid_br, 4},     {getuid_br, 4}, {geteuid_br, 4},
	{getgid_br, 4}, {getegid_br, 4}, {sched_yield_br, 4}, {NULL, 0},
};

static const struct arch_gadget gadgets_sigreturn[] = {
	{svc_rt_sigreturn, sizeof(svc_rt_sigreturn)},
	{NULL, 0},
};

static const uint32_t frame_notes[] = {NT_FPREGSET, NT_S390_VXRS_LOW, NT_S390_VXRS_HIGH, 0};

static struct state load(const void *prstatus)
{
	struct state s = {0};

	memcpy(&s, prstatus, STATE_LEN);
	return s;
}

static void store(void *prstatus, const struct state *s)
{
	memcpy(prstatus, s, STATE_LEN);
}

/* No restart of an old call; nothing that the program has chosen stands in the way. */
static void enter(struct state *s, uint64_t pc, uint64_t sp)
{
	s->psw_mask = (s->psw_mask & ~PSW_MASK_PROGRAM) | PSW_MASK_64;
	s->psw_addr = pc;
	s->gprs[15] = sp;
	s->system_call = 0;
}

static void args_to_regs(struct state *s, uint64_t nr, const uint64_t args[6])
{
	s->gprs[1] = nr;
	memcpy(&s->gprs[2], args, 6 * sizeof(args[0]));
}

/*
 * The code at @pc makes a call of its own; at its entry swap_call() makes that another. Should we
 * die before, a harmless one is made.
 */
static void s390_set_call(void *prstatus, uint64_t pc, uint64_t sp, uint64_t ret_pc, uint64_t nr,
			  const uint64_t args[6])
{
	struct state s = load(prstatus);

	enter(&s, pc, sp);
	args_to_regs(&s, nr, args);
	s.gprs[14] = ret_pc;
	store(prstatus, &s);
}

/* At its entry a call's number is in r2, and its first argument where r2 is kept. */
static void s390_swap_call(void *prstatus, uint64_t nr)
{
	struct state s = load(prstatus);

	s.gprs[2] = nr;
	store(prstatus, &s);
}

static int64_t s390_call_ret(const void *prstatus)
{
	return (int64_t)load(prstatus).gprs[2];
}

/* At its entry a call's number is in r2: the kernel has no call of this one. */
static void s390_skip_call(void *prstatus)
{
	s390_swap_call(prstatus, 0xffff);
}

static void s390_no_call(void *prstatus)
{
	struct state s = load(prstatus);

	s.system_call = 0;
	store(prstatus, &s);
}

static void s390_set_signo(void *prstatus, int signo)
{
	struct state s = load(prstatus);

	s.gprs[11] = (uint64_t)signo;
	store(prstatus, &s);
}

static uint64_t s390_thread_pointer(const void *prstatus)
{
	struct state s = load(prstatus);

	return (uint64_t)s.acrs[0] << 32 | s.acrs[1];
}

enum { ERESTARTNOHAND = 514, IPC_SEMOP = 1, IPC_SEMTIMEDOP = 4 };

/* r2 has the result; the arguments after the first are still where they were. */
static bool s390_wait_again(void *prstatus, bool look)
{
	struct state s = load(prstatus);
	bool forever;

	if (!s.system_call || (int64_t)s.gprs[2] != -EINTR)
		return false;
	switch (s.system_call & 0xffff) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		forever = (int)s.gprs[5] < 0;
		break;
	case 441: /* epoll_pwait2, Linux 5.11 */
	case SYS_semtimedop:
		forever = !s.gprs[5];
		break;
	case SYS_ipc: /* the time limit of semtimedop is the third argument behind its number */
		forever = (uint16_t)s.orig_gpr2 == IPC_SEMOP ||
			  ((uint16_t)s.orig_gpr2 == IPC_SEMTIMEDOP && !s.gprs[5]);
		break;
	case SYS_rt_sigtimedwait:
		forever = !s.gprs[4];
		break;
	case SYS_io_getevents:
	case SYS_io_pgetevents:
		forever = !s.gprs[6];
		break;
	default:
		return false;
	}
	if (!forever || look)
		return forever;
	s.gprs[2] = (uint64_t)-ERESTARTNOHAND;
	store(prstatus, &s);
	return true;
}

/* "svc NUMBER", or "svc 0" with the number in r1 */
enum { CALL_CODE = 2, SVC = 0x0a };

static bool s390_call_made(const void *prstatus, const uint8_t *code, struct arch_call *ret)
{
	struct state s = load(prstatus);
	uint64_t nr = s.system_call & 0xffff;

	if (nr == SYS_restart_syscall && code[0] == SVC)
		nr = code[1] ? code[1] : s.gprs[1] & 0xffff;
	*ret = (struct arch_call){.nr = nr, .args = {s.orig_gpr2}};
	memcpy(&ret->args[1], &s.gprs[3], 5 * sizeof(s.gprs[0]));
	return s.system_call;
}

static void s390_forget_call(void *prstatus)
{
	struct state s = load(prstatus);

	s.system_call = (s.system_call & ~0xffffu) | SYS_restart_syscall;
	store(prstatus, &s);
}

static void s390_set_ret(void *prstatus, int64_t value)
{
	struct state s = load(prstatus);

	s.gprs[2] = (uint64_t)value;
	store(prstatus, &s);
}

/* --- the signal frame ----------------------------------------------------------------------- */

static void frame_put(struct frame *f, const void *prstatus, uint64_t sigmask)
{
	struct state s = load(prstatus);

	/* What the kernel would have done with the interrupted call, had nobody stopped the thread;
	 * but a sleep it would have continued returns EINTR, for rt_sigreturn forgets its deadline.
	 */
	arch_s390.restart_fixup(&s);
	memset(f, 0, sizeof(*f));
	f->uc_flags = 2; /* UC_VXRS */
	/* Not a mode of sigaltstack(2): the kernel then leaves the alternate stack as it is. */
	f->ss_flags = 0x7fff;
	f->psw_mask = s.psw_mask;
	f->psw_addr = s.psw_addr;
	memcpy(f->gprs, s.gprs, sizeof(f->gprs));
	memcpy(f->acrs, s.acrs, sizeof(f->acrs));
	f->sigmask = sigmask;
}

static size_t s390_frame(void *buf, size_t room, uint64_t addr, uint64_t sigreturn_pc,
			 const void *prstatus, const struct arch_set *sets, uint64_t sigmask)
{
	struct frame *f = buf;

	/* Without vector registers the kernel does not read what stands for them. */
	if (room < sizeof(*f) || sets[0].len != FPREGS_LEN ||
	    (sets[1].len && sets[1].len != VXRS_LOW_LEN) ||
	    (sets[2].len && sets[2].len != VXRS_HIGH_LEN))
		return 0;
	frame_put(f, prstatus, sigmask);
	memcpy(f->fpregs, sets[0].data, sets[0].len);
	memcpy(f->vxrs_low, sets[1].data, sets[1].len);
	memcpy(f->vxrs_high, sets[2].data, sets[2].len);
	return sizeof(*f);
}

/* The control block is a frame whose floating-point and vector registers the code puts in. */
static size_t s390_control(void *control, uint64_t addr, const void *prstatus,
			   const struct arch_set lost[ARCH_LOST_NOTES], bool asleep,
			   uint64_t sigmask, int signo, uint64_t sigval)
{
	siginfo_t info = {.si_signo = signo, .si_code = SI_QUEUE};
	struct frame *f = control;

	frame_put(f, prstatus, sigmask);
	info.si_value.sival_ptr = (void *)(uintptr_t)sigval;
	memcpy(f->siginfo, &info, sizeof(f->siginfo));
	return sizeof(*f);
}

static void s390_code(void *buf, uint64_t addr, uint64_t control)
{
	enum { NOP = 0x0700, HWCAP_VX = 1 << 11 };
	const uint16_t nop = NOP;
	uint8_t *code = buf;

	memcpy(code, stasis_code, (size_t)(stasis_code_end - stasis_code));
	if (getauxval(AT_HWCAP) & HWCAP_VX)
		return;
	for (const uint8_t *p = stasis_code_vx; p < stasis_code_return; p += sizeof(nop))
		memcpy(code + (p - stasis_code), &nop, sizeof(nop));
}

static void set_code(struct state *s, uint64_t code, uint64_t control, const uint8_t *entry,
		     int signo)
{
	enter(s, code + (uint64_t)(entry - stasis_code), control);
	s->gprs[11] = (uint64_t)signo;
}

static void s390_set_run(void *prstatus, uint64_t code, uint64_t control, uint64_t table,
			 uint64_t n, int signo)
{
	struct state s = load(prstatus);

	set_code(&s, code, control, stasis_code, signo);
	s.gprs[8] = table;
	s.gprs[9] = table + n * sizeof(struct arch_call);
	store(prstatus, &s);
}

static void s390_set_boot(void *prstatus, uint64_t code, uint64_t control, uint64_t nr,
			  const uint64_t args[6], int signo)
{
	struct state s = load(prstatus);

	set_code(&s, code, control, stasis_code_boot, signo);
	args_to_regs(&s, nr, args);
	store(prstatus, &s);
}

static int64_t s390_boot_ret(const void *prstatus)
{
	return (int64_t)load(prstatus).gprs[12];
}

const struct arch_inject arch_inject = {
	.elf_machine = EM_S390,
	.prstatus_len = PRSTATUS_LEN,
	.call_note = NT_S390_SYSTEM_CALL,
	.syscall_ret = gadgets_syscall_ret,
	.sigreturn = gadgets_sigreturn,
	.code_align = 2,
	.set_call = s390_set_call,
	.swap_call = s390_swap_call,
	.mmap_args_len = 6 * sizeof(uint64_t),
	.call_ret = s390_call_ret,
	.skip_call = s390_skip_call,
	.no_call = s390_no_call,
	.set_signo = s390_set_signo,
	.thread_pointer = s390_thread_pointer,
	.wait_again = s390_wait_again,
	.call_made = s390_call_made,
	.call_code_len = CALL_CODE,
	.forget_call = s390_forget_call,
	.set_ret = s390_set_ret,
	.regset_fit = s390_regset_fit,
	.set_wrong = s390_set_wrong,
	/* Linux arch/s390/kernel/ptrace.c: PSW_MASK_RI is EINVAL for a thread without an ri_cb. */
	.early_note = NT_S390_RI_CB,
	.red_zone = 0,
	.frame_notes = frame_notes,
	.frame = s390_frame,
	.code_start = stasis_code,
	.code_stopped = stasis_code_stopped,
	.code_end = stasis_code_end,
	.code = s390_code,
	.control_len = sizeof(struct frame),
	.control = s390_control,
	.set_run = s390_set_run,
	.set_boot = s390_set_boot,
	.boot_ret = s390_boot_ret,
};
