/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of stacks: growing, deep, and downward-growing mappings.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum { RW = PROT_READ | PROT_WRITE };

/* --- growsdown: a mapping that the kernel makes longer at its lower end
 * ----------------------------------- */

enum { GROW_MAX = 256 };
static char *top;
static size_t grown = 1; /* pages below top */

static void growsdown_setup(void)
{
	top = (char *)map_at(HOME(1) + GROW_MAX * PAGE * 4, PAGE, RW,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0) +
	      PAGE;
	while (grown < 16) {
		grown++;
		fill(top - grown * PAGE, PAGE, grown);
	}
	fill(top - PAGE, PAGE, 1);
	fact_memory("region", top - grown * PAGE, grown * PAGE, "growsdown");
}

static void growsdown_check(void)
{
	if (grown < GROW_MAX) {
		grown++;
		fill(top - grown * PAGE, PAGE, grown);
	}
	for (size_t i = 1; i <= grown; i++)
		expect_filled(top - i * PAGE, PAGE, i, "growsdown");
}

/* --- recursion: every frame holds known words, looked at again on the way back
 * ----------------------------- */

static unsigned deepest = 200;

static void __attribute__((noinline)) recurse(unsigned depth)
{
	uint64_t frame[256];

	fill(frame, sizeof(frame), depth);
	if (depth < deepest)
		recurse(depth + 1);
	expect_filled(frame, sizeof(frame), depth, "recursion, frame");
}

/* From a few hundred kilobytes to 4 MiB of stack and back. */
static void recursion_check(void)
{
	recurse(0);
	deepest = deepest >= 2000 ? 200 : deepest + 97;
}

static void recursion_setup(void)
{
	recursion_check();
}

/* --- deep: threads that wait below a known number of frames, for backtraces
 * -------------------------------- */

enum { DEEP_FRAMES = 50 };

/* Not static and not inlined: their names are looked for in backtraces. */
void __attribute__((noinline)) victim_deep_bottom(uint64_t *chain, const char *which);
void __attribute__((noinline))
victim_deep_frame(uint64_t *chain, unsigned depth, const char *which);

void victim_deep_bottom(uint64_t *chain, const char *which)
{
	v_tick();
	while (!v_quitting()) {
		unsigned depth = DEEP_FRAMES;

		/* chain[0] points to the caller's array, up to the first frame's. */
		for (uint64_t *f = chain; f; f = (uint64_t *)f[0], depth--)
			if (f[1] != depth * 0x0101010101ULL)
				v_bad("deep, %s: frame %u holds %#llx", which, depth,
				      (unsigned long long)f[1]);
		sleep_ms(5);
	}
}

void victim_deep_frame(uint64_t *chain, unsigned depth, const char *which)
{
	volatile uint64_t here[2] = {(uint64_t)chain, depth * 0x0101010101ULL};

	if (depth == DEEP_FRAMES)
		victim_deep_bottom((uint64_t *)here, which);
	else
		victim_deep_frame((uint64_t *)here, depth + 1, which);
	/* Keeps the call from becoming a jump. */
	__asm__ volatile("" : : "r"(here) : "memory");
}

static void *deep_thread(void *arg)
{
	victim_deep_frame(NULL, 1, arg);
	return NULL;
}

static void deep_setup(void)
{
	start_thread(deep_thread, "first");
	start_thread(deep_thread, "second");
	v_await_ticks(2);
	v_fact("frames %d victim_deep_frame %d", getpid(), DEEP_FRAMES);
}

const struct scenario stack_scenarios[] = {
	{"growsdown", "a MAP_GROWSDOWN mapping that grows", growsdown_setup, growsdown_check},
	{"recursion", "a main stack that grows and shrinks", recursion_setup, recursion_check},
	{"deep", "two threads below 50 frames", deep_setup, NULL},
	{},
};
