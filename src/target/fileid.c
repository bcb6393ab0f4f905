/* SPDX-License-Identifier: MIT */
/* Whether a file is still the one that was dumped. */
#include "src/target/fileid.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/buildid.h"

static int changed(struct err *err, const struct m_file *f)
{
	err_hint(err, "put back the %s that was there at the dump", f->path);
	return -err->errnum;
}

static int check_size(const struct m_file *f, const struct stat *st, struct err *err)
{
	bool grows = (f->flags & O_ACCMODE) == O_WRONLY && f->flags & O_APPEND;

	if ((uint64_t)st->st_size == f->size || (grows && (uint64_t)st->st_size > f->size))
		return 0;
	err_fail(err, ESTALE, ERR_CHANGED,
		 "%s: has changed: its size is %" PRIu64 ", it was %" PRIu64, f->path,
		 (uint64_t)st->st_size, f->size);
	return changed(err, f);
}

static int check_time(const struct m_file *f, const struct stat *st, struct err *err)
{
	int64_t now = st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec;

	if (!f->mtime_ns || now == f->mtime_ns)
		return 0;
	err_fail(err, ESTALE, ERR_CHANGED,
		 "%s: has changed: modified at %" PRId64 ".%09" PRId64 ", it was %" PRId64
		 ".%09" PRId64,
		 f->path, now / 1000000000, now % 1000000000, f->mtime_ns / 1000000000,
		 f->mtime_ns % 1000000000);
	return changed(err, f);
}

static const char *hex(const uint8_t *id, uint32_t len, char ret[2 * BUILDID_MAX + 1])
{
	for (uint32_t i = 0; i < len && i < BUILDID_MAX; i++)
		snprintf(ret + 2 * i, 3, "%02x", id[i]);
	return len ? ret : "none";
}

static int check_build_id(const struct m_file *f, int fd, struct err *err)
{
	char a[2 * BUILDID_MAX + 1], b[2 * BUILDID_MAX + 1];
	uint8_t now[BUILDID_MAX] = {0};
	int len = buildid_read(fd, now);

	if (len < 0)
		return err_set(err, -len, "read the build id of %s", f->path);
	/* CRIU's images pad it to whole words. */
	if ((uint32_t)len <= f->build_id_len && f->build_id_len < (uint32_t)len + 4 &&
	    !memcmp(now, f->build_id, (size_t)len))
		return 0;
	err_fail(err, ESTALE, ERR_CHANGED, "%s: has changed: its build id is %s, it was %s",
		 f->path, hex(now, (uint32_t)len, a), hex(f->build_id, f->build_id_len, b));
	return changed(err, f);
}

/* What was opened for writing only is read through another description of it. */
static int open_readable(const struct m_file *f, int fd, struct err *err)
{
	char path[32];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return ret < 0 ? err_set(err, errno, "open %s for reading", f->path) : ret;
}

int fileid_check(const struct m_file *f, int fd, const struct stat *st, bool mapped,
		 const struct fileid_opts *opts, struct err *err)
{
	cleanup_fd int readable = -1;
	int ret;

	if (!S_ISREG(st->st_mode) || !S_ISREG(f->mode) || f->flags & O_PATH)
		return 0;
	ret = check_size(f, st, err);
	if (ret < 0 || opts->method == FILEID_SIZE)
		return ret;
	if (!f->build_id_len)
		return mapped ? check_time(f, st, err) : 0;
	readable = open_readable(f, fd, err);
	return readable < 0 ? readable : check_build_id(f, readable, err);
}
