/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of things that change as fast as they can while they are dumped.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum { RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS, NPAGES = 64 };

static char *base;

static void own_pages(void)
{
	base = map_at(HOME(1), NPAGES * PAGE, RW, ANON, -1, 0);
	fill(base, NPAGES * PAGE, 12);
	fact_memory("region", base, NPAGES * PAGE, "storm");
}

static void pages_check(void)
{
	expect_filled(base, NPAGES * PAGE, 12, "storm");
}

/* --- forkstorm: children that look at the inherited pages and end
 * ------------------------------------------- */

static void await_child(pid_t pid, int want, const char *what)
{
	int status;

	if (pid < 0) {
		v_bad("%s: fork: %s", what, strerrordesc_np(errno));
	} else if (waitpid(pid, &status, 0) != pid) {
		v_bad("%s: waitpid: %s", what, strerrordesc_np(errno));
	} else if (!WIFEXITED(status) || WEXITSTATUS(status) != want) {
		v_bad("%s: a child ended with status %#x instead of exit %d", what, status, want);
	}
}

static void *fork_thread(void *arg)
{
	v_tick();
	while (!v_quitting()) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(wrong(base, NPAGES * PAGE, 12) < 0 ? 21 : 22);
		await_child(pid, 21, "forkstorm");
	}
	return NULL;
}

static void forkstorm_setup(void)
{
	own_pages();
	start_thread(fork_thread, NULL);
	start_thread(fork_thread, NULL);
	v_await_ticks(2);
}

/* --- execstorm: children that exec at once
 * ---------------------------------------------------------------- */

static void *exec_thread(void *arg)
{
	char *const argv[] = {"victim", "--exec-child", NULL};
	char *const env[] = {NULL};

	v_tick();
	while (!v_quitting()) {
		pid_t pid = fork();

		if (pid == 0) {
			execve(v_self(), argv, env);
			_exit(34);
		}
		await_child(pid, 33, "execstorm");
	}
	return NULL;
}

static void execstorm_setup(void)
{
	own_pages();
	start_thread(exec_thread, NULL);
	start_thread(exec_thread, NULL);
	v_await_ticks(2);
}

/* --- threadstorm: threads that are made and end
 * ------------------------------------------------------------ */

static void *short_thread(void *arg)
{
	return (void *)~(uintptr_t)arg;
}

static void *maker_thread(void *arg)
{
	uintptr_t serial = 0;

	v_tick();
	while (!v_quitting()) {
		pthread_t t[4];
		int n = 0;

		for (;
		     n < 4 && pthread_create(&t[n], NULL, short_thread, (void *)(serial + n)) == 0;)
			n++;
		if (n < 4)
			v_bad("threadstorm: pthread_create failed");
		for (int i = 0; i < n; i++) {
			void *ret = NULL;

			pthread_join(t[i], &ret);
			if ((uintptr_t)ret != ~(serial + (uintptr_t)i))
				v_bad("threadstorm: a thread returned %p", ret);
		}
		serial += 4;
	}
	return NULL;
}

static void threadstorm_setup(void)
{
	own_pages();
	start_thread(maker_thread, NULL);
	start_thread(maker_thread, NULL);
	v_await_ticks(2);
}

/* --- mapstorm: mmap, munmap, mremap, mprotect, madvise in an arena of its own
 * --------------------------------- */

enum { SLOTS = 64, SLOT_PAGES = 16 };

struct slot {
	bool used, readonly;
	unsigned npages;
	uint64_t seed;
};

