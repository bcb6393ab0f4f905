/* SPDX-License-Identifier: MIT */
/* Cross-references of a model: who names whom, and whether that one is there. */
#include "src/image/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct check {
	const struct model *m;
	check_report *report;
	void *arg;
	unsigned bad;
};

__attribute__((format(printf, 2, 3))) static void bad(struct check *c, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->bad++;
	if (c->report)
		c->report(c->arg, line);
}

static int cmp_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Sorts @v, names what is in it twice, and frees it. */
static void report_doubles(struct check *c, uint32_t *v, size_t n, const char *what)
{
	if (!v)
		return;
	qsort(v, n, sizeof(*v), cmp_u32);
	for (size_t i = 1; i < n; i++)
		if (v[i] == v[i - 1])
			bad(c, "%s %u is there twice", what, v[i]);
	free(v);
}

static void file_ref(struct check *c, uint32_t id, uint32_t pid, const char *what)
{
	if (id && !model_file(c->m, id))
		bad(c, "process %u: %s names file %u, which is not there", pid, what, id);
}

/* --- memory --------------------------------------------------------------------------------- */

static void check_vma_target(struct check *c, uint32_t pid, const struct m_vma *v)
{
	bool file = v->kind == M_VMA_FILE_PRIVATE || v->kind == M_VMA_FILE_SHARED;

	if ((file && !v->file_id) || (v->file_id && !model_file(c->m, v->file_id)))
		bad(c, "process %u: VMA %#" PRIx64 " names file %u, which is not there", pid,
		    v->start, v->file_id);
	if ((v->kind == M_VMA_SHMEM && !v->shm_id) || (v->shm_id && !model_shm(c->m, v->shm_id)))
		bad(c, "process %u: VMA %#" PRIx64 " names segment %u, which is not there", pid,
		    v->start, v->shm_id);
}

static void check_vmas(struct check *c, const struct m_proc *p)
{
	uint64_t mask = c->m->page_size ? c->m->page_size - 1 : 0, end = 0;

	for (uint32_t i = 0; i < p->mm.nvmas; i++) {
		const struct m_vma *v = &p->mm.vmas[i];

		if (v->start >= v->end || ((v->start | v->end | v->pgoff) & mask))
			bad(c, "process %u: VMA %u is %#" PRIx64 "-%#" PRIx64 " at %#" PRIx64,
			    p->pid, i, v->start, v->end, v->pgoff);
		else if (v->start < end)
			bad(c,
			    "process %u: VMA %#" PRIx64 "-%#" PRIx64 " begins before %#" PRIx64
			    ", where the one before it ends",
			    p->pid, v->start, v->end, end);
		end = v->end > end ? v->end : end;
		check_vma_target(c, p->pid, v);
	}
}

/* NULL: none has all of it. */
static const struct m_vma *vma_with(const struct m_mm *mm, uint64_t start, uint64_t end)
{
	uint32_t lo = 0, hi = mm->nvmas;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (mm->vmas[mid].end <= start)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < mm->nvmas && mm->vmas[lo].start <= start && mm->vmas[lo].end >= end
		       ? &mm->vmas[lo]
		       : NULL;
}

/* Nobody is to write tags where there are none. */
static void check_tags(struct check *c, const struct m_proc *p)
{
	uint64_t from = 0;

	for (uint32_t i = 0; i < p->mm.ntags; i++) {
		const struct m_tags *t = &p->mm.tags[i];
		const struct m_vma *v = t->start + t->len > t->start
						? vma_with(&p->mm, t->start, t->start + t->len)
						: NULL;

		if (t->start < from || !v || !(v->flags & M_VMF_TAGS)) {
			bad(c, "process %u: tags of %" PRIu64 " bytes at %#" PRIx64 " are %s",
			    p->pid, t->len, t->start,
			    t->start < from ? "out of order" : "in no mapping that has tags");
			return;
		}
		from = t->start + t->len;
	}
}

