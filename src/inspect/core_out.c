/* SPDX-License-Identifier: MIT */
/* The output of the core writer: bytes in sequence, in a file that appears whole. */
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/inspect/core.h"

void core_begin(struct core_seq *s, int fd, uint64_t off, bool big_endian)
{
	s->fd = fd;
	s->off = off;
	s->big_endian = big_endian;
	s->n = 0;
	s->error = 0;
}

static void flush(struct core_seq *s)
{
	ssize_t n = s->error ? 0 : io_pwrite(s->fd, s->buf, s->n, s->off);

	if (n < 0)
		s->error = (int)n;
	s->off += s->n;
	s->n = 0;
}

void core_put(struct core_seq *s, const void *p, size_t len)
{
	while (len) {
		size_t n = sizeof(s->buf) - s->n < len ? sizeof(s->buf) - s->n : len;

		memcpy(s->buf + s->n, p, n);
		s->n += n;
		p = (const uint8_t *)p + n;
		len -= n;
		if (s->n == sizeof(s->buf))
			flush(s);
	}
}

void core_put_uint(struct core_seq *s, uint64_t v, unsigned size)
{
	uint8_t b[8];

	for (unsigned i = 0; i < size; i++)
		b[i] = (uint8_t)(v >> 8 * (s->big_endian ? size - 1 - i : i));
	core_put(s, b, size);
}

void core_put_zeros(struct core_seq *s, size_t len)
{
	static const uint8_t zeros[64];

	for (; len > sizeof(zeros); len -= sizeof(zeros))
		core_put(s, zeros, sizeof(zeros));
	core_put(s, zeros, len);
}

uint64_t core_at(const struct core_seq *s)
{
	return s->off + s->n;
}

int core_end(struct core_seq *s)
{
	flush(s);
	return s->error;
}

static int names(struct core_file *f, const char *path, char **ret_dir)
{
	cleanup_free char *a = strdup(path), *b = strdup(path);

	*ret_dir = NULL;
	if (!a || !b)
		return -ENOMEM;
	*ret_dir = strdup(dirname(a));
	f->path = strdup(path);
	if (!*ret_dir || !f->path ||
	    asprintf(&f->temp, "%s/.%s.partial-%d", *ret_dir, basename(b), getpid()) < 0) {
		f->temp = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* Made whole first: a core is not written in order, and standard output may be a pipe. */
static int stream_open(struct core_file *f, struct err *err)
{
	const char *dir = getenv("TMPDIR");

	dir = dir && *dir ? dir : P_tmpdir;
	f->path = strdup("standard output");
	f->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd < 0)
		return err_set(err, errno, "make a temporary file in %s", dir);
	f->stream = f->unnamed = true;
	return f->path ? 0 : err_set(err, ENOMEM, "write standard output");
}

static int stream_commit(struct core_file *f, struct err *err)
{
	static char buf[1 << 16];
	uint64_t off = 0;
	ssize_t n;

	while ((n = io_pread(f->fd, buf, sizeof(buf), off)) > 0) {
		int ret = io_write(STDOUT_FILENO, buf, (size_t)n);

		if (ret < 0)
			return err_set(err, -ret, "write standard output");
		off += (uint64_t)n;
	}
	return n < 0 ? err_set(err, (int)-n, "read the core back") : 0;
}

int core_file_open(struct core_file *f, const char *path, struct err *err)
{
	cleanup_free char *dir = NULL;

	*f = (struct core_file){.fd = -1};
	if (!strcmp(path, "-"))
		return stream_open(f, err);
	if (names(f, path, &dir))
		return err_set(err, ENOMEM, "write %s", path);
	f->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	f->unnamed = f->fd >= 0;
	if (f->fd >= 0)
		return 0;
	/* EISDIR: a kernel without O_TMPFILE; EOPNOTSUPP, ENOENT..: a file system without */
	unlink(f->temp);
	f->fd = open(f->temp, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->fd < 0)
		return err_set(err, errno, "create %s", path);
	return 0;
}

int core_file_commit(struct core_file *f, struct err *err)
{
	char self[32];

	if (f->stream)
		return stream_commit(f, err);
	if (fsync(f->fd) < 0)
		return err_set(err, errno, "fsync %s", f->path);
	if (f->unnamed) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", f->fd);
		unlink(f->temp);
		if (linkat(AT_FDCWD, self, AT_FDCWD, f->temp, AT_SYMLINK_FOLLOW) < 0)
			return err_set(err, errno, "name %s", f->temp);
		f->unnamed = false;
	}
	if (rename(f->temp, f->path) < 0)
		return err_set(err, errno, "rename %s to %s", f->temp, f->path);
	free(take_ptr(&f->temp));
	return 0;
}

void core_file_close(struct core_file *f)
{
	if (f->temp && !f->unnamed && f->fd >= 0)
		unlink(f->temp);
	if (f->fd >= 0)
		close(f->fd);
	free(f->temp);
	free(f->path);
}
