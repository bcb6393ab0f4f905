/* SPDX-License-Identifier: MIT */
/* What a call leaves in the file: every type, literals, strings, errno, levels, wrappers. */
#include "tests/unit/binlog/reader.h"

#include <inttypes.h>
#include <locale.h>
#include <wchar.h>

#include "binlog/pr.h"

static const char *path;

static struct reader *read_back(void)
{
	binlog_close();
	struct reader *r = reader_load(path);

	unlink(path);
	assert_int_equal(r->closed, 1);
	assert_int_equal(r->lost_records, 0);
	assert_int_equal(r->gaps, 0);
	assert_int_equal(r->bad_chunks, 0);
	return r;
}

static int begin(void **state)
{
	path = reader_path("calls");
	reader_open(path, NULL);
	return 0;
}

struct fields {
	unsigned b5 : 5;
	int s7 : 7;
	_Bool flag : 1;
	unsigned long b40 : 40;
	long s40 : 40;
	unsigned long b64 : 64;
};

enum small { SMALL_A, SMALL_B = 7 };
enum negative { NEGATIVE = -3 };
enum __attribute__((packed)) tiny { TINY = 200 };

static void test_integers(void **state)
{
	struct fields f = {31, -1, 1, 1ul << 39 | 5, -5, ~0ul};
	char c = 'x';
	signed char sc = -2;
	unsigned char uc = 254;
	short s = -3;
	enum small e = SMALL_B;
	enum negative n = NEGATIVE;
	enum tiny t = TINY;
	_Bool b = 1;

	BINLOG(3, "%u %d %d %lu %ld %lu\n", f.b5, f.s7, f.flag, (unsigned long)f.b40, (long)f.s40,
	       (unsigned long)f.b64);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat"
	BINLOG(3, "%lu %ld\n", f.b40, f.s40); /* the type of these has no name in gcc */
#pragma GCC diagnostic pop
	BINLOG(3, "%c %hhd %hhu %hd %d\n", c, sc, uc, s, b);
	BINLOG(3, "%u %d %u\n", e, n, t);
	struct reader *r = read_back();

	assert_int_equal(r->nrecs, 4);
	const struct field *a = r->recs[0].args;
	const uint64_t want0[] = {31, (uint64_t)-1, 1, 1ul << 39 | 5, (uint64_t)-5, ~0ul};

	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(a[i].word, want0[i]);
	assert_int_equal(r->recs[1].args[0].word, 1ul << 39 | 5);
	assert_int_equal(r->recs[1].args[1].word, (uint64_t)-5);
	assert_int_equal(r->recs[1].args[0].type, BINLOG_T_U64);
	assert_int_equal(r->recs[1].args[1].type, BINLOG_T_I64);
	a = r->recs[2].args;
	assert_int_equal(a[0].word, 'x');
	assert_int_equal(a[1].word, (uint64_t)-2);
	assert_int_equal(a[2].word, 254);
	assert_int_equal(a[3].word, (uint64_t)-3);
	assert_int_equal(a[4].word, 1);
	a = r->recs[3].args;
	assert_int_equal(a[0].word, 7);
	assert_int_equal(a[1].word, (uint64_t)-3);
	assert_int_equal(a[2].word, 200);
	reader_free(r);
}

