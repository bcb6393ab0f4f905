/* SPDX-License-Identifier: MIT */
/* Logs that are torn, cut, damaged, foreign, or no logs at all. */
#include <errno.h>

#include "tests/unit/bindecode/decoded.h"

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
	s.len += 16; /* a place, but no word */
	mkseg_int(&s, 16, 1020, 2);
	mkseg_u64(mkseg_begin(&s), 7);
	mkseg_end(&s, BINLOG_R_PENDING, 0);
	mkseg_int(&s, 16, 1030, 3);
	mk_ring(&m, 1, 0, &s);
	expect(&m, "x=1\nx=2\nx=3\n", &c);
	assert_int_equal(c.skipped_bytes, 0);
	assert_int_equal(c.torn_bytes, 16);
	assert_int_equal(c.pending, 1);
	mk_free(&m);
}

/* PENDING comes before the first argument: arguments without a word were never a call's. */
static void test_no_tear(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mkseg_u64(mkseg_begin(&s), 0x4141414141414141);
	s.len += 16;
	mkseg_int(&s, 16, 1020, 2);
	mk_ring(&m, 1, 0, &s);
	expect(&m, "x=1\nx=2\n", &c);
	assert_int_equal(c.skipped_bytes, 8);
	mk_free(&m);
}

/* A gap as long as a segment may be: its length squared would take an hour. */
static void test_long_gap(void **state)
{
	enum { LEN = 32 << 20 };
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t off;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	off = m.len;
	mk_ring(&m, 1, 0, &s);
	mk_room(&m, LEN - MK_SEG);
	memset(m.p + off + 4096 + MK_SEG, 0, LEN - MK_SEG);
	/* The record once more, as the last of the slot. */
	memcpy(m.p + m.len - 16, m.p + off + 4096 + 64 + s.len - 16, 16);
	bytes_put_u32(m.p + off + 48, LEN);
	mk_block(&m, off + 4096, BINLOG_BLOCK_SEG, 0);
	mk_block(&m, off, BINLOG_BLOCK_RING, 0);
	expect(&m, "x=1\nx=1\n", &c);
	assert_int_equal(c.skipped_bytes, 0);
	mk_free(&m);
}

/* Behind a segment at the end of all positions would come one at the beginning, for ever. */
static void test_last_position(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mk_ring(&m, 1, UINT64_MAX, &s);
	mk_chunk(&m, 2, UINT64_MAX - 4095, &s);
	expect(&m, "", &c);
	assert_int_equal(c.bad_chunks, 1);
	mk_free(&m);
}

/* What a closed log handed out must be there. */
static void test_account(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t off;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mk_chunk(&m, 1, 1ULL << 36, &s);
	off = mk_chunk(&m, 2, (2ULL << 36) + MK_SEG, &s);
	bytes_put_u64(m.p + offsetof(struct binlog_header, next), m.len + 8192);
	bytes_put_u32(m.p + offsetof(struct binlog_header, next_stream), 4);
	bytes_put_u32(m.p + offsetof(struct binlog_header, closed), 0);
	expect(&m, "x=1\nx=1\n", &c);
	assert_int_equal(c.missing_bytes, MK_SEG);
	assert_int_equal(c.unbegun_streams, 1);
	assert_int_equal(c.lost_streams + c.cut_bytes + c.empty_bytes + c.unfilled_bytes, 0);
	bytes_put_u32(m.p + offsetof(struct binlog_header, closed), 1);
	expect(&m, "x=1\nx=1\n", &c);
	assert_int_equal(c.lost_streams, 1);
	assert_int_equal(c.cut_bytes, 8192);
	memset(m.p + off, 0, m.len - off);
	expect(&m, "x=1\n", &c);
	assert_int_equal(c.lost_streams, 2);
	assert_int_equal(c.empty_bytes, m.len - off);
	mk_free(&m);
}

/* A chunk that is gone without a trace, in a log that was never closed. */
static void test_chunks_counted(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t off;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mk_chunk(&m, 1, 1ULL << 36, &s);
	off = mk_chunk(&m, 1, (1ULL << 36) + MK_SEG, &s);
	bytes_put_u64(m.p + offsetof(struct binlog_header, chunks), 2);
	expect(&m, "x=1\nx=1\n", &c);
	assert_int_equal(c.missing_chunks, 0);
	memset(m.p + off, 0, m.len - off);
	/* The field means nothing in a log of version 1.0. */
	expect(&m, "x=1\n", &c);
	assert_int_equal(c.missing_chunks, 0);
	bytes_put_u16(m.p + 14, 1);
	mk_seal_header(&m);
	expect(&m, "x=1\n", &c);
	assert_int_equal(c.missing_chunks, 1);
	m.len = off;
	expect(&m, "x=1\n", &c);
	assert_int_equal(c.missing_chunks, 1);
	/* A writer that was killed may not have counted its last one. */
	bytes_put_u64(m.p + offsetof(struct binlog_header, chunks), 0);
	expect(&m, "x=1\n", &c);
	assert_int_equal(c.missing_chunks, 0);
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
	bytes_put_u16(m.p + 14, BINLOG_MINOR + 1);
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
		cmocka_unit_test(test_chunk_and_ring),
		cmocka_unit_test(test_torn),
		cmocka_unit_test(test_no_tear),
		cmocka_unit_test(test_long_gap),
		cmocka_unit_test(test_last_position),
		cmocka_unit_test(test_account),
		cmocka_unit_test(test_chunks_counted),
		cmocka_unit_test(test_damaged_chunk),
		cmocka_unit_test(test_damaged_epoch),
		cmocka_unit_test(test_damaged_header_of_block),
		cmocka_unit_test(test_unknown_site),
		cmocka_unit_test(test_foreign_dictionary),
		cmocka_unit_test(test_sum_for_build_id),
		cmocka_unit_test(test_refused_files),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_every_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
