/* SPDX-License-Identifier: MIT */
/*
 * Between two dumps: a guardian that stays, with nothing but the userfaultfds of a tree, or with
 * what the tool noted where it looks at soft-dirty marks.
 *
 *	dump --track-mem        keeper                     the next dump's guardian
 *	GUARD_KEEP ───────────▶ listens
 *	ends                    waits for the root's end
 *	                        hands on the descriptors ─▶ keeper_take_over()
 *	                        ends
 *
 * It has no ptrace attachment, so the tree can be traced by anybody. When it is killed the kernel
 * takes the tracking away, and the next dump finds all memory written. The socket has an abstract
 * name made of pid and start time of the root; each end asks who the other is: the same user or
 * root.
 */
#ifndef TARGET_KEEPER_H
#define TARGET_KEEPER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "src/target/dirty.h"

struct keeper {
	pid_t root; /* 0: not begun */
	int listen_fd, pidfd;
};

#define KEEPER_NONE                          \
	{                                    \
		.listen_fd = -1, .pidfd = -1 \
	}

int keeper_listen(pid_t root, struct keeper *ret, struct err *err);
_Noreturn void keeper_main(struct keeper *k, struct dirty *d);

/* From a keeper of this tree to @d, if there is one. */
void keeper_take_over(pid_t root, struct dirty *d);
/* Whether there is one, which is not disturbed. */
bool keeper_is_there(pid_t root);

#endif
