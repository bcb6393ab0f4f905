/* SPDX-License-Identifier: MIT */
/* Threads, signal handlers, forks and clones: each gets a ring, and nothing is lost or torn. */
#include "tests/unit/binlog/reader.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "binlog/pr.h"

#define THREADS 4
#define CALLS	8000
#define WHO	64

static const char *path;

/* Every record is "who %u n %u ...": each `who` must have counted 0, 1, 2, ... */
static void check_counts(struct reader *r, const unsigned want[WHO])
{
	/* A `who` writes in one stream at a time, in order; streams are in order of their start. */
	unsigned next[WHO] = {0};

	for (size_t i = 0; i < r->nrecs; i++) {
		uint64_t who = r->recs[i].args[0].word;

		assert_in_range(who, 0, WHO - 1);
		if (r->recs[i].args[1].word != next[who])
			fail_msg("who %u: %u instead of %u", (unsigned)who,
				 (unsigned)r->recs[i].args[1].word, next[who]);
		next[who]++;
	}
	for (unsigned i = 0; i < WHO; i++)
		assert_int_equal(next[i], want[i]);
	assert_int_equal(r->lost_records, 0);
	assert_int_equal(r->pending, 0);
	assert_int_equal(r->bad_chunks, 0);
}

static void count(unsigned who, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (i % 5)
			BINLOG(4, "who %u n %u\n", who, i);
		else
			BINLOG(3, "who %u n %u %s %ld\n", who, i, path, (long)i);
}

static void *count_thread(void *arg)
{
	count((unsigned)(uintptr_t)arg, CALLS);
	return NULL;
}

static void test_threads(void **state)
{
	unsigned want[WHO] = {0};
	pthread_t t[THREADS];

	reader_open(path, NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&t[i], NULL, count_thread, (void *)(uintptr_t)i),
				 0);
		want[i] = CALLS;
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	binlog_close();
	struct reader *r = reader_load(path);

	check_counts(r, want);
	assert_int_equal(r->threads, THREADS);
	reader_free(r);
}

static void *say_hello(void *arg)
{
	/* Here a dead thread is looked for, by a call that fails for one. */
	errno = 77;
	BINLOG(4, "who %u n %u\n", (unsigned)(uintptr_t)arg, 0u);
	return errno == 77 ? (void *)syscall(SYS_gettid) : NULL;
}

/* Many threads, one after another: the rings of the dead are used again. */
static void test_many_threads(void **state)
{
	unsigned want[WHO];
	struct binlog_stats stats;

	reader_open(path, NULL);
	for (unsigned i = 0; i < WHO; i++) {
		pthread_t t;
		void *tid;

		want[i] = 1;
		pthread_create(&t, NULL, say_hello, (void *)(uintptr_t)i);
		pthread_join(t, &tid);
		assert_non_null(tid);
		/* It has said that it ends; the kernel is a moment behind. */
		for (unsigned ms = 0; ms < 5000 && syscall(SYS_tgkill, getpid(), tid, 0) == 0; ms++)
			usleep(1000);
	}
	assert_int_equal(binlog_stats(&stats), 0);
	/* One ring, and a page for each that was written out. */
	assert_in_range(stats.file_len, 0, 300000 + WHO * 4096);
	binlog_close();
	struct reader *r = reader_load(path);

	check_counts(r, want);
	assert_int_equal(r->threads, WHO);
	reader_free(r);
}

/*
 * Handlers that log, at any instruction of a call, nested. Each depth counts for itself: one that
 * is interrupted between its count and its call is behind the one that interrupted it.
 */
#define DEPTHS 8
static __thread unsigned handled_here[DEPTHS];
static __thread unsigned depth;
static __thread unsigned me;

