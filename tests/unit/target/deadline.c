/* SPDX-License-Identifier: MIT */
/* How long a thread has yet to sleep in poll(): never less than it has, and told of that sleep
 * only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/target/deadline.h"
#include "src/target/procfs.h"

enum { RESTART_BLOCK = -516, NONE = -514, LONG_MS = 4321, SHORT_MS = 400 };

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* A child in poll(), again and again; when it began: not before that. */
static pid_t sleeper(int ms, uint64_t *ret_ns)
{
	pid_t pid;

	*ret_ns = now_ns();
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			poll(NULL, 0, ms);
	}
	assert_true(pid > 0);
	usleep(200000);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static uint64_t told(const struct deadlines *d, pid_t pid, int64_t ret, uint64_t now)
{
	struct m_thread t = {.tid = (uint32_t)pid, .syscall_ret = ret};
	struct procfs_status st = {0};
	char text[4096];

	procfs_status(pid, text, sizeof(text), &st);
	deadlines_tell(d, st.nvcsw, now, &t);
	return t.sleep_left_ns;
}

static void needed(struct deadlines *d)
{
#ifndef SYS_poll
	print_message("poll() is ppoll() here, which writes down itself what is left\n");
	skip();
#endif
	if (!d || access("/proc/timer_list", R_OK) < 0)
		skip();
}

static void what_is_left(void **state)
{
	const uint64_t all = LONG_MS * 1000000ull;
	struct deadlines *d = deadlines_new();
	uint64_t began, now, left;
	pid_t pid;

	needed(d);
	pid = sleeper(LONG_MS, &began);
	deadlines_look(d, pid);
	now = now_ns();
	left = told(d, pid, RESTART_BLOCK, now);
	/* Of a sleep that began after @began, and before 200 ms of it were over. */
	assert_true(left >= all - (now - began));
	assert_true(left <= all - 150000000);
	assert_int_equal(told(d, pid, RESTART_BLOCK, now + all), 1);
	assert_int_equal(told(d, pid, NONE, now), 0);
	assert_int_equal(told(d, pid + 1, RESTART_BLOCK, now), 0);
	/* In the rest of it, under another number. */
	kill(pid, SIGSTOP);
	waitpid(pid, NULL, WUNTRACED);
	assert_int_not_equal(told(d, pid, RESTART_BLOCK, now), 0);
	kill(pid, SIGCONT);
	usleep(100000);
	deadlines_look(d, pid);
	now = now_ns();
	left = told(d, pid, RESTART_BLOCK, now);
	assert_true(left >= all - (now - began));
	assert_true(left <= all);
	end(pid);
	deadlines_free(d);
}

static void another_sleep(void **state)
{
	struct deadlines *d = deadlines_new();
	uint64_t began;
	pid_t pid;

	needed(d);
	pid = sleeper(SHORT_MS, &began);
	deadlines_look(d, pid);
	usleep(3 * SHORT_MS * 1000);
	assert_int_equal(told(d, pid, RESTART_BLOCK, now_ns()), 0);
	end(pid);
	deadlines_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_left),
		cmocka_unit_test(another_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
