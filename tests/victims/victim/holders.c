/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of descriptions that hold one another, and of names that lead elsewhere by now.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

static pid_t fork_child(void (*run)(void))
{
	pid_t pid = fork();

	if (pid < 0)
		v_die("fork");
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run();
	_exit(0);
}

/* --- pollnest: instances of epoll in one another, shared with a child, watching what nobody has
 *---
 *
 *	outer ── middle ── inner ── event      edge: a pipe whose bytes were told of already
 *	                    └─ EPOLLEXCLUSIVE too, by the child's own instance
 */

static int outer, middle, inner, event, edge[2], orphan, out_full[2], child_only;
static int ask_child[2], from_child[2];

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = {.events = events, .data.u64 = data};

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
		v_die("epoll_ctl");
}

/* Exactly these data, whatever the order; 0 ends them. */
/* An edge may be told of again after a restore, whenever that may be: 4 and 5. */
static int without_edges(struct epoll_event *ev, int n, const uint64_t *want)
{
	int left = 0;

	for (int i = 0; i < n; i++)
		if ((ev[i].data.u64 != 4 && ev[i].data.u64 != 5) || *want == ev[i].data.u64)
			ev[left++] = ev[i];
	return left;
}

static void expect_events(int ep, const uint64_t *want, const char *what)
{
	struct epoll_event ev[8];
	int n = without_edges(ev, epoll_wait(ep, ev, 8, 0), want), nwant = 0;

	for (; want[nwant]; nwant++) {
		bool found = false;

		for (int i = 0; i < n; i++)
			found = found || ev[i].data.u64 == want[nwant];
		if (!found)
			v_bad("pollnest: %s: no event %llu among %d", what,
			      (unsigned long long)want[nwant], n);
	}
	if (n != nwant)
		v_bad("pollnest: %s: %d events, not %d", what, n, nwant);
}

/* Closes all but what it is to share, and tells what the shared instance says. */
static void pollnest_child(void)
{
	struct epoll_event ev[8];
	int own = epoll_create1(0);
	uint8_t b;

	add(own, event, EPOLLIN | EPOLLEXCLUSIVE, 77);
	close(inner);
	close(middle);
	v_tick();
	while (read(ask_child[0], &b, 1) == 1) {
		b = (uint8_t)(epoll_wait(outer, ev, 8, 0) * 16 + epoll_wait(own, ev + 4, 4, 0));
		if (write(from_child[1], &b, 1) != 1)
			break;
	}
}

static void pollnest_setup(void)
{
	static char block[1 << 16];
	int dup;

	outer = epoll_create1(0);
	middle = epoll_create1(0);
	inner = epoll_create1(EPOLL_CLOEXEC);
	event = eventfd(0, EFD_NONBLOCK);
	orphan = eventfd(5, EFD_NONBLOCK);
	child_only = eventfd(0, EFD_NONBLOCK);
	if (pipe2(edge, O_NONBLOCK) || pipe2(out_full, O_NONBLOCK) || pipe(ask_child) ||
	    pipe(from_child) || write(edge[1], "told", 4) != 4 ||
	    write(out_full[1], block, sizeof(block)) != sizeof(block))
		v_die("pipe");
	add(inner, event, EPOLLIN, 1);
	add(middle, inner, EPOLLIN, 2);
	add(outer, middle, EPOLLIN, 3);
	add(outer, edge[0], EPOLLIN | EPOLLET, 4);
	add(outer, out_full[1], EPOLLOUT | EPOLLET, 5);
	add(outer, ask_child[1], EPOLLRDHUP | EPOLLPRI, 6);
	expect_events(outer, (uint64_t[]){4, 0}, "at first");
	/* Watched under a number that is closed; the description lives on under another. */
	dup = fcntl(orphan, F_DUPFD, 700);
	add(middle, dup, EPOLLIN | EPOLLONESHOT, 8);
	close(dup);
	expect_events(middle, (uint64_t[]){8, 0}, "a closed number");
	fork_child(pollnest_child);
	close(child_only);
	v_await_ticks(1);
}

