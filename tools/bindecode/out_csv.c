/* SPDX-License-Identifier: MIT */
/* Records as CSV (RFC 4180), one row each. */
#include "tools/bindecode/json.h"
#include "tools/bindecode/decode_int.h"
#include "tools/bindecode/out.h"

static void put_field(struct dec_buf *b, const char *p, size_t n)
{
	const char *end = p + n;

	dec_buf_put(b, ",\"", 2);
	while (p < end) {
		const char *quote = memchr(p, '"', (size_t)(end - p));

		if (!quote) {
			dec_buf_put(b, p, (size_t)(end - p));
			break;
		}
		dec_buf_put(b, p, (size_t)(quote + 1 - p));
		dec_buf_chr(b, '"');
		p = quote + 1;
	}
	dec_buf_chr(b, '"');
}

static void put_number(struct dec_buf *b, uint64_t v)
{
	char *q = dec_buf_room(b, DEC_INT_ROOM + 1);

	*q++ = ',';
	dec_buf_took(b, dec_put_u64(q, v));
}

static void begin(struct out *o, struct dec_buf *b)
{
	dec_buf_str(b, "seconds,unix,time,pid,tid,thread,level,file,line,function,text\r\n");
}

static void put(struct out *o, const struct dec_record *rec, struct dec_buf *b)
{
	const struct dec_site *s = rec->site;
	const char *level = s ? decode_level_name(rec->level) : "loss";

	json_fixed(b, decode_relative_ns(rec), 9);
	dec_buf_chr(b, ',');
	json_fixed(b, decode_real_ns(rec), 9);
	dec_buf_chr(b, ',');
	dec_prefix_put_wall(o->prefix, decode_real_ns(rec), b);
	put_number(b, rec->pid);
	put_number(b, rec->tid);
	put_field(b, rec->comm, strlen(rec->comm));
	put_field(b, level, strlen(level));
	put_field(b, s ? s->file : "", s ? strlen(s->file) : 0);
	put_number(b, s ? s->line : 0);
	put_field(b, s ? s->func : "", s ? strlen(s->func) : 0);
	o->text.len = 0;
	if (s)
		decode_text(rec, &o->text);
	else
		dec_loss_put(&rec->loss, &o->text);
	if (o->text.len && o->text.p[o->text.len - 1] == '\n')
		o->text.len--;
	put_field(b, o->text.p ? o->text.p : "", o->text.len);
	dec_buf_put(b, "\r\n", 2);
}

/* The template is there for its clock. */
const struct out_form out_csv = {"csv", "%T", NULL, begin, put, NULL};
