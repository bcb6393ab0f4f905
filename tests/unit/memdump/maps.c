/* SPDX-License-Identifier: MIT */
/* Maps and rounds whose checksums are right and which say what cannot be: all is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "memdump/format.h"
#include "memdump/sum.h"
#include "tests/unit/memdump/layers.h"

enum { S = 0, LINE = 512 };

/* A file in memory; its records' offsets by the order of the index: maps first in each space. */
struct lie {
	uint8_t *p;
	size_t len;
	uint64_t index, nblocks;
};

static uint64_t get(const struct lie *l, size_t at, unsigned bytes)
{
	struct bytes b = bytes_of(l->p + at, bytes);

	return bytes_uint(&b, bytes);
}

static void put(struct lie *l, size_t at, uint64_t v, unsigned bytes)
{
	bytes_put_uint(l->p + at, v, bytes);
}

static size_t entry(const struct lie *l, unsigned i)
{
	return l->index + MD_HEAD_LEN + i * MD_ENTRY_LEN;
}

static size_t head(const struct lie *l, unsigned i)
{
	return get(l, entry(l, i), 8);
}

/* Of a map record. */
static size_t payload(const struct lie *l, unsigned i)
{
	return head(l, i) + MD_HEAD_LEN;
}

/* In head and index alike. */
static void put_round(struct lie *l, unsigned i, uint32_t round)
{
	put(l, head(l, i) + 52, round, 4);
	put(l, entry(l, i) + 28, round, 4);
}

static void put_space(struct lie *l, unsigned i, uint64_t space)
{
	put(l, head(l, i) + 24, space, 8);
	put(l, entry(l, i) + 8, space, 8);
}

static void sum_record(struct lie *l, size_t at, size_t len)
{
	put(l, at + 8, md_sum(l->p + at + 16, len - 16), 8);
}

static void sum_all(struct lie *l)
{
	size_t trailer = l->len - MD_HEAD_LEN;

	sum_record(l, 0, MD_HEAD_LEN);
	for (unsigned i = 0; i < l->nblocks; i++) {
		size_t at = head(l, i), n = get(l, at + 50, 2), len = get(l, at + 36, 4);
		size_t data = at + md_head_span((unsigned)n, MD_ALIGN);

		if (data + len <= l->len)
			put(l, at + 40, md_sum_payload(l->p + data, len), 8);
		sum_record(l, at, MD_HEAD_LEN + n * MD_EXTENT_LEN);
	}
	sum_record(l, l->index, MD_HEAD_LEN);
	put(l, trailer + 40, md_sum(l->p + l->index, get(l, trailer + 32, 8)), 8);
	sum_record(l, trailer, MD_HEAD_LEN);
}

/*
 * Entry 0: the map of space 5, pages 0..2 and 4; 1, 2: its blocks, pages 0..3 of round 0 and 4..5
 * of round 3; 3: the map of space 6, page 1 and page 3; 4: its block, pages 0..3.
 */
static struct lie begin(int dirfd)
{
	static const struct pick first[] = {{0, 0, 1}, {0, 1, 2}, {0, 2, 3}, {0, 3, 4},
					    {1, 0, 6}, {1, 1, 7}, {1, 2, 8}, {1, 3, 9}};
	static const struct pick second[] = {{0, 4, 11}, {0, 5, 12}};
	const struct md_extent map5[] = {{layer_addr(0), 2 * MADE_PAGE},
					 {layer_addr(4), MADE_PAGE}};
	const struct md_extent map6[] = {{layer_addr(1), MADE_PAGE}, {layer_addr(3), MADE_PAGE}};
	struct md_file_opts fo = {.page_size = MADE_PAGE, .no_uring = true};
	struct err err = {0};
	struct md_writer *w = md_writer_file_open(dirfd, "mem", &fo, &err);
	struct lie l;

	assert_int_equal(layer_run(w, first, 8, 4, 0, true, &err), 0);
	assert_int_equal(md_writer_file_map(w, layer_space[0], map5, 2, &err), 0);
	assert_int_equal(layer_run(w, second, 2, 4, 3, true, &err), 0);
	assert_int_equal(md_writer_file_map(w, layer_space[1], map6, 2, &err), 0);
	assert_int_equal(md_writer_finish(w, &err), 0);
	w->close(w);
	l.p = made_slurp(dirfd, "mem", &l.len);
	unlinkat(dirfd, "mem", 0);
	l.index = get(&l, l.len - MD_HEAD_LEN + 24, 8);
	l.nblocks = get(&l, l.index + 24, 8);
	assert_int_equal(l.nblocks, 5);
	return l;
}

static void nothing(struct lie *l)
{
}

static void touching(struct lie *l)
{
	put(l, payload(l, 0) + 16, layer_addr(2), 8);
}

static void unaligned_address(struct lie *l)
{
	put(l, payload(l, 0) + 16, layer_addr(4) + 512, 8);
}

static void unaligned_length(struct lie *l)
{
	put(l, payload(l, 0) + 24, MADE_PAGE / 2, 8);
}

static void empty_extent(struct lie *l)
{
	put(l, payload(l, 0) + 24, 0, 8);
}

