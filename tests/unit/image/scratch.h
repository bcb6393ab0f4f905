/* SPDX-License-Identifier: MIT */
/* A directory of its own for a test program, its working directory while it runs. */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#define assert_no_err(err)                                            \
	do {                                                          \
		if ((err)->errnum)                                    \
			fail_msg("%s (%s)", (err)->msg, (err)->hint); \
	} while (0)

static char scratch_path[4096];

static int scratch_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

__attribute__((unused)) static void scratch_remove(const char *path)
{
	nftw(path, scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static int scratch_enter(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(scratch_path, sizeof(scratch_path), "%s/stasis-unit-XXXXXX", tmp ? tmp : "/tmp");
	return mkdtemp(scratch_path) && !chdir(scratch_path) ? 0 : -1;
}

static int scratch_leave(void **state)
{
	if (chdir("/"))
		return -1;
	scratch_remove(scratch_path);
	return 0;
}

#endif
