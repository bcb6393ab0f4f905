/* SPDX-License-Identifier: MIT */
/* Waits in vfork() for a child that lives as many seconds as told: nobody can stop the parent. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 60;

	printf("%d\n", (int)getpid());
	fflush(stdout);
	if (vfork() == 0) {
		for (unsigned left = seconds; left;)
			left = sleep(left);
		_exit(0);
	}
	puts("back");
	fflush(stdout);
	pause();
	return 0;
}
