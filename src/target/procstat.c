/* SPDX-License-Identifier: MIT */
/* What /proc tells of a process as a whole. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "src/target/collect.h"
#include "src/target/procfs.h"
#include "src/target/proctext.h"
#include "src/target/timers.h"

static bool is_dead(char state)
{
	return state == 'Z' || state == 'X' || state == 'x';
}

pid_t proc_viewer(pid_t pid)
{
	struct procfs_stat st;
	struct dirent *de;
	char path[32];
	int ret = procfs_stat(pid, 0, &st);

	if (ret < 0)
		return ret == -ENOENT ? -ESRCH : ret;
	if (!is_dead(st.state))
		return pid;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	cleanup_dir DIR *dir = opendir(path);

	while (dir && (de = readdir(dir))) {
		pid_t tid = (pid_t)strtol(de->d_name, NULL, 10);

		if (tid > 0 && tid != pid && procfs_stat(pid, tid, &st) == 0 && !is_dead(st.state))
			return tid;
	}
	return 0;
}

void proc_namespaces(pid_t pid, struct m_ns *ret)
{
	struct m_ns ns = {0};
	const struct {
		const char *name;
		uint64_t *ino;
	} links[] = {
		{"pid", &ns.pid}, {"net", &ns.net},   {"ipc", &ns.ipc},	      {"uts", &ns.uts},
		{"mnt", &ns.mnt}, {"user", &ns.user}, {"cgroup", &ns.cgroup}, {"time", &ns.time},
	};

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		char text[64];
		const char *p;
		ssize_t n =
			pid ? procfs_link(text, sizeof(text), "/proc/%d/ns/%s", pid, links[i].name)
			    : procfs_link(text, sizeof(text), "/proc/self/ns/%s", links[i].name);

		p = n < 0 ? NULL : strchr(text, '[');
		if (!p++ || !procfs_dec(&p, links[i].ino))
			*links[i].ino = 0;
	}
	*ret = ns;
}

/* "1 2 3 ": into the free places, and how many there are. */
static int children_parse(const char *p, pid_t *pids, int have, int max)
{
	int n = 0;
	uint64_t v;

	while (procfs_dec(&p, &v)) {
		if (have + n < max)
			pids[have + n] = (pid_t)v;
		n++;
	}
	return n;
}

int proc_children(pid_t pid, pid_t *pids, int max)
{
	struct proctext t = {0};
	struct dirent *de;
	char path[64];
	int have = 0, ret = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	cleanup_dir DIR *dir = opendir(path);

	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while (ret == 0 && (de = readdir(dir))) {
		ssize_t n;

		if (*de->d_name < '0' || *de->d_name > '9')
			continue;
		snprintf(path, sizeof(path), "%.20s/children", de->d_name);
		n = proctext_read(&t, dirfd(dir), path);
		if (n >= 0)
			have += children_parse(t.data, pids, have, max);
		else if (n != -ESRCH && faccessat(dirfd(dir), de->d_name, F_OK, 0) == 0)
			ret = (int)n;
	}
	proctext_deinit(&t);
	return ret < 0 ? ret : have;
}

/* One process while it is read. */
struct procstat {
	struct model *m;
	struct m_proc *p;
	int dir; /* /proc/PID */
	struct proctext text;
};

static int stat_read(struct procstat *s, struct err *err)
{
	struct m_proc *p = s->p;
	struct procfs_stat st;
	ssize_t n = proctext_read(&s->text, s->dir, "stat");
	int ret = n < 0 ? (int)n : procfs_parse_stat(s->text.data, &st);

	if (ret < 0)
		return err_set(err, ret == -ENOENT ? ESRCH : -ret, "stat of pid %u", p->pid);
	p->ppid = (uint32_t)st.ppid;
	p->pgid = (uint32_t)st.pgid;
	p->sid = (uint32_t)st.sid;
	p->pf_flags = st.flags;
	p->start_time = st.start_time;
	p->exit_signal = st.exit_signal;
	/* A dead main thread whose siblings live is no zombie yet. */
	if (is_dead(st.state) && proc_viewer((pid_t)p->pid) <= 0)
		p->state = M_DEAD;
	else if (!p->state)
		p->state = st.state == 'T' ? M_STOPPED : M_ALIVE;
	if (p->state == M_DEAD)
		p->exit_code = st.exit_code;
	return 0;
}

