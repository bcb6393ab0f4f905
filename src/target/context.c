/* SPDX-License-Identifier: MIT */
/* What only the process itself can be asked, by batches of system calls in its context. */
#include <errno.h>
#include <linux/keyctl.h>
#include <linux/membarrier.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "src/target/gather.h"
#include "src/target/keys.h"
#include "src/target/remote.h"

enum {
	TIMERS_AT_ONCE = 256,
	MEMBARRIER_GET_REGISTRATIONS = 1 << 9, /* Linux 6.3 */
	GET_IO_FLUSHER = 58,		       /* 5.6 */
	GET_MDWE = 66,			       /* 6.3 */
	GET_MEMORY_MERGE = 68,		       /* 6.4 */
	THP_EXCEPT_ADVISED = 1 << 1,	       /* 6.18 */
};

/* struct kernel_sigaction of rt_sigaction(2), where it has a restorer. */
struct sigaction_raw {
	uint64_t handler, flags, restorer, mask;
};

/* The guardian has one thread. */
static struct arch_call calls[BATCH_CALLS];
static uint8_t data[BATCH_DATA];
static struct batch batch;

static bool asked(const struct batch *b, int i)
{
	return i >= 0 && b->calls[i].ret >= 0;
}

static bool is_kill_or_stop(int signo)
{
	return signo == SIGKILL || signo == SIGSTOP;
}

/* --- actions, timers, limits: once for each process ------------------------------------------- */

struct process_questions {
	uint64_t sigactions, itimers, rlimits, subreaper, permitted;
	int sigaction[M_NSIG], itimer[3], rlimit[M_NRLIMITS];
	int brk, dumpable, thp, child_subreaper, membarrier, mdwe, merge, keyring[2];
	int oddity[ARCH_ODDITIES_MAX], permits;
	struct keys_questions keys;
};

static void ask_permits(struct process_questions *q)
{
	const struct arch_permits *a = arch_inject.permits;

	q->permits = -1;
	q->permitted = 0;
	if (!a || !a->here())
		return;
	q->permitted = batch_buf(&batch, 8);
	q->permits = batch_call(&batch, a->nr, a->get, q->permitted, 0, 0, 0);
}

