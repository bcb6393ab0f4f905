/* SPDX-License-Identifier: MIT */
/* Finding every thread of a process tree, and seizing what is found. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/procfs.h"
#include "src/target/ready.h"
#include "src/target/tree.h"
#include "src/target/turn.h"

/* Why PTRACE_SEIZE said EPERM: 0 when the task is to be passed over. */
static int seize_refused(struct tree *t, uint32_t proc, pid_t tid, struct err *err)
{
	struct proc *p = &t->procs[proc];
	struct procfs_status st;
	char text[4096];

	if (procfs_status(tid, text, sizeof(text), &st) < 0) {
		t->missed = true;
		return 0;
	}
	if (st.state == 'Z' || st.state == 'X') {
		if (tid == p->pid)
			p->headless = true;
		else
			t->missed |= st.state == 'X';
		return 0;
	}
	if (st.tracer == getpid())
		return tree_add_task(t, proc, tid);
	if (st.tracer) {
		struct procfs_stat tr = {0};

		procfs_stat(st.tracer, 0, &tr);
		/* Not kept away by its turn: it dumps another tree, or is of elsewhere. */
		if (!strcmp(tr.comm, GUARD_NAME))
			return turn_busy(p->pid, tr.comm, st.tracer, err);
		err_fail(err, EPERM, ERR_TRACED,
			 "thread %d of process %d is traced by process %d (%s)", tid, p->pid,
			 st.tracer, tr.comm);
		err_hint(err, "end or detach the tracer (kill %d, or `detach` in it) and try again",
			 st.tracer);
		return -EPERM;
	}
	err_fail(err, EPERM, ERR_PERM, "no permission to trace thread %d of process %d, uid %u",
		 tid, p->pid, st.uid[0]);
	err_hint(err, "run as root or with CAP_SYS_PTRACE");
	return -EPERM;
}

static int seize(struct tree *t, uint32_t proc, pid_t tid, struct err *err)
{
	int ret;

	if (ptrace(PTRACE_SEIZE, tid, 0, TREE_OPTIONS) == 0) {
		ret = tree_add_task(t, proc, tid);
		if (ret < 0)
			return err_set(err, -ret, "note thread %d", tid);
		/* ESRCH: it is exiting, wait4 will say so. */
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
		return 0;
	}
	if (errno == ESRCH) {
		t->missed = true;
		return 0;
	}
	if (errno == EPERM)
		return seize_refused(t, proc, tid, err);
	return err_set(err, errno, "seize thread %d of process %d", tid, t->procs[proc].pid);
}

static int scan_threads(struct tree *t, uint32_t proc, struct err *err)
{
	pid_t pid = t->procs[proc].pid;
	cleanup_dir DIR *dir = NULL;
	struct dirent *de;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT || errno == ESRCH
			       ? 0
			       : err_set(err, errno, "list threads of process %d", pid);
	while ((de = readdir(dir))) {
		const char *p = de->d_name;
		uint64_t tid;
		int ret;

		if (!procfs_dec(&p, &tid) || tree_task(t, (pid_t)tid))
			continue;
		ret = seize(t, proc, (pid_t)tid, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int tree_note_child(struct tree *t, pid_t pid, struct err *err)
{
	uint32_t i;
	int ret;

	if (tree_proc(t, pid))
		return 0;
	ret = tree_add_proc(t, pid, &i);
	return ret < 0 ? err_set(err, -ret, "note process %d", pid) : 0;
}

/* -ENOENT when the kernel has no such file (CONFIG_PROC_CHILDREN). */
static int scan_children(struct tree *t, pid_t pid, pid_t tid, struct err *err)
{
	const char *p = t->text;
	uint64_t child;
	ssize_t n;

	n = ready_read(t->ready, pid, tid, READY_CHILDREN, t->text, TREE_TEXT);
	if (n < 0)
		return n == -ENOENT ? -ENOENT : 0;
	while (procfs_dec(&p, &child)) {
		int ret = tree_note_child(t, (pid_t)child, err);

		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Without the children files: everybody's parent, until no new child turns up. */
static int scan_everybody(struct tree *t, struct err *err)
{
	cleanup_dir DIR *dir = opendir("/proc");
	uint32_t before;

	if (!dir)
		return err_set(err, errno, "list /proc");
	do {
		struct dirent *de;

		before = t->nprocs;
		rewinddir(dir);
		while ((de = readdir(dir))) {
			const char *p = de->d_name;
			struct procfs_stat st;
			uint64_t pid;
			int ret;

			if (!procfs_dec(&p, &pid) || tree_proc(t, (pid_t)pid) ||
			    procfs_stat((pid_t)pid, 0, &st) < 0 || !tree_proc(t, st.ppid))
				continue;
			ret = tree_note_child(t, (pid_t)pid, err);
			if (ret < 0)
				return ret;
		}
	} while (t->nprocs != before);
	return 0;
}

static bool has_children_files(void)
{
	static int known; /* 1: yes, -1: no */

	if (!known)
		known = access("/proc/thread-self/children", R_OK) == 0 ? 1 : -1;
	return known > 0;
}

int tree_scan(struct tree *t, struct err *err)
{
	bool files = has_children_files();
	int ret;

	for (uint32_t i = 0; i < t->nprocs; i++) {
		if (t->procs[i].state != PROC_LIVE || t->procs[i].whole)
			continue;
		ret = scan_threads(t, i, err);
		if (ret < 0)
			return ret;
		if (files)
			ret = scan_children(t, t->procs[i].pid, t->procs[i].pid, err);
		else if (i + 1 == t->nprocs)
			ret = scan_everybody(t, err);
		if (ret < 0 && ret != -ENOENT)
			return ret;
	}
	return 0;
}

/* What it has is ours: the kernel counts as many threads as stand still. */
static bool is_whole(struct tree *t, const struct proc *p)
{
	struct procfs_stat st;

	return p->ntasks &&
	       ready_read(t->ready, p->pid, p->pid, READY_STAT, t->text, TREE_TEXT) > 0 &&
	       procfs_parse_stat(t->text, &st) == 0 && st.nthreads == p->ntasks;
}

static int look_at_children(struct tree *t, struct err *err)
{
	if (!has_children_files())
		return scan_everybody(t, err);
	for (uint32_t i = 0; i < t->ntasks; i++) {
		const struct task *task = &t->tasks[i];
		int ret;

		if (task->state != TASK_STOPPED)
			continue;
		ret = scan_children(t, t->procs[task->proc].pid, task->tid, err);
		if (ret < 0 && ret != -ENOENT)
			return ret;
	}
	return 0;
}

int tree_look(struct tree *t, struct err *err)
{
	uint32_t nprocs = t->nprocs;
	int ret = look_at_children(t, err), whole = 1;

	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < t->nprocs; i++)
		t->procs[i].ntasks = 0;
	for (uint32_t i = 0; i < t->ntasks; i++)
		if (t->tasks[i].state == TASK_STOPPED)
			t->procs[t->tasks[i].proc].ntasks++;
	for (uint32_t i = 0; i < nprocs; i++) {
		struct proc *p = &t->procs[i];

		if (p->state != PROC_LIVE || p->whole)
			continue;
		p->whole = is_whole(t, p);
		if (p->whole)
			continue;
		whole = 0;
		ret = scan_threads(t, i, err);
		if (ret < 0)
			return ret;
	}
	return whole;
}
