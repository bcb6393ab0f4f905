/* SPDX-License-Identifier: MIT */
/* One file of /proc, whole, in a buffer that grows and is used again. */
#include "src/target/proctext.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

enum { FIRST_ROOM = 16 << 10 };

void proctext_deinit(struct proctext *t)
{
	free(t->data);
	*t = (struct proctext){0};
}

static int text_grow(struct proctext *t)
{
	size_t room = t->room ? 2 * t->room : FIRST_ROOM;
	char *p;

	if (room > PROCTEXT_MAX)
		return -E2BIG;
	p = realloc(t->data, room);
	if (!p)
		return -ENOMEM;
	t->data = p;
	t->room = room;
	return 0;
}

ssize_t proctext_read(struct proctext *t, int dirfd, const char *path)
{
	cleanup_fd int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	t->len = 0;
	for (;;) {
		ssize_t n;

		if (t->room < t->len + 2) {
			int ret = text_grow(t);

			if (ret < 0)
				return ret;
		}
		n = read(fd, t->data + t->len, t->room - 1 - t->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		t->len += (size_t)n;
	}
	t->data[t->len] = '\0';
	return (ssize_t)t->len;
}

ssize_t proctext_link(struct proctext *t, int dirfd, const char *path)
{
	for (;;) {
		ssize_t n = t->room ? readlinkat(dirfd, path, t->data, t->room) : 0;
		int ret;

		if (n < 0)
			return -errno;
		if ((size_t)n < t->room) {
			t->data[n] = '\0';
			t->len = (size_t)n;
			return n;
		}
		ret = text_grow(t);
		if (ret < 0)
			return ret;
	}
}