static void test_wide_numbers(void **state)
{
	double d = -0.1;
	float f = 1.5f;
	long double ld = 1.0L / 3;
	__int128 i = -((__int128)1 << 100);
	unsigned __int128 u = (unsigned __int128)5 << 90;
	uint64_t bits;

	BINLOG(1, "%f %f %Lf %lld %llx %p\n", d, f, ld, i, u, (void *)path);
	struct reader *r = read_back();
	const struct field *a = r->recs[0].args;

	memcpy(&bits, &d, 8);
	assert_int_equal(a[0].word, bits);
	d = f;
	memcpy(&bits, &d, 8);
	assert_int_equal(a[1].word, bits);
	assert_int_equal(a[2].type, BINLOG_T_LDBL);
#if __LDBL_MANT_DIG__ == 64
	assert_int_equal(a[2].word, 0xaaaaaaaaaaaaaaab);
	assert_int_equal(a[2].high, 0x3ffd);
#endif
	assert_int_equal(a[3].type, BINLOG_T_I128);
	assert_int_equal(a[3].word, 0);
	assert_int_equal(a[3].high, (uint64_t) - (1ll << 36));
	assert_int_equal(a[4].type, BINLOG_T_U128);
	assert_int_equal(a[4].high, 5ull << 26);
	assert_int_equal(a[5].type, BINLOG_T_PTR);
	assert_int_equal(a[5].word, (uintptr_t)path);
	reader_free(r);
}

#define STEP		  4
#define WRAPPER(fmt, ...) pr_debug("in " __FILE__ ": " fmt " %s", ##__VA_ARGS__, "end")
#define PAIR(x)		  (x), (x) + 1

static void test_literals(void **state)
{
	const char *variable = "variable";

	unsigned line = __LINE__ + 3;

	/* Several lines: a compiler takes the first or the last of them for __LINE__. */
	BINLOG(1, "%s:%d %s %d %s %s\n", __FILE__, __LINE__,
	       "lit"
	       "eral",
	       STEP * 2, variable, (const char *)NULL);
	WRAPPER("%" PRIx64, (uint64_t)5);
	pr_info("%d %d %" PRId64 "\n", PAIR(1), (int64_t)-1); /* clang-format off */
	BINLOG(2, "one\n"); BINLOG(2, "two\n"); /* clang-format on */
	struct reader *r = read_back();
	const struct entry *e = r->recs[0].site;

	assert_int_equal(r->nrecs, 5);
	assert_int_equal(e->types[0], BINLOG_T_STR | 0x80);
	assert_int_equal(e->types[1], BINLOG_T_I32 | 0x80);
	assert_int_equal(e->types[4], BINLOG_T_STR);
	assert_int_equal(e->types[5], BINLOG_T_STR | 0x80);
	assert_text(r->recs[0].args[0], __FILE__);
	assert_in_range(r->recs[0].args[1].word, line, line + 1);
	assert_text(r->recs[0].args[2], "literal");
	assert_int_equal(r->recs[0].args[3].word, 8);
	assert_text(r->recs[0].args[4], "variable");
	assert_int_equal(r->recs[0].args[5].slot, BINLOG_STR_NULL);
	assert_string_equal(e->file, __FILE__);
	assert_string_equal(e->func, "test_literals");
	assert_in_range(e->line, line, line + 3);
	assert_string_equal(r->recs[1].site->fmt, "in " __FILE__ ": %lx %s");
	assert_int_equal(r->recs[1].level, BINLOG_DEBUG);
	assert_int_equal(r->recs[2].site->nargs, 3);
	assert_int_equal(r->recs[2].args[1].word, 2);
	assert_int_equal(r->recs[2].args[2].word, (uint64_t)-1);
	assert_string_equal(r->recs[3].site->fmt, "one\n");
	assert_string_equal(r->recs[4].site->fmt, "two\n");
	assert_int_equal(r->recs[3].site->line, r->recs[4].site->line);
	reader_free(r);
}