static void overlap(struct lie *l)
{
	put(l, payload(l, 0) + 16, layer_addr(1), 8);
}

static void descending(struct lie *l)
{
	put(l, payload(l, 0), layer_addr(8), 8);
}

static void beyond_the_end(struct lie *l)
{
	put(l, payload(l, 0) + 24, -(uint64_t)MADE_PAGE, 8);
}

static void whole_space(struct lie *l)
{
	put(l, payload(l, 0), 0, 8);
	put(l, payload(l, 0) + 8, -2ULL * MADE_PAGE, 8);
	put(l, payload(l, 0) + 16, -2ULL * MADE_PAGE, 8);
	put(l, payload(l, 0) + 24, 2 * MADE_PAGE, 8);
}

static void not_stored(struct lie *l)
{
	put(l, payload(l, 0) + 16, layer_addr(6), 8);
}

static void one_follows(struct lie *l)
{
	put_round(l, 0, 1);
}

/* Two maps of one space, each the last. */
static void two_maps(struct lie *l)
{
	put_space(l, 3, layer_space[0]);
}

/* In the order of their rounds they are one map; in that of their addresses not. */
static void two_records(struct lie *l)
{
	put_space(l, 3, layer_space[0]);
	put_round(l, 0, 1);
}

static void two_records_in_order(struct lie *l)
{
	two_records(l);
	put(l, payload(l, 0) + 8, MADE_PAGE, 8);
	put(l, payload(l, 0) + 16, layer_addr(1), 8);
	put(l, payload(l, 3), layer_addr(2), 8);
	put(l, payload(l, 3) + 16, layer_addr(5), 8);
}

static void map_with_raw_bytes(struct lie *l)
{
	put(l, head(l, 0) + 32, MADE_PAGE, 4);
	put(l, entry(l, 0) + 16, MADE_PAGE, 4);
}

static void half_an_extent(struct lie *l)
{
	put(l, head(l, 0) + 36, 24, 4);
	put(l, entry(l, 0) + 20, 24, 4);
}

static void long_map(struct lie *l)
{
	put(l, head(l, 0) + 36, MD_MAP_LEN + 16, 4);
	put(l, entry(l, 0) + 20, MD_MAP_LEN + 16, 4);
}

static void other_round(struct lie *l)
{
	put(l, head(l, 2) + 52, 4, 4);
}

/* Pages 2 and 3, stored already in round 0, again in it. */
static void twice_in_a_round(struct lie *l)
{
	size_t extents = entry(l, 5) + MD_EXTENT_LEN;

	put_round(l, 2, 0);
	put(l, head(l, 2) + MD_HEAD_LEN, layer_addr(2), 8);
	put(l, extents, layer_addr(2), 8);
}

static void minor_0(struct lie *l)
{
	put(l, 18, 0, 2);
}

static void minor_2(struct lie *l)
{
	put(l, 18, 2, 2);
}

static void other_flag(struct lie *l)
{
	put(l, 28, 2, 4);
}

static void parent_without_flag(struct lie *l)
{
	put(l, 40, 5, 8);
}

static void codec_6(struct lie *l)
{
	put(l, head(l, 0) + 48, 6, 2);
	put(l, entry(l, 0) + 24, 6, 2);
}

static void line_of(void *arg, const char *line)
{
	if (!*(char *)arg)
		snprintf(arg, LINE, "%s", line);
}

static void test_lies(void **state)
{
	static const struct {
		void (*tell)(struct lie *l);
		const char *says; /* NULL: it can be */
	} lies[] = {
		{nothing, NULL},
		{touching, NULL},
		{unaligned_address, "map out of bounds"},
		{unaligned_length, "map out of bounds"},
		{empty_extent, "map out of bounds"},
		{overlap, "map out of bounds"},
		{descending, "map out of bounds"},
		{beyond_the_end, "map out of bounds"},
		{whole_space, "is named by a map, but not stored"},
		{not_stored, "is named by a map, but not stored"},
		{one_follows, "one of its records is missing, or there twice"},
		{two_maps, "one of its records is missing, or there twice"},
		{two_records, "its records overlap"},
		{two_records_in_order, NULL},
		{map_with_raw_bytes, "map record out of bounds"},
		{half_an_extent, "map record out of bounds"},
		{long_map, "map record out of bounds"},
		{other_round, "block head and index differ"},
		{twice_in_a_round, "is stored twice in round 0"},
		{minor_0, "unknown codec"},
		{minor_2, "has format 1.2"},
		{other_flag, "reserved fields of the file head"},
		{parent_without_flag, "reserved fields of the file head"},
		{codec_6, "unknown codec"},
	};
	struct made_dir d = made_dir();

	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct lie l = begin(d.fd);
		struct err err = {0}, why = {0};
		char line[LINE] = "";
		struct md_verify v;

		lies[i].tell(&l);
		sum_all(&l);
		made_spit(d.fd, "mem", l.p, l.len);
		md_file_verify(d.fd, "mem", 1, line_of, line, &v, &err);
		if (!lies[i].says ? err.errnum || *line
				  : !strstr(*line ? line : err.msg, lies[i].says))
			fail_msg("lie %u: \"%s\" %s", i, line, err.msg);
		struct md_file *f = md_file_open(d.fd, "mem", 0, &why);

		/* A block's own head is read with the block. */
		if (lies[i].tell != other_round && !f != !!lies[i].says)
			fail_msg("lie %u: %s", i, why.msg);
		if (!f && lies[i].says && !strstr(why.msg, lies[i].says))
			fail_msg("lie %u: open: %s", i, why.msg);
		md_file_close(f);
		free(l.p);
		unlinkat(d.fd, "mem", 0);
	}
	made_dir_remove(&d);
}

