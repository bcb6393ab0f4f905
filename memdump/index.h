/* SPDX-License-Identifier: MIT */
/*
 * Address → block, in a file or in one of its parents.
 *
 * The writer collects one entry per block while blocks go by, and sorts once, at the end. The
 * reader turns the stored index, or the heads of a torn file, into pieces of blocks: those that
 * count, by address. Rounds, maps and parents are settled here, in O(n log n) of all extents.
 *
 *	block 0, round 0  │ 0x1000..0x4000                  │  at 0
 *	block 1, round 1             │ 0x2000..0x3000 │        at 0
 *	map               │ 0x1000..0x4000, 0x8000..0x9000  │
 *	parent's block 7      0x8000..0xa000                   at 0x5000
 *	pieces            0x1000..0x2000 → 0 at 0        0x2000..0x3000 → 1 at 0
 *	                  0x3000..0x4000 → 0 at 0x2000   0x8000..0x9000 → parent's 7 at 0x5000
 *
 * Pages that a block says are those of another process (MD_CODEC_SAME) come as pieces of that one's
 * blocks.
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
	uint64_t first; /* of its extents; of a map record's in the list's maps */
};

/* One file's blocks and map records and their extents, in any order. */
struct md_index_list {
	struct md_index_block *blocks;
	size_t nblocks, cap_blocks;
	struct md_extent *extents;
	size_t nextents, cap_extents;
	struct md_extent *maps; /* the reader's alone */
	size_t nmaps, cap_maps;
	bool layered; /* has a map or rounds: what is stored is not yet what counts */
	bool same;    /* has blocks of other processes' pages */
};

void md_index_list_deinit(struct md_index_list *l);
/* -ENOMEM. */
int md_index_list_add(struct md_index_list *l, const struct md_index_entry *e,
		      const struct md_extent *extents);
/* Room for @n more extents of maps, behind the nmaps there are. -ENOMEM. */
int md_index_list_reserve_maps(struct md_index_list *l, size_t n);
/* By space; in it the maps in their order, then blocks by first address, then by round. */
void md_index_list_sort(struct md_index_list *l);

static inline bool md_index_is_map(const struct md_index_entry *e)
{
	return e->codec == MD_CODEC_MAP;
}

/* Of a block of pages. */
static inline uint32_t md_index_round(const struct md_index_entry *e)
{
	return e->codec == MD_CODEC_SAME ? 0 : e->round;
}

/* What a list is told of each of its blocks. */
static inline void md_index_list_note(struct md_index_list *l, const struct md_index_entry *e)
{
	l->layered |= md_index_is_map(e) || md_index_round(e);
	l->same |= e->codec == MD_CODEC_SAME;
}

struct md_index_piece {
	uint64_t addr, len;
	uint32_t file;	  /* 0: the file itself, then its parent, ... */
	uint32_t block;	  /* number of the block in that file's list */
	uint32_t raw_off; /* of this piece in the block */
	uint32_t as;	  /* 0: of the block's space; else of process @as, who has the same */
};

struct md_index_space {
	uint64_t space;
	size_t first, n;
};

struct md_index {
	struct md_index_piece *pieces; /* by space, then by address */
	size_t npieces;
	struct md_index_space *spaces; /* of the file itself, also those without a page */
	size_t nspaces;
};

/* The one of the @n sorted ones at @v that is @space, or NULL. */
const struct md_index_space *md_index_space_in(const struct md_index_space *v, size_t n,
					       uint64_t space);

/* The space that has the pages of @p, a piece of a block of @l. */
static inline uint64_t md_index_space_of(const struct md_index_list *l,
					 const struct md_index_piece *p)
{
	return p->as ? MD_SPACE_PROC(p->as) : l->blocks[p->block].entry.space;
}

/* A file of a chain. */
struct md_index_file {
	const struct md_index_list *list;
	const char *where; /* begins every message about it */
	bool torn;	   /* pages that nobody has are left out */
};

void md_index_deinit(struct md_index *x);
/*
 * @files are a file, its parent, and so on; they are not kept. -EBADMSG when a page is stored twice
 * in one round, a map is none, or nobody has a page that a map names, or that a process is said to
 * have as another's.
 */
int md_index_init(struct md_index *x, const struct md_index_file *files, unsigned n,
		  struct err *err);
/* The first piece of @space that ends above @addr; NULL when there is none. */
const struct md_index_piece *md_index_find(const struct md_index *x, uint64_t space, uint64_t addr);
/* The one after @p in the same space, or NULL. */
const struct md_index_piece *md_index_next(const struct md_index *x, uint64_t space,
					   const struct md_index_piece *p);

/* Pages that come from the parent, by space, then by address. */
struct md_index_want {
	uint64_t space;
	struct md_extent extent;
};
struct md_index_wants {
	struct md_index_want *v;
	size_t n, cap;
};

/*
 * For verifying a chain link by link: what @f wants of its parent, and bytes that are stored in it
 * and do not count. The caller frees ret_wants->v. -EBADMSG as above.
 */
int md_index_wants(const struct md_index_file *f, struct md_index_wants *ret_wants,
		   uint64_t *ret_stale_bytes, struct err *err);
/* -EBADMSG with the first page that @parent does not have, neither stored nor by its map. */
int md_index_has(const struct md_index_file *parent, const struct md_index_wants *wants,
		 struct err *err);

#endif
