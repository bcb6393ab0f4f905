/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of what descriptors hold: bytes in pipes, deleted files, counters, watches, locks.
 *
 * Checks look without using anything up, so that they may run before a dump and after a restore;
 * what can be seen only once is left to the finish.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

static const char *in_dir(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned i;

	i = (i + 1) % 4;
	if (snprintf(path[i], PATH_MAX, "%s/%s", v_dir(), name) >= PATH_MAX)
		v_die("path too long");
	return path[i];
}

static int open_in(const char *name, int flags)
{
	int fd = open(in_dir(name), flags, 0640);

	if (fd < 0)
		v_die("open %s", name);
	return fd;
}

static void expect_flags(int fd, int want, const char *what)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags != want)
		v_bad("%s: flags are %#o, not %#o", what, flags, want);
}

static void expect_link(int fd, const char *want, const char *what)
{
	char link[64], text[PATH_MAX] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, text, sizeof(text) - 1) < 0 || strcmp(text, want) != 0)
		v_bad("%s: is %s, not %s", what, text, want);
}

static void expect_held(int fd, int want, const char *what)
{
	int n = -1;

	if (ioctl(fd, FIONREAD, &n) < 0 || n != want)
		v_bad("%s: holds %d bytes, not %d", what, n, want);
}

static void expect_read(int fd, const char *want, size_t at_once, const char *what)
{
	char got[64] = "";
	ssize_t n = read(fd, got, at_once);

	if (n != (ssize_t)strlen(want) || memcmp(got, want, (size_t)n) != 0)
		v_bad("%s: read \"%s\" (%zd), not \"%s\"", what, got, n, want);
}

/* --- pipes: contents, sizes and packets; a child has one end -------------------------------- */

static int stream[2], packets[2], large[2], child_pipe[2], fifo[2];
static int stream_flags, packet_flags;

static void pipes_setup(void)
{
	static char block[200000];
	pid_t pid;

	if (pipe(child_pipe) || pipe2(stream, O_CLOEXEC) || pipe2(packets, O_DIRECT | O_NONBLOCK) ||
	    pipe(large))
		v_die("pipe");
	if (write(stream[1], "some ", 5) != 5 || write(stream[1], "bytes", 5) != 5 ||
	    write(packets[1], "one", 3) != 3 || write(packets[1], "and two", 7) != 7)
		v_die("write into pipes");
	fill(block, sizeof(block), 77);
	if (fcntl(large[0], F_SETPIPE_SZ, 1 << 18) < 0 ||
	    write(large[1], block, sizeof(block)) != sizeof(block))
		v_die("large pipe");
	unlink(in_dir("fifo"));
	if (mkfifo(in_dir("fifo"), 0600))
		v_die("mkfifo");
	fifo[0] = open_in("fifo", O_RDONLY | O_NONBLOCK);
	fifo[1] = open_in("fifo", O_WRONLY);
	if (write(fifo[1], "fifo", 4) != 4)
		v_die("fifo");
	stream_flags = fcntl(stream[1], F_GETFL);
	packet_flags = fcntl(packets[1], F_GETFL);
	pid = fork();
	if (pid < 0)
		v_die("fork");
	if (!pid) {
		char b;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(child_pipe[1]);
		/* The parent's ends are the only ones. */
		for (int i = 0; i < 2; i++) {
			close(stream[i]);
			close(packets[i]);
			close(large[i]);
			close(fifo[i]);
		}
		while (read(child_pipe[0], &b, 1) == 1 || errno == EINTR)
			;
		_exit(0);
	}
	close(child_pipe[0]);
}

