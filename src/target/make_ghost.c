/* SPDX-License-Identifier: MIT */
/*
 * Files whose path is gone, found or made again.
 *
 * The file gets its old name for a moment, so that the kernel prints what it printed before: it is
 * opened by O_PATH and the name taken away at once; descriptions are then opened through that one.
 * Directories that are missing on the way are made for as long.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "binlog/pr.h"
#include "src/target/make_row.h"

/* --- a place for the name ------------------------------------------------------------------- */

struct place {
	char *path;	   /* where the file is put, nothing was there */
	size_t made[2048]; /* lengths of the directories that were made for it */
	unsigned nmade;
};

static void place_free(struct place *p)
{
	while (p->nmade) {
		char c = p->path[p->made[--p->nmade]];

		p->path[p->made[p->nmade]] = '\0';
		rmdir(p->path);
		p->path[p->made[p->nmade]] = c;
	}
	free(p->path);
}

static int not_a_directory(const char *path, const struct m_file *f, struct err *err)
{
	err_fail(err, ENOTDIR, ERR_CHANGED,
		 "make a place for deleted %s: %s was a directory at the dump and is none now",
		 make_name(f), path);
	err_hint(err, "take away what is at %s now", path);
	return -ENOTDIR;
}

static int place_dirs(struct place *p, const struct m_file *f, struct err *err)
{
	struct stat st;

	for (char *s = strchr(p->path + 1, '/'); s; s = strchr(s + 1, '/')) {
		*s = '\0';
		if (stat(p->path, &st) == 0 && !S_ISDIR(st.st_mode)) {
			int error = not_a_directory(p->path, f, err);

			*s = '/';
			return error;
		}
		if (lstat(p->path, &st) < 0) {
			if (p->nmade == sizeof(p->made) / sizeof(p->made[0])) {
				*s = '/';
				return -ENAMETOOLONG;
			}
			if (mkdir(p->path, 0700) < 0) {
				int error = -errno;

				*s = '/';
				return error;
			}
			p->made[p->nmade++] = (size_t)(s - p->path);
		}
		*s = '/';
	}
	return 0;
}

/* The old path, or one beside it when another file is there now. */
static int place_make(struct place *p, const struct m_file *f, struct err *err)
{
	struct stat st;
	int ret;

	*p = (struct place){.path = strdup(f->path)};
	if (!p->path)
		return err_set(err, ENOMEM, "%s", make_name(f));
	ret = place_dirs(p, f, err);
	if (ret == 0 && lstat(p->path, &st) == 0) {
		char *other;

		if (asprintf(&other, "%s.%d-%u", f->path, (int)getpid(), f->id) < 0)
			return err_set(err, ENOMEM, "%s", make_name(f));
		free(p->path);
		p->path = other;
	}
	return ret < 0 ? err_set(err, -ret, "make a place for deleted %s", make_name(f)) : 0;
}

/* --- the inode ------------------------------------------------------------------------------ */

static int write_contents(const struct m_ghost *g, int fd)
{
	if (ftruncate(fd, (off_t)g->size) < 0)
		return -errno;
	for (uint32_t i = 0; i < g->nextents; i++) {
		const struct m_extent *e = &g->extents[i];
		ssize_t n = io_pwrite(fd, e->data, e->len, e->off);

		if (n < 0)
			return (int)n;
	}
	return 0;
}

static struct timespec timespec_of(int64_t ns)
{
	struct timespec ts = {ns / 1000000000, ns % 1000000000};

	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += 1000000000;
	}
	return ts;
}

/* What this file system has given it already need not be allowed. */
static int set_xattr(const struct m_xattr *x, const char *path, struct err *err)
{
	cleanup_free uint8_t *has = malloc((size_t)x->len + 1);
	int error;

	if (!has)
		return err_set(err, ENOMEM, "an extended attribute of %u bytes", x->len);
	if (getxattr(path, x->name, has, (size_t)x->len + 1) == (ssize_t)x->len &&
	    !memcmp(has, x->value, x->len))
		return 0;
	if (setxattr(path, x->name, x->value, x->len, 0) == 0)
		return 0;
	error = errno;
	return err_set(err, error, "set extended attribute %s (%u bytes)", x->name, x->len);
}

