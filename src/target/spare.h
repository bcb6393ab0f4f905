/* SPDX-License-Identifier: MIT */
/*
 * CPUs that a running tree leaves over.
 *
 * A priority (nice) counts within one group of the scheduler alone: of the same session
 * (sched_autogroup_enabled) or of the same cgroup. To a tree of another group a thread at nice 19
 * is as good as its own, and where both are on one CPU it stands still for 4 ms at a time. So
 * whoever works while it runs stays away from as many CPUs as it keeps busy.
 */
#ifndef TARGET_SPARE_H
#define TARGET_SPARE_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "src/target/target.h"

/* Zeroed before the first look. */
struct spare {
	uint64_t wall_ns, wanted_ns; /* at the last look */
	bool known;
	unsigned busy; /* CPUs that the tree needs for itself */
};

/*
 * Sees what the processes in @t have used, or waited for, since the look before; what is asked
 * again within a moment is answered as before, with false.
 */
bool spare_look(struct spare *s, const struct target_tracks *t);

/*
 * Those that the calling thread may use without the s->busy ones that most threads of the tree are
 * on now; one is always left. False: they are all that it may use, and *@ret is not set.
 */
bool spare_cpus(const struct spare *s, const struct target_tracks *t, cpu_set_t *ret);

/*
 * The calling thread, and those that it makes meanwhile, keep away from the CPU that most threads
 * of the tree are on, if they can; until it returns.
 */
struct spare_away {
	bool on;
	cpu_set_t all;
	int from; /* that CPU; -1: none */
};

void spare_go(struct spare_away *a, const struct target_tracks *t);
/*
 * The same of the CPU where most main threads of its processes sleep: while the tree stands still
 * they make the calls that it is asked by, and they would be woken there.
 */
void spare_go_aside(struct spare_away *a, const struct target_tracks *t);
/* The other way round: on that CPU alone, if it is one of those it may use. */
void spare_stay(struct spare_away *a, int cpu);
void spare_return(struct spare_away *a);

#endif
