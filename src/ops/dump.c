/* SPDX-License-Identifier: MIT */
/* Dump: pre-copy where it works, freeze, collect, copy the pages that are left, thaw, commit. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/urgent.h"
#include "binlog/pr.h"
#include "src/ops/dump_log.h"
#include "src/ops/lost.h"
#include "src/ops/ops.h"
#include "src/ops/parent.h"
#include "src/ops/precopy.h"
#include "src/ops/ranges.h"
#include "src/target/netlock.h"

struct dump {
	const struct dump_opts *opts;
	struct dump_result *res;
	struct model *model;
	struct target *target;
	struct image *image;
	bool committed;
	struct md_writer *writer;
	struct image_criu_pages *criu;
	struct precopy *precopy; /* NULL: stop and copy */
	struct md_file *parent;	 /* opts->prev_dir; NULL: none */
	uint64_t memory_id;	 /* of the memory file, for a keeper */
	int stats_fd;		 /* opts->stats_dir, or -1 */
	struct urgent urgent;
	struct lost lost;
};

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static void dump_phase(struct dump *d, enum dump_phase phase, uint64_t estimate)
{
	static const char *const name[] = {
		[DUMP_SURVEY] = "survey", [DUMP_PRECOPY] = "pre-copy", [DUMP_FREEZE] = "freeze",
		[DUMP_MEMORY] = "memory", [DUMP_COMMIT] = "commit",
	};

	pr_info("dump of pid %d: %s, about %" PRIu64 " bytes to read\n", d->opts->pid, name[phase],
		estimate);
	if (d->opts->phase)
		d->opts->phase(d->opts->arg, phase, estimate);
}

static int dump_interrupted(struct dump *d, struct err *err)
{
	if (!d->opts->stop || !d->opts->stop(d->opts->arg))
		return 0;
	return err_fail(err, EINTR, ERR_INTERRUPTED,
			"interrupted by a signal: dump of pid %d given up, no image written",
			d->opts->pid);
}

static struct md_opts memory_opts(const struct dump *d)
{
	const struct dump_opts *o = d->opts;

	return (struct md_opts){
		.codec = o->format == IMAGE_CRIU ? MD_CODEC_NONE : o->codec,
		.level = o->level,
		.threads = o->threads,
		.block_size = o->block_size,
		.stop = o->stop,
		.stop_arg = o->arg,
		.progress = o->progress,
	};
}

/* Names that were made for an image that there is not. */
static void dump_unlink(const struct dump *d)
{
	for (uint32_t i = 0; d->model && i < d->model->nfiles; i++)
		if (d->model->files[i].link_made)
			unlink(d->model->files[i].link_path);
}

/* What the survey and the collection found is in the way of a restore. */
static int dump_refuse(struct dump *d, struct err *err)
{
	const struct model *m = d->model;
	uint32_t n = 0, first = 0;

	for (uint32_t i = m->nfindings; i > 0; i--) {
		if (!m->findings[i - 1].fatal)
			continue;
		n++;
		first = i - 1;
	}
	if (!n || d->opts->allow_findings)
		return 0;
	err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
		 "an image of pid %d could not be restored: pid %u: %s%s", d->opts->pid,
		 m->findings[first].pid, m->findings[first].text, n > 1 ? " (and more)" : "");
	err_hint(err,
		 "--allow-findings dumps it all the same, to look at and not to restore; "
		 "`stasis check --pid %d` lists all that is in the way",
		 d->opts->pid);
	return -EOPNOTSUPP;
}

/* A connection that is about to be accepted, a stack that is full for now. */
static bool in_passing(const struct dump *d)
{
	for (uint32_t i = 0; d->model && i < d->model->nfindings; i++)
		if (d->model->findings[i].passing)
			return true;
	return false;
}

/* Whether memory is to be copied while the tree runs, where that works. */
static bool wants_precopy(const struct dump_opts *o)
{
	if (o->prev_dir)
		return true;
	return o->tracking != TRACKING_NONE && o->format != IMAGE_CRIU &&
	       (o->tracking == TRACKING_UFFD || o->tracking == TRACKING_SOFT || o->track_mem ||
		o->end == TARGET_RUN);
}

