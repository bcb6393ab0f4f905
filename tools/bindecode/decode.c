/* SPDX-License-Identifier: MIT */
/* Merges the records of several logs by time. */
#include <stdlib.h>

#include "tools/bindecode/decode.h"
#include "tools/bindecode/decode_log.h"

struct input {
	struct dec_log *log;
	struct dec_record head;
	int64_t ns; /* of head */
	bool has_head;
};

struct decode {
	struct input *in;
	unsigned n;
	bool started;
	int taken;	/* whose head was handed out last, -1: none */
	int64_t second; /* no other head is earlier */
};

int decode_new(struct decode **ret, struct err *err)
{
	struct decode *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(err, ENOMEM, "start decoding");
	d->taken = -1;
	*ret = d;
	return 0;
}

void decode_free(struct decode *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < d->n; i++)
		dec_log_close(d->in[i].log);
	free(d->in);
	free(d);
}

/* CLOCK_MONOTONIC is common to logs of one run of one machine, else only the time of day is. */
static void choose_clock(struct decode *d)
{
	static const uint8_t unknown[16];
	const struct binlog_header *first = &d->in[0].log->header;
	bool by_real = false;

	for (unsigned i = 1; i < d->n; i++)
		by_real |= !memcmp(first->boot_id, unknown, 16) ||
			   memcmp(first->boot_id, d->in[i].log->header.boot_id, 16);
	for (unsigned i = 0; i < d->n; i++) {
		struct dec_log *log = d->in[i].log;

		log->by_real = by_real;
		log->base = (int64_t)(by_real ? first->open.real_ns : first->open.mono_ns);
	}
}

static int add(struct decode *d, const char *name, struct dec_source src, unsigned flags,
	       struct err *err)
{
	struct input *in = realloc(d->in, (d->n + 1) * sizeof(*in));
	int r;

	if (!in) {
		dec_source_close(&src);
		return err_set(err, ENOMEM, "open %s", name);
	}
	d->in = in;
	in[d->n] = (struct input){0};
	r = dec_log_open(&in[d->n].log, name, src, flags, err);
	if (r)
		return r;
	d->n++;
	choose_clock(d);
	return 0;
}

int decode_add(struct decode *d, const char *path, unsigned flags, struct err *err)
{
	struct dec_source src;
	int r = dec_source_open(&src, path, err);

	return r ? r : add(d, path, src, flags, err);
}

int decode_add_mem(struct decode *d, const char *name, const void *p, size_t len, unsigned flags,
		   struct err *err)
{
	return add(d, name, (struct dec_source){.fd = -1, .mem = p, .len = len}, flags, err);
}

static int pull(struct input *in, struct err *err)
{
	int r = dec_log_next(in->log, &in->head, err);

	if (r < 0)
		return r;
	in->has_head = r;
	if (r)
		in->ns = dec_log_ns(in->log, in->head.ticks);
	return 0;
}

/* The input whose head is earliest, -1: none has one. Equal times: in the order added. */
static int earliest(struct decode *d)
{
	int best = -1;

	d->second = INT64_MAX;
	for (unsigned i = 0; i < d->n; i++) {
		if (!d->in[i].has_head)
			continue;
		if (best < 0 || d->in[i].ns < d->in[best].ns) {
			if (best >= 0)
				d->second = d->in[best].ns;
			best = (int)i;
		} else if (d->in[i].ns < d->second) {
			d->second = d->in[i].ns;
		}
	}
	return best;
}

int decode_next(struct decode *d, struct dec_record *ret, struct err *err)
{
	int best = d->taken;
	int r = 0;

	if (d->n == 1)
		return dec_log_next(d->in[0].log, ret, err);
	if (!d->started) {
		for (unsigned i = 0; !r && i < d->n; i++)
			r = pull(&d->in[i], err);
		d->started = !r;
	} else if (best >= 0) {
		r = pull(&d->in[best], err);
	}
	if (r)
		return r;
	if (best < 0 || !d->in[best].has_head || d->in[best].ns >= d->second)
		best = earliest(d);
	d->taken = best;
	if (best < 0)
		return 0;
	*ret = d->in[best].head;
	return 1;
}

int decode_refresh(struct decode *d, struct err *err)
{
	int fresh = 0;

	for (unsigned i = 0; i < d->n; i++) {
		int r = dec_log_refresh(d->in[i].log, err);

		if (r < 0)
			return r;
		fresh |= r;
		if (r && d->n > 1 && !d->in[i].has_head) {
			r = pull(&d->in[i], err);
			if (r)
				return r;
		}
	}
	d->second = INT64_MIN;
	return fresh;
}

bool decode_ended(const struct decode *d)
{
	for (unsigned i = 0; i < d->n; i++)
		if (!dec_log_ended(d->in[i].log))
			return false;
	return true;
}

bool decode_text(const struct dec_record *rec, struct dec_buf *b)
{
	if (dec_site_text(b, rec->site, &rec->log->world, rec->args))
		return true;
	rec->log->counts.bad_values++;
	return false;
}

int64_t decode_relative_ns(const struct dec_record *rec)
{
	return dec_log_ns(rec->log, rec->ticks) - rec->log->base;
}

int64_t decode_real_ns(const struct dec_record *rec)
{
	return dec_time_real(&rec->log->time, rec->ticks);
}

struct dec_log *decode_log(const struct decode *d, unsigned i)
{
	return i < d->n ? d->in[i].log : NULL;
}

const char *dec_log_name(const struct dec_log *log)
{
	return log->name;
}

const struct binlog_header *dec_log_header(const struct dec_log *log)
{
	return &log->header;
}

const struct dec_world *dec_log_world(const struct dec_log *log)
{
	return &log->world;
}

const struct dec_counts *dec_log_counts(const struct dec_log *log)
{
	return &log->counts;
}

const struct dec_note *dec_log_note(const struct dec_log *log, unsigned i)
{
	return i < log->nnotes ? &log->notes[i] : NULL;
}

struct dec_site *dec_log_site(const struct dec_log *log, uint32_t *cookie)
{
	while (*cookie < log->nsites) {
		struct dec_site *s = log->sites[(*cookie)++];

		if (s)
			return s;
	}
	return NULL;
}

const char *decode_level_name(unsigned level)
{
	static const char *const names[] = {"msg", "error", "warn", "info", "debug"};

	return level < sizeof(names) / sizeof(*names) ? names[level] : "trace";
}
