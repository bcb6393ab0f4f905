/* SPDX-License-Identifier: MIT */
/* System calls in the context of a stopped process. */
#include "src/target/remote.h"

#include <assert.h>
#include <elf.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "src/target/gadget.h"
#include "src/target/procfs.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21) /* Linux 4.3 */
#endif

enum {
	CODE_LEN = 0x1000,
	WAIT_MS = 2000, /* a call takes microseconds; a run of a thousand, a millisecond */
	MAX_STOPS = 64, /* job control and foreign signals on the way: give up after so many */
	XSTATE_MAX = 16384,
};

#define COOKIE	    0x5374617369730000ull /* comes with the closing signal */
#define ALL_SIGNALS (~0ull)
#define BIT(signo)  (1ull << ((signo)-1))

/*
 * Ignored unless caught: a thread without a tracer passes over it. Go uses SIGURG and bears strays;
 * a program that catches one of them has that one left out while another is free.
 */
static const int closing_signals[] = {SIGWINCH, SIGURG, SIGCHLD};

/* --- registers, mask, memory ------------------------------------------------------------------ */

static int get_regs(pid_t tid, void *prstatus)
{
	struct iovec iov = {prstatus, arch_inject.prstatus_len};

	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) < 0)
		return -errno;
	return iov.iov_len == arch_inject.prstatus_len ? 0 : -EOPNOTSUPP;
}

static int set_regs(pid_t tid, const void *prstatus)
{
	struct iovec iov = {(void *)(uintptr_t)prstatus, arch_inject.prstatus_len};

	return ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

static int set_mask(pid_t tid, uint64_t mask)
{
	return ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), &mask) < 0 ? -errno : 0;
}

static uint64_t reg(const void *prstatus, uint32_t off)
{
	uint64_t v;

	memcpy(&v, (const uint8_t *)prstatus + off, sizeof(v));
	return v;
}

static uint64_t stopped_pc(const struct remote *r)
{
	return r->base + (uint64_t)(arch_inject.code_stopped - arch_inject.code);
}

int remote_save(struct task *task, struct err *err)
{
	int ret = get_regs(task->tid, task->prstatus);

	if (ret == 0 &&
	    ptrace(PTRACE_GETSIGMASK, task->tid, sizeof(task->sigmask), &task->sigmask) < 0)
		ret = -errno;
	if (ret == -EOPNOTSUPP)
		return err_fail(err, EOPNOTSUPP, ERR_ABI,
				"thread %d runs 32-bit code, which is not supported", task->tid);
	task->known = ret == 0;
	return ret < 0 ? err_set(err, -ret, "read registers of thread %d", task->tid) : 0;
}

void remote_undo(struct task *task)
{
	set_mask(task->tid, task->sigmask);
	if (FAULT("target.undo"))
		return;
	if (set_regs(task->tid, task->prstatus) == 0)
		task->altered = false;
}

/* New registers, then the mask: should we die between the two, the frame or block has the mask. */
static int enter(struct task *task, const void *prstatus, uint64_t mask, struct err *err)
{
	int ret;

	task->altered = true;
	ret = set_regs(task->tid, prstatus);
	if (FAULT("target.entered"))
		return err_set(err, EIO, "fault injected at target.entered");
	if (ret == 0)
		ret = set_mask(task->tid, mask);
	return ret < 0 ? err_set(err, -ret, "set registers of thread %d", task->tid) : 0;
}

static int write_mem(const struct remote *r, uint64_t addr, const void *buf, size_t len,
		     struct err *err)
{
	/* Through /proc: process_vm_writev does not write what the process itself may not. */
	ssize_t n = io_pwrite(r->mem_fd, buf, len, addr);

	if (n != (ssize_t)len)
		return err_set(err, n < 0 ? (int)-n : EIO, "write %zu bytes at %#lx of process %d",
			       len, (unsigned long)addr, r->proc->pid);
	return 0;
}

/* --- stops ------------------------------------------------------------------------------------ */

