/* SPDX-License-Identifier: MIT */
/* Write tracking handed from one dump to the next. */
#include "src/target/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "binlog/pr.h"
#include "src/target/turn.h"

/*
 * One message for each process, its userfaultfd with it, or one with what the tool noted; one with
 * pid 0 ends the list.
 */
struct handed {
	uint32_t pid;
	bool notes;
	uint64_t since;
};

enum { WAIT_S = 2 };

static int address(pid_t root, struct sockaddr_un *ret, socklen_t *ret_len)
{
	return turn_name("track", root, ret, ret_len);
}

static bool is_one_of_us(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

int keeper_listen(pid_t root, struct keeper *ret, struct err *err)
{
	struct sockaddr_un a;
	socklen_t len;
	int e = address(root, &a, &len);

	if (e < 0)
		return err_set(err, -e, "read /proc/%d/stat", root);
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, root, 0);

	if (pidfd < 0)
		return err_set(err, errno, "pidfd of process %d", root);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 1) < 0)
		return err_set(err, errno, "socket of the keeper of process %d", root);
	*ret = (struct keeper){root, take_fd(&fd), take_fd(&pidfd)};
	return 0;
}

/* --- the keeper's side ---------------------------------------------------------------------- */

static bool send_one(int fd, const struct handed *h, int uffd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)(uintptr_t)h, sizeof(*h)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (uffd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &uffd, sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(*h);
}

/* True when all of it was handed on: the keeper has nothing left to keep. */
static bool hand_on(int fd, struct dirty *d)
{
	const struct handed end = {0};
	const struct timeval wait = {.tv_sec = WAIT_S};
	const uint64_t since = dirty_since(d);
	char done;
	pid_t pid;
	int uffd;

	if (!is_one_of_us(fd))
		return false;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	for (uint32_t i = 0; dirty_armed(d, i, &pid, &uffd); i++) {
		const struct handed h = {.pid = (uint32_t)pid, .since = since};

		/* Whoever has it may change what counts as written: no image fits any more. */
		dirty_forget_since(d);
		if (uffd >= 0 && !send_one(fd, &h, uffd))
			return false;
	}
	if (dirty_notes(d) >= 0) {
		const struct handed h = {.pid = 1, .notes = true, .since = since};

		dirty_forget_since(d);
		if (!send_one(fd, &h, dirty_notes(d)))
			return false;
	}
	return send_one(fd, &end, -1) && recv(fd, &done, 1, 0) == 1;
}

void keeper_main(struct keeper *k, struct dirty *d)
{
	struct pollfd fds[2] = {
		{.fd = k->listen_fd, .events = POLLIN},
		{.fd = k->pidfd, .events = POLLIN},
	};

	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_NAME, "stasis-keep");
	/* Whoever reads what the tool writes there waits for no keeper. */
	dup2(null, 2);
	/* Whoever wants it to end: the tracking is taken away in slices. */
	signal(SIGTERM, SIG_DFL);
	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		if (fds[1].revents)
			break;
		if (!fds[0].revents)
			continue;
		cleanup_fd int fd = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC);

		/* They live on elsewhere; or half of them do, and the rest is of no use. */
		if (fd >= 0 && (hand_on(fd, d) || !dirty_since(d)))
			_exit(0);
	}
	_exit(0);
}

/* --- the next dump's side ------------------------------------------------------------------- */

/* 1: one more, 0: the end of the list, -1: broken off. */
static int take_one(int fd, struct handed *h, int *ret_uffd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {h, sizeof(*h)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c;
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);

	*ret_uffd = -1;
	c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_uffd, CMSG_DATA(c), sizeof(int));
	if (n != (ssize_t)sizeof(*h))
		return -1;
	return h->pid && *ret_uffd >= 0;
}

/* As the kernel lists it: to connect would be to take over. */
bool keeper_is_there(pid_t root)
{
	cleanup_file FILE *list = fopen("/proc/net/unix", "re");
	struct sockaddr_un a;
	socklen_t len;
	char line[512], name[sizeof(a.sun_path) + 2];

	if (!list || address(root, &a, &len) < 0)
		return false;
	snprintf(name, sizeof(name), " @%s\n", a.sun_path + 1);
	while (fgets(line, sizeof(line), list)) {
		size_t n = strlen(line);

		if (n > strlen(name) && !strcmp(line + n - strlen(name), name))
			return true;
	}
	return false;
}

void keeper_take_over(pid_t root, struct dirty *d)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	const struct timeval wait = {.tv_sec = WAIT_S};
	struct sockaddr_un a;
	struct handed h;
	socklen_t len;
	int uffd, got;

	if (fd < 0 || address(root, &a, &len) < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	/* Of connect(), too: anybody can have that name, and leave those who come waiting. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&a, len) < 0 || !is_one_of_us(fd))
		return;
	while ((got = take_one(fd, &h, &uffd)) > 0) {
		if (h.notes)
			dirty_adopt_notes(d, uffd, h.since);
		else
			dirty_adopt(d, (pid_t)h.pid, uffd, h.since);
	}
	if (uffd >= 0)
		close(uffd);
	/* Half a list is of no use as a state since then, but its descriptors are the only ones. */
	if (got < 0)
		dirty_forget_since(d);
	else if (send(fd, "", 1, MSG_NOSIGNAL) == 1)
		pr_info("write tracking of process %d taken over\n", root);
	/* Its socket's name is free once it has ended. */
	got = (int)recv(fd, &h, 1, 0);
}
