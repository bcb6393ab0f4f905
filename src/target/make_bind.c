/* SPDX-License-Identifier: MIT */
/*
 * Names of unix sockets.
 *
 * A name is bound as the program wrote it, so a relative one is bound from the directory where the
 * program stood. A path that exists is left alone unless it is the socket that was dumped and
 * nobody listens there: what is left of the program that is restored.
 */
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"

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
		    const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) < 0) {
		if (errno == ENOENT)
			mk->bound[mk->nbound++] = f->id;
		return 0;
	}
	if (S_ISSOCK(st.st_mode) && is_ours(mk, u, st.st_ino) && !somebody_there(u))
		return unlink(path) < 0 ? err_set(err, errno, "remove the old socket %s", path) : 0;
	err_fail(err, EADDRINUSE, ERR_OTHER,
		 "%s: %s exists and is not the socket that was dumped%s", make_name(f), path,
		 S_ISSOCK(st.st_mode) ? ", or somebody uses it" : "");
	err_hint(err, "move it away, or end the program that made it");
	return -EADDRINUSE;
}

static int set_perms(const struct m_file *f, const struct m_unix *u, const char *path,
		     struct err *err)
{
	struct stat st;

	if (!u->has_perms)
		return 0;
	if (lstat(path, &st) < 0)
		return err_set(err, errno, "look at %s", path);
	if ((st.st_uid != u->perm_uid || st.st_gid != u->perm_gid) &&
	    lchown(path, u->perm_uid, u->perm_gid) < 0)
		return err_set(err, errno, "give %s to user %u, group %u", path, u->perm_uid,
			       u->perm_gid);
	if ((st.st_mode ^ u->perm_mode) & 07777 && chmod(path, u->perm_mode & 07777) < 0)
		return err_set(err, errno, "set mode %#o of %s", u->perm_mode & 07777, path);
	return 0;
}

static int bind_here(struct make *mk, const struct m_file *f, const struct m_unix *u, int sk,
		     struct err *err)
{
	struct sockaddr_un addr;
	socklen_t len = addr_of(u, &addr);
	char path[128];
	int ret = 0;

	path_of(u, path);
	if (has_path(u))
		ret = make_way(mk, f, u, path, err);
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
	return has_path(u) ? set_perms(f, u, path, err) : 0;
}

int make_unix_bind(struct make *mk, const struct m_file *f, int sk, struct err *err)
{
	int back, ret;

	if (!f->usk->name_len)
		return 0;
	ret = enter(f, f->usk, &back, err);
	if (ret == 0)
		ret = bind_here(mk, f, f->usk, sk, err);
	leave(back);
	return ret;
}

int make_unix_connect(const struct m_file *f, const struct m_unix *to, int sk, struct err *err)
{
	struct sockaddr_un addr;
	socklen_t len = addr_of(to, &addr);
	char name[128];
	int back, ret = enter(f, to, &back, err);

	path_of(to, name);
	if (!*name)
		*name = '@';
	if (ret == 0 && connect(sk, (struct sockaddr *)&addr, len) < 0)
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

static bool has_namesake(const struct make *mk, const struct m_file *f)
{
	for (uint32_t i = 0; i < mk->m->nfiles; i++) {
		const struct m_unix *o = mk->m->files[i].usk;

		if (o && o != f->usk && !o->deleted && o->name_len == f->usk->name_len &&
		    !memcmp(o->name, f->usk->name, o->name_len))
			return true;
	}
	return false;
}

int make_unix_unlink(struct make *mk, struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];

		if (f->usk && f->usk->deleted && has_path(f->usk) && mk->made[i].fd >= 0 &&
		    !has_namesake(mk, f))
			ret = remove_path(f, err);
	}
	return ret;
}

void make_unix_undo(struct make *mk)
{
	struct err drop = {0};

	for (uint32_t i = 0; i < mk->nbound; i++)
		remove_path(&mk->m->files[mk->bound[i] - 1], &drop);
	mk->nbound = 0;
}
