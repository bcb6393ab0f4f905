/* SPDX-License-Identifier: MIT */
/* Whole logs: streams, segments, order, time, long records. */
#include <errno.h>

#include "tests/unit/bindecode/decoded.h"

/* The example of docs/BINLOG.md section 10, byte by byte. */
static void test_example(void **state)
{
	static const uint8_t record[] = {0x89, 0x67, 0x45, 0x23, 0x03, 0x00, 0x01, 0x00,
					 0x02, 0x01, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
					 0x61, 0x62, 0x63, 0,	 0,    0,    0,	   0};
	static const uint8_t entry[] = {0x2b, 0,   0,	 0,    7,   0,	 0,   0,   1,	0,   2,
					0,    10,  0,	 0,    0,   3,	 0,   0,   0,	4,   0,
					0,    0,   0x01, 0x0a, 'x', '=', '%', 'd', ' ', 's', '=',
					'%',  's', '\n', 'a',  '.', 'c', 'm', 'a', 'i', 'n'};
	struct mk m;
	struct mkseg s;
	struct dec_counts c;

	mk_init(&m);
	mk_dict_begin(&m, 16);
	memcpy(mk_room(&m, sizeof(entry)), entry, sizeof(entry));
	m.count = 1;
	mk_dict_end(&m);
	mkseg_init(&s, 0x123450000);
	memcpy(s.p + 64 + s.len, record, sizeof(record));
	s.len += sizeof(record);
	mk_chunk(&m, 1, 0, &s);
	expect(&m, "x=258 s=abc\n", &c);
	assert_int_equal(c.records, 1);
	assert_int_equal(c.skipped_bytes, 0);
	mk_free(&m);
}

static void test_order(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mkseg_int(&s, 16, 1030, 3);
	mkseg_int(&s, 16, 1020, 4); /* a handler's: stays behind 3, in order of position */
	mkseg_int(&s, 16, 1040, 6);
	mk_chunk(&m, 2, 0, &s);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 0); /* equal: the lower stream first */
	mkseg_int(&s, 16, 1020, 2);
	mkseg_int(&s, 16, 1031, 5);
	mk_chunk(&m, 1, 0, &s);
	mkseg_init(&s, 2000);
	mkseg_int(&s, 16, 1995, 7); /* before its anchor */
	mk_chunk(&m, 1, MK_SEG, &s);
	expect(&m, "x=0\nx=1\nx=2\nx=3\nx=4\nx=5\nx=6\nx=7\n", &c);
	assert_int_equal(c.missing_bytes, 0);
	mk_free(&m);
}

static void test_time(void **state)
{
	struct err err = {0};
	struct decode *d;
	struct dec_record rec;
	struct mk m;
	struct mkseg s;
	static const uint64_t ticks[] = {1000, 5000, 6000001000, 6000001000 + (1ULL << 31) + 99};

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	for (int i = 0; i < 4; i++) {
		if (i >= 2)
			mkseg_epoch(&s, ticks[i]);
		mkseg_int(&s, 16, ticks[i], i);
	}
	mk_chunk(&m, 1, 0, &s);
	assert_int_equal(decode_new(&d, &err), 0);
	assert_int_equal(decode_add_mem(d, "log", m.p, m.len, 0, &err), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(decode_next(d, &rec, &err), 1);
		assert_int_equal(rec.ticks, ticks[i]);
		assert_int_equal(decode_relative_ns(&rec), ticks[i] - 1000);
		assert_int_equal(decode_real_ns(&rec), 1700000000000000000 + ticks[i] - 1000);
		assert_int_equal(rec.pid, 4242);
		assert_int_equal(rec.tid, 4243);
	}
	assert_int_equal(decode_next(d, &rec, &err), 0);
	decode_free(d);
	mk_free(&m);
}

