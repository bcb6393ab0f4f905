/* SPDX-License-Identifier: MIT */
/*
 * The values that victim_regs_spin() of regs_ppc64.S holds in all registers of a thread.
 */
#ifndef VICTIM_REGS_PPC64_H
#define VICTIM_REGS_PPC64_H

#include <stddef.h>
#include <stdint.h>
#include <sys/auxv.h>

/* Offsets are known to regs_ppc64.S. */
struct victim_regs {
	uint64_t saved_sp;
	uint64_t count;
	uint32_t stop, isa31;
	uint64_t cr, xer, ctr, lr, tar, dscr, ppr, vrsave, fpscr, hash, sc_ppr;
	uint64_t saved[24];
	uint64_t gpr[32];
	uint64_t vscr[2];
	uint64_t vec[64][2];
	uint64_t scratch[64][2];
	uint64_t scr[8];
} __attribute__((aligned(16)));
_Static_assert(offsetof(struct victim_regs, saved) == 112, "regs_ppc64.S");
_Static_assert(offsetof(struct victim_regs, gpr) == 304, "regs_ppc64.S");
_Static_assert(offsetof(struct victim_regs, vscr) == 560, "regs_ppc64.S");
_Static_assert(offsetof(struct victim_regs, scratch) == 1600, "regs_ppc64.S");
_Static_assert(offsetof(struct victim_regs, scr) == 2624, "regs_ppc64.S");

uint64_t victim_regs_spin(struct victim_regs *r);

/* @r with gpr and vec filled: what cannot be any value, by number @n. */
static inline void victim_regs_complete(struct victim_regs *r, uint64_t n)
{
	/* AT_HWCAP2: Linux arch/powerpc/include/uapi/asm/cputable.h */
	enum { ARCH_3_1 = 0x00040000 };

	r->gpr[1] = (uint64_t)(uintptr_t)r;
	r->isa31 = (getauxval(AT_HWCAP2) & ARCH_3_1) != 0;
	r->cr = 0x05a3c961 ^ (n & 0xffffff) << 4;
	r->xer = 0xa0000000 | (n & 0x7f); /* SO, CA, and a length */
	r->ctr = 0x123456789abcdef0 + n;
	r->lr = 0xfedcba9876543210 - 8 * n;
	r->tar = 0x0f1e2d3c4b5a6978 + 8 * n;
	r->dscr = 1 + n % 7;
	r->ppr = (2 + n % 3) << 50; /* low, medium low, medium */
	r->vrsave = 0x80000001 + n;
	r->fpscr = n % 4;		  /* how to round */
	r->vscr[1] = n % 2 ? 0x10000 : 1; /* not Java's way, or saturated */
}

#endif
