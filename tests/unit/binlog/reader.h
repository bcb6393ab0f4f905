/* SPDX-License-Identifier: MIT */
/*
 * A small reader of log files, for tests: it trusts a sound file and asserts everything it reads.
 *
 * It is not the decoder and formats nothing: tests look at the arguments. Written from
 * docs/BINLOG.md; knows nothing of the writer but binlog/format.h.
 */
#ifndef TESTS_UNIT_BINLOG_READER_H
#define TESTS_UNIT_BINLOG_READER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/io.h"
#include "binlog/binlog.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READER_ARGS 32

struct field {
	uint8_t type;
	uint64_t word;	  /* integers (sign-extended), pointers, bits of a double */
	uint64_t high;	  /* second word of 16-byte fields */
	const char *text; /* strings; not terminated; NULL */
	uint32_t slot;
};

struct entry {
	unsigned line;
	unsigned level;
	unsigned flags;
	unsigned nargs;
	uint8_t types[READER_ARGS];
	struct field literals[READER_ARGS];
	char fmt[256]; /* cut */
	char file[128];
	char func[64];
};

struct rec {
	uint32_t stream;
	uint32_t pid;
	uint32_t tid;
	uint64_t ticks;
	const struct entry *site;
	unsigned level;
	int errnum;
	struct field args[READER_ARGS];
};

struct seg {
	uint32_t stream;
	uint32_t pid;
	uint32_t tid;
	uint64_t pos;
	struct bytes records;
	int chunk;
};

struct reader {
	uint8_t *data;
	size_t len;
	uint32_t tag;
	uint64_t lost_records;
	uint64_t lost_bytes;
	uint32_t closed;
	struct entry *sites; /* number - 16 */
	size_t nsites;
	struct seg *segs;
	size_t nsegs;
	struct rec *recs;
	size_t nrecs;
	unsigned pending;
	unsigned threads;
	uint64_t loss_records; /* in LOSS records */
	unsigned gaps;	       /* segments missing between others */
	unsigned bad_chunks;
	char *images[16]; /* long records under construction */
	uint64_t image_ids[16];
	uint64_t image_len[16]; /* so far */
	char **finished;	/* texts of long records point into these */
	size_t nfinished;
	struct entry *inlines[65536];
	size_t ninlines;
	char *errors[256];
};

static uint64_t reader_mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0x9E3779B97F4A7C15ull;
	return x ^ x >> 29;
}

static uint64_t reader_sum(const uint8_t *p, size_t len)
{
	uint64_t a[4];
	uint64_t b[4] = {0};
	uint64_t h = len;

	for (unsigned l = 0; l < 4; l++)
		a[l] = 0x9E3779B97F4A7C15ull * (l + 1);
	for (size_t i = 0; i < (len + 31) / 32 * 4; i++) {
		uint64_t w = 0;

		if (i * 8 < len)
			memcpy(&w, p + i * 8, len - i * 8 < 8 ? len - i * 8 : 8);
		a[i % 4] += binlog_le64(w);
		b[i % 4] += a[i % 4];
	}
	for (unsigned l = 0; l < 4; l++) {
		h = reader_mix(h ^ a[l]);
		h = reader_mix(h ^ b[l]);
	}
	return h;
}

static int reader_head_ok(const struct reader *r, size_t off)
{
	struct bytes b = bytes_of(r->data, r->len);
	uint8_t head[64];

	if (off + 64 > r->len)
		return 0;
	memcpy(head, r->data + off, 64);
	memset(head + 12, 0, 4);
	bytes_seek(&b, off);
	if (bytes_u32(&b) != 0x014b4c42)
		return 0;
	bytes_u32(&b);
	return bytes_u32(&b) == r->tag && bytes_u32(&b) == (uint32_t)reader_sum(head, 64) &&
	       bytes_u64(&b) == off;
}

static void reader_text(struct bytes *b, uint32_t len, char *ret, size_t size)
{
	const char *p = bytes_take(b, len);

	assert_non_null(p);
	snprintf(ret, size, "%.*s", (int)len, p);
}

