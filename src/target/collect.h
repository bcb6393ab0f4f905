/* SPDX-License-Identifier: MIT */
/*
 * Filling the model with what can be read from outside: /proc and plain system calls, no ptrace.
 *
 * Called for processes whose threads all stand still; nothing here makes them run or changes them.
 * Pids are those of our own pid namespace. All functions return 0 or -errno with @err: -ESRCH when
 * the process has gone, -EBADMSG when the kernel prints what we do not understand, -ENOMEM. What is
 * merely not permitted, or not there on this kernel, leaves its field zero.
 *
 * Order for each process: proc_collect(), maps_collect(), files_collect(), then
 * proc_collect_thread() for every thread. Parents before children. One thread.
 *
 * m_proc.pid names the process; when its main thread has exited while others run, /proc of the main
 * thread is empty and a living thread is looked at instead.
 */
#ifndef TARGET_COLLECT_H
#define TARGET_COLLECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "src/image/model.h"
#include "src/target/procfs.h"

/*
 * What is known of the open and mapped files, the shared segments and the shared tables of a whole
 * tree: makes one m_file, m_shm or id of what several processes share.
 */
struct dirty;
struct files;

/* @m outlives it and gets its tool_ns; the processes collected with it are elements of m->procs. */
struct files *files_new(struct model *m, struct err *err);
void files_free(struct files *f);
struct target_opts;
/* What options say of files; @opts is not kept. */
void files_options(struct files *f, const struct target_opts *opts);
/*
 * From now on processes are only looked at, not even a descriptor of theirs is duplicated: for a
 * list of findings while they run.
 */
void files_hands_off(struct files *f);
/* From now on memory of these that is registered for write protection is so by us: not told. */
void files_tracked(struct files *f, struct dirty *d);
/* The same of all memory, for a list of findings: a keeper is there, and is left alone. */
void files_kept(struct files *f);
/* From now on maps_collect() leaves out guard regions. */
void files_leave_guards(struct files *f);
/* Takes over the checksums that another one, of a survey, has: files that do not change keep them.
 */
void files_know_sums(struct files *f, struct files *from);

/*
 * Ahead of the freeze: keeps the VmFlags of every VMA of @pid and the build ids of what it
 * executes, so that the frozen process costs the short /proc/PID/maps only. smaps walks all page
 * tables (about 4 ms per GiB of small pages and 1 us per VMA; maps takes 0.2 us per VMA). Flags are
 * taken over for VMAs that are the same in range, protection, file, offset and name; if any VMA is
 * not, maps_collect() reads smaps after all. What this cannot see is an madvise() or mlock() of one
 * whole VMA between survey and freeze: so it is relied on only where smaps took longer than a
 * millisecond. A process that has gone is no error.
 */
int maps_survey(struct files *f, pid_t pid, struct err *err);

/* Whether what maps_survey() saw of the next process is of no use to maps_collect(). */
void files_distrust(struct files *f, bool distrust);

/* Mappings seen by maps_survey(). */
size_t files_surveyed(const struct files *f);

/*
 * VMAs, guard regions, segments and mapped files, and the fields of m_mm that /proc has; not brk,
 * dumpable and thp_disabled. Sets vm_id; a process with the address space of an earlier one gets
 * shares_vm and a copy of its m_mm. Nothing for M_DEAD.
 */
int maps_collect(struct model *m, struct m_proc *p, struct files *f, struct err *err);

/*
 * Behind maps_collect() of @p, and what tells which protection keys it has: should the survey have
 * been believed, which saw no mapping with one, the keys of all mappings.
 */
int maps_keys(struct files *f, struct m_proc *p, struct err *err);

/*
 * The descriptor table, working and root directory; fdtable_id, fs_id, sighand_id. Nothing for
 * M_DEAD.
 */
int files_collect(struct files *f, struct m_proc *p, struct err *err);

/* After the last files_collect(): what can be told of all of them together only. */
int files_finish(struct files *f, struct err *err);

/*
 * A frozen tree is about to be killed, has just been killed: its connections, which the image
 * carries, tell their peers nothing. hold.c. Should packets of peers not be held back any more the
 * model's net_lock says so.
 */
void hold_grasp(struct files *f);
void hold_end(struct files *f);

/*
 * Ids, state, names, personality, flags, namespaces, cgroups, umask, and the POSIX timers but for
 * their values and overruns. p->state is kept if the caller has set it, except that a zombie is
 * always M_DEAD.
 */
int proc_collect(struct model *m, struct m_proc *p, struct err *err);

/*
 * Name, credentials but for securebits, scheduling, affinity, robust list, times. @t
 * is one of @p's, with its tid.
 */
int proc_collect_thread(struct model *m, struct m_proc *p, struct m_thread *t, struct err *err);

/*
 * The same in two steps. What /proc and plain system calls tell of thread @tid of @pid, whose main
 * thread is @first, is looked at on any thread, several of them at once. @ready: files opened
 * before, or NULL.
 */
enum { THREAD_CPU_WORDS = 128 /* 8192 CPUs */ };
struct thread_look {
	int error; /* 0, or -errno: of @what */
	const char *what;
	struct procfs_stat stat;
	struct procfs_status status; /* without groups, which are below */
	char *groups, *label;	     /* NULL: none */
	uint32_t policy, priority, util_min, util_max, ioprio;
	bool reset_on_fork, own_files, own_fs;
	int32_t nice;
	uint64_t runtime, deadline, period;
	uint64_t robust_addr, robust_len;
	uint32_t mask_len; /* bytes */
	uint64_t mask[THREAD_CPU_WORDS];
};
struct ready;
void thread_look(struct thread_look *l, pid_t pid, pid_t first, pid_t tid,
		 const struct ready *ready);
void thread_look_deinit(struct thread_look *l);
/* ... and goes into the model in their order. */
int thread_take(struct model *m, const struct m_proc *p, struct m_thread *t,
		const struct thread_look *l, struct err *err);

/* The timer slack of every thread, for a process that cannot be asked by a batch. */
void proc_collect_slack(struct m_proc *p);

/* The namespaces of @pid, 0 for our own; those that are not there or not ours to see are 0. */
void proc_namespaces(pid_t pid, struct m_ns *ret);

/*
 * Children of all threads of @pid, into @pids with room for @max. Their number, which may be above
 * @max. -ENOENT: kernel without CONFIG_PROC_CHILDREN.
 */
int proc_children(pid_t pid, pid_t *pids, int max);

/*
 * A thread to look at for @pid: itself, or a living one when the main thread has exited. 0 when all
 * have, -ESRCH when there is no such process.
 */
pid_t proc_viewer(pid_t pid);

/*
 * Notes something that the image does not carry; finding_fatal() that without it the tree cannot be
 * restored to what it was; finding_passing() that it is so at this moment, and a program that goes
 * on soon leaves it behind. Control characters, which a target may put into names, become '?'. 0 or
 * -ENOMEM.
 */
__attribute__((format(printf, 3, 4))) int finding_add(struct model *m, uint32_t pid,
						      const char *fmt, ...);
__attribute__((format(printf, 3, 4))) int finding_fatal(struct model *m, uint32_t pid,
							const char *fmt, ...);
__attribute__((format(printf, 3, 4))) int finding_passing(struct model *m, uint32_t pid,
							  const char *fmt, ...);

#endif
