/* SPDX-License-Identifier: MIT */
/* What /proc and plain system calls tell of one thread. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/collect.h"
#include "src/target/procfs.h"
#include "src/target/ready.h"

/* Linux 3.14; no header of ours has it. */
struct sched_attr_v1 {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max; /* Linux 5.3, CONFIG_UCLAMP_TASK; else 0 */
};

enum { POLICY_DEADLINE = 6, FLAG_RESET_ON_FORK = 1 };

enum { TEXT = 16 << 10, TEXT_MAX = 2 << 20 /* 65536 groups */ };

static int thread_fail(const struct m_proc *p, const struct m_thread *t, int error,
		       const char *what, struct err *err)
{
	return err_set(err, error == -ENOENT ? ESRCH : -error, "%s of thread %u of pid %u", what,
		       t->tid, p->pid);
}

/* --- looking: on any thread, without the model ------------------------------------------------ */

static int look_fail(struct thread_look *l, int error, const char *what)
{
	l->error = error;
	l->what = what;
	return error;
}

static int stat_look(struct thread_look *l, pid_t pid, pid_t tid, const struct ready *ready)
{
	char text[1024];
	/* /proc/TID would give the times of all threads together. */
	ssize_t n = ready_read(ready, pid, tid, READY_STAT, text, sizeof(text));
	int ret = n < 0 ? (int)n : procfs_parse_stat(text, &l->stat);

	return ret < 0 ? look_fail(l, ret, "stat") : 0;
}

/* The rest of a line, which the caller frees. */
static char *line_dup(const char *text)
{
	return text ? strndup(text, strcspn(text, "\n")) : NULL;
}

static int status_look(struct thread_look *l, pid_t pid, pid_t tid, const struct ready *ready)
{
	char text[TEXT];
	cleanup_free char *longer = NULL;
	char *p = text;
	ssize_t n = ready_read(ready, pid, tid, READY_STATUS, text, sizeof(text));
	int ret;

	if (n == (ssize_t)sizeof(text) - 1) {
		p = longer = malloc(TEXT_MAX);
		if (!p)
			return look_fail(l, -ENOMEM, "status");
		n = ready_read(NULL, pid, tid, READY_STATUS, longer, TEXT_MAX);
	}
	ret = n < 0 ? (int)n : procfs_parse_status(p, &l->status);
	if (ret < 0)
		return look_fail(l, ret, "status");
	l->groups = line_dup(l->status.groups);
	if (l->status.groups && !l->groups)
		return look_fail(l, -ENOMEM, "groups");
	l->status.groups = NULL;
	return 0;
}

/* Whether tasks have labels here at all: a question that need not be asked of every thread. */
static bool lsm_labels(void)
{
	static _Atomic int known; /* 1: yes, -1: no */

	if (!known) {
		char byte;
		cleanup_fd int fd = open("/proc/self/attr/current", O_RDONLY | O_CLOEXEC);

		known = fd >= 0 && read(fd, &byte, 1) < 0 && errno == EINVAL ? -1 : 1;
	}
	return known > 0;
}

static int label_look(struct thread_look *l, pid_t pid, pid_t tid)
{
	char text[4096];
	ssize_t n;

	if (!lsm_labels())
		return 0;
	/* EINVAL: no security module that labels tasks. */
	n = procfs_read(text, sizeof(text), "/proc/%d/task/%d/attr/current", pid, tid);
	while (n > 0 && (text[n - 1] == '\n' || !text[n - 1]))
		text[--n] = '\0';
	if (n <= 0 || !strcmp(text, "unconfined"))
		return 0;
	l->label = strdup(text);
	return l->label ? 0 : look_fail(l, -ENOMEM, "security label");
}