/* What a round takes the place of was reserved before 1.1. */
static void test_round_in_minor_0(void **state)
{
	static const struct pick pick = {S, 0, 1};

	for (uint32_t round = 0; round < 2; round++) {
		struct made_dir d = made_dir();
		struct md_file_opts fo = {.page_size = MADE_PAGE, .no_uring = true};
		struct err err = {0};
		struct md_writer *w = md_writer_file_open(d.fd, "mem", &fo, &err);
		struct lie l;

		assert_int_equal(layer_run(w, &pick, 1, 1, round, false, &err), 0);
		w->close(w);
		l.p = made_slurp(d.fd, "mem", &l.len);
		l.index = get(&l, l.len - MD_HEAD_LEN + 24, 8);
		l.nblocks = 1;
		minor_0(&l);
		sum_all(&l);
		made_spit(d.fd, "mem", l.p, l.len);
		struct md_file *f = md_file_open(d.fd, "mem", 0, &err);

		assert_int_equal(!f, round);
		if (round)
			assert_non_null(strstr(err.msg, "reserved field of a block is not zero"));
		md_file_close(f);
		free(l.p);
		unlinkat(d.fd, "mem", 0);
		made_dir_remove(&d);
	}
}

/* Every other page of a large space: more extents than one record holds. */
static void test_several_records(void **state)
{
	enum { N = 2 * MD_MAP_LEN / MD_EXTENT_LEN + 100 };
	struct made_dir d = made_dir();
	struct md_file_opts fo = {.page_size = MADE_PAGE, .no_uring = true};
	struct pick *picks = malloc(N * sizeof(*picks));
	struct md_extent *map = malloc(N * sizeof(*map)), e = {0};
	struct err err = {0};
	struct md_writer *w = md_writer_file_open(d.fd, "mem", &fo, &err);
	struct md_stored b;
	struct md_verify v;
	size_t len;

	for (unsigned i = 0; i < N; i++) {
		picks[i] = (struct pick){S, 2 * i, 5};
		map[i] = (struct md_extent){layer_addr(2 * i), MADE_PAGE};
	}
	assert_int_equal(layer_run(w, picks, N, 16, 0, true, &err), 0);
	/* The last page is dropped. */
	assert_int_equal(md_writer_file_map(w, layer_space[S], map, N - 1, &err), 0);
	assert_int_equal(md_writer_finish(w, &err), 0);
	w->close(w);
	assert_int_equal(md_file_verify(d.fd, "mem", 2, NULL, NULL, &v, &err), 0);
	assert_int_equal(v.maps, 3);
	assert_int_equal(v.stale_bytes, MADE_PAGE);
	struct md_file *f = md_file_open(d.fd, "mem", 0, &err);
	unsigned n = 0;

	while (md_file_extent(f, layer_space[S], e.addr + e.len, &e))
		assert_int_equal(e.addr, layer_addr(2 * n++));
	assert_int_equal(n, N - 1);
	for (unsigned i = 0; i < 3; i++)
		assert_true(md_file_block(f, i, &b) && b.codec == MD_CODEC_MAP);
	md_file_close(f);

	/* Torn in the second record: the first alone would drop most of the space. */
	uint8_t *p = made_slurp(d.fd, "mem", &len);
	struct bytes trailer = bytes_of(p + len - MD_HEAD_LEN + 24, 8);
	uint64_t index = bytes_u64(&trailer);

	for (unsigned records = 3; records + 1; records--) {
		/* The records are the last before the index, of 100, 16384 and 16384 extents. */
		size_t cut = index;

		if (records < 3)
			cut -= MD_HEAD_LEN + md_align_up(99 * MD_EXTENT_LEN, MD_ALIGN);
		if (records < 2)
			cut -= (2 - records) * (MD_HEAD_LEN + MD_MAP_LEN);
		made_spit(d.fd, "mem", p, cut);
		err_clear(&err);
		f = md_file_open(d.fd, "mem", MD_FILE_REBUILD, &err);
		assert_non_null(f);
		assert_int_equal(md_file_extent(f, layer_space[S], layer_addr(2 * (N - 1)), &e),
				 records < 3);
		assert_int_equal(md_file_extent(f, layer_space[S], layer_addr(2 * (N - 2)), &e), 1);
		md_file_close(f);
	}
	free(p);
	free(map);
	free(picks);
	unlinkat(d.fd, "mem", 0);
	made_dir_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_round_in_minor_0),
		cmocka_unit_test(test_several_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
