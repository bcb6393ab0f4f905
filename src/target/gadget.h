/* SPDX-License-Identifier: MIT */
/*
 * Places in a process for its first injected call: code that makes system calls, and dead stack.
 *
 * Nothing is written. Guardian only, one thread.
 */
#ifndef TARGET_GADGET_H
#define TARGET_GADGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct gadgets {
	uint64_t syscall_pc;   /* system call; return */
	uint64_t sigreturn_pc; /* rt_sigreturn */
};

/* False when the process, which stands still, has no such code. Remembers where files have it. */
bool gadgets_find(pid_t pid, struct gadgets *ret);

/*
 * While it runs, and may call exec: what its files have, and where it has it, for gadgets_find(),
 * which looks whether that holds and need not read the list of all mappings then.
 */
void gadgets_learn(pid_t pid);

/*
 * A place for @len bytes, a multiple of 64, that no thread of @pid will miss, judged from the
 * registers @prstatus of one thread: below the red zone of a stack that is the thread's own beyond
 * doubt, else the never used end of the main stack. 0 when there is none.
 */
uint64_t gadget_stack(pid_t pid, const void *prstatus, uint64_t sp, size_t len);

#endif
