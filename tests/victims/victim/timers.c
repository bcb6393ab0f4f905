/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of what the kernel keeps per process: timers, limits, directory, umask, rseq.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

/* --- timers
 * ---------------------------------------------------------------------------------------- */

static timer_t periodic, far_off, silent;
static volatile sig_atomic_t periodic_count, periodic_wrong;

static void on_periodic(int sig, siginfo_t *si, void *ctx)
{
	periodic_count++;
	if (si->si_code != SI_TIMER || si->si_value.sival_int != 4711)
		periodic_wrong = 1;
}

static timer_t timer_armed(clockid_t clock, int notify, int sig, int value, int flags,
			   const struct itimerspec *spec)
{
	struct sigevent ev = {.sigev_notify = notify, .sigev_signo = sig};
	timer_t t;

	ev.sigev_value.sival_int = value;
	if (timer_create(clock, &ev, &t) || timer_settime(t, flags, spec, NULL))
		v_die("timer_create");
	v_fact("timer %d %d %d %d %d %lld", getpid(), (int)(intptr_t)t, (int)clock, sig, value,
	       (long long)spec->it_interval.tv_sec * 1000000000LL + spec->it_interval.tv_nsec);
	return t;
}

static timer_t timer_make(clockid_t clock, int notify, int sig, int value,
			  const struct itimerspec *spec)
{
	return timer_armed(clock, notify, sig, value, 0, spec);
}

static void timers_setup(void)
{
	struct sigaction sa = {.sa_sigaction = on_periodic, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct itimerspec spec = {.it_interval = {0, 20000000}, .it_value = {0, 20000000}};
	struct itimerval it = {.it_interval = {7000, 0}, .it_value = {7000, 0}};

	sigaction(SIGRTMIN + 2, &sa, NULL);
	periodic = timer_make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 2, 4711, &spec);
	spec = (struct itimerspec){.it_value = {100000, 0}};
	far_off = timer_make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR1, 1, &spec);
	spec = (struct itimerspec){.it_interval = {50000, 5}, .it_value = {90000, 0}};
	silent = timer_make(CLOCK_BOOTTIME, SIGEV_NONE, 0, 2, &spec);
	if (setitimer(ITIMER_REAL, &it, NULL))
		v_die("setitimer");
	it.it_interval.tv_usec = 250000;
	if (setitimer(ITIMER_PROF, &it, NULL))
		v_die("setitimer");
	v_fact("itimer %d real 7000000000000", getpid());
	v_fact("itimer %d prof 7000250000000", getpid());
}

static void timers_check(void)
{
	static int last = -1;
	static uint64_t last_ns;
	struct itimerspec spec;
	struct itimerval it;

	if (periodic_wrong)
		v_bad("timers: the signal came without its value");
	timer_gettime(periodic, &spec);
	if (spec.it_interval.tv_nsec != 20000000)
		v_bad("timers: the interval has changed");
	/* It must go on: nothing for 5 s is a dead timer. */
	if (periodic_count != last) {
		last = periodic_count;
		last_ns = now_ns();
	} else if (now_ns() - last_ns > 5000000000ULL) {
		v_bad("timers: the periodic timer is dead");
	}
	timer_gettime(far_off, &spec);
	if (spec.it_value.tv_sec > 100000 || spec.it_value.tv_sec < 90000)
		v_bad("timers: the far-off timer has %ld s left", (long)spec.it_value.tv_sec);
	timer_gettime(silent, &spec);
	if (spec.it_interval.tv_sec != 50000 || spec.it_interval.tv_nsec != 5)
		v_bad("timers: the silent timer's interval has changed");
	getitimer(ITIMER_REAL, &it);
	if (it.it_interval.tv_sec != 7000 || it.it_value.tv_sec > 7000 || it.it_value.tv_sec < 100)
		v_bad("timers: ITIMER_REAL has changed");
	getitimer(ITIMER_PROF, &it);
	if (it.it_interval.tv_usec != 250000)
		v_bad("timers: ITIMER_PROF has changed");
}

/* --- signals of timers that wait, overruns
 * ------------------------------------------------------- */

enum { SIG_WAITS = 41, SIG_ONCE = 42, SIG_COUNTED = 43, SIG_NOBODY = 44 };

static timer_t waiting, once, counted, orphan;
static int overruns;

