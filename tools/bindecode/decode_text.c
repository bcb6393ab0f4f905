/* SPDX-License-Identifier: MIT */
/* Runs a compiled format over the arguments of a record. */
#include "binlog/format.h"
#include "tools/bindecode/decode_float.h"
#include "tools/bindecode/decode_int.h"
#include "tools/bindecode/decode_op.h"

static inline uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return binlog_le32(v);
}

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return binlog_le64(v);
}

/* Width and precision with their arguments looked up. */
struct field {
	unsigned flags;
	int width;
	int prec; /* -1: none */
};

static bool resolve_field(const struct dec_spec *spec, const struct dec_site *s,
			  const struct dec_world *w, const uint8_t *p, struct field *ret)
{
	struct dec_value v;

	*ret = (struct field){.flags = spec->flags, .prec = -1};
	if (spec->width_arg == SPEC_CONST) {
		ret->width = spec->width;
	} else if (spec->width_arg >= 0) {
		dec_site_value(s, w, p, (uint32_t)spec->width_arg, &v);
		ret->width = (int)v.u;
		if (ret->width < 0) {
			ret->flags |= SPEC_MINUS;
			ret->width = (int)-(unsigned)ret->width;
		}
	}
	if (spec->prec_arg == SPEC_CONST) {
		ret->prec = spec->prec;
	} else if (spec->prec_arg >= 0) {
		dec_site_value(s, w, p, (uint32_t)spec->prec_arg, &v);
		ret->prec = (int)v.u < 0 ? -1 : (int)v.u;
	}
	return ret->width >= 0 && ret->width <= SPEC_WIDTH_MAX && ret->prec <= SPEC_WIDTH_MAX;
}

static void put_int(struct dec_buf *b, const struct dec_spec *spec, const struct field *f,
		    const struct dec_world *w, const struct dec_value *v)
{
	bool is_signed = spec->conv == 'd' || spec->conv == 'i';
	unsigned bits = spec->bits ? spec->bits : w->long_bits;
	unsigned __int128 u = v->u;
	bool neg = false;

	/* With ll all bits of an __int128, the writer's extension; else as printf's va_arg(). */
	if (spec->ldbl && (v->type == BINLOG_T_I128 || v->type == BINLOG_T_U128))
		bits = 128;
	u <<= 128 - bits;
	if (is_signed) {
		neg = u >> 127;
		u = (unsigned __int128)((__int128)u >> (128 - bits));
		u = neg ? -u : u;
	} else {
		u >>= 128 - bits;
	}
	struct dec_spec with = *spec;

	with.flags = (uint8_t)f->flags;
	dec_int_put(b, &with, f->width, f->prec, neg, u);
}

static void put_float(struct dec_buf *b, const struct dec_spec *spec, const struct field *f,
		      const struct dec_world *w, const struct dec_value *v)
{
	struct dec_spec with = *spec;
	struct dec_float x;

	with.flags = (uint8_t)f->flags;
	if (v->type == BINLOG_T_F64)
		x = dec_float_f64((uint64_t)v->u);
	else if (!dec_float_ldbl(w->ldbl, v->raw, &x))
		return;
	dec_float_put(b, &with, f->width, f->prec, &x);
}

static bool put_string(struct dec_buf *b, const struct field *f, const struct dec_value *v)
{
	uint32_t len = v->len;

	if (v->bad)
		return false;
	if (v->null) {
		len = f->prec < 0 || f->prec >= 6 ? 6 : 0;
		dec_bytes_put(b, f->flags, f->width, "(null)", len);
		return true;
	}
	/* A wide string was cut by its writer, at a whole character. */
	if (v->type == BINLOG_T_STR && f->prec >= 0 && (uint32_t)f->prec < len)
		len = (uint32_t)f->prec;
	dec_bytes_put(b, f->flags, f->width, v->text, len);
	return true;
}

static void put_errno(struct dec_buf *b, const struct dec_spec *spec, const struct field *f,
		      const struct dec_world *w, int errnum)
{
	char tmp[40];
	const char *text = NULL;
	size_t len;

	if (spec->flags & SPEC_ALT) { /* %#m, glibc 2.35: the name, or the number */
		text = strerrorname_np(errnum);
		if (!text) {
			struct dec_spec num = {.conv = 'd', .flags = (uint8_t)f->flags};

			num.flags &= (uint8_t)~SPEC_ALT;
			dec_int_put(b, &num, f->width, f->prec, errnum < 0,
				    errnum < 0 ? -(unsigned __int128)(__int128)errnum
					       : (unsigned)errnum);
			return;
		}
	} else {
		text = dec_errno_text(w, errnum, tmp);
	}
	len = strlen(text);
	if (f->prec >= 0 && (size_t)f->prec < len)
		len = (size_t)f->prec;
	dec_bytes_put(b, f->flags, f->width, text, len);
}

