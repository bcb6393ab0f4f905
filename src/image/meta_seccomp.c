/* SPDX-License-Identifier: MIT */
/*
 * Seccomp filters: chains of the model to and from one table.
 *
 * A thread names its oldest filter; `prev` leads to the next newer one. So chains with a common
 * beginning cannot share it:
 *
 *	chain 1: A B	table 0: A prev 1   1: B
 *	chain 2: A C	      2: A prev 3   3: C
 */
#include <string.h>

#include "src/image/meta.h"

/* More the kernel takes of no thread: 32768 instructions, 4 of them for each filter itself. */
enum { CHAIN_MAX = 8192 };

bool meta_seccomp_index(const struct model *m, uint32_t id, uint32_t *ret)
{
	uint32_t at = 0;

	if (!model_chain(m, id) || !model_chain(m, id)->n)
		return false;
	for (uint32_t i = 0; i + 1 < id; i++)
		at += m->chains[i].n;
	*ret = at;
	return true;
}

int meta_put_seccomp(struct meta_out *o)
{
	Im__Seccomp seccomp = IM__SECCOMP__INIT;
	Im__SeccompFilter *items;
	uint32_t n = 0, at = 0;

	for (uint32_t i = 0; i < o->m->nchains; i++)
		n += o->m->chains[i].n;
	if (!meta_array(o->scratch, n, sizeof(*items), &items, &seccomp.seccomp_filters))
		return meta_nomem(o->err, "seccomp.img");
	seccomp.n_seccomp_filters = n;
	for (uint32_t i = 0; i < o->m->nchains; i++) {
		const struct m_seccomp_chain *c = &o->m->chains[i];

		for (uint32_t k = 0; k < c->n; k++, at++) {
			im__seccomp_filter__init(&items[at]);
			items[at].filter.data = c->filters[k].code;
			items[at].filter.len = c->filters[k].len;
			META_SET_NZ(&items[at], flags, c->filters[k].flags);
			META_SET(&items[at], prev, at + 1);
			items[at].has_prev = k + 1 < c->n;
		}
	}
	frame_begin(&o->img->out, FRAME_SECCOMP);
	frame_add(&o->img->out, &seccomp.base);
	return store_put(o->img, "seccomp.img", o->err);
}

/* --- back ----------------------------------------------------------------------------------- */

/* The table's filters, copied, and which chain begins at each: 0 none yet. */
struct table {
	uint32_t n;
	const Im__Seccomp *msg;
	struct m_seccomp_filter *filters;
	uint32_t *chain;
};

static int copy_table(struct meta_in *in, struct table *t)
{
	t->n = (uint32_t)t->msg->n_seccomp_filters;
	t->filters = model_alloc(in->m, t->n * sizeof(*t->filters));
	t->chain = model_alloc(in->m, t->n * sizeof(*t->chain));
	if (!t->filters || !t->chain)
		return meta_nomem(in->err, "seccomp.img");
	for (uint32_t i = 0; i < t->n; i++) {
		const Im__SeccompFilter *from = t->msg->seccomp_filters[i];

		t->filters[i].flags = META_GET(from, flags);
		if (meta_get_bytes(in, &from->filter, &t->filters[i].code, &t->filters[i].len))
			return meta_nomem(in->err, "seccomp.img");
	}
	return 0;
}

static int bad(struct meta_in *in, uint32_t at, const char *why)
{
	return err_fail(in->err, EBADMSG, ERR_IMAGE, "seccomp.img: filter %u %s", at, why);
}

/* How many filters there are from @at on; -EBADMSG. */
static int chain_len(struct meta_in *in, const struct table *t, uint32_t at, uint32_t *ret)
{
	uint32_t first = at, n = 1;

	for (;; n++) {
		const Im__SeccompFilter *f;

		if (at >= t->n)
			return bad(in, at, "is not there");
		if (n > t->n || n > CHAIN_MAX)
			return bad(in, first, "begins a chain without end");
		f = t->msg->seccomp_filters[at];
		if (!f->has_prev)
			break;
		at = f->prev;
	}
	*ret = n;
	return 0;
}

static int get_chain(struct meta_in *in, struct table *t, uint32_t at)
{
	struct m_seccomp_chain *c;
	uint32_t n = 0, first = at;
	int ret = chain_len(in, t, at, &n);

	if (ret)
		return ret;
	c = model_push(in->m, &in->m->chains, &in->m->nchains, sizeof(*c));
	if (c)
		c->filters = model_alloc(in->m, n * sizeof(*c->filters));
	if (!c || !c->filters)
		return meta_nomem(in->err, "seccomp.img");
	for (c->n = 0; c->n < n; at = t->msg->seccomp_filters[at]->prev)
		c->filters[c->n++] = t->filters[at];
	t->chain[first] = in->m->nchains;
	return 0;
}

/* CRIU: what all threads have is in the leader's file alone, and marked. */
static void spread(const struct model *m, struct m_proc *p)
{
	const struct m_seccomp_chain *c = model_chain(m, p->threads[0].seccomp_chain);

	if (!c || !(c->filters[0].flags & M_SECCOMP_TSYNC))
		return;
	for (uint32_t i = 1; i < p->nthreads; i++) {
		if (p->threads[i].seccomp_chain)
			continue;
		p->threads[i].seccomp_chain = p->threads[0].seccomp_chain;
		p->threads[i].seccomp_mode = p->threads[0].seccomp_mode;
	}
}

static int get_proc(struct meta_in *in, struct table *t, struct m_proc *p)
{
	for (uint32_t i = 0; i < p->nthreads; i++) {
		uint32_t *which = &p->threads[i].seccomp_chain, at = *which - 1;
		int ret;

		if (!*which)
			continue;
		if (at >= t->n)
			return bad(in, at, "is not there");
		ret = t->chain[at] ? 0 : get_chain(in, t, at);
		if (ret)
			return ret;
		*which = t->chain[at];
	}
	if (p->nthreads)
		spread(in->m, p);
	return 0;
}

/* Images without filters may lack the file. */
static int load(struct meta_in *in, struct store_in *file, struct table *t)
{
	ProtobufCMessage *msg = NULL;
	int ret = frame_single(&file->f, &msg, in->err);

	if (ret)
		return ret;
	t->msg = (const Im__Seccomp *)msg;
	return copy_table(in, t);
}

int meta_get_seccomp(struct meta_in *in)
{
	struct table t = {0};
	struct store_in file;
	int ret = store_load(in->dirfd, FRAME_SECCOMP, "seccomp.img", &file, NULL);
	bool there = !ret;

	if (ret && ret != -ENOENT)
		return store_load(in->dirfd, FRAME_SECCOMP, "seccomp.img", &file, in->err);
	ret = there ? load(in, &file, &t) : 0;
	for (uint32_t i = 0; !ret && i < in->m->nprocs; i++)
		ret = get_proc(in, &t, &in->m->procs[i]);
	if (there)
		store_unload(&file);
	return ret;
}
