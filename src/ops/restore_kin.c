/* SPDX-License-Identifier: MIT */
/* Parents and children that share pages again: who with whom, and which. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "src/ops/restore.h"

/*
 * A parent with such children is filled before it has them; they are forked from it, and keep what
 * is worth it: mappings that may be the parent's and of whose pages some are the same.
 */
enum {
	LEAST_PAGES = 32,  /* a child keeps at least so many that both have */
	SURELY_PAGES = 64, /* of a mapping with fewer that is believed */
	SAMPLES = 8,	   /* of one with more that many are looked at */
	PAGE_MAX = 64 << 10,
};

struct spans {
	struct fill_span *v;
	size_t n, room;
};

static int spans_add(struct spans *s, uint64_t start, uint64_t end, struct err *err)
{
	if (s->n && s->v[s->n - 1].end == start) {
		s->v[s->n - 1].end = end;
		return 0;
	}
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		struct fill_span *v = reallocarray(s->v, room, sizeof(*v));

		if (!v)
			return err_set(err, ENOMEM, "list of %zu pieces of memory", room);
		s->v = v;
		s->room = room;
	}
	s->v[s->n++] = (struct fill_span){start, end};
	return 0;
}

/* --- which pages ------------------------------------------------------------------------------ */

/* The first stored piece of a process from @at on and below @end. */
static int next_piece(const struct restore *r, uint32_t pid, uint64_t at, uint64_t end,
		      struct fill_span *ret, struct err *err)
{
	struct md_extent e;
	int n = image_mem_extent(r->mem, MD_SPACE_PROC(pid), at, &e, err);

	if (n <= 0 || e.addr >= end)
		return n < 0 ? n : 0;
	*ret = (struct fill_span){e.addr, e.len < end - e.addr ? e.addr + e.len : end};
	return 1;
}

/* Of [start, end): the pages that both have, and those of the parent alone (@drop may be NULL). */
static int compare(const struct restore *r, const struct m_proc *parent, const struct m_proc *p,
		   struct fill_span in, struct spans *both, struct spans *drop, struct err *err)
{
	struct fill_span a, b;
	int ret = 0;

	for (uint64_t at = in.start; ret == 0 && at < in.end; at = a.end) {
		ret = next_piece(r, parent->pid, at, in.end, &a, err);
		if (ret <= 0)
			return ret;
		ret = 0;
		for (at = a.start; ret == 0 && at < a.end; at = b.end) {
			b = (struct fill_span){a.end, a.end};
			ret = next_piece(r, p->pid, at, a.end, &b, err);
			if (ret >= 0)
				ret = 0;
			if (ret == 0 && drop && b.start > at)
				ret = spans_add(drop, at, b.start, err);
			if (ret == 0 && b.end > b.start)
				ret = spans_add(both, b.start, b.end, err);
		}
	}
	return ret;
}

int restore_kin_spans(struct restore *r, uint32_t i, struct err *err)
{
	const struct m_proc *p = &r->model->procs[i];
	struct fill_kin *kin = &r->kin[i].kin;
	struct spans both = {0}, drop = {0};
	int ret = 0;

	for (uint32_t k = 0; kin->from && ret == 0 && k < p->mm.nvmas; k++)
		if (kin->keep[k])
			ret = compare(r, kin->from, p,
				      (struct fill_span){p->mm.vmas[k].start, p->mm.vmas[k].end},
				      &both, &drop, err);
	kin->both = both.v;
	kin->nboth = both.n;
	kin->drop = drop.v;
	kin->ndrop = drop.n;
	return ret;
}

/* --- whether it is worth it ------------------------------------------------------------------- */

static uint64_t pages_of(const struct restore *r, const struct spans *s)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < s->n; i++)
		sum += s->v[i].end - s->v[i].start;
	return sum / r->model->page_size;
}

static uint64_t nth_page(const struct restore *r, const struct spans *s, uint64_t n)
{
	uint64_t off = n * r->model->page_size;

	for (size_t i = 0; i < s->n; i++) {
		uint64_t len = s->v[i].end - s->v[i].start;

		if (off < len)
			return s->v[i].start + off;
		off -= len;
	}
	return 0;
}

/* 1: the same, 0: not, or -errno. */
static int same_page(const struct restore *r, const struct m_proc *parent, const struct m_proc *p,
		     uint64_t addr, struct err *err)
{
	static uint8_t buf[2][PAGE_MAX];
	const uint32_t len = r->model->page_size;
	ssize_t a, b;

	if (len > PAGE_MAX)
		return 0;
	a = image_mem_read(r->mem, MD_SPACE_PROC(parent->pid), addr, buf[0], len, err);
	b = a < 0 ? a : image_mem_read(r->mem, MD_SPACE_PROC(p->pid), addr, buf[1], len, err);
	if (b < 0)
		return (int)b;
	return a == (ssize_t)len && b == (ssize_t)len && !memcmp(buf[0], buf[1], len);
}

