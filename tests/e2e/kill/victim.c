/* SPDX-License-Identifier: MIT */
/* The victim of the kill test: threads that check themselves all the time, running and waiting. */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/e2e/kill/kill.h"

enum { TICK_NS = 3000000 };

static struct kill_shared *shared;

void kill_bad(struct kill_slot *s, const char *fmt, ...)
{
	va_list ap;

	if (s->error[0])
		return;
	va_start(ap, fmt);
	vsnprintf(s->error, sizeof(s->error), fmt, ap);
	va_end(ap);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A wait that was to take TICK_NS; a late one is the machine's business, an early one is not. */
static void timed(struct kill_slot *s, uint64_t began, int error)
{
	uint64_t took = now() - began;

	if (error == EINTR)
		atomic_fetch_add(&s->eintr, 1);
	else if (error)
		kill_bad(s, "errno %d", error);
	else if (took < TICK_NS)
		kill_bad(s, "woke after %lu ns instead of %d", (unsigned long)took, TICK_NS);
	atomic_fetch_add(&s->count, 1);
}

void kill_rest(void)
{
	usleep(500);
}

void kill_fill(void *p, size_t len, uint64_t seed)
{
	uint64_t *w = p;

	for (size_t i = 0; i < len / 8; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		w[i] = seed ^ seed >> 31;
	}
}

/* --- running ---------------------------------------------------------------------------------- */

static void *memory(void *arg)
{
	enum { WORDS = 1 << 14 };
	struct kill_slot *s = arg;
	uint64_t *p =
		mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigset_t mask, want;

	sigemptyset(&want);
	sigaddset(&want, SIGHUP);
	sigaddset(&want, SIGRTMAX);
	pthread_sigmask(SIG_SETMASK, &want, NULL);
	for (uint64_t round = 1;; round++) {
		for (size_t i = 0; i < WORDS; i++)
			p[i] = round * 2654435761u + i;
		for (size_t i = 0; i < WORDS; i++)
			if (p[i] != round * 2654435761u + i)
				kill_bad(s, "word %zu of the heap has changed", i);
		pthread_sigmask(SIG_SETMASK, NULL, &mask);
		/* glibc keeps its own two signals out of sight. */
		for (int signo = 1; signo < 65; signo++)
			if (signo != 32 && signo != 33 &&
			    sigismember(&mask, signo) != sigismember(&want, signo))
				kill_bad(s, "signal %d is %sblocked", signo,
					 sigismember(&mask, signo) ? "" : "not ");
		atomic_fetch_add(&s->count, 1);
		kill_rest();
	}
	return NULL;
}

/* --- waiting with a time limit -------------------------------------------------------------- */

static const struct timespec tick = {.tv_nsec = TICK_NS};

static void *sleeper(void *arg)
{
	for (;;) {
		uint64_t t = now();

		timed(arg, t, nanosleep(&tick, NULL) ? errno : 0);
	}
	return NULL;
}

static void *sleeper_until(void *arg)
{
	for (;;) {
		uint64_t t = now(), end = t + TICK_NS;
		struct timespec ts = {(time_t)(end / 1000000000u), (long)(end % 1000000000u)};

		timed(arg, t, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL));
	}
	return NULL;
}

static void *poller(void *arg)
{
	for (;;) {
		uint64_t t = now();

		timed(arg, t, poll(NULL, 0, TICK_NS / 1000000) < 0 ? errno : 0);
	}
	return NULL;
}

static void *futex_timed(void *arg)
{
	uint32_t word = 0;

	for (;;) {
		uint64_t t = now();
		long ret = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &tick, NULL, 0);

		timed(arg, t, ret < 0 && errno != ETIMEDOUT ? errno : 0);
	}
	return NULL;
}

/* A thread on its alternate stack, in a handler that never ends. */
static struct kill_slot *handler_slot;

static void sleep_in_handler(int signo)
{
	sleeper(handler_slot);
}