static void pipes_check(void)
{
	expect_held(stream[0], 10, "pipe");
	expect_held(packets[0], 10, "packet pipe");
	expect_held(large[0], 200000, "large pipe");
	expect_held(fifo[0], 4, "FIFO");
	if (fcntl(large[1], F_GETPIPE_SZ) != 1 << 18)
		v_bad("large pipe: has room for %d bytes", fcntl(large[1], F_GETPIPE_SZ));
	expect_flags(stream[1], stream_flags, "pipe");
	expect_flags(packets[1], packet_flags, "packet pipe");
	if (fcntl(stream[0], F_GETFD) != FD_CLOEXEC || fcntl(packets[0], F_GETFD) != 0)
		v_bad("pipes: close-on-exec has changed");
	/* As long as the child has its end this is no error. */
	if (write(child_pipe[1], "x", 1) != 1)
		v_bad("pipe to the child: %s", strerrordesc_np(errno));
}

static void pipes_finish(void)
{
	static char got[200000];

	expect_read(stream[0], "some bytes", 64, "pipe");
	expect_read(packets[0], "one", 64, "packet pipe");
	expect_read(packets[0], "an", 2, "packet pipe");
	expect_held(packets[0], 0, "packet pipe");
	expect_read(fifo[0], "fifo", 64, "FIFO");
	for (size_t at = 0; at < sizeof(got);) {
		ssize_t n = read(large[0], got + at, sizeof(got) - at);

		if (n <= 0) {
			v_bad("large pipe: %s", strerrordesc_np(errno));
			return;
		}
		at += (size_t)n;
	}
	expect_filled(got, sizeof(got), 77, "large pipe");
	close(stream[1]);
	if (read(stream[0], got, 1) != 0)
		v_bad("pipe: somebody else holds its writing end");
}

/* --- ghosts: deleted, renamed and linked names ---------------------------------------------- */

enum { HOLE = 100 << 20 };
static int sparse, sparse_ro, short_file, renamed, linked, gone_dir;
static struct stat sparse_stat;

static void ghosts_setup(void)
{
	mkdir(in_dir("dir"), 0750);
	sparse = open_in("sparse", O_RDWR | O_CREAT | O_TRUNC);
	sparse_ro = open_in("sparse", O_RDONLY);
	short_file = open_in("short", O_WRONLY | O_APPEND | O_CREAT | O_TRUNC);
	renamed = open_in("old name", O_RDWR | O_CREAT);
	linked = open_in("linked", O_RDWR | O_CREAT);
	gone_dir = open_in("dir", O_RDONLY | O_DIRECTORY);
	unlink(in_dir("second link"));
	if (pwrite(sparse, "head", 4, 0) != 4 || pwrite(sparse, "tail", 4, HOLE) != 4 ||
	    lseek(sparse, 2, SEEK_SET) != 2 || write(short_file, "short", 5) != 5 ||
	    ftruncate(sparse, 2L * HOLE) || write(linked, "linked", 6) != 6)
		v_die("write files");
	if (chdir(in_dir("dir")) || unlink(in_dir("sparse")) || unlink(in_dir("short")) ||
	    rename(in_dir("old name"), in_dir("new name")) ||
	    link(in_dir("linked"), in_dir("second link")) || unlink(in_dir("linked")) ||
	    rmdir(in_dir("dir")))
		v_die("delete files");
	if (fstat(sparse, &sparse_stat))
		v_die("stat");
}

static void expect_at(int fd, off_t at, const char *want, const char *what)
{
	char got[16] = "";

	if (pread(fd, got, strlen(want), at) != (ssize_t)strlen(want) || strcmp(got, want) != 0)
		v_bad("%s: \"%s\" at %lld, not \"%s\"", what, got, (long long)at, want);
}

static void expect_gone(int fd, const char *name)
{
	char want[PATH_MAX + 16];

	snprintf(want, sizeof(want), "%s (deleted)", in_dir(name));
	expect_link(fd, want, name);
}

