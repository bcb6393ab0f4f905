/* SPDX-License-Identifier: MIT */
/* What a log says of records that are gone without a trace of their own. */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/unit/bindecode/decoded.h"

static struct {
	unsigned calls;
	off_t slot;	 /* the first read of all of it */
	unsigned hidden; /* finds zeros from this byte on */
	unsigned len;
	unsigned reads; /* of it */
	off_t head;	/* of a slot */
	unsigned heads; /* reads there, of less than the slot */
} spy;

/* In place of libc's: counts, and is as late as a writer can make a reader. */
ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	ssize_t n = syscall(SYS_pread64, fd, buf, len, off);

	spy.calls++;
	spy.heads += spy.head && off == spy.head && len < MK_SEG;
	if (spy.slot && off == spy.slot && len == MK_SEG && n == MK_SEG && !spy.reads++)
		memset((char *)buf + spy.hidden, 0, spy.len);
	return n;
}

/* The log as a file of @len bytes, behind its own bytes a hole. */
static struct decode *decode_file(const struct mk *m, off_t len, unsigned flags)
{
	int fd = memfd_create("log", MFD_CLOEXEC);
	char path[40];
	struct err err = {0};
	struct decode *d;

	assert_true(fd >= 0);
	sprintf(path, "/proc/self/fd/%d", fd);
	assert_int_equal(write(fd, m->p, m->len), m->len);
	assert_int_equal(ftruncate(fd, len), 0);
	assert_int_equal(decode_new(&d, &err), 0);
	if (decode_add(d, path, flags, &err))
		fail_msg("%s", err.msg);
	close(fd);
	return d;
}

/* A ring of a million slots, all of them a hole, is not looked at slot by slot. */
static void test_sparse_ring(void **state)
{
	enum { SLOTS = 1 << 20 };
	uint64_t len = 4096 + (uint64_t)SLOTS * MK_SEG;
	struct mk m;
	size_t off;

	mk_init(&m);
	add_dict(&m);
	off = m.len;
	mk_room(&m, 4096);
	bytes_put_u32(m.p + off + 32, 1);
	bytes_put_u32(m.p + off + 44, SLOTS);
	bytes_put_u32(m.p + off + 48, MK_SEG);
	bytes_put_u32(m.p + off + 52, 4096);
	m.len += len - 4096; /* for the header alone */
	mk_block(&m, off, BINLOG_BLOCK_RING, 0);
	m.len -= len - 4096;
	spy.calls = 0;
	decode_free(decode_file(&m, (off_t)(off + len), 0));
	assert_in_range(spy.calls, 1, 100);
	mk_free(&m);
}

/* Slots before a hole are looked at again, however far the hole goes on behind the ring. */
static void test_hole_in_ring(void **state)
{
	enum { NSLOTS = 3, BEHIND = 40 };
	unsigned heads[2];
	struct mkseg s;

	for (unsigned more = 0; more < 2; more++) {
		struct mk m;
		size_t off, slot;

		mk_init(&m);
		bytes_put_u32(m.p + offsetof(struct binlog_header, closed), 0);
		add_dict(&m);
		mkseg_init(&s, 1000);
		mkseg_int(&s, 16, 1010, 1);
		slot = mk_ring(&m, 1, 0, &s);
		off = slot - 4096;
		bytes_put_u32(m.p + off + 44, NSLOTS);
		m.len += (NSLOTS - 1) * MK_SEG; /* for the header alone */
		mk_block(&m, off, BINLOG_BLOCK_RING, 0);
		m.len -= (NSLOTS - 1) * MK_SEG;
		spy.head = (off_t)slot;
		spy.heads = 0;
		decode_free(decode_file(&m, (off_t)(slot + (NSLOTS + (more ? BEHIND : 0)) * MK_SEG),
					0));
		heads[more] = spy.heads;
		spy.head = 0;
		mk_free(&m);
	}
	assert_true(heads[0] > 1);
	assert_int_equal(heads[1], heads[0]);
}

/* A record whose word is there before its arguments were read is read again. */
static void test_read_twice(void **state)
{
	struct err err = {0};
	struct dec_record rec;
	struct decode *d;
	struct dec_buf b;
	struct mk m;
	struct mkseg s;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	spy.slot = (off_t)mk_ring(&m, 1, 0, &s);
	spy.hidden = 64 + 32 + 8; /* the call's argument */
	spy.len = 4;
	spy.reads = 0;
	d = decode_file(&m, (off_t)m.len, 0);
	assert_int_equal(decode_next(d, &rec, &err), 1);
	dec_buf_init(&b);
	assert_true(decode_text(&rec, &b));
	dec_buf_chr(&b, '\0');
	assert_string_equal(b.p, "x=1\n");
	assert_int_equal(spy.reads, 2);
	spy.slot = 0;
	dec_buf_deinit(&b);
	decode_free(d);
	mk_free(&m);
}

/* What the ring's page counts as complete, 64 bytes before its slots. */
static void set_done(struct mk *m, size_t slot, uint64_t done)
{
	bytes_put_u64(m->p + slot - 64, done);
}

