/* SPDX-License-Identifier: MIT */
/* Where an image is made before it has its name. */
#include "src/image/place.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fault.h"

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x2000 /* Linux 5.8 */
#endif

static int exists_error(struct err *err, const char *path, const char *what)
{
	err_fail(err, EEXIST, ERR_EXISTS, "image %s: %s", path, what);
	err_hint(err, "give the name of a new or an empty directory");
	return -EEXIST;
}

/* Not allowed, read-only and full are different things to do something about. */
static int place_error(struct err *err, int e, const char *path, const char *what)
{
	if (e == EACCES || e == EPERM || e == EROFS) {
		err_fail(err, e, ERR_READONLY, "image %s: %s: %s", path, what, strerrordesc_np(e));
		err_hint(err, "choose a directory that this user may write to");
		return -e;
	}
	err_set(err, e, "image %s: %s", path, what);
	if (e == ENOENT || e == ENOTDIR)
		err_hint(err, "the parent directory must exist");
	else if (e == ENOSPC || e == EDQUOT)
		err_hint(err, "free some space or choose another filesystem");
	return -e;
}

/* 1 empty, 0 not, -errno */
static int dir_empty(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		int saved = errno;

		if (fd >= 0)
			close(fd);
		return -saved;
	}
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			return 0;
	return 1;
}

