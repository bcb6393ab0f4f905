/* SPDX-License-Identifier: MIT */
/*
 * Tags of memory (arch_desc.tags), read and written by the thread that traces a process, whose
 * thread @tid is stopped. The kernel shows them for mappings with M_VMF_TAGS alone.
 *
 * A byte for each tag outside, two tags in a byte in the model:
 *
 *	memory   │ 0x1000..0x1010 │ 0x1010..0x1020 │ 0x1020..0x1030 │ 0x1030..0x1040 │
 *	bytes      3                a                0                f
 *	model      0xa3                              0xf0
 */
#ifndef TARGET_TAGS_H
#define TARGET_TAGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "src/image/model.h"

enum {
	TAGS_GRANULE = M_TAGS_BYTE / 2,
	TAGS_PIECE = 64 << 10, /* bytes of memory that are looked at in one call */
	TAGS_ROOM = TAGS_PIECE / TAGS_GRANULE,
};

/* Whether thread @tid has the CPU look at them. */
bool tags_checked(pid_t tid);

/* The tags of @len bytes at @addr, at most TAGS_PIECE, as bytes. 0 or -errno. */
int tags_peek(pid_t tid, uint64_t addr, uint64_t len, uint8_t ret[TAGS_ROOM]);
int tags_poke(pid_t tid, uint64_t addr, uint64_t len, const uint8_t tags[TAGS_ROOM]);

void tags_pack(const uint8_t *tags, uint64_t len, uint8_t *ret);
void tags_unpack(const uint8_t *packed, uint64_t len, uint8_t *ret);

/* Where a mapping has pages. */
struct tags_pages {
	const struct m_vma *v;
	int pagemap; /* -1: not open */
	int file;    /* what is mapped shared: its pages are there without being mapped; -1 */
};

int tags_pages_open(struct tags_pages *p, pid_t tid, const struct m_vma *v);
void tags_pages_close(struct tags_pages *p);
/* The first stretch of pages at or above @addr: 1, 0 when there is none, -errno. */
int tags_pages_next(const struct tags_pages *p, uint64_t addr, uint64_t *ret_start,
		    uint64_t *ret_end);

/*
 * Fills m_mm.tags of @p, whose mappings are known. The kernel looks up each page that is there.
 */
int tags_collect(struct model *m, struct m_proc *p, pid_t tid, struct err *err);

#endif
