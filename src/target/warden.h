/* SPDX-License-Identifier: MIT */
/*
 * The end of a restore as one step, for a tree of any size.
 *
 * Until it is let go a tree dies with its tracer (PTRACE_O_EXITKILL). That is a flag of each
 * thread, and the kernel has no call that clears it for all: a tracer killed between two of these
 * calls would leave a part of the tree running. So another process, the warden, watches while it is
 * done. It is in a session of its own, holds descriptors of every process and sees the tracer's end
 * by a socket. What becomes of the tree is one store to memory that they share:
 *
 *	warden_start()   forked before there is anything; no descriptor of the restore is in it
 *	warden_arm()     it has every process's pidfd; if the tracer dies now it kills them all
 *	(the flags are cleared)
 *	warden_switch()  the store: if the tracer dies now they all run
 *	warden_end()
 *
 * What it takes to leave a part of a tree is to kill both, tracer and warden, in this time.
 */
#ifndef TARGET_WARDEN_H
#define TARGET_WARDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "src/image/model.h"

struct warden {
	pid_t pid;
	int sock;
	bool *live, *page; /* the store; ours, if the caller has none */
	pid_t *pids;
	size_t len;
};

/* @live, if any, is in memory shared with the caller's parent. warden_end() is due in every case.
 */
int warden_start(struct warden *w, const struct model *m, bool *live, struct err *err);
int warden_arm(struct warden *w, struct err *err);
void warden_switch(struct warden *w);
/* Of a zeroed @w with sock -1, too. */
void warden_end(struct warden *w);

#endif
