/* SPDX-License-Identifier: MIT */
/* State that only x86-64 has and that no image carries. */
#include <errno.h>
#include <sys/syscall.h>

#include "arch/arch.h"

enum { GET_CPUID = 0x1011 }; /* ARCH_GET_CPUID, Linux 4.12, arch_prctl(2) */

const struct arch_oddity x86_oddities[] = {
	/* Without a buffer it tells of an empty LDT, and else of a fault, in 32 bits. */
	{SYS_modify_ldt, {0, 0, 16}, (uint32_t)-EFAULT, "segments of its own (modify_ldt)"},
	{SYS_arch_prctl, {GET_CPUID}, 0, "cpuid that faults (ARCH_SET_CPUID)"},
	{0, {0}, 0, NULL},
};
