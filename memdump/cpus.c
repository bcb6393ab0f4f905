/* SPDX-License-Identifier: MIT */
/* How many CPUs this process may use: affinity, not what the machine has. */
#include "memdump/cpus.h"

#include <sched.h>
#include <stddef.h>

unsigned md_cpus_allowed(void)
{
	int n = 0;

	/* EINVAL: the kernel's mask is longer. */
	for (size_t max = 1024; !n && max <= 1 << 16; max *= 2) {
		cpu_set_t *set = CPU_ALLOC(max);

		if (!set)
			break;
		if (!sched_getaffinity(0, CPU_ALLOC_SIZE(max), set))
			n = CPU_COUNT_S(CPU_ALLOC_SIZE(max), set);
		CPU_FREE(set);
	}
	return n > 0 ? (unsigned)n : 1;
}
