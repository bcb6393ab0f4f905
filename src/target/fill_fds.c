/* SPDX-License-Identifier: MIT */
/* Descriptors of the tool into a process, under the numbers that they had. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/fill.h"
#include "src/target/script.h"

static void add_pidfd(struct script *s, struct err *err)
{
	script_add(s,
		   (struct script_call){SYS_pidfd_open,
					{(uint64_t)getpid()},
					.what = "open a pidfd of pid",
					.at = (uint64_t)getpid(),
					.wants = true},
		   err);
}

static void add_get(struct script *s, uint64_t pidfd, int from, uint64_t want, struct err *err)
{
	script_add(s,
		   (struct script_call){SYS_pidfd_getfd,
					{pidfd, (uint64_t)from, 0},
					.what = "take descriptor",
					.at = want,
					.wants = true,
					.want = want},
		   err);
}

/* @from becomes @to, and @from is free again. */
static void add_move(struct script *s, uint64_t from, uint64_t to, bool cloexec, struct err *err)
{
	script_add(s,
		   (struct script_call){SYS_dup3,
					{from, to, cloexec ? O_CLOEXEC : 0},
					.what = "put descriptor",
					.at = to,
					.wants = true,
					.want = to},
		   err);
	script_add(s,
		   (struct script_call){SYS_close, {from}, .what = "close descriptor", .at = from},
		   err);
}

int fill_take(struct remote *r, const int *fds, unsigned n, struct err *err)
{
	struct script s;

	script_begin(&s, r, r->first);
	add_pidfd(&s, err);
	for (unsigned i = 0; i < n; i++)
		if (fds[i] >= 0)
			add_get(&s, 0, fds[i], i + 1, err);
		else
			/* Something must hold the number. */
			script_add(&s,
				   (struct script_call){SYS_dup,
							{0},
							.what = "hold descriptor",
							.at = i + 1,
							.wants = true,
							.want = i + 1},
				   err);
	return script_run(&s, err);
}

int fill_drop(struct remote *r, struct err *err)
{
	struct script s;

	script_begin(&s, r, r->first);
	script_add(&s,
		   (struct script_call){SYS_close_range, {0, ~0u, 0}, .what = "close all files"},
		   err);
	return script_run(&s, err);
}

static int compare_fd(const void *a, const void *b)
{
	const struct m_fd *x = a, *y = b;

	return x->fd < y->fd ? -1 : x->fd > y->fd;
}

/* The lowest number from @from on that the table has not. */
static uint32_t next_gap(const struct m_fd *v, uint32_t n, uint32_t from)
{
	uint32_t gap = from;

	for (uint32_t i = 0; i < n && v[i].fd <= gap; i++)
		if (v[i].fd == gap)
			gap++;
	return gap;
}

/* No more than that: a limit may be full, and not ours to raise. */
static int raise_limit(const struct remote *r, const struct m_fd *v, uint32_t n, struct err *err)
{
	uint64_t home = next_gap(v, n, 0);
	uint64_t last = v[n - 1].fd, need = (last > home ? last : home) + 1;
	struct rlimit rl;
	pid_t pid = r->proc->pid;

	if (prlimit(pid, RLIMIT_NOFILE, NULL, &rl) < 0)
		return err_set(err, errno, "limit of open files of process %d", pid);
	if (rl.rlim_cur >= need)
		return 0;
	rl.rlim_cur = need;
	rl.rlim_max = rl.rlim_max < need ? need : rl.rlim_max;
	if (prlimit(pid, RLIMIT_NOFILE, &rl, NULL) == 0)
		return 0;
	err_set(err, errno, "raise the limit of open files of process %d to %" PRIu64, pid, need);
	err_hint(err, "restore with a higher hard limit (ulimit -Hn), or with CAP_SYS_RESOURCE");
	return -err->errnum;
}

/*
 * In ascending order. New descriptors get the lowest free number, so it is known beforehand: the
 * second gap of the table (the first holds the pidfd), or the wanted number where that is lower.
 *
 *	table 0 1 2 5:  pidfd at 3, then 0 1 2 directly, 5 by way of 4
 */
static int place(struct remote *r, const struct m_fd *v, uint32_t n, const struct make *mk,
		 struct err *err)
{
	uint32_t home = next_gap(v, n, 0), spare = next_gap(v, n, home + 1);
	struct script s;

	script_begin(&s, r, r->first);
	add_pidfd(&s, err);
	if (home)
		add_move(&s, 0, home, true, err);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t fd = v[i].fd;
		int from = make_fd(mk, v[i].file_id);

		if (from < 0)
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"process %d: descriptor %u has file %u, which is not there",
					r->proc->pid, fd, v[i].file_id);
		if (fd < spare) {
			add_get(&s, home, from, fd, err);
			if (!v[i].cloexec)
				script_add(&s,
					   (struct script_call){SYS_fcntl,
								{fd, F_SETFD, 0},
								.what = "flags of descriptor",
								.at = fd},
					   err);
		} else {
			add_get(&s, home, from, spare, err);
			add_move(&s, spare, fd, v[i].cloexec, err);
		}
	}
	script_add(&s,
		   (struct script_call){SYS_close, {home}, .what = "close descriptor", .at = home},
		   err);
	return script_run(&s, err);
}

int fill_table(struct remote *r, const struct m_fdtable *t, const struct make *mk, struct err *err)
{
	struct m_fd *v;
	int ret;

	if (!t->n)
		return 0;
	v = malloc(t->n * sizeof(*v));
	if (!v)
		return err_set(err, ENOMEM, "table of %u descriptors", t->n);
	memcpy(v, t->fds, t->n * sizeof(*v));
	qsort(v, t->n, sizeof(*v), compare_fd);
	for (uint32_t i = 1; i < t->n; i++)
		if (v[i].fd == v[i - 1].fd) {
			ret = err_fail(err, EBADMSG, ERR_IMAGE,
				       "process %d: descriptor %u is in the table twice",
				       r->proc->pid, v[i].fd);
			free(v);
			return ret;
		}
	ret = raise_limit(r, v, t->n, err);
	if (ret == 0)
		ret = place(r, v, t->n, mk, err);
	free(v);
	return ret;
}
