/* SPDX-License-Identifier: MIT */
/*
 * Runs a command and collects every orphan below it at once, as a quick init would: a pid is free
 * again when its process has ended. Exits as the command does.
 *
 *	reaper COMMAND [ARG...]
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile pid_t command;

static void hand_on(int signo)
{
	if (command > 0)
		kill(command, signo);
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = hand_on, .sa_flags = SA_RESTART};
	int status;

	if (argc < 2) {
		fprintf(stderr, "usage: reaper COMMAND [ARG...]\n");
		return 2;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	command = fork();
	if (command == 0) {
		execvp(argv[1], argv + 1);
		fprintf(stderr, "reaper: %s: %s\n", argv[1], strerror(errno));
		_exit(127);
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	for (;;) {
		pid_t pid = wait(&status);

		if (pid < 0 && errno != EINTR)
			return 1;
		if (pid == command)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
}
