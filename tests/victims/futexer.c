/* SPDX-License-Identifier: MIT */
/*
 * A thread that waits for a futex with a relative limit, by a system call whose number is in the
 * code just before it.
 *
 *	futexer DIR MILLISECONDS	DIR/ready, and DIR/took with the milliseconds that it waited
 */
#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* As most have it: a number above 0 may be the limit of a poll() that goes on. */
static uint32_t word;

static long futex_wait(const struct timespec *limit)
{
#ifdef __x86_64__
	register const struct timespec *r10 __asm__("r10") = limit;
	long ret;

	__asm__ volatile("mov %[nr], %%eax\n"
			 "syscall\n"
			 : "=a"(ret)
			 : [nr] "i"(SYS_futex), "D"(&word), "S"(FUTEX_WAIT_PRIVATE), "d"(word),
			   "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
#else
	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, word, limit) < 0 ? -errno : 0;
#endif
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void tell(const char *name, uint64_t number)
{
	FILE *f = fopen("new", "w");

	if (!f || fprintf(f, "%llu", (unsigned long long)number) < 0 || fclose(f) ||
	    rename("new", name))
		exit(1);
}

int main(int argc, char **argv)
{
	const int ms = argc > 2 ? atoi(argv[2]) : 0;
	const struct timespec limit = {ms / 1000, ms % 1000 * 1000000L};
	uint64_t start;
	long ret;

	if (!ms || chdir(argv[1]))
		return 2;
	tell("ready", 0);
	start = now_ms();
	ret = futex_wait(&limit);
	tell("took", now_ms() - start);
	printf("futex: %ld\n", ret);
	return ret == -ETIMEDOUT ? 0 : 1;
}
