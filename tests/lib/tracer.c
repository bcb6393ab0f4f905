/* SPDX-License-Identifier: MIT */
/*
 * Traces the threads named on the command line until killed, so that nobody else can.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (ptrace(PTRACE_SEIZE, atoi(argv[i]), NULL, NULL)) {
			perror("tracer: PTRACE_SEIZE");
			return 1;
		}
	}
	printf("tracing\n");
	fflush(stdout);
	for (;;)
		pause();
}
