/* SPDX-License-Identifier: MIT */
/*
 * Six threads that a debugger tells apart by their stacks: five that stand still in a recursion, a
 * futex, a sleep, a signal handler and main's wait, and one that spins. Says "ready" when each is
 * there.
 */
#include <dirent.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH = 25 };

static volatile unsigned sink;
static int never[2]; /* a pipe into which nothing is written */

__attribute__((noinline)) static unsigned stack_recurse(unsigned n)
{
	char c;

	if (!n)
		return (unsigned)read(never[0], &c, 1);
	sink = stack_recurse(n - 1) + 1;
	return sink;
}

__attribute__((noinline)) static void stack_spin(void)
{
	for (;;)
		sink++;
}

__attribute__((noinline)) static void stack_futex(void)
{
	static uint32_t word;

	syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
	sink++;
}

__attribute__((noinline)) static void stack_sleep(void)
{
	struct timespec t = {.tv_sec = 10000};

	nanosleep(&t, NULL);
	sink++;
}

static void stack_handler(int sig)
{
	char c;

	sink += (unsigned)read(never[0], &c, 1);
}

__attribute__((noinline)) static void stack_signal(void)
{
	signal(SIGUSR1, stack_handler);
	raise(SIGUSR1);
	sink++;
}

static void *thread(void *arg)
{
	switch ((uintptr_t)arg) {
	case 0:
		stack_recurse(DEPTH);
		break;
	case 1:
		stack_spin();
		break;
	case 2:
		stack_futex();
		break;
	case 3:
		stack_sleep();
		break;
	case 4:
		stack_signal();
		break;
	}
	return NULL;
}

/* Threads that sleep in the kernel, as /proc has it. */
static int waiting(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *d;
	int n = 0;

	while (dir && (d = readdir(dir))) {
		char path[300], line[512], *state;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/stat", d->d_name);
		f = fopen(path, "re");
		state = f && fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
		n += state && state[2] == 'S';
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	return n;
}

int main(void)
{
	pthread_t t;

	if (pipe(never) < 0)
		return 1;
	for (uintptr_t i = 0; i < 5; i++)
		if (pthread_create(&t, NULL, thread, (void *)i))
			return 1;
	while (waiting() < 4)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	puts("ready");
	fflush(stdout);
	return read(never[0], &t, 1) == 1;
}
