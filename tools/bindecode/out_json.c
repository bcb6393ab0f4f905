/* SPDX-License-Identifier: MIT */
/* Records as JSON, one object per line, arguments with their types. */
#include "tools/bindecode/json.h"
#include "tools/bindecode/decode_int.h"
#include "tools/bindecode/out.h"

static void put_number(struct dec_buf *b, const char *key, uint64_t v)
{
	json_key(b, key);
	dec_buf_took(b, dec_put_u64(dec_buf_room(b, DEC_INT_ROOM), v));
}

static void put_cstr(struct dec_buf *b, const char *key, const char *s)
{
	json_key(b, key);
	json_cstr(b, s);
}

static void put(struct out *o, const struct dec_record *rec, struct dec_buf *b)
{
	const struct dec_site *s = rec->site;

	dec_buf_str(b, "{\"t\":");
	json_fixed(b, decode_relative_ns(rec), 9);
	json_key(b, "unix");
	json_fixed(b, decode_real_ns(rec), 9);
	put_number(b, "pid", rec->pid);
	put_number(b, "tid", rec->tid);
	if (*rec->comm)
		put_cstr(b, "comm", rec->comm);
	if (o->opts->many)
		put_cstr(b, "log", dec_log_name(rec->log));
	if (!s) {
		put_cstr(b, "event", "loss");
		put_number(b, "records", rec->loss.records);
		put_number(b, "bytes", rec->loss.bytes);
		put_number(b, "reason", rec->loss.reason);
		put_number(b, "errno", rec->loss.errnum);
		dec_buf_str(b, "}\n");
		return;
	}
	put_cstr(b, "level", decode_level_name(rec->level));
	put_cstr(b, "file", s->file);
	put_number(b, "line", s->line);
	put_cstr(b, "function", s->func);
	put_number(b, "site", s->id);
	put_cstr(b, "format", s->fmt);
	if (s->flags & BINLOG_S_ERRNO)
		put_number(b, "errno", (uint32_t)dec_site_errno(s, rec->args));
	json_key(b, "args");
	json_args(b, rec);
	o->text.len = 0;
	decode_text(rec, &o->text);
	json_key(b, "text");
	json_string(b, o->text.p, o->text.len);
	dec_buf_str(b, "}\n");
}

const struct out_form out_json = {"json", NULL, NULL, NULL, put, NULL};
