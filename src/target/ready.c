/* SPDX-License-Identifier: MIT */
/* Files of threads below /proc, opened before anybody stands still. */
#include "src/target/ready.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/idmap.h"
#include "src/target/procfs.h"

enum {
	MOST_THREADS = 16384,
	SPARE = 4352 /* descriptors for everything else, userfaultfds first */
};

static const char *const names[READY_FILES] = {
	[READY_CHILDREN] = "children",
	[READY_STAT] = "stat",
	[READY_STATUS] = "status",
	/* what takes the kernel least to tell of a thread, if there is one */
	[READY_ALIVE] = "oom_score_adj",
};

struct thread {
	int fds[READY_FILES];
};

struct ready {
	struct idmap by_tid;
	struct thread *v;
	uint32_t n, room;
};

/* As many descriptors as there may be; more than that is asked of nobody. */
struct ready *ready_new(void)
{
	struct ready *r = calloc(1, sizeof(*r));
	struct rlimit lim;

	if (!r || getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return r;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_cur == RLIM_INFINITY || lim.rlim_cur > READY_FILES * MOST_THREADS + SPARE)
		r->room = MOST_THREADS;
	else
		r->room = (uint32_t)(lim.rlim_cur -
				     (lim.rlim_cur / 2 < SPARE ? lim.rlim_cur / 2 : SPARE)) /
			  READY_FILES;
	return r;
}

void ready_free(struct ready *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; i < r->n; i++)
		for (int f = 0; f < READY_FILES; f++)
			if (r->v[i].fds[f] >= 0)
				close(r->v[i].fds[f]);
	idmap_deinit(&r->by_tid);
	free(r->v);
	free(r);
}

static void open_thread(struct ready *r, int task_dir, pid_t tid)
{
	struct thread *v, t;
	uint32_t drop;

	if (r->n == r->room || idmap_get(&r->by_tid, (uint64_t)tid, &drop))
		return;
	v = r->n & (r->n - 1) ? r->v : reallocarray(r->v, r->n ? 2 * r->n : 1, sizeof(*v));
	if (!v)
		return;
	r->v = v;
	if (idmap_put(&r->by_tid, (uint64_t)tid, r->n) < 0)
		return;
	for (int f = 0; f < READY_FILES; f++) {
		char path[32];

		snprintf(path, sizeof(path), "%d/%s", tid, names[f]);
		t.fds[f] = openat(task_dir, path, O_RDONLY | O_CLOEXEC);
	}
	r->v[r->n++] = t;
}

void ready_open(struct ready *r, pid_t pid)
{
	cleanup_dir DIR *dir = NULL;
	struct dirent *de;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (de = readdir(dir))) {
		const char *p = de->d_name;
		uint64_t tid;

		if (procfs_dec(&p, &tid))
			open_thread(r, dirfd(dir), (pid_t)tid);
	}
}

/*
 * One read gives at most a page of a list of children. An empty one may be that of a thread that
 * has ended, whose number is another's now; other files say ESRCH then. -1: to be read by its path.
 */
static ssize_t read_whole(const struct thread *t, enum ready_file file, char *buf, size_t room)
{
	size_t got = 0;
	ssize_t n = 0;
	char c;

	if (t->fds[file] < 0)
		return -1;
	while (got < room - 1 &&
	       (n = pread(t->fds[file], buf + got, room - 1 - got, (off_t)got)) > 0)
		got += (size_t)n;
	if (n < 0 || got == room - 1)
		return -1;
	if (!got && (t->fds[READY_ALIVE] < 0 || pread(t->fds[READY_ALIVE], &c, 1, 0) != 1))
		return -1;
	buf[got] = '\0';
	return (ssize_t)got;
}

ssize_t ready_read(const struct ready *r, pid_t pid, pid_t tid, enum ready_file file, char *buf,
		   size_t room)
{
	uint32_t i;

	if (r && idmap_get(&r->by_tid, (uint64_t)tid, &i)) {
		ssize_t n = read_whole(&r->v[i], file, buf, room);

		if (n >= 0)
			return n;
	}
	return procfs_read(buf, room, "/proc/%d/task/%d/%s", pid, tid, names[file]);
}
