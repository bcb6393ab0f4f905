/* SPDX-License-Identifier: MIT */
/* Writes pieces of JSON. */
#include "tools/bindecode/decode_float.h"
#include "tools/bindecode/decode_int.h"
#include "tools/bindecode/json.h"

/* Bytes of the UTF-8 character at @p, 0: it is none. */
static unsigned utf8_len(const unsigned char *p, size_t n)
{
	unsigned len = p[0] < 0x80   ? 1
		       : p[0] < 0xc2 ? 0
		       : p[0] < 0xe0 ? 2
		       : p[0] < 0xf0 ? 3
		       : p[0] < 0xf5 ? 4
				     : 0;

	if (!len || len > n)
		return 0;
	for (unsigned i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong, surrogate, beyond U+10FFFF. */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

static void escape(struct dec_buf *b, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	const char *plain = "\"\\\b\f\n\r\t";
	const char *letter = "\"\\bfnrt";
	const char *hit = c ? strchr(plain, c) : NULL;
	char *q = dec_buf_room(b, 6);

	*q++ = '\\';
	if (hit) {
		*q++ = letter[hit - plain];
	} else {
		memcpy(q, "u00", 3);
		q[3] = hex[c >> 4];
		q[4] = hex[c & 15];
		q += 5;
	}
	dec_buf_took(b, q);
}

void json_string(struct dec_buf *b, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	const unsigned char *end = p + n;
	const unsigned char *from = p;

	dec_buf_chr(b, '"');
	while (p < end) {
		unsigned len;

		if (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\') {
			p++;
			continue;
		}
		len = utf8_len(p, (size_t)(end - p));
		if (len > 1) {
			p += len;
			continue;
		}
		dec_buf_put(b, from, (size_t)(p - from));
		if (len)
			escape(b, *p);
		else
			dec_buf_str(b, "\\ufffd");
		from = ++p;
	}
	dec_buf_put(b, from, (size_t)(p - from));
	dec_buf_chr(b, '"');
}

void json_cstr(struct dec_buf *b, const char *s)
{
	json_string(b, s, strlen(s));
}

void json_key(struct dec_buf *b, const char *key)
{
	dec_buf_put(b, ",\"", 2);
	dec_buf_str(b, key);
	dec_buf_put(b, "\":", 2);
}

void json_fixed(struct dec_buf *b, int64_t v, unsigned digits)
{
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
	uint64_t unit = 1;
	char *q = dec_buf_room(b, 2 * DEC_INT_ROOM);

	for (unsigned i = 0; i < digits; i++)
		unit *= 10;
	if (v < 0)
		*q++ = '-';
	q = dec_put_u64(q, u / unit);
	*q++ = '.';
	dec_buf_took(b, dec_put_digits(q, (uint32_t)(u % unit), digits));
}

/* Decimal; in quotes where a reader's 64-bit integers end. */
static void put_int(struct dec_buf *b, bool neg, unsigned __int128 v)
{
	struct dec_spec d = {.conv = 'd'};
	bool quote = neg ? v > (unsigned __int128)1 << 63 : v >= (unsigned __int128)1 << 63;

	if (quote)
		dec_buf_chr(b, '"');
	dec_int_put(b, &d, 0, -1, neg, v);
	if (quote)
		dec_buf_chr(b, '"');
}

static void put_float(struct dec_buf *b, const struct dec_record *rec, const struct dec_value *v)
{
	struct dec_spec g = {.conv = 'g'};
	struct dec_float f;

	if (v->type == BINLOG_T_F64)
		f = dec_float_f64((uint64_t)v->u);
	else if (!dec_float_ldbl(dec_log_world(rec->log)->ldbl, v->raw, &f))
		f = (struct dec_float){.class = DEC_NAN};
	if (f.class != DEC_FINITE || v->type == BINLOG_T_LDBL)
		dec_buf_chr(b, '"');
	/* Enough digits to get the same number back: 17 of binary64, 36 of binary128. */
	dec_float_put(b, &g, 0, v->type == BINLOG_T_F64 ? 17 : 36, &f);
	if (f.class != DEC_FINITE || v->type == BINLOG_T_LDBL)
		dec_buf_chr(b, '"');
}

static void put_string(struct dec_buf *b, const struct dec_value *v)
{
	if (v->null || v->bad)
		dec_buf_str(b, "null");
	else
		json_string(b, v->text, v->len);
	if (v->bad)
		dec_buf_str(b, ",\"invalid\":true");
	if (v->errnum >= 0) {
		json_key(b, "errno");
		put_int(b, false, (unsigned)v->errnum);
	}
}

void json_args(struct dec_buf *b, const struct dec_record *rec)
{
	static const char *const names[] = {
		[BINLOG_T_I32] = "i32", [BINLOG_T_U32] = "u32",	  [BINLOG_T_I64] = "i64",
		[BINLOG_T_U64] = "u64", [BINLOG_T_I128] = "i128", [BINLOG_T_U128] = "u128",
		[BINLOG_T_F64] = "f64", [BINLOG_T_LDBL] = "ldbl", [BINLOG_T_PTR] = "ptr",
		[BINLOG_T_STR] = "str", [BINLOG_T_WIDE] = "wide",
	};
	const struct dec_site *s = rec->site;

	dec_buf_chr(b, '[');
	for (uint32_t i = 0; i < s->nargs; i++) {
		struct dec_value v;
		bool neg;

		dec_site_value(s, dec_log_world(rec->log), rec->args, i, &v);
		dec_buf_str(b, i ? ",{\"" : "{\"");
		dec_buf_str(b, names[v.type]);
		dec_buf_put(b, "\":", 2);
		switch (v.type) {
		case BINLOG_T_F64:
		case BINLOG_T_LDBL:
			put_float(b, rec, &v);
			break;
		case BINLOG_T_STR:
		case BINLOG_T_WIDE:
			put_string(b, &v);
			break;
		case BINLOG_T_PTR:
			dec_buf_put(b, "\"0x", 3);
			dec_buf_took(b, dec_put_hex(dec_buf_room(b, DEC_INT_ROOM), (uint64_t)v.u));
			dec_buf_chr(b, '"');
			break;
		default:
			neg = (v.type == BINLOG_T_I32 || v.type == BINLOG_T_I64 ||
			       v.type == BINLOG_T_I128) &&
			      v.u >> 127;
			put_int(b, neg, neg ? -v.u : v.u);
		}
		dec_buf_chr(b, '}');
	}
	dec_buf_chr(b, ']');
}
