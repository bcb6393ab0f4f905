/* SPDX-License-Identifier: MIT */
/* Counts records per call site and per thread. */
#include <inttypes.h>
#include <stdlib.h>

#include "tools/bindecode/json.h"
#include "tools/bindecode/stats.h"

struct row {
	uint64_t count;
	uint64_t bytes;
	int64_t first; /* relative, as the two below */
	int64_t last;
	int64_t gap; /* longest pause between two records */
	struct dec_log *log;

	/* A site: copies, since a site that came with its record does not last. */
	char *fmt, *file, *func;
	uint32_t line;
	unsigned level;

	/* A thread. */
	uint32_t pid, tid;
	char comm[17];
};

/* Rows in order of arrival, and where to find them by what they stand for. */
struct table {
	struct row *rows;
	uint32_t n, cap;
	uint32_t *slots; /* row + 1, 0: free */
	uint32_t nslots; /* power of two */
};

struct stats {
	struct table sites;
	struct table threads;
	uint64_t count, bytes;
};

int stats_new(struct stats **ret, struct err *err)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : err_set(err, ENOMEM, "statistics");
}

static void table_deinit(struct table *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		free(t->rows[i].fmt);
		free(t->rows[i].file);
		free(t->rows[i].func);
	}
	free(t->rows);
	free(t->slots);
}

void stats_free(struct stats *s)
{
	if (!s)
		return;
	table_deinit(&s->sites);
	table_deinit(&s->threads);
	free(s);
}

static uint64_t hash_bytes(uint64_t h, const void *p, size_t n)
{
	const uint8_t *q = p;

	for (size_t i = 0; i < n; i++)
		h = (h ^ q[i]) * 0x100000001b3;
	return h;
}

static uint64_t hash_of(const struct row *r)
{
	uint64_t h = 0xcbf29ce484222325;

	h = hash_bytes(h, &r->log, sizeof(r->log));
	h = hash_bytes(h, &r->line, sizeof(r->line));
	h = hash_bytes(h, &r->pid, sizeof(r->pid));
	h = hash_bytes(h, &r->tid, sizeof(r->tid));
	if (r->fmt) {
		h = hash_bytes(h, r->fmt, strlen(r->fmt));
		h = hash_bytes(h, r->file, strlen(r->file));
		h = hash_bytes(h, r->func, strlen(r->func));
	}
	return h ^ h >> 32;
}

static bool is_same(const struct row *a, const struct row *b)
{
	if (a->log != b->log || a->line != b->line || a->pid != b->pid || a->tid != b->tid)
		return false;
	return !a->fmt ||
	       (!strcmp(a->fmt, b->fmt) && !strcmp(a->file, b->file) && !strcmp(a->func, b->func));
}

static bool grow(struct table *t)
{
	uint32_t cap = t->cap ? 2 * t->cap : 64;
	struct row *rows = realloc(t->rows, cap * sizeof(*rows));
	uint32_t *slots = calloc(2 * (size_t)cap, sizeof(*slots));

	if (rows)
		t->rows = rows;
	if (!rows || !slots) {
		free(slots);
		return false;
	}
	free(t->slots);
	t->slots = slots;
	t->cap = cap;
	t->nslots = 2 * cap;
	for (uint32_t i = 0; i < t->n; i++) {
		uint64_t h = hash_of(&rows[i]);

		while (slots[h & (t->nslots - 1)])
			h++;
		slots[h & (t->nslots - 1)] = i + 1;
	}
	return true;
}

/* The row that stands for the same as @key, made if there is none; its number + 1, 0: no memory. */
static uint32_t get_row(struct table *t, const struct row *key)
{
	struct row *r;
	uint64_t h;

	if (t->n == t->cap && !grow(t))
		return 0;
	for (h = hash_of(key); t->slots[h & (t->nslots - 1)]; h++) {
		uint32_t i = t->slots[h & (t->nslots - 1)];

		if (is_same(&t->rows[i - 1], key))
			return i;
	}
	r = &t->rows[t->n];
	*r = *key;
	if (key->fmt) {
		r->fmt = strdup(key->fmt);
		r->file = strdup(key->file);
		r->func = strdup(key->func);
		if (!r->fmt || !r->file || !r->func) {
			free(r->fmt);
			free(r->file);
			free(r->func);
			return 0;
		}
	}
	t->slots[h & (t->nslots - 1)] = ++t->n;
	return t->n;
}

static void add(struct row *r, const struct dec_record *rec, int64_t ns)
{
	if (!r->count) {
		r->first = r->last = ns;
	} else if (ns - r->last > r->gap) {
		r->gap = ns - r->last;
	}
	r->count++;
	r->bytes += rec->len;
	r->last = ns;
}

