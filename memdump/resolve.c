/* SPDX-License-Identifier: MIT */
/* A file and its parents put together: what each page's bytes are. */
#include <inttypes.h>
#include <stdlib.h>

#include "memdump/layer.h"

static int cmp(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int put_want(struct md_index_wants *w, uint64_t space, uint64_t addr, uint64_t last,
		    struct err *err)
{
	if (!md_index_grow(&w->v, sizeof(*w->v), w->n, &w->cap))
		return md_index_no_memory(err);
	w->v[w->n++] = (struct md_index_want){space, {addr, last - addr + 1}};
	return 0;
}

/* Where a cut through the pieces of a space stands. */
struct cursor {
	const struct md_layer *l;
	uint64_t space;
	size_t at, end; /* of l->stored */
	struct md_pieces *out;
	struct md_index_wants *left;
};

static struct cursor cursor(const struct md_layer *l, uint64_t space, struct md_pieces *out,
			    struct md_index_wants *left)
{
	const struct md_index_space *s = md_index_space_in(l->spaces, l->nspaces, space);

	return (struct cursor){l, space, s ? s->first : 0, s ? s->first + s->n : 0, out, left};
}

/* Of @e, which lies above all before: what is stored goes to out, what is not to left. */
static int cut(struct cursor *c, const struct md_extent *e, struct err *err)
{
	uint64_t pos = e->addr, end = md_last_of(e->addr, e->len);

	for (;;) {
		const struct md_index_piece *p = &c->l->stored.v[c->at];
		uint64_t last;
		int ret = 0;

		if (c->at < c->end && md_last_of(p->addr, p->len) < pos) {
			c->at++;
			continue;
		}
		if (c->at == c->end || p->addr > end)
			return put_want(c->left, c->space, pos, end, err);
		if (p->addr > pos) {
			ret = put_want(c->left, c->space, pos, p->addr - 1, err);
			pos = p->addr;
		}
		last = md_last_of(p->addr, p->len);
		last = last < end ? last : end;
		if (ret == 0)
			ret = md_pieces_put(c->out, p, pos, last, err);
		if (ret < 0 || last == end)
			return ret;
		pos = last + 1;
	}
}

/* --- a file's own view ---------------------------------------------------------------------- */

/* One space of the file itself. */
static int view_space(const struct md_layer *l, const struct md_index_space *stored,
		      const struct md_index_space *map, struct md_pieces *out,
		      struct md_index_wants *left, struct err *err)
{
	struct cursor c = cursor(l, map ? map->space : stored->space, out, left);
	int ret = 0;

	for (size_t i = 0; map && ret == 0 && i < map->n; i++)
		ret = cut(&c, &l->named[map->first + i], err);
	for (size_t i = 0; !map && ret == 0 && i < stored->n; i++) {
		const struct md_index_piece *p = &l->stored.v[stored->first + i];

		ret = md_pieces_put(out, p, p->addr, md_last_of(p->addr, p->len), err);
	}
	return ret;
}

/* Spaces that are stored and those that have a map, together in ascending order. */
static int view(struct md_layer *l, struct md_index *x, struct md_pieces *out,
		struct md_index_wants *left, struct err *err)
{
	size_t i = 0, k = 0;
	int ret = 0;

	if (!l->nmaps) {
		*out = l->stored;
		x->spaces = l->spaces;
		x->nspaces = l->nspaces;
		l->stored = (struct md_pieces){0};
		l->spaces = NULL;
		return 0;
	}
	x->spaces = calloc(l->nspaces + l->nmaps + 1, sizeof(*x->spaces));
	if (!x->spaces)
		return md_index_no_memory(err);
	while (ret == 0 && (i < l->nspaces || k < l->nmaps)) {
		const struct md_index_space *s = i < l->nspaces ? &l->spaces[i] : NULL;
		const struct md_index_space *m = k < l->nmaps ? &l->maps[k] : NULL;

		if (s && m && s->space != m->space)
			*(s->space < m->space ? &m : &s) = NULL;
		i += s != NULL;
		k += m != NULL;
		x->spaces[x->nspaces++].space = m ? m->space : s->space;
		ret = view_space(l, s, m, out, left, err);
	}
	return ret;
}

int md_index_wants(const struct md_index_file *f, struct md_index_wants *ret_wants,
		   uint64_t *ret_stale_bytes, struct err *err)
{
	struct md_index_wants left = {0};
	struct md_pieces out = {0};
	struct md_index x = {0};
	struct md_layer l;
	uint64_t stale = 0;
	int ret = md_layer_init(&l, f, 0, err);

	if (ret == 0)
		ret = view(&l, &x, &out, &left, err);
	for (size_t i = 0; ret == 0 && i < f->list->nblocks; i++)
		stale += f->list->blocks[i].entry.raw_len;
	for (size_t i = 0; ret == 0 && i < out.n; i++)
		stale -= out.v[i].len;
	md_layer_deinit(&l);
	md_index_deinit(&x);
	free(out.v);
	if (ret < 0) {
		free(left.v);
		return ret;
	}
	*ret_wants = left;
	*ret_stale_bytes = stale;
	return 0;
}

/* --- parents ------------------------------------------------------------------------------- */

static int lacking(const struct md_layer *l, uint64_t space, uint64_t addr, struct err *err)
{
	return err_fail(err, EBADMSG, ERR_IMAGE,
			"%sthe page at %#" PRIx64 " of space %#" PRIx64
			" is missing: a child has it from here",
			l->file->where, addr, space);
}

/* Every one of the @n wants of one space is in its map; -EBADMSG names the first that is not. */
static int all_named(const struct md_layer *l, const struct md_index_space *map,
		     const struct md_index_want *w, size_t n, struct err *err)
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t pos = w[i].extent.addr, end = md_last_of(pos, w[i].extent.len);

		for (;;) {
			const struct md_extent *e = &l->named[map->first + at];

			if (at == map->n || e->addr > pos)
				return lacking(l, map->space, pos, err);
			if (md_last_of(e->addr, e->len) >= end)
				break;
			if (md_last_of(e->addr, e->len) >= pos)
				pos = md_last_of(e->addr, e->len) + 1;
			at++;
		}
	}
	return 0;
}

