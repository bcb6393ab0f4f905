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
#include "src/target/proctext.h"

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

enum { POLICY_DEADLINE = 6, FLAG_RESET_ON_FORK = 1, CPU_BYTES_MAX = 1024 };

/* One thread while it is read. */
struct threadstat {
	struct model *m;
	const struct m_proc *p;
	struct m_thread *t;
	int dir; /* /proc/PID/task/TID */
	struct proctext text;
};

static int thread_fail(const struct threadstat *s, int error, const char *what, struct err *err)
{
	return err_set(err, error == -ENOENT ? ESRCH : -error, "%s of thread %u of pid %u", what,
		       s->t->tid, s->p->pid);
}

static int stat_read(struct threadstat *s, struct err *err)
{
	uint64_t tick_us = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
	struct procfs_stat st;
	ssize_t n;
	int ret;

	n = proctext_read(&s->text, s->dir, "stat");
	ret = n < 0 ? (int)n : procfs_parse_stat(s->text.data, &st);
	if (ret < 0)
		return thread_fail(s, ret, "stat", err);
	s->t->utime_us = st.utime_ticks * tick_us;
	s->t->stime_us = st.stime_ticks * tick_us;
	/* Raw there since Linux 4.18; status has it escaped. */
	memcpy(s->t->comm, st.comm, sizeof(s->t->comm));
	return 0;
}

static int groups_parse(struct threadstat *s, const char *text)
{
	struct m_creds *c = &s->t->creds;
	const char *p = text;
	uint32_t n = 0;
	uint64_t v;

	c->ngroups = 0;
	while (p && procfs_dec(&p, &v))
		n++;
	if (!n)
		return 0;
	c->groups = model_alloc(s->m, n * sizeof(*c->groups));
	if (!c->groups)
		return -ENOMEM;
	p = text;
	while (c->ngroups < n && procfs_dec(&p, &v))
		c->groups[c->ngroups++] = (uint32_t)v;
	return 0;
}

static int creds_read(struct threadstat *s, struct err *err)
{
	struct m_creds *c = &s->t->creds;
	struct procfs_status st;
	ssize_t n = proctext_read(&s->text, s->dir, "status");
	int ret = n < 0 ? (int)n : procfs_parse_status(s->text.data, &st);

	if (ret < 0)
		return thread_fail(s, ret, "status", err);
	c->uid = st.uid[0];
	c->euid = st.uid[1];
	c->suid = st.uid[2];
	c->fsuid = st.uid[3];
	c->gid = st.gid[0];
	c->egid = st.gid[1];
	c->sgid = st.gid[2];
	c->fsgid = st.gid[3];
	c->cap_inh = st.cap_inh;
	c->cap_prm = st.cap_prm;
	c->cap_eff = st.cap_eff;
	c->cap_bnd = st.cap_bnd;
	c->cap_amb = st.cap_amb;
	c->no_new_privs = st.no_new_privs;
	s->t->seccomp_mode = st.seccomp;
	if (groups_parse(s, st.groups) < 0)
		return thread_fail(s, -ENOMEM, "groups", err);
	return 0;
}

/* Whether tasks have labels here at all: a question that need not be asked of every thread. */
static bool lsm_labels(void)
{
	static int known; /* 1: yes, -1: no */

	if (!known) {
		char byte;
		cleanup_fd int fd = open("/proc/self/attr/current", O_RDONLY | O_CLOEXEC);

		known = fd >= 0 && read(fd, &byte, 1) < 0 && errno == EINVAL ? -1 : 1;
	}
	return known > 0;
}

static int lsm_read(struct threadstat *s, struct err *err)
{
	if (!lsm_labels())
		return 0;
	/* EINVAL: no security module that labels tasks. */
	ssize_t n = proctext_read(&s->text, s->dir, "attr/current");

	while (n > 0 && (s->text.data[n - 1] == '\n' || !s->text.data[n - 1]))
		s->text.data[--n] = '\0';
	if (n <= 0 || !strcmp(s->text.data, "unconfined"))
		return 0;
	s->t->creds.lsm_profile = model_strdup(s->m, s->text.data);
	if (!s->t->creds.lsm_profile)
		return thread_fail(s, -ENOMEM, "security label", err);
	return 0;
}

/* All of a real-time task's is the default. */
static bool is_clamped(const struct sched_attr_v1 *a)
{
	enum { UTIL_ALL = 1024 };
	bool rt = a->policy == SCHED_FIFO || a->policy == SCHED_RR;

	return a->util_max &&
	       (a->util_max != UTIL_ALL || (a->util_min && !(rt && a->util_min == UTIL_ALL)));
}

