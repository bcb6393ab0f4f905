/* SPDX-License-Identifier: MIT */
/*
 * What the tool and its guardian say to each other: one command, one reply, over a SEQPACKET
 * socket. Both are the same program, so the structs need no fixed layout.
 */
#ifndef TARGET_GUARD_H
#define TARGET_GUARD_H

#include <stdint.h>

#include "base/err.h"
#include "src/target/target.h"

enum guard_op {
	GUARD_SURVEY,
	GUARD_TRACK, /* arg: enum target_way */
	GUARD_SURVEY_AGAIN,
	GUARD_UNTRACK,
	GUARD_KEEP,
	GUARD_FREEZE,
	GUARD_COLLECT, /* arg: 1: without guard regions */
	GUARD_SURE,
	GUARD_ALIVE,
	GUARD_PAUSE,
	GUARD_RESUME,
	GUARD_READ, /* pid, addr, len */
	GUARD_THAW, /* arg: enum target_end */
};

struct guard_cmd {
	uint32_t op;
	uint32_t arg;
	int32_t pid;
	uint64_t addr, len;
};

struct guard_reply {
	int32_t ret;
	struct err err;
	struct target_times times;
};

/* The guardian's life, in the forked child. @turn_fd: see turn.h, or -1. */
_Noreturn void guard_main(int sock, pid_t root, struct model *m, struct target_tracks *tracks,
			  int turn_fd, const struct target_opts *opts);

#endif