static int sched_look(struct thread_look *l, pid_t tid)
{
	struct sched_attr_v1 a = {0};
	long ret = syscall(SYS_sched_getattr, tid, &a, sizeof(a), 0);

	if (ret < 0)
		return look_fail(l, -errno, "scheduling");
	l->policy = a.policy;
	l->reset_on_fork = a.flags & FLAG_RESET_ON_FORK;
	l->priority = a.priority;
	l->nice = a.nice;
	l->runtime = a.runtime;
	l->deadline = a.deadline;
	l->period = a.period;
	l->util_min = a.util_min;
	l->util_max = a.util_max;
	if (a.policy != SCHED_FIFO && a.policy != SCHED_RR && a.policy != POLICY_DEADLINE)
		return 0;
	/* Kept by real-time tasks, too, and not told by sched_getattr() then. */
	ret = syscall(SYS_getpriority, PRIO_PROCESS, tid);
	if (ret < 0)
		return look_fail(l, -errno, "nice value");
	l->nice = 20 - (int32_t)ret;
	return 0;
}

static int affinity_look(struct thread_look *l, pid_t tid)
{
	long n = syscall(SYS_sched_getaffinity, tid, sizeof(l->mask), l->mask);

	if (n < 0)
		return look_fail(l, -errno, "CPU affinity");
	l->mask_len = (uint32_t)n;
	return 0;
}

static void rest_look(struct thread_look *l, pid_t tid)
{
	void *head = NULL;
	size_t len = 0;
	long prio;

	/* -EPERM leaves it zero: kernel.c tells what that loses. */
	if (syscall(SYS_get_robust_list, tid, &head, &len) == 0 && head) {
		l->robust_addr = (uint64_t)(uintptr_t)head;
		l->robust_len = len;
	}
	/* IOPRIO_WHO_PROCESS is a thread. */
	prio = syscall(SYS_ioprio_get, 1, tid);
	l->ioprio = prio > 0 ? (uint32_t)prio : 0;
}

/* clone() and unshare() let a thread have tables of its own, which nothing else in here sees. */
static void tables_look(struct thread_look *l, pid_t first, pid_t tid)
{
	enum { VM = 1, FILES = 2, FS = 3 };

	if (tid == first)
		return;
	l->own_files = syscall(SYS_kcmp, first, tid, FILES, 0UL, 0UL) > 0;
	l->own_fs = syscall(SYS_kcmp, first, tid, FS, 0UL, 0UL) > 0;
	/* A main thread that has exited has none of them, and no memory either. */
	if ((l->own_files || l->own_fs) && syscall(SYS_kcmp, first, tid, VM, 0UL, 0UL) != 0)
		l->own_files = l->own_fs = false;
}

void thread_look(struct thread_look *l, pid_t pid, pid_t first, pid_t tid,
		 const struct ready *ready)
{
	memset(l, 0, sizeof(*l));
	if (stat_look(l, pid, tid, ready) < 0 || status_look(l, pid, tid, ready) < 0 ||
	    label_look(l, pid, tid) < 0 || sched_look(l, tid) < 0 || affinity_look(l, tid) < 0)
		return;
	tables_look(l, first, tid);
	rest_look(l, tid);
}

void thread_look_deinit(struct thread_look *l)
{
	free(l->groups);
	free(l->label);
	l->groups = l->label = NULL;
}

/* --- into the model --------------------------------------------------------------------------- */

static int groups_take(struct model *m, const struct thread_look *l, struct m_creds *c)
{
	const char *p = l->groups;
	uint32_t n = 0;
	uint64_t v;

	c->ngroups = 0;
	while (p && procfs_dec(&p, &v))
		n++;
	if (!n)
		return 0;
	c->groups = model_alloc(m, n * sizeof(*c->groups));
	if (!c->groups)
		return -ENOMEM;
	p = l->groups;
	while (c->ngroups < n && procfs_dec(&p, &v))
		c->groups[c->ngroups++] = (uint32_t)v;
	return 0;
}

static int creds_take(struct model *m, const struct thread_look *l, struct m_thread *t)
{
	const struct procfs_status *st = &l->status;
	struct m_creds *c = &t->creds;

	c->uid = st->uid[0];
	c->euid = st->uid[1];
	c->suid = st->uid[2];
	c->fsuid = st->uid[3];
	c->gid = st->gid[0];
	c->egid = st->gid[1];
	c->sgid = st->gid[2];
	c->fsgid = st->gid[3];
	c->cap_inh = st->cap_inh;
	c->cap_prm = st->cap_prm;
	c->cap_eff = st->cap_eff;
	c->cap_bnd = st->cap_bnd;
	c->cap_amb = st->cap_amb;
	c->no_new_privs = st->no_new_privs;
	t->seccomp_mode = st->seccomp;
	if (l->label)
		c->lsm_profile = model_strdup(m, l->label);
	return l->label && !c->lsm_profile ? -ENOMEM : groups_take(m, l, c);
}

