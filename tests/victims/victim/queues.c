/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of signals on their way: everything a siginfo says, who is to get it, what it
 * interrupts.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

#define BIT(sig) (1ULL << ((sig)-1))

static void mask_set(uint64_t mask)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

/* --- siginfos: every kind of sender, pending, and what each said ---------------------------- */

enum { OWN_CODE = -23, EXIT_STATUS = 29, PAYLOAD = 128 };
static int signalled[2], async_fd;
static pid_t gone;
static timer_t overrunning;
static uint8_t payload[PAYLOAD];

/* Every byte of it, as far as a sender may choose them. */
static void send_payload(void)
{
	siginfo_t si;

	/* Behind 48 bytes the kernel wants zeros. */
	fill(payload, 48, 0x516);
	memcpy(&si, payload, sizeof(si));
	si.si_signo = SIGRTMIN + 3;
	si.si_errno = 77;
	si.si_code = OWN_CODE;
	memcpy(payload, &si, sizeof(si));
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid_(), SIGRTMIN + 3, &si))
		v_die("rt_tgsigqueueinfo");
}

static void send_fault(void)
{
	siginfo_t si = {.si_signo = SIGBUS, .si_code = BUS_ADRERR};

	si.si_addr = (void *)0x123456789000;
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid_(), SIGBUS, &si))
		v_die("rt_tgsigqueueinfo");
}

static void send_from_descriptor(void)
{
	struct f_owner_ex owner = {F_OWNER_TID, gettid_()};

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, signalled) ||
	    fcntl(signalled[0], F_SETOWN_EX, &owner) ||
	    fcntl(signalled[0], F_SETSIG, SIGRTMIN + 7) ||
	    fcntl(signalled[0], F_SETFL, O_ASYNC | O_NONBLOCK) || write(signalled[1], "x", 1) != 1)
		v_die("F_SETSIG");
	async_fd = signalled[0];
}

static void send_overruns(void)
{
	struct itimerspec spec = {.it_value = {0, 1000000}, .it_interval = {0, 1000000}};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 8};

	ev.sigev_value.sival_int = 815;
	if (timer_create(CLOCK_MONOTONIC, &ev, &overrunning) ||
	    timer_settime(overrunning, 0, &spec, NULL))
		v_die("timer_create");
}

static void siginfos_setup(void)
{
	siginfo_t si;

	mask_set(~0ULL);
	gone = fork();
	if (!gone)
		_exit(EXIT_STATUS);
	if (gone < 0 || waitid(P_PID, (id_t)gone, &si, WEXITED | WNOWAIT))
		v_die("waitid");
	kill(getpid(), SIGRTMIN + 1);
	syscall(SYS_tgkill, getpid(), gettid_(), SIGRTMIN + 2);
	send_payload();
	send_fault();
	send_from_descriptor();
	send_overruns();
	kill(getpid(), SIGTSTP);
	kill(getpid(), SIGTERM);
	sleep_ms(20);
}

static const int waiting_signals[] = {SIGCHLD, SIGBUS, SIGTSTP, SIGTERM};

static void siginfos_check(void)
{
	siginfo_t si = {0};
	sigset_t set;

	sigpending(&set);
	for (unsigned i = 0; i < sizeof(waiting_signals) / sizeof(waiting_signals[0]); i++)
		if (!sigismember(&set, waiting_signals[i]))
			v_bad("siginfos: signal %d does not wait any more", waiting_signals[i]);
	for (int i = 1; i <= 8; i++)
		if (sigismember(&set, SIGRTMIN + i) != (i <= 3 || i >= 7))
			v_bad("siginfos: SIGRTMIN+%d: waits or not, it should be the other", i);
	if (waitid(P_PID, (id_t)gone, &si, WEXITED | WNOWAIT | WNOHANG) || si.si_pid != gone)
		v_bad("siginfos: the child that ended cannot be waited for");
	if (fcntl(async_fd, F_GETSIG) != SIGRTMIN + 7)
		v_bad("siginfos: F_GETSIG says %d", fcntl(async_fd, F_GETSIG));
}

