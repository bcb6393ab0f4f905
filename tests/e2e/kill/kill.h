/* SPDX-License-Identifier: MIT */
/*
 * What the victim of the kill test and its watcher share: one page of counters for each thread.
 */
#ifndef TESTS_KILL_H
#define TESTS_KILL_H

#include <stdatomic.h>
#include <stdint.h>

enum { KILL_THREADS = 24 };

struct kill_slot {
	char name[24];
	atomic_ulong count;	/* rounds that were right */
	atomic_ulong eintr;	/* EINTR that no signal handler of ours explains */
	volatile uint64_t *far; /* the counter is there instead, in the victim */
	char error[120];	/* the first thing that was wrong; empty: none */
	int tid;
};

struct kill_shared {
	atomic_int nslots;
	atomic_int ready;
	struct kill_slot slots[KILL_THREADS];
};

/* The victim's life; does not return. */
_Noreturn void kill_victim(struct kill_shared *s);

#endif