/* A counter that runs at 3 ticks per ns where the header says 2.99: the EPOCHs decide. */
static void test_calibration(void **state)
{
	struct err err = {0};
	struct decode *d;
	struct dec_record rec;
	struct mk m;
	struct mkseg s;

	mk_init(&m);
	bytes_put_u64(m.p + 56, 2990000000);
	mk_seal_header(&m);
	add_dict(&m);
	memset(&s, 0, sizeof(s));
	for (uint64_t k = 0; k < 3; k++) {
		mkseg_begin(&s);
		mkseg_u64(&s, 1000 + k * 3000000000);
		mkseg_u64(&s, 1000000000000 + k * 1000000000);
		/* The clock was set a minute ahead in the second second. */
		mkseg_u64(&s, 1700000000000000000 + k * 1000000000 + (k == 2) * 60000000000);
		mkseg_end(&s, BINLOG_R_EPOCH, 0);
		mkseg_int(&s, 16, 1000 + k * 3000000000 + 1500000000, (int)k);
	}
	mk_chunk(&m, 1, 0, &s);
	assert_int_equal(decode_new(&d, &err), 0);
	assert_int_equal(decode_add_mem(d, "log", m.p, m.len, 0, &err), 0);
	for (int k = 0; k < 3; k++) {
		assert_int_equal(decode_next(d, &rec, &err), 1);
		assert_in_range(decode_relative_ns(&rec), k * 1000000000LL + 499999999,
				k * 1000000000LL + 500000000);
		if (k == 0)
			assert_in_range(decode_real_ns(&rec), 1700000000499999999,
					1700000000500000000);
	}
	decode_free(d);
	mk_free(&m);
}

static void epoch_at(struct mkseg *s, uint64_t ticks, uint64_t mono, uint64_t real)
{
	mkseg_begin(s);
	mkseg_u64(s, 1000 + ticks);
	mkseg_u64(s, 1000000000000 + mono);
	mkseg_u64(s, 1700000000000000000 + real);
	mkseg_end(s, BINLOG_R_EPOCH, (uint32_t)(1000 + ticks));
}

/* The relative times of all records, in seconds. */
static void expect_seconds(const struct mk *m, const char *want)
{
	struct err err = {0};
	struct decode *d;
	struct dec_record rec;
	char got[100] = "";

	assert_int_equal(decode_new(&d, &err), 0);
	assert_int_equal(decode_add_mem(d, "log", m->p, m->len, 0, &err), 0);
	while (decode_next(d, &rec, &err) == 1)
		sprintf(got + strlen(got), " %d",
			(int)((decode_relative_ns(&rec) + 500000000) / 1000000000));
	assert_string_equal(got, want);
	decode_free(d);
}

/* CLOCK_MONOTONIC stands still while a machine is suspended for 40 s; the counter does not. */
static void test_suspended(void **state)
{
	const uint64_t s1 = 1000000000;

	for (int ring = 0; ring < 2; ring++) {
		struct mk m;
		struct mkseg s;

		mk_init(&m);
		add_dict(&m);
		mkseg_init(&s, 1000);
		epoch_at(&s, 10 * s1, 10 * s1, 10 * s1);
		mkseg_int(&s, 16, 1000 + 10 * s1, 1);
		epoch_at(&s, 50 * s1, 10 * s1 + s1 / 100, 50 * s1);
		mkseg_int(&s, 16, 1000 + 50 * s1, 2);
		epoch_at(&s, 60 * s1, 20 * s1, 60 * s1);
		mkseg_int(&s, 16, 1000 + 60 * s1, 3);
		if (ring)
			mk_ring(&m, 1, 0, &s);
		else
			mk_chunk(&m, 1, 0, &s);
		expect_seconds(&m, " 10 10 20");
		mk_free(&m);
	}
}

/* Without a sum over it, an EPOCH counts if its clocks agree. */
static void test_implausible_epoch(void **state)
{
	const uint64_t s1 = 1000000000;
	struct mk m;
	struct mkseg s;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1000 + s1, 1);
	epoch_at(&s, 2 * s1, 2 * s1 + (1ULL << 40), 2 * s1);
	mkseg_int(&s, 16, 1000 + 2 * s1, 2);
	epoch_at(&s, 4 * s1, s1, s1 + (1ULL << 40));
	mkseg_int(&s, 16, 1000 + 4 * s1, 3);
	mk_ring(&m, 1, 0, &s);
	expect_seconds(&m, " 1 2 4");
	mk_free(&m);
}

/* A small file cannot ask for all memory. */
static void test_bloated_text(void **state)
{
	enum { FIELDS = 17, WIDTH = 1048576 };
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	char fmt[12 * FIELDS + 1] = "";

	for (int n = FIELDS; n >= FIELDS - 1; n--) {
		struct decode *d;
		char *got;

		fmt[0] = '\0';
		for (int i = 0; i < n; i++)
			strcat(fmt, "%1$1048576d");
		mk_init(&m);
		mk_dict_begin(&m, 16);
		mk_site(&m, BINLOG_ERR, "src/a.c", 7, "main", fmt, 1, one_int);
		mk_dict_end(&m);
		mkseg_init(&s, 1000);
		mkseg_int(&s, 16, 1010, 1);
		mk_chunk(&m, 1, 0, &s);
		got = decode_flags(&m, 0, &d);
		c = *dec_log_counts(decode_log(d, 0));
		assert_int_equal(c.bad_values, n == FIELDS);
		if (n == FIELDS)
			assert_string_equal(got, "(a text of more than 16 MiB, by the widths "
						 "in its format)\n");
		else
			assert_int_equal(strlen(got), (size_t)n * WIDTH);
		free(got);
		decode_free(d);
		mk_free(&m);
	}
}

