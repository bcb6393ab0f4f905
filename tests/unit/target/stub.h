/* SPDX-License-Identifier: MIT */
/* A child that stands still and open for batches, with its model; for the tests of put*.c. */
#ifndef TESTS_STUB_H
#define TESTS_STUB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "src/target/collect.h"
#include "src/target/gather.h"
#include "src/target/procfs.h"
#include "src/target/put.h"
#include "tests/unit/target/child.h"

struct stub {
	struct child c;
	struct tree tree;
	struct remote r;
	struct model *m;
	struct m_proc *p;
	struct err err;
};

#define OK(call)                                               \
	do {                                                   \
		if ((call) < 0)                                \
			fail_msg("%s: %s", #call, s->err.msg); \
		assert_int_equal(s->err.errnum, 0);            \
	} while (0)

/* @call fails, with @text in its message. */
#define FAILS(call, text)                                                       \
	do {                                                                    \
		int fails_ret = (call);                                         \
                                                                                \
		if (fails_ret >= 0 || !strstr(s->err.msg, text))                \
			fail_msg("%s: %d, '%s'", #call, fails_ret, s->err.msg); \
		assert_int_equal(-fails_ret, s->err.errnum);                    \
		err_clear(&s->err);                                             \
	} while (0)

/* A process made of what the child is now. */
static inline struct m_proc *stub_collect(struct stub *s)
{
	struct m_proc *p = model_push(s->m, &s->m->procs, &s->m->nprocs, sizeof(*p));
	struct proc *proc = s->r.proc;

	p->pid = (uint32_t)s->c.pid;
	OK(proc_collect(s->m, p, &s->err));
	p->nthreads = proc->ntasks;
	p->threads = model_alloc(s->m, p->nthreads * sizeof(*p->threads));
	OK(threads_shared_pending(s->m, tree_proc_task(&s->tree, proc, 0), &p->pending, &s->err));
	for (uint32_t i = 0; i < p->nthreads; i++) {
		struct m_thread *t = &p->threads[i];
		struct task *task = tree_proc_task(&s->tree, proc, i);

		t->tid = (uint32_t)task->tid;
		OK(threads_collect(s->m, task, t, &s->err));
		OK(threads_pending(s->m, task, &t->pending, &s->err));
		OK(proc_collect_thread(s->m, p, t, &s->err));
		if (t->seccomp_mode == 2)
			OK(seccomp_collect(s->m, p, t, &s->err));
	}
	OK(context_collect(&s->r, p, &s->err));
	return p;
}

/* Stops the child and opens it. */
static inline void stub_open(struct stub *s)
{
	struct proc *proc;

	err_clear(&s->err);
	s->m = model_new(0);
	assert_non_null(s->m);
	OK(tree_init(&s->tree, s->c.pid, &s->err));
	s->tree.timeout_ms = 20000;
	OK(tree_freeze(&s->tree, &s->err));
	proc = &s->tree.procs[0];
	for (uint32_t i = 0; i < proc->ntasks; i++)
		OK(remote_save(tree_proc_task(&s->tree, proc, i), &s->err));
	s->r.mem_fd = -1;
	OK(remote_open(&s->r, &s->tree, proc, 0, proc->ntasks, &s->err));
	s->p = stub_collect(s);
}

static inline void stub_start(struct stub *s, void (*fn)(struct child *c))
{
	memset(s, 0, sizeof(*s));
	child_start(&s->c, fn);
	stub_open(s);
}

/* Lets the child go on where it was. */
static inline void stub_thaw(struct stub *s)
{
	remote_close(&s->r);
	tree_thaw(&s->tree, 0);
	tree_deinit(&s->tree);
	model_free(s->m);
}

/* The same with the registers and masks of @s->p. */
static inline void stub_run(struct stub *s)
{
	remote_close(&s->r);
	OK(put_regs(&s->r, s->p, &s->err));
	tree_thaw(&s->tree, 0);
	tree_deinit(&s->tree);
	model_free(s->m);
}

/* For those that were only there to be refused. */
static inline void stub_kill(struct stub *s)
{
	stub_thaw(s);
	child_end(&s->c);
}

/* The thread of the model with this tid. */
static inline struct m_thread *stub_thread(const struct m_proc *p, uint64_t tid)
{
	for (uint32_t i = 0; i < p->nthreads; i++)
		if (p->threads[i].tid == tid)
			return &p->threads[i];
	return NULL;
}

#endif
