/* SPDX-License-Identifier: MIT */
/* timeout: 120 */
/* Resolving of extents made up at random: as by trying every one; and of very many, in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "memdump/index.h"

enum { PAGE = 4096 };

static uint64_t seed;

static unsigned below(unsigned n)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(seed >> 33) % n;
}

static void add(struct md_index_list *l, uint64_t space, uint32_t round,
		const struct md_extent *extents, unsigned n)
{
	struct md_index_entry e = {
		.off = l->nblocks * 64,
		.space = space,
		.round = round,
		.nextents = (uint16_t)n,
	};

	for (unsigned i = 0; i < n; i++)
		e.raw_len += (uint32_t)extents[i].len;
	assert_int_equal(md_index_list_add(l, &e, extents), 0);
}

/* --- small ones, against the definition ----------------------------------------------------- */

enum { TRIALS = 3000, PAGES = 40, SPACES = 2, TOP = 4 };

/* The last pages of the address space are among them: the end of one is 2^64, which is 0. */
static uint64_t address(unsigned page)
{
	return (uint64_t)page * PAGE - (uint64_t)(PAGES - TOP) * PAGE;
}

static unsigned page_at(uint64_t addr)
{
	return (unsigned)((addr + (uint64_t)(PAGES - TOP) * PAGE) / PAGE);
}

/* Blocks of random extents, none of which meets another of its round and space, or goes through 0.
 */
static void make(struct md_index_list *l, unsigned rounds, bool collide)
{
	for (unsigned n = 1 + below(25); n; n--) {
		uint64_t space = below(SPACES);
		struct md_extent x[3];
		unsigned at = below(PAGES / 2), k = 0, round = below(rounds);

		for (; k < 3 && at < PAGES; k++) {
			unsigned len = 1 + below(9), top = at < PAGES - TOP ? PAGES - TOP : PAGES;

			len = at + len > top ? top - at : len;
			x[k] = (struct md_extent){address(at), (uint64_t)len * PAGE};
			at += len + below(6);
		}
		/* Ascending, so none behind the wrap. */
		while (k && x[k - 1].addr < x[0].addr)
			k--;
		for (unsigned i = 0; !collide && i < l->nblocks; i++) {
			const struct md_index_block *b = &l->blocks[i];

			for (unsigned j = 0; j < b->entry.nextents * k; j++) {
				const struct md_extent *e = &l->extents[b->first + j / k];

				if (b->entry.space == space && b->entry.round == round &&
				    e->addr <= x[j % k].addr + (x[j % k].len - 1) &&
				    x[j % k].addr <= e->addr + (e->len - 1))
					k = 0;
				if (!k)
					break;
			}
		}
		if (k)
			add(l, space, round, x, k);
	}
}

struct best {
	uint32_t round, block, raw_off;
	bool is, twice;
};

static struct best look(const struct md_index_list *l, uint64_t space, uint64_t addr)
{
	struct best best = {0};

	for (uint32_t i = 0; i < l->nblocks; i++) {
		const struct md_index_block *b = &l->blocks[i];
		uint32_t raw_off = 0;

		for (unsigned k = 0; b->entry.space == space && k < b->entry.nextents; k++) {
			const struct md_extent *e = &l->extents[b->first + k];

			if (addr - e->addr < e->len) {
				best.twice |= best.is && b->entry.round == best.round;
				if (!best.is || b->entry.round > best.round)
					best = (struct best){b->entry.round, i,
							     raw_off + (uint32_t)(addr - e->addr),
							     true, best.twice};
			}
			raw_off += (uint32_t)e->len;
		}
	}
	return best;
}

