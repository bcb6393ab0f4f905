/* SPDX-License-Identifier: MIT */
/* x86-64: a system call into registers and its result out, and the code that makes many. */
#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "arch/x86/features.h"

/* How far the control block is from the code as assembled; x86_code() puts the true one in. */
enum { CONTROL_OFF = 0x11000 };

/* In the order in which the code pops. */
struct control {
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, eflags;
	uint64_t rsp, rip;
	uint64_t sigmask;
	uint64_t reserved;
	uint8_t siginfo[128];
};

static_assert(offsetof(struct control, rsp) == 0x80, "code");
static_assert(offsetof(struct control, rip) == 0x88, "code");
static_assert(offsetof(struct control, sigmask) == 0x90, "code");
static_assert(offsetof(struct control, siginfo) == 0xa0, "code");
static_assert(sizeof(struct arch_call) == 64 && offsetof(struct arch_call, ret) == 56, "code");
static_assert(SYS_gettid == 186 && SYS_getpid == 39 && SYS_rt_tgsigqueueinfo == 297 &&
		      SYS_rt_sigprocmask == 14 && SIG_SETMASK == 2,
	      "code");

/*
 * rbx: next call, rbp: end of the table, r15: the closing signal, rsp: the control block. System
 * calls change rax, rcx and r11 alone. gettid and getpid, because our numbers are not those of the
 * target's pid namespace. After the closing signal nothing is done that needs memory below rsp
 * before the true mask is set, and no vector register is touched at all.
 */
__asm__(".pushsection .rodata\n"
	".balign 16\n"
	"stasis_code:\n"
	"1:	cmp %rbp, %rbx\n"
	"	jae 2f\n"
	"	mov 0(%rbx), %rax\n"
	"	mov 8(%rbx), %rdi\n"
	"	mov 16(%rbx), %rsi\n"
	"	mov 24(%rbx), %rdx\n"
	"	mov 32(%rbx), %r10\n"
	"	mov 40(%rbx), %r8\n"
	"	mov 48(%rbx), %r9\n"
	"	syscall\n"
	"	mov %rax, 56(%rbx)\n"
	"	add $64, %rbx\n"
	"	jmp 1b\n"
	"stasis_code_lazy:\n"
	"	mov 512(%rsi), %eax\n" /* XSTATE_BV */
	"	mov 516(%rsi), %edx\n"
	"	xrstor64 (%rsi)\n"
	"	mov $39, %eax\n"
	"stasis_code_boot:\n"
	"	syscall\n"
	"	mov %rax, %rbx\n"
	"2:	mov $186, %eax\n" /* gettid */
	"	syscall\n"
	"	mov %rax, %r14\n"
	"	mov $39, %eax\n" /* getpid */
	"	syscall\n"
	"	mov %rax, %rdi\n"
	"	mov %r14, %rsi\n"
	"	mov %r15, %rdx\n"
	"	lea (stasis_code + 0x110a0)(%rip), %r10\n"
	"stasis_code_rip0:\n"
	"	mov $297, %eax\n" /* rt_tgsigqueueinfo */
	"	syscall\n"
	"stasis_code_stopped:\n"
	"	mov $14, %eax\n" /* rt_sigprocmask */
	"	mov $2, %edi\n"
	"	lea (stasis_code + 0x11090)(%rip), %rsi\n"
	"stasis_code_rip1:\n"
	"	xor %edx, %edx\n"
	"	mov $8, %r10d\n"
	"	syscall\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	pop %r11\n"
	"	pop %r10\n"
	"	pop %r9\n"
	"	pop %r8\n"
	"	pop %rax\n"
	"	pop %rcx\n"
	"	pop %rdx\n"
	"	pop %rsi\n"
	"	pop %rdi\n"
	"	popfq\n"
	"	mov (stasis_code + 0x11080)(%rip), %rsp\n"
	"stasis_code_rip2:\n"
	"	jmp *(stasis_code + 0x11088)(%rip)\n"
	"stasis_code_rip3:\n"
	"stasis_code_end:\n"
	".popsection\n");

extern const uint8_t stasis_code[], stasis_code_lazy[], stasis_code_boot[], stasis_code_stopped[];
extern const uint8_t stasis_code_end[];
extern const uint8_t stasis_code_rip0[], stasis_code_rip1[], stasis_code_rip2[], stasis_code_rip3[];

/* The instructions that reach the control block relative to themselves: where each ends. */
static const uint8_t *const relative[] = {
	stasis_code_rip0,
	stasis_code_rip1,
	stasis_code_rip2,
	stasis_code_rip3,
};

