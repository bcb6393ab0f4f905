/* SPDX-License-Identifier: MIT */
/* timeout: 300 */
/* Files with rounds, maps and parents that are damaged, cut, missing or changed: all is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "memdump/format.h"
#include "memdump/sum.h"
#include "tests/unit/memdump/layers.h"

enum { S = 1 }; /* the space of it all */

static void line_of(void *arg, const char *line)
{
	if (!*(char *)arg)
		snprintf(arg, 512, "%s", line);
}

/* What verify finds first; "" when the file is whole. */
static const char *found(int dirfd)
{
	static char line[512];
	struct err err = {0};
	struct md_verify v;
	int ret;

	line[0] = 0;
	ret = md_file_verify(dirfd, "mem", 1, line_of, line, &v, &err);
	assert_int_equal(ret, v.bad ? -EBADMSG : 0);
	assert_int_equal(v.bad != 0, line[0] != 0);
	return line;
}

static int ignore(void *arg, uint64_t space, uint64_t addr, const void *buf, uint64_t len,
		  struct err *err)
{
	return 0;
}

/* Opening, pouring out and verifying: all refuse, and all say @a and @b. */
static void refused(int dirfd, const char *a, const char *b)
{
	const struct md_sink sink = {.write = ignore};
	const struct md_fill_opts opts = {.threads = 1};
	struct err err = {0}, fill = {0};
	const char *line = found(dirfd);

	assert_null(md_file_open(dirfd, "mem", 0, &err));
	assert_int_equal(err.errnum, EBADMSG);
	assert_int_equal(err.class, ERR_IMAGE);
	assert_int_equal(md_file_fill(dirfd, "mem", &opts, &sink, NULL, &fill), -EBADMSG);
	if (!strstr(err.msg, a) || !strstr(err.msg, b))
		fail_msg("open: %s", err.msg);
	if (!strstr(fill.msg, a) || !strstr(fill.msg, b))
		fail_msg("fill: %s", fill.msg);
	if (!strstr(line, a) || !strstr(line, b))
		fail_msg("verify: %s", line);
}

static uint64_t id_of(int dirfd)
{
	struct err err = {0};
	struct md_file *f = md_file_open(dirfd, "mem", 0, &err);
	uint64_t id;

	if (!f)
		fail_msg("%s", err.msg);
	id = md_file_id(f);
	md_file_close(f);
	return id;
}

/* The version of a page, by its first bytes; 0 when the space has none. */
static unsigned version_at(struct md_file *f, unsigned page)
{
	unsigned v = 0;
	struct err err = {0};
	ssize_t n = md_file_read(f, layer_space[S], layer_addr(page), &v, sizeof(v), &err);

	if (n < 0)
		fail_msg("%s", err.msg);
	return n ? v : 0;
}

/* Writes @picks as round 0 and @more as round 1; @map, where there is one. */
static void write_dump(int dirfd, bool has_parent, uint64_t parent, const struct pick *picks,
		       size_t n, const struct pick *more, size_t nmore, const struct md_extent *map,
		       size_t nmap)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE,
				  .no_uring = true,
				  .has_parent = has_parent,
				  .parent_id = parent};
	struct err err = {0};
	struct md_writer *w = md_writer_file_open(dirfd, "mem", &fo, &err);

	assert_non_null(w);
	assert_int_equal(layer_run(w, picks, n, 4, 0, true, &err), 0);
	assert_int_equal(layer_run(w, more, nmore, 4, 1, true, &err), 0);
	if (map)
		assert_int_equal(md_writer_file_map(w, layer_space[S], map, nmap, &err), 0);
	assert_int_equal(md_writer_finish(w, &err), 0);
	w->close(w);
}

/*
 * Versions, none of them zeros:
 *
 *	page	0	1	2	3	4	5
 *	dump 0	2	4	6	8
 *	round 1		12
 *	dump 1		14		16	18
 *	round 1				22	24 (not in the map)
 *	map	x	x		x
 */
static const struct pick base0[] = {{S, 0, 2}, {S, 1, 4}, {S, 2, 6}, {S, 3, 8}};
static const struct pick base1[] = {{S, 1, 12}};
static const struct pick child0[] = {{S, 1, 14}, {S, 3, 16}, {S, 4, 18}};
static const struct pick child1[] = {{S, 3, 22}, {S, 4, 24}};
static const struct md_extent child_map[] = {
	{0x7f0000000000, 2 * MADE_PAGE},
	{0x7f0000000000 + 3 * MADE_PAGE, MADE_PAGE},
};

struct two {
	struct made_dir d;
	int base, child;
};

