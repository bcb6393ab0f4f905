/* SPDX-License-Identifier: MIT */
/* Unix sockets of a tree: names, peers, and who waits to be accepted. */
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/sockets.h"

/* Linux 4.13 */
#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0)
#endif

static int nomem(uint32_t pid, uint32_t fd, struct err *err)
{
	return err_set(err, ENOMEM, "unix socket fd %u of pid %u", fd, pid);
}

/* --- the path ------------------------------------------------------------------------------- */

/*
 * The kernel gives a descriptor of what a socket is bound to (Linux 4.13, CAP_NET_ADMIN): its path
 * says where a relative name began, wherever the program has gone since. NULL: not known.
 */
static const char *dir_of(int dup, const char *name)
{
	static char link[32], path[4096 + 128];
	cleanup_fd int fd = dup < 0 ? -1 : ioctl(dup, SIOCUNIXFILE, 0);
	size_t len = strlen(name), n;
	ssize_t got;

	if (fd < 0)
		return NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	got = readlink(link, path, sizeof(path) - 1);
	if (got <= 0)
		return NULL;
	path[got] = '\0';
	n = (size_t)got;
	if (n > strlen(" (deleted)") && !strcmp(path + n - strlen(" (deleted)"), " (deleted)"))
		n -= strlen(" (deleted)");
	if (n <= len + 1 || strncmp(path + n - len, name, len) != 0 || path[n - len - 1] != '/')
		return NULL;
	path[n - len - 1] = '\0';
	return *path ? path : strcpy(path, "/");
}

static int read_dir(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		    const char *name, struct m_unix *u, struct err *err)
{
	const char *dir = dir_of(dup, name);

	if (!dir && !u->deleted && proctext_link(&f->segment_link, at->dir, "cwd") >= 0)
		dir = f->segment_link.data;
	if (dir) {
		u->name_dir = model_strdup(f->m, dir);
		return u->name_dir ? 0 : nomem(at->pid, fd, err);
	}
	return dup >= 0 && finding_fatal(f->m, at->pid,
					 "fd %u: unix socket: where its relative name %s begins is "
					 "not known: not supported",
					 fd, name) < 0
		       ? nomem(at->pid, fd, err)
		       : 0;
}

static int read_path(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		     const struct unix_diag *d, struct m_unix *u, struct err *err)
{
	char name[sizeof(d->name) + 1] = "", path[4096 + sizeof(name) + 8];
	const char *dir;
	struct statx stx;

	memcpy(name, d->name, d->name_len);
	u->path_ino = d->path_ino;
	dir = *name == '/' ? NULL : dir_of(dup, name);
	snprintf(path, sizeof(path), "%s%s/%s", *name == '/' || dir ? "root" : "cwd",
		 dir ? dir : "", name);
	if (proc_at_stat(at, path, &stx) < 0 || (uint32_t)stx.stx_ino != d->path_ino) {
		u->deleted = true;
	} else {
		u->path_ino = stx.stx_ino;
		u->has_perms = true;
		u->perm_mode = stx.stx_mode;
		u->perm_uid = stx.stx_uid;
		u->perm_gid = stx.stx_gid;
	}
	return *name == '/' ? 0 : read_dir(f, at, fd, dup, name, u, err);
}

static int read_name(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		     const struct unix_diag *d, struct m_unix *u, struct err *err)
{
	if (!d->name_len)
		return 0;
	u->name = model_alloc(f->m, d->name_len);
	if (!u->name)
		return nomem(at->pid, fd, err);
	memcpy(u->name, d->name, d->name_len);
	u->name_len = d->name_len;
	/* An accepted socket has the name of the one that listened, but no path of its own. */
	if (!*d->name || !d->path_ino)
		return 0;
	return read_path(f, at, fd, dup, d, u, err);
}

/* --- one socket ----------------------------------------------------------------------------- */

static int keep_pending(struct files *f, const struct proc_at *at, uint32_t fd, uint32_t ino,
			const struct unix_diag *d, struct err *err)
{
	for (uint32_t i = 0; i < d->npending; i++) {
		struct sk_pending *p =
			files_push(&f->pending, &f->npending, &f->pending_room, sizeof(*p));

		if (!p)
			return nomem(at->pid, fd, err);
		*p = (struct sk_pending){.client = d->pending[i], .listener = ino, .place = i + 1};
	}
	return 0;
}

int unix_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup, struct m_file *file,
	      struct err *err)
{
	static struct unix_diag d;
	struct m_unix *u = model_alloc(f->m, sizeof(*u));
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int ret = unix_diag_get(f, (uint32_t)file->ino, &d);

