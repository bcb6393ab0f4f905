/* SPDX-License-Identifier: MIT */
/* Pipes and FIFOs with what was in them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"

/* One write for each packet, or as much as goes at once for a stream. */
static int fill(int fd, const struct m_pipe *p, const struct m_file *f, struct err *err)
{
	int flags = fcntl(fd, F_GETFL), direct = p->npackets ? O_DIRECT : 0;
	uint32_t at = 0;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK | direct) < 0)
		return err_set(err, errno, "prepare %s", make_name(f));
	for (uint32_t i = 0; at < p->len; i++) {
		uint32_t len = i < p->npackets ? p->packets[i] : p->len - at;
		ssize_t n = len ? write(fd, p->data + at, len) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || (len && !n))
			return err_set(err, n < 0 ? errno : EIO,
				       "put %u bytes into %s, of %u at %u", len, make_name(f),
				       p->len, at);
		at += (uint32_t)n;
	}
	return fcntl(fd, F_SETFL, flags) < 0 ? err_set(err, errno, "prepare %s", make_name(f)) : 0;
}

static int set_size(int fd, const struct m_pipe *p, const struct m_file *f, struct err *err)
{
	uint32_t size = p && p->size ? p->size : f->pipe_size;

	if (!size || size > INT32_MAX || fcntl(fd, F_GETPIPE_SZ) == (int)size)
		return 0;
	if (fcntl(fd, F_SETPIPE_SZ, (int)size) >= 0)
		return 0;
	err_set(err, errno, "give %s room for %u bytes", make_name(f), size);
	err_hint(err, "more than /proc/sys/fs/pipe-max-size needs CAP_SYS_RESOURCE");
	return -err->errnum;
}

static int fill_pipe(const struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	const struct m_pipe *p = model_pipe(mk->m, f);
	int ret = set_size(fd, p, f, err);

	return ret < 0 || !p ? ret : fill(fd, p, f, err);
}

/*
 * A description of the pipe @ends. The first of each direction is pipe2()'s own; what was opened
 * by the program through /proc shows in O_LARGEFILE, and is opened so again.
 */
static int describe(struct make *mk, const struct m_file *f, int ends[2], struct err *err)
{
	unsigned mode = f->flags & O_ACCMODE;
	cleanup_fd int fd = -1;
	int ret;

	if (mode == O_RDONLY && ends[0] >= 0 && !(f->flags & mk->largefile))
		fd = take_fd(&ends[0]);
	else if (mode == O_WRONLY && ends[1] >= 0 && !(f->flags & mk->largefile))
		fd = take_fd(&ends[1]);
	else
		fd = make_reopen(ends[2], f, (int)mode | O_NONBLOCK, err);
	if (fd < 0)
		return fd;
	ret = make_set_flags(fd, f, err);
	return ret < 0 ? ret : make_put(mk, f->id, take_fd(&fd), err);
}

/* All descriptions of one pipe together. */
static int pipe_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	/* the two ends, and one that stays to open others by */
	int ends[3] = {-1, -1, -1};
	int ret;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, errno, "make %s", make_name(f));
	ret = fill_pipe(mk, f, ends[1], err);
	ends[2] = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
	if (ret == 0 && ends[2] < 0)
		ret = err_set(err, errno, "make %s", make_name(f));
	for (uint32_t i = f->id - 1; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *g = &mk->m->files[i];

		if (mk->made[i].wanted && g->type == M_FILE_PIPE && g->ino == f->ino &&
		    g->dev == f->dev)
			ret = describe(mk, g, ends, err);
	}
	for (int i = 0; i < 3; i++)
		if (ends[i] >= 0)
			close(ends[i]);
	return ret;
}

/* Opened for both, so that no open of one end waits for the other. */
static int fifo_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	cleanup_fd int both = make_open(mk, f, O_RDWR | O_NONBLOCK | O_CLOEXEC, err);
	struct stat st;
	int held = 0, ret;

	if (both < 0)
		return both;
	if (fstat(both, &st) < 0 || !S_ISFIFO(st.st_mode))
		return err_fail(err, ESTALE, ERR_CHANGED, "%s: is no FIFO any more", make_name(f));
	if (ioctl(both, FIONREAD, &held) == 0 && held)
		return err_fail(err, EBUSY, ERR_CHANGED,
				"%s: somebody uses it: %d bytes are in it already", make_name(f),
				held);
	ret = fill_pipe(mk, f, both, err);
	for (uint32_t i = f->id - 1; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *g = &mk->m->files[i];
		int fd;

		if (!mk->made[i].wanted || g->type != M_FILE_FIFO || g->ino != f->ino ||
		    g->dev != f->dev)
			continue;
		fd = make_reopen(both, g, (int)(g->flags & ~(unsigned)O_ASYNC) | O_NONBLOCK, err);
		if (fd < 0)
			return fd;
		ret = make_set_flags(fd, g, err);
		if (ret == 0)
			ret = make_put(mk, g->id, fd, err);
		else
			close(fd);
	}
	return ret;
}

const struct make_row make_pipe = {.open = pipe_open};
const struct make_row make_fifo = {.open = fifo_open};