static struct two make_two(void)
{
	struct two t = {.d = made_dir()};

	t.base = layer_dir(&t.d, 0);
	write_dump(t.base, false, 0, base0, 4, base1, 1, NULL, 0);
	t.child = layer_dir(&t.d, 1);
	write_dump(t.child, true, id_of(t.base), child0, 3, child1, 2, child_map, 2);
	return t;
}

static void remove_two(struct two *t)
{
	close(t->base);
	close(t->child);
	layer_remove(&t->d, 2);
}

static void test_what_counts(void **state)
{
	static const unsigned want[] = {2, 14, 0, 22, 0, 0};
	struct two t = make_two();
	struct err err = {0};
	struct md_file *f = md_file_open(t.child, "mem", 0, &err);

	assert_non_null(f);
	for (unsigned p = 0; p < 6; p++)
		assert_int_equal(version_at(f, p), want[p]);
	md_file_close(f);
	assert_string_equal(found(t.child), "");
	f = md_file_open(t.base, "mem", 0, &err);
	assert_int_equal(version_at(f, 1), 12);
	md_file_close(f);
	remove_two(&t);
}

/* --- damage --------------------------------------------------------------------------------- */

/* Each bit of the file in @dirfd; the child is looked at. */
static void flip_bits(const struct two *t, int dirfd)
{
	size_t len;
	uint8_t *p = made_slurp(dirfd, "mem", &len);
	int fd = openat(dirfd, "mem", O_WRONLY | O_CLOEXEC);

	for (size_t bit = 0; bit < len * 8; bit++) {
		uint8_t flipped = (uint8_t)(p[bit / 8] ^ 1 << bit % 8);

		assert_int_equal(pwrite(fd, &flipped, 1, (off_t)(bit / 8)), 1);
		if (!*found(t->child))
			fail_msg("flip of bit %zu of byte %#zx", bit % 8, bit / 8);
		assert_int_equal(pwrite(fd, p + bit / 8, 1, (off_t)(bit / 8)), 1);
	}
	assert_string_equal(found(t->child), "");
	close(fd);
	free(p);
}

static void test_every_bit(void **state)
{
	struct two t = make_two();

	flip_bits(&t, t.child);
	flip_bits(&t, t.base);
	remove_two(&t);
}

/* Whether @v is what page @p was at some time; 0: gone. */
static bool was(unsigned p, unsigned v)
{
	static const unsigned all[6][5] = {{2, 0},	   {4, 12, 14, 0}, {6, 0},
					   {8, 16, 22, 0}, {18, 24, 0},	   {0}};

	for (unsigned i = 0; i < 5; i++)
		if (all[p][i] == v)
			return true;
	return false;
}

static void test_every_truncation(void **state)
{
	struct two t = make_two();
	size_t len;
	uint8_t *p = made_slurp(t.child, "mem", &len);

	for (size_t cut = 0; cut < len; cut++) {
		struct err err = {0};

		made_spit(t.child, "mem", p, cut);
		assert_true(*found(t.child));
		assert_null(md_file_open(t.child, "mem", 0, &err));
		assert_int_equal(err.errnum, EBADMSG);
		err_clear(&err);
		struct md_file *f = md_file_open(t.child, "mem", MD_FILE_REBUILD, &err);

		assert_int_equal(f != NULL, cut >= MD_HEAD_LEN);
		for (unsigned n = 0; f && n < 6; n++)
			assert_true(was(n, version_at(f, n)));
		/* All but the end of it: nothing is lost. */
		if (cut >= len - MD_HEAD_LEN) {
			assert_int_equal(version_at(f, 0), 2);
			assert_int_equal(version_at(f, 1), 14);
			assert_int_equal(version_at(f, 2), 0);
			assert_int_equal(version_at(f, 3), 22);
			assert_int_equal(version_at(f, 4), 0);
		}
		md_file_close(f);
	}
	made_spit(t.child, "mem", p, len);
	free(p);
	p = made_slurp(t.base, "mem", &len);
	for (size_t cut = 0; cut < len; cut++) {
		struct err err = {0};

		made_spit(t.base, "mem", p, cut);
		assert_true(!strncmp(found(t.child), "parent 1", 8));
		assert_null(md_file_open(t.child, "mem", MD_FILE_REBUILD, &err));
		assert_non_null(strstr(err.msg, "parent 1"));
	}
	free(p);
	remove_two(&t);
}

/* --- parents that are not what they should be ----------------------------------------------- */

