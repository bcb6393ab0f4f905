/* SPDX-License-Identifier: MIT */
/* Lists of system calls with names and buffers, run in one thread or in all. */
#include "src/target/put_list.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* The guardian has one thread. */
static struct arch_call big_calls[BATCH_CALLS];
static uint8_t big_data[BATCH_DATA];
static struct arch_call slot_calls[REMOTE_SLOTS][SLOT_CALLS];
static uint8_t slot_data[REMOTE_SLOTS][SLOT_DATA];

/* --- making a list ---------------------------------------------------------------------------- */

void list_begin(struct list *l)
{
	l->n = 0;
}

struct list_call *list_add(struct list *l, uint64_t nr, uint64_t first, const char *what)
{
	struct list_call *c = &l->calls[l->n < LIST_CALLS ? l->n : LIST_CALLS];

	l->n++;
	*c = (struct list_call){.nr = nr, .args = {first}, .what = what};
	return c;
}

static struct list_buf *add_buf(struct list_call *c, void *data, size_t len)
{
	struct list_buf *b = &c->bufs[c->bufs[0].len != 0];

	b->data = data;
	b->len = len > UINT32_MAX ? UINT32_MAX : (uint32_t)len;
	return b;
}

void list_give(struct list_call *c, unsigned arg, const void *data, size_t len)
{
	add_buf(c, (void *)(uintptr_t)data, len)->arg = (uint8_t)arg;
}

void list_take(struct list_call *c, unsigned arg, void *data, size_t len)
{
	struct list_buf *b = add_buf(c, data, len);

	b->arg = (uint8_t)arg;
	b->out = true;
}

void list_give_inside(struct list_call *c, size_t off, const void *data, size_t len)
{
	struct list_buf *b = add_buf(c, (void *)(uintptr_t)data, len);

	b->arg = LIST_INSIDE;
	b->inside = (uint16_t)off;
}

/* --- into a batch and out of it --------------------------------------------------------------- */

static size_t bytes_of(const struct list_call *c)
{
	size_t sum = 0;

	for (unsigned i = 0; i < LIST_BUFS; i++)
		sum += ((size_t)c->bufs[i].len + 15) & ~(size_t)15;
	return sum;
}

static int too_much(const struct task *task, const char *what, size_t len, struct err *err)
{
	return err_fail(err, E2BIG, ERR_UNSUPPORTED, "%s of thread %d: %zu bytes are too many",
			what, task->tid, len);
}

static void batch_add(struct batch *b, const struct list_call *c)
{
	uint64_t args[5], addr[LIST_BUFS] = {0};

	memcpy(args, c->args, sizeof(args));
	for (unsigned i = 0; i < LIST_BUFS && c->bufs[i].len; i++) {
		const struct list_buf *buf = &c->bufs[i];

		addr[i] = batch_buf(b, buf->len);
		memcpy(batch_data(b, addr[i]), buf->data, buf->len);
		if (buf->arg == LIST_INSIDE)
			memcpy((uint8_t *)batch_data(b, addr[0]) + buf->inside, &addr[i], 8);
		else
			args[buf->arg] = addr[i];
	}
	batch_call(b, c->nr, args[0], args[1], args[2], args[3], args[4]);
}

/* From call @from on, as many as fit. Their number, -E2BIG when not one does. */
static int batch_fill(struct batch *b, const struct list *l, unsigned from, struct task *task,
		      struct err *err)
{
	unsigned i = from;

	if (l->n > LIST_CALLS)
		return too_much(task, l->calls[LIST_CALLS].what, l->n * sizeof(*l->calls), err);
	for (; i < l->n && b->ncalls < b->max_calls; i++) {
		size_t len = bytes_of(&l->calls[i]);

		if (len > b->max_data)
			return too_much(task, l->calls[i].what, len, err);
		if (len > b->max_data - b->ndata)
			break;
		batch_add(b, &l->calls[i]);
	}
	return (int)(i - from);
}

/* Results of the calls from @from on; the first one that failed is the error. */
static int batch_empty(struct batch *b, struct list *l, unsigned from, struct task *task,
		       struct err *err)
{
	uint64_t addr = b->data_addr;

