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

/*
 * Every thread does whatever there is to do; nobody waits while there is work. That costs fewer
 * switches than a thread per stage, and leaves no CPU idle when the stages are unequal. Reading and
 * writing are roles that one thread at a time takes, so that a plug needs no lock:
 *
 *	write   when packed blocks wait and nobody writes: it frees blocks
 *	read    when nobody reads and few blocks wait to be packed
 *	pack    else
 */
struct worker {
	struct pipe *pipe;
	pthread_t thread;
	struct md_packer packer;
};

enum step { STEP_WAIT, STEP_READ, STEP_PACK, STEP_WRITE, STEP_FINISH, STEP_LEAVE };

struct stage {
	uint64_t busy_ns;
	unsigned active; /* threads in it */
};

struct pipe {
	/* immutable while threads run */
	struct md_reader *reader;
	struct md_writer *writer;
	const struct md_opts *opts;
	struct plan {
		uint32_t block_size;
		unsigned nworkers; /* threads, the calling one among them */
		unsigned nblocks;
	} plan;
	struct worker *workers;
	unsigned nthreads; /* that came to life */
	struct md_pool pool;
	/* protected by pool.lock */
	struct md_queue to_pack, to_write;
	struct stage read, pack, write;
	bool ended;  /* the reader has no more, or an error made it stop */
	bool failed; /* err holds the first error */
	bool finished;
	struct err err;
	/* of the thread in the read stage */
	uint64_t raw_bytes, same_bytes;
	/* of the thread in the write stage */
	uint64_t packed_bytes, blocks[MD_NCODECS], extents;
};

/* The first one wins. */
static void pipe_fail(struct pipe *p, int ret, const struct err *err)
{
	pthread_mutex_lock(&p->pool.lock);
	if (!p->failed) {
		p->err = *err;
		err_set(&p->err, -ret, "move memory");
		p->failed = true;
	}
	p->ended = true;
	pthread_mutex_unlock(&p->pool.lock);
}

static void progress(uint64_t *counter, uint64_t add)
{
	/* One thread at a time adds. */
	__atomic_store_n(counter, *counter + add, __ATOMIC_RELAXED);
}

/* --- the steps ------------------------------------------------------------------------------ */

static int read_block(struct pipe *p, struct md_block *b, struct err *err)
{
	if (p->opts->stop && p->opts->stop(p->opts->stop_arg))
		return err_fail(err, EINTR, ERR_INTERRUPTED, "stopped on request");
	return p->reader->next(p->reader, b, p->plan.block_size, err);
}

static void step_read(struct pipe *p, struct md_block *b)
{
	struct md_progress *pr = p->opts->progress;
	struct err err = {0};
	int ret = read_block(p, b, &err);

	if (ret < 0)
		pipe_fail(p, ret, &err);
	if (ret <= 0) {
		md_block_done(b);
		pthread_mutex_lock(&p->pool.lock);
		p->ended = true;
		return;
	}
	assert(b->raw_len && b->nextents && b->nextents <= MD_BLOCK_EXTENTS);
	b->round = p->opts->round;
	if (b->codec == MD_CODEC_SAME) {
		p->same_bytes += b->raw_len;
	} else {
		assert(b->raw_len <= p->plan.block_size);
		p->raw_bytes += b->raw_len;
	}
	if (pr && b->codec != MD_CODEC_SAME)
		progress(&pr->raw_bytes, b->raw_len);
	pthread_mutex_lock(&p->pool.lock);
	md_queue_push(&p->to_pack, b);
}

static void step_pack(struct pipe *p, struct worker *w, struct md_block *b)
{
	md_packer_pack(&w->packer, b);
	pthread_mutex_lock(&p->pool.lock);
	md_queue_push(&p->to_write, b);
}

static void step_write(struct pipe *p, struct md_block *b)
{
	struct md_progress *pr = p->opts->progress;
	uint32_t packed_len = b->packed_len;
	uint32_t nextents = b->nextents;
	enum md_codec_id codec = b->codec;
	struct err err = {0};
	int ret = p->writer->put(p->writer, b, &err);

	if (ret < 0) {
		pipe_fail(p, ret, &err);
	} else {
		p->packed_bytes += packed_len;
		p->extents += nextents;
		p->blocks[codec]++;
		if (pr)
			progress(&pr->packed_bytes, packed_len);
	}
	pthread_mutex_lock(&p->pool.lock);
}

/*
 * All blocks are with the writer. No thread leaves before this is done: writes that a thread
 * handed to the kernel are cancelled when it exits.
 */
static void step_finish(struct pipe *p, bool failed)
{
	struct err err = {0};
	int ret = 0;

	if (!failed)
		ret = p->opts->more ? p->writer->pause(p->writer, &err)
				    : p->writer->flush(p->writer, &err);
	else if (p->writer->abandon)
		p->writer->abandon(p->writer);
	if (ret < 0)
		pipe_fail(p, ret, &err);
	pthread_mutex_lock(&p->pool.lock);
	p->finished = true;
	pthread_cond_broadcast(&p->pool.wake);
}

