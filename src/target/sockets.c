/* SPDX-License-Identifier: MIT */
/* Sockets of a tree, whatever their family: who looks at them, and when. */
#include "src/target/sockets.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

int socket_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		struct m_file *file, struct err *err)
{
	if (dup < 0) {
		if (f->hands_off)
			return 0;
		return finding_fatal(f->m, at->pid, "fd %u: socket: cannot be looked at: no "
						    "pidfd_getfd, or not permitted",
				     fd) < 0
			       ? err_set(err, ENOMEM, "findings of pid %u", at->pid)
			       : 0;
	}
	switch (file->type) {
	case M_FILE_UNIXSK:
		return unix_look(f, at, fd, dup, file, err);
	case M_FILE_INETSK:
		return inet_look(f, at, fd, dup, file, err);
	case M_FILE_NETLINKSK:
		return netlink_look(f, at, fd, dup, file, err);
	default:
		return packet_look(f, at, fd, dup, file, err);
	}
}

/* Every socket by its inode, also those that have been found in a queue since. */
static int index_sockets(struct files *f, struct err *err)
{
	for (; f->nindexed < f->m->nfiles; f->nindexed++) {
		const struct m_file *file = &f->m->files[f->nindexed];

		if ((file->usk || file->isk) &&
		    idmap_put(&f->by_socket, file->ino, file->id) < 0)
			return err_set(err, ENOMEM, "index of sockets");
	}
	return 0;
}

static int finish_with(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, int dup,
		       struct err *err)
{
	const struct m_file *file = &f->m->files[id - 1];
	int ret = index_sockets(f, err);

	if (ret < 0)
		return ret;
	if (file->usk)
		return unix_finish(f, p, fd, id, dup, err);
	return file->isk ? inet_finish(f, p, fd, id, dup, err) : 0;
}

/* Sockets that were found in a queue have no descriptor in the tree: ours stands for it. */
static int finish_passed(struct files *f, const struct m_proc *p, struct err *err)
{
	int ret = 0;

	for (; ret == 0 && f->npassed_done < f->npassed; f->npassed_done++) {
		const struct passed *e = &f->passed[f->npassed_done];

		ret = finish_with(f, p, (uint32_t)e->own, e->id, e->own, err);
	}
	return ret;
}

int socket_finish(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id,
		  struct err *err)
{
	const struct m_file *file = &f->m->files[id - 1];
	cleanup_fd int pidfd = -1;
	cleanup_fd int dup = -1;
	int ret;

	if (f->hands_off || (!file->usk && !file->isk))
		return 0;
	pidfd = (int)syscall(SYS_pidfd_open, (pid_t)p->pid, 0);
	if (pidfd >= 0)
		dup = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (dup < 0)
		return err_set(err, errno, "duplicate fd %u of pid %u", fd, p->pid);
	ret = finish_with(f, p, fd, id, dup, err);
	return ret ? ret : finish_passed(f, p, err);
}

void sockets_deinit(struct files *f)
{
	if (f->diag >= 0)
		close(f->diag);
	for (uint32_t i = 0; i < f->npassed; i++)
		close(f->passed[i].own);
	free(f->passed);
	free(f->pending);
	idmap_deinit(&f->by_socket);
}
