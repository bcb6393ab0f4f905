/* SPDX-License-Identifier: MIT */
/* A record as a line for a person, and the last such lines around an error. */
#include <inttypes.h>
#include <stdlib.h>

#include "tools/bindecode/decode_line.h"

void dec_loss_put(const struct dec_loss *loss, struct dec_buf *b)
{
	static const char *const why[] = {
		[0] = "no reason given",
		[BINLOG_LOSS_BOUND] = "the log reached its size limit",
		[BINLOG_LOSS_WRITE] = "writing to the log failed",
		[BINLOG_LOSS_RING] = "no memory for the thread's ring",
		[BINLOG_LOSS_ARGS] = "a record was too large for what was left",
	};
	unsigned reason = loss->reason < sizeof(why) / sizeof(*why) ? loss->reason : 0;
	const char *text = loss->errnum ? strerrordesc_np((int)loss->errnum) : NULL;

	dec_buf_printf(b, "%" PRIu64 " record%s (%" PRIu64 " bytes) lost here: %s%s%s",
		       loss->records, loss->records == 1 ? "" : "s", loss->bytes, why[reason],
		       text ? ": " : "", text ? text : "");
}

void dec_line_put(struct dec_prefix *p, const struct dec_record *rec, struct dec_buf *b)
{
	size_t start;

	if (p)
		dec_prefix_put(p, rec, b);
	start = b->len;
	if (rec->event == DEC_LOSS)
		dec_loss_put(&rec->loss, b);
	else
		decode_text(rec, b);
	if (!b->oom && (b->len == start || b->p[b->len - 1] != '\n'))
		dec_buf_chr(b, '\n');
}

/* The last lines seen, oldest overwritten. */
struct window {
	struct dec_buf *lines;
	unsigned n; /* of them */
	uint64_t put;
};

static int window_init(struct window *w, unsigned n)
{
	*w = (struct window){.lines = calloc(n, sizeof(*w->lines)), .n = n};
	return w->lines ? 0 : -ENOMEM;
}

static void window_deinit(struct window *w)
{
	for (unsigned i = 0; i < w->n && w->lines; i++)
		dec_buf_deinit(&w->lines[i]);
	free(w->lines);
}

static int read_window(const char *path, unsigned flags, unsigned before, unsigned after,
		       struct window *w, struct dec_buf *ret, struct err *err)
{
	struct dec_prefix *prefix = NULL;
	struct decode *d = NULL;
	struct dec_record rec;
	unsigned owed = 0; /* lines still to come behind the last error */
	int r;

	r = decode_new(&d, err);
	r = r ? r : decode_add(d, path, flags, err);
	r = r ? r : dec_prefix_new(&prefix, DEC_PREFIX_DEFAULT, false, err);
	while (!r && (r = decode_next(d, &rec, err)) > 0) {
		struct dec_buf *line = &w->lines[w->put++ % w->n];

		line->len = 0;
		dec_line_put(prefix, &rec, line);
		if (rec.event == DEC_CALL && rec.level == BINLOG_ERR) {
			/* A later error begins the answer anew. */
			ret->len = 0;
			for (uint64_t i = w->put > before + 1 ? w->put - before - 1 : 0; i < w->put;
			     i++)
				dec_buf_put(ret, w->lines[i % w->n].p, w->lines[i % w->n].len);
			owed = after;
		} else if (owed) {
			dec_buf_put(ret, line->p, line->len);
			owed--;
		}
		r = line->oom || ret->oom ? err_set(err, ENOMEM, "decode %s", path) : 0;
	}
	dec_prefix_free(prefix);
	decode_free(d);
	return r;
}

int decode_last_error(const char *path, unsigned before, unsigned after, struct dec_buf *b,
		      struct err *err)
{
	static const unsigned how[] = {DEC_ADD_TAIL, 0};
	struct dec_buf found;
	struct window w;
	int r;

	dec_buf_init(&found);
	if (before > 10000)
		before = 10000;
	/* The end of the log is nearly always enough. */
	for (int i = 0; i < 2; i++) {
		if (window_init(&w, before + 1))
			return err_set(err, ENOMEM, "decode %s", path);
		r = read_window(path, how[i], before, after, &w, &found, err);
		window_deinit(&w);
		if (r || found.len)
			break;
	}
	if (!r)
		dec_buf_put(b, found.p, found.len);
	dec_buf_deinit(&found);
	return r;
}
