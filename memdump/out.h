/* SPDX-License-Identifier: MIT */
/*
 * Bytes to offsets of one descriptor: io_uring with several writes in flight, else pwrite.
 *
 * One thread at a time. The first failure sticks: every later write gives its block back and
 * returns that failure.
 */
#ifndef MEMDUMP_OUT_H
#define MEMDUMP_OUT_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

#include "memdump/memdump.h"

enum {
	MD_OUT_DEPTH = 8, /* writes in flight */
};

struct md_out_write {
	struct md_block *block; /* given back when all is written; NULL: nobody's */
	const uint8_t *buf;
	size_t len;
	uint64_t off;
};

struct md_out {
	int fd; /* borrowed */
	char name[96];
	uint32_t
		align; /* a write that stopped short goes on from a multiple of this; 1: anywhere */
	bool uring;
	bool broken; /* the ring takes no more */
	char uring_reason[96];
	struct io_uring ring;
	/* registered memory, in pieces of piece_len; NULL: not registered */
	const uint8_t *fixed_mem;
	size_t fixed_len, piece_len;
	unsigned inflight;
	struct md_out_write writes[MD_OUT_DEPTH];
	/* of those in flight the ones in the ring that the kernel has not taken yet, in order */
	unsigned queued[MD_OUT_DEPTH], nqueued;
	unsigned free[MD_OUT_DEPTH], nfree;
	struct err err; /* the failure that sticks */
};

/* Chooses io_uring if the kernel lets us and @no_uring is false; uring_reason says why not. */
void md_out_init(struct md_out *o, int fd, const char *name, uint32_t align, bool no_uring);
/* No write may be in flight. */
void md_out_deinit(struct md_out *o);
/* Registers the memory that writes will come from, in units of @buf_size. Best effort. */
void md_out_register(struct md_out *o, void *mem, size_t len, size_t buf_size);
/* No write may be in flight: the memory is the caller's alone again. */
void md_out_unregister(struct md_out *o);
/* Takes @b in every case. The bytes must stay until it is given back. */
int md_out_write(struct md_out *o, struct md_block *b, const uint8_t *buf, size_t len, uint64_t off,
		 struct err *err);
/* Waits until nothing is in flight; the sticking failure, if any. */
int md_out_drain(struct md_out *o, struct err *err);

#endif
