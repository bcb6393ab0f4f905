/* SPDX-License-Identifier: MIT */
/* JSON as a stream; the escaping of text is jansson's. */
#include "src/inspect/doc.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void doc_init(struct doc *d, FILE *out)
{
	*d = (struct doc){.out = out};
}

static bool is_inline(const struct doc *d)
{
	return d->inline_from && d->depth >= d->inline_from;
}

static void new_line(struct doc *d)
{
	putc('\n', d->out);
	for (unsigned i = 0; i < d->depth; i++)
		putc('\t', d->out);
}

static void put_text(struct doc *d, const char *s, size_t len)
{
	json_t *t = json_stringn(s, len);

	/* NULL: no UTF-8, or out of memory; the caller has seen to the first */
	if (!t || json_dumpf(t, d->out, JSON_ENCODE_ANY))
		fputs("null", d->out);
	json_decref(t);
}

static void start(struct doc *d, const char *key)
{
	if (d->depth) {
		if (d->open[d->depth - 1].any)
			putc(',', d->out);
		if (!is_inline(d))
			new_line(d);
		else if (d->open[d->depth - 1].any)
			putc(' ', d->out);
		d->open[d->depth - 1].any = true;
	}
	if (key) {
		put_text(d, key, strlen(key));
		fputs(": ", d->out);
	}
}

static void open_level(struct doc *d, const char *key, char open, char close)
{
	assert(d->depth < DOC_DEPTH);
	start(d, key);
	putc(open, d->out);
	d->open[d->depth].close = close;
	d->open[d->depth].any = false;
	d->depth++;
}

void doc_object(struct doc *d, const char *key)
{
	open_level(d, key, '{', '}');
}

void doc_array(struct doc *d, const char *key)
{
	open_level(d, key, '[', ']');
}

void doc_inline_object(struct doc *d, const char *key)
{
	open_level(d, key, '{', '}');
	if (!d->inline_from)
		d->inline_from = d->depth;
}

void doc_inline_array(struct doc *d, const char *key)
{
	open_level(d, key, '[', ']');
	if (!d->inline_from)
		d->inline_from = d->depth;
}

void doc_end(struct doc *d)
{
	bool was_inline = is_inline(d), any;

	assert(d->depth);
	if (d->inline_from == d->depth)
		d->inline_from = 0;
	d->depth--;
	any = d->open[d->depth].any;
	if (any && !was_inline)
		new_line(d);
	putc(d->open[d->depth].close, d->out);
	if (!d->depth)
		putc('\n', d->out);
}

bool doc_full(const struct doc *d)
{
	return d->depth == DOC_DEPTH;
}

void doc_u64(struct doc *d, const char *key, uint64_t v)
{
	if (v > INT64_MAX) {
		doc_hex(d, key, v);
		return;
	}
	start(d, key);
	fprintf(d->out, "%" PRIu64, v);
}

void doc_i64(struct doc *d, const char *key, int64_t v)
{
	start(d, key);
	fprintf(d->out, "%" PRId64, v);
}

void doc_double(struct doc *d, const char *key, double v)
{
	start(d, key);
	/* no NaN and no infinity in JSON */
	if (v != v || v - v != 0)
		fputs("null", d->out);
	else
		fprintf(d->out, "%.17g", v);
}

void doc_hex(struct doc *d, const char *key, uint64_t v)
{
	start(d, key);
	fprintf(d->out, "\"0x%" PRIx64 "\"", v);
}

void doc_bool(struct doc *d, const char *key, bool v)
{
	start(d, key);
	fputs(v ? "true" : "false", d->out);
}

/* Length of the UTF-8 sequence at @s as RFC 3629 has it, 0: none. */
static size_t utf8_len(const unsigned char *s, size_t left)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (!n || n > left || s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* overlong forms, surrogates, beyond U+10FFFF */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void doc_strn(struct doc *d, const char *key, const char *s, size_t len)
{
	const unsigned char *in = (const unsigned char *)s;
	char *clean = malloc(4 * len + 1);
	size_t n = 0;

	for (size_t i = 0; clean && i < len;) {
		size_t step = utf8_len(in + i, len - i);

		if (step) {
			memcpy(clean + n, in + i, step);
			n += step;
			i += step;
		} else {
			n += (size_t)sprintf(clean + n, "\\x%02x", in[i++]);
		}
	}
	start(d, key);
	put_text(d, clean ? clean : "", n);
	free(clean);
}

void doc_str(struct doc *d, const char *key, const char *s)
{
	if (s) {
		doc_strn(d, key, s, strlen(s));
		return;
	}
	start(d, key);
	fputs("null", d->out);
}

void doc_bytes(struct doc *d, const char *key, const void *p, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;

	start(d, key);
	putc('"', d->out);
	for (size_t i = 0; i < len; i++) {
		putc(digits[b[i] >> 4], d->out);
		putc(digits[b[i] & 15], d->out);
	}
	putc('"', d->out);
}
