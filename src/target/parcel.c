/* SPDX-License-Identifier: MIT */
/* Pieces of memory that go over in one call. */
#include "src/target/parcel.h"

static void add_here(struct parcel *p, void *at, size_t len)
{
	p->here[p->nhere++] = (struct iovec){at, len};
	p->len += len;
}

void parcel_add(struct parcel *p, void *at, uint64_t addr, size_t len)
{
	uint64_t gap = addr - p->end;

	if (!len)
		return;
	if (p->nthere && gap <= PARCEL_GAP) {
		if (gap)
			add_here(p, p->gaps, gap);
		p->there[p->nthere - 1].iov_len += gap + len;
	} else {
		p->there[p->nthere++] = (struct iovec){(void *)(uintptr_t)addr, len};
	}
	add_here(p, at, len);
	p->end = addr + len;
}
