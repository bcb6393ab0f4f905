/* SPDX-License-Identifier: MIT */
/* Between inject.c and fit.c: the head of NT_ARM_SVE, NT_ARM_SSVE and NT_ARM_ZA. */
#ifndef ARCH_AARCH64_SVE_H
#define ARCH_AARCH64_SVE_H

#include "arch/arch.h"

/* struct user_sve_header, struct user_za_header */
struct sve_header {
	uint32_t len, max_len;
	uint16_t vl, max_vl, flags, reserved;
};

enum {
	SVE_HEAD = 16, /* of a record in a signal frame, too */
	SVE_REGS = 1,  /* SVE_PT_REGS_SVE */
	VL_MAX = 256,
};

/* False when it has none, or one with a vector length that there is not. */
bool aarch64_sve_header(const struct arch_set *set, struct sve_header *ret);

/* Z, P and FFR without FPSR and FPCR. */
static inline uint32_t aarch64_sve_regs_len(uint32_t vl)
{
	return 32 * vl + 17 * (vl / 8);
}

#endif
