/* SPDX-License-Identifier: MIT */
/*
 * What the victim of the kill test and its watcher share: one page of counters for each thread.
 */
#ifndef TESTS_KILL_H
#define TESTS_KILL_H

#include <stdatomic.h>
#include <stddef.h>
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

/* A thread has found something wrong; the first thing is kept. */
void kill_bad(struct kill_slot *s, const char *fmt, ...);
/* Two CPUs and other tests: not all of them can spin all the time. */
void kill_rest(void);
void kill_fill(void *p, size_t len, uint64_t seed);

/* cpu_CPU.c: a thread, of three, with known values in all registers; and the end of their rounds.
 */
void *kill_registers(void *slot);
void kill_end_rounds(void);
/* More threads; ends with an empty one. */
extern const struct kill_more {
	const char *name;
	void *(*fn)(void *slot);
} kill_more[];

/* The victim's life; does not return. */
_Noreturn void kill_victim(struct kill_shared *s);

#endif
