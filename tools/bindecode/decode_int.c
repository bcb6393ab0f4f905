/* SPDX-License-Identifier: MIT */
/* Integers and strings in a field, as printf does it. */
#include "tools/bindecode/decode_int.h"

const char dec_pairs[200] = "0001020304050607080910111213141516171819"
			    "2021222324252627282930313233343536373839"
			    "4041424344454647484950515253545556575859"
			    "6061626364656667686970717273747576777879"
			    "8081828384858687888990919293949596979899";

enum { DIGITS_MAX = 128 + 2 }; /* %B of 128 bits */

/* Writes the digits of @v so that they end at @end; returns their start. */
static char *digits(char *end, unsigned __int128 v, char conv)
{
	const char *hex = conv == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	unsigned shift = 0;
	char *p = end;

	switch (conv) {
	case 'x':
	case 'X':
	case 'p':
		shift = 4;
		break;
	case 'o':
		shift = 3;
		break;
	case 'b':
	case 'B':
		shift = 1;
		break;
	}
	if (shift) {
		for (; v; v >>= shift)
			*--p = hex[(unsigned)v & ((1u << shift) - 1)];
		return p;
	}
	for (; v >> 64; v /= 100) {
		p -= 2;
		memcpy(p, dec_pairs + 2 * (unsigned)(v % 100), 2);
	}
	for (uint64_t w = (uint64_t)v; w; w /= 10)
		*--p = (char)('0' + w % 10);
	return p;
}

void dec_int_put(struct dec_buf *b, const struct dec_spec *s, int width, int prec, bool neg,
		 unsigned __int128 v)
{
	char tmp[DIGITS_MAX];
	char *end = tmp + sizeof(tmp);
	char *p = digits(end, v, s->conv);
	char prefix[3];
	int nprefix = 0;
	int n = (int)(end - p);
	int zeros = prec < 0 ? (n ? 0 : 1) : prec > n ? prec - n : 0;
	int fill;

	if (s->conv == 'd' || s->conv == 'i' || s->conv == 'p') {
		if (neg)
			prefix[nprefix++] = '-';
		else if (s->flags & (SPEC_PLUS | SPEC_SPACE))
			prefix[nprefix++] = s->flags & SPEC_PLUS ? '+' : ' ';
	}
	if (s->flags & SPEC_ALT && s->conv == 'o') {
		zeros = zeros ? zeros : 1;
	} else if (s->flags & SPEC_ALT && v && s->conv != 'd' && s->conv != 'i' && s->conv != 'u') {
		prefix[nprefix++] = '0';
		prefix[nprefix++] = s->conv == 'p' ? 'x' : s->conv;
	}
	fill = width - nprefix - zeros - n;
	if (fill > 0 && !(s->flags & SPEC_MINUS)) {
		if (s->flags & SPEC_ZERO && prec < 0)
			zeros += fill;
		else
			dec_buf_fill(b, ' ', (size_t)fill);
	}
	dec_buf_put(b, prefix, (size_t)nprefix);
	if (zeros)
		dec_buf_fill(b, '0', (size_t)zeros);
	dec_buf_put(b, p, (size_t)n);
	if (fill > 0 && s->flags & SPEC_MINUS)
		dec_buf_fill(b, ' ', (size_t)fill);
}

void dec_ptr_put(struct dec_buf *b, const struct dec_spec *s, int width, int prec, uint64_t v)
{
	struct dec_spec hex = *s;

	if (!v) {
		dec_bytes_put(b, s->flags, width, "(nil)", 5);
		return;
	}
	/* glibc prints a pointer as a signed number in hexadecimal: %+p has a plus. */
	hex.flags |= SPEC_ALT;
	dec_int_put(b, &hex, width, prec, false, v);
}

void dec_bytes_put(struct dec_buf *b, unsigned flags, int width, const char *p, size_t n)
{
	size_t fill = width > 0 && (size_t)width > n ? (size_t)width - n : 0;

	if (fill && !(flags & SPEC_MINUS))
		dec_buf_fill(b, ' ', fill);
	dec_buf_put(b, p, n);
	if (fill && flags & SPEC_MINUS)
		dec_buf_fill(b, ' ', fill);
}
