/* SPDX-License-Identifier: MIT */
/* Memory that had a page and could not be read. */
#include "src/ops/lost.h"

static void note(void *arg, uint64_t space, uint64_t addr, uint64_t len)
{
	struct lost *l = arg;

	if (extents_add(&l->pieces, space, addr, len) < 0)
		l->unnoted += len;
}

void lost_note(struct lost *l, struct md_reader *reader)
{
	reader->vanished = note;
	reader->vanished_arg = l;
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
