/* SPDX-License-Identifier: MIT */
/* aarch64: a system call into registers and its result out, and the code that makes many. */
#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "arch/aarch64/frame.h"
#include "arch/aarch64/sve.h"
#include "arch/fit.h"

/* What the code is to do on its way back. */
enum what {
	SLEEPS = 1, /* go on with a sleep that the kernel keeps the end of */
	HAS_FP = 2, /* the frame has the vector registers: the calls have spoiled them */
};

enum {
	PSTATE_KEPT = 1 << 12 | 1 << 24, /* SSBS, DIT */
	NR_RESTART_SYSCALL = 128,
};

static_assert(offsetof(struct frame, sigmask) == 168, "code");
static_assert(offsetof(struct frame, fault_address) == 304, "code");
static_assert(offsetof(struct frame, x) == 312, "code");
static_assert(offsetof(struct frame, sp) == 560, "struct sigcontext");
static_assert(offsetof(struct frame, fp) == 592, "code");
static_assert((int)FRAME_MAX <= (int)ARCH_CONTROL_MAX, "control block");
static_assert(SYS_gettid == 178 && SYS_getpid == 172 && SYS_rt_tgsigqueueinfo == 240 &&
		      SYS_rt_sigprocmask == 135 && SYS_rt_sigreturn == 139 &&
		      SYS_restart_syscall == NR_RESTART_SYSCALL && SIG_SETMASK == 2,
	      "code");

/*
 * x19: next call, x20: end of the table, x21: the closing signal, x22 and sp: the control block,
 * which is a signal frame. System calls change x0 alone, and of vector registers what SVE and
 * streaming mode add. gettid and getpid, because our numbers are not those of the target's pid
 * namespace.
 *
 * Only a signal frame brings back the program counter together with all other registers. But it
 * makes the kernel forget the end of an interrupted sleep, so the sleep is finished before, here,
 * with the true mask, and its result put into the frame.
 */
__asm__(".pushsection .rodata\n"
	".balign 16\n"
	"stasis_code:\n"
	"1:	cmp x19, x20\n"
	"	b.hs 2f\n"
	"	ldp x8, x0, [x19]\n"
	"	ldp x1, x2, [x19, #16]\n"
	"	ldp x3, x4, [x19, #32]\n"
	"	ldr x5, [x19, #48]\n"
	"	svc #0\n"
	"	str x0, [x19, #56]\n"
	"	add x19, x19, #64\n"
	"	b 1b\n"
	"stasis_code_boot:\n"
	"	svc #0\n"
	"	mov x19, x0\n"
	"2:	mov x8, #178\n" /* gettid */
	"	svc #0\n"
	"	mov x23, x0\n"
	"	mov x8, #172\n" /* getpid */
	"	svc #0\n"
	"	mov x1, x23\n"
	"	mov x2, x21\n"
	"	mov x3, x22\n"
	"	mov x8, #240\n" /* rt_tgsigqueueinfo */
	"	svc #0\n"
	"stasis_code_stopped:\n"
	"	ldr x9, [x22, #304]\n"
	"	tbnz x9, #1, 3f\n"
	"	add x10, x22, #608\n"
	"	stp q0, q1, [x10]\n"
	"	stp q2, q3, [x10, #32]\n"
	"	stp q4, q5, [x10, #64]\n"
	"	stp q6, q7, [x10, #96]\n"
	"	stp q8, q9, [x10, #128]\n"
	"	stp q10, q11, [x10, #160]\n"
	"	stp q12, q13, [x10, #192]\n"
	"	stp q14, q15, [x10, #224]\n"
	"	stp q16, q17, [x10, #256]\n"
	"	stp q18, q19, [x10, #288]\n"
	"	stp q20, q21, [x10, #320]\n"
	"	stp q22, q23, [x10, #352]\n"
	"	stp q24, q25, [x10, #384]\n"
	"	stp q26, q27, [x10, #416]\n"
	"	stp q28, q29, [x10, #448]\n"
	"	stp q30, q31, [x10, #480]\n"
	"	mrs x11, fpsr\n"
	"	mrs x12, fpcr\n"
	"	stp w11, w12, [x10, #-8]\n"
	"3:	tbz x9, #0, 4f\n"
	"	mov x8, #135\n" /* rt_sigprocmask */
	"	mov x0, #2\n"
	"	add x1, x22, #168\n"
	"	mov x2, #0\n"
	"	mov x3, #8\n"
	"	svc #0\n"
	"	mov x8, #128\n" /* restart_syscall */
	"	svc #0\n"
	"	str x0, [x22, #312]\n"
	"4:	mov sp, x22\n"
	"	mov x8, #139\n" /* rt_sigreturn */
	"	svc #0\n"
	"stasis_code_end:\n"
	".popsection\n");

