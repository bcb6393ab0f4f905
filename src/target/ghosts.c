/* SPDX-License-Identifier: MIT */
/*
 * Files whose path is gone while they are in use: what is needed to have them again.
 *
 * Without any name left, the inode and its contents are kept, as far as they are data and not
 * holes. With a name left somewhere, that name is looked for in the directory where the file was.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/target/files.h"

enum { GHOST_LIMIT = 1 << 20 };

/* --- contents ------------------------------------------------------------------------------- */

static int extent_read(struct files *f, struct m_ghost *g, int fd, uint64_t off, uint64_t len)
{
	struct m_extent *e = model_push(f->m, &g->extents, &g->nextents, sizeof(*e));
	ssize_t n;

	if (!e)
		return -ENOMEM;
	e->off = off;
	e->data = model_alloc(f->m, len);
	if (!e->data)
		return -ENOMEM;
	n = io_pread(fd, e->data, len, off);
	if (n < 0)
		return (int)n;
	e->len = (uint64_t)n;
	return 0;
}

/* -EFBIG when there is more data than @most. */
static int contents_read(struct files *f, struct m_ghost *g, int fd, uint64_t most)
{
	uint64_t at = 0, sum = 0;

	while (at < g->size) {
		off_t start = lseek(fd, (off_t)at, SEEK_DATA), end;
		int ret;

		if (start < 0 && errno == ENXIO)
			return 0;
		/* A file system that does not tell has data everywhere. */
		if (start < 0)
			start = (off_t)at;
		end = lseek(fd, start, SEEK_HOLE);
		if (end <= start || (uint64_t)end > g->size)
			end = (off_t)g->size;
		sum += (uint64_t)(end - start);
		if (sum > most)
			return -EFBIG;
		ret = extent_read(f, g, fd, (uint64_t)start, (uint64_t)(end - start));
		if (ret < 0)
			return ret;
		at = (uint64_t)end;
	}
	return 0;
}

