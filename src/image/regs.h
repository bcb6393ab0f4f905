/* SPDX-License-Identifier: MIT */
/*
 * Registers between the kernel's register sets, kept verbatim, and CRIU's messages.
 */
#ifndef IMAGE_REGS_H
#define IMAGE_REGS_H

#include "src/image/meta.h"

/* ELF note types of the register sets used here. */
enum {
	REGS_PRSTATUS = 1,
	REGS_PRFPREG = 2,
	REGS_X86_XSTATE = 0x202,
	REGS_X86_SHSTK = 0x204, /* Linux 6.6: the shadow stack pointer */
	REGS_ARM_TLS = 0x401,
	REGS_ARM_PACA_KEYS = 0x407,
	REGS_ARM_PACG_KEYS = 0x408,
	REGS_ARM_PAC_ENABLED_KEYS = 0x40a,
	REGS_ARM_GCS = 0x410, /* Linux 6.13 */
};

/* A message with everything it points to. */
struct regs_x86 {
	Im__X86Thread thread;
	Im__X86Regs gp;
	Im__X86Fpregs fp;
	Im__X86Xsave xsave;
	Im__X86Cet cet;
	Im__X86Tls tls[M_TLS], *tls_ptr[M_TLS];
	uint32_t st[32], xmm[64], ymmh[64], pkru[2];
	uint64_t bndreg[8], bndcsr[8], opmask[8], zmm_upper[64], hi16_zmm[128];
};

struct regs_ppc64 {
	Im__Ppc64Thread thread;
	Im__Ppc64Tm tm;
	struct regs_ppc64_state {
		Im__Ppc64Regs gp;
		Im__Ppc64Fp fp;
		Im__Ppc64Vr vr;
		Im__Ppc64Vsx vsx;
		uint64_t gpr[32], fpregs[33], vrregs[66], vsxregs[32];
	} live, outer; /* outer: from before a transaction */
};

struct regs_s390 {
	Im__S390Thread thread;
	Im__S390Regs gp;
	Im__S390Fp fp;
	Im__S390Words vxrs_low_msg, vxrs_high_msg, gs_cb_msg, gs_bc_msg;
	Im__S390Ri ri;
	uint64_t gprs[16], fprs[16], vxrs_low[16], vxrs_high[32], gs_cb[4], gs_bc[4], ri_cb[8];
	uint32_t acrs[16];
};

/* Are there entries of the GDT that are its own? */
bool regs_x86_has_tls(const struct m_thread *t);

/* False when the thread has no general registers: there is nothing to tell CRIU. */
bool regs_x86_put(struct regs_x86 *r, const struct m_thread *t);
bool regs_ppc64_put(struct regs_ppc64 *r, const struct m_thread *t);
bool regs_s390_put(struct regs_s390 *r, const struct m_thread *t);
/* The register sets out of CRIU's message, for images that lack ours. -ENOMEM. */
int regs_x86_get(struct model *m, struct m_thread *t, const Im__X86Thread *msg);
int regs_ppc64_get(struct model *m, struct m_thread *t, const Im__Ppc64Thread *msg);
int regs_s390_get(struct model *m, struct m_thread *t, const Im__S390Thread *msg);

/* Room for a register set of @t, zeroed; NULL without memory. */
uint8_t *regs_new_set(struct model *m, struct m_thread *t, uint32_t note, uint32_t len);

struct regs_aarch64 {
	Im__Aarch64Thread thread;
	Im__Aarch64Regs gp;
	Im__Aarch64Fpsimd fp;
	Im__Aarch64Pac pac;
	Im__Aarch64PacAddress address;
	Im__Aarch64PacGeneric generic;
	Im__Aarch64Gcs gcs;
	uint64_t x[31], v[64];
};

/* As above. */
bool regs_aarch64_put(struct regs_aarch64 *r, const struct m_thread *t);
int regs_aarch64_get(struct model *m, struct m_thread *t, const Im__Aarch64Thread *msg);

/* pc and sp as NT_PRSTATUS of @elf_machine has them; false when there is none or it is unknown. */
bool regs_pc_sp(uint16_t elf_machine, bool big_endian, const struct m_thread *t, uint64_t *ret_pc,
		uint64_t *ret_sp);

#endif