/* The part of a signal frame that rt_sigreturn reads: Linux arch/x86/include/asm/sigframe.h. */
struct frame {
	uint64_t pretcode;
	uint64_t uc_flags, uc_link;
	uint64_t ss_sp, ss_flags, ss_size;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
	uint64_t eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
	uint64_t sigmask;
};

static_assert(sizeof(struct frame) == 8 + 304, "struct rt_sigframe without its siginfo");

enum {
	UC_FP_XSTATE = 1,
	UC_SIGCONTEXT_SS = 2,
	UC_STRICT_RESTORE_SS = 4,
	SW_OFF = 464, /* struct _fpx_sw_bytes */
	XSTATE_MAGIC1 = 0x46505853,
	XSTATE_MAGIC2 = 0x46505845,
};

static const uint8_t syscall_ret[] = {0x0f, 0x05, 0xc3};
/* mov $15, %rax or %eax; syscall */
static const uint8_t sigreturn_rax[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
static const uint8_t sigreturn_eax[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};

static const struct arch_gadget gadgets_syscall_ret[] = {
	{syscall_ret, sizeof(syscall_ret)},
	{NULL, 0},
};

static const uint32_t frame_notes[] = {NT_X86_XSTATE, 0};

static const struct arch_gadget gadgets_sigreturn[] = {
	{sigreturn_rax, sizeof(sigreturn_rax)},
	{sigreturn_eax, sizeof(sigreturn_eax)},
	{NULL, 0},
};

static void args_to_regs(struct user_regs_struct *r, uint64_t nr, const uint64_t args[6])
{
	r->rax = nr;
	r->orig_rax = (uint64_t)-1;
	r->rdi = args[0];
	r->rsi = args[1];
	r->rdx = args[2];
	r->r10 = args[3];
	r->r8 = args[4];
	r->r9 = args[5];
	/* No direction, trap or alignment flag of the target's; interrupts on, bit 1 always set. */
	r->eflags = 0x202;
}

static void x86_set_call(void *prstatus, uint64_t pc, uint64_t sp, uint64_t back, uint64_t nr,
			 const uint64_t args[6])
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	args_to_regs(&r, nr, args);
	r.rip = pc;
	r.rsp = sp;
	memcpy(prstatus, &r, sizeof(r));
}

static int64_t x86_call_ret(const void *prstatus)
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	return (int64_t)r.rax;
}

static void x86_skip_call(void *prstatus)
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	r.orig_rax = (uint64_t)-1;
	memcpy(prstatus, &r, sizeof(r));
}

static void x86_set_signo(void *prstatus, int signo)
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	r.r15 = (uint64_t)signo;
	memcpy(prstatus, &r, sizeof(r));
}

static uint64_t x86_thread_pointer(const void *prstatus)
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	return r.fs_base;
}

enum { ERESTARTNOHAND = 514 };

static bool x86_wait_again(void *prstatus, bool look)
{
	struct user_regs_struct r;
	bool forever;

	memcpy(&r, prstatus, sizeof(r));
	if ((int64_t)r.rax != -EINTR)
		return false;
	switch (r.orig_rax) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		forever = (int)r.r10 < 0;
		break;
	case 441: /* epoll_pwait2, Linux 5.11 */
	case SYS_semtimedop:
		forever = !r.r10;
		break;
	case SYS_semop:
		forever = true;
		break;
	case SYS_rt_sigtimedwait:
		forever = !r.rdx;
		break;
	case SYS_io_getevents:
	case 333: /* io_pgetevents, Linux 4.18 */
		forever = !r.r8;
		break;
	default:
		return false;
	}
	if (!forever || look)
		return forever;
	r.rax = (uint64_t)-ERESTARTNOHAND;
	memcpy(prstatus, &r, sizeof(r));
	return true;
}

/* Returns its length with the closing magic, 0 when it does not fit. */
static size_t frame_xstate(uint8_t *buf, size_t room, const uint8_t *xstate, size_t xstate_len)
{
	uint32_t magic1 = XSTATE_MAGIC1, magic2 = XSTATE_MAGIC2;
	uint32_t len, extended;
	uint64_t bv;

	if (xstate_len < FX_LEN + XHDR_LEN)
		return 0;
	memcpy(&bv, xstate + FX_LEN, sizeof(bv));
	len = x86_xstate_len(bv, xstate_len);
	if (!len || len + sizeof(magic2) > room)
		return 0;
	extended = len + (uint32_t)sizeof(magic2);
	/* x87 and SSE are in every frame; XSTATE_BV says whether they hold more than the start
	 * value. */
	bv |= 3;
	memcpy(buf, xstate, len);
	memset(buf + SW_OFF, 0, FX_LEN - SW_OFF);
	memcpy(buf + SW_OFF, &magic1, 4);
	memcpy(buf + SW_OFF + 4, &extended, 4);
	memcpy(buf + SW_OFF + 8, &bv, 8);
	memcpy(buf + SW_OFF + 16, &len, 4);
	memcpy(buf + len, &magic2, 4);
	return len + sizeof(magic2);
}