static void *alternate(void *arg)
{
	stack_t ss = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
	struct sigaction sa = {.sa_handler = sleep_in_handler, .sa_flags = SA_ONSTACK};

	handler_slot = arg;
	sigaltstack(&ss, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	raise(SIGUSR2);
	return NULL;
}

/* --- waiting for the ticker ----------------------------------------------------------------- */

static int ping[2], pong[2], event_fd;
static uint32_t futex_word;
static pthread_t handled_thread, queued_thread;
static atomic_ulong handled;

static void *ping_thread(void *arg)
{
	struct kill_slot *s = arg;

	for (uint64_t want = 1, got;; want++) {
		if (write(ping[1], &want, 8) != 8)
			kill_bad(s, "write: errno %d", errno);
		if (read(pong[0], &got, 8) != 8)
			kill_bad(s, "read: errno %d", errno);
		else if (got != want)
			kill_bad(s, "read %lu instead of %lu", (unsigned long)got,
				 (unsigned long)want);
		atomic_fetch_add(&s->count, 1);
		usleep(200);
	}
	return NULL;
}

static void *pong_thread(void *arg)
{
	struct kill_slot *s = arg;

	for (uint64_t v;;) {
		if (read(ping[0], &v, 8) != 8)
			kill_bad(s, "read: errno %d", errno);
		else if (write(pong[1], &v, 8) != 8)
			kill_bad(s, "write: errno %d", errno);
		atomic_fetch_add(&s->count, 1);
	}
	return NULL;
}

static void *epoller(void *arg)
{
	struct kill_slot *s = arg;
	struct epoll_event ev = {.events = EPOLLIN};
	int ep = epoll_create1(0);
	uint64_t v;

	epoll_ctl(ep, EPOLL_CTL_ADD, event_fd, &ev);
	for (;;) {
		int n = epoll_wait(ep, &ev, 1, -1);

		if (n < 0 && errno == EINTR)
			atomic_fetch_add(&s->eintr, 1);
		else if (n != 1 || read(event_fd, &v, 8) != 8)
			kill_bad(s, "epoll_wait: %d, errno %d", n, errno);
		atomic_fetch_add(&s->count, 1);
	}
	return NULL;
}

static void *futex_waiter(void *arg)
{
	struct kill_slot *s = arg;

	for (;;) {
		uint32_t v = __atomic_load_n(&futex_word, __ATOMIC_ACQUIRE);
		long ret = syscall(SYS_futex, &futex_word, FUTEX_WAIT_PRIVATE, v, NULL, NULL, 0);

		if (ret < 0 && errno == EINTR)
			atomic_fetch_add(&s->eintr, 1);
		else if (ret < 0 && errno != EAGAIN)
			kill_bad(s, "futex: errno %d", errno);
		atomic_fetch_add(&s->count, 1);
	}
	return NULL;
}

static void on_usr1(int signo)
{
	atomic_fetch_add(&handled, 1);
}

static void *handler_thread(void *arg)
{
	struct kill_slot *s = arg;

	for (;;) {
		unsigned long before = atomic_load(&handled);

		if (pause() == 0 || errno != EINTR)
			kill_bad(s, "pause: errno %d", errno);
		if (atomic_load(&handled) == before)
			kill_bad(s, "pause returned and no handler has run");
		atomic_store(&s->count, atomic_load(&handled));
	}
	return NULL;
}

static void *queue_thread(void *arg)
{
	struct kill_slot *s = arg;
	sigset_t set;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	for (int want = 0;;) {
		int ret = sigwaitinfo(&set, &info);

		if (ret < 0 && errno == EINTR) {
			atomic_fetch_add(&s->eintr, 1);
			continue;
		}
		if (ret != SIGRTMIN || info.si_value.sival_int != want)
			kill_bad(s, "signal %d with value %d instead of %d", ret,
				 info.si_value.sival_int, want);
		want++;
		atomic_fetch_add(&s->count, 1);
	}
	return NULL;
}

static void *ticker(void *arg)
{
	struct kill_slot *s = arg;
	const struct timespec ms = {.tv_nsec = 1000000};
	unsigned long sent = 0;
	uint64_t one = 1;

	for (int n = 0;; n++) {
		union sigval v = {.sival_int = n};

		nanosleep(&ms, NULL);
		kill_end_rounds();
		if (write(event_fd, &one, 8) != 8)
			kill_bad(s, "eventfd: errno %d", errno);
		__atomic_fetch_add(&futex_word, 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &futex_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		/* One that is lost is never sent again, and its thread stands still. */
		if (atomic_load(&handled) == sent && ++sent)
			pthread_kill(handled_thread, SIGUSR1);
		if (pthread_sigqueue(queued_thread, SIGRTMIN, v))
			kill_bad(s, "pthread_sigqueue");
		atomic_fetch_add(&s->count, 1);
	}
	return NULL;
}

/* --- all of them ---------------------------------------------------------------------------- */

static struct kill_slot *new_slot(const char *name)
{
	struct kill_slot *s = &shared->slots[atomic_fetch_add(&shared->nslots, 1)];

	snprintf(s->name, sizeof(s->name), "%s", name);
	return s;
}

struct start {
	struct kill_slot *slot;
	void *(*fn)(void *arg);
};

static void *begin(void *arg)
{
	struct start st = *(struct start *)arg;

	free(arg);
	st.slot->tid = (int)syscall(SYS_gettid);
	return st.fn(st.slot);
}

static pthread_t start(const char *name, void *(*fn)(void *))
{
	struct start *st = malloc(sizeof(*st));
	pthread_t t;

	*st = (struct start){new_slot(name), fn};
	pthread_create(&t, NULL, begin, st);
	return t;
}

void kill_victim(struct kill_shared *s)
{
	struct sigaction sa = {.sa_handler = on_usr1};
	struct kill_slot *mine;
	sigset_t rt;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	shared = s;
	mine = new_slot("registers2");
	mine->tid = getpid();
	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&rt);
	sigaddset(&rt, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &rt, NULL);
	event_fd = eventfd(0, 0);
	if (pipe(ping) || pipe(pong) || event_fd < 0)
		_exit(1);
	start("registers0", kill_registers);
	start("registers1", kill_registers);
	start("memory", memory);
	for (const struct kill_more *m = kill_more; m->name; m++)
		start(m->name, m->fn);
	start("nanosleep", sleeper);
	start("sleep-until", sleeper_until);
	start("poll", poller);
	start("futex-timed", futex_timed);
	start("altstack", alternate);
	start("ping", ping_thread);
	start("pong", pong_thread);
	start("epoll", epoller);
	start("futex", futex_waiter);
	handled_thread = start("handler", handler_thread);
	queued_thread = start("queue", queue_thread);
	start("ticker", ticker);
	atomic_store(&s->ready, 1);
	/* The thread that is asked to make the first call and the last. */
	kill_registers(mine);
	_exit(1);
}
