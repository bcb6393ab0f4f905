/* SPDX-License-Identifier: MIT */
/* Pre-copy: rounds of copying while the tree runs, and the little that is left at the end. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "binlog/pr.h"
#include "memdump/soft_dirty.h"
#include "src/ops/precopy_priv.h"

enum {
	/* So little is read in a time that nobody sees: no further round. */
	LITTLE = 256 << 10,
	/* So little is left to the rounds behind the second survey, which takes longer. */
	ENOUGH = 4 << 20,
	/* Most rounds behind it. */
	LAST_ROUNDS = 4,
	/* What takes longer than this is not done at the tree's expense. */
	MUCH = 32 << 20,
	SMALL = 4 << 20,
	/* Copied between two waits for threads to be past their calls. */
	SLICE = 128 << 20,
	/* Addresses in one look; more of them where nothing is. */
	STEP = 64 << 20,
	BIG_PAGE = 2 << 20,
	/* The part of all that was copied, one in so many, that is next to nothing beside it. */
	NEXT_TO_NOTHING = 256,
	/* Memory made ready for the stop: twice what was predicted, and never less than the first.
	 */
	CAPTURE_LEAST = 4 << 20,
	CAPTURE_MOST = 96 << 20,
	/*
	 * Guesses for the prediction, from this side of what was measured: looking at a process
	 * and at a thread.
	 */
	PROC_NS = 1500000,
	THREAD_NS = 70000,
};

static const uint64_t MOST_STEP = 64ull << 30;

uint64_t precopy_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
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

	p->since = precopy_kept(p);
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
	if (precopy_arm(p, err) < 0 || precopy_list_aio(p, err) < 0 ||
	    (parent && adopt_parent(p, err) < 0)) {
		precopy_free(p);
		return NULL;
	}
	ret->arm_ns = p->tracks->stop_ns;
	spare_look(&p->spare, p->tracks);
	if (opts->tracking != TRACKING_NONE && !ret->reason[0])
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
	free(p->aio);
	free(p->todo_ranges);
	extents_free(&p->stored);
	extents_free(&p->clean);
	extents_free(&p->taken);
	extents_free(&p->todo);
	extents_free(&p->gone);
	extents_free(&p->found);
	extents_free(&p->own);
	extents_free(&p->guards);
	extents_free(&p->written);
	md_look_free(p->look);
	md_capture_free(p->capture);
	md_soft_free(p->soft);
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

/*
 * The private memory of all tracked processes that are still there. To protect is for what is
 * registered with us alone: elsewhere somebody else may be told of writes by the same marks.
 */
static int list_ranges(struct precopy *p, enum list_for look, struct err *err)
{
	p->nranges = 0;
	precopy_keep_aio(p);
	for (uint32_t i = 0; i < p->tracks->n; i++) {
		struct list_arg arg = {p, p->tracks->v[i].pid, pick_for(p, &p->tracks->v[i], look)};
		struct err e = {0};
		int ret;

		if (!p->tracks->v[i].on || precopy_has_aio(p, arg.pid))
			continue;
		ret = p->soft || look == LOOK_PREDICT
			      ? target_private((pid_t)arg.pid, list_range, &arg, &e)
			      : target_armed(p->tracks, (pid_t)arg.pid, list_range, &arg, &e);
		if (ret == -ENOMEM)
			return err_set(err, ENOMEM, "list of memory ranges");
	}
	return 0;
}

static int note_found(void *arg, const struct md_range *range, const struct md_extent *e,
		      bool clean)
{
	struct precopy *p = arg;

	/* By userfaultfd nothing else is told. */
	if (clean)
		return 0;
	return extents_add(&p->found, range->space, e->addr, e->len);
}

static void forget_found(struct precopy *p, void *arg)
{
	p->found.n = 0;
}

/* The memory of a round, slice by slice. */
struct slices {
	struct md_range *v; /* what is left of the last one looked at is at @at */
	size_t n, at;
	uint64_t step; /* bytes of addresses in one look */
};

/* As many ranges as make a step, the last of them perhaps cut: its length is in *ret_cut then. */
static size_t one_step(struct slices *s, uint64_t *ret_cut)
{
	uint64_t left = s->step;
	size_t n = 0;

	*ret_cut = 0;
	for (; s->at + n < s->n && s->v[s->at + n].len <= left; n++)
		left -= s->v[s->at + n].len;
	if (s->at + n < s->n) {
		struct md_range *r = &s->v[s->at + n];
		/* Where a huge page ends, which would become small ones. */
		uint64_t end = (r->addr + left) & ~(uint64_t)(BIG_PAGE - 1);

		if (end > r->addr) {
			*ret_cut = r->len;
			r->len = end - r->addr;
			n++;
		}
	}
	return n;
}

/*
 * What is to be read of the next slice, protected: into p->found. It is protected just before it is
 * read: what the tree writes to until then is not read again for it.
 */
