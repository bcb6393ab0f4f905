/* SPDX-License-Identifier: MIT */
/* A block file poured out: every page once, on many threads; damage and errors end it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "memdump/format.h"
#include "tests/unit/memdump/made.h"

#define P(n) ((uint64_t)(n)*MADE_PAGE)

enum { PAGES = 96, SPACE = 7 };

static const struct made_block blocks[] = {
	{MD_SPACE_PROC(SPACE), 1, {{P(32), P(16)}}},
	{MD_SPACE_PROC(SPACE), 2, {{P(0), P(4)}, {P(8), P(4)}}},
	{MD_SPACE_PROC(SPACE), 1, {{P(16), P(16)}}},
	{MD_SPACE_SHMEM(3), 1, {{P(64), P(8)}}},
};
enum { NBLOCKS = sizeof(blocks) / sizeof(blocks[0]) };

/* What came out: how often, and whether it was right. */
struct poured {
	unsigned times[2][PAGES];
	unsigned wrong, calls, fail_at;
};

static int pour(void *arg, uint64_t space, uint64_t addr, const void *buf, uint64_t len,
		struct err *err)
{
	struct poured *p = arg;
	unsigned shm = MD_SPACE_KIND(space);

	if (__atomic_add_fetch(&p->calls, 1, __ATOMIC_RELAXED) == p->fail_at)
		return err_set(err, ENOSPC, "pour at %u", p->fail_at);
	for (uint64_t a = 0; a < len; a += MADE_PAGE) {
		static const uint8_t zeros[MADE_PAGE];
		uint8_t want[MADE_PAGE];

		made_page(space, addr + a, want);
		if (memcmp(buf ? (const uint8_t *)buf + a : zeros, want, MADE_PAGE))
			__atomic_add_fetch(&p->wrong, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&p->times[shm][(addr + a) / MADE_PAGE], 1, __ATOMIC_RELAXED);
	}
	return 0;
}

static int fill(int dirfd, unsigned threads, struct poured *p, struct md_fill_stats *st,
		struct err *err)
{
	const struct md_sink sink = {.write = pour, .arg = p};
	const struct md_fill_opts opts = {.threads = threads};

	return md_file_fill(dirfd, "made", &opts, &sink, st, err);
}

static void make(int dirfd, enum md_codec_id codec)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct md_stats st;
	struct err err = {0};

	if (made_file(dirfd, "made", blocks, NBLOCKS, codec, &fo, &st, &err))
		fail_msg("%s", err.msg);
}

static void remove_made(struct made_dir *d)
{
	unlinkat(d->fd, "made", 0);
	made_dir_remove(d);
}

static bool stored(unsigned shm, unsigned page)
{
	for (unsigned i = 0; i < NBLOCKS; i++)
		for (unsigned k = 0; k < blocks[i].nextents; k++)
			if (MD_SPACE_KIND(blocks[i].space) == shm &&
			    P(page) - blocks[i].extents[k].addr < blocks[i].extents[k].len)
				return true;
	return false;
}

static bool complete(const struct poured *p)
{
	for (unsigned shm = 0; shm < 2; shm++)
		for (unsigned n = 0; n < PAGES; n++)
			if (p->times[shm][n] != stored(shm, n))
				return false;
	return true;
}

static void test_every_page_once(void **state)
{
	static const enum md_codec_id codecs[] = {MD_CODEC_NONE, MD_CODEC_LZ4, MD_CODEC_ZSTD};

	for (unsigned i = 0; i < 3; i++) {
		for (unsigned threads = 1; threads <= 4; threads++) {
			struct made_dir d = made_dir();
			struct poured p = {0};
			struct md_fill_stats st;
			struct err err = {0};

			make(d.fd, codecs[i]);
			if (fill(d.fd, threads, &p, &st, &err))
				fail_msg("%s", err.msg);
			assert_int_equal(p.wrong, 0);
			assert_true(complete(&p));
			assert_int_equal(st.raw_bytes, P(16 + 8 + 16 + 8));
			assert_int_equal(st.blocks, NBLOCKS);
			remove_made(&d);
		}
	}
}

/* The sink's error, and nothing is begun after it. */
static void test_sink_fails(void **state)
{
	for (unsigned at = 1; at <= 5; at++) {
		struct made_dir d = made_dir();
		struct poured p = {.fail_at = at};
		struct err err = {0};

		make(d.fd, MD_CODEC_LZ4);
		assert_int_equal(fill(d.fd, 1, &p, NULL, &err), -ENOSPC);
		assert_int_equal(p.calls, at);
		assert_non_null(strstr(err.msg, "pour at"));
		remove_made(&d);
	}
}

/* No byte of a damaged block reaches the sink; every flipped bit is told. */
static void test_damage(void **state)
{
	static const enum md_codec_id codecs[] = {MD_CODEC_NONE, MD_CODEC_LZ4};

	for (unsigned i = 0; i < 2; i++) {
		struct made_dir d = made_dir();
		size_t len;
		uint8_t *whole;
		size_t told = 0;
		int ret;

		make(d.fd, codecs[i]);
		whole = made_slurp(d.fd, "made", &len);
		for (size_t at = 0; at < len; at += 101) {
			struct poured p = {0};
			struct err err = {0};

			whole[at] ^= 0x10;
			made_spit(d.fd, "made", whole, len);
			whole[at] ^= 0x10;
			ret = fill(d.fd, 2, &p, NULL, &err);
			assert_true(ret == -EBADMSG || (ret == 0 && complete(&p)));
			assert_int_equal(p.wrong, 0);
			told += ret != 0;
		}
		/* What was not told lies between records, where nobody reads but verify. */
		assert_true(told > len / 101 / 2);
		for (size_t cut = 0; cut < len; cut += 997) {
			struct poured p = {0};
			struct err err = {0};

			made_spit(d.fd, "made", whole, cut);
			assert_int_equal(fill(d.fd, 2, &p, NULL, &err), -EBADMSG);
			assert_int_equal(p.wrong, 0);
		}
		free(whole);
		remove_made(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_page_once),
		cmocka_unit_test(test_sink_fails),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
