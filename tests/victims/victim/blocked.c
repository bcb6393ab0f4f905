/* SPDX-License-Identifier: MIT */
/*
 * Threads blocked in system calls: nobody may see EINTR, a short time or a lost byte.
 *
 * No signal is ever sent to these threads, so an early return has one possible cause: a dump.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

/* Waits that end by time: --ms long. Longer than asked by SLACK is wrong, shorter is worse. */
/* An absolute time goes by between a dump and a restore. */
enum { SLACK_MS = 15000 };
static unsigned wait_ms;

static struct timespec wait_ts(void)
{
	return (struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000L};
}

static long by_nanosleep(void)
{
	struct timespec ts = wait_ts();

	return syscall(SYS_nanosleep, &ts, &ts) ? -errno : 0;
}

static long by_clock_nanosleep(void)
{
	struct timespec ts = wait_ts();

	return syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, &ts, &ts) ? -errno : 0;
}

static long by_absolute_sleep(void)
{
	struct timespec ts, add = wait_ts();

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += add.tv_sec + (ts.tv_nsec + add.tv_nsec) / 1000000000;
	ts.tv_nsec = (ts.tv_nsec + add.tv_nsec) % 1000000000;
	return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) ? -errno : 0;
}

static long by_poll(void)
{
	return poll(NULL, 0, (int)wait_ms) ? -errno : 0;
}

static long by_ppoll(void)
{
	struct timespec ts = wait_ts();

	return syscall(SYS_ppoll, NULL, 0, &ts, NULL, 8) ? -errno : 0;
}

static long by_select(void)
{
	struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000L};

#if defined(SYS__newselect) /* ppc64: SYS_select is of another age, and answers ENOSYS */
	return syscall(SYS__newselect, 0, NULL, NULL, NULL, &tv) ? -errno : 0;
#elif defined(SYS_select) /* not where libraries have always used pselect6 */
	return syscall(SYS_select, 0, NULL, NULL, NULL, &tv) ? -errno : 0;
#else
	return select(0, NULL, NULL, NULL, &tv) ? -errno : 0;
#endif
}

static long by_futex(void)
{
	static uint32_t word;
	struct timespec ts = wait_ts();

	if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0) == 0)
		return -ENOMSG; /* nobody wakes it */
	return errno == ETIMEDOUT ? 0 : -errno;
}

static long by_epoll(void)
{
	static int fd = -1;
	struct epoll_event ev;

	if (fd < 0)
		fd = epoll_create1(EPOLL_CLOEXEC);
	return epoll_wait(fd, &ev, 1, (int)wait_ms) ? -errno : 0;
}

static long by_sigtimedwait(void)
{
	struct timespec ts = wait_ts();
	uint64_t set = 1ULL << (SIGUSR2 - 1);

	if (syscall(SYS_rt_sigtimedwait, &set, NULL, &ts, 8) >= 0)
		return -ENOMSG;
	return errno == EAGAIN ? 0 : -errno;
}

static long by_recv_timeout(void)
{
	static int fds[2] = {-1, -1};
	struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000L};
	char c;

	if (fds[0] < 0 && (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) ||
			   setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv))))
		return -errno;
	if (recv(fds[0], &c, 1, 0) >= 0)
		return -ENOMSG;
	return errno == EAGAIN ? 0 : -errno;
}

static const struct timed {
	const char *name;
	long (*wait)(void);
	bool eintr_by_kernel; /* signal(7): fails with EINTR after a stop, whoever stops it */
	unsigned tick_ms;     /* counted in the kernel's ticks, which may be as long; 0: is not */
} timed[] = {
	{"nanosleep", by_nanosleep},
	{"clock_nanosleep", by_clock_nanosleep},
	{"absolute sleep", by_absolute_sleep},
	{"poll", by_poll},
	{"ppoll", by_ppoll},
	{"select", by_select},
	{"futex", by_futex},
	{"epoll_wait", by_epoll, true},
	{"rt_sigtimedwait", by_sigtimedwait, true},
	{"recv with a timeout", by_recv_timeout, true, 10},
};
enum { NTIMED = sizeof(timed) / sizeof(timed[0]) };

static bool strict;