/* The common part of a dictionary entry and an inline record, from line on. */
static void reader_entry(struct bytes *b, struct entry *e)
{
	e->line = bytes_u32(b);
	e->level = bytes_u8(b);
	e->flags = bytes_u8(b);
	e->nargs = bytes_u16(b);
	uint32_t fmt_len = bytes_u32(b);
	uint32_t file_len = bytes_u32(b);
	uint32_t func_len = bytes_u32(b);

	assert_in_range(e->nargs, 0, READER_ARGS);
	for (unsigned i = 0; i < e->nargs; i++)
		e->types[i] = bytes_u8(b);
	reader_text(b, fmt_len, e->fmt, sizeof(e->fmt));
	reader_text(b, file_len, e->file, sizeof(e->file));
	reader_text(b, func_len, e->func, sizeof(e->func));
}

static void reader_dict(struct reader *r, struct bytes b, uint32_t base, uint32_t count)
{
	bytes_take(&b, bytes_u32(&b));
	bytes_take(&b, bytes_u32(&b));
	if (base - 16 + count > r->nsites) {
		r->sites = realloc(r->sites, (base - 16 + count) * sizeof(*r->sites));
		memset(r->sites + r->nsites, 0,
		       (base - 16 + count - r->nsites) * sizeof(*r->sites));
		r->nsites = base - 16 + count;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct entry *e = &r->sites[base - 16 + i];
		size_t end = b.pos + bytes_u32(&b);

		reader_entry(&b, e);
		for (unsigned n = 0; n < e->nargs; n++) {
			if (!(e->types[n] & 0x80))
				continue;
			struct field *f = &e->literals[n];

			f->type = e->types[n];
			if ((f->type & 0x7f) != 10) {
				f->word = bytes_u64(&b);
				continue;
			}
			f->slot = bytes_u32(&b);
			if (f->slot != 0xffffffff)
				f->text = bytes_take(&b, f->slot);
		}
		assert_true(bytes_ok(&b));
		assert_int_equal(b.pos, end);
	}
}

static void reader_errno(struct reader *r, struct bytes b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = bytes_u32(&b);
		uint32_t len = bytes_u32(&b);

		assert_in_range(n, 0, 255);
		r->errors[n] = strndup(bytes_take(&b, len), len);
	}
}

static void reader_seg(struct reader *r, size_t off, uint16_t type)
{
	struct bytes b = bytes_of(r->data, r->len);
	struct seg s = {.chunk = type == 4};
	uint32_t used;
	uint64_t sum;

	bytes_seek(&b, off + 32);
	s.stream = bytes_u32(&b);
	s.pid = bytes_u32(&b);
	s.tid = bytes_u32(&b);
	used = bytes_u32(&b);
	s.pos = bytes_u64(&b);
	sum = bytes_u64(&b);
	if (!s.chunk)
		used = BINLOG_SEG_LEN - 64;
	if (off + 64 + used > r->len || (s.chunk && reader_sum(r->data + off + 64, used) != sum)) {
		r->bad_chunks++;
		return;
	}
	s.records = bytes_of(r->data + off + 64, used);
	for (size_t i = 0; i < r->nsegs; i++)
		if (r->segs[i].stream == s.stream && r->segs[i].pos == s.pos) {
			if (s.chunk)
				r->segs[i] = s;
			return;
		}
	r->segs = realloc(r->segs, (r->nsegs + 1) * sizeof(s));
	r->segs[r->nsegs++] = s;
}

static void reader_block(struct reader *r, size_t off, uint16_t type)
{
	struct bytes b = bytes_of(r->data, r->len);

	bytes_seek(&b, off + 32);
	if (type == 1 || type == 2) {
		uint32_t base = bytes_u32(&b);
		uint32_t count = bytes_u32(&b);
		uint64_t used = bytes_u64(&b);

		assert_int_equal(bytes_u64(&b), reader_sum(r->data + off + 64, used));
		if (type == 1)
			reader_dict(r, bytes_of(r->data + off + 64, used), base, count);
		else
			reader_errno(r, bytes_of(r->data + off + 64, used), count);
	} else if (type == 3) {
		bytes_take(&b, 12);
		uint32_t nsegs = bytes_u32(&b);
		uint32_t seg_len = bytes_u32(&b);
		uint32_t data = bytes_u32(&b);

		for (uint32_t i = 0; i < nsegs; i++)
			if (reader_head_ok(r, off + data + i * seg_len))
				reader_seg(r, off + data + i * seg_len, 5);
	} else if (type == 4) {
		reader_seg(r, off, type);
	}
}

