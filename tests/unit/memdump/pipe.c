/* SPDX-License-Identifier: MIT */
/* md_run() with plugs that fail at every point, pools of the smallest size, and stops. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "memdump/codec.h"
#include "memdump/memdump.h"
#include "memdump/sum.h"

enum {
	PAGE = 4096,
	NBLOCKS = 40,
	SPACE = 7,
};

/* --- a reader that makes up blocks, and fails at the n-th ----------------------------------- */

struct fake_reader {
	struct md_reader r;
	unsigned made, fail_at; /* 0: never */
	bool inside;
};

/* Block @i: zeros, text, noise in turn, of changing length. */
static uint32_t make_raw(unsigned i, uint32_t block_size, uint8_t *raw)
{
	uint32_t len = block_size - (i % 5) * PAGE;
	uint64_t x = i + 1;

	for (uint32_t k = 0; k < len; k++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		raw[k] = i % 3 == 0   ? 0
			 : i % 3 == 1 ? (uint8_t)("around and around it goes "[k % 26] + i)
				      : (uint8_t)(x >> 56);
	}
	return len;
}

static int fake_next(struct md_reader *r, struct md_block *b, uint32_t block_size, struct err *err)
{
	struct fake_reader *f = (struct fake_reader *)r;
	unsigned i = f->made;

	/* A plug needs no lock: the pipe lets in one thread at a time. */
	assert_false(__atomic_exchange_n(&f->inside, true, __ATOMIC_RELAXED));
	sched_yield();
	__atomic_store_n(&f->inside, false, __ATOMIC_RELAXED);
	if (f->fail_at && i + 1 == f->fail_at)
		return err_set(err, EIO, "read block %u", i);
	if (i == NBLOCKS)
		return 0;
	f->made++;
	b->space = SPACE;
	b->raw_len = make_raw(i, block_size, b->raw);
	b->extents[0] = (struct md_extent){(uint64_t)i << 32, b->raw_len};
	b->nextents = 1;
	return 1;
}

/* --- a writer that keeps blocks, checks them, and fails at the n-th ------------------------- */

enum { HOLDS_MAX = 16 };

struct fake_writer {
	struct md_writer w;
	struct md_block *held[HOLDS_MAX];
	unsigned nheld, puts, fail_at, flushes, pauses, abandons, starts;
	uint32_t round; /* that blocks must have */
	bool fail_start, fail_flush, failed;
	bool seen[NBLOCKS];
	struct md_unpacker unpacker;
	uint32_t block_size;
	size_t mem_len;
};

static void check_block(struct fake_writer *f, const struct md_block *b)
{
	uint8_t *want = malloc(MD_BLOCK_MAX), *got = malloc(MD_BLOCK_MAX);
	unsigned i = (unsigned)(b->extents[0].addr >> 32);
	uint32_t len = make_raw(i, f->block_size, want);

	assert_true(i < NBLOCKS && !f->seen[i]);
	f->seen[i] = true;
	assert_int_equal(b->space, SPACE);
	assert_int_equal(b->round, f->round);
	assert_int_equal(b->raw_len, len);
	assert_int_equal((uintptr_t)b->data % PAGE, 0);
	assert_int_equal(b->sum, md_sum_payload(b->data, b->packed_len));
	assert_int_equal(md_unpack(&f->unpacker, b->codec, b->data, b->packed_len, got, len), 0);
	assert_memory_equal(got, want, len);
	if (i % 3 == 0)
		assert_int_equal(b->codec, MD_CODEC_ZERO);
	if (i % 3 == 2)
		assert_int_equal(b->codec, MD_CODEC_NONE);
	free(want);
	free(got);
}

static int fake_start(struct md_writer *w, void *mem, size_t len, size_t buf_size, struct err *err)
{
	struct fake_writer *f = (struct fake_writer *)w;

	f->starts++;
	f->mem_len = len;
	assert_int_equal(len % buf_size, 0);
	/* All of it is there to be registered. */
	((volatile uint8_t *)mem)[len - 1] = 1;
	return f->fail_start ? err_set(err, ENODEV, "start") : 0;
}

