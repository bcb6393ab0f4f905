/* SPDX-License-Identifier: MIT */
/*
 * Logs made byte by byte from docs/BINLOG.md, without the writer: for tests of the decoder.
 *
 *	struct mk m;
 *	struct mkseg s;
 *
 *	mk_init(&m);
 *	mk_dict_begin(&m, 16);
 *	mk_site(&m, 1, "a.c", 7, "main", "x=%d\n", 1, (uint8_t[]){BINLOG_T_I32});
 *	mk_dict_end(&m);
 *	mkseg_init(&s, 1000);	// EPOCH at tick 1000
 *	mkseg_u32(mkseg_begin(&s), 258); mkseg_end(&s, 16, 1005);
 *	mk_chunk(&m, 1, 0, &s);
 */
#ifndef TESTS_UNIT_BINDECODE_MKLOG_H
#define TESTS_UNIT_BINDECODE_MKLOG_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "binlog/format.h"

enum { MK_SEG = 65536, MK_HZ = 1000000000 };

struct mk {
	uint8_t *p;
	size_t len;
	size_t dict; /* offset of the block being made */
	uint32_t count;
	uint32_t base;
};

struct mkseg {
	uint8_t p[MK_SEG];
	uint32_t len; /* records, from 64 on */
	uint32_t start;
	uint8_t *at;
};

/* Section 1.1 as it stands there, one word at a time. */
static inline uint64_t mk_mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0x9E3779B97F4A7C15ULL;
	x ^= x >> 29;
	return x;
}

static inline uint64_t mk_sum(const uint8_t *p, size_t n)
{
	const uint64_t k = 0x9E3779B97F4A7C15ULL;
	uint64_t a[4], b[4] = {0}, h = n;

	for (unsigned l = 0; l < 4; l++)
		a[l] = k * (l + 1);
	for (size_t i = 0; i * 8 < (n + 31) / 32 * 32; i++) {
		uint64_t w = 0;

		for (unsigned k8 = 0; k8 < 8 && i * 8 + k8 < n; k8++)
			w |= (uint64_t)p[i * 8 + k8] << (8 * k8);
		a[i % 4] += w;
		b[i % 4] += a[i % 4];
	}
	for (unsigned l = 0; l < 4; l++) {
		h = mk_mix(h ^ a[l]);
		h = mk_mix(h ^ b[l]);
	}
	return h;
}

static inline void mk_seal(uint8_t *p, size_t n, size_t check)
{
	memset(p + check, 0, 4);
	bytes_put_u32(p + check, (uint32_t)mk_sum(p, n));
}

static inline uint8_t *mk_room(struct mk *m, size_t n)
{
	m->p = realloc(m->p, m->len + n);
	assert_non_null(m->p);
	memset(m->p + m->len, 0, n);
	m->len += n;
	return m->p + m->len - n;
}

static inline void mk_pad(struct mk *m)
{
	mk_room(m, (4096 - m->len % 4096) % 4096);
}

static inline void mk_seal_header(struct mk *m)
{
	mk_seal(m->p, 512, 20);
}

/* Ticks are nanoseconds from 1000 s of CLOCK_MONOTONIC on; a build-id of four bytes. */
static inline void mk_init(struct mk *m)
{
	uint8_t *p;

	memset(m, 0, sizeof(*m));
	p = mk_room(m, 4096);
	memcpy(p, BINLOG_MAGIC, 8);
	bytes_put_u32(p + 8, BINLOG_BOM);
	bytes_put_u16(p + 12, 1);
	bytes_put_u32(p + 16, 4096);
	memcpy(p + 24, "TAGGlog-id-bytes", 16);
	bytes_put_u16(p + 40, 62);
	p[42] = 8;
	p[44] = 4;
	p[45] = BINLOG_LDBL_X87;
	p[49] = 4;
	p[50] = 1;
	bytes_put_u32(p + 52, 4242);
	bytes_put_u64(p + 56, MK_HZ);
	bytes_put_u64(p + 64, 1000);
	bytes_put_u64(p + 72, 1000000000000);
	bytes_put_u64(p + 80, 1700000000000000000);
	memcpy(p + 88, "boot-boot-boot-b", 16);
	memcpy(p + 104, "\xde\xad\xbe\xef", 4);
	memcpy(p + 168, "victim", 6);
	memcpy(p + 232, "host", 4);
	bytes_put_u32(p + 540, 1);
	mk_seal_header(m);
}

