/* SPDX-License-Identifier: MIT */
/* Actions, queues and timers put into a child, which then gets them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/unit/target/stub.h"

enum { NTHREADS = 4, NSIGNALS = 300, THREAD_CLOCK = -2, PROCESS_CLOCK = -6 };

/* What the child's threads saw, in shared memory. */
struct seen {
	uint32_t n;
	struct {
		int32_t signo, code, value;
	} s[NSIGNALS + 100];
};

static struct seen *seen;
static uint32_t *go;

static void note(const siginfo_t *info, struct seen *to)
{
	if (to->n == sizeof(to->s) / sizeof(to->s[0]))
		return;
	to->s[to->n].signo = info->si_signo;
	to->s[to->n].code = info->si_code;
	to->s[to->n].value = info->si_value.sival_int;
	to->n++;
}

/* Takes what waits for the calling thread, and for all: its own first. */
static void take_all(struct seen *to)
{
	const struct timespec now = {0};
	siginfo_t info;
	sigset_t all;

	sigfillset(&all);
	while (sigtimedwait(&all, &info, &now) > 0)
		note(&info, to);
}

static void *thread(void *arg)
{
	uintptr_t i = (uintptr_t)arg;

	while (__atomic_load_n(go, __ATOMIC_ACQUIRE) < i)
		usleep(1000);
	take_all(&seen[i]);
	__atomic_store_n(&go[1], (uint32_t)i, __ATOMIC_RELEASE);
	for (;;)
		pause();
	return NULL;
}

static void child_queues(struct child *c)
{
	union sigval v = {.sival_int = 99};
	pthread_t t;
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (uintptr_t i = 1; i < NTHREADS; i++)
		pthread_create(&t, NULL, thread, (void *)i);
	/* What does not belong to the image. */
	for (int i = 0; i < 50; i++)
		sigqueue(getpid(), SIGRTMIN + 3, v);
	pthread_sigqueue(t, SIGCHLD, v);
	kill(getpid(), SIGTERM);
	child_sync(c);
	/* The others first, one after the other, and each its own; then the shared ones. */
	take_all(&seen[0]);
	for (uint32_t i = 1; i < NTHREADS; i++) {
		__atomic_store_n(go, i, __ATOMIC_RELEASE);
		while (__atomic_load_n(&go[1], __ATOMIC_ACQUIRE) < i)
			usleep(1000);
	}
}

static void add(struct model *m, struct m_sigqueue *q, int signo, int code, int value)
{
	struct m_siginfo *to = model_push(m, &q->info, &q->n, sizeof(*to));
	siginfo_t info = {.si_signo = signo, .si_code = code};

	info.si_value.sival_int = value;
	memcpy(to->data, &info, sizeof(info));
}

