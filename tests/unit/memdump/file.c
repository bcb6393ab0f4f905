/* SPDX-License-Identifier: MIT */
/* The block file: reading back, every truncation, every flipped bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "memdump/format.h"
#include "tests/unit/memdump/made.h"

#define P(n) ((uint64_t)(n)*MADE_PAGE)

/*
 * Two spaces; blocks out of order; extents of one space that interleave between blocks. The numbers
 * are pages: 0..15 zero, 16..31 text, 32..47 noise.
 */
static const struct made_block small[] = {
	{MD_SPACE_PROC(5), 1, {{P(20), P(4)}}},
	{MD_SPACE_PROC(5), 2, {{P(16), P(2)}, {P(24), P(1)}}},
	{MD_SPACE_SHMEM(9), 1, {{0, P(2)}}},
	{MD_SPACE_PROC(5), 1, {{P(33), P(1)}}},
	{MD_SPACE_PROC(5), 2, {{P(18), P(2)}, {P(26), P(1)}}},
};
enum { NSMALL = sizeof(small) / sizeof(small[0]) };

static uint64_t made_bytes(const struct made_block *b, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		for (unsigned k = 0; k < b[i].nextents; k++)
			sum += b[i].extents[k].len;
	return sum;
}

static void make_small(int dirfd, enum md_codec_id codec)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE, .no_uring = true};
	struct md_stats st;
	struct err err = {0};

	if (made_file(dirfd, "small", small, NSMALL, codec, &fo, &st, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(st.raw_bytes, made_bytes(small, NSMALL));
}

/* Whether every stored page of @b reads back right. */
static bool block_reads(struct md_file *f, const struct made_block *b)
{
	struct err err = {0};

	for (unsigned k = 0; k < b->nextents; k++) {
		for (uint64_t a = 0; a < b->extents[k].len; a += MADE_PAGE) {
			uint64_t addr = b->extents[k].addr + a;
			uint8_t want[MADE_PAGE], got[MADE_PAGE];

			made_page(b->space, addr, want);
			if (md_file_read(f, b->space, addr, got, MADE_PAGE, &err) != MADE_PAGE)
				return false;
			assert_memory_equal(got, want, MADE_PAGE);
		}
	}
	return true;
}

static void test_read_back(void **state)
{
	static const enum md_codec_id codecs[] = {MD_CODEC_NONE, MD_CODEC_LZ4, MD_CODEC_ZSTD};

	for (unsigned c = 0; c < 3; c++) {
		struct made_dir d = made_dir();
		struct err err = {0};
		struct md_extent e;
		uint64_t space;
		uint8_t buf[2 * MADE_PAGE];

		make_small(d.fd, codecs[c]);
		struct md_file *f = md_file_open(d.fd, "small", 0, &err);

		assert_non_null(f);
		assert_int_equal(md_file_page_size(f), MADE_PAGE);
		assert_true(md_file_space(f, 0, &space));
		assert_int_equal(space, MD_SPACE_PROC(5));
		assert_true(md_file_space(f, 1, &space));
		assert_int_equal(space, MD_SPACE_SHMEM(9));
		assert_false(md_file_space(f, 2, &space));
		for (unsigned i = 0; i < NSMALL; i++)
			assert_true(block_reads(f, &small[i]));

		/* 16..24 are three blocks: merged, and cut at the address asked for. */
		assert_int_equal(md_file_extent(f, MD_SPACE_PROC(5), 0, &e), 1);
		assert_int_equal(e.addr, P(16));
		assert_int_equal(e.len, P(9));
		assert_int_equal(md_file_extent(f, MD_SPACE_PROC(5), P(19), &e), 1);
		assert_int_equal(e.addr, P(19));
		assert_int_equal(e.len, P(6));
		assert_int_equal(md_file_extent(f, MD_SPACE_PROC(5), P(25), &e), 1);
		assert_int_equal(e.addr, P(26));
		assert_int_equal(e.len, P(1));
		assert_int_equal(md_file_extent(f, MD_SPACE_PROC(5), P(35), &e), 0);
		assert_int_equal(md_file_extent(f, MD_SPACE_PROC(6), 0, &e), 0);

		/* Any address and length; across blocks; short at a hole; none in it. */
		assert_int_equal(md_file_read(f, MD_SPACE_PROC(5), P(18) - 7, buf, 14, &err), 14);
		made_page(5, P(17), buf + MADE_PAGE);
		assert_memory_equal(buf, buf + 2 * MADE_PAGE - 7, 7);
		assert_int_equal(md_file_read(f, MD_SPACE_PROC(5), P(25) - 9, buf, 100, &err), 9);
		assert_int_equal(md_file_read(f, MD_SPACE_PROC(5), P(25), buf, 100, &err), 0);
		assert_int_equal(md_file_read(f, 77, P(20), buf, 100, &err), 0);
		md_file_close(f);
		assert_int_equal(unlinkat(d.fd, "small", 0), 0);
		made_dir_remove(&d);
	}
}

static void test_no_blocks(void **state)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct made_dir d = made_dir();
	struct err err = {0};
	struct md_stats st;
	struct md_verify v;
	uint64_t space;

	assert_int_equal(made_file(d.fd, "none", NULL, 0, MD_CODEC_LZ4, &fo, &st, &err), 0);
	assert_int_equal(md_file_verify(d.fd, "none", 0, NULL, NULL, &v, &err), 0);
	struct md_file *f = md_file_open(d.fd, "none", 0, &err);

	assert_non_null(f);
	assert_false(md_file_space(f, 0, &space));
	md_file_close(f);
	unlinkat(d.fd, "none", 0);
	made_dir_remove(&d);
}