static inline void mk_free(struct mk *m)
{
	free(m->p);
}

/* Seals the block at @off, which ends at the end of the file. */
static inline void mk_block(struct mk *m, size_t off, unsigned type, unsigned flags)
{
	uint8_t *p = m->p + off;

	bytes_put_u32(p, BINLOG_BLOCK_MAGIC);
	bytes_put_u16(p + 4, (uint16_t)type);
	bytes_put_u16(p + 6, (uint16_t)flags);
	memcpy(p + 8, m->p + 24, 4);
	bytes_put_u64(p + 16, off);
	bytes_put_u64(p + 24, m->len - off);
	mk_seal(p, 64, 12);
}

static inline void mk_u32(struct mk *m, uint32_t v)
{
	bytes_put_u32(mk_room(m, 4), v);
}

static inline void mk_str(struct mk *m, const char *s)
{
	memcpy(mk_room(m, strlen(s)), s, strlen(s));
}

static inline void mk_dict_begin(struct mk *m, uint32_t base)
{
	m->dict = m->len;
	m->base = base;
	m->count = 0;
	mk_room(m, 64);
	mk_u32(m, 4);
	memcpy(mk_room(m, 4), "\xde\xad\xbe\xef", 4);
	mk_u32(m, 6);
	mk_str(m, "victim");
}

/* An entry whose @literals of @nliterals bytes are given ready-made. */
static inline void mk_site_with(struct mk *m, unsigned level, unsigned flags, const char *file,
				unsigned line, const char *func, const char *fmt, unsigned nargs,
				const uint8_t *types, const void *literals, size_t nliterals)
{
	uint8_t *p;

	mk_u32(m, (uint32_t)(24 + nargs + strlen(fmt) + strlen(file) + strlen(func) + nliterals));
	mk_u32(m, line);
	p = mk_room(m, 4);
	p[0] = (uint8_t)level;
	p[1] = (uint8_t)flags;
	bytes_put_u16(p + 2, (uint16_t)nargs);
	mk_u32(m, (uint32_t)strlen(fmt));
	mk_u32(m, (uint32_t)strlen(file));
	mk_u32(m, (uint32_t)strlen(func));
	if (nargs)
		memcpy(mk_room(m, nargs), types, nargs);
	mk_str(m, fmt);
	mk_str(m, file);
	mk_str(m, func);
	if (nliterals)
		memcpy(mk_room(m, nliterals), literals, nliterals);
	m->count++;
}

static inline void mk_site(struct mk *m, unsigned level, const char *file, unsigned line,
			   const char *func, const char *fmt, unsigned nargs, const uint8_t *types)
{
	mk_site_with(m, level, 0, file, line, func, fmt, nargs, types, NULL, 0);
}

static inline void mk_dict_end(struct mk *m)
{
	size_t used = m->len - m->dict - 64;

	mk_pad(m);
	bytes_put_u32(m->p + m->dict + 32, m->base);
	bytes_put_u32(m->p + m->dict + 36, m->count);
	bytes_put_u64(m->p + m->dict + 40, used);
	bytes_put_u64(m->p + m->dict + 48, mk_sum(m->p + m->dict + 64, used));
	mk_block(m, m->dict, BINLOG_BLOCK_DICT, BINLOG_DICT_MAIN);
}

/* --- segments --------------------------------------------------------------------------------- */

static inline struct mkseg *mkseg_begin(struct mkseg *s)
{
	s->start = s->len;
	s->at = s->p + 64 + s->len + 8;
	return s;
}

