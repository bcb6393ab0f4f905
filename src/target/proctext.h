/* SPDX-License-Identifier: MIT */
/*
 * One file of /proc, whole, in a buffer that grows and is used again.
 *
 *	struct proctext t = {0};
 *	n = proctext_read(&t, dirfd, "status");
 *	...
 *	proctext_deinit(&t);
 */
#ifndef TARGET_PROCTEXT_H
#define TARGET_PROCTEXT_H

#include <stddef.h>
#include <sys/types.h>

/* More than any file of /proc that is read whole: 16 MiB is an epoll instance of 200,000 targets.
 */
enum { PROCTEXT_MAX = 16 << 20 };

struct proctext {
	char *data; /* NUL behind the last byte */
	size_t len;
	size_t room;
};

void proctext_deinit(struct proctext *t);

/* Length or -errno; -E2BIG above PROCTEXT_MAX. A path below @dirfd, as with openat(). */
ssize_t proctext_read(struct proctext *t, int dirfd, const char *path);
/* As readlinkat(), with a NUL, however long it is. */
ssize_t proctext_link(struct proctext *t, int dirfd, const char *path);

#endif
