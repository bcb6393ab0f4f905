/* SPDX-License-Identifier: MIT */
/* What is fsynced before an image has its name, and after. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/image/scratch.h"
#include "tests/unit/image/small_image.h"

enum { MOST = 64 };

static ino_t synced[MOST];
static unsigned nsynced;
static bool all_synced;	  /* by syncfs() */
static unsigned named_at; /* how many were synced when the directory had its name */

static ino_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_ino;
}

/* In place of the C library's. */
int fsync(int fd)
{
	assert_true(nsynced < MOST);
	if (!named_at && !access("x", F_OK))
		named_at = nsynced;
	synced[nsynced++] = inode_of(fd);
	return 0;
}

int syncfs(int fd)
{
	all_synced = true;
	return 0;
}

/* Its place in the order of syncs, from 1 on. */
static unsigned when(ino_t ino)
{
	for (unsigned i = nsynced; i; i--)
		if (synced[i - 1] == ino)
			return i;
	return 0;
}

static void check(enum image_format format, unsigned nthreads)
{
	struct err err = {0};
	struct stat st;
	struct dirent *e;
	DIR *d;

	nsynced = named_at = 0;
	all_synced = false;
	assert_int_equal(small_image("x", format, nthreads, 2, &err), 0);
	d = opendir("x");
	assert_non_null(d);
	while ((e = readdir(d))) {
		unsigned at;

		assert_int_equal(fstatat(dirfd(d), e->d_name, &st, 0), 0);
		at = when(st.st_ino);
		if (!strcmp(e->d_name, "..")) {
			/* The name itself, last of all. */
			assert_int_equal(at, nsynced);
			assert_int_equal(named_at, nsynced - 1);
		} else if (S_ISDIR(st.st_mode) || !all_synced) {
			if (!at || at > named_at)
				fail_msg("%s is not fsynced before the image has its name",
					 e->d_name);
		}
	}
	closedir(d);
	scratch_remove("x");
}

static void few_files(void **state)
{
	check(IMAGE_STASIS, 1);
	assert_false(all_synced);
	check(IMAGE_CRIU, 1);
	assert_false(all_synced);
}

/* Too many to wait for the disk once for each. */
static void many_files(void **state)
{
	check(IMAGE_STASIS, 200);
	assert_true(all_synced);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(few_files),
		cmocka_unit_test(many_files),
	};

	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
