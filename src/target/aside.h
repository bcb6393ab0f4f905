/* SPDX-License-Identifier: MIT */
/*
 * Work that other threads do while the guardian's own, which alone may call ptrace, does something
 * else. They are made before anybody stands still, and wait.
 */
#ifndef TARGET_ASIDE_H
#define TARGET_ASIDE_H

#include <stdint.h>

struct aside;

/* NULL: there is one CPU, or no thread to be had; the calls below do without. */
struct aside *aside_new(void);
void aside_free(struct aside *a);

/* @fn for each number below @n, in any order and on any thread; the caller goes on at once. */
void aside_begin(struct aside *a, void (*fn)(void *arg, uint32_t i), void *arg, uint32_t n);
/* What is left is done by the caller, too. All of it is done when this returns. */
void aside_end(struct aside *a, void (*fn)(void *arg, uint32_t i), void *arg, uint32_t n);

#endif
