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

/* --- threads: --n threads, each with a name, a word and registers of its own ---------------- */

enum { MAX_FACTS = 64 /* threads whose registers are facts */ };

static void rest_facts(const struct victim_rest *r)
{
	char text[33];

	for (unsigned i = 0; i < REST_GPRS; i++)
		if (cpu_rest.gpr[i])
			v_fact("reg %d %s %#llx", gettid_(), cpu_rest.gpr[i],
			       (unsigned long long)r->gpr[i]);
	for (unsigned i = 0; cpu_rest.facts && i < cpu_rest.nvecs; i++) {
		/* As bytes in memory, lowest first. */
		for (unsigned b = 0; b < 16; b++)
			snprintf(text + 2 * b, 3, "%02x", ((const uint8_t *)r->vec[i])[b]);
		v_fact("vec %d %u %s", gettid_(), i, text);
	}
}

static void rest_check(const struct victim_rest *r)
{
	for (unsigned i = 0; i < REST_GPRS; i++)
		if (cpu_rest.gpr[i] && r->got_gpr[i] != r->gpr[i])
			v_bad("threads: %s of thread %d is %#llx, not %#llx", cpu_rest.gpr[i],
			      gettid_(), (unsigned long long)r->got_gpr[i],
			      (unsigned long long)r->gpr[i]);
	for (unsigned i = 0; r->vectors && i < cpu_rest.nvecs; i++)
		if (memcmp(r->got_vec[i], r->vec[i], sizeof(r->vec[i])) != 0)
			v_bad("threads: vector register %u of thread %d has changed", i, gettid_());
}

static void *idle_thread(void *arg)
{
	const uint64_t n = (uint64_t)(uintptr_t)arg;
	char name[16];
	volatile uint64_t mine = ~n;
	struct victim_rest r = {.time.tv_nsec = 500000000, .vectors = cpu_rest_vectors()};

	snprintf(name, sizeof(name), "v-%lu", (unsigned long)n);
	pthread_setname_np(pthread_self(), name);
	v_fact("comm %d %s", gettid_(), name);
	fill(r.gpr, sizeof(r.gpr), 0x5eed3000 + n);
	fill(r.vec, sizeof(r.vec), 0x5eed4000 + n);
	if (n < MAX_FACTS)
		rest_facts(&r);
	v_tick();
	while (!v_quitting()) {
		if (mine != ~n)
			v_bad("threads: the word of thread %lu is wrong", (unsigned long)n);
		victim_regs_rest(&r);
		rest_check(&r);
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
	{"threads", "--n 100 threads with names, asleep with known registers", threads_setup},
	{},
};
