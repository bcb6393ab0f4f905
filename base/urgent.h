/* SPDX-License-Identifier: MIT */
/*
 * What a thread does while others stand still for it, before all that other programs do: beside
 * other work each wait for a CPU would be part of their stop.
 *
 * For milliseconds, never while there is a disk to wait for or much to compute. Who may not have
 * such a priority goes on as it is. No child inherits it.
 */
#ifndef BASE_URGENT_H
#define BASE_URGENT_H

#include <sched.h>
#include <stdbool.h>

struct urgent {
	bool on;
};

static inline void urgent_begin(struct urgent *u)
{
	const struct sched_param least = {.sched_priority = 1};

	if (!u->on && sched_getscheduler(0) == SCHED_OTHER)
		u->on = sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &least) == 0;
}

static inline void urgent_end(struct urgent *u)
{
	const struct sched_param none = {0};

	if (u->on)
		sched_setscheduler(0, SCHED_OTHER, &none);
	u->on = false;
}

#endif
