/* SPDX-License-Identifier: MIT */
/* A seccomp filter that shows a tracer some requests of ptrace(). */
#include "tests/e2e/kill/aim.h"

#include <elf.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Registers or mask of a thread, and what lets it run. */
static const struct {
	uint32_t request;
	const char *name;
} requests[] = {
	{PTRACE_SETREGSET, "SETREGSET"},
	{PTRACE_SETSIGMASK, "SETSIGMASK"},
	{PTRACE_CONT, "CONT"},
	{PTRACE_SYSCALL, "SYSCALL"},
};

enum { NREQUESTS = sizeof(requests) / sizeof(requests[0]) };

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
enum { LOW = 4 };
#else
enum { LOW = 0 };
#endif

void aim_show(void)
{
	struct sock_filter f[5 + NREQUESTS] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, NREQUESTS + 1),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + LOW),
	};
	struct sock_fprog prog = {.len = 5 + NREQUESTS, .filter = f};

	for (unsigned i = 0; i < NREQUESTS; i++)
		f[3 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							requests[i].request, NREQUESTS - i, 0);
	f[3 + NREQUESTS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[4 + NREQUESTS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) {
		perror("a filter for the tool");
		_exit(1);
	}
}

bool aim_request(pid_t guardian, int status, pid_t tid, char *ret_name)
{
	struct ptrace_syscall_info info = {0};

	if (status >> 8 != (SIGTRAP | PTRACE_EVENT_SECCOMP << 8))
		return false;
	syscall(SYS_ptrace, PTRACE_GET_SYSCALL_INFO, guardian, sizeof(info), &info);
	if (info.op != PTRACE_SYSCALL_INFO_SECCOMP || (pid_t)info.seccomp.args[1] != tid)
		return false;
	/* Of register sets the first one alone leads a thread elsewhere. */
	if (info.seccomp.args[0] == PTRACE_SETREGSET && info.seccomp.args[2] != NT_PRSTATUS)
		return false;
	for (unsigned i = 0; i < NREQUESTS; i++)
		if (info.seccomp.args[0] == requests[i].request)
			snprintf(ret_name, 24, "%s", requests[i].name);
	return true;
}