static void on_signal(int sig)
{
	unsigned d = depth++;

	/* Whoever interrupts it from here on must count at the next depth. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (d < DEPTHS)
		BINLOG(2, "who %u n %u\n", 32 + me * DEPTHS + d, handled_here[d]++);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	depth--;
}

static struct {
	unsigned handled[DEPTHS];
} ended[4];

static void *signalled_thread(void *arg)
{
	sigset_t prof;

	me = (unsigned)(uintptr_t)arg;
	sigemptyset(&prof);
	sigaddset(&prof, SIGPROF);
	pthread_sigmask(SIG_UNBLOCK, &prof, NULL);
	for (unsigned i = 0; i < CALLS; i++) {
		BINLOG(4, "who %u n %u %s\n", me, i, path);
		if (i % 16 == 0)
			raise(SIGUSR1);
	}
	/* From here on nobody counts any more. */
	pthread_sigmask(SIG_BLOCK, &prof, NULL);
	return memcpy(ended[me].handled, handled_here, sizeof(handled_here));
}

static void test_signals(void **state)
{
	const struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_NODEFER | SA_RESTART};
	const struct itimerval fast = {{0, 20}, {0, 20}};
	const struct itimerval off = {{0, 0}, {0, 0}};
	unsigned want[WHO] = {0};
	sigset_t prof;
	pthread_t t[3];

	reader_open(path, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGPROF, &sa, NULL);
	memset(handled_here, 0, sizeof(handled_here));
	setitimer(ITIMER_PROF, &fast, NULL);
	/* A thread that does not know yet who it is must not count. */
	sigemptyset(&prof);
	sigaddset(&prof, SIGPROF);
	pthread_sigmask(SIG_BLOCK, &prof, NULL);
	for (unsigned i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, signalled_thread, (void *)(uintptr_t)(i + 1));
	pthread_sigmask(SIG_UNBLOCK, &prof, NULL);
	for (unsigned i = 0; i < 3; i++) {
		void *n;

		pthread_join(t[i], &n);
		want[1 + i] = CALLS;
		memcpy(want + 32 + (1 + i) * DEPTHS, n, sizeof(handled_here));
	}
	me = 0;
	setitimer(ITIMER_PROF, &off, NULL);
	memcpy(want + 32, handled_here, sizeof(handled_here));
	signal(SIGPROF, SIG_IGN);
	binlog_close();
	struct reader *r = reader_load(path);

	check_counts(r, want);
	reader_free(r);
}

/* Signals sent by another thread as fast as it can hit every window there is. */
static int stop; /* atomic */

static void *shooter(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
		sched_yield();
	}
	return NULL;
}

static void test_shot_at(void **state)
{
	const struct sigaction sa = {.sa_handler = on_signal};
	unsigned want[WHO] = {0};
	pthread_t self = pthread_self();
	pthread_t t;

	reader_open(path, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	me = 0;
	memset(handled_here, 0, sizeof(handled_here));
	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	pthread_create(&t, NULL, shooter, &self);
	count(0, 60000);
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	want[0] = 60000;
	memcpy(want + 32, handled_here, sizeof(handled_here));
	binlog_close();
	struct reader *r = reader_load(path);

	check_counts(r, want);
	reader_free(r);
}

/*
 * A handler that is the first to log on its thread, while the call that it interrupts is the first
 * as well and has seen that there is no ring. The library changes the signal mask at the begin and
 * the end of everything slow; at one of these doors the signal comes.
 */
#define DOORS 6
static __thread unsigned door; /* 0: none */
static __thread unsigned handler_who;

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	/* raise() comes here itself in some libraries. */
	if (door && --door == 0)
		syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGUSR2);
	return sigprocmask(how, set, old) ? errno : 0;
}

static void at_door(int sig)
{
	for (unsigned i = 0; i < 3; i++)
		BINLOG(2, "who %u n %u\n", handler_who, i);
	handler_who = 0;
}

static void *interrupted_thread(void *arg)
{
	unsigned who = (unsigned)(uintptr_t)arg;

	handler_who = who + DOORS;
	door = who;
	count(who, 3);
	door = 0;
	return (void *)(uintptr_t)(handler_who == 0);
}

