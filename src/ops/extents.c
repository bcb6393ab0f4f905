/* SPDX-License-Identifier: MIT */
/* Sets of pages as sorted lists of extents. */
#include "src/ops/extents.h"

#include <errno.h>
#include <stdlib.h>

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
