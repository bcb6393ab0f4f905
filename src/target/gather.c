/* SPDX-License-Identifier: MIT */
/* Filling the model from a frozen tree, process by process. */
#include "src/target/gather.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "src/target/procfs.h"
#include "src/target/remote.h"

struct gather {
	struct tree *tree;
	struct model *m;
	const struct target_opts *opts;
	struct remote remote;
	uint32_t *by_depth; /* process indices, parents before children */
	unsigned batches, batch_calls;
};

struct gather *gather_new(struct tree *t, struct model *m, const struct target_opts *opts,
			  struct err *err)
{
	struct gather *g = calloc(1, sizeof(*g));

	if (!g) {
		err_set(err, ENOMEM, "collector of process %d", t->root);
		return NULL;
	}
	g->tree = t;
	g->m = m;
	g->opts = opts;
	g->remote.mem_fd = -1;
	return g;
}

void gather_close(struct gather *g)
{
	if (!g)
		return;
	remote_close(&g->remote);
	free(g->by_depth);
	free(g);
}

void gather_times(const struct gather *g, struct target_times *ret)
{
	if (!g)
		return;
	ret->batches = g->batches;
	ret->batch_calls = g->batch_calls;
}

int gather_survey(struct gather *g, struct err *err)
{
	return 0;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts = {0};

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void gather_host(struct model *m)
{
	struct utsname u = {0};

	uname(&u);
	m->elf_machine = arch_host()->elf_machine;
	m->page_size = (uint32_t)sysconf(_SC_PAGESIZE);
	m->monotonic_ns = clock_ns(CLOCK_MONOTONIC);
	m->boottime_ns = clock_ns(CLOCK_BOOTTIME);
	m->realtime_ns = clock_ns(CLOCK_REALTIME);
	m->uptime_us = m->boottime_ns / 1000;
	snprintf(m->kernel, sizeof(m->kernel), "%.40s %.50s", u.release, u.version);
	snprintf(m->hostname, sizeof(m->hostname), "%s", u.nodename);
}

static int gather_threads(struct gather *g, struct proc *proc, struct m_proc *p, struct err *err)
{
	int ret;

	p->threads = model_alloc(g->m, proc->ntasks * sizeof(*p->threads));
	if (!p->threads)
		return err_set(err, ENOMEM, "threads of process %d", proc->pid);
	p->nthreads = proc->ntasks;
	ret = threads_shared_pending(g->m, tree_proc_task(g->tree, proc, 0), &p->pending, err);
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++) {
		struct task *task = tree_proc_task(g->tree, proc, i);

		p->threads[i].tid = (uint32_t)task->tid;
		ret = threads_collect(g->m, task, &p->pending, &p->threads[i], err);
	}
	return ret;
}

static int gather_context(struct gather *g, struct proc *proc, struct m_proc *p, uint64_t caught,
			  struct err *err)
{
	struct remote *r = &g->remote;
	int ret = remote_open(r, g->tree, proc, caught, err);

	if (ret == 0)
		ret = context_collect(r, p, err);
	remote_close(r);
	g->batches += r->runs;
	g->batch_calls += r->calls;
	return ret;
}

static int gather_proc(struct gather *g, struct proc *proc, struct m_proc *p, struct err *err)
{
	struct procfs_status st;
	struct procfs_stat stat;
	int ret;

	p->pid = (uint32_t)proc->pid;
	ret = procfs_stat(proc->pid, 0, &stat);
	if (ret < 0)
		return err_set(err, -ret, "read /proc/%d/stat", proc->pid);
	p->ppid = (uint32_t)stat.ppid;
	memcpy(p->comm, stat.comm, sizeof(p->comm));
	p->state = proc->state == PROC_ZOMBIE ? M_DEAD : M_ALIVE;
	if (p->state == M_DEAD) {
		p->exit_code = stat.exit_code;
		return 0;
	}
	ret = procfs_status(proc->pid, g->tree->text, TREE_TEXT, &st);
	if (ret < 0)
		return err_set(err, -ret, "read /proc/%d/status", proc->pid);
	ret = gather_threads(g, proc, p, err);
	if (ret == 0 && !g->opts->no_injection)
		ret = gather_context(g, proc, p, st.sig_caught, err);
	return ret;
}

int gather_run(struct gather *g, struct err *err)
{
	struct tree *t = g->tree;
	uint32_t n = 0;

	gather_host(g->m);
	for (uint32_t i = 0; i < t->nprocs; i++)
		n += t->procs[i].state != PROC_GONE;
	g->m->procs = model_alloc(g->m, n * sizeof(*g->m->procs));
	if (!g->m->procs)
		return err_set(err, ENOMEM, "list of %u processes", n);
	for (uint32_t i = 0; i < t->nprocs; i++) {
		int ret;

		if (t->procs[i].state == PROC_GONE)
			continue;
		ret = gather_proc(g, &t->procs[i], &g->m->procs[g->m->nprocs++], err);
		if (ret < 0)
			return ret;
	}
	return 0;
}
