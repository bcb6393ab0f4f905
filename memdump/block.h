/* SPDX-License-Identifier: MIT */
/*
 * The pool of blocks, and the queues they travel in.
 *
 * All blocks and their buffers are one mapping, so that a writer can register it with the kernel
 * once. There is one buffer per block and one spare per worker: packing goes from the block's
 * buffer into the spare, and the two change places. A buffer:
 *
 *	0          MD_BLOCK_HEADROOM                         buf_size
 *	│ headroom │ raw or packed bytes, page aligned │ slack │
 *
 * Headroom is the writer's: the head of a record goes right before the payload, so that one write
 * takes both. The slack holds what a codec needs beyond the raw size, and padding behind a payload.
 */
#ifndef MEMDUMP_BLOCK_H
#define MEMDUMP_BLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memdump/memdump.h"

/* Blocks on their way from one stage to the next; whoever has it locks it. */
struct md_queue {
	struct md_block *head, *tail;
	unsigned n;
};

void md_queue_push(struct md_queue *q, struct md_block *b);
/* NULL when empty. */
struct md_block *md_queue_pop(struct md_queue *q);

struct md_pool {
	/* immutable while threads run */
	uint8_t *mem; /* the one mapping */
	size_t mem_len;
	size_t buf_size; /* bytes from one buffer to the next */
	uint32_t block_size;
	unsigned nblocks;
	struct md_block *blocks;
	struct md_extent *extents;
	/* the lock of the pool, and of the pipe that runs on it */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* protected by lock */
	struct md_block *free; /* last in, first out: the last one is still in the cache */
	unsigned nfree;
	unsigned sleepers; /* threads that wait on wake */
	unsigned wake_at;  /* so many free blocks are worth waking one */
};

/* Room for packing @len raw bytes, as every codec wants it in the worst case. */
static inline size_t md_pool_payload_cap(size_t len)
{
	/* The bounds of lz4 and zstd are both below. */
	return len + len / 128 + 1024;
}

/* Bytes one buffer takes. */
size_t md_pool_buf_size(uint32_t block_size);
/* @nspares buffers beyond one per block: md_pool_spare() hands them out. -ENOMEM. */
int md_pool_init(struct md_pool *p, unsigned nblocks, unsigned nspares, uint32_t block_size,
		 struct err *err);
/* All blocks must be back. */
void md_pool_deinit(struct md_pool *p);
/* Payload area of spare buffer @i. */
uint8_t *md_pool_spare(struct md_pool *p, unsigned i);
/* A free block, emptied; NULL when there is none. Call with the lock held. */
struct md_block *md_pool_get(struct md_pool *p);

uint64_t md_now_ns(void);

#endif
