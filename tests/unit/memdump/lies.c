/* SPDX-License-Identifier: MIT */
/* Block files whose checksums are right and whose contents contradict each other: all are found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "memdump/format.h"
#include "memdump/sum.h"
#include "tests/unit/memdump/made.h"

static const struct made_block blocks[] = {
	{7, 2, {{0x20000, 0x1000}, {0x30000, 0x2000}}},
	{7, 1, {{0x40000, 0x1000}}},
	{9, 1, {{0x20000, 0x1000}}},
	{MADE_SAME(11, 7), 2, {{0x30000, 0x1000}, {0x40000, 0x1000}}},
};
enum { NBLOCKS = 4, NEXTENTS = 6 };

/* A file in memory, with where its records are. */
struct lie {
	uint8_t *p;
	size_t len;
	size_t block[NBLOCKS], index, trailer;
};

static uint64_t get(const struct lie *l, size_t at)
{
	struct bytes b = bytes_of(l->p + at, 8);

	return bytes_u64(&b);
}

static void put(struct lie *l, size_t at, uint64_t v)
{
	bytes_put_u64(l->p + at, v);
}

static size_t entry_at(const struct lie *l, unsigned i)
{
	return l->index + MD_HEAD_LEN + i * MD_ENTRY_LEN;
}

static size_t extent_at(const struct lie *l, unsigned i)
{
	return entry_at(l, NBLOCKS) + i * MD_EXTENT_LEN;
}

static void locate(struct lie *l)
{
	l->trailer = l->len - MD_HEAD_LEN;
	l->index = get(l, l->trailer + 24);
	for (unsigned i = 0; i < NBLOCKS; i++)
		l->block[i] = get(l, entry_at(l, i));
}

static struct lie begin(const struct made_dir *d)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct err err = {0};
	struct md_stats st;
	struct lie l;

	assert_int_equal(made_file(d->fd, "f", blocks, NBLOCKS, MD_CODEC_NONE, &fo, &st, &err), 0);
	l.p = made_slurp(d->fd, "f", &l.len);
	locate(&l);
	return l;
}

/* @n zeros more at @at; offsets behind it move along, those in records too. */
static void insert(struct lie *l, size_t at, size_t n)
{
	l->p = realloc(l->p, l->len + n);
	assert_non_null(l->p);
	memmove(l->p + at + n, l->p + at, l->len - at);
	memset(l->p + at, 0, n);
	l->len += n;
	l->trailer += n;
	put(l, l->trailer + 56, l->len);
	if (l->index < at)
		return;
	l->index += n;
	put(l, l->trailer + 24, l->index);
	for (unsigned i = 0; i < NBLOCKS; i++) {
		if (l->block[i] < at)
			continue;
		l->block[i] += n;
		put(l, entry_at(l, i), l->block[i]);
	}
}

static void sum_record(struct lie *l, size_t at, size_t len)
{
	put(l, at + 8, md_sum(l->p + at + 16, len - 16));
}

enum { LINE = 480 };

static void keep(void *arg, const char *line)
{
	char *first = arg;

	if (!*first)
		snprintf(first, LINE, "%s", line);
}

/* With every checksum right: the number of findings, the first of them in @ret_line. */
static unsigned verdict(const struct made_dir *d, struct lie *l, char *ret_line, size_t room)
{
	struct md_verify v;
	struct err err = {0};
	int ret;

	sum_record(l, 0, MD_HEAD_LEN);
	for (unsigned i = 0; i < NBLOCKS; i++)
		sum_record(l, l->block[i], MD_HEAD_LEN + l->p[l->block[i] + 50] * MD_EXTENT_LEN);
	sum_record(l, l->index, MD_HEAD_LEN);
	put(l, l->trailer + 40, md_sum(l->p + l->index, get(l, l->trailer + 32)));
	sum_record(l, l->trailer, MD_HEAD_LEN);
	made_spit(d->fd, "f", l->p, l->len);
	memset(ret_line, 0, room);
	ret = md_file_verify(d->fd, "f", 1, keep, ret_line, &v, &err);
	assert_int_equal(ret, v.bad ? -EBADMSG : 0);
	return v.bad;
}

static void nothing(struct lie *l)
{
}

static void other_extent(struct lie *l)
{
	put(l, extent_at(l, 0), 0x21000);
}

static void other_space(struct lie *l)
{
	put(l, entry_at(l, 2) + 8, 10);
}

static void other_raw_bytes(struct lie *l)
{
	put(l, l->trailer + 48, get(l, l->trailer + 48) + MADE_PAGE);
}

static void gap_before_a_block(struct lie *l)
{
	insert(l, l->block[1], MD_ALIGN);
}

static void gap_before_the_index(struct lie *l)
{
	insert(l, l->index, MD_ALIGN);
}

static void gap_before_the_trailer(struct lie *l)
{
	insert(l, l->trailer, 4 * MD_ALIGN);
}

/* The third block's page, too, under the second's address: head and index agree. */
static void twice(struct lie *l)
{
	put(l, entry_at(l, 2) + 8, 7);
	put(l, l->block[2] + 24, 7);
	put(l, extent_at(l, 3), 0x40000);
	put(l, l->block[2] + MD_HEAD_LEN, 0x40000);
}

