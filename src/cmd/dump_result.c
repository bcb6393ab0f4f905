/* SPDX-License-Identifier: MIT */
/* What a dump tells when it has ended: one JSON object, or lines for people. */
#include "src/cmd/dump_result.h"

#include <inttypes.h>
#include <jansson.h>

#include "src/cmd/cmd.h"

static json_t *json_stage(const struct md_stage_stats *s)
{
	return json_pack("{s:I, s:I, s:i}", "busy_ns", (json_int_t)s->busy_ns, "wait_ns",
			 (json_int_t)s->wait_ns, "threads", (int)s->threads);
}

static json_t *json_precopy(const struct precopy_result *p)
{
	json_t *bytes = json_array(), *ns = json_array();

	for (unsigned i = 0; i < p->rounds; i++) {
		json_array_append_new(bytes, json_integer((json_int_t)p->round_bytes[i]));
		json_array_append_new(ns, json_integer((json_int_t)p->round_ns[i]));
	}
	return json_pack(
		"{s:s, s:o, s:i, s:i, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:b}",
		"tracking",
		!p->on	  ? "none"
		: p->soft ? "soft-dirty"
			  : "uffd",
		"reason", cmd_json_text(p->reason), "processes", (int)p->tracked, "rounds",
		(int)p->rounds, "round_bytes", bytes, "round_ns", ns, "arm_ns",
		(json_int_t)p->arm_ns, "predicted_ns", (json_int_t)p->predicted_ns,
		"dirty_bytes_per_s", (json_int_t)p->dirty_bytes_s, "scan_ns",
		(json_int_t)p->scan_ns, "frozen_bytes", (json_int_t)p->frozen_bytes, "map_bytes",
		(json_int_t)p->map_bytes, "parent_bytes", (json_int_t)p->parent_bytes, "compared",
		p->compared, "kept", p->kept, "late", p->late);
}

/* Asked for, or promised by default where memory is copied while the tree runs. */
static uint64_t max_freeze_ns(const struct dump_opts *o, const struct dump_result *r)
{
	const uint64_t unasked = r->precopy.on ? DUMP_MAX_FREEZE_NS : UINT64_MAX;

	return o->end == TARGET_RUN ? o->max_freeze_ns ?: unasked : UINT64_MAX;
}

