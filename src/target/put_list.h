/* SPDX-License-Identifier: MIT */
/*
 * Lists of system calls that put attributes back: each has a name for its error and carries its
 * buffers, and a list is cut into as many runs as it takes.
 *
 *	list_begin(&l);
 *	c = list_add(&l, SYS_prctl, PR_SET_NAME, "set the name");
 *	list_give(c, 1, t->comm, sizeof(t->comm));
 *	ret = list_run(&l, r, task, err);
 *
 * Adding never fails: what is too much is reported by the run. The buffers are the caller's until
 * then. Guardian only, one thread: the storage behind the runs is static.
 */
#ifndef TARGET_PUT_LIST_H
#define TARGET_PUT_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/image/model.h"
#include "src/target/remote.h"

enum { LIST_CALLS = 256, LIST_BUFS = 2, LIST_INSIDE = 0xff };

/* A buffer that goes into the target with the call, and out again when @out. */
struct list_buf {
	void *data;
	uint32_t len;
	uint8_t arg; /* the argument that points to it; LIST_INSIDE: a word of the first buffer */
	bool out;
	uint16_t inside; /* where in the first buffer that word is */
};

struct list_call {
	uint64_t nr, args[5];
	const char *what; /* "set the name", static text */
	bool may_fail;	  /* the caller looks at ret */
	int64_t ret;
	struct list_buf bufs[LIST_BUFS];
};

struct list {
	unsigned n; /* may be more than there is room for */
	struct list_call calls[LIST_CALLS + 1];
};

void list_begin(struct list *l);
/* The call, to have its other arguments set. */
struct list_call *list_add(struct list *l, uint64_t nr, uint64_t first, const char *what);
/* Argument @arg points to these @len bytes; list_take(): they are filled by the call. */
void list_give(struct list_call *c, unsigned arg, const void *data, size_t len);
void list_take(struct list_call *c, unsigned arg, void *data, size_t len);
/* The word at @off of the buffer given first points to these. */
void list_give_inside(struct list_call *c, size_t off, const void *data, size_t len);

/* All calls in order in @task. The first that fails ends it, with an error that names it. */
int list_run(struct list *l, struct remote *r, struct task *task, struct err *err);

/*
 * The same in every thread of @p, side by side: @fill makes the list of thread @i, @done, unless it
 * is NULL, looks at the results. @fill must not keep buffers on its stack.
 */
struct list_each {
	int (*fill)(struct list *l, struct remote *r, const struct m_proc *p, uint32_t i, void *arg,
		    struct err *err);
	int (*done)(const struct list *l, struct remote *r, const struct m_proc *p, uint32_t i,
		    void *arg, struct err *err);
	void *arg;
};

int list_run_each(const struct list_each *each, struct remote *r, const struct m_proc *p,
		  struct err *err);

/* The model's threads are the tree's: their number and tids agree. */
int list_check_threads(struct remote *r, const struct m_proc *p, struct err *err);

#endif
