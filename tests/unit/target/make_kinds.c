/* SPDX-License-Identifier: MIT */
/* Kernel objects made again: counters, timers, what is watched, and how it behaves. */
#include "tests/unit/target/made.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>

static char dir[] = "/tmp/stasis-make-XXXXXX";

/* The lines of fdinfo that begin with @key are the same there and here. */
static void same_lines(const struct made_test *t, uint64_t fd, const char *key)
{
	char a[256], b[256];

	made_fdinfo(t->child.pid, fd, key, a);
	made_fdinfo(getpid(), (uint64_t)made_fd(t, fd), key, b);
	assert_true(*a);
	assert_string_equal(a, b);
}

/* --- eventfd, signalfd, pidfd, memfd -------------------------------------------------------- */

enum { COUNT, HUGE_COUNT, SEMAPHORE, SIGNAL, OWN, DEAD, DEAD_TOO, MEM, MEM_RO, NS, NFDS };

static void build_counters(struct child *c)
{
	uint64_t *fd = c->shared, v = UINT64_MAX - 1;
	sigset_t set;
	char path[64];
	pid_t pid;

	fd[COUNT] = (uint64_t)eventfd(7, EFD_NONBLOCK);
	fd[HUGE_COUNT] = (uint64_t)eventfd(0, 0);
	fd[SEMAPHORE] = (uint64_t)eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMAX);
	fd[SIGNAL] = (uint64_t)signalfd(-1, &set, SFD_NONBLOCK);
	fd[OWN] = (uint64_t)syscall(SYS_pidfd_open, getpid(), O_NONBLOCK);
	pid = fork();
	if (!pid)
		_exit(0);
	fd[DEAD] = (uint64_t)syscall(SYS_pidfd_open, pid, 0);
	fd[DEAD_TOO] = (uint64_t)syscall(SYS_pidfd_open, pid, 0);
	waitpid(pid, NULL, 0);
	fd[MEM] = (uint64_t)memfd_create("some name", MFD_ALLOW_SEALING);
	if (write((int)fd[HUGE_COUNT], &v, 8) != 8 || ftruncate((int)fd[MEM], 12345) ||
	    fchmod((int)fd[MEM], 0640) || lseek((int)fd[MEM], 77, SEEK_SET) != 77 ||
	    fcntl((int)fd[MEM], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		_exit(97);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", (int)fd[MEM]);
	fd[MEM_RO] = (uint64_t)open(path, O_RDONLY);
	fd[NS] = (uint64_t)open("/proc/self/ns/uts", O_RDONLY);
}

static void counters(void **state)
{
	struct made_test t;
	uint64_t *fd, v;
	struct stat st;
	int mem;

	made_open(&t, build_counters);
	fd = t.child.shared;
	for (int i = 0; i < NFDS; i++)
		if (i != MEM && i != MEM_RO)
			made_same(&t, fd[i]);
	same_lines(&t, fd[COUNT], "eventfd-count:");
	same_lines(&t, fd[HUGE_COUNT], "eventfd-count:");
	assert_int_equal(read(made_fd(&t, fd[SEMAPHORE]), &v, 8), 8);
	/* Before Linux 6.5 nobody tells, which is a finding. */
	if (strstr(made_file(&t, fd[SEMAPHORE])->fdinfo, "eventfd-semaphore:"))
		assert_int_equal(v, 1);
	same_lines(&t, fd[SIGNAL], "sigmask:");
	same_lines(&t, fd[OWN], "Pid:");
	same_lines(&t, fd[DEAD], "Pid:");
	same_lines(&t, fd[DEAD_TOO], "Pid:");
	/* Contents come before the seals. */
	mem = make_segment(t.mk, made_file(&t, fd[MEM])->shm_id);
	assert_int_equal(fcntl(mem, F_GET_SEALS), 0);
	assert_int_equal(pwrite(mem, "content", 7, 77), 7);
	assert_int_equal(make_seal_writes(t.mk, &t.err), 0);
	assert_int_equal(fcntl(mem, F_GET_SEALS), F_SEAL_WRITE);
	assert_int_equal(make_finish(t.mk, &t.err), 0);
	assert_int_equal(fcntl(made_fd(&t, fd[MEM_RO]), F_GET_SEALS),
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	made_same(&t, fd[MEM]);
	made_same(&t, fd[MEM_RO]);
	assert_int_equal(fstat(made_fd(&t, fd[MEM]), &st), 0);
	assert_int_equal(st.st_size, 12345);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(read(made_fd(&t, fd[MEM]), &v, 7), 7);
	assert_memory_equal(&v, "content", 7);
	made_close(&t);
}

/* --- timerfd -------------------------------------------------------------------------------- */

enum { ONCE, PERIODIC, ABSOLUTE, EXPIRED, OFF, NTIMERS };

static void build_timers(struct child *c)
{
	uint64_t *fd = c->shared;
	struct itimerspec once = {.it_value = {1000, 500}};
	struct itimerspec periodic = {.it_value = {0, 1000000}, .it_interval = {0, 1000000}};
	struct itimerspec expired = {.it_value = {0, 1}};
	struct itimerspec absolute = {0};

	for (int i = 0; i < NTIMERS; i++)
		fd[i] = (uint64_t)timerfd_create(i == ABSOLUTE ? CLOCK_REALTIME : CLOCK_MONOTONIC,
						 TFD_NONBLOCK);
	clock_gettime(CLOCK_REALTIME, &absolute.it_value);
	absolute.it_value.tv_sec += 500;
	timerfd_settime((int)fd[ONCE], 0, &once, NULL);
	timerfd_settime((int)fd[PERIODIC], 0, &periodic, NULL);
	timerfd_settime((int)fd[ABSOLUTE], TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &absolute,
			NULL);
	timerfd_settime((int)fd[EXPIRED], 0, &expired, NULL);
	usleep(30000);
}

static void timers(void **state)
{
	struct itimerspec a;
	struct made_test t;
	uint64_t *fd, ticks = 0;

	made_open(&t, build_timers);
	fd = t.child.shared;
	assert_true(made_file(&t, fd[PERIODIC])->timerfd.ticks >= 20);
	assert_int_equal(make_finish(t.mk, &t.err), 0);
	for (int i = 0; i < NTIMERS; i++) {
		made_same(&t, fd[i]);
		same_lines(&t, fd[i], "clockid:");
		same_lines(&t, fd[i], "settime flags:");
	}
	timerfd_gettime(made_fd(&t, fd[ONCE]), &a);
	assert_in_range(a.it_value.tv_sec, 990, 999);
	timerfd_gettime(made_fd(&t, fd[ABSOLUTE]), &a);
	assert_in_range(a.it_value.tv_sec, 490, 499);
	assert_int_equal(read(made_fd(&t, fd[PERIODIC]), &ticks, 8), 8);
	assert_true(ticks >= made_file(&t, fd[PERIODIC])->timerfd.ticks);
	assert_int_equal(read(made_fd(&t, fd[EXPIRED]), &ticks, 8), 8);
	assert_int_equal(ticks, 1);
	timerfd_gettime(made_fd(&t, fd[EXPIRED]), &a);
	assert_int_equal(a.it_value.tv_sec + a.it_value.tv_nsec, 0);
	assert_int_equal(read(made_fd(&t, fd[OFF]), &ticks, 8), -1);
	made_close(&t);
}

/* --- epoll ---------------------------------------------------------------------------------- */

enum { EPOLL, PLAIN, EDGE, ONESHOT, FIRED, MOVED, REUSED, NEPOLL, OLD_NUMBER };

static void add(uint64_t ep, uint64_t fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u64 = fd << 32 | 5};

	if (epoll_ctl((int)ep, EPOLL_CTL_ADD, (int)fd, &ev))
		_exit(97);
}

static void build_epoll(struct child *c)
{
	uint64_t *fd = c->shared;
	struct epoll_event ev;

	fd[EPOLL] = (uint64_t)epoll_create1(0);
	for (int i = PLAIN; i <= MOVED; i++)
		fd[i] = (uint64_t)eventfd(0, EFD_NONBLOCK);
	add(fd[EPOLL], fd[FIRED], EPOLLOUT | EPOLLONESHOT);
	if (epoll_wait((int)fd[EPOLL], &ev, 1, 0) != 1)
		_exit(97);
	add(fd[EPOLL], fd[PLAIN], EPOLLIN);
	add(fd[EPOLL], fd[EDGE], EPOLLIN | EPOLLET);
	add(fd[EPOLL], fd[ONESHOT], EPOLLIN | EPOLLONESHOT);
	/* The number it was added by becomes another eventfd's. */
	add(fd[EPOLL], fd[MOVED], EPOLLIN);
	fd[OLD_NUMBER] = fd[MOVED];
	fd[MOVED] = (uint64_t)fcntl((int)fd[MOVED], F_DUPFD, 500);
	close((int)fd[OLD_NUMBER]);
	fd[REUSED] = (uint64_t)eventfd(0, EFD_NONBLOCK);
	if (fd[REUSED] != fd[OLD_NUMBER])
		_exit(96);
}

static void expect_event(const struct made_test *t, int ep, int which, uint64_t number)
{
	uint64_t one = 1;
	struct epoll_event ev = {0};

	assert_int_equal(write(made_fd(t, t->child.shared[which]), &one, 8), 8);
	assert_int_equal(epoll_wait(ep, &ev, 1, 0), number ? 1 : 0);
	if (number)
		assert_true(ev.data.u64 == (number << 32 | 5));
	assert_int_equal(read(made_fd(t, t->child.shared[which]), &one, 8), 8);
}

static void watched(void **state)
{
	struct made_test t;
	const struct m_file *f;
	uint64_t *fd;
	char line[64], a[256], b[256];
	int ep;

	made_open(&t, build_epoll);
	fd = t.child.shared;
	f = made_file(&t, fd[EPOLL]);
	assert_int_equal(f->ntargets, 5);
	ep = made_fd(&t, fd[EPOLL]);
	for (uint32_t i = 0; i < f->ntargets; i++) {
		snprintf(line, sizeof(line), "tfd: %8u events:", f->targets[i].fd);
		made_fdinfo(t.child.pid, fd[EPOLL], line, a);
		made_fdinfo(getpid(), (uint64_t)ep, line, b);
		/* up to the position: what follows is the same for all eventfds */
		assert_true(*a && strstr(a, " pos:"));
		assert_int_equal(strncmp(a, b, (size_t)(strstr(a, " pos:") - a)), 0);
	}
	expect_event(&t, ep, PLAIN, fd[PLAIN]);
	expect_event(&t, ep, EDGE, fd[EDGE]);
	expect_event(&t, ep, ONESHOT, fd[ONESHOT]);
	expect_event(&t, ep, ONESHOT, 0);
	expect_event(&t, ep, FIRED, 0);
	expect_event(&t, ep, MOVED, fd[OLD_NUMBER]);
	expect_event(&t, ep, REUSED, 0);
	made_close(&t);
}

/* --- inotify -------------------------------------------------------------------------------- */

static void build_inotify(struct child *c)
{
	char path[256];
	int fd = inotify_init1(IN_NONBLOCK), first;

	c->shared[0] = (uint64_t)fd;
	snprintf(path, sizeof(path), "%s/watched", dir);
	mkdir(path, 0700);
	first = inotify_add_watch(fd, "/", IN_CREATE);
	if (inotify_add_watch(fd, path, IN_CREATE | IN_ONESHOT | IN_EXCL_UNLINK) != first + 1 ||
	    inotify_rm_watch(fd, first))
		_exit(97);
	inotify_add_watch(fd, dir, IN_DELETE);
	while (read(fd, path, sizeof(path)) > 0)
		;
}

static void watches(void **state)
{
	struct made_test t;
	struct inotify_event *ev;
	char buf[512], path[256];
	int fd;

	made_open(&t, build_inotify);
	fd = made_fd(&t, t.child.shared[0]);
	assert_int_equal(made_file(&t, t.child.shared[0])->nwatches, 2);
	assert_int_equal(made_file(&t, t.child.shared[0])->watches[0].wd +
				 made_file(&t, t.child.shared[0])->watches[1].wd,
			 5);
	if (make_finish(t.mk, &t.err))
		fail_msg("%s", t.err.msg);
	made_same(&t, t.child.shared[0]);
	same_lines(&t, t.child.shared[0], "inotify wd:2");
	same_lines(&t, t.child.shared[0], "inotify wd:3");
	/* Nothing of the restore itself is seen. */
	assert_int_equal(read(fd, buf, sizeof(buf)), -1);
	snprintf(path, sizeof(path), "%s/watched/new", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_true(read(fd, buf, sizeof(buf)) > 0);
	ev = (void *)buf;
	assert_int_equal(ev->wd, 2);
	made_close(&t);
}

static void build_unread(struct child *c)
{
	build_inotify(c);
	mkdirat(open(dir, O_RDONLY), "gone", 0700);
	unlinkat(open(dir, O_RDONLY), "gone", AT_REMOVEDIR);
}

static void lost_events_are_told(void **state)
{
	struct made_test t;

	made_collect(&t, build_unread);
	assert_true(made_has_finding(&t, "bytes of events not read yet", false));
	made_close(&t);
}

static int setup(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters),
		cmocka_unit_test(timers),
		cmocka_unit_test(watched),
		cmocka_unit_test(watches),
		cmocka_unit_test(lost_events_are_told),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
