/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of descriptors: one of every kind, and what each still does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pty.h>
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
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

/* Every descriptor made here is remembered with what fstat and fcntl said. */
static struct {
	int fd;
	const char *type;
	ino_t ino;
	mode_t mode;
	int flags, fdflags;
	off_t pos;
} zoo[64];
static unsigned nzoo;

static int keep(int fd, const char *type)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		v_die("%s", type);
	zoo[nzoo].fd = fd;
	zoo[nzoo].type = type;
	zoo[nzoo].ino = st.st_ino;
	zoo[nzoo].mode = st.st_mode;
	zoo[nzoo].flags = fcntl(fd, F_GETFL);
	zoo[nzoo].fdflags = fcntl(fd, F_GETFD);
	zoo[nzoo].pos = lseek(fd, 0, SEEK_CUR);
	nzoo++;
	v_fact("fd %d %d %s", getpid(), fd, type);
	return fd;
}

static int in_dir(const char *name, int flags)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", v_dir(), name) >= (int)sizeof(path))
		v_die("path too long");
	return open(path, flags, 0600);
}

static int pipes[2], pair[2], tcp[2], udp[2], ptys[2], event, poller, timer, sig, notify;

static void regular_files(void)
{
	char path[PATH_MAX];
	int fd = in_dir("regular", O_RDWR | O_CREAT | O_TRUNC);

	if (write(fd, "0123456789", 10) != 10 || lseek(fd, 4, SEEK_SET) != 4)
		v_die("regular file");
	keep(fd, "reg");
	v_fact("pos %d %d 4", getpid(), fd);
	keep(dup(fd), "reg");
	keep(in_dir("regular", O_WRONLY | O_APPEND | O_CLOEXEC), "reg");
	keep(open(v_dir(), O_RDONLY | O_DIRECTORY), "reg");
	keep(open(v_dir(), O_PATH), "reg");
	keep(open("/dev/null", O_RDWR), "reg");
	keep(open("/dev/zero", O_RDONLY), "reg");
	fd = in_dir("unlinked", O_RDWR | O_CREAT | O_TRUNC);
	snprintf(path, sizeof(path), "%s/unlinked", v_dir());
	if (write(fd, "still here", 10) != 10 || unlink(path))
		v_die("unlinked file");
	keep(fd, "reg");
}

static void sockets(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(sin);
	int fd;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		v_die("socketpair");
	keep(pair[0], "unix");
	keep(pair[1], "unix");
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(sun.sun_path + 1, sizeof(sun.sun_path) - 1, "victim-%d", getpid());
	if (bind(fd, (void *)&sun, sizeof(sun)))
		v_die("bind");
	keep(fd, "unix");
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(fd, (void *)&sin, sizeof(sin)) || listen(fd, 5) ||
	    getsockname(fd, (void *)&sin, &len))
		v_die("listen");
	keep(fd, "inet");
	tcp[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(tcp[0], (void *)&sin, sizeof(sin)))
		v_die("connect");
	tcp[1] = accept(fd, NULL, NULL);
	keep(tcp[0], "inet");
	keep(tcp[1], "inet");
	sin.sin_port = 0;
	udp[0] = socket(AF_INET, SOCK_DGRAM, 0);
	udp[1] = socket(AF_INET, SOCK_DGRAM, 0);
	if (bind(udp[0], (void *)&sin, sizeof(sin)) || getsockname(udp[0], (void *)&sin, &len) ||
	    connect(udp[1], (void *)&sin, sizeof(sin)))
		v_die("udp");
	keep(udp[0], "inet");
	keep(udp[1], "inet");
}

static void kernel_objects(void)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = 0x1122334455667788};
	struct itimerspec spec = {.it_interval = {0, 10000000}, .it_value = {0, 10000000}};
	sigset_t set;

	event = keep(eventfd(41, EFD_NONBLOCK), "eventfd");
	v_fact("eventfd %d %d 41", getpid(), event);
	poller = keep(epoll_create1(EPOLL_CLOEXEC), "epoll");
	if (epoll_ctl(poller, EPOLL_CTL_ADD, event, &ev))
		v_die("epoll_ctl");
	v_fact("epoll %d %d %d %#x 0x1122334455667788", getpid(), poller, event,
	       (unsigned)ev.events);
	timer = keep(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), "timerfd");
	timerfd_settime(timer, 0, &spec, NULL);
	v_fact("timerfd %d %d 10000000", getpid(), timer);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sig = keep(signalfd(-1, &set, SFD_NONBLOCK), "signalfd");
	v_fact("signalfd %d %d 0x200", getpid(), sig);
	notify = keep(inotify_init1(IN_NONBLOCK), "inotify");
	if (inotify_add_watch(notify, v_dir(), IN_CREATE | IN_DELETE) < 0)
		v_die("inotify_add_watch");
	keep(memfd_create("zoo", 0), "memfd");
	keep((int)syscall(SYS_pidfd_open, getppid(), 0), "pidfd");
}

/* A file that never had a name, where the file system can do that. */
static int nameless = -1;

