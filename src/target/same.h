/* SPDX-License-Identifier: MIT */
/*
 * Which kernel objects of many tasks are one and the same, by kcmp(2).
 *
 * kcmp puts objects in an order that is stable and, being scrambled, as good as random: a plain
 * search tree answers in about 2 log2(n) calls. Objects that can be told apart otherwise go into
 * trees of their own, by key.
 *
 * Without kcmp (kernel without CONFIG_KCMP, or not permitted) everything is different and `blind`
 * is set. One thread.
 */
#ifndef TARGET_SAME_H
#define TARGET_SAME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "src/target/idmap.h"

enum same_kind { /* kcmp's own numbers */
		 SAME_FILE = 0,
		 SAME_VM = 1,
		 SAME_FILES = 2,
		 SAME_FS = 3,
		 SAME_SIGHAND = 4,
};

struct same_node {
	pid_t tid;
	uint32_t fd;
	uint32_t value;
	uint32_t less, more; /* 0: none */
};

struct same {
	struct idmap roots; /* by kind and key */
	struct same_node *nodes;
	uint32_t n, room;
	bool blind;
	uint64_t calls;
};

/* Zeroed is empty. */
void same_deinit(struct same *s);

/*
 * Looks for the object @kind of @tid (descriptor @fd if SAME_FILE) among those with @key. 1 with
 * the value it was added with, 0 after adding it with @value, or -errno: -ESRCH when a task has
 * gone.
 */
int same_find(struct same *s, enum same_kind kind, uint64_t key, pid_t tid, uint32_t fd,
	      uint32_t value, uint32_t *ret_value);

#endif
