/* SPDX-License-Identifier: MIT */
/* Reads the bytes of a log from a file or from memory. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "tools/bindecode/decode_buf.h"
#include "tools/bindecode/decode_source.h"

static int slurp(struct dec_source *ret, int fd, const char *path, struct err *err)
{
	struct dec_buf b;
	ssize_t n;

	dec_buf_init(&b);
	for (;;) {
		if (b.cap - b.len < 65536 && !dec_buf_grow(&b, 65536)) {
			dec_buf_deinit(&b);
			return err_set(err, ENOMEM, "read %s", path);
		}
		n = io_read(fd, b.p + b.len, b.cap - b.len);
		if (n < 0) {
			dec_buf_deinit(&b);
			return err_set(err, (int)-n, "read %s", path);
		}
		if (n == 0)
			break;
		b.len += (size_t)n;
	}
	*ret = (struct dec_source){.fd = -1, .mem = (uint8_t *)b.p, .len = b.len, .owned = b.p};
	return 0;
}

int dec_source_open(struct dec_source *ret, const char *path, struct err *err)
{
	bool in = !strcmp(path, "-");
	cleanup_fd int fd = in ? dup(0) : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return err_set(err, errno, "open %s", path);
	if (fstat(fd, &st))
		return err_set(err, errno, "stat %s", path);
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "open %s", path);
	if (!S_ISREG(st.st_mode))
		return slurp(ret, fd, in ? "standard input" : path, err);
	*ret = (struct dec_source){.fd = take_fd(&fd), .len = (uint64_t)st.st_size};
	return 0;
}

void dec_source_close(struct dec_source *s)
{
	if (s->fd >= 0)
		close(s->fd);
	free(s->owned);
	*s = (struct dec_source){.fd = -1};
}

ssize_t dec_source_read(const struct dec_source *s, uint64_t off, void *buf, size_t len)
{
	if (s->fd >= 0)
		return off > INT64_MAX - len ? 0 : io_pread(s->fd, buf, len, off);
	if (off >= s->len)
		return 0;
	if (len > s->len - off)
		len = (size_t)(s->len - off);
	memcpy(buf, s->mem + off, len);
	return (ssize_t)len;
}

int dec_source_refresh(struct dec_source *s)
{
	struct stat st;

	if (s->fd < 0)
		return 0;
	if (fstat(s->fd, &st))
		return -errno;
	s->len = (uint64_t)st.st_size;
	return 0;
}

uint64_t dec_source_data(const struct dec_source *s, uint64_t off)
{
	off_t data;

	if (s->fd < 0 || off >= s->len)
		return off < s->len ? off : s->len;
	data = lseek(s->fd, (off_t)off, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? s->len : off;
	return (uint64_t)data;
}
