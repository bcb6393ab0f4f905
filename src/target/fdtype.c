/* SPDX-License-Identifier: MIT */
/* What kind of thing a file descriptor is, from its link, its inode and its flags. */
#include "src/target/fdtype.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "src/target/files.h"

/* What /proc/tty/drivers of any Linux begins with: consoles, serial lines, /dev/tty, ptys. */
static const struct tty_range tty_default[] = {
	{4, 0, 255}, {5, 0, 2}, {128, 0, UINT32_MAX}, {136, 0, UINT32_MAX}};

/* "pty_slave            /dev/pts      136 0-1048575 pty:slave": the name may hold a space. */
static bool tty_line(const char *line, struct tty_range *ret)
{
	const char *p = strstr(line, " /dev/");
	uint64_t major, first, last;

	if (!p)
		return false;
	p += strcspn(p + 1, " \t") + 1;
	if (!procfs_dec(&p, &major) || !procfs_dec(&p, &first))
		return false;
	last = first;
	if (*p == '-') {
		p++;
		if (!procfs_dec(&p, &last))
			return false;
	}
	*ret = (struct tty_range){(uint32_t)major, (uint32_t)first, (uint32_t)last};
	return true;
}

void fdtype_init(struct files *f)
{
	struct procfs_lines l;
	char buf[4096], *line;

	memcpy(f->ttys, tty_default, sizeof(tty_default));
	f->nttys = sizeof(tty_default) / sizeof(tty_default[0]);
	if (procfs_lines_open(&l, buf, sizeof(buf), "/proc/tty/drivers") < 0)
		return;
	while (f->nttys < TTY_RANGES_MAX && (line = procfs_lines_next(&l)))
		if (tty_line(line, &f->ttys[f->nttys]))
			f->nttys++;
	procfs_lines_close(&l);
}

static bool is_tty(const struct files *f, const struct statx *stx)
{
	for (uint32_t i = 0; i < f->nttys; i++)
		if (f->ttys[i].major == stx->stx_rdev_major &&
		    f->ttys[i].first <= stx->stx_rdev_minor &&
		    f->ttys[i].last >= stx->stx_rdev_minor)
			return true;
	return false;
}

static enum m_file_type type_of_device(const struct files *f, const struct statx *stx,
				       const char **ret_lost)
{
	enum { MAJOR_MEM = 1, MAJOR_MISC = 10, MINOR_TUN = 200 };

	if (is_tty(f, stx))
		return M_FILE_TTY;
	if (stx->stx_rdev_major == MAJOR_MISC && stx->stx_rdev_minor == MINOR_TUN)
		return M_FILE_TUN;
	/* null, zero, full, random: nothing behind them. */
	if (stx->stx_rdev_major != MAJOR_MEM)
		*ret_lost = "device";
	return M_FILE_REG;
}

static enum m_file_type type_of_path(const struct files *f, const char *link,
				     const struct statx *stx, uint32_t flags, const char **ret_lost)
{
	if (flags & O_PATH)
		return M_FILE_REG;
	if (segment_fs_find(f, statx_dev(stx)))
		return M_FILE_MEMFD;
	switch (stx->stx_mode & S_IFMT) {
	case S_IFIFO:
		return M_FILE_FIFO;
	case S_IFCHR:
		return type_of_device(f, stx, ret_lost);
	case S_IFREG:
	case S_IFDIR:
	case S_IFBLK:
	case S_IFLNK:
		if (!strcmp(link, "/secretmem (deleted)") || !strncmp(link, "/dmabuf:", 8)) {
			*ret_lost = "kernel memory object";
			return M_FILE_EXT;
		}
		return M_FILE_REG;
	default:
		*ret_lost = "file of a kind not known";
		return M_FILE_EXT;
	}
}

