/* SPDX-License-Identifier: MIT */
/* md_run(): the threads, the hand-over, and the first error that wins. */
#include "memdump/memdump.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "memdump/block.h"
#include "memdump/cpus.h"
#include "memdump/pack.h"

struct worker {
	struct pipe *pipe;
	pthread_t thread;
	struct md_packer packer;
	uint64_t busy_ns, wait_ns;
};

struct pipe {
	/* immutable while threads run */
	struct md_reader *reader;
	struct md_writer *writer;
	const struct md_opts *opts;
	struct plan {
		uint32_t block_size;
		unsigned nworkers;
		unsigned nblocks;
	} plan;
	struct worker *workers;
	unsigned nstarted; /* of them, threads that came to life */
	pthread_t writer_thread;
	/* each with its own lock */
	struct md_pool pool;
	struct md_queue to_pack, to_write;
	/* set once, read by every thread without the lock */
	bool failed;
	/* protected by err_lock */
	pthread_mutex_t err_lock;
	struct err err;
	/* calling thread only */
	uint64_t raw_bytes, read_busy_ns, read_wait_ns;
	/* writer thread only, read after the join */
	uint64_t packed_bytes, write_busy_ns, write_wait_ns;
	uint64_t blocks[4], extents;
};

static bool pipe_failed(struct pipe *p)
{
	return __atomic_load_n(&p->failed, __ATOMIC_RELAXED);
}

