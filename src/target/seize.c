/* SPDX-License-Identifier: MIT */
/* Stopping a process tree and letting it go. */
#include <errno.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "src/target/gather.h"
#include "src/target/procfs.h"
#include "src/target/recall.h"
#include "src/target/remote.h"
#include "src/target/target.h"
#include "src/target/tree.h"

enum {
	LAST_WAIT_MS = 200,
	TICK_MS = 2,  /* of waiting for one: look at the others */
	IDLE_MS = 20, /* without progress: look for threads that wait for their vfork child */
};

/* A fork, clone or exec on the way to the stop. The newcomer is attached already. */
static int note_event(struct tree *t, struct task *task, int event, struct err *err)
{
	unsigned long msg = 0;
	struct procfs_status st;
	uint32_t proc;
	int ret;

	if (event != PTRACE_EVENT_FORK && event != PTRACE_EVENT_VFORK &&
	    event != PTRACE_EVENT_CLONE)
		return 0;
	if (ptrace(PTRACE_GETEVENTMSG, task->tid, 0, &msg) < 0 || tree_task(t, (pid_t)msg))
		return 0;
	if (procfs_status((pid_t)msg, t->text, TREE_TEXT, &st) < 0)
		return 0;
	ret = tree_note_child(t, st.tgid, err);
	if (ret < 0)
		return ret;
	proc = (uint32_t)(tree_proc(t, st.tgid) - t->procs);
	ret = tree_add_task(t, proc, (pid_t)msg);
	return ret < 0 ? err_set(err, -ret, "note thread %d", (pid_t)msg) : 0;
}

/* Brings @task on towards its stop. 0 when it runs yet, 1 when it has stopped or gone. */
static int advance(struct tree *t, struct task *task, struct err *err)
{
	struct stop s = task_poll(task);
	int ret = 0;

	switch (s.kind) {
	case STOP_NONE:
		return 0;
	case STOP_TRAP:
	case STOP_GROUP:
		task->state = TASK_STOPPED;
		task->stop_signo = s.signo;
		return 1;
	case STOP_DEAD:
		task->state = TASK_GONE;
		return 1;
	case STOP_EVENT:
		ret = note_event(t, task, s.event, err);
		break;
	case STOP_SIGNAL:
	case STOP_SYSCALL:
		break;
	}
	/* Whatever it stopped for has taken our question with it, as exec does under way. */
	ptrace(PTRACE_INTERRUPT, task->tid, 0, 0);
	/* The signal goes on with its own siginfo; it dies with us only if we die inside this call.
	 */
	ptrace(PTRACE_CONT, task->tid, 0, s.kind == STOP_SIGNAL ? s.signo : 0);
	return ret;
}

/*
 * Everybody once: exec waits until the threads it killed are reaped, whoever we are waiting for.
 */
static int sweep(struct tree *t, struct err *err)
{
	for (uint32_t i = 0; i < t->ntasks; i++) {
		struct task *task = &t->tasks[i];
		struct stop s;
		int ret;

		if (task->state == TASK_RUNNING) {
			ret = advance(t, task, err);
			if (ret < 0)
				return ret;
		} else if (task->state == TASK_STOPPED) {
			s = task_poll(task);
			if (s.kind == STOP_DEAD)
				task->state = TASK_GONE;
			else if (s.kind != STOP_TRAP && s.kind != STOP_GROUP &&
				 s.kind != STOP_SIGNAL)
				task->state = TASK_RUNNING;
		}
	}
	return 0;
}

static bool same_vm(pid_t a, pid_t b)
{
	return syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0) == 0;
}

/*
 * A thread in vfork() does not stop before its child has called exec or exit, and that child may be
 * one that we have stopped: it is let run for a tick, stopped, let run again.
 */
static void help_vfork(struct tree *t)
{
	for (uint32_t i = 0; i < t->ntasks; i++) {
		struct task *child = &t->tasks[i];
		struct task *parent;
		struct procfs_stat st;

		if (child->state == TASK_RUNNING && child->loose) {
			child->loose = false;
			ptrace(PTRACE_INTERRUPT, child->tid, 0, 0);
			continue;
		}
		if (child->state != TASK_STOPPED || child->stop_signo ||
		    child->tid != t->procs[child->proc].pid)
			continue;
		if (procfs_stat(child->tid, 0, &st) < 0 || !tree_proc(t, st.ppid))
			continue;
		parent = tree_task(t, st.ppid);
		if (!parent || !same_vm(child->tid, st.ppid))
			continue;
		child->state = TASK_RUNNING;
		child->loose = true;
		ptrace(PTRACE_CONT, child->tid, 0, 0);
	}
}

