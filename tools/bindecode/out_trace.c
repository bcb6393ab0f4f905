/* SPDX-License-Identifier: MIT */
/*
 * Records as Chrome trace events: a JSON object that Perfetto and chrome://tracing open.
 *
 * Every call is an instant on the track of its thread.
 */
#include "tools/bindecode/json.h"
#include "tools/bindecode/decode_int.h"
#include "tools/bindecode/out.h"

struct out_thread {
	uint64_t key; /* pid and tid */
	struct dec_log *log;
	char comm[17];
};

static void put_number(struct dec_buf *b, const char *key, uint64_t v)
{
	json_key(b, key);
	dec_buf_took(b, dec_put_u64(dec_buf_room(b, DEC_INT_ROOM), v));
}

static void begin(struct out *o, struct dec_buf *b)
{
	dec_buf_str(b, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
}

static void begin_event(struct dec_buf *b, const char *name, size_t n)
{
	dec_buf_str(b, "{\"name\":");
	json_string(b, name, n);
}

static void put_name(struct dec_buf *b, const struct out_thread *t, const char *what,
		     const char *name)
{
	begin_event(b, what, strlen(what));
	dec_buf_str(b, ",\"ph\":\"M\"");
	put_number(b, "pid", t->key >> 32);
	put_number(b, "tid", (uint32_t)t->key);
	dec_buf_str(b, ",\"args\":{\"name\":");
	json_cstr(b, name);
	dec_buf_str(b, "}}");
}

/* Where @key stands in the sorted table, or would. */
static size_t find(const struct out *o, uint64_t key)
{
	size_t lo = 0, hi = o->nseen;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (o->seen[mid].key < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Remembers a thread the first time it is met. */
static void remember(struct out *o, const struct dec_record *rec)
{
	uint64_t key = (uint64_t)rec->pid << 32 | rec->tid;
	size_t i = find(o, key);

	if (i == o->nseen || o->seen[i].key != key) {
		if ((o->nseen & (o->nseen - 1)) == 0) {
			size_t cap = o->nseen ? 2 * o->nseen : 1;
			struct out_thread *seen = realloc(o->seen, cap * sizeof(*seen));

			if (!seen)
				return;
			o->seen = seen;
		}
		memmove(o->seen + i + 1, o->seen + i, (o->nseen - i) * sizeof(*o->seen));
		o->seen[i] = (struct out_thread){.key = key, .log = rec->log};
		o->nseen++;
	}
	if (!*o->seen[i].comm)
		snprintf(o->seen[i].comm, sizeof(o->seen[i].comm), "%s", rec->comm);
}

static void put(struct out *o, const struct dec_record *rec, struct dec_buf *b)
{
	const struct dec_site *s = rec->site;

	remember(o, rec);
	o->text.len = 0;
	if (s)
		decode_text(rec, &o->text);
	else
		dec_loss_put(&rec->loss, &o->text);
	while (o->text.len && o->text.p[o->text.len - 1] == '\n')
		o->text.len--;
	begin_event(b, o->text.p ? o->text.p : "", o->text.len);
	json_key(b, "cat");
	json_cstr(b, s ? decode_level_name(rec->level) : "loss");
	dec_buf_str(b, ",\"ph\":\"i\",\"s\":\"t\",\"ts\":");
	json_fixed(b, decode_relative_ns(rec), 3);
	put_number(b, "pid", rec->pid);
	put_number(b, "tid", rec->tid);
	if (s) {
		dec_buf_str(b, ",\"args\":{\"file\":");
		json_cstr(b, s->file);
		put_number(b, "line", s->line);
		json_key(b, "function");
		json_cstr(b, s->func);
		json_key(b, "format");
		json_cstr(b, s->fmt);
		json_key(b, "args");
		json_args(b, rec);
		dec_buf_chr(b, '}');
	}
	dec_buf_chr(b, '}');
}

/* The names come last: whether a record is printed at all is known late. */
static void end(struct out *o, struct dec_buf *b)
{
	char name[65];

	for (size_t i = 0; i < o->nseen; i++) {
		const struct out_thread *t = &o->seen[i];

		if (!i || t[-1].key >> 32 != t->key >> 32) {
			snprintf(name, sizeof(name), "%.64s", dec_log_header(t->log)->program);
			dec_buf_str(b, o->some ? ",\n" : "");
			put_name(b, t, "process_name", name);
			o->some = true;
		}
		if (*t->comm) {
			dec_buf_str(b, ",\n");
			put_name(b, t, "thread_name", t->comm);
		}
	}
	dec_buf_str(b, "\n]}\n");
}

const struct out_form out_trace = {"trace", NULL, ",\n", begin, put, end};
