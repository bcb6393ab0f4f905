/* SPDX-License-Identifier: MIT */
/*
 * How long a thread has yet to sleep in poll(), in nanosleep() without room for the time left, or
 * in a futex wait with a relative limit: the kernel keeps that to itself, but its list of timers
 * (/proc/timer_list, for root) has the timer of every sleeper.
 *
 * A timer is not named there. It is known by how late it may be, which poll() makes a thousandth of
 * the time it has (a two hundredth where the nice value is above 0), 100 ms at most, and
 * the others what the thread has asked for (50 us): of those that may be the thread's the last
 * counts, so that nobody wakes early. Looked up while the thread sleeps; in the freeze it must be
 *in the same sleep, which the count of its sleeps tells.
 *
 *	poll(fds, n, 12345)     expires at 40110793801403-40110806146402
 *	                        the difference is 12344999: 12.345 s less a few us, by 1000
 */
#ifndef TARGET_DEADLINE_H
#define TARGET_DEADLINE_H

#include <stdint.h>
#include <sys/types.h>

#include "src/image/model.h"

struct deadlines;

/* NULL: no memory; the functions below do nothing then. */
struct deadlines *deadlines_new(void);
void deadlines_free(struct deadlines *d);
/* Looks at the tree below @root, which runs. Forgets what it knew. */
void deadlines_look(struct deadlines *d, pid_t root);
/*
 * Of the stopped thread @t, which has slept @slept times (voluntary_ctxt_switches), at @now_ns of
 * CLOCK_MONOTONIC: fills in sleep_left_ns. Reads nothing: it is the freeze.
 */
void deadlines_tell(const struct deadlines *d, uint64_t slept, uint64_t now_ns, struct m_thread *t);

#endif