static int gone(struct task *task, struct err *err)
{
	task->state = TASK_GONE;
	return err_fail(err, ESRCH, ERR_TARGET_GONE, "thread %d was killed while it was stopped",
			task->tid);
}

/*
 * The next stop of a thread that was let run. One that does not stop in time is asked to: it may
 * have gone back to its own code already, when the closing signal could not be sent.
 */
static int wait_stop(struct remote *r, struct task *task, struct stop *ret_stop, struct err *err)
{
	uint64_t deadline = now_ns() + WAIT_MS * 1000000ull;
	bool asked = false;

	for (;;) {
		*ret_stop = task_poll(task);
		if (ret_stop->kind == STOP_DEAD)
			return gone(task, err);
		if (ret_stop->kind != STOP_NONE)
			return 0;
		/* The tool's death is no reason to stop here: we would have to wait all the same.
		 */
		tree_wait_child(r->tree, WAIT_MS);
		if (now_ns() < deadline)
			continue;
		if (asked)
			return err_fail(err, ETIMEDOUT, ERR_TIMEOUT,
					"thread %d does not come back from an injected call",
					task->tid);
		asked = true;
		deadline += WAIT_MS * 1000000ull;
		ptrace(PTRACE_INTERRUPT, task->tid, 0, 0);
	}
}

static int resume(struct task *task, int request, int signo, struct err *err)
{
	if (ptrace((enum __ptrace_request)request, task->tid, 0, signo) == 0)
		return 0;
	if (errno == ESRCH)
		return gone(task, err);
	return err_set(err, errno, "resume thread %d", task->tid);
}

/* Lets @task run to a stop between kernel and program, where interrupted calls are restarted. */
static int to_trap(struct remote *r, struct task *task, int signo, struct err *err)
{
	struct stop s;
	int ret;

	for (int i = 0; i < MAX_STOPS; i++) {
		if (ptrace(PTRACE_INTERRUPT, task->tid, 0, 0) < 0)
			return gone(task, err);
		ret = resume(task, PTRACE_CONT, signo, err);
		if (ret == 0)
			ret = wait_stop(r, task, &s, err);
		if (ret < 0)
			return ret;
		if (s.kind == STOP_TRAP || s.kind == STOP_GROUP)
			return 0;
		signo = s.kind == STOP_SIGNAL ? s.signo : 0;
	}
	return err_set(err, EAGAIN, "stop thread %d again", task->tid);
}

/* After a failure inside a run: back to a stop, then to the true state. */
static void retreat(struct remote *r, struct task *task)
{
	struct err drop = {0};
	struct stop s = task_poll(task);

	if (task->state == TASK_GONE)
		return;
	if (s.kind == STOP_NONE) {
		ptrace(PTRACE_INTERRUPT, task->tid, 0, 0);
		if (wait_stop(r, task, &s, &drop) < 0)
			return;
	}
	if (s.kind != STOP_TRAP && s.kind != STOP_GROUP && s.kind != STOP_SIGNAL &&
	    to_trap(r, task, 0, &drop) < 0)
		return;
	remote_undo(task);
}

static int to_syscall_stop(struct remote *r, struct task *task, struct err *err)
{
	struct stop s;
	int ret, signo = 0;

	for (int i = 0; i < MAX_STOPS; i++) {
		ret = resume(task, PTRACE_SYSCALL, signo, err);
		if (ret == 0)
			ret = wait_stop(r, task, &s, err);
		if (ret < 0 || s.kind == STOP_SYSCALL)
			return ret;
		/* Every signal is blocked: what is there nevertheless is queued again. */
		signo = s.kind == STOP_SIGNAL ? s.signo : 0;
	}
	return err_set(err, EAGAIN, "thread %d stops for something else all the time", task->tid);
}

/* --- the first and the last call -------------------------------------------------------------- */