static void ghosts_check(void)
{
	struct stat a, b;

	expect_at(sparse, 0, "head", "sparse file");
	expect_at(sparse_ro, HOLE, "tail", "sparse file");
	expect_gone(sparse, "sparse");
	expect_gone(short_file, "short");
	expect_gone(linked, "linked");
	expect_gone(gone_dir, "dir");
	expect_link(renamed, in_dir("new name"), "renamed file");
	if (lseek(sparse, 0, SEEK_CUR) != 2 || lseek(sparse_ro, 0, SEEK_CUR) != 0)
		v_bad("sparse file: position has changed");
	if (fstat(sparse, &a) || fstat(sparse_ro, &b) || a.st_ino != b.st_ino)
		v_bad("sparse file: two descriptions have become two files");
	if (a.st_size != 2L * HOLE || a.st_blocks > sparse_stat.st_blocks + 64 || a.st_nlink ||
	    a.st_mode != sparse_stat.st_mode)
		v_bad("sparse file: %lld bytes, %lld blocks, %u links, mode %o",
		      (long long)a.st_size, (long long)a.st_blocks, (unsigned)a.st_nlink,
		      a.st_mode);
	if (a.st_mtim.tv_sec != sparse_stat.st_mtim.tv_sec ||
	    a.st_mtim.tv_nsec != sparse_stat.st_mtim.tv_nsec)
		v_bad("sparse file: time of modification has changed");
	if (fstat(linked, &a) || stat(in_dir("second link"), &b) || a.st_ino != b.st_ino ||
	    a.st_nlink != 1)
		v_bad("linked file: is no longer the file under its other name");
	if (stat(".", &a) || fstat(gone_dir, &b) || a.st_ino != b.st_ino)
		v_bad("working directory: is not the deleted one");
	if (access(in_dir("dir"), F_OK) == 0 || access(in_dir("sparse"), F_OK) == 0)
		v_bad("what was deleted has a name again");
}

static void ghosts_finish(void)
{
	if (write(short_file, " and more", 9) != 9 || write(sparse, "XY", 2) != 2)
		v_bad("deleted files: %s", strerrordesc_np(errno));
	expect_at(sparse_ro, 0, "heXY", "sparse file");
}

/* --- events: counters, timers, signals ------------------------------------------------------ */

enum { ONCE, PERIODIC, ABSOLUTE, EXPIRED, NTIMERS };
static int counter, semaphore, timers[NTIMERS], signals, self;

static void events_setup(void)
{
	struct itimerspec spec[NTIMERS] = {
		[ONCE] = {.it_value = {1000, 0}},
		[PERIODIC] = {.it_value = {0, 5000000}, .it_interval = {0, 5000000}},
		[EXPIRED] = {.it_value = {0, 1}},
	};
	sigset_t set;

	counter = eventfd(123456, EFD_NONBLOCK);
	semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
	clock_gettime(CLOCK_REALTIME, &spec[ABSOLUTE].it_value);
	spec[ABSOLUTE].it_value.tv_sec += 2000;
	for (int i = 0; i < NTIMERS; i++) {
		timers[i] = timerfd_create(i == ABSOLUTE ? CLOCK_REALTIME : CLOCK_MONOTONIC,
					   TFD_NONBLOCK);
		if (timers[i] < 0 ||
		    timerfd_settime(timers[i], i == ABSOLUTE ? TFD_TIMER_ABSTIME : 0, &spec[i],
				    NULL))
			v_die("timerfd");
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_NONBLOCK);
	raise(SIGUSR2);
	self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (counter < 0 || semaphore < 0 || signals < 0 || self < 0)
		v_die("events");
}

static void events_check(void)
{
	struct itimerspec left;

	timerfd_gettime(timers[ONCE], &left);
	if (left.it_value.tv_sec > 1000 || left.it_value.tv_sec < 500 || left.it_interval.tv_sec)
		v_bad("timerfd: %ld s are left", (long)left.it_value.tv_sec);
	timerfd_gettime(timers[ABSOLUTE], &left);
	if (left.it_value.tv_sec > 2000 || left.it_value.tv_sec < 1500)
		v_bad("timerfd of the real clock: %ld s are left", (long)left.it_value.tv_sec);
	/* Due, and the kernel has not come to it yet: nothing is left for a moment. */
	for (int i = 0; i < 100 && (!i || !left.it_value.tv_nsec); i++)
		timerfd_gettime(timers[PERIODIC], &left);
	if (left.it_interval.tv_nsec != 5000000 || left.it_value.tv_sec ||
	    left.it_value.tv_nsec > 5000000 || !left.it_value.tv_nsec)
		v_bad("periodic timerfd: %ld ns are left", left.it_value.tv_nsec);
	if (syscall(SYS_pidfd_send_signal, self, 0, NULL, 0))
		v_bad("pidfd of ourselves: %s", strerrordesc_np(errno));
}

