/* SPDX-License-Identifier: MIT */
/* Running the injected loop in stopped threads, and getting them back. */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "base/fault.h"
#include "src/target/parcel.h"
#include "src/target/remote.h"

#ifndef PTRACE_O_SUSPEND_SECCOMP
#define PTRACE_O_SUSPEND_SECCOMP (1 << 21) /* Linux 4.3 */
#endif

enum {
	WAIT_MS = 5000, /* a call takes microseconds; a run of a thousand, a millisecond */
	MAX_STOPS = 64, /* job control and foreign signals on the way: give up after so many */
	/* of a slot: control block, calls, buffers, what is between them; big ones lie apart */
	PARCEL_HERE = 5 * REMOTE_SLOTS + 1,
};

#define COOKIE	    0x5374617369730000ull /* comes with the closing signal */
#define ALL_SIGNALS (~0ull)
#define BIT(signo)  (1ull << ((signo)-1))

/*
 * Ignored unless caught: a thread without a tracer passes over it. Go uses SIGURG and bears strays;
 * a program that catches one of them has that one left out while another is free.
 */
static const int closing_signals[] = {SIGWINCH, SIGURG, SIGCHLD};

/* One thread in a run. */
struct run {
	struct task *task;
	uint64_t stopped_pc;
	int signo;
	uint64_t no_signo; /* numbers that cannot close it */
	bool step;	   /* none is free: stop at every system call instead */
	size_t control_len;
	uint8_t regs[ARCH_PRSTATUS_MAX];
};

/* --- registers and mask ----------------------------------------------------------------------- */

/* The set with the number of the interrupted call lies behind NT_PRSTATUS; see arch.h. */
static struct iovec call_iov(const void *prstatus)
{
	return (struct iovec){(uint8_t *)(uintptr_t)prstatus + arch_inject.prstatus_len,
			      ARCH_CALL_LEN};
}

int task_regs(pid_t tid, void *prstatus)
{
	struct iovec iov = {prstatus, arch_inject.prstatus_len}, call = call_iov(prstatus);

	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) < 0)
		return -errno;
	if (iov.iov_len != arch_inject.prstatus_len)
		return -EOPNOTSUPP;
	if (arch_inject.call_note &&
	    ptrace(PTRACE_GETREGSET, tid, arch_inject.call_note, &call) < 0)
		return -errno;
	return 0;
}

int task_set_regs(pid_t tid, const void *prstatus)
{
	struct iovec iov = {(void *)(uintptr_t)prstatus, arch_inject.prstatus_len};
	struct iovec call = call_iov(prstatus);

	if (ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) < 0)
		return -errno;
	if (arch_inject.call_note &&
	    ptrace(PTRACE_SETREGSET, tid, arch_inject.call_note, &call) < 0)
		return -errno;
	return 0;
}

int task_set_mask(pid_t tid, uint64_t mask)
{
	return ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), &mask) < 0 ? -errno : 0;
}

static uint64_t pc_of(const void *prstatus)
{
	uint64_t v;

	memcpy(&v, (const uint8_t *)prstatus + arch_host()->pc_off, sizeof(v));
	return v;
}

/* Its control block, for the way back that it goes without us. */
static size_t fill_control(const struct remote *r, unsigned slot, const struct task *task,
			   int signo, void *control)
{
	return arch_inject.control(control, slot_control(r, slot), task->prstatus, task->lost,
				   task->asleep, task->sigmask, signo, COOKIE);
}

int remote_save(struct task *task, struct err *err)
{
	int ret = task_regs(task->tid, task->prstatus);

	if (ret == 0 &&
	    ptrace(PTRACE_GETSIGMASK, task->tid, sizeof(task->sigmask), &task->sigmask) < 0)
		ret = -errno;
	if (ret == -EOPNOTSUPP)
		return err_fail(err, EOPNOTSUPP, ERR_ABI,
				"thread %d runs 32-bit code, which is not supported", task->tid);
	task->known = ret == 0;
	if (ret < 0)
		return err_set(err, -ret, "read registers of thread %d", task->tid);
	task->shadow.len = 0;
	shadow_of_loop(task);
	return lost_save(task, err);
}

void remote_undo(struct task *task)
{
	task_set_mask(task->tid, task->sigmask);
	if (FAULT("target.undo"))
		return;
	/* Before the registers: so long the way out of the code has these, too. */
	lost_put(task);
	if (task_set_regs(task->tid, task->prstatus) == 0)
		task->altered = false;
	shadow_leave(task);
	/* Where the kernel steps back, it has forgotten by now. */
	task->recall = true;
}

