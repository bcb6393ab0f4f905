/* SPDX-License-Identifier: MIT */
/* Floating point to text as printf does it, digit for digit. */
#include <assert.h>

#include "binlog/format.h"
#include "tools/bindecode/decode_float.h"

/*
 * The longest expansion is that of binary128's smallest numbers: 113 bits * 5^16494 has 11564
 * digits in 1285 limbs of nine.
 */
enum { LIMB = 1000000000, NLIMBS = 1290, NDIGITS = NLIMBS * 9 + 16 };

/* 0.d[0]d[1]... * 10^point, no leading zero; n 0: zero. */
struct digits {
	int n;
	int point;
	char d[NDIGITS];
};

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return binlog_le64(v);
}

struct dec_float dec_float_f64(uint64_t bits)
{
	struct dec_float f = {.neg = bits >> 63, .frac_bits = 52};
	unsigned exp = bits >> 52 & 0x7ff;

	f.lo = bits & ((1ULL << 52) - 1);
	if (exp == 0x7ff)
		f.class = f.lo ? DEC_NAN : DEC_INF;
	if (exp)
		f.lo |= 1ULL << 52;
	f.exp = (int)(exp ? exp : 1) - 1075;
	return f;
}

static struct dec_float from_x87(const uint8_t *p)
{
	unsigned top = p[8] | p[9] << 8;
	struct dec_float f = {.neg = top >> 15, .lo = load64(p), .frac_bits = 60};
	unsigned exp = top & 0x7fff;

	/* Without the integer bit it is an "unnormal", invalid since the 80387: printed as nan. */
	if (exp == 0x7fff && f.lo == 1ULL << 63)
		f.class = DEC_INF;
	else if (exp == 0x7fff || (exp && !(f.lo >> 63)))
		f.class = DEC_NAN;
	f.exp = (int)(exp ? exp : 1) - 16383 - 63;
	return f;
}

static struct dec_float from_f128(const uint8_t *p)
{
	struct dec_float f = {.lo = load64(p), .hi = load64(p + 8), .frac_bits = 112};
	unsigned exp = f.hi >> 48 & 0x7fff;

	f.neg = f.hi >> 63;
	f.hi &= (1ULL << 48) - 1;
	if (exp == 0x7fff)
		f.class = f.hi | f.lo ? DEC_NAN : DEC_INF;
	if (exp)
		f.hi |= 1ULL << 48;
	f.exp = (int)(exp ? exp : 1) - 16383 - 112;
	return f;
}

/*
 * Two doubles. glibc on ppc64 keeps 60 bits of the smaller one below the 53 of the larger one; %a
 * prints all of them, the decimal conversions 53. The same here, or the last digits would differ.
 */
static struct dec_float from_dd(const uint8_t *p)
{
	struct dec_float big = dec_float_f64(load64(p));
	struct dec_float small = dec_float_f64(load64(p + 8));
	/* The unit of the sum is 2^(big.exp - 60); @low's own is 2^(small.exp - 7). */
	int shift = (big.exp - 60) - (small.exp - 7);
	uint64_t low = small.lo << 7;
	__int128 sum;

	big.frac_bits = 112;
	big.guard_bits = 7;
	if (big.class != DEC_FINITE)
		return big;
	if (shift >= 64)
		low = 0;
	else if (shift > 0)
		low >>= shift;
	else if (shift > -64)
		low <<= -shift;
	sum = (__int128)big.lo << 60;
	sum += big.neg == small.neg ? (__int128)low : -(__int128)low;
	big.exp -= 60;
	/* A power of two less something: keep the leading digit of %a a one. */
	if (sum >> 112 == 0 && sum && big.lo >> 52) {
		sum <<= 1;
		big.exp--;
	}
	big.hi = (uint64_t)(sum >> 64);
	big.lo = (uint64_t)sum;
	return big;
}