/* comm may hold anything but NUL, also newlines: the last one is the kernel's. */
static void comm_read(struct procstat *s)
{
	ssize_t n = proctext_read(&s->text, s->dir, "comm");

	if (n <= 0)
		return;
	n -= s->text.data[n - 1] == '\n';
	if (n > (ssize_t)sizeof(s->p->comm) - 1)
		n = sizeof(s->p->comm) - 1;
	memcpy(s->p->comm, s->text.data, (size_t)n);
	s->p->comm[n] = '\0';
}

static int cmdline_read(struct procstat *s, struct err *err)
{
	ssize_t n = proctext_read(&s->text, s->dir, "cmdline");
	char *text = s->text.data;

	if (n < 0)
		n = 0;
	while (n && !text[n - 1])
		n--;
	for (ssize_t i = 0; i < n; i++)
		if (!text[i])
			text[i] = ' ';
	s->p->cmdline = model_strdup(s->m, n ? text : "");
	return s->p->cmdline ? 0 : err_set(err, ENOMEM, "arguments of pid %u", s->p->pid);
}

static int cgroups_read(struct procstat *s, struct err *err)
{
	if (proctext_read(&s->text, s->dir, "cgroup") < 0)
		return 0;
	s->p->cgroups = model_strdup(s->m, s->text.data);
	return s->p->cgroups ? 0 : err_set(err, ENOMEM, "cgroups of pid %u", s->p->pid);
}

static int status_read(struct procstat *s, struct err *err)
{
	struct procfs_status st;

	if (proctext_read(&s->text, s->dir, "status") < 0 ||
	    procfs_parse_status(s->text.data, &st) < 0)
		return 0;
	s->p->umask = st.umask;
	if (procfs_masks_addresses(&st, arch_host()->elf_machine) &&
	    finding_fatal(s->m, s->p->pid,
			  "linear address masking (LAM, ARCH_ENABLE_TAGGED_ADDR): not supported") <
		    0)
		return err_set(err, ENOMEM, "findings of pid %u", s->p->pid);
	return 0;
}

static void numbers_read(struct procstat *s)
{
	const char *p;
	uint64_t v;

	if (proctext_read(&s->text, s->dir, "personality") > 0) {
		p = s->text.data;
		if (procfs_hex(&p, &v))
			s->p->personality = (uint32_t)v;
	}
	if (proctext_read(&s->text, s->dir, "oom_score_adj") > 0)
		s->p->oom_score_adj = (int32_t)strtol(s->text.data, NULL, 10);
	if (proctext_read(&s->text, s->dir, "coredump_filter") > 0) {
		p = s->text.data;
		s->p->has_coredump_filter = procfs_hex(&p, &v);
		s->p->coredump_filter = s->p->has_coredump_filter ? (uint32_t)v : 0;
	}
	/* Without CONFIG_AUDIT: not set. */
	s->p->loginuid = UINT32_MAX;
	if (proctext_read(&s->text, s->dir, "loginuid") > 0) {
		p = s->text.data;
		if (procfs_dec(&p, &v))
			s->p->loginuid = (uint32_t)v;
	}
}

static int timers_read(struct procstat *s, struct err *err)
{
	/* Not there without CONFIG_CHECKPOINT_RESTORE: kernel.c tells. */
	if (proctext_read(&s->text, s->dir, "timers") <= 0)
		return 0;
	if (timers_parse(s->m, s->text.data, s->p) < 0)
		return err_set(err, ENOMEM, "timers of pid %u", s->p->pid);
	return 0;
}

static int procstat_read(struct procstat *s, struct err *err)
{
	int ret = stat_read(s, err);

	if (ret < 0)
		return ret;
	comm_read(s);
	if (s->p->state == M_DEAD)
		return 0;
	ret = status_read(s, err);
	numbers_read(s);
	if (ret == 0)
		ret = cmdline_read(s, err);
	if (ret == 0)
		ret = cgroups_read(s, err);
	if (ret == 0)
		ret = timers_read(s, err);
	return ret;
}

static bool has_cgroup_finding(const struct model *m)
{
	for (uint32_t i = 0; i < m->nfindings; i++)
		if (!strncmp(m->findings[i].text, "cgroup ", 7))
			return true;
	return false;
}

