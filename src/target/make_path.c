/* SPDX-License-Identifier: MIT */
/* What is opened by its path: regular files, directories, devices. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"

/* What O_TMPFILE has beside O_DIRECTORY; the same on the CPUs that we know. */
enum { TMPFILE_BIT = 020000000 };

/* A file of /proc that belongs to a process of the tree, which must exist first. */
static bool is_of_process(const struct make *mk, const char *path)
{
	unsigned long pid;
	char *end;

	if (strncmp(path, "/proc/", 6) != 0)
		return false;
	pid = strtoul(path + 6, &end, 10);
	return end > path + 6 && (*end == '/' || !*end) && pid <= UINT32_MAX &&
	       model_proc(mk->m, (uint32_t)pid);
}

static int open_flags(const struct make *mk, const struct m_file *f)
{
	const struct made *e = &mk->made[f->id - 1];
	unsigned flags = f->flags & ~(unsigned)(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC);

	/* A file that never had a name: both bits were about the directory it was made in. */
	if (flags & TMPFILE_BIT)
		flags &= ~(unsigned)(TMPFILE_BIT | O_DIRECTORY);
	/* Only stood in: that it may be read is not said. */
	if (!e->in_table && !e->mapped && S_ISDIR(f->mode))
		return O_PATH | O_DIRECTORY | O_CLOEXEC;
	return (int)(flags | O_NOCTTY | O_CLOEXEC);
}

static const char *kind_name(unsigned mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "a regular file";
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFCHR:
		return "a character device";
	case S_IFBLK:
		return "a block device";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	default:
		return "nothing that has a name";
	}
}

static int check_kind(const struct m_file *f, const struct stat *st, struct err *err)
{
	if (f->mode && (st->st_mode & S_IFMT) != (f->mode & S_IFMT)) {
		err_fail(err, EBADF, ERR_CHANGED, "%s: is of another kind now: %s, it was %s",
			 make_name(f), kind_name(st->st_mode), kind_name(f->mode));
		err_hint(err, "put back what was there at the dump");
		return -EBADF;
	}
	if (f->mode && (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) && f->rdev &&
	    st->st_rdev != f->rdev)
		return err_fail(err, EBADF, ERR_CHANGED,
				"%s: is another device now: %u:%u, it was %u:%u", make_name(f),
				major(st->st_rdev), minor(st->st_rdev), major(f->rdev),
				minor(f->rdev));
	return 0;
}

static int set_position(int fd, const struct m_file *f, struct err *err)
{
	if (!f->pos || f->flags & O_PATH)
		return 0;
	if (f->pos > INT64_MAX || lseek(fd, (off_t)f->pos, SEEK_SET) < 0)
		return err_set(err, f->pos > INT64_MAX ? EOVERFLOW : errno,
			       "set position %" PRIu64 " of %s", f->pos, make_name(f));
	return 0;
}

static int path_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	const struct made *e = &mk->made[f->id - 1];
	cleanup_fd int fd = -1;
	struct stat st;
	int ret;

	if (!late && f->path && is_of_process(mk, f->path))
		return MAKE_LATER;
	/* Never waits for somebody else: O_NONBLOCK, put right below. */
	fd = make_open(mk, f, open_flags(mk, f) | O_NONBLOCK, err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat %s", make_name(f));
	ret = check_kind(f, &st, err);
	if (ret == 0 && !f->ghost_id)
		ret = fileid_check(f, fd, &st, e->mapped, &mk->opts->id, err);
	if (ret == 0 && fileid_lacks_sum(f, &mk->opts->id) && !mk->nunsummed++)
		mk->unsummed = f;
	if (ret == 0 && !(f->flags & O_PATH) && e->in_table)
		ret = make_set_flags(fd, f, err);
	if (ret == 0)
		ret = set_position(fd, f, err);
	return ret ? ret : make_put(mk, f->id, take_fd(&fd), err);
}

const struct make_row make_path = {.open = path_open};
