/* SPDX-License-Identifier: MIT */
/* The pool of blocks, and the queues they travel in. */
#include "memdump/block.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

uint64_t md_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

void md_queue_init(struct md_queue *q)
{
	*q = (struct md_queue){0};
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->filled, NULL);
}

void md_queue_deinit(struct md_queue *q)
{
	pthread_cond_destroy(&q->filled);
	pthread_mutex_destroy(&q->lock);
}

static void push(struct md_queue *q, struct md_block *b, bool front)
{
	bool wake;

	pthread_mutex_lock(&q->lock);
	assert(!q->closed);
	b->next = front ? q->head : NULL;
	if (front || !q->head)
		q->head = b;
	else
		q->tail->next = b;
	if (!front || !q->tail)
		q->tail = b;
	q->count++;
	wake = q->sleepers > 0;
	pthread_mutex_unlock(&q->lock);
	if (wake)
		pthread_cond_signal(&q->filled);
}

void md_queue_push(struct md_queue *q, struct md_block *b)
{
	push(q, b, false);
}

struct md_block *md_queue_pop(struct md_queue *q, uint64_t *wait_ns)
{
	struct md_block *b;

	pthread_mutex_lock(&q->lock);
	if (!q->head && !q->closed) {
		uint64_t t0 = md_now_ns();

		q->sleepers++;
		while (!q->head && !q->closed)
			pthread_cond_wait(&q->filled, &q->lock);
		q->sleepers--;
		*wait_ns += md_now_ns() - t0;
	}
	b = q->head;
	if (b) {
		q->head = b->next;
		if (!q->head)
			q->tail = NULL;
		q->count--;
		b->next = NULL;
	}
	pthread_mutex_unlock(&q->lock);
	return b;
}

void md_queue_close(struct md_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->filled);
	pthread_mutex_unlock(&q->lock);
}

size_t md_pool_buf_size(uint32_t block_size)
{
	/* The last page is for padding. */
	size_t len = MD_BLOCK_HEADROOM + md_pool_payload_cap(block_size) + 4096;

	return (len + 4095) & ~(size_t)4095;
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
	md_queue_init(&p->free);
	for (unsigned i = 0; i < nblocks; i++) {
		struct md_block *b = &p->blocks[i];

		b->pool = p;
		b->extents = p->extents + (size_t)i * MD_BLOCK_EXTENTS;
		b->raw = p->mem + i * p->buf_size + MD_BLOCK_HEADROOM;
		push(&p->free, b, true);
	}
	return 0;
}

void md_pool_deinit(struct md_pool *p)
{
	assert(p->free.count == p->nblocks);
	md_queue_deinit(&p->free);
	free(p->blocks);
	free(p->extents);
	munmap(p->mem, p->mem_len);
}

uint8_t *md_pool_spare(struct md_pool *p, unsigned i)
{
	return p->mem + (p->nblocks + i) * p->buf_size + MD_BLOCK_HEADROOM;
}

struct md_block *md_pool_get(struct md_pool *p, uint64_t *wait_ns)
{
	struct md_block *b = md_queue_pop(&p->free, wait_ns);

	b->space = 0;
	b->space_off = 0;
	b->raw_len = 0;
	b->nextents = 0;
	b->codec = MD_CODEC_NONE;
	b->packed_len = 0;
	b->data = NULL;
	b->sum = 0;
	return b;
}

void md_block_done(struct md_block *b)
{
	push(&b->pool->free, b, true);
}
