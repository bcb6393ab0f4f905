/* SPDX-License-Identifier: MIT */
/* Whole logs: streams, segments, order, time, long records, damage. */
#include <errno.h>

#include "tests/unit/bindecode/mklog.h"
#include "tools/bindecode/decode.h"

static const uint8_t one_int[] = {BINLOG_T_I32};

/* Site 16: "x=%d\n", an error; 17: "s=%s\n", debug. */
static void add_dict(struct mk *m)
{
	mk_dict_begin(m, 16);
	mk_site(m, BINLOG_ERR, "src/a.c", 7, "main", "x=%d\n", 1, one_int);
	mk_site(m, BINLOG_DEBUG, "b.c", 9, "other", "s=%s\n", 1, (uint8_t[]){BINLOG_T_STR});
	mk_dict_end(m);
}

/* All text of the log, each record's, in order; the caller frees. @ret_d may be NULL. */
static char *decode_flags(const struct mk *m, unsigned flags, struct decode **ret_d)
{
	struct err err = {0};
	struct decode *d;
	struct dec_record rec;
	struct dec_buf b;
	int r;

	dec_buf_init(&b);
	assert_int_equal(decode_new(&d, &err), 0);
	if (decode_add_mem(d, "log", m->p, m->len, flags, &err))
		fail_msg("%s", err.msg);
	while ((r = decode_next(d, &rec, &err)) > 0) {
		if (rec.event == DEC_CALL)
			decode_text(&rec, &b);
		else
			dec_buf_printf(&b, "lost %d\n", (int)rec.loss.records);
	}
	assert_int_equal(r, 0);
	dec_buf_chr(&b, '\0');
	if (ret_d)
		*ret_d = d;
	else
		decode_free(d);
	return b.p;
}

static void expect(const struct mk *m, const char *want, struct dec_counts *ret)
{
	struct decode *d;
	char *got = decode_flags(m, 0, &d);

	assert_string_equal(got, want);
	free(got);
	*ret = *dec_log_counts(decode_log(d, 0));
	decode_free(d);
}

static int open_fails(const void *p, size_t len, struct err *err)
{
	struct decode *d;
	int r;

	memset(err, 0, sizeof(*err));
	assert_int_equal(decode_new(&d, err), 0);
	r = decode_add_mem(d, "log", p, len, 0, err);
	decode_free(d);
	return r;
}

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

/* The same segment in a chunk and in a ring; the chunk counts unless it is torn. */
static void test_chunk_and_ring(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t off;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mkseg_int(&s, 16, 1020, 2);
	off = mk_chunk(&m, 1, 0, &s);
	mk_ring(&m, 1, 0, &s);
	expect(&m, "x=1\nx=2\n", &c);
	assert_int_equal(c.torn_chunks, 0);
	memset(m.p + off + 100, 0, 20);
	expect(&m, "x=1\nx=2\n", &c);
	assert_int_equal(c.torn_chunks, 1);
	assert_int_equal(c.bad_chunks, 0);
	mk_free(&m);
}

/* Gaps of calls that never ended, with a handler's records behind them. */
static void test_torn(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mkseg_u64(mkseg_begin(&s), 0x4141414141414141); /* arguments, but no word */
	s.len += 16;
	mkseg_int(&s, 16, 1020, 2);
	mkseg_u64(mkseg_begin(&s), 7);
	mkseg_end(&s, BINLOG_R_PENDING, 0);
	mkseg_int(&s, 16, 1030, 3);
	mk_ring(&m, 1, 0, &s);
	expect(&m, "x=1\nx=2\nx=3\n", &c);
	assert_int_equal(c.skipped_bytes, 0);
	assert_int_equal(c.torn_bytes, 8);
	assert_int_equal(c.pending, 1);
	mk_free(&m);
}

