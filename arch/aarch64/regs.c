/* SPDX-License-Identifier: MIT */
/* aarch64 as data: register sets, names and offsets; no ptrace header, so every host builds it. */
#include <elf.h>
#include <string.h>

#include "arch/arch.h"

/* struct user_pt_regs: x0 to x30, sp, pc, pstate. */
enum { X8 = 8, X29 = 29, SP = 31, PC, PSTATE, NREGS };

enum { NR_RESTART_SYSCALL = 128, ERESTART_RESTARTBLOCK = 516 };

#define REG(n, i)           \
	{                   \
		n, (i)*8, 8 \
	}

static const struct arch_reg aarch64_regs[] = {
	REG("x0", 0),	REG("x1", 1),	REG("x2", 2),	REG("x3", 3),	       REG("x4", 4),
	REG("x5", 5),	REG("x6", 6),	REG("x7", 7),	REG("x8", X8),	       REG("x9", 9),
	REG("x10", 10), REG("x11", 11), REG("x12", 12), REG("x13", 13),	       REG("x14", 14),
	REG("x15", 15), REG("x16", 16), REG("x17", 17), REG("x18", 18),	       REG("x19", 19),
	REG("x20", 20), REG("x21", 21), REG("x22", 22), REG("x23", 23),	       REG("x24", 24),
	REG("x25", 25), REG("x26", 26), REG("x27", 27), REG("x28", 28),	       REG("x29", X29),
	REG("x30", 30), REG("sp", SP),	REG("pc", PC),	REG("pstate", PSTATE), {NULL, 0, 0},
};

/*
 * In the order in which they are put back. FPSIMD before SVE: its registers are the low parts of
 * those, and writing it clears the rest. ZA before ZT: ZT is there only when ZA is on. A struct
 * without a place is in <asm/ptrace.h>; a set without a struct is the registers that are named, as
 * the Arm Architecture Reference Manual (DDI 0487) has them.
 */
static const struct arch_regset aarch64_regsets[] = {
	{NT_PRSTATUS, "CORE", "NT_PRSTATUS", NREGS * 8, NREGS * 8, "3.7; struct user_pt_regs"},
	{NT_FPREGSET, "CORE", "NT_FPREGSET", 528, 528,
	 "3.7; struct user_fpsimd_state: v0 to v31, FPSR, FPCR"},
	{NT_ARM_TLS, "LINUX", "NT_ARM_TLS", 0, 16,
	 "3.7; TPIDR_EL0; 6.0 on a CPU with SME: TPIDR2_EL0, too"},
	{NT_ARM_HW_BREAK, "LINUX", "NT_ARM_HW_BREAK", 0, 264,
	 "3.7; struct user_hwdebug_state, as many pairs as the low byte of dbg_info says"},
	{NT_ARM_HW_WATCH, "LINUX", "NT_ARM_HW_WATCH", 0, 264, "3.7; likewise"},
	{NT_ARM_SYSTEM_CALL, "LINUX", "NT_ARM_SYSTEM_CALL", 4, 4,
	 "3.19; the number of the system call, -1: none"},
	{NT_ARM_SVE, "LINUX", "NT_ARM_SVE", 0, 16 + 32 * 256 + 17 * 32 + 16,
	 "4.15; struct user_sve_header and registers, Documentation/arch/arm64/sve.rst"},
	{NT_ARM_SSVE, "LINUX", "NT_ARM_SSVE", 0, 16 + 32 * 256 + 17 * 32 + 16,
	 "5.19; as NT_ARM_SVE, in streaming mode; Documentation/arch/arm64/sme.rst"},
	{NT_ARM_ZA, "LINUX", "NT_ARM_ZA", 0, 16 + 256 * 256,
	 "5.19; struct user_za_header and the matrix where it is on, "
	 "Documentation/arch/arm64/sme.rst"},
	{NT_ARM_ZT, "LINUX", "NT_ARM_ZT", 64, 64,
	 "6.3; ZT0, with SME2; Documentation/arch/arm64/sme.rst"},
	{NT_ARM_PAC_MASK, "LINUX", "NT_ARM_PAC_MASK", 16, 16,
	 "5.0; struct user_pac_mask, read-only"},
	{NT_ARM_PACA_KEYS, "LINUX", "NT_ARM_PACA_KEYS", 64, 64,
	 "5.1; struct user_pac_address_keys"},
	{NT_ARM_PACG_KEYS, "LINUX", "NT_ARM_PACG_KEYS", 16, 16,
	 "5.1; struct user_pac_generic_keys"},
	{NT_ARM_TAGGED_ADDR_CTRL, "LINUX", "NT_ARM_TAGGED_ADDR_CTRL", 8, 8,
	 "5.10; as PR_SET_TAGGED_ADDR_CTRL takes it"},
	{NT_ARM_PAC_ENABLED_KEYS, "LINUX", "NT_ARM_PAC_ENABLED_KEYS", 8, 8,
	 "5.13; as PR_PAC_SET_ENABLED_KEYS takes it"},
	{NT_ARM_FPMR, "LINUX", "NT_ARM_FPMR", 8, 8, "6.9; FPMR, DDI 0487"},
	{NT_ARM_POE, "LINUX", "NT_ARM_POE", 8, 8,
	 "6.12; POR_EL0, DDI 0487; Documentation/core-api/protection-keys.rst"},
	{NT_ARM_GCS, "LINUX", "NT_ARM_GCS", 24, 24,
	 "6.13; struct user_gcs, Documentation/arch/arm64/gcs.rst"},
	{0, NULL, NULL, 0, 0, NULL},
};

