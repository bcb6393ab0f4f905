/* SPDX-License-Identifier: MIT */
/* Sets of pages as sorted lists of extents. */
#include "src/ops/extents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int extents_reserve(struct extents *x, size_t more)
{
	size_t room = x->room ? x->room : 64;
	struct space_extent *v;

	if (x->room - x->n >= more)
		return 0;
	while (room - x->n < more)
		room *= 2;
	v = reallocarray(x->v, room, sizeof(*v));
	if (!v)
		return -ENOMEM;
	x->v = v;
	x->room = room;
	return 0;
}

int extents_add(struct extents *x, uint64_t space, uint64_t addr, uint64_t len)
{
	struct space_extent *last = x->n ? &x->v[x->n - 1] : NULL;

	if (last && last->space == space && last->addr + last->len == addr) {
		last->len += len;
		return 0;
	}
	if (extents_reserve(x, 1) < 0)
		return -ENOMEM;
	x->v[x->n++] = (struct space_extent){space, addr, len};
	return 0;
}

static int by_place(const void *va, const void *vb)
{
	const struct space_extent *a = va, *b = vb;

	if (a->space != b->space)
		return a->space < b->space ? -1 : 1;
	return a->addr < b->addr ? -1 : a->addr > b->addr;
}

void extents_settle(struct extents *x)
{
	size_t n = 0;

	if (!x->n)
		return;
	qsort(x->v, x->n, sizeof(*x->v), by_place);
	for (size_t i = 1; i < x->n; i++) {
		struct space_extent *last = &x->v[n], *e = &x->v[i];

		if (e->space != last->space || e->addr > last->addr + last->len)
			x->v[++n] = *e;
		else if (e->addr + e->len > last->addr + last->len)
			last->len = e->addr + e->len - last->addr;
	}
	x->n = n + 1;
}

size_t extents_find(const struct extents *x, uint64_t space, uint64_t addr)
{
	size_t lo = 0, hi = x->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct space_extent *e = &x->v[mid];

		if (e->space < space || (e->space == space && e->addr + e->len <= addr))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

uint64_t extents_bytes(const struct extents *x)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < x->n; i++)
		sum += x->v[i].len;
	return sum;
}

void extents_free(struct extents *x)
{
	free(x->v);
	*x = (struct extents){0};
}

static int noting_next(struct md_reader *reader, struct md_block *b, uint32_t block_size,
		       struct err *err)
{
	struct noting_reader *n = (struct noting_reader *)reader;
	int ret = n->from->next(n->from, b, block_size, err);

	n->r.vanished_bytes = n->from->vanished_bytes;
	if (ret <= 0)
		return ret;
	n->bytes += b->raw_len;
	for (uint32_t i = 0; i < b->nextents; i++)
		if (extents_add(n->to, b->space, b->extents[i].addr, b->extents[i].len) < 0)
			return err_set(err, ENOMEM, "list of %zu pieces of memory", n->to->n);
	return 1;
}

void noting_reader_init(struct noting_reader *n, struct md_reader *from, struct extents *to)
{
	*n = (struct noting_reader){.r = {.next = noting_next}, .from = from, .to = to};
}

/* --- what a parent has already -------------------------------------------------------------- */

/* Drops pages from a block that is being gone through from front to back. */
struct sieve {
	struct md_block *b;
	struct md_extent old[MD_BLOCK_EXTENTS];
	uint32_t at;   /* where the next page that stays goes */
	uint32_t left; /* extents still to come, this one too: there is room for them */
};

static void sieve_keep(struct sieve *s, uint64_t addr, uint32_t from, uint32_t len)
{
	struct md_block *b = s->b;
	struct md_extent *last = b->nextents ? &b->extents[b->nextents - 1] : NULL;

	if (s->at != from)
		memmove(b->raw + s->at, b->raw + from, len);
	s->at += len;
	if (last && last->addr + last->len == addr)
		last->len += len;
	else
		b->extents[b->nextents++] = (struct md_extent){addr, len};
}

static bool is_own(const struct parting_reader *p, uint64_t space, uint64_t addr)
{
	size_t i = p->own ? extents_find(p->own, space, addr) : 0;

	return p->own && i < p->own->n && p->own->v[i].space == space && p->own->v[i].addr <= addr;
}

/* One extent of the block: compared with as much of the parent as is there in one piece. */
static int part_extent(struct parting_reader *p, struct sieve *s, const struct md_extent *e,
		       uint32_t off, struct err *err)
{
	uint64_t space = s->b->space, done = 0;

	while (done < e->len) {
		ssize_t n =
			md_file_read(p->parent, space, e->addr + done, p->buf, e->len - done, err);
		uint64_t have = n > 0 ? (uint64_t)n - (uint64_t)n % p->page_size : 0;
		uint64_t step = have ? have : p->page_size;

		if (n < 0)
			return (int)n;
		for (uint64_t i = 0; i < step; i += p->page_size) {
			uint64_t addr = e->addr + done + i;
			uint32_t at = off + (uint32_t)(done + i);

			if (i < have && s->b->nextents + s->left < MD_BLOCK_EXTENTS &&
			    !memcmp(s->b->raw + at, p->buf + i, p->page_size) &&
			    !is_own(p, space, addr))
				continue;
			sieve_keep(s, addr, at, p->page_size);
		}
		done += step;
	}
	return 0;
}

static int part_block(struct parting_reader *p, struct md_block *b, struct err *err)
{
	struct sieve s = {.b = b};
	uint32_t n = b->nextents, off = 0;
	int ret = 0;

	memcpy(s.old, b->extents, n * sizeof(*s.old));
	b->nextents = 0;
	for (uint32_t i = 0; ret == 0 && i < n; i++) {
		s.left = n - i;
		ret = part_extent(p, &s, &s.old[i], off, err);
		off += (uint32_t)s.old[i].len;
	}
	b->raw_len = s.at;
	return ret;
}

static int parting_next(struct md_reader *reader, struct md_block *b, uint32_t block_size,
			struct err *err)
{
	struct parting_reader *p = (struct parting_reader *)reader;

	for (;;) {
		int ret = p->from->next(p->from, b, block_size, err);

		p->r.vanished_bytes = p->from->vanished_bytes;
		if (ret > 0 && part_block(p, b, err) < 0)
			return -err->errnum;
		if (ret <= 0)
			return ret;
		if (!b->raw_len)
			continue;
		if (b->space != p->space)
			p->space_off = 0;
		p->space = b->space;
		b->space_off = p->space_off;
		p->space_off += b->raw_len;
		return 1;
	}
}

int parting_reader_init(struct parting_reader *p, struct md_reader *from, struct md_file *parent,
			const struct extents *own, struct err *err)
{
	*p = (struct parting_reader){
		.r = {.next = parting_next},
		.from = from,
		.parent = parent,
		.own = own,
		.buf = malloc(MD_BLOCK_MAX),
		.page_size = md_file_page_size(parent),
	};
	return p->buf ? 0 : err_set(err, ENOMEM, "reserve memory to compare pages");
}
