/* SPDX-License-Identifier: MIT */
/*
 * What is in pipes and FIFOs, read without taking anything out.
 *
 * tee(2) copies references to the buffers of a pipe into one of ours, which is then read empty.
 * Packets stay packets on the way: a read ends where one ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/files.h"

/* What is known of a pipe beside the model, by position there. */
struct pipe_seen {
	uint32_t pid, fd; /* the first descriptor, for messages */
	bool reader, writer;
	bool packets; /* a description writes packets */
	bool alone;   /* the other end is closed everywhere */
};

static uint32_t pipe_find(const struct files *f, uint64_t key, const struct m_file *file)
{
	size_t pos = idmap_start(&f->by_pipe, key);
	uint32_t i;

	while (idmap_next(&f->by_pipe, key, &pos, &i)) {
		const struct m_pipe *p = &f->m->pipes[i];

		if (p->ino == file->ino && p->dev == file->dev)
			return i;
	}
	return UINT32_MAX;
}

static struct m_pipe *pipe_add(struct files *f, uint64_t key, const struct m_file *file,
			       uint32_t pid, uint32_t fd)
{
	struct m_pipe *p = model_push(f->m, &f->m->pipes, &f->m->npipes, sizeof(*p));
	struct pipe_seen *s = files_push(&f->pipes, &f->npipes, &f->pipes_room, sizeof(*s));

	if (!p || !s || idmap_put(&f->by_pipe, key, f->npipes - 1) < 0)
		return NULL;
	*p = (struct m_pipe){.dev = file->dev, .ino = file->ino, .fifo = file->type == M_FILE_FIFO};
	*s = (struct pipe_seen){.pid = pid, .fd = fd};
	return p;
}

/* Ours, with room for all that one of @size bytes can hold. */
static int tee_open(struct files *f, int size)
{
	int now;

	if (f->tee[0] < 0 && pipe2(f->tee, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	now = fcntl(f->tee[1], F_GETPIPE_SZ);
	if (now < size && fcntl(f->tee[1], F_SETPIPE_SZ, size) < 0)
		return -errno;
	return 0;
}

static void tee_close(struct files *f)
{
	if (f->tee[0] < 0)
		return;
	close(f->tee[0]);
	close(f->tee[1]);
	f->tee[0] = f->tee[1] = -1;
}

/* Our pipe emptied into @p, which has room for all of it. */
static int tee_read(struct files *f, struct m_pipe *p, uint32_t len)
{
	while (p->len < len) {
		ssize_t n = read(f->tee[0], p->data + p->len, len - p->len);
		uint32_t *packet;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		packet = model_push(f->m, &p->packets, &p->npackets, sizeof(*packet));
		if (!packet)
			return -ENOMEM;
		*packet = (uint32_t)n;
		p->len += (uint32_t)n;
	}
	return 0;
}

/* Everything that is in the pipe @dup, a reading end. */
static int pipe_read(struct files *f, struct m_pipe *p, int dup)
{
	int want = 0, got = 0, ret;
	ssize_t n;

	if (ioctl(dup, FIONREAD, &want) < 0)
		return -errno;
	if (!want)
		return 0;
	ret = tee_open(f, (int)p->size);
	if (ret < 0)
		return ret;
	do {
		n = tee(dup, f->tee[1], INT32_MAX, SPLICE_F_NONBLOCK);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (ioctl(f->tee[0], FIONREAD, &got) < 0 || got < want)
		return -ENOBUFS;
	p->data = model_alloc(f->m, (size_t)got);
	return p->data ? tee_read(f, p, (uint32_t)got) : -ENOMEM;
}

static bool other_end_closed(int dup)
{
	struct pollfd pfd = {.fd = dup};

	return poll(&pfd, 1, 0) == 1 && pfd.revents & (POLLHUP | POLLERR);
}

int files_pipe(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
	       const struct m_file *file, struct err *err)
{
	uint64_t key = idmap_mix(file->dev, file->ino);
	uint32_t i = pipe_find(f, key, file);
	unsigned mode = file->flags & O_ACCMODE;
	struct pipe_seen *s;
	struct m_pipe *p;
	int ret = 0;

	if (i == UINT32_MAX) {
		if (!pipe_add(f, key, file, at->pid, fd))
			return err_set(err, ENOMEM, "pipes of pid %u", at->pid);
		i = f->npipes - 1;
	}
	p = &f->m->pipes[i];
	s = &f->pipes[i];
	if (file->pipe_size)
		p->size = file->pipe_size;
	s->packets |= mode != O_RDONLY && file->flags & O_DIRECT;
	s->alone |= dup < 0 || other_end_closed(dup);
	s->writer |= mode != O_RDONLY;
	if (mode != O_WRONLY && !s->reader) {
		s->reader = true;
		if (dup >= 0)
			ret = pipe_read(f, p, dup);
		/* Ours may hold what it should not: the next one gets a new one. */
		if (ret < 0)
			tee_close(f);
		if (ret == -ENOMEM)
			return err_set(err, ENOMEM, "pipes of pid %u", at->pid);
		if (ret < 0 &&
		    finding_fatal(f->m, at->pid, "fd %u: pipe: its contents cannot be read: %s", fd,
				  strerrordesc_np(-ret)) < 0)
			return err_set(err, ENOMEM, "findings of pid %u", at->pid);
	}
	return 0;
}

/* All of the tree has been seen. */
int pipes_finish(struct files *f, struct err *err)
{
	for (uint32_t i = 0; i < f->npipes; i++) {
		const struct pipe_seen *s = &f->pipes[i];
		struct m_pipe *p = &f->m->pipes[i];

		/* One read emptied it: that a stream does as well. */
		if (!s->packets && p->npackets <= 1)
			p->npackets = 0;
		if (p->fifo || s->alone || (s->reader && s->writer))
			continue;
		if (finding_add(f->m, s->pid,
				"fd %u: pipe whose %s end is held by a process outside of the "
				"tree: it is closed after a restore",
				s->fd, s->reader ? "writing" : "reading") < 0)
			return err_set(err, ENOMEM, "findings of pid %u", s->pid);
	}
	return 0;
}

void pipes_deinit(struct files *f)
{
	tee_close(f);
	idmap_deinit(&f->by_pipe);
	free(f->pipes);
}
