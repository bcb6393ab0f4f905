/* SPDX-License-Identifier: MIT */
/* The writer plug that makes a block file. */
#include "memdump/memdump.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "memdump/format.h"
#include "memdump/index.h"
#include "memdump/out.h"
#include "memdump/sum.h"

static_assert((MD_HEAD_LEN + MD_BLOCK_EXTENTS * MD_EXTENT_LEN + MD_ALIGN_DIRECT - 1) /
			      MD_ALIGN_DIRECT * MD_ALIGN_DIRECT <=
		      MD_BLOCK_HEADROOM,
	      "the longest block head, padded, fits in the headroom");

enum {
	TAIL_BUF = 64 << 10, /* the index goes out in pieces of this */
};

struct file_writer {
	struct md_writer w;
	int fd;
	char name[96];
	uint32_t align;
	uint64_t file_id;
	uint32_t page_size;
	bool ended;   /* flushed or abandoned: nothing more is written */
	uint64_t pos; /* where the next record goes */
	uint64_t raw_bytes;
	struct md_index_list list;
	uint64_t *mapped; /* spaces that have a map, as many as a power of two has room for */
	size_t nmapped;
	struct md_out out;
};

static struct file_writer *of(struct md_writer *w)
{
	return (struct file_writer *)w;
}

/* A file with a failed run's blocks missing must not be made to look whole. */
static int ended(const struct file_writer *f, struct err *err)
{
	return err_fail(err, EINVAL, ERR_OTHER, "%s takes no more: it is complete, or a run failed",
			f->name);
}

/* --- blocks -------------------------------------------------------------------------------- */

static int file_start(struct md_writer *w, void *mem, size_t len, size_t buf_size, struct err *err)
{
	struct file_writer *f = of(w);

	if (f->ended)
		return ended(f, err);
	/*
	 * Registering takes every page of the pool, and clears it first: 30 ms for 96 MiB. Writes
	 * to the page cache gain nothing by it.
	 */
	if (f->w.direct)
		md_out_register(&f->out, mem, len, buf_size);
	f->out.now = w->by_itself && !f->w.direct;
	return 0;
}

static int file_put(struct md_writer *w, struct md_block *b, struct err *err)
{
	struct file_writer *f = of(w);
	struct md_block_head h = {
		.file_id = f->file_id,
		.space = b->space,
		.raw_len = b->raw_len,
		.packed_len = b->packed_len,
		.payload_sum = b->sum,
		.codec = (uint16_t)b->codec,
		.nextents = (uint16_t)b->nextents,
		.round = b->codec == MD_CODEC_SAME ? b->same_as : b->round,
	};
	struct md_index_entry e = {
		.off = f->pos,
		.space = b->space,
		.raw_len = b->raw_len,
		.packed_len = b->packed_len,
		.codec = h.codec,
		.nextents = h.nextents,
		.round = h.round,
	};
	uint32_t head = md_head_span(b->nextents, f->align);
	size_t payload = md_align_up(b->packed_len, f->align);
	uint8_t *start = b->data - head;

	if (md_index_list_add(&f->list, &e, b->extents)) {
		md_block_done(b);
		return err_set(err, ENOMEM, "reserve memory for the index of %s", f->name);
	}
	memset(start, 0, head);
	md_put_block_head(start, &h, b->extents);
	memset(b->data + b->packed_len, 0, payload - b->packed_len);
	f->raw_bytes += b->raw_len;
	f->pos += head + payload;
	return md_out_write(&f->out, b, start, head + payload, e.off, err);
}

static int file_pause(struct md_writer *w, struct err *err)
{
	struct file_writer *f = of(w);
	int ret = md_out_drain(&f->out, err);

	md_out_unregister(&f->out);
	w->file_bytes = f->pos;
	return ret;
}

static void file_abandon(struct md_writer *w)
{
	md_out_abandon(&of(w)->out);
	of(w)->ended = true;
}

/* --- maps ---------------------------------------------------------------------------------- */

