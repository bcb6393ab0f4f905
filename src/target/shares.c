/* SPDX-License-Identifier: MIT */
/*
 * What clone() and unshare() let processes and threads share, or not share, in ways that a restore
 * cannot make: each is in the way of an image.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/files.h"
#include "src/target/procfs.h"

static int note(struct err *err, const struct m_proc *p, int ret)
{
	return ret < 0 ? err_set(err, ENOMEM, "findings of pid %u", p->pid) : 0;
}

static const struct m_proc *parent_of(const struct files *f, const struct m_proc *p)
{
	return p == &f->m->procs[0] ? NULL : model_proc(f->m, p->ppid);
}

/* The first process that has p's table of this kind; @p itself when nobody had it before. */
static const struct m_proc *first_with(const struct files *f, const struct m_proc *p, bool fs)
{
	const struct m_proc *q = f->m->procs;

	while (q != p && (fs ? q->fs_id != p->fs_id : q->fdtable_id != p->fdtable_id))
		q++;
	return q;
}

/* A restore shares a table by clone() from the parent: it can be the parent's alone. */
static int shared_table(struct files *f, const struct m_proc *p, bool fs, struct err *err)
{
	const struct m_proc *parent = parent_of(f, p), *first;

	if (parent && (fs ? parent->fs_id == p->fs_id : parent->fdtable_id == p->fdtable_id))
		return 0;
	first = first_with(f, p, fs);
	if (first == p)
		return 0;
	return note(err, p,
		    finding_fatal(f->m, p->pid,
				  "%s in common with process %u, which is not its parent: not "
				  "supported",
				  fs ? "working directory (CLONE_FS)"
				     : "descriptor table (CLONE_FILES)",
				  first->pid));
}

/* A thread of @pid waits in vfork() until a child has memory of its own. */
static bool in_vfork(uint32_t pid)
{
	char path[32];
	bool ret = false;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%u/task", pid);
	d = opendir(path);
	while (d && !ret && (e = readdir(d))) {
		struct procfs_stat st;
		pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);

		ret = tid > 0 && procfs_stat((pid_t)pid, tid, &st) == 0 && st.state == 'D';
	}
	if (d)
		closedir(d);
	return ret;
}

static int shared_memory(struct files *f, const struct m_proc *p, struct err *err)
{
	const struct m_proc *other = parent_of(f, p);

	/* Who runs may be between vfork() and exec. */
	if (f->hands_off &&
	    (!other || syscall(SYS_kcmp, (pid_t)p->pid, (pid_t)other->pid, SAME_VM, 0UL, 0UL) ||
	     in_vfork(other->pid)))
		return 0;
	if (!f->hands_off && !p->shares_vm)
		return 0;
	for (const struct m_proc *q = f->m->procs; !f->hands_off && q != p; q++)
		if (q->vm_id == p->vm_id)
			other = q;
	return note(err, p,
		    finding_fatal(f->m, p->pid,
				  "memory in common with process %u (CLONE_VM without "
				  "CLONE_THREAD): not supported",
				  other ? other->pid : 0));
}

/* Of a process that runs: each of its threads, by kcmp. */
static int own_tables(struct files *f, const struct m_proc *p, pid_t tid, struct err *err)
{
	const struct {
		int kind;
		const char *what;
	} tables[] = {{SAME_FILES, "a descriptor table"}, {SAME_FS, "a working directory"}};

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		if (syscall(SYS_kcmp, (pid_t)p->pid, tid, tables[i].kind, 0UL, 0UL) <= 0 ||
		    syscall(SYS_kcmp, (pid_t)p->pid, tid, SAME_VM, 0UL, 0UL) != 0)
			continue;
		if (finding_fatal(f->m, p->pid, "thread %d has %s of its own: not supported", tid,
				  tables[i].what) < 0)
			return note(err, p, -ENOMEM);
	}
	return 0;
}

static int each_thread(struct files *f, const struct m_proc *p, struct err *err)
{
	char path[32];
	struct dirent *e;
	int ret = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%u/task", p->pid);
	d = opendir(path);
	if (!d)
		return 0; /* gone */
	while (ret == 0 && (e = readdir(d))) {
		pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);

		if (tid > 0 && tid != (pid_t)p->pid)
			ret = own_tables(f, p, tid, err);
	}
	closedir(d);
	return ret;
}

int shares_collect(struct files *f, const struct m_proc *p, struct err *err)
{
	int ret = shared_memory(f, p, err);

	if (ret == 0)
		ret = shared_table(f, p, false, err);
	if (ret == 0)
		ret = shared_table(f, p, true, err);
	if (ret == 0 && f->hands_off)
		ret = each_thread(f, p, err);
	return ret;
}