/* The way that others have: see docs/INTERNALS.md. */
static int dump_refuse_fork(const struct dump_opts *o, struct err *err)
{
	if (o->tracking != TRACKING_FORK)
		return 0;
	err_fail(
		err, EOPNOTSUPP, ERR_UNSUPPORTED,
		"no snapshot of pid %d by a fork in it: the child would be one that the program or "
		"its parent can wait for, and a zombie of it would stay if the tool were killed",
		o->pid);
	err_hint(err, "--tracking uffd stops it for as short a time, and leaves nothing in it; "
		      "--tracking soft-dirty where the kernel lacks that (stasis check)");
	return -EOPNOTSUPP;
}

/* Everything that may fail or take time without the target standing still. */
static int dump_prepare(struct dump *d, struct err *err)
{
	const struct dump_opts *o = d->opts;
	struct target_opts topts = {
		.freeze_timeout_ms = o->freeze_timeout_ms,
		.stop = o->stop,
		.stop_arg = o->arg,
		.ghost_limit = o->ghost_limit,
		.link_remap = o->link_remap,
		.tcp_established = o->tcp_established,
		.tcp_close = o->tcp_close,
		.hold = o->end == TARGET_KILL && !o->no_net_lock,
		.ext_unix = o->ext_unix,
		.shell_job = o->shell_job,
		.file_id = o->file_id,
		.maps_later = wants_precopy(o),
	};
	struct md_file_opts fopts = {.direct = o->direct, .no_uring = o->no_uring};
	int ret;

	ret = dump_refuse_fork(o, err);
	if (ret == 0)
		ret = target_precheck(o->pid, err);
	if (ret < 0)
		return ret;
	if (o->stats_dir) {
		d->stats_fd = open(o->stats_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (d->stats_fd < 0)
			return err_set(err, errno, "open work directory %s", o->stats_dir);
	}
	d->model = model_new(MODEL_SHARED);
	if (!d->model)
		return err_set(err, ENOMEM, "reserve address space for the process tree");
	if (o->no_net_lock)
		d->model->net_lock = M_NET_LOCK_SKIP;
	/* The guardian first: it must not inherit the image's descriptors. */
	d->target = target_open(o->pid, d->model, &topts, err);
	if (!d->target)
		return -err->errnum;
	d->lost = (struct lost){.target = d->target, .model = d->model};
	/* It takes as long as to read the index of a parent. */
	ret = target_survey_begin(d->target, err);
	if (ret < 0)
		return ret;
	d->image = o->into ? image_create_into(o->dir, o->format, err)
			   : image_create(o->dir, o->format, err);
	if (!d->image)
		return -err->errnum;
	fopts.page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	if (o->prev_dir) {
		ret = parent_open(o, d->image, &d->parent, err);
		if (ret < 0)
			return ret;
		fopts.has_parent = true;
		fopts.parent_id = md_file_id(d->parent);
	}
	if (o->format == IMAGE_CRIU)
		d->criu = image_criu_pages_new(d->image, fopts.page_size, err);
	else
		d->writer =
			md_writer_file_open(image_dirfd(d->image), IMAGE_BLOCK_FILE, &fopts, err);
	if (!d->criu && !d->writer)
		return -err->errnum;
	if (d->writer) {
		struct md_opts mopts = memory_opts(d);

		ret = md_run_check(d->writer, &mopts, err);
		if (ret < 0)
			return ret;
	}
	if (FAULT("dump.prepared"))
		return err_set(err, EIO, "fault injected at dump.prepared");
	ret = target_survey_end(d->target, err);
	return ret < 0 ? ret : dump_refuse(d, err);
}

static int emit_criu(void *arg, uint64_t space, const struct md_extent *e, bool lazy,
		     struct err *err)
{
	struct dump *d = arg;

	return image_criu_add(d->criu, space, e, lazy, err);
}

/* CRIU's page map must be whole before the first page has a place: one scan ahead of the copy. */
static int dump_map_criu(struct dump *d, struct ranges *r, struct err *err)
{
	int ret = ranges_scan(r, d->model, emit_criu, d, err);

	if (ret < 0)
		return ret;
	d->writer = image_criu_writer(d->criu, err);
	return d->writer ? 0 : -err->errnum;
}

/* Without pre-copy: all private memory of the root at a gigabyte per second, at least. */
static int dump_budget(struct dump *d, struct err *err)
{
	uint64_t rss, most = d->opts->max_freeze_ns ? d->opts->max_freeze_ns : DUMP_MAX_FREEZE_NS;

	if (!d->opts->strict_freeze)
		return 0;
	rss = target_private_bytes(d->opts->pid);
	d->res->precopy.predicted_ns = rss;
	if (rss <= most)
		return 0;
	err_fail(err, EBUSY, ERR_BUDGET,
		 "pid %d would stand still for about %" PRIu64
		 " ms while its memory is copied, and "
		 "at most %" PRIu64 " ms are allowed",
		 d->opts->pid, rss / 1000000, most / 1000000);
	err_hint(err, "allow more with --max-freeze, or dump it without --strict-freeze");
	return -EBUSY;
}

/* Copies what can be copied while the tree runs. Where that cannot be had, nothing is done. */
static int dump_precopy(struct dump *d, struct err *err)
{
	const struct dump_opts *o = d->opts;
	struct md_opts mopts = memory_opts(d);
	uint64_t t0 = now_ns();
	bool must = o->tracking == TRACKING_UFFD || o->tracking == TRACKING_SOFT;
	int ret;

	if (!wants_precopy(o))
		return dump_budget(d, err);
	dump_phase(d, DUMP_PRECOPY, target_private_bytes(o->pid));
	d->precopy = precopy_begin(d->target, o, d->parent, &d->res->precopy, err);
	if (!d->precopy && err->errnum)
		return -err->errnum;
	if (!d->res->precopy.on && must) {
		err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			 "writes of pid %d cannot be tracked by %s: %s", o->pid,
			 o->tracking == TRACKING_UFFD ? "userfaultfd" : "soft-dirty marks",
			 d->res->precopy.reason);
		err_hint(err, "leave --tracking out: the dump takes what works here, and else "
			      "copies while the tree stands still (`stasis check` lists what this "
			      "kernel has)");
		return -EOPNOTSUPP;
	}
	ret = d->res->precopy.on ? 0 : dump_budget(d, err);
	if (ret == 0 && !d->res->precopy.on)
		ret = target_survey_again(d->target, err);
	if (ret < 0 || !d->precopy)
		return ret;
	ret = precopy_rounds(d->precopy, d->writer, &mopts, err);
	d->res->memory_ns = now_ns() - t0;
	if (ret == -EINTR)
		err->class = ERR_INTERRUPTED;
	return ret;
}

