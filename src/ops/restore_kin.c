/* SPDX-License-Identifier: MIT */
/* Parents and children that share pages again: who with whom, and which. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "src/ops/restore.h"
#include "src/target/sessions.h"

/*
 * A parent with such children is filled before it has them; they are forked from it, and keep what
 * is worth it: mappings that may be the parent's and of whose pages some are the same.
 */
enum {
	LEAST_PAGES = 32,  /* a child keeps at least so many that both have, */
	LEAST_PART = 1024, /* and one of so many of all that its parent has */
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

/* A stored piece, and whose pages the image says these are. */
struct piece {
	uint64_t start, end, origin;
};

/* The first one of a process from @at on and below @end; 1, or 0: none. */
static int next_piece(const struct restore *r, uint32_t pid, uint64_t at, uint64_t end,
		      struct piece *ret, struct err *err)
{
	struct md_extent e;
	uint64_t origin;
	int n = image_mem_origin(r->mem, MD_SPACE_PROC(pid), at, &e, &origin, err);

	if (n <= 0 || e.addr >= end)
		return n < 0 ? n : 0;
	*ret = (struct piece){e.addr, e.len < end - e.addr ? e.addr + e.len : end, origin};
	return 1;
}

/* What a child and its parent have in some part of memory. */
struct common {
	struct spans equal; /* the image says so */
	struct spans both;  /* perhaps the same */
	struct spans drop;  /* the parent alone */
};

static void common_free(struct common *c)
{
	free(c->equal.v);
	free(c->both.v);
	free(c->drop.v);
}

/* The child's pages where the parent has those of @a. */
static int compare_piece(const struct restore *r, const struct m_proc *p, const struct piece *a,
			 struct common *c, struct err *err)
{
	uint64_t at = a->start;
	int ret = 0;

