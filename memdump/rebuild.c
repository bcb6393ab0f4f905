/* SPDX-License-Identifier: MIT */
/* The index of a torn file, rebuilt from its block heads. */
#include "memdump/reader_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "memdump/sum.h"

enum {
	WINDOW = 128 << 10, /* of the file in memory while looking for a head */
	HEAD_MAX = MD_HEAD_LEN + MD_BLOCK_EXTENTS * MD_EXTENT_LEN,
};
static_assert(WINDOW >= 2 * HEAD_MAX, "a head fits in the window");

struct search {
	const struct md_raw_file *f;
	uint8_t *win;
	uint64_t off; /* of win in the file */
	size_t have;
};

/* Bytes from @pos on: at least a longest head, where the file has that many. */
static int look_at(struct search *s, uint64_t pos, const uint8_t **ret, size_t *ret_len,
		   struct err *err)
{
	uint64_t left = s->f->len - pos;

	if (pos < s->off || pos - s->off > s->have ||
	    s->have - (pos - s->off) < (left < HEAD_MAX ? left : HEAD_MAX)) {
		ssize_t n = io_pread(s->f->fd, s->win, left < WINDOW ? left : WINDOW, pos);

		if (n < 0)
			return err_set(err, (int)-n, "read at offset %#" PRIx64, pos);
		s->off = pos;
		s->have = (size_t)n;
	}
	*ret = s->win + (pos - s->off);
	*ret_len = s->have - (size_t)(pos - s->off);
	return 0;
}

/* Whether there is a whole head at @p; then its entry and extents. */
static bool head_at(const struct md_raw_file *f, const uint8_t *p, size_t len, uint64_t pos,
		    struct md_block_head *ret_head, struct md_index_entry *ret,
		    struct md_extent *ret_extents)
{
	struct md_block_head h;

	if (md_take_block_head(p, len, pos, &f->head, &h, NULL) < 0 ||
	    md_take_block_extents(p, len, pos, &f->head, &h, ret_extents, NULL) < 0)
		return false;
	*ret_head = h;
	*ret = (struct md_index_entry){
		.off = pos,
		.space = h.space,
		.raw_len = h.raw_len,
		.packed_len = h.packed_len,
		.codec = h.codec,
		.nextents = h.nextents,
		.same_as = h.same_as,
	};
	return true;
}

/* 1: the payload is whole, 0: it is not. */
static int payload_whole(const struct md_raw_file *f, struct md_block_reader *br,
			 const struct md_index_entry *e, uint64_t sum, struct err *err)
{
	uint64_t off = e->off + md_head_span(e->nextents, f->head.align);
	ssize_t n;

	/* With its padding: the record was one write. */
	if (off > f->len || md_align_up(e->packed_len, f->head.align) > f->len - off)
		return 0;
	if (br->cap < e->packed_len) {
		uint8_t *p = realloc(br->buf, e->packed_len);

		if (!p)
			return err_set(err, ENOMEM, "reserve %u bytes for a block", e->packed_len);
		br->buf = p;
		br->cap = e->packed_len;
	}
	n = io_pread(f->fd, br->buf, e->packed_len, off);
	if (n < 0)
		return err_set(err, (int)-n, "read %u bytes at offset %#" PRIx64, e->packed_len,
			       off);
	return (size_t)n == e->packed_len && md_sum_payload(br->buf, e->packed_len) == sum;
}

static int find_blocks(struct search *s, struct md_block_reader *br, struct md_index_list *l,
		       struct err *err)
{
	const struct md_raw_file *f = s->f;
	struct md_extent extents[MD_BLOCK_EXTENTS];
	uint64_t pos = f->head.align;

	while (pos < f->len) {
		struct md_index_entry e;
		struct md_block_head h;
		const uint8_t *p = NULL;
		size_t len = 0;
		int ret = look_at(s, pos, &p, &len, err);

		if (ret < 0)
			return ret;
		if (!head_at(f, p, len, pos, &h, &e, extents)) {
			pos += f->head.align;
			continue;
		}
		ret = payload_whole(f, br, &e, h.payload_sum, err);
		if (ret < 0)
			return ret;
		if (ret > 0 && md_index_list_add(l, &e, extents))
			return err_set(err, ENOMEM, "reserve memory for the index");
		/* A whole head tells the length even of a block whose payload is not. */
		pos += md_record_len(&e, f->head.align);
	}
	return 0;
}

int md_raw_file_rebuild(const struct md_raw_file *f, struct md_block_reader *br,
			struct md_index_list *ret, struct err *err)
{
	cleanup_free uint8_t *win = malloc(WINDOW);
	struct search s = {.f = f, .win = win};
	struct md_index_list l = {0};
	int r;

	if (!win)
		return err_set(err, ENOMEM, "rebuild an index");
	r = find_blocks(&s, br, &l, err);
	if (r < 0) {
		md_index_list_deinit(&l);
		return r;
	}
	md_index_list_sort(&l);
	*ret = l;
	return 0;
}