static void test_damaged_chunk(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t off;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	for (int i = 1; i <= 5; i++)
		mkseg_int(&s, 16, 1000 + (unsigned)i, i);
	off = mk_chunk(&m, 1, 0, &s);
	mkseg_init(&s, 2000);
	mkseg_int(&s, 16, 2001, 6);
	mk_chunk(&m, 1, MK_SEG, &s);
	/* The third record's word: EPOCH 32 bytes, records of 16. */
	memset(m.p + off + 64 + 32 + 2 * 16, 0xff, 8);
	expect(&m, "x=1\nx=2\nx=4\nx=5\nx=6\n", &c);
	assert_int_equal(c.bad_chunks, 1);
	assert_int_equal(c.skipped_bytes, 16);
	mk_free(&m);
}

/* A damaged EPOCH shall not hold back what comes after its segment. */
static void test_damaged_epoch(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t off;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1001, 1);
	mk_chunk(&m, 1, 0, &s);
	mkseg_init(&s, 2000);
	mkseg_int(&s, 16, 2001, 2);
	off = mk_chunk(&m, 1, MK_SEG, &s);
	mkseg_init(&s, 3000);
	mkseg_int(&s, 16, 3001, 3);
	mk_chunk(&m, 1, 2 * MK_SEG, &s);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 3500, 4);
	mk_chunk(&m, 2, 0, &s);
	m.p[off + 64 + 8 + 7] ^= 0x40;
	expect(&m, "x=1\nx=2\nx=3\nx=4\n", &c);
	assert_int_equal(c.bad_chunks, 1);
	mk_free(&m);
}