/* The tool's own is where a restore leaves it. Said once. */
static int foreign_cgroup(struct model *m, const struct m_proc *p, struct err *err)
{
	static char own[4096];
	size_t same = 0, start = 0;

	if (!*own && procfs_read(own, sizeof(own), "/proc/self/cgroup") <= 0)
		return 0;
	if (!p->cgroups || !strcmp(own, p->cgroups) || has_cgroup_finding(m))
		return 0;
	for (; own[same] && own[same] == p->cgroups[same]; same++)
		if (own[same] == '\n')
			start = same + 1;
	return finding_add(m, p->pid,
			   "cgroup %.*s is not carried: a restore leaves the tree in the tool's",
			   (int)strcspn(p->cgroups + start, "\n"), p->cgroups + start) < 0
		       ? err_set(err, ENOMEM, "findings of pid %u", p->pid)
		       : 0;
}

/* A restore makes none: the tree would come to life in those of the tool. */
static int foreign_namespaces(struct model *m, const struct m_proc *p, struct err *err)
{
	const struct {
		const char *name;
		uint64_t own, tool;
	} ns[] = {
		{"pid", p->ns.pid, m->tool_ns.pid},	     {"mount", p->ns.mnt, m->tool_ns.mnt},
		{"network", p->ns.net, m->tool_ns.net},	     {"ipc", p->ns.ipc, m->tool_ns.ipc},
		{"uts", p->ns.uts, m->tool_ns.uts},	     {"user", p->ns.user, m->tool_ns.user},
		{"cgroup", p->ns.cgroup, m->tool_ns.cgroup}, {"time", p->ns.time, m->tool_ns.time},
	};

	for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++)
		if (ns[i].own && ns[i].tool && ns[i].own != ns[i].tool &&
		    finding_fatal(m, p->pid, "%s namespace of its own: not supported", ns[i].name) <
			    0)
			return err_set(err, ENOMEM, "findings of pid %u", p->pid);
	return 0;
}

/* What unshare() has put aside for the children; the link of one that nobody is in yet leads
 * nowhere. */
static int childrens_namespaces(struct model *m, const struct m_proc *p, pid_t viewer,
				struct err *err)
{
	const struct {
		const char *name, *what;
		uint64_t own;
	} ns[] = {{"pid_for_children", "pid", p->ns.pid},
		  {"time_for_children", "time", p->ns.time}};

	for (size_t i = 0; i < sizeof(ns) / sizeof(ns[0]); i++) {
		char text[64];
		const char *at;
		uint64_t ino = 0;

		if (!ns[i].own ||
		    procfs_link(text, sizeof(text), "/proc/self/ns/%s", ns[i].name) <= 0)
			continue;
		at = procfs_link(text, sizeof(text), "/proc/%d/ns/%s", viewer, ns[i].name) < 0
			     ? NULL
			     : strchr(text, '[');
		if (at++ && procfs_dec(&at, &ino) && ino == ns[i].own)
			continue;
		if (!at && procfs_read(text, sizeof(text), "/proc/%d/stat", viewer) <= 0)
			continue; /* gone */
		if (finding_fatal(m, p->pid,
				  "%s namespace of its own for its children: not supported",
				  ns[i].what) < 0)
			return err_set(err, ENOMEM, "findings of pid %u", p->pid);
	}
	return 0;
}

int proc_collect(struct model *m, struct m_proc *p, struct err *err)
{
	struct procstat s = {.m = m, .p = p};
	char path[32];
	pid_t viewer;
	int ret;

	snprintf(path, sizeof(path), "/proc/%u", p->pid);
	s.dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s.dir < 0)
		return err_set(err, errno == ENOENT ? ESRCH : errno, "open %s", path);
	ret = procstat_read(&s, err);
	close(s.dir);
	proctext_deinit(&s.text);
	viewer = ret == 0 && p->state != M_DEAD ? proc_viewer((pid_t)p->pid) : 0;
	if (viewer > 0)
		proc_namespaces(viewer, &p->ns);
	/* A main thread that has exited is in the root of all. */
	if (ret == 0 && viewer == (pid_t)p->pid)
		ret = foreign_cgroup(m, p, err);
	if (ret == 0 && viewer > 0)
		ret = childrens_namespaces(m, p, viewer, err);
	return ret < 0 ? ret : foreign_namespaces(m, p, err);
}
