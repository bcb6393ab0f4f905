/* SPDX-License-Identifier: MIT */
/* ppc64le as data: register sets, names and offsets; no ptrace header, so every host builds it. */
#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "arch/arch.h"

/* struct pt_regs: 44 words in this order, of which ptrace shows 48. */
enum {
	R0,
	R1,
	R3 = 3,
	NIP = 32,
	MSR,
	ORIG_R3,
	CTR,
	LR,
	XER,
	CR,
	SOFTE,
	TRAP,
	DAR,
	DSISR,
	RESULT,
	NREGS = 48,
};

#define REG(n, i)           \
	{                   \
		n, (i)*8, 8 \
	}

static const struct arch_reg ppc64_regs[] = {
	REG("r0", 0),
	REG("r1", 1),
	REG("r2", 2),
	REG("r3", 3),
	REG("r4", 4),
	REG("r5", 5),
	REG("r6", 6),
	REG("r7", 7),
	REG("r8", 8),
	REG("r9", 9),
	REG("r10", 10),
	REG("r11", 11),
	REG("r12", 12),
	REG("r13", 13),
	REG("r14", 14),
	REG("r15", 15),
	REG("r16", 16),
	REG("r17", 17),
	REG("r18", 18),
	REG("r19", 19),
	REG("r20", 20),
	REG("r21", 21),
	REG("r22", 22),
	REG("r23", 23),
	REG("r24", 24),
	REG("r25", 25),
	REG("r26", 26),
	REG("r27", 27),
	REG("r28", 28),
	REG("r29", 29),
	REG("r30", 30),
	REG("r31", 31),
	REG("nip", NIP),
	REG("msr", MSR),
	REG("orig_r3", ORIG_R3),
	REG("ctr", CTR),
	REG("lr", LR),
	REG("xer", XER),
	REG("cr", CR),
	REG("softe", SOFTE),
	REG("trap", TRAP),
	REG("dar", DAR),
	REG("dsisr", DSISR),
	REG("result", RESULT),
	{NULL, 0, 0},
};

/*
 * Layouts: Linux arch/powerpc/kernel/ptrace/ptrace-view.c, of the TM sets ptrace-tm.c there. These
 * are of POWER8 and 9, in transactions: what the registers were when it began, as
 * Documentation/arch/powerpc/transactional_memory.rst tells. Registers by name: Power ISA.
 */
static const struct arch_regset ppc64_regsets[] = {
	{NT_PRSTATUS, "CORE", "NT_PRSTATUS", NREGS * 8, NREGS * 8,
	 "2.6; struct pt_regs, <asm/ptrace.h>, and zeros"},
	{NT_FPREGSET, "CORE", "NT_FPREGSET", 264, 264, "2.6; f0 to f31, FPSCR"},
	{NT_PPC_VMX, "LINUX", "NT_PPC_VMX", 544, 544,
	 "2.6; v0 to v31, VSCR, VRSAVE, 16 bytes each"},
	{NT_PPC_VSX, "LINUX", "NT_PPC_VSX", 256, 256, "2.6.26; low doublewords of VSR0 to VSR31"},
	{0x103, "LINUX", "NT_PPC_TAR", 8, 8, "4.8; target address register"},
	{0x104, "LINUX", "NT_PPC_PPR", 8, 8, "4.8; program priority register"},
	{0x105, "LINUX", "NT_PPC_DSCR", 8, 8, "4.8; data stream control register"},
	{0x106, "LINUX", "NT_PPC_EBB", 24, 24, "4.8; EBBRR, EBBHR, BESCR"},
	{0x107, "LINUX", "NT_PPC_PMU", 40, 40, "4.8; SIAR, SDAR, SIER, MMCR2, MMCR0"},
	{0x108, "LINUX", "NT_PPC_TM_CGPR", NREGS * 8, NREGS * 8, "4.8; as NT_PRSTATUS"},
	{0x109, "LINUX", "NT_PPC_TM_CFPR", 264, 264, "4.8; as NT_FPREGSET"},
	{0x10a, "LINUX", "NT_PPC_TM_CVMX", 544, 544, "4.8; as NT_PPC_VMX"},
	{0x10b, "LINUX", "NT_PPC_TM_CVSX", 256, 256, "4.8; as NT_PPC_VSX"},
	{0x10c, "LINUX", "NT_PPC_TM_SPR", 24, 24, "4.8; TFHAR, TEXASR, TFIAR"},
	{0x10d, "LINUX", "NT_PPC_TM_CTAR", 8, 8, "4.8; as NT_PPC_TAR"},
	{0x10e, "LINUX", "NT_PPC_TM_CPPR", 8, 8, "4.8; as NT_PPC_PPR"},
	{0x10f, "LINUX", "NT_PPC_TM_CDSCR", 8, 8, "4.8; as NT_PPC_DSCR"},
	{0x110, "LINUX", "NT_PPC_PKEY", 24, 24, "4.16; AMR, IAMR, UAMOR"},
	{0x111, "LINUX", "NT_PPC_DEXCR", 16, 16,
	 "6.5; DEXCR, HDEXCR: Documentation/arch/powerpc/dexcr.rst"},
	{0x112, "LINUX", "NT_PPC_HASHKEYR", 8, 8,
	 "6.5; the key of hashst and hashchk, dexcr.rst there; CONFIG_CHECKPOINT_RESTORE"},
	{0, NULL, NULL, 0, 0, NULL},
};