static void sum_head(int dirfd, size_t at, uint64_t value, unsigned n)
{
	uint8_t head[MD_HEAD_LEN];
	int fd = openat(dirfd, "mem", O_RDWR | O_CLOEXEC);

	assert_int_equal(pread(fd, head, sizeof(head), 0), sizeof(head));
	bytes_put_uint(head + at, value, n);
	bytes_put_u64(head + 8, md_sum(head + 16, sizeof(head) - 16));
	assert_int_equal(pwrite(fd, head, sizeof(head), 0), sizeof(head));
	close(fd);
}

static void test_missing(void **state)
{
	struct two t = make_two();
	struct err err = {0};
	char dir[100], child[120];

	snprintf(dir, sizeof(dir), "%s/0", t.d.path);
	assert_int_equal(renameat(t.base, "mem", t.base, "away"), 0);
	refused(t.child, "parent 1", dir);
	assert_int_equal(mkdirat(t.base, "mem", 0700), 0);
	refused(t.child, "is not a regular file", dir);
	assert_int_equal(unlinkat(t.base, "mem", AT_REMOVEDIR), 0);
	/* A link to the directory is followed, one to the file is not. */
	assert_int_equal(symlinkat("away", t.base, "mem"), 0);
	assert_null(md_file_open(t.child, "mem", 0, &err));
	assert_int_equal(err.errnum, ELOOP);
	assert_int_equal(unlinkat(t.base, "mem", 0), 0);
	assert_int_equal(renameat(t.base, "away", t.base, "mem"), 0);
	assert_string_equal(found(t.child), "");
	assert_int_equal(unlinkat(t.child, "parent", 0), 0);
	snprintf(child, sizeof(child),
		 "parent 1: the earlier image of %s/1 is not there: ", t.d.path);
	refused(t.child, child, "its link \"parent\" leads to nowhere: No such");
	assert_int_equal(symlinkat("../gone\033", t.child, "parent"), 0);
	refused(t.child, child, "its link \"parent\" leads to ../gone?: No such");
	/* What can be done about it. */
	assert_non_null(strstr(found(t.child), "put the earlier image back"));
	assert_int_equal(unlinkat(t.child, "parent", 0), 0);
	made_spit(t.child, "parent", (const uint8_t *)"", 0);
	refused(t.child, child, "its link \"parent\" leads to nowhere: Not a directory");
	remove_two(&t);
}

static void test_changed(void **state)
{
	struct two t = make_two();
	char dir[100];

	snprintf(dir, sizeof(dir), "parent 1, %s/0/mem: ", t.d.path);
	sum_head(t.base, 20, 16384, 4);
	refused(t.child, dir, "has pages of 16384 bytes");
	unlinkat(t.base, "mem", 0);
	write_dump(t.base, false, 0, base0, 4, base1, 1, NULL, 0);
	refused(t.child, dir, "another file");
	remove_two(&t);
}

/* The page is stored in the parent, but its map has dropped it; or it was never there. */
static void test_page_is_missing(void **state)
{
	for (unsigned n = 0; n < 2; n++) {
		struct two t = {.d = made_dir()};

		t.base = layer_dir(&t.d, 0);
		write_dump(t.base, false, 0, base0, n ? 4 : 1, base1, 1, n ? &child_map[1] : NULL,
			   n);
		t.child = layer_dir(&t.d, 1);
		write_dump(t.child, true, id_of(t.base), child0, 1, child1, 0, child_map, 2);
		refused(t.child, "parent 1, ",
			n ? "0x7f0000000000 of space 0x6 is missing"
			  : "0x7f0000003000 of space 0x6 is missing");
		assert_string_equal(found(t.base), "");
		remove_two(&t);
	}
}

/* A map that names more than is stored, and nobody to have it from. */
static void test_no_parent(void **state)
{
	struct made_dir d = made_dir();
	int fd = layer_dir(&d, 0);

	write_dump(fd, false, 0, child0, 1, child1, 0, child_map, 2);
	refused(fd, "0x7f0000000000 of space 0x6", "there is no parent");
	close(fd);
	layer_remove(&d, 1);
}

static void test_circle(void **state)
{
	struct two t = make_two();
	uint64_t id = id_of(t.child), own = id_of(t.base);

	sum_head(t.base, 28, MD_FLAG_PARENT, 4);
	sum_head(t.base, 40, id, 8);
	assert_int_equal(symlinkat("../1", t.base, "parent"), 0);
	refused(t.child, "parent", "round in a circle");
	sum_head(t.base, 40, own, 8);
	refused(t.base, "its own parent", "");
	remove_two(&t);
}