static void ask_process(struct process_questions *q)
{
	q->sigactions = batch_buf(&batch, M_NSIG * sizeof(struct sigaction_raw));
	for (int i = 0; i < M_NSIG; i++)
		q->sigaction[i] =
			is_kill_or_stop(i + 1)
				? -1
				: batch_call(&batch, SYS_rt_sigaction, (uint64_t)i + 1, 0,
					     q->sigactions +
						     (uint64_t)i * sizeof(struct sigaction_raw),
					     8, 0);
	q->itimers = batch_buf(&batch, 3 * sizeof(struct itimerval));
	for (int i = 0; i < 3; i++)
		q->itimer[i] =
			batch_call(&batch, SYS_getitimer, (uint64_t)i,
				   q->itimers + (uint64_t)i * sizeof(struct itimerval), 0, 0, 0);
	q->rlimits = batch_buf(&batch, M_NRLIMITS * sizeof(struct rlimit));
	for (int i = 0; i < M_NRLIMITS; i++)
		q->rlimit[i] = batch_call(&batch, SYS_prlimit64, 0, (uint64_t)i, 0,
					  q->rlimits + (uint64_t)i * sizeof(struct rlimit), 0);
	q->subreaper = batch_buf(&batch, 8);
	q->child_subreaper =
		batch_call(&batch, SYS_prctl, PR_GET_CHILD_SUBREAPER, q->subreaper, 0, 0, 0);
	q->brk = batch_call(&batch, SYS_brk, 0, 0, 0, 0, 0);
	q->dumpable = batch_call(&batch, SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
	q->thp = batch_call(&batch, SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0);
	q->mdwe = batch_call(&batch, SYS_prctl, GET_MDWE, 0, 0, 0, 0);
	q->merge = batch_call(&batch, SYS_prctl, GET_MEMORY_MERGE, 0, 0, 0, 0);
	/* Not the session's: to ask for it gives a process one that has none. */
	for (int i = 0; i < 2; i++)
		q->keyring[i] = batch_call(
			&batch, SYS_keyctl, KEYCTL_GET_KEYRING_ID,
			(uint64_t)(i ? KEY_SPEC_PROCESS_KEYRING : KEY_SPEC_THREAD_KEYRING), 0, 0,
			0);
	q->membarrier =
		batch_call(&batch, SYS_membarrier, MEMBARRIER_GET_REGISTRATIONS, 0, 0, 0, 0);
	for (int i = 0; arch_inject.oddities && arch_inject.oddities[i].what; i++) {
		const struct arch_oddity *o = &arch_inject.oddities[i];

		q->oddity[i] = batch_call(&batch, o->nr, o->args[0], o->args[1], o->args[2], 0, 0);
	}
	ask_permits(q);
	keys_ask(&q->keys, &batch);
}

/* What no kernel refuses: a filter of the process's own did. */
static int check_process(const struct remote *r, const struct process_questions *q, struct err *err)
{
	for (int i = 0; i < M_NSIG; i++)
		if (q->sigaction[i] >= 0 && batch.calls[q->sigaction[i]].ret < 0)
			return err_set(err, (int)-batch.calls[q->sigaction[i]].ret,
				       "process %d: action of signal %d", r->proc->pid, i + 1);
	for (int i = 0; i < 3; i++)
		if (batch.calls[q->itimer[i]].ret < 0)
			return err_set(err, (int)-batch.calls[q->itimer[i]].ret,
				       "process %d: interval timer %d", r->proc->pid, i);
	for (int i = 0; i < M_NRLIMITS; i++)
		if (batch.calls[q->rlimit[i]].ret < 0)
			return err_set(err, (int)-batch.calls[q->rlimit[i]].ret,
				       "process %d: limit %d", r->proc->pid, i);
	return 0;
}

static uint64_t timeval_us(const struct timeval *tv)
{
	return (uint64_t)tv->tv_sec * 1000000u + (uint64_t)tv->tv_usec;
}

static void answer_process(const struct process_questions *q, struct m_proc *p)
{
	const struct sigaction_raw *sa = batch_data(&batch, q->sigactions);
	const struct itimerval *it = batch_data(&batch, q->itimers);
	const struct rlimit *rl = batch_data(&batch, q->rlimits);
	int subreaper = 0;

	for (int i = 0; i < M_NSIG; i++)
		if (asked(&batch, q->sigaction[i]))
			p->sigactions[i] = (struct m_sigaction){
				.handler = sa[i].handler,
				.flags = sa[i].flags,
				.restorer = sa[i].restorer,
				.mask = sa[i].mask,
			};
	for (int i = 0; i < 3; i++)
		if (asked(&batch, q->itimer[i]))
			p->itimers[i] = (struct m_itimer){
				.interval_us = timeval_us(&it[i].it_interval),
				.value_us = timeval_us(&it[i].it_value),
			};
	for (int i = 0; i < M_NRLIMITS; i++)
		if (asked(&batch, q->rlimit[i]))
			p->rlimits[i] = (struct m_rlimit){rl[i].rlim_cur, rl[i].rlim_max};
	memcpy(&subreaper, batch_data(&batch, q->subreaper), sizeof(subreaper));
	p->child_subreaper = asked(&batch, q->child_subreaper) && subreaper;
	p->mm.brk = (uint64_t)batch.calls[q->brk].ret;
	p->mm.dumpable = asked(&batch, q->dumpable) ? (int32_t)batch.calls[q->dumpable].ret : 0;
	p->mm.thp_disabled = asked(&batch, q->thp) && batch.calls[q->thp].ret;
	p->mm.thp_except_advised =
		asked(&batch, q->thp) && batch.calls[q->thp].ret & THP_EXCEPT_ADVISED;
	p->mdwe = asked(&batch, q->mdwe) ? (uint32_t)batch.calls[q->mdwe].ret : 0;
	p->memory_merge = asked(&batch, q->merge) && batch.calls[q->merge].ret;
	p->keyrings = asked(&batch, q->keyring[0]) || asked(&batch, q->keyring[1]);
	for (int i = 0; arch_inject.oddities && arch_inject.oddities[i].what; i++)
		if (q->oddity[i] >= 0 &&
		    batch.calls[q->oddity[i]].ret == arch_inject.oddities[i].odd)
			p->oddities |= 1u << i;
	if (asked(&batch, q->permits))
		memcpy(&p->permitted, batch_data(&batch, q->permitted), sizeof(p->permitted));
	p->mm.pkeys = keys_answer(&q->keys, &batch);
	p->membarrier = asked(&batch, q->membarrier) ? (uint64_t)batch.calls[q->membarrier].ret : 0;
}

static int collect_process(struct remote *r, struct m_proc *p, struct err *err)
{
	struct process_questions q;
	int ret;

	batch_init_big(&batch, r, calls, data);
	ask_process(&q);
	ret = remote_run(r, &r->first, &batch, 1, err);
	if (ret == 0)
		ret = check_process(r, &q, err);
	if (ret == 0)
		answer_process(&q, p);
	return ret;
}

static uint64_t timespec_ns(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * 1000000000u + (uint64_t)ts->tv_nsec;
}

/* The timers that /proc/PID/timers listed: time left, interval, overruns. */
static int collect_timers(struct remote *r, struct m_proc *p, uint32_t from, uint32_t n,
			  struct err *err)
{
	uint64_t values;
	int ret;

	batch_init_big(&batch, r, calls, data);
	values = batch_buf(&batch, n * sizeof(struct itimerspec));
	for (uint32_t i = 0; i < n; i++) {
		uint64_t id = (uint64_t)(int64_t)p->posix_timers[from + i].id;

		batch_call(&batch, SYS_timer_gettime, id, values + i * sizeof(struct itimerspec), 0,
			   0, 0);
		batch_call(&batch, SYS_timer_getoverrun, id, 0, 0, 0, 0);
	}
	ret = remote_run(r, &r->first, &batch, 1, err);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < n; i++) {
		struct m_posix_timer *t = &p->posix_timers[from + i];
		const struct itimerspec *v = batch_data(&batch, values);

		if (asked(&batch, (int)(2 * i))) {
			t->value_ns = timespec_ns(&v[i].it_value);
			t->interval_ns = timespec_ns(&v[i].it_interval);
		}
		if (asked(&batch, (int)(2 * i + 1)))
			t->overrun = (uint32_t)batch.calls[2 * i + 1].ret;
	}
	return 0;
}

