/* SPDX-License-Identifier: MIT */
/* Pages that a block file has as another process's, beside maps, below a child, and torn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/unit/memdump/made.h"

enum { A = 7, B = 11, C = 13, AT = 0x50000, NPAGES = 4 };

/* A has four pages; B has the second and third of them, and another one behind; C has its own. */
static const struct made_block blocks[] = {
	{MADE_SAME(B, A), 1, {{AT + 0x1000, 0x2000}}},
	{A, 1, {{AT, NPAGES * 0x1000}}},
	{B, 1, {{AT + 0x3000, 0x1000}}},
	{C, 1, {{AT, 0x1000}}},
};
enum { NBLOCKS = 4 };

/* What the child has written since, with other bytes. */
static const struct made_block later[] = {
	{A, 1, {{AT + 0x1000, 0x1000}}},
};

static const struct md_extent map_a[] = {{AT, NPAGES * 0x1000}};
static const struct md_extent map_b[] = {{AT + 0x1000, 0x3000}};
static const struct md_extent map_c[] = {{AT, 0x1000}};

static int inverted_next(struct md_reader *r, struct md_block *b, uint32_t block_size,
			 struct err *err)
{
	int ret = made_next(r, b, block_size, err);

	for (uint32_t i = 0; ret > 0 && i < b->raw_len; i++)
		b->raw[i] ^= 0xff;
	return ret;
}

static void write_file(int dirfd, const struct made_block *v, size_t n, bool inverted,
		       const struct md_file_opts *fo, bool maps)
{
	struct made_reader r = made_reader(v, n);
	const struct md_opts o = {.codec = MD_CODEC_LZ4, .level = 1, .threads = 1, .more = maps};
	struct err err = {0};
	struct md_writer *w = md_writer_file_open(dirfd, "f", fo, &err);

	assert_non_null(w);
	if (inverted)
		r.r.next = inverted_next;
	assert_int_equal(md_run(&r.r, w, &o, NULL, &err), 0);
	if (maps) {
		assert_int_equal(md_writer_file_map(w, A, map_a, 1, &err), 0);
		assert_int_equal(md_writer_file_map(w, B, map_b, 1, &err), 0);
		assert_int_equal(md_writer_file_map(w, C, map_c, 1, &err), 0);
		assert_int_equal(md_writer_finish(w, &err), 0);
	}
	w->close(w);
}

static void clean(struct made_dir *d)
{
	unlinkat(d->fd, "f", 0);
	made_dir_remove(d);
}

static void test_beside_a_map(void **state)
{
	const struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct made_dir d = made_dir();
	struct err err = {0};
	struct md_verify v;

	write_file(d.fd, blocks, NBLOCKS, false, &fo, true);
	assert_null(md_file_open(d.fd, "f", 0, &err));
	assert_int_equal(err.errnum, EBADMSG);
	assert_non_null(strstr(err.msg, "one of the two has rounds or a map"));
	err_clear(&err);
	assert_int_equal(md_file_verify(d.fd, "f", 1, NULL, NULL, &v, &err), -EBADMSG);
	assert_int_equal(v.bad, 1);
	clean(&d);
}

/* Where one space ends the next one begins, in the same block. */
static void test_neighbours(void **state)
{
	static const struct made_block next[] = {
		{A, 1, {{AT, NPAGES * 0x1000}}},
		{MADE_SAME(B, A), 1, {{AT, 0x1000}}},
		{MADE_SAME(C, A), 1, {{AT + 0x1000, 0x1000}}},
	};
	const struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct made_dir d = made_dir();
	struct err err = {0};
	struct md_extent e;
	struct md_file *f;
	uint64_t origin;

	write_file(d.fd, next, 3, false, &fo, false);
	f = md_file_open(d.fd, "f", 0, &err);
	assert_non_null(f);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(md_file_extent(f, i ? C : B, 0, &e), 1);
		assert_int_equal(e.addr, AT + i * 0x1000);
		assert_int_equal(e.len, 0x1000);
		assert_int_equal(md_file_origin(f, i ? C : B, 0, &e, &origin), 1);
		assert_int_equal(origin, A);
	}
	md_file_close(f);
	clean(&d);
}

/* --- a child of such a file ------------------------------------------------------------------ */

struct seen {
	unsigned times[3][NPAGES]; /* of A, B, C */
	uint8_t page[3][NPAGES][MADE_PAGE];
	uint64_t want; /* 0: all */
};

static unsigned who(uint64_t space)
{
	return space == A ? 0 : space == B ? 1 : 2;
}

static int see(void *arg, uint64_t space, uint64_t addr, const void *buf, uint64_t len,
	       struct err *err)
{
	struct seen *s = arg;

	for (uint64_t at = 0; at < len; at += MADE_PAGE) {
		unsigned n = (unsigned)((addr + at - AT) / MADE_PAGE);

		if ((space != A && space != B && space != C) || n >= NPAGES)
			fail_msg("page %#lx of space %lu", addr + at, space);
		s->times[who(space)][n]++;
		memset(s->page[who(space)][n], 0, MADE_PAGE);
		if (buf)
			memcpy(s->page[who(space)][n], (const uint8_t *)buf + at, MADE_PAGE);
	}
	return 0;
}

static bool wants(void *arg, uint64_t space)
{
	return space == ((struct seen *)arg)->want;
}