/* How many of the small file's blocks end at or before @len: those a torn file must give back. */
static unsigned whole_blocks(const uint8_t *p, size_t len)
{
	struct md_file_head fh;
	struct md_block_head h;
	uint64_t off = MD_ALIGN;
	unsigned n = 0;

	assert_int_equal(md_take_file_head(p, MD_HEAD_LEN, &fh, NULL), 0);
	while (md_take_block_head(p + off, MD_HEAD_LEN, off, &fh, &h, NULL) == 0) {
		off += md_head_span(h.nextents, MD_ALIGN) + md_align_up(h.packed_len, MD_ALIGN);
		if (off <= len)
			n++;
	}
	return n;
}

static void test_every_truncation(void **state)
{
	struct made_dir d = made_dir();
	size_t len;

	make_small(d.fd, MD_CODEC_LZ4);
	uint8_t *p = made_slurp(d.fd, "small", &len);

	assert_int_equal(whole_blocks(p, len), NSMALL);
	for (size_t cut = 0; cut < len; cut++) {
		struct err err = {0};
		struct md_verify v;
		unsigned want = cut < MD_HEAD_LEN ? 0 : whole_blocks(p, cut), got = 0;

		made_spit(d.fd, "torn", p, cut);
		assert_null(md_file_open(d.fd, "torn", 0, &err));
		assert_int_equal(err.errnum, EBADMSG);
		err_clear(&err);
		assert_int_equal(md_file_verify(d.fd, "torn", 1, NULL, NULL, &v, &err), -EBADMSG);
		assert_true(v.bad > 0);
		err_clear(&err);
		struct md_file *f = md_file_open(d.fd, "torn", MD_FILE_REBUILD, &err);

		assert_int_equal(f != NULL, cut >= MD_HEAD_LEN);
		for (unsigned i = 0; f && i < NSMALL; i++)
			got += block_reads(f, &small[i]);
		if (got != want)
			fail_msg("cut at %zu: %u blocks, not %u", cut, got, want);
		md_file_close(f);
		unlinkat(d.fd, "torn", 0);
	}
	free(p);
	unlinkat(d.fd, "small", 0);
	made_dir_remove(&d);
}

static void test_every_bit(void **state)
{
	struct made_dir d = made_dir();
	struct err err = {0};
	struct md_verify v;
	size_t len;

	make_small(d.fd, MD_CODEC_ZSTD);
	assert_int_equal(md_file_verify(d.fd, "small", 1, NULL, NULL, &v, &err), 0);
	assert_int_equal(v.blocks, NSMALL);
	uint8_t *p = made_slurp(d.fd, "small", &len);
	int fd = openat(d.fd, "small", O_WRONLY);

	for (size_t bit = 0; bit < len * 8; bit++) {
		uint8_t flipped = (uint8_t)(p[bit / 8] ^ 1 << bit % 8);

		assert_int_equal(pwrite(fd, &flipped, 1, (off_t)(bit / 8)), 1);
		err_clear(&err);
		int ret = md_file_verify(d.fd, "small", 1, NULL, NULL, &v, &err);

		/* A flipped major or minor reads as a newer format, but is under the sum. */
		if (ret != -EBADMSG || !v.bad)
			fail_msg("flip of bit %zu of byte %#zx: %d", bit % 8, bit / 8, ret);
		assert_int_equal(pwrite(fd, p + bit / 8, 1, (off_t)(bit / 8)), 1);
	}
	err_clear(&err);
	assert_int_equal(md_file_verify(d.fd, "small", 1, NULL, NULL, &v, &err), 0);
	close(fd);
	free(p);
	unlinkat(d.fd, "small", 0);
	made_dir_remove(&d);
}