static void shared_map(void)
{
	seen = mmap(NULL, NTHREADS * sizeof(*seen), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	go = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void same_queue(const struct m_sigqueue *a, const struct m_sigqueue *b)
{
	uint64_t used = 0;
	uint32_t next = 0;

	assert_int_equal(a->n, b->n);
	/* Standard signals come before queued ones of other numbers; those of one keep their order.
	 */
	for (uint32_t i = 0; i < a->n; i++) {
		uint32_t k = 0;

		while (k < b->n && memcmp(a->info[i].data, b->info[k].data, sizeof(siginfo_t)) != 0)
			k++;
		assert_true(k < b->n);
		used += k;
		next += i;
	}
	assert_true(used == next);
}

static void queues(void **state)
{
	struct stub stub, *s = &stub;
	struct m_proc *p, *again;
	uint32_t k = 0;

	shared_map();
	stub_start(s, child_queues);
	p = s->p;
	p->pending.n = 0;
	/* All three that could close a run, and codes that only the kernel may use to others. */
	add(s->m, &p->pending, SIGCHLD, CLD_EXITED, 5);
	add(s->m, &p->pending, SIGSEGV, SEGV_MAPERR, 6);
	for (int i = 0; i < NSIGNALS; i++)
		add(s->m, &p->pending, SIGRTMIN + i % 2, i % 3 ? SI_QUEUE : SI_USER, i);
	for (uint32_t i = 0; i < NTHREADS; i++) {
		p->threads[i].pending.n = 0;
		add(s->m, &p->threads[i].pending, SIGWINCH, SI_KERNEL, (int)i);
		add(s->m, &p->threads[i].pending, SIGURG, SI_TKILL, (int)i);
		add(s->m, &p->threads[i].pending, SIGRTMAX, SI_ASYNCIO, (int)(100 + i));
		add(s->m, &p->threads[i].pending, SIGRTMAX, SI_MESGQ, (int)(200 + i));
	}
	OK(put_pending(&s->r, p, &s->err));
	again = stub_collect(s);
	same_queue(&p->pending, &again->pending);
	for (uint32_t i = 0; i < NTHREADS; i++)
		same_queue(&p->threads[i].pending, &again->threads[i].pending);
	/* Once more: instead of those, not besides. */
	OK(put_pending(&s->r, p, &s->err));
	again = stub_collect(s);
	same_queue(&p->pending, &again->pending);
	stub_thaw(s);
	child_next(&s->c);
	/* The first to look gets the shared ones, too; by number, and each number in its order. */
	assert_int_equal(seen[0].n, 2 + NSIGNALS + 4);
	for (int i = 0; i < NSIGNALS; i++) {
		while (seen[0].s[k].signo != SIGRTMIN + i / (NSIGNALS / 2))
			k++;
		assert_int_equal(seen[0].s[k].value, i % (NSIGNALS / 2) * 2 + i / (NSIGNALS / 2));
		assert_int_equal(seen[0].s[k].code, seen[0].s[k].value % 3 ? SI_QUEUE : SI_USER);
		k++;
	}
	for (uint32_t i = 1; i < NTHREADS; i++) {
		assert_int_equal(seen[i].n, 4);
		assert_int_equal(seen[i].s[2].signo, SIGRTMAX);
		assert_int_equal(seen[i].s[2].code, SI_ASYNCIO);
		assert_int_equal(seen[i].s[2].value, 100 + i);
		assert_int_equal(seen[i].s[3].value, 200 + i);
	}
	child_end(&s->c);
}

/* It waits in the image: the process is stopped as soon as it runs, and runs on after SIGCONT. */
static void stop_waits(void **state)
{
	struct stub stub, *s = &stub;
	int status;

	shared_map();
	stub_start(s, child_queues);
	s->p->pending.n = 0;
	add(s->m, &s->p->pending, SIGSTOP, SI_USER, 0);
	add(s->m, &s->p->pending, SIGRTMIN, SI_QUEUE, 0);
	OK(put_pending(&s->r, s->p, &s->err));
	stub_run(s);
	assert_int_equal(waitpid(s->c.pid, &status, WUNTRACED), s->c.pid);
	assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	kill(s->c.pid, SIGCONT);
	child_next(&s->c);
	assert_int_equal(seen[0].s[0].signo, SIGCONT);
	assert_int_equal(seen[0].s[1].signo, SIGRTMIN);
	child_end(&s->c);
}

static void wrong_queues(void **state)
{
	struct stub stub, *s = &stub;
	static const int numbers[] = {0, -1, 65, SIGKILL, INT32_MAX, INT32_MIN};

	shared_map();
	stub_start(s, child_queues);
	for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		s->p->threads[1].pending.n = 0;
		add(s->m, &s->p->threads[1].pending, numbers[i], SI_USER, 0);
		FAILS(put_pending(&s->r, s->p, &s->err), "pending signal 0 of thread");
	}
	s->p->threads[1].pending.n = 0;
	/* More than the limit lets wait. */
	s->p->rlimits[11] = (struct m_rlimit){10, 10};
	OK(put_limits_lower(&s->r, s->p, &s->err));
	for (int i = 0; i < 1000; i++)
		add(s->m, &s->p->pending, SIGRTMIN, SI_QUEUE, i);
	FAILS(put_pending(&s->r, s->p, &s->err), "queue a pending signal");
	stub_kill(s);
}

/* --- actions -------------------------------------------------------------------------------- */

static uint64_t *counts;

static void handler(int signo, siginfo_t *info, void *context)
{
	counts[signo]++;
}

static void child_actions(struct child *c)
{
	child_sync(c);
	raise(SIGUSR1);
	raise(SIGUSR2);
}

enum { HAS_RESTORER = 0x04000000 }; /* SA_RESTORER of the kernel */

static void actions(void **state)
{
	struct stub stub, *s = &stub;
	struct m_proc *again;
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO}, old;
	struct m_sigaction ours;

	counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* The C library's restorer, by way of a handler that is there for a moment. */
	sigaction(SIGUSR1, &sa, &old);
	stub_start(s, child_actions);
	sigaction(SIGUSR1, &old, NULL);
	ours = s->p->sigactions[SIGUSR1 - 1];
	/* Where the kernel has a return of its own the library gives none. */
	assert_true(ours.handler == (uint64_t)(uintptr_t)handler &&
		    (ours.restorer != 0 || !(ours.flags & HAS_RESTORER)));
	for (int i = 0; i < M_NSIG; i++)
		if (i + 1 != SIGKILL && i + 1 != SIGSTOP)
			s->p->sigactions[i] = (struct m_sigaction){
				.handler = i % 3 == 0	? 1
					   : i % 3 == 1 ? 0
							: ours.handler,
				.flags = ours.flags | (i % 2 ? SA_RESTART : SA_NODEFER),
				.restorer = ours.restorer,
				.mask = (1ull << i % 31) & ~(1ull << (SIGSTOP - 1) | 1 << 8),
			};
	s->p->sigactions[SIGUSR1 - 1].handler = s->p->sigactions[SIGUSR2 - 1].handler =
		ours.handler;
	OK(put_actions(&s->r, s->p, &s->err));
	again = stub_collect(s);
	assert_memory_equal(again->sigactions, s->p->sigactions, sizeof(again->sigactions));
	stub_thaw(s);
	child_next(&s->c);
	assert_int_equal(counts[SIGUSR1], 1);
	assert_int_equal(counts[SIGUSR2], 1);
	child_end(&s->c);
}

