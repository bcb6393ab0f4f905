/* SPDX-License-Identifier: MIT */
/* Threads in system calls: a freeze with injected runs is not seen by them, in result or time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <time.h>

#include "src/target/gather.h"
#include "src/target/target.h"
#include "tests/unit/target/child.h"

enum { MS = 600, FREEZES = 6 };

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static const struct timespec limit = {.tv_nsec = MS * 1000000};
static int data[2], never[2], event, semaphore;
static uint32_t word, other_word;

static long by_nanosleep(void)
{
	return nanosleep(&limit, NULL) ? errno : 0;
}

static long by_clock_nanosleep(void)
{
	return clock_nanosleep(CLOCK_BOOTTIME, 0, &limit, NULL);
}

static long by_absolute(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += MS * 1000000;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static long by_poll(void)
{
	struct pollfd p = {.fd = never[0], .events = POLLIN};

	return poll(&p, 1, MS) < 0 ? errno : 0;
}

static long by_ppoll(void)
{
	sigset_t mask;

	sigfillset(&mask);
	return ppoll(NULL, 0, &limit, &mask) < 0 ? errno : 0;
}

static long by_select(void)
{
	struct timeval tv = {.tv_usec = MS * 1000};

	return select(0, NULL, NULL, NULL, &tv) < 0 ? errno : 0;
}

static long by_futex(void)
{
	if (syscall(SYS_futex, &other_word, FUTEX_WAIT, 0, &limit, NULL, 0) == 0)
		return EBADE;
	return errno == ETIMEDOUT ? 0 : errno;
}

/* These wait for what end_waits() does. */
static long by_read(void)
{
	char b;

	return read(data[0], &b, 1) == 1 ? 0 : errno;
}

static long by_epoll(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int fd = epoll_create1(0);

	epoll_ctl(fd, EPOLL_CTL_ADD, event, &ev);
	return epoll_wait(fd, &ev, 1, -1) == 1 ? 0 : errno;
}

static long by_sigwait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	return sigwaitinfo(&set, NULL) == SIGRTMIN ? 0 : errno;
}

static long by_semop(void)
{
	struct sembuf op = {.sem_op = -1};

	return semop(semaphore, &op, 1) ? errno : 0;
}

/* Begun again it compares first: EAGAIN says that the word has changed, and nobody woke it before.
 */
static long by_futex_forever(void)
{
	if (syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ||
	    (errno == EAGAIN && __atomic_load_n(&word, __ATOMIC_ACQUIRE)))
		return 0;
	return errno;
}

static volatile sig_atomic_t handled;

static void on_usr1(int signo)
{
	handled = 1;
}

static long by_pause(void)
{
	return pause() < 0 && errno == EINTR && handled ? 0 : EBADE;
}

static const struct wait {
	const char *name;
	long (*wait)(void);
	int64_t code; /* what the kernel leaves in the result register at the stop */
	bool timed;
} waits[] = {
	{"nanosleep", by_nanosleep, -516, true},
	{"clock_nanosleep", by_clock_nanosleep, -516, true},
	{"absolute clock_nanosleep", by_absolute, -514, true},
#ifdef SYS_poll
	{"poll", by_poll, -516, true},
#else /* it is ppoll */
	{"poll", by_poll, -514, true},
#endif
	{"ppoll", by_ppoll, -514, true},
	{"select", by_select, -514, true},
	{"futex with a limit", by_futex, -516, true},
	{"read", by_read, -512, false},
	{"epoll_wait", by_epoll, -514, false},
	{"sigwaitinfo", by_sigwait, -514, false},
	{"semop", by_semop, -514, false},
	{"futex", by_futex_forever, -512, false},
	{"pause", by_pause, -514, false},
};

enum { NWAITS = sizeof(waits) / sizeof(waits[0]) };

/* Shared with the child. */
struct result {
	uint64_t tid, done, error, took_ms;
};

static struct result *results;

static void *wait_thread(void *arg)
{
	struct result *r = &results[(uintptr_t)arg];
	uint64_t began = now_ms();

	r->tid = (uint64_t)syscall(SYS_gettid);
	r->error = (uint64_t)waits[(uintptr_t)arg].wait();
	r->took_ms = now_ms() - began;
	r->done = 1;
	return NULL;
}

