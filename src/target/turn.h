/* SPDX-License-Identifier: MIT */
/*
 * One dump of a process at a time: who has the turn.
 *
 *	tool                      its guardian              another tool
 *	turn_take() ─ name
 *	fork ───────────────────▶ has the socket
 *	closes its own                                      turn_look(): -EBUSY
 *	                          ends: the name is free
 *	                                                    turn_take() ─ name
 *
 * The turn is a socket with an abstract name, made of pid and start time of the root of the tree.
 * The kernel gives a name to one socket only, and takes it back with the last descriptor, however
 * its owner ended: nothing is left behind. Nobody accepts on it; who connects is told by the kernel
 * who listens. A name can be taken by anybody, so a stranger keeps nobody from a dump: only root,
 * our own user and the one whose process it is count.
 *
 * Names are known within one network namespace. Two tools in two of them, or two trees of which one
 * is a part of the other, do not see each other here: ptrace allows only one of them then.
 */
#ifndef TARGET_TURN_H
#define TARGET_TURN_H

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/err.h"

/* "stasis-WHAT-ROOT-START", abstract; -errno when there is no such process. */
int turn_name(const char *what, pid_t root, struct sockaddr_un *ret, socklen_t *ret_len);

/* -EBUSY when somebody who counts has it, which is not disturbed; else 0. */
int turn_look(pid_t root, struct err *err);

/*
 * 0 with a descriptor that has the turn until it is closed, and its copies; -EBUSY. A turn that
 * cannot be had is no reason against a dump: *@ret_fd is -1 then; where that is because a stranger
 * has its name, @ret_stranger is who: its pid 0 when that is not known, else -1.
 */
int turn_take(pid_t root, int *ret_fd, struct ucred *ret_stranger, struct err *err);

/* What to say of process @who, called @comm, that dumps @root. -EBUSY. */
int turn_busy(pid_t root, const char *comm, pid_t who, struct err *err);

#endif
