/* SPDX-License-Identifier: MIT */
/* Every printf conversion, compared with snprintf. */
#include <errno.h>
#include <inttypes.h>
#include <wchar.h>

#include "tests/unit/bindecode/mklog.h"
#include "tools/bindecode/decode_site.h"

static const struct dec_world world = {.ldbl = BINLOG_LDBL_X87, .long_bits = 64};

/* A call being put together: its types, fixed part and texts. */
struct call {
	unsigned flags;
	uint8_t types[16];
	unsigned n;
	uint8_t fixed[512];
	size_t nfixed;
	char texts[4096];
	size_t ntexts;
};

static void arg_int(struct call *c, unsigned type, unsigned __int128 v, unsigned size)
{
	c->types[c->n++] = (uint8_t)type;
	for (unsigned i = 0; i < size; i++)
		c->fixed[c->nfixed++] = (uint8_t)(v >> (8 * i));
}

static void arg_i32(struct call *c, int v)
{
	arg_int(c, BINLOG_T_I32, (unsigned)v, 4);
}

static void arg_str(struct call *c, unsigned type, const char *s, size_t n)
{
	arg_int(c, type, n, 4);
	memcpy(c->texts + c->ntexts, s, n);
	c->ntexts += n;
}

/* The text of @c under @fmt; the caller frees. */
static char *decode(const struct call *c, const char *fmt, bool *ret_ok)
{
	uint8_t entry[1024], args[8192];
	uint8_t *p = bytes_put_u32(entry, 1);
	struct dec_site s;
	struct bytes b;
	struct dec_buf text;

	*p++ = 1;
	*p++ = (uint8_t)c->flags;
	p = bytes_put_u16(p, (uint16_t)c->n);
	p = bytes_put_u32(p, (uint32_t)strlen(fmt));
	p = bytes_put_u32(bytes_put_u32(p, 0), 0);
	memcpy(p, c->types, c->n);
	p += c->n;
	memcpy(p, fmt, strlen(fmt));
	p += strlen(fmt);
	b = bytes_of(entry, (size_t)(p - entry));
	assert_int_equal(dec_site_make(&s, &b, 16, &world), 0);
	if (s.fault)
		fail_msg("%s: %s", fmt, s.fault);
	memcpy(args, c->fixed, c->nfixed);
	memcpy(args + c->nfixed, c->texts, c->ntexts);
	assert_int_equal(dec_site_need(&s, args, c->nfixed + c->ntexts), c->nfixed + c->ntexts);
	if (c->nfixed + c->ntexts)
		assert_int_equal(dec_site_need(&s, args, c->nfixed + c->ntexts - 1), -1);
	dec_buf_init(&text);
	*ret_ok = dec_site_text(&text, &s, &world, args);
	dec_buf_chr(&text, '\0');
	dec_site_free(&s);
	return text.p;
}

static void expect(const struct call *c, const char *fmt, const char *want, int want_len)
{
	bool ok;
	char *got = decode(c, fmt, &ok);

	assert_true(ok);
	if (strcmp(got, want) || (int)strlen(got) != want_len)
		fail_msg("\"%s\": got \"%s\", printf says \"%s\"", fmt, got, want);
	free(got);
}

static uint64_t seed = 88172645463325252ULL;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Numbers that matter, and any others. */
static uint64_t rnd_int(void)
{
	static const uint64_t edges[] = {0,	     1,		 9,	     10,	 99,
					 100,	     INT32_MAX,	 1ULL << 31, UINT32_MAX, INT64_MAX,
					 1ULL << 63, UINT64_MAX, 0x80,	     0x8000};
	uint64_t r = rnd();

	if (r % 3 == 0)
		return edges[rnd() % (sizeof(edges) / sizeof(*edges))];
	return rnd() >> (r >> 8) % 64;
}

