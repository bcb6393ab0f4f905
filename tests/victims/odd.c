/* SPDX-License-Identifier: MIT */
/*
 * odd KIND: a process in a state that no image carries. Says "ready PID", or "no: why" with exit
 * code 77, and stands still.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STACK = 65536, SET_DISPATCH = 59, DISPATCH_ON = 1 };

static char stack[STACK] __attribute__((aligned(16)));

static void no(const char *what)
{
	printf("no: %s: %s\n", what, strerrordesc_np(errno));
	exit(77);
}

/* Lives as long as its parent. */
static int wait_for_end(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

static void child(int flags)
{
	if (clone(wait_for_end, stack + STACK, flags, NULL) < 0)
		no("clone");
}

static void memory(void)
{
	child(CLONE_VM | SIGCHLD);
}

static void siblings(void)
{
	struct clone_args args = {.flags = CLONE_PARENT | CLONE_FILES | CLONE_FS};
	int ends[2];
	char byte;

	if (pipe(ends))
		no("pipe");
	if (fork() == 0) {
		long pid = syscall(SYS_clone3, &args, sizeof(args));

		if (pid && write(ends[1], pid < 0 ? "-" : "+", 1) != 1)
			_exit(1);
		wait_for_end(NULL);
	}
	if (read(ends[0], &byte, 1) != 1 || byte != '+')
		no("clone3");
}

static void *apart(void *arg)
{
	int *ret = arg;

	*ret = unshare(CLONE_FILES | CLONE_FS) ? -1 : 1;
	for (;;)
		pause();
	return NULL;
}

static void tables(void)
{
	static volatile int ret;
	pthread_t t;

	if (pthread_create(&t, NULL, apart, (void *)&ret))
		no("pthread_create");
	while (!ret)
		usleep(1000);
	if (ret < 0)
		no("unshare");
}

static void children(void)
{
	if (unshare(CLONE_NEWPID))
		no("unshare");
}

static void queue(void)
{
	char name[64];

	snprintf(name, sizeof(name), "/stasis-odd-%d", getpid());
	if (mq_open(name, O_RDWR | O_CREAT, 0600, NULL) < 0)
		no("mq_open");
	mq_unlink(name);
}

/* The root of a mount that is in no tree. */
static void astray(void)
{
	enum { OPEN_TREE_CLONE = 1 };

	if (syscall(SYS_open_tree, AT_FDCWD, "/proc/sys", OPEN_TREE_CLONE) < 0)
		no("open_tree");
}

static void dispatch(void)
{
	static char selector;

	if (prctl(SET_DISPATCH, DISPATCH_ON, 0, 0, &selector))
		no("PR_SET_SYSCALL_USER_DISPATCH");
}

#ifdef __x86_64__
#include <asm/ldt.h>
#include <sys/io.h>

static void ldt(void)
{
	struct user_desc d = {.entry_number = 3,
			      .base_addr = 0x1000,
			      .limit = 0xfffff,
			      .seg_32bit = 1,
			      .limit_in_pages = 1,
			      .useable = 1};

	if (syscall(SYS_modify_ldt, 1, &d, sizeof(d)))
		no("modify_ldt");
}

static void ports(void)
{
	enum { DELAY = 0x80 };

	if (ioperm(DELAY, 1, 1))
		no("ioperm");
}

static void cpuid(void)
{
	enum { SET_CPUID = 0x1012 };

	if (syscall(SYS_arch_prctl, SET_CPUID, 0))
		no("ARCH_SET_CPUID");
}
#endif

static const struct kind {
	const char *name;
	void (*begin)(void);
} kinds[] = {
	{"memory", memory}, {"siblings", siblings}, {"tables", tables}, {"children", children},
	{"queue", queue},   {"dispatch", dispatch}, {"astray", astray},
#ifdef __x86_64__
	{"ldt", ldt},	    {"cpuid", cpuid},	    {"ports", ports},
#endif
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(argv[1], kinds[i].name)) {
			kinds[i].begin();
			printf("ready %d\n", getpid());
			fflush(stdout);
			for (;;)
				pause();
		}
	printf("no: %s: no such kind\n", argc > 1 ? argv[1] : "?");
	return 77;
}