static void slot_op(struct slot *s, char *home, uint64_t r)
{
	size_t len = s->npages * PAGE;

	if (!s->used) {
		s->npages = 1 + (unsigned)(r >> 8) % SLOT_PAGES;
		s->seed = r;
		s->readonly = false;
		s->used = true;
		map_at((uint64_t)(uintptr_t)home, s->npages * PAGE, RW, ANON, -1, 0);
		fill(home, s->npages * PAGE, s->seed);
		return;
	}
	expect_filled(home, len, s->seed, "mapstorm");
	switch (r % 5) {
	case 0:
		munmap(home, len);
		s->used = false;
		break;
	case 1:
		s->readonly = !s->readonly;
		mprotect(home, len, s->readonly ? PROT_READ : RW);
		break;
	case 2: /* away and back */
		if (mremap(home, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			   home + SLOT_PAGES * PAGE) == MAP_FAILED ||
		    mremap(home + SLOT_PAGES * PAGE, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			   home) == MAP_FAILED)
			v_bad("mapstorm: mremap: %s", strerrordesc_np(errno));
		break;
	case 3:
		if (!s->readonly) {
			madvise(home, len, MADV_DONTNEED);
			s->seed = ~s->seed;
			fill(home, len, s->seed);
		}
		break;
	default:
		madvise(home, len, r & 256 ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
		break;
	}
}

static void *map_thread(void *arg)
{
	struct slot slots[SLOTS] = {};
	uint64_t home = HOME(2) + (uint64_t)(uintptr_t)arg * 0x10000000ULL;
	uint64_t r = 88172645463325252ULL + (uint64_t)(uintptr_t)arg;

	v_tick();
	while (!v_quitting()) {
		for (int k = 0; k < 256; k++) {
			unsigned i;

			r ^= r << 13;
			r ^= r >> 7;
			r ^= r << 17;
			i = (unsigned)(r >> 32) % SLOTS;
			slot_op(&slots[i], (char *)home + (size_t)i * 2 * SLOT_PAGES * PAGE, r);
		}
	}
	return NULL;
}

static void mapstorm_setup(void)
{
	own_pages();
	start_thread(map_thread, (void *)0);
	start_thread(map_thread, (void *)1);
	v_await_ticks(2);
}

/* --- brkstorm: the heap end goes up and down
 * ---------------------------------------------------------------- */

static void *brk_thread(void *arg)
{
	char *start = sbrk(0);

	v_tick();
	while (!v_quitting()) {
		for (unsigned n = 1; n <= 32; n++) {
			if (brk(start + n * PAGE))
				v_bad("brkstorm: brk: %s", strerrordesc_np(errno));
			memset(start + (n - 1) * PAGE, (int)n, PAGE);
		}
		for (unsigned n = 1; n <= 32; n++)
			if (start[(n - 1) * PAGE + 100] != (char)n)
				v_bad("brkstorm: page %u is wrong", n);
		brk(start);
	}
	return NULL;
}

static void brkstorm_setup(void)
{
	own_pages();
	start_thread(brk_thread, NULL);
	v_await_ticks(1);
}

/* --- exiter: ends by itself within --ms, by --how exit|kill|thread
 * ------------------------------------------- */

static void *exit_thread(void *arg)
{
	const char *how = opt_str("how", "exit");
	unsigned us = (unsigned)(now_ns() % (opt_u64("ms", 100) * 1000 + 1));

	v_tick();
	usleep(us);
	if (!strcmp(how, "kill"))
		kill(getpid(), SIGKILL);
	if (!strcmp(how, "thread")) /* the leader stays as a zombie for a while */
		syscall(SYS_exit, 0);
	_exit(0);
}

static void exiter_setup(void)
{
	own_pages();
	start_thread(exit_thread, NULL);
	v_await_ticks(1);
}

/* --- leaderless: the first thread has ended, others go on
 * ------------------------------------------------------ */

static const struct scenario heir = {"leaderless", "", NULL, pages_check, NULL};

static void *heir_thread(void *arg)
{
	v_serve(&heir);
}

static void leaderless_check(void)
{
	static int rounds;

	/* Not in setup's own check: ready has to be said first. */
	if (rounds++ == 1) {
		start_thread(heir_thread, NULL);
		syscall(SYS_exit, 0);
	}
}

/* --- reexec: the root itself execs again and again, keeping its pid
 * --------------------------------------------- */

static void reexec_check(void)
{
	static int rounds;

	pages_check();
	/* Not in setup's own check: ready has to be said first. */
	if (rounds++ == 1)
		v_exec_again();
}

const struct scenario storm_scenarios[] = {
	{"forkstorm", "two threads fork and wait", forkstorm_setup, pages_check},
	{"execstorm", "two threads fork, exec and wait", execstorm_setup, pages_check},
	{"threadstorm", "two threads make and join threads", threadstorm_setup, pages_check},
	{"mapstorm", "two threads change their mappings", mapstorm_setup, pages_check},
	{"brkstorm", "a thread moves the heap's end", brkstorm_setup, pages_check},
	{"exiter", "ends within --ms 100 by --how exit|kill|thread", exiter_setup, pages_check},
	{"leaderless", "the first thread has ended", own_pages, leaderless_check},
	{"reexec", "the root execs itself again and again", own_pages, reexec_check},
	{},
};