static int wait_timeout(struct tree *t, const struct task *task, struct err *err)
{
	pid_t pid = t->procs[task->proc].pid;
	struct procfs_stat st = {.state = '?'};
	char wchan[64] = "";

	procfs_stat(pid, task->tid, &st);
	procfs_read(wchan, sizeof(wchan), "/proc/%d/task/%d/wchan", pid, task->tid);
	err_fail(
		err, ETIMEDOUT, ERR_TIMEOUT,
		"thread %d of process %d (%s) did not stop within %u ms: state %c, in the kernel at %s",
		task->tid, pid, st.comm, t->timeout_ms, st.state, wchan[0] ? wchan : "?");
	err_hint(err, "it waits where signals cannot reach it (vfork, a dead disk or network "
		      "file system); try again later or with a longer --freeze-timeout");
	return -ETIMEDOUT;
}

/* What is to be done while nothing happens. */
static int wait_tick(struct tree *t, unsigned *idle_ms, struct err *err)
{
	*idle_ms += TICK_MS;
	if (*idle_ms >= IDLE_MS) {
		*idle_ms = 0;
		help_vfork(t);
	}
	return sweep(t, err);
}

static int wait_task(struct tree *t, struct task *task, uint64_t deadline, struct err *err)
{
	unsigned idle_ms = 0;

	for (;;) {
		uint64_t now = now_ns();
		int ret = advance(t, task, err);

		if (ret < 0 || task->state != TASK_RUNNING)
			return ret < 0 ? ret : 0;
		/* Late only if it still runs now: we may have been without a CPU ourselves. */
		if (now >= deadline)
			return wait_timeout(t, task, err);
		ret = tree_wait_task(t, task, TICK_MS, true);
		if (ret == -EINTR)
			return err_fail(err, EINTR, ERR_INTERRUPTED, "the tool is gone");
		if (ret == -ETIMEDOUT)
			ret = wait_tick(t, &idle_ms, err);
		if (ret < 0)
			return ret;
	}
}

/*
 * Until every task that is known stands still. The last one that was asked to stop does so last, as
 * a rule: when it has, there is nobody left to wait for.
 */
static int wait_all(struct tree *t, uint64_t deadline, struct err *err)
{
	uint32_t n;

	do {
		n = t->ntasks;
		for (uint32_t i = n; i > 0; i--) {
			struct task *task = &t->tasks[i - 1];
			int ret =
				task->state == TASK_RUNNING ? wait_task(t, task, deadline, err) : 0;

			if (ret < 0)
				return ret;
		}
	} while (t->ntasks != n);
	return 0;
}

/* --- freeze and thaw -------------------------------------------------------------------------- */

/* A process without a thread of ours is a zombie or gone. */
static void settle_procs(struct tree *t)
{
	for (uint32_t i = 0; i < t->nprocs; i++)
		t->procs[i].ntasks = 0;
	for (uint32_t i = 0; i < t->ntasks; i++)
		if (t->tasks[i].state == TASK_STOPPED)
			t->procs[t->tasks[i].proc].ntasks++;
	for (uint32_t i = 0; i < t->nprocs; i++) {
		struct proc *p = &t->procs[i];
		struct procfs_stat st;

		if (p->state != PROC_LIVE || p->ntasks)
			continue;
		p->state = procfs_stat(p->pid, 0, &st) == 0 && st.state == 'Z' ? PROC_ZOMBIE
									       : PROC_GONE;
	}
}

void tree_order(struct tree *t)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < t->nprocs; i++) {
		t->procs[i].first = sum;
		sum += t->procs[i].ntasks;
		t->procs[i].ntasks = 0;
	}
	for (uint32_t i = 0; i < t->ntasks; i++) {
		struct task *task = &t->tasks[i];
		struct proc *p = &t->procs[task->proc];
		uint32_t *o = t->order + p->first;

		if (task->state != TASK_STOPPED)
			continue;
		o[p->ntasks++] = i;
		if (task->tid == p->pid) {
			o[p->ntasks - 1] = o[0];
			o[0] = i;
		}
	}
}

static uint32_t count_gone(const struct tree *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->ntasks; i++)
		n += t->tasks[i].state == TASK_GONE;
	return n;
}

/* Of the first @n, which all stood still. */
static bool any_stirred(const struct tree *t, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (t->tasks[i].state == TASK_RUNNING)
			return true;
	return false;
}

/*
 * One pass: 1 when something new turned up, so that another one is due. So it is when a thread
 * ended meanwhile, of a process of which we cannot tell whether we have all: the kernel's list of
 * threads stops at one that does, whatever follows (next_tid() in fs/proc/base.c).
 */