/* "mov $NUMBER, %eax; syscall", as C libraries have it */
enum { CALL_CODE = 7, MOV_EAX = 0xb8 };

static bool x86_call_made(const void *prstatus, const uint8_t *code, struct arch_call *ret)
{
	struct user_regs_struct r;
	uint32_t nr;

	memcpy(&r, prstatus, sizeof(r));
	if (r.orig_rax == SYS_restart_syscall) {
		memcpy(&nr, code + 1, sizeof(nr));
		if (code[0] == MOV_EAX && !memcmp(code + 5, syscall_ret, 2))
			r.orig_rax = nr;
	}
	*ret = (struct arch_call){.nr = r.orig_rax,
				  .args = {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}};
	return (int64_t)r.orig_rax >= 0;
}

static void x86_set_ret(void *prstatus, int64_t value)
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	r.rax = (uint64_t)value;
	memcpy(prstatus, &r, sizeof(r));
}

/* What the kernel would have done with the interrupted call, had nobody stopped the thread. */
static void restart(struct user_regs_struct *r, bool keep_deadline)
{
	int64_t code = arch_x86_64.restart_code(r);
	bool native;

	if (!code)
		return;
	/* A call made by int $0x80 has another number for restart_syscall: these are 64-bit's. */
	native = r->orig_rax == SYS_nanosleep || r->orig_rax == SYS_clock_nanosleep ||
		 r->orig_rax == SYS_poll || r->orig_rax == SYS_futex ||
		 r->orig_rax == SYS_restart_syscall;
	if (code == -516 && keep_deadline && native) {
		r->rax = SYS_restart_syscall;
		r->rip -= 2;
	} else {
		arch_x86_64.restart_fixup(r);
	}
}

static size_t x86_frame(void *buf, size_t room, uint64_t addr, uint64_t sigreturn_pc,
			const void *prstatus, const struct arch_set *sets, uint64_t sigmask)
{
	size_t fp_off = (sizeof(struct frame) + 63) & ~(size_t)63;
	struct user_regs_struct r;
	struct frame f = {0};
	size_t fp_len;

	if (room < fp_off)
		return 0;
	fp_len = frame_xstate((uint8_t *)buf + fp_off, room - fp_off, sets[0].data, sets[0].len);
	if (!fp_len)
		return 0;
	memcpy(&r, prstatus, sizeof(r));
	restart(&r, false);
	f.pretcode = sigreturn_pc;
	f.uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
	/* Not a mode of sigaltstack(2): the kernel then leaves the alternate stack as it is. */
	f.ss_flags = 0x7fff;
	f.r8 = r.r8;
	f.r9 = r.r9;
	f.r10 = r.r10;
	f.r11 = r.r11;
	f.r12 = r.r12;
	f.r13 = r.r13;
	f.r14 = r.r14;
	f.r15 = r.r15;
	f.rdi = r.rdi;
	f.rsi = r.rsi;
	f.rbp = r.rbp;
	f.rbx = r.rbx;
	f.rdx = r.rdx;
	f.rax = r.rax;
	f.rcx = r.rcx;
	f.rsp = r.rsp;
	f.rip = r.rip;
	f.eflags = r.eflags;
	f.cs = (uint16_t)r.cs;
	f.ss = (uint16_t)r.ss;
	f.fpstate = addr + fp_off;
	f.sigmask = sigmask;
	memcpy(buf, &f, sizeof(f));
	memset((uint8_t *)buf + sizeof(f), 0, fp_off - sizeof(f));
	return fp_off + fp_len;
}