int run_enter(struct task *task, const void *prstatus, uint64_t mask, struct err *err)
{
	int ret;

	task->altered = true;
	ret = task_set_regs(task->tid, prstatus);
	if (ret == 0)
		ret = shadow_enter(task);
	if (FAULT("target.entered"))
		return err_set(err, EIO, "fault injected at target.entered");
	if (ret == 0)
		ret = task_set_mask(task->tid, mask);
	return ret < 0 ? err_set(err, -ret, "set registers of thread %d", task->tid) : 0;
}

int run_sleep_seccomp(struct remote *r, struct task *task, struct err *err)
{
	if (!task->seccomp)
		return 0;
	if (ptrace(PTRACE_SETOPTIONS, task->tid, 0, r->tree->options | PTRACE_O_SUSPEND_SECCOMP) ==
	    0)
		return 0;
	err_fail(err, errno, ERR_PERM,
		 "thread %d has seccomp filters, and they cannot be suspended: %s", task->tid,
		 strerrordesc_np(errno));
	err_hint(err, "suspending seccomp needs CAP_SYS_ADMIN, and no filters of one's own");
	return -err->errnum;
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
 * have gone back to its own code already, when the closing signal could not be sent. The tool's
 * death is no reason to stop waiting: the thread must be put right all the same.
 */
static int wait_stop(struct remote *r, struct task *task, struct stop *ret_stop, struct err *err)
{
	uint64_t deadline = now_ns() + WAIT_MS * 1000000ull;
	bool asked = false;

	for (;;) {
		uint64_t now = now_ns();

		*ret_stop = task_poll(task);
		if (ret_stop->kind == STOP_DEAD)
			return gone(task, err);
		if (ret_stop->kind != STOP_NONE)
			return 0;
		if (now >= deadline && asked)
			return err_fail(err, ETIMEDOUT, ERR_TIMEOUT,
					"thread %d does not come back from an injected call",
					task->tid);
		if (now >= deadline) {
			asked = true;
			deadline = now + WAIT_MS * 1000000ull;
			ptrace(PTRACE_INTERRUPT, task->tid, 0, 0);
		}
		tree_wait_task(r->tree, task, 100, false);
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

int run_to_trap(struct remote *r, struct task *task, int signo, struct err *err)
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

int run_to_syscall(struct remote *r, struct task *task, struct err *err)
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

int run_to_entry(struct remote *r, struct task *task, struct err *err)
{
	struct stop s;
	int ret, signo = 0;

	for (int i = 0; i < MAX_STOPS; i++) {
		ret = resume(task, PTRACE_SYSCALL, signo, err);
		if (ret == 0)
			ret = wait_stop(r, task, &s, err);
		if (ret < 0 || s.kind == STOP_SYSCALL)
			return ret;
		signo = s.kind == STOP_SIGNAL ? s.signo : 0;
		if (signo)
			task_set_mask(task->tid, ALL_SIGNALS);
	}
	return err_set(err, EAGAIN, "thread %d stops for something else all the time", task->tid);
}

void run_retreat(struct remote *r, struct task *task)
{
	struct err drop = {0};
	struct stop s;

	if (task->state == TASK_GONE || !task->altered)
		return;
	s = task_poll(task);
	if (s.kind == STOP_NONE) {
		ptrace(PTRACE_INTERRUPT, task->tid, 0, 0);
		if (wait_stop(r, task, &s, &drop) < 0)
			return;
	}
	if (s.kind != STOP_TRAP && s.kind != STOP_GROUP && s.kind != STOP_SIGNAL &&
	    run_to_trap(r, task, 0, &drop) < 0)
		return;
	remote_undo(task);
}

/* --- a run ------------------------------------------------------------------------------------ */

static int free_signal(uint64_t taken)
{
	for (unsigned i = 0; i < sizeof(closing_signals) / sizeof(int); i++)
		if (!(taken & BIT(closing_signals[i])))
			return closing_signals[i];
	return 0;
}

/*
 * A signal that closes a run: one that would not disturb the thread if nobody stopped at it. Best
 * is one that it does not block, for another one of that number, sent to the whole process
 * meanwhile, is taken by this thread no sooner than without us. When we die with a blocked number,
 * one that somebody waits for may be ignored; stopping at every call would cost more than that is
 * worth.
 */
static void choose_signal(struct run *run)
{
	run->signo = free_signal(run->no_signo | run->task->sigmask);
	if (!run->signo)
		run->signo = free_signal(run->no_signo);
	/* Number 0 is sent to nobody, should there be no tracer to leave that call out. */
	run->step = !run->signo;
}

static void run_init(struct run *run, const struct remote *r, struct task *task, unsigned slot)
{
	run->task = task;
	run->no_signo = r->caught;
	run->stopped_pc =
		slot_code(r, slot) + (uint64_t)(arch_inject.code_stopped - arch_inject.code_start);
	memcpy(run->regs, task->prstatus, sizeof(run->regs));
	choose_signal(run);
}

static uint64_t run_mask(const struct run *run)
{
	return run->step ? ALL_SIGNALS : ~BIT(run->signo);
}

static bool is_ours(const struct task *task)
{
	siginfo_t info = {0};

	if (ptrace(PTRACE_GETSIGINFO, task->tid, 0, &info) < 0)
		return false;
	return info.si_code == SI_QUEUE && (uint64_t)(uintptr_t)info.si_value.sival_ptr == COOKIE;
}

/*
 * The closing signal's number, but sent by somebody else, or pending since before. It goes back
 * into its queue, and another number closes the run. 1 when the thread is at the end all the same.
 */
static int requeue(struct remote *r, struct run *run, int signo, struct err *err)
{
	pid_t tid = run->task->tid;
	int ret = task_set_mask(tid, ALL_SIGNALS);

	if (ret == 0)
		ret = run_to_trap(r, run->task, signo, err);
	if (ret == 0)
		ret = task_regs(tid, run->regs);
	if (ret == 0 && pc_of(run->regs) == run->stopped_pc)
		return 1;
	if (ret == 0) {
		run->no_signo |= BIT(signo);
		choose_signal(run);
		arch_inject.set_signo(run->regs, run->signo);
		ret = task_set_regs(tid, run->regs);
	}
	if (ret == 0)
		ret = task_set_mask(tid, run_mask(run));
	return ret < 0 ? err_set(err, -ret, "queue signal %d of thread %d again", signo, tid) : 0;
}

/* The entry stop of the call that would send the closing signal: that call is left out. */
static int leave_steps(struct remote *r, struct run *run, struct err *err)
{
	int ret;

	arch_inject.skip_call(run->regs);
	ret = task_set_regs(run->task->tid, run->regs);
	if (ret < 0)
		return err_set(err, -ret, "set registers of thread %d", run->task->tid);
	return run_to_trap(r, run->task, 0, err);
}

static int healed(struct run *run, struct err *err)
{
	run->task->altered = false;
	return err_fail(err, EPROTO, ERR_UNSUPPORTED,
			"thread %d could not be stopped after an injected run: it went on by "
			"itself, unharmed",
			run->task->tid);
}

/* A stop that is not the closing one. 1 when it ends the run. */
static int other_stop(struct remote *r, struct run *run, const struct stop *s, struct err *err)
{
	uint64_t code = run->stopped_pc & ~255ull, pc;
	int ret = task_regs(run->task->tid, run->regs);

	if (ret < 0)
		return gone(run->task, err);
	pc = pc_of(run->regs);
	if (pc < code || pc >= code + 256)
		return healed(run, err);
	if (s->kind == STOP_SIGNAL)
		return requeue(r, run, s->signo, err);
	if (s->kind == STOP_SYSCALL && pc == run->stopped_pc) {
		ret = leave_steps(r, run, err);
		return ret < 0 ? ret : 1;
	}
	return 0;
}

static int run_start(struct run *run, struct err *err)
{
	int ret = run_enter(run->task, run->regs, run_mask(run), err);

	if (ret == 0)
		ret = resume(run->task, run->step ? PTRACE_SYSCALL : PTRACE_CONT, 0, err);
	if (FAULT("target.batch_resumed"))
		return err_set(err, EIO, "fault injected at target.batch_resumed");
	return ret;
}

/*
 * The stop of the closing signal is left for one of no signal. Should we die in it when the true
 * mask is back, the kernel goes on with that signal, and a thread that blocks it would have it
 * pending for ever. One that does not block it ignores it.
 */
static int leave_signal(struct remote *r, struct run *run, struct err *err)
{
	struct task *task = run->task;
	struct stop s;
	int ret;

	if (!(task->sigmask & BIT(run->signo)))
		return 0;
	if (ptrace(PTRACE_INTERRUPT, task->tid, 0, 0) < 0)
		return gone(task, err);
	ret = resume(task, PTRACE_CONT, 0, err);
	if (ret == 0)
		ret = wait_stop(r, task, &s, err);
	/* The trap comes first; should it not, the signal is somebody else's. */
	if (ret == 0 && s.kind == STOP_SIGNAL)
		ret = requeue(r, run, s.signo, err);
	return ret < 0 ? ret : 0;
}

/* Up to the closing signal, after which the thread stands in a stop. */
static int run_finish(struct remote *r, struct run *run, struct err *err)
{
	struct stop s;
	int ret;

	for (unsigned i = 0; i < MAX_STOPS + 4 * BATCH_CALLS; i++) {
		ret = wait_stop(r, run->task, &s, err);
		if (ret < 0)
			return ret;
		if (s.kind == STOP_SIGNAL && s.signo == run->signo && is_ours(run->task))
			return leave_signal(r, run, err);
		ret = other_stop(r, run, &s, err);
		if (ret)
			return ret < 0 ? ret : 0;
		ret = resume(run->task, run->step ? PTRACE_SYSCALL : PTRACE_CONT, 0, err);
		if (ret < 0)
			return ret;
	}
	return err_set(err, EAGAIN, "thread %d stops for something else all the time",
		       run->task->tid);
}

size_t run_boot_control(const struct remote *r, struct task *task, void *control)
{
	struct run run = {.no_signo = r->caught, .task = task};

	choose_signal(&run);
	return fill_control(r, 0, task, run.signo, control);
}

int run_boot(struct remote *r, struct task *task, uint64_t nr, const uint64_t args[6],
	     int64_t *ret_value, struct err *err)
{
	struct run run;
	int ret;

	run_init(&run, r, task, 0);
	arch_inject.set_boot(run.regs, slot_code(r, 0), slot_control(r, 0), nr, args, run.signo);
	r->runs++;
	ret = run_start(&run, err);
	if (ret == 0)
		ret = run_finish(r, &run, err);
	if (ret == 0 && task_regs(task->tid, run.regs) < 0)
		ret = gone(task, err);
	if (ret == 0)
		*ret_value = arch_inject.boot_ret(run.regs);
	return ret;
}

/* --- a batch in each of several threads ------------------------------------------------------- */

/* The guardian has one thread. A control block may be shorter than the longest. */
static uint8_t controls[REMOTE_SLOTS * ARCH_CONTROL_MAX];
static struct run runs[REMOTE_SLOTS];

static uint8_t *control_of(unsigned slot)
{
	return controls + slot * ((arch_inject.control_len + 63) & ~(size_t)63);
}

void remote_ready(unsigned n)
{
	n = n < REMOTE_SLOTS ? n : REMOTE_SLOTS;
	memset(controls, 0, (size_t)(control_of(n) - controls));
	memset(runs, 0, n * sizeof(runs[0]));
}

/* Control blocks, calls and buffers go in, calls and buffers come out. */
static int transfer(struct remote *r, struct batch *b, unsigned n, bool in, struct err *err)
{
	struct iovec here[PARCEL_HERE], there[2 * REMOTE_SLOTS + 1];
	struct parcel p = {.here = here, .there = there};
	ssize_t done;

	for (unsigned i = 0; i < n; i++) {
		if (in)
			parcel_add(&p, control_of(i), slot_control(r, i), runs[i].control_len);
		parcel_add(&p, b[i].calls, b[i].calls_addr, b[i].ncalls * sizeof(b[i].calls[0]));
		parcel_add(&p, b[i].data, b[i].data_addr, b[i].ndata);
	}
	done = in ? process_vm_writev(r->proc->pid, here, p.nhere, there, p.nthere, 0)
		  : process_vm_readv(r->proc->pid, here, p.nhere, there, p.nthere, 0);
	if (done == (ssize_t)p.len)
		return 0;
	return err_set(err, done < 0 ? errno : EIO, "%s a batch of process %d",
		       in ? "write" : "read", r->proc->pid);
}

static int run_prepare(struct remote *r, struct run *run, unsigned slot, struct task *task,
		       const struct batch *b, struct err *err)
{
	if (task->state != TASK_STOPPED)
		return gone(task, err);
	run_init(run, r, task, slot);
	run->control_len = fill_control(r, slot, task, run->signo, control_of(slot));
	arch_inject.set_run(run->regs, slot_code(r, slot), slot_control(r, slot), b->calls_addr,
			    b->ncalls, run->signo);
	return run_sleep_seccomp(r, task, err);
}

int remote_run(struct remote *r, struct task *const *tasks, struct batch *batches, unsigned n,
	       struct err *err)
{
	unsigned started = 0;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < n; i++)
		ret = run_prepare(r, &runs[i], i, tasks[i], &batches[i], err);
	if (ret == 0)
		ret = transfer(r, batches, n, true, err);
	while (ret == 0 && started < n)
		ret = run_start(&runs[started++], err);
	/* The last one first: when it is done the others are, as a rule. */
	for (unsigned i = started; i-- > 0;) {
		int one = run_finish(r, &runs[i], err);

		if (one < 0)
			run_retreat(r, tasks[i]);
		else
			remote_undo(tasks[i]);
		ret = ret < 0 ? ret : one;
		r->runs++;
		r->calls += batches[i].ncalls;
	}
	return ret < 0 ? ret : transfer(r, batches, n, false, err);
}
