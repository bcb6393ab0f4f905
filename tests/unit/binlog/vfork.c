/* SPDX-License-Identifier: MIT */
/* Processes in our memory (vfork(), CLONE_VM) log: each record is there, none is another's. */
#include "tests/unit/binlog/reader.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define STACK (256 * 1024)

enum who { BUSY, CHILD, MAIN, WHOS };

static const char *path;
static bool stop;  /* atomic */
static bool ready; /* atomic */
static unsigned busy;

static void *keep_busy(void *arg)
{
	for (; !__atomic_load_n(&stop, __ATOMIC_RELAXED); busy++) {
		BINLOG(3, "who %u n %u\n", (unsigned)BUSY, busy);
		if (busy == 100)
			__atomic_store_n(&ready, true, __ATOMIC_RELEASE);
	}
	return NULL;
}

static pthread_t start_busy(void)
{
	pthread_t t;

	busy = 0;
	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	__atomic_store_n(&ready, false, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&t, NULL, keep_busy, NULL), 0);
	while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
		sched_yield();
	return t;
}

static void end_busy(pthread_t t)
{
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
}

static void reap(pid_t pid)
{
	int status = 0;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Streams of one `who` follow one another, as he is one after another. */
static void check(const unsigned want[WHOS], bool named)
{
	struct reader *r = reader_load(path);
	unsigned next[WHOS] = {0};

	for (size_t i = 0; i < r->nrecs; i++) {
		uint64_t who = r->recs[i].args[0].word;

		assert_in_range(who, 0, WHOS - 1);
		assert_int_equal(r->recs[i].args[1].word, next[who]++);
		if (!named)
			continue;
		if (who == CHILD)
			assert_int_not_equal(r->recs[i].pid, getpid());
		else
			assert_int_equal(r->recs[i].pid, getpid());
		if (who == MAIN)
			assert_int_equal(r->recs[i].tid, getpid());
	}
	for (unsigned i = 0; i < WHOS; i++)
		assert_int_equal(next[i], want[i]);
	assert_int_equal(r->lost_records, 0);
	assert_int_equal(r->pending, 0);
	assert_int_equal(r->gaps, 0);
	assert_int_equal(r->bad_chunks, 0);
	reader_free(r);
}

#define CHILDREN 20
#define LINES	 100

static void log_in_children(void)
{
	for (unsigned i = 0; i < CHILDREN; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			for (unsigned k = 0; k < LINES; k++)
				BINLOG(1, "who %u n %u\n", (unsigned)CHILD, i * LINES + k);
			_exit(0);
		}
		reap(pid);
	}
}

/* The thread that waits has never logged: what the child gets is not its own afterwards. */
static void test_child_first(void **state)
{
	pthread_t t;

	reader_open(path, NULL);
	t = start_busy();
	log_in_children();
	end_busy(t);
	for (unsigned i = 0; i < 60000; i++)
		BINLOG(1, "who %u n %u\n", (unsigned)MAIN, i);
	binlog_close();
	check((unsigned[]){busy, CHILDREN * LINES, 60000}, true);
}

static void *log_as_main(void *arg)
{
	for (unsigned i = 0; i < 60000; i++)
		BINLOG(1, "who %u n %u\n", (unsigned)MAIN, i);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	return NULL;
}

/* The page a child left, and the thread that has it, are not taken for dead by new threads. */
static void test_page_of_child_is_not_adopted(void **state)
{
	unsigned n = 0;
	pthread_t t;

	reader_open(path, NULL);
	log_in_children();
	pthread_create(&t, NULL, log_as_main, NULL);
	for (; !__atomic_load_n(&stop, __ATOMIC_RELAXED); n++)
		BINLOG(3, "who %u n %u\n", (unsigned)BUSY, n);
	pthread_join(t, NULL);
	binlog_close();
	check((unsigned[]){n, CHILDREN * LINES, 60000}, false);
}

/* The thread that waits has a ring, and the child goes on in it. */
static void test_parent_first(void **state)
{
	pthread_t t;

	reader_open(path, NULL);
	t = start_busy();
	BINLOG(1, "who %u n %u\n", (unsigned)MAIN, 0u);
	log_in_children();
	BINLOG(1, "who %u n %u\n", (unsigned)MAIN, 1u);
	end_busy(t);
	binlog_close();
	check((unsigned[]){busy, CHILDREN * LINES, 2}, false);
}

static int log_in_clone(void *arg)
{
	for (unsigned i = 0; i < 30000; i++)
		BINLOG(1, "who %u n %u\n", (unsigned)CHILD, i);
	syscall(SYS_exit, 0);
	return 0;
}

/* The same without a parent that stands still: its other threads, and a close under it. */
static void test_clone_vm(void **state)
{
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t t;
	pid_t pid;

#ifdef __SANITIZE_THREAD__
	/* It keeps its own state of a thread where both are the same one. */
	skip();
#endif
	assert_ptr_not_equal(stack, MAP_FAILED);
	reader_open(path, NULL);
	t = start_busy();
	pid = clone(log_in_clone, stack + STACK, CLONE_VM | SIGCHLD, NULL);
	reap(pid);
	end_busy(t);
	BINLOG(1, "who %u n %u\n", (unsigned)MAIN, 0u);
	binlog_close();
	munmap(stack, STACK);
	check((unsigned[]){busy, 30000, 1}, true);
}

/* A forked child vforks before it has logged: it is the process, whoever logs first. */
static void test_fork_then_vfork(void **state)
{
	pid_t pid;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	/*
	 * After the fork the C library gives memory of threads back that are not there any more;
	 * what is mapped in its place then counts as stack. TSan allows no threads behind a fork.
	 */
	skip();
#endif
	reader_open(path, NULL);
	BINLOG(1, "who %u n %u\n", (unsigned)MAIN, 0u);
	pid = fork();
	if (pid == 0) {
		pthread_t t;

		log_in_children();
		t = start_busy();
		end_busy(t);
		for (unsigned i = busy; i < busy + 20000; i++)
			BINLOG(1, "who %u n %u\n", (unsigned)BUSY, i);
		binlog_close();
		_exit(busy > 100 ? 0 : 1);
	}
	reap(pid);
	BINLOG(1, "who %u n %u\n", (unsigned)MAIN, 1u);
	binlog_close();
	struct reader *r = reader_load(path);
	unsigned next[WHOS] = {0};

	for (size_t i = 0; i < r->nrecs; i++) {
		uint64_t who = r->recs[i].args[0].word;

		assert_int_equal(r->recs[i].args[1].word, next[who]++);
		if (who == BUSY)
			assert_int_equal(r->recs[i].pid, pid);
	}
	assert_int_equal(next[CHILD], CHILDREN * LINES);
	assert_int_equal(next[MAIN], 2);
	assert_in_range(next[BUSY], 20101, UINT32_MAX);
	assert_int_equal(r->pending, 0);
	reader_free(r);
}

static int begin(void **state)
{
	path = reader_path("vfork");
	return 0;
}

static int end(void **state)
{
	binlog_close();
	unlink(path);
	return 0;
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* On a thread that has no page yet. */
		TEST(test_page_of_child_is_not_adopted),
		TEST(test_child_first),
		TEST(test_parent_first),
		TEST(test_clone_vm),
		TEST(test_fork_then_vfork),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