static int map_allowed(const struct file_writer *f, uint64_t space, const struct md_extent *map,
		       size_t n, struct err *err)
{
	uint64_t last = 0; /* address of the byte before */

	if (f->ended)
		return ended(f, err);
	for (size_t i = 0; i < f->nmapped; i++)
		if (f->mapped[i] == space)
			return err_fail(err, EEXIST, ERR_OTHER,
					"space %#" PRIx64 " has a map in %s already", space,
					f->name);
	for (size_t i = 0; i < n; i++) {
		if (map[i].addr % f->page_size || map[i].len % f->page_size || !map[i].len ||
		    map[i].addr + (map[i].len - 1) < map[i].addr || (i && map[i].addr <= last))
			return err_fail(err, EINVAL, ERR_OTHER,
					"map of space %#" PRIx64 ": extent %zu, %#" PRIx64
					"+%#" PRIx64
					", is not aligned or not behind the one before",
					space, i, map[i].addr, map[i].len);
		last = map[i].addr + (map[i].len - 1);
	}
	return 0;
}

static int remember_map(struct file_writer *f, uint64_t space)
{
	if (!(f->nmapped & (f->nmapped - 1))) {
		uint64_t *p = reallocarray(f->mapped, f->nmapped ? f->nmapped * 2 : 1, sizeof(*p));

		if (!p)
			return -ENOMEM;
		f->mapped = p;
	}
	f->mapped[f->nmapped++] = space;
	return 0;
}

/* One record, written when this returns: @buf is one for all. */
static int put_map(struct file_writer *f, uint64_t space, const struct md_extent *map, unsigned n,
		   uint32_t follow, uint8_t *buf, struct err *err)
{
	uint32_t head = md_head_span(0, f->align), len = n * MD_EXTENT_LEN;
	size_t payload = md_align_up(len, f->align);
	struct md_block_head h = {
		.file_id = f->file_id,
		.space = space,
		.packed_len = len,
		.codec = MD_CODEC_MAP,
		.round = follow,
	};
	struct md_index_entry e = {
		.off = f->pos,
		.space = space,
		.packed_len = len,
		.codec = MD_CODEC_MAP,
		.round = follow,
	};

	memset(buf, 0, head + payload);
	md_put_extents(buf + head, map, n);
	h.payload_sum = md_sum_payload(buf + head, len);
	md_put_block_head(buf, &h, NULL);
	if (md_index_list_add(&f->list, &e, NULL))
		return err_set(err, ENOMEM, "reserve memory for the index of %s", f->name);
	/* A failure sticks; the caller's @buf is waited for either way. */
	md_out_write(&f->out, NULL, buf, head + payload, f->pos, err);
	f->pos += head + payload;
	return md_out_drain(&f->out, err);
}

int md_writer_file_map(struct md_writer *w, uint64_t space, const struct md_extent *map, size_t n,
		       struct err *err)
{
	enum { MOST = MD_MAP_LEN / MD_EXTENT_LEN };
	struct file_writer *f = of(w);
	cleanup_free uint8_t *buf = aligned_alloc(MD_ALIGN_DIRECT, MD_ALIGN_DIRECT + MD_MAP_LEN);
	size_t follow = n ? (n - 1) / MOST : 0;
	int ret;

	assert(w->put == file_put);
	ret = map_allowed(f, space, map, n, err);
	if (ret < 0)
		return ret;
	if (!buf || remember_map(f, space))
		return err_set(err, ENOMEM, "write a map to %s", f->name);
	do {
		unsigned k = n < MOST ? (unsigned)n : MOST;

		ret = put_map(f, space, map, k, (uint32_t)follow, buf, err);
		map += k;
		n -= k;
	} while (ret == 0 && follow--);
	/* A map that is not whole would name too little. */
	f->ended = ret < 0;
	return ret;
}

/* --- head and tail ------------------------------------------------------------------------- */

/* Bytes that leave through one aligned buffer; in whole multiples of align. */
struct tail {
	struct file_writer *f;
	uint8_t *buf;
	size_t len;
	XXH3_state_t *sum;
	uint64_t summed;
};

static int tail_flush(struct tail *t, struct err *err)
{
	struct file_writer *f = t->f;
	size_t len = t->len;
	int ret;

	assert(len % f->align == 0);
	t->len = 0;
	ret = md_out_write(&f->out, NULL, t->buf, len, f->pos, err);
	f->pos += len;
	return ret < 0 ? ret : md_out_drain(&f->out, err);
}

