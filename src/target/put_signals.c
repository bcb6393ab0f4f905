/* SPDX-License-Identifier: MIT */
/* Signal actions and pending signals back into a process. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "src/target/put.h"
#include "src/target/put_list.h"

enum {
	SIGSET_LEN = 8,
	DRAIN_AT_ONCE = 16,
	DRAIN_ROUNDS = 64, /* a stub has a handful; more come from somewhere all the time */
	QUEUE_AT_ONCE = LIST_CALLS,
	SYS_PRIVATE_OFF = 32, /* si_sys_private of a timer's siginfo_t: the kernel's own */
};

#define BIT(signo) (1ull << ((signo)-1))

/* struct kernel_sigaction of rt_sigaction(2), where it has a restorer. */
struct sigaction_raw {
	uint64_t handler, flags, restorer, mask;
};

static struct list list;

int put_actions(struct remote *r, const struct m_proc *p, struct err *err)
{
	static struct sigaction_raw raw[M_NSIG];

	list_begin(&list);
	for (unsigned i = 0; i < M_NSIG; i++) {
		const struct m_sigaction *a = &p->sigactions[i];
		struct list_call *c;

		if (i + 1 == SIGKILL || i + 1 == SIGSTOP)
			continue;
		raw[i] = (struct sigaction_raw){a->handler, a->flags, a->restorer, a->mask};
		c = list_add(&list, SYS_rt_sigaction, i + 1, "set a signal action");
		list_give(c, 1, &raw[i], sizeof(raw[i]));
		c->args[3] = SIGSET_LEN;
	}
	return list_run(&list, r, tree_proc_task(r->tree, r->proc, 0), err);
}

/* --- the queues ------------------------------------------------------------------------------- */

static int fill_drain(struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		      void *arg, struct err *err)
{
	static const uint64_t all = ~0ull;
	static const struct timespec now;

	for (unsigned k = 0; k < DRAIN_AT_ONCE; k++) {
		struct list_call *c = list_add(l, SYS_rt_sigtimedwait, 0, "drop a signal");

		list_give(c, 0, &all, sizeof(all));
		list_give(c, 2, &now, sizeof(now));
		c->args[3] = SIGSET_LEN;
		c->may_fail = true;
	}
	return 0;
}

static int done_drain(const struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		      void *arg, struct err *err)
{
	bool *more = arg;

	for (unsigned k = 0; k < l->n; k++)
		if (l->calls[k].ret < 0 && l->calls[k].ret != -EAGAIN)
			return err_set(err, (int)-l->calls[k].ret,
				       "drop pending signals of thread %u", p->threads[i].tid);
	*more = *more || l->calls[DRAIN_AT_ONCE - 1].ret > 0;
	return 0;
}

/* Helpers of the tree that exited, and whatever else somebody sent while it was made. */
static int drain(struct remote *r, const struct m_proc *p, struct err *err)
{
	for (unsigned round = 0; round < DRAIN_ROUNDS; round++) {
		bool more = false;
		const struct list_each each = {fill_drain, done_drain, &more};
		int ret = list_run_each(&each, r, p, err);

		if (ret < 0 || !more)
			return ret;
	}
	return err_fail(err, EAGAIN, ERR_OTHER, "somebody sends signals to process %u all the time",
			p->pid);
}

/* The kernel's use of a timer's siginfo ends with the process it was made in. */
static void tidy(struct m_siginfo *to, const struct m_siginfo *from)
{
	siginfo_t si;

	*to = *from;
	memcpy(&si, from->data, sizeof(si));
	if (si.si_code == SI_TIMER)
		memset(to->data + SYS_PRIVATE_OFF, 0, sizeof(int));
}

static int signo_of(const struct m_siginfo *info)
{
	siginfo_t si;

	memcpy(&si, info->data, sizeof(si));
	return si.si_signo;
}

/*
 * A timer has one signal on its way at most. After a restore there can be two: the one that waited,
 * which is nobody's now, and the timer's own. A dump of that is not to make it three.
 */
static bool is_repeated(const struct m_sigqueue *q, uint32_t i)
{
	siginfo_t si, before;

	memcpy(&si, q->info[i].data, sizeof(si));
	if (si.si_code != SI_TIMER)
		return false;
	for (uint32_t k = 0; k < i; k++) {
		memcpy(&before, q->info[k].data, sizeof(before));
		if (before.si_code == SI_TIMER && before.si_signo == si.si_signo &&
		    before.si_timerid == si.si_timerid)
			return true;
	}
	return false;
}

/* SIGKILL cannot be waiting, and SIGSTOP would stop us: put_regs() sends it. */
static int check_queue(const struct m_sigqueue *q, uint32_t tid, struct err *err)
{
	for (uint32_t i = 0; i < q->n; i++) {
		int signo = signo_of(&q->info[i]);

		if (signo < 1 || signo > M_NSIG || signo == SIGKILL)
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"pending signal %u of thread %u has number %d", i, tid,
					signo);
	}
	return 0;
}

/* @shared: to the process, from @task, else to @task itself: to others not every si_code may go. */
static int queue(struct remote *r, const struct m_proc *p, struct task *task,
		 const struct m_sigqueue *q, bool shared, struct err *err)
{
	static struct m_siginfo infos[QUEUE_AT_ONCE];
	int ret = 0;

	for (uint32_t at = 0; ret == 0 && at < q->n; at += QUEUE_AT_ONCE) {
		list_begin(&list);
		for (uint32_t i = at; i < q->n && i < at + QUEUE_AT_ONCE; i++) {
			int signo = signo_of(&q->info[i]);
			struct list_call *c;

			if (signo == SIGSTOP || is_repeated(q, i) ||
			    put_timers_signal(p, &q->info[i]))
				continue;
			tidy(&infos[i - at], &q->info[i]);
			c = list_add(&list, shared ? SYS_rt_sigqueueinfo : SYS_rt_tgsigqueueinfo,
				     (uint64_t)r->proc->pid, "queue a pending signal");
			if (!shared)
				c->args[1] = (uint64_t)task->tid;
			c->args[shared ? 1 : 2] = (uint64_t)signo;
			list_give(c, shared ? 2 : 3, &infos[i - at], sizeof(infos[0]));
		}
		ret = list_run(&list, r, task, err);
	}
	if (ret == -EAGAIN)
		err_hint(err, "RLIMIT_SIGPENDING is too low for the %u signals of process %d", q->n,
			 r->proc->pid);
	return ret;
}

static uint64_t bits_of(const struct m_sigqueue *q)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < q->n; i++)
		bits |= BIT(signo_of(&q->info[i]));
	return bits;
}

int put_pending(struct remote *r, const struct m_proc *p, struct err *err)
{
	uint64_t bits;
	int ret = list_check_threads(r, p, err);

	if (ret == 0)
		ret = check_queue(&p->pending, p->pid, err);
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		ret = check_queue(&p->threads[i].pending, p->threads[i].tid, err);
	if (ret == 0)
		ret = drain(r, p, err);
	if (ret < 0)
		return ret;
	/*
	 * From here on no run closes with a signal that waits: it would be taken out and put back
	 * each time.
	 */
	bits = bits_of(&p->pending);
	for (uint32_t i = 0; i < p->nthreads; i++)
		bits |= bits_of(&p->threads[i].pending);
	r->caught |= bits;
	ret = queue(r, p, tree_proc_task(r->tree, r->proc, 0), &p->pending, true, err);
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		ret = queue(r, p, tree_proc_task(r->tree, r->proc, i), &p->threads[i].pending,
			    false, err);
	return ret;
}