/* Ticks come late where a machine is emulated, and many at once: this clock goes on with them. */
static uint64_t ticks_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void *timed_thread(void *arg)
{
	const struct timed *t = arg;

	v_tick();
	while (!v_quitting()) {
		uint64_t began = t->tick_ms ? ticks_ns() : now_ns();
		long ret = t->wait();
		uint64_t took_ms = ((t->tick_ms ? ticks_ns() : now_ns()) - began) / 1000000;

		if (ret == -EINTR && t->eintr_by_kernel && !strict)
			continue;
		if (ret)
			v_bad("blocked: %s: %s", t->name, strerrordesc_np((int)-ret));
		else if (took_ms + 1 + 2 * t->tick_ms < wait_ms || took_ms > wait_ms + SLACK_MS)
			v_bad("blocked: %s took %llu ms instead of %u", t->name,
			      (unsigned long long)took_ms, wait_ms);
	}
	return NULL;
}

/* --- waits that end when the main thread does something
 * ---------------------------------------------------- */

static int data_pipe[2], full_pipe[2], events = -1, stream[2], lock_fd, polled = -1, queue;
static uint32_t gate;

static void *reader_thread(void *arg)
{
	uint32_t want = 0, got;

	v_tick();
	for (; !v_quitting(); want++) {
		ssize_t n = read(data_pipe[0], &got, sizeof(got));

		if (n != sizeof(got) || got != want)
			v_bad("blocked: read gave %zd (%s), %u instead of %u", n,
			      strerrordesc_np(errno), got, want);
	}
	return NULL;
}

/* Writes more than the pipe holds, so that it blocks in the middle; the main thread drains it. */
static void *writer_thread(void *arg)
{
	static uint8_t chunk[128 << 10];

	v_tick();
	while (!v_quitting()) {
		ssize_t n = write(full_pipe[1], chunk, sizeof(chunk));

		/* A stop may cut a write that moved bytes already: the kernel's own rule. */
		if (n <= 0)
			v_bad("blocked: write gave %zd (%s)", n, strerrordesc_np(errno));
	}
	return NULL;
}

static void *eventfd_thread(void *arg)
{
	uint64_t v;

	v_tick();
	while (!v_quitting())
		if (read(events, &v, sizeof(v)) != sizeof(v))
			v_bad("blocked: eventfd: %s", strerrordesc_np(errno));
	return NULL;
}

static void *recv_thread(void *arg)
{
	uint32_t want = 0, got;

	v_tick();
	for (; !v_quitting(); want++) {
		ssize_t n = recv(stream[0], &got, sizeof(got), 0);

		if (n != sizeof(got) || got != want)
			v_bad("blocked: recv gave %zd (%s)", n, strerrordesc_np(errno));
	}
	return NULL;
}

static void *epoll_thread(void *arg)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int fd = epoll_create1(EPOLL_CLOEXEC);
	uint64_t v;

	epoll_ctl(fd, EPOLL_CTL_ADD, polled, &ev);
	v_tick();
	while (!v_quitting()) {
		int n = epoll_wait(fd, &ev, 1, -1);

		if (n < 0 && errno == EINTR && !strict)
			continue;
		if (n != 1 || read(polled, &v, sizeof(v)) != sizeof(v))
			v_bad("blocked: epoll_wait gave %d: %s", n, strerrordesc_np(errno));
	}
	return NULL;
}

static void *futex_thread(void *arg)
{
	v_tick();
	while (!v_quitting()) {
		uint32_t seen = __atomic_load_n(&gate, __ATOMIC_SEQ_CST);

		if (syscall(SYS_futex, &gate, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0) &&
		    errno != EAGAIN)
			v_bad("blocked: futex without time: %s", strerrordesc_np(errno));
	}
	return NULL;
}

static void *msgrcv_thread(void *arg)
{
	struct {
		long type;
		uint32_t n;
	} msg;
	uint32_t want = 0;

	v_tick();
	while (!v_quitting()) {
		ssize_t n = msgrcv(queue, &msg, sizeof(msg.n), 0, 0);

		if (n < 0 && errno == EINTR && !strict)
			continue;
		if (n < 0 && (errno == EIDRM || errno == EINVAL))
			return NULL;
		if (n != sizeof(msg.n) || msg.n != want++)
			v_bad("blocked: msgrcv gave %zd: %s", n, strerrordesc_np(errno));
	}
	return NULL;
}

/* --- waits that never end
 * ------------------------------------------------------------------------------------ */

static void *pause_thread(void *arg)
{
	v_tick();
	pause();
	v_bad("blocked: pause returned: %s", strerrordesc_np(errno));
	return NULL;
}

