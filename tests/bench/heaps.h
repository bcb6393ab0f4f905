/* SPDX-License-Identifier: MIT */
/* Memory as programs have it, for benchmarks: noise, structures of an allocator, text, zeros. */
#ifndef BENCH_HEAPS_H
#define BENCH_HEAPS_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t rnd_state = 0x9e3779b97f4a7c15ULL;

static uint64_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state;
}

static void fill_random(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = rnd();

		memcpy(p + i, &v, 8);
	}
}

/* Objects as an allocator lays them out: a header, pointers into one arena, small numbers. */
static void fill_structs(uint8_t *p, size_t len)
{
	for (size_t i = 0; i + 64 <= len; i += 64) {
		uint64_t o[8] = {
			0x41,
			0x00007f3a5c000000ULL + (rnd() & 0xfffff0),
			rnd() & 3 ? 0 : 0x00007f3a5c000000ULL + (rnd() & 0xfffff0),
			rnd() & 0xff,
			1,
			0x0000000100000000ULL | (rnd() & 0xffff),
			0x0000559e1b2c4400ULL + (rnd() & 7) * 64,
			i & 0xffff,
		};

		memcpy(p + i, o, sizeof(o));
	}
}

/* Records of text with keys that repeat and values that mostly do not. */
static void fill_text(uint8_t *p, size_t len)
{
	static const char *const words[] = {
		"session", "user", "value", "expires", "name",	"address", "status", "active",
		"London",  "item", "price", "created", "total", "order",   "null",   "description",
	};
	size_t at = 0;

	while (at < len) {
		char rec[160];
		int n = snprintf(
			rec, sizeof(rec),
			"{\"id\":%" PRIu64 ",\"%s\":\"%s %s\",\"%s\":%u,\"token\":\"%08x\"}\n",
			rnd() % 100000000, words[rnd() & 15], words[rnd() & 15], words[rnd() & 15],
			words[rnd() & 15], (unsigned)rnd() & 0xfff, (unsigned)rnd());
		size_t take = (size_t)n < len - at ? (size_t)n : len - at;

		memcpy(p + at, rec, take);
		at += take;
	}
}

static void fill_mixed(uint8_t *p, size_t len)
{
	enum { RUN = 1 << 20 };

	for (size_t at = 0, k = 0; at < len; at += RUN, k++) {
		size_t n = len - at < RUN ? len - at : RUN;

		switch (k % 10) {
		case 0:
			fill_random(p + at, n);
			break;
		case 1:
			memset(p + at, 0, n);
			break;
		case 2:
		case 3:
		case 4:
		case 5:
			fill_text(p + at, n);
			break;
		default:
			fill_structs(p + at, n);
		}
	}
}

static void fill_half(uint8_t *p, size_t len)
{
	fill_mixed(p, len);
	for (size_t at = 0; at < len; at += 8 << 20)
		memset(p + at, 0, 4 << 20);
}

static void fill_zero(uint8_t *p, size_t len)
{
	memset(p, 0, len);
}

#endif
