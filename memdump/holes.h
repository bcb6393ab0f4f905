/* SPDX-License-Identifier: MIT */
/*
 * What of a large mapping a process has only reserved: terabytes of it, for a sanitizer's shadow or
 * a garbage collector, are a word of /proc/PID/pagemap for each page that there is not (0.4 s for a
 * TiB), while somebody stands still.
 *
 *	mapping   0x10000000 ........................... 0x20000000
 *	pages     0x10000000-0x10004000       0x1c000000-0x1c001000
 *	asked     0x11000000
 *	answer    0x1c000000
 *
 * By PAGEMAP_SCAN (Linux 6.7), which passes over page tables that there are not; before that by
 * smaps, which tells of whole mappings alone, and takes 20 ms for each GiB that is there: only
 * where that is much less.
 */
#ifndef MEMDUMP_HOLES_H
#define MEMDUMP_HOLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct md_span {
	uint64_t start, end;
};

struct md_holes {
	bool no_scan;	   /* the kernel lacks PAGEMAP_SCAN, or a test wants it so */
	int pid;	   /* of what follows; 0: none */
	uint64_t resident; /* bytes */
	bool listed;	   /* all of these mappings */
	struct md_span *v; /* that have pages */
	size_t n;
};

/*
 * The first address from @addr on, @end at most, where there may be a page of @pid, whose pagemap
 * is @fd. What is known of its mappings is kept for the next call; md_holes_forget() when it has
 * run since.
 */
uint64_t md_holes_end(struct md_holes *h, int pid, int fd, uint64_t addr, uint64_t end);
void md_holes_forget(struct md_holes *h);

#endif