	while (ret == 0 && at < a->end) {
		struct piece b = {a->end, a->end, 0};

		ret = next_piece(r, p->pid, at, a->end, &b, err);
		if (ret < 0)
			return ret;
		ret = b.start > at ? spans_add(&c->drop, at, b.start, err) : 0;
		if (ret == 0 && b.end > b.start)
			ret = spans_add(b.origin == a->origin ? &c->equal : &c->both, b.start,
					b.end, err);
		at = b.end;
	}
	return ret;
}

static int compare(const struct restore *r, const struct m_proc *parent, const struct m_proc *p,
		   const struct m_vma *v, struct common *c, struct err *err)
{
	struct piece a;
	int ret;

	for (uint64_t at = v->start; at < v->end; at = a.end) {
		ret = next_piece(r, parent->pid, at, v->end, &a, err);
		if (ret <= 0)
			return ret;
		ret = compare_piece(r, p, &a, c, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* What is not in the image as its own pages, and not there already either. */
static int add_fetch(struct restore *r, const struct m_proc *p, const struct m_vma *v,
		     const struct spans *equal, struct spans *fetch, struct err *err)
{
	struct piece b;
	size_t k = 0;
	int ret;

	for (uint64_t at = v->start; at < v->end; at = b.end) {
		ret = next_piece(r, p->pid, at, v->end, &b, err);
		if (ret <= 0)
			return ret;
		while (k < equal->n && equal->v[k].end <= b.start)
			k++;
		if (k < equal->n && equal->v[k].start < b.end) {
			/* In front of what is equal, or all of that. */
			if (equal->v[k].start <= b.start) {
				b.end = equal->v[k].end < b.end ? equal->v[k].end : b.end;
				continue;
			}
			b.end = equal->v[k].start;
		}
		if (b.origin != MD_SPACE_PROC(p->pid))
			ret = spans_add(fetch, b.start, b.end, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int spans_move(struct spans *to, const struct spans *from, struct err *err)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < from->n; i++)
		ret = spans_add(to, from->v[i].start, from->v[i].end, err);
	return ret;
}

int restore_kin_spans(struct restore *r, uint32_t i, struct err *err)
{
	const struct m_proc *p = &r->model->procs[i];
	struct fill_kin *kin = &r->kin[i].kin;
	struct spans both = {0}, drop = {0}, fetch = {0};
	int ret = 0;

	for (uint32_t k = 0; r->mem && ret == 0 && k < p->mm.nvmas; k++) {
		struct common c = {0};

		if (kin->from && kin->keep[k]) {
			ret = compare(r, kin->from, p, &p->mm.vmas[k], &c, err);
			if (ret == 0)
				ret = spans_move(&both, &c.both, err);
			if (ret == 0)
				ret = spans_move(&drop, &c.drop, err);
		}
		/* CRIU's page files know no pages of others. */
		if (ret == 0 && image_format(r->image) == IMAGE_STASIS)
			ret = add_fetch(r, p, &p->mm.vmas[k], &c.equal, &fetch, err);
		common_free(&c);
	}
	kin->both = both.v;
	kin->nboth = both.n;
	kin->drop = drop.v;
	kin->ndrop = drop.n;
	r->kin[i].fetch = fetch.v;
	r->kin[i].nfetch = fetch.n;
	return ret;
}

/* Pages of another process that could not be inherited: a copy for this one. */
int restore_kin_fetch(struct restore *r, uint32_t i, struct err *err)
{
	enum { ROOM = 256 << 10 };
	const struct m_proc *p = &r->model->procs[i];
	cleanup_free uint8_t *buf = NULL;

	for (size_t k = 0; k < r->kin[i].nfetch; k++) {
		struct fill_span s = r->kin[i].fetch[k];

		if (!buf && !(buf = malloc(ROOM)))
			return err_set(err, ENOMEM, "buffer for pages");
		while (s.start < s.end) {
			uint64_t want = s.end - s.start < ROOM ? s.end - s.start : ROOM;
			ssize_t n = image_mem_read(r->mem, MD_SPACE_PROC(p->pid), s.start, buf,
						   want, err);
			int ret = n < 0 ? (int)n : restore_interrupted(r, err);

			if (n == 0)
				return err_fail(err, EBADMSG, ERR_IMAGE,
						"page at %#" PRIx64 " of process %u is missing",
						s.start, p->pid);
			if (ret == 0)
				ret = fill_write(&r->fills[i], s.start, buf, (uint64_t)n, err);
			if (ret < 0)
				return ret;
			s.start += (uint64_t)n;
		}
	}
	return 0;
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
	struct common c = {0};
	int ret = compare(r, parent, p, v, &c, err);
	const uint64_t n = pages_of(r, &c.both), equal = pages_of(r, &c.equal);

	*ret_pages = n < SURELY_PAGES || equal * SAMPLES >= n ? n + equal : 0;
	for (unsigned i = 0; ret == 0 && !*ret_pages && i < SAMPLES; i++) {
		/* The middle of the i-th eighth. */
		const uint64_t at = nth_page(r, &c.both, (2 * i + 1) * n / (2 * SAMPLES));

		ret = same_page(r, parent, p, at, err);
		if (ret > 0)
			*ret_pages = n + equal;
	}
	common_free(&c);
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
	*ret = sum >= LEAST_PAGES && sum * LEAST_PART >= r->kin[parent - r->model->procs].npages;
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

static int count_pages(struct restore *r, const struct m_proc *p, uint64_t *ret, struct err *err)
{
	struct piece a;
	uint64_t sum = 0;
	int n;

	for (uint32_t k = 0; k < p->mm.nvmas; k++)
		for (uint64_t at = p->mm.vmas[k].start; at < p->mm.vmas[k].end; at = a.end) {
			n = next_piece(r, p->pid, at, p->mm.vmas[k].end, &a, err);
			if (n < 0)
				return n;
			if (n == 0)
				break;
			sum += a.end - a.start;
		}
	*ret = sum / r->model->page_size;
	return 0;
}

static bool several_live(const struct model *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; n < 2 && i < m->nprocs; i++)
		n += m->procs[i].state != M_DEAD;
	return n > 1;
}

/*
 * Whose memory a new process has: that of the one it is forked from if it was filled by then, else
 * of the one that was forked from. NULL: of nobody in the image, it begins with none of theirs.
 */
static const struct m_proc *born_with(const struct restore *r, const struct m_proc *p)
{
	const struct m_proc *from = p;

	for (uint32_t depth = 0; depth < r->model->nprocs; depth++) {
		from = session_forker(r->model, from);
		if (!from || r->kin[from - r->model->procs].parent)
			return from;
	}
	return NULL;
}

static int plan_all(struct restore *r, struct err *err)
{
	const struct model *m = r->model;

	if (!several_live(m))
		return 0;
	r->mem = image_mem_open(r->image, err);
	if (!r->mem)
		return -err->errnum;
	for (uint32_t i = 1; i < m->nprocs; i++) {
		const struct m_proc *parent = living_parent(r, i);
		struct restore_kin *of;
		bool shares = false;
		int ret = 0;

		r->kin[i].kin.keep = calloc(m->procs[i].mm.nvmas + 1, 1);
		if (!r->kin[i].kin.keep)
			return err_set(err, ENOMEM, "%u mappings of process %u",
				       m->procs[i].mm.nvmas, m->procs[i].pid);
		if (!parent || parent != session_forker(m, &m->procs[i]))
			continue;
		of = &r->kin[parent - m->procs];
		if (!of->npages)
			ret = count_pages(r, parent, &of->npages, err);
		if (ret == 0)
			ret = plan_one(r, i, parent, &shares, err);
		if (ret < 0)
			return ret;
		of->parent |= shares;
	}
	/* Those that keep nothing have to be rid of it all the same. */
	for (uint32_t i = 1; i < m->nprocs; i++)
		if (m->procs[i].state != M_DEAD)
			r->kin[i].kin.from = born_with(r, &m->procs[i]);
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
		free(r->kin[i].fetch);
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
	if (ret == 0)
		ret = restore_kin_fetch(r, i, err);
	/* Children have them with the pages. */
	if (ret == 0)
		ret = restore_tags_of(r, i, remote, err);
	fill_close(&r->fills[i]);
	r->kin[i].full = true;
	r->res->memory_ns += now_ns() - t0;
	if (FAULT("restore.parent"))
		ret = err_set(err, EIO, "fault injected at restore.parent");
	return ret;
}
