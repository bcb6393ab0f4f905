/* SPDX-License-Identifier: MIT */
/*
 * Floating point to text as printf does it, for the number formats of every writer on any reader.
 *
 * Exact: the binary value is expanded to all its decimal digits and rounded once, half to even.
 */
#ifndef BINDECODE_DECODE_FLOAT_H
#define BINDECODE_DECODE_FLOAT_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/bindecode/decode_buf.h"
#include "tools/bindecode/decode_spec.h"

enum dec_class { DEC_FINITE, DEC_INF, DEC_NAN };

/* The value is (hi * 2^64 + lo) * 2^exp. */
struct dec_float {
	enum dec_class class;
	bool neg;
	uint64_t hi;
	uint64_t lo;
	int exp;
	int frac_bits;	/* of hi:lo behind the point in %a */
	int guard_bits; /* of hi:lo that decimal conversions do not see */
};

struct dec_float dec_float_f64(uint64_t bits);
/* @form is enum binlog_ldbl, @p its 16 bytes as in the log. False: no such form. */
bool dec_float_ldbl(int form, const uint8_t *p, struct dec_float *ret);

/* @s->conv is one of eEfFgGaA; width and precision as resolved, @prec -1: none given. */
void dec_float_put(struct dec_buf *b, const struct dec_spec *s, int width, int prec,
		   const struct dec_float *f);

#endif
