/* SPDX-License-Identifier: MIT */
/*
 * The text of /proc/PID/fdinfo/FD.
 *
 * Common lines first, then those that the kind of file has. Any bytes are taken without harm.
 */
#ifndef TARGET_FDINFO_H
#define TARGET_FDINFO_H

#include <stdint.h>

#include "src/image/model.h"

struct fdinfo {
	uint64_t pos;
	uint32_t flags;	 /* with O_CLOEXEC, as printed */
	int32_t mnt_id;	 /* -1: not printed */
	uint64_t object; /* eventfd-id: the same as long as it lives (Linux 5.2); 0: not printed */
};

/* The common lines. -EBADMSG without flags. */
int fdinfo_parse(const char *text, struct fdinfo *ret);

/*
 * The lines of @file->type into @file: eventfd, signalfd, timerfd, epoll and inotify (lists go into
 * @m), pidfd. 0 or -ENOMEM; a line that is not there or not as expected leaves its field alone.
 */
int fdinfo_fill(struct model *m, const char *text, struct m_file *file);

#endif
