/* SPDX-License-Identifier: MIT */
/*
 * Threads with shadow stacks, that look for ever whether they are on, where they were, and locked.
 *
 * The C library knows nothing of them, so each thread switches its own on. Of thread n:
 *
 *	n % 2	1: its features are locked
 *	n / 2	0 plain; 1 in a signal handler, and others come in there; 2 between two stacks; 3
 *		made by a thread that had one, with one by the kernel; 4 all features on
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/victims/victim/shadow.h"
#include "tests/victims/victim/victim.h"

enum { PLAIN, HANDLER, SWITCHER, HEIR, ALL, NKINDS, MAX = 2 * NKINDS, LEN = 64 << 10 };

static struct worker {
	unsigned n;
	uint64_t features;
	bool locked;
	_Atomic uint64_t rounds, handled;
	_Atomic int smashed; /* wait status + 1 */
	_Atomic bool returned;
	struct shadow_place places[2];
} workers[MAX];
static unsigned nworkers;
static _Atomic bool to_smash, to_return;
static __thread struct worker *self;

static __attribute__((noinline)) uint64_t deep(unsigned n)
{
	uint64_t below = n ? deep(n - 1) : 0;

	if (n == 20)
		sleep_ms(1);
	__asm__ volatile("" : "+r"(below));
	return below + n;
}

static void smash_child(struct worker *w)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		shadow_smash();
		_exit(1);
	}
	waitpid(pid, &status, 0);
	w->smashed = status + 1;
}

/* @want: the pointer as the first round of this place saw it. */
static __attribute__((noinline)) void look(struct worker *w, uint64_t *want)
{
	uint64_t locked, status, pointer;

	if (deep(40) != 40 * 41 / 2)
		v_bad("shadow: calls went wrong");
	status = shadow_status(&locked);
	if (status != w->features)
		v_bad("shadow: thread %u: the features are %#llx", w->n,
		      (unsigned long long)status);
	if (locked != UINT64_MAX && locked != (w->locked ? shadow_features : 0))
		v_bad("shadow: thread %u: locked are %#llx", w->n, (unsigned long long)locked);
	pointer = shadow_pointer();
	if (!*want)
		*want = pointer;
	if (pointer != *want)
		v_bad("shadow: thread %u: the pointer is %#llx, not %#llx", w->n,
		      (unsigned long long)pointer, (unsigned long long)*want);
	if (w->locked && shadow_switch_off()) {
		v_bad("shadow: thread %u: what was locked could be switched off", w->n);
		for (;;)
			sleep_ms(1000);
	}
	if (to_smash && !w->smashed)
		smash_child(w);
	w->rounds++;
}

/* --- kinds ---------------------------------------------------------------------------------- */

static void in_handler(int signo)
{
	uint64_t want = 0, handled = self->handled;

	if (signo == SIGUSR2) {
		self->handled++;
		return;
	}
	v_tick();
	while (!to_return) {
		look(self, &want);
		syscall(SYS_tgkill, getpid(), gettid_(), SIGUSR2);
		if (self->handled != ++handled)
			v_bad("shadow: thread %u: a signal has not come", self->n);
	}
	self->returned = true;
}

static void other_place(void)
{
	struct worker *w = self;
	uint64_t want = 0;

	for (;;) {
		look(w, &want);
		shadow_switch(&w->places[1], &w->places[0]);
	}
}

static void plain(struct worker *w)
{
	uint64_t want = 0;

	for (;;)
		look(w, &want);
}

static void switcher(struct worker *w)
{
	uint64_t want = 0;
	char *stack = malloc(LEN);

	if (!stack || !shadow_map(LEN, &w->places[1]))
		v_die("a second shadow stack");
	w->places[1].sp = (uint64_t)(uintptr_t)(stack + LEN) & ~(uint64_t)15;
	shadow_start(&w->places[0], &w->places[1], other_place);
	v_tick();
	for (;;) {
		look(w, &want);
		shadow_switch(&w->places[0], &w->places[1]);
	}
}

static void *heir(void *arg)
{
	self = arg;
	v_tick();
	plain(arg);
	return NULL;
}

/* Threads of victims have all blocked. */
static void take_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void work(void *arg)
{
	struct worker *w = arg;

	switch (w->n / 2) {
	case HANDLER:
		take_signals();
		syscall(SYS_tgkill, getpid(), gettid_(), SIGUSR1);
		break;
	case SWITCHER:
		switcher(w);
		break;
	case HEIR:
		start_thread(heir, w);
		for (;;)
			pause();
	default:
		v_tick();
	}
	plain(w);
}

static void *start(void *arg)
{
	struct worker *w = self = arg;

	shadow_enter(w->features, w->locked, work, w);
}

/* --- the scenario --------------------------------------------------------------------------- */

void shadow_setup(void)
{
	struct sigaction sa = {.sa_handler = in_handler};

	if (!shadow_here())
		v_skip("this CPU or kernel has no shadow stack");
	nworkers = (unsigned)opt_u64("n", MAX);
	if (nworkers > MAX)
		v_die("at most %d threads", MAX);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	for (unsigned i = 0; i < nworkers; i++) {
		workers[i].n = i;
		workers[i].locked = i & 1;
		workers[i].features = i / 2 == ALL ? shadow_features : SHADOW_ON;
		start_thread(start, &workers[i]);
	}
	v_await_ticks(nworkers);
}

void shadow_check(void)
{
	for (unsigned i = 0; i < nworkers; i++) {
		const uint64_t seen = workers[i].rounds;

		for (unsigned ms = 0; workers[i].rounds < seen + 2; ms++) {
			if (ms == 20000) {
				v_bad("shadow: thread %u stands still", i);
				break;
			}
			sleep_ms(1);
		}
	}
}

void shadow_finish(void)
{
	to_return = true;
	shadow_check();
	to_smash = true;
	shadow_check();
	for (unsigned i = 0; i < nworkers; i++) {
		const int status = workers[i].smashed - 1;

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
			v_bad("shadow: thread %u: a smashed return lives: status %#x", i, status);
		if (i / 2 == HANDLER && !workers[i].returned)
			v_bad("shadow: thread %u: its handler has not returned", i);
	}
}