/* What the thread would need to find back without us, on dead stack. */
static int put_frame(struct remote *r, struct task *task, size_t *ret_len, struct err *err)
{
	static uint8_t xstate[XSTATE_MAX];
	struct iovec iov = {xstate, sizeof(xstate)};
	struct iovec l = {r->saved, 0}, rem = {NULL, 0};
	size_t len;

	if (ptrace(PTRACE_GETREGSET, task->tid, NT_X86_XSTATE, &iov) < 0)
		return err_set(err, errno, "read vector registers of thread %d", task->tid);
	/* Its length first, at any address. */
	len = arch_inject.frame(r->frame, sizeof(r->frame), 64, r->sigreturn_pc, task->prstatus,
				xstate, iov.iov_len, task->sigmask);
	len = (len + 63) & ~(size_t)63;
	r->frame_addr = len ? gadget_stack(r->proc->pid, task->prstatus,
					   reg(task->prstatus, arch_host()->sp_off), len)
			    : 0;
	if (!r->frame_addr)
		return -EAGAIN;
	memset(r->frame, 0, len);
	arch_inject.frame(r->frame, sizeof(r->frame), r->frame_addr, r->sigreturn_pc,
			  task->prstatus, xstate, iov.iov_len, task->sigmask);
	rem = (struct iovec){(void *)(uintptr_t)r->frame_addr, len};
	l.iov_len = len;
	if (process_vm_readv(r->proc->pid, &l, 1, &rem, 1, 0) != (ssize_t)len)
		return -EAGAIN;
	l.iov_base = r->frame;
	if (process_vm_writev(r->proc->pid, &l, 1, &rem, 1, 0) != (ssize_t)len)
		return err_set(err, errno ? errno : EIO, "write a frame at %#lx of process %d",
			       (unsigned long)r->frame_addr, r->proc->pid);
	*ret_len = len;
	return 0;
}

static void drop_frame(struct remote *r, size_t len)
{
	struct iovec l = {r->saved, len};
	struct iovec rem = {(void *)(uintptr_t)r->frame_addr, len};

	if (process_vm_writev(r->proc->pid, &l, 1, &rem, 1, 0) < 0)
		errno = 0; /* the process has been killed */
}

/* One call with code that is there already. The thread stands at the exit of the call after it. */
static int bare_call(struct remote *r, struct task *task, uint64_t nr, const uint64_t args[6],
		     int64_t *ret_value, struct err *err)
{
	uint8_t regs[ARCH_PRSTATUS_MAX];
	int ret;

	memcpy(regs, task->prstatus, sizeof(regs));
	arch_inject.set_call(regs, r->syscall_pc, r->frame_addr, nr, args);
	ret = enter(task, regs, ALL_SIGNALS, err);
	if (ret == 0)
		ret = to_syscall_stop(r, task, err);
	if (FAULT("target.first_call"))
		ret = err_set(err, EIO, "fault injected at target.first_call");
	if (ret == 0)
		ret = to_syscall_stop(r, task, err);
	if (ret == 0) {
		ret = get_regs(task->tid, regs);
		if (ret < 0)
			err_set(err, -ret, "read registers of thread %d", task->tid);
	}
	if (ret == 0)
		*ret_value = arch_inject.call_ret(regs);
	return ret;
}

/* --- a run ------------------------------------------------------------------------------------ */

/* A signal that closes a run: one that would not disturb the thread if nobody stopped at it. */
static void choose_signal(struct remote *r)
{
	r->signo = closing_signals[0];
	r->step = true;
	for (unsigned i = 0; r->step && i < sizeof(closing_signals) / sizeof(int); i++) {
		if (r->no_signo & BIT(closing_signals[i]))
			continue;
		r->signo = closing_signals[i];
		r->step = false;
	}
}

static bool is_ours(struct task *task)
{
	siginfo_t info = {0};

	if (ptrace(PTRACE_GETSIGINFO, task->tid, 0, &info) < 0)
		return false;
	return info.si_code == SI_QUEUE && (uint64_t)(uintptr_t)info.si_value.sival_ptr == COOKIE;
}

/*
 * The closing signal's number, sent by somebody else, or pending since before. It goes back into
 * its queue, and another number closes the run.
 */
