/* SPDX-License-Identifier: MIT */
/*
 * Pre-copy: system calls that write to pages past the page tables.
 *
 * Such a call pins the page, which counts as a write to it, and writes later. When the page was
 * protected and read in between, nothing tells of what was written. So between protecting and
 * reading every thread is waited for until it is past whatever call it was in:
 *
 *	asleep in another call			it is
 *	running, with more time in user mode	it is
 *	running, alone, and no file is O_DIRECT	it is: what else pins it would wait for
 *	anything else				not yet
 *
 * Memory that is pinned for good (buffers of an io_uring, RDMA: VmPin of /proc/PID/status) may be
 * written to at any time, and so may what an asynchronous read is to fill (io_submit): of a process
 * with an AIO ring all is copied while it stands still. process_vm_writev() by somebody outside of
 * the tree is not seen.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "binlog/pr.h"
#include "src/ops/precopy_priv.h"
#include "src/target/collect.h"

enum {
	WAIT_US = 2000,
	TRIES = 150,
	MOST_DEPTH = 64,
};

struct seen {
	int pid, tid;
	uint64_t utime; /* ticks */
	bool past;
};

struct threads {
	struct seen *v;
	size_t n, room;
	unsigned nprocs;
	bool short_of_memory;
};

static bool read_text(char *buf, size_t room, const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : io_read(fd, buf, room - 1);

	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static uint64_t user_time(const struct seen *t)
{
	char path[64], text[512];
	const char *p;
	uint64_t v = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", t->pid, t->tid);
	if (!read_text(text, sizeof(text), path))
		return UINT64_MAX;
	/* Behind the name, which may hold anything: the twelfth field. */
	p = strrchr(text, ')');
	for (int i = 0; p && i < 12; i++)
		p = strchr(p + 1, ' ');
	if (p)
		v = strtoull(p, NULL, 10);
	return v;
}

static void note(struct threads *l, int pid, int tid)
{
	struct seen *e;

	if (l->n == l->room) {
		size_t room = l->room ? 2 * l->room : 64;

		e = reallocarray(l->v, room, sizeof(*e));
		if (!e) {
			l->short_of_memory = true;
			return;
		}
		l->v = e;
		l->room = room;
	}
	l->v[l->n] = (struct seen){.pid = pid, .tid = tid};
	l->v[l->n].utime = user_time(&l->v[l->n]);
	l->n++;
}

static void list(struct threads *l, int pid, unsigned depth);

static void list_children(struct threads *l, int pid, int tid, unsigned depth)
{
	char path[64], text[16384];
	const char *p = text;
	char *end;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, tid);
	if (depth == MOST_DEPTH || !read_text(text, sizeof(text), path))
		return;
	for (long child; (child = strtol(p, &end, 10)) > 0 && end != p; p = end)
		list(l, (int)child, depth + 1);
}

static void list(struct threads *l, int pid, unsigned depth)
{
	char path[64];
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	cleanup_dir DIR *dir = opendir(path);

	l->nprocs++;
	while (dir && (e = readdir(dir))) {
		int tid = atoi(e->d_name);

		if (tid <= 0)
			continue;
		note(l, pid, tid);
		list_children(l, pid, tid, depth);
	}
}

/* So are pipes in packet mode, which costs time alone. */
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

static bool has_direct(int pid)
{
	char path[64];
	struct dirent *e;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	cleanup_dir DIR *dir = opendir(path);

	while (dir && !found && (e = readdir(dir)))
		found = *e->d_name != '.' && is_direct(pid, strtoul(e->d_name, NULL, 10));
	return found;
}

/* Asynchronous reads fill pages at any time. */
static bool has_aio(int pid)
{
	char path[64], *line = NULL;
	bool found = false;
	size_t room = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	cleanup_file FILE *f = fopen(path, "re");

	while (f && !found && getline(&line, &room, f) > 0)
		found = strstr(line, " /[aio]");
	free(line);
	return found;
}

