/* SPDX-License-Identifier: MIT */
/* Lists of blocks as they are collected, and looking up what came of them. */
#include "memdump/index.h"

#include <stdlib.h>
#include <string.h>

void md_index_list_deinit(struct md_index_list *l)
{
	free(l->blocks);
	free(l->extents);
	free(l->maps);
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
	if (e->nextents)
		memcpy(l->extents + l->nextents, extents, e->nextents * sizeof(*extents));
	l->nextents += e->nextents;
	md_index_list_note(l, e);
	return 0;
}

int md_index_list_reserve_maps(struct md_index_list *l, size_t n)
{
	return reserve(&l->maps, sizeof(*l->maps), l->nmaps, n, &l->cap_maps);
}

static int cmp(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int cmp_blocks(const void *va, const void *vb, void *arg)
{
	const struct md_index_list *l = arg;
	const struct md_index_block *a = va, *b = vb;
	bool map = md_index_is_map(&a->entry);
	int c = cmp(a->entry.space, b->entry.space);

	if (!c)
		c = cmp(!map, !md_index_is_map(&b->entry));
	if (!c && map)
		return cmp(b->entry.round, a->entry.round);
	if (!c)
		c = cmp(l->extents[a->first].addr, l->extents[b->first].addr);
	return c ? c : cmp(md_index_round(&a->entry), md_index_round(&b->entry));
}

void md_index_list_sort(struct md_index_list *l)
{
	if (l->nblocks)
		qsort_r(l->blocks, l->nblocks, sizeof(*l->blocks), cmp_blocks, l);
}

/* --- the reader's side --------------------------------------------------------------------- */

void md_index_deinit(struct md_index *x)
{
	free(x->pieces);
	free(x->spaces);
	*x = (struct md_index){0};
}

const struct md_index_space *md_index_space_in(const struct md_index_space *v, size_t n,
					       uint64_t space)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v[mid].space < space)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && v[lo].space == space ? &v[lo] : NULL;
}

const struct md_index_piece *md_index_find(const struct md_index *x, uint64_t space, uint64_t addr)
{
	const struct md_index_space *s = md_index_space_in(x->spaces, x->nspaces, space);
	size_t lo, hi;

	if (!s)
		return NULL;
	lo = s->first;
	hi = s->first + s->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (x->pieces[mid].addr + (x->pieces[mid].len - 1) < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->first + s->n ? &x->pieces[lo] : NULL;
}

const struct md_index_piece *md_index_next(const struct md_index *x, uint64_t space,
					   const struct md_index_piece *p)
{
	const struct md_index_space *s = md_index_space_in(x->spaces, x->nspaces, space);
	size_t i = (size_t)(p - x->pieces) + 1;

	return s && i < s->first + s->n ? &x->pieces[i] : NULL;
}