bool dec_float_ldbl(int form, const uint8_t *p, struct dec_float *ret)
{
	switch (form) {
	case BINLOG_LDBL_F64:
		*ret = dec_float_f64(load64(p));
		return true;
	case BINLOG_LDBL_X87:
		*ret = from_x87(p);
		return true;
	case BINLOG_LDBL_F128:
		*ret = from_f128(p);
		return true;
	case BINLOG_LDBL_DD:
		*ret = from_dd(p);
		return true;
	default:
		return false;
	}
}

/* limbs *= m, least significant first. Returns their new number. */
static int multiply(uint32_t *limbs, int n, uint32_t m)
{
	uint64_t carry = 0;

	for (int i = 0; i < n; i++) {
		carry += (uint64_t)limbs[i] * m;
		limbs[i] = (uint32_t)(carry % LIMB);
		carry /= LIMB;
	}
	for (; carry; carry /= LIMB) {
		assert(n < NLIMBS);
		limbs[n++] = (uint32_t)(carry % LIMB);
	}
	return n;
}

static uint32_t power(uint32_t base, int n)
{
	uint32_t p = 1;

	while (n-- > 0)
		p *= base;
	return p;
}

/* All decimal digits of hi:lo * 2^exp: exact, since a negative power of two is 5^n / 10^n. */
static void expand(const struct dec_float *f, struct digits *ret)
{
	unsigned __int128 m = ((unsigned __int128)f->hi << 64 | f->lo) >> f->guard_bits;
	int exp = f->exp + f->guard_bits;
	bool below = exp < 0;
	uint32_t base = below ? 5 : 2;
	int step = below ? 13 : 31; /* the most that 32 bits hold */
	uint32_t limbs[NLIMBS];
	char *d = ret->d;
	int n = 0;

	for (; m && exp < 0 && !(m & 1); exp++)
		m >>= 1;
	ret->point = exp < 0 ? exp : 0;
	exp = below ? -exp : exp;
	for (; m; m /= LIMB)
		limbs[n++] = (uint32_t)(m % LIMB);
	for (; n && exp > 0; exp -= step)
		n = multiply(limbs, n, power(base, exp < step ? exp : step));
	for (int i = n - 1; i >= 0; i--) {
		for (int k = 8; k >= 0; k--, limbs[i] /= 10)
			d[k] = (char)('0' + limbs[i] % 10);
		d += 9;
	}
	ret->n = (int)(d - ret->d);
	ret->point += ret->n;
	for (d = ret->d; ret->n && *d == '0'; d++, ret->n--, ret->point--)
		;
	memmove(ret->d, d, (size_t)ret->n);
}

/* Keeps @keep digits, rounding half to even; @keep may be below zero. */
static void round_to(struct digits *x, int64_t keep)
{
	bool up;
	int i;

	if (keep >= x->n)
		return;
	if (keep < 0) {
		x->n = 0;
		return;
	}
	i = (int)keep;
	up = x->d[i] > '5';
	if (x->d[i] == '5') {
		up = keep > 0 && (x->d[keep - 1] & 1);
		for (int k = i + 1; k < x->n && !up; k++)
			up = x->d[k] != '0';
	}
	x->n = i;
	while (up && i > 0 && x->d[i - 1] == '9')
		x->d[--i] = '0';
	if (up && i > 0) {
		x->d[i - 1]++;
	} else if (up) { /* 9.99 became 10.0 */
		memmove(x->d + 1, x->d, (size_t)x->n);
		x->d[0] = '1';
		x->point++;
		x->n = x->n ? x->n : 1;
	}
}

/* @n digits from the @from-th on, zeros where there are none. */
static void put_digits(struct dec_buf *b, const struct digits *x, int64_t from, int64_t n)
{
	int64_t k;

	if (from < 0) {
		k = -from < n ? -from : n;
		dec_buf_fill(b, '0', (size_t)k);
		from += k;
		n -= k;
	}
	if (n > 0 && from < x->n) {
		k = x->n - from < n ? x->n - from : n;
		dec_buf_put(b, x->d + from, (size_t)k);
		n -= k;
	}
	if (n > 0)
		dec_buf_fill(b, '0', (size_t)n);
}