/*
 * By descriptor alone: the directory may be somebody's who puts another file, or a link to one, in
 * the place of what was made there.
 */
static int dress_inode(const struct m_ghost *g, int fd, struct err *err)
{
	struct timespec times[2] = {timespec_of(g->atime_ns), timespec_of(g->mtime_ns)};
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fchownat(fd, "", g->uid, g->gid, AT_EMPTY_PATH) < 0)
		return -errno;
	if (!S_ISLNK(g->mode) && chmod(path, g->mode & 07777) < 0)
		return -errno;
	/* After owner and mode, for a change of these takes capabilities away. */
	for (uint32_t i = 0; i < g->nxattrs; i++) {
		int ret = set_xattr(&g->xattrs[i], path, err);

		if (ret < 0)
			return ret;
	}
	/* A link's times: by AT_EMPTY_PATH, Linux 5.8, or not at all. */
	if (S_ISLNK(g->mode))
		return utimensat(fd, "", times, AT_EMPTY_PATH) < 0 && errno != EINVAL ? -errno : 0;
	return utimensat(AT_FDCWD, path, times, 0) < 0 ? -errno : 0;
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Takes away the name of what is open at @fd, and no other's. */
static int remove_name(int fd, const char *path, bool dir)
{
	struct stat ours, there;

	if (fstat(fd, &ours) < 0 || lstat(path, &there) < 0)
		return -errno;
	if (!same_inode(&ours, &there))
		return -ESTALE;
	return (dir ? rmdir(path) : unlink(path)) < 0 ? -errno : 0;
}

/* The O_PATH descriptor of what is open at @fd. */
static int by_path(int fd)
{
	char path[32];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, O_PATH | O_CLOEXEC);
	return ret < 0 ? -errno : ret;
}

/* A file without a name: @path's directory is where it is. -EOPNOTSUPP where there is no such
 * thing. */
static int nameless_file(const char *path)
{
	cleanup_free char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	int ret;

	if (!dir)
		return -ENOMEM;
	slash[slash == dir] = '\0';
	ret = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return ret >= 0 ? ret : errno == EISDIR || errno == ENOENT ? -EOPNOTSUPP : -errno;
}

/* Made by O_TMPFILE: "#" and its number are all the name it ever had, and it may still get one. */
static bool never_named(const char *path)
{
	const char *name = strrchr(path, '/') + 1;

	return name[0] == '#' && name[1] && !name[1 + strspn(name + 1, "0123456789")];
}

/* What @path names, by O_PATH, if that is what is open at @fd. */
static int open_again(int fd, const char *path)
{
	cleanup_fd int opath = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat ours, there;

	if (opath < 0 || fstat(fd, &ours) < 0 || fstat(opath, &there) < 0)
		return -errno;
	return same_inode(&ours, &there) ? take_fd(&opath) : -ESTALE;
}

/* Full before it has a name: who is killed meanwhile leaves nothing. An O_PATH descriptor. */
static int regular_make(const struct m_ghost *g, const char *path, bool nameless, struct err *err)
{
	cleanup_fd int fd = nameless_file(path);
	cleanup_fd int opath = -1;
	bool named = fd == -EOPNOTSUPP;
	char self[32];
	int ret, gone;

	if (named)
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return named ? -errno : fd;
	ret = write_contents(g, fd);
	if (ret == 0)
		ret = dress_inode(g, fd, err);
	if (ret == 0 && nameless && !named)
		return by_path(fd);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (ret == 0 && !named) {
		ret = linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
		named = ret == 0;
	}
	if (ret == 0) {
		opath = open_again(fd, path);
		ret = opath < 0 ? opath : 0;
	}
	gone = named ? remove_name(fd, path, false) : 0;
	ret = ret < 0 ? ret : gone;
	return ret < 0 ? ret : take_fd(&opath);
}