/* 256 files, each with a page of its own; one more is refused. */
static void test_deep(void **state)
{
	enum { MOST = 256 };
	struct made_dir d = made_dir();
	struct md_extent map = {layer_addr(0), 0};
	struct err err = {0};
	struct md_file *f;
	uint64_t id = 0;
	int fd = -1;

	for (unsigned n = 0; n <= MOST; n++) {
		const struct pick p = {S, n % NPAGES, 1 + 10 * n};

		if (fd >= 0)
			close(fd);
		fd = layer_dir(&d, n);
		map.len = MADE_PAGE * (uint64_t)(n < NPAGES ? n + 1 : NPAGES);
		write_dump(fd, n > 0, id, &p, 1, NULL, 0, &map, 1);
		if (n == MOST)
			break;
		f = md_file_open(fd, "mem", 0, &err);
		if (!f)
			fail_msg("%u: %s", n, err.msg);
		id = md_file_id(f);
		for (unsigned k = 0; k <= n && k < NPAGES; k++)
			assert_int_equal(version_at(f, k), 1 + 10 * (n - (n - k) % NPAGES));
		md_file_close(f);
	}
	refused(fd, "more than 255 parents", "");
	close(fd);
	fd = layer_open(&d, MOST - 1);
	assert_string_equal(found(fd), "");
	close(fd);
	layer_remove(&d, MOST + 1);
}

/* --- writers -------------------------------------------------------------------------------- */

/* After a run that failed nothing can make the file look whole. */
static int fail_next(struct md_reader *r, struct md_block *b, uint32_t block_size, struct err *err)
{
	return err_set(err, ESRCH, "read");
}

static void test_failed_run(void **state)
{
	struct made_dir d = made_dir();
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct md_opts o = {.codec = MD_CODEC_NONE, .more = true};
	struct md_reader r = {.next = fail_next};
	struct err err = {0};
	int fd = layer_dir(&d, 0);
	struct md_writer *w = md_writer_file_open(fd, "mem", &fo, &err);

	assert_int_equal(md_run(&r, w, &o, NULL, &err), -ESRCH);
	err_clear(&err);
	assert_true(layer_run(w, base0, 4, 4, 0, false, &err) < 0);
	err_clear(&err);
	assert_true(md_writer_file_map(w, 1, NULL, 0, &err) < 0);
	err_clear(&err);
	assert_true(md_writer_finish(w, &err) < 0);
	w->close(w);
	assert_true(*found(fd));
	close(fd);
	layer_remove(&d, 1);
}

/* What is no map is not written, and the file goes on without it. */
static void test_no_map(void **state)
{
	static const struct md_extent bad[][2] = {
		{{MADE_PAGE, MADE_PAGE}, {0, MADE_PAGE}},
		{{0, 2 * MADE_PAGE}, {MADE_PAGE, MADE_PAGE}},
		{{0, 0}, {MADE_PAGE, MADE_PAGE}},
		{{0, MADE_PAGE}, {MADE_PAGE, 100}},
		{{0, MADE_PAGE}, {MADE_PAGE + 1, MADE_PAGE}},
		{{MADE_PAGE, -2ULL * MADE_PAGE + MADE_PAGE}, {0, MADE_PAGE}},
		{{0, MADE_PAGE}, {2 * MADE_PAGE, -(uint64_t)MADE_PAGE}},
	};
	struct made_dir d = made_dir();
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct err err = {0};
	int fd = layer_dir(&d, 0);
	struct md_writer *w = md_writer_file_open(fd, "mem", &fo, &err);

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err_clear(&err);
		assert_int_equal(md_writer_file_map(w, 6, bad[i], 2, &err), -EINVAL);
	}
	assert_int_equal(md_writer_file_map(w, 6, NULL, 0, &err), 0);
	err_clear(&err);
	assert_int_equal(layer_run(w, base0, 4, 4, 7, false, &err), 0);
	assert_true(md_writer_file_map(w, 7, NULL, 0, &err) < 0);
	w->close(w);
	assert_string_equal(found(fd), "");
	err_clear(&err);
	/* All of it is stale. */
	struct md_file *f = md_file_open(fd, "mem", 0, &err);
	uint64_t space;

	assert_int_equal(version_at(f, 0), 0);
	assert_true(md_file_space(f, 0, &space) && space == 6);
	md_file_close(f);
	close(fd);
	layer_remove(&d, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_counts),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_page_is_missing),
		cmocka_unit_test(test_no_parent),
		cmocka_unit_test(test_circle),
		cmocka_unit_test(test_deep),
		cmocka_unit_test(test_failed_run),
		cmocka_unit_test(test_no_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
