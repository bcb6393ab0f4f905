/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of signals: masks, pending ones with their values, actions, alternate stacks.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

/* The kernel's own mask: bit n-1 is signal n. */
static uint64_t mask_now(void)
{
	uint64_t mask = 0;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof(mask));
	return mask;
}

static void mask_set(uint64_t mask)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

#define BIT(sig) (1ULL << ((sig)-1))

/* --- masks ---------------------------------------------------------------------------------- */

static const uint64_t masks[] = {
	0,
	BIT(SIGUSR1) | BIT(SIGUSR2),
	BIT(SIGHUP) | BIT(SIGTERM) | BIT(34) | BIT(64),
	~(BIT(SIGKILL) | BIT(SIGSTOP)),
};

static void *mask_thread(void *arg)
{
	uint64_t mask = masks[(uintptr_t)arg];

	mask_set(mask);
	v_fact("sigmask %d %#llx", gettid_(), (unsigned long long)mask);
	v_tick();
	while (!v_quitting()) {
		if (mask_now() != mask)
			v_bad("masks: %#llx instead of %#llx", (unsigned long long)mask_now(),
			      (unsigned long long)mask);
		sleep_ms(1);
	}
	return NULL;
}

static void masks_setup(void)
{
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++)
		start_thread(mask_thread, (void *)i);
	mask_set(BIT(SIGWINCH));
	v_fact("sigmask %d %#llx", getpid(), (unsigned long long)BIT(SIGWINCH));
	v_await_ticks(4);
}

static void masks_check(void)
{
	if (mask_now() != BIT(SIGWINCH))
		v_bad("masks: the main thread's mask has changed");
}

/* --- pending: shared and private, with values, in order
 * -------------------------------------------------- */

enum { NVALUES = 5 };
#define RT (SIGRTMIN + 4)

static void queue_to(pid_t tid, int sig, int value)
{
	siginfo_t si;

	memset(&si, 0, sizeof(si));
	si.si_signo = sig;
	si.si_code = SI_QUEUE;
	si.si_pid = getpid();
	si.si_uid = getuid();
	si.si_value.sival_int = value;
	if (tid ? syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, sig, &si)
		: syscall(SYS_rt_sigqueueinfo, getpid(), sig, &si))
		v_die("queue signal %d", sig);
}

/* Takes what should be pending, in order; the values tell which queue they were in. */
static void expect_pending(int sig, int first, int n, const char *what)
{
	struct timespec none = {};
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	for (int i = 0; i < n; i++) {
		int got = sigtimedwait(&set, &si, &none);

		if (got != sig)
			v_bad("pending: %s: signal %d is lost (%d)", what, sig, errno);
		else if (si.si_code != SI_QUEUE || si.si_value.sival_int != first + i)
			v_bad("pending: %s: value %d instead of %d, code %d", what,
			      si.si_value.sival_int, first + i, si.si_code);
	}
}

static _Atomic int drained;

static void *pending_thread(void *arg)
{
	mask_set(~0ULL);
	for (int i = 0; i < NVALUES; i++) {
		queue_to(gettid_(), RT, 100 + i);
		v_fact("pending %d %d %d", gettid_(), RT, 100 + i);
	}
	v_tick();
	while (!v_quitting())
		sleep_ms(5);
	/* A thread takes its own queue first. */
	expect_pending(RT, 100, NVALUES, "private");
	drained = 1;
	return NULL;
}

static void pending_setup(void)
{
	mask_set(~0ULL);
	start_thread(pending_thread, NULL);
	v_await_ticks(1);
	for (int i = 0; i < NVALUES; i++) {
		queue_to(0, RT + 1, 200 + i);
		v_fact("shared-pending %d %d %d", getpid(), RT + 1, 200 + i);
	}
	queue_to(gettid_(), SIGUSR2, 300);
	v_fact("pending %d %d %d", getpid(), SIGUSR2, 300);
	queue_to(0, SIGUSR1, 400);
	v_fact("shared-pending %d %d %d", getpid(), SIGUSR1, 400);
}

static void pending_check(void)
{
	sigset_t set;

	sigpending(&set);
	if (!sigismember(&set, RT + 1) || !sigismember(&set, SIGUSR1) ||
	    !sigismember(&set, SIGUSR2) || sigismember(&set, RT))
		v_bad("pending: the set of pending signals has changed");
}

static void pending_finish(void)
{
	expect_pending(RT + 1, 200, NVALUES, "shared");
	expect_pending(SIGUSR1, 400, 1, "shared");
	expect_pending(SIGUSR2, 300, 1, "private");
	for (int i = 0; i < 1000 && !drained; i++)
		sleep_ms(5);
	if (!drained)
		v_bad("pending: the thread did not end");
}

