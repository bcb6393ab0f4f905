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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/target/make_row.h"

/* --- a place for the name -----------------------------------------------------------------------
 */

struct place {
	char *path;	 /* where the file is put, nothing was there */
	size_t made[32]; /* lengths of the directories that were made for it */
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

static int place_dirs(struct place *p)
{
	struct stat st;

	for (char *s = strchr(p->path + 1, '/'); s; s = strchr(s + 1, '/')) {
		*s = '\0';
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
	ret = place_dirs(p);
	if (ret == 0 && lstat(p->path, &st) == 0) {
		char *other;

		if (asprintf(&other, "%s.%d-%u", f->path, (int)getpid(), f->id) < 0)
			return err_set(err, ENOMEM, "%s", make_name(f));
		free(p->path);
		p->path = other;
	}
	return ret < 0 ? err_set(err, -ret, "make a place for deleted %s", make_name(f)) : 0;
}

/* --- the inode ----------------------------------------------------------------------------------
 */

static int write_contents(const struct m_ghost *g, const char *path)
{
	cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)g->size) < 0)
		return -errno;
	for (uint32_t i = 0; i < g->nextents; i++) {
		const struct m_extent *e = &g->extents[i];
		ssize_t n = io_pwrite(fd, e->data, e->len, e->off);

		if (n < 0)
			return (int)n;
	}
	return 0;
}

static int make_inode(const struct m_ghost *g, const char *path)
{
	int ret = 0;

	if (S_ISREG(g->mode))
		return write_contents(g, path);
	if (S_ISDIR(g->mode))
		ret = mkdir(path, 0700);
	else if (S_ISLNK(g->mode))
		ret = symlink(g->target ? g->target : "", path);
	else if (S_ISFIFO(g->mode) || S_ISCHR(g->mode) || S_ISBLK(g->mode))
		ret = mknod(path, (g->mode & S_IFMT) | 0600, g->rdev);
	else
		return -EOPNOTSUPP;
	return ret < 0 ? -errno : 0;
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

static int dress_inode(const struct m_ghost *g, const char *path)
{
	struct timespec times[2] = {timespec_of(g->atime_ns), timespec_of(g->mtime_ns)};

	if (lchown(path, g->uid, g->gid) < 0)
		return -errno;
	if (!S_ISLNK(g->mode) && chmod(path, g->mode & 07777) < 0)
		return -errno;
	return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int remove_name(const char *path, bool dir)
{
	return (dir ? rmdir(path) : unlink(path)) < 0 ? -errno : 0;
}

static int ghost_make(const struct make *mk, const struct m_file *f, struct err *err)
{
	const struct m_ghost *g = model_ghost(mk->m, f->ghost_id);
	cleanup_fd int fd = -1;
	struct place p;
	int ret = place_make(&p, f, err), gone;

	if (ret == 0) {
		ret = make_inode(g, p.path);
		if (ret == 0)
			ret = dress_inode(g, p.path);
		if (ret == 0) {
			fd = open(p.path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
			ret = fd < 0 ? -errno : 0;
		}
		gone = ret == -EEXIST ? 0 : remove_name(p.path, S_ISDIR(g->mode));
		if (ret == 0)
			ret = gone;
		if (ret < 0)
			err_set(err, -ret, "make deleted %s", make_name(f));
	}
	place_free(&p);
	return ret < 0 ? ret : take_fd(&fd);
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

/* --- descriptions -------------------------------------------------------------------------------
 */

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
	if (errnum != ENOENT && errnum != ENOTDIR)
		return err_set(err, errnum, "open %s", f->path);
	err_fail(err, errnum, ERR_CHANGED, "open %s: %s: it was there at the dump", f->path,
		 strerrordesc_np(errnum));
	err_hint(err, "put back the %s that was there at the dump", f->path);
	return -errnum;
}

int make_open(struct make *mk, const struct m_file *f, int flags, struct err *err)
{
	cleanup_fd int once = -1;
	int *base = &once;
	int ret;

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
		ret = open(f->path, flags | O_NOCTTY | O_CLOEXEC);
		return ret < 0 ? missing(f, errno, err) : ret;
	}
	return *base < 0 ? *base : make_reopen(*base, f, flags, err);
}
