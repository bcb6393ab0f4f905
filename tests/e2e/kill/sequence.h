/* SPDX-License-Identifier: MIT */
/*
 * A counter per CPU, incremented in a restartable sequence by two threads: a sequence that goes on
 * after it was interrupted loses an increment of the other thread's.
 *
 * For cpu_CPU.c, which defines kill_increment() behind it: of percpu[] of the CPU that the thread
 * is on, with a loop between load and store, so that stops fall into it. 0: it was done.
 */
#ifndef TESTS_KILL_SEQUENCE_H
#define TESTS_KILL_SEQUENCE_H

#include <linux/rseq.h>
#include <string.h>
#include <sys/rseq.h>

#include "tests/e2e/kill/kill.h"

static struct {
	uint64_t n;
	char pad[56];
} percpu[1024];
static atomic_ulong committed[2];

int kill_increment(void);

static void *sequence(void *arg)
{
	struct kill_slot *s = arg;
	int me = s->name[strlen(s->name) - 1] & 1;

	for (;;) {
		uint64_t done, sum = 0;

		for (int i = 0; __rseq_size && i < 100; i++)
			if (kill_increment() == 0)
				atomic_fetch_add(&committed[me], 1);
		done = atomic_load(&committed[0]) + atomic_load(&committed[1]);
		for (unsigned i = 0; i < sizeof(percpu) / sizeof(percpu[0]); i++)
			sum += *(volatile uint64_t *)&percpu[i].n;
		if (sum < done)
			kill_bad(s, "%lu increments are lost", (unsigned long)(done - sum));
		atomic_fetch_add(&s->count, 1);
		kill_rest();
	}
	return NULL;
}

#endif