static int freeze_pass(struct tree *t, uint64_t deadline, struct err *err)
{
	uint32_t gone = count_gone(t), stopped_gone, ntasks, nprocs;
	int ret, whole;

	t->missed = false;
	ret = tree_scan(t, err);
	if (ret == 0)
		ret = wait_all(t, deadline, err);
	if (ret < 0)
		return ret;
	ntasks = t->ntasks;
	nprocs = t->nprocs;
	stopped_gone = count_gone(t);
	ret = whole = tree_look(t, err);
	/*
	 * A thread that nobody had seized may have called exec and become a known one: only if
	 * those that were counted still stand there they are the ones that were.
	 */
	if (ret >= 0)
		ret = sweep(t, err);
	if (ret < 0)
		return ret;
	if (any_stirred(t, ntasks) || count_gone(t) != stopped_gone) {
		for (uint32_t i = 0; i < t->nprocs; i++)
			t->procs[i].whole = false;
		return 1;
	}
	if (t->ntasks != ntasks || t->nprocs != nprocs)
		return 1;
	return !whole && (t->missed || count_gone(t) != gone);
}

static int freeze_loop(struct tree *t, uint64_t deadline, struct err *err)
{
	int ret;

	while ((ret = freeze_pass(t, deadline, err)) > 0)
		if (now_ns() >= deadline)
			return err_fail(
				err, ETIMEDOUT, ERR_TIMEOUT,
				"process %d makes new threads and children faster than they "
				"can be stopped: gave up after %u ms",
				t->root, t->timeout_ms);
	return ret;
}

int tree_freeze(struct tree *t, struct err *err)
{
	uint32_t root;
	int ret;

	t->freeze_begin_ns = now_ns();
	ret = tree_add_proc(t, t->root, &root);
	if (ret < 0)
		return err_set(err, -ret, "note process %d", t->root);
	ret = freeze_loop(t, t->freeze_begin_ns + t->timeout_ms * 1000000ull, err);
	if (ret < 0)
		return ret;
	if (FAULT("target.frozen"))
		return err_set(err, EIO, "fault injected at target.frozen");
	settle_procs(t);
	tree_order(t);
	if (t->procs[root].state != PROC_LIVE)
		return err_fail(err, ESRCH, ERR_TARGET_GONE,
				"process %d exited before it could be stopped", t->root);
	for (uint32_t i = 0; i < t->nprocs; i++) {
		t->nlive_procs += t->procs[i].state == PROC_LIVE;
		t->nlive += t->procs[i].ntasks;
	}
	t->frozen_ns = now_ns();
	return 0;
}

void tree_reap(struct tree *t)
{
	struct err drop = {0};

	sweep(t, &drop);
}

/* Those that were asked to stop and have not yet: a moment more, then they can be put right. */
static void await_running(struct tree *t)
{
	uint64_t end = now_ns() + LAST_WAIT_MS * 1000000ull;
	struct err drop = {0};

	for (uint32_t i = 0; i < t->ntasks && now_ns() < end;) {
		struct task *task = &t->tasks[i];

		if (task->state != TASK_RUNNING) {
			i++;
			continue;
		}
		if (advance(t, task, &drop) < 0)
			return;
		if (task->state == TASK_RUNNING)
			tree_wait_child(t, 1);
	}
}

/* A thread that nobody has looked at yet: what it was waiting for. */
static void look_at(struct task *task)
{
	struct err drop = {0};

	if (!task->known && remote_save(task, &drop) == 0)
		threads_wait_again(task);
}

/* Who stops it once more is to see what its sleep was asked for with. */
static void keep_args(const struct task *task)
{
	uint8_t regs[ARCH_PRSTATUS_MAX];

	if (arch_inject.keep_args && task_regs(task->tid, regs) == 0 && arch_inject.keep_args(regs))
		task_set_regs(task->tid, regs);
}

void tree_thaw(struct tree *t, int end)
{
	await_running(t);
	for (uint32_t i = 0; i < t->ntasks; i++) {
		struct task *task = &t->tasks[i];

		if (task->state != TASK_STOPPED)
			continue;
		look_at(task);
		threads_wait_over(task);
		if (task->altered)
			remote_undo(task);
		if (end != TARGET_KILL)
			recall_again(t, task);
		keep_args(task);
	}
	for (uint32_t i = 0; i < t->nprocs && end != TARGET_RUN; i++)
		if (t->procs[i].state == PROC_LIVE)
			kill(t->procs[i].pid, end == TARGET_KILL ? SIGKILL : SIGSTOP);
	for (uint32_t i = 0; i < t->ntasks; i++) {
		struct task *task = &t->tasks[i];

		if (task->state != TASK_STOPPED)
			continue;
		if (ptrace(PTRACE_DETACH, task->tid, 0, 0) == 0)
			task->state = TASK_GONE;
	}
	/* Killed ones: their parents hear of it when we have reaped them. */
	for (uint32_t i = 0; i < t->ntasks; i++)
		if (t->tasks[i].state != TASK_GONE && task_poll(&t->tasks[i]).kind == STOP_DEAD)
			t->tasks[i].state = TASK_GONE;
	t->thaw_end_ns = now_ns();
}
