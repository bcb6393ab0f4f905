/* SPDX-License-Identifier: MIT */
/*
 * Filling the model from a frozen tree, noun by noun: in the guardian, into shared memory.
 */
#ifndef TARGET_GATHER_H
#define TARGET_GATHER_H

#include "src/target/target.h"
#include "src/target/tree.h"

struct dirty;
struct gather;
struct remote;

struct gather *gather_new(struct tree *t, struct model *m, const struct target_opts *opts,
			  struct err *err);
/* What is slow and may be read while the target runs. */
int gather_survey(struct gather *g, struct err *err);
/*
 * Writes to the memory of these processes are tracked by the guardian: that is no property of a
 * mapping. NULL: of none any more.
 */
void gather_tracked(struct gather *g, struct dirty *d);
/* For a list of findings: they are by a keeper, which is noted. 0 or -ENOMEM. */
int gather_kept(struct gather *g, struct err *err);
/* Once more, of one process. */
int gather_survey_again(struct gather *g, pid_t pid, struct err *err);
/* What opts->maps_later left out: flags of mappings, of all processes. */
int gather_survey_maps(struct gather *g, struct err *err);
/* Everything, but for guard regions if they are left to somebody else. The tree is frozen. */
int gather_run(struct gather *g, bool leave_guards, struct err *err);
/* Kernel, CPU, clocks, a name for this dump. */
void host_collect(struct model *m);
/* Asks the CPU, which in a virtual machine takes hundreds of microseconds, before a freeze. */
void host_ready(void);
/* TARGET_KILL: before, and after; as hold_grasp() and hold_end(). */
void gather_grasp(struct gather *g);
void gather_hold_end(struct gather *g);
/* Puts the counters of batches into @ret. */
void gather_times(const struct gather *g, struct target_times *ret);
/* What has been done to the tree for it, should anything be left of that: before it is let go. */
void gather_undo(struct gather *g);
/* Takes a while: after the tree has been let go. NULL is allowed, of both. */
void gather_close(struct gather *g);

/*
 * threads.c: registers and signal mask of one thread, by ptrace. Fills @task's true state as
 * well, for remote.c.
 */
int threads_collect(struct model *m, struct tree *tree, struct task *task, struct m_thread *t,
		    struct err *err);
/* General registers as the image has them, with the call's number behind; see arch.h. */
void threads_prstatus(const struct m_thread *t, uint8_t prstatus[ARCH_PRSTATUS_MAX]);
/* Its own queue of signals: of a thread with SigPnd in its status. */
int threads_pending(struct model *m, struct task *task, struct m_sigqueue *q, struct err *err);
/* What of it calls in the target's context need: @task's true state, and its way back. */
int threads_ready(struct tree *tree, struct task *task, struct err *err);
/*
 * Some waits are not made again by the kernel after a stop, signal or none. Where no signal is on
 * its way this has the true state of @task, which is known, changed so that they are: the program
 * must not see that it was stopped.
 */
void threads_wait_again(struct task *task);
/* A signal that @task will be given once it runs. */
bool threads_signal_due(const struct task *task);
/* Just before @task is let go: a signal that has come since ends that wait after all. */
void threads_wait_over(struct task *task);
/* The queue that all threads of @task's process share. */
int threads_shared_pending(struct model *m, struct task *task, struct m_sigqueue *q,
			   struct err *err);

/*
 * seccomp.c: the filters of one thread, as a chain that threads with equal ones share. What may not
 * be read is a finding.
 */
int seccomp_collect(struct model *m, const struct m_proc *p, struct m_thread *t, struct err *err);

/*
 * gdt.c: entries of the GDT that are a thread's own, of stopped threads with their registers. Three
 * calls for each, of 1.6 us on the machine of INTERNALS.md: of threads other than the main one only
 * where it or the process's mappings say that there may be some.
 */
int gdt_collect(struct m_proc *p, struct err *err);

/* odd.c: findings about what a CPU lets it have; behind all else of @p. */
int odd_collect(struct model *m, const struct m_proc *p, struct err *err);

/* context.c: what only the process itself can be asked, by batch. */
int context_collect(struct remote *r, struct m_proc *p, struct err *err);
/* As remote_ready(). */
void context_ready(unsigned nthreads);

#endif