static void test_first_call_interrupted(void **state)
{
	const struct sigaction sa = {.sa_handler = at_door};
	unsigned want[WHO] = {0};
	unsigned doors = 0;

	reader_open(path, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	for (unsigned who = 1; who <= DOORS; who++) {
		pthread_t t;
		void *came;

		pthread_create(&t, NULL, interrupted_thread, (void *)(uintptr_t)who);
		pthread_join(t, &came);
		want[who] = 3;
		want[who + DOORS] = came ? 3 : 0;
		doors += came != NULL;
	}
	signal(SIGUSR2, SIG_IGN);
	binlog_close();
	struct reader *r = reader_load(path);

	assert_in_range(doors, 2, DOORS - 1);
	check_counts(r, want);
	reader_free(r);
}

/*
 * As if a handler came behind the place of a call and filled segment after segment: none of them is
 * opened in the slot where the call has its place.
 */
static void test_place_is_kept(void **state)
{
	struct binlog_r_thread body = {0};
	const uint64_t len = 8 + sizeof(body);
	unsigned want[WHO] = {0};
	struct binlog_place place;
	uint64_t ticks = 0;

	reader_open(path, NULL);
	count(0, 10);
	place = binlog_reserve(len, &ticks);
	assert_non_null(place.at);
	count(1, 40000);
	memcpy(place.at + 8, &body, sizeof(body));
	binlog_commit(place, BINLOG_R_THREAD << 12 | (uint32_t)(len / 8), ticks, len);
	count(2, 40000);
	binlog_close();
	want[0] = 10;
	want[1] = want[2] = 40000;
	struct reader *r = reader_load(path);

	check_counts(r, want);
	assert_int_equal(r->threads, 2);
	assert_int_equal(r->gaps, 0);
	reader_free(r);
}

/* A handler that never returns leaves its call torn, and the log goes on. */
static sigjmp_buf out;

static void jump_out(int sig)
{
	siglongjmp(out, 1);
}

static void test_jump_out(void **state)
{
	const struct itimerval fast = {{0, 0}, {0, 300}};
	const struct sigaction sa = {.sa_handler = jump_out};
	volatile unsigned n = 0;
	volatile unsigned jumps = 0;
	volatile unsigned next = 0;

	reader_open(path, NULL);
	sigaction(SIGALRM, &sa, NULL);
	while (jumps < 40) {
		if (sigsetjmp(out, 1) == 0) {
			setitimer(ITIMER_REAL, &fast, NULL);
			for (;;) {
				if (jumps % 2)
					BINLOG(4, "who %u n %u\n", 0u, n);
				else
					BINLOG(4, "who %u n %u %m\n", 0u, n);
				n++;
			}
		}
		jumps++;
	}
	signal(SIGALRM, SIG_IGN);
	binlog_close(); /* waits for ever for a call that counts as begun and never ends */
	struct reader *r = reader_load(path);

	/* A number may come twice (jumped out behind the record), never be missing but torn. */
	for (size_t i = 0; i < r->nrecs; i++) {
		uint64_t v = r->recs[i].args[1].word;

		assert_in_range(v, next ? next - 1 : 0, next + 1);
		next = (unsigned)v + 1;
	}
	assert_in_range(next, n - 1, n + 1);
	assert_int_equal(r->lost_records, 0);
	reader_free(r);
}

/* By the bare system call, which runs no fork handler; ThreadSanitizer's child hangs without. */
static pid_t bare_fork(void)
{
#ifdef __SANITIZE_THREAD__
	return fork();
#else
#ifdef __s390x__
	return (pid_t)syscall(SYS_clone, 0, SIGCHLD, 0, 0, 0);
#else
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
#endif
}

static void test_forks(void **state)
{
	unsigned want[WHO] = {0};
	pthread_t t;

	reader_open(path, NULL);
	pthread_create(&t, NULL, count_thread, (void *)(uintptr_t)1);
	want[1] = CALLS;
	BINLOG(3, "who %u n %u\n", 0u, 0u);
	for (unsigned i = 0; i < 8; i++) {
		pid_t pid = i % 2 ? fork() : bare_fork();

		if (pid == 0) {
			count(2 + i, CALLS);
			if (i == 3)
				kill(getpid(), SIGKILL);
			_exit(0);
		}
		want[2 + i] = CALLS;
		BINLOG(3, "who %u n %u\n", 0u, i + 1);
	}
	want[0] = 9;
	pthread_join(t, NULL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	binlog_close();
	struct reader *r = reader_load(path);

	check_counts(r, want);
	for (size_t i = 0; i < r->nrecs; i++)
		if (r->recs[i].args[0].word >= 2)
			assert_int_not_equal(r->recs[i].pid, getpid());
	reader_free(r);
}

/* A child closes, or opens a log of its own: the parent's log does not notice. */
static void test_fork_and_close(void **state)
{
	unsigned want[WHO] = {0};
	char other[600];
	pid_t pid;

	snprintf(other, sizeof(other), "%s.child", path);
	reader_open(path, NULL);
	count(0, 10);
	pid = fork();
	if (pid == 0) {
		count(1, 5000);
		binlog_close();
		count(1, 5);
		reader_open(other, NULL);
		count(2, 5000);
		binlog_close();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	for (unsigned i = 10; i < 20; i++)
		BINLOG(3, "who %u n %u\n", 0u, i);
	binlog_close();
	struct reader *r = reader_load(path);

	want[0] = 20;
	want[1] = 5000;
	check_counts(r, want);
	assert_int_equal(r->closed, 1);
	reader_free(r);
	r = reader_load(other);
	want[0] = want[1] = 0;
	want[2] = 5000;
	check_counts(r, want);
	reader_free(r);
	unlink(other);
}

/* Close and open while others write: calls go to one log, to the other, or nowhere; never wrong. */
static void *restless(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		for (unsigned i = 0; i < 50; i++)
			BINLOG(4, "who %u %s\n", 7u, path);
		usleep(50);
	}
	return NULL;
}

static void test_reopen_under_fire(void **state)
{
	pthread_t t[2];

	__atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, restless, NULL);
	for (unsigned i = 0; i < 15; i++) {
		reader_open(path, NULL);
		count(i, 3000);
		binlog_close();
		struct reader *r = reader_load(path);
		unsigned next = 0;

		for (size_t k = 0; k < r->nrecs; k++) {
			if (r->recs[k].site->nargs == 2 &&
			    r->recs[k].site->types[1] == BINLOG_T_STR)
				continue;
			assert_int_equal(r->recs[k].args[0].word, i);
			assert_int_equal(r->recs[k].args[1].word, next++);
		}
		assert_int_equal(next, 3000);
		reader_free(r);
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

static int begin(void **state)
{
	path = reader_path("rings");
	return 0;
}

static int end(void **state)
{
	binlog_close();
	unlink(path);
	return 0;
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)

/*
 * ThreadSanitizer delivers asynchronous signals at the next function it intercepts, blocked or
 * not, which no kernel does: there these tests would find the sanitizer.
 */
#ifdef __SANITIZE_THREAD__
#define SIGNAL_TEST(t) cmocka_unit_test(test_nothing)

static void test_nothing(void **state)
{
	(void)test_signals;
	(void)test_shot_at;
	(void)test_first_call_interrupted;
	(void)test_jump_out;
	skip();
}
#else
#define SIGNAL_TEST(t) TEST(t)
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_threads),
		TEST(test_many_threads),
		SIGNAL_TEST(test_signals),
		SIGNAL_TEST(test_shot_at),
		SIGNAL_TEST(test_jump_out),
		TEST(test_place_is_kept),
		TEST(test_forks),
		TEST(test_fork_and_close),
		TEST(test_reopen_under_fire),
		SIGNAL_TEST(test_first_call_interrupted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
