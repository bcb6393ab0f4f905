/* SPDX-License-Identifier: MIT */
/* Turns a format and the types of its arguments into steps. */
#include <errno.h>

#include "binlog/format.h"
#include "tools/bindecode/decode_op.h"

struct compiler {
	struct dec_site *site;
	const struct dec_world *world;
	struct dec_buf text; /* not yet in a step */
	uint32_t cap;
	int next_arg;
	bool oom;
};

/* Ends the pending text with a step of @kind. */
static struct dec_op *add_op(struct compiler *c, enum dec_op_kind kind)
{
	struct dec_site *s = c->site;
	struct dec_op *op;
	char *text;

	if (s->nops == c->cap) {
		c->cap = c->cap ? 2 * c->cap : 4;
		op = realloc(s->ops, c->cap * sizeof(*op));
		if (!op) {
			c->oom = true;
			return NULL;
		}
		s->ops = op;
	}
	op = &s->ops[s->nops];
	*op = (struct dec_op){.kind = kind, .len = (uint32_t)c->text.len};
	text = realloc(c->text.p, c->text.len + DEC_BUF_SLACK);
	op->text = text ? text : c->text.p;
	s->nops++;
	c->oom |= c->text.oom || !text;
	dec_buf_init(&c->text);
	return op;
}

static bool is_int(unsigned type)
{
	switch (type) {
	case BINLOG_T_I32:
	case BINLOG_T_U32:
	case BINLOG_T_I64:
	case BINLOG_T_U64:
	case BINLOG_T_I128:
	case BINLOG_T_U128:
	case BINLOG_T_PTR:
		return true;
	default:
		return false;
	}
}

static bool is_32(unsigned type)
{
	return type == BINLOG_T_I32 || type == BINLOG_T_U32;
}

/* Gives @arg its number if it is SPEC_NEXT; false: there is no such argument. */
static bool resolve(struct compiler *c, int *arg)
{
	if (*arg == SPEC_NEXT)
		*arg = c->next_arg++;
	return *arg >= 0 && (uint32_t)*arg < c->site->nargs;
}

/* Which step prints @s, or why none does. */
static const char *kind_of(const struct compiler *c, const struct dec_spec *s,
			   enum dec_op_kind *ret)
{
	unsigned type = s->conv == 'm' ? 0 : c->site->args[s->arg].type;

	switch (s->conv) {
	case 'm':
		*ret = OP_ERRNO;
		return c->site->flags & BINLOG_S_ERRNO ? NULL : "%m without errno in the record";
	case 'n':
		*ret = OP_NOTHING;
		return NULL;
	case 'c':
		*ret = type == BINLOG_T_WIDE ? OP_FIELD : OP_CHAR;
		return type == BINLOG_T_WIDE || is_int(type) ? NULL : "%c without a character";
	case 's':
		*ret = OP_FIELD;
		return type == BINLOG_T_WIDE || type == BINLOG_T_STR ? NULL : "%s without a string";
	case 'p':
		*ret = OP_PTR;
		return is_int(type) ? NULL : "%p without a pointer";
	case 'd':
	case 'i':
	case 'o':
	case 'u':
	case 'x':
	case 'X':
	case 'b':
	case 'B':
		*ret = OP_INT;
		return is_int(type) ? NULL : "an integer conversion without an integer";
	default:
		*ret = OP_FLOAT;
		if (type == BINLOG_T_LDBL)
			return c->world->ldbl >= BINLOG_LDBL_F64 && c->world->ldbl <= BINLOG_LDBL_DD
				       ? NULL
				       : "a long double of an unknown form";
		return type == BINLOG_T_F64 ? NULL : "a floating-point conversion without a number";
	}
}

/* Narrows OP_INT and OP_FIELD to a plain step where the specification asks for nothing else. */
static enum dec_op_kind plain_kind(const struct compiler *c, const struct dec_spec *s,
				   enum dec_op_kind kind)
{
	const struct dec_arg *a = &c->site->args[s->arg];
	unsigned bits = s->bits ? s->bits : c->world->long_bits;

