/* SPDX-License-Identifier: MIT */
/* Prints the template that stands before every line. */
#include <stdlib.h>
#include <time.h>

#include "tools/bindecode/decode_int.h"
#include "tools/bindecode/decode_prefix.h"

enum { PARTS_MAX = 64, WIDTH_MAX = 200 };

struct part {
	char letter; /* 0: text */
	bool left;
	unsigned width;
	const char *text;
	size_t len;
};

struct dec_prefix {
	char *template;
	struct part parts[PARTS_MAX];
	unsigned n;
	bool utc;

	int64_t second; /* that `date` stands for */
	char date[20];	/* 2026-11-23 12:00:00 */
};

static int bad_template(struct err *err, const char *what)
{
	err_fail(err, EINVAL, ERR_USAGE, "prefix: %s", what);
	err_hint(err, "letters are t T p i c l L f b n F S s and %%%%");
	return -EINVAL;
}

static int compile(struct dec_prefix *p, struct err *err)
{
	const char *s = p->template;

	while (*s) {
		struct part *part = &p->parts[p->n];

		if (p->n == PARTS_MAX)
			return bad_template(err, "too many parts");
		p->n++;
		if (*s != '%' || s[1] == '%') {
			part->text = s += *s == '%';
			part->len = 1 + strcspn(s + 1, "%");
			s += part->len;
			continue;
		}
		s++;
		part->left = *s == '-';
		for (s += part->left; *s >= '0' && *s <= '9'; s++)
			part->width = part->width * 10 + (unsigned)(*s - '0');
		if (part->width > WIDTH_MAX)
			return bad_template(err, "a field too wide");
		if (!*s || !strchr("tTpiclLfbnFSs", *s))
			return bad_template(err, "an unknown letter behind %");
		part->letter = *s++;
	}
	return 0;
}

int dec_prefix_new(struct dec_prefix **ret, const char *template, bool utc, struct err *err)
{
	struct dec_prefix *p = calloc(1, sizeof(*p));
	int r;

	if (p)
		p->template = strdup(template);
	if (!p || !p->template) {
		dec_prefix_free(p);
		return err_set(err, ENOMEM, "prefix");
	}
	p->utc = utc;
	p->second = INT64_MIN;
	r = compile(p, err);
	if (r) {
		dec_prefix_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void dec_prefix_free(struct dec_prefix *p)
{
	if (!p)
		return;
	free(p->template);
	free(p);
}

/* Seconds and the nanoseconds into them, rounded down. */
static int64_t split(int64_t ns, uint32_t *ret_ns)
{
	int64_t s = ns / 1000000000;
	int64_t rest = ns % 1000000000;

	if (rest < 0) {
		rest += 1000000000;
		s--;
	}
	*ret_ns = (uint32_t)rest;
	return s;
}

void dec_prefix_put_wall(struct dec_prefix *p, int64_t real_ns, struct dec_buf *b)
{
	uint32_t ns;
	int64_t second = split(real_ns, &ns);
	char *q;

	if (second != p->second) {
		time_t t = (time_t)second;
		struct tm tm;

		if (!(p->utc ? gmtime_r(&t, &tm) : localtime_r(&t, &tm)) ||
		    strftime(p->date, sizeof(p->date), "%Y-%m-%d %H:%M:%S", &tm) != 19)
			memcpy(p->date, "0000-00-00 00:00:00", 20);
		p->second = second;
	}
	q = dec_buf_room(b, 26);
	memcpy(q, p->date, 19);
	q[19] = '.';
	dec_buf_took(b, dec_put_digits(q + 20, ns / 1000, 6));
}

static void put_relative(int64_t rel_ns, struct dec_buf *b)
{
	char *q = dec_buf_room(b, DEC_INT_ROOM + 10);
	uint32_t ns;
	int64_t second;

	if (rel_ns < 0 && rel_ns > INT64_MIN) {
		*q++ = '-';
		rel_ns = -rel_ns;
	}
	second = split(rel_ns, &ns);
	if (second >= 0 && second < 10)
		*q++ = '0';
	q = dec_put_i64(q, second);
	*q++ = '.';
	dec_buf_took(b, dec_put_digits(q, ns / 1000, 6));
}

static void put_number(uint64_t v, struct dec_buf *b)
{
	dec_buf_took(b, dec_put_u64(dec_buf_room(b, DEC_INT_ROOM), v));
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void put_part(struct dec_prefix *p, const struct part *part, const struct dec_record *rec,
		     struct dec_buf *b)
{
	const struct dec_site *s = rec->site;

	switch (part->letter) {
	case 't':
		put_relative(decode_relative_ns(rec), b);
		break;
	case 'T':
		dec_prefix_put_wall(p, decode_real_ns(rec), b);
		break;
	case 'p':
		put_number(rec->pid, b);
		break;
	case 'i':
		put_number(rec->tid, b);
		break;
	case 'c':
		dec_buf_str(b, rec->comm);
		break;
	case 'l':
		dec_buf_str(b, decode_level_name(rec->level));
		break;
	case 'L':
		dec_buf_chr(b, (char)(decode_level_name(rec->level)[0] - 'a' + 'A'));
		break;
	case 'f':
		dec_buf_str(b, s ? s->file : "-");
		break;
	case 'b':
		dec_buf_str(b, s ? base_name(s->file) : "-");
		break;
	case 'n':
		put_number(s ? s->line : 0, b);
		break;
	case 'F':
		dec_buf_str(b, s ? s->func : "-");
		break;
	case 'S':
		put_number(s ? s->id : 0, b);
		break;
	case 's':
		put_number(rec->stream, b);
		break;
	}
}

void dec_prefix_put(struct dec_prefix *p, const struct dec_record *rec, struct dec_buf *b)
{
	for (const struct part *part = p->parts, *end = part + p->n; part < end; part++) {
		size_t start = b->len;
		size_t len;

		if (!part->letter) {
			dec_buf_put(b, part->text, part->len);
			continue;
		}
		put_part(p, part, rec, b);
		len = b->len - start;
		if (len >= part->width || b->oom)
			continue;
		dec_buf_fill(b, ' ', part->width - len);
		if (!part->left && !b->oom) {
			memmove(b->p + start + part->width - len, b->p + start, len);
			memset(b->p + start, ' ', part->width - len);
		}
	}
}