static int requeue(struct remote *r, struct task *task, uint8_t *regs, int signo, struct err *err)
{
	int ret = set_mask(task->tid, ALL_SIGNALS);

	if (ret == 0)
		ret = to_trap(r, task, signo, err);
	if (ret == 0)
		ret = get_regs(task->tid, regs);
	if (ret < 0)
		return err_set(err, -ret, "queue signal %d of thread %d again", signo, task->tid);
	if (reg(regs, arch_host()->pc_off) == stopped_pc(r))
		return 1;
	r->no_signo |= BIT(signo);
	choose_signal(r);
	arch_inject.set_signo(regs, r->signo);
	ret = set_regs(task->tid, regs);
	if (ret == 0)
		ret = set_mask(task->tid, r->step ? ALL_SIGNALS : ~BIT(r->signo));
	return ret < 0 ? err_set(err, -ret, "set registers of thread %d", task->tid) : 0;
}

/* The entry stop of the call that would send the closing signal: that call is left out. */
static int leave_steps(struct remote *r, struct task *task, uint8_t *regs, struct err *err)
{
	int ret;

	arch_inject.skip_call(regs);
	ret = set_regs(task->tid, regs);
	if (ret < 0)
		return err_set(err, -ret, "set registers of thread %d", task->tid);
	return to_trap(r, task, 0, err);
}

static bool in_code(const struct remote *r, uint64_t pc)
{
	return pc >= r->base && pc < r->base + CODE_LEN;
}

/* Runs @task, whose registers are set, up to the closing signal. */
static int run_to_end(struct remote *r, struct task *task, uint8_t *regs, struct err *err)
{
	struct stop s;
	int ret;

	for (unsigned i = 0; i < MAX_STOPS + 4 * BATCH_CALLS; i++) {
		ret = resume(task, r->step ? PTRACE_SYSCALL : PTRACE_CONT, 0, err);
		if (FAULT("target.batch_resumed"))
			return err_set(err, EIO, "fault injected at target.batch_resumed");
		if (ret == 0)
			ret = wait_stop(r, task, &s, err);
		if (ret == 0 && get_regs(task->tid, regs) < 0)
			ret = gone(task, err);
		if (ret < 0)
			return ret;
		if (!in_code(r, reg(regs, arch_host()->pc_off))) {
			/* Nobody stopped it at the end: it has put itself right. */
			task->altered = false;
			return err_fail(err, EPROTO, ERR_UNSUPPORTED,
					"thread %d could not be stopped after an injected run: it "
					"went on by itself, unharmed",
					task->tid);
		}
		if (s.kind == STOP_SIGNAL) {
			if (s.signo == r->signo &&
			    reg(regs, arch_host()->pc_off) == stopped_pc(r) && is_ours(task))
				return 0;
			ret = requeue(r, task, regs, s.signo, err);
			if (ret)
				return ret < 0 ? ret : 0;
		} else if (s.kind == STOP_SYSCALL &&
			   reg(regs, arch_host()->pc_off) == stopped_pc(r)) {
			return leave_steps(r, task, regs, err);
		}
	}
	return err_set(err, EAGAIN, "thread %d stops for something else all the time", task->tid);
}

static int run(struct remote *r, struct task *task, uint8_t *regs, struct err *err)
{
	int ret = enter(task, regs, r->step ? ALL_SIGNALS : ~BIT(r->signo), err);

	if (ret == 0)
		ret = run_to_end(r, task, regs, err);
	r->runs++;
	return ret;
}

/* --- open, run, close ------------------------------------------------------------------------- */

static size_t scratch_len(void)
{
	size_t len = arch_inject.data_off + BATCH_CALLS * sizeof(struct arch_call) + BATCH_DATA;

	return (len + 0xffff) & ~(size_t)0xffff;
}

static uint64_t calls_addr(const struct remote *r)
{
	return r->base + arch_inject.data_off;
}

/* Filters would see our calls, too; they sleep as long as we trace. */
static int sleep_seccomp(struct task *task, struct err *err)
{
	if (!task->seccomp)
		return 0;
	if (ptrace(PTRACE_SETOPTIONS, task->tid, 0, TREE_OPTIONS | PTRACE_O_SUSPEND_SECCOMP) == 0)
		return 0;
	err_fail(err, errno, ERR_PERM,
		 "thread %d has seccomp filters, and they cannot be suspended: %s", task->tid,
		 strerrordesc_np(errno));
	err_hint(err, "suspending seccomp needs CAP_SYS_ADMIN");
	return -err->errnum;
}

