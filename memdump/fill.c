/* SPDX-License-Identifier: MIT */
/* md_file_fill(): every block of a file to where its bytes belong, on all threads. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memdump/block.h"
#include "base/clock.h"
#include "memdump/chain.h"
#include "memdump/cpus.h"

enum {
	THREADS_MAX = 256,
	/*
	 * What a thread takes at a time, in raw bytes: blocks that follow each other in the file do
	 * so in memory, mostly, and threads in one page table wait for each other's locks there.
	 */
	STRETCH_MAX = 4 << 20,
};

struct run {
	/* immutable while threads run */
	struct md_raw_file file;
	struct md_index_list list;
	struct md_live live; /* what counts of the list's blocks; first NULL: all of them */
	const char *where;   /* begins messages */
	uint32_t *order;     /* of the blocks in the file */
	uint32_t raw_max;
	uint64_t total; /* raw bytes */
	unsigned threads;
	const struct md_fill_opts *opts;
	const struct md_sink *sink;
	/* atomic */
	bool failed;
	/* protected by lock */
	pthread_mutex_t lock;
	size_t next;
	struct err err;
	struct md_fill_stats stats;
};

struct worker {
	struct md_block_reader reader;
	uint8_t *raw;
	struct md_fill_stats stats;
};

static void run_fail(struct run *r, const struct err *err)
{
	pthread_mutex_lock(&r->lock);
	err_take(&r->err, err);
	pthread_mutex_unlock(&r->lock);
	__atomic_store_n(&r->failed, true, __ATOMIC_RELAXED);
}

/* Checked raw bytes of a block; NULL for zeros. */
static int take_block(struct run *r, struct worker *w, const struct md_index_block *b,
		      const uint8_t **ret, struct err *err)
{
	const struct md_extent *x = r->list.extents + b->first;
	const uint8_t *payload = NULL;
	uint64_t t0 = md_now_ns(), t1;
	int got = md_block_fetch(&w->reader, &r->file, &b->entry, x, &payload, err);

	t1 = md_now_ns();
	w->stats.read_ns += t1 - t0;
	if (got < 0)
		return got;
	*ret = b->entry.codec == MD_CODEC_ZERO ? NULL : payload;
	if (b->entry.codec == MD_CODEC_NONE || b->entry.codec == MD_CODEC_ZERO)
		return 0;
	got = md_block_unpack(&w->reader, &r->file, &b->entry, payload, w->raw, err);
	w->stats.unpack_ns += md_now_ns() - t1;
	*ret = w->raw;
	return got;
}

static uint64_t live_len(const struct run *r, const struct md_index_block *b)
{
	size_t i = (size_t)(b - r->list.blocks);
	uint64_t len = 0;

	if (!r->live.first)
		return b->entry.raw_len;
	for (size_t k = r->live.first[i]; k < r->live.first[i + 1]; k++)
		len += r->live.pieces[k].len;
	return len;
}

static int write_live(struct run *r, const struct md_index_block *b, const uint8_t *raw,
		      struct err *err)
{
	size_t i = (size_t)(b - r->list.blocks);
	int ret = 0;

	for (size_t k = r->live.first[i]; ret == 0 && k < r->live.first[i + 1]; k++) {
		const struct md_index_piece *p = &r->live.pieces[k];

		ret = r->sink->write(r->sink->arg, md_index_space_of(&r->list, p), p->addr,
				     raw ? raw + p->raw_off : NULL, p->len, err);
	}
	return ret;
}

static int write_block(struct run *r, struct worker *w, const struct md_index_block *b,
		       const uint8_t *raw, struct err *err)
{
	uint64_t t0 = md_now_ns();
	int ret = r->live.first ? write_live(r, b, raw, err) : 0;

	for (uint32_t i = 0; !r->live.first && ret == 0 && i < b->entry.nextents; i++) {
		const struct md_extent *x = &r->list.extents[b->first + i];

		ret = r->sink->write(r->sink->arg, b->entry.space, x->addr, raw, x->len, err);
		raw = raw ? raw + x->len : NULL;
	}
	w->stats.write_ns += md_now_ns() - t0;
	return ret;
}

static int fill_block(struct run *r, struct worker *w, const struct md_index_block *b,
		      struct err *err)
{
	struct md_progress *pr = r->opts->progress;
	const uint8_t *raw;
	struct err e = {0};
	int ret;

	if (r->opts->stop && r->opts->stop(r->opts->stop_arg))
		return err_fail(err, EINTR, ERR_INTERRUPTED, "stopped on request");
	ret = take_block(r, w, b, &raw, &e);
	if (ret < 0)
		md_err_where(err, r->where, &e);
	else
		ret = write_block(r, w, b, raw, err);
	if (ret < 0)
		return ret;
	w->stats.blocks++;
	w->stats.raw_bytes += live_len(r, b);
	w->stats.packed_bytes += b->entry.packed_len;
	if (pr) {
		__atomic_fetch_add(&pr->raw_bytes, b->entry.raw_len, __ATOMIC_RELAXED);
		__atomic_fetch_add(&pr->packed_bytes, b->entry.packed_len, __ATOMIC_RELAXED);
	}
	return 0;
}