static void put_fixed(struct dec_buf *b, const struct digits *x, int64_t prec, bool point)
{
	if (x->n && x->point > 0)
		put_digits(b, x, 0, x->point);
	else
		dec_buf_chr(b, '0');
	if (point)
		dec_buf_chr(b, '.');
	put_digits(b, x, x->n ? x->point : 0, prec);
}

static void put_exponent(struct dec_buf *b, char letter, int exp, int least)
{
	char tmp[12];
	int n = 0;
	unsigned v = exp < 0 ? -(unsigned)exp : (unsigned)exp;

	dec_buf_chr(b, letter);
	dec_buf_chr(b, exp < 0 ? '-' : '+');
	for (; v || n < least; v /= 10)
		tmp[n++] = (char)('0' + v % 10);
	while (n)
		dec_buf_chr(b, tmp[--n]);
}

static void put_scientific(struct dec_buf *b, const struct digits *x, int64_t prec, bool point,
			   bool upper)
{
	put_digits(b, x, 0, 1);
	if (point)
		dec_buf_chr(b, '.');
	put_digits(b, x, 1, prec);
	put_exponent(b, upper ? 'E' : 'e', x->n ? x->point - 1 : 0, 2);
}

static void put_decimal(struct dec_buf *b, const struct dec_spec *s, int prec,
			const struct dec_float *f)
{
	bool alt = s->flags & SPEC_ALT;
	bool upper = s->conv < 'a';
	struct digits x;
	int64_t digits;

	expand(f, &x);
	digits = prec < 0 ? 6 : prec;
	switch (s->conv | 0x20) {
	case 'f':
		round_to(&x, x.point + digits);
		put_fixed(b, &x, digits, alt || digits);
		break;
	case 'e':
		round_to(&x, digits + 1);
		put_scientific(b, &x, digits, alt || digits, upper);
		break;
	default: /* g */
		digits = digits ? digits : 1;
		round_to(&x, digits);
		if (!alt) {
			while (x.n && x.d[x.n - 1] == '0')
				x.n--;
		}
		if (x.n && (x.point - 1 < -4 || x.point - 1 >= digits)) {
			digits = alt ? digits - 1 : x.n - 1;
			put_scientific(b, &x, digits, alt || digits, upper);
		} else {
			digits = alt ? digits - (x.n ? x.point : 1) : x.n - x.point;
			digits = digits < 0 || (!x.n && !alt) ? 0 : digits;
			put_fixed(b, &x, digits, alt || digits);
		}
	}
}

/* %a behind its 0x. */
static void put_hex(struct dec_buf *b, const struct dec_spec *s, int prec,
		    const struct dec_float *f)
{
	const char *hex = s->conv == 'A' ? "0123456789ABCDEF" : "0123456789abcdef";
	unsigned __int128 m = (unsigned __int128)f->hi << 64 | f->lo;
	int digits = f->frac_bits / 4;
	int exp = m ? f->exp + f->frac_bits : 0;
	int shown = prec;

	if (prec < 0) {
		shown = digits;
		for (unsigned __int128 v = m; shown && !(v & 15); v >>= 4)
			shown--;
	} else if (prec < digits) {
		int drop = 4 * (digits - prec);
		unsigned __int128 half = (unsigned __int128)1 << (drop - 1);
		unsigned __int128 rest = m & (2 * half - 1);

		m -= rest;
		if (rest > half || (rest == half && (m >> drop & 1)))
			m += 2 * half;
		if (m >> f->frac_bits > 15) {
			m >>= 4;
			exp += 4;
		}
	}
	dec_buf_chr(b, hex[(unsigned)(m >> f->frac_bits) & 15]);
	if (shown || s->flags & SPEC_ALT)
		dec_buf_chr(b, '.');
	for (int i = 1; i <= shown && i <= digits; i++)
		dec_buf_chr(b, hex[(unsigned)(m >> (f->frac_bits - 4 * i)) & 15]);
	if (shown > digits)
		dec_buf_fill(b, '0', (size_t)(shown - digits));
	put_exponent(b, s->conv == 'A' ? 'P' : 'p', exp, 1);
}