static void test_by_definition(void **state)
{
	unsigned refused = 0;

	for (unsigned t = 0; t < TRIALS; t++) {
		struct md_index_list l = {0};
		const struct md_index_file f = {&l, "", false};
		struct md_index x;
		struct err err = {0};
		bool collide = t % 8 == 0;

		make(&l, 1 + t % 6, collide);
		int ret = md_index_init(&x, &f, 1, &err);

		if (ret < 0) {
			assert_true(collide);
			assert_non_null(strstr(err.msg, "is stored twice"));
			refused++;
			md_index_list_deinit(&l);
			continue;
		}
		for (unsigned n = 0; n < SPACES * PAGES; n++) {
			uint64_t space = n / PAGES, addr = address(n % PAGES);
			struct best b = look(&l, space, addr);
			const struct md_index_piece *p = md_index_find(&x, space, addr);

			assert_int_equal(page_at(addr), n % PAGES);
			assert_int_equal(b.is, p && p->addr <= addr);
			if (!b.is)
				continue;
			assert_int_equal(p->block, b.block);
			assert_int_equal(p->raw_off + (addr - p->addr), b.raw_off);
			assert_false(b.twice);
		}
		for (size_t i = 1; l.layered && i < x.npieces; i++)
			assert_true(x.pieces[i].block != x.pieces[i - 1].block ||
				    x.pieces[i].addr !=
					    x.pieces[i - 1].addr + x.pieces[i - 1].len ||
				    x.pieces[i].raw_off !=
					    x.pieces[i - 1].raw_off + x.pieces[i - 1].len);
		md_index_deinit(&x);
		md_index_list_deinit(&l);
	}
	assert_true(refused > TRIALS / 20);
}

/* --- many, made to be slow ------------------------------------------------------------------ */

static double cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

enum { BLOCKS = 20000, EXTENTS = 32, ROUNDS = 1000 };

/*
 * Each round has BLOCKS / ROUNDS blocks of EXTENTS extents, side by side; the shape says how those
 * of different rounds lie to each other.
 */
static double resolve_many(unsigned shape)
{
	enum { PER_ROUND = BLOCKS / ROUNDS * EXTENTS };
	struct md_index_list l = {0};
	const struct md_index_file f = {&l, "", false};
	struct md_extent x[EXTENTS];
	struct err err = {0};
	struct md_index index;
	double t0;

	for (unsigned r = 0; r < ROUNDS; r++) {
		uint64_t at = 0;

		for (unsigned k = 0; k < PER_ROUND; k++) {
			/* 0: all on each other; 1: a stair up; 2: a stair down; 3: at random */
			uint64_t len = 512 * PAGE;
			uint64_t skew = shape == 0   ? 0
					: shape == 1 ? r
					: shape == 2 ? ROUNDS - r
						     : below(1024);

			if (shape == 3)
				len = (uint64_t)(1 + below(512)) * PAGE;
			x[k % EXTENTS] = (struct md_extent){at + skew * PAGE, len};
			at += 2048 * PAGE;
			if ((k + 1) % EXTENTS == 0)
				add(&l, 1, r, x, EXTENTS);
		}
	}
	assert_int_equal(l.nextents, BLOCKS * EXTENTS);
	t0 = cpu_seconds();
	if (md_index_init(&index, &f, 1, &err))
		fail_msg("%s", err.msg);
	t0 = cpu_seconds() - t0;
	for (unsigned n = 0; n < 20; n++) {
		uint64_t addr = (uint64_t)below(2048 * PER_ROUND) * PAGE;
		const struct md_index_piece *p = md_index_find(&index, 1, addr);
		struct best b = look(&l, 1, addr);

		assert_int_equal(b.is, p && p->addr <= addr);
		if (b.is)
			assert_int_equal(l.blocks[p->block].entry.round, b.round);
	}
	md_index_deinit(&index);
	md_index_list_deinit(&l);
	return t0;
}

/* 640,000 extents: a second or so; of each with each other it would be hours. */
static void test_many(void **state)
{
	for (unsigned shape = 0; shape < 4; shape++) {
		double s = resolve_many(shape);

		print_message("shape %u: %.2f s\n", shape, s);
		assert_true(s < 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_definition),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
