/* SPDX-License-Identifier: MIT */
/*
 * One block file's pages by address: of each the copy that counts in this file, and its maps.
 *
 * Between index.c, which collects, and resolve.c, which puts a file and its parents together.
 */
#ifndef MEMDUMP_LAYER_H
#define MEMDUMP_LAYER_H

#include "memdump/index.h"

struct md_pieces {
	struct md_index_piece *v;
	size_t n, cap;
};

struct md_layer {
	const struct md_index_file *file;
	uint32_t number; /* of the file in the chain */
	/* by space, then by address; rounds settled, not cut by maps; other processes' found */
	struct md_pieces stored;
	struct md_index_space *spaces; /* of stored */
	size_t nspaces;
	struct md_extent *named;
	struct md_index_space *maps; /* of named */
	size_t nmaps;
};

/* -EBADMSG when a page is stored twice in one round, or a map is none. Deinit after that too. */
int md_layer_init(struct md_layer *l, const struct md_index_file *f, uint32_t number,
		  struct err *err);
void md_layer_deinit(struct md_layer *l);

/*
 * Pages that are another process's become pieces of its blocks. -EBADMSG when they are not there,
 * or one of the two has rounds or a map; of a torn file they are left out then.
 */
int md_layer_same(struct md_layer *l, struct err *err);

/* From @addr to @last of @p; together with the one before where it goes on there. */
int md_pieces_put(struct md_pieces *to, const struct md_index_piece *p, uint64_t addr,
		  uint64_t last, struct err *err);
/* Room for one more of @size bytes at *@array, which has @n, by doubling. */
bool md_index_grow(void *array, size_t size, size_t n, size_t *cap);

/* Address of the last byte: the one behind it may be 2^64. */
static inline uint64_t md_last_of(uint64_t addr, uint64_t len)
{
	return addr + (len - 1);
}

static inline int md_index_no_memory(struct err *err)
{
	return err_set(err, ENOMEM, "reserve memory for the index");
}

#endif
