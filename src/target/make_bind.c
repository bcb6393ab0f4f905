/* SPDX-License-Identifier: MIT */
/*
 * Names of unix sockets.
 *
 * A name is bound as the program wrote it, so a relative one is bound from the directory where the
 * program stood. A path that exists is left alone unless it is the socket that was dumped and
 * nobody listens there: what is left of the program that is restored. One that was removed, and
 * maybe bound again by another, is removed at once; who connects to it does so by a descriptor.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"

/* Linux 4.13, CAP_NET_ADMIN */
#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0)
#endif

static socklen_t addr_of(const struct m_unix *u, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (u->name_len)
		memcpy(ret->sun_path, u->name,
		       u->name_len < sizeof(ret->sun_path) ? u->name_len : sizeof(ret->sun_path));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + u->name_len);
}

static bool has_path(const struct m_unix *u)
{
	return u->name_len && u->name[0];
}

/* The name with a NUL behind it. */
static void path_of(const struct m_unix *u, char ret[128])
{
	memcpy(ret, u->name, u->name_len);
	ret[u->name_len] = '\0';
}

/* The directory from which a relative name leads somewhere; -1: no change. */
static int enter(const struct m_file *f, const struct m_unix *u, int *ret_back, struct err *err)
{
	*ret_back = -1;
	if (!has_path(u) || u->name[0] == '/')
		return 0;
	if (!u->name_dir)
		return err_fail(err, ENOENT, ERR_UNSUPPORTED,
				"%s: where its relative name begins is not known", make_name(f));
	*ret_back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_back < 0)
		return err_set(err, errno, "open the working directory");
	if (chdir(u->name_dir) < 0)
		return err_set(err, errno, "enter %s for %s", u->name_dir, make_name(f));
	return 0;
}

/* Only for as long as one name is looked up; failing to go back would hurt nobody but relative
 * options, which are open by now. */
static void leave(int back)
{
	if (back < 0)
		return;
	if (fchdir(back) < 0)
		(void)!chdir("/");
	close(back);
}

static bool somebody_there(const struct m_unix *u)
{
	cleanup_fd int sk = socket(AF_UNIX, (int)u->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr;
	socklen_t len = addr_of(u, &addr);

	if (sk < 0)
		return true;
	return connect(sk, (struct sockaddr *)&addr, len) == 0 || errno != ECONNREFUSED;
}

/* Some socket of the model left @ino there; CRIU's images do not say what was there. */
static bool is_ours(const struct make *mk, const struct m_unix *u, uint64_t ino)
{
	for (uint32_t i = 0; i < mk->m->nfiles; i++) {
		const struct m_unix *o = mk->m->files[i].usk;

		if (o && o->name_len == u->name_len && !memcmp(o->name, u->name, u->name_len) &&
		    (o->path_ino == ino || !o->path_ino))
			return true;
	}
	return false;
}

static int make_way(struct make *mk, const struct m_file *f, const struct m_unix *u,
		    const char *path, bool *ret_absent, struct err *err)
{
	struct stat st;

	*ret_absent = lstat(path, &st) < 0;
	if (*ret_absent)
		return 0;
	if (S_ISSOCK(st.st_mode) && is_ours(mk, u, st.st_ino) && !somebody_there(u))
		return unlink(path) < 0 ? err_set(err, errno, "remove the old socket %s", path) : 0;
	err_fail(err, EADDRINUSE, ERR_OTHER,
		 "%s: %s exists and is not the socket that was dumped%s", make_name(f), path,
		 S_ISSOCK(st.st_mode) ? ", or somebody uses it" : "");
	err_hint(err, "move it away, or end the program that made it");
	return -EADDRINUSE;
}

/* What @sk was bound to, whoever has put something else there since; not to be followed. */
static int hold_path(int sk, const char *path)
{
	int fd = ioctl(sk, SIOCUNIXFILE, 0);

	return fd < 0 ? open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC) : fd;
}

