/* SPDX-License-Identifier: MIT */
/* Files of threads that were opened before say what those say that are opened now. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/target/procfs.h"
#include "src/target/ready.h"

static char text[4096], by_name[4096];
static int told[2];

/* A child that makes a child when it is told to. */
static pid_t child(void)
{
	pid_t pid;

	assert_int_equal(pipe(told), 0);
	pid = fork();
	if (pid == 0) {
		char c;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(told[1]);
		if (read(told[0], &c, 1) == 1 && fork() >= 0)
			pause();
		_exit(0);
	}
	assert_true(pid > 0);
	close(told[0]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_reads_now(void **state)
{
	struct ready *r = ready_new();
	pid_t pid = child(), born;

	assert_non_null(r);
	ready_open(r, pid);
	for (int i = 0; i < 2; i++) {
		assert_true(ready_read(r, pid, pid, READY_STATUS, text, sizeof(text)) > 0);
		assert_non_null(strstr(text, "\nPid:\t"));
	}
	assert_int_equal(ready_read(r, pid, pid, READY_CHILDREN, text, sizeof(text)), 0);
	assert_int_equal(write(told[1], "", 1), 1);
	while (ready_read(r, pid, pid, READY_CHILDREN, text, sizeof(text)) == 0)
		usleep(1000);
	born = (pid_t)atoi(text);
	assert_true(procfs_read(by_name, sizeof(by_name), "/proc/%d/task/%d/children", pid, pid) >
		    0);
	assert_string_equal(text, by_name);
	/* One that was not there then is found by its name. */
	assert_true(ready_read(r, born, born, READY_STAT, text, sizeof(text)) > 0);
	assert_int_equal(atoi(text), born);
	kill(born, SIGKILL);
	end(pid);
	close(told[1]);
	ready_free(r);
}

/* A descriptor of a thread that has gone reads nothing, and there is no name any more. */
static void test_gone(void **state)
{
	struct ready *r = ready_new();
	pid_t pid = child();
	ssize_t n;

	ready_open(r, pid);
	end(pid);
	close(told[1]);
	n = ready_read(r, pid, pid, READY_STAT, text, sizeof(text));
	assert_true(n == -ENOENT || n == -ESRCH);
	ready_free(r);
}

/* A list of children comes a page at a time. */
static void test_many_children(void **state)
{
	enum { CHILDREN = 900 };
	static char list[16384];
	struct ready *r = ready_new();
	pid_t pid = fork();
	char *save = NULL;
	int n;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; i < CHILDREN; i++) {
			pid_t me = getpid();

			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				if (getppid() == me)
					pause();
				_exit(0);
			}
		}
		pause();
	}
	ready_open(r, pid);
	for (int i = 0; i < 5000; i++) {
		assert_true(ready_read(r, pid, pid, READY_CHILDREN, list, sizeof(list)) >= 0);
		n = 0;
		for (char *s = strtok_r(list, " ", &save); s; s = strtok_r(NULL, " ", &save))
			n++;
		if (n == CHILDREN)
			break;
		usleep(20000);
	}
	assert_int_equal(n, CHILDREN);
	end(pid);
	ready_free(r);
}

/* The list of a thread that has ended is empty; its number may be another's. */
static void test_gone_children(void **state)
{
	struct ready *r = ready_new();
	pid_t pid = child();

	ready_open(r, pid);
	end(pid);
	close(told[1]);
	assert_true(ready_read(r, pid, pid, READY_CHILDREN, text, sizeof(text)) < 0);
	ready_free(r);
}

/* What does not fit is cut, as it is without. */
static void test_small_room(void **state)
{
	struct ready *r = ready_new();

	ready_open(r, getpid());
	assert_int_equal(ready_read(r, getpid(), getpid(), READY_STATUS, text, 10), 9);
	assert_string_equal(text, "Name:\trea");
	assert_int_equal(ready_read(NULL, getpid(), getpid(), READY_STATUS, text, 10), 9);
	ready_free(r);
	ready_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_now),     cmocka_unit_test(test_gone),
		cmocka_unit_test(test_many_children), cmocka_unit_test(test_gone_children),
		cmocka_unit_test(test_small_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
