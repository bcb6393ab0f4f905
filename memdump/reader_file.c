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
	CACHED = 4,	  /* unpacked blocks kept */
	CHUNK = 64 << 10, /* of the index while it is read */
};

struct md_file {
	struct md_raw_file raw;
	struct md_index index;
	struct md_block_reader reader;
	struct cached {
		uint8_t *raw; /* NULL: never used */
		uint64_t block;
		uint64_t used; /* tick of last use; 0: holds nothing */
	} cache[CACHED];
	uint64_t tick;
	uint32_t raw_max; /* of all blocks */
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
		l->blocks[l->nblocks] = (struct md_index_block){e, l->nextents};
		l->nextents += e.nextents;
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
	    h.packed_len != e->packed_len || h.space != e->space || h.same_as != e->same_as)
		return bad_at(err, e->off, "block head and index differ");
	ret = md_take_block_extents(record, len, e->off, &f->head, &h, found, err);
	if (ret < 0)
		return ret;
	if (memcmp(found, extents, e->nextents * sizeof(*extents)))
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

	return ret < 0 || e->codec == MD_CODEC_SAME ? ret
						    : md_block_unpack(br, f, e, payload, raw, err);
}

/* --- random access ------------------------------------------------------------------------- */

static int open_index(struct md_file *f, unsigned flags, struct err *err)
{
	struct md_index_list list = {0};
	struct md_trailer t;
	struct err e = {0};
	bool torn = false;
	int ret = md_raw_file_trailer(&f->raw, &t, &e);

	if (ret == 0)
		ret = md_raw_file_index(&f->raw, &t, &list, &e);
	if (ret == -EBADMSG && (flags & MD_FILE_REBUILD)) {
		err_clear(&e);
		torn = true;
		ret = md_raw_file_rebuild(&f->raw, &f->reader, &list, &e);
	}
	if (ret < 0)
		return err_take(err, &e);
	ret = md_index_init(&f->index, &list, err);
	return ret < 0 || torn ? ret : md_index_check_same(&f->index, err);
}

struct md_file *md_file_open(int dirfd, const char *name, unsigned flags, struct err *err)
{
	struct md_file *f = calloc(1, sizeof(*f));

	if (!f) {
		err_set(err, ENOMEM, "open %s", name);
		return NULL;
	}
	if (md_raw_file_open(&f->raw, dirfd, name, err) < 0) {
		free(f);
		return NULL;
	}
	if (open_index(f, flags, err) < 0) {
		md_file_close(f);
		return NULL;
	}
	for (size_t i = 0; i < f->index.list.nblocks; i++)
		if (f->index.list.blocks[i].entry.codec != MD_CODEC_SAME &&
		    f->index.list.blocks[i].entry.raw_len > f->raw_max)
			f->raw_max = f->index.list.blocks[i].entry.raw_len;
	return f;
}

void md_file_close(struct md_file *f)
{
	if (!f)
		return;
	for (unsigned i = 0; i < CACHED; i++)
		free(f->cache[i].raw);
	md_block_reader_deinit(&f->reader);
	md_index_deinit(&f->index);
	md_raw_file_close(&f->raw);
	free(f);
}

uint32_t md_file_page_size(const struct md_file *f)
{
	return f->raw.head.page_size;
}

bool md_file_space(const struct md_file *f, size_t i, uint64_t *ret_space)
{
	if (i >= f->index.nspaces)
		return false;
	*ret_space = f->index.spaces[i].space;
	return true;
}

bool md_file_block(const struct md_file *f, size_t i, struct md_stored *ret)
{
	const struct md_index_entry *e;

	if (i >= f->index.list.nblocks)
		return false;
	e = &f->index.list.blocks[i].entry;
	*ret = (struct md_stored){
		.space = e->space,
		.codec = (enum md_codec_id)e->codec,
		.raw_len = e->raw_len,
		.packed_len = e->packed_len,
		.nextents = e->nextents,
		.same_as = e->same_as,
	};
	return true;
}

