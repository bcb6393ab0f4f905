/* SPDX-License-Identifier: MIT */
/*
 * A heap of --size MiB for benchmarks: --pattern text|random|half|zero|mix, written at --rate
 * MiB/s.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

static char *heap;
static size_t npages;
static enum { TEXT, RANDOM, HALF, ZERO, MIX } pattern;
static uint64_t rate;

/* Lines as a log or a cache of records has them: few words, counters that change. */
static void text_page(char *p, uint64_t i)
{
	static const char *const words[] = {
		"user",	 "session", "token=", "GET /index.html",   "200",
		"cache", "expires", "<html>", "2024-01-01T00:00:", "\n"};
	size_t at = 0;
	uint64_t x = i * 0x9e3779b97f4a7c15ULL;

	while (at + 40 < PAGE) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		at += (size_t)sprintf(p + at, "%s %llu ", words[(x >> 33) % 10],
				      (unsigned long long)(x >> 52));
	}
	memset(p + at, ' ', PAGE - at);
}

static void make_page(uint64_t i, uint64_t generation)
{
	char *p = heap + i * PAGE;
	unsigned kind = pattern == MIX ? (unsigned)(i / 64 % 4) : pattern;

	switch (kind) {
	case TEXT:
		text_page(p, i + generation);
		break;
	case RANDOM:
		fill(p, PAGE, i + generation * 0x100000000ULL);
		break;
	case HALF:
		fill(p, PAGE / 2, i + generation * 0x100000000ULL);
		memset(p + PAGE / 2, 0, PAGE / 2);
		break;
	default:
		memset(p, 0, PAGE);
		break;
	}
}

static void *writer_thread(void *arg)
{
	uint64_t i = 0, generation = 1;

	while (!v_quitting()) {
		for (uint64_t k = 0; k < rate * 256 / 100 + 1; k++) {
			make_page(i, generation);
			i = (i + 7919) % npages;
			generation += i < 7919;
		}
		sleep_ms(10);
	}
	return NULL;
}

static void heap_setup(void)
{
	static const char *const names[] = {"text", "random", "half", "zero", "mix"};
	const char *name = opt_str("pattern", "mix");
	size_t len = opt_u64("size", 64) << 20;

	for (pattern = TEXT; pattern <= MIX && strcmp(names[pattern], name) != 0; pattern++)
		;
	if (pattern > MIX)
		v_die("pattern %s is not known", name);
	npages = len / PAGE;
	heap = mmap((void *)HOME(1), len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (heap == MAP_FAILED)
		v_die("mmap");
	if (opt_u64("thp", 0))
		madvise(heap, len, MADV_HUGEPAGE);
	for (uint64_t i = 0; i < npages; i++)
		make_page(i, 0);
	rate = opt_u64("rate", 0);
	if (rate)
		start_thread(writer_thread, NULL);
	else if (opt_u64("facts", len <= 256 << 20))
		fact_memory("region", heap, len, "heap");
}

/* A sample of a random heap each time; the whole of it would keep a CPU busy. */
static void heap_check(void)
{
	static uint64_t at;

	if (pattern != RANDOM || rate)
		return;
	for (int k = 0; k < 64; k++) {
		at = (at + 7919) % npages;
		expect_filled(heap + at * PAGE, PAGE, at, "heap");
	}
}

const struct scenario heap_scenarios[] = {
	{"heap", "--size MiB --pattern text|random|half|zero|mix --rate MiB/s", heap_setup,
	 heap_check},
	{},
};