static void events_finish(void)
{
	struct signalfd_siginfo info;
	uint64_t v = 0;

	if (read(counter, &v, 8) != 8 || v != 123456)
		v_bad("eventfd: counts %llu", (unsigned long long)v);
	for (int i = 0; i < 3; i++)
		if (read(semaphore, &v, 8) != 8 || v != 1)
			v_bad("eventfd semaphore: gives %llu", (unsigned long long)v);
	if (read(semaphore, &v, 8) != -1)
		v_bad("eventfd semaphore: gives a fourth");
	if (read(timers[EXPIRED], &v, 8) != 8 || v != 1)
		v_bad("expired timerfd: has %llu ticks", (unsigned long long)v);
	if (read(timers[PERIODIC], &v, 8) != 8 || !v)
		v_bad("periodic timerfd: does not tick");
	if (read(signals, &info, sizeof(info)) != sizeof(info) || info.ssi_signo != SIGUSR2)
		v_bad("signalfd: does not give the pending signal");
}

/* --- epolls: edge, oneshot, and a number that is another's by now --------------------------- */

static int poller, plain, edge, oneshot, fired, moved, reused;
static uint64_t data_of(int which)
{
	return 0xabc00000000ULL + (uint64_t)which;
}

static void watch(int fd, uint32_t events, int which)
{
	struct epoll_event ev = {.events = events, .data.u64 = data_of(which)};

	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &ev))
		v_die("epoll_ctl");
}

static void epolls_setup(void)
{
	struct epoll_event ev;
	int *const fds[] = {&plain, &edge, &oneshot, &fired, &moved};
	int old;

	poller = epoll_create1(0);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		*fds[i] = eventfd(0, EFD_NONBLOCK);
	watch(fired, EPOLLOUT | EPOLLONESHOT, 4);
	if (epoll_wait(poller, &ev, 1, 0) != 1)
		v_die("epoll_wait");
	watch(plain, EPOLLIN, 1);
	watch(edge, EPOLLIN | EPOLLET, 2);
	watch(oneshot, EPOLLIN | EPOLLONESHOT, 3);
	watch(moved, EPOLLIN, 5);
	old = moved;
	moved = fcntl(moved, F_DUPFD, 600);
	close(old);
	reused = eventfd(0, EFD_NONBLOCK);
	if (moved < 0 || reused != old)
		v_die("numbers of descriptors");
}

/* Makes @fd ready and has the event, or none if @which is 0; then it is not ready again. */
static void expect_event(int fd, int which, const char *what)
{
	struct epoll_event ev = {0};
	uint64_t one = 1;
	int n;

	if (write(fd, &one, 8) != 8)
		v_bad("epoll: %s: %s", what, strerrordesc_np(errno));
	n = epoll_wait(poller, &ev, 1, 0);
	if (n != (which != 0) || (which && ev.data.u64 != data_of(which)))
		v_bad("epoll: %s: %d events, data %#llx", what, n, (unsigned long long)ev.data.u64);
	if (which == 2 && epoll_wait(poller, &ev, 1, 0) != 0)
		v_bad("epoll: %s is told twice", what);
	if (read(fd, &one, 8) != 8)
		v_bad("epoll: %s: %s", what, strerrordesc_np(errno));
}

static void epolls_check(void)
{
	expect_event(plain, 1, "a plain eventfd");
	expect_event(edge, 2, "an edge-triggered eventfd");
	expect_event(fired, 0, "an eventfd that has fired");
	expect_event(moved, 5, "an eventfd under another number");
	expect_event(reused, 0, "an eventfd under a number that was used");
}

