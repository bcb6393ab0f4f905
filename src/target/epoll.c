/* SPDX-License-Identifier: MIT */
/*
 * What an epoll instance watches.
 *
 * fdinfo has the number that a file had when it was added. By now the number may be closed or
 * another file's; which file is meant is asked of kcmp(2). A socket needs no question: its inode is
 * nobody else's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/files.h"

/* Linux 4.13 */
enum { EPOLL_TFD = 7 };

struct epoll_slot {
	uint32_t efd, tfd, toff;
};

struct watcher {
	struct files *f;
	const struct m_proc *p;
	uint32_t fd; /* of the epoll instance, in p */
	struct m_file *file;
};

/* Whether @fd of @q is what target number @i watches: 1, 0; -errno when it cannot be asked. */
static int is_watched(const struct watcher *w, const struct epoll_slot *slot,
		      const struct m_proc *q, uint32_t fd)
{
	long ret = syscall(SYS_kcmp, (pid_t)q->pid, (pid_t)w->p->pid, EPOLL_TFD, (unsigned long)fd,
			   slot);

	return ret < 0 ? -errno : ret == 0;
}

static bool may_be(const struct m_file *f, const struct m_epoll_target *t)
{
	return f && (!t->ino || f->ino == t->ino) && !(f->flags & O_PATH);
}

/* The file under the number that was used, or under another one of @q. */
static uint32_t find_in(const struct watcher *w, const struct m_epoll_target *t,
			const struct epoll_slot *slot, const struct m_proc *q)
{
	const struct m_fdtable *table = model_fdtable(w->f->m, q->fdtable_id);
	const struct m_fd *e = table ? model_fd(table, t->fd) : NULL;
	const struct m_file *f = e ? model_file(w->f->m, e->file_id) : NULL;

	if (!table)
		return 0;
	if (may_be(f, t) && ((t->ino && S_ISSOCK(f->mode)) || w->f->same.blind ||
			     is_watched(w, slot, q, t->fd) != 0))
		return f->id;
	for (uint32_t i = 0; i < table->n; i++) {
		f = model_file(w->f->m, table->fds[i].file_id);
		if (table->fds[i].fd != t->fd && may_be(f, t) &&
		    is_watched(w, slot, q, table->fds[i].fd) == 1)
			return f->id;
	}
	return 0;
}

/* Among what was found in queues, which this process has open. */
static uint32_t find_passed(const struct watcher *w, const struct m_epoll_target *t,
			    const struct epoll_slot *slot)
{
	const struct m_proc self = {.pid = (uint32_t)getpid()};

	for (uint32_t i = 0; i < w->f->npassed; i++) {
		const struct passed *e = &w->f->passed[i];
		const struct m_file *f = model_file(w->f->m, e->id);

		if (may_be(f, t) && is_watched(w, slot, &self, (uint32_t)e->own) == 1)
			return f->id;
	}
	return 0;
}

/* In a process that runs: not open under the number that is still being watched. */
static bool is_stale(const struct m_proc *p, uint32_t fd, const struct m_epoll_target *t)
{
	struct proctext text = {0};
	char path[64], line[32];
	bool ret = false;

	snprintf(path, sizeof(path), "/proc/%u/fd/%u", p->pid, t->fd);
	if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%u/fdinfo/%u", p->pid, fd);
	snprintf(line, sizeof(line), "tfd: %8u events:", t->fd);
	if (proctext_read(&text, AT_FDCWD, path) > 0)
		ret = strstr(text.data, line) != NULL;
	proctext_deinit(&text);
	return ret;
}

int epoll_finish(struct files *f, const struct m_proc *p, uint32_t fd, struct m_file *file,
		 struct err *err)
{
	struct watcher w = {f, p, fd, file};
	/* One that is in a queue is the root's for people. */
	uint32_t pid = p->fdtable_id ? p->pid : f->m->procs[0].pid;

	for (uint32_t i = 0; i < file->ntargets; i++) {
		struct m_epoll_target *t = &file->targets[i];
		/* Several may have had one number: they are counted in the order of fdinfo. */
		struct epoll_slot slot = {fd, t->fd, 0};

		for (uint32_t k = i; k-- > 0 && file->targets[k].fd == t->fd;)
			slot.toff++;
		t->file_id = find_in(&w, t, &slot, p);
		for (uint32_t k = 0; !t->file_id && k < f->m->nprocs; k++)
			if (f->m->procs[k].fdtable_id != p->fdtable_id)
				t->file_id = find_in(&w, t, &slot, &f->m->procs[k]);
		if (!t->file_id)
			t->file_id = find_passed(&w, t, &slot);
		/* A tree that runs closes and opens while it is looked at: this is for the freeze.
		 */
		if (f->hands_off && !t->file_id && !is_stale(p, fd, t))
			continue;
		if (!t->file_id && finding_fatal(f->m, pid,
						 "fd %u: epoll watches what was descriptor %u and "
						 "is open nowhere in the tree now",
						 fd, t->fd) < 0)
			return err_set(err, ENOMEM, "findings of pid %u", p->pid);
	}
	return 0;
}
