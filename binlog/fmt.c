/* SPDX-License-Identifier: MIT */
/* Printf formats taken apart: which argument is printed by which conversion. */
#include "binlog/internal.h" /* first */

#include <errno.h>
#include <limits.h>
#include <string.h>

static int number(const char **p)
{
	int v = 0;

	while (**p >= '0' && **p <= '9') {
		if (v < INT_MAX / 10 - 10)
			v = v * 10 + (**p - '0');
		(*p)++;
	}
	return v;
}

/* "12$" yields 11 and moves on; -1: no position here. */
static int position(const char **p)
{
	const char *q = *p;
	int v = number(&q);

	if (q == *p || *q != '$' || v < 1)
		return -1;
	*p = q + 1;
	return v - 1;
}

/* Behind a '*': the argument that holds the number. */
static int star(const char **p, struct conv_iter *it)
{
	int pos;

	(*p)++;
	pos = position(p);
	return pos >= 0 ? pos : it->arg++;
}

static char length(const char **p)
{
	char c = **p;

	switch (c) {
	case 'h':
	case 'l':
		(*p)++;
		if (**p != c)
			return c;
		(*p)++;
		return c == 'h' ? 'H' : 'q';
	case 'q':
	case 'j':
	case 'z':
	case 't':
	case 'L':
		(*p)++;
		return c;
	case 'Z':
		(*p)++;
		return 'z';
	default:
		return 0;
	}
}

bool binlog_conv_next(struct conv_iter *it, struct conv *ret)
{
	const char *p = strchr(it->next, '%');
	unsigned nflags = 0;

	if (!p)
		return false;
	*ret = (struct conv){.start = p++, .arg = -1, .width_arg = -1, .prec_arg = -1};
	ret->width = -1;
	ret->prec = -1;
	int pos = position(&p);

	for (; *p && strchr("#0- +'I", *p); p++)
		if (nflags < sizeof(ret->flags) - 1)
			ret->flags[nflags++] = *p;
	if (*p == '*')
		ret->width_arg = star(&p, it);
	else if (*p >= '1' && *p <= '9')
		ret->width = number(&p);
	if (*p == '.') {
		p++;
		if (*p == '*') {
			ret->prec_arg = star(&p, it);
		} else {
			bool minus = *p == '-'; /* as if there were no precision */

			p += minus;
			ret->prec = number(&p);
			if (minus)
				ret->prec = -1;
		}
	}
	ret->length = length(&p);
	ret->letter = *p;
	if (*p == 'S' || *p == 'C') {
		ret->letter = *p == 'S' ? 's' : 'c';
		ret->length = 'l';
	}
	if (*p)
		p++;
	if (ret->letter && strchr("dioubBxXeEfFgGaAcspn", ret->letter))
		ret->arg = pos >= 0 ? pos : it->arg++;
	ret->end = p;
	it->next = p;
	return true;
}

static void use_str(struct binlog_arg *a, const struct conv *c, bool again)
{
	bool wide = c->length == 'l';
	unsigned type = a->type & ~(unsigned)BINLOG_T_LITERAL;

	if (type != BINLOG_T_STR && type != BINLOG_T_PTR)
		return; /* the compiler has warned */
	if (again && a->use != BINLOG_USE_POINTER) {
		/* Printed twice (%1$s): the more generous precision counts. */
		if (c->prec < 0 || (a->prec >= 0 && c->prec > a->prec))
			a->prec = c->prec;
		if (c->prec_arg < 0)
			a->star = -1;
		return;
	}
	a->prec = c->prec;
	a->star = (int16_t)c->prec_arg;
	if (wide)
		a->use = BINLOG_USE_WSTR;
	else if (type == BINLOG_T_PTR || c->prec >= 0 || c->prec_arg >= 0)
		a->use = BINLOG_USE_STR;
	else
		a->use = BINLOG_USE_VALUE;
}

unsigned binlog_plan(const char *fmt, struct binlog_arg *args, unsigned nargs)
{
	struct conv_iter it = {.next = fmt};
	uint64_t seen = 0;
	unsigned plan = 0;
	struct conv c;

	for (unsigned i = 0; i < nargs; i++) {
		args[i].use = BINLOG_USE_VALUE;
		args[i].prec = -1;
		args[i].star = -1;
	}
	while (binlog_conv_next(&it, &c)) {
		if (c.letter == 'm')
			plan |= BINLOG_PLAN_ERRNO;
		if (c.arg < 0 || (unsigned)c.arg >= nargs)
			continue;
		struct binlog_arg *a = &args[c.arg];
		bool again = seen >> c.arg & 1;

		if (c.prec_arg >= (int)nargs)
			c.prec_arg = -1;
		seen |= 1ull << c.arg;
		if (c.letter == 's')
			use_str(a, &c, again);
		else if (c.letter == 'c' && c.length == 'l' && !again)
			a->use = BINLOG_USE_WCHAR;
		else if (c.letter == 'n' && !again)
			a->use = BINLOG_USE_NOTHING;
		else if (c.letter == 'p' && !again &&
			 (a->type & ~(unsigned)BINLOG_T_LITERAL) == BINLOG_T_STR)
			a->use = BINLOG_USE_POINTER;
	}
	return plan;
}

static uint8_t type_of(const struct conv *c)
{
	bool wide = c->length && strchr("lqjzt", c->length);

	switch (c->letter) {
	case 'd':
	case 'i':
		return wide ? BINLOG_T_I64 : BINLOG_T_I32;
	case 'c':
		return BINLOG_T_I32;
	case 's':
		return c->length == 'l' ? BINLOG_T_PTR : BINLOG_T_STR;
	case 'p':
	case 'n':
		return BINLOG_T_PTR;
	case 'o':
	case 'u':
	case 'b':
	case 'B':
	case 'x':
	case 'X':
		return wide ? BINLOG_T_U64 : BINLOG_T_U32;
	default:
		return c->length == 'L' ? BINLOG_T_LDBL : BINLOG_T_F64;
	}
}

int binlog_types_of(const char *fmt, struct binlog_arg *args, unsigned max)
{
	struct conv_iter it = {.next = fmt};
	struct conv c;
	int n = 0;

	for (unsigned i = 0; i < max; i++)
		args[i] = (struct binlog_arg){.type = BINLOG_T_I32, .star = -1, .prec = -1};
	while (binlog_conv_next(&it, &c)) {
		const int used[3] = {c.arg, c.width_arg, c.prec_arg};

		for (int i = 0; i < 3; i++) {
			if (used[i] >= (int)max)
				return -EINVAL;
			if (used[i] >= n)
				n = used[i] + 1;
		}
		if (c.arg >= 0)
			args[c.arg].type = type_of(&c);
	}
	return n;
}