static void give_back(struct fake_writer *f, unsigned keep)
{
	while (f->nheld > keep) {
		md_block_done(f->held[0]);
		memmove(f->held, f->held + 1, --f->nheld * sizeof(f->held[0]));
	}
}

static int fake_put(struct md_writer *w, struct md_block *b, struct err *err)
{
	struct fake_writer *f = (struct fake_writer *)w;

	assert_false(f->failed); /* nothing is written after an error */
	assert_int_equal(f->flushes, 0);
	f->puts++;
	if (f->puts == f->fail_at) {
		f->failed = true;
		md_block_done(b);
		return err_set(err, ENOSPC, "put %u", f->puts);
	}
	check_block(f, b);
	f->held[f->nheld++] = b;
	give_back(f, w->holds);
	return 0;
}

static int fake_flush(struct md_writer *w, struct err *err)
{
	struct fake_writer *f = (struct fake_writer *)w;

	f->flushes++;
	give_back(f, 0);
	return f->fail_flush ? err_set(err, EDQUOT, "flush") : 0;
}

static int fake_pause(struct md_writer *w, struct err *err)
{
	struct fake_writer *f = (struct fake_writer *)w;

	assert_int_equal(f->flushes, 0);
	f->pauses++;
	give_back(f, 0);
	memset(f->seen, 0, sizeof(f->seen));
	return f->fail_flush ? err_set(err, EDQUOT, "pause") : 0;
}

static void fake_abandon(struct md_writer *w)
{
	struct fake_writer *f = (struct fake_writer *)w;

	f->abandons++;
	give_back(f, 0);
}

/* --- running them --------------------------------------------------------------------------- */

struct setup {
	struct fake_reader r;
	struct fake_writer w;
	struct md_opts o;
	struct md_stats st;
	struct err err;
};

static void set_up(struct setup *s, unsigned holds)
{
	memset(s, 0, sizeof(*s));
	s->r.r.next = fake_next;
	s->w.w = (struct md_writer){
		.holds = holds,
		.start = fake_start,
		.put = fake_put,
		.flush = fake_flush,
		.abandon = fake_abandon,
	};
	s->o = (struct md_opts){
		.codec = MD_CODEC_LZ4,
		.level = 1,
		.threads = 3,
		.block_size = MD_BLOCK_MIN,
	};
}

static int go(struct setup *s)
{
	int ret;

	s->w.block_size = s->o.block_size;
	ret = md_run(&s->r.r, &s->w.w, &s->o, &s->st, &s->err);
	md_unpacker_deinit(&s->w.unpacker);
	assert_int_equal(s->w.nheld, 0);
	return ret;
}

static void all_arrived(struct setup *s)
{
	assert_int_equal(go(s), 0);
	assert_int_equal(s->err.errnum, 0);
	assert_int_equal(s->w.puts, NBLOCKS);
	for (unsigned i = 0; i < NBLOCKS; i++)
		assert_true(s->w.seen[i]);
	assert_int_equal(s->w.flushes, 1);
	assert_int_equal(s->w.abandons, 0);
	assert_int_equal(s->st.blocks[0] + s->st.blocks[1] + s->st.blocks[2] + s->st.blocks[3],
			 NBLOCKS);
	assert_int_equal(s->st.extents, NBLOCKS);
	assert_non_null(s->st.bottleneck);
	assert_true(s->st.wall_ns > 0);
	assert_int_equal(s->st.write.busy_ns + s->st.write.wait_ns, s->st.wall_ns);
}

static void test_codecs_and_threads(void **state)
{
	static const enum md_codec_id codecs[] = {MD_CODEC_NONE, MD_CODEC_LZ4, MD_CODEC_ZSTD};
	struct setup s;

	for (unsigned c = 0; c < 3; c++) {
		for (unsigned threads = 0; threads < 6; threads++) {
			set_up(&s, threads * 3 % HOLDS_MAX);
			s.o.codec = codecs[c];
			s.o.threads = threads;
			all_arrived(&s);
			assert_int_equal(s.st.blocks[MD_CODEC_ZERO], (NBLOCKS + 2) / 3);
		}
	}
}