static siginfo_t taken(int sig)
{
	struct timespec none = {0};
	uint64_t set = BIT(sig);
	siginfo_t si = {0};

	/* The C library's own shows SI_TKILL as SI_USER. */
	if (syscall(SYS_rt_sigtimedwait, &set, &si, &none, sizeof(set)) != sig)
		v_bad("siginfos: signal %d is lost: %s", sig, strerrordesc_np(errno));
	return si;
}

static void siginfos_finish(void)
{
	struct f_owner_ex owner = {0};
	siginfo_t si = taken(SIGCHLD);

	if (si.si_code != CLD_EXITED || si.si_pid != gone || si.si_status != EXIT_STATUS)
		v_bad("SIGCHLD: code %d of %d, status %d", si.si_code, si.si_pid, si.si_status);
	si = taken(SIGRTMIN + 1);
	if (si.si_code != SI_USER || si.si_pid != getpid() || si.si_uid != getuid())
		v_bad("kill: code %d of %d", si.si_code, si.si_pid);
	si = taken(SIGRTMIN + 2);
	if (si.si_code != SI_TKILL || si.si_pid != getpid())
		v_bad("tgkill: code %d of %d", si.si_code, si.si_pid);
	si = taken(SIGRTMIN + 3);
	if (memcmp(&si, payload, sizeof(si)) || si.si_code != OWN_CODE || si.si_errno != 77)
		v_bad("a sender's own siginfo has changed");
	si = taken(SIGBUS);
	if (si.si_code != BUS_ADRERR || si.si_addr != (void *)0x123456789000)
		v_bad("SIGBUS: code %d at %p", si.si_code, si.si_addr);
	si = taken(SIGRTMIN + 7);
	if (si.si_code != POLL_IN || si.si_fd != async_fd || !(si.si_band & 1))
		v_bad("F_SETSIG: code %d of descriptor %d, band %ld", si.si_code, si.si_fd,
		      (long)si.si_band);
	si = taken(SIGRTMIN + 8);
	if (si.si_code != SI_TIMER || si.si_value.sival_int != 815 ||
	    si.si_timerid != (int)(intptr_t)overrunning || si.si_overrun < 0)
		v_bad("timer: code %d, value %d, id %d, overruns %d", si.si_code,
		      si.si_value.sival_int, si.si_timerid, si.si_overrun);
	/*
	 * It goes on. How often it had expired unseen the kernel tells nobody but who takes the
	 * signal: a restored one counts from its restore on.
	 */
	sleep_ms(20);
	si = taken(SIGRTMIN + 8);
	if (si.si_overrun < 1 || si.si_overrun > 10000000)
		v_bad("timer: %d overruns in 20 ms", si.si_overrun);
	if (fcntl(async_fd, F_GETOWN_EX, &owner) || owner.type != F_OWNER_TID ||
	    owner.pid != gettid_())
		v_bad("F_GETOWN_EX: %d of type %d", owner.pid, owner.type);
	if (write(signalled[1], "y", 1) != 1)
		v_bad("socket: %s", strerrordesc_np(errno));
	si = taken(SIGRTMIN + 7);
	if (si.si_fd != async_fd)
		v_bad("F_SETSIG: of descriptor %d", si.si_fd);
}

/* --- aimed: timers that each signal one thread, by several clocks --------------------------- */

enum { AIMED = 3 };
static _Atomic uint64_t hits[AIMED];
static timer_t aimed[AIMED], own_time;
static _Atomic unsigned own_ticks;

static void *aimed_thread(void *arg)
{
	static const clockid_t clocks[AIMED] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
	unsigned me = (unsigned)(uintptr_t)arg;
	struct itimerspec spec = {.it_value = {0, 5000000}, .it_interval = {0, 5000000}};
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 5};
	struct timespec second = {1, 0};
	siginfo_t si;
	sigset_t set;

	ev._sigev_un._tid = gettid_();
	ev.sigev_value.sival_int = (int)me;
	if (timer_create(clocks[me], &ev, &aimed[me]) || timer_settime(aimed[me], 0, &spec, NULL))
		v_die("timer_create");
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	v_tick();
	while (!v_quitting()) {
		if (sigtimedwait(&set, &si, &second) < 0)
			continue;
		if (si.si_code != SI_TIMER || si.si_value.sival_int != (int)me ||
		    si.si_timerid != (int)(intptr_t)aimed[me])
			v_bad("aimed: thread %u got the signal of timer %d, value %d", me,
			      si.si_timerid, si.si_value.sival_int);
		hits[me]++;
	}
	return NULL;
}