static void check_mm(struct check *c, const struct m_proc *p)
{
	check_vmas(c, p);
	check_tags(c, p);
	file_ref(c, p->mm.exe_file_id, p->pid, "the executable");
	for (uint32_t i = 0; i < p->mm.nguards; i++) {
		const struct m_guard *g = &p->mm.guards[i];

		if (g->start >= g->end || !vma_with(&p->mm, g->start, g->end))
			bad(c, "process %u: guard range %#" PRIx64 "-%#" PRIx64 " is in no VMA",
			    p->pid, g->start, g->end);
	}
}

/* --- processes ------------------------------------------------------------------------------ */

/* Parents stand before their children, so there is no cycle either. */
struct place {
	uint32_t pid, at;
};

static int cmp_place(const void *a, const void *b)
{
	return cmp_u32(&((const struct place *)a)->pid, &((const struct place *)b)->pid);
}

static void check_parents(struct check *c)
{
	uint32_t n = c->m->nprocs;
	struct place *places = malloc(n * sizeof(*places) + 1);

	if (!places) {
		bad(c, "no memory to look at %u processes", n);
		return;
	}
	for (uint32_t i = 0; i < n; i++)
		places[i] = (struct place){c->m->procs[i].pid, i};
	qsort(places, n, sizeof(*places), cmp_place);
	for (uint32_t i = 0; i < n; i++) {
		struct place key = {.pid = c->m->procs[i].ppid}, *found;

		if (!c->m->procs[i].pid)
			bad(c, "process %u in the tree has pid 0", i);
		if (!i)
			continue;
		found = bsearch(&key, places, n, sizeof(*places), cmp_place);
		if (!found || found->at >= i)
			bad(c, "process %u: its parent %u does not stand before it",
			    c->m->procs[i].pid, key.pid);
	}
	free(places);
}

static void check_shared_vm(struct check *c, uint32_t i)
{
	const struct m_proc *p = &c->m->procs[i];

	for (uint32_t k = 0; k < i; k++)
		if (c->m->procs[k].vm_id == p->vm_id && c->m->procs[k].state != M_DEAD)
			return;
	bad(c, "process %u: no process before it has address space %u", p->pid, p->vm_id);
}

static void check_regsets(struct check *c, const struct m_thread *t)
{
	for (uint32_t i = 0; i < t->nregsets; i++) {
		const struct m_regset *set = &t->regsets[i];

		if (!set->len)
			bad(c, "thread %u: register set %#x is empty", t->tid, set->note);
		if (model_regset(t, set->note) != set)
			bad(c, "thread %u: register set %#x is there twice", t->tid, set->note);
	}
}

static void check_live(struct check *c, const struct m_proc *p)
{
	for (uint32_t i = 0; i < p->nthreads; i++)
		check_regsets(c, &p->threads[i]);
	if (!p->nthreads || p->threads[0].tid != p->pid)
		bad(c, "process %u: its first thread is %u", p->pid,
		    p->nthreads ? p->threads[0].tid : 0);
	if (p->fdtable_id == 1)
		bad(c, "process %u: descriptor table 1 is the dumping tool's", p->pid);
	else if (!model_fdtable(c->m, p->fdtable_id))
		bad(c, "process %u: descriptor table %u is not there", p->pid, p->fdtable_id);
	file_ref(c, p->cwd_file_id, p->pid, "the working directory");
	file_ref(c, p->root_file_id, p->pid, "the root directory");
	check_mm(c, p);
}

static void check_tids(struct check *c)
{
	size_t n = 0;
	uint32_t *tids;

	for (uint32_t i = 0; i < c->m->nprocs; i++)
		n += c->m->procs[i].nthreads ? c->m->procs[i].nthreads : 1;
	tids = malloc(n * sizeof(*tids));
	n = 0;
	for (uint32_t i = 0; tids && i < c->m->nprocs; i++) {
		const struct m_proc *p = &c->m->procs[i];

		if (!p->nthreads)
			tids[n++] = p->pid;
		for (uint32_t k = 0; k < p->nthreads; k++)
			tids[n++] = p->threads[k].tid;
	}
	report_doubles(c, tids, n, "pid or thread id");
}

/* --- files ---------------------------------------------------------------------------------- */

