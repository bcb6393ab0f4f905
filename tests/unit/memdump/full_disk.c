/* SPDX-License-Identifier: MIT */
/* A full disk at every stage of writing a block file: small tmpfs of every size. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include <cmocka.h>

#include "tests/unit/memdump/made.h"

enum { NBLOCKS = 24 };

static void write_to(unsigned pages, bool no_uring, bool direct)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE, .no_uring = no_uring, .direct = direct};
	struct made_block b[NBLOCKS];
	struct made_dir d = made_dir();
	struct err err = {0};
	struct md_stats st;
	struct md_verify v;
	char opts[32];
	int ret;

	for (unsigned i = 0; i < NBLOCKS; i++)
		b[i] = (struct made_block){1, 1, {{i * 65536ull, 16 * MADE_PAGE}}};
	snprintf(opts, sizeof(opts), "size=%uk", pages * 4);
	assert_int_equal(mount("none", d.path, "tmpfs", 0, opts), 0);
	int dirfd = open(d.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ret = made_file(dirfd, "f", b, NBLOCKS, MD_CODEC_NONE, &fo, &st, &err);
	if (ret) {
		assert_int_equal(ret, -ENOSPC);
		assert_int_equal(err.class, ERR_NOSPACE);
	} else {
		assert_int_equal(md_file_verify(dirfd, "f", 1, NULL, NULL, &v, &err), 0);
		assert_int_equal(v.blocks, NBLOCKS);
	}
	/* 16 blocks of 64 KiB are not zero: it cannot have fitted in less. */
	assert_int_equal(ret == 0, pages > 16 * 16 + (direct ? NBLOCKS + 2 : 1));
	close(dirfd);
	assert_int_equal(umount(d.path), 0);
	made_dir_remove(&d);
}

static void test_every_size(void **state)
{
	for (unsigned pages = 1; pages < 320; pages += pages < 255 ? 11 : 1) {
		write_to(pages, false, false);
		write_to(pages, true, false);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_size),
	};

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		printf("SKIP: no right to mount a small tmpfs: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