/* --- who does what -------------------------------------------------------------------------- */

/* After an error nothing is packed or written any more. */
static void drop_queues(struct pipe *p)
{
	struct md_block *b;

	while ((b = md_queue_pop(&p->to_pack)) || (b = md_queue_pop(&p->to_write))) {
		pthread_mutex_unlock(&p->pool.lock);
		md_block_done(b);
		pthread_mutex_lock(&p->pool.lock);
	}
}

static enum step choose(struct pipe *p)
{
	if (p->finished)
		return STEP_LEAVE;
	if (p->to_write.n && !p->write.active)
		return STEP_WRITE;
	if (!p->ended && !p->read.active && p->pool.nfree && p->to_pack.n < p->plan.nworkers)
		return STEP_READ;
	if (p->to_pack.n)
		return STEP_PACK;
	if (p->ended && !p->read.active && !p->pack.active && !p->write.active && !p->to_write.n)
		return STEP_FINISH;
	return STEP_WAIT;
}

static struct stage *stage_of(struct pipe *p, enum step step)
{
	return step == STEP_READ ? &p->read : step == STEP_PACK ? &p->pack : &p->write;
}

/* Takes the lock with it: held on entry and on return, not in between. */
static void do_step(struct pipe *p, struct worker *w, enum step step)
{
	struct stage *stage = stage_of(p, step);
	struct md_block *b = step == STEP_READ	  ? md_pool_get(&p->pool)
			     : step == STEP_PACK  ? md_queue_pop(&p->to_pack)
			     : step == STEP_WRITE ? md_queue_pop(&p->to_write)
						  : NULL;
	bool failed = p->failed;
	uint64_t t0;

	stage->active++;
	pthread_mutex_unlock(&p->pool.lock);
	t0 = md_now_ns();
	if (step == STEP_READ)
		step_read(p, b);
	else if (step == STEP_PACK)
		step_pack(p, w, b);
	else if (step == STEP_WRITE)
		step_write(p, b);
	else
		step_finish(p, failed);
	stage->busy_ns += md_now_ns() - t0;
	stage->active--;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct pipe *p = w->pipe;

	pthread_mutex_lock(&p->pool.lock);
	for (;;) {
		enum step step;

		if (p->failed)
			drop_queues(p);
		step = choose(p);
		if (step == STEP_LEAVE)
			break;
		if (step == STEP_WAIT) {
			p->pool.sleepers++;
			pthread_cond_wait(&p->pool.wake, &p->pool.lock);
			p->pool.sleepers--;
			continue;
		}
		do_step(p, w, step);
		/* More than this thread will do next: somebody may help. */
		if (p->pool.sleepers && (p->to_pack.n > 0 || p->ended))
			pthread_cond_signal(&p->pool.wake);
	}
	pthread_mutex_unlock(&p->pool.lock);
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

/* What blocks of a size that was asked for need, if that is not too much. */
static size_t pool_budget(struct plan pl, const struct md_opts *o, unsigned holds)
{
	size_t need;

	if (o->pool_bytes || !o->block_size)
		return o->pool_bytes ? o->pool_bytes : MD_DEFAULT_POOL_BYTES;
	pl.nblocks = min_blocks(holds, pl.nworkers);
	need = plan_bytes(&pl, o);
	if (need < MD_DEFAULT_POOL_BYTES)
		return MD_DEFAULT_POOL_BYTES;
	return need < MD_MOST_POOL_BYTES ? need : MD_MOST_POOL_BYTES;
}

static int too_small(struct err *err, size_t budget, size_t need, uint32_t block_size)
{
	err_fail(err, EINVAL, ERR_USAGE,
		 "%zu bytes of pool are too few for blocks of %u: %zu are needed", budget,
		 block_size, need);
	err_hint(err, "use smaller blocks, or a lower level of compression");
	return -EINVAL;
}

/*
 * The smallest pool that cannot stand still has to fit: fewer workers, and when nobody asked for
 * a block size, smaller blocks. What is left over becomes more blocks.
 */
static int make_plan(struct plan *pl, const struct md_opts *o, unsigned holds, struct err *err)
{
	size_t budget;

	pl->block_size = o->block_size ? o->block_size : MD_DEFAULT_BLOCK_SIZE;
	pl->nworkers = o->threads ? o->threads : md_cpus_allowed();
	/* Nothing to pack: one reads, one sums, one writes. */
	if (o->codec == MD_CODEC_NONE && pl->nworkers > 3)
		pl->nworkers = 3;
	if (pl->block_size < MD_BLOCK_MIN || pl->block_size > MD_BLOCK_MAX ||
	    (pl->block_size & (pl->block_size - 1)))
		return err_fail(err, EINVAL, ERR_USAGE,
				"block size %u is not a power of two from %u to %u", pl->block_size,
				MD_BLOCK_MIN, MD_BLOCK_MAX);
	budget = pool_budget(*pl, o, holds);
	for (;;) {
		pl->nblocks = min_blocks(holds, pl->nworkers);
		if (plan_bytes(pl, o) <= budget)
			break;
		if (pl->nworkers > 1)
			pl->nworkers--;
		else if (!o->block_size && pl->block_size > MD_BLOCK_MIN)
			pl->block_size /= 2;
		else
			return too_small(err, budget, plan_bytes(pl, o), pl->block_size);
	}
	pl->nblocks += (unsigned)((budget - plan_bytes(pl, o)) / md_pool_buf_size(pl->block_size));
	return 0;
}

/* --- life of a run ------------------------------------------------------------------------- */

/* The calling thread is worker 0: the run works with that one alone, if it must. */
static void run(struct pipe *p)
{
	sigset_t all, old;
	unsigned n = 1;

	/* Signals are the caller's business: they go to threads it knows. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (n < p->plan.nworkers &&
	       !pthread_create(&p->workers[n].thread, NULL, work, &p->workers[n]))
		n++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	work(&p->workers[0]);
	for (unsigned i = 1; i < n; i++)
		pthread_join(p->workers[i].thread, NULL);
	p->nthreads = n;
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

/* Of the time that @threads could have spent in a stage, what they did not. */
static struct md_stage_stats stage_stats(const struct stage *s, uint64_t wall_ns, unsigned threads)
{
	uint64_t all = wall_ns * threads;

	return (struct md_stage_stats){s->busy_ns, all > s->busy_ns ? all - s->busy_ns : 0,
				       threads};
}

/* The stage that leaves the least time unused. */
static const char *bottleneck(const struct md_stats *st)
{
	static const char *const name[3] = {"read", "pack", "write"};
	const struct md_stage_stats *stage[3] = {&st->read, &st->pack, &st->write};
	double most = -1;
	unsigned ret = 0;

	for (unsigned i = 0; i < 3; i++) {
		double all = (double)(stage[i]->busy_ns + stage[i]->wait_ns) + 1;
		double use = (double)stage[i]->busy_ns / all;

		if (use > most) {
			most = use;
			ret = i;
		}
	}
	return name[ret];
}

static void fill_stats(const struct pipe *p, uint64_t wall_ns, struct md_stats *st)
{
	*st = (struct md_stats){
		.raw_bytes = p->raw_bytes,
		.same_bytes = p->same_bytes,
		.packed_bytes = p->packed_bytes,
		.file_bytes = p->writer->file_bytes,
		.extents = p->extents,
		.vanished_bytes = p->reader->vanished_bytes,
		.wall_ns = wall_ns,
		.read = stage_stats(&p->read, wall_ns, 1),
		.pack = stage_stats(&p->pack, wall_ns, p->nthreads),
		.write = stage_stats(&p->write, wall_ns, 1),
		.io_uring = p->writer->io_uring,
		.direct = p->writer->direct,
		.block_size = p->plan.block_size,
		.pool_bytes = p->pool.mem_len,
	};
	memcpy(st->blocks, p->blocks, sizeof(st->blocks));
	memcpy(st->io_uring_reason, p->writer->io_uring_reason, sizeof(st->io_uring_reason));
	memcpy(st->direct_reason, p->writer->direct_reason, sizeof(st->direct_reason));
	st->bottleneck = bottleneck(st);
}

static int check(struct plan *pl, const struct md_writer *w, const struct md_opts *opts,
		 struct err *err)
{
	if (opts->more && !w->pause)
		return err_fail(err, EINVAL, ERR_USAGE, "this output takes its pages in one run");
	return make_plan(pl, opts, w->holds, err);
}

int md_run_check(const struct md_writer *w, const struct md_opts *opts, struct err *err)
{
	struct plan plan;

	return check(&plan, w, opts, err);
}

int md_writer_finish(struct md_writer *w, struct err *err)
{
	return w->flush(w, err);
}

int md_run(struct md_reader *r, struct md_writer *w, const struct md_opts *opts,
	   struct md_stats *stats, struct err *err)
{
	struct pipe p = {.reader = r, .writer = w, .opts = opts};
	uint64_t t0 = md_now_ns();
	int ret;

	ret = check(&p.plan, w, opts, err);
	if (ret < 0)
		return ret;
	ret = md_pool_init(&p.pool, p.plan.nblocks, p.plan.nworkers, p.plan.block_size, err);
	if (ret < 0)
		return ret;
	p.pool.wake_at = 1 + (p.plan.nblocks - w->holds) / 4;
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
	md_pool_deinit(&p.pool);
	return ret;
}
