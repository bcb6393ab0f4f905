/* SPDX-License-Identifier: MIT */
/* What threads of a process share: limits, memory layout, directories, personality and the like. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/procfs.h"
#include "src/target/put.h"
#include "src/target/put_list.h"

enum {
	/* MEMBARRIER_CMD_REGISTER_*, GLOBAL_EXPEDITED to PRIVATE_EXPEDITED_RSEQ */
	MEMBARRIERS = 1 << 2 | 1 << 4 | 1 << 6 | 1 << 8,
	PERSONALITY_ASK = 0xffffffff,
	SET_MDWE = 65,		     /* Linux 6.3 */
	SET_MEMORY_MERGE = 67,	     /* 6.4 */
	THP_EXCEPT_ADVISED = 1 << 1, /* 6.18 */
};

static struct list list;

static int run(struct remote *r, struct err *err)
{
	return list_run(&list, r, r->first, err);
}

static struct list_call *add_prctl(uint64_t option, uint64_t value, const char *what)
{
	struct list_call *c = list_add(&list, SYS_prctl, option, what);

	c->args[1] = value;
	return c;
}

/* --- limits ----------------------------------------------------------------------------------- */

static const char *const limit_names[M_NRLIMITS] = {
	"CPU",	   "FSIZE", "DATA",  "STACK",	   "CORE",     "RSS",  "NPROC",	 "NOFILE",
	"MEMLOCK", "AS",    "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
};

/* Nobody has all of them at 0: such an image was made without asking. */
static bool limits_known(const struct m_proc *p)
{
	for (unsigned i = 0; i < M_NRLIMITS; i++)
		if (p->rlimits[i].cur || p->rlimits[i].max)
			return true;
	return false;
}

static int read_limits(struct remote *r, struct m_rlimit has[M_NRLIMITS], struct err *err)
{
	list_begin(&list);
	for (unsigned i = 0; i < M_NRLIMITS; i++) {
		struct list_call *c = list_add(&list, SYS_prlimit64, 0, "read a limit");

		c->args[1] = i;
		list_take(c, 3, &has[i], sizeof(has[i]));
	}
	return run(r, err);
}

static int set_limits(struct remote *r, const struct m_rlimit has[M_NRLIMITS],
		      const struct m_rlimit want[M_NRLIMITS], struct err *err)
{
	unsigned which[M_NRLIMITS], n = 0;
	int ret;

	list_begin(&list);
	for (unsigned i = 0; i < M_NRLIMITS; i++) {
		struct list_call *c;

		if (has[i].cur == want[i].cur && has[i].max == want[i].max)
			continue;
		which[n++] = i;
		c = list_add(&list, SYS_prlimit64, 0, "set a limit");
		c->args[1] = i;
		list_give(c, 2, &want[i], sizeof(want[i]));
		c->may_fail = true;
	}
	ret = run(r, err);
	for (unsigned k = 0; ret == 0 && k < n; k++) {
		unsigned i = which[k];

		if (list.calls[k].ret >= 0)
			continue;
		ret = err_set(err, (int)-list.calls[k].ret,
			      "set RLIMIT_%s of process %d to %" PRIu64 " (hard: %" PRIu64
			      "), which is %" PRIu64 " (hard: %" PRIu64 ")",
			      limit_names[i], r->proc->pid, want[i].cur, want[i].max, has[i].cur,
			      has[i].max);
		if (list.calls[k].ret == -EPERM)
			err_hint(err,
				 "raising a hard limit needs CAP_SYS_RESOURCE; or raise it for "
				 "the shell that restores");
	}
	return ret;
}

