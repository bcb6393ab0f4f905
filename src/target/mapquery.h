/* SPDX-License-Identifier: MIT */
/*
 * One mapping of a process by an address, without a walk over all of them: ioctl PROCMAP_QUERY of
 * /proc/PID/maps, Linux 6.11 (Documentation/filesystems/proc.rst).
 */
#ifndef TARGET_MAPQUERY_H
#define TARGET_MAPQUERY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mapping {
	uint64_t start, end, pgoff, dev, ino; /* dev: major << 32 | minor */
	bool read, write, exec, shared;
	const char *
		name; /* as in /proc/PID/maps, "" for none; the caller of who fills it says whose */
};

/*
 * The mapping that has @addr; @name, of @room bytes, receives its name. -ENOENT: none has it.
 * Else -errno: it cannot be asked here, and the list is to be read.
 */
int map_query(pid_t pid, uint64_t addr, struct mapping *ret, char *name, uint32_t room);

#endif