/* What was kept while the tree stood still is written. */
static int dump_precopied(struct dump *d, struct err *err)
{
	struct md_opts mopts = memory_opts(d);
	uint64_t t0 = now_ns();
	int ret = precopy_finish(d->precopy, d->writer, &mopts, &d->res->mem, err);

	d->res->memory_ns += now_ns() - t0;
	if (ret == -EINTR)
		err->class = ERR_INTERRUPTED;
	return ret;
}

static int dump_pages(struct dump *d, const struct ranges *r, struct err *err)
{
	struct md_opts mopts = memory_opts(d);
	struct md_reader *reader;
	int ret;

	if (d->precopy)
		return precopy_frozen(d->precopy, d->model, r, d->writer, &mopts, &d->lost, err);
	reader = md_reader_vm_new(r->v, r->n, err);
	if (!reader)
		return -err->errnum;
	lost_note(&d->lost, reader);
	ret = md_run(reader, d->writer, &mopts, &d->res->mem, err);
	reader->close(reader);
	return ret;
}

static int dump_memory(struct dump *d, struct err *err)
{
	struct ranges r = {0};
	struct err gone = {0};
	int ret = ranges_collect(&r, d->model, err);

	dump_log_model(d->model, r.n);
	if (ret == 0 && d->criu)
		ret = dump_map_criu(d, &r, err);
	if (ret < 0)
		goto out;
	dump_phase(d, DUMP_MEMORY, d->precopy ? 0 : ranges_estimate(d->model));
	ret = dump_pages(d, &r, err);
	if (ret == -EINTR)
		err->class = ERR_INTERRUPTED;
	/*
	 * A SIGKILL from elsewhere ends even a frozen process: its pages then read as vanished.
	 * Before the tree runs on target_thaw() looks.
	 */
	if (ret == 0)
		ret = d->opts->end == TARGET_RUN ? 0 : target_alive(d->target, err);
	else if (target_alive(d->target, &gone) < 0)
		*err = gone;
out:
	ranges_free(&r);
	return ret;
}

