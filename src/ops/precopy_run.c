/* SPDX-License-Identifier: MIT */
/* Pre-copy: runs of the pipe, and what they stored. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "binlog/pr.h"
#include "src/ops/precopy_priv.h"

static void add_stage(struct md_stage_stats *to, const struct md_stage_stats *from)
{
	to->busy_ns += from->busy_ns;
	to->wait_ns += from->wait_ns;
	to->threads = from->threads > to->threads ? from->threads : to->threads;
}

static void add_stats(struct precopy *p, const struct md_stats *s)
{
	struct md_stats *to = &p->stats;
	struct md_stats old = *to;

	*to = *s;
	/* What counts is what could not be read while frozen: read_todo() sets it. */
	to->vanished_bytes = old.vanished_bytes;
	if (s->bottleneck && old.raw_bytes > s->raw_bytes && old.bottleneck)
		to->bottleneck = old.bottleneck;
	to->raw_bytes += old.raw_bytes;
	to->packed_bytes += old.packed_bytes;
	for (unsigned i = 0; i < 4; i++)
		to->blocks[i] += old.blocks[i];
	to->extents += old.extents;
	to->wall_ns += old.wall_ns;
	add_stage(&to->read, &old.read);
	add_stage(&to->pack, &old.pack);
	add_stage(&to->write, &old.write);
}

/* --- pace ------------------------------------------------------------------------------------- */

/*
 * Holds back what is read, and with it all that comes behind: threads without a block wait. What
 * counts is the time of all threads of the tool, those that the kernel writes with among them.
 */
struct pacing_reader {
	struct md_reader r;
	struct md_reader *from;
	const struct dump_opts *opts;
	uint64_t wall_ns, cpu_ns; /* when it began */
};

/* What it is ahead of its share, in time to wait. */
static uint64_t ahead_ns(const struct pacing_reader *p)
{
	uint64_t cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - p->cpu_ns;
	uint64_t wall = clock_ns(CLOCK_MONOTONIC) - p->wall_ns;
	uint64_t due = cpu * 100 / p->opts->max_cpu;

	return due > wall ? due - wall : 0;
}

static int pacing_next(struct md_reader *reader, struct md_block *b, uint32_t block_size,
		       struct err *err)
{
	enum { WORTH_NS = 500000, MOST_NS = 20000000 };
	struct pacing_reader *p = (struct pacing_reader *)reader;
	uint64_t ns;
	int ret;

	/* In pieces: whoever wants it to end does not wait for all of them. */
	while ((ns = ahead_ns(p)) >= WORTH_NS && !(p->opts->stop && p->opts->stop(p->opts->arg))) {
		struct timespec ts = {.tv_nsec = (long)(ns < MOST_NS ? ns : MOST_NS)};

		nanosleep(&ts, NULL);
	}
	ret = p->from->next(p->from, b, block_size, err);
	p->r.vanished_bytes = p->from->vanished_bytes;
	return ret;
}

static void pacing_reader_init(struct pacing_reader *p, struct md_reader *from,
			       const struct dump_opts *opts)
{
	*p = (struct pacing_reader){
		.r = {.next = pacing_next},
		.from = from,
		.opts = opts,
		.wall_ns = clock_ns(CLOCK_MONOTONIC),
		.cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID),
	};
}

/* --- room for the tree ------------------------------------------------------------------------ */

void precopy_stand_back(struct precopy *p)
{
	cpu_set_t cpus;

	if (!spare_look(&p->spare, p->tracks) && p->apart)
		return;
	precopy_come_back(p);
	p->apart = sched_getaffinity(0, sizeof(p->all), &p->all) == 0 &&
		   spare_cpus(&p->spare, p->tracks, &cpus) &&
		   sched_setaffinity(0, sizeof(cpus), &cpus) == 0;
	if (p->apart)
		pr_debug("on %d of %d CPUs: the tree uses %u\n", CPU_COUNT(&cpus),
			 CPU_COUNT(&p->all), p->spare.busy);
}

void precopy_come_back(struct precopy *p)
{
	if (p->apart && sched_setaffinity(0, sizeof(p->all), &p->all) < 0)
		pr_debug("back to %d CPUs: %m\n", CPU_COUNT(&p->all));
	p->apart = false;
}

/* --- runs ------------------------------------------------------------------------------------- */

/* One run of the pipe, in a thread of low priority: the tree's own come first while it runs. */
struct run {
	struct precopy *p;
	struct md_reader *reader;
	struct md_writer *writer;
	struct md_opts opts;
	int nice;   /* 0: as it is */
	bool apart; /* on these CPUs alone */
	cpu_set_t cpus;
	struct err err;
	int ret;
};

