/* SPDX-License-Identifier: MIT */
/* Terminals collected and made again: numbers, modes, sizes, controlling terminals. */
#include "tests/unit/target/made.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

enum { MASTER, SLAVE, AGAIN, LONELY, NFDS };

static void want(bool ok)
{
	if (!ok)
		_exit(97);
}

static void build_pty(struct child *c)
{
	uint64_t *fd = c->shared;
	struct winsize size = {.ws_row = 37, .ws_col = 111};
	struct termios tio;
	char path[64];
	int master, slave, on = 1;

	want(setsid() == getpid());
	/* The first one's number is free when the second one is made again. */
	want(!openpty(&master, &slave, path, NULL, &size));
	fd[LONELY] = (uint64_t)posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
	want(tcgetattr(slave, &tio) == 0);
	cfmakeraw(&tio);
	tio.c_cc[VINTR] = 7;
	want(tcsetattr(slave, TCSANOW, &tio) == 0 && !ioctl(master, TIOCPKT, &on) &&
	     !ioctl(slave, TIOCSCTTY, 0));
	fd[MASTER] = (uint64_t)master;
	fd[SLAVE] = (uint64_t)slave;
	fd[AGAIN] = (uint64_t)open(path, O_RDONLY | O_NOCTTY);
}

static int fd_of(const struct made_test *t, int i)
{
	return made_fd(t, t->child.shared[i]);
}

static const struct m_tty *tty_of(const struct made_test *t, int i)
{
	return model_tty(t->m, made_file(t, t->child.shared[i])->tty);
}

static void numbers_modes_sizes(void **state)
{
	struct made_test t;
	struct winsize size = {0};
	struct termios tio;
	unsigned index = 0;
	char buf[16];
	int on = 0;

	made_collect(&t, build_pty);
	assert_int_equal(tty_of(&t, SLAVE)->sid, t.child.pid);
	assert_int_equal(tty_of(&t, SLAVE)->pgrp, t.child.pid);
	assert_ptr_equal(tty_of(&t, SLAVE), tty_of(&t, AGAIN));
	assert_int_equal(tty_of(&t, MASTER)->id, tty_of(&t, SLAVE)->id + 1);
	assert_true(tty_of(&t, LONELY)->locked);
	made_end_early(&t);
	made_new(&t);
	if (make_files(t.mk, &t.err) || make_late(t.mk, &t.err) || make_finish(t.mk, &t.err))
		fail_msg("%s", t.err.msg);
	assert_int_equal(fcntl(fd_of(&t, SLAVE), F_GETFL) & O_ACCMODE, O_RDWR);
	assert_int_equal(fcntl(fd_of(&t, AGAIN), F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_string_equal(ttyname(fd_of(&t, AGAIN)), made_file(&t, t.child.shared[AGAIN])->path);
	assert_int_equal(ioctl(fd_of(&t, MASTER), TIOCGPTN, &index), 0);
	assert_int_equal(index, tty_of(&t, MASTER)->index);
	assert_int_equal(ioctl(fd_of(&t, LONELY), TIOCGPTN, &index), 0);
	assert_int_equal(index, tty_of(&t, LONELY)->index);
	assert_int_equal(ioctl(fd_of(&t, LONELY), TIOCGPTLCK, &on), 0);
	assert_int_equal(on, 1);
	assert_int_equal(ioctl(fd_of(&t, SLAVE), TIOCGWINSZ, &size), 0);
	assert_int_equal(size.ws_row, 37);
	assert_int_equal(size.ws_col, 111);
	assert_int_equal(tcgetattr(fd_of(&t, SLAVE), &tio), 0);
	assert_int_equal(tio.c_lflag & (ICANON | ECHO), 0);
	assert_int_equal(tio.c_cc[VINTR], 7);
	on = 0;
	assert_int_equal(ioctl(fd_of(&t, MASTER), TIOCGPKT, &on), 0);
	assert_int_equal(on, 1);
	assert_int_equal(write(fd_of(&t, SLAVE), "out", 3), 3);
	assert_int_equal(read(fd_of(&t, MASTER), buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "\0out", 4);
	made_close(&t);
}

/* As the leader of a restored session does it, but without the batch. */
static void controlling_terminal(void **state)
{
	struct made_test t;
	pid_t pid;
	int fd = -1, status = -1;

	made_collect(&t, build_pty);
	made_end_early(&t);
	made_new(&t);
	if (make_files(t.mk, &t.err) || make_late(t.mk, &t.err) ||
	    make_ctty(t.mk, t.p, &fd, &t.err))
		fail_msg("%s", t.err.msg);
	assert_true(fd >= 1024);
	pid = fork();
	if (!pid) {
		pid_t sid = setsid(), got = 0;

		_exit(ioctl(fd, TIOCSCTTY, 0) || ioctl(fd, TIOCGSID, &got) || got != sid);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	made_close(&t);
}

static void number_taken(void **state)
{
	struct made_test t;

	made_collect(&t, build_pty);
	made_new(&t);
	/* The child has it still. */
	assert_int_equal(make_files(t.mk, &t.err), -EBUSY);
	assert_non_null(strstr(t.err.msg, "/dev/pts/"));
	made_close(&t);
}

static int outside = -1;

static void build_outside(struct child *c)
{
	char path[64];

	want(!ptsname_r(outside, path, sizeof(path)));
	c->shared[SLAVE] = (uint64_t)open(path, O_RDWR | O_NOCTTY);
	c->shared[SLAVE] = (uint64_t)fcntl((int)c->shared[SLAVE], F_DUPFD, 100);
	close(outside);
}

static void somebody_elses(void **state)
{
	struct made_test t;

	outside = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(outside >= 0 && !grantpt(outside) && !unlockpt(outside));
	made_collect(&t, build_outside);
	assert_true(made_has_finding(&t, "--shell-job", true));
	assert_true(tty_of(&t, SLAVE)->inherited);
	close(outside);
	made_close(&t);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_modes_sizes),
		cmocka_unit_test(controlling_terminal),
		cmocka_unit_test(number_taken),
		cmocka_unit_test(somebody_elses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