/* The smallest pool that make_plan() accepts, found from below; it must not stand still. */
static void test_smallest_pool(void **state)
{
	struct setup s;

	for (unsigned holds = 0; holds < HOLDS_MAX; holds += 3) {
		size_t pool = MD_BLOCK_MIN;
		int ret = -EINVAL;

		for (; ret == -EINVAL; pool += 32 << 10) {
			set_up(&s, holds);
			s.o.pool_bytes = pool;
			s.o.threads = 4;
			s.w.block_size = s.o.block_size;
			ret = md_run(&s.r.r, &s.w.w, &s.o, &s.st, &s.err);
			md_unpacker_deinit(&s.w.unpacker);
			assert_true(ret == 0 || s.w.starts == 0);
		}
		assert_int_equal(ret, 0);
		assert_int_equal(s.w.puts, NBLOCKS);
		/* holds + 2 per worker + 2 blocks and one spare, by one worker */
		assert_true(s.w.mem_len / (MD_BLOCK_MIN + MD_BLOCK_HEADROOM) >= holds + 4);
		assert_true(s.st.pool_bytes <= pool);
	}
}

static void test_default_size_shrinks(void **state)
{
	struct setup s;

	set_up(&s, 8);
	s.o.block_size = 0;
	s.o.pool_bytes = 1200 << 10;
	s.w.block_size = MD_BLOCK_MIN;
	assert_int_equal(md_run(&s.r.r, &s.w.w, &s.o, &s.st, &s.err), 0);
	md_unpacker_deinit(&s.w.unpacker);
	assert_int_equal(s.st.block_size, MD_BLOCK_MIN);
	assert_int_equal(s.w.puts, NBLOCKS);
}

/* Three runs to one writer: the pool of each is given back, the last alone flushes. */
static void test_more(void **state)
{
	struct setup s;

	for (unsigned holds = 0; holds < HOLDS_MAX; holds += 5) {
		set_up(&s, holds);
		s.w.w.pause = fake_pause;
		for (unsigned n = 1; n <= 3; n++) {
			s.o.round = s.w.round = 7 * n;
			s.o.more = n < 3;
			s.r = (struct fake_reader){.r.next = fake_next};
			assert_int_equal(go(&s), 0);
			assert_int_equal(s.w.puts, n * NBLOCKS);
			assert_int_equal(s.w.starts, n);
			assert_int_equal(s.w.pauses, n < 3 ? n : 2);
			assert_int_equal(s.w.flushes, n == 3);
			s.w.unpacker = (struct md_unpacker){0};
		}
		assert_int_equal(s.w.abandons, 0);
	}
	set_up(&s, 3);
	s.w.w.pause = fake_pause;
	s.w.fail_flush = s.o.more = true;
	assert_int_equal(go(&s), -EDQUOT);
	assert_int_equal(s.w.flushes, 0);
	/* Nothing is read for a writer that cannot wait for more. */
	set_up(&s, 3);
	s.o.more = true;
	assert_int_equal(md_run_check(&s.w.w, &s.o, &s.err), -EINVAL);
	err_clear(&s.err);
	assert_int_equal(go(&s), -EINVAL);
	assert_non_null(strstr(s.err.msg, "in one run"));
	assert_int_equal(s.w.starts + s.w.puts + s.w.flushes + s.w.abandons, 0);
}

static void failed_with(struct setup *s, int ret, int errnum)
{
	assert_int_equal(ret, -errnum);
	assert_int_equal(s->err.errnum, errnum);
	assert_int_equal(s->w.flushes, 0);
	assert_int_equal(s->w.abandons, 1);
}

static void test_reader_fails(void **state)
{
	for (unsigned n = 1; n <= NBLOCKS + 1; n++) {
		struct setup s;

		set_up(&s, n % HOLDS_MAX);
		s.r.fail_at = n;
		failed_with(&s, go(&s), EIO);
		assert_string_equal(s.err.msg + strlen(s.err.msg) - 18, "Input/output error");
		assert_true(s.w.puts < n);
	}
}