static size_t x86_control(void *control, uint64_t addr, const void *prstatus,
			  const struct arch_set lost[ARCH_LOST_NOTES], bool asleep,
			  uint64_t sigmask, int signo, uint64_t sigval)
{
	struct user_regs_struct r;
	struct control c = {0};
	siginfo_t info = {.si_signo = signo, .si_code = SI_QUEUE};

	memcpy(&r, prstatus, sizeof(r));
	restart(&r, true);
	c.r15 = r.r15;
	c.r14 = r.r14;
	c.r13 = r.r13;
	c.r12 = r.r12;
	c.rbp = r.rbp;
	c.rbx = r.rbx;
	c.r11 = r.r11;
	c.r10 = r.r10;
	c.r9 = r.r9;
	c.r8 = r.r8;
	c.rax = r.rax;
	c.rcx = r.rcx;
	c.rdx = r.rdx;
	c.rsi = r.rsi;
	c.rdi = r.rdi;
	c.eflags = r.eflags;
	c.rsp = r.rsp;
	c.rip = r.rip;
	c.sigmask = sigmask;
	info.si_value.sival_ptr = (void *)(uintptr_t)sigval;
	memcpy(c.siginfo, &info, sizeof(c.siginfo));
	memcpy(control, &c, sizeof(c));
	return sizeof(c);
}

static void x86_code(void *buf, uint64_t addr, uint64_t control)
{
	int32_t further = (int32_t)(control - addr - CONTROL_OFF), disp;
	uint8_t *code = buf;

	memcpy(code, stasis_code, (size_t)(stasis_code_end - stasis_code));
	for (unsigned i = 0; i < sizeof(relative) / sizeof(relative[0]); i++) {
		uint8_t *at = code + (relative[i] - stasis_code) - sizeof(disp);

		memcpy(&disp, at, sizeof(disp));
		disp += further;
		memcpy(at, &disp, sizeof(disp));
	}
}

static void set_code(struct user_regs_struct *r, uint64_t code, uint64_t control,
		     const uint8_t *entry, int signo)
{
	r->rip = code + (uint64_t)(entry - stasis_code);
	r->rsp = control;
	r->r15 = (uint64_t)signo;
}

static void x86_set_run(void *prstatus, uint64_t code, uint64_t control, uint64_t table, uint64_t n,
			int signo)
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	args_to_regs(&r, 0, (const uint64_t[6]){0});
	set_code(&r, code, control, stasis_code, signo);
	r.rbx = table;
	r.rbp = table + n * sizeof(struct arch_call);
	memcpy(prstatus, &r, sizeof(r));
}

static void x86_set_boot(void *prstatus, uint64_t code, uint64_t control, uint64_t nr,
			 const uint64_t args[6], int signo)
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	args_to_regs(&r, nr, args);
	set_code(&r, code, control, stasis_code_boot, signo);
	memcpy(prstatus, &r, sizeof(r));
}

static void x86_set_lazy(void *prstatus, uint64_t code, uint64_t control, uint64_t area)
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	args_to_regs(&r, 0, (const uint64_t[6]){0, area});
	set_code(&r, code, control, stasis_code_lazy, 0);
	memcpy(prstatus, &r, sizeof(r));
}

static int64_t x86_boot_ret(const void *prstatus)
{
	struct user_regs_struct r;

	memcpy(&r, prstatus, sizeof(r));
	return (int64_t)r.rbx;
}

const struct arch_inject arch_inject = {
	.oddities = x86_oddities,
	.elf_machine = EM_X86_64,
	.prstatus_len = sizeof(struct user_regs_struct),
	.syscall_ret = gadgets_syscall_ret,
	.sigreturn = gadgets_sigreturn,
	.set_call = x86_set_call,
	.call_ret = x86_call_ret,
	.skip_call = x86_skip_call,
	.set_signo = x86_set_signo,
	.thread_pointer = x86_thread_pointer,
	.wait_again = x86_wait_again,
	.call_made = x86_call_made,
	.call_code_len = CALL_CODE,
	.set_ret = x86_set_ret,
	.regset_fit = x86_regset_fit,
	.set_wrong = x86_set_wrong,
	.red_zone = 128,
	.frame_notes = frame_notes,
	.frame = x86_frame,
	.code_start = stasis_code,
	.code_stopped = stasis_code_stopped,
	.code_end = stasis_code_end,
	.code = x86_code,
	.control_len = sizeof(struct control),
	.control = x86_control,
	.set_run = x86_set_run,
	.set_boot = x86_set_boot,
	.boot_ret = x86_boot_ret,
	.lazy_note = NT_X86_XSTATE,
	.set_lazy = x86_set_lazy,
	.lazy_area = x86_lazy_area,
	.cpu_lacks = x86_cpu_lacks,
	.ins_words = x86_ins_words,
	.shadow = &x86_shadow,
	.permits = &x86_permits,
	.gdt = &x86_gdt,
	.ports_note = NT_386_IOPERM,
	.ports_nr = SYS_ioperm,
};