/* Flags, width and precision; stars become arguments. Returns their number. */
static unsigned rnd_spec(char *spec, struct call *c, int stars[2])
{
	unsigned n = 0;
	char *p = spec;

	*p++ = '%';
	for (const char *f = "-+ #0'"; *f; f++)
		if (rnd() % 5 == 0)
			*p++ = *f;
	if (rnd() % 4 == 0) {
		stars[n] = (int)(rnd() % 61) - 30;
		arg_i32(c, stars[n++]);
		*p++ = '*';
	} else if (rnd() % 2) {
		p += sprintf(p, "%d", (int)(rnd() % 30));
	}
	if (rnd() % 4 == 0) {
		stars[n] = (int)(rnd() % 30) - 5;
		arg_i32(c, stars[n++]);
		*p++ = '.';
		*p++ = '*';
	} else if (rnd() % 3 == 0) {
		p += rnd() % 8 ? sprintf(p, ".%d", (int)(rnd() % 25)) : sprintf(p, ".");
	}
	*p = '\0';
	return n;
}

#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"

#define PRINT(want, n, fmt, stars, v)                                  \
	((n) == 0   ? snprintf(want, sizeof(want), fmt, v)             \
	 : (n) == 1 ? snprintf(want, sizeof(want), fmt, (stars)[0], v) \
		    : snprintf(want, sizeof(want), fmt, (stars)[0], (stars)[1], v))

static void test_integers(void **state)
{
	static const char *const sizes[] = {"hh", "h", "", "l", "ll", "j", "z", "t", "q", "L"};
	static const char convs[] = "diouxXbB";

	for (int i = 0; i < 60000; i++) {
		const char *size = sizes[rnd() % 10];
		bool is_int = size[0] == 'h' || !size[0];
		struct call c = {0};
		char spec[64], want[512];
		int stars[2], n;
		unsigned k = rnd_spec(spec, &c, stars);
		uint64_t v = rnd_int();

		sprintf(spec + strlen(spec), "%s%c", size, convs[rnd() % (sizeof(convs) - 1)]);
		if (is_int) {
			arg_int(&c, rnd() % 2 ? BINLOG_T_I32 : BINLOG_T_U32, (uint32_t)v, 4);
			n = PRINT(want, k, spec, stars, (int)v);
		} else {
			arg_int(&c, rnd() % 2 ? BINLOG_T_I64 : BINLOG_T_U64, v, 8);
			n = PRINT(want, k, spec, stars, (long)v);
		}
		expect(&c, spec, want, n);
	}
}

static void test_doubles(void **state)
{
	for (int i = 0; i < 20000; i++) {
		struct call c = {0};
		char spec[64], want[2048];
		int stars[2], n;
		unsigned k = rnd_spec(spec, &c, stars);
		uint64_t bits = rnd();
		double d;

		switch (rnd() % 4) {
		case 0:
			memcpy(&d, &bits, sizeof(d));
			break;
		case 1:
			d = (double)(int64_t)(bits % 2000001 - 1000000) /
			    (double)(1u << (bits >> 59));
			break;
		case 2:
			d = (double)(bits % 100000) / 1000;
			break;
		default:
			d = (double)rnd_int();
		}
		sprintf(spec + strlen(spec), "%c", "eEfFgGaA"[rnd() % 8]);
		memcpy(&bits, &d, sizeof(d));
		arg_int(&c, BINLOG_T_F64, bits, 8);
		n = PRINT(want, k, spec, stars, d);
		expect(&c, spec, want, n);
	}
}

static void test_strings(void **state)
{
	static const char *const texts[] = {"", "a", "hello", "a longer text than the others"};

	for (int i = 0; i < 15000; i++) {
		struct call c = {0};
		char spec[64], want[512];
		int stars[2], n;
		unsigned k = rnd_spec(spec, &c, stars);
		const char *s = texts[rnd() % 4];

		strcat(spec, "s");
		if (rnd() % 8 == 0) {
			arg_int(&c, BINLOG_T_STR, BINLOG_STR_NULL, 4);
			s = NULL;
		} else {
			arg_str(&c, BINLOG_T_STR, s, strlen(s));
		}
		n = PRINT(want, k, spec, stars, s);
		expect(&c, spec, want, n);
	}
}

