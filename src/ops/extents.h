/* SPDX-License-Identifier: MIT */
/*
 * Sets of pages, as sorted lists of extents: what has been stored, what counts.
 *
 * A list is appended to in any order and put into order by extents_settle(); then it is sorted by
 * space and address, and neighbours are merged. One thread.
 */
#ifndef OPS_EXTENTS_H
#define OPS_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memdump/memdump.h"

struct space_extent {
	uint64_t space, addr, len;
};

struct extents {
	struct space_extent *v;
	size_t n, room;
};

/* -ENOMEM. A piece that goes on where the last one ended is merged at once. */
int extents_add(struct extents *x, uint64_t space, uint64_t addr, uint64_t len);
int extents_reserve(struct extents *x, size_t more);
void extents_settle(struct extents *x);
/* Settled: the first that ends above @addr in @space or later; x->n when there is none. */
size_t extents_find(const struct extents *x, uint64_t space, uint64_t addr);
uint64_t extents_bytes(const struct extents *x);
void extents_free(struct extents *x);

/* A reader that passes on what @from reads and notes it in @to. Closes neither. */
struct noting_reader {
	struct md_reader r;
	struct md_reader *from;
	struct extents *to;
	uint64_t bytes;
};
void noting_reader_init(struct noting_reader *n, struct md_reader *from, struct extents *to);

/*
 * A reader that leaves out the pages of @from that are the same in @parent, but for those in
 * @own, which is settled. Closes neither.
 */
struct parting_reader {
	struct md_reader r;
	struct md_reader *from;
	struct md_file *parent;
	const struct extents *own;
	uint8_t *buf; /* a block's worth, free() it */
	uint32_t page_size;
	uint64_t space, space_off;
};
int parting_reader_init(struct parting_reader *p, struct md_reader *from, struct md_file *parent,
			const struct extents *own, struct err *err);

#endif