/* All of a real-time task's is the default. */
static bool is_clamped(const struct thread_look *l)
{
	enum { UTIL_ALL = 1024 };
	bool rt = l->policy == SCHED_FIFO || l->policy == SCHED_RR;

	return l->util_max &&
	       (l->util_max != UTIL_ALL || (l->util_min && !(rt && l->util_min == UTIL_ALL)));
}

static int sched_take(struct model *m, const struct thread_look *l, struct m_thread *t)
{
	t->policy = l->policy | (l->reset_on_fork ? SCHED_RESET_ON_FORK : 0);
	t->rt_priority = l->priority;
	t->nice = l->nice;
	/* Linux 6.12 gives ordinary tasks a runtime, too: their time slice. */
	if (l->policy == POLICY_DEADLINE) {
		t->sched_runtime_ns = l->runtime;
		t->sched_deadline_ns = l->deadline;
		t->sched_period_ns = l->period;
	}
	t->affinity = model_alloc(m, l->mask_len);
	if (!t->affinity)
		return -ENOMEM;
	/* In words, as the kernel fills it; little endian hosts have the bytes in order. */
	for (uint32_t i = 0; i < l->mask_len; i++)
		t->affinity[i] = (uint8_t)(l->mask[i / 8] >> (8 * (i % 8)));
	t->affinity_len = l->mask_len;
	return 0;
}

static int findings_take(struct model *m, const struct m_proc *p, const struct thread_look *l,
			 const struct m_thread *t)
{
	int ret = 0;

	if (is_clamped(l))
		ret = finding_add(m, p->pid,
				  "utilization of thread %u is clamped to %u-%u: this is not "
				  "carried",
				  t->tid, l->util_min, l->util_max);
	if (ret == 0 && l->own_files)
		ret = finding_fatal(m, p->pid,
				    "thread %u has a descriptor table of its own: not supported",
				    t->tid);
	if (ret == 0 && l->own_fs)
		ret = finding_fatal(m, p->pid,
				    "thread %u has a working directory of its own: not supported",
				    t->tid);
	return ret;
}

int thread_take(struct model *m, const struct m_proc *p, struct m_thread *t,
		const struct thread_look *l, struct err *err)
{
	uint64_t tick_us = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);

	if (l->error)
		return thread_fail(p, t, l->error, l->what, err);
	t->utime_us = l->stat.utime_ticks * tick_us;
	t->stime_us = l->stat.stime_ticks * tick_us;
	/* Raw there since Linux 4.18; status has it escaped. */
	memcpy(t->comm, l->stat.comm, sizeof(t->comm));
	t->robust_addr = l->robust_addr;
	t->robust_len = l->robust_len;
	t->ioprio = l->ioprio;
	t->shadow = l->status.shadow;
	t->shadow_locked = l->status.shadow_locked;
	if (creds_take(m, l, t) < 0 || sched_take(m, l, t) < 0 || findings_take(m, p, l, t) < 0)
		return thread_fail(p, t, -ENOMEM, "state", err);
	return 0;
}

void proc_collect_slack(struct m_proc *p)
{
	char text[32];

	for (uint32_t i = 0; i < p->nthreads; i++) {
		const char *at = text;
		uint64_t v;

		/* Not below task/. */
		if (procfs_read(text, sizeof(text), "/proc/%u/timerslack_ns", p->threads[i].tid) >
			    0 &&
		    procfs_dec(&at, &v))
			p->threads[i].timerslack_ns = v;
	}
}

int proc_collect_thread(struct model *m, struct m_proc *p, struct m_thread *t, struct err *err)
{
	struct thread_look l;
	int ret;

	thread_look(&l, (pid_t)p->pid, (pid_t)p->threads[0].tid, (pid_t)t->tid, NULL);
	ret = thread_take(m, p, t, &l, err);
	thread_look_deinit(&l);
	return ret;
}
