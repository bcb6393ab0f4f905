/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a process were written since it was last asked, by the kernel's soft-dirty marks
 * (Linux 3.11, CONFIG_MEM_SOFT_DIRTY): /proc/PID/clear_refs takes the marks of all its memory away,
 * bit 55 of a word of /proc/PID/pagemap is the mark of a page.
 *
 * Looking and clearing are two steps, so the process must stand still between them:
 *
 *	stopped     md_soft_scan(MD_SOFT_CLEAR)   dirty pages are told; all marks are cleared
 *	runs        its dirty pages are read
 *	...
 *	stopped     md_soft_scan(MD_SOFT_LOOK)    what is told to be clean is as it was read
 *
 * A mark alone does not say that a page is the same one: another may have come to its address with
 * its mark cleared (mremap() of 2 MiB moves page tables as they are), or another process to its
 * pid. So the number of the frame of each page is kept, and compared:
 *
 *	address          0x1000     0x2000     0x3000     0x4000
 *	frame kept            7          8          9          -
 *	frame now             7          8         12         13
 *	mark now              -        set          -          -
 *	told              clean      dirty      dirty      dirty
 *
 * Somebody else may clear the marks, too. A page that was seen to be dirty, has the same frame and
 * is not dirty any more, tells of it: then nothing counts as clean (-ESTALE).
 *
 * Frame numbers are shown to CAP_SYS_ADMIN alone; without it there is no such tracking.
 * One thread calls.
 */
#ifndef MEMDUMP_SOFT_DIRTY_H
#define MEMDUMP_SOFT_DIRTY_H

#include <stdbool.h>
#include <stddef.h>

#include "memdump/memdump.h"

struct md_soft;

/* Whether this kernel marks pages, and shows their frames. */
bool md_can_soft_dirty(void);

/* What is known of no process yet. */
struct md_soft *md_soft_new(struct err *err);
void md_soft_free(struct md_soft *s); /* NULL is allowed */

enum md_soft_step {
	MD_SOFT_LOOK,  /* nothing is changed in any process */
	MD_SOFT_CLEAR, /* from now on writes are told anew; all processes of the ranges stand still
			*/
};

/*
 * The pages of @ranges that are there, as MD_PICK_PRESENT has it, clean or not; ranges of a process
 * stand together and ascend. Processes that have ended are passed over. -ESTALE: the marks were
 * cleared by somebody else since; all that was told in this call is void, everything is dirty from
 * now on, and the caller asks again.
 */
int md_soft_scan(struct md_soft *s, const struct md_range *ranges, size_t n, enum md_soft_step step,
		 int (*emit)(void *arg, const struct md_range *range, const struct md_extent *e,
			     bool clean),
		 void *arg, struct err *err);

/* Whether something of @pid is known: then a scan can tell what was written since. */
bool md_soft_knows(const struct md_soft *s, int pid);

/* To a descriptor and back, between programs of the same build: for the next dump. */
int md_soft_save(const struct md_soft *s, int fd, struct err *err);
/* 1: loaded; 0: there is nothing, or nothing whole. */
int md_soft_load(struct md_soft *s, int fd);

#endif
