/* SPDX-License-Identifier: MIT */
/*
 * Memory that is let go all at once: one reserved mapping that grows on touch.
 *
 *	│ struct arena │ len │ bytes ... │ len │ bytes ... │ untouched, not yet there │
 *	 start                                              used                 size
 *
 * Everything, the bookkeeping too, is inside the mapping, so that a child process that shares it
 * can go on allocating where its parent stopped. Threads and processes: one at a time.
 */
#ifndef IMAGE_ARENA_H
#define IMAGE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;

/* At most @max bytes; smaller when the address space is short. NULL when even 16 MiB are not there.
 */
struct arena *arena_new(size_t max, bool shared);
void arena_free(struct arena *a);
/* Lets everything in a private arena go and starts again. */
void arena_reset(struct arena *a);

/* Zeroed, aligned to 16. NULL when the arena is full. */
void *arena_alloc(struct arena *a, size_t len);
/* Page faults for the next @len bytes now (Linux 5.14; a hint), and not when they are wanted. */
void arena_populate(struct arena *a, size_t len);
/*
 * As realloc() for the part that grows: @old (from this arena, or NULL) with at least @len bytes,
 * in place when it is the newest; what is new is zeroed. NULL when full, @old is then untouched.
 */
void *arena_grow(struct arena *a, void *old, size_t len);
/* Bytes that @p, from this arena, has room for; 0 for a pointer from elsewhere. */
size_t arena_room(const struct arena *a, const void *p);

#endif