/* Hidden: by way of the table of addresses (GOT) all local labels of a section are its start. */
#pragma GCC visibility push(hidden)
extern const uint8_t stasis_code[], stasis_code_boot[], stasis_code_stopped[], stasis_code_end[];
#pragma GCC visibility pop

static const uint8_t svc_ret[] = {0x01, 0, 0, 0xd4, 0xc0, 0x03, 0x5f, 0xd6};
/* mov x8, #139; svc #0: in the vdso */
static const uint8_t mov_svc[] = {0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4};

static const struct arch_gadget gadgets_syscall_ret[] = {{svc_ret, sizeof(svc_ret)}, {NULL, 0}};
static const struct arch_gadget gadgets_sigreturn[] = {{mov_svc, sizeof(mov_svc)}, {NULL, 0}};
static const uint32_t frame_notes[] = {NT_FPREGSET, NT_ARM_SVE, NT_ARM_SSVE,
				       NT_ARM_FPMR, NT_ARM_POE, 0};
/* As put back: FPMR is zero wherever streaming mode begins or ends, so after that. */
static const uint32_t lost_notes[] = {NT_ARM_SVE, NT_ARM_SSVE, NT_ARM_FPMR, NT_ARM_POE, 0};

static struct regs load(const void *prstatus)
{
	struct regs r = {0};

	memcpy(&r, prstatus, REGS_LEN);
	return r;
}

static void store(void *prstatus, const struct regs *r)
{
	memcpy(prstatus, r, REGS_LEN);
}

static void args_to_regs(struct regs *r, uint64_t nr, const uint64_t args[6])
{
	memcpy(r->x, args, 6 * sizeof(args[0]));
	r->x[8] = nr;
	r->call = -1;
	/* No branch type, condition flag or single step of the target's. */
	r->pstate &= PSTATE_KEPT;
}

static void aarch64_set_call(void *prstatus, uint64_t pc, uint64_t sp, uint64_t back, uint64_t nr,
			     const uint64_t args[6])
{
	struct regs r = load(prstatus);

	args_to_regs(&r, nr, args);
	r.pc = pc;
	r.sp = sp;
	r.x[30] = back;
	store(prstatus, &r);
}

static int64_t aarch64_call_ret(const void *prstatus)
{
	return (int64_t)load(prstatus).x[0];
}

static void aarch64_skip_call(void *prstatus)
{
	struct regs r = load(prstatus);

	r.call = -1;
	store(prstatus, &r);
}

static void aarch64_set_signo(void *prstatus, int signo)
{
	struct regs r = load(prstatus);

	r.x[21] = (uint64_t)signo;
	store(prstatus, &r);
}