/* Zeros leave no trace but in the count of the ring. */
static void test_zeroed_slot(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t slot;
	uint64_t pos = 1ULL << 36;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	for (int i = 0; i < 1000; i++)
		mkseg_int(&s, 16, 1010, 1);
	slot = mk_ring(&m, 1, pos, &s);
	set_done(&m, slot, pos + 64 + s.len);
	bytes_put_u32(m.p + offsetof(struct binlog_header, closed), 0);
	bytes_put_u32(m.p + offsetof(struct binlog_header, next_stream), 2);
	assert_int_equal(count(&m, &c), 1000);
	assert_int_equal(c.missing_bytes, 0);
	/* A count that is behind is allowed, and one of the segment before it says nothing. */
	set_done(&m, slot, pos + 64 + s.len - 16);
	assert_int_equal(count(&m, &c), 1000);
	assert_int_equal(c.missing_bytes, 0);
	set_done(&m, slot, pos);
	assert_int_equal(count(&m, &c), 1000);
	assert_int_equal(c.missing_bytes, 0);
	set_done(&m, slot, pos + 64 + s.len);
	/* Records 100 to 199 are gone. */
	memset(m.p + slot + 64 + 32 + 100 * 16, 0, 100 * 16);
	assert_int_equal(count(&m, &c), 900);
	assert_int_equal(c.missing_bytes, 1600);
	assert_int_equal(c.skipped_bytes, 0);
	memset(m.p + slot, 0, MK_SEG);
	assert_int_equal(count(&m, &c), 0);
	assert_int_equal(c.missing_bytes, 64 + s.len);
	mk_free(&m);
}

/* A segment that was left before the one that the ring is at is full and without a gap. */
static void test_zeroed_left_segment(void **state)
{
	enum { N = (MK_SEG - 64 - 32) / 16 };
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t slot, second;
	uint64_t pos = 1ULL << 36;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	for (int i = 0; i < N; i++)
		mkseg_int(&s, 16, 1010, 1);
	slot = mk_ring(&m, 1, pos, &s);
	set_done(&m, slot, pos + MK_SEG + 64 + 32);
	mk_room(&m, MK_SEG);
	second = slot + MK_SEG;
	memcpy(m.p + second + 64, s.p + 64, 32); /* its EPOCH */
	mk_seg_head(m.p + second, 1, 0, pos + MK_SEG);
	mk_block(&m, second, BINLOG_BLOCK_SEG, 0);
	bytes_put_u32(m.p + slot - 4096 + 44, 2);
	mk_block(&m, slot - 4096, BINLOG_BLOCK_RING, 0);
	assert_int_equal(count(&m, &c), N);
	assert_int_equal(c.missing_bytes, 0);
	/* The record that did not fit may have been a long one. */
	memset(m.p + slot + MK_SEG - 8000, 0, 8000);
	assert_int_equal(count(&m, &c), N - 500);
	assert_int_equal(c.missing_bytes, 0);
	memset(m.p + slot + MK_SEG - 40000, 0, 40000);
	assert_int_equal(count(&m, &c), N - 2500);
	assert_int_equal(c.missing_bytes, 40000);
	memcpy(m.p + slot + 64, s.p + 64, MK_SEG - 64);
	memset(m.p + slot + 64 + 32 + 160, 0, 160);
	assert_int_equal(count(&m, &c), N - 10);
	assert_int_equal(c.missing_bytes, 160);
	mk_free(&m);
}

/* The record that a zeroed page cuts is none: a text has no NULs. */
static void test_zeroed_page(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;
	size_t slot;

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	while (s.len + 64 < 4096 - 16)
		mkseg_int(&s, 16, 1010, 1);
	mkseg_u32(mkseg_begin(&s), 20);
	mkseg_end(mkseg_bytes(&s, "over the page's edge", 20), 17, 1020);
	slot = mk_ring(&m, 1, 0, &s);
	assert_int_equal(count(&m, &c), 250);
	assert_int_equal(c.skipped_bytes, 0);
	memset(m.p + slot + 4096, 0, 4096);
	assert_int_equal(count(&m, &c), 249);
	assert_true(c.skipped_bytes);
	mk_free(&m);
}