/* A mapping of @p that may stay: the number of pages that both have, 0 when few are the same. */
static int judge(const struct restore *r, const struct m_proc *parent, const struct m_proc *p,
		 const struct m_vma *v, uint64_t *ret_pages, struct err *err)
{
	struct spans both = {0};
	uint64_t n;
	int ret = compare(r, parent, p, (struct fill_span){v->start, v->end}, &both, NULL, err);

	n = pages_of(r, &both);
	*ret_pages = n < SURELY_PAGES ? n : 0;
	for (unsigned i = 0; ret == 0 && n >= SURELY_PAGES && i < SAMPLES; i++) {
		/* The middle of the i-th eighth. */
		ret = same_page(r, parent, p, nth_page(r, &both, (2 * i + 1) * n / (2 * SAMPLES)),
				err);
		if (ret > 0)
			*ret_pages = n;
	}
	free(both.v);
	return ret < 0 ? ret : 0;
}

/* Does process @i share with its parent? */
static int plan_one(struct restore *r, uint32_t i, const struct m_proc *parent, bool *ret,
		    struct err *err)
{
	const struct m_proc *p = &r->model->procs[i];
	uint8_t *keep = r->kin[i].kin.keep;
	uint64_t sum = 0;
	uint32_t at = 0;

	for (uint32_t k = 0; k < p->mm.nvmas; k++) {
		const struct m_vma *v = &p->mm.vmas[k];
		uint64_t n = 0;
		int e = 0;

		while (at < parent->mm.nvmas && parent->mm.vmas[at].end <= v->start)
			at++;
		if (at < parent->mm.nvmas && fill_may_keep(&parent->mm.vmas[at], v))
			e = judge(r, parent, p, v, &n, err);
		if (e < 0)
			return e;
		keep[k] = n > 0;
		sum += n;
	}
	*ret = sum >= LEAST_PAGES;
	if (!*ret)
		memset(keep, 0, p->mm.nvmas);
	return 0;
}

static const struct m_proc *living_parent(const struct restore *r, uint32_t i)
{
	const struct m_proc *p = &r->model->procs[i];
	const struct m_proc *parent = i ? model_proc(r->model, p->ppid) : NULL;

	if (p->state == M_DEAD || !parent || parent->state == M_DEAD || parent == p)
		return NULL;
	return parent;
}

static int plan_all(struct restore *r, struct err *err)
{
	const struct model *m = r->model;

	for (uint32_t i = 1; i < m->nprocs; i++) {
		const struct m_proc *parent = living_parent(r, i);
		bool shares = false;
		int ret = 0;

		if (!parent)
			continue;
		if (!r->mem)
			r->mem = image_mem_open(r->image, err);
		if (!r->mem)
			return -err->errnum;
		r->kin[i].kin.keep = calloc(m->procs[i].mm.nvmas + 1, 1);
		if (!r->kin[i].kin.keep)
			return err_set(err, ENOMEM, "%u mappings of process %u",
				       m->procs[i].mm.nvmas, m->procs[i].pid);
		ret = plan_one(r, i, parent, &shares, err);
		if (ret < 0)
			return ret;
		r->kin[parent - m->procs].parent |= shares;
	}
	/* Those that keep nothing have to be rid of it all the same. */
	for (uint32_t i = 1; i < m->nprocs; i++) {
		const struct m_proc *parent = living_parent(r, i);

		if (parent && r->kin[parent - m->procs].parent)
			r->kin[i].kin.from = parent;
	}
	return 0;
}

int restore_kin_plan(struct restore *r, struct err *err)
{
	const uint32_t n = r->model->nprocs;

	r->fills = calloc(n, sizeof(*r->fills));
	r->kin = calloc(n, sizeof(*r->kin));
	if (!r->fills || !r->kin)
		return err_set(err, ENOMEM, "list of %u processes", n);
	for (uint32_t i = 0; i < n; i++)
		r->fills[i].mem_fd = r->fills[i].uffd = -1;
	r->nfills = n;
	return plan_all(r, err);
}

void restore_kin_free(struct restore *r)
{
	for (uint32_t i = 0; r->kin && i < r->model->nprocs; i++) {
		free(r->kin[i].kin.keep);
		free(r->kin[i].kin.both);
		free(r->kin[i].kin.drop);
	}
	free(r->kin);
	r->kin = NULL;
	image_mem_close(r->mem);
	r->mem = NULL;
}

/* --- doing it --------------------------------------------------------------------------------- */

int restore_parent(void *arg, struct remote *remote, const struct m_proc *p, struct err *err)
{
	struct restore *r = arg;
	const uint32_t i = (uint32_t)(p - r->model->procs);
	const uint64_t t0 = now_ns();
	int ret;

	if (!r->kin[i].parent)
		return 0;
	ret = restore_map(r, i, remote, err);
	if (ret == 0) {
		r->only_pid = p->pid;
		ret = restore_memory(r, err);
		r->only_pid = 0;
	}
	fill_close(&r->fills[i]);
	r->kin[i].full = true;
	r->res->memory_ns += now_ns() - t0;
	if (FAULT("restore.parent"))
		ret = err_set(err, EIO, "fault injected at restore.parent");
	return ret;
}
