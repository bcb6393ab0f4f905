/* SPDX-License-Identifier: MIT */
/*
 * Calls that the kernel has stepped back to before the stop (arch.h: steps_back).
 *
 * On x86 an interrupted call is in the registers of the stopped thread, and the kernel decides when
 * the thread goes on: with the registers put back it makes the call again, goes on with the rest of
 * a sleep, or returns EINTR for a handler. On aarch64 the kernel has put the program counter on the
 * call before the stop and keeps its reasons to itself, to be used when the thread goes on from
 * this very stop. An injected call ends that. So
 *
 *	recall_look()   before the first injected call: a thread at a call that may be a sleep is
 *	                let go on to the entry of that call, where the number tells what the kernel
 *	                has made of it, and is stopped in it again at once
 *	recall_again()  after the last one: where a signal has come meanwhile, the thread goes to
 * the entry of its call, so that the signal interrupts the call, and is not taken before it
 *
 * In between the thread's true state is at the call, with the number of restart_syscall where the
 * kernel keeps the end of a sleep: an injected call does not make it forget that.
 *
 * The thread does what it would do, in each of its steps, so nobody need be there to put it right.
 * But while a thread goes to an entry and a signal has come, all signals are blocked; who dies in
 * these microseconds leaves it so. On other CPUs nothing here does anything.
 */
#ifndef TARGET_RECALL_H
#define TARGET_RECALL_H

#include "src/target/remote.h"

/* Of @task, whose true state is known. Once is enough; more do no harm. */
int recall_look(struct tree *t, struct task *task, struct err *err);

/* The true state of @task is in place and it is about to be let go. */
void recall_again(struct tree *t, struct task *task);

/* The first argument of the call that @task has made, which its result has replaced. */
bool recall_argument(const struct task *task, uint64_t *ret);

#endif
