/* SPDX-License-Identifier: MIT */
/* mlockall(MCL_FUTURE): whether what a process will map is locked. */
#ifndef STASIS_TARGET_LOCKING_H
#define STASIS_TARGET_LOCKING_H

#include "src/image/model.h"
#include "src/target/collect.h"

/* Kilobytes of locked memory, of the text of a status file. */
uint64_t locking_kb(const char *status);

/*
 * Fills mlock_future and mlock_onfault of @p: nothing tells, but there is something that the
 * process has just mapped, at @addr, before which @before_kb were locked. @text: TREE_TEXT bytes to
 * read into.
 */
void locking_collect(struct m_proc *p, pid_t tid, uint64_t before_kb, uint64_t addr, char *text);

#endif
