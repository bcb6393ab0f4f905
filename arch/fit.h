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
/*
 * As arch_inject.cpu_lacks, of a set that has a vector length. @fits: the length that this CPU has
 * for one who asks for that, 0: not known.
 */
bool aarch64_lacks_length(const struct arch_set *set, uint32_t fits, bool *ret_used, char *buf,
			  size_t len);
const char *aarch64_set_wrong(const struct arch_set *set);
const char *s390_set_wrong(const struct arch_set *set);
/* arch_inject.set_lost */
const char *ppc64_set_lost(const struct arch_set *set);

#endif
