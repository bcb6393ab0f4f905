/* SPDX-License-Identifier: MIT */
/* How many CPUs this process may use: affinity, not what the machine has. */
#ifndef MEMDUMP_CPUS_H
#define MEMDUMP_CPUS_H

/* At least 1. */
unsigned md_cpus_allowed(void);

#endif
