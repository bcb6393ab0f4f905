/* SPDX-License-Identifier: MIT */
/*
 * Attributes back into a process that is being made: the mirror of gather.h.
 *
 * The process is a stub: empty, stopped, with its pid and the tids of its threads, traced with
 * PTRACE_O_EXITKILL, its scratch area mapped. @r is open on it; @p is the image's process, and
 * thread i of the one is thread i of the other (the leader first). Each function returns 0 or
 * -errno with @err: what, of which thread, wanted and got where that helps. After an error the stub
 * is to be killed: some of its attributes may be new ones, and it never ran a program. Values of an
 * image are not trusted: what the kernel could not have told is refused, not tried.
 *
 * In this order, which is that of a restore; between the numbers is what other files put back.
 *
 *  1 put_limits_raise	before anything that a limit could refuse: memory, descriptors, signals
 *  2 put_thp		before memory is filled, which asks for huge pages or does not
 *    (VMAs and their contents, descriptors)
 *  3 put_mm		what it names must be mapped; before 13, for it looks at RLIMIT_DATA and
 *			needs a capability; after the stub's own executable is unmapped
 *  4 put_oom_score, put_coredump_filter, put_loginuid
 *			need capabilities, and /proc below the stub's root
 *  5 put_directories	needs CAP_SYS_CHROOT, and descriptors that are closed after it
 *    put_shadow		after all memory, for the kernel takes what is free; before 6, which
 *			has a say in what is mapped later
 *  6 put_process	after the last mmap(), which a personality changes, and the last child or
 *			helper, whom a subreaper would inherit
 *  7 put_threads	after memory, where lists and areas lie: from here on the kernel writes to
 *			the area of restartable sequences
 *    put_permits	after 7: before it the kernel takes an alternate stack that is just as
 *			long as a signal frame with these registers, after it no longer
 *  8 put_actions	before 9, for ignoring a signal drops those that wait
 *  9 put_pending	after the last helper has exited; before 13, for it counts to a limit
 * 10 put_timers_create	before 13 (limit), before 12 (alarm clocks need a capability)
 * 11 put_seccomp	before 12, for without no_new_privs only CAP_SYS_ADMIN may; they sleep
 *			while we trace, so runs may follow
 * 12 put_creds		after all that needs a capability from inside; from then on only what any
 *			process may do to itself. Dumpable and the parent-death signal are in it,
 *			for changed credentials reset them
 * 13 put_limits_lower	nothing is made any more; lowering needs no right
 * 14 put_sleeps	descriptors, memory and all are there: a poll looks at them. The deadlines
 *			run from here
 * 15 put_timers_arm	as late as that: no time is lost to the rest of the restore
 *    (the scratch area is unmapped)
 * 16 put_regs		nothing runs in the threads after it but the program
 * 17 put_sched		from outside, at any stop; last, for a SCHED_IDLE or SCHED_DEADLINE thread
 * is slow, and a deadline thread makes no threads
 *
 * All processes of a tree should be through with 1-13 before the first one does 14, and with all of
 * it before the first one runs.
 *
 * What is not put back, because the kernel tells or takes nobody: overruns of POSIX timers that
 * have not been delivered (those that were delivered are the program's own); whether a timer was
 * set to an absolute time, which matters when somebody sets the clock; whose CPU time a timer of
 * CLOCK_THREAD_CPUTIME_ID counts (taken for that of the thread it signals, else the leader's); who
 * sent a SIGSTOP that waits; dumpable 2 becomes 0.
 *
 * Guardian only, one thread.
 */
#ifndef TARGET_PUT_H
#define TARGET_PUT_H

#include "base/err.h"
#include "src/image/model.h"
#include "src/target/remote.h"

/* --- put_process.c ---------------------------------------------------------------------------- */

/*
 * Each limit at least as high as it is now and as in the image; and as in the image. Without
 * CAP_SYS_RESOURCE the first fails with -EPERM when a hard limit is below the image's. Nothing when
 * the image does not know them.
 */
int put_limits_raise(struct remote *r, const struct m_proc *p, struct err *err);
int put_limits_lower(struct remote *r, const struct m_proc *p, struct err *err);

int put_thp(struct remote *r, const struct m_proc *p, struct err *err);

/*
 * Umask, personality, child subreaper, membarrier registrations; what becomes of memory that is
 * mapped later: merged, locked, not both writable and executable.
 */
int put_process(struct remote *r, const struct m_proc *p, struct err *err);

/*
 * Where code, data, heap, stack, arguments and environment are, brk, auxv; the executable, which is
 * descriptor @exe_fd of the stub, -1: stays.
 */
int put_mm(struct remote *r, const struct m_proc *p, int exe_fd, struct err *err);

/* Descriptors of the stub, -1: stays. Processes that share them need it once. */
int put_directories(struct remote *r, int cwd_fd, int root_fd, struct err *err);

/*
 * Nothing when it is as wanted. -EPERM, -EACCES: not permitted. That concerns the machine's
 * administration, not the program; the caller may go on.
 */
int put_oom_score(const struct m_proc *p, struct err *err);
/* Which mappings a core file has. Before put_creds(): the stub's /proc is the tool's to write. */
int put_coredump_filter(const struct m_proc *p, struct err *err);
int put_loginuid(struct remote *r, const struct m_proc *p, struct err *err);