void dump_print_json(const struct dump_opts *o, const struct dump_result *r, const struct err *err)
{
	const struct md_stats *m = &r->mem;
	json_t *j = json_object();

	json_object_set_new(j, "ok", json_boolean(!err->errnum));
	json_object_set_new(j, "exit_code", json_integer(err->class));
	if (err->errnum) {
		json_object_set_new(j, "error", cmd_json_text(err->msg));
		json_object_set_new(j, "hint", cmd_json_text(err->hint));
	}
	json_object_set_new(j, "pid", json_integer(o->pid));
	json_object_set_new(j, "dir", cmd_json_text(o->dir));
	json_object_set_new(j, "codec", json_string(md_codec_name(o->codec)));
	json_object_set_new(j, "processes", json_integer(r->nprocs));
	json_object_set_new(j, "threads", json_integer(r->nthreads));
	json_object_set_new(j, "vmas", json_integer(r->nvmas));
	json_object_set_new(j, "raw_bytes", json_integer((json_int_t)m->raw_bytes));
	json_object_set_new(j, "same_bytes", json_integer((json_int_t)m->same_bytes));
	json_object_set_new(j, "packed_bytes", json_integer((json_int_t)m->packed_bytes));
	json_object_set_new(j, "image_bytes", json_integer((json_int_t)r->image_bytes));
	json_object_set_new(j, "vanished_bytes", json_integer((json_int_t)m->vanished_bytes));
	json_object_set_new(j, "blocks",
			    json_pack("{s:I, s:I, s:I, s:I, s:I}", "none",
				      (json_int_t)m->blocks[MD_CODEC_NONE], "lz4",
				      (json_int_t)m->blocks[MD_CODEC_LZ4], "zstd",
				      (json_int_t)m->blocks[MD_CODEC_ZSTD], "zero",
				      (json_int_t)m->blocks[MD_CODEC_ZERO], "same",
				      (json_int_t)m->blocks[MD_CODEC_SAME]));
	json_object_set_new(j, "frozen_ns", json_integer((json_int_t)r->frozen_ns));
	json_object_set_new(
		j, "longest_stop_ns",
		json_integer((json_int_t)(r->frozen_ns > r->precopy.arm_ns ? r->frozen_ns
									   : r->precopy.arm_ns)));
	json_object_set_new(j, "freeze_kept", json_boolean(r->frozen_ns <= max_freeze_ns(o, r)));
	json_object_set_new(j, "precopy", json_precopy(&r->precopy));
	json_object_set_new(j, "freezing_ns", json_integer((json_int_t)r->freezing_ns));
	json_object_set_new(j, "collect_ns", json_integer((json_int_t)r->collect_ns));
	json_object_set_new(j, "memory_ns", json_integer((json_int_t)r->memory_ns));
	json_object_set_new(j, "commit_ns", json_integer((json_int_t)r->commit_ns));
	json_object_set_new(j, "total_ns", json_integer((json_int_t)r->total_ns));
	json_object_set_new(j, "batches", json_integer(r->batches));
	json_object_set_new(j, "batch_calls", json_integer(r->batch_calls));
	json_object_set_new(j, "read", json_stage(&m->read));
	json_object_set_new(j, "pack", json_stage(&m->pack));
	json_object_set_new(j, "write", json_stage(&m->write));
	json_object_set_new(j, "bottleneck", json_string(m->bottleneck ? m->bottleneck : ""));
	json_object_set_new(j, "io_uring", json_boolean(m->io_uring));
	json_object_set_new(j, "lost_bytes", json_integer((json_int_t)r->lost_bytes));
	json_object_set_new(j, "note", cmd_json_text(r->note));
	json_object_set_new(j, "why_not_kept", cmd_json_text(r->precopy.why_not_kept));
	json_object_set_new(j, "held", json_string(r->held));
	json_t *list = json_array();
	for (uint32_t i = 0; i < r->nfindings; i++)
		json_array_append_new(list,
				      json_pack("{s:i, s:o, s:b}", "pid", (int)r->findings[i].pid,
						"text", cmd_json_text(r->findings[i].text), "fatal",
						r->findings[i].fatal));
	json_object_set_new(j, "findings", list);
	json_dumpf(j, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(j);
}

void dump_print_findings(const struct dump_result *r)
{
	for (uint32_t i = 0; i < r->nfindings; i++)
		fprintf(stderr, "note: pid %u: %s%s\n", r->findings[i].pid, r->findings[i].text,
			r->findings[i].fatal ? " (cannot be restored)" : "");
}

/* How the memory was copied while the tree ran, or why it was not. */
static void print_precopy(const struct precopy_result *p)
{
	char rest[24], rate[24], arm[24], guess[24], bytes[24];

	if (!p->on && p->reason[0])
		fprintf(stderr, "note: no pre-copy: %s\n", p->reason);
	if (!p->on)
		return;
	fprintf(stderr, "pre-copy: %u round%s of", p->rounds, p->rounds == 1 ? "" : "s");
	for (unsigned i = 0; i < p->rounds; i++)
		fprintf(stderr, "%s %s", i ? "," : "",
			cmd_bytes(bytes, sizeof(bytes), p->round_bytes[i]));
	fprintf(stderr,
		"; %s copied while frozen, which was to take %s; %s/s written; %s to arm tracking\n",
		cmd_bytes(rest, sizeof(rest), p->frozen_bytes),
		cmd_time(guess, sizeof(guess), p->predicted_ns),
		cmd_bytes(rate, sizeof(rate), p->dirty_bytes_s),
		cmd_time(arm, sizeof(arm), p->arm_ns));
}

/* What nothing came of, for it is about copying while the tree runs. */
static void print_unused(const struct dump_opts *o, const struct dump_result *r)
{
	const bool freeze = o->max_freeze_ns && !o->strict_freeze, cpu = o->max_cpu;

	if (r->precopy.on || (!freeze && !cpu))
		return;
	fprintf(stderr, "note: %s%s%s changed nothing: no memory was copied while the tree ran%s\n",
		freeze ? "--max-freeze" : "", freeze && cpu ? " and " : "", cpu ? "--max-cpu" : "",
		o->end == TARGET_RUN || o->tracking != TRACKING_DEFAULT
			? ""
			: ", which is done with -R, or with --tracking uffd");
}

/* That an incremental dump took as long as a whole one, and that the next one will. */
static void print_tracked(const struct dump_opts *o, const struct precopy_result *p)
{
	if (p->compared && o->tracking != TRACKING_NONE)
		fprintf(stderr,
			"note: all pages were compared with those of %s: nothing had tracked writes "
			"since that image (--track-mem does, until another dump of this process, or "
			"one that failed)\n",
			o->prev_dir);
	if (o->track_mem && !p->kept)
		fprintf(stderr,
			"note: writes are not tracked from here on%s%s: the next dump with "
			"--prev-images-dir compares all pages\n",
			p->why_not_kept[0] ? ": " : "", p->why_not_kept);
}

static void print_budget(const struct dump_opts *o, const struct dump_result *r)
{
	const uint64_t most = max_freeze_ns(o, r);
	char frozen[24];

	if (r->frozen_ns > most)
		fprintf(stderr,
			"note: it stood still for %s: --max-freeze %" PRIu64
			" ms could not be kept\n",
			cmd_time(frozen, sizeof(frozen), r->frozen_ns), most / 1000000);
}

/* What became of the memory: of an incremental dump a ratio would say nothing of compression. */
static void print_size(const struct dump_opts *o, const struct dump_result *r)
{
	const uint64_t raw = r->mem.raw_bytes;
	char changed[24], img[24];

	cmd_bytes(img, sizeof(img), r->image_bytes);
	if (o->prev_dir)
		fprintf(stderr, ", %s of it changed -> %s, of use with its parent %s only",
			cmd_bytes(changed, sizeof(changed), raw - r->precopy.parent_bytes), img,
			o->prev_dir);
	else
		fprintf(stderr, " -> %s (ratio %.2f)", img,
			r->image_bytes ? (double)raw / (double)r->image_bytes : 0);
}

void dump_print_result(const struct dump_opts *o, const struct dump_result *r)
{
	char raw[24], frozen[24], total[24];
	double rate = r->memory_ns ? (double)r->mem.raw_bytes / (double)r->memory_ns : 0;

	if (o->format == IMAGE_STASIS && !r->mem.io_uring && !o->no_uring)
		fprintf(stderr,
			"note: io_uring is not available (%s): pages were written with pwrite\n",
			r->mem.io_uring_reason);
	if (r->note[0])
		fprintf(stderr, "note: %s\n", r->note);
	print_precopy(&r->precopy);
	print_tracked(o, &r->precopy);
	print_unused(o, r);
	print_budget(o, r);
	if (r->lost_bytes)
		fprintf(stderr, "note: %s of memory could not be read and are not in the image\n",
			cmd_bytes(raw, sizeof(raw), r->lost_bytes));
	if (r->held[0])
		fprintf(stderr,
			"note: packets of TCP connections are held back until the restore "
			"(nf_tables, table inet %s)\n",
			r->held);
	if (r->let_go)
		fprintf(stderr, "note: packets of TCP connections could not be held back any "
				"longer: what a peer sends before the restore ends its "
				"connection\n");
	fprintf(stderr, "%s: %u process%s, %u thread%s, %s of memory", o->dir, r->nprocs,
		r->nprocs == 1 ? "" : "es", r->nthreads, r->nthreads == 1 ? "" : "s",
		cmd_bytes(raw, sizeof(raw), r->mem.raw_bytes));
	print_size(o, r);
	fprintf(stderr, ", frozen %s, total %s, memory at %.2f GB/s\n",
		r->frozen_ns ? cmd_time(frozen, sizeof(frozen), r->frozen_ns) : "to the end",
		cmd_time(total, sizeof(total), r->total_ns), rate);
}
