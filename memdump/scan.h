/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a list of ranges are there to be read.
 *
 * Pieces come in the order of the ranges, found as they are asked for: one look at the page tables
 * covers neighbouring ranges of a process, and memory does not grow with the target.
 *
 *	ranges   │ 0x1000..0x5000 │   │ 0x7000..0x9000 │
 *	window   │ 0x1000 ........ one PAGEMAP_SCAN .... 0x9000 │
 *	pieces     0x1000..0x3000       0x8000..0x9000
 */
#ifndef MEMDUMP_SCAN_H
#define MEMDUMP_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memdump/memdump.h"
#include "memdump/zero.h"

/* A run of pages to read: from @pid, or from @fd when it is not -1. */
struct md_piece {
	uint64_t space;
	uint64_t addr, len;
	uint64_t shift; /* stored address = addr + shift, modulo 2^64 */
	bool clean;	/* MD_PICK_TRACKED: not written since it was last looked at */
	bool guard;	/* a region of MADV_GUARD_INSTALL, for a scanner that tells them */
	bool written;	/* MD_PICK_TRACKED: not clean, but tracked */
	bool own;	/* MD_PICK_OWN */
	int pid;
	int fd;	     /* the scanner's own; open until the next range with a descriptor is reached */
	int kin;     /* the range's */
	bool shared; /* the reader's note: others may have these pages, too */
};

/* As struct page_region of Linux 6.7. */
struct md_region {
	uint64_t start, end;
	uint64_t categories;
};

enum {
	MD_SCAN_REGIONS = 512, /* most regions of one look */
};

struct md_look;

struct md_scanner {
	/* immutable */
	const struct md_range *ranges;
	size_t n;
	uint64_t page_size;
	/* where we are */
	size_t at;    /* range */
	uint64_t pos; /* next address in it; 0: not begun */
	bool begun;
	/* the process whose page tables we look at */
	int pid; /* 0: none */
	int pagemap_fd;
	bool no_ioctl; /* the kernel lacks PAGEMAP_SCAN, or a test wants it so */
	struct md_zero zero;
	uint64_t *entries; /* pagemap words; allocated when first needed */
	bool guards;	   /* of MD_PICK_TRACKED guard regions are told, as pieces of their own */
	const struct md_look *ahead; /* looks that others have made already; NULL: none */
	/* what the last look found */
	uint64_t win_start, win_end;
	const struct md_region *found; /* @regions, or those of @ahead */
	size_t nregions, region;
	bool clean, guard, written; /* the last piece */
	bool skip_gone;		    /* a process that has ended is passed over */
	struct md_region regions[MD_SCAN_REGIONS];
	/* the descriptor of the current range, opened anew: seeking must not move the caller's */
	int data_fd, data_fd_of;
};

/* Borrows @ranges. @no_ioctl: do without PAGEMAP_SCAN. */
void md_scanner_init(struct md_scanner *s, const struct md_range *ranges, size_t n, bool no_ioctl);
void md_scanner_deinit(struct md_scanner *s);
/* 1: *ret is the next piece, not longer than @max; 0: end; -errno. */
int md_scanner_next(struct md_scanner *s, uint64_t max, struct md_piece *ret, struct err *err);

/* If the next piece would be of process @pid: behind the last of its ranges that follow. */
void md_scanner_skip(struct md_scanner *s, int pid);

/*
 * One look by PAGEMAP_SCAN, from @start on: up to @room regions as @pick wants them, valid up to
 * *ret_end. @guards: as in md_scanner, where md_can_see_guards(). Their number, or -errno.
 */
int md_pages_look(int pagemap_fd, enum md_pick pick, bool guards, uint64_t start, uint64_t end,
		  struct md_region *regions, size_t room, uint64_t *ret_end);
bool md_can_see_guards(void); /* Linux 6.16 */

/*
 * look.c: what was seen of @pid at @addr and behind it, up to *ret_end; those of the regions that
 * end at @addr or before do not matter. False: nobody has looked there.
 */
bool md_look_find(const struct md_look *l, int pid, uint64_t addr, const struct md_region **ret,
		  size_t *ret_n, uint64_t *ret_end);

/* 0, or -ESRCH when @pid has no memory any more. */
int md_process_alive(int pid, struct err *err);

#endif
