/* SPDX-License-Identifier: MIT */
/* The text of a call, for the sink: every conversion by snprintf, one at a time. */
#include "binlog/internal.h" /* first */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

/* Room for a conversion without its argument: flags, two numbers, modifier, letter. */
#define SPEC 64

struct out {
	char *buf;
	size_t size;
	size_t len; /* wanted so far; may exceed size */
};

static void put(struct out *o, const char *s, size_t len)
{
	if (o->len < o->size) {
		size_t room = o->size - o->len;

		memcpy(o->buf + o->len, s, len < room ? len : room);
	}
	o->len += len;
}

#define PRINT(o, spec, value)                                                \
	added(o, snprintf((o)->len < (o)->size ? (o)->buf + (o)->len : NULL, \
			  (o)->len < (o)->size ? (o)->size - (o)->len : 0, spec, value))

static void added(struct out *o, int n)
{
	if (n > 0)
		o->len += (size_t)n;
}

/* Flags, width and precision with the values of their stars. */
static int spec_of(char *spec, const struct conv *c, const struct value *v, unsigned nargs)
{
	int width = c->width;
	int prec = c->prec;
	bool left = false;
	int n;

	if (c->width_arg >= 0 && (unsigned)c->width_arg < nargs) {
		width = (int)v[c->width_arg].word;
		left = width < 0;
		width = left && width != INT32_MIN ? -width : width;
	}
	if (c->prec_arg >= 0 && (unsigned)c->prec_arg < nargs)
		prec = (int)v[c->prec_arg].word;
	n = snprintf(spec, SPEC, "%%%s%s", left ? "-" : "", c->flags);
	if (width > 0)
		n += snprintf(spec + n, (size_t)(SPEC - n), "%d", width);
	if (prec >= 0)
		n += snprintf(spec + n, (size_t)(SPEC - n), ".%d", prec);
	return n;
}

static unsigned base_of(char letter)
{
	switch (letter) {
	case 'b':
	case 'B':
		return 2;
	case 'o':
		return 8;
	case 'x':
	case 'X':
		return 16;
	default:
		return 10;
	}
}

/*
 * 128 bits: printf does the padding. The digits go to it as a string, except that zero padding
 * and a precision have to be made here.
 */
static void put_wide(struct out *o, const struct conv *c, const struct value *v, unsigned nargs,
		     binlog_u128 value, bool is_signed)
{
	const char *digits = c->letter == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	bool minus =
		is_signed && base_of(c->letter) == 10 && c->letter != 'u' && (binlog_i128)value < 0;
	char spec[SPEC];
	char body[512];
	char *p = body + sizeof(body);
	struct conv plain = *c;
	const char *prefix = "";
	int prec = c->prec;
	int width = c->width;
	bool left = strchr(c->flags, '-');
	unsigned n = 0;

	if (c->prec_arg >= 0 && (unsigned)c->prec_arg < nargs)
		prec = (int)v[c->prec_arg].word;
	if (c->width_arg >= 0 && (unsigned)c->width_arg < nargs)
		width = (int)v[c->width_arg].word;
	left = left || width < 0;
	width = width < 0 ? -width : width;
	if (prec > 400)
		prec = 400;
	if (width > 400)
		width = 400;
	if (minus)
		value = -value;
	for (; value; value /= base_of(c->letter), n++)
		*--p = digits[(unsigned)(value % base_of(c->letter))];
	if (strchr(c->flags, '#') && n && base_of(c->letter) == 16)
		prefix = c->letter == 'X' ? "0X" : "0x";
	else if (strchr(c->flags, '#') && n && base_of(c->letter) == 2)
		prefix = c->letter == 'B' ? "0B" : "0b";
	else if (strchr(c->flags, '#') && base_of(c->letter) == 8 && (int)n >= prec)
		prec = (int)n + 1;
	if (c->letter == 'd' || c->letter == 'i')
		prefix = minus			 ? "-"
			 : strchr(c->flags, '+') ? "+"
			 : strchr(c->flags, ' ') ? " "
						 : "";
	if (prec < 0 && strchr(c->flags, '0') && !left)
		prec = width - (int)strlen(prefix);
	for (; (int)n < (prec < 0 ? 1 : prec); n++)
		*--p = '0';
	for (size_t i = strlen(prefix); i > 0; i--)
		*--p = prefix[i - 1];
	plain.prec = -1;
	plain.prec_arg = -1;
	plain.width = width;
	plain.width_arg = -1;
	strcpy(plain.flags, left ? "-" : "");
	strcpy(spec + spec_of(spec, &plain, v, nargs), ".*s");
	added(o, snprintf(o->len < o->size ? o->buf + o->len : NULL,
			  o->len < o->size ? o->size - o->len : 0, spec,
			  (int)(body + sizeof(body) - p), p));
}