/* Those without a row are of no kind that CRIU's images know. */
static const struct {
	const char *name;
	enum m_file_type type;
	const char *lost;
} anon_types[] = {
	{"[eventfd]", M_FILE_EVENTFD, NULL},
	{"[eventpoll]", M_FILE_EVENTPOLL, NULL},
	{"inotify", M_FILE_INOTIFY, NULL},
	{"[signalfd]", M_FILE_SIGNALFD, NULL},
	{"[timerfd]", M_FILE_TIMERFD, NULL},
	{"[pidfd]", M_FILE_PIDFD, NULL},
	{"[fanotify]", M_FILE_FANOTIFY, "fanotify group"},
	{"bpf-map", M_FILE_BPFMAP, "BPF map"},
	{"bpf-prog", M_FILE_EXT, "BPF program"},
	{"[io_uring]", M_FILE_EXT, "io_uring instance"},
	{"[perf_event]", M_FILE_EXT, "perf event"},
	{"[userfaultfd]", M_FILE_EXT, "userfaultfd"},
};

static enum m_file_type type_of_anon(const char *name, const char **ret_lost)
{
	for (size_t i = 0; i < sizeof(anon_types) / sizeof(anon_types[0]); i++) {
		if (strcmp(name, anon_types[i].name) != 0)
			continue;
		*ret_lost = anon_types[i].lost;
		return anon_types[i].type;
	}
	*ret_lost = "kernel object";
	return M_FILE_EXT;
}

static bool is_ns(const char *link)
{
	static const char *const names[] = {"cgroup:[", "ipc:[",  "mnt:[",  "net:[",
					    "pid:[",	"time:[", "user:[", "uts:["};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strncmp(link, names[i], strlen(names[i])))
			return true;
	return false;
}

enum m_file_type fdtype_of(const struct files *f, const char *link, const struct statx *stx,
			   uint32_t flags, const char **ret_lost)
{
	*ret_lost = NULL;
	if (*link == '/' || !strncmp(link, "(unreachable)", 13))
		return type_of_path(f, link, stx, flags, ret_lost);
	if (!strncmp(link, "pipe:[", 6))
		return M_FILE_PIPE;
	if (!strncmp(link, "socket:[", 8))
		return M_FILE_UND;
	if (!strncmp(link, "anon_inode:", 11))
		return type_of_anon(link + 11, ret_lost);
	/* Linux 6.9 and 6.10 */
	if (!strncmp(link, "pidfd:[", 7))
		return M_FILE_PIDFD;
	if (is_ns(link))
		return M_FILE_NS;
	*ret_lost = "file of a kind not known";
	return M_FILE_EXT;
}

static enum m_file_type type_of_domain(int domain)
{
	switch (domain) {
	case AF_INET:
	case AF_INET6:
		return M_FILE_INETSK;
	case AF_UNIX:
		return M_FILE_UNIXSK;
	case AF_NETLINK:
		return M_FILE_NETLINKSK;
	case AF_PACKET:
		return M_FILE_PACKETSK;
	default:
		return M_FILE_EXT;
	}
}

/* sockfs has the name of the protocol as an extended attribute; good enough without pidfd_getfd. */
static enum m_file_type type_of_protocol(const char *name)
{
	static const struct {
		const char *name;
		int domain;
	} protocols[] = {
		{"TCP", AF_INET},  {"UDP", AF_INET},	    {"RAW", AF_INET},
		{"PING", AF_INET}, {"MPTCP", AF_INET},	    {"SCTP", AF_INET},
		{"UNIX", AF_UNIX}, {"NETLINK", AF_NETLINK}, {"PACKET", AF_PACKET},
	};

	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (!strncmp(name, protocols[i].name, strlen(protocols[i].name)))
			return type_of_domain(protocols[i].domain);
	return M_FILE_EXT;
}

/* fgetxattr() takes no O_PATH descriptor, but a path through one will do. */
static bool protocol_name(int dirfd, const char *path, char ret[33])
{
	char full[64];
	ssize_t n;

	snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", dirfd, path);
	n = getxattr(full, "system.sockprotoname", ret, 32);
	ret[n < 0 ? 0 : n] = '\0';
	return n > 0;
}

bool fdtype_inet_known(int dirfd, const char *path)
{
	static const char *const names[] = {"TCP", "UDP", "RAW", "PING"};
	char name[33];

	if (!protocol_name(dirfd, path, name))
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return false;
}

enum m_file_type fdtype_socket(int dup, int dirfd, const char *path)
{
	char name[33];
	int domain;
	socklen_t len = sizeof(domain);

	if (dup >= 0 && getsockopt(dup, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0)
		return type_of_domain(domain);
	if (!protocol_name(dirfd, path, name))
		return M_FILE_EXT;
	return type_of_protocol(name);
}