static int protect(struct precopy *p, struct slices *s, struct err *err)
{
	struct err e = {0};
	int ret = 0;

	p->found.n = 0;
	if (p->soft) {
		/* A stop each, so all at once. */
		ret = precopy_clear(p, s->v, s->n, note_found, forget_found, p, &e);
		s->at = s->n;
	}
	while (ret == 0 && s->at < s->n && extents_bytes(&p->found) < SLICE) {
		size_t had = p->found.n;
		uint64_t cut;
		size_t n = one_step(s, &cut);
		struct md_range *last = &s->v[s->at + n - 1];

		ret = md_scan_tracked(&s->v[s->at], n, note_found, p, &e);
		s->at += n;
		if (cut) {
			last->addr += last->len;
			last->len = cut - last->len;
			s->at--;
		}
		if (p->found.n == had && s->step < MOST_STEP)
			s->step *= 2;
	}
	if (ret == -ENOMEM)
		return err_set(err, ENOMEM, "list of %zu pieces of memory", p->found.n);
	return ret < 0 ? err_take(err, &e) : 0;
}

static int found_ranges(struct precopy *p, struct err *err)
{
	const struct extents *x = &p->found;

	p->nranges = 0;
	for (size_t i = 0; i < x->n; i++) {
		struct list_arg arg = {p, (uint32_t)MD_SPACE_ID(x->v[i].space), MD_PICK_ALL};

		if (list_range(&arg, x->v[i].addr, x->v[i].addr + x->v[i].len) < 0)
			return err_set(err, ENOMEM, "list of memory ranges");
	}
	return 0;
}

/* What a slice is copied with. */
static struct md_opts slice_opts(const struct precopy *p, const struct md_opts *mopts)
{
	uint64_t bytes = extents_bytes(&p->found);
	struct md_opts opts = *mopts;

	/*
	 * For a little a large pool and many threads take longer to come to life than to work: to
	 * clear its pages takes as long as to pack half as many.
	 */
	if (bytes <= MUCH) {
		opts.block_size = MD_BLOCK_MIN;
		opts.pool_bytes = SMALL;
	}
	if (bytes <= SMALL)
		opts.threads = 1;
	/*
	 * Packed it would take longer than the tree takes to write as much again; or it is next to
	 * nothing beside the rest, and what is written while it is packed is copied in the stop.
	 */
	if (p->hurry || (bytes <= SMALL && bytes <= p->stats.raw_bytes / NEXT_TO_NOTHING))
		opts.codec = MD_CODEC_NONE;
	return opts;
}

/*
 * Protected it is; waits a moment, reads. A system call that had pinned a page for writing before
 * it was protected writes to it without a fault: it is given the time to do so. One that takes
 * longer is asleep, and seen: what it may write to is read while frozen, and so is all that was
 * found now.
 */
static int one_slice(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		     bool much, uint64_t *bytes, struct err *err)
{
	struct md_opts opts = slice_opts(p, mopts);
	struct noting_reader noting;
	struct extents stored = {0};
	struct md_reader *reader;
	bool pinned;
	int ret = found_ranges(p, err);

	if (ret < 0)
		return ret;
	precopy_stand_back(p);
	pinned = !precopy_await_writers(p);
	reader = md_reader_vm_new(p->ranges, p->nranges, err);
	if (!reader)
		return -err->errnum;
	precopy_note_gone(p, reader);
	/* A child may end meanwhile. That the root has is seen when it is to be frozen. */
	md_reader_vm_skip_gone(reader);
	noting_reader_init(&noting, reader, &stored);
	/* Of a later round: the parent's page may be right again, but is not the one that counts.
	 */
	ret = p->round || p->since ? precopy_run_own(p, &noting.r, writer, &opts, much, err)
				   : precopy_run_parted(p, &noting.r, writer, &opts, much, err);
	reader->close(reader);
	for (size_t k = 0; ret == 0 && k < stored.n; k++)
		if (extents_add(pinned ? &p->gone : &p->stored, stored.v[k].space, stored.v[k].addr,
				stored.v[k].len) < 0)
			ret = err_set(err, ENOMEM, "list of %zu pieces of memory", stored.n);
	extents_free(&stored);
	extents_settle(&p->own);
	*bytes += noting.bytes;
	return ret;
}

