/* SPDX-License-Identifier: MIT */
/*
 * What shadow_CPU.c gives to shadow.c: shadow stacks of x86-64, guarded control stacks of AArch64.
 */
#ifndef VICTIM_SHADOW_H
#define VICTIM_SHADOW_H

#include <stdbool.h>
#include <stdint.h>

/* Features, in order; bit n of what the functions take and give. */
enum { SHADOW_ON = 1 };
extern const uint64_t shadow_features; /* all that there are */

bool shadow_here(void);

/*
 * Calls @fn with these features on, all locked when @lock. No way back: who called has nothing on
 * the new shadow stack.
 */
void shadow_enter(uint64_t features, bool lock, void (*fn)(void *), void *arg)
	__attribute__((noreturn));

/* What the kernel says is on in the calling thread, and locked where it tells, else UINT64_MAX. */
uint64_t shadow_status(uint64_t *ret_locked);
/* Of the calling function, less the call of this one. */
uint64_t shadow_pointer(void);
/* Whether the kernel agrees to switch it off; the caller must not return then. */
bool shadow_switch_off(void);
/* Returns to where nobody called from; alive behind that it ends with exit status 0. */
void shadow_smash(void);

/* A place to go on at: both stacks. */
struct shadow_place {
	uint64_t sp, token;
};

/* An empty shadow stack of @len bytes that can be switched to, in @ret->token. */
bool shadow_map(uint64_t len, struct shadow_place *ret);
/* From here, to be gone on with, to @to, once its @fn is to be begun. */
void shadow_start(struct shadow_place *from, const struct shadow_place *to, void (*fn)(void));
void shadow_switch(struct shadow_place *from, const struct shadow_place *to);

extern void shadow_setup(void), shadow_check(void), shadow_finish(void);
#define SHADOW_SCENARIO                                                                            \
	{                                                                                          \
		"shadow", "--n 10 threads with shadow stacks: locked, in handlers, switched ones", \
			shadow_setup, shadow_check, shadow_finish                                  \
	}

#endif