static int special_make(const struct m_ghost *g, const char *path, struct err *err)
{
	cleanup_fd int fd = -1;
	struct stat st;
	int ret, gone;

	if (S_ISDIR(g->mode))
		ret = mkdir(path, 0700);
	else if (S_ISLNK(g->mode))
		ret = symlink(g->target ? g->target : "", path);
	else if (S_ISFIFO(g->mode) || S_ISCHR(g->mode) || S_ISBLK(g->mode))
		ret = mknod(path, (g->mode & S_IFMT) | 0600, g->rdev);
	else
		return -EOPNOTSUPP;
	if (ret < 0)
		return -errno;
	fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		ret = -errno;
		if ((S_ISDIR(g->mode) ? rmdir(path) : unlink(path)) < 0)
			pr_warn("%s is left\n", path);
		return ret;
	}
	/*
	 * What we made, not what somebody has put in its place. Who could do that can as well
	 * delete it; but it may be ours after all, where a file system gives files to another user.
	 */
	if (FAULT("restore.special") || (st.st_mode & S_IFMT) != (g->mode & S_IFMT) ||
	    st.st_uid != geteuid() || (!S_ISDIR(g->mode) && st.st_nlink != 1)) {
		if ((st.st_mode & S_IFMT) != (g->mode & S_IFMT) ||
		    remove_name(fd, path, S_ISDIR(g->mode)) < 0)
			pr_warn("%s is left: somebody has put it there\n", path);
		return err_fail(
			err, ESTALE, ERR_CHANGED,
			"%s is another one already, or another user's, as soon as it is made",
			path);
	}
	ret = dress_inode(g, fd, err);
	gone = remove_name(fd, path, S_ISDIR(g->mode));
	ret = ret < 0 ? ret : gone;
	return ret < 0 ? ret : take_fd(&fd);
}

static int ghost_make(const struct make *mk, const struct m_file *f, struct err *err)
{
	const struct m_ghost *g = model_ghost(mk->m, f->ghost_id);
	struct place p;
	int ret = place_make(&p, f, err);

	if (ret == 0) {
		struct err why = {0};

		ret = S_ISREG(g->mode) ? regular_make(g, p.path, never_named(f->path), &why)
				       : special_make(g, p.path, &why);
		if (ret < 0 && why.errnum)
			err_fail(err, -ret, why.class, "make deleted %s: %s", make_name(f),
				 why.msg);
		else if (ret < 0)
			err_set(err, -ret, "make deleted %s", make_name(f));
	}
	place_free(&p);
	return ret;
}

/* Another name is left: the old one is linked to it for a moment. */
static int link_make(const struct m_file *f, struct err *err)
{
	cleanup_fd int fd = -1;
	struct place p;
	int ret = place_make(&p, f, err);

	if (ret == 0) {
		bool linked = link(f->link_path, p.path) == 0;

		fd = open(linked ? p.path : f->link_path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			ret = err_set(err, errno, "open %s by its other name %s", make_name(f),
				      f->link_path);
		if (linked)
			unlink(p.path);
	}
	place_free(&p);
	return ret < 0 ? ret : take_fd(&fd);
}

void make_forget_links(const struct make *mk)
{
	for (uint32_t i = 0; i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];

		const char *name = f->link_path ? strrchr(f->link_path, '/') : NULL;

		/* Whatever an image says, no other names are taken away. */
		if (f->link_made && name && !strncmp(name, "/link_remap.", 12) &&
		    mk->made[i].fd >= 0)
			unlink(f->link_path);
	}
}

/* --- descriptions --------------------------------------------------------------------------- */

int make_reopen(int fd, const struct m_file *f, int flags, struct err *err)
{
	char path[32];
	int ret;

	/* Opening the link would open the link itself. */
	if (flags & O_PATH && flags & O_NOFOLLOW) {
		ret = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	} else {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ret = open(path, (flags & ~O_NOFOLLOW) | O_NOCTTY | O_CLOEXEC);
	}
	return ret < 0 ? err_set(err, errno, "open %s again", make_name(f)) : ret;
}

