/* SPDX-License-Identifier: MIT */
/*
 * Integers to text as printf does it, without printf: the fast path of the decoder.
 */
#ifndef BINDECODE_DECODE_INT_H
#define BINDECODE_DECODE_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/bindecode/decode_buf.h"
#include "tools/bindecode/decode_spec.h"

enum { DEC_INT_ROOM = 24 }; /* bytes a bare 64-bit number may need */

extern const char dec_pairs[200]; /* "00" to "99" */

static inline unsigned dec_count_digits(uint64_t v)
{
	static const uint64_t ten[20] = {0ULL,
					 10ULL,
					 100ULL,
					 1000ULL,
					 10000ULL,
					 100000ULL,
					 1000000ULL,
					 10000000ULL,
					 100000000ULL,
					 1000000000ULL,
					 10000000000ULL,
					 100000000000ULL,
					 1000000000000ULL,
					 10000000000000ULL,
					 100000000000000ULL,
					 1000000000000000ULL,
					 10000000000000000ULL,
					 100000000000000000ULL,
					 1000000000000000000ULL,
					 10000000000000000000ULL};
	/* log2 * 1233 / 4096 is log10, or one less */
	unsigned n = (64u - (unsigned)__builtin_clzll(v | 1)) * 1233 >> 12;

	return n + (v >= ten[n]);
}

/* Digits of @v at @p; returns the byte after. */
static inline char *dec_put_u64(char *p, uint64_t v)
{
	char *end = p + dec_count_digits(v);
	char *q = end;

	while (v >= 100) {
		q -= 2;
		memcpy(q, dec_pairs + 2 * (v % 100), 2);
		v /= 100;
	}
	if (v >= 10)
		memcpy(q - 2, dec_pairs + 2 * v, 2);
	else
		q[-1] = (char)('0' + v);
	return end;
}

static inline char *dec_put_i64(char *p, int64_t v)
{
	if (v < 0)
		*p++ = '-';
	return dec_put_u64(p, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

/* Exactly @n digits, for the parts of a time; @v below 10^@n. */
static inline char *dec_put_digits(char *p, uint32_t v, unsigned n)
{
	char *q = p + n;

	for (; q - p >= 2; v /= 100) {
		q -= 2;
		memcpy(q, dec_pairs + 2 * (v % 100), 2);
	}
	if (q > p)
		*p = (char)('0' + v % 10);
	return p + n;
}

static inline char *dec_put_hex(char *p, uint64_t v)
{
	unsigned n = v ? (67u - (unsigned)__builtin_clzll(v)) / 4 : 1;

	for (char *q = p + n; q > p; v >>= 4)
		*--q = "0123456789abcdef"[v & 15];
	return p + n;
}

/* d i o u x X b B with everything; @neg: the value is -@v. @prec -1: none given. */
void dec_int_put(struct dec_buf *b, const struct dec_spec *s, int width, int prec, bool neg,
		 unsigned __int128 v);

/* The same for p: a number as %#lx, or (nil). */
void dec_ptr_put(struct dec_buf *b, const struct dec_spec *s, int width, int prec, uint64_t v);

/* @n bytes in a field. */
void dec_bytes_put(struct dec_buf *b, unsigned flags, int width, const char *p, size_t n);

#endif
