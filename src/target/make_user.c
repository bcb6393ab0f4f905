/* SPDX-License-Identifier: MIT */
/*
 * Calls by which a unix socket gets the user that its other end sees (SO_PEERCRED).
 *
 * The kernel notes who calls listen(), connect() or socketpair(). A program that trusts what it is
 * told there must not take an ordinary user for the tool, which is root in most cases.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/make_row.h"

struct self {
	uid_t uid;
	gid_t gid;
	bool other;
};

/* Not permitted: then the tool is an ordinary user itself, and gives away no more than its own. */
static struct self become(struct make_user user)
{
	struct self was = {.uid = geteuid(), .gid = getegid()};

	if (!user.known || (was.uid == user.uid && was.gid == user.gid))
		return was;
	/* The system calls and not the library's: of this thread alone. */
	if (syscall(SYS_setresgid, -1, user.gid, -1) < 0)
		return was;
	was.other = true;
	if (syscall(SYS_setresuid, -1, user.uid, -1) < 0)
		errno = 0;
	return was;
}

static void become_self(const struct self *was)
{
	int error = errno;

	if (!was->other)
		return;
	/* Else all that follows would be done by somebody else. */
	if (syscall(SYS_setresuid, -1, was->uid, -1) < 0 ||
	    syscall(SYS_setresgid, -1, was->gid, -1) < 0)
		abort();
	/* Which a change of user takes away. */
	prctl(PR_SET_DUMPABLE, 1);
	errno = error;
}

int make_user_listen(struct make_user user, int sk, int backlog)
{
	struct self was = become(user);
	int ret = listen(sk, backlog);

	become_self(&was);
	return ret;
}

int make_user_pair(struct make_user user, int type, int *ret_pair)
{
	struct self was = become(user);
	int ret = socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ret_pair);

	become_self(&was);
	return ret;
}

int make_user_connect(struct make_user user, int sk, const void *addr, unsigned len)
{
	struct self was = become(user);
	int ret = connect(sk, addr, len);

	become_self(&was);
	/* A path that this user cannot reach, or not any more. */
	if (ret < 0 && was.other && (errno == EACCES || errno == EPERM))
		ret = connect(sk, addr, len);
	return ret;
}
