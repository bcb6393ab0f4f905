/* SPDX-License-Identifier: MIT */
/*
 * The watches of inotify instances: what fdinfo prints, and a path for each.
 *
 * The kernel remembers inodes. Their file handle leads to one again, and the name of what is open
 * then to a path; where handles cannot be opened, the paths that the tree has anyway are tried.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/fdinfo.h"
#include "src/target/files.h"
#include "src/target/procfs.h"

static bool is_inode(const char *path, const struct m_watch *w)
{
	struct statx stx;

	return statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW,
		     STATX_BASIC_STATS, &stx) == 0 &&
	       stx.stx_ino == w->ino;
}

/* --- by handle ------------------------------------------------------------------------------ */

/* The path of @w, by its handle on the file system mounted at @mount; NULL. */
static char *path_on(struct files *f, const char *mount, const struct m_watch *w)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + sizeof(w->handle)];
	} u;
	cleanup_fd int dir = open(mount, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
	cleanup_fd int fd = -1;
	char link[32];

	u.h.handle_bytes = w->handle_len;
	u.h.handle_type = (int)w->handle_type;
	memcpy(u.h.f_handle, w->handle, w->handle_len);
	fd = dir < 0 ? -1 : open_by_handle_at(dir, &u.h, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (proctext_link(&f->link, AT_FDCWD, link) < 0 || *f->link.data != '/' ||
	    !is_inode(f->link.data, w))
		return NULL;
	return f->link.data;
}

/* mountinfo escapes space, tab, newline and backslash in octal. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

/* "31 1 0:27 / /tmp rw,...": tries every mount of the watch's file system. */
static char *path_by_handle(struct files *f, const struct m_watch *w)
{
	struct procfs_lines l;
	char buf[8192], *line, *ret = NULL;

	if (!w->handle_len || procfs_lines_open(&l, buf, sizeof(buf), "/proc/self/mountinfo") < 0)
		return NULL;
	while (!ret && (line = procfs_lines_next(&l))) {
		unsigned maj, min;
		int at = 0;
		char *end;

		if (sscanf(line, "%*u %*u %u:%u %*s %n", &maj, &min, &at) != 2 || !at ||
		    maj != w->dev >> 20 || min != (w->dev & 0xfffff))
			continue;
		end = strchr(line + at, ' ');
		if (end)
			*end = '\0';
		unescape(line + at);
		ret = path_on(f, line + at, w);
	}
	procfs_lines_close(&l);
	return ret;
}

/* --- by name -------------------------------------------------------------------------------- */

/* Among what the tree has open or stands in, and the directories of that. */
static char *path_among_files(struct files *f, const struct m_watch *w, char **to_free)
{
	for (uint32_t i = 0; i < f->m->nfiles; i++) {
		const struct m_file *file = &f->m->files[i];
		char *slash;

		if (file->deleted || !file->path || *file->path != '/')
			continue;
		if (file->ino == w->ino && is_inode(file->path, w))
			return file->path;
		free(*to_free);
		*to_free = strdup(file->path);
		slash = *to_free ? strrchr(*to_free, '/') : NULL;
		if (!slash || slash == *to_free)
			continue;
		*slash = '\0';
		if (is_inode(*to_free, w))
			return *to_free;
	}
	return NULL;
}

int watches_finish(struct files *f, const struct m_proc *p, uint32_t fd, struct m_file *file,
		   struct err *err)
{
	for (uint32_t i = 0; i < file->nwatches; i++) {
		struct m_watch *w = &file->watches[i];
		cleanup_free char *copy = NULL;
		char *path;

		if (w->path)
			continue;
		path = path_by_handle(f, w);
		if (!path)
			path = path_among_files(f, w, &copy);
		if (path)
			w->path = model_strdup(f->m, path);
		if (path ? !w->path
			 : finding_fatal(f->m, p->pid,
					 "fd %u: inotify watch %u: no path to inode %" PRIu64
					 " of device %u:%u is known",
					 fd, w->wd, w->ino, w->dev >> 20, w->dev & 0xfffff) < 0)
			return err_set(err, ENOMEM, "watches of pid %u", p->pid);
	}
	return 0;
}
