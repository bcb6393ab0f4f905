/* SPDX-License-Identifier: MIT */
/* Memory that is let go all at once: one reserved mapping with a bump pointer. */
#include "src/image/arena.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { ALIGN = 16, SMALLEST = 16 << 20 };

struct arena {
	size_t size;
	size_t used;
};

/* Before every piece; keeps the piece aligned. */
struct piece {
	uint64_t room;
	uint64_t reserved;
};

static size_t round_up(size_t len)
{
	return (len + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

struct arena *arena_new(size_t max, bool shared)
{
	int flags = MAP_ANONYMOUS | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE);

	/* RLIMIT_AS and vm.overcommit_memory 2 count what is reserved: take what is to be had. */
	for (size_t size = max; size >= SMALLEST; size /= 2) {
		struct arena *a = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);

		if (a == MAP_FAILED)
			continue;
		/* An image tool must not put a copy of this into its own core dump. */
		madvise(a, size, MADV_DONTDUMP);
		a->size = size;
		a->used = round_up(sizeof(*a));
		return a;
	}
	return NULL;
}

void arena_free(struct arena *a)
{
	if (a)
		munmap(a, a->size);
}

void arena_reset(struct arena *a)
{
	const size_t cheap = 256 << 10, first = round_up(sizeof(*a));
	size_t used = a->used;

	/* Whoever comes next expects zeroes: written where it is little, else taken back. */
	if (used > cheap)
		madvise((char *)a + cheap, used - cheap, MADV_DONTNEED);
	memset((char *)a + first, 0, (used < cheap ? used : cheap) - first);
	a->used = first;
}

void *arena_alloc(struct arena *a, size_t len)
{
	struct piece *piece;
	size_t room;

	if (len > a->size)
		return NULL;
	room = len ? round_up(len) : ALIGN;
	if (room + sizeof(*piece) > a->size - a->used)
		return NULL;
	piece = (struct piece *)((char *)a + a->used);
	piece->room = room;
	a->used += sizeof(*piece) + room;
	return piece + 1;
}

void arena_populate(struct arena *a, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), from = (a->used + page - 1) & ~(page - 1);

	len = (len + page - 1) & ~(page - 1);
	if (from < a->size)
		madvise((char *)a + from, len < a->size - from ? len : a->size - from,
			MADV_POPULATE_WRITE);
}

size_t arena_room(const struct arena *a, const void *p)
{
	size_t off = (size_t)((const char *)p - (const char *)a);

	if ((const char *)p < (const char *)a || off < sizeof(*a) + sizeof(struct piece) ||
	    off >= a->used)
		return 0;
	return ((const struct piece *)p)[-1].room;
}

void *arena_grow(struct arena *a, void *old, size_t len)
{
	size_t room = old ? arena_room(a, old) : 0;
	void *p;

	if (old && len <= room)
		return old;
	if (room && (char *)old + room == (char *)a + a->used) {
		size_t more = len > a->size ? a->size : round_up(len) - room;

		if (more > a->size - a->used)
			return NULL;
		((struct piece *)old)[-1].room += more;
		a->used += more;
		return old;
	}
	p = arena_alloc(a, len);
	if (p && room)
		memcpy(p, old, room);
	return p;
}