static int tail_put(struct tail *t, const uint8_t *p, size_t len, struct err *err)
{
	XXH3_64bits_update(t->sum, p, len);
	t->summed += len;
	while (len) {
		size_t n = TAIL_BUF - t->len < len ? TAIL_BUF - t->len : len;

		memcpy(t->buf + t->len, p, n);
		t->len += n;
		p += n;
		len -= n;
		if (t->len == TAIL_BUF) {
			int ret = tail_flush(t, err);

			if (ret < 0)
				return ret;
		}
	}
	return 0;
}

static int put_index(struct file_writer *f, struct tail *t, struct err *err)
{
	struct md_index_head h = {
		.file_id = f->file_id,
		.nblocks = f->list.nblocks,
		.nextents = f->list.nextents,
	};
	uint8_t buf[MD_BLOCK_EXTENTS * MD_EXTENT_LEN];
	int ret;

	md_index_list_sort(&f->list);
	md_put_index_head(buf, &h);
	ret = tail_put(t, buf, MD_HEAD_LEN, err);
	for (size_t i = 0; ret == 0 && i < f->list.nblocks; i++) {
		md_put_index_entry(buf, &f->list.blocks[i].entry);
		ret = tail_put(t, buf, MD_ENTRY_LEN, err);
	}
	for (size_t i = 0; ret == 0 && i < f->list.nblocks; i++) {
		const struct md_index_block *b = &f->list.blocks[i];

		md_put_extents(buf, f->list.extents + b->first, b->entry.nextents);
		ret = tail_put(t, buf, (size_t)b->entry.nextents * MD_EXTENT_LEN, err);
	}
	return ret;
}

/* Zeros, then the trailer as the last bytes of the last aligned unit. */
static int put_trailer(struct file_writer *f, struct tail *t, struct md_trailer *tr,
		       struct err *err)
{
	size_t len = md_align_up(t->len + MD_HEAD_LEN, f->align);
	int ret;

	if (len > TAIL_BUF) {
		len = md_align_up(t->len, f->align);
		memset(t->buf + t->len, 0, len - t->len);
		t->len = len;
		ret = tail_flush(t, err);
		if (ret < 0)
			return ret;
		len = f->align;
	}
	memset(t->buf + t->len, 0, len - t->len);
	tr->file_len = f->pos + len;
	md_put_trailer(t->buf + len - MD_HEAD_LEN, tr);
	t->len = len;
	return tail_flush(t, err);
}

static int put_tail(struct file_writer *f, struct tail *t, struct err *err)
{
	struct md_trailer tr = {
		.file_id = f->file_id,
		.index_off = f->pos,
		.raw_bytes = f->raw_bytes,
	};
	int ret;

	XXH3_64bits_reset(t->sum);
	ret = put_index(f, t, err);
	if (ret < 0)
		return ret;
	tr.index_len = t->summed;
	tr.index_sum = XXH3_64bits_digest(t->sum);
	return put_trailer(f, t, &tr, err);
}

static int file_flush(struct md_writer *w, struct err *err)
{
	struct file_writer *f = of(w);
	struct tail t = {.f = f};
	int ret = f->ended ? ended(f, err) : md_out_drain(&f->out, err);

	if (ret < 0)
		return ret;
	f->ended = true;
	t.buf = aligned_alloc(MD_ALIGN_DIRECT, TAIL_BUF);
	t.sum = XXH3_createState();
	if (t.buf && t.sum)
		ret = put_tail(f, &t, err);
	else
		ret = err_set(err, ENOMEM, "write the index of %s", f->name);
	XXH3_freeState(t.sum);
	free(t.buf);
	w->file_bytes = f->pos;
	return ret;
}

uint64_t md_writer_file_id(struct md_writer *w)
{
	assert(w->put == file_put);
	return of(w)->file_id;
}

static int file_sync(struct md_writer *w, struct err *err)
{
	if (FAULT("memdump.sync"))
		return err_set(err, EIO, "fault injected at memdump.sync");
	return fsync(of(w)->fd) < 0 ? err_set(err, errno, "fsync %s", of(w)->name) : 0;
}