/* Moves what was written from @start on to the width, padding between @sign_len and the rest. */
static void pad(struct dec_buf *b, size_t start, size_t prefix, int width, unsigned flags)
{
	size_t len = b->len - start;
	size_t n;

	if (b->oom || (size_t)width <= len)
		return;
	n = (size_t)width - len;
	dec_buf_fill(b, flags & SPEC_ZERO ? '0' : ' ', n);
	if (b->oom || flags & SPEC_MINUS)
		return;
	if (!(flags & SPEC_ZERO))
		prefix = 0;
	memmove(b->p + start + prefix + n, b->p + start + prefix, len - prefix);
	memset(b->p + start + prefix, flags & SPEC_ZERO ? '0' : ' ', n);
}

/* %.Nf of everyday numbers without the long expansion: exact in 128 bits. */
static bool put_quick(struct dec_buf *b, const struct dec_spec *s, int prec,
		      const struct dec_float *f)
{
	static const uint32_t ten[] = {1,      10,	100,	  1000,	     10000,
				       100000, 1000000, 10000000, 100000000, 1000000000};
	unsigned __int128 scaled, rest, half;
	char tmp[40];
	char *p = tmp + sizeof(tmp);
	uint64_t whole, frac;

	if ((s->conv | 0x20) != 'f' || prec > 9 || f->hi || f->exp >= 0 || f->exp < -90 ||
	    f->lo >> 54)
		return false;
	scaled = (unsigned __int128)f->lo * ten[prec];
	rest = scaled & (((unsigned __int128)1 << -f->exp) - 1);
	half = (unsigned __int128)1 << (-f->exp - 1);
	scaled >>= -f->exp;
	if (rest > half || (rest == half && (scaled & 1)))
		scaled++;
	whole = (uint64_t)(scaled / ten[prec]); /* below 2^54 */
	frac = (uint64_t)(scaled % ten[prec]);
	for (int i = 0; i < prec; i++, frac /= 10)
		*--p = (char)('0' + frac % 10);
	if (prec || s->flags & SPEC_ALT)
		*--p = '.';
	do {
		*--p = (char)('0' + whole % 10);
	} while (whole /= 10);
	dec_buf_put(b, p, (size_t)(tmp + sizeof(tmp) - p));
	return true;
}

void dec_float_put(struct dec_buf *b, const struct dec_spec *s, int width, int prec,
		   const struct dec_float *f)
{
	bool upper = s->conv < 'a';
	unsigned flags = s->flags;
	size_t start = b->len;

	if (f->neg)
		dec_buf_chr(b, '-');
	else if (flags & (SPEC_PLUS | SPEC_SPACE))
		dec_buf_chr(b, flags & SPEC_PLUS ? '+' : ' ');
	if (flags & SPEC_MINUS)
		flags &= ~(unsigned)SPEC_ZERO;
	if (f->class != DEC_FINITE) {
		if (f->class == DEC_INF)
			dec_buf_str(b, upper ? "INF" : "inf");
		else
			dec_buf_str(b, upper ? "NAN" : "nan");
		pad(b, start, 0, width, flags & ~(unsigned)SPEC_ZERO);
	} else if ((s->conv | 0x20) == 'a') {
		dec_buf_str(b, upper ? "0X" : "0x");
		size_t prefix = b->len - start;

		put_hex(b, s, prec, f);
		pad(b, start, prefix, width, flags);
	} else {
		size_t prefix = b->len - start;

		if (!put_quick(b, s, prec < 0 ? 6 : prec, f))
			put_decimal(b, s, prec, f);
		pad(b, start, prefix, width, flags);
	}
}
