/* SPDX-License-Identifier: MIT */
/*
 * Pieces of memory that go to a process, or come from it, in one call. For each piece there the
 * kernel pins pages anew, so what lies close together there is one, whatever it is made of here:
 *
 *	there   0x10c0 ............................... 0x1800
 *	here    a: 0x120 bytes, gap: 0x20, b: 0x400, gap: 0x100, c: 0x100
 *
 * What is between them is written with zeros, or read and dropped.
 */
#ifndef TARGET_PARCEL_H
#define TARGET_PARCEL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { PARCEL_GAP = 1024 /* no longer ones */ };

/* Lists that the caller has room for: two here and one there for each piece are enough. */
struct parcel {
	struct iovec *here, *there;
	unsigned nhere, nthere;
	size_t len; /* of all, with gaps */
	uint64_t end;
	uint8_t gaps[PARCEL_GAP];
};

/* Addresses ascend, or begin another piece. Nothing for @len 0. */
void parcel_add(struct parcel *p, void *at, uint64_t addr, size_t len);

#endif
