/* SPDX-License-Identifier: MIT */
/*
 * A seized process tree: stop, look, let go.
 *
 * All ptrace work is done by a guardian: a child process of the tool that alone holds the ptrace
 * attachment and fills the model in shared memory. When the tool dies at whatever instant, the
 * guardian sees its socket close, puts every thread back as it was and lets it go. When the
 * guardian dies, the kernel detaches and every thread in the middle of a batch finds its own way
 * back through a signal frame that holds its true state (remote.h).
 *
 *	tool                         guardian                     target
 *	target_open() ── fork ─────▶ waits for commands
 *	target_freeze() ───────────▶ SEIZE, INTERRUPT, repeat ──▶ stops
 *	target_collect() ──────────▶ regsets, /proc, batches ───▶ (stopped)
 *	process_vm_readv ───────────────────────────────────────▶ (stopped)
 *	target_thaw() ─────────────▶ DETACH ────────────────────▶ runs
 *
 * Threads: every call from one thread of the tool. Errors: struct err, first one wins; a class of
 * its own for every kind of refusal (base/err.h).
 */
#ifndef TARGET_TARGET_H
#define TARGET_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/err.h"
#include "src/image/model.h"
#include "src/target/fileid.h"

struct target;

struct target_opts {
	unsigned freeze_timeout_ms; /* give up when a thread does not stop; 0: 10 s */
	/* Asked while a command lasts; true: give up with ERR_INTERRUPTED. May be NULL. */
	bool (*stop)(void *arg);
	void *stop_arg;
	bool survey_all;	    /* for a list of findings: mappings, too, in the survey */
	bool maps_later;	    /* target_survey_again() will come: flags of mappings then */
	uint64_t ghost_limit;	    /* most bytes on disk of a deleted file to keep; 0: 1 MiB */
	bool link_remap;	    /* files whose names are not found get another for the image */
	bool tcp_established;	    /* connections with somebody outside of the tree are carried */
	bool tcp_close;		    /* these are closed connections in the image */
	bool hold;		    /* the tree will be killed: no packet of theirs gets lost */
	bool ext_unix;		    /* unix datagram sockets may have a peer outside of the tree */
	bool shell_job;		    /* terminals and sessions may be somebody else's */
	struct fileid_opts file_id; /* checksums of regular files; else none */
};

/* How writes to memory are told while the tree runs. */
enum target_way {
	TARGET_WAY_UFFD, /* userfaultfd WP_ASYNC, Linux 6.7 */
	TARGET_WAY_SOFT, /* the kernel's marks, which the tool looks at: memdump/soft_dirty.h */
	TARGET_WAY_MORE, /* of a tree that is tracked the first way: processes and mappings that
			    have come since */
};

/* Whether writes to the memory of a process can be told while it runs. */
struct target_track {
	uint32_t pid;
	bool on;
	bool kept;     /* tracked since the image target_tracks.since, and not from now on only */
	char why[122]; /* why not */
};

enum {
	TARGET_TRACKS = 4096, /* most processes; of more the rest is copied while frozen */
	TARGET_SPANS = 1 << 18,
	TARGET_READ = 256 << 10,
};

/* Memory that is registered with us: mappings side by side, as they were when it was armed. */
struct target_span {
	uint64_t start, end;
	uint32_t pid;
};

/* Limits of a process that are raised while we map something into it; pid 0: none is. */
struct target_limits {
	pid_t pid;
	unsigned n;
	struct {
		int which; /* RLIMIT_* */
		struct rlimit was;
	} v[2];
};