int precopy_list_aio(struct precopy *p, struct err *err)
{
	const struct target_tracks *t = p->tracks;

	p->aio = calloc(t->n + 1, sizeof(*p->aio));
	if (!p->aio)
		return err_set(err, ENOMEM, "list of %u processes", t->n);
	for (uint32_t i = 0; i < t->n; i++) {
		if (!t->v[i].on || !has_aio((int)t->v[i].pid))
			continue;
		p->aio[p->naio++] = t->v[i].pid;
		p->aio_bytes += target_private_bytes((pid_t)t->v[i].pid);
		pr_info("pid %u: has an AIO ring: not copied while it runs\n", t->v[i].pid);
	}
	return 0;
}

void precopy_keep_aio(struct precopy *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->naio; i++)
		if (has_aio((int)p->aio[i]))
			p->aio[n++] = p->aio[i];
	if (n == p->naio)
		return;
	p->naio = n;
	p->aio_bytes = 0;
	for (size_t i = 0; i < n; i++)
		p->aio_bytes += target_private_bytes((pid_t)p->aio[i]);
}

int precopy_tell_aio(const struct precopy *p, struct err *err)
{
	for (size_t i = 0; i < p->naio; i++)
		if (finding_add(
			    p->model, p->aio[i],
			    "has asynchronous I/O (io_setup): all its memory was copied while it "
			    "stood still") < 0)
			return err_set(err, ENOMEM, "notes of pid %u", p->aio[i]);
	return 0;
}

bool precopy_has_aio(const struct precopy *p, uint32_t pid)
{
	for (size_t i = 0; i < p->naio; i++)
		if (p->aio[i] == pid)
			return true;
	return false;
}

/* "number 0xarg 0xarg ..." */
static bool may_write(const struct seen *t, const char *text)
{
	char *end;
	long nr = strtol(text, &end, 10);

	switch (nr) {
	case SYS_process_vm_writev:
		return true;
	case SYS_read:
	case SYS_pread64:
	case SYS_readv:
	case SYS_preadv:
	case SYS_preadv2:
		return is_direct(t->pid, strtoul(end, NULL, 16));
	default:
		return false;
	}
}

/* @strict: nothing is believed of a thread that runs but what it has done. */
static bool is_past(const struct seen *t, bool strict)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", t->pid, t->tid);
	if (!read_text(text, sizeof(text), path))
		return true; /* it has ended */
	if (!strncmp(text, "running", 7))
		return !strict || user_time(t) > t->utime;
	return !may_write(t, text);
}

static bool has_pinned(int pid)
{
	char path[64], text[4096];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (!read_text(text, sizeof(text), path))
		return false; /* it has ended */
	at = strstr(text, "\nVmPin:");
	return at && strtoull(at + 7, NULL, 10) > 0;
}

/* Pins of a child that shares its memory with its parent are the memory's. */
static bool any_pinned(const struct threads *l)
{
	for (size_t k = 0; k < l->n; k++)
		if ((!k || l->v[k].pid != l->v[k - 1].pid) && has_pinned(l->v[k].pid))
			return true;
	return false;
}

/* A ring that has come since: what it fills may have been pinned before it was protected. */
static bool any_new_aio(const struct precopy *p)
{
	for (uint32_t i = 0; i < p->tracks->n; i++) {
		const struct target_track *t = &p->tracks->v[i];

		if (t->on && !precopy_has_aio(p, t->pid) && has_aio((int)t->pid))
			return true;
	}
	return false;
}

bool precopy_await_writers(const struct precopy *p)
{
	const struct timespec wait = {.tv_nsec = WAIT_US * 1000L};
	struct threads l = {0};
	size_t left = 1;
	bool strict;

	list(&l, p->opts->pid, 0);
	strict = l.nprocs > 1;
	for (unsigned i = 0; i < TRIES && left && !l.short_of_memory; i++) {
		/* Of those that sleep it is seen at once. */
		if (i)
			nanosleep(&wait, NULL);
		/* Alone in the tree it would have to name itself, or such a file. */
		strict |= i == 1 && has_direct(p->opts->pid);
		left = 0;
		for (size_t k = 0; k < l.n; k++) {
			struct seen *t = &l.v[k];

			t->past = t->past || is_past(t, strict || !i);
			left += !t->past;
		}
	}
	left |= any_pinned(&l) || any_new_aio(p);
	free(l.v);
	return !left && !l.short_of_memory;
}
