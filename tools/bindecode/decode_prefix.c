/* SPDX-License-Identifier: MIT */
/* Prints the template that stands before every line. */
#include <stdlib.h>
#include <time.h>

#include "tools/bindecode/decode_int.h"
#include "tools/bindecode/decode_prefix.h"

enum { PARTS_MAX = 64, WIDTH_MAX = 200, NUMBER_MAX = WIDTH_MAX + DEC_INT_ROOM };

struct part {
	char letter; /* 0: text */
	bool left;
	unsigned width;
	const char *text;
	size_t len;
};

/*
 * The template as alternating runs: parts that depend on the site alone, printed once per site and
 * then copied, and one part that does not.
 */
struct step {
	unsigned first, n;	 /* parts of the run before it */
	const struct part *part; /* NULL: the template ends with the run */

	/* What the part printed last. */
	uint64_t value;
	size_t len;
	char text[NUMBER_MAX];
};

/* The runs of all steps for one site; the k-th ends at end[k] of text. */
struct row {
	uint32_t *end;
	char *text;
};

struct dec_prefix {
	char *template;
	struct part parts[PARTS_MAX];
	unsigned n;
	struct step steps[PARTS_MAX + 1];
	unsigned nsteps;
	struct row *rows;
	uint32_t nrows;
	bool utc;

	int64_t second;	  /* that `date` stands for */
	char date[20];	  /* 2026-11-23 12:00:00 */
	int64_t from, to; /* relative times that begin with `seconds` */
	char seconds[DEC_INT_ROOM + 16];
	size_t nseconds;
};

