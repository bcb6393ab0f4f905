/* SPDX-License-Identifier: MIT */
/*
 * A call site: its dictionary entry, compiled once into what is to be done per record.
 *
 * Every argument has a fixed place in the record, so a compiled site is a list of steps such as
 * "these seven bytes", "the i32 at 4 in decimal", "the first text". Literal arguments become part
 * of the bytes in between.
 *
 * Threads: immutable once made, but for the words that say so. Ownership: a site owns copies of all
 * it points to; the log it came from owns the site.
 */
#ifndef BINDECODE_DECODE_SITE_H
#define BINDECODE_DECODE_SITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "tools/bindecode/decode_buf.h"
#include "tools/bindecode/decode_spec.h"

/* What a format needs to know of its writer and of the log. */
struct dec_world {
	uint8_t ldbl;	   /* enum binlog_ldbl */
	uint8_t long_bits; /* 64 or 32 */
	uint32_t nerrnos;
	char **errnos; /* by number, NULL: not listed; owned by the log */
};

struct dec_arg {
	uint8_t type;	/* enum binlog_type, without the literal bit */
	bool literal;	/* then value or text below; else in the record */
	uint32_t off;	/* in the payload */
	uint32_t slot;	/* strings in the record: the how-manieth; literal ones: their slot word */
	uint64_t value; /* literal integers */
	const char *text; /* literal strings */
};

struct dec_op;

struct dec_site {
	uint32_t id; /* number in its log, BINLOG_R_INLINE: brought by the record */
	uint32_t line;
	uint8_t level; /* 255: in the record */
	uint8_t flags; /* BINLOG_S_* */
	uint32_t nargs;
	const char *fmt; /* NUL-terminated, as the two below */
	const char *file;
	const char *func;
	struct dec_arg *args;
	uint32_t fixed;	    /* bytes of the fixed part */
	uint32_t nslots;    /* strings in the record */
	uint32_t *slots;    /* where their slots are */
	struct dec_op *ops; /* the compiled format */
	uint32_t nops;
	const char *fault; /* why the format does not fit the types, NULL: it does */
	void *storage;	   /* one allocation for all of the above */

	/* For whoever uses the decoder, zero when the site is made. */
	uint32_t mark;	   /* filter: its verdict on the site */
	uint32_t row;	   /* statistics: the site's row */
	uint32_t line_row; /* prefix: what it prints for the site */
};

/*
 * Reads an entry's lengths, types and names at @b: what follows `len` of a dictionary entry or the
 * word of an INLINE record. 0, -EBADMSG if it is not one, -ENOMEM.
 */
int dec_site_make(struct dec_site *ret, struct bytes *b, uint32_t id, const struct dec_world *w);
void dec_site_free(struct dec_site *s);

/* Bytes that the arguments at @p take, or -1 if they do not fit into @len. */
int64_t dec_site_need(const struct dec_site *s, const uint8_t *p, uint64_t len);

/* Level and errno of a record whose arguments fit. */
unsigned dec_site_level(const struct dec_site *s, const uint8_t *p);
int dec_site_errno(const struct dec_site *s, const uint8_t *p);

/* Most bytes of text of a record, beside four times those of its strings. */
enum { DEC_TEXT_MAX = 16 << 20 };

/*
 * Appends the text of a record whose arguments fit. False: a width or precision in it is beyond
 * belief, or its wide string has no text; the text ends there, as printf's does. Or the text is
 * longer than anybody wants; a sentence takes its place.
 */
bool dec_site_text(struct dec_buf *b, const struct dec_site *s, const struct dec_world *w,
		   const uint8_t *p);

/* One argument of a record whose arguments fit, for output that keeps types. */
struct dec_value {
	uint8_t type;	     /* enum binlog_type */
	bool null;	     /* a NULL string */
	bool bad;	     /* a wide string without multibyte form */
	unsigned __int128 u; /* integers, sign-extended; pointers; bits of a double */
	const uint8_t *raw;  /* long double: its 16 bytes */
	const char *text;    /* strings */
	uint32_t len;
	int errnum; /* the string is the text of this errno; -1: it is not */
	char tmp[40];
};

/* @ret->text may point into @ret. */
void dec_site_value(const struct dec_site *s, const struct dec_world *w, const uint8_t *p,
		    uint32_t arg, struct dec_value *ret);

/* The text of an errno: that of the log, else that of this machine. @tmp holds what is made up. */
const char *dec_errno_text(const struct dec_world *w, int errnum, char tmp[40]);

#endif