static void test_put_fails(void **state)
{
	for (unsigned n = 1; n <= NBLOCKS; n++) {
		struct setup s;

		set_up(&s, n % HOLDS_MAX);
		s.w.fail_at = n;
		failed_with(&s, go(&s), ENOSPC);
		assert_int_equal(s.w.puts, n);
	}
}

static void test_flush_fails(void **state)
{
	struct setup s;

	set_up(&s, 4);
	s.w.fail_flush = true;
	assert_int_equal(go(&s), -EDQUOT);
	assert_int_equal(s.err.class, ERR_NOSPACE);
	assert_int_equal(s.w.puts, NBLOCKS);
}

static void test_start_fails(void **state)
{
	struct setup s;

	set_up(&s, 4);
	s.w.fail_start = true;
	assert_int_equal(go(&s), -ENODEV);
	assert_int_equal(s.r.made, 0);
	assert_int_equal(s.w.puts, 0);
}

static void test_no_blocks(void **state)
{
	struct setup s;

	set_up(&s, 4);
	s.r.made = NBLOCKS;
	assert_int_equal(go(&s), 0);
	assert_int_equal(s.w.flushes, 1);
	assert_int_equal(s.w.puts, 0);
}

struct stopper {
	unsigned asked, at;
};

static bool stop_at(void *arg)
{
	struct stopper *st = arg;

	return ++st->asked >= st->at;
}

static void test_stop(void **state)
{
	for (unsigned n = 1; n <= NBLOCKS; n += 3) {
		struct stopper st = {.at = n};
		struct setup s;

		set_up(&s, 2);
		s.o.stop = stop_at;
		s.o.stop_arg = &st;
		failed_with(&s, go(&s), EINTR);
		assert_int_equal(s.err.class, ERR_INTERRUPTED);
		assert_int_equal(s.r.made, n - 1);
	}
}

static void test_progress(void **state)
{
	struct md_progress pr = {0};
	struct setup s;

	set_up(&s, 2);
	s.o.progress = &pr;
	all_arrived(&s);
	assert_int_equal(pr.raw_bytes, s.st.raw_bytes);
	assert_int_equal(pr.packed_bytes, s.st.packed_bytes);
	assert_true(pr.packed_bytes < pr.raw_bytes);
}

static void test_bad_options(void **state)
{
	static const uint32_t sizes[] = {1, MD_BLOCK_MIN / 2, MD_BLOCK_MIN + 4096,
					 MD_BLOCK_MAX * 2u};
	struct setup s;

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		set_up(&s, 2);
		s.o.block_size = sizes[i];
		assert_int_equal(go(&s), -EINVAL);
		assert_int_equal(s.err.class, ERR_USAGE);
	}
	set_up(&s, 2);
	s.o.pool_bytes = 1;
	assert_int_equal(go(&s), -EINVAL);
}

/* Two runs share a process. */
static void *run_one(void *arg)
{
	struct setup *s = arg;

	return (void *)(intptr_t)go(s);
}

static void test_two_runs(void **state)
{
	struct setup *s = calloc(2, sizeof(*s));
	pthread_t t[2];

	for (unsigned i = 0; i < 2; i++) {
		set_up(&s[i], 3);
		s[i].w.fail_at = i ? 17 : 0;
		assert_int_equal(pthread_create(&t[i], NULL, run_one, &s[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		void *ret;

		pthread_join(t[i], &ret);
		assert_int_equal((intptr_t)ret, i ? -ENOSPC : 0);
	}
	assert_int_equal(s[0].w.puts, NBLOCKS);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codecs_and_threads),
		cmocka_unit_test(test_smallest_pool),
		cmocka_unit_test(test_default_size_shrinks),
		cmocka_unit_test(test_more),
		cmocka_unit_test(test_reader_fails),
		cmocka_unit_test(test_put_fails),
		cmocka_unit_test(test_flush_fails),
		cmocka_unit_test(test_start_fails),
		cmocka_unit_test(test_no_blocks),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_two_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
