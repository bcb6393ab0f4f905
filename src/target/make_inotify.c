/* SPDX-License-Identifier: MIT */
/* inotify instances and their watches, under the numbers they had. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "src/target/make_row.h"

/* Linux 4.18, with CONFIG_CHECKPOINT_RESTORE */
#ifndef INOTIFY_IOC_SETNEXTWD
#define INOTIFY_IOC_SETNEXTWD _IOW('I', 0, int32_t)
#endif

static int inotify_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	int fd = inotify_init1(IN_CLOEXEC | (int)(f->flags & O_NONBLOCK));

	return fd < 0 ? err_set(err, errno, "make %s", make_name(f)) : make_put(mk, f->id, fd, err);
}

static int add_watch(const struct m_file *f, const struct m_watch *w, int fd, struct err *err)
{
	const uint32_t known = IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK;
	int ret;

	if (!w->path)
		return err_fail(err, ENOENT, ERR_UNSUPPORTED,
				"%s: watch %u has no path, only inode %" PRIu64, make_name(f),
				w->wd, w->ino);
	if (ioctl(fd, INOTIFY_IOC_SETNEXTWD, w->wd) < 0)
		return err_set(err, errno, "number %u for a watch of %s", w->wd, make_name(f));
	ret = inotify_add_watch(fd, w->path, (w->mask & known) | IN_DONT_FOLLOW);
	if (ret < 0)
		return err_set(err, errno, "watch %s by %s", w->path, make_name(f));
	if ((uint32_t)ret != w->wd)
		return err_fail(err, EEXIST, ERR_CHANGED,
				"%s: %s is watched twice, as %d and %u: it was two files",
				make_name(f), w->path, ret, w->wd);
	return 0;
}

/* At the very end: what the restore does to files is not to be seen. */
static int inotify_watch(struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < f->nwatches; i++)
		ret = add_watch(f, &f->watches[i], fd, err);
	return ret;
}

const struct make_row make_inotify = {.open = inotify_open, .finish = inotify_watch};