static int set_perms(const struct m_unix *u, int fd, const char *path, struct err *err)
{
	char link[32];
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
		return err_set(err, ENOTSOCK, "%s is not what was bound to it", path);
	if (!u->has_perms)
		return 0;
	if ((st.st_uid != u->perm_uid || st.st_gid != u->perm_gid) &&
	    fchownat(fd, "", u->perm_uid, u->perm_gid, AT_EMPTY_PATH) < 0)
		return err_set(err, errno, "give %s to user %u, group %u", path, u->perm_uid,
			       u->perm_gid);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if ((st.st_mode ^ u->perm_mode) & 07777 && chmod(link, u->perm_mode & 07777) < 0)
		return err_set(err, errno, "set mode %#o of %s", u->perm_mode & 07777, path);
	return 0;
}

/* A path that led elsewhere, or nowhere, when it was dumped, does so again. */
static int bound(struct make *mk, const struct m_file *f, int sk, const char *path, bool gone,
		 bool absent, struct err *err)
{
	int *fd = &mk->paths[f->id - 1];

	if (*fd >= 0)
		close(*fd);
	*fd = hold_path(sk, path);
	if (*fd < 0)
		return err_set(err, errno, "look at %s", path);
	if (gone)
		return unlink(path) < 0 ? err_set(err, errno, "remove %s again", path) : 0;
	if (absent)
		mk->bound[mk->nbound++] = f->id;
	return set_perms(f->usk, *fd, path, err);
}

static int bind_here(struct make *mk, const struct m_file *f, const struct m_unix *u, int sk,
		     bool passing, struct err *err)
{
	struct sockaddr_un addr;
	socklen_t len = addr_of(u, &addr);
	bool absent = false;
	char path[128];
	int ret = 0;

	path_of(u, path);
	if (has_path(u))
		ret = make_way(mk, f, u, path, &absent, err);
	if (ret < 0)
		return ret;
	if (bind(sk, (struct sockaddr *)&addr, len) < 0) {
		if (!*path)
			*path = '@';
		err_set(err, errno, "bind %s to %s", make_name(f), path);
		if (err->errnum == EADDRINUSE)
			err_hint(err, "another program has this name: end it");
		return -err->errnum;
	}
	return has_path(u) ? bound(mk, f, sk, path, u->deleted || (passing && absent), absent, err)
			   : 0;
}

int make_unix_bind(struct make *mk, const struct m_file *f, int sk, bool passing, struct err *err)
{
	int back, ret;

	if (!f->usk->name_len)
		return 0;
	ret = enter(f, f->usk, &back, err);
	if (ret == 0)
		ret = bind_here(mk, f, f->usk, sk, passing, err);
	leave(back);
	return ret;
}

unsigned make_unix_addr(int path, void *ret_sockaddr_un)
{
	struct sockaddr_un *ret = ret_sockaddr_un;

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d", path);
	return sizeof(*ret);
}

int make_unix_connect(const struct m_file *f, const struct m_unix *to, int path,
		      struct make_user user, int sk, struct err *err)
{
	struct sockaddr_un addr;
	socklen_t len = path < 0 ? addr_of(to, &addr) : make_unix_addr(path, &addr);
	char name[128];
	int back = -1, ret = path < 0 ? enter(f, to, &back, err) : 0;

	path_of(to, name);
	if (!*name)
		*name = '@';
	if (ret == 0 && make_user_connect(user, sk, &addr, len) < 0)
		ret = err_set(err, errno, "connect %s to %s", make_name(f), name);
	leave(back);
	return ret;
}

static int remove_path(const struct m_file *f, struct err *err)
{
	char path[128];
	int back, ret = enter(f, f->usk, &back, err);

	path_of(f->usk, path);
	if (ret == 0 && unlink(path) < 0 && errno != ENOENT)
		ret = err_set(err, errno, "remove %s again", path);
	leave(back);
	return ret;
}

void make_unix_undo(struct make *mk)
{
	struct err drop = {0};

	for (uint32_t i = 0; i < mk->nbound; i++)
		remove_path(&mk->m->files[mk->bound[i] - 1], &drop);
	mk->nbound = 0;
}
