/* SPDX-License-Identifier: MIT */
/* What kind of thing a file descriptor is, from its link, its inode and its flags. */
#ifndef TARGET_FDTYPE_H
#define TARGET_FDTYPE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "src/image/model.h"

struct files;

/* Reads which character devices are terminals; what the kernel always had, if it does not tell. */
void fdtype_init(struct files *f);

/*
 * @link: the text behind /proc/PID/fd/N; @flags: of fdinfo. M_FILE_UND is a socket, whose kind
 * fdtype_socket() tells. @ret_lost: its name when an image does not carry its
 * contents, or NULL.
 */
enum m_file_type fdtype_of(const struct files *f, const char *link, const struct statx *stx,
			   uint32_t flags, const char **ret_lost);

/*
 * The kind of a socket: by @dup, a duplicate of it, or if that is negative by the link @path below
 * @dirfd. M_FILE_EXT when it is none that CRIU's images know.
 */
enum m_file_type fdtype_socket(int dup, int dirfd, const char *path);

/* False for an internet socket that is neither TCP nor UDP nor raw. */
bool fdtype_inet_known(int dirfd, const char *path);

#endif
