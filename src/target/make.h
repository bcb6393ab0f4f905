/* SPDX-License-Identifier: MIT */
/*
 * Open file descriptions made again in the tool, for the processes of a restored tree to take.
 *
 *	make_new()       nothing is touched yet
 *	make_files()     segments; opens and creates what needs no process of the tree
 *	                 (the caller fills make_segment() of every segment with its contents)
 *	make_seal_writes()
 *	                 (creates empty processes with their pids)
 *	make_late()      what names processes: pidfds, owners, files of /proc; epoll items, locks
 *	                 (every process takes make_fd() of its descriptors by pidfd_getfd)
 *	make_inside()    calls for one process: what belongs to it alone
 *	make_finish()    timers are armed, inotify watches added, memory is sealed
 *	make_release()   connections speak to their peers
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
	bool tcp_close;	       /* connections are over, as if the other side had reset them */
};

/* @m and @opts outlive it. NULL with @err. */
struct make *make_new(const struct model *m, const struct make_opts *opts, struct err *err);
void make_free(struct make *mk);

int make_files(struct make *mk, struct err *err);
int make_late(struct make *mk, struct err *err);
int make_finish(struct make *mk, struct err *err);
/*
 * TCP connections go on, and packets of them are not held back any more. What fails after this
 * costs the connections: everything else has been done, and nothing but the start is to come.
 */
int make_release(struct make *mk, struct err *err);

/* The tree runs: names that were there for this restore alone go, those that it made stay. */
void make_done(struct make *mk);

/*
 * How many files were not compared by a checksum though that was asked for, for the image has none;
 * the path of one.
 */
uint32_t make_unsummed(const struct make *mk, const char **ret_path);

/*
 * The descriptor of the description @file_id, -1 when it is not made. Working and root directories
 * that no descriptor refers to are O_PATH: good for fchdir().
 */
int make_fd(const struct make *mk, uint32_t file_id);

/*
 * The object of shared memory @shm_id, open for reading and writing: a memfd, shared anonymous
 * memory, a System V segment that was made again. -1 for one that was there: its contents stay.
 */
int make_segment(const struct make *mk, uint32_t shm_id);
/*
 * What shmat() takes, -1 when it is no System V segment. Segments that were made go with the last
 * process, and with make_free() when there is none: it marks them as removed.
 */
int make_sysv_id(const struct make *mk, uint32_t shm_id);
/* Seals against writing, which must be there before the memory is mapped and after it is filled. */
int make_seal_writes(struct make *mk, struct err *err);

/*
 * What process @p must do itself once its descriptors are in place: POSIX locks, watching of
 * signalfds. Adds calls to @b as far as there is room, from item *@at on, which moves. The number
 * of calls added; 0: all are done. After the run make_inside_done() looks at their results, from
 * call @first_call of @b on.
 */
int make_inside(const struct make *mk, const struct m_proc *p, struct batch *b, uint32_t *at);
int make_inside_done(const struct make *mk, const struct m_proc *p, const struct batch *b,
		     unsigned first_call, uint32_t from, uint32_t to, struct err *err);

/*
 * Controlling terminals. make_ctty() says which descriptor of the tool session leader @p must take,
 * -1: none; two batches in it, where it has number @fd, do the rest: make_ctty_take() once it leads
 * its session and has no terminal, make_ctty_group() once the foreground group is there. They
 * return the index of their call, make_ctty_group() also -EALREADY when there is nothing to call.
 * The terminal of a session whose leader is not in the tree (--shell-job) is the tool's, and so is
 * the session that such processes must be born in.
 */
int make_ctty(struct make *mk, const struct m_proc *p, int *ret_fd, struct err *err);
int make_ctty_take(struct batch *b, uint64_t fd);
int make_ctty_group(const struct make *mk, const struct m_proc *p, struct batch *b, uint64_t fd);

#endif