/* The result of these is -EINTR after any stop; the kernel has not stepped back. */
static bool aarch64_wait_again(void *prstatus, bool look)
{
	struct regs r = load(prstatus);
	bool forever;

	if ((int64_t)r.x[0] != -EINTR)
		return false;
	switch (r.x[8]) {
	case SYS_epoll_pwait:
		forever = (int)r.x[3] < 0;
		break;
	case SYS_epoll_pwait2:
	case SYS_semtimedop:
		forever = !r.x[3];
		break;
	case SYS_semop:
		forever = true;
		break;
	case SYS_rt_sigtimedwait:
		forever = !r.x[2];
		break;
	case SYS_io_getevents:
	case SYS_io_pgetevents:
		forever = !r.x[4];
		break;
	default:
		return false;
	}
	if (forever && !look) {
		r.pc -= 4;
		store(prstatus, &r);
	}
	return forever;
}

static enum arch_sleep aarch64_sleep(const void *prstatus)
{
	struct regs r = load(prstatus);

	switch (r.x[8]) {
	case NR_RESTART_SYSCALL:
		return ARCH_SLEEPS;
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_semtimedop:
	case SYS_semop:
	case SYS_rt_sigtimedwait:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
	case SYS_io_uring_enter:
		return ARCH_ENDS;
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
		return ARCH_MAY_SLEEP;
	case SYS_futex:
		return r.x[3] ? ARCH_MAY_SLEEP : ARCH_AWAKE;
	default:
		return ARCH_AWAKE;
	}
}

/* mov x8, #NUMBER, as C libraries have it */
static bool is_mov_x8(uint32_t insn)
{
	return (insn & 0xffe0001f) == 0xd2800008;
}

static bool aarch64_call_made(const void *prstatus, const uint8_t *code, struct arch_call *ret)
{
	struct regs r = load(prstatus);
	uint32_t insn;

	memcpy(&insn, code, sizeof(insn));
	if (r.x[8] == NR_RESTART_SYSCALL && is_mov_x8(insn))
		r.x[8] = insn >> 5 & 0xffff;
	*ret = (struct arch_call){.nr = r.x[8],
				  .args = {r.x[0], r.x[1], r.x[2], r.x[3], r.x[4], r.x[5]}};
	return true;
}

static void aarch64_set_ret(void *prstatus, int64_t value)
{
	struct regs r = load(prstatus);

	r.x[0] = (uint64_t)value;
	store(prstatus, &r);
}

/* --- frames ----------------------------------------------------------------------------------- */

static size_t aarch64_frame(void *buf, size_t room, uint64_t addr, uint64_t sigreturn_pc,
			    const void *prstatus, const struct arch_set *sets, uint64_t sigmask)
{
	const struct frame_more more = aarch64_frame_more(sets + 1);
	struct regs r = load(prstatus);
	struct frame *f = buf;

	if (sets[0].len != sizeof(f->fp.v) + 16 || room < aarch64_frame_len(&more))
		return 0;
	aarch64_put_frame(f, addr, &r, sigmask, &more);
	if (!more.sve) {
		memcpy(f->fp.v, sets[0].data, sizeof(f->fp.v));
		memcpy(&f->fp.fpsr, sets[0].data + sizeof(f->fp.v), 8);
	}
	return aarch64_frame_len(&more);
}

static size_t aarch64_control(void *control, uint64_t addr, const void *prstatus,
			      const struct arch_set lost[ARCH_LOST_NOTES], bool asleep,
			      uint64_t sigmask, int signo, uint64_t sigval)
{
	siginfo_t info = {.si_signo = signo, .si_code = SI_QUEUE};
	const struct frame_more more = aarch64_frame_more(lost);
	struct regs r = load(prstatus);
	struct frame *f = control;

	if (asleep)
		r.pc += 4;
	aarch64_put_frame(f, addr, &r, sigmask, &more);
	f->fault_address = (asleep ? SLEEPS : 0) | (more.sve ? HAS_FP : 0);
	info.si_value.sival_ptr = (void *)(uintptr_t)sigval;
	memcpy(f->siginfo, &info, sizeof(f->siginfo));
	return aarch64_frame_len(&more);
}

static void aarch64_code(void *buf, uint64_t addr, uint64_t control)
{
	memcpy(buf, stasis_code, (size_t)(stasis_code_end - stasis_code));
}

