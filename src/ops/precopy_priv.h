/* SPDX-License-Identifier: MIT */
/*
 * What precopy.c (rounds), precopy_run.c (the pipe) and precopy_end.c (frozen, and after) share.
 */
#ifndef OPS_PRECOPY_PRIV_H
#define OPS_PRECOPY_PRIV_H

#include "src/ops/extents.h"
#include "src/ops/precopy.h"
#include "src/target/spare.h"

enum { PRECOPY_READ_BYTES_US = 2000 }; /* a guess of how fast memory is read while frozen */

struct precopy {
	struct target *target;
	const struct dump_opts *opts;
	struct precopy_result *res;
	const struct target_tracks *tracks;
	struct md_file *parent; /* NULL: none */
	bool since;		/* writes have been tracked since it was made */
	struct md_soft *soft;	/* NULL: by userfaultfd */
	bool noted;		/* soft has what an earlier dump noted */
	uint64_t untracked;	/* bytes of processes that are not tracked, at the last look */
	uint32_t *aio;		/* pids with an AIO ring ever since it began */
	size_t naio;
	uint64_t aio_bytes; /* of their memory */
	uint64_t began_ns;  /* the last round; 0: none */
	bool hurry;	    /* at low priority, and packing, it did not get on */
	bool beside;	    /* the tree runs: a run of the pipe keeps to opts->max_cpu */
	struct spare spare;
	int calls_cpu;	/* where the tree's calls are made in the stop; -1: not known */
	bool apart;	/* the calling thread and its children keep to spare CPUs ... */
	cpu_set_t all;	/* ... of these */
	uint32_t round; /* the next one's */
	/* ranges of the round that is being made */
	struct md_range *ranges;
	size_t nranges, room;
	struct extents stored;	/* settled: what rounds have stored */
	struct extents clean;	/* of that what still counts, seen while frozen */
	struct extents taken;	/* read while frozen */
	struct extents todo;	/* to be read while frozen */
	struct extents written; /* that, too: tracked pages that were written */
	struct extents own;	/* settled: stored in this image, whatever the parent has */
	struct extents found;	/* by the look of this round */
	struct extents guards;	/* regions that the last look saw in tracked memory */
	struct md_look *look;	/* the last one, made ready; NULL: none */
	struct extents gone; /* could not be read in this round: not stored, whatever was before */
	bool gone_lost;	     /* there was no memory to note them */
	struct md_range *todo_ranges;
	struct md_capture *capture;
	struct model *model; /* from the freeze on */
	struct md_stats stats;
};

/* Chooses a way to track writes and arms it; where there is none the reason is in the result. */
int precopy_arm(struct precopy *p, struct err *err);
/* Whether writes have been tracked since the parent was made. */
bool precopy_kept(const struct precopy *p);

/*
 * Looks at page tables: what is there, clean or written. precopy_scan() changes nothing, of either
 * way of tracking. precopy_clear() is for soft-dirty marks: the tree stands still for it, and from
 * then on writes are told anew. @again: all that was emitted in this call is void, and comes once
 * more.
 */
typedef int precopy_emit(void *arg, const struct md_range *range, const struct md_extent *e,
			 bool clean);
typedef void precopy_again(struct precopy *p, void *arg);
int precopy_scan(struct precopy *p, const struct md_range *ranges, size_t n, precopy_emit *emit,
		 precopy_again *again, void *arg, struct err *err);
int precopy_clear(struct precopy *p, const struct md_range *ranges, size_t n, precopy_emit *emit,
		  precopy_again *again, void *arg, struct err *err);

/*
 * While the tree runs: the calling thread, and those that it makes, keep to CPUs that the tree
 * leaves over; again, if it is not what it was. Until it comes back.
 */
void precopy_stand_back(struct precopy *p);
void precopy_come_back(struct precopy *p);

/*
 * One run of the pipe, at the pace asked for where p->beside; with @nice at low priority: the
 * tree's own threads come first.
 */
int precopy_run(struct precopy *p, struct md_reader *reader, struct md_writer *writer,
		const struct md_opts *mopts, bool nice, struct err *err);
/* The same, and what is stored in this image is noted, if it matters: for a parent. */
int precopy_run_own(struct precopy *p, struct md_reader *reader, struct md_writer *writer,
		    const struct md_opts *mopts, bool nice, struct err *err);
/* The same but for what the parent has, if there is one. */
int precopy_run_parted(struct precopy *p, struct md_reader *reader, struct md_writer *writer,
		       const struct md_opts *mopts, bool nice, struct err *err);

/* Notes of @reader what could not be read; and then takes it out of what is stored. */
void precopy_note_gone(struct precopy *p, struct md_reader *reader);
int precopy_forget_gone(struct precopy *p, struct err *err);

/*
 * Notes which processes have an AIO ring: a device may write to their memory past the page tables
 * at any time, so that all of it is read while frozen. What a round reads of it would be for
 * nothing.
 */
int precopy_list_aio(struct precopy *p, struct err *err);
bool precopy_has_aio(const struct precopy *p, uint32_t pid);
/* Those that have none any more are copied from now on. */
void precopy_keep_aio(struct precopy *p);
/* A note for each of them, when the tree has been let go. */
int precopy_tell_aio(const struct precopy *p, struct err *err);

/*
 * Waits until every system call that may have pinned pages of the tree for writing before now has
 * ended. False: one of them takes too long.
 */
bool precopy_await_writers(const struct precopy *p);

/* For the last look, now that the ranges of a prediction are listed and @dirty bytes are expected.
 */
int precopy_ready(struct precopy *p, uint64_t dirty, struct err *err);

/*
 * The guard regions of all processes into @m: those seen in the first @ntracked of p->ranges, and
 * of all other memory what a walk finds.
 */
int precopy_guards(struct precopy *p, struct model *m, size_t ntracked, struct err *err);

/*
 * Behind the second survey, with @dirty bytes predicted: processes that were forked and memory that
 * was mapped since tracking began are tracked, too, where that is worth another short stop.
 */
int precopy_track_more(struct precopy *p, uint64_t dirty, struct err *err);

/* What the last of a round or of the freeze found, as a rate of the tree. */
void precopy_note_rate(struct precopy *p, uint64_t bytes, uint64_t now_ns);

/*
 * Whether the stop would last longer than is allowed, with opts->strict_freeze: before it, or in
 * it and before its pages are copied, @r and what is to be read being known (else NULL). 0, or
 * -EBUSY with ERR_BUDGET.
 */
int precopy_budget(const struct precopy *p, const struct ranges *r, struct err *err);

uint64_t precopy_now_ns(void);

#endif