static void *sigsuspend_thread(void *arg)
{
	uint64_t mask = ~0ULL;

	v_tick();
	syscall(SYS_rt_sigsuspend, &mask, 8);
	v_bad("blocked: rt_sigsuspend returned: %s", strerrordesc_np(errno));
	return NULL;
}

static void *wait_thread(void *arg)
{
	int status;

	v_tick();
	if (waitpid((pid_t)(intptr_t)arg, &status, 0) < 0 && !v_quitting())
		v_bad("blocked: waitpid returned: %s", strerrordesc_np(errno));
	return NULL;
}

static void *lock_thread(void *arg)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%.4000s/lock", v_dir());
	fd = open(path, O_RDWR | O_CLOEXEC);
	v_tick();
	if (flock(fd, LOCK_EX))
		v_bad("blocked: flock returned: %s", strerrordesc_np(errno));
	else
		v_bad("blocked: flock got a lock that is held");
	return NULL;
}

static void *accept_thread(void *arg)
{
	struct sockaddr any = {.sa_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	/* An address of the family alone: the kernel picks an abstract name. */
	if (bind(fd, &any, sizeof(any.sa_family)) || listen(fd, 1))
		v_die("listen");
	v_tick();
	accept(fd, NULL, NULL);
	v_bad("blocked: accept returned: %s", strerrordesc_np(errno));
	return NULL;
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		while (!v_quitting())
			sleep_ms(200);
		_exit(0);
	}
	return pid;
}

static void blocked_setup(void)
{
	char path[PATH_MAX];
	void *(*const others[])(void *) = {
		reader_thread, writer_thread, eventfd_thread,	 recv_thread,
		epoll_thread,  futex_thread,  msgrcv_thread,	 pause_thread,
		lock_thread,   accept_thread, sigsuspend_thread,
	};
	enum { NOTHERS = sizeof(others) / sizeof(others[0]) };

	wait_ms = (unsigned)opt_u64("ms", 300);
	strict = opt_u64("strict", 0);
	events = eventfd(0, EFD_CLOEXEC);
	polled = eventfd(0, EFD_CLOEXEC);
	queue = msgget(IPC_PRIVATE, 0600);
	snprintf(path, sizeof(path), "%.4000s/lock", v_dir());
	lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (pipe2(data_pipe, O_CLOEXEC) || pipe2(full_pipe, O_CLOEXEC) || events < 0 ||
	    polled < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, stream) || lock_fd < 0 ||
	    flock(lock_fd, LOCK_EX) || queue < 0)
		v_die("blocked");
	for (int i = 0; i < NTIMED; i++)
		start_thread(timed_thread, (void *)&timed[i]);
	for (int i = 0; i < NOTHERS; i++)
		start_thread(others[i], NULL);
	start_thread(wait_thread, (void *)(intptr_t)sleeper());
	v_await_ticks(NTIMED + NOTHERS + 1);
}

/* Now and then wakes the ones that wait for the main thread. */
static void blocked_check(void)
{
	static unsigned rounds;
	static uint32_t serial;
	static uint8_t drain[128 << 10];
	struct {
		long type;
		uint32_t n;
	} msg = {1, serial};
	uint64_t one = 1;

	if (rounds++ % 20)
		return;
	if (write(data_pipe[1], &serial, sizeof(serial)) != sizeof(serial) ||
	    write(events, &one, sizeof(one)) != sizeof(one) ||
	    write(polled, &one, sizeof(one)) != sizeof(one) ||
	    send(stream[1], &serial, sizeof(serial), 0) != sizeof(serial) ||
	    msgsnd(queue, &msg, sizeof(msg.n), 0))
		v_bad("blocked: the main thread cannot write: %s", strerrordesc_np(errno));
	if (read(full_pipe[0], drain, sizeof(drain)) <= 0)
		v_bad("blocked: nothing in the full pipe: %s", strerrordesc_np(errno));
	__atomic_add_fetch(&gate, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &gate, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	serial++;
}

static void blocked_finish(void)
{
	msgctl(queue, IPC_RMID, NULL);
}

const struct scenario blocked_scenarios[] = {
	{"blocked", "threads in many system calls, --ms 300 each, --strict 1: EINTR nowhere",
	 blocked_setup, blocked_check, blocked_finish},
	{},
};
