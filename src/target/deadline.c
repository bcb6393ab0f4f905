/* SPDX-License-Identifier: MIT */
/* How long a thread has yet to sleep. */
#include "src/target/deadline.h"

#include <dirent.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "src/target/collect.h"
#include "src/target/procfs.h"

#ifdef SYS_poll
enum { POLL = SYS_poll };
#else
enum { POLL = -1 };
#endif

enum {
	MOST = 4096,	/* threads */
	MAX_DEPTH = 64, /* of a tree */
	MAX_CHILDREN = 4096,
	LEAST_NS = 100000000, /* shorter ones begin again */
	EARLY_NS = 2000000,   /* a call takes so long until it sleeps */
	LOOKS = 2,	      /* the list misses some while others expire */
	CEILING_NS = 100000000,
	RESTART_BLOCK = -516,
};

/* A thread asleep in a call that deadline.h names. */
struct sleeper {
	pid_t pid, tid;
	uint64_t slept;		    /* how often until now, this time included */
	uint64_t least_ns, most_ns; /* how late its timer may be */
	uint64_t timeout_ns;
	uint64_t part;	/* that is one so many-th of its time, but for the limits; 0: no part */
	bool again;	/* the call goes on after an interruption */
	uint64_t at_ns; /* CLOCK_MONOTONIC, 0: not known */
};

struct timer {
	uint64_t at_ns, late_ns;
};

struct deadlines {
	uint32_t n, ntimers, room;
	uint64_t now_ns;
	struct timer *timers;
	struct sleeper v[MOST];
};

struct deadlines *deadlines_new(void)
{
	return calloc(1, sizeof(struct deadlines));
}

void deadlines_free(struct deadlines *d)
{
	if (d)
		free(d->timers);
	free(d);
}

/* --- threads -------------------------------------------------------------------------------- */

static bool sleeps_of(pid_t tid, uint64_t *ret)
{
	struct procfs_status st;
	char text[4096];

	if (procfs_status(tid, text, sizeof(text), &st) < 0)
		return false;
	*ret = st.nvcsw;
	return true;
}

