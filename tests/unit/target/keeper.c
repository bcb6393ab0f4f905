/* SPDX-License-Identifier: MIT */
/* A keeper hands on what it has once, and what was begun to be handed on tells of no image any
 * more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "src/target/keeper.h"
#include "src/target/procfs.h"
#include "tests/unit/target/child.h"

enum { SINCE = 77 };

static struct target_tracks theirs, ours;
static struct err err;

static void child_waits(struct child *c)
{
}

/* For that child, with a descriptor that stands for its userfaultfd, or for notes. */
static pid_t keep(pid_t root, bool notes)
{
	struct keeper k = KEEPER_NONE;
	struct dirty *d;
	pid_t pid;

	if (keeper_listen(root, &k, &err) < 0)
		fail_msg("%s", err.msg);
	memset(&theirs, 0, sizeof(theirs));
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		d = dirty_new(&theirs, &err);
		if (!d)
			_exit(98);
		if (notes)
			dirty_adopt_notes(d, open("/dev/null", O_RDWR | O_CLOEXEC), SINCE);
		else
			dirty_adopt(d, root, open("/dev/null", O_RDWR | O_CLOEXEC), SINCE);
		keeper_main(&k, d);
	}
	close(k.listen_fd);
	close(k.pidfd);
	return pid;
}

static struct dirty *take_over(pid_t root)
{
	struct dirty *d;

	memset(&ours, 0, sizeof(ours));
	d = dirty_new(&ours, &err);
	assert_non_null(d);
	keeper_take_over(root, d);
	return d;
}

static void test_handed_on(void **state)
{
	struct dirty *d;
	struct child c;
	int status;
	pid_t pid;

	child_start(&c, child_waits);
	pid = keep(c.pid, false);
	assert_true(keeper_is_there(c.pid));
	d = take_over(c.pid);
	assert_true(dirty_tracks(d, c.pid));
	assert_int_equal(dirty_since(d), SINCE);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_false(keeper_is_there(c.pid));
	dirty_close(d);
	child_end(&c);
}

static socklen_t name_of(pid_t root, struct sockaddr_un *ret)
{
	struct procfs_stat st;
	int n;

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	assert_int_equal(procfs_stat(root, 0, &st), 0);
	n = snprintf(ret->sun_path + 1, sizeof(ret->sun_path) - 1, "stasis-track-%d-%" PRIu64, root,
		     st.start_time);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static int connect_to(pid_t root)
{
	struct sockaddr_un a;
	socklen_t len = name_of(root, &a);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, len), 0);
	return fd;
}

/*
 * Who has the descriptor may have protected pages, and then died: for the next dump none of them
 * was written since that image.
 */
static void broken_off(bool notes)
{
	char room[64];
	struct child c;
	struct dirty *d;
	int fd, status;
	pid_t pid;

	child_start(&c, child_waits);
	pid = keep(c.pid, notes);
	fd = connect_to(c.pid);
	assert_true(recv(fd, room, sizeof(room), 0) > 0);
	close(fd);
	d = take_over(c.pid);
	assert_int_not_equal(dirty_since(d), SINCE);
	dirty_close(d);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	child_end(&c);
}

static void test_broken_off(void **state)
{
	broken_off(false);
}

static void test_notes_broken_off(void **state)
{
	broken_off(true);
}

/* Anybody can have that name: one who lets nobody in does not keep a dump waiting for ever. */
static void test_lets_nobody_in(void **state)
{
	enum { FAR_TOO_LONG_S = 60, MOST = 64 };
	int fds[MOST], fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), n = 0;
	struct sockaddr_un a;
	struct child c;
	struct dirty *d;
	socklen_t len;

	child_start(&c, child_waits);
	len = name_of(c.pid, &a);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(fd, 0), 0);
	do {
		assert_in_range(n, 0, MOST - 1);
		fds[n] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	} while (connect(fds[n++], (struct sockaddr *)&a, len) == 0);
	alarm(FAR_TOO_LONG_S);
	d = take_over(c.pid);
	alarm(0);
	assert_false(dirty_tracks(d, c.pid));
	dirty_close(d);
	while (n > 0)
		close(fds[--n]);
	close(fd);
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handed_on),
		cmocka_unit_test(test_broken_off),
		cmocka_unit_test(test_notes_broken_off),
		cmocka_unit_test(test_lets_nobody_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
