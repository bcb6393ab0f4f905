/* SPDX-License-Identifier: MIT */
/*
 * Runs a program without some system calls, as older kernels and strict containers do.
 *
 *	nosys NAME[:ERRNO]... -- PROGRAM ARGS...
 *
 * ERRNO is a number; without one it is ENOSYS. "pagemap_scan" is an ioctl, refused with ENOTTY.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9 */
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* Linux 5.3 */
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438 /* Linux 5.6 */
#endif

enum { PAGEMAP_SCAN_NR = 0xc0606610 /* _IOWR('f', 16, 96 bytes), Linux 6.7 */, MOST = 128 };

static const struct {
	const char *name;
	unsigned nr;
} calls[] = {
	{"close_range", SYS_close_range},
	{"io_uring_enter", SYS_io_uring_enter},
	{"io_uring_register", SYS_io_uring_register},
	{"io_uring_setup", SYS_io_uring_setup},
	{"kcmp", SYS_kcmp},
	{"madvise", SYS_madvise},
	{"pidfd_getfd", SYS_pidfd_getfd},
	{"pidfd_open", SYS_pidfd_open},
	{"renameat2", SYS_renameat2},
	{"userfaultfd", SYS_userfaultfd},
};

static struct sock_filter code[MOST];
static unsigned len;

static void emit(struct sock_filter f)
{
	if (len == MOST)
		exit(2);
	code[len++] = f;
}

static void load(size_t off)
{
	emit((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)off));
}

/* Goes past the next @skip instructions when what is loaded is not @v. */
static void unless(unsigned v, unsigned char skip)
{
	emit((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, v, 0, skip));
}

static void answer(unsigned what)
{
	emit((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what));
}

static void deny(const char *text)
{
	size_t n = strcspn(text, ":");
	unsigned error = text[n] ? (unsigned)atoi(text + n + 1) : ENOSYS;

	if (!strncmp(text, "pagemap_scan", n)) {
		unless(SYS_ioctl, 4);
		load(offsetof(struct seccomp_data, args[1]));
		unless(PAGEMAP_SCAN_NR, 1);
		answer(SECCOMP_RET_ERRNO | ENOTTY);
		load(offsetof(struct seccomp_data, nr));
		return;
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (strncmp(text, calls[i].name, n) || calls[i].name[n])
			continue;
		unless(calls[i].nr, 1);
		answer(SECCOMP_RET_ERRNO | error);
		return;
	}
	fprintf(stderr, "nosys: unknown call %s\n", text);
	exit(2);
}

int main(int argc, char **argv)
{
	struct sock_fprog prog = {.filter = code};
	int i;

	load(offsetof(struct seccomp_data, nr));
	for (i = 1; i < argc && strcmp(argv[i], "--"); i++)
		deny(argv[i]);
	answer(SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)len;
	if (i + 1 >= argc)
		return 2;
	/* As a container has it that is started with privileges; else the way that takes none. */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) &&
	    (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	     prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))) {
		perror("nosys");
		return 77;
	}
	execv(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 127;
}