static int sched_read(struct threadstat *s, struct err *err)
{
	struct sched_attr_v1 a = {0};
	struct m_thread *t = s->t;
	long ret = syscall(SYS_sched_getattr, t->tid, &a, sizeof(a), 0);

	if (ret < 0)
		return thread_fail(s, -errno, "scheduling", err);
	t->policy = a.policy | (a.flags & FLAG_RESET_ON_FORK ? SCHED_RESET_ON_FORK : 0);
	t->rt_priority = a.priority;
	/* Linux 6.12 gives ordinary tasks a runtime, too: their time slice. */
	if (a.policy == POLICY_DEADLINE) {
		t->sched_runtime_ns = a.runtime;
		t->sched_deadline_ns = a.deadline;
		t->sched_period_ns = a.period;
	}
	if (is_clamped(&a) && finding_add(s->m, s->p->pid,
					  "utilization of thread %u is clamped to %u-%u: this is "
					  "not carried",
					  t->tid, a.util_min, a.util_max) < 0)
		return thread_fail(s, -ENOMEM, "scheduling", err);
	/* Kept by real-time tasks, too, and not told by sched_getattr() then. */
	ret = syscall(SYS_getpriority, PRIO_PROCESS, t->tid);
	if (ret < 0)
		return thread_fail(s, -errno, "nice value", err);
	t->nice = 20 - (int32_t)ret;
	return 0;
}

static int affinity_read(struct threadstat *s, struct err *err)
{
	/* In words, as the kernel fills it; little endian hosts have the bytes in order. */
	uint64_t mask[CPU_BYTES_MAX / 8] = {0};
	long n = syscall(SYS_sched_getaffinity, s->t->tid, sizeof(mask), mask);

	if (n < 0)
		return thread_fail(s, -errno, "CPU affinity", err);
	s->t->affinity = model_alloc(s->m, (size_t)n);
	if (!s->t->affinity)
		return thread_fail(s, -ENOMEM, "CPU affinity", err);
	for (long i = 0; i < n; i++)
		s->t->affinity[i] = (uint8_t)(mask[i / 8] >> (8 * (i % 8)));
	s->t->affinity_len = (uint32_t)n;
	return 0;
}

static void rest_read(struct threadstat *s)
{
	void *head = NULL;
	size_t len = 0;
	long prio;

	/* -EPERM leaves it zero: kernel.c tells what that loses. */
	if (syscall(SYS_get_robust_list, s->t->tid, &head, &len) == 0 && head) {
		s->t->robust_addr = (uint64_t)(uintptr_t)head;
		s->t->robust_len = len;
	}
	/* IOPRIO_WHO_PROCESS is a thread. */
	prio = syscall(SYS_ioprio_get, 1, s->t->tid);
	s->t->ioprio = prio > 0 ? (uint32_t)prio : 0;
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

/* clone() and unshare() let a thread have tables of its own, which nothing else in here sees. */
static int own_tables(struct threadstat *s, struct err *err)
{
	enum { VM = 1, FILES = 2, FS = 3 };
	const pid_t tid = (pid_t)s->t->tid, first = (pid_t)s->p->threads[0].tid;
	const struct {
		int kind;
		const char *what;
	} tables[] = {{FILES, "a descriptor table"}, {FS, "a working directory"}};

	for (size_t i = 0; tid != first && i < sizeof(tables) / sizeof(tables[0]); i++) {
		if (syscall(SYS_kcmp, first, tid, tables[i].kind, 0UL, 0UL) <= 0)
			continue;
		/* A main thread that has exited has none of them, and no memory either. */
		if (syscall(SYS_kcmp, first, tid, VM, 0UL, 0UL) != 0)
			break;
		if (finding_add(s->m, s->p->pid, "thread %u has %s of its own: not saved",
				s->t->tid, tables[i].what) < 0)
			return thread_fail(s, -ENOMEM, "findings", err);
	}
	return 0;
}

static int threadstat_read(struct threadstat *s, struct err *err)
{
	int ret = stat_read(s, err);

	if (ret == 0)
		ret = creds_read(s, err);
	if (ret == 0)
		ret = lsm_read(s, err);
	if (ret == 0)
		ret = sched_read(s, err);
	if (ret == 0)
		ret = affinity_read(s, err);
	if (ret == 0)
		ret = own_tables(s, err);
	if (ret == 0)
		rest_read(s);
	return ret;
}

int proc_collect_thread(struct model *m, struct m_proc *p, struct m_thread *t, struct err *err)
{
	struct threadstat s = {.m = m, .p = p, .t = t};
	char path[48];
	int ret;

	/* /proc/TID would give the times of all threads together. */
	snprintf(path, sizeof(path), "/proc/%u/task/%u", p->pid, t->tid);
	s.dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s.dir < 0)
		return thread_fail(&s, -errno, "/proc", err);
	ret = threadstat_read(&s, err);
	close(s.dir);
	proctext_deinit(&s.text);
	return ret;
}
