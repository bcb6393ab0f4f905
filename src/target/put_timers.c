/* SPDX-License-Identifier: MIT */
/* Interval timers and POSIX timers back into a process: made first, armed last. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "base/cleanup.h"
#include "src/target/put.h"
#include "src/target/put_list.h"

#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS 77 /* Linux 6.16 */
#endif

enum {
	RESTORE_IDS_OFF = 0,
	RESTORE_IDS_ON = 1,
	TIMERS_AT_ONCE = 100,
	SKIP_AT_ONCE = 100,
	SKIP_MAX = 1 << 16,   /* ids passed over on older kernels: about half a second */
	THREAD_CPU_CLOCK = -2 /* of whoever makes the timer: MAKE_THREAD_CPUCLOCK(0, SCHED) */
};

/* struct sigevent as the kernel has it; its tail is padding. */
struct sigevent_raw {
	uint64_t value;
	int32_t signo, notify, tid;
	int32_t pad[11];
};

static struct list list;

/* --- making them ------------------------------------------------------------------------------ */

static int by_id(const void *a, const void *b)
{
	const struct m_posix_timer *x = *(const struct m_posix_timer *const *)a;
	const struct m_posix_timer *y = *(const struct m_posix_timer *const *)b;

	return (x->id > y->id) - (x->id < y->id);
}

/* Ascending by id. NULL: no memory. */
static const struct m_posix_timer **sorted(const struct m_proc *p)
{
	const struct m_posix_timer **ret = malloc(p->nposix_timers * sizeof(*ret));

	for (uint32_t i = 0; ret && i < p->nposix_timers; i++)
		ret[i] = &p->posix_timers[i];
	if (ret)
		qsort(ret, p->nposix_timers, sizeof(*ret), by_id);
	return ret;
}

static int check_ids(const struct m_posix_timer *const *t, uint32_t n, uint32_t pid,
		     struct err *err)
{
	for (uint32_t i = 0; i < n; i++)
		if (t[i]->id < 0 || (i && t[i]->id == t[i - 1]->id))
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"process %u: POSIX timer id %d is %s", pid, t[i]->id,
					t[i]->id < 0 ? "negative" : "there twice");
	return 0;
}

static struct list_call *add_create(const struct m_posix_timer *t, struct sigevent_raw *ev,
				    int32_t *id)
{
	struct list_call *c = list_add(&list, SYS_timer_create, (uint64_t)(int64_t)t->clock_id,
				       "make a POSIX timer");

	*ev = (struct sigevent_raw){
		.value = t->sigval,
		.signo = (int32_t)t->signo,
		.notify = (int32_t)t->notify,
		.tid = t->notify_tid,
	};
	*id = t->id;
	list_give(c, 1, ev, sizeof(*ev));
	list_take(c, 2, id, sizeof(*id));
	return c;
}

/*
 * Who makes a timer matters for one clock only, the CPU time of the maker; nobody tells who that
 * was. The thread that gets the signal is the likely one.
 */
static struct task *maker(struct remote *r, const struct m_posix_timer *t)
{
	struct task *task = NULL;

	if (t->clock_id == THREAD_CPU_CLOCK && t->notify == SIGEV_THREAD_ID)
		task = tree_task(r->tree, t->notify_tid);
	if (!task || &r->tree->procs[task->proc] != r->proc)
		return tree_proc_task(r->tree, r->proc, 0);
	return task;
}

static int created(const struct m_posix_timer *t, const struct list_call *c, int32_t id,
		   uint32_t pid, struct err *err)
{
	if (c->ret < 0)
		return err_set(err, (int)-c->ret,
			       "make POSIX timer %d of process %u (clock %d, "
			       "notify %u)",
			       t->id, pid, t->clock_id, t->notify);
	if (id == t->id)
		return 0;
	return err_fail(err, EEXIST, ERR_UNSUPPORTED,
			"POSIX timer of process %u: wanted id %d, got %d", pid, t->id, id);
}

/* 0, -EINVAL on kernels that do not know it; kept for the process until it is switched off. */
static int restore_ids(struct remote *r, uint64_t mode, struct err *err)
{
	struct list_call *c;
	int ret;

	list_begin(&list);
	c = list_add(&list, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS, "choose timer ids");
	c->args[1] = mode;
	c->may_fail = true;
	ret = list_run(&list, r, tree_proc_task(r->tree, r->proc, 0), err);
	return ret < 0 ? ret : (int)c->ret;
}

static int create_chosen(struct remote *r, const struct m_posix_timer *const *t, uint32_t n,
			 struct err *err)
{
	static struct sigevent_raw ev[TIMERS_AT_ONCE];
	static int32_t ids[TIMERS_AT_ONCE];
	int ret = 0;

	for (uint32_t at = 0, k; ret == 0 && at < n; at += k) {
		struct task *task = maker(r, t[at]);

		list_begin(&list);
		for (k = 0; k < TIMERS_AT_ONCE && at + k < n && maker(r, t[at + k]) == task; k++)
			add_create(t[at + k], &ev[k], &ids[k])->may_fail = true;
		ret = list_run(&list, r, task, err);
		for (uint32_t i = 0; ret == 0 && i < k; i++)
			ret = created(t[at + i], &list.calls[i], ids[i], (uint32_t)r->proc->pid,
				      err);
	}
	return ret;
}

