/* SPDX-License-Identifier: MIT */
/* Reads one printf conversion, in the dialect of glibc. */
#include "tools/bindecode/decode_spec.h"

/* A decimal number; -1: none there; never above SPEC_WIDTH_MAX + 1. */
static int number(const char **p, const char *end)
{
	int v = -1;

	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++) {
		v = (v < 0 ? 0 : v) * 10 + (**p - '0');
		if (v > SPEC_WIDTH_MAX)
			v = SPEC_WIDTH_MAX + 1;
	}
	return v;
}

/* `n$`: the argument's number from 0; SPEC_NEXT and @p unmoved if it is not there. */
static int position(const char **p, const char *end)
{
	const char *q = *p;
	int n = number(&q, end);

	if (n < 1 || q == end || *q != '$')
		return SPEC_NEXT;
	*p = q + 1;
	return n - 1;
}

static const char *flags(const char *p, const char *end, struct dec_spec *s)
{
	for (; p < end; p++) {
		switch (*p) {
		case '-':
			s->flags |= SPEC_MINUS;
			break;
		case '+':
			s->flags |= SPEC_PLUS;
			break;
		case ' ':
			s->flags |= SPEC_SPACE;
			break;
		case '#':
			s->flags |= SPEC_ALT;
			break;
		case '0':
			s->flags |= SPEC_ZERO;
			break;
		case '\'':
			s->flags |= SPEC_GROUP;
			break;
		case 'I': /* other digits: nothing in the C locale */
			break;
		default:
			return p;
		}
	}
	return p;
}

static const char *size(const char *p, const char *end, struct dec_spec *s)
{
	bool more = end - p > 1;
	int n;

	s->bits = 32;
	if (p == end)
		return p;
	switch (*p) {
	case 'h':
		s->bits = more && p[1] == 'h' ? 8 : 16;
		return p + (s->bits == 8 ? 2 : 1);
	case 'l':
		if (more && p[1] == 'l') {
			s->bits = 64;
			s->ldbl = true;
			return p + 2;
		}
		s->bits = 0;
		s->wide = true;
		return p + 1;
	case 'L':
	case 'q':
		s->bits = 64;
		s->ldbl = true;
		return p + 1;
	case 'j':
		s->bits = 64;
		return p + 1;
	case 'z':
	case 'Z':
	case 't':
		s->bits = 0;
		return p + 1;
	case 'w': /* C23: wN and wfN */
		p += more && p[1] == 'f' ? 2 : 1;
		n = number(&p, end);
		if (n != 8 && n != 16 && n != 32 && n != 64)
			return NULL;
		s->bits = p[-1] == '8' || p[-1] == '6' || p[-1] == '2' || p[-1] == '4' ? n : 0;
		return p;
	default:
		return p;
	}
}

bool dec_spec_parse(const char *p, const char *end, struct dec_spec *ret)
{
	const char *start = p;
	const char *q;

	*ret = (struct dec_spec){.width_arg = SPEC_NONE, .prec_arg = SPEC_NONE, .end = p};
	ret->arg = position(&p, end);
	p = flags(p, end, ret);
	if (p < end && *p == '*') {
		p++;
		ret->width_arg = position(&p, end);
	} else if ((ret->width = number(&p, end)) >= 0) {
		ret->width_arg = SPEC_CONST;
	}
	if (p < end && *p == '.') {
		p++;
		if (p < end && *p == '*') {
			p++;
			ret->prec_arg = position(&p, end);
		} else {
			ret->prec = number(&p, end);
			ret->prec_arg = SPEC_CONST;
			if (ret->prec < 0)
				ret->prec = 0;
		}
	}
	q = size(p, end, ret);
	if (!q || q == end) {
		ret->end = q ? q : start;
		return false;
	}
	ret->conv = *q;
	ret->end = q + 1;
	if (*q == 'C' || *q == 'S') {
		ret->conv = *q == 'C' ? 'c' : 's';
		ret->wide = true;
	}
	for (const char *known = "diouxXbBcspmneEfFgGaA%"; *known; known++) {
		if (*known == ret->conv)
			return true;
	}
	ret->conv = 0;
	return false;
}