	for (unsigned i = 0; i < b->ncalls; i++) {
		struct list_call *c = &l->calls[from + i];

		c->ret = b->calls[i].ret;
		for (unsigned k = 0; k < LIST_BUFS && c->bufs[k].len; k++) {
			if (c->bufs[k].out)
				memcpy(c->bufs[k].data, batch_data(b, addr), c->bufs[k].len);
			addr += (c->bufs[k].len + 15) & ~(uint64_t)15;
		}
		if (!c->may_fail && c->ret < 0 && c->ret > -4096)
			return err_set(err, (int)-c->ret, "%s of thread %d", c->what, task->tid);
	}
	return 0;
}

int list_run(struct list *l, struct remote *r, struct task *task, struct err *err)
{
	struct batch b;
	int ret = 0;

	for (unsigned at = 0; ret == 0 && at < l->n; at += b.ncalls) {
		batch_init_big(&b, r, big_calls, big_data);
		ret = batch_fill(&b, l, at, task, err);
		if (ret < 0)
			return ret;
		ret = remote_run(r, &task, &b, 1, err);
		if (ret == 0)
			ret = batch_empty(&b, l, at, task, err);
	}
	return ret;
}

/* --- all threads ------------------------------------------------------------------------------ */

int list_check_threads(struct remote *r, const struct m_proc *p, struct err *err)
{
	if (p->nthreads != r->proc->ntasks)
		return err_fail(err, EINVAL, ERR_IMAGE,
				"process %d has %u threads and should have %u", r->proc->pid,
				r->proc->ntasks, p->nthreads);
	for (uint32_t i = 0; i < p->nthreads; i++)
		if (p->threads[i].tid != (uint32_t)tree_proc_task(r->tree, r->proc, i)->tid)
			return err_fail(err, EINVAL, ERR_IMAGE,
					"process %d: thread %u is %d and should be %u",
					r->proc->pid, i, tree_proc_task(r->tree, r->proc, i)->tid,
					p->threads[i].tid);
	return 0;
}

/* One list that is being worked off. */
struct progress {
	struct list *list;
	struct task *task;
	unsigned at;
};

/* One run of those that have calls left. 1 when there were none. */
static int run_round(struct progress *all, unsigned n, struct remote *r, struct err *err)
{
	struct batch batches[REMOTE_SLOTS];
	struct task *tasks[REMOTE_SLOTS] = {NULL};
	struct progress *active[REMOTE_SLOTS];
	unsigned k = 0;
	int ret;

	for (unsigned i = 0; i < n; i++) {
		if (all[i].at >= all[i].list->n)
			continue;
		batch_init(&batches[k], r, k, slot_calls[k], slot_data[k]);
		ret = batch_fill(&batches[k], all[i].list, all[i].at, all[i].task, err);
		if (ret < 0)
			return ret;
		tasks[k] = all[i].task;
		active[k++] = &all[i];
	}
	if (!k)
		return 1;
	ret = remote_run(r, tasks, batches, k, err);
	for (unsigned i = 0; ret == 0 && i < k; i++) {
		ret = batch_empty(&batches[i], active[i]->list, active[i]->at, tasks[i], err);
		active[i]->at += batches[i].ncalls;
	}
	return ret;
}

static int run_some(const struct list_each *each, struct list *lists, struct remote *r,
		    const struct m_proc *p, uint32_t from, unsigned n, struct err *err)
{
	struct progress all[REMOTE_SLOTS];
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < n; i++) {
		list_begin(&lists[i]);
		all[i] =
			(struct progress){&lists[i], tree_proc_task(r->tree, r->proc, from + i), 0};
		ret = each->fill(&lists[i], r, p, from + i, each->arg, err);
	}
	while (ret == 0)
		ret = run_round(all, n, r, err);
	for (unsigned i = 0; ret >= 0 && each->done && i < n; i++)
		ret = each->done(&lists[i], r, p, from + i, each->arg, err);
	return ret < 0 ? ret : 0;
}

int list_run_each(const struct list_each *each, struct remote *r, const struct m_proc *p,
		  struct err *err)
{
	cleanup_free struct list *lists = NULL;
	int ret = list_check_threads(r, p, err);

	if (ret < 0)
		return ret;
	lists = malloc(r->nslots * sizeof(*lists));
	if (!lists)
		return err_set(err, ENOMEM, "calls of %u threads", p->nthreads);
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i += r->nslots) {
		uint32_t n = p->nthreads - i;

		ret = run_some(each, lists, r, p, i, n < r->nslots ? n : r->nslots, err);
	}
	return ret;
}
