/* SPDX-License-Identifier: MIT */
/* Pre-copy: rounds of copying while the tree runs, and the little that is left at the end. */
#include "src/ops/precopy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/fault.h"
#include "binlog/pr.h"
#include "src/ops/extents.h"

enum {
	DEFAULT_FREEZE_MS = 50,
	/* So little is read in a time that nobody sees: no further round. */
	LITTLE = 256 << 10,
	/* What takes longer than this is not done at the tree's expense. */
	MUCH = 32 << 20,
	/* Memory made ready for the stop: twice what was predicted, and never less than the first.
	 */
	CAPTURE_LEAST = 4 << 20,
	CAPTURE_MOST = 96 << 20,
	/*
	 * Guesses for the prediction, from this side of what was measured: looking at a process
	 * and at a thread, and reading.
	 */
	PROC_NS = 1500000,
	THREAD_NS = 100000,
	READ_BYTES_US = 2000,
};

struct precopy {
	struct target *target;
	const struct dump_opts *opts;
	struct precopy_result *res;
	const struct target_tracks *tracks;
	struct md_file *parent; /* NULL: none */
	bool since;		/* writes have been tracked since it was made */
	uint32_t round;		/* the next one's */
	/* ranges of the round that is being made */
	struct md_range *ranges;
	size_t nranges, room;
	struct extents stored; /* settled: what rounds have stored */
	struct extents clean;  /* of that what still counts, seen while frozen */
	struct extents taken;  /* read while frozen */
	struct extents todo;   /* to be read while frozen */
	struct extents own;    /* settled: stored in this image, whatever the parent has */
	struct extents gone; /* could not be read in this round: not stored, whatever was before */
	bool gone_lost;	     /* there was no memory to note them */
	struct md_range *todo_ranges;
	struct md_capture *capture;
	const struct model *model; /* while frozen */
	struct md_stats stats;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- beginning -------------------------------------------------------------------------------- */

static void say_why(struct precopy *p)
{
	const struct target_tracks *t = p->tracks;

	p->res->tracked = 0;
	for (uint32_t i = 0; i < t->n; i++) {
		p->res->tracked += t->v[i].on;
		if (!t->v[i].on)
			pr_info("pid %u: writes are not tracked: %s\n", t->v[i].pid, t->v[i].why);
		if (!t->v[i].on && !p->res->reason[0])
			snprintf(p->res->reason, sizeof(p->res->reason), "pid %u: %s", t->v[i].pid,
				 t->v[i].why);
	}
	if (!t->n)
		snprintf(p->res->reason, sizeof(p->res->reason),
			 "no process has enough memory for it to be worth it");
}

/* What the earlier image has counts as stored: of processes that have been tracked ever since. */
static int adopt_parent(struct precopy *p, struct err *err)
{
	uint64_t space;

	p->since = p->tracks->since && p->tracks->since == md_file_id(p->parent);
	if (!p->since) {
		p->res->compared = true;
		return 0;
	}
	for (size_t i = 0; md_file_space(p->parent, i, &space); i++) {
		struct md_extent e = {0};

		while (md_file_extent(p->parent, space, e.addr + e.len, &e) > 0)
			if (extents_add(&p->stored, space, e.addr, e.len) < 0)
				return err_set(err, ENOMEM, "list of what the parent has");
	}
	extents_settle(&p->stored);
	return 0;
}

struct precopy *precopy_begin(struct target *t, const struct dump_opts *opts,
			      struct md_file *parent, struct precopy_result *ret, struct err *err)
{
	struct precopy *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(err, ENOMEM, "reserve memory for pre-copy");
		return NULL;
	}
	p->target = t;
	p->opts = opts;
	p->parent = parent;
	p->res = ret;
	p->tracks = target_tracks(t);
	if ((opts->tracking != TRACKING_NONE && target_track(t, err) < 0) ||
	    (parent && adopt_parent(p, err) < 0)) {
		precopy_free(p);
		return NULL;
	}
	ret->arm_ns = p->tracks->stop_ns;
	if (opts->tracking != TRACKING_NONE)
		say_why(p);
	ret->on = ret->tracked > 0;
	if (ret->on || parent)
		return p;
	precopy_free(p);
	return NULL;
}