static int xattr_read(struct files *f, struct m_ghost *g, const char *path, const char *name)
{
	ssize_t len = getxattr(path, name, NULL, 0);
	struct m_xattr *x;

	/* Taken away meanwhile, or one of those that are made up as they are asked for. */
	if (len < 0)
		return errno == ENODATA || errno == EOPNOTSUPP ? 0 : -errno;
	x = model_push(f->m, &g->xattrs, &g->nxattrs, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->name = model_strdup(f->m, name);
	x->value = model_alloc(f->m, (size_t)len + 1);
	if (!x->name || !x->value)
		return -ENOMEM;
	len = getxattr(path, name, x->value, (size_t)len);
	if (len < 0)
		return -errno;
	x->len = (uint32_t)len;
	return 0;
}

/* Access control lists and what files may do (capabilities) among them. */
static int xattrs_read(struct files *f, struct m_ghost *g, const struct proc_at *at,
		       const char *link)
{
	cleanup_fd int fd = openat(at->dir, link, O_PATH | O_CLOEXEC);
	cleanup_free char *names = NULL;
	char path[32];
	ssize_t len;
	int ret = 0;

	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	len = listxattr(path, NULL, 0);
	if (len <= 0)
		return len == 0 || errno == EOPNOTSUPP ? 0 : -errno;
	names = malloc((size_t)len + 1);
	if (!names)
		return -ENOMEM;
	len = listxattr(path, names, (size_t)len);
	if (len < 0)
		return -errno;
	names[len] = '\0';
	for (char *name = names; ret == 0 && name < names + len; name += strlen(name) + 1)
		ret = xattr_read(f, g, path, name);
	return ret;
}

static int target_read(struct files *f, struct m_ghost *g, const struct proc_at *at,
		       const char *link)
{
	cleanup_fd int fd = openat(at->dir, link, O_PATH | O_CLOEXEC);
	struct proctext text = {0};
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = proctext_link(&text, fd, "");
	g->target = n < 0 ? NULL : model_strdup(f->m, text.data);
	proctext_deinit(&text);
	return n < 0 ? (int)n : g->target ? 0 : -ENOMEM;
}

static int ghost_read(struct files *f, struct m_ghost *g, const struct proc_at *at,
		      const char *link, uint64_t most)
{
	cleanup_fd int fd = -1;
	int ret = xattrs_read(f, g, at, link);

	if (ret < 0)
		return ret;
	if (S_ISLNK(g->mode))
		return target_read(f, g, at, link);
	if (!S_ISREG(g->mode))
		return 0;
	/* O_NONBLOCK: the file may be leased by somebody who stands still. */
	fd = openat(at->dir, link, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : contents_read(f, g, fd, most);
}

/* --- no name left --------------------------------------------------------------------------- */

static int64_t statx_ns(const struct statx_timestamp *t)
{
	return t->tv_sec * 1000000000LL + t->tv_nsec;
}

static uint32_t ghost_known(const struct files *f, uint64_t key, const struct m_file *file)
{
	size_t pos = idmap_start(&f->by_ghost, key);
	uint32_t id;

	while (idmap_next(&f->by_ghost, key, &pos, &id))
		if (f->m->ghosts[id - 1].dev == file->dev && f->m->ghosts[id - 1].ino == file->ino)
			return id;
	return 0;
}

static int too_large(struct files *f, const struct proc_at *at, const char *what,
		     const struct m_file *file, const struct statx *stx, uint64_t most)
{
	return finding_fatal(f->m, at->pid,
			     "%s: %s: deleted file with %" PRIu64 " KiB on disk, --ghost-limit is "
			     "%" PRIu64 " KiB",
			     what, file->path, (uint64_t)stx->stx_blocks / 2, most / 1024);
}

static int ghost_keep(struct files *f, const struct proc_at *at, const char *link, const char *what,
		      const struct statx *stx, struct m_file *file)
{
	uint64_t most = f->ghost_limit ? f->ghost_limit : GHOST_LIMIT;
	uint64_t key = idmap_mix(file->dev, file->ino);
	uint32_t id = ghost_known(f, key, file);
	struct m_ghost g, *e;
	int ret = 0;

	if (id) {
		file->ghost_id = id;
		return 0;
	}
	if (S_ISREG(stx->stx_mode) && stx->stx_blocks > most / 512)
		return too_large(f, at, what, file, stx, most);
	g = (struct m_ghost){
		.dev = file->dev,
		.ino = file->ino,
		.rdev = file->rdev,
		.mode = file->mode,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.size = S_ISREG(stx->stx_mode) ? stx->stx_size : 0,
		.atime_ns = statx_ns(&stx->stx_atime),
		.mtime_ns = statx_ns(&stx->stx_mtime),
	};
	if (!f->hands_off)
		ret = ghost_read(f, &g, at, link, most);
	if (ret == -EFBIG)
		return too_large(f, at, what, file, stx, most);
	if (ret == -ENOMEM)
		return ret;
	if (ret < 0)
		return finding_fatal(f->m, at->pid, "%s: %s: deleted file that cannot be read: %s",
				     what, file->path, strerrordesc_np(-ret));
	e = model_push(f->m, &f->m->ghosts, &f->m->nghosts, sizeof(*e));
	if (!e || idmap_put(&f->by_ghost, key, f->m->nghosts) < 0)
		return -ENOMEM;
	*e = g;
	file->ghost_id = e->id = f->m->nghosts;
	return 0;
}

/* --- another name --------------------------------------------------------------------------- */

/* The name of the same inode in the directory of @path; NULL. The caller frees it. */
static char *other_name(const char *path, const struct m_file *file)
{
	size_t len = (size_t)(strrchr(path, '/') - path);
	cleanup_free char *dir_path = strndup(path, len ? len : 1);
	cleanup_fd int fd =
		dir_path ? open(dir_path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC) : -1;
	cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	char *ret = NULL;

	if (!dir)
		return NULL;
	while (!ret && (de = readdir(dir))) {
		struct statx stx;

		if (de->d_ino != file->ino ||
		    statx(fd, de->d_name, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW,
			  STATX_BASIC_STATS, &stx) < 0 ||
		    stx.stx_ino != file->ino || statx_dev(&stx) != file->dev)
			continue;
		if (asprintf(&ret, "%s/%s", len ? dir_path : "", de->d_name) < 0)
			return NULL;
	}
	take_fd(&fd);
	return ret;
}

/* A name made for it, beside where its own was: as criu calls it. NULL when that is not possible.
 */
static char *link_make(const struct proc_at *at, const char *link, const struct m_file *file)
{
	size_t len = (size_t)(strrchr(file->path, '/') - file->path);
	char from[64], *to;

	snprintf(from, sizeof(from), "/proc/%d/%s", at->tid, link);
	if (asprintf(&to, "%.*s/link_remap.%" PRIu64, (int)len, file->path, file->ino) < 0)
		return NULL;
	if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0)
		return to;
	free(to);
	return NULL;
}

static int link_find(struct files *f, const struct proc_at *at, const char *link, const char *what,
		     const struct statx *stx, struct m_file *file)
{
	cleanup_free char *name = at->foreign ? NULL : other_name(file->path, file);

	if (!name && f->link_remap && !at->foreign) {
		/* Not before the tree stands still. */
		if (f->hands_off)
			return 0;
		name = link_make(at, link, file);
		file->link_made = name != NULL;
	}
	if (!name)
		return finding_fatal(f->m, at->pid,
				     "%s: %s: its name is gone, and %u other names are not in "
				     "that directory (--link-remap gives it one)",
				     what, file->path, stx->stx_nlink);
	file->link_path = model_strdup(f->m, name);
	return file->link_path ? 0 : -ENOMEM;
}

int files_gone(struct files *f, const struct proc_at *at, const char *link, const char *what,
	       const struct statx *stx, struct m_file *file, struct err *err)
{
	int ret;

	if (*file->path != '/' || !strncmp(file->path, "/proc/", 6))
		ret = finding_fatal(f->m, at->pid,
				    "%s: %s: belongs to a process that has ended, or to no file "
				    "system",
				    what, file->path);
	else if (!stx->stx_nlink || S_ISDIR(stx->stx_mode))
		ret = ghost_keep(f, at, link, what, stx, file);
	else
		ret = link_find(f, at, link, what, stx, file);
	return ret < 0 ? err_set(err, -ret, "%s: %s of pid %u", what, file->path, at->pid) : 0;
}