/* --- put_threads.c, put_sched.c --------------------------------------------------------------- */

/*
 * Name, robust list, tid address, alternate stack, restartable sequences, timer slack; memory
 * policy and what else prctl(2) has of a thread.
 */
int put_threads(struct remote *r, const struct m_proc *p, struct err *err);

/*
 * CPU affinity, nice value, policy, I/O priority; only what is different. CPUs that are not here
 * are left out of an affinity; with none left it is an error that names them.
 */
int put_sched(struct remote *r, const struct m_proc *p, struct err *err);

/* --- put_shadow.c --------------------------------------------------------------------------- */

/*
 * Shadow stacks on, and locked, in the threads that had them, where calls of their own do that
 * (x86-64). The pointer comes with put_regs(). For each of them the kernel maps a stack, of a page
 * here, and unmaps that place when the thread ends, whatever lies there then: so it stays, and is
 * known by its contents to the next restore, which leaves it out.
 */
int put_shadow(struct remote *r, const struct m_proc *p, struct err *err);
/* Whether this kernel maps shadow stacks, on this CPU. */
bool put_has_shadow(void);

/* --- put_permits.c -------------------------------------------------------------------------- */

/*
 * Registers that must be asked for: those that the process was permitted, or that a thread of an
 * image without a word about it has something in. @a: arch_inject.permits, may be NULL. Those that
 * this CPU does not have are left out.
 */
int put_permits(struct remote *r, const struct m_proc *p, const struct arch_permits *a,
		struct err *err);

/* --- put_signals.c ---------------------------------------------------------------------------- */

int put_actions(struct remote *r, const struct m_proc *p, struct err *err);

/*
 * Drops what waits in the stub, then queues the image's signals in order, with their siginfo. Runs
 * after it avoid them (r->caught).
 */
int put_pending(struct remote *r, const struct m_proc *p, struct err *err);

/* --- put_timers.c ----------------------------------------------------------------------------- */

/*
 * POSIX timers with their ids, not armed. Before Linux 6.16 ids are counted up to, or with @count,
 * for the sake of tests: -EEXIST when one has been used up, -ERANGE when one is too far away.
 */
int put_timers_create(struct remote *r, const struct m_proc *p, bool count, struct err *err);

/* Does arming its timer bring that signal, so that nobody is to queue it? */
bool put_timers_signal(const struct m_proc *p, const struct m_siginfo *info);
/* Those, and interval timers, with the time they had left. */
int put_timers_arm(struct remote *r, const struct m_proc *p, struct err *err);

/* --- put_seccomp.c ---------------------------------------------------------------------------- */

/*
 * Strict mode, or filters, the oldest first; a chain that all threads have is one for all of them.
 * -EOPNOTSUPP when the image lacks filters that there were.
 */
int put_seccomp(struct remote *r, const struct model *m, const struct m_proc *p, struct err *err);

/* --- put_creds.c ------------------------------------------------------------------------------ */

/*
 * Ids, groups, capabilities, secure bits, no_new_privs; then the parent-death signals and dumpable.
 * What /proc says afterwards is compared with what is wanted: -EPERM names thread, wanted and got.
 * A security label is not put back, and must be there.
 */
int put_creds(struct remote *r, const struct m_proc *p, struct err *err);

/* --- put_sleep.c, put_regs.c ---------------------------------------------------------------- */

/*
 * A thread in a sleep of which the kernel keeps a restart block (m_thread.syscall_ret == -516)
 * makes its call again and is interrupted at once, so that the kernel has such a block again, and
 * goes on with it when the thread runs. No register changes, as it would with other arguments.
 *
 *	call			it goes on
 *	nanosleep, clock_nanosleep
 *	  with room for the	with the time left at the freeze: the kernel told it there
 *	  time left
 *	  without		from its start: longer than asked for, never shorter
 *	poll without limit,	as it was
 *	  futex until a time
 *	poll, futex with limit	from its start: likewise, the kernel tells nobody how far it was
 *	call not known		with EINTR: one that was interrupted before has restart_syscall as
 *				its number, and neither its code nor its arguments say which it was
 *
 * Absolute sleeps, select and ppoll are not such: they are made again with what they have in
 * memory. Images of CRIU have EINTR in the registers. A call that is over at once, because a
 * descriptor is ready, is taken out of @p, its result in the registers.
 */
int put_sleeps(struct remote *r, struct m_proc *p, struct err *err);

/* What put_regs() could not do for registers that a thread must have written to (arch.h). */
int put_lazy_regs(struct remote *r, const struct m_proc *p, struct err *err);

/*
 * All register sets and the signal mask of every thread. They are in a stop on their way to user
 * mode afterwards, and let go by PTRACE_DETACH or a tree_thaw(): an interrupted call is made again
 * by the kernel, once, or ends with EINTR when a handler runs first, as it would have been. Needs
 * no scratch area: @r->tree and @r->proc alone. Sends a SIGSTOP that waited.
 */
int put_regs(struct remote *r, const struct m_proc *p, struct err *err);

#endif