/*
 * The kernel has made the call ready to be made again before the stop, so there is nothing to fix.
 * A sleep is made from its start by whoever sees only the registers. One of which the kernel has
 * kept the end is continued by another call.
 */
static bool aarch64_restart_undo(void *prstatus, int64_t code)
{
	const uint64_t nr = NR_RESTART_SYSCALL;

	if (code != -ERESTART_RESTARTBLOCK)
		return false;
	memcpy((uint8_t *)prstatus + X8 * 8, &nr, sizeof(nr));
	return true;
}

static const struct arch_alias aarch64_names[] = {
	{"ip0", "x16"}, {"ip1", "x17"}, {"fp", "x29"}, {"lr", "x30"}, {NULL, NULL},
};

static const struct arch_unwind aarch64_unwind = {.names = aarch64_names};

/* <asm/hwcap.h> of 6.18, Documentation/arch/arm64/elf_hwcaps.rst; names of /proc/cpuinfo */
enum { AT_CAP = 16, AT_CAP2 = 26, AT_CAP3 = 29, CAP2_MTE = 1 << 18 };

static const struct arch_cap aarch64_caps[] = {
	{AT_CAP, 1 << 0, "fp"},
	{AT_CAP, 1 << 1, "asimd"},
	{AT_CAP, 1 << 2, "evtstrm"},
	{AT_CAP, 1 << 3, "aes"},
	{AT_CAP, 1 << 4, "pmull"},
	{AT_CAP, 1 << 5, "sha1"},
	{AT_CAP, 1 << 6, "sha2"},
	{AT_CAP, 1 << 7, "crc32"},
	{AT_CAP, 1 << 8, "atomics"},
	{AT_CAP, 1 << 9, "fphp"},
	{AT_CAP, 1 << 10, "asimdhp"},
	{AT_CAP, 1 << 11, "cpuid"},
	{AT_CAP, 1 << 12, "asimdrdm"},
	{AT_CAP, 1 << 13, "jscvt"},
	{AT_CAP, 1 << 14, "fcma"},
	{AT_CAP, 1 << 15, "lrcpc"},
	{AT_CAP, 1 << 16, "dcpop"},
	{AT_CAP, 1 << 17, "sha3"},
	{AT_CAP, 1 << 18, "sm3"},
	{AT_CAP, 1 << 19, "sm4"},
	{AT_CAP, 1 << 20, "asimddp"},
	{AT_CAP, 1 << 21, "sha512"},
	{AT_CAP, 1 << 22, "sve"},
	{AT_CAP, 1 << 23, "asimdfhm"},
	{AT_CAP, 1 << 24, "dit"},
	{AT_CAP, 1 << 25, "uscat"},
	{AT_CAP, 1 << 26, "ilrcpc"},
	{AT_CAP, 1 << 27, "flagm"},
	{AT_CAP, 1 << 28, "ssbs"},
	{AT_CAP, 1 << 29, "sb"},
	{AT_CAP, 1 << 30, "paca"},
	{AT_CAP, 1ull << 31, "pacg"},
	{AT_CAP, 1ull << 32, "gcs"},
	{AT_CAP, 1ull << 33, "cmpbr"},
	{AT_CAP, 1ull << 34, "fprcvt"},
	{AT_CAP, 1ull << 35, "f8mm8"},
	{AT_CAP, 1ull << 36, "f8mm4"},
	{AT_CAP, 1ull << 37, "svef16mm"},
	{AT_CAP, 1ull << 38, "sveeltperm"},
	{AT_CAP, 1ull << 39, "sveaes2"},
	{AT_CAP, 1ull << 40, "svebfscale"},
	{AT_CAP, 1ull << 41, "sve2p2"},
	{AT_CAP, 1ull << 42, "sme2p2"},
	{AT_CAP, 1ull << 43, "smesbitperm"},
	{AT_CAP, 1ull << 44, "smeaes"},
	{AT_CAP, 1ull << 45, "smesfexpa"},
	{AT_CAP, 1ull << 46, "smestmop"},
	{AT_CAP, 1ull << 47, "smesmop4"},
	{AT_CAP2, 1 << 0, "dcpodp"},
	{AT_CAP2, 1 << 1, "sve2"},
	{AT_CAP2, 1 << 2, "sveaes"},
	{AT_CAP2, 1 << 3, "svepmull"},
	{AT_CAP2, 1 << 4, "svebitperm"},
	{AT_CAP2, 1 << 5, "svesha3"},
	{AT_CAP2, 1 << 6, "svesm4"},
	{AT_CAP2, 1 << 7, "flagm2"},
	{AT_CAP2, 1 << 8, "frint"},
	{AT_CAP2, 1 << 9, "svei8mm"},
	{AT_CAP2, 1 << 10, "svef32mm"},
	{AT_CAP2, 1 << 11, "svef64mm"},
	{AT_CAP2, 1 << 12, "svebf16"},
	{AT_CAP2, 1 << 13, "i8mm"},
	{AT_CAP2, 1 << 14, "bf16"},
	{AT_CAP2, 1 << 15, "dgh"},
	{AT_CAP2, 1 << 16, "rng"},
	{AT_CAP2, 1 << 17, "bti"},
	{AT_CAP2, CAP2_MTE, "mte"},
	{AT_CAP2, 1 << 19, "ecv"},
	{AT_CAP2, 1 << 20, "afp"},
	{AT_CAP2, 1 << 21, "rpres"},
	{AT_CAP2, 1 << 22, "mte3"},
	{AT_CAP2, 1 << 23, "sme"},
	{AT_CAP2, 1 << 24, "smei16i64"},
	{AT_CAP2, 1 << 25, "smef64f64"},
	{AT_CAP2, 1 << 26, "smei8i32"},
	{AT_CAP2, 1 << 27, "smef16f32"},
	{AT_CAP2, 1 << 28, "smeb16f32"},
	{AT_CAP2, 1 << 29, "smef32f32"},
	{AT_CAP2, 1 << 30, "smefa64"},
	{AT_CAP2, 1ull << 31, "wfxt"},
	{AT_CAP2, 1ull << 32, "ebf16"},
	{AT_CAP2, 1ull << 33, "sveebf16"},
	{AT_CAP2, 1ull << 34, "cssc"},
	{AT_CAP2, 1ull << 35, "rprfm"},
	{AT_CAP2, 1ull << 36, "sve2p1"},
	{AT_CAP2, 1ull << 37, "sme2"},
	{AT_CAP2, 1ull << 38, "sme2p1"},
	{AT_CAP2, 1ull << 39, "smei16i32"},
	{AT_CAP2, 1ull << 40, "smebi32i32"},
	{AT_CAP2, 1ull << 41, "smeb16b16"},
	{AT_CAP2, 1ull << 42, "smef16f16"},
	{AT_CAP2, 1ull << 43, "mops"},
	{AT_CAP2, 1ull << 44, "hbc"},
	{AT_CAP2, 1ull << 45, "sveb16b16"},
	{AT_CAP2, 1ull << 46, "lrcpc3"},
	{AT_CAP2, 1ull << 47, "lse128"},
	{AT_CAP2, 1ull << 48, "fpmr"},
	{AT_CAP2, 1ull << 49, "lut"},
	{AT_CAP2, 1ull << 50, "faminmax"},
	{AT_CAP2, 1ull << 51, "f8cvt"},
	{AT_CAP2, 1ull << 52, "f8fma"},
	{AT_CAP2, 1ull << 53, "f8dp4"},
	{AT_CAP2, 1ull << 54, "f8dp2"},
	{AT_CAP2, 1ull << 55, "f8e4m3"},
	{AT_CAP2, 1ull << 56, "f8e5m2"},
	{AT_CAP2, 1ull << 57, "smelutv2"},
	{AT_CAP2, 1ull << 58, "smef8f16"},
	{AT_CAP2, 1ull << 59, "smef8f32"},
	{AT_CAP2, 1ull << 60, "smesf8fma"},
	{AT_CAP2, 1ull << 61, "smesf8dp4"},
	{AT_CAP2, 1ull << 62, "smesf8dp2"},
	{AT_CAP2, 1ull << 63, "poe"},
	{AT_CAP3, 1 << 0, "mtefar"},
	{AT_CAP3, 1 << 1, "mtestoreonly"},
	{AT_CAP3, 1 << 2, "lsfe"},
	{0, 0, NULL},
};

