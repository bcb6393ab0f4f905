/* SPDX-License-Identifier: MIT */
/*
 * Chains of short lives: every thread makes its successor and ends. Whoever looks away for a moment
 * finds nobody he knew.
 */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

enum { CHAINS = 8 };

static void *link_of_chain(void *arg)
{
	pthread_attr_t attr;
	pthread_t next;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 64 << 10);
	usleep(100);
	while (pthread_create(&next, &attr, link_of_chain, NULL))
		usleep(1000);
	pthread_attr_destroy(&attr);
	return NULL;
}

int main(void)
{
	for (int i = 0; i < CHAINS; i++)
		link_of_chain(NULL);
	printf("%d\n", (int)getpid());
	fflush(stdout);
	for (;;)
		pause();
}
