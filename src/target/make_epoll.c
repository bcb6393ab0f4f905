/* SPDX-License-Identifier: MIT */
/*
 * epoll instances and what they watch.
 *
 * An item is a file and the number by which it was added; whose number does not matter later. So a
 * child of the tool adds them: its table is a copy of ours, in which every file may have any number
 * for a moment, while the descriptions are the same. signalfds are left to processes of the tree
 * (make_inside.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/target/make_row.h"

/* Bits that say how, not what: without any other an item with EPOLLONESHOT has fired. */
#define HOW (EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE)

static int epoll_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	return fd < 0 ? err_set(err, errno, "make %s", make_name(f)) : make_put(mk, f->id, fd, err);
}

/*
 * Adding enables an item, at least for errors. One that has fired is added so that it can fire,
 * which most files do at once: all that are not quite empty or may be written. What does not stays
 * on for errors.
 */
static int add_fired(int ep, int fd, struct epoll_event ev)
{
	struct epoll_event any = ev, got;

	any.events |= EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &any) < 0)
		return -errno;
	if (epoll_wait(ep, &got, 1, 0) == 1)
		return 0;
	return epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev) < 0 ? -errno : 0;
}

static int add_item(int ep, int fd, uint32_t number, const struct m_epoll_target *t)
{
	struct epoll_event ev = {.events = t->events, .data.u64 = t->data};
	int ret = dup2(fd, (int)number) < 0 ? -errno : 0;

	if (ret < 0)
		return ret;
	if (t->events & EPOLLONESHOT && !(t->events & ~(uint32_t)HOW))
		ret = add_fired(ep, (int)number, ev);
	else
		ret = epoll_ctl(ep, EPOLL_CTL_ADD, (int)number, &ev) < 0 ? -errno : 0;
	close((int)number);
	return ret;
}

static bool has_fired(const struct m_epoll_target *t)
{
	return t->events & EPOLLONESHOT && !(t->events & ~(uint32_t)HOW);
}

/* @top: numbers from there on are nobody's. Those that have fired first, alone. */
static int add_items(const struct make *mk, const struct m_file *f, int top, struct err *err)
{
	int ep = fcntl(make_fd(mk, f->id), F_DUPFD_CLOEXEC, top);

	if (ep < 0)
		return err_set(err, errno, "number %d for %s", top, make_name(f));
	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < f->ntargets; i++) {
			const struct m_epoll_target *t = &f->targets[i];
			int fd, ret;

			if (has_fired(t) != (round == 0) || make_watched_inside(mk, t))
				continue;
			fd = fcntl(make_fd(mk, t->file_id), F_DUPFD_CLOEXEC, top);
			ret = fd < 0 ? -errno : add_item(ep, fd, t->fd, t);
			if (fd >= 0)
				close(fd);
			if (ret < 0)
				return err_set(err, -ret, "have %s watch what was descriptor %u",
					       make_name(f), t->fd);
		}
	}
	close(ep);
	return 0;
}

/* Images that do not say what is watched: what has the number in a table that has the instance. */
static uint32_t watched_file(const struct model *m, const struct m_file *f, uint32_t fd)
{
	for (uint32_t i = 0; i < m->nfdtables; i++) {
		const struct m_fdtable *t = &m->fdtables[i];
		uint32_t id = 0;
		bool has = false;

		for (uint32_t k = 0; k < t->n; k++) {
			has |= t->fds[k].file_id == f->id;
			if (t->fds[k].fd == fd)
				id = t->fds[k].file_id;
		}
		if (has && id)
			return id;
	}
	return 0;
}

static bool has_items(const struct make *mk, uint32_t i)
{
	const struct m_file *f = &mk->m->files[i];

	return f->type == M_FILE_EVENTPOLL && mk->made[i].fd >= 0 && f->ntargets;
}

/* Above all numbers that are wanted, so that nothing is in the way; there is room for some. */
static int child_top(const struct make *mk)
{
	struct rlimit rl;
	int top = 3;
	rlim_t n = 64;

	for (uint32_t i = 0; i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];

		if (!has_items(mk, i))
			continue;
		n += f->ntargets + (rlim_t)1;
		for (uint32_t k = 0; k < f->ntargets; k++)
			if ((int)f->targets[k].fd >= top)
				top = (int)f->targets[k].fd + 1;
	}
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < (rlim_t)top + n) {
		rl.rlim_cur = (rlim_t)top + n;
		rl.rlim_max = rl.rlim_max < rl.rlim_cur ? rl.rlim_cur : rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	return top;
}

static int move_one(struct make *mk, uint32_t file_id, int top, struct err *err)
{
	int *fd = &mk->made[file_id - 1].fd;

	/* The old one stays until its number is taken over or the child ends. */
	if (*fd < top)
		*fd = fcntl(*fd, F_DUPFD_CLOEXEC, top);
	return *fd < 0 ? err_set(err, errno, "number above %d for %s", top,
				 make_name(&mk->m->files[file_id - 1]))
		       : 0;
}

/* What is needed, out of the way of the numbers that are. */
static int child_move(struct make *mk, int top, struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];

		if (!has_items(mk, i))
			continue;
		ret = move_one(mk, f->id, top, err);
		for (uint32_t k = 0; ret == 0 && k < f->ntargets; k++)
			ret = move_one(mk, f->targets[k].file_id, top, err);
	}
	return ret;
}

static int child_add(struct make *mk, struct err *err)
{
	int top = child_top(mk), ret = child_move(mk, top, err);

	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++) {
		if (has_items(mk, i))
			ret = add_items(mk, &mk->m->files[i], top, err);
	}
	return ret;
}

static int resolve(const struct make *mk, struct err *err)
{
	for (uint32_t i = 0; i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];

		if (f->type != M_FILE_EVENTPOLL || mk->made[i].fd < 0)
			continue;
		for (uint32_t k = 0; k < f->ntargets; k++) {
			struct m_epoll_target *t = &f->targets[k];

			if (!t->file_id)
				t->file_id = watched_file(mk->m, f, t->fd);
			if (make_fd(mk, t->file_id) < 0 || t->fd > INT32_MAX / 4)
				return err_fail(err, ENOENT, ERR_UNSUPPORTED,
						"%s: what it watches as descriptor %u is not in "
						"the image",
						make_name(f), t->fd);
		}
	}
	return 0;
}

int make_epoll_items(struct make *mk, struct err *err)
{
	struct err why = {0};
	int report[2], status = 0;
	bool any = false;
	ssize_t n;
	pid_t pid;
	int ret = resolve(mk, err);

	if (ret == 0)
		ret = make_plan_watches(mk, err);
	for (uint32_t i = 0; i < mk->m->nfiles; i++)
		any |= has_items(mk, i);
	if (ret < 0 || !any)
		return ret;
	if (pipe2(report, O_CLOEXEC) < 0)
		return err_set(err, errno, "pipe for epoll items");
	pid = fork();
	if (pid == 0) {
		/* A copy that stays below the numbers in question would be lost. */
		int out = fcntl(report[1], F_DUPFD_CLOEXEC, child_top(mk));

		if (child_add(mk, &why) < 0)
			_exit(io_write(out, &why, sizeof(why)) == sizeof(why) ? 1 : 2);
		_exit(0);
	}
	close(report[1]);
	n = pid < 0 ? 0 : io_read(report[0], &why, sizeof(why));
	close(report[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (n == (ssize_t)sizeof(why))
		return err_take(err, &why);
	return pid < 0 || status ? err_set(err, EIO, "add the items of epoll instances") : 0;
}

const struct make_row make_epoll = {.open = epoll_open};
