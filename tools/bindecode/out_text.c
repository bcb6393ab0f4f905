/* SPDX-License-Identifier: MIT */
/* Records as text, as printf would have printed them. */
#include "tools/bindecode/out.h"

static const char *colour_of(unsigned level)
{
	switch (level) {
	case BINLOG_ERR:
		return "\033[1;31m";
	case BINLOG_WARN:
		return "\033[33m";
	case BINLOG_MSG:
	case BINLOG_INFO:
		return NULL;
	default:
		return "\033[2m";
	}
}

/* The colour ends before the line does, or it would run on into the next. */
static void put_coloured(struct out *o, const struct dec_record *rec, const char *colour,
			 struct dec_buf *b)
{
	dec_buf_str(b, colour);
	dec_line_put(o->prefix, rec, b);
	if (b->oom)
		return;
	b->len--;
	dec_buf_str(b, "\033[0m\n");
}

static void put(struct out *o, const struct dec_record *rec, struct dec_buf *b)
{
	const char *colour = o->opts->colour ? colour_of(rec->level) : NULL;

	if (o->opts->raw) {
		if (rec->event != DEC_CALL)
			return;
		if (o->prefix)
			dec_prefix_put(o->prefix, rec, b);
		decode_text(rec, b);
	} else if (colour) {
		put_coloured(o, rec, colour, b);
	} else {
		dec_line_put(o->prefix, rec, b);
	}
}

const struct out_form out_text = {"text", DEC_PREFIX_DEFAULT, NULL, NULL, put, NULL};
