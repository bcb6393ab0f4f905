/* SPDX-License-Identifier: MIT */
/*
 * Who on this machine has a socket or terminal open: for a look at a tree that runs.
 *
 * While descriptors are listed some are opened and closed. That the other end of one is not among
 * them says little; that somebody outside of the tree has it says all. The list is made once, at
 * the first question, when everything of the tree has been seen.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/procfs.h"
#include "src/target/sockets.h"

#define MASTER (1ull << 63)

uint64_t holders_master(uint32_t index)
{
	return MASTER | index;
}

/* The number behind @key in a text of lines, as fdinfo has it. */
static bool line_number(const char *text, const char *key, uint64_t *ret)
{
	const char *p = strstr(text, key);

	if (!p || (p != text && p[-1] != '\n'))
		return false;
	p += strlen(key);
	p += strspn(p, " \t");
	return procfs_dec(&p, ret);
}

bool holders_tty_index(const char *fdinfo, uint32_t *ret)
{
	uint64_t v;

	if (!line_number(fdinfo, "tty-index:", &v) || v > UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

uint64_t holders_in_flight(const char *fdinfo)
{
	uint64_t v;

	return line_number(fdinfo, "scm_fds:", &v) ? v : 0;
}

static uint64_t key_of(pid_t pid, const char *fd, const char *link)
{
	size_t len = strlen(link);
	char info[512];
	const char *p = link + 8;
	uint64_t ino;
	uint32_t index;

	if (!strncmp(link, "socket:[", 8))
		return procfs_dec(&p, &ino) ? ino : 0;
	if (len < 5 || strcmp(link + len - 5, "/ptmx") != 0)
		return 0;
	if (procfs_read(info, sizeof(info), "/proc/%d/fdinfo/%s", pid, fd) < 0 ||
	    !holders_tty_index(info, &index))
		return 0;
	return holders_master(index);
}

static int list_process(struct files *f, pid_t pid)
{
	char path[32], link[256];
	struct dirent *de;
	int ret = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	cleanup_dir DIR *dir = opendir(path);

	while (ret == 0 && dir && (de = readdir(dir))) {
		ssize_t n = *de->d_name == '.'
				    ? -1
				    : readlinkat(dirfd(dir), de->d_name, link, sizeof(link) - 1);
		uint64_t key;

		if (n <= 0)
			continue;
		link[n] = '\0';
		key = key_of(pid, de->d_name, link);
		if (key)
			ret = idmap_put(&f->by_holder, key, (uint32_t)pid);
	}
	return ret;
}

static int list_all(struct files *f)
{
	cleanup_dir DIR *dir = opendir("/proc");
	struct dirent *de;
	int ret = 0;

	if (!dir)
		return -errno;
	while (ret == 0 && (de = readdir(dir))) {
		pid_t pid = (pid_t)strtol(de->d_name, NULL, 10);

		if (pid > 0 && pid != getpid())
			ret = list_process(f, pid);
	}
	return ret;
}

/* Also one that was born since the tree was listed. */
static bool in_tree(const struct files *f, pid_t pid)
{
	enum { MAX_DEPTH = 64 };
	struct procfs_stat st;

	for (unsigned i = 0; i < MAX_DEPTH && pid > 0; i++) {
		if (model_proc(f->m, (uint32_t)pid))
			return true;
		if (procfs_stat(pid, 0, &st) < 0)
			return false;
		pid = st.ppid;
	}
	return false;
}

enum holder { HOLDER_NOBODY, HOLDER_TREE, HOLDER_OTHER };

/* Of many that have it, one in the tree counts. */
static int holder_of(struct files *f, uint64_t key, enum holder *ret_who, pid_t *ret_pid)
{
	enum holder who = HOLDER_NOBODY;
	uint32_t pid;
	size_t pos;

	if (!f->holders_listed) {
		int ret = list_all(f);

		if (ret < 0)
			return ret;
		f->holders_listed = true;
	}
	pos = idmap_start(&f->by_holder, key);
	while (who != HOLDER_TREE && idmap_next(&f->by_holder, key, &pos, &pid)) {
		who = in_tree(f, (pid_t)pid) ? HOLDER_TREE : HOLDER_OTHER;
		*ret_pid = (pid_t)pid;
	}
	*ret_who = who;
	return 0;
}

bool holders_outside(struct files *f, uint64_t key, bool nobody, char ret_text[HOLDER_TEXT])
{
	enum holder who = HOLDER_NOBODY;
	struct procfs_stat st = {0};
	pid_t pid = 0;

	*ret_text = '\0';
	if (holder_of(f, key, &who, &pid) < 0 || who == HOLDER_TREE)
		return false;
	/* It may be on its way from one process to another. */
	if (who == HOLDER_NOBODY)
		return nobody && !f->in_flight;
	if (procfs_stat(pid, 0, &st) < 0)
		return false;
	snprintf(ret_text, HOLDER_TEXT, " of pid %d (%s)", pid, st.comm);
	return true;
}
