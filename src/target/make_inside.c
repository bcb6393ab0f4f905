/* SPDX-License-Identifier: MIT */
/*
 * What a process must do by calls of its own: POSIX locks, which belong to it, and watching a
 * signalfd, which tells of the signals of whoever began to watch it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "src/target/make_row.h"
#include "src/target/remote.h"

bool make_watched_inside(const struct make *mk, const struct m_epoll_target *t)
{
	const struct m_file *what = model_file(mk->m, t->file_id);

	for (uint32_t i = 0; what && what->type == M_FILE_SIGNALFD && i < mk->nwatches; i++)
		if (mk->watches[i].t == t)
			return true;
	return false;
}

/* The number of @file_id in @t, @like if that is one of them; -1: none. */
static int64_t number_in(const struct m_fdtable *t, uint32_t file_id, uint32_t like)
{
	int64_t fd = -1;

	for (uint32_t i = 0; i < t->n; i++)
		if (t->fds[i].file_id == file_id && (fd < 0 || t->fds[i].fd == like))
			fd = t->fds[i].fd;
	return fd;
}

/*
 * Who watches is not to be seen from outside. Of those that have both, the first one with the
 * signalfd under the number that was used: an instance is rarely shared by several that use it.
 */
static bool find_watcher(const struct model *m, struct made_watch *w)
{
	bool found = false;

	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_fdtable *t = model_fdtable(m, m->procs[i].fdtable_id);
		int64_t ep, fd;

		if (!t || m->procs[i].state == M_DEAD)
			continue;
		ep = number_in(t, w->f->id, 0);
		fd = ep < 0 ? -1 : number_in(t, w->t->file_id, w->t->fd);
		if (fd < 0 || (found && (uint32_t)fd != w->t->fd))
			continue;
		w->pid = m->procs[i].pid;
		w->ep = (uint32_t)ep;
		w->fd = (uint32_t)fd;
		found = true;
		if ((uint32_t)fd == w->t->fd)
			break;
	}
	return found;
}

static int add_watch(struct make *mk, const struct made_watch *w, struct err *err)
{
	struct made_watch *more = reallocarray(mk->watches, mk->nwatches + 1, sizeof(*more));

	if (!more)
		return err_set(err, ENOMEM, "what %s watches", make_name(w->f));
	mk->watches = more;
	more[mk->nwatches++] = *w;
	return 0;
}

int make_plan_watches(struct make *mk, struct err *err)
{
	for (uint32_t i = 0; i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];

		if (f->type != M_FILE_EVENTPOLL || mk->made[i].fd < 0)
			continue;
		for (uint32_t k = 0; k < f->ntargets; k++) {
			struct made_watch w = {.f = f, .t = &f->targets[k]};
			const struct m_file *what = model_file(mk->m, w.t->file_id);
			int ret;

			if (!what || what->type != M_FILE_SIGNALFD || !find_watcher(mk->m, &w))
				continue;
			ret = add_watch(mk, &w, err);
			if (ret < 0)
				return ret;
		}
	}
	return 0;
}

/* 1 when a call was added, 0 when the process has nothing to do with it, -1: no room. */
static int add_call(const struct make *mk, uint32_t at, const struct m_proc *p, struct batch *b)
{
	const struct made_watch *w = &mk->watches[at - mk->m->nlocks];
	struct epoll_event ev;
	uint64_t buf;

	if (w->pid != p->pid)
		return 0;
	buf = b->ncalls == b->max_calls ? 0 : batch_buf(b, sizeof(ev));
	if (!buf)
		return -1;
	ev = (struct epoll_event){.events = w->t->events, .data.u64 = w->t->data};
	memcpy(batch_data(b, buf), &ev, sizeof(ev));
	batch_call(b, SYS_epoll_ctl, w->ep, EPOLL_CTL_ADD, w->fd, buf, 0);
	return 1;
}

int make_inside(const struct make *mk, const struct m_proc *p, struct batch *b, uint32_t *at)
{
	int n = 0;

	for (; *at < mk->m->nlocks + mk->nwatches; ++*at) {
		int did = *at < mk->m->nlocks ? make_lock_call(mk, *at, p, b)
					      : add_call(mk, *at, p, b);

		if (did < 0)
			break;
		n += did;
	}
	return n;
}

int make_inside_done(const struct make *mk, const struct m_proc *p, const struct batch *b,
		     unsigned first_call, uint32_t from, uint32_t to, struct err *err)
{
	for (uint32_t i = from; i < to; i++) {
		const struct made_watch *w = mk->watches + (i - mk->m->nlocks);
		bool lock = i < mk->m->nlocks;
		int64_t ret;

		if (lock ? !make_lock_inside(mk, i, p) : w->pid != p->pid)
			continue;
		ret = b->calls[first_call++].ret;
		if (ret < 0 && lock)
			return make_lock_failed(mk, i, (int)-ret, err);
		if (ret < 0)
			return err_set(err, (int)-ret, "have fd %u of pid %u watch signalfd %u",
				       w->ep, w->pid, w->fd);
	}
	return 0;
}