/* The scratch area is there, readable: code and a control block in, then the rest made writable. */
static int boot(struct remote *r, struct task *task, struct err *err)
{
	const uint64_t args[6] = {r->base + CODE_LEN, scratch_len() - CODE_LEN,
				  PROT_READ | PROT_WRITE};
	uint8_t regs[ARCH_PRSTATUS_MAX], control[1024];
	int64_t value;
	int ret;

	assert(arch_inject.control_len <= sizeof(control));
	arch_inject.control(control, task->prstatus, task->sigmask, r->signo, COOKIE);
	ret = write_mem(r, r->base, arch_inject.code,
			(size_t)(arch_inject.code_end - arch_inject.code), err);
	if (ret == 0)
		ret = write_mem(r, r->base + arch_inject.control_off, control,
				arch_inject.control_len, err);
	if (ret < 0)
		return ret;
	memcpy(regs, task->prstatus, sizeof(regs));
	arch_inject.set_boot(regs, r->base, SYS_mprotect, args, r->signo);
	ret = run(r, task, regs, err);
	if (ret < 0)
		return ret;
	value = arch_inject.boot_ret(regs);
	return value < 0 ? err_set(err, (int)-value, "mprotect in process %d", r->proc->pid) : 0;
}

/* A thread with dead stack for a frame, and the frame on it. */
static int put_frame_somewhere(struct remote *r, size_t *ret_len, struct err *err)
{
	for (uint32_t i = 0; i < r->proc->ntasks; i++) {
		struct task *task = tree_proc_task(r->tree, r->proc, i);
		int ret;

		if (task->state != TASK_STOPPED)
			continue;
		ret = put_frame(r, task, ret_len, err);
		if (ret != -EAGAIN) {
			r->first = task;
			return ret;
		}
	}
	return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			"process %d: no thread has a stack on which a signal frame would be safe",
			r->proc->pid);
}

static int map_scratch(struct remote *r, struct err *err)
{
	const uint64_t args[6] = {
		0, scratch_len(), PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1,
		0};
	struct task *task;
	int64_t value = 0;
	size_t len = 0;
	int ret;

	ret = put_frame_somewhere(r, &len, err);
	if (ret < 0)
		return ret;
	task = r->first;
	ret = sleep_seccomp(task, err);
	if (ret == 0)
		ret = bare_call(r, task, SYS_mmap, args, &value, err);
	if (ret == 0 && value < 0 && value > -4096)
		ret = err_fail(err, (int)-value, ERR_UNSUPPORTED,
			       "process %d may not map %zu bytes of memory for us: %s",
			       r->proc->pid, scratch_len(), strerrordesc_np((int)-value));
	if (ret == 0) {
		r->base = (uint64_t)value;
		ret = boot(r, task, err);
	}
	if (ret < 0)
		retreat(r, task);
	else
		remote_undo(task);
	drop_frame(r, len);
	return ret;
}

int remote_open(struct remote *r, struct tree *t, struct proc *proc, uint64_t caught,
		struct err *err)
{
	struct gadgets g;
	char path[64];
	int ret;

	r->tree = t;
	r->proc = proc;
	r->base = 0;
	r->runs = r->calls = 0;
	r->no_signo = caught;
	choose_signal(r);
	if (!gadgets_find(proc->pid, &g))
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"process %d has no code that makes system calls", proc->pid);
	r->syscall_pc = g.syscall_pc;
	r->sigreturn_pc = g.sigreturn_pc;
	snprintf(path, sizeof(path), "/proc/%d/mem", proc->pid);
	r->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (r->mem_fd < 0)
		return err_set(err, errno, "open %s", path);
	ret = map_scratch(r, err);
	if (ret < 0)
		remote_close(r);
	return ret;
}