/* A time of its memory in ns; 0: none. */
static uint64_t time_at(pid_t pid, uint64_t addr)
{
	struct timespec ts;
	struct iovec l = {&ts, sizeof(ts)}, r = {(void *)(uintptr_t)addr, sizeof(ts)};

	if (process_vm_readv(pid, &l, 1, &r, 1, 0) != (ssize_t)sizeof(ts) || ts.tv_sec < 0 ||
	    ts.tv_sec > INT32_MAX || ts.tv_nsec < 0 || ts.tv_nsec >= 1000000000)
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Who has room for the time that is left is told it by the kernel. */
static uint64_t without_room(pid_t pid, uint64_t request, uint64_t remain)
{
	return remain ? 0 : time_at(pid, request);
}

/* Relative: the other ways to wait for a futex have an absolute time, which needs no help. */
static uint64_t in_futex(pid_t pid, const uint64_t a[4])
{
	bool plain = (a[1] & ~(uint64_t)FUTEX_PRIVATE_FLAG) == FUTEX_WAIT;

	return plain && a[0] % sizeof(uint32_t) == 0 ? time_at(pid, a[3]) : 0;
}

/*
 * The rest of a call that was interrupted, whose number is gone. What may be two of them is none:
 * the time of one would be too little for another.
 */
static uint64_t in_rest(pid_t pid, const uint64_t a[4], bool *ret_poll)
{
	uint64_t futex = in_futex(pid, a);

	*ret_poll = POLL >= 0 && (int)a[2] > 0;
	if ((futex && *ret_poll) || without_room(pid, a[0], a[1]))
		return 0;
	return *ret_poll ? (uint64_t)(int)a[2] * 1000000 : futex;
}

/*
 * The time limit of a thread that is asleep in one of the calls that are known here, or perhaps in
 * the rest of one; 0: not, or for ever.
 */
static uint64_t asleep_for(pid_t pid, pid_t tid, bool *ret_again, bool *ret_poll)
{
	uint64_t nr, a[4];
	char text[256];
	const char *p = text;

	if (procfs_read(text, sizeof(text), "/proc/%d/task/%d/syscall", pid, tid) <= 0 ||
	    !procfs_dec(&p, &nr))
		return 0;
	for (int i = 0; i < 4; i++) {
		p += strspn(p, " ");
		if (strncmp(p, "0x", 2) != 0)
			return 0;
		p += 2;
		if (!procfs_hex(&p, &a[i]))
			return 0;
	}
	*ret_again = nr == SYS_restart_syscall;
	*ret_poll = POLL >= 0 && nr == (uint64_t)POLL;
	if (*ret_again)
		return in_rest(pid, a, ret_poll);
	if (*ret_poll)
		return (int)a[2] > 0 ? (uint64_t)(int)a[2] * 1000000 : 0;
	if (nr == SYS_futex)
		return in_futex(pid, a);
	if (nr == SYS_nanosleep)
		return without_room(pid, a[0], a[1]);
	if (nr == SYS_clock_nanosleep && !(a[1] & TIMER_ABSTIME) &&
	    ((int)a[0] == CLOCK_REALTIME || (int)a[0] == CLOCK_MONOTONIC))
		return without_room(pid, a[2], a[3]);
	return 0;
}

/* poll() may be late by a part of its time, other sleeps by what the thread has asked for. */
static bool limits_of(struct sleeper *s, bool poll)
{
	int policy = sched_getscheduler(s->tid);
	uint64_t slack = 0;
	char text[64];
	const char *p = text;

	/* A real-time thread's timer is never late. */
	if ((policy != SCHED_OTHER && policy != SCHED_BATCH && policy != SCHED_IDLE) ||
	    procfs_read(text, sizeof(text), "/proc/%d/timerslack_ns", s->tid) <= 0 ||
	    !procfs_dec(&p, &slack))
		return false;
	s->least_ns = s->most_ns = slack;
	if (!poll)
		return true;
	s->part = getpriority(PRIO_PROCESS, (id_t)s->tid) > 0 ? 200 : 1000;
	s->least_ns = (s->timeout_ns - EARLY_NS) / s->part;
	s->most_ns = s->timeout_ns / s->part;
	s->least_ns = s->least_ns < CEILING_NS ? s->least_ns : CEILING_NS;
	s->most_ns = s->most_ns < CEILING_NS ? s->most_ns : CEILING_NS;
	s->least_ns = s->again || s->least_ns < slack ? slack : s->least_ns;
	s->most_ns = s->most_ns < slack ? slack : s->most_ns;
	return true;
}

static void look_at(struct deadlines *d, pid_t pid, pid_t tid)
{
	struct sleeper s = {.pid = pid, .tid = tid};
	bool poll = false;

	s.timeout_ns = asleep_for(pid, tid, &s.again, &poll);
	if (d->n < MOST && s.timeout_ns >= LEAST_NS && sleeps_of(tid, &s.slept) &&
	    limits_of(&s, poll))
		d->v[d->n++] = s;
}

static void look_at_all(struct deadlines *d, pid_t pid, unsigned depth)
{
	cleanup_free pid_t *children = NULL;
	struct dirent *e;
	char path[32];
	DIR *dir;
	int n;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);

		if (tid > 0)
			look_at(d, pid, tid);
	}
	if (dir)
		closedir(dir);
	children = depth < MAX_DEPTH ? malloc(MAX_CHILDREN * sizeof(*children)) : NULL;
	n = children ? proc_children(pid, children, MAX_CHILDREN) : 0;
	for (int i = 0; i < n && i < MAX_CHILDREN; i++)
		look_at_all(d, children[i], depth + 1);
}

/* --- timers --------------------------------------------------------------------------------- */

static void timer_add(struct deadlines *d, uint64_t from, uint64_t to)
{
	if (d->ntimers == d->room) {
		uint32_t room = d->room ? 2 * d->room : 256;
		struct timer *v = reallocarray(d->timers, room, sizeof(*v));

		if (!v)
			return;
		d->timers = v;
		d->room = room;
	}
	d->timers[d->ntimers++] = (struct timer){from, to - from};
}

/* "# expires at FROM-TO nsecs [...]" */
static bool expires(const char *line, uint64_t *ret_from, uint64_t *ret_to)
{
	const char *p = strstr(line, "# expires at ");

	if (!p)
		return false;
	p += strlen("# expires at ");
	return procfs_dec(&p, ret_from) && *p++ == '-' && procfs_dec(&p, ret_to) &&
	       *ret_to >= *ret_from;
}