/* What was there at the dump and is not any more, or not for us. */
static int missing(const struct m_file *f, int errnum, struct err *err)
{
	struct stat st;

	if (errnum != ENOENT && errnum != ENOTDIR && errnum != EISDIR)
		return err_set(err, errnum, "open %s", f->path);
	/* ENOTDIR may be about what is on the way to it. */
	if (errnum == EISDIR || (errnum == ENOTDIR && stat(f->path, &st) == 0)) {
		err_fail(err, errnum, ERR_CHANGED, "open %s: it is %s directory now, it was %s",
			 f->path, errnum == EISDIR ? "a" : "no",
			 errnum == EISDIR ? "a file" : "one");
		err_hint(err, "put back what was there at the dump");
		return -errnum;
	}
	err_fail(err, errnum, ERR_CHANGED, "open %s: %s: it was there at the dump", f->path,
		 strerrordesc_np(errnum));
	err_hint(err, "put back the %s that was there at the dump", f->path);
	return -errnum;
}

/* Somebody in the tree has less than our rights. */
static bool lends_rights(struct make *mk)
{
	const struct model *m = mk->m;

	if (!mk->asked_rights) {
		mk->asked_rights = true;
		for (uint32_t i = 0; geteuid() == 0 && i < m->nprocs; i++)
			for (uint32_t k = 0; k < m->procs[i].nthreads; k++)
				mk->lends_rights |= m->procs[i].threads[k].creds.euid != 0;
	}
	return mk->lends_rights;
}

static int led_astray(const struct m_file *f, struct err *err)
{
	err_fail(err, ELOOP, ERR_CHANGED,
		 "open %s: a symbolic link is on the way, which was not there at the dump",
		 f->path);
	err_hint(err, "put back what was there: by our rights, the link may lead a user to files "
		      "that are not for him");
	return -ELOOP;
}

/*
 * The kernel printed the path without symbolic links. One that is there now may lead a process to a
 * file that its user could not open, but we can.
 */
static int open_straight(struct make *mk, const struct m_file *f, int flags, struct err *err)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC | (uint64_t)(flags & O_NOFOLLOW),
			       .resolve = RESOLVE_NO_SYMLINKS};
	cleanup_fd int straight = -1;
	cleanup_fd int fd = -1;
	struct stat a, b;

	if (lends_rights(mk)) {
		straight = (int)syscall(SYS_openat2, AT_FDCWD, f->path, &how, sizeof(how));
		if (straight < 0 && errno == ELOOP)
			return led_astray(f, err);
		if (straight < 0 && errno != ENOSYS)
			return missing(f, errno, err);
	}
	fd = open(f->path, flags | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return missing(f, errno, err);
	if (straight >= 0 && (fstat(straight, &a) < 0 || fstat(fd, &b) < 0 || !same_inode(&a, &b)))
		return led_astray(f, err);
	return take_fd(&fd);
}

int make_open(struct make *mk, const struct m_file *f, int flags, struct err *err)
{
	cleanup_fd int once = -1;
	int *base = &once;

	if (!f->path || *f->path != '/')
		return err_fail(err, ENOENT, ERR_UNSUPPORTED, "%s: has no path to open it by",
				make_name(f));
	if (f->ghost_id) {
		base = &mk->ghosts[f->ghost_id - 1];
		if (*base < 0)
			*base = ghost_make(mk, f, err);
	} else if (f->link_path) {
		once = link_make(f, err);
	} else if (f->deleted) {
		return err_fail(err, ENOENT, ERR_UNSUPPORTED,
				"%s: was deleted, and its contents are not in the image",
				make_name(f));
	} else {
		return open_straight(mk, f, flags, err);
	}
	return *base < 0 ? *base : make_reopen(*base, f, flags, err);
}
