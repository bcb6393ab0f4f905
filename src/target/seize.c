/* SPDX-License-Identifier: MIT */
/* Stopping a process tree and letting it go. */
#include <dirent.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "src/target/gather.h"
#include "src/target/procfs.h"
#include "src/target/remote.h"
#include "src/target/target.h"
#include "src/target/tree.h"

enum {
	MAX_TASKS = 1 << 18, /* address space, not memory */
	LAST_WAIT_MS = 200,
	TICK_MS = 20, /* without progress: look for threads that wait for their vfork child */
};

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void *reserve(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int tree_init(struct tree *t, pid_t root, struct err *err)
{
	sigset_t chld;

	memset(t, 0, sizeof(*t));
	t->root = root;
	t->wake_fd = t->stop_fd = -1;
	t->tasks = reserve(MAX_TASKS * sizeof(*t->tasks));
	t->procs = reserve(MAX_TASKS * sizeof(*t->procs));
	t->order = reserve(MAX_TASKS * sizeof(*t->order));
	t->text = reserve(TREE_TEXT);
	if (!t->tasks || !t->procs || !t->order || !t->text) {
		tree_deinit(t);
		return err_set(err, ENOMEM, "reserve address space for the list of threads");
	}
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	t->wake_fd = signalfd(-1, &chld, SFD_NONBLOCK | SFD_CLOEXEC);
	if (t->wake_fd < 0) {
		int errnum = errno;

		tree_deinit(t);
		return err_set(err, errnum, "signalfd");
	}
	return 0;
}

void tree_deinit(struct tree *t)
{
	if (t->tasks)
		munmap(t->tasks, MAX_TASKS * sizeof(*t->tasks));
	if (t->procs)
		munmap(t->procs, MAX_TASKS * sizeof(*t->procs));
	if (t->order)
		munmap(t->order, MAX_TASKS * sizeof(*t->order));
	if (t->text)
		munmap(t->text, TREE_TEXT);
	if (t->wake_fd >= 0)
		close(t->wake_fd);
	idmap_deinit(&t->by_tid);
	idmap_deinit(&t->by_pid);
	memset(t, 0, sizeof(*t));
	t->wake_fd = t->stop_fd = -1;
}

struct task *tree_task(struct tree *t, pid_t tid)
{
	size_t pos = idmap_start(&t->by_tid, (uint64_t)tid);
	uint32_t i;

	/* A tid may have been used again: the one that is not gone. */
	while (idmap_next(&t->by_tid, (uint64_t)tid, &pos, &i))
		if (t->tasks[i].state != TASK_GONE)
			return &t->tasks[i];
	return NULL;
}

struct proc *tree_proc(struct tree *t, pid_t pid)
{
	size_t pos = idmap_start(&t->by_pid, (uint64_t)pid);
	uint32_t i;

	while (idmap_next(&t->by_pid, (uint64_t)pid, &pos, &i))
		if (t->procs[i].state != PROC_GONE)
			return &t->procs[i];
	return NULL;
}

/* --- stops ------------------------------------------------------------------------------------ */

static struct stop decode(int status)
{
	int signo = status & 0xff, event = status >> 8;

	if (event == PTRACE_EVENT_STOP)
		return (struct stop){
			.kind = signo == SIGTRAP ? STOP_TRAP : STOP_GROUP,
			.signo = signo == SIGTRAP ? 0 : signo,
		};
	if (event)
		return (struct stop){.kind = STOP_EVENT, .event = event};
	if (signo == (SIGTRAP | 0x80))
		return (struct stop){.kind = STOP_SYSCALL};
	return (struct stop){.kind = STOP_SIGNAL, .signo = signo};
}

struct stop task_poll(struct task *task)
{
	siginfo_t info = {0};
	int ret;

	do {
		ret = waitid(P_PID, (id_t)task->tid, &info,
			     WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL);
	} while (ret < 0 && errno == EINTR);
	/* ECHILD: not traced by us any more: merged by another thread's exec, or reaped. */
	if (ret < 0)
		return (struct stop){.kind = STOP_DEAD};
	if (!info.si_pid)
		return (struct stop){.kind = STOP_NONE};
	if (info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED)
		return decode(info.si_status);
	/* Reaping hands a dead process over to its own parent. */
	waitid(P_PID, (id_t)task->tid, &info, WEXITED | WNOHANG | __WALL);
	return (struct stop){.kind = STOP_DEAD, .status = info.si_status};
}

static int wait_fds(struct tree *t, int stop_fd, int ms)
{
	struct pollfd fds[2] = {
		{.fd = t->wake_fd, .events = POLLIN},
		{.fd = stop_fd, .events = POLLRDHUP},
	};
	struct signalfd_siginfo drop;
	int n = poll(fds, 2, ms);

	if (n == 0)
		return -ETIMEDOUT;
	if (n > 0 && fds[1].revents)
		return -EINTR;
	/* SIGCHLD does not queue: there is at most one to read. */
	if (n > 0 && fds[0].revents && read(t->wake_fd, &drop, sizeof(drop)) < 0)
		errno = 0;
	return 0;
}

int tree_wait(struct tree *t, int ms)
{
	return wait_fds(t, t->stop_fd, ms);
}

void tree_wait_child(struct tree *t, int ms)
{
	wait_fds(t, -1, ms);
}

/* --- finding the tasks ------------------------------------------------------------------------ */

static int add_proc(struct tree *t, pid_t pid, uint32_t *ret_index)
{
	int ret;

	if (t->nprocs == MAX_TASKS)
		return -ENOMEM;
	ret = idmap_put(&t->by_pid, (uint64_t)pid, t->nprocs);
	if (ret < 0)
		return ret;
	t->procs[t->nprocs] = (struct proc){.pid = pid, .state = PROC_LIVE};
	*ret_index = t->nprocs++;
	return 0;
}

static int add_task(struct tree *t, uint32_t proc, pid_t tid)
{
	int ret;

	if (t->ntasks == MAX_TASKS)
		return -ENOMEM;
	ret = idmap_put(&t->by_tid, (uint64_t)tid, t->ntasks);
	if (ret < 0)
		return ret;
	t->tasks[t->ntasks++] = (struct task){.tid = tid, .proc = proc, .state = TASK_RUNNING};
	return 0;
}

/* Why PTRACE_SEIZE said EPERM: 0 when the task is to be passed over. */
static int seize_refused(struct tree *t, uint32_t proc, pid_t tid, struct err *err)
{
	struct proc *p = &t->procs[proc];
	struct procfs_status st;
	char text[4096];

	if (procfs_status(tid, text, sizeof(text), &st) < 0)
		return 0;
	if (st.state == 'Z' || st.state == 'X') {
		if (tid == p->pid)
			p->headless = true;
		return 0;
	}
	if (st.tracer == getpid())
		return add_task(t, proc, tid);
	if (st.tracer) {
		struct procfs_stat tr = {0};

		procfs_stat(st.tracer, 0, &tr);
		err_fail(err, EPERM, ERR_TRACED,
			 "thread %d of process %d is traced by process %d (%s)", tid, p->pid,
			 st.tracer, tr.comm);
		err_hint(err, "end or detach the tracer (kill %d, or `detach` in it) and try again",
			 st.tracer);
		return -EPERM;
	}
	err_fail(err, EPERM, ERR_PERM, "no permission to trace thread %d of process %d, uid %u",
		 tid, p->pid, st.uid[0]);
	err_hint(err, "run as root or with CAP_SYS_PTRACE");
	return -EPERM;
}

static int seize(struct tree *t, uint32_t proc, pid_t tid, struct err *err)
{
	int ret;

	if (ptrace(PTRACE_SEIZE, tid, 0, TREE_OPTIONS) == 0) {
		ret = add_task(t, proc, tid);
		if (ret < 0)
			return err_set(err, -ret, "note thread %d", tid);
		/* ESRCH: it is exiting, wait4 will say so. */
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
		return 0;
	}
	if (errno == ESRCH)
		return 0;
	if (errno == EPERM)
		return seize_refused(t, proc, tid, err);
	return err_set(err, errno, "seize thread %d of process %d", tid, t->procs[proc].pid);
}

static int scan_threads(struct tree *t, uint32_t proc, struct err *err)
{
	pid_t pid = t->procs[proc].pid;
	cleanup_dir DIR *dir = NULL;
	struct dirent *de;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT || errno == ESRCH
			       ? 0
			       : err_set(err, errno, "list threads of process %d", pid);
	while ((de = readdir(dir))) {
		const char *p = de->d_name;
		uint64_t tid;
		int ret;

		if (!procfs_dec(&p, &tid) || tree_task(t, (pid_t)tid))
			continue;
		ret = seize(t, proc, (pid_t)tid, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int note_child(struct tree *t, pid_t pid, struct err *err)
{
	uint32_t i;
	int ret;

	if (tree_proc(t, pid))
		return 0;
	ret = add_proc(t, pid, &i);
	return ret < 0 ? err_set(err, -ret, "note process %d", pid) : 0;
}

/* -ENOENT when the kernel has no such file (CONFIG_PROC_CHILDREN). */
static int scan_children(struct tree *t, pid_t pid, pid_t tid, struct err *err)
{
	const char *p = t->text;
	uint64_t child;
	ssize_t n;

	n = procfs_read(t->text, TREE_TEXT, "/proc/%d/task/%d/children", pid, tid);
	if (n < 0)
		return n == -ENOENT ? -ENOENT : 0;
	while (procfs_dec(&p, &child)) {
		int ret = note_child(t, (pid_t)child, err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Without the children files: everybody's parent, until no new child turns up. */
static int scan_everybody(struct tree *t, struct err *err)
{
	cleanup_dir DIR *dir = opendir("/proc");
	uint32_t before;

	if (!dir)
		return err_set(err, errno, "list /proc");
	do {
		struct dirent *de;

		before = t->nprocs;
		rewinddir(dir);
		while ((de = readdir(dir))) {
			const char *p = de->d_name;
			struct procfs_stat st;
			uint64_t pid;
			int ret;

			if (!procfs_dec(&p, &pid) || tree_proc(t, (pid_t)pid) ||
			    procfs_stat((pid_t)pid, 0, &st) < 0 || !tree_proc(t, st.ppid))
				continue;
			ret = note_child(t, (pid_t)pid, err);
			if (ret < 0)
				return ret;
		}
	} while (t->nprocs != before);
	return 0;
}

/* One look at everything known; what is new is seized and looked at in the same pass. */
static int scan(struct tree *t, struct err *err)
{
	bool everybody = access("/proc/thread-self/children", R_OK) < 0;
	uint32_t next_task = 0;
	int ret;

	for (uint32_t i = 0; i < t->nprocs; i++) {
		if (t->procs[i].state != PROC_LIVE)
			continue;
		ret = scan_threads(t, i, err);
		if (ret < 0)
			return ret;
		/* After seizing: a child born from now on is reported by its parent. */
		for (; !everybody && next_task < t->ntasks; next_task++) {
			struct task *task = &t->tasks[next_task];

			if (task->state == TASK_GONE)
				continue;
			ret = scan_children(t, t->procs[task->proc].pid, task->tid, err);
			if (ret < 0 && ret != -ENOENT)
				return ret;
		}
		if (everybody && i + 1 == t->nprocs) {
			ret = scan_everybody(t, err);
			if (ret < 0)
				return ret;
		}
	}
	return 0;
}

/* --- waiting for the stops -------------------------------------------------------------------- */

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
	ret = note_child(t, st.tgid, err);
	if (ret < 0)
		return ret;
	proc = (uint32_t)(tree_proc(t, st.tgid) - t->procs);
	ret = add_task(t, proc, (pid_t)msg);
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
		/* The one that exec left behind may have been asked under another tid. */
		ptrace(PTRACE_INTERRUPT, task->tid, 0, 0);
		break;
	case STOP_SIGNAL:
	case STOP_SYSCALL:
		break;
	}
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
		      "file system); try again later or with a longer --timeout");
	return -ETIMEDOUT;
}

/* Until every task that is known stands still. */
static int wait_all(struct tree *t, uint64_t deadline, struct err *err)
{
	uint64_t swept = now_ns();

	for (uint32_t i = 0; i < t->ntasks;) {
		struct task *task = &t->tasks[i];
		uint64_t now;
		int ret;

		if (task->state != TASK_RUNNING) {
			i++;
			continue;
		}
		ret = advance(t, task, err);
		if (ret < 0)
			return ret;
		if (task->state != TASK_RUNNING)
			continue;
		ret = tree_wait(t, TICK_MS);
		if (ret == -EINTR)
			return err_fail(err, EINTR, ERR_INTERRUPTED, "the tool is gone");
		now = now_ns();
		if (now >= deadline)
			return wait_timeout(t, task, err);
		if (ret == -ETIMEDOUT)
			help_vfork(t);
		if (now - swept > 2000000) {
			ret = sweep(t, err);
			if (ret < 0)
				return ret;
			swept = now;
		}
	}
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

/* The threads of each process side by side, the leader first, the others as they were found. */
static void order_tasks(struct tree *t)
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

static int freeze_loop(struct tree *t, uint64_t deadline, struct err *err)
{
	uint32_t ntasks, nprocs, stopped;
	int ret;

	do {
		ntasks = t->ntasks;
		nprocs = t->nprocs;
		ret = scan(t, err);
		if (ret == 0)
			ret = wait_all(t, deadline, err);
		/* A thread that nobody had seized may have called exec and become a known one. */
		if (ret == 0)
			ret = sweep(t, err);
		if (ret < 0)
			return ret;
		stopped = 0;
		for (uint32_t i = 0; i < t->ntasks; i++)
			stopped += t->tasks[i].state == TASK_RUNNING;
		if (now_ns() >= deadline)
			return err_fail(
				err, ETIMEDOUT, ERR_TIMEOUT,
				"process %d makes new threads and children faster than they "
				"can be stopped: gave up after %u ms",
				t->root, t->timeout_ms);
	} while (t->ntasks != ntasks || t->nprocs != nprocs || stopped);
	return 0;
}

int tree_freeze(struct tree *t, struct err *err)
{
	uint32_t root;
	int ret;

	t->freeze_begin_ns = now_ns();
	ret = add_proc(t, t->root, &root);
	if (ret < 0)
		return err_set(err, -ret, "note process %d", t->root);
	ret = freeze_loop(t, t->freeze_begin_ns + t->timeout_ms * 1000000ull, err);
	if (ret < 0)
		return ret;
	if (FAULT("target.frozen"))
		return err_set(err, EIO, "fault injected at target.frozen");
	settle_procs(t);
	order_tasks(t);
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

void tree_thaw(struct tree *t, int end)
{
	await_running(t);
	for (uint32_t i = 0; i < t->ntasks; i++) {
		struct task *task = &t->tasks[i];

		if (task->state != TASK_STOPPED)
			continue;
		look_at(task);
		if (task->altered)
			remote_undo(task);
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
