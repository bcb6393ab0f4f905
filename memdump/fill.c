/* SPDX-License-Identifier: MIT */
/* md_file_fill(): every block of a file to where its bytes belong, on all threads. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memdump/block.h"
#include "memdump/cpus.h"
#include "memdump/reader_file.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

enum { THREADS_MAX = 256 };

struct run {
	/* immutable while threads run */
	struct md_raw_file file;
	struct md_index_list list;
	uint32_t *order; /* of the wanted blocks in the file */
	size_t nwanted;
	uint32_t raw_max;
	uint8_t *map; /* the file, NULL: pread instead */
	size_t page;
	const struct md_fill_opts *opts;
	const struct md_sink *sink;
	/* atomic */
	size_t next;
	bool failed;
	/* protected by lock */
	pthread_mutex_t lock;
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

/*
 * Stored as it is: the page cache itself, so that a page is copied once. MADV_POPULATE_READ tells
 * of a file that was cut or cannot be read, where a look would be SIGBUS.
 */
static int take_mapped(struct run *r, const struct md_index_entry *e, const struct md_extent *x,
		       const uint8_t **ret, struct err *err)
{
	size_t len = md_record_len(e, r->file.head.align), skip = e->off % r->page;
	uint8_t *from = r->map + (e->off - skip);

	if (madvise(from, skip + len, MADV_POPULATE_READ) < 0)
		return -EAGAIN;
	return md_block_check(&r->file, e, x, from + skip, ret, err);
}

static void drop_mapped(struct run *r, const struct md_index_entry *e)
{
	size_t len = md_record_len(e, r->file.head.align), skip = e->off % r->page;

	madvise(r->map + (e->off - skip), skip + len, MADV_DONTNEED);
}

/* Checked raw bytes of a block; NULL for zeros. */
static int take_block(struct run *r, struct worker *w, const struct md_index_block *b,
		      const uint8_t **ret, struct err *err)
{
	const struct md_extent *x = r->list.extents + b->first;
	const uint8_t *payload = NULL;
	uint64_t t0 = md_now_ns(), t1;
	int got = -EAGAIN;

	if (r->map && b->entry.codec == MD_CODEC_NONE)
		got = take_mapped(r, &b->entry, x, &payload, err);
	if (got == -EAGAIN)
		got = md_block_fetch(&w->reader, &r->file, &b->entry, x, &payload, err);
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

static int write_block(struct run *r, struct worker *w, const struct md_index_block *b,
		       const uint8_t *raw, struct err *err)
{
	uint64_t t0 = md_now_ns();
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < b->entry.nextents; i++) {
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
	int ret;

	if (r->opts->stop && r->opts->stop(r->opts->stop_arg))
		return err_fail(err, EINTR, ERR_INTERRUPTED, "stopped on request");
	ret = take_block(r, w, b, &raw, err);
	if (ret == 0)
		ret = write_block(r, w, b, raw, err);
	if (r->map && b->entry.codec == MD_CODEC_NONE)
		drop_mapped(r, &b->entry);
	if (ret < 0)
		return ret;
	w->stats.blocks++;
	w->stats.raw_bytes += b->entry.raw_len;
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
	r->stats.threads++;
	pthread_mutex_unlock(&r->lock);
}

static void *work(void *arg)
{
	struct run *r = arg;
	struct worker w = {.raw = malloc(r->raw_max ? r->raw_max : 1)};
	struct err err = {0};

	if (!w.raw) {
		err_set(&err, ENOMEM, "reserve %u bytes for a block", r->raw_max);
		run_fail(r, &err);
	}
	while (!__atomic_load_n(&r->failed, __ATOMIC_RELAXED)) {
		size_t i = __atomic_fetch_add(&r->next, 1, __ATOMIC_RELAXED);

		if (i >= r->nwanted)
			break;
		if (fill_block(r, &w, &r->list.blocks[r->order[i]], &err) < 0)
			run_fail(r, &err);
	}
	add_stats(r, &w.stats);
	md_block_reader_deinit(&w.reader);
	free(w.raw);
	return NULL;
}

static void run_threads(struct run *r)
{
	unsigned threads = r->opts->threads ? r->opts->threads : md_cpus_allowed(), n = 0;
	pthread_t tid[THREADS_MAX];
	sigset_t all, old;

	if (threads > THREADS_MAX)
		threads = THREADS_MAX;
	if (threads > r->nwanted)
		threads = (unsigned)r->nwanted;
	/* Signals are the caller's business: they go to threads it knows. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (n + 1 < threads && !pthread_create(&tid[n], NULL, work, r))
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
	uint64_t total = 0;
	void *map = mmap(NULL, r->file.len, PROT_READ, MAP_SHARED, r->file.fd, 0);

	r->page = (size_t)sysconf(_SC_PAGESIZE);
	r->map = map == MAP_FAILED ? NULL : map;
	r->order = malloc((r->list.nblocks + 1) * sizeof(*r->order));
	if (!r->order)
		return err_set(err, ENOMEM, "order of %zu blocks", r->list.nblocks);
	for (size_t i = 0; i < r->list.nblocks; i++) {
		const struct md_index_entry *e = &r->list.blocks[i].entry;

		if (e->codec == MD_CODEC_SAME)
			continue;
		total += e->raw_len;
		if (r->opts->want && !r->opts->want(r->opts->want_arg, e->space))
			continue;
		r->order[r->nwanted++] = (uint32_t)i;
		if (e->raw_len > r->raw_max)
			r->raw_max = e->raw_len;
	}
	if (r->opts->progress)
		__atomic_store_n(&r->opts->progress->raw_total, total, __ATOMIC_RELAXED);
	qsort_r(r->order, r->nwanted, sizeof(*r->order), by_offset, r->list.blocks);
	return 0;
}

int md_file_fill(int dirfd, const char *name, const struct md_fill_opts *opts,
		 const struct md_sink *sink, struct md_fill_stats *stats, struct err *err)
{
	struct run r = {.opts = opts, .sink = sink, .lock = PTHREAD_MUTEX_INITIALIZER};
	uint64_t t0 = md_now_ns();
	struct md_trailer t;
	int ret = md_raw_file_open(&r.file, dirfd, name, err);

	if (ret < 0)
		return ret;
	ret = md_raw_file_trailer(&r.file, &t, err);
	if (ret == 0)
		ret = md_raw_file_index(&r.file, &t, &r.list, err);
	if (ret == 0)
		ret = run_prepare(&r, err);
	if (ret == 0) {
		run_threads(&r);
		ret = err_take(err, &r.err);
	}
	if (r.map)
		munmap(r.map, r.file.len);
	r.stats.wall_ns = md_now_ns() - t0;
	if (stats)
		*stats = r.stats;
	free(r.order);
	md_index_list_deinit(&r.list);
	md_raw_file_close(&r.file);
	return ret;
}