/* Makes a timer that signals its own thread, which ends. */
static void *orphan_maker(void *arg)
{
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIG_NOBODY};
	struct itimerspec spec = {.it_value = {100000, 0}};

	ev._sigev_un._tid = gettid_();
	if (timer_create(CLOCK_MONOTONIC, &ev, &orphan) || timer_settime(orphan, 0, &spec, NULL))
		v_die("timer_create");
	v_tick();
	return NULL;
}

static void overruns_setup(void)
{
	struct itimerspec spec = {.it_interval = {0, 20000000}, .it_value = {0, 1}};
	struct timespec none = {0};
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	for (int sig = SIG_WAITS; sig <= SIG_NOBODY; sig++)
		sigaddset(&set, sig);
	sigprocmask(SIG_BLOCK, &set, NULL);
	start_thread(orphan_maker, NULL);
	v_await_ticks(1);
	waiting = timer_make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIG_WAITS, 1, &spec);
	spec.it_interval.tv_nsec = 0;
	once = timer_make(CLOCK_REALTIME, SIGEV_SIGNAL, SIG_ONCE, 2, &spec);
	/* The next one is far off: nothing more is counted while it is dumped. */
	clock_gettime(CLOCK_MONOTONIC, &spec.it_value);
	spec.it_interval = (struct timespec){spec.it_value.tv_sec / 5 + 1, 0};
	spec.it_value = (struct timespec){1, 0};
	counted = timer_armed(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIG_COUNTED, 3, TIMER_ABSTIME, &spec);
	sigemptyset(&set);
	sigaddset(&set, SIG_COUNTED);
	if (sigtimedwait(&set, &si, &(struct timespec){5, 0}) != SIG_COUNTED)
		v_die("the signal of a timer");
	while (sigtimedwait(&set, &si, &none) > 0)
		;
	overruns = timer_getoverrun(counted);
	if (overruns < 2)
		v_skip("%d overruns in the time since boot", overruns);
}

static void overruns_check(void)
{
	struct itimerspec spec;

	if (timer_getoverrun(counted) != overruns)
		v_bad("timers: %d overruns, not %d", timer_getoverrun(counted), overruns);
	if (timer_gettime(orphan, &spec) || spec.it_value.tv_sec < 90000)
		v_bad("timers: one whose thread has ended has %ld s left",
		      (long)spec.it_value.tv_sec);
}

/* How often the signal waits; its last one is @ret. */
static unsigned take_all(int sig, siginfo_t *ret)
{
	struct timespec none = {0};
	unsigned n = 0;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	while (n < 100 && sigtimedwait(&set, ret, &none) > 0)
		n++;
	return n;
}

static void overruns_finish(void)
{
	struct itimerspec off = {0};
	unsigned n;
	siginfo_t si;

	/* More of it has expired by now than the one that waits. */
	sleep_ms(100);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIG_WAITS);
	if (sigtimedwait(&set, &si, &(struct timespec){0}) != SIG_WAITS)
		v_bad("timers: the signal that waited is gone");
	else if (si.si_code != SI_TIMER || si.si_value.sival_int != 1 || si.si_overrun < 3 ||
		 timer_getoverrun(waiting) != si.si_overrun)
		v_bad("timers: code %d, value %d, overrun %d, %d of the timer", si.si_code,
		      si.si_value.sival_int, si.si_overrun, timer_getoverrun(waiting));
	if (sigtimedwait(&set, &si, &(struct timespec){0}) == SIG_WAITS && si.si_overrun > 0)
		v_bad("timers: two signals of one timer waited");
	timer_settime(waiting, 0, &off, NULL);
	n = take_all(SIG_ONCE, &si);
	if (n != 1 || si.si_value.sival_int != 2)
		v_bad("timers: the signal of a timer that has expired came %u times", n);
	if (timer_gettime(once, &off) || off.it_value.tv_sec || off.it_value.tv_nsec)
		v_bad("timers: one that has expired is armed");
}

/* --- limits, directory, umask, priorities
 * ------------------------------------------------------------------ */

static char cwd_want[PATH_MAX];

