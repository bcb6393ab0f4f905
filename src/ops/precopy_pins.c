/* SPDX-License-Identifier: MIT */
/* Pre-copy: system calls that write to pages past the page tables. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/ops/precopy_priv.h"

enum {
	/* From pinning to writing, for a call that is not asleep: microseconds. */
	GRACE_US = 2000,
	TRIES = 100,
	MOST_DEPTH = 64,
};

static bool read_text(char *buf, size_t room, const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : io_read(fd, buf, room - 1);

	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static bool is_direct(int pid, unsigned long fd)
{
	char path[64], text[512];
	const char *flags;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%lu", pid, fd);
	if (!read_text(text, sizeof(text), path))
		return false;
	flags = strstr(text, "flags:");
	return flags && strtoul(flags + 6, NULL, 8) & O_DIRECT;
}

/* /proc/PID/task/TID/syscall of a thread that sleeps: "number 0xarg 0xarg ..."; else "running". */
static bool may_write(int pid, const char *text)
{
	char *end;
	long nr = strtol(text, &end, 10);
	unsigned long fd;

	if (end == text || *end != ' ')
		return false;
	fd = strtoul(end, NULL, 16);
	switch (nr) {
	case SYS_process_vm_writev:
		return true;
	case SYS_read:
	case SYS_pread64:
	case SYS_readv:
	case SYS_preadv:
	case SYS_preadv2:
		return is_direct(pid, fd);
	default:
		return false;
	}
}

static bool any_in(int pid, unsigned depth);

static bool any_below(int pid, const char *task, unsigned depth)
{
	char path[64], text[4096];
	const char *p = text;
	char *end;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", pid, task);
	if (depth == MOST_DEPTH || !read_text(text, sizeof(text), path))
		return false;
	for (long child; (child = strtol(p, &end, 10)) > 0 && end != p; p = end)
		if (any_in((int)child, depth + 1))
			return true;
	return false;
}

static bool any_in(int pid, unsigned depth)
{
	char path[64], text[256];
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	cleanup_dir DIR *dir = opendir(path);

	while (dir && (e = readdir(dir))) {
		if (*e->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/syscall", pid, e->d_name);
		if ((read_text(text, sizeof(text), path) && may_write(pid, text)) ||
		    any_below(pid, e->d_name, depth))
			return true;
	}
	return false;
}

bool precopy_await_writers(const struct precopy *p)
{
	const struct timespec grace = {.tv_nsec = GRACE_US * 1000L};

	for (unsigned i = 0; i < TRIES; i++) {
		nanosleep(&grace, NULL);
		if (!any_in(p->opts->pid, 0))
			return true;
	}
	return false;
}
