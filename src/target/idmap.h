/* SPDX-License-Identifier: MIT */
/*
 * A hash from 64-bit keys to indices, for look-ups among many threads, files and segments.
 *
 * Keys may repeat: idmap_next() goes on with the same key. Owner: the caller; the table is mapped
 * memory that grows by doubling, entries are never removed. One thread.
 */
#ifndef TARGET_IDMAP_H
#define TARGET_IDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct idmap_slot {
	uint64_t key;
	uint32_t value;
	uint32_t used;
};

struct idmap {
	struct idmap_slot *slots;
	size_t nslots; /* power of two */
	size_t n;
};

/* Zeroed is empty. */
void idmap_deinit(struct idmap *m);

/* 0 or -ENOMEM. */
int idmap_put(struct idmap *m, uint64_t key, uint32_t value);

/* Position of the first entry with @key, for idmap_next(). */
size_t idmap_start(const struct idmap *m, uint64_t key);

/* True with the next value under @key; false at the end. */
bool idmap_next(const struct idmap *m, uint64_t key, size_t *pos, uint32_t *ret_value);

/* The first value under @key. */
bool idmap_get(const struct idmap *m, uint64_t key, uint32_t *ret_value);

/* Mixes two words into one key. */
static inline uint64_t idmap_mix(uint64_t a, uint64_t b)
{
	a ^= b + 0x9e3779b97f4a7c15ULL + (a << 12) + (a >> 4);
	a *= 0xbf58476d1ce4e5b9ULL;
	return a ^ a >> 29;
}

#endif
