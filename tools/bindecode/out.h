/* SPDX-License-Identifier: MIT */
/*
 * A form of output: text, JSON lines, CSV, trace events. One table row each.
 */
#ifndef BINDECODE_OUT_H
#define BINDECODE_OUT_H

#include "tools/bindecode/decode_line.h"

struct out_opts {
	const char *prefix; /* template, NULL: the default of the form */
	bool raw;  /* text: exactly what printf would have printed, no prefix unless given */
	bool wall; /* text: time of day instead of seconds */
	bool utc;
	bool colour;
	bool many; /* more than one log */
};

struct out_thread;

struct out {
	const struct out_form *form;
	const struct out_opts *opts;
	struct dec_prefix *prefix;
	struct dec_buf text;	 /* of one record */
	struct out_thread *seen; /* trace: threads that are to be named */
	size_t nseen;
	bool some; /* a record was put out */
};

struct out_form {
	const char *name;
	const char *prefix;  /* default template, NULL: the form has none */
	const char *between; /* two records; NULL: nothing */
	void (*begin)(struct out *o, struct dec_buf *b);
	/* What was put may be thrown away, or come out much later, but in the same order. */
	void (*put)(struct out *o, const struct dec_record *rec, struct dec_buf *b);
	void (*end)(struct out *o, struct dec_buf *b);
};

extern const struct out_form out_text, out_json, out_csv, out_trace;

/* NULL: there is no such form. */
const struct out_form *out_find(const char *name);
/* @opts must outlive it. */
int out_init(struct out *o, const struct out_form *form, const struct out_opts *opts,
	     struct err *err);
void out_deinit(struct out *o);

#endif
