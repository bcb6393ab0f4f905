/* SPDX-License-Identifier: MIT */
/*
 * Whether a file is still the one that was dumped.
 *
 * The size is always compared, where the image has it; files opened for appending only may have
 * grown. What else is compared is the method's; a file whose image has no build id or no checksum
 * is judged by size; fileid_lacks_sum() tells the caller to say so. The contents of files that the
 * tree maps are not in an image: without a build id, their time of modification is compared, too.
 */
#ifndef TARGET_FILEID_H
#define TARGET_FILEID_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "src/image/model.h"

enum fileid_method {
	FILEID_BUILDID, /* of ELF files; the default */
	FILEID_SIZE,
	FILEID_CRC_FIRST,  /* CRC32C of the first N bytes */
	FILEID_CRC_FULL,   /* of all */
	FILEID_CRC_PERIOD, /* of every Nth byte, from the first on */
};

struct fileid_opts {
	enum fileid_method method;
	uint32_t parameter; /* N; 0: 1024 */
};

/* By criu's names: buildid, filesize, checksum, checksum-full, checksum-period. */
bool fileid_method_of(const char *name, enum fileid_method *ret);

/* The checksum that @opts asks for, of the regular file open at @fd: into @f. -errno. */
int fileid_checksum(int fd, const struct fileid_opts *opts, struct m_file *f);
/* Its kind alone. */
void fileid_kind(const struct fileid_opts *opts, struct m_file *f);

/*
 * @opts asks for checksums, and the image has none of @f, a regular file whose contents are not in
 * it: fileid_check() goes by build id, size and, of mapped files, time.
 */
bool fileid_lacks_sum(const struct m_file *f, const struct fileid_opts *opts);

/*
 * @f against what is open at @fd and looks like @st. A mismatch is ERR_CHANGED and names the file
 * and both values.
 */
int fileid_check(const struct m_file *f, int fd, const struct stat *st, bool mapped,
		 const struct fileid_opts *opts, struct err *err);

#endif
