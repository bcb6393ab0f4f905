/* SPDX-License-Identifier: MIT */
/*
 * A process tree that does not run yet: empty stopped processes with the pids, parents, sessions,
 * groups and threads of a model, to be filled from outside.
 *
 *	spawn_open()     nothing is created: are the pids free, where is room for the scratch area
 *	spawn_tree()     processes, zombies and threads, stopped and empty
 *	                 (put.h fills them through spawn_remote())
 *	spawn_leave()    the scratch area goes; registers must be set after it
 *	spawn_go()       everything runs
 *	spawn_free()     what does not run by then is killed
 *
 * The tool traces all of it with PTRACE_O_EXITKILL: when it dies at whatever instant, the tree dies
 * with it. Each process holds nothing but, above every address that the image needs,
 *
 *	base                      remote.h's scratch area
 *	base + remote_len()       the kernel's vvar and vdso, parked until they go to their place
 *
 * The root is a child of the tool, or of the tool's parent (sibling). Threads: one. Errors name
 * pids; ERR_EXISTS: a pid is taken.
 */
#ifndef TARGET_SPAWN_H
#define TARGET_SPAWN_H

#include "src/image/model.h"
#include "src/target/remote.h"
#include "src/target/tree.h"
#include "src/target/warden.h"

struct spawn_opts {
	bool sibling; /* the root is the tool's sibling and not its child */
	bool stopped; /* everything stays stopped by SIGSTOP */
	/*
	 * Called when the leader of a session has begun it and before it has children there: time
	 * for its controlling terminal. @r is open on it. NULL: nothing to do.
	 */
	int (*session)(void *arg, struct remote *r, const struct m_proc *p, struct err *err);
	/* Called when a process is about to have its first child; @r as above. NULL: nothing. */
	int (*parent)(void *arg, struct remote *r, const struct m_proc *p, struct err *err);
	void *arg;
	/* A pid is held by one that has ended and that its parent has not collected. May be NULL.
	 */
	void (*waits)(void *arg, uint32_t pid, pid_t parent);
	bool shell_job; /* a root without session of its own comes into the tool's */
	/* True when the tree has been let go; in memory shared with the tool. NULL: nobody asks */
	bool *live;
};

/* The kernel's own code and data in a process: contiguous mappings, the last is the code. */
struct spawn_vdso {
	unsigned n; /* 0: none */
	struct {
		uint64_t start, len;
	} part[4];
	uint64_t len;	   /* of all */
	uint64_t code_len; /* of the last */
};

struct spawn {
	const struct model *m;
	struct spawn_opts opts;
	struct tree tree;
	uint64_t base, park;
	struct spawn_vdso vdso; /* where they are in the tool itself */
	int sock;		/* while it is open, a stub that nobody traces waits */
	uint32_t *order;	/* tree.procs index of each model process */
	bool running;
	struct warden warden;
};

/* @s is filled; spawn_free() is due in every case. */
int spawn_open(struct spawn *s, const struct model *m, const struct spawn_opts *opts,
	       struct err *err);
int spawn_tree(struct spawn *s, struct err *err);

/* The process of model process @i; its tasks are in the order of the model's threads. */
struct proc *spawn_proc(struct spawn *s, uint32_t i);
/* Opens @r on it. remote_detach() when done. */
int spawn_remote(struct spawn *s, uint32_t i, struct remote *r, struct err *err);

/* The scratch area of model process @i is unmapped; the leader stands in a system call's end. */
int spawn_leave(struct spawn *s, uint32_t i, struct err *err);
/*
 * Those whose state is M_STOPPED stay stopped by job control. Never ends half way: on failure, and
 * when the tool is killed in it, all of the tree dies or all of it lives (warden.h).
 */
int spawn_go(struct spawn *s, struct err *err);
void spawn_free(struct spawn *s);

#endif