/* PROT_MTE and the requests: <asm/mman.h>, <asm/ptrace.h>, Linux 5.10. */
static const struct arch_tags aarch64_tags = {
	.name = "MTE (Documentation/arch/arm64/memory-tagging-extension.rst)",
	.granule = 16,
	.prot = 0x20,
	.peek = 33,
	.poke = 34,
	.hwcap_type = AT_CAP2,
	.hwcap = CAP2_MTE,
	.ctrl_note = NT_ARM_TAGGED_ADDR_CTRL,
	.ctrl_on = 6, /* PR_MTE_TCF_SYNC, PR_MTE_TCF_ASYNC */
	.core_segment = 0x70000002,
};

const struct arch_desc arch_aarch64 = {
	.name = "aarch64",
	.elf_machine = EM_AARCH64,
	.elf_class = ELFCLASS64,
	.elf_data = ELFDATA2LSB,
	.criu_march = 3,
	.regsets = aarch64_regsets,
	.first_note = NT_ARM_TLS,
	.last_note = 0x42f,
	.pc_off = PC * 8,
	.sp_off = SP * 8,
	.fp_off = X29 * 8,
	.ret_off = 0,
	.sysno_off = X8 * 8,
	.regs = aarch64_regs,
	.unwind = &aarch64_unwind,
	.steps_back = true,
	.restart_undo = aarch64_restart_undo,
	.caps = aarch64_caps,
	.tags = &aarch64_tags,
};