static void check_fdtable(struct check *c, const struct m_fdtable *t)
{
	uint32_t *fds = malloc(t->n * sizeof(*fds) + 1);

	for (uint32_t i = 0; i < t->n; i++) {
		if (fds)
			fds[i] = t->fds[i].fd;
		if (!model_file(c->m, t->fds[i].file_id))
			bad(c,
			    "descriptor table %u: descriptor %u names file %u, which is not there",
			    t->id, t->fds[i].fd, t->fds[i].file_id);
	}
	report_doubles(c, fds, t->n, "descriptor");
}

static void check_ghost(struct check *c, const struct m_ghost *g)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < g->nextents; i++) {
		const struct m_extent *e = &g->extents[i];

		if (e->off < end || e->len > g->size || e->off > g->size - e->len)
			bad(c, "deleted file %u: %" PRIu64 " bytes at %" PRIu64 " do not fit",
			    g->id, e->len, e->off);
		end = e->off + e->len;
	}
}

static void check_packet(struct check *c, const struct m_packet *p)
{
	if (!model_file(c->m, p->file_id) || (p->from_id && !model_file(c->m, p->from_id)))
		bad(c, "a message is from file %u in the queue of file %u, which is not there",
		    p->from_id, p->file_id);
	for (uint32_t i = 0; i < p->nrights; i++)
		if (!model_file(c->m, p->rights[i]))
			bad(c, "file %u, which is not there, travels to file %u", p->rights[i],
			    p->file_id);
}

static void check_contents(struct check *c)
{
	for (uint32_t i = 0; i < c->m->nghosts; i++)
		check_ghost(c, &c->m->ghosts[i]);
	for (uint32_t i = 0; i < c->m->npackets; i++)
		check_packet(c, &c->m->packets[i]);
	for (uint32_t i = 0; i < c->m->nlocks; i++) {
		const struct m_lock *l = &c->m->locks[i];

		if (!model_file_at(c->m, l->pid, l->fd))
			bad(c, "a lock is on descriptor %u of process %u, which is not there",
			    l->fd, l->pid);
	}
}

static void check_files(struct check *c)
{
	for (uint32_t i = 0; i < c->m->nfiles; i++) {
		const struct m_file *f = &c->m->files[i];

		if (f->id != i + 1)
			bad(c, "file %u has id %u", i + 1, f->id);
		if (f->shm_id && !model_shm(c->m, f->shm_id))
			bad(c, "file %u names segment %u, which is not there", f->id, f->shm_id);
		if (f->tty && !model_tty(c->m, f->tty))
			bad(c, "file %u names terminal %u, which is not there", f->id, f->tty);
		if (f->ghost_id && !model_ghost(c->m, f->ghost_id))
			bad(c, "file %u names deleted file %u, which is not there", f->id,
			    f->ghost_id);
		for (uint32_t k = 0; k < f->ntargets; k++)
			if (f->targets[k].file_id && !model_file(c->m, f->targets[k].file_id))
				bad(c, "file %u watches file %u, which is not there", f->id,
				    f->targets[k].file_id);
	}
	for (uint32_t i = 0; i < c->m->nshms; i++)
		if (c->m->shms[i].id != i + 1)
			bad(c, "segment %u has id %u", i + 1, c->m->shms[i].id);
}

unsigned check_tree(const struct model *m, check_report *report, void *arg)
{
	struct check c = {.m = m, .report = report, .arg = arg};

	if (!m->nprocs) {
		bad(&c, "no process in the tree");
		return c.bad;
	}
	check_parents(&c);
	check_tids(&c);
	return c.bad;
}

unsigned check_model(const struct model *m, check_report *report, void *arg)
{
	struct check c = {.m = m, .report = report, .arg = arg};

	c.bad = check_tree(m, report, arg);
	for (uint32_t i = 0; i < m->nprocs; i++) {
		if (m->procs[i].state == M_DEAD)
			continue;
		check_live(&c, &m->procs[i]);
		if (m->procs[i].shares_vm)
			check_shared_vm(&c, i);
	}
	for (uint32_t i = 0; i < m->nfdtables; i++)
		check_fdtable(&c, &m->fdtables[i]);
	check_files(&c);
	check_contents(&c);
	return c.bad;
}
