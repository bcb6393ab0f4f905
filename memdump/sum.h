/* SPDX-License-Identifier: MIT */
/* The one checksum of the block file: XXH3 64 bit, seed 0. */
#ifndef MEMDUMP_SUM_H
#define MEMDUMP_SUM_H

#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

static inline uint64_t md_sum(const void *p, size_t len)
{
	return XXH3_64bits(p, len);
}

/* A zero block has no payload, and 0 for its sum. */
static inline uint64_t md_sum_payload(const void *p, size_t len)
{
	return len ? md_sum(p, len) : 0;
}

#endif
