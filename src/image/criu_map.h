/* SPDX-License-Identifier: MIT */
/*
 * CRIU's page map of one space: which pages are stored, and where.
 *
 *	entry	0x1000  2 pages  PRESENT	pages-N.img  0x0000
 *	entry	0x9000  1 page   PARENT		             -
 *	entry	0xa000  4 pages  PRESENT	             0x2000
 *
 * The format has no offset: pages lie in the file in the order of their entries.
 */
#ifndef IMAGE_CRIU_MAP_H
#define IMAGE_CRIU_MAP_H

#include "src/image/mm.pb-c.h"
#include "src/image/store.h"

/* pagemap_entry.flags */
enum {
	CRIU_PE_PARENT = 1,
	CRIU_PE_LAZY = 2,
	CRIU_PE_PRESENT = 4,
};

struct criu_run {
	uint64_t addr;
	uint64_t npages;
	uint64_t page; /* first one's place in the pages file, in pages */
	uint32_t flags;
};

struct criu_map {
	uint32_t page_size;
	uint32_t pages_id;
	size_t n;
	struct criu_run *runs; /* ascending, no overlap */
	uint64_t npages;       /* in the pages file */
	const Im__PagemapHead *head;
	struct store_in in; /* head is in it */
};

/* "pagemap-7.img" or "pagemap-shmem-7.img" */
const char *criu_map_name(char buf[STORE_NAME], uint64_t space);

/* Unfolds a file already read. -EBADMSG. */
int criu_map_load(int dirfd, const char *name, uint32_t page_size, struct criu_map *ret,
		  struct err *err);
void criu_map_unload(struct criu_map *map);

/* Index of the first run that ends above @addr; map->n when there is none. */
size_t criu_map_find(const struct criu_map *map, uint64_t addr);

#endif
