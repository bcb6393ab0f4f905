/* SPDX-License-Identifier: MIT */
/*
 * A bounds-checked little-endian cursor for everything read from outside, with its writing twin.
 * What the other byte order has its own (ELF files) is read with bytes_of_order().
 *
 * Reading: errors stick. After the first read past the end every further read yields zero, so a
 * parser may read a whole record and test bytes_ok() once. Lengths read from the input must still
 * be compared with bytes_left() before anything is allocated on their say-so.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const uint8_t *start; /* immutable */
	size_t len;	      /* immutable */
	size_t pos;	      /* never above len */
	bool bad;	      /* a read went past the end */
	bool big;	      /* immutable: big endian */
};

static inline struct bytes bytes_of(const void *p, size_t len)
{
	return (struct bytes){.start = p, .len = len};
}

static inline struct bytes bytes_of_order(const void *p, size_t len, bool big)
{
	return (struct bytes){.start = p, .len = len, .big = big};
}

static inline size_t bytes_left(const struct bytes *b)
{
	return b->bad ? 0 : b->len - b->pos;
}

static inline bool bytes_ok(const struct bytes *b)
{
	return !b->bad;
}

/* @len bytes in place and moves on; NULL when fewer are left. */
static inline const void *bytes_take(struct bytes *b, size_t len)
{
	const void *p;

	if (b->bad || len > b->len - b->pos) {
		b->bad = true;
		return NULL;
	}
	p = b->start + b->pos;
	b->pos += len;
	return p;
}

static inline bool bytes_seek(struct bytes *b, size_t pos)
{
	if (b->bad || pos > b->len) {
		b->bad = true;
		return false;
	}
	b->pos = pos;
	return true;
}

static inline uint64_t bytes_uint(struct bytes *b, unsigned size)
{
	const uint8_t *p = bytes_take(b, size);
	uint64_t v = 0;

	for (unsigned i = 0; p && i < size; i++)
		v |= (uint64_t)p[i] << 8 * (b->big ? size - 1 - i : i);
	return v;
}

static inline uint8_t bytes_u8(struct bytes *b)
{
	return (uint8_t)bytes_uint(b, 1);
}

static inline uint16_t bytes_u16(struct bytes *b)
{
	return (uint16_t)bytes_uint(b, 2);
}

static inline uint32_t bytes_u32(struct bytes *b)
{
	return (uint32_t)bytes_uint(b, 4);
}

static inline uint64_t bytes_u64(struct bytes *b)
{
	return bytes_uint(b, 8);
}

/* The writing twins: @p must have room; return the byte after. */
static inline uint8_t *bytes_put_uint(uint8_t *p, uint64_t v, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		p[i] = (uint8_t)(v >> (8 * i));
	return p + size;
}

static inline uint8_t *bytes_put_u16(uint8_t *p, uint16_t v)
{
	return bytes_put_uint(p, v, 2);
}

static inline uint8_t *bytes_put_u32(uint8_t *p, uint32_t v)
{
	return bytes_put_uint(p, v, 4);
}

static inline uint8_t *bytes_put_u64(uint8_t *p, uint64_t v)
{
	return bytes_put_uint(p, v, 8);
}

#endif