/* --- alternate stack, death signal...: once for each thread --------------------------------- */

static struct thread_questions {
	struct arch_call calls[SLOT_CALLS];
	uint8_t data[SLOT_DATA];
	uint64_t stack, tid_addr, death, tsc, mode, nodes;
	int i_stack, i_tid, i_death, i_bits, i_slack;
	int i_tsc, i_policy, i_mce, i_flusher, i_spec[M_NSPEC];
} questions[REMOTE_SLOTS];

static void ask_thread(struct thread_questions *q, struct batch *b)
{
	q->stack = batch_buf(b, sizeof(stack_t));
	q->tid_addr = batch_buf(b, 8);
	q->death = batch_buf(b, 8);
	q->i_stack = batch_call(b, SYS_sigaltstack, 0, q->stack, 0, 0, 0);
	q->i_tid = batch_call(b, SYS_prctl, PR_GET_TID_ADDRESS, q->tid_addr, 0, 0, 0);
	q->i_death = batch_call(b, SYS_prctl, PR_GET_PDEATHSIG, q->death, 0, 0, 0);
	q->i_bits = batch_call(b, SYS_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0);
	q->i_slack = batch_call(b, SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
	q->tsc = batch_buf(b, 8);
	q->mode = batch_buf(b, 8);
	q->nodes = batch_buf(b, M_NODES / 8);
	q->i_tsc = batch_call(b, SYS_prctl, PR_GET_TSC, q->tsc, 0, 0, 0);
	q->i_policy = batch_call(b, SYS_get_mempolicy, q->mode, q->nodes, M_NODES, 0, 0);
	q->i_mce = batch_call(b, SYS_prctl, PR_MCE_KILL_GET, 0, 0, 0, 0);
	q->i_flusher = batch_call(b, SYS_prctl, GET_IO_FLUSHER, 0, 0, 0, 0);
	for (uint64_t i = 0; i < M_NSPEC; i++)
		q->i_spec[i] = batch_call(b, SYS_prctl, PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
}

/* What a thread has asked for beside what all have; the flush of the first cache is off by default.
 */
static uint32_t speculation(uint32_t what, int64_t answer)
{
	const int64_t asked_for =
		what == PR_SPEC_L1D_FLUSH
			? PR_SPEC_ENABLE
			: PR_SPEC_DISABLE | PR_SPEC_FORCE_DISABLE | PR_SPEC_DISABLE_NOEXEC;

	return answer > 0 && answer & PR_SPEC_PRCTL ? (uint32_t)(answer & asked_for) : 0;
}

static void answer_habits(const struct thread_questions *q, struct batch *b, struct m_thread *t)
{
	int tsc, mode;

	memcpy(&tsc, batch_data(b, q->tsc), sizeof(tsc));
	memcpy(&mode, batch_data(b, q->mode), sizeof(mode));
	t->tsc = asked(b, q->i_tsc) && tsc == PR_TSC_SIGSEGV ? PR_TSC_SIGSEGV : 0;
	if (asked(b, q->i_policy)) {
		t->mempolicy = (uint32_t)mode;
		memcpy(t->nodes, batch_data(b, q->nodes), sizeof(t->nodes));
	}
	if (asked(b, q->i_mce) && b->calls[q->i_mce].ret != PR_MCE_KILL_DEFAULT)
		t->mce_kill = (uint32_t)b->calls[q->i_mce].ret + 1;
	t->io_flusher = asked(b, q->i_flusher) && b->calls[q->i_flusher].ret;
	for (uint32_t i = 0; i < M_NSPEC; i++)
		t->speculation[i] = speculation(i, b->calls[q->i_spec[i]].ret);
}

static void answer_thread(const struct thread_questions *q, struct batch *b, struct m_thread *t)
{
	stack_t ss;
	int signo;

	if (asked(b, q->i_stack)) {
		memcpy(&ss, batch_data(b, q->stack), sizeof(ss));
		t->altstack_addr = (uint64_t)(uintptr_t)ss.ss_sp;
		t->altstack_len = ss.ss_size;
		t->altstack_flags = (uint32_t)ss.ss_flags;
	}
	if (asked(b, q->i_tid))
		memcpy(&t->clear_tid_addr, batch_data(b, q->tid_addr), 8);
	memcpy(&signo, batch_data(b, q->death), sizeof(signo));
	if (asked(b, q->i_death))
		t->pdeath_sig = (uint32_t)signo;
	if (asked(b, q->i_bits))
		t->creds.securebits = (uint32_t)b->calls[q->i_bits].ret;
	if (asked(b, q->i_slack))
		t->timerslack_ns = (uint64_t)b->calls[q->i_slack].ret;
	answer_habits(q, b, t);
}

static int collect_threads(struct remote *r, struct m_proc *p, uint32_t from, uint32_t n,
			   struct err *err)
{
	struct batch batches[REMOTE_SLOTS];
	struct task *tasks[REMOTE_SLOTS] = {NULL};
	int ret;

	for (uint32_t i = 0; i < n; i++) {
		struct thread_questions *q = &questions[i];

		batch_init(&batches[i], r, i, q->calls, q->data);
		ask_thread(q, &batches[i]);
		tasks[i] = tree_proc_task(r->tree, r->proc, from + i);
	}
	ret = remote_run(r, tasks, batches, n, err);
	for (uint32_t i = 0; ret == 0 && i < n; i++)
		answer_thread(&questions[i], &batches[i], &p->threads[from + i]);
	return ret;
}

void context_ready(unsigned nthreads)
{
	unsigned n = nthreads < REMOTE_SLOTS ? nthreads : REMOTE_SLOTS;

	host_ready();
	memset(calls, 0, sizeof(calls));
	memset(data, 0, sizeof(data));
	memset(questions, 0, n * sizeof(questions[0]));
	remote_ready(n);
	keys_here();
}

int context_collect(struct remote *r, struct m_proc *p, struct err *err)
{
	int ret = collect_process(r, p, err);

	for (uint32_t i = 0; ret == 0 && i < p->nposix_timers; i += TIMERS_AT_ONCE) {
		uint32_t n = p->nposix_timers - i;

		ret = collect_timers(r, p, i, n < TIMERS_AT_ONCE ? n : TIMERS_AT_ONCE, err);
	}
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i += r->nslots) {
		uint32_t n = p->nthreads - i;

		ret = collect_threads(r, p, i, n < r->nslots ? n : r->nslots, err);
	}
	return ret;
}