/* --- timers --------------------------------------------------------------------------------- */

static void *spin(void *arg)
{
	for (volatile uint64_t n = 0;; n++)
		;
	return NULL;
}

static unsigned kinds(const struct seen *s)
{
	uint64_t set = 0;

	for (uint32_t i = 0; i < s->n; i++)
		set |= 1ULL << (s->s[i].signo - 1);
	return (unsigned)__builtin_popcountll(set);
}

static void child_timers(struct child *c)
{
	pthread_t t;
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	pthread_create(&t, NULL, spin, NULL);
	child_sync(c);
	/* Four kinds: one of them comes again and again. */
	for (int i = 0; i < 5000 && kinds(&seen[0]) < 4; i++) {
		usleep(1000);
		take_all(&seen[0]);
	}
}

static void add_timer(struct stub *s, struct m_posix_timer t)
{
	struct m_posix_timer *to =
		model_push(s->m, &s->p->posix_timers, &s->p->nposix_timers, sizeof(*to));

	*to = t;
}

static void invent_timers(struct stub *s)
{
	int32_t tid = (int32_t)s->p->threads[1].tid;
	const uint64_t ms = 1000000;

	add_timer(s, (struct m_posix_timer){.id = 7,
					    .clock_id = CLOCK_MONOTONIC,
					    .signo = 40,
					    .sigval = 7,
					    .value_ns = 20 * ms});
	add_timer(s, (struct m_posix_timer){.id = 3,
					    .clock_id = CLOCK_REALTIME,
					    .signo = 41,
					    .sigval = 3,
					    .value_ns = 3600000 * ms,
					    .interval_ns = 5 * ms});
	add_timer(s, (struct m_posix_timer){.id = 150,
					    .clock_id = PROCESS_CLOCK,
					    .signo = 42,
					    .sigval = 150,
					    .value_ns = 30 * ms});
	add_timer(s, (struct m_posix_timer){.id = 151,
					    .clock_id = THREAD_CLOCK,
					    .signo = 43,
					    .notify_tid = tid,
					    .notify = SIGEV_THREAD_ID,
					    .value_ns = 10 * ms});
	add_timer(s, (struct m_posix_timer){.id = 152,
					    .clock_id = CLOCK_BOOTTIME,
					    .notify = SIGEV_NONE,
					    .value_ns = 3600000 * ms});
	add_timer(s, (struct m_posix_timer){.id = 153,
					    .clock_id = CLOCK_MONOTONIC,
					    .notify = SIGEV_THREAD,
					    .signo = 44,
					    .sigval = ~0ull});
	s->p->itimers[0] = (struct m_itimer){.value_us = 15000};
	s->p->itimers[1] = (struct m_itimer){.value_us = 20000};
	s->p->itimers[2] = (struct m_itimer){.value_us = 3600000000ull, .interval_us = 7};
}

static void same_timers(const struct m_proc *a, const struct m_proc *b, bool armed)
{
	static const uint32_t order[] = {1, 0, 2, 3, 4, 5};

	assert_int_equal(b->nposix_timers, 6);
	for (int i = 0; i < 6; i++) {
		const struct m_posix_timer *x = &a->posix_timers[order[i]];
		const struct m_posix_timer *y = &b->posix_timers[i];

		assert_int_equal(x->id, y->id);
		assert_int_equal(x->clock_id, y->clock_id);
		assert_int_equal(x->notify, y->notify);
		/* One that tells nobody has no number to tell. */
		if (x->notify != SIGEV_NONE)
			assert_int_equal(x->signo, y->signo);
		assert_true(x->sigval == y->sigval);
		if (x->notify == SIGEV_THREAD_ID)
			assert_int_equal(x->notify_tid, y->notify_tid);
		if (!armed)
			continue;
		assert_true(x->interval_ns == y->interval_ns);
		assert_true(y->value_ns <= x->value_ns && (y->value_ns || x->value_ns < 100000000));
	}
}

