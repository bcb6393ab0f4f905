/* SPDX-License-Identifier: MIT */
/* The one checksum of the block file: XXH3 64 bit, seed 0. */
#ifndef MEMDUMP_SUM_H
#define MEMDUMP_SUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>
/*
 * On x86 the library has the same functions for AVX2 and AVX-512 under other names, and this header
 * puts them in the place of the plain ones: three times as fast. On other CPUs it is installed
 * without them.
 */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

static inline uint64_t md_sum(const void *p, size_t len)
{
	return XXH3_64bits(p, len);
}

/* The same over pieces: begin, add, end; end frees what begin took. */
struct md_sum_run {
	XXH3_state_t *state;
};

/* False when there is no memory; nothing is to be freed then. */
static inline bool md_sum_begin(struct md_sum_run *r)
{
	r->state = XXH3_createState();
	return r->state && XXH3_64bits_reset(r->state) == XXH_OK;
}

static inline void md_sum_add(struct md_sum_run *r, const void *p, size_t len)
{
	XXH3_64bits_update(r->state, p, len);
}

static inline uint64_t md_sum_end(struct md_sum_run *r)
{
	uint64_t sum = XXH3_64bits_digest(r->state);

	XXH3_freeState(r->state);
	r->state = NULL;
	return sum;
}

/* A zero block has no payload, and 0 for its sum. */
static inline uint64_t md_sum_payload(const void *p, size_t len)
{
	return len ? md_sum(p, len) : 0;
}

#endif