static void test_long_record(void **state)
{
	enum { TEXT = 100001, TOTAL = (8 + 4 + TEXT + 7) / 8 * 8, PIECE = 32728 };
	uint8_t *image = calloc(1, TOTAL);
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	char *want = malloc(TEXT + 100);

	mk_init(&m);
	add_dict(&m);
	bytes_put_u64(image, (uint64_t)17 << BINLOG_SITE_SHIFT | 1500);
	bytes_put_u32(image + 8, TEXT);
	memset(image + 12, 'q', TEXT);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	for (unsigned off = 0, n, seg = 0; off < TOTAL; off += n) {
		n = TOTAL - off < PIECE ? TOTAL - off : PIECE;
		if (s.len + n + 64 > MK_SEG - 64) {
			mk_chunk(&m, 1, MK_SEG * seg++, &s);
			mkseg_init(&s, 1000 + seg);
		}
		mkseg_u32(mkseg_begin(&s), 77);
		mkseg_u32(&s, n);
		mkseg_u64(mkseg_u64(&s, TOTAL), off);
		mkseg_end(mkseg_bytes(&s, image + off, n), BINLOG_R_FRAGMENT, 1400);
		if (off + n == TOTAL) {
			mkseg_int(&s, 16, 1600, 2);
			mk_chunk(&m, 1, MK_SEG * seg, &s);
		}
	}
	sprintf(want, "x=1\ns=");
	memset(want + 6, 'q', TEXT);
	strcpy(want + 6 + TEXT, "\nx=2\n");
	expect(&m, want, &c);
	assert_int_equal(c.broken_fragments, 0);
	assert_int_equal(c.records, 3);
	free(want);
	free(image);
	mk_free(&m);
}

static void test_inline(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	for (uint32_t i = 0; i < 3; i++) {
		const char *fmt = i < 2 ? "made up %d %s\n" : "else %d%s\n";

		mkseg_u32(mkseg_begin(&s), 33);
		mkseg_u32(&s, BINLOG_WARN | 2u << 16);
		mkseg_u32(&s, (uint32_t)strlen(fmt));
		mkseg_u32(mkseg_u32(&s, 3), 1);
		mkseg_bytes(&s, (uint8_t[]){BINLOG_T_I32, BINLOG_T_STR}, 2);
		mkseg_bytes(&s, fmt, strlen(fmt));
		mkseg_bytes(&s, "c.cf", 4);
		mkseg_u32(mkseg_u32(&s, i), 2);
		mkseg_end(mkseg_bytes(&s, "ab", 2), BINLOG_R_INLINE, 1010 + i);
	}
	mk_chunk(&m, 1, 0, &s);
	expect(&m, "made up 0 ab\nmade up 1 ab\nelse 2ab\n", &c);
	assert_int_equal(c.skipped_bytes, 0);
	mk_free(&m);
}

