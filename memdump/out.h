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
#include <sys/uio.h>

#include "memdump/memdump.h"

enum {
	MD_OUT_DEPTH = 8, /* pieces kept: gathered or in flight */
	/*
	 * Of those that go to the page cache the ones that follow each other are one write: the
	 * longer a write, the larger the units of the page cache, and the quicker it is written and
	 * read again.
	 */
	MD_OUT_GATHER = 4,
	MD_OUT_GATHER_LEN = 1 << 20, /* and not much longer than this */
};

/* Pieces in one write, or in what a short write left of it. */
struct md_out_write {
	struct md_block *block[MD_OUT_GATHER]; /* given back at the end; NULL: nobody's */
	struct iovec iov[MD_OUT_GATHER];
	unsigned npieces, first; /* those before first are written */
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
	bool now; /* a write that comes is made by who asks for it; set while none is under way */
	char uring_reason[96];
	struct io_uring ring;
	/* registered memory, in pieces of piece_len; NULL: not registered */
	const uint8_t *fixed_mem;
	size_t fixed_len, piece_len;
	unsigned inflight; /* writes */
	unsigned pieces;   /* in writes[] that are not free */
	struct md_out_write writes[MD_OUT_DEPTH];
	int open; /* the write that is gathered; -1: none */
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
/* Takes @b in every case. The bytes must stay until it is given back, or until the drain. */
int md_out_write(struct md_out *o, struct md_block *b, const uint8_t *buf, size_t len, uint64_t off,
		 struct err *err);
/* Writes what is gathered and waits until nothing is in flight; the sticking failure, if any. */
int md_out_drain(struct md_out *o, struct err *err);
/* Gives back what is gathered, and waits likewise. */
void md_out_abandon(struct md_out *o);

#endif