static void test_chars_and_pointers(void **state)
{
	for (int i = 0; i < 15000; i++) {
		struct call c = {0};
		char spec[64], want[512];
		int stars[2], n;
		unsigned k = rnd_spec(spec, &c, stars);
		uint64_t v = rnd() % 4 ? rnd_int() : 0;

		if (rnd() % 2) {
			strcat(spec, "p");
			arg_int(&c, BINLOG_T_PTR, v, 8);
			n = PRINT(want, k, spec, stars, (void *)v);
		} else {
			strcat(spec, "c");
			v |= !(uint8_t)v; /* a NUL would end the comparison */
			arg_i32(&c, (int)v);
			n = PRINT(want, k, spec, stars, (int)v);
		}
		expect(&c, spec, want, n);
	}
}

static void test_errno(void **state)
{
	for (int i = 0; i < 5000; i++) {
		struct call c = {.flags = BINLOG_S_ERRNO};
		char spec[64], want[512];
		int number = rnd() % 8 ? (int)(rnd() % 140) : (int)rnd();
		int stars[2], n;
		unsigned k;

		memcpy(c.fixed, &(uint32_t){binlog_le32((uint32_t)number)}, 4);
		c.nfixed = 4;
		k = rnd_spec(spec, &c, stars);
		strcat(spec, "m");
		errno = number;
		n = PRINT(want, k, spec, stars, 0);
		expect(&c, spec, want, n);
	}
}

static void test_errno_as_string(void **state)
{
	struct call c = {0};

	arg_int(&c, BINLOG_T_STR, BINLOG_STR_ERRNO + ENOENT, 4);
	arg_int(&c, BINLOG_T_STR, BINLOG_STR_ERRNO + 9999, 4);
	arg_int(&c, BINLOG_T_STR, BINLOG_STR_ERRNO + EPERM, 4);
	expect(&c, "%s|%s|%.4s|", "No such file or directory|Unknown error 9999|Oper|", 50);
}

static void test_wide(void **state)
{
	struct call c = {0};

	/* The writer has cut it to its precision: that is not applied again. */
	arg_str(&c, BINLOG_T_WIDE, "\xc3\xa4\xc3\xb6", 4);
	arg_str(&c, BINLOG_T_WIDE, "x", 1);
	arg_int(&c, BINLOG_T_WIDE, BINLOG_STR_NULL, 4);
	expect(&c, "%6.5ls|%-3lc|%ls", "  \xc3\xa4\xc3\xb6|x  |(null)", 17);
}

static void test_wide_without_text(void **state)
{
	struct call c = {0};
	bool ok;
	char *got;

	arg_i32(&c, 5);
	arg_int(&c, BINLOG_T_WIDE, BINLOG_STR_BAD, 4);
	got = decode(&c, "a %d %ls b", &ok);
	assert_false(ok);
	assert_string_equal(got, "a 5 ");
	free(got);
}

static void test_positions(void **state)
{
	struct call c = {0};
	char want[256];
	int n;

	arg_i32(&c, 7);
	arg_str(&c, BINLOG_T_STR, "first", 5);
	arg_str(&c, BINLOG_T_STR, "second", 6);
	arg_i32(&c, 3);
	n = snprintf(want, sizeof(want), "%3$s %2$s %1$d %3$*1$s %2$.*4$s %1$05d", 7, "first",
		     "second", 3);
	expect(&c, "%3$s %2$s %1$d %3$*1$s %2$.*4$s %1$05d", want, n);
}

static void test_int128(void **state)
{
	struct call c = {0};
	unsigned __int128 big = (unsigned __int128)0x0123456789abcdefULL << 64 | 0xfedcba9876543210;

	arg_int(&c, BINLOG_T_U128, big, 16);
	arg_int(&c, BINLOG_T_I128, (unsigned __int128)-5, 16);
	arg_int(&c, BINLOG_T_I128, (unsigned __int128)1 << 127, 16);
	arg_int(&c, BINLOG_T_U128, ~(unsigned __int128)0, 16);
	arg_int(&c, BINLOG_T_I128, (unsigned __int128)-5, 16);
	static const char want[] =
		"0x123456789abcdeffedcba9876543210 -5 -170141183460469231731687303715884105728 "
		"340282366920938463463374607431768211455 -5";
	expect(&c, "%#llx %lld %lld %llu %d", want, sizeof(want) - 1);
}

