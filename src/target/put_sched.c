/* SPDX-License-Identifier: MIT */
/* Scheduling of threads from outside: policy, nice value, affinity. */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/put.h"
#include "src/target/put_list.h"

/* Linux 3.14; no header of ours has it. */
struct sched_attr_v1 {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

enum { POLICY_DEADLINE = 6, FLAG_RESET_ON_FORK = 1, CPU_BYTES_MAX = 1024 };

static int failed(const struct m_proc *p, const struct m_thread *t, int errnum, const char *what,
		  struct err *err)
{
	err_set(err, errnum, "set the %s of thread %u of process %u", what, t->tid, p->pid);
	if (errnum == EPERM || errnum == EACCES)
		err_hint(err, "this needs CAP_SYS_NICE");
	if (errnum == EBUSY)
		err_hint(err, "the CPUs here have no bandwidth left for a SCHED_DEADLINE thread");
	return -errnum;
}

/* --- affinity --------------------------------------------------------------------------------- */

static bool bit_of(const uint8_t *bytes, uint32_t cpu)
{
	return bytes[cpu / 8] >> (cpu % 8) & 1;
}

/* "2,3,8-11", cut with dots when there is no room. */
static void cpus_text(const uint8_t *bytes, uint32_t len, char *buf, size_t room)
{
	uint32_t n = 8 * (len < CPU_BYTES_MAX ? len : CPU_BYTES_MAX);
	size_t at = 0;

	buf[0] = '\0';
	for (uint32_t i = 0; i < n; i++) {
		uint32_t last = i;

		if (!bit_of(bytes, i))
			continue;
		while (last + 1 < n && bit_of(bytes, last + 1))
			last++;
		at += (size_t)snprintf(buf + at, room - at, last > i ? "%s%u-%u" : "%s%u",
				       at ? "," : "", i, last);
		if (at + 24 > room) {
			snprintf(buf + (room < at + 4 ? room - 4 : at), 4, "...");
			return;
		}
		i = last;
	}
}

/* Little endian hosts have the bytes of the words in order. */
static void to_words(uint64_t words[CPU_BYTES_MAX / 8], const struct m_thread *t)
{
	for (uint32_t i = 0; i < t->affinity_len && i < CPU_BYTES_MAX; i++)
		words[i / 8] |= (uint64_t)t->affinity[i] << (8 * (i % 8));
}

/*
 * The kernel passes over CPUs that are not here as long as one is. With none it is the person's
 * decision where the program may run, not ours.
 */
static int put_affinity(const struct m_proc *p, const struct m_thread *t, struct err *err)
{
	uint64_t want[CPU_BYTES_MAX / 8] = {0}, has[CPU_BYTES_MAX / 8] = {0};
	char text[64];
	bool none = true;

	for (uint32_t i = 0; i < t->affinity_len; i++)
		none = none && !t->affinity[i];
	if (none)
		return 0; /* not known */
	to_words(want, t);
	if (syscall(SYS_sched_getaffinity, t->tid, sizeof(has), has) < 0)
		return failed(p, t, errno, "CPU affinity", err);
	if (!memcmp(has, want, sizeof(has)) ||
	    syscall(SYS_sched_setaffinity, t->tid, sizeof(want), want) == 0)
		return 0;
	if (errno != EINVAL)
		return failed(p, t, errno, "CPU affinity", err);
	cpus_text(t->affinity, t->affinity_len, text, sizeof(text));
	err_fail(
		err, EINVAL, ERR_UNSUPPORTED,
		"thread %u of process %u may run on CPU %s only, which is not here, or not allowed",
		t->tid, p->pid, text);
	err_hint(err, "restore it on a machine, or in a cpuset, that has one of these CPUs");
	return -EINVAL;
}

/* --- policy and nice value -------------------------------------------------------------------- */

static bool same(const struct sched_attr_v1 *a, const struct sched_attr_v1 *b)
{
	return a->policy == b->policy && (a->flags & FLAG_RESET_ON_FORK) == b->flags &&
	       a->priority == b->priority &&
	       (a->policy != POLICY_DEADLINE ||
		(a->runtime == b->runtime && a->deadline == b->deadline && a->period == b->period));
}

static int put_policy(const struct m_proc *p, const struct m_thread *t, struct err *err)
{
	struct sched_attr_v1 has = {0}, want = {.size = sizeof(want)};

	want.policy = t->policy & ~(uint32_t)SCHED_RESET_ON_FORK;
	want.flags = t->policy & SCHED_RESET_ON_FORK ? FLAG_RESET_ON_FORK : 0;
	want.nice = t->nice;
	want.priority = t->rt_priority;
	if (want.policy == POLICY_DEADLINE) {
		want.runtime = t->sched_runtime_ns;
		want.deadline = t->sched_deadline_ns;
		want.period = t->sched_period_ns;
	}
	if (syscall(SYS_sched_getattr, t->tid, &has, sizeof(has), 0) < 0)
		return failed(p, t, errno, "scheduling policy", err);
	if (same(&has, &want) || syscall(SYS_sched_setattr, t->tid, &want, 0) == 0)
		return 0;
	return failed(p, t, errno, "scheduling policy", err);
}

/* Real-time threads keep one for later, and sched_setattr() does not set it for them. */
static int put_nice(const struct m_proc *p, const struct m_thread *t, struct err *err)
{
	long has = syscall(SYS_getpriority, PRIO_PROCESS, t->tid);

	if (t->nice < -20 || t->nice > 19)
		return failed(p, t, EINVAL, "nice value", err);
	if (has == 20 - t->nice || setpriority(PRIO_PROCESS, t->tid, t->nice) == 0)
		return 0;
	return failed(p, t, errno, "nice value", err);
}

/* IOPRIO_WHO_PROCESS is a thread. */
static int put_ioprio(const struct m_proc *p, const struct m_thread *t, struct err *err)
{
	long has = syscall(SYS_ioprio_get, 1, t->tid);

	if (has == (long)t->ioprio || (has < 0 && !t->ioprio) ||
	    syscall(SYS_ioprio_set, 1, t->tid, t->ioprio) == 0)
		return 0;
	return failed(p, t, errno, "I/O priority", err);
}

int put_sched(struct remote *r, const struct m_proc *p, struct err *err)
{
	int ret = list_check_threads(r, p, err);

	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++) {
		const struct m_thread *t = &p->threads[i];

		/* A deadline thread may not be pinned any more. */
		ret = put_affinity(p, t, err);
		if (ret == 0)
			ret = put_nice(p, t, err);
		if (ret == 0)
			ret = put_ioprio(p, t, err);
		if (ret == 0)
			ret = put_policy(p, t, err);
	}
	return ret;
}