bool dec_op_put(struct dec_buf *b, const struct dec_op *op, const struct dec_site *s,
		const struct dec_world *w, const uint8_t *p)
{
	struct dec_value v;
	struct dec_spec with;
	struct field f;
	char c;

	if (!resolve_field(&op->spec, s, w, p, &f))
		return false;
	if (op->kind == OP_ERRNO) {
		put_errno(b, &op->spec, &f, w, dec_site_errno(s, p));
		return true;
	}
	dec_site_value(s, w, p, (uint32_t)op->spec.arg, &v);
	switch (op->kind) {
	case OP_INT:
		put_int(b, &op->spec, &f, w, &v);
		break;
	case OP_CHAR:
		c = (char)v.u;
		dec_bytes_put(b, f.flags, f.width, &c, 1);
		break;
	case OP_PTR:
		with = op->spec;
		with.flags = (uint8_t)f.flags;
		dec_ptr_put(b, &with, f.width, f.prec, (uint64_t)v.u);
		break;
	case OP_FLOAT:
		put_float(b, &op->spec, &f, w, &v);
		break;
	case OP_STRING:
	case OP_FIELD:
		return put_string(b, &f, &v);
	}
	return true;
}

/* Where the texts of a record lie, found in order as they are asked for. */
struct texts {
	uint32_t next;
	const uint8_t *at;
};

static inline const uint8_t *find_text(struct texts *t, const struct dec_site *s, const uint8_t *p,
				       uint32_t slot)
{
	if (slot < t->next) {
		t->next = 0;
		t->at = p + s->fixed;
	}
	for (; t->next < slot; t->next++) {
		uint32_t len = load32(p + s->slots[t->next]);

		t->at += len < BINLOG_STR_SPECIAL ? len : 0;
	}
	return t->at;
}

/* Memory is for many records: no single one gets all of it. */
static bool refuse_bloated(struct dec_buf *b, size_t start)
{
	b->len = start;
	dec_buf_str(b, "(a text of more than 16 MiB, by the widths in its format)\n");
	return false;
}

static inline char *put_alt_hex(char *p, uint64_t v)
{
	if (v) {
		memcpy(p, "0x", 2);
		p += 2;
	}
	return dec_put_hex(p, v);
}

/* Its widths, or a string that it prints many times, make more of a record than there is in it. */
static bool is_bloated(uint64_t len, const struct dec_site *s, const uint8_t *p)
{
	uint64_t texts = 0;

	if (len <= DEC_TEXT_MAX)
		return false;
	for (uint32_t i = 0; i < s->nslots; i++) {
		uint32_t slot = load32(p + s->slots[i]);

		texts += slot < BINLOG_STR_SPECIAL ? slot : 0;
	}
	return len > DEC_TEXT_MAX + 4 * texts;
}

bool dec_site_text(struct dec_buf *b, const struct dec_site *s, const struct dec_world *w,
		   const uint8_t *p)
{
	struct texts t = {.at = p + s->fixed};
	size_t start = b->len;

	for (const struct dec_op *op = s->ops, *end = op + s->nops; op < end; op++) {
		uint32_t slot;
		char *q;

		dec_buf_put_short(b, op->text, op->len);
		q = dec_buf_room(b, DEC_INT_ROOM);
		switch (op->kind) {
		case OP_END:
			break;
		case OP_I32:
			dec_buf_took(b, dec_put_i64(q, (int32_t)load32(p + op->off)));
			break;
		case OP_U32:
			dec_buf_took(b, dec_put_u64(q, load32(p + op->off)));
			break;
		case OP_I64:
			dec_buf_took(b, dec_put_i64(q, (int64_t)load64(p + op->off)));
			break;
		case OP_U64:
			dec_buf_took(b, dec_put_u64(q, load64(p + op->off)));
			break;
		case OP_X32:
			dec_buf_took(b, dec_put_hex(q, load32(p + op->off)));
			break;
		case OP_X64:
			dec_buf_took(b, dec_put_hex(q, load64(p + op->off)));
			break;
		case OP_ALT_X32:
			dec_buf_took(b, put_alt_hex(q, load32(p + op->off)));
			break;
		case OP_ALT_X64:
			dec_buf_took(b, put_alt_hex(q, load64(p + op->off)));
			break;
		case OP_STRING:
			slot = load32(p + op->off);
			if (slot < BINLOG_STR_SPECIAL) {
				dec_buf_put(b, find_text(&t, s, p, op->slot), slot);
				if (is_bloated(b->len - start, s, p))
					return refuse_bloated(b, start);
				break;
			}
			/* fall through */
		default:
			if (!dec_op_put(b, op, s, w, p))
				return false;
			if (is_bloated(b->len - start, s, p))
				return refuse_bloated(b, start);
		}
	}
	return true;
}