static void put_integer(struct out *o, const struct conv *c, char *spec, int n, uint64_t word)
{
	static const char *const modifiers[] = {"hh", "h", "", "ll"};
	unsigned m = c->length == 'H' ? 0 : c->length == 'h' ? 1 : c->length == 0 ? 2 : 3;

	sprintf(spec + n, "%s%c", modifiers[m], c->letter);
	if (m == 3)
		PRINT(o, spec, (unsigned long long)word);
	else
		PRINT(o, spec, (int)word);
}

static void put_string(struct out *o, const struct conv *c, char *spec, int n, uint64_t word)
{
	/* A wide string without multibyte form would fail the whole call; here the rest shows. */
	strcpy(spec + n, c->length == 'l' ? "ls" : "s");
	PRINT(o, spec, (const void *)(uintptr_t)word);
}

static void put_conv(struct out *o, const struct conv *c, const struct binlog_arg *args,
		     const struct value *v, unsigned nargs)
{
	unsigned type = args[c->arg].type & ~(unsigned)BINLOG_T_LITERAL;
	const struct value *value = &v[c->arg];
	char spec[SPEC + 8];
	int n = spec_of(spec, c, v, nargs);

	switch (c->letter) {
	case 's':
		if (type == BINLOG_T_STR || type == BINLOG_T_PTR)
			put_string(o, c, spec, n, value->word);
		break;
	case 'p':
		strcpy(spec + n, "p");
		PRINT(o, spec, (void *)(uintptr_t)value->word);
		break;
	case 'c':
		strcpy(spec + n, c->length == 'l' ? "lc" : "c");
		if (c->length == 'l')
			PRINT(o, spec, (wint_t)value->word);
		else
			PRINT(o, spec, (int)value->word);
		break;
	case 'n':
		break;
	case 'd':
	case 'i':
	case 'o':
	case 'u':
	case 'b':
	case 'B':
	case 'x':
	case 'X':
		if (type == BINLOG_T_I128 || type == BINLOG_T_U128)
			put_wide(o, c, v, nargs, value->wide, type == BINLOG_T_I128);
		else
			put_integer(o, c, spec, n, value->word);
		break;
	default:
		sprintf(spec + n, c->length == 'L' ? "L%c" : "%c", c->letter);
		if (type == BINLOG_T_LDBL)
			PRINT(o, spec, value->ldbl);
		else if (type == BINLOG_T_F64)
			PRINT(o, spec, value->f64);
	}
}

int binlog_text(char *buf, size_t size, const char *fmt, const struct binlog_arg *args,
		const struct value *values, unsigned nargs, int errnum)
{
	struct conv_iter it = {.next = fmt};
	const char *done = fmt;
	struct out o = {buf, size, 0};
	struct conv c;

	while (binlog_conv_next(&it, &c)) {
		put(&o, done, (size_t)(c.start - done));
		done = c.end;
		if (c.letter == '%') {
			put(&o, "%", 1);
		} else if (c.letter == 'm') {
			char spec[SPEC + 8];
			int n = spec_of(spec, &c, values, nargs);

			strcpy(spec + n, "m");
			errno = errnum;
			PRINT(&o, spec, 0);
		} else if (c.arg >= 0 && (unsigned)c.arg < nargs) {
			put_conv(&o, &c, args, values, nargs);
		} else {
			put(&o, c.start, (size_t)(c.end - c.start));
		}
	}
	put(&o, done, strlen(done));
	if (size)
		buf[o.len < size ? o.len : size - 1] = '\0';
	return (int)o.len;
}
