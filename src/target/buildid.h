/* SPDX-License-Identifier: MIT */
/*
 * The build id of an ELF file: the NT_GNU_BUILD_ID note that the linker put there.
 *
 * The file is the target's: nothing in it is trusted, and not more than a few pages are read.
 */
#ifndef TARGET_BUILDID_H
#define TARGET_BUILDID_H

#include <stdint.h>

enum { BUILDID_MAX = 64 };

/*
 * Of the regular file open at @fd. Its length, at most BUILDID_MAX; 0 when there is none or the
 * file is not an ELF file of 64 bits in our byte order; -errno when reading fails.
 */
int buildid_read(int fd, uint8_t ret[BUILDID_MAX]);

#endif