static void test_damaged_header_of_block(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t off;

	mk_init(&m);
	add_dict(&m);
	for (unsigned i = 0; i < 3; i++) {
		mkseg_init(&s, 1000 * (i + 1));
		mkseg_int(&s, 16, 1000 * (i + 1), (int)i);
		off = mk_chunk(&m, 1, i * MK_SEG, &s);
		if (i == 1)
			m.p[off + 20] ^= 1;
	}
	mkseg_init(&s, 9000);
	mk_ring(&m, 2, 0, &s);
	expect(&m, "x=0\nx=2\n", &c);
	assert_int_equal(c.skipped_bytes, 4096);
	assert_int_equal(c.missing_bytes, MK_SEG);
	mk_free(&m);
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

static void test_unknown_site(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mkseg_int(&s, 400, 1011, 2);
	mkseg_int(&s, 16, 1012, 3);
	mk_chunk(&m, 1, 0, &s);
	expect(&m, "x=1\nx=3\n", &c);
	assert_int_equal(c.unknown_sites, 1);
	mk_free(&m);
}

static void test_foreign_dictionary(void **state)
{
	struct err err;
	struct mk m;

	mk_init(&m);
	add_dict(&m);
	m.p[104] ^= 1;
	mk_seal_header(&m);
	assert_int_equal(open_fails(m.p, m.len, &err), -EBADMSG);
	assert_int_equal(err.class, ERR_IMAGE);
	assert_non_null(strstr(err.msg, "deadbeef"));
	mk_free(&m);
}

/* Without a build-id the sum of the dictionary takes its place. */
static void test_sum_for_build_id(void **state)
{
	struct err err;
	struct mk m;

	mk_init(&m);
	add_dict(&m);
	m.p[49] = 8;
	m.p[50] = 2;
	memcpy(m.p + 104, m.p + 4096 + 48, 8);
	mk_seal_header(&m);
	assert_int_equal(open_fails(m.p, m.len, &err), 0);
	m.p[104] ^= 1;
	mk_seal_header(&m);
	assert_int_equal(open_fails(m.p, m.len, &err), -EBADMSG);
	mk_free(&m);
}

static void test_refused_files(void **state)
{
	struct err err;
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	char *got;

	assert_int_equal(open_fails("", 0, &err), -EBADMSG);
	assert_int_equal(open_fails("no log at all, just text", 24, &err), -EBADMSG);
	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mk_chunk(&m, 1, 0, &s);
	assert_int_equal(open_fails(m.p, 100, &err), -EBADMSG);
	bytes_put_u16(m.p + 14, 1);
	mk_seal_header(&m);
	assert_int_equal(open_fails(m.p, m.len, &err), -EOPNOTSUPP);
	bytes_put_u16(m.p + 14, 0);
	assert_int_equal(open_fails(m.p, m.len, &err), -EBADMSG);
	assert_true(err.hint[0]);
	got = decode_flags(&m, DEC_ADD_FORCE, NULL);
	assert_string_equal(got, "x=1\n");
	free(got);
	mk_seal_header(&m);
	expect(&m, "x=1\n", &c);
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

/* Whatever bit is turned: no crash, and the log says so or the text is what it was. */
static void test_every_bit(void **state)
{
	struct mk m;
	struct mkseg s;
	struct err err;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mkseg_u32(mkseg_begin(&s), 5);
	mkseg_end(mkseg_bytes(&s, "hello", 5), 17, 1020);
	mk_chunk(&m, 1, 0, &s);
	for (size_t bit = 0; bit < m.len * 8; bit++) {
		struct decode *d;
		struct dec_record rec;
		struct dec_buf b;
		struct dec_counts c;
		bool same;

		if (m.p[bit / 8] == 0 && bit % 8)
			continue; /* of zeros one bit per byte will do */
		m.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		memset(&err, 0, sizeof(err));
		dec_buf_init(&b);
		assert_int_equal(decode_new(&d, &err), 0);
		if (!decode_add_mem(d, "log", m.p, m.len, 0, &err)) {
			while (decode_next(d, &rec, &err) == 1)
				if (rec.event == DEC_CALL)
					decode_text(&rec, &b);
			dec_buf_chr(&b, '\0');
			c = *dec_log_counts(decode_log(d, 0));
			same = !strcmp(b.p, "x=1\ns=hello\n");
			if (!same && !c.skipped_bytes && !c.bad_chunks && !c.bad_dicts)
				fail_msg("bit %zu: \"%s\" without a word", bit, b.p);
		} else {
			assert_true(err.errnum);
		}
		dec_buf_deinit(&b);
		decode_free(d);
		m.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	mk_free(&m);
}

/* Cut anywhere: what is in front of the cut comes out. */
static void test_every_cut(void **state)
{
	struct mk m;
	struct mkseg s;
	struct err err;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	for (int i = 0; i < 20; i++)
		mkseg_int(&s, 16, 1010, i);
	mk_chunk(&m, 1, 0, &s);
	for (size_t len = m.len; len-- > 4096;) {
		struct decode *d;
		struct dec_record rec;
		size_t n = 0;
		size_t records = len < 8192 + 96 ? 0 : (len - 8192 - 96) / 16;

		memset(&err, 0, sizeof(err));
		assert_int_equal(decode_new(&d, &err), 0);
		assert_int_equal(decode_add_mem(d, "log", m.p, len, 0, &err), 0);
		while (decode_next(d, &rec, &err) == 1)
			n++;
		assert_int_equal(n, records > 20 ? 20 : records);
		decode_free(d);
	}
	mk_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_calibration),
		cmocka_unit_test(test_chunk_and_ring),
		cmocka_unit_test(test_torn),
		cmocka_unit_test(test_damaged_chunk),
		cmocka_unit_test(test_damaged_epoch),
		cmocka_unit_test(test_damaged_header_of_block),
		cmocka_unit_test(test_long_record),
		cmocka_unit_test(test_inline),
		cmocka_unit_test(test_loss_and_thread),
		cmocka_unit_test(test_unknown_site),
		cmocka_unit_test(test_foreign_dictionary),
		cmocka_unit_test(test_sum_for_build_id),
		cmocka_unit_test(test_refused_files),
		cmocka_unit_test(test_merge_of_logs),
		cmocka_unit_test(test_many_streams),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_every_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
