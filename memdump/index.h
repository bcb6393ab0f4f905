/* SPDX-License-Identifier: MIT */
/*
 * Address → block of this file.
 *
 * The writer collects one entry per block while blocks go by, and sorts once, at the end. The
 * reader turns the stored index, or the heads of a torn file, into a map of extents:
 *
 *	blocks   │ 0: off 0x40 │ 1: off 0x9c0 │
 *	map      │ 0x1000..0x3000 → 0 at 0 │ 0x3000..0x4000 → 1 at 0 │ 0x9000..0xa000 → 0 at 0x2000
 *│
 *
 * Memory of the writing side: 40 bytes per block and 16 per extent, doubled while it sorts.
 */
#ifndef MEMDUMP_INDEX_H
#define MEMDUMP_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "memdump/format.h"
#include "memdump/memdump.h"

struct md_index_block {
	struct md_index_entry entry;
	uint64_t first; /* of its extents */
};

/* Blocks and their extents, in any order. */
struct md_index_list {
	struct md_index_block *blocks;
	size_t nblocks, cap_blocks;
	struct md_extent *extents;
	size_t nextents, cap_extents;
};

void md_index_list_deinit(struct md_index_list *l);
/* -ENOMEM. */
int md_index_list_add(struct md_index_list *l, const struct md_index_entry *e,
		      const struct md_extent *extents);
/* By space, then by first address. */
void md_index_list_sort(struct md_index_list *l);

struct md_index_map {
	uint64_t addr, len;
	uint64_t block;	  /* number of the block in list.blocks */
	uint32_t raw_off; /* of this extent in the block */
};

struct md_index_space {
	uint64_t space;
	size_t first, n; /* of its map entries */
};

struct md_index {
	struct md_index_list list;
	struct md_index_map *map; /* by space, then by address */
	struct md_index_space *spaces;
	size_t nspaces;
};

void md_index_deinit(struct md_index *x);
/* Takes over @list, in success and failure. -EBADMSG when a page is stored twice. */
int md_index_init(struct md_index *x, struct md_index_list *list, struct err *err);
/*
 * Every page that is stored as another process's is stored as that one's own. -EBADMSG: not so.
 * Only of a file that is whole.
 */
int md_index_check_same(const struct md_index *x, struct err *err);
/* The first map entry of @space that ends above @addr; NULL when there is none. */
const struct md_index_map *md_index_find(const struct md_index *x, uint64_t space, uint64_t addr);
/* The entry after @m in the same space, or NULL. */
const struct md_index_map *md_index_next(const struct md_index *x, uint64_t space,
					 const struct md_index_map *m);

#endif