bool stats_add(struct stats *s, const struct dec_record *rec)
{
	struct dec_site *site = rec->site;
	int64_t ns;
	uint32_t i;

	if (!site)
		return true;
	ns = decode_relative_ns(rec);
	if (!site->row) {
		struct row key = {.log = rec->log,
				  .fmt = (char *)site->fmt,
				  .file = (char *)site->file,
				  .func = (char *)site->func,
				  .line = site->line,
				  .level = rec->level};

		site->row = get_row(&s->sites, &key);
		if (!site->row)
			return false;
	}
	add(&s->sites.rows[site->row - 1], rec, ns);
	struct row key = {.log = rec->log, .pid = rec->pid, .tid = rec->tid};

	i = get_row(&s->threads, &key);
	if (!i)
		return false;
	if (*rec->comm)
		memcpy(s->threads.rows[i - 1].comm, rec->comm, strlen(rec->comm) + 1);
	add(&s->threads.rows[i - 1], rec, ns);
	s->count++;
	s->bytes += rec->len;
	return true;
}

static int by_bytes(const void *a, const void *b)
{
	uint64_t x = ((const struct row *)a)->bytes, y = ((const struct row *)b)->bytes;

	return (x < y) - (x > y);
}

static int by_count(const void *a, const void *b)
{
	uint64_t x = ((const struct row *)a)->count, y = ((const struct row *)b)->count;

	return (x < y) - (x > y);
}

static int by_gap(const void *a, const void *b)
{
	int64_t x = ((const struct row *)a)->gap, y = ((const struct row *)b)->gap;

	return (x < y) - (x > y);
}

static void put_row(const struct stats *s, const struct row *r, struct dec_buf *b)
{
	double share = s->bytes ? 100.0 * (double)r->bytes / (double)s->bytes : 0;

	dec_buf_printf(b, "%12" PRIu64 " %14" PRIu64 " %6.2f %14.6f %14.6f %14.6f  ", r->count,
		       r->bytes, share, (double)r->first / 1e9, (double)r->last / 1e9,
		       (double)r->gap / 1e9);
	if (!r->fmt) {
		dec_buf_printf(b, "%u.%u %s\n", r->pid, r->tid, r->comm);
		return;
	}
	dec_buf_str(b, r->file);
	dec_buf_printf(b, ":%u ", r->line);
	dec_buf_str(b, r->func);
	dec_buf_chr(b, ' ');
	json_cstr(b, r->fmt);
	dec_buf_chr(b, '\n');
}

static void put_row_json(const struct row *r, struct dec_buf *b)
{
	dec_buf_printf(b, "{\"count\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"first\":", r->count,
		       r->bytes);
	json_fixed(b, r->first, 9);
	json_key(b, "last");
	json_fixed(b, r->last, 9);
	json_key(b, "gap");
	json_fixed(b, r->gap, 9);
	json_key(b, "log");
	json_cstr(b, dec_log_name(r->log));
	if (r->fmt) {
		json_key(b, "file");
		json_cstr(b, r->file);
		dec_buf_printf(b, ",\"line\":%u", r->line);
		json_key(b, "function");
		json_cstr(b, r->func);
		json_key(b, "level");
		json_cstr(b, decode_level_name(r->level));
		json_key(b, "format");
		json_cstr(b, r->fmt);
	} else {
		dec_buf_printf(b, ",\"pid\":%u,\"tid\":%u", r->pid, r->tid);
		json_key(b, "comm");
		json_cstr(b, r->comm);
	}
	dec_buf_str(b, "}\n");
}

static void put_table(const struct stats *s, struct table *t, enum stats_order order, unsigned top,
		      bool json, struct dec_buf *b)
{
	static int (*const orders[])(const void *, const void *) = {
		[STATS_BYTES] = by_bytes, [STATS_COUNT] = by_count, [STATS_GAP] = by_gap};

	if (t->n)
		qsort(t->rows, t->n, sizeof(*t->rows), orders[order]);
	for (uint32_t i = 0; i < t->n && (!top || i < top); i++) {
		if (json)
			put_row_json(&t->rows[i], b);
		else
			put_row(s, &t->rows[i], b);
	}
	if (!json && top && t->n > top)
		dec_buf_printf(b, "%12s and %u more\n", "", t->n - top);
}

void stats_put(struct stats *s, enum stats_order order, unsigned top, bool json, struct dec_buf *b)
{
	static const char head[] = "%12s %14s %6s %14s %14s %14s  %s\n";

	if (!json)
		dec_buf_printf(b, head, "records", "bytes", "share%", "first s", "last s",
			       "longest gap s", "site");
	put_table(s, &s->sites, order, top, json, b);
	if (!json) {
		dec_buf_chr(b, '\n');
		dec_buf_printf(b, head, "records", "bytes", "share%", "first s", "last s",
			       "longest gap s", "thread");
	}
	put_table(s, &s->threads, order, top, json, b);
	if (!json)
		dec_buf_printf(b,
			       "\n%12" PRIu64 " %14" PRIu64 " bytes in all, %u sites, %u threads\n",
			       s->count, s->bytes, s->sites.n, s->threads.n);
}
