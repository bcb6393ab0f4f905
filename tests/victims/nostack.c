/* SPDX-License-Identifier: MIT */
/*
 * A process without a stack: there is no place in it for a signal frame, so no system call can be
 * injected. It says "ready" just before.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	uint64_t start = 0, end = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "[stack]") &&
		    sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
			return 1;
	if (!end || printf("ready\n") < 0 || fflush(stdout))
		return 1;
#ifdef __x86_64__
	__asm__ volatile("xor %%esp, %%esp\n"
			 "syscall\n"
			 "1: mov %[pause], %%eax\n"
			 "syscall\n"
			 "jmp 1b\n"
			 :
			 : "a"(SYS_munmap), "D"(start), "S"(end - start), [pause] "i"(SYS_pause)
			 : "rcx", "r11", "memory");
#endif
	return 77;
}
