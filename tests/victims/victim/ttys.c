/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of terminals.
 *
 *	victim ── session leader, /dev/pts/N its terminal ── job, in a group of its own, in front
 *
 * The victim holds the master. The leader and the job look at their terminal by themselves, at
 * every line that the victim sends them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

static int master, slave;
static char name[64];
static pid_t leader, job;

static void look(const char *who)
{
	struct winsize size = {0};
	struct termios tio;

	if (ioctl(slave, TIOCGWINSZ, &size) || size.ws_row != 41 || size.ws_col != 123)
		v_bad("tty: %s sees %u rows and %u columns", who, size.ws_row, size.ws_col);
	if (tcgetattr(slave, &tio) || tio.c_lflag & (ICANON | ECHO) || tio.c_cc[VINTR] != 7)
		v_bad("tty: %s sees other modes", who);
}

static void look_inside(const char *who, pid_t front)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);

	look(who);
	if (fd < 0)
		v_bad("tty: %s has no controlling terminal: %s", who, strerrordesc_np(errno));
	else if (tcgetsid(fd) != getsid(0) || strcmp(ttyname(slave), name) != 0)
		v_bad("tty: %s: session %d, not %d", who, tcgetsid(fd), getsid(0));
	else if (tcgetpgrp(fd) != front)
		v_bad("tty: %s: group %d is in front, not %d", who, tcgetpgrp(fd), front);
	if (fd >= 0)
		close(fd);
}

/* One byte asks, one byte answers; the other kind is for the leader, which is in the background. */
static void run_job(void)
{
	char c;

	for (;;) {
		ssize_t n = read(slave, &c, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n != 1 || v_quitting())
			_exit(0);
		look_inside("the job", getpid());
		if (write(slave, &c, 1) != 1)
			_exit(0);
	}
}

static void run_leader(void)
{
	close(master);
	if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0))
		v_die("controlling terminal");
	signal(SIGTTOU, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	job = fork();
	if (!job) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		v_tick();
		run_job();
	}
	setpgid(job, job);
	if (tcsetpgrp(slave, job))
		v_die("tcsetpgrp");
	v_tick();
	while (!v_quitting()) {
		look_inside("the leader", job);
		sleep_ms(20);
	}
	_exit(0);
}

static void pty_setup(void)
{
	struct winsize size = {.ws_row = 41, .ws_col = 123};
	struct termios tio;

	if (openpty(&master, &slave, name, NULL, &size) || tcgetattr(slave, &tio))
		v_skip("no pty: %s", strerrordesc_np(errno));
	cfmakeraw(&tio);
	tio.c_cc[VINTR] = 7;
	if (tcsetattr(slave, TCSANOW, &tio))
		v_die("tcsetattr");
	leader = fork();
	if (!leader) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run_leader();
	}
	if (leader < 0)
		v_die("fork");
	v_await_ticks(2);
	v_fact("fd %d %d tty", getpid(), master);
	v_fact("fd %d %d tty", getpid(), slave);
}

static void pty_check(void)
{
	static uint8_t serial;
	uint8_t got = 0;
	unsigned index = 0;

	look("the victim");
	if (ioctl(master, TIOCGPTN, &index) || (int)index != atoi(name + strlen("/dev/pts/")))
		v_bad("tty: the master has number %u, the slave is %s", index, name);
	if (tcgetsid(master) != leader)
		v_bad("tty: it is the terminal of session %d, not %d", tcgetsid(master), leader);
	serial++;
	if (write(master, &serial, 1) != 1 || read(master, &got, 1) != 1 || got != serial)
		v_bad("tty: the job does not answer");
}

/* --- a terminal whose program has ended ----------------------------------------------------- */

static int hung_up;

static void ptyhung_setup(void)
{
	int other;

	if (openpty(&hung_up, &other, NULL, NULL, NULL))
		v_skip("no pty: %s", strerrordesc_np(errno));
	close(other);
}

static void ptyhung_check(void)
{
	struct pollfd p = {.fd = hung_up, .events = POLLIN};
	char c;

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLHUP))
		v_bad("tty: the other end is not closed any more: events %#x", p.revents);
	else if (read(hung_up, &c, 1) >= 0 || errno != EIO)
		v_bad("tty: a read of a terminal whose other end is closed gives something");
}

const struct scenario tty_scenarios[] = {
	{"ptyhung", "a master whose slave is closed", ptyhung_setup, ptyhung_check},
	{"pty", "a session with a terminal and a job in front", pty_setup, pty_check},
	{},
};