int md_file_extent(const struct md_file *f, uint64_t space, uint64_t addr,
		   struct md_extent *ret_extent)
{
	const struct md_index_map *m = md_index_find(&f->index, space, addr);
	uint64_t start, len;

	if (!m)
		return 0;
	start = m->addr > addr ? m->addr : addr;
	len = m->len - (start - m->addr);
	while ((m = md_index_next(&f->index, space, m)) && m->addr == start + len)
		len += m->len;
	*ret_extent = (struct md_extent){start, len};
	return 1;
}

int md_file_origin(const struct md_file *f, uint64_t space, uint64_t addr,
		   struct md_extent *ret_extent, uint64_t *ret_space)
{
	const struct md_index_map *m = md_index_find(&f->index, space, addr);
	const struct md_index_entry *e;

	if (!m)
		return 0;
	e = &f->index.list.blocks[m->block].entry;
	*ret_extent = (struct md_extent){m->addr, m->len};
	if (m->addr < addr)
		*ret_extent = (struct md_extent){addr, m->len - (addr - m->addr)};
	*ret_space = e->codec == MD_CODEC_SAME ? MD_SPACE_PROC(e->same_as) : space;
	return 1;
}

/* The entry that has the bytes of the page at @addr, which @own says is stored; NULL: damaged. */
static const struct md_index_map *with_bytes(const struct md_file *f,
					     const struct md_index_map *own, uint64_t addr,
					     struct err *err)
{
	const struct md_index_entry *e = &f->index.list.blocks[own->block].entry;
	const struct md_index_map *m;

	if (e->codec != MD_CODEC_SAME)
		return own;
	m = md_index_find(&f->index, MD_SPACE_PROC(e->same_as), addr);
	if (m && m->addr <= addr && f->index.list.blocks[m->block].entry.codec != MD_CODEC_SAME)
		return m;
	/* The other block of a torn file. */
	err_fail(err, EBADMSG, ERR_IMAGE,
		 "page %#" PRIx64 " is that of process %u, which is not in the file", addr,
		 e->same_as);
	return NULL;
}

/* The raw bytes of block number @block, from the cache or read into its oldest place. */
static const uint8_t *cached_block(struct md_file *f, uint64_t block, struct err *err)
{
	const struct md_index_block *b = &f->index.list.blocks[block];
	struct cached *c = &f->cache[0];

	for (unsigned i = 0; i < CACHED; i++) {
		struct cached *k = &f->cache[i];

		if (k->used && k->block == block) {
			k->used = ++f->tick;
			return k->raw;
		}
		if (k->used < c->used)
			c = k;
	}
	if (!c->raw && !(c->raw = malloc(f->raw_max))) {
		err_set(err, ENOMEM, "reserve %u bytes for a block", f->raw_max);
		return NULL;
	}
	c->used = 0;
	if (md_block_read(&f->reader, &f->raw, &b->entry, f->index.list.extents + b->first, c->raw,
			  err) < 0)
		return NULL;
	c->block = block;
	c->used = ++f->tick;
	return c->raw;
}

ssize_t md_file_read(struct md_file *f, uint64_t space, uint64_t addr, void *buf, size_t len,
		     struct err *err)
{
	size_t done = 0;

	while (done < len) {
		const struct md_index_map *own = md_index_find(&f->index, space, addr + done);
		const struct md_index_map *m;
		struct err e = {0};
		const uint8_t *raw;
		uint64_t skip, n, left;

		if (!own || own->addr > addr + done)
			break;
		/* What follows may be its own again. */
		left = own->len - (addr + done - own->addr);
		m = with_bytes(f, own, addr + done, &e);
		raw = m ? cached_block(f, m->block, &e) : NULL;
		if (!raw) {
			if (done)
				break; /* the next call tells */
			return err_take(err, &e);
		}
		skip = addr + done - m->addr;
		n = m->len - skip < len - done ? m->len - skip : len - done;
		n = n < left ? n : left;
		memcpy((uint8_t *)buf + done, raw + m->raw_off + skip, n);
		done += n;
	}
	return (ssize_t)done;
}
