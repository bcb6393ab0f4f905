/* SPDX-License-Identifier: MIT */
/*
 * Named failure points, compiled in with FAULTS=1 only.
 *
 *	if (FAULT("dump.frozen"))
 *		return err_set(err, EIO, "fault injected at dump.frozen");
 *
 * The environment picks what happens: STASIS_FAULT=NAME:ACTION[:N], where ACTION is `error`
 * (FAULT() is true), `kill` (SIGKILL to ourselves) or `stop` (SIGSTOP to ourselves), at the N-th
 * pass (default 1; 0: at every one). Every point stands in a linker section, so `stasis
 *--list-faults` needs no list kept by hand. In a normal build FAULT() is the constant false.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>

#ifdef FAULTS

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const char *const __start_stasis_faults[] __attribute__((weak));
extern const char *const __stop_stasis_faults[] __attribute__((weak));

static inline bool fault_hit(const char *name, int *passes)
{
	const char *want = getenv("STASIS_FAULT");
	size_t len = strlen(name);
	const char *action;
	int at = 1;

	if (!want || strncmp(want, name, len) || want[len] != ':')
		return false;
	action = want + len + 1;
	if (strchr(action, ':'))
		at = atoi(strchr(action, ':') + 1);
	if (__atomic_add_fetch(passes, 1, __ATOMIC_RELAXED) != at && at)
		return false;
	if (!strncmp(action, "kill", 4))
		kill(getpid(), SIGKILL);
	if (!strncmp(action, "stop", 4))
		kill(getpid(), SIGSTOP);
	return !strncmp(action, "error", 5);
}

#define FAULT(name)                                                             \
	({                                                                      \
		static const char *const fault_name                             \
			__attribute__((section("stasis_faults"), used)) = name; \
		static int fault_passes;                                        \
		fault_hit(fault_name, &fault_passes);                           \
	})

#else

#define FAULT(name) false

#endif
#endif
