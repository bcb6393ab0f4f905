/* SPDX-License-Identifier: MIT */
/* Between spawn.c and family.c: one stub at a time. */
#ifndef TARGET_STUB_H
#define TARGET_STUB_H

#include "src/target/spawn.h"

/* The root: a copy of the tool, emptied. It is tree.procs[0] then. */
int stub_root(struct spawn *s, struct err *err);
/* Waits until a new thread or process of ours stands; its registers are known then. */
int stub_await(struct spawn *s, struct task *task, struct err *err);
/* What a clone3() that answered @error means. */
int stub_clone_failed(int error, uint32_t pid, struct err *err);

#endif