/* What the guardian tells, in memory that the tool shares. */
struct target_tracks {
	struct target_limits limits;
	uint64_t stop_ns;	   /* how long the tree stood still for it */
	uint32_t nprocs, nthreads; /* that stood still */
	/* The process that makes calls for us just now; 0: none. Atomic; see md_look_give_way(). */
	uint32_t calling;
	uint64_t since; /* of what an earlier dump kept: the number of its memory file; 0: none */
	int notes;	/* a descriptor of the guardian with what that dump noted; 0: none */
	uint32_t n;
	struct target_track v[TARGET_TRACKS];
	bool unsure;	 /* target_sure_begin() has something to do */
	uint32_t nspans; /* those of a process in a row and ascending; with TARGET_WAY_SOFT none */
	struct target_span spans[TARGET_SPANS];
	uint8_t bytes[TARGET_READ]; /* target_read() */
};

struct target_times {
	uint64_t freeze_begin_ns; /* CLOCK_MONOTONIC, first INTERRUPT */
	uint64_t frozen_ns;	  /* last thread stopped */
	uint64_t thaw_end_ns;	  /* last thread let go; 0 while frozen */
	unsigned nthreads, nprocs;
	unsigned batches;     /* injected runs */
	unsigned batch_calls; /* system calls made by them */
};

/*
 * Looks at @pid before anything is touched: not there, kernel thread, zombie, 32-bit, another
 * user's, traced by somebody else or dumped by another tool, ourselves or an ancestor of ours. 0
 * when a dump may be tried.
 */
int target_precheck(pid_t pid, struct err *err);

/*
 * Forks the guardian for the tree below @root. @m is a MODEL_SHARED model, filled later. Nothing is
 * stopped yet. NULL with @err on failure: EBUSY while another tool has it open. Call before the
 * tool starts threads.
 */
struct target *target_open(pid_t root, struct model *m, const struct target_opts *opts,
			   struct err *err);

/*
 * Reads what is slow and may be read while the target runs (smaps, build ids), to shorten the
 * freeze. Optional. Findings (unsupported state) are appended to the model.
 */
int target_survey(struct target *t, struct err *err);
/* The same, beside something else; @m is not to be touched until it has ended. */
int target_survey_begin(struct target *t, struct err *err);
int target_survey_end(struct target *t, struct err *err);

/*
 * Pre-copy: stops the tree for a moment and arms write tracking in every process that has memory
 * worth it; target_tracks() tells where it works. With TARGET_WAY_UFFD the memory is then looked at
 * with MD_PICK_TRACK, MD_PICK_DIRTY and MD_PICK_TRACKED (memdump.h). With TARGET_WAY_SOFT nothing
 * is changed in the tree. On failure everything is running, and the guardian has ended.
 */
int target_track(struct target *t, enum target_way way, struct err *err);
/* Whether this kernel has TARGET_WAY_UFFD, for us at least. */
bool target_has_wp_async(void);
/* Why it has said no: the kernel does not know it, or we may not. */
const char *target_no_wp_async(void);
/* The tree stands still between the two. A failure of the first is as one of target_track(). */
int target_pause(struct target *t, struct err *err);
int target_resume(struct target *t, struct err *err);
/* A new descriptor with what was given to target_track_keep() by the dump before; -errno: none. */
int target_notes(const struct target *t);
const struct target_tracks *target_tracks(const struct target *t);
/* The memory of @pid that is worth tracking: private, without a file. @emit: 0, or -errno to end.
 */
int target_private(pid_t pid, int (*emit)(void *arg, uint64_t start, uint64_t end), void *arg,
		   struct err *err);
/* What of it is registered with us: rounds look at no other. */
int target_armed(const struct target_tracks *t, pid_t pid,
		 int (*emit)(void *arg, uint64_t start, uint64_t end), void *arg, struct err *err);
/* How much of it is there or swapped out; 0: not known. */
uint64_t target_private_bytes(pid_t pid);
/* The same of all processes of the tree that are there now and are not tracked. */
uint64_t target_untracked_bytes(const struct target *t);
/* Whether writes to its memory are tracked. */
bool target_tracks_pid(const struct target *t, pid_t pid);
/*
 * While the tree runs: what is slow of the survey once more, for the processes that are tracked;
 * one in which somebody else has registered memory since is so no longer. With opts->maps_later for
 * all. In two parts it is done beside what the tool does meanwhile; _end() may be left out: the
 * next command waits for it.
 */
