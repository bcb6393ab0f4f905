/* SPDX-License-Identifier: MIT */
/*
 * VMAs in CRIU's terms: the numbers on disk, and the model's kinds and flags to and from them.
 */
#ifndef IMAGE_VMA_H
#define IMAGE_VMA_H

#include "src/image/meta.h"

/* vma_entry.status */
enum {
	VMA_REGULAR = 1 << 0,
	VMA_VSYSCALL = 1 << 2,
	VMA_VDSO = 1 << 3,
	VMA_HEAP = 1 << 5,
	VMA_FILE_PRIVATE = 1 << 6,
	VMA_FILE_SHARED = 1 << 7,
	VMA_ANON_SHARED = 1 << 8,
	VMA_ANON_PRIVATE = 1 << 9,
	VMA_SYSVIPC = 1 << 10,
	VMA_VVAR = 1 << 12,
	VMA_AIORING = 1 << 13,
	VMA_MEMFD = 1 << 14,
	VMA_SHSTK = 1 << 15,
	VMA_GUARD = 1 << 16,
	VMA_UPROBES = 1 << 17,
};

/* mmap flags as x86-64 has them; CRIU stores these on every CPU it and we share. */
enum {
	VMA_MAP_SHARED = 0x1,
	VMA_MAP_PRIVATE = 0x2,
	VMA_MAP_DROPPABLE = 0x8, /* Linux 6.11 */
	VMA_MAP_ANONYMOUS = 0x20,
	VMA_MAP_GROWSDOWN = 0x100,
	VMA_MAP_LOCKED = 0x2000,
	VMA_MAP_NORESERVE = 0x4000,
	VMA_MAP_HUGETLB = 0x40000,
	VMA_MAP_HUGE_SHIFT = 26,
};

/* Fills everything but start, end and the pointer to @more. */
void vma_put(const struct model *m, const struct m_vma *v, Im__Vma *to, Im__VmaMore *more);
/* -EBADMSG with @name. */
int vma_get(struct meta_in *in, const char *name, const Im__Vma *from, struct m_vma *to);

#endif
