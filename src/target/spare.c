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

/* Where it is, or was last: use[] of that CPU. */
static void add_use(void *arg, pid_t pid, pid_t tid)
{
	unsigned *use = arg;
	struct procfs_stat st;

	if (procfs_stat(pid, tid, &st) == 0 && st.cpu < CPU_SETSIZE)
		use[st.cpu] += st.state == 'R' ? RUNNING : 1;
}

bool spare_cpus(const struct spare *s, const struct target_tracks *t, cpu_set_t *ret)
{
	unsigned use[CPU_SETSIZE] = {0}, n, drop;
	cpu_set_t set;
	bool some = false;

	/* EINVAL: more CPUs than it has room for. */
	if (!s->busy || sched_getaffinity(0, sizeof(set), &set) < 0)
		return false;
	n = (unsigned)CPU_COUNT(&set);
	if (n < 2)
		return false;
	each_thread(t, add_use, use);
	for (drop = s->busy < n ? s->busy : n - 1; drop; drop--) {
		int most = -1;

		for (int i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &set) && use[i] && (most < 0 || use[i] > use[most]))
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

void spare_go(struct spare_away *a, const struct target_tracks *t)
{
	const struct spare one = {.busy = 1};
	cpu_set_t cpus;

	a->on = sched_getaffinity(0, sizeof(a->all), &a->all) == 0 && spare_cpus(&one, t, &cpus) &&
		sched_setaffinity(0, sizeof(cpus), &cpus) == 0;
}

void spare_return(struct spare_away *a)
{
	if (a->on && sched_setaffinity(0, sizeof(a->all), &a->all) < 0)
		pr_debug("back to %d CPUs: %m\n", CPU_COUNT(&a->all));
	a->on = false;
}