static void epolls_finish(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = data_of(4)};

	expect_event(oneshot, 3, "a oneshot eventfd");
	expect_event(oneshot, 0, "a oneshot eventfd that has fired");
	if (epoll_ctl(poller, EPOLL_CTL_MOD, fired, &ev))
		v_bad("epoll: %s", strerrordesc_np(errno));
	expect_event(fired, 4, "an eventfd turned on again");
}

/* --- watches: inotify ----------------------------------------------------------------------- */

static int notify, watch_dir, watch_file;

static void watches_setup(void)
{
	int first;

	mkdir(in_dir("watched"), 0700);
	close(open_in("file", O_WRONLY | O_CREAT));
	notify = inotify_init1(IN_NONBLOCK);
	first = inotify_add_watch(notify, "/", IN_CREATE);
	watch_dir = inotify_add_watch(notify, in_dir("watched"), IN_CREATE | IN_ONLYDIR);
	watch_file = inotify_add_watch(notify, in_dir("file"), IN_ATTRIB | IN_ONESHOT);
	if (first < 0 || watch_dir < 0 || watch_file < 0 || inotify_rm_watch(notify, first))
		v_die("inotify");
	while (read(notify, (char[512]){0}, 512) > 0)
		;
}

static void expect_notice(int wd, uint32_t mask, const char *what)
{
	char buf[512] __attribute__((aligned(8))) = "";
	const struct inotify_event *ev = (const void *)buf;

	if (read(notify, buf, sizeof(buf)) <= 0 || ev->wd != wd || !(ev->mask & mask))
		v_bad("inotify: %s: watch %d, mask %#x", what, ev->wd, ev->mask);
}

static void watches_check(void)
{
	if (read(notify, (char[512]){0}, 512) != -1 || errno != EAGAIN)
		v_bad("inotify: saw what nobody did");
}

static void watches_finish(void)
{
	close(open_in("watched/new", O_WRONLY | O_CREAT));
	expect_notice(watch_dir, IN_CREATE, "a new file");
	chmod(in_dir("file"), 0600);
	expect_notice(watch_file, IN_ATTRIB, "a new mode");
}

/* --- locks: of a process, of descriptions --------------------------------------------------- */

static int posix_fd, ofd_fd, flock_fd, probe_fd;

static void locks_setup(void)
{
	struct flock fl = {.l_type = F_WRLCK, .l_start = 10, .l_len = 20};

	posix_fd = open_in("locked", O_RDWR | O_CREAT);
	ofd_fd = open_in("locked", O_RDWR);
	flock_fd = open_in("locked", O_RDWR);
	probe_fd = open_in("locked", O_RDWR);
	if (fcntl(posix_fd, F_SETLK, &fl))
		v_die("POSIX lock");
	fl = (struct flock){.l_type = F_RDLCK, .l_start = 100};
	if (fcntl(ofd_fd, F_OFD_SETLK, &fl) || flock(flock_fd, LOCK_SH))
		v_die("locks");
}

/* What another description would run into. */
static void expect_lock(off_t at, short type, off_t start, off_t len, pid_t pid)
{
	struct flock fl = {.l_type = F_WRLCK, .l_start = at, .l_len = 1};

	if (fcntl(probe_fd, F_OFD_GETLK, &fl) || fl.l_type != type ||
	    (type != F_UNLCK && (fl.l_start != start || fl.l_len != len || fl.l_pid != pid)))
		v_bad("locks: at %lld: type %d, %lld+%lld of pid %d", (long long)at, fl.l_type,
		      (long long)fl.l_start, (long long)fl.l_len, fl.l_pid);
}

static void locks_check(void)
{
	expect_lock(9, F_UNLCK, 0, 0, 0);
	expect_lock(10, F_WRLCK, 10, 20, getpid());
	expect_lock(30, F_UNLCK, 0, 0, 0);
	expect_lock(5000, F_RDLCK, 100, 0, -1);
	if (flock(probe_fd, LOCK_EX | LOCK_NB) != -1 || errno != EWOULDBLOCK)
		v_bad("flock: is not held");
	if (flock(probe_fd, LOCK_SH | LOCK_NB) || flock(probe_fd, LOCK_UN))
		v_bad("flock: was shared and is not");
}

