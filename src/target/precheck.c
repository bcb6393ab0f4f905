/* SPDX-License-Identifier: MIT */
/* Whether a process may be dumped at all, found out before anything is touched. */
#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "src/target/target.h"
#include "src/target/tree.h"
#include "src/target/turn.h"

enum { PF_KTHREAD = 0x00200000 }; /* include/linux/sched.h, unchanged since 2.6.27 */

struct look {
	pid_t pid;
	char comm[32];
	char state;
	unsigned long flags;
	pid_t tgid, ppid, tracer;
	unsigned uid;
	long nthreads;
};

/* The whole of a small /proc file, NUL-terminated; -errno. */
static int slurp(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	n = io_read(fd, buf, size - 1);
	if (n < 0)
		return (int)n;
	buf[n] = '\0';
	return 0;
}

static long status_field(const char *text, const char *key)
{
	const char *p = strstr(text, key);

	return p ? strtol(p + strlen(key), NULL, 10) : 0;
}

/* A process chooses its own name: what a terminal would act on is shown as '?'. */
static void copy_comm(char *ret, size_t size, const char *from, size_t len)
{
	size_t i;

	for (i = 0; i < len && i + 1 < size; i++)
		ret[i] = from[i] < ' ' || from[i] == 0x7f ? '?' : from[i];
	ret[i] = '\0';
}

static int look_at(pid_t pid, struct look *l, struct err *err)
{
	char stat[2048], status[8192];
	char *open_paren, *close_paren;
	int ret;

	memset(l, 0, sizeof(*l));
	l->pid = pid;
	ret = slurp(pid, "stat", stat, sizeof(stat));
	if (ret == 0)
		ret = slurp(pid, "status", status, sizeof(status));
	if (ret == -ENOENT || ret == -ESRCH) {
		err_fail(err, ESRCH, ERR_NO_PROCESS, "pid %d: there is no such process", pid);
		err_hint(err,
			 "look it up with ps or pidof; inside a container pids have other numbers");
		return -ESRCH;
	}
	if (ret < 0)
		return err_set(err, -ret, "pid %d: read /proc/%d/stat", pid, pid);
	open_paren = strchr(stat, '(');
	close_paren = strrchr(stat, ')');
	if (!open_paren || !close_paren ||
	    sscanf(close_paren + 1, " %c %d %*d %*d %*d %*d %lu", &l->state, &l->ppid, &l->flags) !=
		    3)
		return err_set(err, EPROTO, "pid %d: /proc/%d/stat is not as proc(5) says", pid,
			       pid);
	copy_comm(l->comm, sizeof(l->comm), open_paren + 1, (size_t)(close_paren - open_paren - 1));
	l->tgid = (pid_t)status_field(status, "\nTgid:");
	l->tracer = (pid_t)status_field(status, "\nTracerPid:");
	l->uid = (unsigned)status_field(status, "\nUid:");
	l->nthreads = status_field(status, "\nThreads:");
	return 0;
}

static int refuse_kind(const struct look *l, struct err *err)
{
	if (l->flags & PF_KTHREAD) {
		err_fail(err, EINVAL, ERR_KTHREAD,
			 "pid %d (%s) is a kernel thread: it has no memory of its own to dump",
			 l->pid, l->comm);
		err_hint(err, "give the pid of a user process");
		return -EINVAL;
	}
	if (l->tgid != l->pid) {
		err_fail(err, ESRCH, ERR_NO_PROCESS,
			 "%d is a thread (%s) of process %d, not a process", l->pid, l->comm,
			 l->tgid);
		err_hint(err, "dump the whole process: -t %d", l->tgid);
		return -ESRCH;
	}
	if (l->state == 'Z' && l->nthreads > 1) {
		err_fail(
			err, EOPNOTSUPP, ERR_UNSUPPORTED,
			"pid %d (%s): its main thread has exited while %ld others run: not supported",
			l->pid, l->comm, l->nthreads - 1);
		err_hint(err, "nothing helps but a program that keeps its main thread");
		return -EOPNOTSUPP;
	}
	if (l->state == 'Z' || l->state == 'X') {
		err_fail(
			err, ESRCH, ERR_ZOMBIE,
			"pid %d (%s) is a zombie: it has ended already and its parent, pid %d, has not "
			"collected it",
			l->pid, l->comm, l->ppid);
		err_hint(err, "there is nothing left to dump; a tree is dumped from a living root");
		return -ESRCH;
	}
	return 0;
}