static void test_strings(void **state)
{
	/* Unterminated, at the end of what is mapped. */
	static char array[4] = {'a', 'b', 'c', 'd'};
	const unsigned char *bytes = (const unsigned char *)"bytes";
	char *text = strdup("0123456789");
	const char *none = NULL;
	int n = 3;

	BINLOG(1, "%.*s|%.2s|%.4s|%s\n", n, array, array, array, text);
	BINLOG(1, "%s %.3s %.10s %.*s\n", none, none, none, -1, text);
	BINLOG(1, "%p %s\n", text, text);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpointer-sign"
	BINLOG(1, "%s %-*.*s\n", bytes, 20, 2, text);
#pragma GCC diagnostic pop
	BINLOG(1, "%2$s %1$d %2$.3s\n", n, text);
	struct reader *r = read_back();

	assert_text(r->recs[0].args[1], "abc");
	assert_text(r->recs[0].args[2], "ab");
	assert_text(r->recs[0].args[3], "abcd");
	assert_text(r->recs[0].args[4], "0123456789");
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(r->recs[1].args[i].slot, BINLOG_STR_NULL);
	assert_text(r->recs[1].args[4], "0123456789");
	assert_int_equal(r->recs[2].args[0].type, BINLOG_T_PTR);
	assert_int_equal(r->recs[2].args[0].word, (uintptr_t)text);
	assert_text(r->recs[2].args[1], "0123456789");
	assert_text(r->recs[3].args[0], "bytes");
	assert_text(r->recs[3].args[3], "01");
	assert_text(r->recs[4].args[1], "0123456789");
	reader_free(r);
	free(text);
}

static void test_wide_strings(void **state)
{
	const wchar_t *wide = L"gr\u00fc\u00df dich";
	bool utf8 = setlocale(LC_CTYPE, "C.UTF-8");

	BINLOG(1, "%ls|%.4ls|%lc|%ls|%S\n", wide, wide, (wint_t)L'\u00fc', (wchar_t *)NULL, wide);
	setlocale(LC_CTYPE, "C");
	BINLOG(1, "%ls|%.2ls\n", wide, wide);
	struct reader *r = read_back();

	if (utf8) {
		assert_text(r->recs[0].args[0], "gr\xc3\xbc\xc3\x9f dich");
		assert_text(r->recs[0].args[1], "gr\xc3\xbc");
		assert_text(r->recs[0].args[2], "\xc3\xbc");
		assert_int_equal(r->recs[0].args[3].slot, BINLOG_STR_NULL);
		assert_int_equal(r->recs[0].args[0].type, BINLOG_T_WIDE);
		assert_text(r->recs[0].args[4], "gr\xc3\xbc\xc3\x9f dich");
	}
	assert_int_equal(r->recs[1].args[0].slot, BINLOG_STR_BAD);
	assert_text(r->recs[1].args[1], "gr");
	reader_free(r);
}

static void test_errno(void **state)
{
	const char *text = strerror(EACCES);

	errno = ENOENT;
	BINLOG(1, "%m %s\n", strerror(errno));
	assert_int_equal(errno, ENOENT);
	pr_perror("open %s", "it");
	assert_int_equal(errno, ENOENT);
	errno = 0;
	BINLOG(1, "%s %s\n", text, strerror(99999));
	BINLOG(1, "plain %d\n", errno);
	assert_int_equal(errno, 0);
	struct reader *r = read_back();

	assert_int_equal(r->recs[0].errnum, ENOENT);
	assert_int_equal(r->recs[0].args[0].slot, BINLOG_STR_ERRNO | ENOENT);
	assert_string_equal(r->recs[0].args[0].text, "No such file or directory");
	assert_int_equal(r->recs[1].errnum, ENOENT);
	assert_string_equal(r->recs[1].site->fmt, "open %s: %m\n");
	assert_int_equal(r->recs[2].args[0].slot, BINLOG_STR_ERRNO | EACCES);
	assert_text(r->recs[2].args[1], "Unknown error 99999");
	reader_free(r);
}

static int calls;
static int count(void)
{
	errno = EINTR; /* an argument may change it; %m is what it was when the call began */
	return ++calls;
}

