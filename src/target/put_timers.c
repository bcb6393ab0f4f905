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
#include "base/clock.h"
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

/* --- signals of timers ---------------------------------------------------------------------- */

/*
 * A timer has one signal on its way at most, and counts what expires meanwhile when it is taken: so
 * the kernel makes that signal itself, from a timer that is armed for a point in time that has
 * passed, and nobody queues it.
 *
 *	interval 20 ms, the next one due at 1000 ms, 3 counted	armed for 1000 - 4 * 20 = 920 ms
 *	taken at 990 ms						overrun 3, the next one at 1000 ms
 */
static bool is_wall_clock(int32_t clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
	       clock == CLOCK_TAI || clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM;
}

static bool signals(const struct m_posix_timer *t)
{
	return t->notify == SIGEV_SIGNAL || t->notify == SIGEV_THREAD_ID;
}

static const struct m_posix_timer *timer_of(const struct m_proc *p, const siginfo_t *si)
{
	for (uint32_t i = 0; si->si_code == SI_TIMER && i < p->nposix_timers; i++) {
		const struct m_posix_timer *t = &p->posix_timers[i];

		if (t->id == si->si_timerid && (int)t->signo == si->si_signo)
			return t;
	}
	return NULL;
}

bool put_timers_signal(const struct m_proc *p, const struct m_siginfo *info)
{
	const struct m_posix_timer *t;
	siginfo_t si;

	memcpy(&si, info->data, sizeof(si));
	t = timer_of(p, &si);
	/* Armed anew since it expired, for once: that is not to come now. */
	return t && signals(t) && is_wall_clock(t->clock_id) && (t->interval_ns || !t->value_ns);
}

/* The signal of @t that waits; what it says has not counted what expired since. */
static bool waits_in(const struct m_proc *p, const struct m_sigqueue *q,
		     const struct m_posix_timer *t, uint32_t *ret_overrun)
{
	for (uint32_t i = 0; i < q->n; i++) {
		siginfo_t si;

		memcpy(&si, q->info[i].data, sizeof(si));
		if (timer_of(p, &si) != t || !put_timers_signal(p, &q->info[i]))
			continue;
		*ret_overrun = si.si_overrun > 0 ? (uint32_t)si.si_overrun : 0;
		return true;
	}
	return false;
}

static bool waits(const struct m_proc *p, const struct m_posix_timer *t, uint32_t *ret_overrun)
{
	bool ret = waits_in(p, &p->pending, t, ret_overrun);

	for (uint32_t i = 0; !ret && i < p->nthreads; i++)
		ret = waits_in(p, &p->threads[i].pending, t, ret_overrun);
	return ret;
}

static bool has_signo(const struct m_sigqueue *q, uint32_t signo)
{
	for (uint32_t i = 0; i < q->n; i++) {
		siginfo_t si;

		memcpy(&si, q->info[i].data, sizeof(si));
		if (si.si_signo == (int)signo)
			return true;
	}
	return false;
}

/* Any signal of that number that waits, of a timer or not. */
static bool is_waited_for(const struct m_proc *p, uint32_t signo)
{
	bool ret = has_signo(&p->pending, signo);

	for (uint32_t i = 0; !ret && i < p->nthreads; i++)
		ret = has_signo(&p->threads[i].pending, signo);
	return ret;
}

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

/* A CPU clock has the number of whose time it is in it, 0 for oneself; bit 2: of a thread. */
static bool clock_is_gone(struct remote *r, int32_t clock)
{
	pid_t pid = clock < 0 ? (pid_t) ~(clock >> 3) : 0;

	return pid && !tree_task(r->tree, pid) && kill(pid, 0) < 0 && errno == ESRCH;
}

/*
 * A timer can outlive the thread that it signals and the process whose time it counts: nothing
 * comes of it any more, but it is there.
 */
static struct m_posix_timer alive(struct remote *r, const struct m_posix_timer *t)
{
	struct m_posix_timer ret = *t;
	const struct task *task =
		t->notify == SIGEV_THREAD_ID ? tree_task(r->tree, t->notify_tid) : NULL;
	bool deaf =
		t->notify & SIGEV_THREAD_ID && (!task || &r->tree->procs[task->proc] != r->proc);

	if (clock_is_gone(r, t->clock_id))
		ret.clock_id = CLOCK_MONOTONIC;
	if (deaf || ret.clock_id != t->clock_id)
		ret.notify = SIGEV_NONE;
	return ret;
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
		for (k = 0; k < TIMERS_AT_ONCE && at + k < n && maker(r, t[at + k]) == task; k++) {
			struct m_posix_timer live = alive(r, t[at + k]);

			add_create(&live, &ev[k], &ids[k])->may_fail = true;
		}
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
	struct m_posix_timer live = alive(r, t);
	struct sigevent_raw ev;
	int ret = 0;

