/* SPDX-License-Identifier: MIT */
/*
 * The guardian's own view of a seized process tree: which threads, in what state, what was changed.
 *
 * Lives in the guardian process only. All memory is reserved up front by tree_init(), so that
 * letting go never allocates. One thread.
 */
#ifndef TARGET_TREE_H
#define TARGET_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <time.h>

#include "arch/arch.h"
#include "base/err.h"
#include "src/target/idmap.h"

/* What a guardian is called; another one's tracing is told by it. */
#define GUARD_NAME "stasis-guard"

enum {
	TREE_TEXT = 4 << 20,
	/*
	 * New threads and children are ours from birth; exec is told, for the tid may change hands.
	 * TRACESYSGOOD keeps a system-call stop from becoming a SIGTRAP should we die in it.
	 */
	TREE_OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
		       PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC,
};

enum task_state {
	TASK_RUNNING, /* seized, asked to stop, has not stopped yet */
	TASK_STOPPED, /* in a ptrace stop, on its way to user mode */
	TASK_GONE,    /* exited, let go, or merged by exec */
};

/* A shadow stack that is on, as it truly is: the set that has its pointer; len 0: none. */
enum { SHADOW_SET = 32 };
struct task_shadow {
	uint32_t len;
	uint8_t set[SHADOW_SET];
	uint64_t pointer;
	uint32_t lower; /* the pointer goes down by so many bytes with registers that are put in */
	bool lowered, token;
	uint64_t below; /* the word that the token lies on */
};

/* One thread. */
struct task {
	pid_t tid;
	uint32_t proc; /* index in tree.procs */
	enum task_state state;
	int stop_signo; /* stopped by job control, too: 0 or the signal */
	bool loose;	/* let run for its vfork parent's sake */
	bool seccomp;	/* has filters, or strict mode */
	/* what remote.c changed and must put back; see remote_undo() */
	bool known; /* @sigmask and @prstatus are the thread's true ones */
	bool altered;
	uint64_t sigmask;
	uint8_t prstatus[ARCH_PRSTATUS_MAX];
	/* sets that calls spoil, in the order of arch_inject.lost_notes; true, too; see lost.c */
	struct arch_set lost[ARCH_LOST_NOTES];
	struct task_shadow shadow; /* where the way back needs it */
	/* see recall.h */
	bool looked, at_call, asleep; /* it stands at a call, which is a sleep that goes on */
	bool recall;		      /* that call is to be made from its entry */
	bool waits;		      /* see threads_wait_over() */
	uint64_t sleep_nr;	      /* the number that it had before it was a sleep, 0: unknown */
};

enum proc_state {
	PROC_LIVE,
	PROC_ZOMBIE, /* waits for its parent to reap it */
	PROC_GONE,
};

struct proc {
	pid_t pid;
	enum proc_state state;
	bool headless; /* the main thread has exited, others run */
	bool whole;    /* all of its threads are stopped: there is none that could make another */
	/* after tree_freeze(): indices in tree.order, the leader first */
	uint32_t first, ntasks;
};

struct ready;

struct tree {
	pid_t root;
	uint32_t ntasks, nprocs;
	struct task *tasks; /* in order of discovery */
	struct proc *procs; /* parents before children, once frozen */
	uint32_t *order;    /* task indices by process */
	struct idmap by_tid, by_pid;
	char *text; /* TREE_TEXT bytes for whatever is being read */
	uint64_t freeze_begin_ns, frozen_ns, thaw_end_ns;
	uint32_t nlive, nlive_procs; /* what was frozen */
	int wake_fd;		     /* signalfd of SIGCHLD */
	bool wait_one;
	timer_t alarm;	       /* ends a wait for one */
	int stop_fd;	       /* readable when the tool is gone: give up; -1: none */
	unsigned long options; /* PTRACE_O_*, TREE_OPTIONS and what else is wanted */
	unsigned timeout_ms;
	bool many;   /* it has had many threads when it was last looked at */
	bool missed; /* a thread that was listed was gone before it could be seized */
	struct target_limits *limits; /* noted before they are raised; NULL: never done */
	uint32_t *calling;	      /* target_tracks.calling; NULL: nobody looks at it */
	struct ready *ready;	      /* files of threads; whoever sets it frees it; NULL: none */
};

int tree_init(struct tree *t, pid_t root, struct err *err);
void tree_deinit(struct tree *t);
/* After tree_thaw(): forgets all, for another tree_freeze(). */
void tree_reset(struct tree *t);

/* 0 or -ENOMEM. */
int tree_add_proc(struct tree *t, pid_t pid, uint32_t *ret_index);
int tree_add_task(struct tree *t, uint32_t proc, pid_t tid);
/* The same unless it is known. */
int tree_note_child(struct tree *t, pid_t pid, struct err *err);

/*
 * The threads of each process side by side, the leader first, the others as they were found; after
 * that tree_proc_task() tells them.
 */
void tree_order(struct tree *t);

/*
 * One look at what is known and may run; what is new is seized and looked at in the same pass. A
 * child of another thread than the main one is left to tree_look().
 */
int tree_scan(struct tree *t, struct err *err);

/*
 * When all that is known stands still: its children, and threads that nobody knew of. 1 when each
 * process is whole, 0 when that cannot be said; what is new has been noted, so there is more.
 */
int tree_look(struct tree *t, struct err *err);

/*
 * Stops every thread of the tree below root. On failure the caller calls tree_thaw(); what was
 * seized so far runs again after that.
 */
int tree_freeze(struct tree *t, struct err *err);

/* Lets every thread go; what remote.c changed is put back first. Never fails half way. */
void tree_thaw(struct tree *t, int end);

/* Takes note of tasks that died while frozen, so that their parents learn of it. */
void tree_reap(struct tree *t);

struct task *tree_task(struct tree *t, pid_t tid);
struct proc *tree_proc(struct tree *t, pid_t pid);

/* The @i-th thread of @p in a frozen tree. */
static inline struct task *tree_proc_task(struct tree *t, const struct proc *p, uint32_t i)
{
	return &t->tasks[t->order[p->first + i]];
}

/*
 * What a stop means, read without consuming it: should we die between this look and our answer, the
 * kernel still has the signal that stopped the thread and delivers it.
 */
enum stop_kind {
	STOP_NONE,    /* runs */
	STOP_TRAP,    /* PTRACE_INTERRUPT, or the birth of a thread */
	STOP_GROUP,   /* job control: signo */
	STOP_SIGNAL,  /* about to be given signo */
	STOP_SYSCALL, /* entry to or exit from a system call */
	STOP_EVENT,   /* fork, clone, exec...: event */
	STOP_DEAD,    /* gone and reaped */
};

struct stop {
	enum stop_kind kind;
	int signo, event;
	int status; /* STOP_DEAD */
};

/* Does not wait. */
struct stop task_poll(struct task *task);

/* Waits on wake_fd for at most @ms. */
void tree_wait_child(struct tree *t, int ms);

/*
 * Waits until @task stops or ends, for about @ms at most: -ETIMEDOUT, -EINTR when stop_fd says the
 * tool is gone, should that be of interest (@tool), or 0. After tree_wait_one() nobody else's stop
 * wakes us, which is a trip to another CPU each; without, any does, and 0 says nothing about @task.
 */
int tree_wait_task(struct tree *t, const struct task *task, int ms, bool tool);

/* From here on SIGALRM is ours, which a process that others come from must not have. */
void tree_wait_one(struct tree *t);

uint64_t now_ns(void);

#endif