	if (s->flags & ~SPEC_ALT || s->width_arg != SPEC_NONE || s->prec_arg != SPEC_NONE ||
	    (s->flags && s->conv != 'x'))
		return kind;
	if (kind == OP_FIELD)
		return OP_STRING;
	if (a->type == BINLOG_T_I128 || a->type == BINLOG_T_U128)
		return kind;
	/* The low half of a longer argument comes first, so 32 bits may be read from either. */
	if (bits != 32 && (bits != 64 || is_32(a->type)))
		return kind;
	switch (s->conv) {
	case 'd':
	case 'i':
		return bits == 32 ? OP_I32 : OP_I64;
	case 'u':
		return bits == 32 ? OP_U32 : OP_U64;
	case 'x':
		if (s->flags)
			return bits == 32 ? OP_ALT_X32 : OP_ALT_X64;
		return bits == 32 ? OP_X32 : OP_X64;
	default:
		return kind;
	}
}

static bool is_literal(const struct compiler *c, int arg)
{
	return arg < 0 || c->site->args[arg].literal;
}

static const char *convert(struct compiler *c, struct dec_spec *s)
{
	struct dec_site *site = c->site;
	enum dec_op_kind kind = OP_NOTHING;
	const char *why = NULL;
	struct dec_op *op;

	if ((s->width_arg == SPEC_CONST && s->width > SPEC_WIDTH_MAX) ||
	    (s->prec_arg == SPEC_CONST && s->prec > SPEC_WIDTH_MAX))
		why = "a width or precision beyond belief";
	if (s->width_arg != SPEC_NONE && s->width_arg != SPEC_CONST &&
	    (!resolve(c, &s->width_arg) || !is_int(site->args[s->width_arg].type)))
		why = "no integer for a width";
	if (s->prec_arg != SPEC_NONE && s->prec_arg != SPEC_CONST &&
	    (!resolve(c, &s->prec_arg) || !is_int(site->args[s->prec_arg].type)))
		why = "no integer for a precision";
	if (s->conv == 'm')
		s->arg = -1;
	else if (!resolve(c, &s->arg))
		return "more conversions than arguments";
	if (!why)
		why = kind_of(c, s, &kind);
	if (why)
		return why;
	if (kind != OP_ERRNO && is_literal(c, s->arg) && is_literal(c, s->width_arg) &&
	    is_literal(c, s->prec_arg)) {
		struct dec_op now = {.kind = kind, .spec = *s};

		return dec_op_put(&c->text, &now, site, c->world, NULL)
			       ? NULL
			       : "a width or precision beyond belief";
	}
	if ((kind == OP_INT || kind == OP_FIELD) && !is_literal(c, s->arg))
		kind = plain_kind(c, s, kind);
	op = add_op(c, kind);
	if (op) {
		op->spec = *s;
		op->spec.end = NULL;
		op->off = s->arg >= 0 ? site->args[s->arg].off : 0;
		op->slot = s->arg >= 0 ? site->args[s->arg].slot : 0;
	}
	return NULL;
}

int dec_site_compile(struct dec_site *s, const struct dec_world *w)
{
	struct compiler c = {.site = s, .world = w};
	const char *end = s->fmt + strlen(s->fmt);
	const char *p = s->fmt;

	dec_buf_init(&c.text);
	while (p < end && !c.oom) {
		const char *percent = memchr(p, '%', (size_t)(end - p));
		const char *why = NULL;
		struct dec_spec spec;

		dec_buf_put(&c.text, p, (size_t)((percent ? percent : end) - p));
		if (!percent)
			break;
		p = percent + 1;
		if (!dec_spec_parse(p, end, &spec)) {
			spec.conv = 0;
			why = "a conversion that printf does not have";
		} else if (spec.conv == '%') {
			dec_buf_chr(&c.text, '%');
		} else {
			why = convert(&c, &spec);
		}
		if (why) {
			s->fault = s->fault ? s->fault : why;
			dec_buf_put(&c.text, percent, (size_t)(spec.end - percent));
		}
		p = spec.end;
	}
	if (c.text.len || c.text.oom)
		add_op(&c, OP_END);
	dec_buf_deinit(&c.text);
	return c.oom ? -ENOMEM : 0;
}
