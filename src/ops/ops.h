/* SPDX-License-Identifier: MIT */
/*
 * The operations: one verb each, from options to a result. They print nothing.
 *
 * Options are const; a run changes none of them. Errors: struct err with the exit code in its
 * class. Whatever happens, the target has been let go when an operation returns.
 */
#ifndef OPS_OPS_H
#define OPS_OPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "memdump/memdump.h"
#include "src/image/image.h"
#include "src/target/target.h"

enum dump_phase {
	DUMP_SURVEY, /* the target runs, nothing is stopped yet */
	DUMP_FREEZE, /* being stopped and looked at */
	DUMP_MEMORY, /* pages */
	DUMP_COMMIT, /* metadata, fsync, rename */
};

struct dump_opts {
	pid_t pid;
	const char *dir;
	enum image_format format;
	enum target_end end; /* what becomes of the tree after a successful dump */
	enum md_codec_id codec;
	int level;
	unsigned threads;    /* 0: all CPUs */
	uint32_t block_size; /* 0: the default */
	bool direct;	     /* O_DIRECT */
	bool no_uring;
	unsigned freeze_timeout_ms; /* 0: the default */
	const char *stats_dir;	    /* CRIU's stats-dump goes here; NULL: not written */
	/* Called on the calling thread as phases begin; the estimate is of bytes to read, may be 0.
	 */
	void (*phase)(void *arg, enum dump_phase phase, uint64_t estimate_bytes);
	/* True ends the dump with ERR_INTERRUPTED. Called often, on the calling thread. */
	bool (*stop)(void *arg);
	void *arg;		      /* for both */
	struct md_progress *progress; /* may be NULL */
};

struct dump_result {
	uint64_t total_ns;
	uint64_t frozen_ns; /* first thread stopped to last thread let go; 0: not let go */
	uint64_t freezing_ns, collect_ns, memory_ns, commit_ns;
	uint64_t image_bytes; /* all files of the image */
	unsigned nprocs, nthreads, nvmas;
	unsigned batches, batch_calls;
	struct md_stats mem;
	uint64_t lost_bytes; /* of memory that could not be read; guard pages do not count */
	uint32_t nfindings;
	struct m_finding *findings; /* copied: free() it */
};

/*
 * Dumps the tree below opts->pid into opts->dir. On failure the tree runs on and no image is left.
 * @ret is filled as far as it went.
 */
int dump_run(const struct dump_opts *opts, struct dump_result *ret, struct err *err);

#endif