/* The first one wins. */
static void pipe_fail(struct pipe *p, int ret, const struct err *err)
{
	pthread_mutex_lock(&p->err_lock);
	if (!p->failed) {
		p->err = *err;
		err_set(&p->err, -ret, "move memory");
		__atomic_store_n(&p->failed, true, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&p->err_lock);
}

static void progress(uint64_t *counter, uint64_t add)
{
	/* One writer per counter. */
	__atomic_store_n(counter, *counter + add, __ATOMIC_RELAXED);
}

/* --- what each thread does ----------------------------------------------------------------- */

static void read_all(struct pipe *p)
{
	struct md_progress *pr = p->opts->progress;
	uint64_t t0 = md_now_ns();

	while (!pipe_failed(p)) {
		struct err err = {0};
		struct md_block *b;
		int ret;

		if (p->opts->stop && p->opts->stop(p->opts->stop_arg)) {
			ret = err_fail(&err, EINTR, ERR_INTERRUPTED, "stopped on request");
			pipe_fail(p, ret, &err);
			break;
		}
		b = md_pool_get(&p->pool, &p->read_wait_ns);
		ret = p->reader->next(p->reader, b, p->plan.block_size, &err);
		if (ret <= 0) {
			md_block_done(b);
			if (ret < 0)
				pipe_fail(p, ret, &err);
			break;
		}
		assert(b->raw_len && b->raw_len <= p->plan.block_size);
		assert(b->nextents && b->nextents <= MD_BLOCK_EXTENTS);
		p->raw_bytes += b->raw_len;
		if (pr)
			progress(&pr->raw_bytes, b->raw_len);
		md_queue_push(&p->to_pack, b);
	}
	p->read_busy_ns = md_now_ns() - t0 - p->read_wait_ns;
	md_queue_close(&p->to_pack);
}

static void *pack_all(void *arg)
{
	struct worker *w = arg;
	struct pipe *p = w->pipe;
	uint64_t t0 = md_now_ns();
	struct md_block *b;

	while ((b = md_queue_pop(&p->to_pack, &w->wait_ns))) {
		if (pipe_failed(p)) {
			md_block_done(b);
			continue;
		}
		md_packer_pack(&w->packer, b);
		md_queue_push(&p->to_write, b);
	}
	w->busy_ns = md_now_ns() - t0 - w->wait_ns;
	return NULL;
}

static void write_one(struct pipe *p, struct md_block *b)
{
	struct md_progress *pr = p->opts->progress;
	uint32_t packed_len = b->packed_len;
	uint32_t nextents = b->nextents;
	enum md_codec_id codec = b->codec;
	struct err err = {0};
	int ret = p->writer->put(p->writer, b, &err);

	if (ret < 0) {
		pipe_fail(p, ret, &err);
		return;
	}
	p->packed_bytes += packed_len;
	p->extents += nextents;
	p->blocks[codec]++;
	if (pr)
		progress(&pr->packed_bytes, packed_len);
}

static void *write_all(void *arg)
{
	struct pipe *p = arg;
	uint64_t t0 = md_now_ns();
	struct err err = {0};
	struct md_block *b;

	while ((b = md_queue_pop(&p->to_write, &p->write_wait_ns))) {
		if (pipe_failed(p))
			md_block_done(b);
		else
			write_one(p, b);
	}
	if (!pipe_failed(p)) {
		int ret = p->writer->flush(p->writer, &err);

		if (ret < 0)
			pipe_fail(p, ret, &err);
	} else if (p->writer->abandon) {
		p->writer->abandon(p->writer);
	}
	p->write_busy_ns = md_now_ns() - t0 - p->write_wait_ns;
	return NULL;
}

/* --- sizes --------------------------------------------------------------------------------- */

/* Bytes a pool of this shape takes, contexts of the codec included. */
static size_t plan_bytes(const struct plan *pl, const struct md_opts *o)
{
	const struct md_codec *c = md_codec_find(o->codec);
	size_t per_worker = c ? c->pack_memory(o->level, pl->block_size) : 0;
	size_t bufs = (size_t)pl->nblocks + pl->nworkers;

	return bufs * md_pool_buf_size(pl->block_size) + pl->nworkers * per_worker;
}

static unsigned min_blocks(unsigned holds, unsigned nworkers)
{
	return holds + 2 * nworkers + 2;
}

/*
 * The smallest pool that cannot stand still has to fit: fewer workers, and when nobody asked for
 * a block size, smaller blocks. What is left over becomes more blocks.
 */
static int make_plan(struct plan *pl, const struct md_opts *o, unsigned holds, struct err *err)
{
	size_t budget = o->pool_bytes ? o->pool_bytes : MD_DEFAULT_POOL_BYTES;

	pl->block_size = o->block_size ? o->block_size : MD_DEFAULT_BLOCK_SIZE;
	pl->nworkers = o->threads ? o->threads : md_cpus_allowed();
	if (pl->block_size < MD_BLOCK_MIN || pl->block_size > MD_BLOCK_MAX ||
	    (pl->block_size & (pl->block_size - 1)))
		return err_fail(err, EINVAL, ERR_USAGE,
				"block size %u is not a power of two from %u to %u", pl->block_size,
				MD_BLOCK_MIN, MD_BLOCK_MAX);
	for (;;) {
		pl->nblocks = min_blocks(holds, pl->nworkers);
		if (plan_bytes(pl, o) <= budget)
			break;
		if (pl->nworkers > 1)
			pl->nworkers--;
		else if (!o->block_size && pl->block_size > MD_BLOCK_MIN)
			pl->block_size /= 2;
		else
			return err_fail(err, EINVAL, ERR_USAGE,
					"%zu bytes of pool are too few for blocks of %u: %zu are "
					"needed",
					budget, pl->block_size, plan_bytes(pl, o));
	}
	pl->nblocks += (unsigned)((budget - plan_bytes(pl, o)) / md_pool_buf_size(pl->block_size));
	return 0;
}

/* --- life of a run ------------------------------------------------------------------------- */

static int start_threads(struct pipe *p, struct err *err)
{
	sigset_t all, old;
	int ret;

	/* Signals are the caller's business: they go to threads it knows. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	ret = pthread_create(&p->writer_thread, NULL, write_all, p);
	while (!ret && p->nstarted < p->plan.nworkers) {
		struct worker *w = &p->workers[p->nstarted];

		if (pthread_create(&w->thread, NULL, pack_all, w))
			break;
		p->nstarted++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret ? err_set(err, ret, "start the writer thread") : 0;
}

static void run(struct pipe *p)
{
	struct err e = {0};
	int ret = start_threads(p, &e);

	if (ret < 0) {
		pipe_fail(p, ret, &e);
		return;
	}
	if (p->nstarted)
		read_all(p);
	else
		pipe_fail(p, err_set(&e, EAGAIN, "start a worker thread"), &e);
	for (unsigned i = 0; i < p->nstarted; i++)
		pthread_join(p->workers[i].thread, NULL);
	md_queue_close(&p->to_write);
	pthread_join(p->writer_thread, NULL);
}

static int init_workers(struct pipe *p, struct err *err)
{
	p->workers = calloc(p->plan.nworkers, sizeof(*p->workers));
	if (!p->workers)
		return err_set(err, ENOMEM, "reserve %u workers", p->plan.nworkers);
	for (unsigned i = 0; i < p->plan.nworkers; i++) {
		struct worker *w = &p->workers[i];
		int ret;

		w->pipe = p;
		ret = md_packer_init(&w->packer, p->opts->codec, p->opts->level, p->plan.block_size,
				     md_pool_spare(&p->pool, i), err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static void fill_stats(const struct pipe *p, uint64_t wall_ns, struct md_stats *st)
{
	double use[3] = {0};
	static const char *const name[3] = {"read", "pack", "write"};
	unsigned worst = 0;

	*st = (struct md_stats){
		.raw_bytes = p->raw_bytes,
		.packed_bytes = p->packed_bytes,
		.file_bytes = p->writer->file_bytes,
		.extents = p->extents,
		.vanished_bytes = p->reader->vanished_bytes,
		.wall_ns = wall_ns,
		.read = {p->read_busy_ns, p->read_wait_ns, 1},
		.pack = {0, 0, p->nstarted},
		.write = {p->write_busy_ns, p->write_wait_ns, 1},
		.io_uring = p->writer->io_uring,
		.block_size = p->plan.block_size,
		.pool_bytes = p->pool.mem_len,
	};
	memcpy(st->blocks, p->blocks, sizeof(st->blocks));
	memcpy(st->io_uring_reason, p->writer->io_uring_reason, sizeof(st->io_uring_reason));
	for (unsigned i = 0; i < p->plan.nworkers; i++) {
		st->pack.busy_ns += p->workers[i].busy_ns;
		st->pack.wait_ns += p->workers[i].wait_ns;
	}
	const struct md_stage_stats *stage[3] = {&st->read, &st->pack, &st->write};

	for (unsigned i = 0; i < 3; i++) {
		use[i] = (double)stage[i]->busy_ns /
			 (double)(stage[i]->busy_ns + stage[i]->wait_ns + 1);
		if (use[i] > use[worst])
			worst = i;
	}
	st->bottleneck = name[worst];
}

int md_run(struct md_reader *r, struct md_writer *w, const struct md_opts *opts,
	   struct md_stats *stats, struct err *err)
{
	struct pipe p = {.reader = r, .writer = w, .opts = opts};
	uint64_t t0 = md_now_ns();
	int ret;

	ret = make_plan(&p.plan, opts, w->holds, err);
	if (ret < 0)
		return ret;
	ret = md_pool_init(&p.pool, p.plan.nblocks, p.plan.nworkers, p.plan.block_size, err);
	if (ret < 0)
		return ret;
	md_queue_init(&p.to_pack);
	md_queue_init(&p.to_write);
	pthread_mutex_init(&p.err_lock, NULL);
	ret = init_workers(&p, err);
	if (ret == 0 && w->start)
		ret = w->start(w, p.pool.mem, p.pool.mem_len, p.pool.buf_size, err);
	if (ret == 0) {
		run(&p);
		ret = err_take(err, &p.err);
	}
	if (stats)
		fill_stats(&p, md_now_ns() - t0, stats);
	for (unsigned i = 0; p.workers && i < p.plan.nworkers; i++)
		md_packer_deinit(&p.workers[i].packer);
	free(p.workers);
	pthread_mutex_destroy(&p.err_lock);
	md_queue_deinit(&p.to_write);
	md_queue_deinit(&p.to_pack);
	md_pool_deinit(&p.pool);
	return ret;
}
