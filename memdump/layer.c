/* SPDX-License-Identifier: MIT */
/* One block file's pages by address. */
#include "memdump/layer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct md_index_entry *entry_of(const struct md_layer *l,
					     const struct md_index_piece *p)
{
	return &l->file->list->blocks[p->block].entry;
}

bool md_index_grow(void *array, size_t size, size_t n, size_t *cap)
{
	size_t want = *cap ? *cap * 2 : 64;
	void *p;

	if (n < *cap)
		return true;
	p = reallocarray(*(void **)array, want, size);
	if (!p)
		return false;
	*(void **)array = p;
	*cap = want;
	return true;
}

int md_pieces_put(struct md_pieces *to, const struct md_index_piece *p, uint64_t addr,
		  uint64_t last, struct err *err)
{
	uint32_t raw_off = p->raw_off + (uint32_t)(addr - p->addr);
	struct md_index_piece *b = to->n ? &to->v[to->n - 1] : NULL;

	if (b && b->file == p->file && b->block == p->block && b->as == p->as &&
	    b->addr + b->len == addr && b->raw_off + b->len == raw_off) {
		b->len += last - addr + 1;
		return 0;
	}
	if (!md_index_grow(&to->v, sizeof(*to->v), to->n, &to->cap))
		return md_index_no_memory(err);
	to->v[to->n++] =
		(struct md_index_piece){addr, last - addr + 1, p->file, p->block, raw_off, p->as};
	return 0;
}

/* --- rounds -------------------------------------------------------------------------------- */

static int cmp(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_round(const void *va, const void *vb, void *arg)
{
	const struct md_index_piece *a = va, *b = vb;
	const struct md_index_entry *ea = entry_of(arg, a), *eb = entry_of(arg, b);
	int c = cmp(ea->space, eb->space);

	if (!c)
		c = cmp(md_index_round(ea), md_index_round(eb));
	return c ? c : cmp(a->addr, b->addr);
}

static int by_address(const void *va, const void *vb, void *arg)
{
	const struct md_index_piece *a = va, *b = vb;
	int c = cmp(entry_of(arg, a)->space, entry_of(arg, b)->space);

	return c ? c : cmp(a->addr, b->addr);
}

static int take_extents(struct md_layer *l, struct err *err)
{
	const struct md_index_list *list = l->file->list;
	struct md_pieces *s = &l->stored;

	if (list->nblocks > UINT32_MAX)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED, "%s%zu blocks are too many",
				l->file->where, list->nblocks);
	s->cap = list->nextents + 1;
	s->v = calloc(s->cap, sizeof(*s->v));
	if (!s->v)
		return md_index_no_memory(err);
	for (size_t i = 0; i < list->nblocks; i++) {
		const struct md_extent *e = list->extents + list->blocks[i].first;
		uint32_t raw_off = 0;

		for (unsigned k = 0; k < list->blocks[i].entry.nextents; k++) {
			s->v[s->n++] = (struct md_index_piece){e[k].addr,   e[k].len, l->number,
							       (uint32_t)i, raw_off,  0};
			raw_off += (uint32_t)e[k].len;
		}
	}
	return 0;
}

/* Sorts by round, and looks at neighbours. */
static int check_rounds(struct md_layer *l, struct err *err)
{
	const struct md_pieces *s = &l->stored;

	if (s->n)
		qsort_r(s->v, s->n, sizeof(*s->v), by_round, l);
	for (size_t i = 1; i < s->n; i++) {
		const struct md_index_piece *a = &s->v[i - 1], *b = &s->v[i];
		const struct md_index_entry *ea = entry_of(l, a), *eb = entry_of(l, b);

		if (ea->space == eb->space && md_index_round(ea) == md_index_round(eb) &&
		    md_last_of(a->addr, a->len) >= b->addr)
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"%sblock file damaged: address %#" PRIx64
					" of space %#" PRIx64
					" is stored twice in round %u, at offsets %#" PRIx64
					" and %#" PRIx64,
					l->file->where, b->addr, eb->space, md_index_round(eb),
					ea->off, eb->off);
	}
	return 0;
}

