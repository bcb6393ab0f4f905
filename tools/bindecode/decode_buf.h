/* SPDX-License-Identifier: MIT */
/*
 * A growing output buffer.
 *
 * Writers ask for room first and then store without a check: dec_buf_room() returns where to write,
 * the caller says with dec_buf_took() how far it got. If memory runs out the buffer turns `oom`,
 * what is written from then on lands in its emergency room and is thrown away, and whoever flushes
 * it reports -ENOMEM; no caller in between has to look.
 */
#ifndef BINDECODE_DECODE_BUF_H
#define BINDECODE_DECODE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_ROOM_MAX = 512 }; /* most that may be asked for when memory is out */

struct dec_buf {
	char *p;
	size_t len;
	size_t cap;
	bool oom;
	char spare[BUF_ROOM_MAX];
};

static inline void dec_buf_init(struct dec_buf *b)
{
	b->p = NULL;
	b->len = 0;
	b->cap = 0;
	b->oom = false;
}

static inline void dec_buf_deinit(struct dec_buf *b)
{
	free(b->p);
	dec_buf_init(b);
}

/* False: no memory. Doubles, so that appending stays linear. */
bool dec_buf_grow(struct dec_buf *b, size_t n);

/* @n at most BUF_ROOM_MAX. */
static inline char *dec_buf_room(struct dec_buf *b, size_t n)
{
	if (b->cap - b->len < n && !dec_buf_grow(b, n))
		return b->spare;
	return b->p + b->len;
}

static inline void dec_buf_took(struct dec_buf *b, const char *end)
{
	if (!b->oom)
		b->len = (size_t)(end - b->p);
}

static inline void dec_buf_put(struct dec_buf *b, const void *data, size_t n)
{
	if (!n || (b->cap - b->len < n && !dec_buf_grow(b, n)))
		return;
	memcpy(b->p + b->len, data, n);
	b->len += n;
}

enum { DEC_BUF_SLACK = 16 }; /* readable bytes behind what dec_buf_put_short() is given */

/* The same for what is mostly short and has DEC_BUF_SLACK bytes of its own behind it. */
static inline void dec_buf_put_short(struct dec_buf *b, const char *data, size_t n)
{
	char *p;

	if (n > DEC_BUF_SLACK || b->cap - b->len < DEC_BUF_SLACK) {
		dec_buf_put(b, data, n);
		return;
	}
	p = b->p + b->len;
	memcpy(p, data, DEC_BUF_SLACK);
	b->len += n;
}

static inline void dec_buf_fill(struct dec_buf *b, char c, size_t n)
{
	if (!n || (b->cap - b->len < n && !dec_buf_grow(b, n)))
		return;
	memset(b->p + b->len, c, n);
	b->len += n;
}

static inline void dec_buf_chr(struct dec_buf *b, char c)
{
	char *p = dec_buf_room(b, 1);

	*p = c;
	dec_buf_took(b, p + 1);
}

static inline void dec_buf_str(struct dec_buf *b, const char *s)
{
	dec_buf_put(b, s, strlen(s));
}

__attribute__((format(printf, 2, 3))) void dec_buf_printf(struct dec_buf *b, const char *fmt, ...);

#endif
