/* SPDX-License-Identifier: MIT */
/*
 * The kernel's pages of zeros, by the numbers of their frames: memory that was only read has them.
 *
 * Most CPUs have one. On s390x there are as many as its caches want, up to 128, side by side, and
 * the address says which:
 *
 *	address 0x3ffa000   frame 0x17a     0x3ffb000   0x17b     0x407a000   0x17a
 */
#ifndef MEMDUMP_ZERO_H
#define MEMDUMP_ZERO_H

#include <stdbool.h>
#include <stdint.h>

struct md_zero {
	uint64_t first, n; /* n 0: nobody tells us frames */
};

/* By pages of our own: two, and where these differ 128. */
struct md_zero md_zero_find(void);

static inline bool md_zero_has(const struct md_zero *z, uint64_t frame)
{
	return frame - z->first < z->n;
}

#endif