/* The end of a log that was never closed. */
static void test_cut_unclosed(void **state)
{
	enum { RING = 4096 + 2 * MK_SEG };
	/* clang-format off */
	static const struct {
		uint32_t mib; /* of the file */
		uint32_t more;
		uint32_t preallocated; /* MiB */
		uint32_t gone;
		bool cut;
	} cases[] = {
		{0, 12288, 4, 4096, true},
		{0, 12288, 0, 4096, false},
		{4, 8192, 8, RING, false}, /* died as the file was about to grow, and a ring with it */
		{4, 8192, 8, RING + 4096, true},
		{4, 0, 16, 4096, true},
		{8, 4096, 8, 4096, false},
	};
	/* clang-format on */

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct mk m;
		struct mkseg s;
		struct dec_counts c;
		size_t len = ((size_t)cases[i].mib << 20) + cases[i].more;

		mk_init(&m);
		add_dict(&m);
		mkseg_init(&s, 1000);
		mk_chunk(&m, 1, 1ULL << 36, &s);
		assert_int_equal(m.len, 12288);
		mk_room(&m, len - m.len);
		bytes_put_u32(m.p + offsetof(struct binlog_header, closed), 0);
		bytes_put_u32(m.p + offsetof(struct binlog_header, next_stream), 2);
		bytes_put_u64(m.p + offsetof(struct binlog_header, next), len + cases[i].gone);
		bytes_put_u64(m.p + offsetof(struct binlog_header, preallocated),
			      (uint64_t)cases[i].preallocated << 20);
		count(&m, &c);
		if (c.cut_bytes != cases[i].cut * cases[i].gone)
			fail_msg("case %u: %d bytes cut", i, (int)c.cut_bytes);
		/* Who lost records had no disk for them. */
		bytes_put_u64(m.p + offsetof(struct binlog_header, lost_records), 1);
		count(&m, &c);
		assert_int_equal(c.cut_bytes, 0);
		mk_free(&m);
	}
	/* All blocks are cut off, of a log that had a stream; a log that was being opened. */
	for (unsigned stream = 1; stream <= 2; stream++) {
		struct mk m;
		struct dec_counts c;

		mk_init(&m);
		bytes_put_u32(m.p + offsetof(struct binlog_header, closed), 0);
		bytes_put_u32(m.p + offsetof(struct binlog_header, next_stream), stream);
		bytes_put_u64(m.p + offsetof(struct binlog_header, next), 8192);
		bytes_put_u64(m.p + offsetof(struct binlog_header, preallocated), 4 << 20);
		count(&m, &c);
		assert_int_equal(c.cut_bytes, (stream - 1) * 4096);
		mk_free(&m);
	}
}

/* Two modules with the same numbers: whose calls are they? */
static void test_doubled_site(void **state)
{
	struct mk m;
	struct mkseg s;
	struct dec_counts c;

	mk_init(&m);
	add_dict(&m);
	mk_dict_begin(&m, 17);
	mk_site(&m, BINLOG_ERR, "c.c", 7, "other", "y=%d\n", 1, one_int);
	mk_dict_end(&m);
	mkseg_init(&s, 1000);
	mkseg_int(&s, 16, 1010, 1);
	mk_chunk(&m, 1, 0, &s);
	expect(&m, "x=1\n", &c);
	assert_int_equal(c.doubled_sites, 1);
	mk_free(&m);
}

static void add_fragment(struct mkseg *s, const uint8_t *image, uint32_t id, uint64_t off,
			 uint32_t n)
{
	mkseg_u32(mkseg_begin(s), id);
	mkseg_u32(s, n);
	mkseg_u64(mkseg_u64(s, 96), off);
	mkseg_end(mkseg_bytes(s, image + off, n), BINLOG_R_FRAGMENT, 1400);
}

/* A long record without its beginning is missed, once; one that ends with its stream is not. */
static void test_parts(void **state)
{
	uint8_t image[96] = {0};
	struct mk m;
	struct mkseg s;
	struct dec_counts c;

	bytes_put_u64(image, (uint64_t)17 << BINLOG_SITE_SHIFT | 1500);
	bytes_put_u32(image + 8, 84);
	memset(image + 12, 'q', 84);
	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	add_fragment(&s, image, 1, 32, 32);
	add_fragment(&s, image, 1, 64, 32);
	mkseg_int(&s, 16, 1600, 2);
	add_fragment(&s, image, 2, 0, 32);
	add_fragment(&s, image, 2, 64, 32);
	mkseg_int(&s, 16, 1600, 3);
	mk_ring(&m, 1, 0, &s);
	expect(&m, "x=2\nx=3\n", &c);
	assert_int_equal(c.broken_fragments, 2);
	assert_int_equal(c.pending, 0);
	mk_free(&m);

	mk_init(&m);
	add_dict(&m);
	mkseg_init(&s, 1000);
	add_fragment(&s, image, 1, 0, 32);
	add_fragment(&s, image, 1, 32, 32);
	mk_ring(&m, 1, 0, &s);
	expect(&m, "", &c);
	assert_int_equal(c.broken_fragments, 0);
	assert_int_equal(c.pending, 1);
	assert_int_equal(c.torn_bytes, 64);
	mk_free(&m);
}

/* Bytes behind the arguments that are not zero: no record of ours. */
static void test_padding(void **state)
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
	off = mk_ring(&m, 1, 0, &s);
	m.p[off + 64 + 32 + 15] = 1; /* the last of the first call's four */
	expect(&m, "x=2\n", &c);
	assert_true(c.skipped_bytes);
	mk_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sparse_ring),
		cmocka_unit_test(test_hole_in_ring),
		cmocka_unit_test(test_read_twice),
		cmocka_unit_test(test_zeroed_slot),
		cmocka_unit_test(test_zeroed_left_segment),
		cmocka_unit_test(test_zeroed_page),
		cmocka_unit_test(test_cut_unclosed),
		cmocka_unit_test(test_doubled_site),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_padding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
