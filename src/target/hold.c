/* SPDX-License-Identifier: MIT */
/*
 * Connections of a tree that will be killed, from their reading until somebody restores it.
 *
 *	hold_begin()	before the first of them is read: with peers outside of the tree, nothing
 *			arrives any more and nothing leaves. It ends with the guardian.
 *	hold_grasp()	the tree is about to be killed: descriptors of ours keep the sockets open
 *	(the tree is killed)
 *	hold_end()	they go without a word to the other side; packets stay held back, which
 *			the restore ends
 *
 * A socket in repair mode goes without a word. That mode is put on when nobody of the tree is left
 * to notice: a connection of a program that lives never has it for longer than it takes to read.
 */
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "binlog/pr.h"
#include "src/target/netlock.h"
#include "src/target/sockets.h"

/* Then the dump is refused, or is one to look at, from which nobody takes them up again. */
static bool cannot_be_restored(const struct model *m)
{
	for (uint32_t i = 0; i < m->nfindings; i++)
		if (m->findings[i].fatal)
			return true;
	return false;
}

int hold_begin(struct files *f, struct err *err)
{
	struct err why = {0};
	uint32_t room = 0;

	if (!f->hold || cannot_be_restored(f->m))
		return 0;
	for (uint32_t i = 0; i < f->m->nfiles; i++) {
		const struct m_inet *isk = f->m->files[i].isk;
		const struct m_inet **e;

		if (!isk || !inet_held(f, isk))
			continue;
		e = files_push(&f->held, &f->nheld, &room, sizeof(*e));
		if (!e)
			return err_set(err, ENOMEM, "list of connections");
		*e = isk;
	}
	if (!f->nheld)
		return 0;
	f->m->net_lock = M_NET_LOCK_NFTABLES;
	f->hold_fd = netlock_hold(f->m, f->held, f->nheld, &why);
	if (f->hold_fd >= 0)
		return 0;
	f->m->net_lock = M_NET_LOCK_SKIP;
	f->nheld = 0;
	/* Then they cannot be read either, of which there will be a finding for each. */
	return why.errnum == EPERM ? 0 : err_take(err, &why);
}

static void raise_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur == rl.rlim_max)
		return;
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
}

static void grasp_one(struct files *f, const struct m_proc *p, uint32_t fd)
{
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, (pid_t)p->pid, 0);
	cleanup_fd int dup = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	int *e;

	if (dup < 0)
		return;
	e = files_push(&f->grasped, &f->ngrasped, &f->grasped_room, sizeof(*e));
	/* No way to wait with it. */
	if (e)
		*e = take_fd(&dup);
	else
		tcp_silence(dup);
}

void hold_grasp(struct files *f)
{
	const struct model *m = f->m;

	raise_limit();
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_fdtable *t = model_fdtable(m, m->procs[i].fdtable_id);

		for (uint32_t k = 0; t && m->procs[i].state != M_DEAD && k < t->n; k++) {
			const struct m_file *file = model_file(m, t->fds[k].file_id);

			if (file && file->isk && file->isk->tcp)
				grasp_one(f, &m->procs[i], t->fds[k].fd);
		}
	}
}

void hold_end(struct files *f)
{
	struct err err = {0};

	for (uint32_t i = 0; i < f->npassed; i++) {
		const struct m_file *file = &f->m->files[f->passed[i].id - 1];

		if (file->isk && file->isk->tcp)
			tcp_silence(f->passed[i].own);
	}
	for (uint32_t i = 0; i < f->ngrasped; i++) {
		tcp_silence(f->grasped[i]);
		close(f->grasped[i]);
	}
	f->ngrasped = 0;
	if (f->hold_fd < 0)
		return;
	if (cannot_be_restored(f->m)) {
		f->m->net_lock = M_NET_LOCK_SKIP;
	} else if (netlock_keep(f->m, f->held, f->nheld, &err) < 0) {
		pr_err("%s\n", err.msg);
		f->m->net_lock = M_NET_LOCK_SKIP;
	}
	close(f->hold_fd);
	f->hold_fd = -1;
}

void hold_deinit(struct files *f)
{
	for (uint32_t i = 0; i < f->ngrasped; i++)
		close(f->grasped[i]);
	free(f->grasped);
	free(f->held);
	if (f->hold_fd >= 0)
		close(f->hold_fd);
}