static int put_file_head(struct file_writer *f, const struct md_file_opts *opts, struct err *err)
{
	struct md_file_head h = {
		.major = MD_FORMAT_MAJOR,
		.minor = MD_FORMAT_MINOR,
		.page_size = opts->page_size,
		.align = f->align,
		.flags = opts->has_parent ? MD_FLAG_PARENT : 0,
		.file_id = f->file_id,
		.parent_id = opts->has_parent ? opts->parent_id : 0,
	};
	cleanup_free uint8_t *buf = aligned_alloc(MD_ALIGN_DIRECT, MD_ALIGN_DIRECT);
	int ret;

	if (!buf)
		return err_set(err, ENOMEM, "write the head of %s", f->name);
	memset(buf, 0, MD_ALIGN_DIRECT);
	md_put_file_head(buf, &h);
	ret = md_out_write(&f->out, NULL, buf, f->align, 0, err);
	f->pos = f->align;
	return ret < 0 ? ret : md_out_drain(&f->out, err);
}

/* --- life ---------------------------------------------------------------------------------- */

static void file_close(struct md_writer *w)
{
	struct file_writer *f = of(w);

	if (!f)
		return;
	md_out_abandon(&f->out);
	md_out_deinit(&f->out);
	md_index_list_deinit(&f->list);
	free(f->mapped);
	close(f->fd);
	free(f);
}

static int create(int dirfd, const char *name, struct err *err)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? err_set(err, errno, "create %s", name) : fd;
}

/* Not at creation: open() with O_DIRECT that fails leaves the file behind. */
static bool go_direct(struct file_writer *f)
{
	int flags = fcntl(f->fd, F_GETFL);

	if (flags < 0 || fcntl(f->fd, F_SETFL, flags | O_DIRECT) < 0) {
		snprintf(f->w.direct_reason, sizeof(f->w.direct_reason),
			 "this filesystem has no O_DIRECT");
		return false;
	}
	return true;
}

static void leave_direct(struct file_writer *f, const struct err *why)
{
	fcntl(f->fd, F_SETFL, fcntl(f->fd, F_GETFL) & ~O_DIRECT);
	snprintf(f->w.direct_reason, sizeof(f->w.direct_reason), "O_DIRECT failed: %s",
		 strerrordesc_np(why->errnum));
}

/* The head is the first write: some filesystems refuse O_DIRECT only then. */
static int begin(struct file_writer *f, const struct md_file_opts *opts, struct err *err)
{
	struct err e = {0};
	int ret;

	f->w.direct = opts->direct && go_direct(f);
	f->align = f->w.direct ? MD_ALIGN_DIRECT : MD_ALIGN;
	md_out_init(&f->out, f->fd, f->name, f->w.direct ? f->align : 1, opts->no_uring);
	ret = put_file_head(f, opts, &e);
	if (ret == -EINVAL && f->w.direct) {
		leave_direct(f, &e);
		f->w.direct = false;
		f->align = MD_ALIGN;
		md_out_deinit(&f->out);
		md_out_init(&f->out, f->fd, f->name, 1, opts->no_uring);
		err_clear(&e);
		ret = put_file_head(f, opts, &e);
	}
	f->w.io_uring = f->out.uring;
	memcpy(f->w.io_uring_reason, f->out.uring_reason, sizeof(f->w.io_uring_reason));
	return ret < 0 ? err_take(err, &e) : 0;
}

struct md_writer *md_writer_file_open(int dirfd, const char *name, const struct md_file_opts *opts,
				      struct err *err)
{
	struct file_writer *f;
	int fd = create(dirfd, name, err);

	if (fd < 0)
		return NULL;
	f = calloc(1, sizeof(*f));
	if (!f || getrandom(&f->file_id, sizeof(f->file_id), 0) != sizeof(f->file_id)) {
		err_set(err, f ? errno : ENOMEM, "prepare %s", name);
		free(f);
		close(fd);
		unlinkat(dirfd, name, 0);
		return NULL;
	}
	f->fd = fd;
	f->page_size = opts->page_size;
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->w = (struct md_writer){
		.holds = MD_OUT_DEPTH,
		.start = file_start,
		.put = file_put,
		.pause = file_pause,
		.flush = file_flush,
		.abandon = file_abandon,
		.sync = file_sync,
		.close = file_close,
	};
	if (begin(f, opts, err) < 0) {
		file_close(&f->w);
		unlinkat(dirfd, name, 0);
		return NULL;
	}
	return &f->w;
}