/* A hole where a write in flight never came, with whole blocks behind it. */
static void test_hole_in_torn_file(void **state)
{
	struct made_dir d = made_dir();
	struct md_file_head fh;
	struct md_block_head h;
	struct err err = {0};
	size_t len;

	make_small(d.fd, MD_CODEC_LZ4);
	uint8_t *p = made_slurp(d.fd, "small", &len);

	assert_int_equal(md_take_file_head(p, len, &fh, &err), 0);
	assert_int_equal(md_take_block_head(p + MD_ALIGN, len, MD_ALIGN, &fh, &h, &err), 0);
	memset(p + MD_ALIGN, 0,
	       md_head_span(h.nextents, MD_ALIGN) + md_align_up(h.packed_len, MD_ALIGN));
	made_spit(d.fd, "torn", p, len - MD_HEAD_LEN);
	struct md_file *f = md_file_open(d.fd, "torn", MD_FILE_REBUILD, &err);

	assert_non_null(f);
	assert_false(block_reads(f, &small[0]));
	for (unsigned i = 1; i < NSMALL; i++)
		assert_true(block_reads(f, &small[i]));
	md_file_close(f);
	free(p);
	unlinkat(d.fd, "torn", 0);
	unlinkat(d.fd, "small", 0);
	made_dir_remove(&d);
}

/* A page of the target that holds a block of another file is no block of this one. */
static void test_block_file_in_memory(void **state)
{
	struct made_dir d = made_dir();
	struct err err = {0};
	size_t len, other_len;

	make_small(d.fd, MD_CODEC_NONE);
	uint8_t *p = made_slurp(d.fd, "small", &len);

	unlinkat(d.fd, "small", 0);
	make_small(d.fd, MD_CODEC_NONE);
	uint8_t *other = made_slurp(d.fd, "small", &other_len);
	uint8_t *both = malloc(len + other_len);

	memcpy(both, p, len);
	memcpy(both + len, other + MD_ALIGN, other_len - MD_ALIGN);
	made_spit(d.fd, "torn", both, len + other_len - MD_ALIGN - MD_HEAD_LEN);
	struct md_file *f = md_file_open(d.fd, "torn", MD_FILE_REBUILD, &err);

	/* Each page twice would be refused. */
	if (!f)
		fail_msg("%s", err.msg);
	assert_true(block_reads(f, &small[0]));
	md_file_close(f);
	free(p);
	free(other);
	free(both);
	unlinkat(d.fd, "torn", 0);
	unlinkat(d.fd, "small", 0);
	made_dir_remove(&d);
}

static void keep_line(void *arg, const char *line)
{
	snprintf(arg, 512, "%s", line);
}

static void test_page_stored_twice(void **state)
{
	static const struct made_block twice[] = {
		{3, 1, {{P(20), P(4)}}},
		{3, 1, {{P(23), P(1)}}},
	};
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct made_dir d = made_dir();
	struct err err = {0};
	struct md_stats st;
	struct md_verify v;
	char line[512];

	assert_int_equal(made_file(d.fd, "twice", twice, 2, MD_CODEC_LZ4, &fo, &st, &err), 0);
	assert_int_equal(md_file_verify(d.fd, "twice", 1, keep_line, line, &v, &err), -EBADMSG);
	assert_int_equal(v.bad, 1);
	assert_non_null(strstr(line, "stored twice"));
	err_clear(&err);
	assert_null(md_file_open(d.fd, "twice", 0, &err));
	unlinkat(d.fd, "twice", 0);
	made_dir_remove(&d);
}

static void test_not_a_block_file(void **state)
{
	struct made_dir d = made_dir();
	struct err err = {0};
	struct md_verify v;

	assert_null(md_file_open(d.fd, "absent", 0, &err));
	assert_int_equal(err.errnum, ENOENT);
	err_clear(&err);
	assert_int_equal(md_file_verify(d.fd, "absent", 1, NULL, NULL, &v, &err), -ENOENT);
	err_clear(&err);
	assert_int_equal(symlinkat("/etc/passwd", d.fd, "link"), 0);
	assert_null(md_file_open(d.fd, "link", 0, &err));
	assert_int_equal(err.errnum, ELOOP);
	err_clear(&err);
	made_spit(d.fd, "text", (const uint8_t *)"#!/bin/sh\n", 10);
	assert_null(md_file_open(d.fd, "text", MD_FILE_REBUILD, &err));
	assert_int_equal(err.errnum, EBADMSG);
	assert_null(md_file_open(d.fd, ".", 0, &err));
	unlinkat(d.fd, "link", 0);
	unlinkat(d.fd, "text", 0);
	made_dir_remove(&d);
}

/* Refused at once: nobody waits for a writer. */
static void test_fifo(void **state)
{
	struct made_dir d = made_dir();
	struct err err = {0};

	assert_int_equal(mkfifoat(d.fd, "fifo", 0600), 0);
	alarm(20);
	assert_null(md_file_open(d.fd, "fifo", 0, &err));
	alarm(0);
	assert_int_equal(err.class, ERR_IMAGE);
	assert_non_null(strstr(err.msg, "fifo"));
	unlinkat(d.fd, "fifo", 0);
	made_dir_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_back),
		cmocka_unit_test(test_no_blocks),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_hole_in_torn_file),
		cmocka_unit_test(test_block_file_in_memory),
		cmocka_unit_test(test_page_stored_twice),
		cmocka_unit_test(test_not_a_block_file),
		cmocka_unit_test(test_fifo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
