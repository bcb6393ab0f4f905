/* SPDX-License-Identifier: MIT */
/* One dump of a process at a time: who has the turn. */
#include "src/target/turn.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "binlog/pr.h"
#include "src/target/procfs.h"

int turn_name(const char *what, pid_t root, struct sockaddr_un *ret, socklen_t *ret_len)
{
	struct procfs_stat st;
	int n, err = procfs_stat(root, 0, &st);

	if (err < 0)
		return err;
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	n = snprintf(ret->sun_path + 1, sizeof(ret->sun_path) - 1, "stasis-%s-%d-%" PRIu64, what,
		     root, st.start_time);
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
	return 0;
}

/* Who listens there: what the kernel noted when it began to. -ECONNREFUSED: nobody does. */
static int who_listens(const struct sockaddr_un *a, socklen_t len, struct ucred *ret)
{
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t room = sizeof(*ret);

	if (fd < 0 || connect(fd, (const struct sockaddr *)a, len) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret, &room) < 0)
		return -errno;
	return 0;
}

static bool counts(pid_t root, const struct ucred *who)
{
	struct stat st;
	char path[32];

	if (who->uid == 0 || who->uid == geteuid())
		return true;
	snprintf(path, sizeof(path), "/proc/%d", root);
	return stat(path, &st) == 0 && st.st_uid == who->uid;
}

int turn_busy(pid_t root, const char *comm, pid_t who, struct err *err)
{
	err_fail(err, EBUSY, ERR_TRACED, "another dump of pid %d is under way (%s, pid %d)", root,
		 comm, who);
	err_hint(err, "nothing was touched: wait until that one has ended, then try again");
	return -EBUSY;
}

int turn_look(pid_t root, struct err *err)
{
	struct sockaddr_un a;
	struct ucred who;
	socklen_t len;

	if (turn_name("dump", root, &a, &len) < 0 || who_listens(&a, len, &who) < 0 ||
	    !counts(root, &who))
		return 0;
	return turn_busy(root, "stasis", who.pid, err);
}

int turn_take(pid_t root, int *ret_fd, struct ucred *ret_stranger, struct err *err)
{
	/* Whoever has the name and does not listen is about to, or about to end. */
	enum { TRIES = 50, TRY_NS = 1000000 };
	struct sockaddr_un a;
	struct ucred who;
	socklen_t len;

	*ret_fd = -1;
	*ret_stranger = (struct ucred){.pid = -1};
	if (turn_name("dump", root, &a, &len) < 0)
		return 0;
	for (int i = 0; i < TRIES; i++) {
		cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		int ret;

		if (fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 &&
		    listen(fd, SOMAXCONN) == 0) {
			*ret_fd = take_fd(&fd);
			return 0;
		}
		if (fd < 0 || errno != EADDRINUSE) {
			pr_warn("no turn to dump process %d: %s\n", root, strerrordesc_np(errno));
			return 0;
		}
		ret = who_listens(&a, len, &who);
		if (ret == 0 && counts(root, &who))
			return turn_busy(root, "stasis", who.pid, err);
		if (ret == 0)
			*ret_stranger = who;
		if (ret != -ECONNREFUSED)
			break;
		nanosleep(&(struct timespec){.tv_nsec = TRY_NS}, NULL);
	}
	if (ret_stranger->pid < 0)
		ret_stranger->pid = 0;
	return 0;
}