void precopy_free(struct precopy *p)
{
	if (!p)
		return;
	free(p->ranges);
	free(p->todo_ranges);
	extents_free(&p->stored);
	extents_free(&p->clean);
	extents_free(&p->taken);
	extents_free(&p->todo);
	extents_free(&p->gone);
	extents_free(&p->own);
	md_capture_free(p->capture);
	free(p);
}

/* --- rounds ----------------------------------------------------------------------------------- */

enum list_for { LOOK_ROUND, LOOK_PREDICT };

struct list_arg {
	struct precopy *p;
	uint32_t pid;
	enum md_pick pick;
};

static int list_range(void *varg, uint64_t start, uint64_t end)
{
	struct list_arg *arg = varg;
	struct precopy *p = arg->p;

	if (p->nranges == p->room) {
		size_t room = p->room ? 2 * p->room : 256;
		struct md_range *v = reallocarray(p->ranges, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->ranges = v;
		p->room = room;
	}
	p->ranges[p->nranges++] = (struct md_range){
		.space = MD_SPACE_PROC(arg->pid),
		.addr = start,
		.len = end - start,
		.pid = (int)arg->pid,
		.fd = -1,
		.pick = arg->pick,
	};
	return 0;
}

static enum md_pick pick_for(const struct precopy *p, const struct target_track *t,
			     enum list_for look)
{
	if (look == LOOK_PREDICT)
		return MD_PICK_TRACKED;
	return p->round || (p->since && t->kept) ? MD_PICK_DIRTY : MD_PICK_TRACK;
}

/* The private memory of all tracked processes that are still there. */
static int list_ranges(struct precopy *p, enum list_for look, struct err *err)
{
	p->nranges = 0;
	for (uint32_t i = 0; i < p->tracks->n; i++) {
		struct list_arg arg = {p, p->tracks->v[i].pid, pick_for(p, &p->tracks->v[i], look)};
		struct err e = {0};
		int ret;

		if (!p->tracks->v[i].on)
			continue;
		ret = target_private((pid_t)arg.pid, list_range, &arg, &e);
		if (ret == -ENOMEM)
			return err_set(err, ENOMEM, "list of memory ranges");
	}
	return 0;
}

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

/* One run of the pipe, in a thread of low priority: the tree's own come first while it runs. */
struct run {
	struct precopy *p;
	struct md_reader *reader;
	struct md_writer *writer;
	struct md_opts opts;
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

static int run_pipe(struct precopy *p, struct md_reader *reader, struct md_writer *writer,
		    const struct md_opts *mopts, bool nice, struct err *err)
{
	struct run r = {.p = p, .reader = reader, .writer = writer, .opts = *mopts};
	pthread_t thread;

	r.opts.round = p->round;
	r.opts.more = true;
	if (nice && p->opts->nice && pthread_create(&thread, NULL, run_nice, &r) == 0)
		pthread_join(thread, NULL);
	else
		run_main(&r);
	return r.ret < 0 ? err_take(err, &r.err) : 0;
}

/* What is stored in this image is noted, if it matters: only a parent makes a difference. */
static int run_own(struct precopy *p, struct md_reader *reader, struct md_writer *writer,
		   const struct md_opts *mopts, bool nice, struct err *err)
{
	struct noting_reader noting;

	if (!p->parent)
		return run_pipe(p, reader, writer, mopts, nice, err);
	noting_reader_init(&noting, reader, &p->own);
	return run_pipe(p, &noting.r, writer, mopts, nice, err);
}

/* The same but for what the parent has. */
static int run_parted(struct precopy *p, struct md_reader *reader, struct md_writer *writer,
		      const struct md_opts *mopts, bool nice, struct err *err)
{
	struct extents own = {0};
	struct parting_reader parting;
	struct noting_reader noting;
	int ret;

	if (!p->parent)
		return run_pipe(p, reader, writer, mopts, nice, err);
	ret = parting_reader_init(&parting, reader, p->parent, &p->own, err);
	if (ret < 0)
		return ret;
	/* Noted beside the list that is being searched. */
	noting_reader_init(&noting, &parting.r, &own);
	ret = run_pipe(p, &noting.r, writer, mopts, nice, err);
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

/*
 * Pages that were written and then could not be read. Most are not there any more; the others are
 * read again while frozen.
 */
static int forget_gone(struct precopy *p, struct err *err)
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

/* @much: so much to copy that the tree's own threads go first. */
static int one_round(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		     bool much, uint64_t *ret_bytes, struct err *err)
{
	uint64_t t0 = now_ns();
	struct noting_reader noting;
	struct md_reader *reader;
	unsigned i = p->res->rounds;
	int ret = list_ranges(p, LOOK_ROUND, err);

	if (ret < 0)
		return ret;
	reader = md_reader_vm_new(p->ranges, p->nranges, err);
	if (!reader)
		return -err->errnum;
	reader->vanished = note_gone;
	reader->vanished_arg = p;
	noting_reader_init(&noting, reader, &p->stored);
	/* Of a later round: the parent's page may be right again, but is not the one that counts.
	 */
	ret = p->round || p->since ? run_own(p, &noting.r, writer, mopts, much, err)
				   : run_parted(p, &noting.r, writer, mopts, much, err);
	reader->close(reader);
	if (ret == -ESRCH)
		err->class = ERR_TARGET_GONE;
	if (ret < 0)
		return ret;
	extents_settle(&p->stored);
	extents_settle(&p->own);
	ret = forget_gone(p, err);
	if (ret < 0)
		return ret;
	p->round++;
	*ret_bytes = noting.bytes;
	p->res->round_bytes[i] = noting.bytes;
	p->res->round_ns[i] = now_ns() - t0;
	p->res->rounds++;
	pr_info("round %u: %" PRIu64 " bytes in %" PRIu64 " us\n", i, noting.bytes,
		p->res->round_ns[i] / 1000);
	return 0;
}

/* --- what the stop would cost now ------------------------------------------------------------- */

struct look {
	uint64_t bytes; /* written, or not tracked */
};

static int look_emit(void *arg, const struct md_range *range, const struct md_extent *e, bool clean)
{
	struct look *l = arg;

	l->bytes += clean ? 0 : e->len;
	return 0;
}

/* The very look that is taken while frozen, now: how long it takes and what it would find. */
static int predict(struct precopy *p, uint64_t *ret_dirty, struct err *err)
{
	struct look l = {0};
	uint64_t t0 = now_ns(), scan_ns;
	int ret = list_ranges(p, LOOK_PREDICT, err);

	if (ret == 0)
		ret = md_scan_tracked(p->ranges, p->nranges, look_emit, &l, err);
	if (ret == -ESRCH)
		ret = 0; /* one of the processes has ended */
	if (ret < 0)
		return ret;
	scan_ns = now_ns() - t0;
	p->res->predicted_ns = scan_ns + p->res->arm_ns + p->tracks->n * (uint64_t)PROC_NS +
			       l.bytes / READ_BYTES_US * 1000;
	*ret_dirty = l.bytes;
	return 0;
}

static uint64_t max_freeze_ns(const struct precopy *p)
{
	return p->opts->max_freeze_ns ? p->opts->max_freeze_ns : DEFAULT_FREEZE_MS * 1000000ull;
}

static bool stopped(const struct precopy *p)
{
	return p->opts->stop && p->opts->stop(p->opts->arg);
}

/* Whether another round pays: it must leave less than is there now. */
static bool again(const struct precopy *p, uint64_t dirty)
{
	unsigned n = p->res->rounds;

	if (n >= PRECOPY_ROUNDS - 1 || stopped(p) || dirty <= LITTLE)
		return false;
	return n < 2 || dirty < p->res->round_bytes[n - 1] / 4 * 3;
}

static int over_budget(const struct precopy *p, struct err *err)
{
	err_fail(err, EBUSY, ERR_BUDGET,
		 "pid %d would stand still for about %" PRIu64 " ms, and at most %" PRIu64
		 " ms are allowed: it writes about %" PRIu64 " MB/s",
		 p->opts->pid, p->res->predicted_ns / 1000000, max_freeze_ns(p) / 1000000,
		 p->res->dirty_bytes_s / 1000000);
	err_hint(err, "allow more with --max-freeze, or dump it without --strict-freeze");
	return -EBUSY;
}

static int reserve_capture(struct precopy *p, uint64_t dirty, struct err *err)
{
	uint64_t room = 2 * dirty + CAPTURE_LEAST;

	room = room < CAPTURE_MOST ? room : CAPTURE_MOST;
	p->capture = md_capture_new(room, err);
	if (!p->capture)
		return -err->errnum;
	if (extents_reserve(&p->clean, 2 * p->stored.n + 1024) < 0 ||
	    extents_reserve(&p->todo, p->stored.n + 4096) < 0 ||
	    extents_reserve(&p->taken, p->stored.n + 4096) < 0)
		return err_set(err, ENOMEM, "reserve memory for pre-copy");
	return 0;
}

int precopy_rounds(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		   struct err *err)
{
	uint64_t bytes, dirty = 0, began = 0;
	int ret;

	if (!p->res->on)
		return reserve_capture(p, 0, err);
	do {
		uint64_t t0 = now_ns();

		ret = one_round(p, writer, mopts, !p->round || dirty > MUCH, &bytes, err);
		if (ret == 0 && p->round > 1 && began)
			p->res->dirty_bytes_s =
				(uint64_t)((double)bytes / (double)(t0 - began) * 1e9);
		began = t0;
		if (ret == 0)
			ret = predict(p, &dirty, err);
	} while (ret == 0 && again(p, dirty));
	if (ret == 0)
		ret = reserve_capture(p, dirty, err);
	/* Mappings that have come, flags that have changed: slow, so once more a short round. */
	if (ret == 0)
		ret = target_track_new(p->target, err);
	if (ret == 0)
		ret = one_round(p, writer, mopts, dirty > MUCH, &bytes, err);
	if (ret == 0)
		ret = predict(p, &dirty, err);
	if (ret == 0 && p->opts->strict_freeze && p->res->predicted_ns > max_freeze_ns(p))
		ret = over_budget(p, err);
	if (FAULT("dump.precopied"))
		return err_set(err, EIO, "fault injected at dump.precopied");
	return ret;
}

/* --- frozen ----------------------------------------------------------------------------------- */

/* A device may write into the memory of such a process past every page table. */
static bool written_by_devices(const struct model *m, const struct m_proc *p)
{
	const struct m_fdtable *t = model_fdtable(m, p->fdtable_id);

	for (uint32_t i = 0; i < p->mm.nvmas; i++)
		if (p->mm.vmas[i].flags & M_VMF_AIORING)
			return true;
	for (uint32_t i = 0; t && i < t->n; i++) {
		const struct m_file *f = model_file(m, t->fds[i].file_id);

		if (f && f->flags & O_DIRECT)
			return true;
	}
	return false;
}

/* What is clean and stored counts; what is clean and was never stored is read, as all else. */
static int sort_out(struct precopy *p, uint64_t space, uint64_t addr, uint64_t len)
{
	const struct extents *s = &p->stored;
	uint64_t end = addr + len;
	int ret = 0;

	for (size_t i = extents_find(s, space, addr); ret == 0 && addr < end; i++) {
		uint64_t from = end, to = end;

		if (i < s->n && s->v[i].space == space && s->v[i].addr < end) {
			from = s->v[i].addr > addr ? s->v[i].addr : addr;
			to = s->v[i].addr + s->v[i].len < end ? s->v[i].addr + s->v[i].len : end;
		}
		if (from > addr)
			ret = extents_add(&p->todo, space, addr, from - addr);
		if (ret == 0 && from < to)
			ret = extents_add(&p->clean, space, from, to - from);
		addr = to;
	}
	return ret;
}

static int frozen_emit(void *arg, const struct md_range *range, const struct md_extent *e,
		       bool clean)
{
	struct precopy *p = arg;

	return clean ? sort_out(p, range->space, e->addr, e->len)
		     : extents_add(&p->todo, range->space, e->addr, e->len);
}

/* The ranges that page tables are asked about first, those to be read as they are behind them. */
static int split_ranges(struct precopy *p, const struct ranges *r, size_t *ret_tracked)
{
	const struct m_proc *proc = NULL;
	bool devices = false;
	size_t n = 0, end = r->n;

	if (p->room < r->n) {
		struct md_range *v = reallocarray(p->ranges, r->n, sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->ranges = v;
		p->room = r->n;
	}
	for (size_t i = 0; i < r->n; i++) {
		struct md_range range = r->v[i];

		if (range.fd == -1 && range.pick == MD_PICK_PRESENT) {
			if (!proc || proc->pid != (uint32_t)range.pid) {
				proc = model_proc(p->model, (uint32_t)range.pid);
				devices =
					!p->res->on || !proc || written_by_devices(p->model, proc);
			}
			range.pick = devices ? MD_PICK_PRESENT : MD_PICK_TRACKED;
		}
		if (range.pick == MD_PICK_TRACKED)
			p->ranges[n++] = range;
		else
			p->ranges[--end] = range;
	}
	*ret_tracked = n;
	return 0;
}

/* What the look found to be read, and then the others, in their order. */
static int list_todo(struct precopy *p, const struct ranges *r, size_t ntracked, size_t *ret_n)
{
	size_t n = 0;

	p->todo_ranges =
		reallocarray(NULL, p->todo.n + r->n - ntracked + 1, sizeof(*p->todo_ranges));
	if (!p->todo_ranges)
		return -ENOMEM;
	for (size_t i = 0; i < p->todo.n; i++) {
		const struct space_extent *e = &p->todo.v[i];

		p->todo_ranges[n++] = (struct md_range){
			.space = e->space,
			.addr = e->addr,
			.len = e->len,
			.pid = (int)MD_SPACE_ID(e->space),
			.fd = -1,
			.pick = MD_PICK_ALL,
		};
	}
	for (size_t i = r->n; i > ntracked; i--)
		p->todo_ranges[n++] = p->ranges[i - 1];
	*ret_n = n;
	return 0;
}

static int read_todo(struct precopy *p, size_t n, struct md_writer *writer,
		     const struct md_opts *mopts, struct err *err)
{
	struct md_reader *reader = md_reader_vm_new(p->todo_ranges, n, err);
	struct noting_reader noting;
	int ret;

	if (!reader)
		return -err->errnum;
	noting_reader_init(&noting, reader, &p->taken);
	ret = md_capture_fill(p->capture, &noting.r, err);
	/* More than was made ready for: it goes through the pipe, and the tree waits for it. */
	if (ret > 0)
		ret = run_parted(p, &noting.r, writer, mopts, false, err);
	extents_settle(&p->own);
	p->stats.vanished_bytes = reader->vanished_bytes;
	p->res->frozen_bytes = noting.bytes;
	reader->close(reader);
	return ret;
}

int precopy_frozen(struct precopy *p, const struct model *m, const struct ranges *r,
		   struct md_writer *writer, const struct md_opts *mopts, struct err *err)
{
	uint64_t t0 = now_ns();
	size_t ntracked = 0, n = 0;
	int ret;

	p->model = m;
	if (split_ranges(p, r, &ntracked) < 0)
		return err_set(err, ENOMEM, "list of %zu memory ranges", r->n);
	ret = md_scan_tracked(p->ranges, ntracked, frozen_emit, p, err);
	if (ret == -ENOMEM || (ret == 0 && list_todo(p, r, ntracked, &n) < 0))
		return err_set(err, ENOMEM, "list of written memory");
	p->res->scan_ns = now_ns() - t0;
	return ret < 0 ? ret : read_todo(p, n, writer, mopts, err);
}

/* --- finish ----------------------------------------------------------------------------------- */

/* Which pages of @space count, perhaps none. */
static int write_map(struct precopy *p, struct md_writer *writer, uint64_t space,
		     struct md_extent *room, struct err *err)
{
	size_t n = 0;

	for (size_t k = extents_find(&p->clean, space, 0);
	     k < p->clean.n && p->clean.v[k].space == space; k++)
		room[n++] = (struct md_extent){p->clean.v[k].addr, p->clean.v[k].len};
	return md_writer_file_map(writer, space, room, n, err);
}

/* Of every space that has pages here or in the parent. Both lists are in the order of spaces. */
static int write_maps(struct precopy *p, struct md_writer *writer, struct err *err)
{
	struct md_extent *room = reallocarray(NULL, p->clean.n + 1, sizeof(*room));
	const struct extents *a = &p->stored, *b = &p->clean;
	size_t i = 0, k = 0;
	int ret = 0;

	if (!room)
		return err_set(err, ENOMEM, "map of %zu pieces of memory", p->clean.n);
	while (ret == 0 && (i < a->n || k < b->n)) {
		uint64_t space = i == a->n || (k < b->n && b->v[k].space < a->v[i].space)
					 ? b->v[k].space
					 : a->v[i].space;

		ret = write_map(p, writer, space, room, err);
		while (i < a->n && a->v[i].space == space)
			i++;
		while (k < b->n && b->v[k].space == space)
			k++;
	}
	free(room);
	return ret;
}

/* Bytes that count and are not stored here. */
static uint64_t not_own(const struct precopy *p)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < p->clean.n; i++) {
		const struct space_extent *e = &p->clean.v[i];
		uint64_t end = e->addr + e->len;

		sum += e->len;
		for (size_t k = extents_find(&p->own, e->space, e->addr);
		     k < p->own.n && p->own.v[k].space == e->space && p->own.v[k].addr < end; k++) {
			const struct space_extent *o = &p->own.v[k];
			uint64_t from = o->addr > e->addr ? o->addr : e->addr;
			uint64_t to = o->addr + o->len < end ? o->addr + o->len : end;

			sum -= to - from;
		}
	}
	return sum;
}

int precopy_finish(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		   struct md_stats *stats, struct err *err)
{
	struct md_reader *reader = md_capture_reader(p->capture, err);
	int ret;

	if (!reader)
		return -err->errnum;
	ret = run_parted(p, reader, writer, mopts, false, err);
	reader->close(reader);
	for (size_t i = 0; ret == 0 && i < p->taken.n; i++)
		if (extents_add(&p->clean, p->taken.v[i].space, p->taken.v[i].addr,
				p->taken.v[i].len) < 0)
			ret = err_set(err, ENOMEM, "map of the memory");
	if (ret < 0)
		return ret;
	extents_settle(&p->clean);
	extents_settle(&p->own);
	for (size_t i = 0; i < p->clean.n; i++)
		p->res->map_bytes += p->clean.v[i].len;
	if (p->parent)
		p->res->parent_bytes = not_own(p);
	ret = write_maps(p, writer, err);
	if (ret == 0)
		ret = writer->flush(writer, err);
	p->stats.file_bytes = writer->file_bytes;
	*stats = p->stats;
	stats->raw_bytes = p->res->map_bytes;
	return ret;
}
