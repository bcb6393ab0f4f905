/* SPDX-License-Identifier: MIT */
/* Pre-copy: the guard regions of a frozen tree, which the last look has seen for the most part. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/ops/precopy_priv.h"

/* The tracked ranges and what was seen in them, process by process as in the model. */
struct walk {
	struct precopy *p;
	struct model *m;
	size_t range, ntracked; /* of p->ranges */
	size_t guard;		/* of p->guards */
};

static bool is_tracked(struct walk *w, const struct m_proc *proc, const struct m_vma *v)
{
	const struct md_range *r = &w->p->ranges[w->range];

	if (w->range == w->ntracked || (uint32_t)r->pid != proc->pid || r->addr != v->start)
		return false;
	w->range++;
	return true;
}

/* What lies between two tracked mappings: one walk. */
static int find_others(struct walk *w, struct m_proc *proc, int pagemap_fd)
{
	uint64_t start = 0, end = 0;
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < proc->mm.nvmas; i++) {
		const struct m_vma *v = &proc->mm.vmas[i];

		/* The page of [vsyscall] is no user memory: PAGEMAP_SCAN refuses such an end. */
		if (v->end >= INT64_MAX)
			break;
		if (!is_tracked(w, proc, v)) {
			start = end ? start : v->start;
			end = v->end;
		} else if (end) {
			ret = target_guards(w->m, pagemap_fd, start, end, &proc->mm);
			end = 0;
		}
	}
	if (ret == 0 && end)
		ret = target_guards(w->m, pagemap_fd, start, end, &proc->mm);
	return ret;
}

static int take_seen(struct walk *w, struct m_proc *proc)
{
	const struct extents *x = &w->p->guards;

	for (; w->guard < x->n && MD_SPACE_ID(x->v[w->guard].space) == proc->pid; w->guard++) {
		const struct space_extent *e = &x->v[w->guard];
		struct m_guard *g =
			model_push(w->m, &proc->mm.guards, &proc->mm.nguards, sizeof(*g));

		if (!g)
			return -ENOMEM;
		*g = (struct m_guard){e->addr, e->addr + e->len};
	}
	return 0;
}

static int by_start(const void *va, const void *vb)
{
	const struct m_guard *a = va, *b = vb;

	return a->start < b->start ? -1 : a->start > b->start;
}

static void settle(struct m_mm *mm)
{
	uint32_t n = 0;

	if (mm->nguards < 2)
		return;
	qsort(mm->guards, mm->nguards, sizeof(*mm->guards), by_start);
	for (uint32_t i = 1; i < mm->nguards; i++) {
		if (mm->guards[i].start == mm->guards[n].end)
			mm->guards[n].end = mm->guards[i].end;
		else
			mm->guards[++n] = mm->guards[i];
	}
	mm->nguards = n + 1;
}

/* As the first process with this address space has them. */
static void take_shared(const struct model *m, struct m_proc *proc)
{
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *first = &m->procs[i];

		if (first->vm_id != proc->vm_id || first->shares_vm)
			continue;
		proc->mm.guards = first->mm.guards;
		proc->mm.nguards = first->mm.nguards;
	}
}

int precopy_guards(struct precopy *p, struct model *m, size_t ntracked, struct err *err)
{
	struct walk w = {.p = p, .m = m, .ntracked = ntracked};

	for (uint32_t i = 0; i < m->nprocs; i++) {
		struct m_proc *proc = &m->procs[i];
		char path[40];
		int ret;

		if (proc->state == M_DEAD || proc->shares_vm)
			continue;
		snprintf(path, sizeof(path), "/proc/%u/pagemap", proc->pid);
		cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

		/* -1: EBADF is one more answer that tells of none. */
		ret = find_others(&w, proc, fd);
		if (ret == 0)
			ret = take_seen(&w, proc);
		if (ret < 0)
			return err_set(err, ENOMEM, "guard regions of pid %u", proc->pid);
		settle(&proc->mm);
	}
	for (uint32_t i = 0; i < m->nprocs; i++)
		if (m->procs[i].shares_vm)
			take_shared(m, &m->procs[i]);
	return 0;
}
