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
#include "src/target/make.h"
#include "src/target/target.h"

enum dump_phase {
	DUMP_SURVEY,  /* the target runs, nothing is stopped yet */
	DUMP_PRECOPY, /* its memory is copied while it runs */
	DUMP_FREEZE,  /* being stopped and looked at */
	DUMP_MEMORY,  /* pages */
	DUMP_COMMIT,  /* metadata, fsync, rename */
};

enum tracking {
	/* With TARGET_RUN: by userfaultfd, where that does not work by soft-dirty marks; else none.
	 */
	TRACKING_DEFAULT,
	TRACKING_NONE, /* stop and copy */
	TRACKING_UFFD, /* must work */
	TRACKING_SOFT, /* by soft-dirty marks, must work */
	TRACKING_FORK, /* not to be had, with the reason */
};

enum { PRECOPY_ROUNDS = 16 };
#define DUMP_MAX_FREEZE_NS 50000000ull /* the default of max_freeze_ns */

struct dump_opts {
	pid_t pid;
	const char *dir;
	bool into; /* dir exists and may hold other files: image_create_into() */
	enum image_format format;
	enum target_end end; /* what becomes of the tree after a successful dump */
	enum md_codec_id codec;
	int level;
	unsigned threads;    /* 0: all CPUs */
	uint32_t block_size; /* 0: the default */
	bool direct;	     /* O_DIRECT */
	bool no_uring;
	unsigned freeze_timeout_ms; /* 0: the default */
	/* State that cannot be restored is no reason to refuse: for a look at it, not to go on. */
	bool allow_findings;
	uint64_t ghost_limit; /* 0: the default */
	bool link_remap;      /* files whose names are not found get another for the image */
	bool tcp_established, tcp_close, ext_unix, shell_job; /* as in struct target_opts */
	bool no_net_lock;	    /* packets of connections are not held back after a kill */
	struct fileid_opts file_id; /* checksums to put into the image; else none */
	const char *stats_dir;	    /* CRIU's stats-dump goes here; NULL: not written */
	enum tracking tracking;
	/* An earlier image of the tree, relative to dir: only what has changed since is stored. */
	const char *prev_dir;
	bool track_mem; /* the next dump can tell what was written since this one; with TARGET_RUN
			 */
	uint64_t max_freeze_ns; /* how long the tree may stand still; 0: the default */
	bool strict_freeze;	/* rather no dump than a longer stop */
	int nice;		/* of the threads that copy while the tree runs, 0 to 19 */
	unsigned max_cpu;	/* percent of one CPU that they take together; 0: all they can */
	/* Called on the calling thread as phases begin; the estimate is of bytes to read, may be 0.
	 */
	void (*phase)(void *arg, enum dump_phase phase, uint64_t estimate_bytes);
	/* True ends the dump with ERR_INTERRUPTED. Called often, on the calling thread. */
	bool (*stop)(void *arg);
	void *arg;		      /* for both */
	struct md_progress *progress; /* may be NULL */
};

struct precopy_result {
	bool on;	  /* memory was copied while the tree ran */
	bool soft;	  /* with soft-dirty marks; else with userfaultfd */
	char reason[160]; /* why not, where that was wanted */
	unsigned rounds;
	uint64_t round_bytes[PRECOPY_ROUNDS], round_ns[PRECOPY_ROUNDS];
	uint64_t arm_ns;	/* the stop for arming the tracking, the longest of them */
	uint64_t predicted_ns;	/* of the freeze, just before it */
	uint64_t dirty_bytes_s; /* written by the tree per second, pages counted once a round */
	uint64_t scan_ns;	/* of the look at the page tables, frozen */
	uint64_t frozen_bytes;	/* read while it stood still */
	uint64_t map_bytes;	/* of memory in the image: each page once */
	uint64_t parent_bytes;	/* of that what the earlier image has */
	bool kept;		/* the next dump can tell what was written since this one */
	char why_not_kept[160]; /* where it was to be so and .on; else .reason tells */
	bool compared;		/* by contents, where writes since then had not been tracked */
	unsigned tracked;	/* processes */
	bool late;		/* processes or mappings that came meanwhile were armed, too */
};