static void set_code(struct regs *r, uint64_t code, uint64_t control, const uint8_t *entry,
		     int signo)
{
	r->pc = code + (uint64_t)(entry - stasis_code);
	r->sp = control;
	r->x[21] = (uint64_t)signo;
	r->x[22] = control;
}

static void aarch64_set_run(void *prstatus, uint64_t code, uint64_t control, uint64_t table,
			    uint64_t n, int signo)
{
	struct regs r = load(prstatus);

	args_to_regs(&r, 0, (const uint64_t[6]){0});
	set_code(&r, code, control, stasis_code, signo);
	r.x[19] = table;
	r.x[20] = table + n * sizeof(struct arch_call);
	store(prstatus, &r);
}

static void aarch64_set_boot(void *prstatus, uint64_t code, uint64_t control, uint64_t nr,
			     const uint64_t args[6], int signo)
{
	struct regs r = load(prstatus);

	args_to_regs(&r, nr, args);
	set_code(&r, code, control, stasis_code_boot, signo);
	store(prstatus, &r);
}

static int64_t aarch64_boot_ret(const void *prstatus)
{
	return (int64_t)load(prstatus).x[19];
}

/* The CPU tells the lengths that it has to those who ask for one. */
static uint32_t length_for(const struct arch_set *set)
{
	enum { SVE_SET = 50, SVE_GET = 51, SME_SET = 63, SME_GET = 64, LENGTH = 0xffff };
	const bool sve = set->note == NT_ARM_SVE;
	struct sve_header h;
	int was, got;

	if ((!sve && set->note != NT_ARM_SSVE && set->note != NT_ARM_ZA) ||
	    !aarch64_sve_header(set, &h))
		return 0;
	was = prctl(sve ? SVE_GET : SME_GET);
	if (was < 0)
		return 0;
	if ((was & LENGTH) == h.vl)
		return h.vl;
	got = prctl(sve ? SVE_SET : SME_SET, (unsigned long)h.vl);
	prctl(sve ? SVE_SET : SME_SET, (unsigned long)was);
	return got < 0 ? 0 : (uint32_t)got & LENGTH;
}

static bool aarch64_cpu_lacks(const struct arch_set *set, uint64_t permitted, bool *ret_used,
			      char *buf, size_t len)
{
	return aarch64_lacks_length(set, length_for(set), ret_used, buf, len);
}

const struct arch_inject arch_inject = {
	.elf_machine = EM_AARCH64,
	.prstatus_len = PRSTATUS_LEN,
	.call_note = NT_ARM_SYSTEM_CALL,
	.syscall_ret = gadgets_syscall_ret,
	.sigreturn = gadgets_sigreturn,
	.syscall_insn = {svc_ret, 4},
	.set_call = aarch64_set_call,
	.call_ret = aarch64_call_ret,
	.skip_call = aarch64_skip_call,
	.set_signo = aarch64_set_signo,
	.wait_again = aarch64_wait_again,
	.sleep = aarch64_sleep,
	.call_made = aarch64_call_made,
	.call_code_len = 4,
	.set_ret = aarch64_set_ret,
	.regset_fit = aarch64_regset_fit,
	.set_wrong = aarch64_set_wrong,
	.frame_notes = frame_notes,
	.frame = aarch64_frame,
	.lost_notes = lost_notes,
	.is_lost = aarch64_is_lost,
	.code_start = stasis_code,
	.code_stopped = stasis_code_stopped,
	.code_end = stasis_code_end,
	.code = aarch64_code,
	.control_len = FRAME_MAX,
	.control = aarch64_control,
	.set_run = aarch64_set_run,
	.set_boot = aarch64_set_boot,
	.boot_ret = aarch64_boot_ret,
	.cpu_lacks = aarch64_cpu_lacks,
	.shadow = &aarch64_shadow,
};
