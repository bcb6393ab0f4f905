/* SPDX-License-Identifier: MIT */
/*
 * Open file descriptions made again in the tool, for the processes of a restored tree to take.
 *
 *	make_new()       nothing is touched yet
 *	make_files()     opens and creates what needs no process of the tree
 *	                 (the caller fills the segments, creates empty processes with their pids)
 *	make_late()      what names processes: pidfds, owners, files of /proc, epoll items
 *	                 (every process takes make_fd() of its descriptors by pidfd_getfd)
 *	make_inside()    calls for one process: what belongs to it alone
 *	make_finish()    timers are armed, memory is sealed
 *	make_free()      closes all; what was taken lives on
 *
 * One description is made for every file that anything in the model refers to, so what descriptors,
 * threads and processes shared they share again. Descriptors of the tool are numbered from 1024 and
 * closed on exec; make_new() raises the tool's limit of open files for them.
 *
 * Errors name the file and what differs. On failure make_free() takes back what was made: a file
 * system is as it was. One thread.
 */
#ifndef TARGET_MAKE_H
#define TARGET_MAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "src/image/model.h"
#include "src/target/fileid.h"

struct batch;
struct make;

struct make_opts {
	struct fileid_opts id; /* when a file is taken for the one that was dumped */
};

/* @m and @opts outlive it. NULL with @err. */
struct make *make_new(const struct model *m, const struct make_opts *opts, struct err *err);
void make_free(struct make *mk);

int make_files(struct make *mk, struct err *err);
int make_late(struct make *mk, struct err *err);
int make_finish(struct make *mk, struct err *err);

/*
 * The descriptor of the description @file_id, -1 when it is not made. Working and root directories
 * that no descriptor refers to are O_PATH: good for fchdir().
 */
int make_fd(const struct make *mk, uint32_t file_id);

#endif
