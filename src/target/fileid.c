/* SPDX-License-Identifier: MIT */
/* Whether a file is still the one that was dumped. */
#include "src/target/fileid.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/target/buildid.h"

enum { DEFAULT_N = 1024, CHUNK = 256 << 10 };

bool fileid_method_of(const char *name, enum fileid_method *ret)
{
	static const char *const names[] = {
		[FILEID_BUILDID] = "buildid",
		[FILEID_SIZE] = "filesize",
		[FILEID_CRC_FIRST] = "checksum",
		[FILEID_CRC_FULL] = "checksum-full",
		[FILEID_CRC_PERIOD] = "checksum-period",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) != 0)
			continue;
		*ret = (enum fileid_method)i;
		return true;
	}
	return false;
}

/* --- CRC32C --------------------------------------------------------------------------------- */

/* Castagnoli, reflected. [k][b]: byte b with k zero bytes behind it. */
static uint32_t crc_table[8][256];

static void crc_init(void)
{
	if (crc_table[0][1])
		return;
	for (uint32_t b = 0; b < 256; b++) {
		uint32_t crc = b;

		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
		crc_table[0][b] = crc;
	}
	for (uint32_t b = 0; b < 256; b++)
		for (int k = 1; k < 8; k++) {
			uint32_t prev = crc_table[k - 1][b];

			crc_table[k][b] = prev >> 8 ^ crc_table[0][prev & 0xff];
		}
}

static uint32_t crc_add(uint32_t crc, const uint8_t *p, size_t len)
{
	for (; len >= 8; p += 8, len -= 8)
		crc = crc_table[7][(crc ^ p[0]) & 0xff] ^ crc_table[6][(crc >> 8 ^ p[1]) & 0xff] ^
		      crc_table[5][(crc >> 16 ^ p[2]) & 0xff] ^ crc_table[4][crc >> 24 ^ p[3]] ^
		      crc_table[3][p[4]] ^ crc_table[2][p[5]] ^ crc_table[1][p[6]] ^
		      crc_table[0][p[7]];
	for (; len; p++, len--)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 0xff];
	return crc;
}

/* Every @step-th byte of the first @most bytes. */
static int crc_file(int fd, uint64_t most, uint32_t step, uint32_t *ret)
{
	cleanup_free uint8_t *buf = malloc(CHUNK);
	uint32_t crc = ~0u;
	uint64_t at = 0, next = 0;
	ssize_t n = 1;

	if (!buf)
		return -ENOMEM;
	crc_init();
	while (at < most && n > 0) {
		n = io_pread(fd, buf, most - at < CHUNK ? (size_t)(most - at) : CHUNK, at);
		if (n < 0)
			return (int)n;
		if (step == 1) {
			crc = crc_add(crc, buf, (size_t)n);
		} else {
			for (; next < at + (uint64_t)n; next += step)
				crc = crc_add(crc, buf + (next - at), 1);
		}
		at += (uint64_t)n;
	}
	*ret = ~crc;
	return 0;
}

static int crc_by_kind(int fd, enum m_checksum kind, uint32_t n, uint32_t *ret)
{
	switch (kind) {
	case M_CHECKSUM_FIRST:
		return crc_file(fd, n, 1, ret);
	case M_CHECKSUM_PERIOD:
		return crc_file(fd, UINT64_MAX, n ? n : 1, ret);
	default:
		return crc_file(fd, UINT64_MAX, 1, ret);
	}
}

static enum m_checksum kind_of(enum fileid_method method)
{
	return method == FILEID_CRC_FIRST    ? M_CHECKSUM_FIRST
	       : method == FILEID_CRC_FULL   ? M_CHECKSUM_FULL
	       : method == FILEID_CRC_PERIOD ? M_CHECKSUM_PERIOD
					     : M_CHECKSUM_NONE;
}

void fileid_kind(const struct fileid_opts *opts, struct m_file *f)
{
	f->checksum_kind = kind_of(opts->method);
	f->checksum_n = opts->parameter ? opts->parameter : DEFAULT_N;
	if (f->checksum_kind == M_CHECKSUM_FULL)
		f->checksum_n = 0;
}

int fileid_checksum(int fd, const struct fileid_opts *opts, struct m_file *f)
{
	struct m_file with = *f;
	int ret;

	fileid_kind(opts, &with);
	if (!with.checksum_kind)
		return 0;
	ret = crc_by_kind(fd, with.checksum_kind, with.checksum_n, &with.checksum);
	if (ret == 0)
		*f = with;
	return ret;
}

/* --- what is compared ----------------------------------------------------------------------- */

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

static int check_checksum(const struct m_file *f, int fd, struct err *err)
{
	uint32_t now = 0;
	int ret = crc_by_kind(fd, f->checksum_kind, f->checksum_n, &now);

	if (ret < 0)
		return err_set(err, -ret, "read %s", f->path);
	if (now == f->checksum)
		return 0;
	err_fail(err, ESTALE, ERR_CHANGED, "%s: has changed: its checksum is %08x, it was %08x",
		 f->path, now, f->checksum);
	return changed(err, f);
}

/* Files of these have no contents of their own. */
static bool is_kernels(const char *path)
{
	return path && (!strncmp(path, "/proc/", 6) || !strncmp(path, "/sys/", 5));
}

bool fileid_lacks_sum(const struct m_file *f, const struct fileid_opts *opts)
{
	return opts->method >= FILEID_CRC_FIRST && !f->checksum_kind && f->type == M_FILE_REG &&
	       S_ISREG(f->mode) && !f->ghost_id && !(f->flags & O_PATH) && !is_kernels(f->path);
}

int fileid_check(const struct m_file *f, int fd, const struct stat *st, bool mapped,
		 const struct fileid_opts *opts, struct err *err)
{
	bool sums = opts->method >= FILEID_CRC_FIRST && f->checksum_kind;
	cleanup_fd int readable = -1;
	int ret;

	if (!S_ISREG(st->st_mode) || !S_ISREG(f->mode) || f->flags & O_PATH)
		return 0;
	ret = check_size(f, st, err);
	if (ret < 0 || opts->method == FILEID_SIZE)
		return ret;
	if (!sums && !f->build_id_len)
		return mapped ? check_time(f, st, err) : 0;
	readable = open_readable(f, fd, err);
	if (readable < 0)
		return readable;
	return sums ? check_checksum(f, readable, err) : check_build_id(f, readable, err);
}
