/* SPDX-License-Identifier: MIT */
/*
 * Memory that its own process may not read (PROT_NONE), from the thread that traces it: whom the
 * kernel lets read /proc/PID/mem by force where it lets nobody else (Linux 6.12,
 * proc_mem.force_override=ptrace), and by ptrace() a word at a time even where it lets nobody
 * (=never).
 */
#ifndef TARGET_FORCED_H
#define TARGET_FORCED_H

#include "src/target/tree.h"

/* Bytes of @len that are in @buf; 0: there is nothing to read at @addr. @p is frozen. */
size_t forced_read(struct tree *t, const struct proc *p, uint64_t addr, void *buf, size_t len);

/* For tests: the second way alone, by a stopped thread of the process. */
size_t forced_words(pid_t tid, uint64_t addr, void *buf, size_t len);

#endif
