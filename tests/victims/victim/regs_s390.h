/* SPDX-License-Identifier: MIT */
/*
 * The values that victim_regs_spin() of regs_s390.S holds in all registers of a thread.
 */
#ifndef VICTIM_REGS_S390_H
#define VICTIM_REGS_S390_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

/* Offsets are known to regs_s390.S. */
struct victim_regs {
	uint64_t save_area[20]; /* r15 points here: a callee's, should there be one */
	uint64_t unused;
	uint64_t count;
	uint32_t stop, vx;
	uint32_t fpc, cc; /* cc: condition code and program mask, as IPM tells them */
	uint64_t gpr[16];
	uint32_t acr[16]; /* the first two are the thread's pointer */
	uint64_t vec[32][2];
	uint64_t scratch[32][2];
	uint32_t scr_acr[16];
	uint32_t scr_fpc, scr_cc;
	uint64_t scr_gpr[2];
	uint64_t saved_fpr[8];
	uint32_t saved_acr[16];
	uint32_t saved_fpc, saved_cc;
	uint64_t saved_gpr[10]; /* r6 to r15 */
} __attribute__((aligned(16)));
_Static_assert(offsetof(struct victim_regs, count) == 168, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, gpr) == 192, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, acr) == 320, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, vec) == 384, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, scratch) == 896, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, scr_acr) == 1408, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, scr_fpc) == 1472, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, scr_gpr) == 1480, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, saved_fpr) == 1496, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, saved_acr) == 1560, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, saved_fpc) == 1624, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, saved_gpr) == 1632, "regs_s390.S");

uint64_t victim_regs_spin(struct victim_regs *r);

/* @r with gpr, acr and vec filled: what cannot be any value, by number @n. */
static inline void victim_regs_complete(struct victim_regs *r, uint32_t n)
{
	enum { HWCAP_VX = 1 << 11 }; /* Linux arch/s390/include/asm/elf.h */

	r->gpr[15] = (uint64_t)(uintptr_t)r;
	__asm__("ear %0, %%a0\n\tear %1, %%a1" : "=d"(r->acr[0]), "=d"(r->acr[1]));
	r->vx = (getauxval(AT_HWCAP) & HWCAP_VX) != 0;
	memcpy(r->scratch, r->vec, sizeof(r->vec));
	r->fpc = 0x00000030 | n % 4; /* how to round, decimal and binary */
	r->cc = n % 4 << 28;	     /* no trap of an overflow */
}

#endif
