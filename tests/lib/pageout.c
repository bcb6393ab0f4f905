/* SPDX-License-Identifier: MIT */
/* Asks the kernel to swap out the private memory of a process: pageout PID. */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Linux 5.3, 5.10, 5.4; the same numbers on every CPU */
enum { NR_PIDFD_OPEN = 434, NR_PROCESS_MADVISE = 440, PAGEOUT = 21 };

int main(int argc, char **argv)
{
	char path[64], line[512], perms[5];
	uint64_t start, end, inode;
	int pidfd = argc == 2 ? (int)syscall(NR_PIDFD_OPEN, atoi(argv[1]), 0) : -1;
	unsigned n = 0;
	FILE *f;

	if (pidfd < 0)
		return 77;
	snprintf(path, sizeof(path), "/proc/%s/maps", argv[1]);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		struct iovec iov;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %" SCNu64, &start, &end,
			   perms, &inode) != 4 ||
		    perms[0] != 'r' || perms[3] != 'p' || inode)
			continue;
		iov = (struct iovec){(void *)(uintptr_t)start, end - start};
		if (syscall(NR_PROCESS_MADVISE, pidfd, &iov, 1, PAGEOUT, 0) > 0)
			n++;
		else
			fprintf(stderr, "pageout: %s%s\n", line, strerror(errno));
	}
	return n ? 0 : 77;
}
