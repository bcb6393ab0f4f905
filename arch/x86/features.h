/* SPDX-License-Identifier: MIT */
/* Between inject.c, xstate.c and features.c. */
#ifndef ARCH_X86_FEATURES_H
#define ARCH_X86_FEATURES_H

#include "arch/arch.h"

/* Of a standard-format XSAVE image: the FXSAVE image, the header behind it, both. */
enum { FX_LEN = 512, XHDR_LEN = 64, XSAVE_MIN = FX_LEN + XHDR_LEN };

/* arch_inject.cpu_lacks, .regset_fit, .set_wrong */
bool x86_cpu_lacks(const struct arch_set *set, uint64_t permitted, bool *ret_used, char *buf,
		   size_t len);
/* arch_inject.ins_words, .lazy_area */
void x86_ins_words(uint32_t ret[ARCH_INS_WORDS]);
bool x86_lazy_area(const struct arch_set *set, uint8_t ret[ARCH_LAZY_LEN]);
int64_t x86_regset_fit(const struct arch_set *set, const struct arch_set *has, uint8_t *ret);
const char *x86_set_wrong(const struct arch_set *set);

/*
 * Length of a standard-format XSAVE image that holds the components in @bv, 0 when this CPU does
 * not have them, or one of @xstate_len bytes has not. A frame is cut to it: the kernel refuses one
 * longer than the thread's own (which has no AMX tiles before their first use, while GETREGSET
 * always shows room for them).
 */
uint32_t x86_xstate_len(uint64_t bv, size_t xstate_len);

#endif
