/* SPDX-License-Identifier: MIT */
/* The pool of blocks, and the queues they travel in. */
#include "memdump/block.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "memdump/format.h"

uint64_t md_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

void md_queue_push(struct md_queue *q, struct md_block *b)
{
	b->next = NULL;
	if (q->head)
		q->tail->next = b;
	else
		q->head = b;
	q->tail = b;
	q->n++;
}

struct md_block *md_queue_pop(struct md_queue *q)
{
	struct md_block *b = q->head;

	if (b) {
		q->head = b->next;
		q->n--;
	}
	return b;
}

size_t md_pool_buf_size(uint32_t block_size)
{
	/* The last piece is for padding. */
	size_t len = MD_BLOCK_HEADROOM + md_pool_payload_cap(block_size) + MD_ALIGN_DIRECT;

	return (len + MD_ALIGN_DIRECT - 1) & ~(size_t)(MD_ALIGN_DIRECT - 1);
}

int md_pool_init(struct md_pool *p, unsigned nblocks, unsigned nspares, uint32_t block_size,
		 struct err *err)
{
	size_t nbufs = (size_t)nblocks + nspares;

	*p = (struct md_pool){.nblocks = nblocks, .block_size = block_size};
	p->buf_size = md_pool_buf_size(block_size);
	p->mem_len = nbufs * p->buf_size;
	p->mem = mmap(NULL, p->mem_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->mem == MAP_FAILED)
		return err_set(err, errno, "reserve %zu bytes for blocks", p->mem_len);
	/* Advice only: fewer TLB misses, and fewer pages to pin when the pool is registered. */
	(void)madvise(p->mem, p->mem_len, MADV_HUGEPAGE);
	p->blocks = calloc(nblocks, sizeof(*p->blocks));
	p->extents = calloc((size_t)nblocks * MD_BLOCK_EXTENTS, sizeof(*p->extents));
	if (!p->blocks || !p->extents) {
		free(p->blocks);
		free(p->extents);
		munmap(p->mem, p->mem_len);
		return err_set(err, ENOMEM, "reserve %u block descriptors", nblocks);
	}
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->wake_at = 1;
	for (unsigned i = 0; i < nblocks; i++) {
		struct md_block *b = &p->blocks[i];

		b->pool = p;
		b->extents = p->extents + (size_t)i * MD_BLOCK_EXTENTS;
		b->raw = p->mem + i * p->buf_size + MD_BLOCK_HEADROOM;
		md_block_done(b);
	}
	return 0;
}

void md_pool_deinit(struct md_pool *p)
{
	assert(p->nfree == p->nblocks);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p->blocks);
	free(p->extents);
	munmap(p->mem, p->mem_len);
}

uint8_t *md_pool_spare(struct md_pool *p, unsigned i)
{
	return p->mem + (p->nblocks + i) * p->buf_size + MD_BLOCK_HEADROOM;
}

struct md_block *md_pool_get(struct md_pool *p)
{
	struct md_block *b = p->free;

	if (!b)
		return NULL;
	p->free = b->next;
	p->nfree--;
	b->next = NULL;
	b->space = 0;
	b->space_off = 0;
	b->raw_len = 0;
	b->nextents = 0;
	b->round = 0;
	b->codec = MD_CODEC_NONE;
	b->same_as = 0;
	b->packed_len = 0;
	b->data = NULL;
	b->sum = 0;
	return b;
}

void md_block_done(struct md_block *b)
{
	struct md_pool *p = b->pool;
	bool wake;

	pthread_mutex_lock(&p->lock);
	b->next = p->free;
	p->free = b;
	p->nfree++;
	wake = p->sleepers && p->nfree >= p->wake_at;
	pthread_mutex_unlock(&p->lock);
	if (wake)
		pthread_cond_signal(&p->wake);
}
