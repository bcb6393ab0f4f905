/* SPDX-License-Identifier: MIT */
/*
 * Which memory of a process tree has to be read: its VMAs and shared segments as a list of ranges.
 *
 * Owns the descriptors it opened for shared segments; ranges_free() closes them. One thread.
 */
#ifndef OPS_RANGES_H
#define OPS_RANGES_H

#include "memdump/memdump.h"
#include "src/image/model.h"

struct ranges {
	struct md_range *v;
	size_t n, room;
	int *fds;
	size_t nfds;
};

/* Fills @r from the collected model. -ENOMEM, or the segment that nobody lets us read. */
int ranges_collect(struct ranges *r, const struct model *m, struct err *err);
void ranges_free(struct ranges *r);

/*
 * Replaces the ranges by the exact extents found in them now, and reports each, by space in
 * ascending order. @lazy: CRIU's rule for pages that may be restored on demand.
 */
int ranges_scan(struct ranges *r, const struct model *m,
		int (*emit)(void *arg, uint64_t space, const struct md_extent *e, bool lazy,
			    struct err *err),
		void *arg, struct err *err);

/* Bytes likely to be read, from the kernel's counters, for a progress display; 0: not known. */
uint64_t ranges_estimate(const struct model *m);

#endif
