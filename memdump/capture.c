/* SPDX-License-Identifier: MIT */
/* Blocks kept in memory that was made ready before: read now, packed and written later. */
#include "memdump/memdump.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

struct kept {
	uint64_t space, space_off;
	uint32_t raw_len, nextents;
	size_t first; /* of its extents */
};

struct md_capture {
	uint8_t *raw; /* blocks one after the other */
	size_t room, used;
	struct kept *kept; /* at most one per page */
	size_t nkept, max_kept;
	struct md_extent *extents; /* at most one per page, and one block's more */
	size_t nextents;
};

enum { KEPT_BLOCK = MD_BLOCK_MIN };

/* Address space; memory only where it is used. */
static void *reserve(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static size_t extents_len(const struct md_capture *c)
{
	return (c->max_kept + MD_BLOCK_EXTENTS) * sizeof(*c->extents);
}

struct md_capture *md_capture_new(size_t bytes, struct err *err)
{
	struct md_capture *c = calloc(1, sizeof(*c));

	if (!c)
		goto fail;
	c->room = (bytes + KEPT_BLOCK - 1) / KEPT_BLOCK * KEPT_BLOCK;
	c->max_kept = c->room / (size_t)sysconf(_SC_PAGESIZE);
	c->raw = reserve(c->room);
	c->kept = reserve(c->max_kept * sizeof(*c->kept));
	c->extents = reserve(extents_len(c));
	if (!c->raw || !c->kept || !c->extents)
		goto fail;
	/* Page faults now, not when somebody stands still. A kernel that does not know it: then. */
	madvise(c->raw, c->room, MADV_POPULATE_WRITE);
	return c;
fail:
	md_capture_free(c);
	err_set(err, ENOMEM, "reserve %zu bytes for pages", bytes);
	return NULL;
}

void md_capture_free(struct md_capture *c)
{
	if (!c)
		return;
	if (c->raw)
		munmap(c->raw, c->room);
	if (c->kept)
		munmap(c->kept, c->max_kept * sizeof(*c->kept));
	if (c->extents)
		munmap(c->extents, extents_len(c));
	free(c);
}

int md_capture_fill(struct md_capture *c, struct md_reader *r, struct err *err)
{
	while (c->room - c->used >= KEPT_BLOCK && c->nkept < c->max_kept &&
	       c->nextents < c->max_kept) {
		struct md_block b = {
			.raw = c->raw + c->used,
			.extents = c->extents + c->nextents,
		};
		int ret = r->next(r, &b, KEPT_BLOCK, err);

		if (ret <= 0)
			return ret;
		c->kept[c->nkept++] =
			(struct kept){b.space, b.space_off, b.raw_len, b.nextents, c->nextents};
		c->nextents += b.nextents;
		c->used += b.raw_len;
	}
	return 1;
}

size_t md_capture_bytes(const struct md_capture *c)
{
	return c->used;
}

/* --- as a reader ---------------------------------------------------------------------------- */

struct capture_reader {
	struct md_reader r;
	const struct md_capture *c;
	size_t at, off;
};

static int capture_next(struct md_reader *reader, struct md_block *b, uint32_t block_size,
			struct err *err)
{
	struct capture_reader *r = (struct capture_reader *)reader;
	const struct md_capture *c = r->c;
	const struct kept *k = &c->kept[r->at];

	if (r->at == c->nkept)
		return 0;
	if (k->raw_len > block_size)
		return err_set(err, EINVAL, "blocks of %u bytes for kept ones of %u", block_size,
			       k->raw_len);
	b->space = k->space;
	b->space_off = k->space_off;
	b->raw_len = k->raw_len;
	b->nextents = k->nextents;
	memcpy(b->extents, c->extents + k->first, k->nextents * sizeof(*b->extents));
	memcpy(b->raw, c->raw + r->off, k->raw_len);
	r->off += k->raw_len;
	r->at++;
	return 1;
}

static void capture_close(struct md_reader *r)
{
	free(r);
}

struct md_reader *md_capture_reader(const struct md_capture *c, struct err *err)
{
	struct capture_reader *r = calloc(1, sizeof(*r));

	if (!r) {
		err_set(err, ENOMEM, "reader of kept pages");
		return NULL;
	}
	r->r = (struct md_reader){.next = capture_next, .close = capture_close};
	r->c = c;
	return &r->r;
}
