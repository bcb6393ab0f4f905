/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a process have been read, for its children, who may have the same ones.
 *
 *	process 10   │ 0x1000..0x9000: its own │
 *	child 11     │ 0x1000..0x4000: those of 10 │ 0x4000..0x5000: its own │ ...: those of 10 │
 *
 * Pages that process 12, a child of 11, has of 11 are then those of 10, or of 11. Memory: 24 bytes
 * per run of pages, of processes that have children. Without memory nothing is known, and all pages
 * are stored.
 */
#ifndef MEMDUMP_KIN_H
#define MEMDUMP_KIN_H

#include <stddef.h>
#include <stdint.h>

#include "memdump/memdump.h"

struct md_kin_run {
	uint64_t addr, len;
	uint32_t owner;
};

struct md_kin_proc {
	uint32_t pid;
	struct md_kin_run *v; /* ascending */
	size_t n, room;
	bool lost; /* no more is noted */
};

struct md_kin {
	struct md_kin_proc *procs; /* by pid: those that are md_range.kin of somebody */
	size_t nprocs;
};

void md_kin_init(struct md_kin *k, const struct md_range *ranges, size_t n);
void md_kin_deinit(struct md_kin *k);
/* Pages of @pid that are stored as those of @owner. Nothing when nobody will ask. */
void md_kin_note(struct md_kin *k, uint32_t pid, uint64_t addr, uint64_t len, uint32_t owner);
/* How many of @len bytes from @addr on are noted for @pid, as pages of *ret_owner. */
uint64_t md_kin_find(const struct md_kin *k, uint32_t pid, uint64_t addr, uint64_t len,
		     uint32_t *ret_owner);

#endif