static void timers(void **state)
{
	const bool count = *state != NULL;
	struct stub stub, *s = &stub;
	struct m_proc *again;
	unsigned fired[65] = {0};
	struct procfs_status st;
	char text[8192];
	pid_t tid;

	shared_map();
	stub_start(s, child_timers);
	invent_timers(s);
	/* Expired and not started again yet: its interval is all there is, and the last to pass. */
	if (count)
		s->p->itimers[0] = (struct m_itimer){.interval_us = 1000000};
	OK(put_timers_create(&s->r, s->p, count, &s->err));
	again = stub_collect(s);
	same_timers(s->p, again, false);
	OK(put_timers_arm(&s->r, s->p, &s->err));
	again = stub_collect(s);
	same_timers(s->p, again, true);
	assert_true(again->itimers[2].interval_us == 7 && again->itimers[2].value_us > 3590000000u);
	/* Used up. */
	FAILS(put_timers_create(&s->r, s->p, count, &s->err), "POSIX timer");
	tid = (pid_t)s->p->threads[1].tid;
	stub_thaw(s);
	child_next(&s->c);
	/* Made by the thread that it is for: the leader does not use so much time. */
	for (int i = 0; i < 2000 && !fired[43]; i++) {
		usleep(1000);
		assert_int_equal(procfs_status(tid, text, sizeof(text), &st), 0);
		fired[43] = st.sig_pending >> 42 & 1;
	}
	assert_int_equal(fired[43], 1);
	for (uint32_t i = 0; i < seen[0].n; i++)
		fired[seen[0].s[i].signo]++;
	assert_true(fired[40] == 1 && fired[42] == 1);
	assert_true(fired[41] == 0 && fired[44] == 0);
	assert_true(fired[SIGALRM] == 1 && fired[SIGVTALRM] == 1 && fired[SIGPROF] == 0);
	child_end(&s->c);
}

static void wrong_timers(void **state)
{
	struct stub stub, *s = &stub;

	shared_map();
	stub_start(s, child_timers);
	add_timer(s, (struct m_posix_timer){.id = -1, .clock_id = CLOCK_MONOTONIC, .signo = 40});
	FAILS(put_timers_create(&s->r, s->p, false, &s->err), "negative");
	s->p->posix_timers[0].id = 5;
	add_timer(s, s->p->posix_timers[0]);
	FAILS(put_timers_create(&s->r, s->p, false, &s->err), "twice");
	s->p->nposix_timers = 1;
	s->p->posix_timers[0].signo = 99;
	FAILS(put_timers_create(&s->r, s->p, false, &s->err), "POSIX timer 5");
	s->p->posix_timers[0].signo = 40;
	s->p->posix_timers[0].clock_id = 4711;
	FAILS(put_timers_create(&s->r, s->p, false, &s->err), "clock 4711");
	s->p->posix_timers[0].clock_id = CLOCK_MONOTONIC;
	s->p->posix_timers[0].notify = SIGEV_THREAD_ID;
	s->p->posix_timers[0].notify_tid = 1;
	s->p->posix_timers[0].id = 50;
	/* The thread has ended: it is there, and signals nobody. */
	OK(put_timers_create(&s->r, s->p, true, &s->err));
	s->p->posix_timers[0].notify = SIGEV_NONE;
	s->p->posix_timers[0].id = INT32_MAX;
	FAILS(put_timers_create(&s->r, s->p, true, &s->err), "too far");
	s->p->posix_timers[0].value_ns = UINT64_MAX;
	FAILS(put_timers_arm(&s->r, s->p, &s->err), "arm a POSIX timer");
	s->p->nposix_timers = 0;
	s->p->itimers[0].value_us = UINT64_MAX;
	s->p->itimers[0].interval_us = UINT64_MAX;
	/* The kernel takes any positive number of seconds. */
	OK(put_timers_arm(&s->r, s->p, &s->err));
	stub_kill(s);
}

int main(void)
{
	static int counted;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queues),
		cmocka_unit_test(stop_waits),
		cmocka_unit_test(wrong_queues),
		cmocka_unit_test(actions),
		cmocka_unit_test(timers),
		{"timers, ids counted up to", timers, NULL, NULL, &counted},
		cmocka_unit_test(wrong_timers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
