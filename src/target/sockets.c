/* SPDX-License-Identifier: MIT */
/* Sockets of a tree, whatever their family: who looks at them, and when. */
#include "src/target/sockets.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/fdtype.h"

/* A tree that runs: what the kernel tells of its sockets to everybody. */
static int socket_survey(struct files *f, const struct proc_at *at, uint32_t fd,
			 struct m_file *file, struct err *err)
{
	char link[24];

	snprintf(link, sizeof(link), "fd/%u", fd);
	if (file->type == M_FILE_INETSK && !fdtype_inet_known(at->dir, link) &&
	    finding_fatal(f->m, at->pid, "fd %u: " INET_NOT_KNOWN ": not supported", fd) < 0)
		return err_set(err, ENOMEM, "findings of pid %u", at->pid);
	if (file->type != M_FILE_UNIXSK)
		return 0;
	f->in_flight += holders_in_flight(f->text.data);
	return unix_look(f, at, fd, -1, file, err);
}

int socket_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		struct m_file *file, struct err *err)
{
	if (f->hands_off)
		return socket_survey(f, at, fd, file, err);
	if (dup < 0) {
		return finding_fatal(f->m, at->pid,
				     "fd %u: socket: cannot be looked at: no "
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

		if ((file->usk || file->isk || file->type == M_FILE_INETSK) &&
		    idmap_put(&f->by_socket, file->ino, file->id) < 0)
			return err_set(err, ENOMEM, "index of sockets");
	}
	return 0;
}

enum round { QUEUES, SENT, PEERS };

/*
 * Queues first: what travels in one may be the peer of another socket. What has been sent on all
 * connections before what has arrived: inet_conn.c.
 */
static int look_again(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, int dup,
		      enum round round, struct err *err)
{
	const struct m_file *file = &f->m->files[id - 1];

	if (round == QUEUES)
		return file->usk ? sk_queue_read(f, p->pid, fd, id, dup, err) : 0;
	if (round == SENT)
		return file->isk ? inet_sent(f, p, fd, id, dup, err) : 0;
	if (file->usk)
		return unix_finish(f, p, fd, id, err);
	return file->isk ? inet_finish(f, p, fd, id, dup, err) : 0;
}

static int socket_round(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id,
			enum round round, struct err *err)
{
	const struct m_file *file = &f->m->files[id - 1];
	cleanup_fd int pidfd = -1;
	cleanup_fd int dup = -1;

	if (!file->usk && !file->isk)
		return 0;
	pidfd = f->hands_off ? -1 : (int)syscall(SYS_pidfd_open, (pid_t)p->pid, 0);
	if (pidfd >= 0)
		dup = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (dup < 0 && !f->hands_off)
		return err_set(err, errno, "duplicate fd %u of pid %u", fd, p->pid);
	return look_again(f, p, fd, id, dup, round, err);
}

/* Sockets that were found in a queue have no descriptor in the tree: ours stands for it. */
static int passed_round(struct files *f, enum round round, struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < f->npassed; i++) {
		struct passed e = f->passed[i];

		ret = look_again(f, &f->m->procs[0], (uint32_t)e.own, e.id, e.own, round, err);
	}
	return ret;
}

static int one_round(struct files *f, enum round round, struct err *err)
{
	uint32_t nfiles = f->m->nfiles;
	bool *seen = calloc(nfiles + 1, sizeof(*seen));
	int ret = seen ? 0 : err_set(err, ENOMEM, "list of sockets");

	for (uint32_t i = 0; ret == 0 && i < f->m->nprocs; i++) {
		const struct m_proc *p = &f->m->procs[i];
		const struct m_fdtable *t = model_fdtable(f->m, p->fdtable_id);

		for (uint32_t k = 0; ret == 0 && t && k < t->n; k++) {
			uint32_t id = t->fds[k].file_id;

			if (!seen[id])
				ret = socket_round(f, p, t->fds[k].fd, id, round, err);
			seen[id] = true;
		}
	}
	free(seen);
	return ret ? ret : passed_round(f, round, err);
}

int sockets_finish(struct files *f, struct err *err)
{
	int ret = f->hands_off ? 0 : one_round(f, QUEUES, err);

	if (ret == 0)
		ret = index_sockets(f, err);
	if (ret == 0 && f->hands_off)
		ret = tcp_list_findings(f, err);
	if (f->hands_off)
		return ret ? ret : one_round(f, PEERS, err);
	if (ret == 0)
		ret = hold_begin(f, err);
	if (ret == 0)
		ret = one_round(f, SENT, err);
	if (ret == 0)
		ret = one_round(f, PEERS, err);
	if (ret == 0)
		inet_settle(f);
	return ret;
}

void sockets_deinit(struct files *f)
{
	hold_deinit(f);
	if (f->diag >= 0)
		close(f->diag);
	for (uint32_t i = 0; i < f->npassed; i++)
		close(f->passed[i].own);
	free(f->passed);
	free(f->pending);
	idmap_deinit(&f->by_socket);
	idmap_deinit(&f->by_holder);
}