	for (bool again = true; ret == 0 && again;) {
		struct list_call *c;
		int32_t id;

		list_begin(&list);
		c = add_create(&live, &ev, &id);
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

enum armed { AS_IT_IS, WITH_SIGNAL, WITH_OVERRUNS };

/* What is to be told of what has expired, and how often that was beyond the first time. */
static enum armed how(struct remote *r, const struct m_proc *p, const struct m_posix_timer *t,
		      uint32_t *ret_overrun)
{
	*ret_overrun = 0;
	if (!is_wall_clock(t->clock_id) || !signals(t) || alive(r, t).notify == SIGEV_NONE)
		return AS_IT_IS;
	if (waits(p, t, ret_overrun))
		return WITH_SIGNAL;
	*ret_overrun = t->overrun;
	return t->overrun && t->interval_ns && t->value_ns && !is_waited_for(p, t->signo)
		       ? WITH_OVERRUNS
		       : AS_IT_IS;
}

/* The point in time to arm @t for, so that it has expired 1 + @overrun times. */
static uint64_t passed(const struct m_posix_timer *t, uint32_t overrun)
{
	uint64_t next = clock_ns(t->clock_id), back = 0;

	/* One that does not repeat has no next time. */
	if (!t->interval_ns)
		return next > 1 ? next - 1 : 1;
	next += t->value_ns;
	if (__builtin_mul_overflow(t->interval_ns, (uint64_t)overrun + 1, &back) || back >= next)
		return 1;
	return next - back;
}

static void add_arm(struct remote *r, const struct m_proc *p, const struct m_posix_timer *t,
		    struct itimerspec *it)
{
	uint32_t overrun;
	bool absolute = how(r, p, t, &overrun) != AS_IT_IS;
	struct list_call *c =
		list_add(&list, SYS_timer_settime, (uint64_t)(int64_t)t->id, "arm a POSIX timer");

	*it = (struct itimerspec){to_timespec(t->interval_ns),
				  to_timespec(absolute ? passed(t, overrun) : t->value_ns)};
	c->args[1] = absolute ? TIMER_ABSTIME : 0;
	list_give(c, 2, it, sizeof(*it));
}

/* The signal is only made for the timer to count: it is taken at once. */
static int arm_and_take(struct remote *r, const struct m_proc *p, const struct m_posix_timer *t,
			struct err *err)
{
	static struct itimerspec it;
	static const struct timespec soon = {.tv_nsec = 50000000};
	const uint64_t mask = 1ull << (t->signo - 1);
	struct task *task = t->notify == SIGEV_THREAD_ID ? tree_task(r->tree, t->notify_tid)
							 : tree_proc_task(r->tree, r->proc, 0);
	struct list_call *c;

	list_begin(&list);
	add_arm(r, p, t, &it);
	c = list_add(&list, SYS_rt_sigtimedwait, 0, "take the signal of a POSIX timer");
	list_give(c, 0, &mask, sizeof(mask));
	list_give(c, 2, &soon, sizeof(soon));
	c->args[3] = sizeof(mask);
	c->may_fail = true;
	return list_run(&list, r, task, err);
}

static int arm_counted(struct remote *r, const struct m_proc *p, struct err *err)
{
	uint32_t overrun;
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < p->nposix_timers; i++)
		if (how(r, p, &p->posix_timers[i], &overrun) == WITH_OVERRUNS)
			ret = arm_and_take(r, p, &p->posix_timers[i], err);
	return ret;
}

static bool is_armed(struct remote *r, const struct m_proc *p, const struct m_posix_timer *t)
{
	uint32_t overrun;
	enum armed armed = how(r, p, t, &overrun);

	if (armed == AS_IT_IS)
		return t->value_ns && !clock_is_gone(r, t->clock_id);
	return armed == WITH_SIGNAL;
}

int put_timers_arm(struct remote *r, const struct m_proc *p, struct err *err)
{
	static struct itimerspec it[LIST_CALLS];
	int ret = arm_counted(r, p, err);

	for (uint32_t at = 0; ret == 0 && at < p->nposix_timers; at += LIST_CALLS) {
		list_begin(&list);
		for (uint32_t i = at; i < p->nposix_timers && i < at + LIST_CALLS; i++)
			if (is_armed(r, p, &p->posix_timers[i]))
				add_arm(r, p, &p->posix_timers[i], &it[i - at]);
		ret = list_run(&list, r, tree_proc_task(r->tree, r->proc, 0), err);
	}
	return ret < 0 ? ret : arm_itimers(r, p, err);
}
