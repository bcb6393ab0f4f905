/* SPDX-License-Identifier: MIT */
/* A block file for random access: every byte is checked before it is handed out. */
#include "memdump/reader_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "memdump/codec.h"
#include "memdump/index.h"
#include "memdump/sum.h"

enum {
	CHUNK = 64 << 10, /* of the index while it is read */
};

/* --- opening ------------------------------------------------------------------------------- */

static int bad_at(struct err *err, uint64_t off, const char *what)
{
	return err_fail(err, EBADMSG, ERR_IMAGE, "block file damaged at offset %#" PRIx64 ": %s",
			off, what);
}

/* @len bytes at @off, all of them. */
static int read_at(const struct md_raw_file *f, void *buf, size_t len, uint64_t off,
		   struct err *err)
{
	ssize_t n = off > f->len || len > f->len - off ? 0 : io_pread(f->fd, buf, len, off);

	if (n < 0)
		return err_set(err, (int)-n, "read %zu bytes at offset %#" PRIx64, len, off);
	return (size_t)n == len ? 0 : bad_at(err, off, "file is cut off");
}

int md_raw_file_open(struct md_raw_file *f, int dirfd, const char *name, struct err *err)
{
	uint8_t head[MD_HEAD_LEN];
	struct stat st;
	int ret;

	/* O_NONBLOCK: a FIFO in the place of an image's file would wait for its writer. */
	*f = (struct md_raw_file){
		.fd = openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW)};
	if (f->fd < 0)
		return err_set(err, errno, "open %s", name);
	if (fstat(f->fd, &st) < 0)
		ret = err_set(err, errno, "stat %s", name);
	else if (!S_ISREG(st.st_mode))
		ret = err_fail(err, EBADMSG, ERR_IMAGE, "%s is not a regular file", name);
	else {
		f->len = (uint64_t)st.st_size;
		ret = read_at(f, head, sizeof(head), 0, err);
	}
	if (ret == 0)
		ret = md_take_file_head(head, sizeof(head), &f->head, err);
	if (ret < 0)
		md_raw_file_close(f);
	return ret;
}