/* The @n wants of one space, which @l has or wants itself. */
static int serve_space(const struct md_layer *l, const struct md_index_want *w, size_t n, bool torn,
		       struct md_pieces *out, struct md_index_wants *left, struct err *err)
{
	const struct md_index_space *map = md_index_space_in(l->maps, l->nmaps, w->space);
	struct cursor c = cursor(l, w->space, out, left);
	size_t before = left->n;
	int ret = map && !torn ? all_named(l, map, w, n, err) : 0;

	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = cut(&c, &w[i].extent, err);
	if (ret == 0 && !map && left->n > before) {
		if (!torn)
			return lacking(l, w->space, left->v[before].extent.addr, err);
		left->n = before;
	}
	return ret;
}

static int serve(const struct md_layer *l, const struct md_index_wants *wants, bool torn,
		 struct md_pieces *out, struct md_index_wants *left, struct err *err)
{
	size_t same;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < wants->n; i += same) {
		for (same = 1;
		     i + same < wants->n && wants->v[i + same].space == wants->v[i].space;)
			same++;
		ret = serve_space(l, &wants->v[i], same, torn, out, left, err);
	}
	return ret;
}

int md_index_has(const struct md_index_file *parent, const struct md_index_wants *wants,
		 struct err *err)
{
	struct md_index_wants left = {0};
	struct md_pieces out = {0};
	struct md_layer l;
	int ret = md_layer_init(&l, parent, 0, err);

	if (ret == 0)
		ret = serve(&l, wants, false, &out, &left, err);
	md_layer_deinit(&l);
	free(left.v);
	free(out.v);
	return ret;
}

/* --- all of it ----------------------------------------------------------------------------- */

static int by_file_address(const void *va, const void *vb, void *arg)
{
	const struct md_index_piece *a = va, *b = vb;
	const struct md_index_file *files = arg;
	int c = cmp(md_index_space_of(files[a->file].list, a),
		    md_index_space_of(files[b->file].list, b));

	return c ? c : cmp(a->addr, b->addr);
}

/* Which of the sorted pieces are whose. */
static void assign_pieces(struct md_index *x, const struct md_index_file *files)
{
	size_t at = 0;

	for (size_t i = 0; i < x->nspaces; i++) {
		struct md_index_space *s = &x->spaces[i];

		s->first = at;
		for (; at < x->npieces; at++) {
			const struct md_index_piece *p = &x->pieces[at];

			if (md_index_space_of(files[p->file].list, p) != s->space)
				break;
		}
		s->n = at - s->first;
	}
}

static int resolve(struct md_index *x, const struct md_index_file *files, unsigned n,
		   struct md_pieces *out, struct err *err)
{
	struct md_index_wants wants = {0};
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < n; i++) {
		struct md_index_wants left = {0};
		struct md_layer l;

		ret = md_layer_init(&l, &files[i], i, err);
		if (ret == 0)
			ret = i ? serve(&l, &wants, files[0].torn, out, &left, err)
				: view(&l, x, out, &left, err);
		md_layer_deinit(&l);
		free(wants.v);
		wants = left;
	}
	if (ret == 0 && wants.n && !files[0].torn)
		ret = err_fail(err, EBADMSG, ERR_IMAGE,
			       "%sblock file damaged: the page at %#" PRIx64 " of space %#" PRIx64
			       " is named by a map, but not stored, and there is no parent",
			       files[n - 1].where, wants.v[0].extent.addr, wants.v[0].space);
	free(wants.v);
	return ret;
}

int md_index_init(struct md_index *x, const struct md_index_file *files, unsigned n,
		  struct err *err)
{
	struct md_pieces out = {0};
	int ret;

	*x = (struct md_index){0};
	ret = resolve(x, files, n, &out, err);
	x->pieces = out.v;
	x->npieces = out.n;
	if (ret < 0) {
		md_index_deinit(x);
		return ret;
	}
	/* One file's come in order. */
	if (n > 1 && out.n)
		qsort_r(x->pieces, out.n, sizeof(*x->pieces), by_file_address, (void *)files);
	assign_pieces(x, files);
	return 0;
}