static int drop(struct remote *r, int32_t id, struct err *err)
{
	list_begin(&list);
	list_add(&list, SYS_timer_delete, (uint64_t)id, "drop a POSIX timer");
	return list_run(&list, r, tree_proc_task(r->tree, r->proc, 0), err);
}

/* Makes and drops timers until the next id is @want. */
static int skip_ids(struct remote *r, int32_t next, int32_t want, struct err *err)
{
	static const struct m_posix_timer none = {.clock_id = CLOCK_MONOTONIC,
						  .notify = SIGEV_NONE};
	static struct sigevent_raw ev[SKIP_AT_ONCE];
	static int32_t ids[SKIP_AT_ONCE];
	int ret = 0;

	if (want - next > SKIP_MAX)
		return err_fail(err, ERANGE, ERR_UNSUPPORTED,
				"process %d: POSIX timer id %d is too far away to be counted up to",
				r->proc->pid, want);
	while (ret == 0 && next < want) {
		list_begin(&list);
		for (int k = 0; k < SKIP_AT_ONCE && next < want; k++, next++) {
			add_create(&none, &ev[k], &ids[k]);
			list_add(&list, SYS_timer_delete, (uint64_t)next, "drop a POSIX timer");
		}
		ret = list_run(&list, r, tree_proc_task(r->tree, r->proc, 0), err);
	}
	return ret;
}

/* The timer itself tells which id is next: if it is not yet its own, those between are used up. */
static int create_counted(struct remote *r, const struct m_posix_timer *t, struct err *err)
{
	struct sigevent_raw ev;
	int ret = 0;

	for (bool again = true; ret == 0 && again;) {
		struct list_call *c;
		int32_t id;

		list_begin(&list);
		c = add_create(t, &ev, &id);
		c->may_fail = true;
		ret = list_run(&list, r, maker(r, t), err);
		again = ret == 0 && c->ret == 0 && id < t->id;
		if (ret == 0 && !again)
			return created(t, c, id, (uint32_t)r->proc->pid, err);
		if (ret == 0)
			ret = drop(r, id, err);
		if (ret == 0)
			ret = skip_ids(r, id + 1, t->id, err);
	}
	return ret;
}

static int create_all_counted(struct remote *r, const struct m_posix_timer *const *t, uint32_t n,
			      struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < n; i++)
		ret = create_counted(r, t[i], err);
	return ret;
}

int put_timers_create(struct remote *r, const struct m_proc *p, bool count, struct err *err)
{
	cleanup_free const struct m_posix_timer **t = NULL;
	int ret, off;

	if (!p->nposix_timers)
		return 0;
	t = sorted(p);
	if (!t)
		return err_set(err, ENOMEM, "%u POSIX timers of process %u", p->nposix_timers,
			       p->pid);
	ret = check_ids(t, p->nposix_timers, p->pid, err);
	if (ret < 0)
		return ret;
	ret = count ? -EINVAL : restore_ids(r, RESTORE_IDS_ON, err);
	if (ret == -EINVAL)
		return create_all_counted(r, t, p->nposix_timers, err);
	if (ret < 0)
		return err_set(err, -ret, "choose the timer ids of process %u", p->pid);
	ret = create_chosen(r, t, p->nposix_timers, err);
	off = restore_ids(r, RESTORE_IDS_OFF, err);
	return ret < 0 ? ret : off;
}

/* --- arming them ------------------------------------------------------------------------------ */

static int arm_itimers(struct remote *r, const struct m_proc *p, struct err *err)
{
	static struct itimerval it[3];

	list_begin(&list);
	for (unsigned i = 0; i < 3; i++) {
		const struct m_itimer *from = &p->itimers[i];
		uint64_t value_us = from->value_us;
		struct list_call *c;

		/*
		 * One that is off has no interval in the kernel. This one has expired, and would
		 * have been started again when its signal was taken.
		 */
		if (i == ITIMER_REAL && !value_us)
			value_us = from->interval_us;
		if (!value_us)
			continue;
		it[i] = (struct itimerval){
			.it_interval = {(time_t)(from->interval_us / 1000000),
					(suseconds_t)(from->interval_us % 1000000)},
			.it_value = {(time_t)(value_us / 1000000),
				     (suseconds_t)(value_us % 1000000)},
		};
		c = list_add(&list, SYS_setitimer, i, "arm an interval timer");
		list_give(c, 1, &it[i], sizeof(it[i]));
	}
	return list_run(&list, r, tree_proc_task(r->tree, r->proc, 0), err);
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

int put_timers_arm(struct remote *r, const struct m_proc *p, struct err *err)
{
	static struct itimerspec it[LIST_CALLS];
	int ret = 0;

	for (uint32_t at = 0; ret == 0 && at < p->nposix_timers; at += LIST_CALLS) {
		list_begin(&list);
		for (uint32_t i = at; i < p->nposix_timers && i < at + LIST_CALLS; i++) {
			const struct m_posix_timer *t = &p->posix_timers[i];
			struct list_call *c;

			if (!t->value_ns)
				continue;
			it[i - at] = (struct itimerspec){to_timespec(t->interval_ns),
							 to_timespec(t->value_ns)};
			c = list_add(&list, SYS_timer_settime, (uint64_t)(int64_t)t->id,
				     "arm a POSIX timer");
			list_give(c, 2, &it[i - at], sizeof(it[0]));
		}
		ret = list_run(&list, r, tree_proc_task(r->tree, r->proc, 0), err);
	}
	return ret < 0 ? ret : arm_itimers(r, p, err);
}