static void fewer_blocks(struct lie *l)
{
	put(l, l->index + 24, NBLOCKS - 1);
}

static void more_extents(struct lie *l)
{
	put(l, l->index + 32, NEXTENTS + 1);
}

static void raw_length(struct lie *l)
{
	bytes_put_u32(l->p + entry_at(l, 1) + 16, 2 * MADE_PAGE);
}

static void put32(struct lie *l, size_t at, uint32_t v)
{
	bytes_put_u32(l->p + at, v);
}

/* Whose pages block @i has, in its head and in the index. */
static void same_as(struct lie *l, unsigned i, uint32_t pid)
{
	put32(l, entry_at(l, i) + 28, pid);
	put32(l, l->block[i] + 52, pid);
}

static void same_as_nobody(struct lie *l)
{
	same_as(l, 3, 0);
}

static void same_as_itself(struct lie *l)
{
	same_as(l, 3, 11);
}

/* Who has one of the pages, and not the other. */
static void same_as_half(struct lie *l)
{
	put(l, extent_at(l, 5), 0x50000);
	put(l, l->block[3] + MD_HEAD_LEN + MD_EXTENT_LEN, 0x50000);
}

static void same_as_none(struct lie *l)
{
	same_as(l, 3, 10);
}

/* Process 9 says it has those of 11, which has them of 7. */
static void same_as_same(struct lie *l)
{
	same_as(l, 2, 11);
	put(l, extent_at(l, 3), 0x30000);
	put(l, l->block[2] + MD_HEAD_LEN, 0x30000);
	for (unsigned at = 0; at < 2; at++) {
		const size_t codec_at = at ? l->block[2] + 48 : entry_at(l, 2) + 24;

		bytes_put_u16(l->p + codec_at, MD_CODEC_SAME);
		put32(l, at ? l->block[2] + 36 : entry_at(l, 2) + 20, 0);
	}
}

static void same_with_bytes(struct lie *l)
{
	put32(l, entry_at(l, 3) + 20, 64);
	put32(l, l->block[3] + 36, 64);
}

/* The process that has the pages was looked at twice. */
static void same_as_in_rounds(struct lie *l)
{
	same_as(l, 1, 1);
}

/* So was the one that has them of it. */
static void same_in_rounds(struct lie *l)
{
	put(l, entry_at(l, 2) + 8, 11);
	put(l, l->block[2] + 24, 11);
	same_as(l, 2, 1);
}

static void same_in_a_child(struct lie *l)
{
	put32(l, 28, MD_FLAG_PARENT);
	put(l, 40, 5);
}

/* Beside them others may have rounds. */
static void rounds_of_a_third(struct lie *l)
{
	same_as(l, 2, 1);
}

static void same_in_a_segment(struct lie *l)
{
	put(l, entry_at(l, 3) + 8, MD_SPACE_SHMEM(11));
	put(l, l->block[3] + 24, MD_SPACE_SHMEM(11));
}

/* Before 1.1 there were no such blocks. */
static void same_in_an_old_file(struct lie *l)
{
	l->p[18] = 0;
}

static void other_same(struct lie *l)
{
	put32(l, entry_at(l, 3) + 28, 8);
}

static void test_lies(void **state)
{
	static const struct {
		void (*tell)(struct lie *l);
		const char *says; /* NULL: whole */
	} lies[] = {
		{nothing, NULL},
		{other_extent, "block head and index differ"},
		{other_space, "block head and index differ"},
		{other_raw_bytes, "the trailer says"},
		{gap_before_a_block, "a block should begin here"},
		{gap_before_the_index, "the index should begin here"},
		{gap_before_the_trailer, "more padding before the trailer"},
		{twice, "is stored twice"},
		{fewer_blocks, "length of the index"},
		{more_extents, "length of the index"},
		{raw_length, "out of bounds"},
		{same_as_nobody, "process with the same pages"},
		{same_as_itself, "process with the same pages"},
		{same_as_half, "which has none there"},
		{same_as_none, "which has none there"},
		{same_as_same, "which has none there"},
		{same_with_bytes, "packed length out of bounds"},
		{same_as_in_rounds, "one of the two has rounds or a map"},
		{same_in_rounds, "one of the two has rounds or a map"},
		{same_in_a_child, "in a file that has a parent"},
		{rounds_of_a_third, NULL},
		{same_in_a_segment, "process with the same pages"},
		{same_in_an_old_file, "unknown codec"},
		{other_same, "which has none there"},
	};
	struct made_dir d = made_dir();
	char line[LINE];

	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct lie l = begin(&d);

		lies[i].tell(&l);
		assert_int_equal(verdict(&d, &l, line, sizeof(line)) > 0, lies[i].says != NULL);
		if (lies[i].says && !strstr(line, lies[i].says))
			fail_msg("lie %u: \"%s\" instead of \"%s\"", i, line, lies[i].says);
		free(l.p);
		unlinkat(d.fd, "f", 0);
	}
	made_dir_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_lies)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
