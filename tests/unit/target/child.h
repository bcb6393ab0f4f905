/* SPDX-License-Identifier: MIT */
/* A child process that builds a state and stands still in it, for the tests of this folder. */
#ifndef TESTS_CHILD_H
#define TESTS_CHILD_H

#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
	pid_t pid;
	int up[2], down[2];
	/* what both see */
	uint64_t *shared;
};

/* In the child: says that a state is built and waits for child_next(). */
static inline void child_sync(struct child *c)
{
	char b = 1;

	if (write(c->up[1], &b, 1) != 1 || read(c->down[0], &b, 1) != 1)
		_exit(99);
}

/* Returns when @fn, in the child, calls child_sync() or returns. */
static inline void child_start(struct child *c, void (*fn)(struct child *c))
{
	char b;

	c->shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c->shared == MAP_FAILED || pipe(c->up) || pipe(c->down))
		abort();
	c->pid = fork();
	if (c->pid < 0)
		abort();
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn(c);
		for (;;)
			child_sync(c);
	}
	close(c->up[1]);
	if (read(c->up[0], &b, 1) != 1)
		abort();
}

static inline void child_next(struct child *c)
{
	char b = 1;

	if (write(c->down[1], &b, 1) != 1 || read(c->up[0], &b, 1) != 1)
		abort();
}

static inline void child_end(struct child *c)
{
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	close(c->up[0]);
	close(c->down[0]);
	close(c->down[1]);
	munmap(c->shared, 4096);
}

#endif