/* An empty directory of which the rename would fail, or take away what somebody stands in. */
static bool must_stay(int dirfd, int parent_fd)
{
	struct stat dir, parent, cwd;
	struct statx stx;

	if (fstat(dirfd, &dir) < 0 || fstat(parent_fd, &parent) < 0)
		return true;
	if (!statx(dirfd, "", AT_EMPTY_PATH, STATX_TYPE, &stx) &&
	    (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return true;
	if (dir.st_dev != parent.st_dev)
		return true;
	if (faccessat(parent_fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return true;
	if ((parent.st_mode & S_ISVTX) && geteuid() != 0 && dir.st_uid != geteuid() &&
	    parent.st_uid != geteuid())
		return true;
	return !stat(".", &cwd) && cwd.st_dev == dir.st_dev && cwd.st_ino == dir.st_ino;
}

static int open_parent(struct image *img, const char *parent, struct err *err)
{
	img->parent_fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* A directory may be writable and not readable; then it cannot be fsynced either. */
	if (img->parent_fd < 0 && errno == EACCES)
		img->parent_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (img->parent_fd < 0)
		return place_error(err, errno, img->path, "open its parent directory");
	return 0;
}

/* @full, absolute or not, becomes an open parent and a name in it. */
static int split(struct image *img, const char *full, struct err *err)
{
	cleanup_free char *copy = strdup(full);
	size_t len = copy ? strlen(copy) : 0;
	const char *parent, *name;
	char *slash;

	if (!copy)
		return err_set(err, ENOMEM, "image %s", img->path);
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = '\0';
	slash = strrchr(copy, '/');
	name = slash ? slash + 1 : copy;
	if (!*name)
		return exists_error(err, img->path, "is the root directory");
	if (strlen(name) > NAME_MAX)
		return place_error(err, ENAMETOOLONG, img->path, "its name");
	store_name(img->name, "%s", name);
	if (slash == copy)
		parent = "/";
	else
		parent = slash ? copy : ".";
	if (slash && slash != copy)
		*slash = '\0';
	return open_parent(img, parent, err);
}

static int look_at_existing(struct image *img, struct err *err)
{
	cleanup_free char *real = realpath(img->path, NULL);
	cleanup_fd int fd = open(img->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret;

	if (fd < 0 && errno == ENOTDIR)
		return exists_error(err, img->path, "exists and is not a directory");
	if (fd < 0 || !real)
		return place_error(err, errno, img->path, "open it");
	ret = dir_empty(fd);
	if (ret < 0)
		return place_error(err, -ret, img->path, "list it");
	if (!ret)
		return exists_error(err, img->path, "exists and is not empty");
	img->replace = true;
	/* The root directory has no name to rename to. */
	img->in_place = !strcmp(real, "/");
	if (!img->in_place) {
		ret = split(img, real, NULL);
		img->in_place = ret < 0 || must_stay(fd, img->parent_fd);
	}
	if (!img->in_place)
		return 0;
	if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return place_error(err, errno, img->path, "write to it");
	if (img->parent_fd >= 0)
		close(img->parent_fd);
	img->parent_fd = -1;
	/* Not ours to change perhaps; the files are 0600 all the same. */
	(void)!fchmod(fd, 0700);
	img->dirfd = take_fd(&fd);
	return 0;
}

/* What a killed run of ours left behind: its lock is gone with it. */
static void clean_stale(struct image *img, const char *prefix)
{
	int fd = openat(img->parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((e = readdir(d))) {
		const char *pid = e->d_name + strlen(prefix);

		if (strncmp(e->d_name, prefix, strlen(prefix)) || !*pid ||
		    pid[strspn(pid, "0123456789")] || !kill(atoi(pid), 0))
			continue;
		cleanup_fd int old = openat(img->parent_fd, e->d_name,
					    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		struct stat st;

		if (old < 0 || fstat(old, &st) < 0 || st.st_uid != geteuid() ||
		    flock(old, LOCK_EX | LOCK_NB) < 0)
			continue;
		store_wipe(old);
		unlinkat(img->parent_fd, e->d_name, AT_REMOVEDIR);
	}
}

static int make_tmp(struct image *img, struct err *err)
{
	char prefix[STORE_NAME];

	/* Room for ".", ".partial-" and a pid in what the filesystem takes as a name. */
	store_name(prefix, ".%.*s.partial-", NAME_MAX - 24, img->name);
	clean_stale(img, prefix);
	store_name(img->tmp, "%.*s%d", NAME_MAX - 12, prefix, (int)getpid());
	if (FAULT("image.mkdir"))
		errno = EIO;
	else if (!mkdirat(img->parent_fd, img->tmp, 0700))
		errno = 0;
	if (errno) {
		img->tmp[0] = '\0';
		return place_error(err, errno, img->path,
				   "create its temporary directory beside it");
	}
	img->dirfd =
		openat(img->parent_fd, img->tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (img->dirfd < 0)
		return place_error(err, errno, img->path, "open its temporary directory");
	(void)!fchmod(img->dirfd, 0700);
	return 0;
}

static int look_into(struct image *img, struct err *err)
{
	cleanup_fd int fd = open(img->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return place_error(err, errno, img->path, "open the directory");
	if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return place_error(err, errno, img->path, "write to it");
	img->parent_fd = take_fd(&fd);
	store_name(img->name, "stasis");
	return 0;
}

int place_make(struct image *img, struct err *err)
{
	struct stat st;
	int ret;

	if (img->into)
		ret = look_into(img, err);
	else if (!stat(img->path, &st))
		ret = look_at_existing(img, err);
	else if (errno == ENOENT && !lstat(img->path, &st))
		ret = exists_error(err, img->path, "is a symbolic link to nothing");
	else if (errno == ENOENT && *img->path)
		ret = split(img, img->path, err);
	else
		ret = place_error(err, errno, img->path, "look for it");
	if (!ret && !img->in_place)
		ret = make_tmp(img, err);
	if (!ret) {
		/* Says that we live; a filesystem without locks only keeps its stale directories.
		 */
		flock(img->dirfd, LOCK_EX | LOCK_NB);
	}
	return ret;
}

static int rename_over(struct image *img)
{
	unsigned flags = img->replace ? 0 : RENAME_NOREPLACE;
	int ret = renameat2(img->parent_fd, img->tmp, img->parent_fd, img->name, flags);

	/*
	 * Filesystems without RENAME_NOREPLACE (NFS): a plain rename of a directory replaces
	 * nothing but an empty directory anyway.
	 */
	if (ret < 0 && flags && (errno == EINVAL || errno == ENOSYS))
		ret = renameat(img->parent_fd, img->tmp, img->parent_fd, img->name);
	return ret < 0 ? -errno : 0;
}

static int publish_in_place(struct image *img, struct err *err)
{
	if (renameat(img->dirfd, INVENTORY_TMP, img->dirfd, INVENTORY_FILE) < 0)
		return place_error(err, errno, img->path, "rename its inventory");
	if (fsync(img->dirfd) < 0)
		return place_error(err, errno, img->path, "fsync");
	return 0;
}

/* What a reader would look for in this image and find an older one's. */
static int remove_older(struct image *img, struct err *err)
{
	int fd = openat(img->parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		int saved = errno;

		if (fd >= 0)
			close(fd);
		return place_error(err, saved, img->path, "list it");
	}
	/* Without its inventory it is no image from here on. */
	if (unlinkat(img->parent_fd, INVENTORY_FILE, 0) < 0 && errno != ENOENT)
		return place_error(err, errno, img->path, "remove the older inventory");
	if (fsync(img->parent_fd) < 0)
		return place_error(err, errno, img->path, "fsync");
	while ((e = readdir(d)))
		if ((frame_names_image(e->d_name) || !strcmp(e->d_name, IMAGE_BLOCK_FILE)) &&
		    unlinkat(img->parent_fd, e->d_name, 0) < 0 && errno != ENOENT)
			return place_error(err, errno, img->path, "remove an older image's file");
	return 0;
}

static int publish_into(struct image *img, struct err *err)
{
	int ret = remove_older(img, err);

	for (; !ret && img->nmoved < img->nfiles; img->nmoved++) {
		const char *name = img->files[img->nmoved].name;

		if (renameat(img->dirfd, name, img->parent_fd, name) < 0)
			return place_error(err, errno, img->path, "move a file to its place");
	}
	if (!ret && (FAULT("image.rename") || fsync(img->parent_fd) < 0))
		return place_error(err, EIO, img->path, "fsync");
	if (!ret && renameat(img->dirfd, INVENTORY_FILE, img->parent_fd, INVENTORY_FILE) < 0)
		return place_error(err, errno, img->path, "move its inventory to its place");
	if (!ret && fsync(img->parent_fd) < 0) {
		ret = place_error(err, errno, img->path, "fsync");
		unlinkat(img->parent_fd, INVENTORY_FILE, 0);
	}
	if (ret)
		return ret;
	unlinkat(img->parent_fd, img->tmp, AT_REMOVEDIR);
	close(img->dirfd);
	img->dirfd = take_fd(&img->parent_fd);
	return 0;
}

int place_publish(struct image *img, struct err *err)
{
	int ret;

	if (fsync(img->dirfd) < 0)
		return place_error(err, errno, img->path, "fsync");
	if (img->into)
		return publish_into(img, err);
	if (img->in_place)
		return publish_in_place(img, err);
	ret = FAULT("image.rename") ? -EIO : rename_over(img);
	if (ret == -EEXIST || ret == -ENOTEMPTY || ret == -ENOTDIR)
		return exists_error(err, img->path, "appeared while the image was made");
	if (ret)
		return place_error(err, -ret, img->path, "rename its temporary directory");
	ret = FAULT("image.sync-parent") ? EIO : fsync(img->parent_fd) < 0 ? errno : 0;
	if (ret && ret != EBADF) {
		ret = place_error(err, ret, img->path, "fsync its parent");
		/* The name must not stay for an image that may not be there after a power cut. */
		if (renameat(img->parent_fd, img->name, img->parent_fd, img->tmp) < 0)
			store_name(img->tmp, "%s", img->name);
		return ret;
	}
	return 0;
}

void place_remove(struct image *img)
{
	while (img->nmoved)
		unlinkat(img->parent_fd, img->files[--img->nmoved].name, 0);
	if (img->dirfd >= 0)
		store_wipe(img->dirfd);
	if (!img->in_place && img->parent_fd >= 0 && img->tmp[0])
		unlinkat(img->parent_fd, img->tmp, AT_REMOVEDIR);
}