/*
 * Goes up the addresses with a heap of the extents it has met, the highest round on top. An extent
 * that ended stays until it comes to the top: in and out once, so O(n log n) whatever overlaps.
 */
struct sweep {
	const struct md_layer *l;
	const struct md_index_piece *in;
	size_t *heap, nheap; /* numbers in @in */
	uint64_t pos;	     /* all below is done */
	struct md_pieces out;
};

static uint32_t round_of(const struct sweep *s, size_t i)
{
	return md_index_round(entry_of(s->l, &s->in[s->heap[i]]));
}

static void swap(struct sweep *s, size_t a, size_t b)
{
	size_t was = s->heap[a];

	s->heap[a] = s->heap[b];
	s->heap[b] = was;
}

static void push(struct sweep *s, size_t number)
{
	size_t i = s->nheap++;

	s->heap[i] = number;
	for (; i && round_of(s, (i - 1) / 2) < round_of(s, i); i = (i - 1) / 2)
		swap(s, i, (i - 1) / 2);
}

static void pop(struct sweep *s)
{
	size_t i = 0;

	s->heap[0] = s->heap[--s->nheap];
	for (;;) {
		size_t most = i;

		for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < s->nheap; k++)
			if (round_of(s, k) > round_of(s, most))
				most = k;
		if (most == i)
			return;
		swap(s, i, most);
		i = most;
	}
}

/* What counts from pos to @until. */
static int advance(struct sweep *s, uint64_t until, struct err *err)
{
	while (s->nheap && s->pos <= until) {
		const struct md_index_piece *top = &s->in[s->heap[0]];
		uint64_t last = md_last_of(top->addr, top->len);
		int ret;

		if (last < s->pos) {
			pop(s);
			continue;
		}
		last = last < until ? last : until;
		ret = md_pieces_put(&s->out, top, s->pos, last, err);
		if (ret < 0)
			return ret;
		if (last == UINT64_MAX)
			break;
		s->pos = last + 1;
	}
	return 0;
}

static int sweep_all(struct sweep *s, size_t n, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < n; i++) {
		uint64_t space = entry_of(s->l, &s->in[i])->space;

		if (i && space != entry_of(s->l, &s->in[i - 1])->space) {
			ret = advance(s, UINT64_MAX, err);
			s->nheap = 0;
			s->pos = 0;
		}
		if (ret == 0 && s->in[i].addr > s->pos)
			ret = advance(s, s->in[i].addr - 1, err);
		s->pos = s->in[i].addr;
		push(s, i);
	}
	return ret < 0 ? ret : advance(s, UINT64_MAX, err);
}

static int settle_rounds(struct md_layer *l, struct err *err)
{
	struct sweep s = {.l = l, .in = l->stored.v};
	size_t n = l->stored.n;
	int ret;

	qsort_r(l->stored.v, n, sizeof(*l->stored.v), by_address, l);
	s.heap = reallocarray(NULL, n, sizeof(*s.heap));
	ret = s.heap ? sweep_all(&s, n, err) : md_index_no_memory(err);
	free(s.heap);
	free(l->stored.v);
	l->stored = s.out;
	return ret;
}

static int take_spaces(struct md_layer *l, struct err *err)
{
	size_t cap = 0;

	for (size_t i = 0; i < l->stored.n; i++) {
		uint64_t space = entry_of(l, &l->stored.v[i])->space;

		if (!l->nspaces || l->spaces[l->nspaces - 1].space != space) {
			if (!md_index_grow(&l->spaces, sizeof(*l->spaces), l->nspaces, &cap))
				return md_index_no_memory(err);
			l->spaces[l->nspaces++] = (struct md_index_space){space, i, 0};
		}
		l->spaces[l->nspaces - 1].n++;
	}
	return 0;
}

/* --- maps ---------------------------------------------------------------------------------- */

