/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a running tree are written: tracking is armed and taken away here.
 *
 *	guardian                                   target
 *	dirty_arm() ── frozen, one batch each ───▶ userfaultfd() made, fetched, closed
 *	UFFDIO_REGISTER of private memory ───────▶ runs on
 *	                  tool: PAGEMAP_SCAN protects and tells (memdump/scan.c)
 *	dirty_disarm(): the descriptor is closed ▶ (runs) nothing is left
 *
 * The userfaultfd has WP_ASYNC (Linux 6.7): a write to a protected page costs the target one fault
 * that the kernel settles by itself; nobody has to answer, and should we die the kernel takes the
 * protection away with the descriptor. Only the guardian holds it.
 *
 * With TARGET_WAY_SOFT nothing is armed: the tool looks at the kernel's own marks, and what it
 * noted is all that there is to be kept.
 *
 * Guardian only, one thread.
 */
#ifndef TARGET_DIRTY_H
#define TARGET_DIRTY_H

#include "base/err.h"
#include "src/target/target.h"
#include "src/target/tree.h"

struct dirty;
struct smaps;

/* @report is shared with the tool; it is filled by dirty_arm(). */
struct dirty *dirty_new(struct target_tracks *report, struct err *err);
void dirty_close(struct dirty *d);

/*
 * @t is frozen: makes a userfaultfd in every process that has memory worth it, or only lists them.
 * A process where that does not work is no error: it is noted with the reason.
 */
int dirty_arm(struct dirty *d, struct tree *t, enum target_way way, struct err *err);

/* True when writes to its memory are tracked by us. */
bool dirty_tracks(const struct dirty *d, pid_t pid);

/*
 * Memory of @pid that somebody else has registered since, where marks are shared: what he protects
 * would look to us as if it had not been written, and to him what we do. True when there is some:
 * nothing of that process is tracked any more. dirty_others() is told what smaps says while it runs
 * (@s with drop_wp), and takes what lies where ours was for ours. dirty_sure() is certain: @p
 * stands still, and its mappings have been collected; those that have come since become ours, too.
 * One that has many mappings it leaves to dirty_sure_rest(), with report->unsure, which returns the
 * first process that has such memory, or 0.
 */
bool dirty_others(struct dirty *d, pid_t pid, const struct smaps *s);
bool dirty_sure(struct dirty *d, const struct m_proc *p);
pid_t dirty_sure_rest(struct dirty *d, const struct model *m);

/* What a keeper hands on: @i-th process that is tracked, its userfaultfd; false at the end. */
bool dirty_armed(const struct dirty *d, uint32_t i, pid_t *ret_pid, int *ret_uffd);
/* What was handed on to us: tracked since the image @since. Takes @uffd. */
void dirty_adopt(struct dirty *d, pid_t pid, int uffd, uint64_t since);
/* The same for what a tool has noted by itself. Takes @fd. */
void dirty_adopt_notes(struct dirty *d, int fd, uint64_t since);
int dirty_notes(const struct dirty *d); /* -1: none */
/* The tool's notes, report->notes, become ours. */
int dirty_take_notes(struct dirty *d, struct err *err);
uint64_t dirty_since(const struct dirty *d);
void dirty_forget_since(struct dirty *d);

/*
 * The tree runs: takes everything away. The kernel does that for a whole address space under its
 * lock, in about 20 ms per GiB: calls like mmap() wait for it, page faults do not. In slices it
 * would be shorter, but each of them splits a mapping for a moment.
 */
void dirty_disarm(struct dirty *d);

#endif