static void child_says(uint8_t want, const char *what)
{
	uint8_t b = 0;

	if (write(ask_child[1], "?", 1) != 1 || read(from_child[0], &b, 1) != 1 || b != want)
		v_bad("pollnest: %s: the child sees %#x, not %#x", what, b, want);
}

/* Whether an edge was told of already the kernel keeps to itself: after a restore it is, again. */
static void take_old_edges(void)
{
	struct epoll_event ev[8];
	int n = epoll_wait(outer, ev, 8, 0);

	for (int i = 0; i < n; i++)
		if (ev[i].data.u64 != 4 && ev[i].data.u64 != 5)
			v_bad("pollnest: nothing happened: event %llu",
			      (unsigned long long)ev[i].data.u64);
}

static void pollnest_check(void)
{
	uint64_t one = 1, v;

	take_old_edges();
	expect_events(outer, (uint64_t[]){0}, "nothing happened");
	child_says(0, "nothing happened");
	if (write(event, &one, 8) != 8)
		v_bad("pollnest: eventfd: %s", strerrordesc_np(errno));
	expect_events(outer, (uint64_t[]){3, 0}, "the innermost");
	expect_events(middle, (uint64_t[]){2, 0}, "the innermost, in the middle");
	expect_events(inner, (uint64_t[]){1, 0}, "the innermost, inside");
	child_says(0x11, "the innermost");
	if (read(event, &v, 8) != 8 || v != 1)
		v_bad("pollnest: the eventfd counts otherwise");
	expect_events(outer, (uint64_t[]){0}, "nothing any more");
	/* More bytes are a new edge, though the old ones are still there. */
	if (write(edge[1], "m", 1) != 1)
		v_bad("pollnest: pipe: %s", strerrordesc_np(errno));
	expect_events(outer, (uint64_t[]){4, 0}, "a new edge");
	expect_events(outer, (uint64_t[]){0}, "an old edge");
	if (read(edge[0], &v, 1) != 1)
		v_bad("pollnest: pipe: %s", strerrordesc_np(errno));
}

static void pollnest_finish(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 9};
	static char block[1 << 16];

	if (read(out_full[0], block, sizeof(block)) != sizeof(block))
		v_bad("pollnest: the full pipe was not full");
	expect_events(outer, (uint64_t[]){5, 0}, "room in a pipe");
	if (epoll_ctl(middle, EPOLL_CTL_ADD, orphan, &ev))
		v_bad("pollnest: watching under another number: %s", strerrordesc_np(errno));
	expect_events(middle, (uint64_t[]){9, 0}, "another number");
}

/* --- inqueues: descriptors in queues of sockets that are in queues
 * ---------------------------------
 */

enum { CARGO = 6 };
static int seq[2], dgrams[2], keep_pipe, keep_size;
static struct ucred sent_by;

static void send_fds(int sk, const int *fds, unsigned n, const char *text)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(CARGO * sizeof(int))] = {0};
	struct iovec iov = {(char *)(uintptr_t)text, strlen(text)};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	if (sendmsg(sk, &mh, 0) != (ssize_t)strlen(text))
		v_die("sendmsg");
}

/* The descriptors of the next message, their number. */
static unsigned take_fds(int sk, int *fds, const char *text)
{
	_Alignas(struct cmsghdr) char control[256];
	char buf[64] = "";
	struct iovec iov = {buf, sizeof(buf) - 1};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control)};
	unsigned n = 0;

	if (recvmsg(sk, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0 || strcmp(buf, text) != 0) {
		v_bad("inqueues: '%s' instead of '%s'", buf, text);
		return 0;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_type == SCM_CREDENTIALS)
			memcpy(&sent_by, CMSG_DATA(c), sizeof(sent_by));
		if (c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), n * sizeof(int));
	}
	return n;
}