/* libunwind's names; those of the others are ours. */
#define GPR(n)                   \
	{                        \
		"GPR" #n, "r" #n \
	}

static const struct arch_alias ppc64_names[] = {
	GPR(0),	 GPR(1),  GPR(2),  GPR(3),  GPR(4),  GPR(5),	   GPR(6),  GPR(7),  GPR(8),
	GPR(9),	 GPR(10), GPR(11), GPR(12), GPR(13), GPR(14),	   GPR(15), GPR(16), GPR(17),
	GPR(18), GPR(19), GPR(20), GPR(21), GPR(22), GPR(23),	   GPR(24), GPR(25), GPR(26),
	GPR(27), GPR(28), GPR(29), GPR(30), GPR(31), {NULL, NULL},
};

/*
 * Linux arch/powerpc/kernel/signal_64.c, at the stack pointer: 128 bytes for the handler, then
 * ucontext: 232 bytes before its registers. Code: addi r1, r1, 128; li r0, 172; sc
 */
static const uint8_t sigtramp[] = {0x80, 0, 0x21, 0x38, 0xac, 0, 0, 0x38, 2, 0, 0, 0x44};

static const struct arch_sigframe ppc64_frames[] = {
	{{sigtramp, sizeof(sigtramp)}, 128 + 232, NREGS * 8, 264},
	{{NULL, 0}, 0, 0, 0},
};

static const struct arch_unwind ppc64_unwind = {.names = ppc64_names, .frames = ppc64_frames};

enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };

/*
 * Which instruction made the call: `sc` (interrupt 0xc00) tells an error by CR0.SO and a positive
 * number, `scv 0` (0x3000, Linux 5.9 on POWER9) by a negative one. Bit 0 of the word is the
 * kernel's note that the call must not be made again.
 */
enum { TRAP_SC = 0xc00, TRAP_SCV = 0x3000, NORESTART = 1 };
#define CR0_SO 0x10000000ull

static uint64_t get(const void *prstatus, unsigned i)
{
	uint64_t v;

	memcpy(&v, (const uint8_t *)prstatus + 8 * i, sizeof(v));
	return le64toh(v);
}

static void set(void *prstatus, unsigned i, uint64_t v)
{
	v = htole64(v);
	memcpy((uint8_t *)prstatus + 8 * i, &v, sizeof(v));
}

/* The result of the call at which @prstatus is; false when it is at none, or made it again. */
static bool call_value(const void *prstatus, int64_t *ret)
{
	uint64_t trap = get(prstatus, TRAP);

	*ret = (int64_t)get(prstatus, R3);
	if (trap == TRAP_SC && get(prstatus, CR) & CR0_SO)
		*ret = -*ret;
	else if (trap == TRAP_SC && *ret < 0)
		*ret = 0; /* no error number, though it looks like one */
	return trap == TRAP_SC || trap == TRAP_SCV;
}