static void test_loss_and_thread(void **state)
{
	struct err err = {0};
	struct decode *d;
	struct dec_record rec;
	struct mk m;
	struct mkseg s;

	mk_init(&m);
	bytes_put_u64(m.p + 544, 12);
	bytes_put_u64(m.p + 552, 480);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_u32(mkseg_u32(mkseg_begin(&s), 1), 2);
	mkseg_u32(mkseg_u32(&s, 3), 0);
	mkseg_end(mkseg_bytes(&s, "worker\0\0\0\0\0\0\0\0\0\0", 16), BINLOG_R_THREAD, 1001);
	mkseg_u64(mkseg_u64(mkseg_begin(&s), 12), 480);
	mkseg_end(mkseg_u32(mkseg_u32(&s, BINLOG_LOSS_WRITE), ENOSPC), BINLOG_R_LOSS, 1002);
	mkseg_int(&s, 16, 1003, 5);
	mkseg_end(mkseg_begin(&s), 9, 0); /* of a later version */
	mk_chunk(&m, 1, 0, &s);
	assert_int_equal(decode_new(&d, &err), 0);
	assert_int_equal(decode_add_mem(d, "log", m.p, m.len, 0, &err), 0);
	assert_int_equal(decode_next(d, &rec, &err), 1);
	assert_int_equal(rec.event, DEC_LOSS);
	assert_int_equal(rec.loss.records, 12);
	assert_int_equal(rec.loss.reason, BINLOG_LOSS_WRITE);
	assert_int_equal(rec.loss.errnum, ENOSPC);
	assert_int_equal(decode_next(d, &rec, &err), 1);
	assert_int_equal(rec.pid, 1);
	assert_int_equal(rec.tid, 2);
	assert_string_equal(rec.comm, "worker");
	assert_int_equal(decode_next(d, &rec, &err), 0);
	assert_int_equal(dec_log_counts(decode_log(d, 0))->lost_records, 12);
	assert_int_equal(dec_log_counts(decode_log(d, 0))->later_kinds, 1);
	decode_free(d);
	mk_free(&m);
}

/* Two processes' logs of one machine go by CLOCK_MONOTONIC, else by the time of day. */
static void test_merge_of_logs(void **state)
{
	struct err err = {0};
	struct dec_record rec;
	struct mk m[2];
	struct mkseg s;

	for (int i = 0; i < 2; i++) {
		mk_init(&m[i]);
		/* The second one's clock of the day is an hour off. */
		bytes_put_u64(m[i].p + 80, 1700000000000000000 + (uint64_t)i * 3600000000000);
		mk_seal_header(&m[i]);
		add_dict(&m[i]);
		mkseg_init(&s, 1000);
		for (int k = 0; k < 10; k++)
			mkseg_int(&s, 16, 1000 + 10 * (unsigned)k + (unsigned)i, 2 * k + i);
		mk_chunk(&m[i], 1, 0, &s);
	}
	for (int other = 0; other < 2; other++) {
		struct decode *d;

		m[1].p[88] = other ? 'x' : 'b';
		mk_seal_header(&m[1]);
		assert_int_equal(decode_new(&d, &err), 0);
		for (int i = 0; i < 2; i++)
			assert_int_equal(decode_add_mem(d, "log", m[i].p, m[i].len, 0, &err), 0);
		for (int k = 0; k < 20; k++) {
			int want = other ? k % 10 * 2 + k / 10 : k;

			assert_int_equal(decode_next(d, &rec, &err), 1);
			assert_int_equal(rec.args[0], want);
		}
		assert_int_equal(decode_next(d, &rec, &err), 0);
		decode_free(d);
	}
	mk_free(&m[0]);
	mk_free(&m[1]);
}

/* Many streams at once keep the order of time. */
static void test_many_streams(void **state)
{
	enum { STREAMS = 300, EACH = 20 };
	struct err err = {0};
	struct decode *d;
	struct dec_record rec;
	struct mk m;
	struct mkseg s;
	uint64_t last = 0;
	int n = 0;

	mk_init(&m);
	add_dict(&m);
	for (unsigned i = 0; i < STREAMS; i++) {
		mkseg_init(&s, 1000);
		for (unsigned k = 0; k < EACH; k++)
			mkseg_int(&s, 16, 1000 + k * 1000 + i * 7919 % 1000, (int)k);
		mk_chunk(&m, STREAMS - i, (uint64_t)(STREAMS - i) << 36, &s);
	}
	assert_int_equal(decode_new(&d, &err), 0);
	assert_int_equal(decode_add_mem(d, "log", m.p, m.len, 0, &err), 0);
	for (; decode_next(d, &rec, &err) == 1; n++) {
		assert_true(rec.ticks >= last);
		last = rec.ticks;
	}
	assert_int_equal(n, STREAMS * EACH);
	assert_int_equal(dec_log_counts(decode_log(d, 0))->missing_bytes, 0);
	decode_free(d);
	mk_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example),	      cmocka_unit_test(test_order),
		cmocka_unit_test(test_time),	      cmocka_unit_test(test_calibration),
		cmocka_unit_test(test_suspended),     cmocka_unit_test(test_implausible_epoch),
		cmocka_unit_test(test_bloated_text),  cmocka_unit_test(test_long_record),
		cmocka_unit_test(test_inline),	      cmocka_unit_test(test_loss_and_thread),
		cmocka_unit_test(test_merge_of_logs), cmocka_unit_test(test_many_streams),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
