/* SPDX-License-Identifier: MIT */
/* Memory that had a page and could not be read. */
#include <sys/mman.h>

#include "src/ops/lost.h"

static void note(void *arg, uint64_t space, uint64_t addr, uint64_t len)
{
	struct lost *l = arg;

	if (extents_add(&l->pieces, space, addr, len) < 0)
		l->unnoted += len;
}

/* A mapping that can be read takes no force: what is not there is not there for anybody. */
static bool takes_force(const struct model *m, uint32_t pid, uint64_t addr)
{
	const struct m_proc *p = model_proc(m, pid);
	uint32_t lo = 0, hi = p ? p->mm.nvmas : 0;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (p->mm.vmas[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return p && lo < p->mm.nvmas && p->mm.vmas[lo].start <= addr &&
	       !(p->mm.vmas[lo].prot & PROT_READ);
}

static ssize_t ask(void *arg, int pid, uint64_t addr, void *buf, size_t len, struct err *err)
{
	struct lost *l = arg;

	if (!takes_force(l->model, (uint32_t)pid, addr))
		return 0;
	return target_read(l->target, pid, addr, buf, len, err);
}

void lost_note(struct lost *l, struct md_reader *reader)
{
	reader->vanished = note;
	reader->vanished_arg = l;
	if (!l->target)
		return;
	reader->ask = ask;
	reader->ask_arg = l;
}

void lost_deinit(struct lost *l)
{
	extents_free(&l->pieces);
}

static uint64_t within(const struct extents *x, uint64_t space, const struct m_guard *g)
{
	uint64_t sum = 0;

	for (size_t k = extents_find(x, space, g->start);
	     k < x->n && x->v[k].space == space && x->v[k].addr < g->end; k++) {
		uint64_t from = x->v[k].addr, to = from + x->v[k].len;

		sum += (to < g->end ? to : g->end) - (from > g->start ? from : g->start);
	}
	return sum;
}

uint64_t lost_bytes(struct lost *l, const struct model *m)
{
	uint64_t sum;

	extents_settle(&l->pieces);
	sum = extents_bytes(&l->pieces) + l->unnoted;
	for (uint32_t i = 0; i < m->nprocs && l->pieces.n; i++) {
		const struct m_proc *p = &m->procs[i];

		/* Those of a process with the same memory are the same ones. */
		for (uint32_t k = 0; k < p->mm.nguards && !p->shares_vm; k++)
			sum -= within(&l->pieces, MD_SPACE_PROC(p->pid), &p->mm.guards[k]);
	}
	return sum;
}
