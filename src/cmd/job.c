/* SPDX-License-Identifier: MIT */
/* A restored tree as a job of the shell that this command was started from. */
#include "src/cmd/job.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

enum { NSIGNALS = sizeof(signals) / sizeof(signals[0]) };

static bool in_front(int tty)
{
	return tty >= 0 && tcgetpgrp(tty) == getpgrp();
}

/* A group in the background that takes the terminal is sent SIGTTOU, which we ignore for it. */
static void give_terminal(int tty, pid_t group)
{
	void (*before)(int) = signal(SIGTTOU, SIG_IGN);

	if (tty >= 0 && group > 0)
		tcsetpgrp(tty, group);
	signal(SIGTTOU, before);
}

/*
 * The shell sees us stop as the job has, and wakes us to wake it: in front, or where it left us. A
 * job that stopped for want of the terminal, before it was given it or while we were in the
 * background, only goes on.
 */
static void stop_with(int tty, pid_t group, int signo)
{
	bool wants = signo == SIGTTIN || signo == SIGTTOU;
	bool has = tty >= 0 && tcgetpgrp(tty) == group;

	if (!wants || (!has && !in_front(tty))) {
		if (has)
			give_terminal(tty, getpgrp());
		kill(getpid(), SIGSTOP);
	}
	if (in_front(tty))
		give_terminal(tty, group);
	kill(-group, SIGCONT);
}

static int next_signal(const sigset_t *wanted, volatile sig_atomic_t *early)
{
	int sig = *early;

	*early = 0;
	return sig ? sig : sigwaitinfo(wanted, NULL);
}

int job_await(pid_t pid, bool shell_job, volatile sig_atomic_t *early)
{
	pid_t group = getpgid(pid), got;
	/* In our own group it has the terminal with us, and stops with us. */
	bool apart = shell_job && group > 0 && group != getpgrp() && getsid(pid) == getsid(0);
	cleanup_fd int tty = apart ? open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
	sigset_t wanted, before;
	int status = 0;

	sigemptyset(&wanted);
	for (size_t i = 0; i < NSIGNALS; i++)
		sigaddset(&wanted, signals[i]);
	sigaddset(&wanted, SIGCHLD);
	/* Blocked, so that none comes between a look and the wait for the next. */
	sigprocmask(SIG_BLOCK, &wanted, &before);
	if (in_front(tty))
		give_terminal(tty, group);
	while ((got = waitpid(pid, &status, WNOHANG | (apart ? WUNTRACED : 0))) == 0 ||
	       (got > 0 && WIFSTOPPED(status))) {
		int sig;

		if (got) {
			stop_with(tty, group, WSTOPSIG(status));
			continue;
		}
		sig = next_signal(&wanted, early);
		if (sig > 0 && sig != SIGCHLD)
			kill(pid, sig);
	}
	if (tty >= 0 && tcgetpgrp(tty) == group)
		give_terminal(tty, getpgrp());
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (got < 0)
		return 0;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
