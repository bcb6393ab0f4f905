/* SPDX-License-Identifier: MIT */
/*
 * A child's files collected into a model and made again in the test, for the tests of make*.c.
 *
 *	made_open(&c, build);		the child builds a state and stands still in it
 *	fd = made_fd(&c, number);	what was made of the child's descriptor
 *	made_close(&c);
 */
#ifndef TESTS_MADE_H
#define TESTS_MADE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "src/target/files.h"
#include "src/target/make.h"
#include "tests/unit/target/child.h"

enum { MADE_FDS = 2048 };

struct made_test {
	struct child child;
	struct model *m;
	struct files *f;
	struct m_proc *p;
	struct make *mk;
	struct make_opts opts;
	bool ended;    /* the child */
	int write_end; /* the child's, of the pipe to the test */
	struct err err;
};

static inline struct m_proc *made_add(struct made_test *t, pid_t pid)
{
	struct m_proc *p = model_push(t->m, &t->m->procs, &t->m->nprocs, sizeof(*p));

	p->pid = (uint32_t)pid;
	assert_int_equal(proc_collect(t->m, p, &t->err), 0);
	assert_int_equal(files_collect(t->f, p, &t->err), 0);
	return p;
}

/* What the test has open, the child inherits: it is no part of what was built. */
static inline void made_drop_inherited(struct made_test *t, const bool inherited[MADE_FDS])
{
	struct m_fdtable *table = &t->m->fdtables[0];
	uint32_t n = 0;

	for (uint32_t i = 0; i < table->n; i++) {
		uint32_t fd = table->fds[i].fd;
		const struct child *c = &t->child;

		if ((fd < MADE_FDS && inherited[fd]) || fd == (uint32_t)c->up[0] ||
		    fd == (uint32_t)c->down[1] || fd == (uint32_t)t->write_end ||
		    fd == (uint32_t)c->down[0])
			continue;
		table->fds[n++] = table->fds[i];
	}
	table->n = n;
}

/* The child's state into a model. */
static inline void made_collect(struct made_test *t, void (*build)(struct child *c))
{
	bool inherited[MADE_FDS];

	memset(t, 0, sizeof(*t));
	for (int i = 0; i < MADE_FDS; i++)
		inherited[i] = fcntl(i, F_GETFD) >= 0;
	child_start(&t->child, build);
	t->m = model_new(0);
	t->m->procs = model_alloc(t->m, 8 * sizeof(*t->m->procs));
	t->f = files_new(t->m, &t->err);
	assert_non_null(t->f);
	t->p = made_add(t, t->child.pid);
	assert_int_equal(files_finish(t->f, &t->err), 0);
	t->write_end = t->child.up[1];
	made_drop_inherited(t, inherited);
}

static inline void made_new(struct made_test *t)
{
	t->mk = make_new(t->m, &t->opts, &t->err);
	assert_non_null(t->mk);
}

static inline void made_open(struct made_test *t, void (*build)(struct child *c))
{
	made_collect(t, build);
	made_new(t);
	if (make_files(t->mk, &t->err) || make_late(t->mk, &t->err))
		fail_msg("%s", t->err.msg);
}

/* The child ends before it is made again: names and numbers are free. */
static inline void made_end_early(struct made_test *t)
{
	kill(t->child.pid, SIGKILL);
	waitpid(t->child.pid, NULL, 0);
	t->ended = true;
}

static inline void made_close(struct made_test *t)
{
	make_free(t->mk);
	files_free(t->f);
	model_free(t->m);
	if (t->ended)
		t->child.pid = 0;
	child_end(&t->child);
}

static inline uint32_t made_id(const struct made_test *t, uint64_t fd)
{
	const struct m_fdtable *table = model_fdtable(t->m, t->p->fdtable_id);

	for (uint32_t i = 0; i < table->n; i++)
		if (table->fds[i].fd == fd)
			return table->fds[i].file_id;
	fail_msg("descriptor %u was not collected", (unsigned)fd);
	return 0;
}

static inline struct m_file *made_file(const struct made_test *t, uint64_t fd)
{
	return &t->m->files[made_id(t, fd) - 1];
}

/* Of the test: what was made of descriptor @fd of the child. */
static inline int made_fd(const struct made_test *t, uint64_t fd)
{
	int ret = make_fd(t->mk, made_id(t, fd));

	assert_true(ret >= 1024);
	assert_int_equal(fcntl(ret, F_GETFD), FD_CLOEXEC);
	return ret;
}

/* A line of fdinfo, "flags:", of a descriptor of process @pid. */
static inline void made_fdinfo(pid_t pid, uint64_t fd, const char *key, char ret[256])
{
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%u", pid, (unsigned)fd);
	file = fopen(path, "r");
	assert_non_null(file);
	*ret = '\0';
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			snprintf(ret, 256, "%s", line);
	fclose(file);
}

/* Flags and position of what was made are those of the child's descriptor; so is its link. */
static inline void made_same(const struct made_test *t, uint64_t fd)
{
	static const char *const keys[] = {"flags:", "pos:"};
	char a[256], b[256], path[64];
	int made = made_fd(t, fd);

	for (int i = 0; i < 2; i++) {
		made_fdinfo(t->child.pid, fd, keys[i], a);
		made_fdinfo(getpid(), (uint64_t)made, keys[i], b);
		if (!i) {
			unsigned long x = strtoul(a + 6, NULL, 8) | O_CLOEXEC;

			assert_int_equal(strtoul(b + 6, NULL, 8), x);
		} else {
			assert_string_equal(a, b);
		}
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/%u", t->child.pid, (unsigned)fd);
	a[readlink(path, a, sizeof(a) - 1)] = '\0';
	snprintf(path, sizeof(path), "/proc/self/fd/%d", made);
	b[readlink(path, b, sizeof(b) - 1)] = '\0';
	/* Pipes get other inode numbers. */
	if (*a == '/')
		assert_string_equal(a, b);
}

static inline bool made_has_finding(const struct made_test *t, const char *part, bool fatal)
{
	for (uint32_t i = 0; i < t->m->nfindings; i++)
		if (strstr(t->m->findings[i].text, part) && t->m->findings[i].fatal == fatal)
			return true;
	return false;
}

#endif
