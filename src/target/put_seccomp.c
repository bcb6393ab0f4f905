/* SPDX-License-Identifier: MIT */
/* Seccomp filters back into threads, where they sleep as long as we trace. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "src/target/put.h"
#include "src/target/put_list.h"

enum { MODE_OFF = 0, MODE_STRICT = 1, MODE_FILTER = 2 };

static struct list list;

/* --- is it what the kernel could have? -------------------------------------------------------- */

static int check_filter(const struct m_thread *t, const struct m_seccomp_filter *f, uint32_t i,
			struct err *err)
{
	const uint32_t known = M_SECCOMP_TSYNC | M_SECCOMP_LOG | M_SECCOMP_SPEC_ALLOW;

	if (!f->len || f->len % sizeof(struct sock_filter) ||
	    f->len / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return err_fail(err, EBADMSG, ERR_IMAGE, "seccomp filter %u of thread %u: %u bytes",
				i, t->tid, f->len);
	if (f->flags & ~known)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"seccomp filter %u of thread %u: flags %#x are not supported", i,
				t->tid, f->flags);
	return 0;
}

static int check_thread(const struct model *m, const struct m_thread *t, struct err *err)
{
	const struct m_seccomp_chain *c = model_chain(m, t->seccomp_chain);
	int ret = 0;

	if (t->seccomp_mode > MODE_FILTER)
		return err_fail(err, EBADMSG, ERR_IMAGE, "thread %u: seccomp mode %u", t->tid,
				t->seccomp_mode);
	if (t->seccomp_mode == MODE_FILTER && (!c || !c->n))
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"thread %u had seccomp filters, which the image does not hold",
				t->tid);
	for (uint32_t i = 0; ret == 0 && t->seccomp_mode == MODE_FILTER && i < c->n; i++)
		ret = check_filter(t, &c->filters[i], i, err);
	return ret;
}

/* --- putting ---------------------------------------------------------------------------------- */

static void add_filter(const struct m_seccomp_filter *f, struct sock_fprog *prog, bool all)
{
	struct list_call *c =
		list_add(&list, SYS_seccomp, SECCOMP_SET_MODE_FILTER, "set a seccomp filter");

	*prog = (struct sock_fprog){.len = (unsigned short)(f->len / sizeof(struct sock_filter))};
	c->args[1] =
		(f->flags & ~(uint32_t)M_SECCOMP_TSYNC) | (all ? SECCOMP_FILTER_FLAG_TSYNC : 0);
	list_give(c, 2, prog, sizeof(*prog));
	list_give_inside(c, offsetof(struct sock_fprog, filter), f->code, f->len);
	c->may_fail = true;
}

static int set_chain(struct remote *r, struct task *task, const struct m_seccomp_chain *chain,
		     bool all, struct err *err)
{
	static struct sock_fprog progs[LIST_CALLS];
	int ret = 0;

	for (uint32_t at = 0; ret == 0 && at < chain->n; at += LIST_CALLS) {
		list_begin(&list);
		for (uint32_t i = at; i < chain->n && i < at + LIST_CALLS; i++)
			add_filter(&chain->filters[i], &progs[i - at], all);
		ret = list_run(&list, r, task, err);
		for (unsigned i = 0; ret == 0 && i < list.n; i++) {
			int64_t got = list.calls[i].ret;

			if (got == 0)
				continue;
			/* Above 0: a thread that would not take it over. */
			ret = err_set(err, got > 0 ? EBUSY : (int)-got,
				      "set seccomp filter %u of thread %d", at + i, task->tid);
			if (got == -EACCES)
				err_hint(err, "without no_new_privs this needs CAP_SYS_ADMIN");
		}
	}
	return ret;
}

/* Shared by all threads, as they were, so that the program can go on adding some for all of them.
 */
static bool all_share(const struct m_proc *p)
{
	for (uint32_t i = 0; i < p->nthreads; i++)
		if (p->threads[i].seccomp_mode != MODE_FILTER ||
		    p->threads[i].seccomp_chain != p->threads[0].seccomp_chain)
			return false;
	return p->nthreads > 1;
}

static int set_strict(struct remote *r, struct task *task, struct err *err)
{
	struct list_call *c;

	list_begin(&list);
	c = list_add(&list, SYS_prctl, PR_SET_SECCOMP, "set strict seccomp mode");
	c->args[1] = SECCOMP_MODE_STRICT;
	return list_run(&list, r, task, err);
}

static int set_thread(struct remote *r, const struct model *m, const struct m_proc *p, uint32_t i,
		      bool all, struct err *err)
{
	const struct m_thread *t = &p->threads[i];
	struct task *task = tree_proc_task(r->tree, r->proc, i);

	if (t->seccomp_mode == MODE_STRICT)
		return set_strict(r, task, err);
	if (t->seccomp_mode == MODE_OFF || (all && i))
		return 0;
	return set_chain(r, task, model_chain(m, t->seccomp_chain), all, err);
}

/* --- and asking, which each thread survives only with its filters asleep -------------------- */

static int fill_ask(struct list *l, struct remote *r, const struct m_proc *p, uint32_t i, void *arg,
		    struct err *err)
{
	list_add(l, SYS_prctl, PR_GET_SECCOMP, "read the seccomp mode");
	return 0;
}

static int done_ask(const struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		    void *arg, struct err *err)
{
	uint32_t want = p->threads[i].seccomp_mode;

	if (l->calls[0].ret == want)
		return 0;
	/* Filters of ours are everybody's whom we make, and nobody gets rid of them. */
	if (want == MODE_OFF && l->calls[0].ret == MODE_FILTER &&
	    prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == MODE_FILTER)
		return 0;
	return err_fail(err, EPERM, ERR_PERM, "seccomp mode of thread %u: wanted %u, got %d",
			p->threads[i].tid, want, (int)l->calls[0].ret);
}

int put_seccomp(struct remote *r, const struct model *m, const struct m_proc *p, struct err *err)
{
	const struct list_each ask = {fill_ask, done_ask, NULL};
	bool all = all_share(p), any = false;
	int ret = list_check_threads(r, p, err);

	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++) {
		ret = check_thread(m, &p->threads[i], err);
		any = any || p->threads[i].seccomp_mode != MODE_OFF;
	}
	if (ret < 0)
		return ret;
	/* From the next run on: before the first of them is there. */
	for (uint32_t i = 0; any && i < p->nthreads; i++)
		tree_proc_task(r->tree, r->proc, i)->seccomp = true;
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		ret = set_thread(r, m, p, i, all, err);
	return ret < 0 ? ret : list_run_each(&ask, r, p, err);
}
