/* SPDX-License-Identifier: MIT */
/*
 * Room for our scratch area in a process that is at its limit of memory.
 *
 * The limit is raised for the few microseconds in which the area is mapped, and is what it was
 * before anything asks for it. What is to be put back is noted in memory that tool and guardian
 * share before it is changed: when the guardian is killed in between, the tool puts it back.
 */
#ifndef TARGET_LIMITS_H
#define TARGET_LIMITS_H

#include <stdint.h>

#include "src/target/target.h"

/*
 * So that @pid, which stands still, can map @len bytes more and write to them. Where that fails
 * nothing is changed, and the mapping will say so.
 */
void limits_raise(struct target_limits *l, pid_t pid, uint64_t len);
/* Does nothing when nothing is raised. */
void limits_put_back(struct target_limits *l);

#endif
