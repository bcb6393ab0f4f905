/* SPDX-License-Identifier: MIT */
/* Between inject.c and features.c. */
#ifndef ARCH_X86_FEATURES_H
#define ARCH_X86_FEATURES_H

#include "arch/arch.h"

/* arch_inject.cpu_lacks */
bool x86_cpu_lacks(const struct arch_set *set, bool *ret_used, char *buf, size_t len);

#endif