static void add_stats(struct run *r, const struct md_fill_stats *s)
{
	pthread_mutex_lock(&r->lock);
	r->stats.blocks += s->blocks;
	r->stats.raw_bytes += s->raw_bytes;
	r->stats.packed_bytes += s->packed_bytes;
	r->stats.read_ns += s->read_ns;
	r->stats.unpack_ns += s->unpack_ns;
	r->stats.write_ns += s->write_ns;
	r->stats.cpu_ns += s->cpu_ns;
	r->stats.threads++;
	pthread_mutex_unlock(&r->lock);
}

/* The next blocks of the file, for the calling thread: @ret to before @ret_end. */
static bool take_stretch(struct run *r, size_t *ret, size_t *ret_end)
{
	uint64_t most = r->total / r->threads / 8, len = 0;

	if (most > STRETCH_MAX)
		most = STRETCH_MAX;
	pthread_mutex_lock(&r->lock);
	*ret = r->next;
	do {
		if (r->next == r->list.nblocks)
			break;
		len += r->list.blocks[r->order[r->next++]].entry.raw_len;
	} while (len < most);
	*ret_end = r->next;
	pthread_mutex_unlock(&r->lock);
	return *ret < *ret_end && !__atomic_load_n(&r->failed, __ATOMIC_RELAXED);
}

static void *work(void *arg)
{
	struct run *r = arg;
	const uint64_t cpu0 = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	struct worker w = {.raw = malloc(r->raw_max ? r->raw_max : 1)};
	struct err err = {0};
	size_t i, end;

	if (!w.raw) {
		err_set(&err, ENOMEM, "reserve %u bytes for a block", r->raw_max);
		run_fail(r, &err);
	}
	while (take_stretch(r, &i, &end)) {
		for (; i < end && !__atomic_load_n(&r->failed, __ATOMIC_RELAXED); i++)
			if (fill_block(r, &w, &r->list.blocks[r->order[i]], &err) < 0)
				run_fail(r, &err);
	}
	w.stats.cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu0;
	add_stats(r, &w.stats);
	md_block_reader_deinit(&w.reader);
	free(w.raw);
	return NULL;
}

static void run_threads(struct run *r)
{
	pthread_t tid[THREADS_MAX];
	sigset_t all, old;
	unsigned n = 0;

	/* Signals are the caller's business: they go to threads it knows. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (n + 1 < r->threads && !pthread_create(&tid[n], NULL, work, r))
		n++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	work(r);
	for (unsigned i = 0; i < n; i++)
		pthread_join(tid[i], NULL);
}

static int by_offset(const void *va, const void *vb, void *arg)
{
	const struct md_index_block *blocks = arg;
	uint64_t a = blocks[*(const uint32_t *)va].entry.off;
	uint64_t b = blocks[*(const uint32_t *)vb].entry.off;

	return a < b ? -1 : a > b;
}

static int run_prepare(struct run *r, struct err *err)
{
	r->threads = r->opts->threads ? r->opts->threads : md_cpus_allowed();
	if (r->threads > THREADS_MAX)
		r->threads = THREADS_MAX;
	if (r->threads > r->list.nblocks)
		r->threads = r->list.nblocks ? (unsigned)r->list.nblocks : 1;
	r->order = malloc((r->list.nblocks + 1) * sizeof(*r->order));
	if (!r->order)
		return err_set(err, ENOMEM, "order of %zu blocks", r->list.nblocks);
	for (size_t i = 0; i < r->list.nblocks; i++) {
		r->order[i] = (uint32_t)i;
		r->total += r->list.blocks[i].entry.raw_len;
		if (r->list.blocks[i].entry.raw_len > r->raw_max)
			r->raw_max = r->list.blocks[i].entry.raw_len;
	}
	qsort_r(r->order, r->list.nblocks, sizeof(*r->order), by_offset, r->list.blocks);
	return 0;
}

static void run_end(struct run *r)
{
	md_live_deinit(&r->live);
	free(r->order);
}

/* --- a file and its parents ------------------------------------------------------------------ */

/* Leaves the blocks of which something counts. */
static void drop_stale(struct run *r, struct md_index_list *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->nblocks; i++) {
		if (r->live.first[i] == r->live.first[i + 1])
			continue;
		for (size_t k = r->live.first[i]; k < r->live.first[i + 1]; k++)
			r->live.pieces[k].block = (uint32_t)n;
		l->blocks[n] = l->blocks[i];
		r->live.first[n++] = r->live.first[i];
	}
	r->live.first[n] = r->live.first[l->nblocks];
	l->nblocks = n;
}