static void *run_main(void *arg)
{
	struct run *r = arg;
	struct md_stats stats = {0};

	r->ret = md_run(r->reader, r->writer, &r->opts, &stats, &r->err);
	add_stats(r->p, &stats);
	return NULL;
}

static void *run_nice(void *arg)
{
	struct run *r = arg;

	/* Of this thread alone, and of those it makes. */
	if (setpriority(PRIO_PROCESS, 0, r->p->opts->nice) < 0)
		pr_debug("nice %d: %m\n", r->p->opts->nice);
	return run_main(arg);
}

int precopy_run(struct precopy *p, struct md_reader *reader, struct md_writer *writer,
		const struct md_opts *mopts, bool nice, struct err *err)
{
	struct run r = {.p = p, .reader = reader, .writer = writer, .opts = *mopts};
	struct pacing_reader pacing;
	pthread_t thread;

	if (p->beside && p->opts->max_cpu) {
		pacing_reader_init(&pacing, reader, p->opts);
		r.reader = &pacing.r;
	}
	writer->by_itself = p->apart;
	r.opts.round = p->round;
	r.opts.more = true;
	if (nice && p->opts->nice && pthread_create(&thread, NULL, run_nice, &r) == 0)
		pthread_join(thread, NULL);
	else
		run_main(&r);
	return r.ret < 0 ? err_take(err, &r.err) : 0;
}

/* What is stored in this image is noted, if it matters: only a parent makes a difference. */
int precopy_run_own(struct precopy *p, struct md_reader *reader, struct md_writer *writer,
		    const struct md_opts *mopts, bool nice, struct err *err)
{
	struct noting_reader noting;

	if (!p->parent)
		return precopy_run(p, reader, writer, mopts, nice, err);
	noting_reader_init(&noting, reader, &p->own);
	return precopy_run(p, &noting.r, writer, mopts, nice, err);
}

/* The same but for what the parent has. */
int precopy_run_parted(struct precopy *p, struct md_reader *reader, struct md_writer *writer,
		       const struct md_opts *mopts, bool nice, struct err *err)
{
	struct extents own = {0};
	struct parting_reader parting;
	struct noting_reader noting;
	int ret;

	if (!p->parent)
		return precopy_run(p, reader, writer, mopts, nice, err);
	ret = parting_reader_init(&parting, reader, p->parent, &p->own, err);
	if (ret < 0)
		return ret;
	/* Noted beside the list that is being searched. */
	noting_reader_init(&noting, &parting.r, &own);
	ret = precopy_run(p, &noting.r, writer, mopts, nice, err);
	for (size_t i = 0; ret == 0 && i < own.n; i++)
		if (extents_add(&p->own, own.v[i].space, own.v[i].addr, own.v[i].len) < 0)
			ret = err_set(err, ENOMEM, "list of %zu pieces of memory", own.n);
	extents_free(&own);
	free(parting.buf);
	return ret;
}

static void note_gone(void *arg, uint64_t space, uint64_t addr, uint64_t len)
{
	struct precopy *p = arg;

	if (extents_add(&p->gone, space, addr, len) < 0)
		p->gone_lost = true;
}

void precopy_note_gone(struct precopy *p, struct md_reader *reader)
{
	reader->vanished = note_gone;
	reader->vanished_arg = p;
}

/*
 * Pages that were written and then could not be read. Most are not there any more; the others are
 * read again while frozen.
 */
int precopy_forget_gone(struct precopy *p, struct err *err)
{
	struct extents left = {0};
	size_t k = 0;
	int ret = p->gone_lost ? -ENOMEM : 0;

	if (!p->gone.n && ret == 0)
		return 0;
	extents_settle(&p->gone);
	for (size_t i = 0; ret == 0 && i < p->stored.n; i++) {
		struct space_extent e = p->stored.v[i];
		uint64_t end = e.addr + e.len;

		for (k = extents_find(&p->gone, e.space, e.addr);
		     ret == 0 && k < p->gone.n && p->gone.v[k].space == e.space &&
		     p->gone.v[k].addr < end;
		     k++) {
			const struct space_extent *g = &p->gone.v[k];

			if (g->addr > e.addr)
				ret = extents_add(&left, e.space, e.addr, g->addr - e.addr);
			e.addr = g->addr + g->len < end ? g->addr + g->len : end;
		}
		if (ret == 0 && e.addr < end)
			ret = extents_add(&left, e.space, e.addr, end - e.addr);
	}
	p->gone.n = 0;
	if (ret < 0) {
		extents_free(&left);
		return err_set(err, ENOMEM, "list of %zu pieces of memory", p->stored.n);
	}
	extents_free(&p->stored);
	p->stored = left;
	return 0;
}