static int bad_template(struct err *err, const char *what)
{
	err_fail(err, EINVAL, ERR_USAGE, "--prefix: %s", what);
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

static bool is_of_site(const struct part *part)
{
	return !part->letter || strchr("lLfbnFS", part->letter);
}

static void make_steps(struct dec_prefix *p)
{
	struct step *s = p->steps;

	for (unsigned i = 0; i < p->n; i++) {
		if (is_of_site(&p->parts[i])) {
			s->n++;
			continue;
		}
		s->part = &p->parts[i];
		s->value = UINT64_MAX;
		s++;
		s->first = i + 1;
	}
	p->nsteps = (unsigned)(s - p->steps) + 1;
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
	p->to = INT64_MIN;
	r = compile(p, err);
	make_steps(p);
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
	for (uint32_t i = 0; i < p->nrows; i++) {
		free(p->rows[i].end);
		free(p->rows[i].text);
	}
	free(p->rows);
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

/* Begins anew with the second that @rel_ns is in. */
static void set_seconds(struct dec_prefix *p, int64_t rel_ns)
{
	uint64_t second = (rel_ns < 0 ? -(uint64_t)rel_ns : (uint64_t)rel_ns) / 1000000000;
	char *q = p->seconds;

	p->from = (int64_t)(second * 1000000000);
	p->to = p->from + 999999999;
	if (rel_ns < 0) {
		*q++ = '-';
		p->to = INT64_MIN; /* rare: not kept */
	}
	if (second < 10)
		*q++ = '0';
	q = dec_put_u64(q, second);
	*q++ = '.';
	p->nseconds = (size_t)(q - p->seconds);
}

static void put_relative(struct dec_prefix *p, int64_t rel_ns, struct dec_buf *b)
{
	char *q;

	if (rel_ns < p->from || rel_ns > p->to)
		set_seconds(p, rel_ns);
	q = dec_buf_room(b, sizeof(p->seconds) + 6);
	memcpy(q, p->seconds, sizeof(p->seconds));
	rel_ns = rel_ns < 0 ? (int64_t) - (uint64_t)rel_ns : rel_ns;
	dec_buf_took(b, dec_put_digits(q + p->nseconds, (uint32_t)(rel_ns - p->from) / 1000, 6));
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
		put_relative(p, decode_relative_ns(rec), b);
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

/* A part in its field. */
static void put_field(struct dec_prefix *p, const struct part *part, const struct dec_record *rec,
		      struct dec_buf *b)
{
	size_t start = b->len;
	size_t len;

	if (!part->letter) {
		dec_buf_put(b, part->text, part->len);
		return;
	}
	put_part(p, part, rec, b);
	len = b->len - start;
	if (len >= part->width || b->oom)
		return;
	dec_buf_fill(b, ' ', part->width - len);
	if (!part->left && !b->oom) {
		memmove(b->p + start + part->width - len, b->p + start, len);
		memset(b->p + start, ' ', part->width - len);
	}
}

/* What all runs print for the site of @rec; NULL: no memory. */
static struct row *make_row(struct dec_prefix *p, const struct dec_record *rec)
{
	struct row row = {.end = calloc(p->nsteps, sizeof(*row.end))};
	struct dec_buf text;
	struct row *rows;

	dec_buf_init(&text);
	for (unsigned i = 0; row.end && i < p->nsteps; i++) {
		const struct step *s = &p->steps[i];

		for (unsigned k = 0; k < s->n; k++)
			put_field(p, &p->parts[s->first + k], rec, &text);
		row.end[i] = (uint32_t)text.len;
	}
	row.text = realloc(text.p, text.len + DEC_BUF_SLACK);
	rows = p->rows;
	if (row.end && row.text && !text.oom && (p->nrows & (p->nrows - 1)) == 0)
		rows = realloc(p->rows, (p->nrows ? 2 * p->nrows : 1) * sizeof(*rows));
	if (!row.end || !row.text || text.oom || !rows) {
		free(row.text ? row.text : text.p);
		free(row.end);
		return NULL;
	}
	p->rows = rows;
	rows[p->nrows++] = row;
	rec->site->line_row = p->nrows;
	return &rows[p->nrows - 1];
}

/* A number, printed anew only if it changed. */
static void put_kept(struct dec_prefix *p, struct step *s, uint64_t value,
		     const struct dec_record *rec, struct dec_buf *b)
{
	size_t start = b->len;

	if (s->value == value) {
		dec_buf_put_short(b, s->text, s->len);
		return;
	}
	put_field(p, s->part, rec, b);
	if (b->oom || b->len - start > sizeof(s->text) - DEC_BUF_SLACK)
		return;
	s->len = b->len - start;
	s->value = value;
	memcpy(s->text, b->p + start, s->len);
}

static void put_step(struct dec_prefix *p, struct step *s, const struct dec_record *rec,
		     struct dec_buf *b)
{
	switch (s->part->letter) {
	case 'p':
		put_kept(p, s, rec->pid, rec, b);
		break;
	case 'i':
		put_kept(p, s, rec->tid, rec, b);
		break;
	case 't':
		if (!s->part->width) {
			put_relative(p, decode_relative_ns(rec), b);
			break;
		}
		/* fall through */
	default:
		put_field(p, s->part, rec, b);
	}
}

void dec_prefix_put(struct dec_prefix *p, const struct dec_record *rec, struct dec_buf *b)
{
	const struct dec_site *site = rec->site;
	struct row *row = NULL;
	uint32_t from = 0;

	/* A site that came with its record does not last, nor does a level in the record. */
	if (site && site->line_row)
		row = &p->rows[site->line_row - 1];
	else if (site && site->id >= BINLOG_SITE_FIRST && !(site->flags & BINLOG_S_LEVEL))
		row = make_row(p, rec);
	for (unsigned i = 0; i < p->nsteps; i++) {
		struct step *s = &p->steps[i];

		if (row) {
			dec_buf_put_short(b, row->text + from, row->end[i] - from);
			from = row->end[i];
		} else {
			for (unsigned k = 0; k < s->n; k++)
				put_field(p, &p->parts[s->first + k], rec, b);
		}
		if (s->part)
			put_step(p, s, rec, b);
	}
}
