/* SPDX-License-Identifier: MIT */
/*
 * The values that victim_regs_spin() of regs_aarch64.S holds in all registers of a thread.
 */
#ifndef VICTIM_REGS_AARCH64_H
#define VICTIM_REGS_AARCH64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

/* FPSIMD registers alone; SVE; streaming mode with the matrix ZA. */
enum victim_mode { VICTIM_FPSIMD, VICTIM_SVE, VICTIM_SME };
enum { VICTIM_VL_MAX = 256 };

/* Offsets are known to regs_aarch64.S. */
struct victim_regs {
	uint64_t saved_sp;
	uint64_t count;
	uint32_t stop;
	uint32_t mode;
	uint32_t fpsr, fpcr;
	uint64_t gpr[31];
	uint64_t vl;
	uint64_t za;   /* where the matrix lies: vl * vl bytes, then 64 of ZT0 */
	uint64_t fpmr; /* 0: this CPU has none */
	uint8_t p[560], z[32 * VICTIM_VL_MAX];
	uint8_t scratch_p[560], scratch_z[32 * VICTIM_VL_MAX];
	uint64_t has_zt, por; /* POR_EL0; 0: this CPU has none */
	uint64_t saved[20];
} __attribute__((aligned(16)));
_Static_assert(offsetof(struct victim_regs, vl) == 280, "regs_aarch64.S");
_Static_assert(offsetof(struct victim_regs, fpmr) == 296, "regs_aarch64.S");
_Static_assert(offsetof(struct victim_regs, p) == 304, "regs_aarch64.S");
_Static_assert(offsetof(struct victim_regs, z) == 864, "regs_aarch64.S");
_Static_assert(offsetof(struct victim_regs, scratch_p) == 9056, "regs_aarch64.S");
_Static_assert(offsetof(struct victim_regs, scratch_z) == 9616, "regs_aarch64.S");
_Static_assert(offsetof(struct victim_regs, has_zt) == 17808, "regs_aarch64.S");
_Static_assert(offsetof(struct victim_regs, saved) == 17824, "regs_aarch64.S");

uint64_t victim_regs_spin(struct victim_regs *r);

/* Thread number 0 has the most that this CPU has, the next ones less, and so on. */
static inline uint32_t victim_regs_mode(uint64_t n)
{
	enum { HAS_SVE = 1 << 22 /* AT_HWCAP */, HAS_SME = 1 << 23 /* AT_HWCAP2, Linux 5.19 */ };
	uint32_t best = getauxval(AT_HWCAP2) & HAS_SME	? VICTIM_SME
			: getauxval(AT_HWCAP) & HAS_SVE ? VICTIM_SVE
							: VICTIM_FPSIMD;

	return best - (uint32_t)(n % (best + 1));
}

/* Bytes of a vector in @mode, @longest: of the longest that there are; below 0: the kernel does not
 * tell. */
static inline int victim_regs_vl(uint32_t mode, bool longest)
{
	enum { SME_SET_VL = 63, SME_GET_VL /* Linux 5.19 */, VL_MASK = 0xffff };
	int vl = 16;

	if (mode == VICTIM_SVE)
		vl = longest ? prctl(PR_SVE_SET_VL, VICTIM_VL_MAX) : prctl(PR_SVE_GET_VL);
	else if (mode == VICTIM_SME)
		vl = longest ? prctl(SME_SET_VL, VICTIM_VL_MAX) : prctl(SME_GET_VL);
	return vl < 0 ? vl : vl & VL_MASK;
}

/* Bytes at @r->za. */
static inline size_t victim_regs_za_len(const struct victim_regs *r)
{
	return r->vl * r->vl + 64;
}

/* @r with mode, vl, gpr, z and p filled: what cannot be any value. */
static inline void victim_regs_complete(struct victim_regs *r)
{
	/* AT_HWCAP2: Linux 6.3, 6.9 and 6.12. */
	const uint64_t sme2 = 1ull << 37, fpmr = 1ull << 48, poe = 1ull << 63;
	const uint64_t has = getauxval(AT_HWCAP2);

	/* FFR: the lower elements only, as faults leave it. */
	memset(r->p + 2 * r->vl, 0, r->vl / 8);
	r->p[2 * r->vl] = 0x7f;
	r->fpcr = 3 << 22;		       /* round to zero */
	r->fpsr = 1 << 27 | 1 << 4;	       /* saturated, inexact */
	r->fpmr = has & fpmr ? 0x2a154000 : 0; /* scales, saturated */
	r->has_zt = r->mode == VICTIM_SME && has & sme2;
	r->por = has & poe ? 0x107 : 0; /* key 0: all, key 2: to be read */
}

#endif