/* --- actions
 * -------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t handled;

static void handler(int sig)
{
	handled++;
}

static void handler_info(int sig, siginfo_t *si, void *ctx)
{
	if (si->si_signo != sig)
		v_bad("actions: siginfo of another signal");
	handled++;
}

static void actions_setup(void)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_RESTART};

	sigaddset(&sa.sa_mask, SIGUSR2);
	sigaction(SIGUSR1, &sa, NULL);
	v_fact("sigaction %d %d %#x %#llx", getpid(), SIGUSR1, SA_RESTART,
	       (unsigned long long)BIT(SIGUSR2));
	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = handler_info;
	sa.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
	sigaction(SIGRTMIN, &sa, NULL);
	v_fact("sigaction %d %d %#x %#x", getpid(), SIGRTMIN, SA_SIGINFO | SA_NODEFER | SA_ONSTACK,
	       0);
	signal(SIGHUP, SIG_IGN);
}

static void actions_check(void)
{
	struct sigaction sa;
	int before = handled;

	sigaction(SIGUSR1, NULL, &sa);
	if (sa.sa_handler != handler || !sigismember(&sa.sa_mask, SIGUSR2))
		v_bad("actions: SIGUSR1's action has changed");
	sigaction(SIGHUP, NULL, &sa);
	if (sa.sa_handler != SIG_IGN)
		v_bad("actions: SIGHUP is not ignored any more");
	raise(SIGUSR1);
	raise(SIGRTMIN);
	if (handled != before + 2)
		v_bad("actions: %d handlers ran instead of 2", handled - before);
}

/* --- altstack: one that is set, and one that a thread runs on
 * --------------------------------------------- */

enum { ALT_LEN = 64 << 10 };

static void set_altstack(uint64_t home)
{
	stack_t ss = {.ss_size = ALT_LEN};

	ss.ss_sp =
		map_at(home, ALT_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sigaltstack(&ss, NULL))
		v_die("sigaltstack");
	v_fact("altstack %d %#llx %d", gettid_(), (unsigned long long)home, ALT_LEN);
}

static void expect_altstack(uint64_t home, int flags)
{
	stack_t ss;

	sigaltstack(NULL, &ss);
	if ((uint64_t)(uintptr_t)ss.ss_sp != home || ss.ss_size != ALT_LEN || ss.ss_flags != flags)
		v_bad("altstack: %p+%zu flags %d", ss.ss_sp, ss.ss_size, ss.ss_flags);
}

static void on_altstack(int sig)
{
	char here;
	uint64_t at = (uint64_t)(uintptr_t)&here;

	if (at < HOME(2) || at >= HOME(2) + ALT_LEN)
		v_bad("altstack: the handler does not run on it");
	v_tick();
	while (!v_quitting()) {
		expect_altstack(HOME(2), SS_ONSTACK);
		sleep_ms(1);
	}
}

static void *altstack_thread(void *arg)
{
	struct sigaction sa = {.sa_handler = on_altstack, .sa_flags = SA_ONSTACK};

	set_altstack(HOME(2));
	sigaction(SIGUSR2, &sa, NULL);
	mask_set(~BIT(SIGUSR2));
	pthread_kill(pthread_self(), SIGUSR2);
	return NULL;
}

static void altstack_setup(void)
{
	set_altstack(HOME(1));
	start_thread(altstack_thread, NULL);
	v_await_ticks(1);
}

static void altstack_check(void)
{
	expect_altstack(HOME(1), 0);
}

/* --- sigpoll: a signalfd is ready when whoever began to watch it has a signal --------------- */

struct waiter {
	int signals, poller;
};
static struct waiter own;
static pid_t waiting_child;
static int *woken;

/* One signalfd for all, as it is after fork(); each watches it with an instance of its own. */
static void wait_for(struct waiter *w, bool moved)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 77};
	int number = moved ? fcntl(w->signals, F_DUPFD, 500) : w->signals;

	w->poller = epoll_create1(EPOLL_CLOEXEC);
	if (w->poller < 0 || epoll_ctl(w->poller, EPOLL_CTL_ADD, number, &ev))
		v_die("epoll");
	if (moved)
		close(number);
}

static bool has_signal(const struct waiter *w, int timeout_ms)
{
	struct signalfd_siginfo info;
	struct epoll_event ev = {0};

	if (epoll_wait(w->poller, &ev, 1, timeout_ms) != 1 || ev.data.u64 != 77)
		return false;
	return read(w->signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR1;
}

static void waiting(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	wait_for(&own, true);
	v_tick();
	for (;;)
		if (has_signal(&own, -1))
			__atomic_add_fetch(woken, 1, __ATOMIC_RELEASE);
}

static void sigpoll_setup(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	own.signals = signalfd(-1, &set, SFD_NONBLOCK);
	woken = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (own.signals < 0 || woken == MAP_FAILED)
		v_die("signalfd");
	waiting_child = fork();
	if (waiting_child < 0)
		v_die("fork");
	if (!waiting_child)
		waiting();
	v_await_ticks(1);
	wait_for(&own, false);
}

static void sigpoll_check(void)
{
	int before = __atomic_load_n(woken, __ATOMIC_ACQUIRE);

	if (has_signal(&own, 0))
		v_bad("sigpoll: told of a signal that was not sent");
	kill(getpid(), SIGUSR1);
	if (!has_signal(&own, 0))
		v_bad("sigpoll: not told of a signal");
	kill(waiting_child, SIGUSR1);
	for (int i = 0; i < 10000 && __atomic_load_n(woken, __ATOMIC_ACQUIRE) == before; i++)
		sleep_ms(1);
	if (__atomic_load_n(woken, __ATOMIC_ACQUIRE) == before)
		v_bad("sigpoll: the child is not woken by a signal");
}

const struct scenario signal_scenarios[] = {
	{"masks", "threads with different signal masks", masks_setup, masks_check},
	{"pending", "queued signals with values", pending_setup, pending_check, pending_finish},
	{"actions", "handlers with flags and masks", actions_setup, actions_check},
	{"altstack", "alternate stacks, one in use", altstack_setup, altstack_check},
	{"sigpoll", "a signalfd watched by epoll, here and in a child", sigpoll_setup,
	 sigpoll_check},
	{},
};
