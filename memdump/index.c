/* SPDX-License-Identifier: MIT */
/* Address → block of this file. */
#include "memdump/index.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void md_index_list_deinit(struct md_index_list *l)
{
	free(l->blocks);
	free(l->extents);
	*l = (struct md_index_list){0};
}

/* Room for @more elements behind @n, by doubling. */
static int reserve(void *array, size_t size, size_t n, size_t more, size_t *cap)
{
	size_t want = *cap ? *cap : 64;
	void *p;

	if (n + more <= *cap)
		return 0;
	while (want < n + more)
		want *= 2;
	p = reallocarray(*(void **)array, want, size);
	if (!p)
		return -ENOMEM;
	*(void **)array = p;
	*cap = want;
	return 0;
}

int md_index_list_add(struct md_index_list *l, const struct md_index_entry *e,
		      const struct md_extent *extents)
{
	if (reserve(&l->blocks, sizeof(*l->blocks), l->nblocks, 1, &l->cap_blocks) ||
	    reserve(&l->extents, sizeof(*l->extents), l->nextents, e->nextents, &l->cap_extents))
		return -ENOMEM;
	l->blocks[l->nblocks++] = (struct md_index_block){*e, l->nextents};
	memcpy(l->extents + l->nextents, extents, e->nextents * sizeof(*extents));
	l->nextents += e->nextents;
	return 0;
}

static int cmp(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int cmp_blocks(const void *va, const void *vb, void *arg)
{
	const struct md_index_list *l = arg;
	const struct md_index_block *a = va, *b = vb;
	int c = cmp(a->entry.space, b->entry.space);

	return c ? c : cmp(l->extents[a->first].addr, l->extents[b->first].addr);
}

void md_index_list_sort(struct md_index_list *l)
{
	if (l->nblocks)
		qsort_r(l->blocks, l->nblocks, sizeof(*l->blocks), cmp_blocks, l);
}

/* --- the reader's side --------------------------------------------------------------------- */

void md_index_deinit(struct md_index *x)
{
	md_index_list_deinit(&x->list);
	free(x->map);
	free(x->spaces);
	*x = (struct md_index){0};
}

static int cmp_map(const void *va, const void *vb, void *arg)
{
	const struct md_index *x = arg;
	const struct md_index_map *a = va, *b = vb;
	int c = cmp(x->list.blocks[a->block].entry.space, x->list.blocks[b->block].entry.space);

	return c ? c : cmp(a->addr, b->addr);
}

static void fill_map(struct md_index *x)
{
	const struct md_index_list *l = &x->list;
	size_t n = 0;

	for (size_t i = 0; i < l->nblocks; i++) {
		const struct md_extent *e = l->extents + l->blocks[i].first;
		uint32_t raw_off = 0;

		for (unsigned k = 0; k < l->blocks[i].entry.nextents; k++) {
			x->map[n++] = (struct md_index_map){e[k].addr, e[k].len, i, raw_off};
			raw_off += (uint32_t)e[k].len;
		}
	}
	if (n)
		qsort_r(x->map, n, sizeof(*x->map), cmp_map, x);
}

static int fill_spaces(struct md_index *x, struct err *err)
{
	size_t cap = 0;

	for (size_t i = 0; i < x->list.nextents; i++) {
		const struct md_index_map *m = &x->map[i];
		uint64_t space = x->list.blocks[m->block].entry.space;
		struct md_index_space *s = x->nspaces ? &x->spaces[x->nspaces - 1] : NULL;

		if (!s || s->space != space) {
			if (reserve(&x->spaces, sizeof(*x->spaces), x->nspaces, 1, &cap))
				return err_set(err, ENOMEM, "reserve memory for the index");
			x->spaces[x->nspaces++] = (struct md_index_space){space, i, 1};
			continue;
		}
		if (m[-1].addr + (m[-1].len - 1) >= m->addr)
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"block file damaged: address %#" PRIx64
					" of space %#" PRIx64
					" is stored twice, at offsets %#" PRIx64 " and %#" PRIx64,
					m->addr, space, x->list.blocks[m[-1].block].entry.off,
					x->list.blocks[m->block].entry.off);
		s->n++;
	}
	return 0;
}

int md_index_init(struct md_index *x, struct md_index_list *list, struct err *err)
{
	int ret;

	*x = (struct md_index){.list = *list};
	*list = (struct md_index_list){0};
	x->map = calloc(x->list.nextents + 1, sizeof(*x->map));
	if (!x->map) {
		md_index_deinit(x);
		return err_set(err, ENOMEM, "reserve memory for the index");
	}
	fill_map(x);
	ret = fill_spaces(x, err);
	if (ret < 0)
		md_index_deinit(x);
	return ret;
}

static const struct md_index_space *find_space(const struct md_index *x, uint64_t space)
{
	size_t lo = 0, hi = x->nspaces;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (x->spaces[mid].space == space)
			return &x->spaces[mid];
		if (x->spaces[mid].space < space)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

const struct md_index_map *md_index_find(const struct md_index *x, uint64_t space, uint64_t addr)
{
	const struct md_index_space *s = find_space(x, space);
	size_t lo, hi;

	if (!s)
		return NULL;
	lo = s->first;
	hi = s->first + s->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (x->map[mid].addr + (x->map[mid].len - 1) < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->first + s->n ? &x->map[lo] : NULL;
}

const struct md_index_map *md_index_next(const struct md_index *x, uint64_t space,
					 const struct md_index_map *m)
{
	size_t i = (size_t)(m - x->map) + 1;

	if (i >= x->list.nextents || x->list.blocks[x->map[i].block].entry.space != space)
		return NULL;
	return &x->map[i];
}

static const struct md_index_entry *entry_of(const struct md_index *x, const struct md_index_map *m)
{
	return &x->list.blocks[m->block].entry;
}

/* [addr, end) is stored for @space, with bytes. */
static bool stored(const struct md_index *x, uint64_t space, uint64_t addr, uint64_t len)
{
	const struct md_index_map *m = md_index_find(x, space, addr);
	const uint64_t last = addr + (len - 1);

	for (;; m = md_index_next(x, space, m)) {
		if (!m || m->addr > addr || entry_of(x, m)->codec == MD_CODEC_SAME)
			return false;
		if (m->addr + (m->len - 1) >= last)
			return true;
		addr = m->addr + m->len;
	}
}

int md_index_check_same(const struct md_index *x, struct err *err)
{
	for (size_t i = 0; i < x->list.nextents; i++) {
		const struct md_index_map *m = &x->map[i];
		const struct md_index_entry *e = entry_of(x, m);

		if (e->codec == MD_CODEC_SAME &&
		    !stored(x, MD_SPACE_PROC(e->same_as), m->addr, m->len))
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"block file damaged at offset %#" PRIx64
					": pages of space %#" PRIx64 " from %#" PRIx64
					" on are those of process %u, which has none there",
					e->off, e->space, m->addr, e->same_as);
	}
	return 0;
}