	if (!u)
		return nomem(at->pid, fd, err);
	/* Closed since, where the tree runs. */
	if (ret == -ENOENT && f->hands_off)
		return 0;
	if (ret < 0)
		return finding_fatal(f->m, at->pid,
				     "fd %u: unix socket: the kernel does not tell its state: %s",
				     fd, strerrordesc_np(-ret)) < 0
			       ? nomem(at->pid, fd, err)
			       : 0;
	u->type = d.type;
	u->state = d.state;
	u->peer_ino = d.peer;
	u->shutdown = d.shutdown;
	u->backlog = d.state == M_SK_LISTEN ? d.wqueue : 0;
	if (getsockopt(dup, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.pid) {
		u->has_cred = true;
		u->cred_pid = (uint32_t)cred.pid;
		u->cred_uid = cred.uid;
		u->cred_gid = cred.gid;
	}
	ret = read_name(f, at, fd, dup, &d, u, err);
	if (ret == 0 && d.state == M_SK_LISTEN)
		ret = keep_pending(f, at, fd, (uint32_t)file->ino, &d, err);
	if (ret == 0)
		ret = sk_opts_read(f, at, fd, dup, &u->opts, err);
	file->usk = u;
	return ret;
}

/* --- whose peers ---------------------------------------------------------------------------- */

static bool in_tree(const struct files *f, uint32_t ino)
{
	uint32_t id;

	return idmap_get(&f->by_socket, ino, &id);
}

static const char *printed_name(const struct unix_diag *d, char ret[120])
{
	if (!d->name_len)
		return "without a name";
	memcpy(ret, d->name, d->name_len);
	ret[d->name_len] = '\0';
	if (!*ret)
		*ret = '@';
	return ret;
}

/* Of a tree that runs: it is as it was, and somebody else has the other end. */
static bool survey_outside(struct files *f, uint32_t ino, const struct m_unix *u,
			   char ret_holder[HOLDER_TEXT])
{
	static struct unix_diag d;

	return holders_outside(f, u->peer_ino, true, ret_holder) &&
	       unix_diag_get(f, ino, &d) == 0 && d.peer == u->peer_ino && d.state == u->state &&
	       d.shutdown == u->shutdown;
}

static int peer_outside(struct files *f, uint32_t pid, uint32_t fd, uint32_t ino, struct m_unix *u,
			struct err *err)
{
	static struct unix_diag d;
	char name[120], holder[HOLDER_TEXT] = "";
	int ret;

	if (f->hands_off && !survey_outside(f, ino, u, holder))
		return 0;
	ret = u->peer_ino ? unix_diag_get(f, u->peer_ino, &d) : -ENOENT;
	if (ret < 0)
		memset(&d, 0, sizeof(d));
	if (f->ext_unix && u->type == SOCK_DGRAM && d.name_len) {
		u->peer_name = model_alloc(f->m, d.name_len);
		if (!u->peer_name)
			return nomem(pid, fd, err);
		memcpy(u->peer_name, d.name, d.name_len);
		u->peer_name_len = d.name_len;
		return 0;
	}
	return finding_fatal(f->m, pid,
			     "fd %u: unix socket, connected to one%s outside of the tree (%s): %s",
			     fd, holder, printed_name(&d, name),
			     u->type == SOCK_DGRAM && d.name_len
				     ? "--ext-unix-sk connects it again by name"
				     : "not supported") < 0
		       ? nomem(pid, fd, err)
		       : 0;
}

/* Connected, and its peer has no number: not accepted yet, or closed by now. */
static int peer_unknown(struct files *f, uint32_t pid, uint32_t fd, uint32_t ino, struct m_unix *u,
			struct err *err)
{
	enum { BOTH = M_SK_SHUT_READ | M_SK_SHUT_WRITE };
	static struct unix_diag d;

	for (uint32_t i = 0; i < f->npending; i++) {
		if (f->pending[i].client != ino)
			continue;
		u->peer_ino = f->pending[i].listener;
		u->place = f->pending[i].place;
		/* Of a tree that runs it says nothing about a moment later. */
		if (f->hands_off || unix_diag_get(f, ino, &d) < 0 || !d.wqueue)
			return 0;
		return finding_fatal(f->m, pid,
				     "fd %u: unix socket: what it sent before its connection is "
				     "accepted cannot be read: try again later",
				     fd) < 0
			       ? nomem(pid, fd, err)
			       : 0;
	}
	return u->shutdown == BOTH ? 0 : peer_outside(f, pid, fd, ino, u, err);
}

static int pending_outside(struct files *f, uint32_t pid, uint32_t fd, uint32_t ino,
			   struct err *err)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < f->npending && !f->hands_off; i++)
		n += f->pending[i].listener == ino && !in_tree(f, f->pending[i].client);
	return n && finding_passing(f->m, pid,
				    "fd %u: listening unix socket: %u connection%s from outside of "
				    "the tree wait to be accepted: try again later",
				    fd, n, n > 1 ? "s" : "") < 0
		       ? nomem(pid, fd, err)
		       : 0;
}

int unix_finish(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, struct err *err)
{
	struct m_file *file = &f->m->files[id - 1];
	struct m_unix *u = file->usk;
	int ret = 0;

	/* A datagram socket is in this state, too, once somebody is connected to it. */
	if (u->state == M_SK_LISTEN)
		return pending_outside(f, p->pid, fd, (uint32_t)file->ino, err);
	if (u->peer_ino && !in_tree(f, u->peer_ino))
		ret = peer_outside(f, p->pid, fd, (uint32_t)file->ino, u, err);
	else if (!u->peer_ino && u->state == M_SK_ESTABLISHED && u->type != SOCK_DGRAM)
		ret = peer_unknown(f, p->pid, fd, (uint32_t)file->ino, u, err);
	return ret;
}
