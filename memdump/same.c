/* SPDX-License-Identifier: MIT */
/* Pages of a process that a block file has as those of another one. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "memdump/layer.h"

static const struct md_index_entry *entry_of(const struct md_layer *l,
					     const struct md_index_piece *p)
{
	return &l->file->list->blocks[p->block].entry;
}

/* --- files that were not written in one go -------------------------------------------------- */

/* Which of the layer's spaces have a block of a later round: of each page the last one is stored.
 */
static void find_late(const struct md_layer *l, bool *ret)
{
	for (size_t i = 0; i < l->nspaces; i++) {
		const struct md_index_space *s = &l->spaces[i];

		for (size_t k = 0; k < s->n; k++)
			ret[i] |= md_index_round(entry_of(l, &l->stored.v[s->first + k])) > 0;
	}
}

static bool is_layered(const struct md_layer *l, const bool *late, uint64_t space)
{
	const struct md_index_space *s = md_index_space_in(l->spaces, l->nspaces, space);

	return (s && late[s - l->spaces]) || md_index_space_in(l->maps, l->nmaps, space);
}

static int check_layers(const struct md_layer *l, struct err *err)
{
	cleanup_free bool *late = NULL;

	if (!l->file->list->layered)
		return 0;
	late = calloc(l->nspaces + 1, sizeof(*late));
	if (!late)
		return md_index_no_memory(err);
	find_late(l, late);
	for (size_t i = 0; i < l->file->list->nblocks; i++) {
		const struct md_index_entry *e = &l->file->list->blocks[i].entry;

		if (e->codec == MD_CODEC_SAME &&
		    (is_layered(l, late, e->space) || is_layered(l, late, MD_SPACE_PROC(e->round))))
			return err_fail(
				err, EBADMSG, ERR_IMAGE,
				"%sblock file damaged at offset %#" PRIx64
				": pages of space %#" PRIx64
				" are those of process %u, and one of the two has rounds or "
				"a map",
				l->file->where, e->off, e->space, e->round);
	}
	return 0;
}

/* --- whose bytes ---------------------------------------------------------------------------- */

/* The first piece of @s that ends at @addr or above. */
static size_t find(const struct md_layer *l, const struct md_index_space *s, uint64_t addr)
{
	size_t lo = s->first, hi = s->first + s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (md_last_of(l->stored.v[mid].addr, l->stored.v[mid].len) < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int none_there(const struct md_layer *l, const struct md_index_piece *p, struct err *err)
{
	const struct md_index_entry *e = entry_of(l, p);

	return err_fail(err, EBADMSG, ERR_IMAGE,
			"%sblock file damaged at offset %#" PRIx64 ": pages of space %#" PRIx64
			" from %#" PRIx64 " on are those of process %u, which has none there",
			l->file->where, e->off, e->space, p->addr, e->round);
}

/* Nothing refers twice: one look finds the bytes. */
static int put_same(const struct md_layer *l, const struct md_index_piece *p, struct md_pieces *out,
		    struct err *err)
{
	const struct md_index_entry *e = entry_of(l, p);
	const struct md_index_space *s =
		md_index_space_in(l->spaces, l->nspaces, MD_SPACE_PROC(e->round));
	const uint64_t last = md_last_of(p->addr, p->len);
	uint64_t pos = p->addr;

	for (size_t i = s ? find(l, s, pos) : 0; s && i < s->first + s->n; i++) {
		struct md_index_piece b = l->stored.v[i];
		uint64_t to = md_last_of(b.addr, b.len);
		int ret;

		if (b.addr > last)
			break;
		if (entry_of(l, &b)->codec == MD_CODEC_SAME || b.addr > pos) {
			if (!l->file->torn)
				break;
			pos = b.addr > pos ? b.addr : pos;
		}
		to = to < last ? to : last;
		b.as = (uint32_t)e->space;
		ret = entry_of(l, &b)->codec == MD_CODEC_SAME
			      ? 0
			      : md_pieces_put(out, &b, pos, to, err);
		if (ret < 0 || to == last)
			return ret;
		pos = to + 1;
	}
	return l->file->torn ? 0 : none_there(l, p, err);
}

static int put_all(struct md_layer *l, struct md_pieces *out, size_t *first, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < l->nspaces; i++) {
		const struct md_index_space *s = &l->spaces[i];

		first[i] = out->n;
		for (size_t k = s->first; ret == 0 && k < s->first + s->n; k++) {
			const struct md_index_piece *p = &l->stored.v[k];

			ret = entry_of(l, p)->codec == MD_CODEC_SAME
				      ? put_same(l, p, out, err)
				      : md_pieces_put(out, p, p->addr, md_last_of(p->addr, p->len),
						      err);
		}
	}
	return ret;
}

int md_layer_same(struct md_layer *l, struct err *err)
{
	cleanup_free size_t *first = calloc(l->nspaces + 1, sizeof(*first));
	struct md_pieces out = {0};
	int ret = check_layers(l, err);

	if (ret == 0)
		ret = first ? put_all(l, &out, first, err) : md_index_no_memory(err);
	if (ret < 0) {
		free(out.v);
		return ret;
	}
	first[l->nspaces] = out.n;
	for (size_t i = 0; i < l->nspaces; i++) {
		l->spaces[i].first = first[i];
		l->spaces[i].n = first[i + 1] - first[i];
	}
	free(l->stored.v);
	l->stored = out;
	return 0;
}