/* The freeze window: no file is created here but CRIU's page files, no text is formatted. */
static int dump_frozen(struct dump *d, struct err *err)
{
	uint64_t t0 = now_ns(), t1;
	int ret;

	ret = target_freeze(d->target, err);
	t1 = now_ns();
	d->res->freezing_ns = t1 - t0;
	if (ret < 0)
		return ret;
	if (FAULT("dump.frozen"))
		return err_set(err, EIO, "fault injected at dump.frozen");
	if (d->precopy && !d->res->precopy.soft) {
		target_leave_guards(d->target);
		precopy_look(d->precopy);
	}
	ret = target_collect(d->target, err);
	t0 = now_ns();
	d->res->collect_ns = t0 - t1;
	if (ret == 0)
		ret = dump_refuse(d, err);
	if (ret == 0)
		ret = dump_interrupted(d, err);
	if (ret < 0)
		return ret;
	if (FAULT("dump.collected"))
		return err_set(err, EIO, "fault injected at dump.collected");
	ret = dump_memory(d, err);
	d->res->memory_ns += now_ns() - t0;
	return ret < 0 ? ret : dump_refuse(d, err);
}

/* Before the image gets its name: a failure leaves neither, and the tree runs on. */
static int dump_stats(struct dump *d, struct err *err)
{
	const struct dump_result *r = d->res;
	uint64_t frozen =
		r->frozen_ns ? r->frozen_ns : now_ns() - target_times(d->target)->freeze_begin_ns;
	struct image_stats st = {
		.freezing_us = (uint32_t)(r->freezing_ns / 1000),
		.frozen_us = (uint32_t)(frozen / 1000),
		.memdump_us = (uint32_t)(r->memory_ns / 1000),
		.memwrite_us = (uint32_t)(r->memory_ns / 1000),
		.pages_scanned = r->mem.raw_bytes / d->model->page_size,
		.pages_written = r->mem.raw_bytes / d->model->page_size,
	};

	return d->stats_fd < 0 ? 0 : image_write_stats(d->stats_fd, &st, err);
}

static int dump_commit(struct dump *d, struct err *err)
{
	uint64_t t0 = now_ns();
	int ret;

	dump_phase(d, DUMP_COMMIT, 0);
	ret = d->writer->sync(d->writer, err);
	if (d->precopy && !d->criu)
		d->memory_id = md_writer_file_id(d->writer);
	d->writer->close(d->writer);
	d->writer = NULL;
	if (ret == 0)
		ret = image_write_model(d->image, d->model, err);
	if (ret == 0)
		ret = dump_stats(d, err);
	if (ret == 0)
		ret = dump_interrupted(d, err);
	if (FAULT("dump.before_commit"))
		return err_set(err, EIO, "fault injected at dump.before_commit");
	if (ret == 0)
		ret = image_commit(d->image, d->model, err);
	d->committed = ret == 0;
	if (ret == 0)
		d->res->image_bytes = image_size(d->image);
	d->res->commit_ns = now_ns() - t0;
	return ret;
}

static int dump_thaw(struct dump *d, enum target_end end, struct err *err)
{
	const struct target_times *t;
	int ret = target_thaw(d->target, end, err);

	t = target_times(d->target);
	if (t->thaw_end_ns)
		d->res->frozen_ns = t->thaw_end_ns - t->freeze_begin_ns;
	return ret;
}

/* The image is there already: should the tree live on all the same, both are. */
static int dump_end(struct dump *d, struct err *err)
{
	enum m_net_lock lock = d->model->net_lock;
	struct err e = {0};
	int ret;

	/* Nothing to undo: for tests that stop or kill the tool here. */
	if (FAULT("dump.committed"))
		pr_warn("fault injected at dump.committed\n");
	ret = dump_thaw(d, d->opts->end, &e);
	netlock_name(d->model, d->res->held);
	d->res->let_go = lock != d->model->net_lock;
	if (ret == 0)
		return 0;
	err_fail(err, e.errnum, e.class, "%s; the image %s was finished before and is whole", e.msg,
		 d->opts->dir);
	err_hint(err, "end the tree yourself, or remove the image and try again");
	return ret;
}

