/* SPDX-License-Identifier: MIT */
/*
 * What an AArch64 kernel changes of a thread's registers by itself: proved without us, by ptrace
 * alone. tests/lib/regsets.py leaves out this, and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { X8 = 8, NREGS = 34 };

static void stopped_regs(pid_t pid, uint64_t regs[NREGS])
{
	struct iovec iov = {regs, NREGS * sizeof(regs[0])};
	int status;

	assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, 0, 0), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &iov), 0);
}

static bool asleep(pid_t pid)
{
	char path[64], text[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/wchan", pid);
	f = fopen(path, "r");
	if (!f || !fgets(text, sizeof(text), f))
		text[0] = '\0';
	if (f)
		fclose(f);
	return text[0] && text[0] != '0';
}

/* A sleep that was interrupted goes on as another call: x8 has the number of restart_syscall. */
static void sleep_goes_on(void **state)
{
	const struct timespec hour = {.tv_sec = 3600};
	uint64_t first[NREGS], second[NREGS];
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			syscall(SYS_nanosleep, &hour, NULL);
	}
	usleep(100000);
	while (!asleep(pid))
		usleep(1000);
	assert_int_equal(ptrace(PTRACE_SEIZE, pid, 0, 0), 0);
	stopped_regs(pid, first);
	assert_int_equal(ptrace(PTRACE_CONT, pid, 0, 0), 0);
	usleep(100000);
	stopped_regs(pid, second);
	assert_int_equal(first[X8], SYS_nanosleep);
	assert_int_equal(second[X8], SYS_restart_syscall);
	first[X8] = second[X8];
	assert_memory_equal(first, second, sizeof(first));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sleep_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