static void end_waits(const pthread_t *t)
{
	struct sembuf op = {.sem_op = 1};
	uint64_t one = 1;

	if (write(data[1], "x", 1) != 1 || write(event, &one, 8) != 8 || semop(semaphore, &op, 1))
		_exit(98);
	for (unsigned i = 0; i < NWAITS; i++) {
		if (waits[i].wait == by_sigwait)
			pthread_kill(t[i], SIGRTMIN);
		if (waits[i].wait == by_pause)
			pthread_kill(t[i], SIGUSR1);
	}
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &word, FUTEX_WAKE, 100, NULL, NULL, 0);
}

static void child_waits(struct child *c)
{
	struct sigaction sa = {.sa_handler = on_usr1};
	pthread_t t[NWAITS];
	sigset_t set;

	results = (struct result *)c->shared;
	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	event = eventfd(0, 0);
	semaphore = semget(IPC_PRIVATE, 1, 0600);
	if (pipe(data) || pipe(never) || event < 0 || semaphore < 0)
		_exit(97);
	for (uintptr_t i = 0; i < NWAITS; i++)
		pthread_create(&t[i], NULL, wait_thread, (void *)i);
	usleep(50000);
	child_sync(c);
	end_waits(t);
	for (unsigned i = 0; i < NWAITS; i++)
		pthread_join(t[i], NULL);
	semctl(semaphore, 0, IPC_RMID);
}

static const struct m_thread *find(const struct model *m, uint64_t tid)
{
	for (uint32_t i = 0; i < m->procs[0].nthreads; i++)
		if (m->procs[0].threads[i].tid == tid)
			return &m->procs[0].threads[i];
	return NULL;
}

/*
 * The image's registers make the call again, or return EINTR where the deadline is lost. Where the
 * kernel has stepped back before the stop it tells no more than whether there is a deadline.
 */
static void check_thread(const struct m_thread *t, const struct wait *w)
{
	const struct arch_desc *arch = arch_host();
	uint8_t regs[ARCH_PRSTATUS_MAX];
	uint64_t pc, sp;

	assert_non_null(t);
	/* It was over when the thread was let go on to see what the kernel makes of it. */
	if (arch->steps_back && w->timed && !t->in_syscall)
		return;
	if (arch->steps_back) {
		assert_int_equal(t->syscall_ret == -516, w->code == -516);
		return;
	}
	if (t->syscall_ret != w->code)
		fail_msg("%s: stopped with %ld, not %ld", w->name, (long)t->syscall_ret,
			 (long)w->code);
	assert_true(t->in_syscall);
	assert_int_equal(t->regsets[0].note, NT_PRSTATUS);
	threads_prstatus(t, regs);
	memcpy(&pc, regs + arch->pc_off, sizeof(pc));
	memcpy(&sp, regs + arch->sp_off, sizeof(sp));
	assert_true(pc == t->pc && sp == t->sp);
	if (w->code == -516)
		assert_int_equal(arch_inject.call_ret(regs), -EINTR);
	assert_true(arch->restart_undo(regs, w->code));
	assert_int_equal(arch->restart_code(regs), w->code);
}

static void freeze_once(struct child *c, bool look)
{
	struct model *m = model_new(MODEL_SHARED);
	struct err err = {0};
	struct target *t = target_open(c->pid, m, NULL, &err);

	if (!t || target_freeze(t, &err) || target_collect(t, &err) ||
	    target_thaw(t, TARGET_RUN, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(m->nprocs, 1);
	assert_int_equal(m->procs[0].threads[0].tid, c->pid);
	/* On a very slow machine the limited ones are over by now. */
	for (unsigned i = 0; look && i < NWAITS; i++)
		if (!results[i].done)
			check_thread(find(m, results[i].tid), &waits[i]);
	target_release(t);
	model_free(m);
}

static void waits_go_on(void **state)
{
	struct child c;

	child_start(&c, child_waits);
	results = (struct result *)c.shared;
	for (int i = 0; i < FREEZES; i++)
		freeze_once(&c, i == 0);
	child_next(&c);
	for (unsigned i = 0; i < NWAITS; i++) {
		struct result *r = &results[i];

		if (!r->done || r->error)
			fail_msg("%s: errno %lu (%s)", waits[i].name, (unsigned long)r->error,
				 r->done ? strerrordesc_np((int)r->error) : "not done");
		if (waits[i].timed && (r->took_ms < MS || r->took_ms > MS + 5000))
			fail_msg("%s took %lu ms instead of %d", waits[i].name,
				 (unsigned long)r->took_ms, MS);
	}
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