static void inqueues_setup(void)
{
	int fds[CARGO], p[2], inside[2], on = 1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, seq) ||
	    socketpair(AF_UNIX, SOCK_DGRAM, 0, dgrams) || pipe(p) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, inside))
		v_die("sockets");
	setsockopt(dgrams[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	keep_pipe = p[1];
	keep_size = fcntl(keep_pipe, F_GETPIPE_SZ); /* 16 pages */
	fds[0] = p[0];
	fds[1] = epoll_create1(0);
	fds[2] = eventfd(31, EFD_NONBLOCK);
	fds[3] = memfd_create("in a queue", MFD_ALLOW_SEALING);
	fds[4] = open_in("gone", O_RDWR | O_CREAT | O_TRUNC | O_APPEND);
	fds[5] = inside[0];
	add(fds[1], fds[2], EPOLLIN, 3131);
	if (write(fds[3], "memory", 6) != 6 || write(fds[4], "ghost", 5) != 5 ||
	    unlink(in_dir("gone")) || lseek(fds[3], 2, SEEK_SET) != 2 ||
	    fcntl(fds[3], F_ADD_SEALS, F_SEAL_WRITE))
		v_die("cargo");
	/* A message inside of what is inside of a message, and after it the end of the stream. */
	send_fds(inside[1], &fds[2], 1, "deep");
	close(inside[1]);
	send_fds(seq[0], fds, CARGO, "all of them");
	send_fds(seq[0], &fds[2], 1, "one again");
	/* A socket in the queue of its own other end. */
	send_fds(dgrams[0], &dgrams[0], 1, "myself");
	for (int i = 0; i < CARGO; i++)
		close(fds[i]);
}

static void inqueues_check(void)
{
	struct pollfd p[2] = {{.fd = seq[1], .events = POLLIN},
			      {.fd = dgrams[1], .events = POLLIN}};
	char b[64];

	if (poll(p, 2, 0) != 2)
		v_bad("inqueues: the queues are empty");
	if (recv(seq[1], b, sizeof(b), MSG_PEEK) != 11 ||
	    recv(dgrams[1], b, sizeof(b), MSG_PEEK) != 6)
		v_bad("inqueues: other messages");
	if (fcntl(keep_pipe, F_GETPIPE_SZ) != keep_size)
		v_bad("inqueues: the pipe has changed");
}

static void inqueues_finish(void)
{
	int fds[CARGO] = {0}, again[CARGO], deep[CARGO], me[CARGO];
	struct epoll_event ev = {0};
	struct stat a;
	uint64_t v = 0;
	char b[16] = "";

	if (take_fds(seq[1], fds, "all of them") != CARGO ||
	    take_fds(seq[1], again, "one again") != 1 || take_fds(fds[5], deep, "deep") != 1 ||
	    take_fds(dgrams[1], me, "myself") != 1)
		v_bad("inqueues: fewer descriptors than were sent");
	if (sent_by.pid != getpid() || sent_by.uid != getuid())
		v_bad("inqueues: sent by process %d of user %u", sent_by.pid, sent_by.uid);
	if (write(keep_pipe, "p", 1) != 1 || read(fds[0], b, 2) != 1 || b[0] != 'p')
		v_bad("inqueues: another pipe");
	if (epoll_wait(fds[1], &ev, 1, 0) != 1 || ev.data.u64 != 3131)
		v_bad("inqueues: the epoll instance watches something else");
	v = 100;
	if (write(deep[0], &v, 8) != 8 || read(again[0], &v, 8) != 8 || v != 131)
		v_bad("inqueues: the eventfd that was sent three times counts %llu",
		      (unsigned long long)v);
	if (read(fds[3], b, 16) != 4 || memcmp(b, "mory", 4) != 0 ||
	    fcntl(fds[3], F_GET_SEALS) != F_SEAL_WRITE)
		v_bad("inqueues: the memfd has changed");
	if (write(fds[4], "!", 1) != 1 || pread(fds[4], b, 16, 0) != 6 ||
	    memcmp(b, "ghost!", 6) != 0 || fstat(fds[4], &a) || a.st_nlink)
		v_bad("inqueues: the deleted file has changed");
	if (recv(fds[5], b, 1, MSG_DONTWAIT) != 0)
		v_bad("inqueues: the stream in there does not end");
	if (send(me[0], "loop", 4, 0) != 4 || recv(dgrams[1], b, 16, MSG_DONTWAIT) != 4)
		v_bad("inqueues: the socket in its own queue is another");
}

/* --- othernames: what is open is not what its name leads to
 * ---------------------------------------
 */

static int two_names[2], replaced, gone_fifo[2], link_itself, fifo_path, inside_gone, stream_pos;
static DIR *dir;
static char next_names[3][256];
static char *ghost_map;

static void dir_setup(void)
{
	struct dirent *e;

	mkdir(in_dir("many"), 0755);
	for (int i = 0; i < 2000; i++) {
		char name[64];

		snprintf(name, sizeof(name), "many/a longer name of a file %d", i);
		close(open_in(name, O_WRONLY | O_CREAT));
	}
	dir = opendir(in_dir("many"));
	for (int i = 0; i < 700; i++)
		if (!dir || !readdir(dir))
			v_die("readdir");
	/* What the library has read ahead is its own; behind it the kernel's position counts. */
	stream_pos = dup(dirfd(dir));
	for (int i = 0; i < 3; i++) {
		long at = telldir(dir);

		e = readdir(dir);
		snprintf(next_names[i], sizeof(next_names[i]), "%.255s", e ? e->d_name : "");
		if (i == 2)
			seekdir(dir, at);
	}
}

static void othernames_setup(void)
{
	static char block[3 * PAGE];
	int fd;

	dir_setup();
	/* One inode under two names, both of them gone. */
	two_names[0] = open_in("first name", O_RDWR | O_CREAT | O_TRUNC);
	fill(block, sizeof(block), 12);
	if (write(two_names[0], block, sizeof(block)) != sizeof(block) ||
	    link(in_dir("first name"), in_dir("second name")))
		v_die("link");
	two_names[1] = open_in("second name", O_RDONLY);
	ghost_map =
		map_at(HOME(1), sizeof(block), PROT_READ | PROT_WRITE, MAP_SHARED, two_names[0], 0);
	unlink(in_dir("first name"));
	unlink(in_dir("second name"));
	/* A name that another file has now. */
	replaced = open_in("replaced", O_RDWR | O_CREAT | O_TRUNC);
	if (write(replaced, "old", 3) != 3 || unlink(in_dir("replaced")))
		v_die("unlink");
	fd = open_in("replaced", O_WRONLY | O_CREAT | O_EXCL);
	if (write(fd, "newer", 5) != 5)
		v_die("write");
	close(fd);
	/* A FIFO without a name, with bytes in it. */
	if (mkfifo(in_dir("gone fifo"), 0600) || chmod(in_dir("gone fifo"), 0620))
		v_die("mkfifo");
	gone_fifo[0] = open_in("gone fifo", O_RDONLY | O_NONBLOCK);
	gone_fifo[1] = open_in("gone fifo", O_WRONLY);
	if (write(gone_fifo[1], "bytes", 5) != 5 || unlink(in_dir("gone fifo")))
		v_die("FIFO");
	/* Names that are not followed, and not opened. */
	if (symlink("nowhere/at all", in_dir("link")) || mkfifo(in_dir("closed fifo"), 0600))
		v_die("symlink");
	link_itself = open_in("link", O_PATH | O_NOFOLLOW);
	fifo_path = open_in("closed fifo", O_PATH);
	/* A file in a directory that is gone with it. */
	mkdir(in_dir("gone dir"), 0711);
	inside_gone = open_in("gone dir/file", O_RDWR | O_CREAT);
	if (write(inside_gone, "in there", 8) != 8 || unlink(in_dir("gone dir/file")) ||
	    rmdir(in_dir("gone dir")))
		v_die("rmdir");
}

static void expect_text(int fd, const char *want, const char *what)
{
	char got[64] = "";
	ssize_t n = pread(fd, got, sizeof(got) - 1, 0);

	if (n != (ssize_t)strlen(want) || strcmp(got, want) != 0)
		v_bad("othernames: %s: '%s', not '%s'", what, got, want);
}

static void othernames_check(void)
{
	struct stat a, b;
	char text[64] = "";
	int n = 0, fd;

	expect_text(replaced, "old", "a replaced file");
	fd = open(in_dir("replaced"), O_RDONLY | O_CLOEXEC);
	expect_text(fd, "newer", "the file that replaced it");
	close(fd);
	if (fstat(two_names[0], &a) || fstat(two_names[1], &b) || a.st_ino != b.st_ino ||
	    a.st_nlink || a.st_size != 3 * PAGE)
		v_bad("othernames: one file of two names has become two, or has a name");
	expect_filled(ghost_map, 3 * PAGE - 8, 12, "a mapped deleted file");
	*(uint64_t *)(ghost_map + 3 * PAGE - 8) = (uint64_t)now_ns();
	if (pread(two_names[1], &b, 8, 3 * PAGE - 8) != 8 ||
	    memcmp(&b, ghost_map + 3 * PAGE - 8, 8) != 0)
		v_bad("othernames: the mapping and the file differ");
	if (ioctl(gone_fifo[0], FIONREAD, &n) || n != 5 || fstat(gone_fifo[1], &a) || a.st_nlink ||
	    (a.st_mode & 07777) != 0620)
		v_bad("othernames: the deleted FIFO holds %d bytes, mode %o", n, a.st_mode);
	if (readlinkat(link_itself, "", text, sizeof(text) - 1) != 14 ||
	    strcmp(text, "nowhere/at all") != 0)
		v_bad("othernames: the link itself leads to '%s'", text);
	if (fstat(fifo_path, &a) || !S_ISFIFO(a.st_mode) || fcntl(fifo_path, F_GETFL) != O_PATH)
		v_bad("othernames: the FIFO's path is another, flags %o",
		      (unsigned)fcntl(fifo_path, F_GETFL));
	expect_text(inside_gone, "in there", "a file in a deleted directory");
	if (access(in_dir("gone dir"), F_OK) == 0 || access(in_dir("first name"), F_OK) == 0 ||
	    access(in_dir("gone fifo"), F_OK) == 0)
		v_bad("othernames: what was deleted has a name again");
	if (lseek(stream_pos, 0, SEEK_CUR) != lseek(dirfd(dir), 0, SEEK_CUR))
		v_bad("othernames: the directory has two positions");
}

static void othernames_finish(void)
{
	char buf[16] = "";
	unsigned left = 0;
	struct dirent *e = readdir(dir);

	if (!e || strcmp(e->d_name, next_names[2]) != 0)
		v_bad("othernames: the directory goes on with %s, not %s", e ? e->d_name : "",
		      next_names[2]);
	while (readdir(dir))
		left++;
	/* 2000 files, "." and ".."; 702 were read before, one now. */
	if (left != 2002 - 703)
		v_bad("othernames: %u names are left in the directory", left);
	if (read(gone_fifo[0], buf, 16) != 5 || memcmp(buf, "bytes", 5) != 0 ||
	    write(gone_fifo[1], "x", 1) != 1 || read(gone_fifo[0], buf, 16) != 1)
		v_bad("othernames: the deleted FIFO has other bytes");
}

const struct scenario holder_scenarios[] = {
	{"pollnest", "epoll in epoll, shared, edges and closed numbers", pollnest_setup,
	 pollnest_check, pollnest_finish},
	{"inqueues", "many descriptors in queues, in one another", inqueues_setup, inqueues_check,
	 inqueues_finish},
	{"othernames", "replaced names, links, deleted FIFOs, a directory half read",
	 othernames_setup, othernames_check, othernames_finish},
	{},
};