static void test_odd_formats(void **state)
{
	struct call c = {0};
	struct call none = {0};

	expect(&none, "100%% sure", "100% sure", 9);
	expect(&none, "", "", 0);
	arg_int(&c, BINLOG_T_PTR, 0, 8);
	arg_i32(&c, 300);
	expect(&c, "a%nb %hhd", "ab 44", 5);
}

static void test_absurd_width(void **state)
{
	struct call c = {0};
	bool ok;

	arg_i32(&c, INT32_MAX);
	arg_i32(&c, 1);
	free(decode(&c, "%*d", &ok));
	assert_false(ok);
	c = (struct call){0};
	arg_i32(&c, INT32_MIN);
	arg_i32(&c, 1);
	free(decode(&c, "%*d", &ok));
	assert_false(ok);
}

static void test_mismatch_is_named(void **state)
{
	static const struct {
		const char *fmt;
		uint8_t type;
	} bad[] = {
		{"%s", BINLOG_T_I32},	 {"%d", BINLOG_T_STR},	{"%f", BINLOG_T_I64},
		{"%d %d", BINLOG_T_I32}, {"%m", BINLOG_T_I32},	{"%y", BINLOG_T_I32},
		{"%", BINLOG_T_I32},	 {"%*s", BINLOG_T_STR}, {"%2$d", BINLOG_T_I32},
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		uint8_t entry[64] = {0};
		struct dec_site s;
		struct bytes b;
		uint8_t args[64] = {0};
		struct dec_buf text;

		bytes_put_u16(entry + 6, 1);
		bytes_put_u32(entry + 8, (uint32_t)strlen(bad[i].fmt));
		entry[20] = bad[i].type;
		memcpy(entry + 21, bad[i].fmt, strlen(bad[i].fmt));
		b = bytes_of(entry, 21 + strlen(bad[i].fmt));
		assert_int_equal(dec_site_make(&s, &b, 16, &world), 0);
		if (!s.fault)
			fail_msg("\"%s\" was taken", bad[i].fmt);
		dec_buf_init(&text);
		dec_site_text(&text, &s, &world, args);
		dec_buf_deinit(&text);
		dec_site_free(&s);
	}
}

static void test_literals(void **state)
{
	static const uint8_t types[] = {BINLOG_T_STR | BINLOG_T_LITERAL, BINLOG_T_I32,
					BINLOG_T_I32 | BINLOG_T_LITERAL,
					BINLOG_T_STR | BINLOG_T_LITERAL};
	const char *fmt = "%s:%d %5d %s\n";
	uint8_t entry[256] = {0}, args[4];
	uint8_t *p = entry + 20;
	struct dec_site s;
	struct bytes b;
	struct dec_buf text;

	bytes_put_u16(entry + 6, 4);
	bytes_put_u32(entry + 8, (uint32_t)strlen(fmt));
	memcpy(p, types, 4);
	memcpy(p + 4, fmt, strlen(fmt));
	p += 4 + strlen(fmt);
	p = bytes_put_u32(p, 3);
	memcpy(p, "a.c", 3);
	p = bytes_put_u64(p + 3, (uint64_t)-12);
	p = bytes_put_u32(p, BINLOG_STR_NULL);
	b = bytes_of(entry, (size_t)(p - entry));
	assert_int_equal(dec_site_make(&s, &b, 16, &world), 0);
	assert_null(s.fault);
	assert_int_equal(s.fixed, 4);
	bytes_put_u32(args, 99);
	dec_buf_init(&text);
	assert_true(dec_site_text(&text, &s, &world, args));
	dec_buf_chr(&text, '\0');
	assert_string_equal(text.p, "a.c:99   -12 (null)\n");
	dec_buf_deinit(&text);
	dec_site_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_doubles),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_chars_and_pointers),
		cmocka_unit_test(test_errno),
		cmocka_unit_test(test_errno_as_string),
		cmocka_unit_test(test_wide),
		cmocka_unit_test(test_wide_without_text),
		cmocka_unit_test(test_positions),
		cmocka_unit_test(test_int128),
		cmocka_unit_test(test_odd_formats),
		cmocka_unit_test(test_absurd_width),
		cmocka_unit_test(test_mismatch_is_named),
		cmocka_unit_test(test_literals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