/* --- opened: how files are open, and with whom descriptions are shared ---------------------- */

static int append_fd, path_fd, dir_fd, shared_fd, shared_dup;
static int append_flags, path_flags, dir_flags;
static struct {
	int asked, answered;
	off_t seen;
} * talk;

static void sharing_child(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		int n = __atomic_load_n(&talk->asked, __ATOMIC_ACQUIRE);

		if (n != talk->answered) {
			talk->seen = lseek(shared_fd, 1, SEEK_CUR);
			__atomic_store_n(&talk->answered, n, __ATOMIC_RELEASE);
		}
		sleep_ms(1);
	}
}

static void opened_setup(void)
{
	pid_t pid;

	append_fd = open_in("log", O_WRONLY | O_APPEND | O_CREAT | O_TRUNC | O_DSYNC);
	path_fd = open_in("log", O_PATH | O_CLOEXEC);
	dir_fd = open(v_dir(), O_RDONLY | O_DIRECTORY | O_NOATIME);
	shared_fd = open_in("data", O_RDWR | O_CREAT | O_TRUNC);
	shared_dup = fcntl(shared_fd, F_DUPFD_CLOEXEC, 400);
	talk = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (dir_fd < 0 || shared_dup < 0 || talk == MAP_FAILED)
		v_die("open files");
	append_flags = fcntl(append_fd, F_GETFL);
	path_flags = fcntl(path_fd, F_GETFL);
	dir_flags = fcntl(dir_fd, F_GETFL);
	pid = fork();
	if (pid < 0)
		v_die("fork");
	if (!pid)
		sharing_child();
}

static void opened_check(void)
{
	int n = talk->asked + 1;
	off_t at = 1000 + n;

	expect_flags(append_fd, append_flags, "log");
	expect_flags(path_fd, path_flags, "O_PATH");
	expect_flags(dir_fd, dir_flags, "directory");
	expect_link(path_fd, in_dir("log"), "O_PATH");
	if (fcntl(path_fd, F_GETFD) != FD_CLOEXEC || fcntl(shared_dup, F_GETFD) != FD_CLOEXEC ||
	    fcntl(shared_fd, F_GETFD) != 0)
		v_bad("opened: close-on-exec has changed");
	/* One position for two numbers here and one in the child. */
	lseek(shared_fd, at, SEEK_SET);
	if (lseek(shared_dup, 0, SEEK_CUR) != at)
		v_bad("opened: a duplicate has a position of its own");
	__atomic_store_n(&talk->asked, n, __ATOMIC_RELEASE);
	for (int i = 0; i < 10000 && __atomic_load_n(&talk->answered, __ATOMIC_ACQUIRE) != n; i++)
		sleep_ms(1);
	if (talk->answered != n || talk->seen != at + 1 || lseek(shared_fd, 0, SEEK_CUR) != at + 1)
		v_bad("opened: the child has a position of its own: %lld, %lld",
		      (long long)talk->seen, (long long)at);
}

static void opened_finish(void)
{
	struct stat st;

	if (write(append_fd, "line", 4) != 4 || fstat(append_fd, &st) || st.st_size != 4)
		v_bad("log: has %lld bytes", (long long)st.st_size);
}

const struct scenario descriptor_scenarios[] = {
	{"pipes", "pipes and a FIFO with contents, packets and sizes", pipes_setup, pipes_check,
	 pipes_finish},
	{"ghosts", "deleted, renamed and linked files, a deleted directory", ghosts_setup,
	 ghosts_check, ghosts_finish},
	{"events", "eventfd, timerfd, signalfd, pidfd", events_setup, events_check, events_finish},
	{"epolls", "epoll: edge, oneshot, a reused number", epolls_setup, epolls_check,
	 epolls_finish},
	{"watches", "inotify", watches_setup, watches_check, watches_finish},
	{"locks", "POSIX, OFD and flock locks", locks_setup, locks_check, NULL},
	{"opened", "flags of files, a description shared with a child", opened_setup, opened_check,
	 opened_finish},
	{},
};