/* The image is there: should this fail, the next dump compares contents. */
static void dump_keep(struct dump *d)
{
	struct precopy_result *p = &d->res->precopy;
	struct err e = {0};
	int ret;

	if (!p->on)
		return;
	ret = precopy_keep(d->precopy, d->memory_id, &e);
	p->kept = ret == 0;
	if (ret < 0) {
		pr_warn("writes are not tracked any longer: %s\n", e.msg);
		snprintf(p->why_not_kept, sizeof(p->why_not_kept), "%.159s", e.msg);
	}
}

static void dump_account(struct dump *d)
{
	const struct model *m = d->model;
	struct dump_result *r = d->res;

	if (!m)
		return;
	r->nprocs = m->nprocs;
	r->lost_bytes = lost_bytes(&d->lost, m);
	for (uint32_t i = 0; i < m->nprocs; i++) {
		r->nthreads += m->procs[i].nthreads;
		r->nvmas += m->procs[i].mm.nvmas;
	}
	if (d->target) {
		r->batches = target_times(d->target)->batches;
		r->batch_calls = target_times(d->target)->batch_calls;
		snprintf(r->note, sizeof(r->note), "%s", target_note(d->target));
	}
	if (m->nfindings) {
		r->findings = calloc(m->nfindings, sizeof(*r->findings));
		if (r->findings) {
			memcpy(r->findings, m->findings, m->nfindings * sizeof(*r->findings));
			r->nfindings = m->nfindings;
		}
	}
}

/* *@ret_passing: what is in the way may be gone when it is tried again. */
static int dump_once(const struct dump_opts *opts, struct dump_result *ret_result,
		     bool *ret_passing, struct err *err)
{
	struct dump d = {.opts = opts, .res = ret_result, .stats_fd = -1};
	uint64_t t0 = now_ns();
	int ret;

	memset(ret_result, 0, sizeof(*ret_result));
	dump_phase(&d, DUMP_SURVEY, 0);
	ret = dump_prepare(&d, err);
	if (ret == 0)
		ret = dump_interrupted(&d, err);
	if (ret == 0)
		ret = dump_precopy(&d, err);
	if (ret == 0) {
		dump_phase(&d, DUMP_FREEZE, 0);
		/* What is left takes no time to speak of. */
		if (d.precopy)
			urgent_begin(&d.urgent);
		ret = dump_frozen(&d, err);
	}
	/*
	 * A tree that runs on is thawed before metadata and fsync. One that is to end stays frozen
	 * until the image is safe on disk: a failed commit must be able to let it run on.
	 */
	if (ret == 0 && opts->end == TARGET_RUN)
		ret = dump_thaw(&d, TARGET_RUN, err);
	urgent_end(&d.urgent);
	if (ret == 0 && d.precopy && opts->end == TARGET_RUN && !opts->track_mem)
		ret = target_untrack(d.target, err);
	if (ret == 0 && d.precopy)
		ret = dump_precopied(&d, err);
	if (ret == 0)
		ret = dump_commit(&d, err);
	if (ret == 0 && opts->end != TARGET_RUN)
		ret = dump_end(&d, err);
	if (ret == 0 && d.precopy && opts->track_mem)
		dump_keep(&d);
	dump_account(&d);
	*ret_passing = ret == -EOPNOTSUPP && in_passing(&d);
	dump_log_result(opts, ret_result, d.model, ret, err);
	if (!d.committed)
		dump_unlink(&d);
	if (d.writer)
		d.writer->close(d.writer);
	image_criu_pages_free(d.criu);
	target_release(d.target);
	precopy_free(d.precopy);
	lost_deinit(&d.lost);
	md_file_close(d.parent);
	image_close(d.image);
	model_free(d.model);
	if (d.stats_fd >= 0)
		close(d.stats_fd);
	ret_result->total_ns = now_ns() - t0;
	return ret;
}

int dump_run(const struct dump_opts *opts, struct dump_result *ret_result, struct err *err)
{
	bool passing;
	int ret = dump_once(opts, ret_result, &passing, err);

	/* A running program leaves a moment's state soon: 10, 20, 40, 80, 160 ms later. */
	for (long ms = 10; ret < 0 && passing && ms <= 160; ms *= 2) {
		struct timespec wait = {.tv_nsec = ms * 1000000};

		if (opts->stop && opts->stop(opts->arg))
			break;
		pr_info("dump of pid %d: again in %ld ms\n", opts->pid, ms);
		nanosleep(&wait, NULL);
		free(ret_result->findings);
		err_clear(err);
		ret = dump_once(opts, ret_result, &passing, err);
	}
	return ret;
}