/* Those of CLOCK_MONOTONIC that wake somebody. */
static bool timers_read(struct deadlines *d)
{
	enum { MONOTONIC = 0, MONOTONIC_SOFT = 4 };
	struct procfs_lines l;
	char buf[16384], *line;
	bool ours = false, wakes = false;
	uint64_t v, from, to;

	d->ntimers = 0;
	d->now_ns = 0;
	if (procfs_lines_open(&l, buf, sizeof(buf), "/proc/timer_list") < 0)
		return false;
	while ((line = procfs_lines_next(&l))) {
		const char *p = strstr(line, ".index:");

		if (p) {
			p += strlen(".index:");
			p += strspn(p, " \t");
			ours = procfs_dec(&p, &v) && (v == MONOTONIC || v == MONOTONIC_SOFT);
		} else if (!strncmp(line, "now at ", 7)) {
			p = line + 7;
			procfs_dec(&p, &d->now_ns);
		} else if (ours && wakes && expires(line, &from, &to)) {
			timer_add(d, from, to);
		}
		wakes = strstr(line, ", hrtimer_wakeup,") != NULL;
	}
	procfs_lines_close(&l);
	return d->now_ns != 0;
}

/* A call that goes on has less time than it was given, but no less than what is left. */
static bool may_be(const struct sleeper *s, const struct timer *t, uint64_t left)
{
	if (left > s->timeout_ns || t->late_ns < s->least_ns || t->late_ns > s->most_ns)
		return false;
	return !s->again || !s->part || t->late_ns >= CEILING_NS ||
	       left <= t->late_ns * s->part + 1000000;
}

/* The last that may be the one of @s; ns from the look on, 0: none. */
static uint64_t left_of(const struct deadlines *d, const struct sleeper *s)
{
	uint64_t ret = 0;

	for (uint32_t i = 0; i < d->ntimers; i++) {
		const struct timer *t = &d->timers[i];
		uint64_t left = t->at_ns > d->now_ns ? t->at_ns - d->now_ns : 0;

		if (left > ret && may_be(s, t, left))
			ret = left;
	}
	return ret;
}

/* Asleep as before all of this. */
static bool still(const struct sleeper *s)
{
	uint64_t slept;
	bool again, poll;

	return asleep_for(s->pid, s->tid, &again, &poll) > 0 && again == s->again &&
	       sleeps_of(s->tid, &slept) && slept == s->slept;
}

static int by_tid(const void *a, const void *b)
{
	const struct sleeper *l = a, *r = b;

	return l->tid < r->tid ? -1 : l->tid > r->tid;
}

void deadlines_look(struct deadlines *d, pid_t root)
{
	if (!d)
		return;
	d->n = 0;
	look_at_all(d, root, 0);
	for (int look = 0; d->n && look < LOOKS && timers_read(d); look++) {
		/* Behind the list's own time: nobody wakes early by that. */
		uint64_t now = clock_ns(CLOCK_MONOTONIC);

		for (uint32_t i = 0; i < d->n; i++) {
			uint64_t left = left_of(d, &d->v[i]);

			if (left && now + left > d->v[i].at_ns)
				d->v[i].at_ns = now + left;
		}
	}
	for (uint32_t i = 0; i < d->n; i++)
		if (!still(&d->v[i]))
			d->v[i].at_ns = 0;
	qsort(d->v, d->n, sizeof(d->v[0]), by_tid);
}

void deadlines_tell(const struct deadlines *d, uint64_t slept, uint64_t now_ns, struct m_thread *t)
{
	const struct sleeper key = {.tid = (pid_t)t->tid};
	const struct sleeper *s;

	if (!d || !d->n || t->syscall_ret != RESTART_BLOCK)
		return;
	s = bsearch(&key, d->v, d->n, sizeof(d->v[0]), by_tid);
	/* The stop is one more. */
	if (s && s->at_ns && slept - s->slept <= 1)
		t->sleep_left_ns = s->at_ns > now_ns ? s->at_ns - now_ns : 1;
}