static int by_order(const void *va, const void *vb)
{
	const struct md_index_block *a = va, *b = vb;
	int c = cmp(a->entry.space, b->entry.space);

	return c ? c : cmp(b->entry.round, a->entry.round);
}

static int bad_map(const struct md_layer *l, const struct md_index_entry *e, const char *what,
		   struct err *err)
{
	return err_fail(err, EBADMSG, ERR_IMAGE,
			"%sblock file damaged at offset %#" PRIx64 ": map of space %#" PRIx64
			": %s",
			l->file->where, e->off, e->space, what);
}

/* Record @i of the @n of one space at @r, behind those in @s. */
static int take_record(struct md_layer *l, const struct md_index_block *r, size_t n, size_t i,
		       struct md_index_space *s, struct err *err)
{
	const struct md_extent *e = l->file->list->maps + r[i].first;
	const struct md_extent *before = s->n ? &l->named[s->first + s->n - 1] : NULL;
	size_t k = r[i].entry.packed_len / MD_EXTENT_LEN;

	if (r[i].entry.round != n - 1 - i)
		return bad_map(l, &r[i].entry, "one of its records is missing, or there twice",
			       err);
	if (!k && n > 1)
		return bad_map(l, &r[i].entry, "one of several records is empty", err);
	if (before && md_last_of(before->addr, before->len) >= e->addr)
		return bad_map(l, &r[i].entry, "its records overlap", err);
	if (k)
		memcpy(&l->named[s->first + s->n], e, k * sizeof(*e));
	s->n += k;
	return 0;
}

static int take_records(struct md_layer *l, const struct md_index_block *r, size_t n,
			struct err *err)
{
	size_t named = 0, same;

	for (size_t i = 0; i < n; i += same) {
		struct md_index_space *s = &l->maps[l->nmaps++];

		*s = (struct md_index_space){r[i].entry.space, named, 0};
		for (same = 1; i + same < n && r[i + same].entry.space == s->space;)
			same++;
		for (size_t k = 0; k < same; k++) {
			int ret = take_record(l, &r[i], same, k, s, err);

			if (ret < 0)
				return ret;
		}
		named += s->n;
	}
	return 0;
}

static int take_maps(struct md_layer *l, struct err *err)
{
	const struct md_index_list *list = l->file->list;
	struct md_index_block *r;
	size_t n = 0;
	int ret;

	for (size_t i = 0; i < list->nblocks; i++)
		n += md_index_is_map(&list->blocks[i].entry);
	if (!n)
		return 0;
	r = reallocarray(NULL, n, sizeof(*r));
	l->named = reallocarray(NULL, list->nmaps + 1, sizeof(*l->named));
	l->maps = reallocarray(NULL, n, sizeof(*l->maps));
	if (r && l->named && l->maps) {
		n = 0;
		for (size_t i = 0; i < list->nblocks; i++)
			if (md_index_is_map(&list->blocks[i].entry))
				r[n++] = list->blocks[i];
		qsort(r, n, sizeof(*r), by_order);
		ret = take_records(l, r, n, err);
	} else {
		ret = md_index_no_memory(err);
	}
	free(r);
	return ret;
}

/* --- one file ------------------------------------------------------------------------------ */

void md_layer_deinit(struct md_layer *l)
{
	free(l->stored.v);
	free(l->spaces);
	free(l->named);
	free(l->maps);
}

int md_layer_init(struct md_layer *l, const struct md_index_file *f, uint32_t number,
		  struct err *err)
{
	int ret;

	*l = (struct md_layer){.file = f, .number = number};
	ret = take_extents(l, err);
	if (ret == 0)
		ret = check_rounds(l, err);
	if (ret == 0 && f->list->layered && l->stored.n)
		ret = settle_rounds(l, err);
	if (ret == 0)
		ret = take_spaces(l, err);
	if (ret == 0 && f->list->layered)
		ret = take_maps(l, err);
	return ret < 0 || !f->list->same ? ret : md_layer_same(l, err);
}