static void unmap_scratch(struct remote *r)
{
	const uint64_t args[6] = {r->base, scratch_len()};
	struct err drop = {0};
	int64_t value;
	size_t len;

	if (put_frame_somewhere(r, &len, &drop) < 0)
		return;
	if (bare_call(r, r->first, SYS_munmap, args, &value, &drop) == 0)
		to_trap(r, r->first, 0, &drop);
	retreat(r, r->first);
	drop_frame(r, len);
}

void remote_close(struct remote *r)
{
	if (r->base)
		unmap_scratch(r);
	r->base = 0;
	if (r->mem_fd >= 0)
		close(r->mem_fd);
	r->mem_fd = -1;
}

void batch_init(struct batch *b, const struct remote *r)
{
	b->base = calls_addr(r) + sizeof(b->calls);
	b->ncalls = 0;
	b->ndata = 0;
}

uint64_t batch_buf(struct batch *b, size_t len)
{
	uint64_t addr = b->base + b->ndata;

	len = (len + 15) & ~(size_t)15;
	if (len > BATCH_DATA - b->ndata)
		return 0;
	memset(b->data + b->ndata, 0, len);
	b->ndata += len;
	return addr;
}

void *batch_data(struct batch *b, uint64_t addr)
{
	return b->data + (addr - b->base);
}

int batch_call(struct batch *b, uint64_t nr, uint64_t a, uint64_t b2, uint64_t c, uint64_t d,
	       uint64_t e)
{
	if (b->ncalls == BATCH_CALLS)
		return -ENOSPC;
	b->calls[b->ncalls] =
		(struct arch_call){.nr = nr, .args = {a, b2, c, d, e}, .ret = -EAGAIN};
	return (int)b->ncalls++;
}

/* Control block, calls and buffers in one go; back come calls and buffers. */
static int transfer(struct remote *r, struct batch *b, uint8_t *control, bool in, struct err *err)
{
	struct iovec l[3], rem[3];
	size_t sum = 0;
	ssize_t n;

	l[0] = (struct iovec){control, arch_inject.control_len};
	rem[0].iov_base = (void *)(uintptr_t)(r->base + arch_inject.control_off);
	l[1] = (struct iovec){b->calls, b->ncalls * sizeof(b->calls[0])};
	rem[1].iov_base = (void *)(uintptr_t)calls_addr(r);
	l[2] = (struct iovec){b->data, b->ndata};
	rem[2].iov_base = (void *)(uintptr_t)b->base;
	for (int i = 0; i < 3; i++) {
		rem[i].iov_len = l[i].iov_len;
		sum += i || in ? l[i].iov_len : 0;
	}
	n = in ? process_vm_writev(r->proc->pid, l, 3, rem, 3, 0)
	       : process_vm_readv(r->proc->pid, l + 1, 2, rem + 1, 2, 0);
	if (n == (ssize_t)sum)
		return 0;
	return err_set(err, n < 0 ? errno : EIO, "%s the batch of process %d",
		       in ? "write" : "read", r->proc->pid);
}

int remote_run(struct remote *r, struct task *task, struct batch *b, struct err *err)
{
	uint8_t regs[ARCH_PRSTATUS_MAX], control[1024];
	uint64_t no_signo = r->no_signo;
	int ret;

	if (task->state != TASK_STOPPED)
		return gone(task, err);
	arch_inject.control(control, task->prstatus, task->sigmask, r->signo, COOKIE);
	ret = sleep_seccomp(task, err);
	if (ret == 0)
		ret = transfer(r, b, control, true, err);
	if (ret < 0)
		return ret;
	memcpy(regs, task->prstatus, sizeof(regs));
	arch_inject.set_run(regs, r->base, calls_addr(r), b->ncalls, r->signo);
	ret = run(r, task, regs, err);
	if (ret < 0)
		retreat(r, task);
	else
		remote_undo(task);
	/* A signal that was pending for this thread is not pending for the next. */
	r->no_signo = no_signo;
	choose_signal(r);
	if (ret == 0)
		ret = transfer(r, b, control, false, err);
	r->calls += b->ncalls;
	return ret;
}