static void fill(int dirfd, struct seen *s)
{
	const struct md_sink sink = {see, s};
	struct md_progress pr = {0};
	const struct md_fill_opts o = {
		.threads = 1,
		.progress = &pr,
		.want = s->want ? wants : NULL,
		.want_arg = s,
	};
	struct err err = {0};

	if (md_file_fill(dirfd, "f", &o, &sink, NULL, &err) < 0)
		fail_msg("%s", err.msg);
}

static void expect_page(const struct seen *s, uint64_t space, unsigned n, uint64_t as,
			bool inverted)
{
	uint8_t page[MADE_PAGE];

	made_page(as, AT + n * MADE_PAGE, page);
	for (unsigned i = 0; inverted && i < MADE_PAGE; i++)
		page[i] ^= 0xff;
	assert_int_equal(s->times[who(space)][n], 1);
	assert_memory_equal(s->page[who(space)][n], page, MADE_PAGE);
}

/* B has the page as it was, though the child has another one in its place for A. */
static void expect_all(const struct seen *s)
{
	for (unsigned n = 0; n < NPAGES; n++)
		expect_page(s, A, n, A, n == 1);
	expect_page(s, B, 1, A, false);
	expect_page(s, B, 2, A, false);
	expect_page(s, B, 3, B, false);
	expect_page(s, C, 0, C, false);
	assert_int_equal(s->times[1][0], 0);
}

static void read_all(struct md_file *f, struct seen *s)
{
	for (unsigned k = 0; k < 3; k++) {
		const uint64_t space = k == 0 ? A : k == 1 ? B : C;
		struct md_extent e = {0};

		while (md_file_extent(f, space, e.addr + e.len, &e) > 0)
			for (uint64_t at = e.addr; at < e.addr + e.len; at += MADE_PAGE) {
				struct md_extent part;
				uint64_t origin;
				uint8_t page[MADE_PAGE];
				struct err err = {0};

				assert_int_equal(md_file_read(f, space, at, page, MADE_PAGE, &err),
						 MADE_PAGE);
				see(s, space, at, page, MADE_PAGE, &err);
				assert_int_equal(md_file_origin(f, space, at, &part, &origin), 1);
				assert_int_equal(part.addr, at);
				assert_int_equal(origin, space);
			}
	}
}

static void test_below_a_child(void **state)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct made_dir d = made_dir();
	struct err err = {0};
	struct seen *s = calloc(1, sizeof(*s));
	struct md_file *f;
	struct md_verify v;
	int parent;

	assert_int_equal(mkdirat(d.fd, "parent", 0700), 0);
	parent = openat(d.fd, "parent", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	write_file(parent, blocks, NBLOCKS, false, &fo, false);
	f = md_file_open(parent, "f", 0, &err);
	assert_non_null(f);
	fo.has_parent = true;
	fo.parent_id = md_file_id(f);
	md_file_close(f);
	write_file(d.fd, later, 1, true, &fo, true);
	if (md_file_verify(d.fd, "f", 1, NULL, NULL, &v, &err) < 0)
		fail_msg("%s", err.msg);
	f = md_file_open(d.fd, "f", 0, &err);
	if (!f)
		fail_msg("%s", err.msg);
	read_all(f, s);
	expect_all(s);
	md_file_close(f);

	memset(s, 0, sizeof(*s));
	fill(d.fd, s);
	expect_all(s);
	memset(s, 0, sizeof(*s));
	s->want = B;
	fill(d.fd, s);
	assert_int_equal(s->times[0][0] + s->times[0][1] + s->times[0][2] + s->times[0][3], 0);
	s->want = A;
	fill(d.fd, s);
	s->want = C;
	fill(d.fd, s);
	expect_all(s);

	unlinkat(parent, "f", 0);
	close(parent);
	unlinkat(d.fd, "parent", AT_REMOVEDIR);
	free(s);
	clean(&d);
}

/* --- and torn -------------------------------------------------------------------------------- */

/* The file up to its @n th block; B's pages of A are where A's block is. */
static void cut(const struct made_dir *d, unsigned n)
{
	size_t len, at = 64;
	uint8_t *p = made_slurp(d->fd, "f", &len);

	for (; at + 64 < len; at += 64)
		if (!memcmp(p + at, "\x93STBLK\r\n", 8) && !n--)
			break;
	made_spit(d->fd, "f", p, at);
	free(p);
}

static void test_torn(void **state)
{
	const struct md_file_opts fo = {.page_size = MADE_PAGE};

	for (unsigned n = 1; n < 3; n++) {
		struct made_dir d = made_dir();
		struct err err = {0};
		struct md_extent e;
		struct md_file *f;

		write_file(d.fd, blocks, NBLOCKS, false, &fo, false);
		cut(&d, n);
		assert_null(md_file_open(d.fd, "f", 0, &err));
		err_clear(&err);
		f = md_file_open(d.fd, "f", MD_FILE_REBUILD, &err);
		if (!f)
			fail_msg("%s", err.msg);
		assert_int_equal(md_file_extent(f, B, 0, &e), n == 2);
		if (n == 2) {
			assert_int_equal(e.addr, AT + 0x1000);
			assert_int_equal(e.len, 0x2000);
		}
		md_file_close(f);
		clean(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_beside_a_map),
		cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_below_a_child),
		cmocka_unit_test(test_torn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