static void test_evaluated_once(void **state)
{
	int i = 0;
	const char *p = "abc";

	calls = 0;
	BINLOG(1, "%d %d %s\n", count(), i++, p++);
	assert_int_equal(calls, 1);
	assert_int_equal(i, 1);
	assert_string_equal(p, "bc");
	binlog_set_level(BINLOG_WARN);
	BINLOG(3, "%d %d\n", count(), i++);
	assert_int_equal(calls, 2);
	assert_int_equal(i, 2);
	binlog_set_level(-1);
	BINLOG(0, "%d %d\n", count(), i++);
	binlog_set_level(BINLOG_DEBUG);
	BINLOG(4, "%d\n", i);
	assert_int_equal(calls, 3);
	struct reader *r = read_back();

	assert_int_equal(r->nrecs, 2);
	assert_int_equal(r->recs[1].args[0].word, 3);
	assert_int_equal(r->recs[1].level, 4);
	reader_free(r);
}

__attribute__((format(printf, 2, 3))) static void log_line(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	binlog_vlog(level, __FILE__, __LINE__, __func__, fmt, ap);
	va_end(ap);
}

/* printf() of older C libraries does not know it, nor do compilers: no argument of others moves. */
static void test_binary(void **state)
{
	const char *fmt = "b %b %#lB %s|\n";

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
	log_line(BINLOG_INFO, fmt, 5, 1ul << 40, "str");
	BINLOG(BINLOG_INFO, fmt, 5, 1ul << 40, "other");
#pragma GCC diagnostic pop
	struct reader *r = read_back();

	assert_int_equal(r->nrecs, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(r->recs[i].site->nargs, 3);
		assert_int_equal(r->recs[i].args[0].word, 5);
		assert_int_equal(r->recs[i].args[1].word, 1ul << 40);
	}
	assert_int_equal(r->recs[0].args[0].type, BINLOG_T_U32);
	assert_int_equal(r->recs[0].args[1].type, BINLOG_T_U64);
	assert_text(r->recs[0].args[2], "str");
	assert_text(r->recs[1].args[2], "other");
	reader_free(r);
}

/* A pointer to an array of variable length: its type holds an expression. */
static void test_variable_length(void **state)
{
	int n = 3;
	int a[4][3] = {{0}};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wvla"
	int(*p)[n] = a;
#pragma GCC diagnostic pop

	BINLOG(BINLOG_INFO, "vla %p\n", (void *)p++);
	BINLOG(BINLOG_INFO, "vla %p\n", p++);
	struct reader *r = read_back();

	assert_int_equal(r->nrecs, 2);
	assert_ptr_equal(p, a + 2);
	assert_int_equal(r->recs[1].args[0].word, (uintptr_t)(a + 1));
	reader_free(r);
}

static void test_formats_at_run_time(void **state)
{
	char fmt[] = "built %d %s %.2f %lu\n";
	int level = BINLOG_WARN;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	BINLOG(BINLOG_ERR, fmt, 5, "str", 2.5, 7ul);
#pragma GCC diagnostic pop
	BINLOG(level, "dynamic level %d\n", 1);
	BINLOG(level + 200, "no level of ours\n");
	errno = EPERM;
	log_line(BINLOG_INFO, "va %d %s %Lf %m %ld %.2s %c\n", -1, "x", 2.5L, -2l, "abc", 'c');
	struct reader *r = read_back();

	assert_int_equal(r->nrecs, 3);
	assert_string_equal(r->recs[0].site->fmt, fmt);
	assert_string_equal(r->recs[0].site->func, "test_formats_at_run_time");
	assert_int_equal(r->recs[0].level, BINLOG_ERR);
	assert_int_equal(r->recs[0].args[0].word, 5);
	assert_text(r->recs[0].args[1], "str");
	assert_int_equal(r->recs[0].args[3].word, 7);
	assert_int_equal(r->recs[1].level, BINLOG_WARN);
	assert_int_equal(r->recs[1].site->level, 255);
	assert_int_equal(r->recs[2].level, BINLOG_INFO);
	assert_int_equal(r->recs[2].errnum, EPERM);
	assert_text(r->recs[2].args[1], "x");
	assert_int_equal(r->recs[2].args[3].word, (uint64_t)-2);
	assert_text(r->recs[2].args[4], "ab");
	assert_int_equal(r->recs[2].args[5].word, 'c');
	reader_free(r);
}