static inline struct mkseg *mkseg_u32(struct mkseg *s, uint32_t v)
{
	s->at = bytes_put_u32(s->at, v);
	return s;
}

static inline struct mkseg *mkseg_u64(struct mkseg *s, uint64_t v)
{
	s->at = bytes_put_u64(s->at, v);
	return s;
}

static inline struct mkseg *mkseg_bytes(struct mkseg *s, const void *p, size_t n)
{
	memcpy(s->at, p, n);
	s->at += n;
	return s;
}

/* Closes the record with its word; @stamp are the low bits of its ticks. */
static inline void mkseg_end(struct mkseg *s, uint32_t site, uint32_t stamp)
{
	uint8_t *start = s->p + 64 + s->start;
	uint64_t words = (uint64_t)(s->at - start + 7) / 8;

	bytes_put_u64(start,
		      (uint64_t)site << BINLOG_SITE_SHIFT | words << BINLOG_LEN_SHIFT | stamp);
	s->len = s->start + (uint32_t)words * 8;
	assert_true(s->len <= MK_SEG - 64);
}

static inline void mkseg_epoch(struct mkseg *s, uint64_t ticks)
{
	mkseg_begin(s);
	mkseg_u64(s, ticks);
	mkseg_u64(s, 1000000000000 + ticks - 1000);
	mkseg_u64(s, 1700000000000000000 + ticks - 1000);
	mkseg_end(s, BINLOG_R_EPOCH, (uint32_t)ticks);
}

static inline void mkseg_init(struct mkseg *s, uint64_t ticks)
{
	memset(s, 0, sizeof(*s));
	mkseg_epoch(s, ticks);
}

/* x=%d and the like: a record of @site with one i32. */
static inline void mkseg_int(struct mkseg *s, uint32_t site, uint64_t ticks, int v)
{
	mkseg_u32(mkseg_begin(s), (uint32_t)v);
	mkseg_end(s, site, (uint32_t)ticks);
}

static inline void mk_seg_head(uint8_t *p, uint32_t stream, uint32_t used, uint64_t pos)
{
	bytes_put_u32(p + 32, stream);
	bytes_put_u32(p + 36, 4242);
	bytes_put_u32(p + 40, 4242 + stream);
	bytes_put_u32(p + 44, used);
	bytes_put_u64(p + 48, pos);
}

/* Returns its offset. */
static inline size_t mk_chunk(struct mk *m, uint32_t stream, uint64_t pos, const struct mkseg *s)
{
	size_t off = m->len;

	memcpy(mk_room(m, 64 + s->len), s->p, 64 + s->len);
	mk_seg_head(m->p + off, stream, s->len, pos);
	bytes_put_u64(m->p + off + 56, mk_sum(m->p + off + 64, s->len));
	mk_pad(m);
	mk_block(m, off, BINLOG_BLOCK_CHUNK, 0);
	return off;
}

/* A ring of one slot. Returns the offset of the slot. */
static inline size_t mk_ring(struct mk *m, uint32_t stream, uint64_t pos, const struct mkseg *s)
{
	size_t off = m->len, slot = off + 4096;

	mk_room(m, 4096 + MK_SEG);
	bytes_put_u32(m->p + off + 32, stream);
	bytes_put_u32(m->p + off + 36, 4242);
	bytes_put_u32(m->p + off + 40, 4242 + stream);
	bytes_put_u32(m->p + off + 44, 1);
	bytes_put_u32(m->p + off + 48, MK_SEG);
	bytes_put_u32(m->p + off + 52, 4096);
	memcpy(m->p + slot, s->p, MK_SEG);
	mk_seg_head(m->p + slot, stream, 0, pos);
	mk_block(m, slot, BINLOG_BLOCK_SEG, 0);
	mk_block(m, off, BINLOG_BLOCK_RING, 0);
	return slot;
}

#endif
