/* SPDX-License-Identifier: MIT */
/* What a thread has registered with the kernel for itself: name, lists, stacks, areas, slack. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "src/target/put.h"
#include "src/target/put_list.h"

enum {
	ROBUST_LEN = 24, /* struct robust_list_head: the one length the kernel takes */
	RSEQ_UNREGISTER = 1,
	SET_IO_FLUSHER = 57, /* Linux 5.6 */
};

static void add_altstack(struct list *l, const struct m_thread *t, stack_t *ss)
{
	bool off = !t->altstack_len || (t->altstack_flags & SS_DISABLE);

	/* SS_ONSTACK is what the thread did, not what it asked for. */
	*ss = (stack_t){
		.ss_sp = off ? NULL : (void *)(uintptr_t)t->altstack_addr,
		.ss_size = off ? 0 : t->altstack_len,
		.ss_flags = (int)(off ? SS_DISABLE : t->altstack_flags & ~(uint32_t)SS_ONSTACK),
	};
	/*
	 * Refused while the thread's stack pointer lies on the present one, but the loop's is in
	 * the scratch area. The saved stack pointer does not matter.
	 */
	list_give(list_add(l, SYS_sigaltstack, 0, "set the alternate stack"), 0, ss, sizeof(*ss));
}

static void add_rseq_call(struct list *l, uint64_t addr, uint32_t len, uint32_t signature,
			  uint64_t flags, const char *what)
{
	struct list_call *c = list_add(l, SYS_rseq, addr, what);

	c->args[1] = len;
	c->args[2] = flags;
	c->args[3] = signature;
}

/* An area that was inherited goes: a second registration is refused. */
static void add_rseq(struct list *l, pid_t tid, const struct m_rseq *want)
{
	struct __ptrace_rseq_configuration has = {0};

	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(has), &has) < 0)
		has.rseq_abi_pointer = 0;
	if (has.rseq_abi_pointer == want->addr &&
	    (!want->addr || (has.rseq_abi_size == want->len && has.signature == want->signature)))
		return;
	if (has.rseq_abi_pointer)
		add_rseq_call(l, has.rseq_abi_pointer, has.rseq_abi_size, has.signature,
			      RSEQ_UNREGISTER, "drop the restartable sequence area");
	if (want->addr)
		add_rseq_call(l, want->addr, want->len, want->signature, 0,
			      "register the restartable sequence area");
}

/* Nodes of memory that are not here are left out by the kernel, as long as one is. */
static void add_policy(struct list *l, const struct m_thread *t)
{
	struct list_call *c;
	bool nodes = false;

	for (unsigned i = 0; i < M_NODES / 64; i++)
		nodes |= t->nodes[i] != 0;
	if (!t->mempolicy && !nodes)
		return;
	c = list_add(l, SYS_set_mempolicy, t->mempolicy, "set the memory policy");
	if (!nodes)
		return;
	list_give(c, 1, t->nodes, sizeof(t->nodes));
	c->args[2] = M_NODES + 1; /* the kernel takes one off */
}

static struct list_call *add_prctl(struct list *l, uint64_t option, uint64_t a, uint64_t b,
				   const char *what)
{
	struct list_call *c = list_add(l, SYS_prctl, option, what);

	c->args[1] = a;
	c->args[2] = b;
	return c;
}

static void add_habits(struct list *l, const struct m_thread *t)
{
	if (t->mce_kill)
		add_prctl(l, PR_MCE_KILL, PR_MCE_KILL_SET, t->mce_kill - 1,
			  "say what becomes of it when its memory is damaged");
	if (t->io_flusher)
		add_prctl(l, SET_IO_FLUSHER, 1, 0, "make it one that others' I/O waits for");
	if (t->tsc)
		add_prctl(l, PR_SET_TSC, t->tsc, 0, "forbid it to read the time stamp counter");
	for (uint32_t i = 0; i < M_NSPEC; i++)
		if (t->speculation[i])
			add_prctl(l, PR_SET_SPECULATION_CTRL, i, t->speculation[i],
				  "restrict its speculation")
				->may_fail = true;
}

static int fill(struct list *l, struct remote *r, const struct m_proc *p, uint32_t i, void *arg,
		struct err *err)
{
	static stack_t stacks[REMOTE_SLOTS];
	const struct m_thread *t = &p->threads[i];
	struct list_call *c;

	c = list_add(l, SYS_prctl, PR_SET_NAME, "set the name");
	list_give(c, 1, t->comm, sizeof(t->comm));
	c = list_add(l, SYS_set_robust_list, t->robust_addr, "set the robust list");
	c->args[1] = t->robust_addr ? t->robust_len : ROBUST_LEN;
	list_add(l, SYS_set_tid_address, t->clear_tid_addr, "set the tid address");
	add_altstack(l, t, &stacks[i % r->nslots]);
	/* 0 would mean the default; real-time threads have none. */
	if (t->timerslack_ns) {
		c = list_add(l, SYS_prctl, PR_SET_TIMERSLACK, "set the timer slack");
		c->args[1] = t->timerslack_ns;
	}
	add_rseq(l, (pid_t)t->tid, &t->rseq);
	add_policy(l, t);
	add_habits(l, t);
	return 0;
}

/* A CPU that does not need it knows nothing of it. */
static int check_speculation(const struct list *l, const struct m_thread *t, struct err *err)
{
	for (unsigned i = 0; i < l->n; i++) {
		const struct list_call *c = &l->calls[i];

		if (c->nr == SYS_prctl && c->args[0] == PR_SET_SPECULATION_CTRL && c->ret < 0 &&
		    c->ret != -ENODEV && c->ret != -ENXIO)
			return err_set(err, (int)-c->ret, "restrict the speculation of thread %u",
				       t->tid);
	}
	return 0;
}

static int done(const struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		void *arg, struct err *err)
{
	struct __ptrace_rseq_configuration has = {0};
	const struct m_thread *t = &p->threads[i];

	/* Linux 5.13; before that the call's own result is all there is. */
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, (pid_t)t->tid, sizeof(has), &has) == 0 &&
	    has.rseq_abi_pointer != t->rseq.addr)
		return err_fail(err, EINVAL, ERR_UNSUPPORTED,
				"restartable sequence area of thread %u: wanted %#lx, got %#lx",
				t->tid, (unsigned long)t->rseq.addr,
				(unsigned long)has.rseq_abi_pointer);
	return check_speculation(l, t, err);
}

int put_threads(struct remote *r, const struct m_proc *p, struct err *err)
{
	const struct list_each each = {fill, done, NULL};

	return list_run_each(&each, r, p, err);
}