static void set_value(void *prstatus, int64_t value)
{
	if (get(prstatus, TRAP) == TRAP_SC) {
		uint64_t cr = get(prstatus, CR);

		set(prstatus, CR, value < 0 ? cr | CR0_SO : cr & ~CR0_SO);
		value = value < 0 ? -value : value;
	}
	set(prstatus, R3, (uint64_t)value);
}

static int64_t ppc64_restart_code(const void *prstatus)
{
	int64_t ret;

	if (!call_value(prstatus, &ret))
		return 0;
	if (ret == -ERESTARTSYS || ret == -ERESTARTNOINTR || ret == -ERESTARTNOHAND ||
	    ret == -ERESTART_RESTARTBLOCK)
		return ret;
	return 0;
}

static bool ppc64_restart_fixup(void *prstatus)
{
	int64_t code = ppc64_restart_code(prstatus);

	if (!code)
		return false;
	if (code == -ERESTART_RESTARTBLOCK) {
		set_value(prstatus, -EINTR);
	} else {
		set(prstatus, R3, get(prstatus, ORIG_R3));
		set(prstatus, NIP, get(prstatus, NIP) - 4);
	}
	return true;
}

static bool ppc64_restart_undo(void *prstatus, int64_t code)
{
	int64_t ret;

	if (!call_value(prstatus, &ret))
		return false;
	switch (code) {
	case -ERESTART_RESTARTBLOCK:
		if (ret != -EINTR)
			return false;
		break;
	case -ERESTARTSYS:
	case -ERESTARTNOINTR:
	case -ERESTARTNOHAND:
		if (get(prstatus, R3) != get(prstatus, ORIG_R3))
			return false;
		set(prstatus, NIP, get(prstatus, NIP) + 4);
		break;
	default:
		return false;
	}
	set_value(prstatus, code);
	return true;
}

/* Linux arch/powerpc/include/uapi/asm/cputable.h */
static const struct arch_cap ppc64_caps[] = {
	{16, 0x10000000, "altivec"},
	{16, 0x400, "dfp"},
	{16, 0x100, "arch_2_06"},
	{16, 0x80, "vsx"},
	{26, 0x80000000, "arch_2_07"},
	{26, 0x40000000, "htm"},
	{26, 0x20000000, "dscr"},
	{26, 0x10000000, "ebb"},
	{26, 0x08000000, "isel"},
	{26, 0x04000000, "tar"},
	{26, 0x02000000, "vcrypto"},
	{26, 0x01000000, "htm-nosc"},
	{26, 0x00800000, "arch_3_00"},
	{26, 0x00400000, "ieee128"},
	{26, 0x00200000, "darn"},
	{26, 0x00100000, "scv"},
	{26, 0x00080000, "htm-no-suspend"},
	{26, 0x00040000, "arch_3_1"},
	{26, 0x00020000, "mma"},
	{0, 0, NULL},
};

const struct arch_desc arch_ppc64 = {
	.name = "ppc64le",
	.elf_machine = EM_PPC64,
	.elf_class = ELFCLASS64,
	.elf_data = ELFDATA2LSB,
	.criu_march = 4,
	.regsets = ppc64_regsets,
	.first_note = NT_PPC_VMX,
	.last_note = 0x12f,
	.pc_off = NIP * 8,
	.sp_off = R1 * 8,
	/* No register is a frame pointer by convention; programs that have one use r31. */
	.fp_off = 31 * 8,
	.ret_off = R3 * 8,
	.sysno_off = R0 * 8,
	.regs = ppc64_regs,
	.unwind = &ppc64_unwind,
	.restart_code = ppc64_restart_code,
	.restart_fixup = ppc64_restart_fixup,
	.restart_undo = ppc64_restart_undo,
	.syscall_len = 4,
	.undo_anywhere = true,
	.caps = ppc64_caps,
};
