/* SPDX-License-Identifier: MIT */
/*
 * One printf conversion as data: what stands between a `%` and its letter.
 */
#ifndef BINDECODE_DECODE_SPEC_H
#define BINDECODE_DECODE_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum spec_flag {
	SPEC_MINUS = 1,
	SPEC_PLUS = 2,
	SPEC_SPACE = 4,
	SPEC_ALT = 8,	/* # */
	SPEC_ZERO = 16, /* 0 */
	SPEC_GROUP = 32 /* ': nothing in the C locale */
};

enum spec_width { SPEC_CONST = -1, SPEC_NONE = -2, SPEC_NEXT = -3 };

/*
 * Widths and precisions come from the log; above this one they are taken for damage. printf itself
 * would go up to 2 GiB per conversion, which no log line means.
 */
enum { SPEC_WIDTH_MAX = 1 << 20 };

struct dec_spec {
	char conv;	 /* the letter; C and S are read as lc and ls; 0: not a conversion */
	uint8_t flags;	 /* enum spec_flag */
	uint8_t bits;	 /* of an integer argument: 8 16 32 64; 0: long, as wide as a pointer */
	bool ldbl;	 /* L */
	bool wide;	 /* l with c or s */
	int width;	 /* if width_arg is SPEC_CONST */
	int prec;	 /* if prec_arg is SPEC_CONST */
	int width_arg;	 /* argument number from 0, or enum spec_width */
	int prec_arg;	 /* likewise */
	int arg;	 /* argument number from 0, or SPEC_NEXT; unused by % and m */
	const char *end; /* behind the letter */
};

/*
 * Reads the conversion that starts behind a `%` at @p, before @end. False: it is none that printf
 * has; what printf does with it then is print it as it stands, up to @ret->end.
 */
bool dec_spec_parse(const char *p, const char *end, struct dec_spec *ret);

#endif