/* Fields of a call; returns the bytes they took. */
static size_t reader_fields(struct reader *r, struct bytes b, const struct entry *e,
			    struct rec *rec)
{
	for (unsigned i = 0; i < e->nargs; i++) {
		struct field *f = &rec->args[i];

		*f = e->literals[i];
		f->type = e->types[i];
		switch (f->type) {
		case 1:
			f->word = (uint64_t)(int64_t)(int32_t)bytes_u32(&b);
			break;
		case 2:
			f->word = bytes_u32(&b);
			break;
		case 5:
		case 6:
		case 8:
			f->word = bytes_u64(&b);
			f->high = bytes_u64(&b);
			break;
		case 10:
		case 11:
			f->slot = bytes_u32(&b);
			break;
		default:
			if (!(f->type & 0x80))
				f->word = bytes_u64(&b);
		}
	}
	for (unsigned i = 0; i < e->nargs; i++) {
		struct field *f = &rec->args[i];

		if (f->type != 10 && f->type != 11)
			continue;
		if (!(f->slot & 0x80000000))
			f->text = bytes_take(&b, f->slot);
		else if (f->slot < 0x80000100)
			f->text = r->errors[f->slot & 0xff];
	}
	assert_true(bytes_ok(&b));
	return b.pos;
}

static void reader_call(struct reader *r, const struct seg *s, uint32_t site, uint64_t ticks,
			struct bytes b)
{
	struct rec rec = {.stream = s->stream, .pid = s->pid, .tid = s->tid, .ticks = ticks};

	if (site == 5) {
		struct entry *e = calloc(1, sizeof(*e));

		reader_entry(&b, e);
		rec.site = e;
		assert_in_range(r->ninlines, 0, 65535);
		r->inlines[r->ninlines++] = e;
	} else {
		assert_in_range(site, 16, 16 + r->nsites - 1);
		rec.site = &r->sites[site - 16];
	}
	rec.level = rec.site->flags & 1 ? bytes_u32(&b) : rec.site->level;
	rec.errnum = rec.site->flags & 2 ? (int)bytes_u32(&b) : 0;
	b = bytes_of(b.start + b.pos, b.len - b.pos);
	size_t used = reader_fields(r, b, rec.site, &rec);

	/* The length fits exactly, and the padding is zero. */
	assert_in_range(b.len - used, 0, 7);
	for (size_t i = used; i < b.len; i++)
		assert_int_equal(b.start[i], 0);
	/* Twice as many each time: AddressSanitizer's realloc() copies all of them. */
	if (r->nrecs == 0 || (r->nrecs >= 4096 && (r->nrecs & (r->nrecs - 1)) == 0))
		r->recs = realloc(r->recs, (r->nrecs ? 2 * r->nrecs : 4096) * sizeof(rec));
	r->recs[r->nrecs++] = rec;
}

static void reader_fragment(struct reader *r, const struct seg *s, struct bytes b, uint64_t anchor)
{
	uint32_t id = bytes_u32(&b);
	uint32_t len = bytes_u32(&b);
	uint64_t total = bytes_u64(&b);
	uint64_t off = bytes_u64(&b);
	unsigned slot = 0;

	while (slot < 15 && r->images[slot] && r->image_ids[slot] != id)
		slot++;
	if (off == 0) {
		r->images[slot] = realloc(r->images[slot], total);
		r->image_ids[slot] = id;
		r->image_len[slot] = 0;
	}
	/* Pieces before this one may have been lost, and the record with them. */
	if (!r->images[slot] || r->image_len[slot] != off)
		return;
	memcpy(r->images[slot] + off, bytes_take(&b, len), len);
	r->image_len[slot] += len;
	if (off + len < total)
		return;
	struct bytes image = bytes_of(r->images[slot], total);
	uint64_t word = bytes_u64(&image);

	reader_call(r, s, (uint32_t)(word >> 44),
		    anchor + (uint64_t)(int64_t)(int32_t)((uint32_t)word - (uint32_t)anchor),
		    bytes_of(r->images[slot] + 8, total - 8));
	r->finished = realloc(r->finished, (r->nfinished + 1) * sizeof(*r->finished));
	r->finished[r->nfinished++] = r->images[slot];
	r->images[slot] = NULL;
}

