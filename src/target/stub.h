/* SPDX-License-Identifier: MIT */
/* Between spawn.c, family.c and zombie.c: one stub at a time. */
#ifndef TARGET_STUB_H
#define TARGET_STUB_H

#include "src/target/spawn.h"

/* The root: a copy of the tool, emptied. It is tree.procs[0] then. */
int stub_root(struct spawn *s, struct err *err);
/* Waits until a new thread or process of ours stands; its registers are known then. */
int stub_await(struct spawn *s, struct task *task, struct err *err);
/* What a clone3() that answered @error means. */
int stub_clone_failed(int error, uint32_t pid, struct err *err);
/*
 * The process that @r is open on ends as @p has ended, and its parent finds it waiting. The bit
 * that there was a core file is lost.
 */
int stub_die(struct remote *r, const struct m_proc *p, struct err *err);

#endif
