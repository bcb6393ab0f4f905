/* SPDX-License-Identifier: MIT */
/*
 * System calls that must all succeed in one stopped thread, as many as there are: a batch that runs
 * whenever it is full, and names the call that failed.
 *
 *	script_begin(&s, r, task);
 *	script_add(&s, (struct script_call){SYS_munmap, {addr, len}, "unmap", addr}, err);
 *	...
 *	script_run(&s, err);
 *
 * The first error stays: calls added after it do nothing, and script_run() returns it. One script
 * at a time, for its storage is static: one thread.
 */
#ifndef TARGET_SCRIPT_H
#define TARGET_SCRIPT_H

#include <stdbool.h>

#include "src/target/remote.h"

struct script_call {
	uint64_t nr;
	uint64_t args[6];
	const char *what; /* "map file", static text */
	uint64_t at;	  /* address, descriptor or number to name beside it; 0: none */
	bool may_fail;	  /* its result is looked at by the caller, or by nobody */
	bool wants;	  /* must return exactly want, not any number from 0 on */
	uint64_t want;
};

struct script {
	struct remote *r;
	struct task *task;
	struct batch batch;
	int error; /* negative errno of the first failure */
};

void script_begin(struct script *s, struct remote *r, struct task *task);

/*
 * Room for @ncalls calls and @nbytes bytes in one run; runs what is there when it does not fit.
 * Needed before script_buf() and the calls that refer to it.
 */
void script_room(struct script *s, unsigned ncalls, size_t nbytes, struct err *err);
/* A copy of @data in the target until the next script_room(); its address, 0 after an error. */
uint64_t script_buf(struct script *s, const void *data, size_t len, struct err *err);
void script_add(struct script *s, struct script_call call, struct err *err);
/* Runs what has been added. 0, or the first error of all. */
int script_run(struct script *s, struct err *err);
/* Of the last script_run(): what call @i returned, and the buffer at @addr. */
int64_t script_ret(const struct script *s, unsigned i);
void *script_data(struct script *s, uint64_t addr);

/* One call; its result, -errno. */
int64_t script_one(struct remote *r, struct task *task, uint64_t nr, const uint64_t args[6],
		   struct err *err);

#endif
