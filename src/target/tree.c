/* SPDX-License-Identifier: MIT */
/* The guardian's list of threads and processes, and how a thread's stop is read. */
#include "src/target/tree.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "src/target/remote.h"

enum { MAX_TASKS = 1 << 18 /* address space, not memory */ };

uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
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
	t->options = TREE_OPTIONS;
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

static void free_lost(struct tree *t)
{
	for (uint32_t i = 0; i < t->ntasks; i++)
		lost_drop(&t->tasks[i]);
}

void tree_deinit(struct tree *t)
{
	free_lost(t);
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

void tree_reset(struct tree *t)
{
	free_lost(t);
	idmap_deinit(&t->by_tid);
	idmap_deinit(&t->by_pid);
	t->ntasks = t->nprocs = 0;
	t->nlive = t->nlive_procs = 0;
	t->freeze_begin_ns = t->frozen_ns = t->thaw_end_ns = 0;
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

int tree_add_proc(struct tree *t, pid_t pid, uint32_t *ret_index)
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

int tree_add_task(struct tree *t, uint32_t proc, pid_t tid)
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

static bool tool_is_gone(const struct tree *t)
{
	struct pollfd fd = {.fd = t->stop_fd, .events = POLLRDHUP};

	return t->stop_fd >= 0 && poll(&fd, 1, 0) > 0;
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

void tree_wait_child(struct tree *t, int ms)
{
	wait_fds(t, -1, ms);
}

static void alarm_rings(int signo)
{
}

void tree_wait_one(struct tree *t)
{
	struct sigaction sa = {.sa_handler = alarm_rings};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};

	t->wait_one = sigaction(SIGALRM, &sa, NULL) == 0 &&
		      timer_create(CLOCK_MONOTONIC, &ev, &t->alarm) == 0;
}

/* It rings again: the first time may be before the wait has begun. */
static void set_alarm(const struct tree *t, int ms)
{
	const struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
	const struct itimerspec it = {ts, ts};

	timer_settime(t->alarm, 0, &it, NULL);
}

int tree_wait_task(struct tree *t, const struct task *task, int ms, bool tool)
{
	siginfo_t info;
	int ret;

	if (!t->wait_one)
		return wait_fds(t, tool ? t->stop_fd : -1, ms);
	set_alarm(t, ms);
	ret = waitid(P_PID, (id_t)task->tid, &info, WSTOPPED | WEXITED | WNOWAIT | __WALL);
	if (ret < 0)
		ret = -errno;
	set_alarm(t, 0);
	/* ECHILD: nobody's to wait for, which task_poll() understands. */
	if (ret != -EINTR)
		return 0;
	return tool && tool_is_gone(t) ? -EINTR : -ETIMEDOUT;
}