void md_raw_file_close(struct md_raw_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

int md_raw_file_trailer(const struct md_raw_file *f, struct md_trailer *ret, struct err *err)
{
	uint8_t buf[MD_HEAD_LEN];
	uint64_t off = f->len < MD_HEAD_LEN ? 0 : f->len - MD_HEAD_LEN;
	int r = read_at(f, buf, sizeof(buf), off, err);

	return r < 0 ? r : md_take_trailer(buf, sizeof(buf), off, &f->head, ret, err);
}

/* A stretch of the file, read through one buffer and summed on the way. */
struct stream {
	const struct md_raw_file *f;
	uint64_t pos, end;
	uint8_t *buf;
	size_t have, at;
	XXH3_state_t *sum;
};

/* The next @len bytes, at most CHUNK, in place. */
static int stream_take(struct stream *s, size_t len, const uint8_t **ret, struct err *err)
{
	if (s->have - s->at < len) {
		size_t keep = s->have - s->at, more;
		int r;

		memmove(s->buf, s->buf + s->at, keep);
		s->at = 0;
		s->have = keep;
		more = CHUNK - keep;
		if (more > s->end - s->pos)
			more = (size_t)(s->end - s->pos);
		if (keep + more < len)
			return bad_at(err, s->pos, "index is cut off");
		r = read_at(s->f, s->buf + keep, more, s->pos, err);
		if (r < 0)
			return r;
		XXH3_64bits_update(s->sum, s->buf + keep, more);
		s->pos += more;
		s->have += more;
	}
	*ret = s->buf + s->at;
	s->at += len;
	return 0;
}

/* File offset of the byte stream_take() will give next. */
static uint64_t stream_off(const struct stream *s)
{
	return s->pos - (s->have - s->at);
}

static int load_extents(struct stream *s, const struct md_file_head *fh, struct md_index_list *l,
			struct err *err)
{
	for (size_t i = 0; i < l->nblocks; i++) {
		const struct md_index_block *b = &l->blocks[i];
		size_t len = (size_t)b->entry.nextents * MD_EXTENT_LEN;
		uint64_t off = stream_off(s);
		const uint8_t *p;
		int ret = stream_take(s, len, &p, err);

		if (ret == 0)
			ret = md_take_extents(p, len, off, fh->page_size, b->entry.nextents,
					      b->entry.raw_len, l->extents + b->first, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int load_entries(struct stream *s, const struct md_raw_file *f, uint64_t blocks_end,
			const struct md_index_head *h, struct md_index_list *l, struct err *err)
{
	uint64_t maps = 0;

	for (; l->nblocks < h->nblocks; l->nblocks++) {
		uint64_t off = stream_off(s);
		struct md_index_entry e;
		const uint8_t *p;
		int ret = stream_take(s, MD_ENTRY_LEN, &p, err);

		if (ret == 0)
			ret = md_take_index_entry(p, MD_ENTRY_LEN, off, &f->head, &e, err);
		if (ret < 0)
			return ret;
		if (e.off < f->head.align || e.off > blocks_end ||
		    md_record_len(&e, f->head.align) > blocks_end - e.off ||
		    e.nextents > h->nextents - l->nextents)
			return bad_at(err, off, "entry of the index points out of bounds");
		/* Or one record, named by many entries, would take memory many times. */
		maps += md_index_is_map(&e) ? e.packed_len : 0;
		if (maps > f->len)
			return bad_at(err, off, "maps of the index are longer than the file");
		l->blocks[l->nblocks] = (struct md_index_block){e, l->nextents};
		l->nextents += e.nextents;
		md_index_list_note(l, &e);
	}
	if (l->nextents != h->nextents)
		return bad_at(err, stream_off(s), "number of extents in the index");
	return 0;
}

static int load_list(struct stream *s, const struct md_raw_file *f, const struct md_trailer *t,
		     struct md_index_list *l, struct err *err)
{
	struct md_index_head h;
	const uint8_t *p;
	int ret = stream_take(s, MD_HEAD_LEN, &p, err);

	if (ret == 0)
		ret = md_take_index_head(p, MD_HEAD_LEN, t->index_off, &f->head, &h, err);
	if (ret < 0)
		return ret;
	/* Both below the file's length, so that the sum cannot wrap and the file bounds memory. */
	if (h.nblocks > f->len / MD_ENTRY_LEN || h.nextents > f->len / MD_EXTENT_LEN ||
	    t->index_len != MD_HEAD_LEN + h.nblocks * MD_ENTRY_LEN + h.nextents * MD_EXTENT_LEN)
		return bad_at(err, t->index_off, "length of the index");
	l->blocks = calloc(h.nblocks + 1, sizeof(*l->blocks));
	l->extents = calloc(h.nextents + 1, sizeof(*l->extents));
	if (!l->blocks || !l->extents)
		return err_set(err, ENOMEM, "reserve memory for the index");
	ret = load_entries(s, f, t->index_off, &h, l, err);
	if (ret == 0)
		ret = load_extents(s, &f->head, l, err);
	if (ret == 0 && XXH3_64bits_digest(s->sum) != t->index_sum)
		ret = bad_at(err, t->index_off, "checksum of the index");
	return ret;
}

int md_raw_file_index(const struct md_raw_file *f, const struct md_trailer *t,
		      struct md_index_list *ret, struct err *err)
{
	struct stream s = {
		.f = f,
		.pos = t->index_off,
		.end = t->index_off + t->index_len,
		.buf = malloc(CHUNK),
		.sum = XXH3_createState(),
	};
	struct md_index_list l = {0};
	int r;

	if (s.buf && s.sum) {
		XXH3_64bits_reset(s.sum);
		r = load_list(&s, f, t, &l, err);
	} else {
		r = err_set(err, ENOMEM, "reserve memory for the index");
	}
	free(s.buf);
	XXH3_freeState(s.sum);
	if (r < 0)
		md_index_list_deinit(&l);
	else
		*ret = l;
	return r;
}

/* --- one block ----------------------------------------------------------------------------- */

void md_block_reader_deinit(struct md_block_reader *br)
{
	md_unpacker_deinit(&br->unpacker);
	free(br->buf);
	*br = (struct md_block_reader){0};
}

static int need(struct md_block_reader *br, size_t len, struct err *err)
{
	uint8_t *p;

	if (len <= br->cap)
		return 0;
	p = realloc(br->buf, len);
	if (!p)
		return err_set(err, ENOMEM, "reserve %zu bytes for a block", len);
	br->buf = p;
	br->cap = len;
	return 0;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	uint8_t any = 0;

	for (size_t i = 0; i < len; i++)
		any |= p[i];
	return !any;
}

int md_block_check(const struct md_raw_file *f, const struct md_index_entry *e,
		   const struct md_extent *extents, const uint8_t *record,
		   const uint8_t **ret_payload, struct err *err)
{
	uint32_t span = md_head_span(e->nextents, f->head.align);
	size_t used = MD_HEAD_LEN + (size_t)e->nextents * MD_EXTENT_LEN;
	size_t len = md_record_len(e, f->head.align);
	struct md_extent found[MD_BLOCK_EXTENTS];
	struct md_block_head h;
	int ret;

	ret = md_take_block_head(record, len, e->off, &f->head, &h, err);
	if (ret < 0)
		return ret;
	if (h.nextents != e->nextents || h.raw_len != e->raw_len || h.codec != e->codec ||
	    h.packed_len != e->packed_len || h.space != e->space || h.round != e->round)
		return bad_at(err, e->off, "block head and index differ");
	ret = md_take_block_extents(record, len, e->off, &f->head, &h, found, err);
	if (ret < 0)
		return ret;
	if (e->nextents && memcmp(found, extents, e->nextents * sizeof(*extents)))
		return bad_at(err, e->off, "block head and index differ");
	if (md_sum_payload(record + span, e->packed_len) != h.payload_sum)
		return bad_at(err, e->off + span, "checksum of a payload");
	if (!all_zero(record + used, span - used) ||
	    !all_zero(record + span + e->packed_len, len - span - e->packed_len))
		return bad_at(err, e->off, "padding of a block is not zero");
	*ret_payload = record + span;
	return 0;
}

int md_block_fetch(struct md_block_reader *br, const struct md_raw_file *f,
		   const struct md_index_entry *e, const struct md_extent *extents,
		   const uint8_t **ret_payload, struct err *err)
{
	size_t len = md_record_len(e, f->head.align);
	int ret = need(br, len, err);

	if (ret == 0)
		ret = read_at(f, br->buf, len, e->off, err);
	return ret < 0 ? ret : md_block_check(f, e, extents, br->buf, ret_payload, err);
}

int md_block_unpack(struct md_block_reader *br, const struct md_raw_file *f,
		    const struct md_index_entry *e, const uint8_t *payload, uint8_t *raw,
		    struct err *err)
{
	uint64_t at = e->off + md_head_span(e->nextents, f->head.align);
	int ret = md_unpack(&br->unpacker, e->codec, payload, e->packed_len, raw, e->raw_len);

	if (ret == -EBADMSG)
		return bad_at(err, at, "payload does not unpack to its length");
	return ret < 0 ? err_set(err, -ret, "unpack a block") : 0;
}

int md_block_read(struct md_block_reader *br, const struct md_raw_file *f,
		  const struct md_index_entry *e, const struct md_extent *extents, uint8_t *raw,
		  struct err *err)
{
	const uint8_t *payload;
	int ret = md_block_fetch(br, f, e, extents, &payload, err);

	if (ret < 0 || e->codec == MD_CODEC_MAP || e->codec == MD_CODEC_SAME)
		return ret;
	return md_block_unpack(br, f, e, payload, raw, err);
}

/* --- maps ---------------------------------------------------------------------------------- */

int md_map_take(const struct md_raw_file *f, struct md_index_block *b, const uint8_t *payload,
		struct md_index_list *l, struct err *err)
{
	unsigned n = b->entry.packed_len / MD_EXTENT_LEN;
	int ret;

	if (md_index_list_reserve_maps(l, n))
		return err_set(err, ENOMEM, "reserve memory for a map");
	ret = md_take_map(payload, b->entry.packed_len,
			  b->entry.off + md_head_span(0, f->head.align), f->head.page_size, n,
			  l->maps + l->nmaps, err);
	if (ret < 0)
		return ret;
	b->first = l->nmaps;
	l->nmaps += n;
	return 0;
}

int md_raw_file_maps(const struct md_raw_file *f, struct md_block_reader *br,
		     struct md_index_list *l, struct err *err)
{
	for (size_t i = 0; i < l->nblocks; i++) {
		struct md_index_block *b = &l->blocks[i];
		const uint8_t *payload;
		int ret = 0;

		if (!md_index_is_map(&b->entry))
			continue;
		ret = md_block_fetch(br, f, &b->entry, NULL, &payload, err);
		if (ret == 0)
			ret = md_map_take(f, b, payload, l, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}
