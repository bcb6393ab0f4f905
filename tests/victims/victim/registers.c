/* SPDX-License-Identifier: MIT */
/*
 * Threads with registers of interest, whatever the CPU.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/victim.h"

volatile uint64_t *_Atomic spinning[MAX_THREADS];

/* Until every thread has compared all of its registers since the question was asked. */
static void regs_check(void)
{
	for (unsigned i = 0; i < MAX_THREADS; i++) {
		volatile uint64_t *count = spinning[i];
		uint64_t seen = count ? *count : 0;

		for (unsigned ms = 0; spinning[i] && *count < seen + 130; ms++) {
			if (ms == 20000) {
				v_bad("regs: thread %u of the victim stands still", i);
				break;
			}
			sleep_ms(1);
		}
	}
}

static void regs_setup(void)
{
	uint64_t n = opt_u64("n", 4);

	if (n > MAX_THREADS)
		v_die("at most %d threads", MAX_THREADS);
	for (uint64_t i = 0; i < n; i++)
		start_thread(cpu_regs_thread, (void *)(uintptr_t)i);
	v_await_ticks((unsigned)n);
}

/* --- threads: --n threads, each with a name and a word of its own
 * -------------------------------------------- */

static void *idle_thread(void *arg)
{
	char name[16];
	volatile uint64_t mine = ~(uint64_t)(uintptr_t)arg;

	snprintf(name, sizeof(name), "v-%lu", (unsigned long)(uintptr_t)arg);
	pthread_setname_np(pthread_self(), name);
	v_fact("comm %d %s", gettid_(), name);
	v_tick();
	while (!v_quitting()) {
		if (mine != ~(uint64_t)(uintptr_t)arg)
			v_bad("threads: the word of thread %lu is wrong",
			      (unsigned long)(uintptr_t)arg);
		sleep_ms(500);
	}
	return NULL;
}

static void threads_setup(void)
{
	uint64_t n = opt_u64("n", 100);

	for (uint64_t i = 0; i < n; i++)
		start_thread(idle_thread, (void *)(uintptr_t)i);
	v_await_ticks((unsigned)n);
}

const struct scenario register_scenarios[] = {
	{"regs", "--n 4 threads with known registers of all kinds", regs_setup, regs_check},
	{"threads", "--n 100 threads with names", threads_setup},
	{},
};