struct dump_result {
	uint64_t total_ns;
	uint64_t frozen_ns; /* first thread stopped to last thread let go; 0: not let go */
	uint64_t freezing_ns, collect_ns, memory_ns, commit_ns;
	struct precopy_result precopy;
	uint64_t image_bytes; /* all files of the image */
	unsigned nprocs, nthreads, nvmas;
	unsigned batches, batch_calls;
	struct md_stats mem;
	/*
	 * "CRIU-...", the table of nf_tables that holds back packets until the restore; "": there
	 * was nothing to hold. @let_go: they were held, and that came to an end with the tree.
	 */
	char held[64];
	bool let_go;
	char note[200];	     /* of the dump itself, not of its image; "": none */
	uint64_t lost_bytes; /* of memory that could not be read; guard pages do not count */
	uint32_t nfindings;
	struct m_finding *findings; /* copied: free() it */
};

/*
 * Dumps the tree below opts->pid into opts->dir. On failure the tree runs on and no image is left.
 * What is in the way of an image at that moment alone (a connection that waits to be accepted) is
 * waited for: up to six tries within half a second. @ret is filled as far as the last one went.
 */
int dump_run(const struct dump_opts *opts, struct dump_result *ret, struct err *err);

struct squash_opts {
	const char *dir, *out;
	enum md_codec_id codec;
	int level;
	unsigned threads;
	bool (*stop)(void *arg); /* as in dump_opts */
	void *arg;
};

/* Makes one whole image opts->out of the image opts->dir and all that it refers to. */
int squash_run(const struct squash_opts *opts, struct md_stats *ret_stats, struct err *err);

enum restore_phase {
	RESTORE_READ,	/* the image's metadata, its files */
	RESTORE_SPAWN,	/* empty processes */
	RESTORE_MEMORY, /* pages */
	RESTORE_STATE,	/* registers, signals, timers, descriptors */
	RESTORE_END,	/* the last call, whatever happened */
};

/* In what this CPU is to have all that the image's had. */
enum {
	RESTORE_CPU_FPU = 1, /* sets of registers */
	RESTORE_CPU_INS = 2, /* instructions, as far as programs are told by AT_HWCAP */
};

struct restore_opts {
	const char *dir;
	bool sibling;	/* the root becomes the tool's sibling and not its child */
	bool tcp_close; /* connections come back closed */
	bool shell_job; /* a root without session of its own comes into the tool's */
	struct make_opts make;
	uint32_t
		cpu_unchecked; /* RESTORE_CPU_* that do not matter as long as they are not in use */
	unsigned threads;      /* that fill memory; 0: all CPUs */
	bool leave_stopped;    /* every process is stopped by SIGSTOP when it comes back */
	void (*phase)(void *arg, enum restore_phase phase, uint64_t total_bytes);
	/* It may take some seconds until that parent collects it. May be NULL. */
	void (*waits)(void *arg, pid_t pid, pid_t parent);
	bool (*stop)(void *arg);      /* as in dump_opts */
	void *arg;		      /* for all of them */
	struct md_progress *progress; /* may be NULL */
};

struct restore_result {
	uint64_t total_ns;
	uint64_t read_ns, spawn_ns, maps_ns, memory_ns, state_ns, go_ns;
	pid_t root;
	bool live; /* the tree has been let go */
	/* Leads a session whose terminal was somebody else's, and has none now; 0: nobody does. */
	pid_t without_tty;
	unsigned nprocs, nthreads, nvmas, nfiles;
	struct md_fill_stats mem;
	/* Not compared by the checksum that was asked for, for the image has none; one of them. */
	uint32_t nunsummed;
	char unsummed[128];
	char uffd_reason[96]; /* why pages were not filled by userfaultfd; empty: they were */
};

/*
 * Brings the tree of opts->dir back. After success it runs, the root a child of the caller's (or a
 * sibling). On failure no process of it is left. @ret is filled as far as it went.
 *
 * The work is done in a child of its own (not for a sibling), where the callbacks are called, too:
 * should the caller be killed at whatever instant, either nothing of the tree is left, or all of it
 * runs.
 */
int restore_run(const struct restore_opts *opts, struct restore_result *ret, struct err *err);

#endif
