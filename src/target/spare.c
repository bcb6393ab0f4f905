/* SPDX-License-Identifier: MIT */
/* CPUs that a running tree leaves over. */
#include "src/target/spare.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "binlog/pr.h"
#include "src/target/procfs.h"

enum {
	FIRST_NS = 2000000, /* the least that says something */
	AGAIN_NS = 50000000,
	MOST_THREADS = 64, /* of the tree that are looked at */
	/* One that runs counts for more than any number of those that sleep. */
	RUNNING = 1000,
};

/* @fn for threads of the tree, of which only so many are looked at. */
static void each_thread(const struct target_tracks *t, void (*fn)(void *arg, pid_t pid, pid_t tid),
			void *arg)
{
	unsigned left = MOST_THREADS;

	for (uint32_t i = 0; left && i < t->n; i++) {
		const pid_t pid = (pid_t)t->v[i].pid;
		const struct dirent *e;
		cleanup_dir DIR *dir = NULL;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/task", pid);
		dir = opendir(path);
		for (; left && dir && (e = readdir(dir)); left -= e->d_name[0] != '.')
			if (e->d_name[0] != '.')
				fn(arg, pid, atoi(e->d_name));
	}
}

struct delays {
	uint64_t sum;
	unsigned nthreads;
};

/* What it has waited for a CPU (CONFIG_SCHED_INFO): it wants that, too. */
static void add_delay(void *arg, pid_t pid, pid_t tid)
{
	struct delays *d = arg;
	uint64_t cpu, delay;
	char text[64];
	const char *p = text;

	d->nthreads++;
	if (procfs_read(text, sizeof(text), "/proc/%d/task/%d/schedstat", pid, tid) > 0 &&
	    procfs_dec(&p, &cpu) && *p++ == ' ' && procfs_dec(&p, &delay))
		d->sum += delay;
}

/* Of all threads of a process, those that have ended among them; exact, not in ticks. */
static uint64_t wanted_ns(const struct target_tracks *t, unsigned *ret_nthreads)
{
	struct delays d = {0};
	uint64_t sum = 0;
	clockid_t clock;

	for (uint32_t i = 0; i < t->n; i++)
		if (clock_getcpuclockid((pid_t)t->v[i].pid, &clock) == 0)
			sum += clock_ns(clock);
	each_thread(t, add_delay, &d);
	*ret_nthreads = d.nthreads;
	return sum + d.sum;
}

static void add_running(void *arg, pid_t pid, pid_t tid)
{
	unsigned *n = arg;
	struct procfs_stat st;

	*n += procfs_stat(pid, tid, &st) == 0 && st.state == 'R';
}

bool spare_look(struct spare *s, const struct target_tracks *t)
{
	uint64_t now = clock_ns(CLOCK_MONOTONIC), wanted;
	unsigned nthreads;
	const uint64_t passed = s->wall_ns ? now - s->wall_ns : FIRST_NS;

	if (s->known && passed < AGAIN_NS)
		return false;
	if (passed < FIRST_NS) {
		const struct timespec rest = {.tv_nsec = (long)(FIRST_NS - passed)};

		nanosleep(&rest, NULL);
		now = clock_ns(CLOCK_MONOTONIC);
	}
	wanted = wanted_ns(t, &nthreads);
	/* Less than before: a process or a thread has ended. */
	if (s->wall_ns && wanted >= s->wanted_ns) {
		unsigned running = 0;

		/* Within so little time a wait may not have ended. */
		if (!s->known)
			each_thread(t, add_running, &running);
		/* A quarter of a CPU is as good as none: it finds one that is free. */
		s->busy = (unsigned)((double)(wanted - s->wanted_ns) / (double)(now - s->wall_ns) +
				     0.75);
		if (s->busy < running)
			s->busy = running;
		/* A wait that began before counts now, all of it; but no thread is on two CPUs. */
		if (s->busy > nthreads && nthreads < MOST_THREADS)
			s->busy = nthreads;
		s->known = true;
	}
	s->wall_ns = now;
	s->wanted_ns = wanted;
	return true;
}

struct uses {
	unsigned of[CPU_SETSIZE];
	bool main_threads; /* those alone */
};

/* Where it is, or was last. */
static void add_use(void *arg, pid_t pid, pid_t tid)
{
	struct uses *u = arg;
	struct procfs_stat st;

	if (u->main_threads && tid != pid)
		return;
	if (procfs_stat(pid, tid, &st) == 0 && st.cpu < CPU_SETSIZE)
		u->of[st.cpu] += st.state == 'R' ? RUNNING : 1;
}

/* All that this thread may use but for @drop of them, those that are used most. */
static bool all_but(unsigned drop, const struct uses *u, cpu_set_t *ret)
{
	cpu_set_t set;
	bool some = false;
	unsigned n;

	/* EINVAL: more CPUs than it has room for. */
	if (!drop || sched_getaffinity(0, sizeof(set), &set) < 0)
		return false;
	n = (unsigned)CPU_COUNT(&set);
	if (n < 2)
		return false;
	for (drop = drop < n ? drop : n - 1; drop; drop--) {
		int most = -1;

		for (int i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &set) && u->of[i] && (most < 0 || u->of[i] > u->of[most]))
				most = i;
		/* The others are on CPUs that are not ours. */
		if (most < 0)
			break;
		CPU_CLR(most, &set);
		some = true;
	}
	if (some)
		*ret = set;
	return some;
}

bool spare_cpus(const struct spare *s, const struct target_tracks *t, cpu_set_t *ret)
{
	struct uses u = {0};

	if (s->busy)
		each_thread(t, add_use, &u);
	return all_but(s->busy, &u, ret);
}

static void go_from(struct spare_away *a, const struct uses *u)
{
	cpu_set_t cpus;

	a->from = -1;
	a->on = sched_getaffinity(0, sizeof(a->all), &a->all) == 0 && all_but(1, u, &cpus) &&
		sched_setaffinity(0, sizeof(cpus), &cpus) == 0;
	for (int i = 0; a->on && i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &a->all) && !CPU_ISSET(i, &cpus))
			a->from = i;
}

void spare_go(struct spare_away *a, const struct target_tracks *t)
{
	struct uses u = {0};

	each_thread(t, add_use, &u);
	go_from(a, &u);
}

void spare_go_aside(struct spare_away *a, const struct target_tracks *t)
{
	struct uses u = {.main_threads = true};

	each_thread(t, add_use, &u);
	go_from(a, &u);
}

void spare_stay(struct spare_away *a, int cpu)
{
	cpu_set_t one;

	a->from = -1;
	CPU_ZERO(&one);
	if (cpu >= 0 && cpu < CPU_SETSIZE)
		CPU_SET(cpu, &one);
	/* Where it is one that this thread may not use that fails, and nothing is changed. */
	a->on = sched_getaffinity(0, sizeof(a->all), &a->all) == 0 &&
		sched_setaffinity(0, sizeof(one), &one) == 0;
}

void spare_return(struct spare_away *a)
{
	if (a->on && sched_setaffinity(0, sizeof(a->all), &a->all) < 0)
		pr_debug("back to %d CPUs: %m\n", CPU_COUNT(&a->all));
	a->on = false;
}