static void test_long_strings(void **state)
{
	const size_t lens[] = {32000, 32739, 32740, 32741, 32760, 65536, 300000, 3000000};
	char *big = malloc(3000001);

	for (unsigned i = 0; i < 8; i++) {
		memset(big, 'a' + (int)i, lens[i]);
		big[lens[i]] = '\0';
		BINLOG(1, "%d %s %d\n", (int)i, big, -1);
	}
	struct reader *r = read_back();

	assert_int_equal(r->nrecs, 8);
	for (unsigned i = 0; i < 8; i++) {
		const struct field *a = r->recs[i].args;

		assert_int_equal(a[0].word, i);
		assert_int_equal(a[1].slot, lens[i]);
		for (size_t k = 0; k < lens[i]; k++)
			if (a[1].text[k] != (char)('a' + i))
				fail_msg("string %u at %zu", i, k);
	}
	reader_free(r);
	free(big);
}

static void test_many_arguments(void **state)
{
	int a = 1;

	BINLOG(1,
	       "%d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d "
	       "%d %d %d %d %d\n",
	       a, a + 1, a + 2, a + 3, a + 4, a + 5, a + 6, a + 7, a + 8, a + 9, a + 10, a + 11,
	       a + 12, a + 13, a + 14, a + 15, a + 16, a + 17, a + 18, a + 19, a + 20, a + 21,
	       a + 22, a + 23, a + 24, a + 25, a + 26, a + 27, a + 28, a + 29, a + 30, a + 31);
	struct reader *r = read_back();

	assert_int_equal(r->recs[0].site->nargs, 32);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(r->recs[0].args[i].word, i + 1);
	reader_free(r);
}

struct heard {
	unsigned n;
	char text[8][256];
	int level[8];
};

static void hear(void *ctx, const struct binlog_line *line)
{
	struct heard *h = ctx;

	assert_int_equal(strlen(line->text), line->len);
	h->level[h->n] = line->level;
	snprintf(h->text[h->n++], sizeof(h->text[0]), "%s", line->text);
}

static void test_sink(void **state)
{
	struct heard h = {0};
	int i = 5;

	pr_err("before %d\n", i);
	binlog_set_sink(hear, &h, BINLOG_WARN);
	errno = EIO;
	pr_perror("cannot %s %5d|%-5d|%05.1f", "read", i, i, 2.25);
	pr_warn("%2$s %1$d %% %4$.*3$s %5$lld\n", i, "two", 2, "three", -((__int128)1 << 64));
	pr_info("not for the sink\n");
	binlog_set_sink(NULL, NULL, BINLOG_WARN);
	pr_err("after\n");
	struct reader *r = read_back();

	assert_int_equal(h.n, 2);
	assert_string_equal(h.text[0], "cannot read     5|5    |002.2: Input/output error\n");
	assert_int_equal(h.level[0], BINLOG_ERR);
	assert_string_equal(h.text[1], "two 5 % th -18446744073709551616\n");
	assert_int_equal(r->nrecs, 5);
	reader_free(r);

	/* A sink without a log. */
	binlog_set_sink(hear, &h, BINLOG_ERR);
	pr_err("alone %s\n", "x");
	pr_warn("nowhere\n");
	binlog_set_sink(NULL, NULL, 0);
	assert_int_equal(h.n, 3);
	assert_string_equal(h.text[2], "alone x\n");
}

static int end(void **state)
{
	binlog_close();
	unlink(path);
	return 0;
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_integers),	   TEST(test_wide_numbers),
		TEST(test_literals),	   TEST(test_strings),
		TEST(test_wide_strings),   TEST(test_errno),
		TEST(test_evaluated_once), TEST(test_formats_at_run_time),
		TEST(test_binary),	   TEST(test_variable_length),
		TEST(test_long_strings),   TEST(test_many_arguments),
		TEST(test_sink),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