static void on_own_time(int sig)
{
	own_ticks++;
}

static void aimed_setup(void)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 6};
	struct sigaction sa = {.sa_handler = on_own_time, .sa_flags = SA_RESTART};
	struct itimerspec spec = {.it_value = {0, 2000000}, .it_interval = {0, 2000000}};
	struct itimerval it = {.it_value = {3000, 0}, .it_interval = {4000, 5}};

	sigaction(SIGRTMIN + 6, &sa, NULL);
	mask_set(BIT(SIGRTMIN + 5));
	for (uintptr_t i = 0; i < AIMED; i++)
		start_thread(aimed_thread, (void *)i);
	v_await_ticks(AIMED);
	if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &own_time) ||
	    timer_settime(own_time, 0, &spec, NULL) || setitimer(ITIMER_VIRTUAL, &it, NULL))
		v_die("timer of CPU time");
}

static void burn(void)
{
	for (volatile unsigned i = 0; i < 200000; i++)
		;
}

static void aimed_check(void)
{
	uint64_t before[AIMED], deadline = now_ns() + 10000000000ULL;
	unsigned ticks = own_ticks;
	struct itimerval it;

	for (int i = 0; i < AIMED; i++)
		before[i] = hits[i];
	for (int i = 0; i < AIMED; i++) {
		while (hits[i] < before[i] + 2 && now_ns() < deadline)
			sleep_ms(1);
		if (hits[i] < before[i] + 2)
			v_bad("aimed: the timer of thread %d is dead", i);
	}
	while (own_ticks == ticks && now_ns() < deadline)
		burn();
	if (own_ticks == ticks)
		v_bad("aimed: the timer of CPU time is dead");
	getitimer(ITIMER_VIRTUAL, &it);
	if (it.it_interval.tv_sec != 4000 || it.it_interval.tv_usec != 5 ||
	    it.it_value.tv_sec > 3000 || it.it_value.tv_sec < 2000)
		v_bad("aimed: ITIMER_VIRTUAL: %ld s are left", (long)it.it_value.tv_sec);
}

/* --- letin: threads that let a signal in only while they wait ------------------------------- */

enum { LETIN = 3 };
static _Atomic unsigned let_in[LETIN];
static pid_t letin_tid[LETIN];
static _Thread_local volatile sig_atomic_t inside = -1;

static void on_let_in(int sig)
{
	if (inside < 0)
		v_bad("letin: a signal came while it was blocked");
	else
		let_in[inside]++;
}

static long wait_with(unsigned how, const uint64_t *mask)
{
	struct timespec ts = {3600, 0};
	struct {
		const uint64_t *mask;
		size_t len;
	} six = {mask, 8};

	switch (how) {
	case 0:
		return syscall(SYS_rt_sigsuspend, mask, 8);
	case 1:
		return syscall(SYS_ppoll, NULL, 0, &ts, mask, 8);
	default:
		return syscall(SYS_pselect6, 0, NULL, NULL, NULL, &ts, &six);
	}
}

static void *letin_thread(void *arg)
{
	const uint64_t open = ~BIT(SIGUSR1);
	unsigned me = (unsigned)(uintptr_t)arg, seen = 0;
	uint64_t now = 0;

	letin_tid[me] = gettid_();
	mask_set(~0ULL);
	v_tick();
	while (!v_quitting()) {
		inside = (sig_atomic_t)me;
		if (wait_with(me, &open) != -1 || errno != EINTR)
			v_bad("letin: thread %u: the wait ended: %s", me, strerrordesc_np(errno));
		inside = -1;
		if (let_in[me] != ++seen)
			v_bad("letin: thread %u: the wait ended %u times, with %u signals", me,
			      seen, let_in[me]);
		syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &now, 8);
		if (now != (~0ULL & ~BIT(SIGKILL) & ~BIT(SIGSTOP)))
			v_bad("letin: thread %u: mask %#llx after the wait", me,
			      (unsigned long long)now);
	}
	return NULL;
}

static void letin_setup(void)
{
	struct sigaction sa = {.sa_handler = on_let_in};

	sigaction(SIGUSR1, &sa, NULL);
	for (uintptr_t i = 0; i < LETIN; i++)
		start_thread(letin_thread, (void *)i);
	v_await_ticks(LETIN);
}

