/* SPDX-License-Identifier: MIT */
/* Which pages of a process have been read, for its children. */
#include "memdump/kin.h"

#include <stdlib.h>

static int by_pid(const void *va, const void *vb)
{
	const struct md_kin_proc *a = va, *b = vb;

	return a->pid < b->pid ? -1 : a->pid > b->pid;
}

void md_kin_init(struct md_kin *k, const struct md_range *ranges, size_t n)
{
	size_t most = 0, kept = 0;

	*k = (struct md_kin){0};
	for (size_t i = 0; i < n; i++)
		most += ranges[i].kin && (!i || ranges[i].kin != ranges[i - 1].kin);
	k->procs = most ? calloc(most, sizeof(*k->procs)) : NULL;
	if (!k->procs)
		return;
	for (size_t i = 0; i < n; i++)
		if (ranges[i].kin && (!i || ranges[i].kin != ranges[i - 1].kin))
			k->procs[k->nprocs++].pid = (uint32_t)ranges[i].kin;
	qsort(k->procs, k->nprocs, sizeof(*k->procs), by_pid);
	for (size_t i = 0; i < k->nprocs; i++)
		if (!kept || k->procs[kept - 1].pid != k->procs[i].pid)
			k->procs[kept++].pid = k->procs[i].pid;
	k->nprocs = kept;
}

void md_kin_deinit(struct md_kin *k)
{
	for (size_t i = 0; i < k->nprocs; i++)
		free(k->procs[i].v);
	free(k->procs);
	*k = (struct md_kin){0};
}

static struct md_kin_proc *proc_of(const struct md_kin *k, uint32_t pid)
{
	const struct md_kin_proc key = {.pid = pid};

	return k->nprocs ? bsearch(&key, k->procs, k->nprocs, sizeof(key), by_pid) : NULL;
}

void md_kin_note(struct md_kin *k, uint32_t pid, uint64_t addr, uint64_t len, uint32_t owner)
{
	struct md_kin_proc *p = proc_of(k, pid);
	struct md_kin_run *last;

	if (!p || p->lost)
		return;
	last = p->n ? &p->v[p->n - 1] : NULL;
	if (last && last->addr + last->len == addr && last->owner == owner) {
		last->len += len;
		return;
	}
	if (p->n == p->room) {
		size_t room = p->room ? 2 * p->room : 64;
		void *v = reallocarray(p->v, room, sizeof(*p->v));

		p->lost = !v;
		if (!v)
			return;
		p->v = v;
		p->room = room;
	}
	/* Whoever reads a process in another order has more pages stored. */
	p->lost = p->n && p->v[p->n - 1].addr + p->v[p->n - 1].len > addr;
	if (!p->lost)
		p->v[p->n++] = (struct md_kin_run){addr, len, owner};
}

uint64_t md_kin_find(const struct md_kin *k, uint32_t pid, uint64_t addr, uint64_t len,
		     uint32_t *ret_owner)
{
	const struct md_kin_proc *p = proc_of(k, pid);
	size_t lo = 0, hi = p ? p->n : 0;
	uint64_t left;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (p->v[mid].addr + p->v[mid].len <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!p || lo == p->n || p->v[lo].addr > addr)
		return 0;
	*ret_owner = p->v[lo].owner;
	left = p->v[lo].addr + p->v[lo].len - addr;
	return left < len ? left : len;
}
