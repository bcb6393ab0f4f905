/* SPDX-License-Identifier: MIT */
/* Where the time of a freeze goes: one line of the log, at debug level, for each thing done. */
#ifndef TARGET_PHASE_H
#define TARGET_PHASE_H

#include <stdint.h>
#include <sys/types.h>

struct phase {
	uint64_t wall_ns, cpu_ns;
};

/* The next thing begins now. */
void phase_begin(struct phase *p);
/* It is done, and the one behind it begins. @name is a literal. */
void phase_done(struct phase *p, pid_t pid, const char *name);

#endif
