/* SPDX-License-Identifier: MIT */
/* Between inject.c and frame.c: the signal frame from which a thread puts itself right. */
#ifndef ARCH_AARCH64_FRAME_H
#define ARCH_AARCH64_FRAME_H

#include <assert.h>

#include "arch/arch.h"

/* struct user_pt_regs, and the set with the call's number behind it. */
struct regs {
	uint64_t x[31], sp, pc, pstate;
	int32_t call;
};

enum { PRSTATUS_LEN = 272, REGS_LEN = PRSTATUS_LEN + ARCH_CALL_LEN };

static_assert(offsetof(struct regs, call) == PRSTATUS_LEN, "NT_PRSTATUS");

/*
 * struct rt_sigframe, Linux arch/arm64/kernel/signal.c: what rt_sigreturn takes. The records that
 * follow begin with a magic number and their length; the last one is two zeros.
 */
struct frame {
	uint8_t siginfo[128];
	uint64_t uc_flags, uc_link;
	uint64_t ss_sp, ss_flags, ss_size;
	uint64_t sigmask;
	uint64_t unused[16];	/* of a mask of 1024 signals; then up to a multiple of 16 */
	uint64_t fault_address; /* not looked at by rt_sigreturn: enum what */
	uint64_t x[31], sp, pc, pstate;
	uint64_t pad;
	struct fpsimd {
		uint32_t magic, len;
		uint32_t fpsr, fpcr;
		uint8_t v[512];
	} fp;
	/*
	 * FPMR, POR_EL0, SVE, the end. The kernel looks at 4096 bytes from fp on; what does not fit
	 * comes in an extra part, which lies right behind:
	 *
	 *	0x460	FPMR, POR_EL0	16 bytes each, where they are in use
	 *	0x480	extra		where that part is, and its length
	 *	0x4a0	the end
	 *	0x4b0	SVE		2048 bits: 16 + 32 * 256 + 17 * 32 bytes, 0x2230
	 *	0x26e0	the end
	 */
	uint8_t more[];
};

/* The longest there is, as in the picture. */
enum { FRAME_MAX = 0x26f0 };

static_assert(sizeof(struct frame) == 0x460, "struct frame");

/* What a frame has beside the general registers; NULL: it is not in use. */
struct frame_more {
	const struct arch_set *sve, *fpmr, *poe;
};

/* Whether calls, or a frame without it, leave nothing of @set: arch_inject.is_lost. */
bool aarch64_is_lost(const struct arch_set *set);

/* @sets: NT_ARM_SVE, NT_ARM_SSVE, NT_ARM_FPMR, NT_ARM_POE; len 0: not in use. */
struct frame_more aarch64_frame_more(const struct arch_set sets[4]);
size_t aarch64_frame_len(const struct frame_more *m);

/*
 * @f, which has room for aarch64_frame_len() bytes and is to lie at @addr, a multiple of 16. Vector
 * registers, FPSR and FPCR are zero where @m has no sve.
 */
void aarch64_put_frame(struct frame *f, uint64_t addr, const struct regs *r, uint64_t sigmask,
		       const struct frame_more *m);

#endif