static void process_state_setup(void)
{
	struct rlimit rl = {333, 444};

	setrlimit(RLIMIT_NOFILE, &rl);
	rl = (struct rlimit){0, RLIM_INFINITY};
	setrlimit(RLIMIT_CORE, &rl);
	rl = (struct rlimit){12 << 20, RLIM_INFINITY};
	setrlimit(RLIMIT_STACK, &rl);
	v_fact("rlimit %d %d 333 444", getpid(), RLIMIT_NOFILE);
	v_fact("rlimit %d %d %d -1", getpid(), RLIMIT_STACK, 12 << 20);
	snprintf(cwd_want, sizeof(cwd_want), "%.4000s/cwd", v_dir());
	mkdir(cwd_want, 0755);
	if (chdir(cwd_want))
		v_die("chdir");
	umask(0137);
	setpriority(PRIO_PROCESS, 0, 5);
	prctl(PR_SET_NAME, "vic tim)");
	prctl(PR_SET_TIMERSLACK, 123456);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	v_fact("cwd %d %s", getpid(), cwd_want);
	v_fact("umask %d %d", getpid(), 0137);
	v_fact("nice %d 5", getpid());
	v_fact("comm %d vic tim)", getpid());
}

static void process_state_check(void)
{
	struct rlimit rl;
	char path[PATH_MAX], name[16];
	mode_t mask = umask(0137);

	if (mask != 0137)
		v_bad("state: umask %o", mask);
	getrlimit(RLIMIT_NOFILE, &rl);
	if (rl.rlim_cur != 333 || rl.rlim_max != 444)
		v_bad("state: RLIMIT_NOFILE has changed");
	getrlimit(RLIMIT_STACK, &rl);
	if (rl.rlim_cur != 12 << 20)
		v_bad("state: RLIMIT_STACK has changed");
	if (!getcwd(path, sizeof(path)) || strcmp(path, cwd_want) != 0)
		v_bad("state: another current directory");
	if (getpriority(PRIO_PROCESS, 0) != 5)
		v_bad("state: another nice value");
	prctl(PR_GET_NAME, name);
	if (strcmp(name, "vic tim)") != 0)
		v_bad("state: another name");
	if (prctl(PR_GET_TIMERSLACK) != 123456)
		v_bad("state: another timer slack");
}

/* --- scheduling
 * ---------------------------------------------------------------------------------------------- */

static void *batch_thread(void *arg)
{
	struct sched_param p = {};
	cpu_set_t set;

	if (syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &p))
		v_die("SCHED_BATCH");
	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		v_die("sched_setaffinity");
	v_fact("sched %d %d 0", gettid_(), SCHED_BATCH);
	v_fact("affinity %d 1", gettid_());
	v_tick();
	while (!v_quitting()) {
		CPU_ZERO(&set);
		sched_getaffinity(0, sizeof(set), &set);
		if (syscall(SYS_sched_getscheduler, 0) != SCHED_BATCH)
			v_bad("sched: another policy");
		if (CPU_COUNT(&set) != 1 || !CPU_ISSET(0, &set))
			v_bad("sched: another affinity");
		sleep_ms(5);
	}
	return NULL;
}

static void sched_setup(void)
{
	start_thread(batch_thread, NULL);
	v_await_ticks(1);
}

/* --- rseq and the robust list, as the C library registered them
 * --------------------------------------------- */

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

static const volatile uint32_t *rseq_area(void)
{
	return (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void expect_rseq(void)
{
	/* cpu_id: the kernel writes it at every switch; -2 is "registration failed". */
	if ((int32_t)rseq_area()[1] < 0)
		v_bad("rseq: cpu_id is %d", (int32_t)rseq_area()[1]);
}

static void thread_facts(void)
{
	void *head = NULL;
	size_t len = 0;

	v_fact("rseq %d %#llx", gettid_(), (unsigned long long)(uintptr_t)rseq_area());
	if (syscall(SYS_get_robust_list, 0, &head, &len) == 0)
		v_fact("robust %d %#llx %zu", gettid_(), (unsigned long long)(uintptr_t)head, len);
}

static void *rseq_thread(void *arg)
{
	thread_facts();
	v_tick();
	while (!v_quitting()) {
		expect_rseq();
		sleep_ms(1);
	}
	return NULL;
}

static void rseq_setup(void)
{
	if (!&__rseq_size || !__rseq_size)
		v_skip("the C library registers no rseq area");
	thread_facts();
	start_thread(rseq_thread, NULL);
	v_await_ticks(1);
}

const struct scenario timer_scenarios[] = {
	{"timers", "POSIX and interval timers", timers_setup, timers_check},
	{"overruns", "signals of timers that wait, overruns, a timer whose thread has ended",
	 overruns_setup, overruns_check, overruns_finish},
	{"state", "limits, directory, umask, priority, name", process_state_setup,
	 process_state_check},
	{"sched", "scheduling policy and affinity of a thread", sched_setup},
	{"rseq", "rseq areas and robust lists", rseq_setup, expect_rseq},
	{},
};
