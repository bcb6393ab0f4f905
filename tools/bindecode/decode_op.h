/* SPDX-License-Identifier: MIT */
/*
 * A step of a compiled format; private to decode_site.c, decode_compile.c and decode_text.c.
 */
#ifndef BINDECODE_DECODE_OP_H
#define BINDECODE_DECODE_OP_H

#include "tools/bindecode/decode_site.h"

enum dec_op_kind {
	OP_END, /* nothing but the text before it */
	OP_I32, /* plain numbers, at off */
	OP_U32,
	OP_I64,
	OP_U64,
	OP_X32,
	OP_X64,
	OP_ALT_X32, /* with 0x */
	OP_ALT_X64,
	OP_STRING, /* plain %s: off, slot */
	/* The rest goes by the specification. */
	OP_INT,
	OP_CHAR,
	OP_PTR,
	OP_FLOAT,
	OP_FIELD, /* a string in a field */
	OP_ERRNO,
	OP_NOTHING, /* %n */
};

struct dec_op {
	const char *text; /* printed first, owned, DEC_BUF_SLACK bytes longer */
	uint32_t len;
	uint32_t kind;
	uint32_t off;
	uint32_t slot;
	struct dec_spec spec; /* its arguments all have numbers */
};

/*
 * Compiles s->fmt: 0 or -ENOMEM. A conversion that does not fit its argument's type is printed as
 * it stands, and s->fault says why.
 */
int dec_site_compile(struct dec_site *s, const struct dec_world *w);

/* Runs one step that is not among the plain ones; false as dec_site_text(). */
bool dec_op_put(struct dec_buf *b, const struct dec_op *op, const struct dec_site *s,
		const struct dec_world *w, const uint8_t *p);

#endif