static uint64_t higher(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

int put_limits_raise(struct remote *r, const struct m_proc *p, struct err *err)
{
	static struct m_rlimit has[M_NRLIMITS], want[M_NRLIMITS];
	int ret = limits_known(p) ? read_limits(r, has, err) : 0;

	if (ret < 0 || !limits_known(p))
		return ret;
	for (unsigned i = 0; i < M_NRLIMITS; i++) {
		want[i].max = higher(has[i].max, p->rlimits[i].max);
		want[i].cur = higher(has[i].cur, p->rlimits[i].cur);
	}
	return set_limits(r, has, want, err);
}

int put_limits_lower(struct remote *r, const struct m_proc *p, struct err *err)
{
	static struct m_rlimit has[M_NRLIMITS];
	int ret = limits_known(p) ? read_limits(r, has, err) : 0;

	return ret < 0 || !limits_known(p) ? ret : set_limits(r, has, p->rlimits, err);
}

/* --- switches --------------------------------------------------------------------------------- */

int put_thp(struct remote *r, const struct m_proc *p, struct err *err)
{
	struct list_call *c;
	int ret;

	list_begin(&list);
	c = add_prctl(PR_SET_THP_DISABLE, p->mm.thp_disabled, "switch transparent huge pages");
	c->args[2] = p->mm.thp_except_advised ? THP_EXCEPT_ADVISED : 0;
	c->may_fail = p->mm.thp_except_advised;
	ret = run(r, err);
	if (ret < 0 || c->ret >= 0)
		return ret;
	return err_fail(err, EINVAL, ERR_UNSUPPORTED,
			"process %u has transparent huge pages where it asked for them only: this "
			"kernel does not know that (Linux 6.18)",
			p->pid);
}

int put_process(struct remote *r, const struct m_proc *p, struct err *err)
{
	if (p->personality == PERSONALITY_ASK)
		return err_fail(err, EBADMSG, ERR_IMAGE, "process %u: personality %#x", p->pid,
				p->personality);
	if (p->membarrier & ~(uint64_t)MEMBARRIERS)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"process %u: membarrier registrations %#" PRIx64 " are not known",
				p->pid, p->membarrier);
	list_begin(&list);
	list_add(&list, SYS_umask, p->umask & 0777, "set the umask");
	list_add(&list, SYS_personality, p->personality, "set the personality");
	add_prctl(PR_SET_CHILD_SUBREAPER, p->child_subreaper, "set the child subreaper");
	for (uint64_t bit = 1; bit <= MEMBARRIERS; bit <<= 1)
		if (p->membarrier & bit)
			list_add(&list, SYS_membarrier, bit, "register for membarrier");
	if (p->memory_merge)
		add_prctl(SET_MEMORY_MERGE, 1, "have equal pages merged");
	if (p->mlock_future)
		list_add(&list, SYS_mlockall, MCL_FUTURE | (p->mlock_onfault ? MCL_ONFAULT : 0),
			 "have future memory locked");
	if (p->mdwe)
		add_prctl(SET_MDWE, p->mdwe, "refuse memory that is writable and executable");
	return run(r, err);
}

/* --- memory layout ---------------------------------------------------------------------------- */

int put_mm(struct remote *r, const struct m_proc *p, int exe_fd, struct err *err)
{
	static struct prctl_mm_map map;
	const struct m_mm *mm = &p->mm;
	size_t auxv_len = mm->nauxv * sizeof(*mm->auxv);
	struct list_call *c;
	int ret;

	/* More than any kernel takes, and no overflow below. */
	if (mm->nauxv > 1024)
		return err_fail(err, EBADMSG, ERR_IMAGE, "process %u: %u words of auxv", p->pid,
				mm->nauxv);
	map = (struct prctl_mm_map){
		.start_code = mm->start_code,
		.end_code = mm->end_code,
		.start_data = mm->start_data,
		.end_data = mm->end_data,
		.start_brk = mm->start_brk,
		.brk = mm->brk,
		.start_stack = mm->start_stack,
		.arg_start = mm->arg_start,
		.arg_end = mm->arg_end,
		.env_start = mm->env_start,
		.env_end = mm->env_end,
		.auxv_size = (uint32_t)auxv_len,
		.exe_fd = (uint32_t)exe_fd,
	};
	list_begin(&list);
	c = add_prctl(PR_SET_MM, PR_SET_MM_MAP, "set the memory layout");
	list_give(c, 2, &map, sizeof(map));
	if (auxv_len)
		list_give_inside(c, offsetof(struct prctl_mm_map, auxv), mm->auxv, auxv_len);
	c->args[3] = sizeof(map);
	c->may_fail = true;
	ret = run(r, err);
	if (ret < 0 || c->ret >= 0)
		return ret;
	err_set(err, (int)-c->ret,
		"set the memory layout of process %u (code %#" PRIx64 "-%#" PRIx64
		", heap %#" PRIx64 "-%#" PRIx64 ", executable %s)",
		p->pid, mm->start_code, mm->end_code, mm->start_brk, mm->brk,
		exe_fd < 0 ? "kept" : "changed");
	if (c->ret == -EPERM)
		err_hint(err, "changing the executable needs CAP_CHECKPOINT_RESTORE or "
			      "CAP_SYS_ADMIN");
	if (c->ret == -EBUSY)
		err_hint(err, "the executable of before is still mapped");
	return (int)c->ret;
}

