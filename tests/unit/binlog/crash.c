/* SPDX-License-Identifier: MIT */
/* After any death of the writer every call that returned is in the file. */
#include "tests/unit/binlog/reader.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define CALLS 20000

/* How many calls have returned, seen by the parent after the child's death. */
static volatile uint32_t *returned;

static void by_kill(void)
{
	kill(getpid(), SIGKILL);
}

static void by_segv(void)
{
	kill(getpid(), SIGSEGV);
}

static void by_abort(void)
{
	abort();
}

static void by_exit(void)
{
	_exit(3);
}

static void by_waiting(void)
{
	for (;;)
		pause();
}

static void write_calls(const char *path, unsigned n, void (*die)(void))
{
	const struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGABRT, SIG_DFL);
	reader_open(path, NULL);
	for (unsigned i = 0; i < n; i++) {
		if (i % 3)
			BINLOG(BINLOG_DEBUG, "call %u of %s\n", i, path);
		else
			BINLOG(BINLOG_ERR, "call %u\n", i);
		*returned = i + 1;
	}
	die();
	_exit(99);
}

static void check_calls(const char *path, unsigned least, unsigned most)
{
	struct reader *r = reader_load(path);

	assert_in_range(r->nrecs, least, most);
	for (size_t i = 0; i < r->nrecs; i++)
		assert_int_equal(r->recs[i].args[0].word, i);
	assert_int_equal(r->gaps, 0);
	assert_int_equal(r->lost_records, 0);
	reader_free(r);
	unlink(path);
}

static void test_deaths(void **state)
{
	void (*const ways[])(void) = {by_kill, by_segv, by_abort, by_exit};
	const char *path = reader_path("crash");

	for (unsigned i = 0; i < 4; i++) {
		pid_t pid = fork();

		if (pid == 0)
			write_calls(path, CALLS, ways[i]);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		check_calls(path, CALLS, CALLS);
	}
}

/* Killed from outside at any moment: what had returned is there, and at most one call more. */
static void test_killed_any_time(void **state)
{
	const char *path = reader_path("crash");

	for (unsigned i = 0; i < 40; i++) {
		pid_t pid;

		*returned = 0;
		pid = fork();
		if (pid == 0)
			write_calls(path, 2 * (1000 + i * 499), by_waiting);
		while (*returned < 1000 + i * 499)
			sched_yield();
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		check_calls(path, *returned, *returned + 1);
	}
}

/* A reader of a live file sees whole records only, and never less than before. */
static void test_live(void **state)
{
	const char *path = reader_path("crash");
	size_t seen = 0;
	pid_t pid;

	*returned = 0;
	pid = fork();
	if (pid == 0)
		write_calls(path, 50000, by_waiting);
	while (*returned < 100)
		sched_yield();
	for (unsigned i = 0; i < 5; i++) {
		uint32_t before = *returned;

		/* Stopped, not read while it moves: following is the decoder's art. */
		kill(pid, SIGSTOP);
		waitpid(pid, NULL, WUNTRACED);
		struct reader *r = reader_load(path);

		assert_true(r->nrecs >= before && r->nrecs >= seen);
		for (size_t k = 0; k < r->nrecs; k++)
			assert_int_equal(r->recs[k].args[0].word, k);
		seen = r->nrecs;
		reader_free(r);
		kill(pid, SIGCONT);
		while (*returned < before + 2000 && *returned < 50000)
			sched_yield();
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	unlink(path);
}

static void *log_and_end(void *arg)
{
	BINLOG(BINLOG_ERR, "thread %ld\n", *(long *)arg = syscall(SYS_gettid));
	return NULL;
}

/* The main thread takes the ring of one that has ended, behind the SIGSTOP. */
static void adopt_ring(const char *path)
{
	pthread_t t;
	long tid;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	reader_open(path, NULL);
	pthread_create(&t, NULL, log_and_end, &tid);
	pthread_join(t, NULL);
	while (syscall(SYS_tgkill, getpid(), tid, 0) == 0)
		sched_yield();
	raise(SIGSTOP);
	BINLOG(BINLOG_ERR, "main\n");
	_exit(0);
}

/* Whatever SIGKILL comes between two instructions leaves the file as it is there. */
static void test_ring_is_never_headless(void **state)
{
	const char *path = reader_path("crash");
	struct reader *r;
	struct reader live;
	size_t ring = 4096;
	uint32_t tid = 0;
	pid_t pid = fork();
	int status;
	int fd;

	if (pid == 0)
		adopt_ring(path);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	r = reader_load(path);
	assert_int_equal(r->nrecs, 1);
	while (ring < r->len && !(reader_head_ok(r, ring) && r->data[ring + 4] == 3))
		ring += 4096;
	assert_true(ring < r->len);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	live = *r;
	live.data = mmap(NULL, r->len, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(live.data, MAP_FAILED);
	close(fd);
	while (tid != (uint32_t)pid) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSTOPPED(status)); /* has not ended without the ring */
		assert_true(reader_head_ok(&live, ring));
		memcpy(&tid, live.data + ring + 40, 4);
		tid = binlog_le32(tid);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(live.data, r->len);
	reader_free(r);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deaths),
		cmocka_unit_test(test_killed_any_time),
		cmocka_unit_test(test_live),
		cmocka_unit_test(test_ring_is_never_headless),
	};

	returned = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (returned == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