int target_survey_again(struct target *t, struct err *err);
int target_survey_again_begin(struct target *t, struct err *err);
int target_survey_again_end(struct target *t, struct err *err);
/*
 * Instead of target_untrack(): the guardian stays as a keeper, so that the next dump of the tree
 * can tell what was written since this one, whose memory file has number @image. It ends with the
 * root of the tree, or when a later target_track() takes over. @notes_fd: handed to that one's
 * target_notes(); 0: none.
 */
int target_track_keep(struct target *t, uint64_t image, int notes_fd, struct err *err);
/* Takes the tracking away, while the tree runs; target_release() does so, too. */
int target_untrack(struct target *t, struct err *err);

/* Stops every thread of the tree. On failure everything is running again. */
int target_freeze(struct target *t, struct err *err);

/* Fills the model. On failure everything is still frozen: the caller calls target_release(). */
int target_collect(struct target *t, struct err *err);
/*
 * What target_collect() has not asked of processes with many mappings, for it takes a while:
 * whether somebody else has registered memory of theirs with a userfaultfd. It is beside what the
 * tool does until target_sure_end(); that returns 0, or the first such process, which is not
 * tracked then.
 */
int target_sure_begin(struct target *t, struct err *err);
int target_sure_end(struct target *t, struct err *err);
/* What a finding says of it. */
#define TARGET_REGISTERED \
	"userfaultfd: memory was registered while it was being dumped, which is not saved"
/*
 * From now on target_collect() leaves out the guard regions (m_mm.guards), which take a walk over
 * all page tables: the caller walks them anyway, and adds what it finds.
 */
void target_leave_guards(struct target *t);
/*
 * Appends the guard regions from @start to @end to @mm's, in ascending order; none where the kernel
 * does not tell of them (Linux 6.16). @pagemap_fd: /proc/PID/pagemap. 0 or -ENOMEM.
 */
int target_guards(struct model *m, int pagemap_fd, uint64_t start, uint64_t end, struct m_mm *mm);

/*
 * While the tree is frozen: memory that its own process may not read, from the guardian, whom the
 * kernel may grant more than the tool. How many bytes, at most TARGET_READ; 0: it is not there.
 */
ssize_t target_read(struct target *t, pid_t pid, uint64_t addr, void *buf, size_t len,
		    struct err *err);

enum target_end {
	TARGET_RUN,	/* goes on as if nothing had been (stopped tasks stay stopped) */
	TARGET_STOPPED, /* stays stopped: SIGSTOP, as criu --leave-stopped */
	TARGET_KILL,	/* SIGKILL to every process of the tree */
};

/*
 * Lets the tree go; before TARGET_RUN target_alive() is asked. After success target_release() has
 * nothing left to do.
 */
int target_thaw(struct target *t, enum target_end end, struct err *err);

/* What happened to the target while frozen: 0, or -ESRCH with the pid when a process was killed. */
int target_alive(struct target *t, struct err *err);

/*
 * Always lets the tree run on, however far we got, ends the guardian and frees @t. NULL is allowed.
 */
void target_release(struct target *t);

const struct target_times *target_times(const struct target *t);
/* For a person, though nothing failed: that another dump is not kept away; "": nothing. */
const char *target_note(const struct target *t);

/* One line of `stasis check`. */
struct target_feature {
	const char *name; /* "PAGEMAP_SCAN" */
	bool have;
	bool required;	     /* no dump without it */
	bool restores;	     /* no restore without it */
	const char *since;   /* kernel version */
	const char *without; /* what is lost without it */
	char detail[120];    /* errno text, value */
};

/* Probes the kernel and our privileges once; a static table, ends with name NULL. */
const struct target_feature *target_features(void);

#endif