/* @much: so much to copy that the tree's own threads go first. */
static int one_round(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		     bool much, uint64_t *ret_bytes, struct err *err)
{
	uint64_t t0 = precopy_now_ns(), bytes = 0;
	unsigned i = p->res->rounds;
	struct slices s = {.step = STEP};
	int ret = list_ranges(p, LOOK_ROUND, err);

	/* The slices' own are listed in its place. */
	s.v = p->ranges;
	s.n = p->nranges;
	p->ranges = NULL;
	p->nranges = p->room = 0;
	do {
		if (ret == 0)
			ret = protect(p, &s, err);
		if (ret == 0 && p->found.n)
			ret = one_slice(p, writer, mopts, much, &bytes, err);
	} while (ret == 0 && s.at < s.n);
	free(s.v);
	if (ret < 0)
		return ret;
	extents_settle(&p->stored);
	ret = precopy_forget_gone(p, err);
	if (ret < 0)
		return ret;
	if (p->round)
		precopy_note_rate(p, bytes, t0);
	p->began_ns = t0;
	p->round++;
	*ret_bytes = bytes;
	p->res->round_bytes[i] = bytes;
	p->res->round_ns[i] = precopy_now_ns() - t0;
	p->res->rounds++;
	pr_info("round %u: %" PRIu64 " bytes in %" PRIu64 " us\n", i, bytes,
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

static void forget_look(struct precopy *p, void *arg)
{
	struct look *l = arg;

	l->bytes = 0;
}

/* The very look that is taken while frozen, now: how long it takes and what it would find. */
static int predict(struct precopy *p, uint64_t *ret_dirty, struct err *err)
{
	struct look l = {0};
	uint64_t t0 = precopy_now_ns(), scan_ns;
	int ret = list_ranges(p, LOOK_PREDICT, err);

	if (ret == 0)
		ret = precopy_scan(p, p->ranges, p->nranges, look_emit, forget_look, &l, err);
	if (ret < 0)
		return ret;
	scan_ns = precopy_now_ns() - t0;
	p->res->predicted_ns =
		scan_ns + p->res->arm_ns + p->tracks->nprocs * (uint64_t)PROC_NS +
		p->tracks->nthreads * (uint64_t)THREAD_NS +
		(l.bytes + p->untracked + p->aio_bytes) / PRECOPY_READ_BYTES_US * 1000;
	*ret_dirty = l.bytes;
	return 0;
}

static bool stopped(const struct precopy *p)
{
	return p->opts->stop && p->opts->stop(p->opts->arg);
}

/* Whether the last round was about as large as the one before: more of them change nothing. */
static bool stuck(const struct precopy *p)
{
	const uint64_t *bytes = p->res->round_bytes;
	unsigned n = p->res->rounds;

	return n >= 2 && bytes[n - 1] > bytes[n - 2] / 4 * 3;
}

/* Whether the tree writes more than a third as fast as its pages are packed and stored. */
static bool loses(const struct precopy *p, uint64_t dirty)
{
	unsigned n = p->res->rounds;

	return stuck(p) || (n && dirty > MUCH && dirty > p->res->round_bytes[n - 1] / 3);
}

static bool again(const struct precopy *p, uint64_t dirty)
{
	if (p->res->rounds >= PRECOPY_ROUNDS - LAST_ROUNDS || stopped(p) || dirty <= ENOUGH)
		return false;
	/* At normal priority, and not packed, it may go better. */
	return !stuck(p) || !p->hurry;
}

/*
 * What was written meanwhile, until a round takes no less than the one before; but one that was
 * kept from the CPU is made good for.
 */
static bool again_last(const struct precopy *p, unsigned n, uint64_t before, uint64_t dirty)
{
	if (n == LAST_ROUNDS || stopped(p) || dirty <= LITTLE)
		return false;
	return !n || dirty < before / 4 * 3 || dirty > MUCH / 4;
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

/* Behind the second survey. */
static int last_rounds(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		       uint64_t *ret_dirty, struct err *err)
{
	uint64_t bytes, before = 0;
	int ret = predict(p, ret_dirty, err);

	if (ret == 0)
		ret = precopy_track_more(p, *ret_dirty, err);
	for (unsigned n = 0; ret == 0 && again_last(p, n, before, *ret_dirty); n++) {
		before = *ret_dirty;
		ret = one_round(p, writer, mopts, !p->hurry && before > MUCH, &bytes, err);
		if (ret == 0)
			ret = predict(p, ret_dirty, err);
	}
	return ret;
}

static int rounds(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		  struct err *err)
{
	/* The guardian can do one thing at a time, and by soft-dirty marks a round needs it. */
	const bool beside = p->since && !p->soft;
	uint64_t bytes, dirty = 0;
	int ret;

	/* Little to copy, and so little time to wait for it that no mapping will have changed. */
	ret = beside ? target_survey_again_begin(p->target, err) : 0;
	if (ret < 0)
		return ret;
	do {
		p->hurry |= loses(p, dirty);
		ret = one_round(p, writer, mopts, !p->hurry && (!p->round || dirty > MUCH), &bytes,
				err);
		if (ret == 0)
			ret = predict(p, &dirty, err);
	} while (ret == 0 && again(p, dirty));
	if (ret == 0)
		ret = reserve_capture(p, dirty, err);
	/* Mappings that have come, flags that have changed: slow, so a short round behind it. */
	if (ret == 0)
		ret = beside ? target_survey_again_end(p->target, err)
			     : target_survey_again(p->target, err);
	if (ret == 0)
		ret = last_rounds(p, writer, mopts, &dirty, err);
	/* What looks at page tables while all stand still does so on all CPUs. */
	precopy_come_back(p);
	if (ret == 0)
		ret = precopy_ready(p, dirty, err);
	if (ret == 0)
		ret = precopy_budget(p, NULL, err);
	if (FAULT("dump.precopied"))
		return err_set(err, EIO, "fault injected at dump.precopied");
	return ret;
}

int precopy_rounds(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		   struct err *err)
{
	int ret;

	if (!p->res->on)
		return reserve_capture(p, 0, err);
	p->beside = true;
	precopy_stand_back(p);
	ret = rounds(p, writer, mopts, err);
	precopy_come_back(p);
	return ret;
}