static int refuse_ourselves(const struct look *l, struct err *err)
{
	pid_t p = getpid();

	for (int depth = 0; p > 0 && depth < 4096; depth++) {
		struct err ignored = {0};
		struct look up;

		if (p == l->pid) {
			err_fail(err, EINVAL, ERR_UNSUPPORTED,
				 "pid %d (%s) is %s: freezing it would stop the dump itself",
				 l->pid, l->comm,
				 p == getpid() ? "stasis itself" : "an ancestor of stasis");
			err_hint(
				err,
				"start stasis from outside that tree, for example with setsid from "
				"another terminal");
			return -EINVAL;
		}
		if (look_at(p, &up, &ignored) < 0)
			break;
		p = up.ppid;
	}
	return 0;
}

static int refuse_traced(const struct look *l, struct err *err)
{
	struct err ignored = {0};
	struct look tracer;

	if (!l->tracer)
		return 0;
	if (look_at(l->tracer, &tracer, &ignored) < 0)
		snprintf(tracer.comm, sizeof(tracer.comm), "?");
	/* That has not been kept away by its turn: it dumps another tree, or is of elsewhere. */
	if (!strcmp(tracer.comm, GUARD_NAME))
		return turn_busy(l->pid, tracer.comm, l->tracer, err);
	err_fail(err, EPERM, ERR_TRACED,
		 "pid %d (%s) is traced by pid %d (%s): only one tracer is possible", l->pid,
		 l->comm, l->tracer, tracer.comm);
	err_hint(err, "end that debugger or strace, or detach it, then try again");
	return -EPERM;
}

static int refuse_forbidden(const struct look *l, int errnum, struct err *err)
{
	char scope[16] = "";
	cleanup_fd int fd = open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && io_read(fd, scope, sizeof(scope) - 1) < 0)
		scope[0] = '\0';
	err_fail(err, errnum, ERR_PERM,
		 "pid %d (%s) belongs to uid %u and we are uid %u: not allowed to look into it: %s",
		 l->pid, l->comm, l->uid, geteuid(), strerrordesc_np(errnum));
	if (scope[0] > '0')
		err_hint(
			err,
			"run stasis as root or with CAP_SYS_PTRACE (kernel.yama.ptrace_scope is %.1s)",
			scope);
	else
		err_hint(err, "run stasis as root or with CAP_SYS_PTRACE");
	return -errnum;
}

/* No memory, no program: it is on its way out, however alive it looked a moment ago. */
static int refuse_exiting(const struct look *l, struct err *err)
{
	return err_fail(err, ESRCH, ERR_TARGET_GONE, "pid %d (%s) is just exiting", l->pid,
			l->comm);
}

static int refuse_abi(const struct look *l, struct err *err)
{
	const struct arch_desc *host = arch_host();
	unsigned char ident[20];
	char path[64];
	unsigned machine;

	snprintf(path, sizeof(path), "/proc/%d/exe", l->pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return refuse_forbidden(l, errno, err);
	if (fd < 0 && (errno == ENOENT || errno == ESRCH))
		return refuse_exiting(l, err);
	if (fd < 0)
		return err_set(err, errno, "pid %d (%s): open %s", l->pid, l->comm, path);
	if (io_pread(fd, ident, sizeof(ident), 0) != (ssize_t)sizeof(ident) ||
	    memcmp(ident, ELFMAG, SELFMAG) != 0)
		return 0; /* the program may have been overwritten since: the registers will tell */
	machine = ident[EI_DATA] == ELFDATA2MSB ? ident[18] << 8 | ident[19]
						: ident[19] << 8 | ident[18];
	if (ident[EI_CLASS] == host->elf_class && machine == host->elf_machine)
		return 0;
	err_fail(err, EOPNOTSUPP, ERR_ABI,
		 "pid %d (%s) runs a %s-bit program for ELF machine %u: only %s is supported",
		 l->pid, l->comm, ident[EI_CLASS] == ELFCLASS32 ? "32" : "64", machine, host->name);
	err_hint(err, "a 64-bit build of the program can be dumped");
	return -EOPNOTSUPP;
}

static int refuse_memory(const struct look *l, struct err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", l->pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		return 0;
	if (errno == EACCES || errno == EPERM)
		return refuse_forbidden(l, errno, err);
	if (errno == ENOENT || errno == ESRCH)
		return refuse_exiting(l, err);
	return err_set(err, errno, "pid %d (%s): open %s", l->pid, l->comm, path);
}

int target_precheck(pid_t pid, struct err *err)
{
	struct look l;
	int ret = look_at(pid, &l, err);

	if (ret == 0)
		ret = refuse_kind(&l, err);
	if (ret == 0)
		ret = refuse_ourselves(&l, err);
	if (ret == 0)
		ret = turn_look(pid, err);
	if (ret == 0)
		ret = refuse_traced(&l, err);
	if (ret == 0)
		ret = refuse_abi(&l, err);
	if (ret == 0)
		ret = refuse_memory(&l, err);
	return ret;
}
