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
	uint64_t pos; /* where the next record goes */
	uint64_t raw_bytes;
	struct md_index_list list;
	struct md_out out;
};

static struct file_writer *of(struct md_writer *w)
{
	return (struct file_writer *)w;
}

/* --- blocks -------------------------------------------------------------------------------- */

static int file_start(struct md_writer *w, void *mem, size_t len, size_t buf_size, struct err *err)
{
	md_out_register(&of(w)->out, mem, len, buf_size);
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
		.same_as = b->same_as,
	};
	struct md_index_entry e = {
		.off = f->pos,
		.space = b->space,
		.raw_len = b->raw_len,
		.packed_len = b->packed_len,
		.codec = h.codec,
		.nextents = h.nextents,
		.same_as = h.same_as,
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

static void file_abandon(struct md_writer *w)
{
	md_out_drain(&of(w)->out, NULL);
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
	int ret = md_out_drain(&f->out, err);

	if (ret < 0)
		return ret;
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

static int file_sync(struct md_writer *w, struct err *err)
{
	if (FAULT("memdump.sync"))
		return err_set(err, EIO, "fault injected at memdump.sync");
	return fsync(of(w)->fd) < 0 ? err_set(err, errno, "fsync %s", of(w)->name) : 0;
}

static int put_file_head(struct file_writer *f, uint32_t page_size, struct err *err)
{
	struct md_file_head h = {
		.major = MD_FORMAT_MAJOR,
		.minor = MD_FORMAT_MINOR,
		.page_size = page_size,
		.align = f->align,
		.file_id = f->file_id,
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
	md_out_drain(&f->out, NULL);
	md_out_deinit(&f->out);
	md_index_list_deinit(&f->list);
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
	ret = put_file_head(f, opts->page_size, &e);
	if (ret == -EINVAL && f->w.direct) {
		leave_direct(f, &e);
		f->w.direct = false;
		f->align = MD_ALIGN;
		md_out_deinit(&f->out);
		md_out_init(&f->out, f->fd, f->name, 1, opts->no_uring);
		err_clear(&e);
		ret = put_file_head(f, opts->page_size, &e);
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
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->w = (struct md_writer){
		.holds = MD_OUT_DEPTH,
		.start = file_start,
		.put = file_put,
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
