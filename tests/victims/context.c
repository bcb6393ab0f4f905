/* SPDX-License-Identifier: MIT */
/*
 * Has state that only the process itself can be asked for, and says what: lines "fact ..." for
 * check_image.py, lines "show PATH VALUE" for what `stasis show` prints of the process, then
 * "ready".
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { QUEUED = 150 /* more than one look at a queue gives */, DEATH = SIGHUP };

static int clear_tid;

static void queues(void)
{
	int shared = SIGRTMIN + 3, own = SIGRTMIN + 4;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, shared);
	sigaddset(&set, own);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < QUEUED; i++) {
		union sigval v = {.sival_int = 1000 + i};

		if (sigqueue(getpid(), shared, v) || pthread_sigqueue(pthread_self(), own, v))
			exit(77);
		printf("fact shared-pending %d %d %d\n", getpid(), shared, 1000 + i);
		printf("fact pending %d %d %d\n", getpid(), own, 1000 + i);
	}
	printf("show pending_signals %d\nshow threads.0.pending_signals %d\n", QUEUED, QUEUED);
}

/* One that has run over, and stands; one that has far to go. */
static void timers(void)
{
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5};
	struct itimerspec fast = {{0, 1000000}, {0, 1000000}}, off = {{0, 0}, {0, 0}};
	struct itimerspec far = {{7, 0}, {40000, 0}};
	struct itimerval real = {{9, 0}, {30000, 0}};
	struct timespec nap = {0, 30000000};
	timer_t a, b;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, e.sigev_signo);
	sigprocmask(SIG_BLOCK, &set, NULL);
	timer_create(CLOCK_MONOTONIC, &e, &a);
	timer_settime(a, 0, &fast, NULL);
	nanosleep(&nap, NULL);
	sigwaitinfo(&set, NULL);
	timer_settime(a, 0, &off, NULL);
	timer_create(CLOCK_MONOTONIC, &e, &b);
	timer_settime(b, 0, &far, NULL);
	setitimer(ITIMER_REAL, &real, NULL);
	printf("show posix_timers.0.overrun %d\n", timer_getoverrun(a));
	printf("show posix_timers.1.interval_ns 7000000000\n");
	printf("near posix_timers.1.value_ns 40000000000000\n");
	printf("show itimers.real.interval_us 9000000\n");
	printf("near itimers.real.value_us 30000000000\n");
}

int main(void)
{
	uintptr_t brk = (uintptr_t)sbrk(1 << 20) + (1 << 20);

	setvbuf(stdout, NULL, _IONBF, 0);
	queues();
	timers();
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, DEATH, 0, 0, 0);
	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	prctl(PR_SET_TIMERSLACK, 123456, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	syscall(SYS_set_tid_address, &clear_tid);
	printf("show child_subreaper true\nshow mm.thp_disabled true\nshow mm.dumpable 0\n");
	printf("show mm.brk \"%#" PRIxPTR "\"\n", brk);
	printf("show threads.0.clear_tid \"%#" PRIxPTR "\"\n", (uintptr_t)&clear_tid);
	printf("show threads.0.pdeath_signal %d\n", DEATH);
	printf("show threads.0.credentials.securebits \"0x10\"\n");
	printf("show threads.0.scheduling.timerslack_ns 123456\n");
	printf("ready\n");
	for (;;)
		pause();
}
