/* SPDX-License-Identifier: MIT */
/* Block files kept in tests/golden, made from text by a tool that is not ours, are read for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "memdump/memdump.h"
#include "tests/unit/memdump/made.h"

static int dirfd;

struct golden_page {
	uint64_t space, addr, origin;
	unsigned rule;
};

/* The rule of mkblocks.py. */
static uint8_t byte_of(unsigned k, unsigned i)
{
	return k ? (uint8_t)(k * 37 + i * 11 + i / 256) : 0;
}

/* @stale: pages that are stored beside the @n that count. */
static void check(const char *name, const struct golden_page *pages, size_t n, size_t stale)
{
	struct err err = {0};
	struct md_verify v;
	struct md_file *f;

	if (md_file_verify(dirfd, name, 1, NULL, NULL, &v, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(v.raw_bytes, (n + stale) * MADE_PAGE);
	assert_int_equal(v.stale_bytes, stale * MADE_PAGE);
	f = md_file_open(dirfd, name, 0, &err);
	assert_non_null(f);
	for (size_t i = 0; i < n; i++) {
		const struct golden_page *p = &pages[i];
		struct md_extent e;
		uint8_t buf[MADE_PAGE];
		uint64_t origin;

		assert_int_equal(md_file_read(f, p->space, p->addr, buf, sizeof(buf), &err),
				 MADE_PAGE);
		for (unsigned k = 0; k < MADE_PAGE; k++)
			assert_int_equal(buf[k], byte_of(p->rule, k));
		assert_int_equal(md_file_origin(f, p->space, p->addr, &e, &origin), 1);
		assert_int_equal(e.addr, p->addr);
		assert_int_equal(origin, p->origin);
	}
	md_file_close(f);
}

static void format_1_0(void **state)
{
	const uint64_t shm = MD_SPACE_SHMEM(1);
	const struct golden_page pages[] = {
		{300, 0x10000, 300, 1}, {300, 0x11000, 300, 2}, {300, 0x12000, 300, 4},
		{300, 0x13000, 300, 5}, {300, 0x14000, 300, 0}, {300, 0x20000, 300, 3},
		{300, 0x30000, 300, 0}, {shm, 0, shm, 6},
	};

	check("blocks-1.0", pages, sizeof(pages) / sizeof(pages[0]), 0);
}

static void format_1_1(void **state)
{
	const struct golden_page pages[] = {
		{300, 0x10000, 300, 1}, {300, 0x11000, 300, 2}, {300, 0x12000, 300, 3},
		{300, 0x13000, 300, 4}, {300, 0x14000, 300, 0}, {300, 0x20000, 300, 0},
		{300, 0x21000, 300, 0}, {301, 0x10000, 300, 1}, {301, 0x11000, 300, 2},
		{301, 0x12000, 301, 7}, {301, 0x13000, 300, 4}, {301, 0x20000, 300, 0},
		{302, 0x10000, 300, 1}, {302, 0x12000, 301, 7}, {302, 0x21000, 300, 0},
	};

	check("blocks-1.1", pages, sizeof(pages) / sizeof(pages[0]), 0);
}

static void format_1_1_rounds(void **state)
{
	const struct golden_page pages[] = {
		{300, 0x10000, 300, 1}, {300, 0x11000, 300, 9}, {300, 0x12000, 300, 8},
		{300, 0x20000, 300, 5}, {301, 0x10000, 301, 3},
	};

	check("blocks-1.1-rounds", pages, sizeof(pages) / sizeof(pages[0]), 4);
}

static void text_makes_the_same(void **state)
{
	static const char *const names[] = {"blocks-1.0", "blocks-1.1", "blocks-1.1-rounds"};
	struct made_dir d = made_dir();
	char command[1024];

	if (system("/usr/bin/python3 -c '' 2>/dev/null"))
		skip();
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(command, sizeof(command),
			 "PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/lib/mkblocks.py "
			 "tests/golden/%s.txt '%s/f' && cmp '%s/f' tests/golden/%s",
			 names[i], d.path, d.path, names[i]);
		assert_int_equal(system(command), 0);
		unlinkat(d.fd, "f", 0);
	}
	made_dir_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(format_1_0),
		cmocka_unit_test(format_1_1),
		cmocka_unit_test(format_1_1_rounds),
		cmocka_unit_test(text_makes_the_same),
	};

	dirfd = open("tests/golden", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0) {
		printf("tests/golden is not below the working directory\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