/* --- directories ------------------------------------------------------------------------------ */

int put_directories(struct remote *r, int cwd_fd, int root_fd, struct err *err)
{
	static const char here[] = ".";

	list_begin(&list);
	if (root_fd >= 0) {
		list_add(&list, SYS_fchdir, (uint64_t)root_fd, "enter the root directory");
		list_give(list_add(&list, SYS_chroot, 0, "set the root directory"), 0, here,
			  sizeof(here));
	}
	if (cwd_fd >= 0)
		list_add(&list, SYS_fchdir, (uint64_t)cwd_fd, "enter the working directory");
	return run(r, err);
}

/* --- files of /proc --------------------------------------------------------------------------- */

static bool same_number(pid_t pid, const char *name, int64_t want)
{
	char text[32];

	return procfs_read(text, sizeof(text), "/proc/%d/%s", pid, name) > 0 &&
	       strtoll(text, NULL, 10) == want;
}

int put_oom_score(const struct m_proc *p, struct err *err)
{
	char path[64], text[16];
	int len = snprintf(text, sizeof(text), "%d", p->oom_score_adj), errnum;

	if (same_number((pid_t)p->pid, "oom_score_adj", p->oom_score_adj))
		return 0;
	snprintf(path, sizeof(path), "/proc/%u/oom_score_adj", p->pid);
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, (size_t)len) == len)
		return 0;
	errnum = errno;
	err_set(err, errnum, "set oom_score_adj of process %u to %d", p->pid, p->oom_score_adj);
	if (errnum == EACCES || errnum == EPERM)
		err_hint(err, "lowering it needs CAP_SYS_RESOURCE");
	return -errnum;
}

int put_coredump_filter(const struct m_proc *p, struct err *err)
{
	char path[64], text[16];
	int len = snprintf(text, sizeof(text), "%#x", p->coredump_filter);

	if (!p->has_coredump_filter)
		return 0;
	snprintf(path, sizeof(path), "/proc/%u/coredump_filter", p->pid);
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, (size_t)len) == len)
		return 0;
	return err_set(err, errno, "set the core dump filter of process %u to %s", p->pid, text);
}

int put_loginuid(struct remote *r, const struct m_proc *p, struct err *err)
{
	static const char path[] = "/proc/self/loginuid";
	static char text[16];
	struct list_call *c;
	uint64_t fd;
	int ret;

	/* Kernels without audit have no such file. */
	if (access("/proc/self/loginuid", F_OK) < 0 ||
	    same_number((pid_t)p->pid, "loginuid", p->loginuid))
		return 0;
	/* A task writes its own only. */
	list_begin(&list);
	c = list_add(&list, SYS_openat, (uint64_t)AT_FDCWD, "open loginuid");
	list_give(c, 1, path, sizeof(path));
	c->args[2] = O_WRONLY | O_CLOEXEC;
	ret = run(r, err);
	if (ret < 0)
		return ret;
	fd = (uint64_t)c->ret;
	snprintf(text, sizeof(text), "%u", p->loginuid);
	list_begin(&list);
	c = list_add(&list, SYS_write, fd, "set loginuid");
	list_give(c, 1, text, sizeof(text));
	c->args[2] = strlen(text);
	c->may_fail = true;
	list_add(&list, SYS_close, fd, "close loginuid");
	ret = run(r, err);
	if (ret < 0 || c->ret >= 0)
		return ret;
	err_set(err, (int)-c->ret, "set loginuid of process %u to %u", p->pid, p->loginuid);
	if (c->ret == -EPERM)
		err_hint(err, "changing it needs CAP_AUDIT_CONTROL");
	return (int)c->ret;
}
