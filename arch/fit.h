/* SPDX-License-Identifier: MIT */
/*
 * Between inject.c and fit.c of the CPUs whose register sets of an image are looked at without
 * asking the CPU: every build has them, so that every build can test them.
 */
#ifndef ARCH_FIT_H
#define ARCH_FIT_H

#include "arch/arch.h"

/* arch_inject.regset_fit */
int64_t aarch64_regset_fit(const struct arch_set *set, const struct arch_set *has, uint8_t *ret);
int64_t ppc64_regset_fit(const struct arch_set *set, const struct arch_set *has, uint8_t *ret);
int64_t s390_regset_fit(const struct arch_set *set, const struct arch_set *has, uint8_t *ret);
/* arch_inject.set_wrong; ppc64le has none. */
const char *aarch64_set_wrong(const struct arch_set *set);
const char *s390_set_wrong(const struct arch_set *set);

#endif