/* Of a file of which all blocks count: leaves those with bytes that somebody wants. */
static void drop_unwanted(const struct run *r, struct md_index_list *l)
{
	const struct md_fill_opts *o = r->opts;
	size_t n = 0;

	for (size_t i = 0; i < l->nblocks; i++) {
		const struct md_index_entry *e = &l->blocks[i].entry;

		if (e->codec != MD_CODEC_SAME && (!o->want || o->want(o->want_arg, e->space)))
			l->blocks[n++] = l->blocks[i];
	}
	l->nblocks = n;
}

/* Of which something counts. */
static uint64_t used_bytes(const struct md_index_list *l, const bool *used)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < l->nblocks; i++)
		if (used ? used[i] : l->blocks[i].entry.codec != MD_CODEC_SAME)
			sum += l->blocks[i].entry.raw_len;
	return sum;
}

/* What raw_bytes will come to; of several passes, each with spaces of its own, of all together. */
static int tell_total(struct md_progress *pr, const struct md_chain *c, const struct md_index *x,
		      struct err *err)
{
	uint64_t total = 0;

	if (md_chain_is_plain(c))
		total = used_bytes(&c->files[0].list, NULL);
	for (unsigned i = 0; !md_chain_is_plain(c) && i < c->n; i++) {
		const struct md_index_list *l = &c->files[i].list;
		bool *used = calloc(l->nblocks + 1, sizeof(*used));

		if (!used)
			return err_set(err, ENOMEM, "order of %zu blocks", l->nblocks);
		for (size_t k = 0; k < x->npieces; k++)
			if (x->pieces[k].file == i)
				used[x->pieces[k].block] = true;
		total += used_bytes(l, used);
		free(used);
	}
	__atomic_store_n(&pr->raw_total, total, __ATOMIC_RELAXED);
	return 0;
}

/* A file without rounds, maps and parent is not resolved: all that it stores counts. */
static int prepare_all(struct run *runs, const struct run *like, struct md_chain *c,
		       struct err *err)
{
	const bool plain = md_chain_is_plain(c);
	const struct md_fill_opts *o = like->opts;
	struct md_index x = {0};
	int ret = plain ? 0 : md_chain_resolve(c, &x, err);

	if (ret == 0 && o->progress)
		ret = tell_total(o->progress, c, &x, err);
	for (unsigned i = 0; ret == 0 && i < c->n; i++) {
		struct run *r = &runs[i];

		*r = *like;
		r->file = c->files[i].raw;
		r->where = c->files[i].where;
		if (plain)
			drop_unwanted(r, &c->files[i].list);
		else
			ret = md_live_init(&r->live, c, &x, i, o->want, o->want_arg, err);
		if (ret == 0 && !plain)
			drop_stale(r, &c->files[i].list);
		r->list = c->files[i].list;
		if (ret == 0)
			ret = run_prepare(r, err);
	}
	md_index_deinit(&x);
	return ret;
}

static void sum_stats(struct md_fill_stats *sum, const struct md_fill_stats *s)
{
	sum->blocks += s->blocks;
	sum->raw_bytes += s->raw_bytes;
	sum->packed_bytes += s->packed_bytes;
	sum->read_ns += s->read_ns;
	sum->unpack_ns += s->unpack_ns;
	sum->write_ns += s->write_ns;
	sum->cpu_ns += s->cpu_ns;
	if (s->threads > sum->threads)
		sum->threads = s->threads;
}

int md_file_fill(int dirfd, const char *name, const struct md_fill_opts *opts,
		 const struct md_sink *sink, struct md_fill_stats *stats, struct err *err)
{
	const struct run like = {.opts = opts, .sink = sink, .lock = PTHREAD_MUTEX_INITIALIZER};
	struct md_fill_stats sum = {0};
	uint64_t t0 = md_now_ns();
	struct run *runs;
	struct md_chain c;
	int ret = md_chain_open(&c, dirfd, name, 0, err);

	if (ret < 0)
		return ret;
	runs = calloc(c.n, sizeof(*runs));
	ret = runs ? prepare_all(runs, &like, &c, err)
		   : err_set(err, ENOMEM, "fill from %u files", c.n);
	for (unsigned i = 0; ret == 0 && i < c.n; i++) {
		run_threads(&runs[i]);
		sum_stats(&sum, &runs[i].stats);
		ret = err_take(err, &runs[i].err);
	}
	for (unsigned i = 0; runs && i < c.n; i++)
		run_end(&runs[i]);
	sum.wall_ns = md_now_ns() - t0;
	if (stats)
		*stats = sum;
	free(runs);
	md_chain_close(&c);
	return ret;
}
