/* SPDX-License-Identifier: MIT */
/* Long doubles of every CPU, compared with what printf prints there. */
#include <math.h>

#include "tests/unit/bindecode/ldbl_vectors.h"
#include "tests/unit/bindecode/mklog.h"
#include "tools/bindecode/decode_float.h"

static void put(struct dec_buf *b, int form, const uint8_t *raw, const char *fmt)
{
	struct dec_spec s;
	struct dec_float f;

	assert_true(dec_spec_parse(fmt + 1, fmt + strlen(fmt), &s));
	assert_true(s.ldbl);
	assert_true(dec_float_ldbl(form, raw, &f));
	b->len = 0;
	dec_float_put(b, &s, s.width_arg == SPEC_CONST ? s.width : 0,
		      s.prec_arg == SPEC_CONST ? s.prec : -1, &f);
	dec_buf_chr(b, '\0');
}

static void check(int form, const struct ldbl_vector *v, size_t n)
{
	struct dec_buf b;

	dec_buf_init(&b);
	for (size_t i = 0; i < n; i++) {
		uint8_t raw[16];

		for (int k = 0; k < 16; k++) {
			char two[3] = {v[i].bytes[2 * k], v[i].bytes[2 * k + 1]};

			raw[k] = (uint8_t)strtoul(two, NULL, 16);
		}
		put(&b, form, raw, v[i].fmt);
		if (strcmp(b.p, v[i].text))
			fail_msg("%s of %s: got \"%s\", printf says \"%s\"", v[i].fmt, v[i].bytes,
				 b.p, v[i].text);
	}
	dec_buf_deinit(&b);
}

static void test_two_doubles(void **state)
{
	check(BINLOG_LDBL_DD, two_doubles, sizeof(two_doubles) / sizeof(*two_doubles));
}

static void test_binary128(void **state)
{
	check(BINLOG_LDBL_F128, binary128, sizeof(binary128) / sizeof(*binary128));
}

static void test_is_double(void **state)
{
	static const struct ldbl_vector v[] = {
		{"000000000000f83f0000000000000000", "%Lf", "1.500000"},
		{"000000000000f0ff0000000000000000", "%8LG", "    -INF"},
	};

	check(BINLOG_LDBL_F64, v, 2);
}

static void test_no_such_form(void **state)
{
	struct dec_float f;
	uint8_t raw[16] = {0};

	assert_false(dec_float_ldbl(0, raw, &f));
	assert_false(dec_float_ldbl(5, raw, &f));
}

#if defined(__x86_64__)
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static uint64_t seed = 0x9E3779B97F4A7C15ULL;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static long double rnd_value(uint8_t raw[16])
{
	uint64_t r = rnd(), q = rnd();
	long double d;

	memset(raw, 0, 16);
	switch (q % 8) {
	case 0: /* any number, not far from the ends */
		r |= 1ULL << 63;
		q = 1 + q % 0x7ffe;
		memcpy(raw, &r, 8);
		memcpy(raw + 8, &q, 2);
		memcpy(&d, raw, 16);
		return d;
	case 1: /* not normalised: the smallest ones */
		r >>= 1 + q / 8 % 60;
		memcpy(raw, &r, 8);
		memcpy(&d, raw, 16);
		return d;
	case 2:
		return r & 1 ? INFINITY : r & 2 ? -NAN : r & 4 ? -0.0L : 9.99999999999999999L;
	default:
		return (long double)(int64_t)r / (long double)(1ULL << q / 8 % 60);
	}
}

static void test_x87(void **state)
{
	static char want[20000];
	struct dec_buf b;

	dec_buf_init(&b);
	for (int i = 0; i < 10000; i++) {
		char fmt[64] = "%";
		uint8_t raw[16];
		long double d = rnd_value(raw);
		int k = 1;

		for (const char *f = "-+ #0"; *f; f++)
			if (rnd() % 4 == 0)
				fmt[k++] = *f;
		if (rnd() % 3 == 0)
			k += sprintf(fmt + k, "%d", (int)(rnd() % 40));
		if (rnd() % 2)
			k += sprintf(fmt + k, ".%d", (int)(rnd() % (rnd() % 8 ? 20 : 200)));
		sprintf(fmt + k, "L%c", "eEfFgGaA"[rnd() % 8]);
		memset(raw, 0, sizeof(raw));
		memcpy(raw, &d, 10);
		snprintf(want, sizeof(want), fmt, d);
		put(&b, BINLOG_LDBL_X87, raw, fmt);
		if (strcmp(b.p, want))
			fail_msg("%s of %La: got \"%s\", printf says \"%s\"", fmt, d, b.p, want);
	}
	dec_buf_deinit(&b);
}
#endif

/* No bit pattern may overrun the digits. */
static void test_extremes(void **state)
{
	struct dec_buf b;
	uint8_t raw[16];

	dec_buf_init(&b);
	for (int form = BINLOG_LDBL_F64; form <= BINLOG_LDBL_DD; form++) {
		for (int fill = 0; fill < 256; fill += 17) {
			memset(raw, fill, sizeof(raw));
			for (const char *c = "efgaEFGA"; *c; c++) {
				char fmt[16];

				sprintf(fmt, "%%.20000L%c", *c);
				put(&b, form, raw, fmt);
				raw[15] ^= 0x80;
				raw[9] ^= 0x7f;
				put(&b, form, raw, fmt);
				raw[14] = 1;
				raw[8] = 1;
			}
		}
	}
	dec_buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_doubles),
		cmocka_unit_test(test_binary128),
		cmocka_unit_test(test_is_double),
		cmocka_unit_test(test_no_such_form),
#if defined(__x86_64__)
		cmocka_unit_test(test_x87),
#endif
		cmocka_unit_test(test_extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
