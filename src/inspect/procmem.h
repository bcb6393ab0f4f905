/* SPDX-License-Identifier: MIT */
/*
 * One process's memory as it stood at the dump, whatever part of it the image had to store.
 *
 *	stored page            the image: the process's own space, or its shared segment
 *	page of a file map     the file on disk, if it is still the same (object.h)
 *	anonymous page         zeros: what is not stored was never touched
 *	the rest               not readable: devices, guard pages, files that changed
 *
 * Threads: one at a time.
 */
#ifndef INSPECT_PROCMEM_H
#define INSPECT_PROCMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "src/image/image.h"
#include "src/inspect/object.h"

struct procmem;

/* All arguments must outlive the result; @mem and @objects may serve many. NULL: out of memory. */
struct procmem *procmem_new(struct image_mem *mem, struct objects *objects, const struct model *m,
			    const struct m_proc *proc);
void procmem_free(struct procmem *pm);

/* The address space: that of an earlier process when they share one. */
const struct m_mm *procmem_mm(const struct procmem *pm);
const struct m_vma *procmem_vma(struct procmem *pm, uint64_t addr);

/*
 * Copies bytes from @addr on; the number copied, which may be less than @len at any page boundary,
 * 0 when the byte at @addr is not readable, -errno when the image is damaged.
 */
ssize_t procmem_read(struct procmem *pm, uint64_t addr, void *buf, size_t len, struct err *err);
/* All of @len bytes through a small cache, for many small reads. 0, -EFAULT not readable, -errno.
 */
int procmem_fetch(struct procmem *pm, uint64_t addr, void *buf, size_t len, struct err *err);

/* Where the stored bytes of @v are: private pages, and shared ones behind or below them. */
struct procmem_home {
	bool has_private;
	uint64_t private_space; /* by address */
	bool has_shared;
	uint64_t shared_space; /* by offset in the segment */
};
struct procmem_home procmem_home(const struct procmem *pm, const struct m_vma *v);
/* Whether a page of @v that is stored nowhere reads as zeros. */
bool procmem_zero_filled(const struct m_vma *v);

#endif