static void zoo_setup(void)
{
	char path[PATH_MAX];

	regular_files();
	nameless = open(v_dir(), O_TMPFILE | O_RDWR, 0600);
	if (nameless >= 0 && write(nameless, "nameless", 8) != 8)
		v_die("file without a name");
	if (pipe2(pipes, O_CLOEXEC))
		v_die("pipe");
	keep(pipes[0], "pipe");
	keep(pipes[1], "pipe");
	if (write(pipes[1], "in the pipe", 11) != 11)
		v_die("pipe");
	snprintf(path, sizeof(path), "%s/fifo", v_dir());
	unlink(path);
	if (mkfifo(path, 0600))
		v_die("mkfifo");
	keep(open(path, O_RDWR | O_NONBLOCK), "fifo");
	sockets();
	kernel_objects();
	if (openpty(&ptys[0], &ptys[1], NULL, NULL, NULL))
		v_die("openpty");
	keep(ptys[0], "tty");
	keep(ptys[1], "tty");
	keep(fcntl(zoo[0].fd, F_DUPFD, 300), "reg");
}

static void expect_echo(int in, int out, const char *what)
{
	static uint8_t serial;
	uint8_t got;

	serial++;
	if (send(in, &serial, 1, MSG_NOSIGNAL) != 1 || recv(out, &got, 1, 0) != 1 || got != serial)
		v_bad("files: %s does not carry bytes any more: %s", what, strerrordesc_np(errno));
}

/* By its number where it has a name; what has none is made anew when the program is restored. */
static bool same_file(const struct stat *st, uint64_t ino, unsigned mode)
{
	bool named = (S_ISREG(mode) || S_ISDIR(mode) || S_ISCHR(mode)) && st->st_nlink;

	return st->st_mode == mode && (!named || st->st_ino == ino);
}

static void zoo_check(void)
{
	struct stat st;
	uint64_t ticks = 0;
	char name[8];
	int n = 0;

	for (unsigned i = 0; i < nzoo; i++) {
		if (fstat(zoo[i].fd, &st) || !same_file(&st, zoo[i].ino, zoo[i].mode))
			v_bad("files: descriptor %d (%s) is another file", zoo[i].fd, zoo[i].type);
		if (fcntl(zoo[i].fd, F_GETFL) != zoo[i].flags ||
		    fcntl(zoo[i].fd, F_GETFD) != zoo[i].fdflags)
			v_bad("files: descriptor %d (%s) has other flags", zoo[i].fd, zoo[i].type);
		if (lseek(zoo[i].fd, 0, SEEK_CUR) != zoo[i].pos)
			v_bad("files: descriptor %d (%s) has another position", zoo[i].fd,
			      zoo[i].type);
	}
	if (nameless >= 0 && (pread(nameless, name, 8, 0) != 8 || memcmp(name, "nameless", 8) ||
			      lseek(nameless, 0, SEEK_CUR) != 8))
		v_bad("files: the file without a name has changed");
	if (ioctl(pipes[0], FIONREAD, &n) || n != 11)
		v_bad("files: the pipe holds %d bytes", n);
	expect_echo(pair[0], pair[1], "the unix socket pair");
	expect_echo(tcp[0], tcp[1], "the TCP connection");
	expect_echo(udp[1], udp[0], "UDP");
	/* The timer has fired since last time or will soon; it never reads anything else. */
	if (read(timer, &ticks, 8) < 0 && errno != EAGAIN)
		v_bad("files: timerfd: %s", strerrordesc_np(errno));
}

static void zoo_finish(void)
{
	struct epoll_event ev = {};
	char buf[16];
	uint64_t v;

	if (read(pipes[0], buf, sizeof(buf)) != 11 || memcmp(buf, "in the pipe", 11) != 0)
		v_bad("files: the pipe's contents have changed");
	if (epoll_wait(poller, &ev, 1, 1000) != 1 || ev.data.u64 != 0x1122334455667788)
		v_bad("files: epoll does not report the eventfd");
	if (read(event, &v, 8) != 8 || v != 41)
		v_bad("files: the eventfd's count has changed");
	raise(SIGUSR1);
	if (read(sig, &(struct signalfd_siginfo){}, sizeof(struct signalfd_siginfo)) <= 0)
		v_bad("files: the signalfd gives nothing");
	close(in_dir("created", O_WRONLY | O_CREAT));
	if (read(notify, &(char[512]){}, 512) <= 0)
		v_bad("files: inotify saw nothing");
}

/* --- manyfds: --n descriptors, to see that time grows linearly
 * ------------------------------------------ */

static void manyfds_setup(void)
{
	uint64_t n = opt_u64("n", 1000);

	for (uint64_t i = 0; i < n; i++)
		if (open(i % 2 ? "/dev/null" : v_dir(), O_RDONLY) < 0)
			v_skip("only %llu descriptors allowed", (unsigned long long)i);
}

const struct scenario file_scenarios[] = {
	{"files", "a descriptor of every kind", zoo_setup, zoo_check, zoo_finish},
	{"manyfds", "--n 1000 descriptors", manyfds_setup},
	{},
};