static void reader_walk(struct reader *r, const struct seg *s)
{
	struct bytes b = s->records;
	uint64_t anchor = 0;

	while (bytes_left(&b) >= 8) {
		uint64_t word = bytes_u64(&b);
		uint32_t site = (uint32_t)(word >> 44);
		size_t len = (word >> 32 & 0xfff) * 8;

		if (!word)
			continue;
		assert_in_range(len, 8, bytes_left(&b) + 8);
		struct bytes body = bytes_of(bytes_take(&b, len - 8), len - 8);

		if (site == 1) {
			r->pending++;
		} else if (site == 2) {
			anchor = bytes_u64(&body);
		} else if (site == 3) {
			r->threads++;
		} else if (site == 4) {
			r->loss_records += bytes_u64(&body);
		} else if (site == 6) {
			reader_fragment(r, s, body, anchor);
		} else {
			assert_int_not_equal(anchor, 0);
			reader_call(r, s, site,
				    anchor + (uint64_t)(int64_t)(int32_t)((uint32_t)word -
									  (uint32_t)anchor),
				    body);
		}
	}
}

static int reader_by_pos(const void *a, const void *b)
{
	const struct seg *x = a;
	const struct seg *y = b;

	if (x->stream != y->stream)
		return x->stream < y->stream ? -1 : 1;
	return (x->pos > y->pos) - (x->pos < y->pos);
}

/* Reads the whole file; the caller frees with reader_free(). */
static struct reader *reader_load(const char *path)
{
	struct reader *r = calloc(1, sizeof(*r));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t head[512];
	struct stat st;

	assert_non_null(r);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	r->len = (size_t)st.st_size;
	r->data = malloc(r->len);
	assert_int_equal(io_read(fd, r->data, r->len), st.st_size);
	close(fd);
	assert_memory_equal(r->data,
			    "\x89"
			    "BLOG\r\n\x1a\x04\x03\x02\x01\x01\x00\x01\x00",
			    16);
	memcpy(head, r->data, sizeof(head));
	memset(head + 20, 0, 4);
	struct bytes b = bytes_of(r->data, r->len);

	bytes_seek(&b, 20);
	assert_int_equal(bytes_u32(&b), (uint32_t)reader_sum(head, sizeof(head)));
	r->tag = bytes_u32(&b);
	bytes_seek(&b, 540);
	r->closed = bytes_u32(&b);
	r->lost_records = bytes_u64(&b);
	r->lost_bytes = bytes_u64(&b);
	for (size_t off = 4096; off + 64 <= r->len;) {
		bytes_seek(&b, off + 4);
		uint16_t type = bytes_u16(&b);

		if (!reader_head_ok(r, off)) {
			off += 4096;
			continue;
		}
		bytes_seek(&b, off + 24);
		uint64_t len = bytes_u64(&b);

		assert_int_equal(len % 4096, 0);
		assert_int_not_equal(len, 0);
		reader_block(r, off, type);
		off += len;
	}
	if (r->nsegs)
		qsort(r->segs, r->nsegs, sizeof(*r->segs), reader_by_pos);
	for (size_t i = 0; i < r->nsegs; i++) {
		if (i && r->segs[i].stream == r->segs[i - 1].stream &&
		    r->segs[i].pos != r->segs[i - 1].pos + BINLOG_SEG_LEN)
			r->gaps++;
		reader_walk(r, &r->segs[i]);
	}
	return r;
}

static void reader_free(struct reader *r)
{
	for (size_t i = 0; i < r->ninlines; i++)
		free(r->inlines[i]);
	for (unsigned i = 0; i < 256; i++)
		free(r->errors[i]);
	for (size_t i = 0; i < r->nfinished; i++)
		free(r->finished[i]);
	for (unsigned i = 0; i < 16; i++)
		free(r->images[i]);
	free(r->finished);
	free(r->recs);
	free(r->segs);
	free(r->sites);
	free(r->data);
	free(r);
}

/* A fresh path in $TMPDIR. */
static const char *reader_path(const char *name)
{
	static char path[512];
	const char *dir = getenv("TMPDIR");

	snprintf(path, sizeof(path), "%s/%s.%d.blog", dir ? dir : "/tmp", name, (int)getpid());
	return path;
}

static inline void reader_open(const char *path, const struct binlog_opts *opts)
{
	struct err err = {0};

	if (binlog_open(path, opts, &err) < 0)
		fail_msg("%s", err.msg);
}

#define assert_text(f, want)                                       \
	do {                                                       \
		assert_int_equal((f).slot, strlen(want));          \
		assert_memory_equal((f).text, want, strlen(want)); \
	} while (0)

#endif