/* Most dumps find all of them waiting. */
static void letin_check(void)
{
	static unsigned rounds;

	if (rounds++ % 32)
		return;
	for (int i = 0; i < LETIN; i++) {
		unsigned before = let_in[i];

		syscall(SYS_tgkill, getpid(), letin_tid[i], SIGUSR1);
		for (int ms = 0; let_in[i] == before && ms < 10000; ms++)
			sleep_ms(1);
		if (let_in[i] != before + 1)
			v_bad("letin: thread %d was not woken by its signal", i);
	}
}

/* --- nested: two handlers deep, with a sleep interrupted at each level ---------------------- */

static _Atomic unsigned depth, leave;
static _Atomic int unwound;
static double outer_value;

static void on_inner(int sig, siginfo_t *si, void *ctx)
{
	uint64_t mask = 0;

	depth = 2;
	while (!leave) {
		struct timespec ts = {0, 20000000};

		syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
		if ((mask & (BIT(SIGUSR1) | BIT(SIGUSR2))) != (BIT(SIGUSR1) | BIT(SIGUSR2)))
			v_bad("nested: mask %#llx inside", (unsigned long long)mask);
		nanosleep(&ts, NULL);
	}
	depth = 3;
}

static void on_outer(int sig, siginfo_t *si, void *ctx)
{
	volatile double local = 2.25 * outer_value;
	uint64_t mask = 0;

	depth = 1;
	/* Comes here, on top of this handler. */
	raise(SIGUSR2);
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
	if (mask & BIT(SIGUSR2) || !(mask & BIT(SIGUSR1)))
		v_bad("nested: mask %#llx outside", (unsigned long long)mask);
	if (local != 2.25 * 1.5)
		v_bad("nested: a local value has changed");
}

static void *nested_thread(void *arg)
{
	struct timespec ts = {7200, 0}, left = {0};
	volatile uint64_t words[64];

	outer_value = 1.5;
	for (unsigned i = 0; i < 64; i++)
		words[i] = i * 0x9e3779b97f4a7c15ULL;
	mask_set(~(BIT(SIGUSR1) | BIT(SIGUSR2)));
	v_tick();
	/* The handlers run on top of this, until the end. */
	if (nanosleep(&ts, &left) != -1 || errno != EINTR || left.tv_sec > 7200 ||
	    left.tv_sec < 6000)
		v_bad("nested: nanosleep: %s, %ld s left", strerrordesc_np(errno),
		      (long)left.tv_sec);
	for (unsigned i = 0; i < 64; i++)
		if (words[i] != i * 0x9e3779b97f4a7c15ULL)
			v_bad("nested: a word on the stack has changed");
	unwound = 1;
	return NULL;
}

static void nested_setup(void)
{
	struct sigaction sa = {.sa_sigaction = on_outer, .sa_flags = SA_SIGINFO};

	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_sigaction = on_inner;
	sigaction(SIGUSR2, &sa, NULL);
	mask_set(~0ULL);
	start_thread(nested_thread, NULL);
	v_await_ticks(1);
	/* It is to sleep already. */
	sleep_ms(100);
	kill(getpid(), SIGUSR1);
	for (int ms = 0; depth != 2 && ms < 10000; ms++)
		sleep_ms(1);
	if (depth != 2)
		v_die("nested: depth %u", depth);
}

static void nested_check(void)
{
	if (depth != 2)
		v_bad("nested: depth %u", depth);
}

static void nested_finish(void)
{
	leave = 1;
	for (int ms = 0; !unwound && ms < 10000; ms++)
		sleep_ms(1);
	if (!unwound || depth != 3)
		v_bad("nested: the handlers did not return");
}

const struct scenario queue_scenarios[] = {
	{"siginfos", "pending signals of every kind of sender", siginfos_setup, siginfos_check,
	 siginfos_finish},
	{"aimed", "timers that signal one thread each, and timers of CPU time", aimed_setup,
	 aimed_check},
	{"letin", "threads that let a signal in only while they wait", letin_setup, letin_check},
	{"nested", "a handler on a handler on a sleep", nested_setup, nested_check, nested_finish},
	{},
};
