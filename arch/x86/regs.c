/* SPDX-License-Identifier: MIT */
/* x86-64 as data: register sets, names and offsets; no ptrace header, so every host builds it. */
#include <assert.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "arch/arch.h"

/* struct user_regs_struct: 27 words in this order. */
enum {
	R15,
	R14,
	R13,
	R12,
	RBP,
	RBX,
	R11,
	R10,
	R9,
	R8,
	RAX,
	RCX,
	RDX,
	RSI,
	RDI,
	ORIG_RAX,
	RIP,
	CS,
	EFLAGS,
	RSP,
	SS,
	FS_BASE,
	GS_BASE,
	DS,
	ES,
	FS,
	GS,
	NREGS,
};

#define REG(n, i)           \
	{                   \
		n, (i)*8, 8 \
	}

static const struct arch_reg x86_regs[] = {
	REG("r15", R15),	 REG("r14", R14),
	REG("r13", R13),	 REG("r12", R12),
	REG("rbp", RBP),	 REG("rbx", RBX),
	REG("r11", R11),	 REG("r10", R10),
	REG("r9", R9),		 REG("r8", R8),
	REG("rax", RAX),	 REG("rcx", RCX),
	REG("rdx", RDX),	 REG("rsi", RSI),
	REG("rdi", RDI),	 REG("orig_rax", ORIG_RAX),
	REG("rip", RIP),	 REG("cs", CS),
	REG("eflags", EFLAGS),	 REG("rsp", RSP),
	REG("ss", SS),		 REG("fs_base", FS_BASE),
	REG("gs_base", GS_BASE), REG("ds", DS),
	REG("es", ES),		 REG("fs", FS),
	REG("gs", GS),		 {NULL, 0, 0},
};

static const struct arch_regset x86_regsets[] = {
	{NT_PRSTATUS, "CORE", "NT_PRSTATUS", NREGS * 8, NREGS * 8,
	 "2.6; struct user_regs_struct, <sys/user.h>"},
	{NT_FPREGSET, "CORE", "NT_FPREGSET", 512, 512,
	 "2.6; FXSAVE image, Intel SDM vol. 1 10.5.1"},
	{NT_X86_XSTATE, "LINUX", "NT_X86_XSTATE", 0, 16384,
	 "2.6.35; XSAVE image in standard format, Intel SDM vol. 1 13.4, XCR0 at byte 464"},
	{NT_X86_SHSTK, "LINUX", "NT_X86_SHSTK", 8, 8,
	 "6.6; the shadow stack pointer: SSP of Intel SDM vol. 1, CET; "
	 "Documentation/arch/x86/shstk.rst"},
	{0, NULL, NULL, 0, 0, NULL},
};

/*
 * What CPUID says of instructions of programs: Intel SDM vol. 2 and AMD APM vol. 3 at CPUID. Names
 * are those of /proc/cpuinfo, where it has one. Left out is what the kernel tells otherwise
 * (fsgsbase: AT_HWCAP2; protection keys: XCR0; shadow stacks), and what is a hint that every CPU
 * takes (prefetchw, cldemote, endbr64). Word, by its leaf and register:
 */
enum {
	L1_ECX,
	L1_EDX,
	L7_EBX,
	L7_ECX,
	L7_EDX,
	L7_1_EAX,
	L7_1_EDX,
	E1_ECX, /* 0x80000001 */
	E1_EDX,
	E8_EBX, /* 0x80000008 */
	LD_1_EAX,
	NWORDS,
};

static_assert((int)NWORDS == (int)ARCH_INS_WORDS, "words of instructions");

/* Bits of XCR0. */
enum { YMM = 6, ZMM = 0xe6, TILES = 0x60000, APX = 0x80000 };

static const struct arch_ins x86_ins[] = {
	{L1_ECX, 0, 0, "pni"}, /* SSE3 */
	{L1_ECX, 1, 0, "pclmulqdq"},
	{L1_ECX, 9, 0, "ssse3"},
	{L1_ECX, 12, YMM, "fma"},
	{L1_ECX, 13, 0, "cx16"},
	{L1_ECX, 19, 0, "sse4_1"},
	{L1_ECX, 20, 0, "sse4_2"},
	{L1_ECX, 22, 0, "movbe"},
	{L1_ECX, 23, 0, "popcnt"},
	{L1_ECX, 25, 0, "aes"},
	{L1_ECX, 27, 0, "xsave"}, /* OSXSAVE: the kernel, too, has it on */
	{L1_ECX, 28, YMM, "avx"},
	{L1_ECX, 29, YMM, "f16c"},
	{L1_ECX, 30, 0, "rdrand"},
	{L1_EDX, 8, 0, "cx8"},
	{L1_EDX, 15, 0, "cmov"},
	{L1_EDX, 19, 0, "clflush"},
	{L1_EDX, 23, 0, "mmx"},
	{L1_EDX, 24, 0, "fxsr"},
	{L1_EDX, 25, 0, "sse"},
	{L1_EDX, 26, 0, "sse2"},
	{L7_EBX, 3, 0, "bmi1"},
	{L7_EBX, 5, YMM, "avx2"},
	{L7_EBX, 8, 0, "bmi2"},
	{L7_EBX, 11, 0, "rtm"},
	{L7_EBX, 16, ZMM, "avx512f"},
	{L7_EBX, 17, ZMM, "avx512dq"},
	{L7_EBX, 18, 0, "rdseed"},
	{L7_EBX, 19, 0, "adx"},
	{L7_EBX, 21, ZMM, "avx512ifma"},
	{L7_EBX, 23, 0, "clflushopt"},
	{L7_EBX, 24, 0, "clwb"},
	{L7_EBX, 26, ZMM, "avx512pf"},
	{L7_EBX, 27, ZMM, "avx512er"},
	{L7_EBX, 28, ZMM, "avx512cd"},
	{L7_EBX, 29, 0, "sha_ni"},
	{L7_EBX, 30, ZMM, "avx512bw"},
	{L7_EBX, 31, ZMM, "avx512vl"},
	{L7_ECX, 1, ZMM, "avx512vbmi"},
	{L7_ECX, 5, 0, "waitpkg"},
	{L7_ECX, 6, ZMM, "avx512_vbmi2"},
	{L7_ECX, 8, 0, "gfni"},
	{L7_ECX, 9, YMM, "vaes"},
	{L7_ECX, 10, YMM, "vpclmulqdq"},
	{L7_ECX, 11, ZMM, "avx512_vnni"},
	{L7_ECX, 12, ZMM, "avx512_bitalg"},
	{L7_ECX, 14, ZMM, "avx512_vpopcntdq"},
	{L7_ECX, 22, 0, "rdpid"},
	{L7_ECX, 27, 0, "movdiri"},
	{L7_ECX, 28, 0, "movdir64b"},
	{L7_EDX, 2, ZMM, "avx512_4vnniw"},
	{L7_EDX, 3, ZMM, "avx512_4fmaps"},
	{L7_EDX, 8, ZMM, "avx512_vp2intersect"},
	{L7_EDX, 14, 0, "serialize"},
	{L7_EDX, 16, 0, "tsxldtrk"},
	{L7_EDX, 22, TILES, "amx_bf16"},
	{L7_EDX, 23, ZMM, "avx512_fp16"},
	{L7_EDX, 24, TILES, "amx_tile"},
	{L7_EDX, 25, TILES, "amx_int8"},
	{L7_1_EAX, 0, YMM, "sha512"},
	{L7_1_EAX, 1, YMM, "sm3"},
	{L7_1_EAX, 2, YMM, "sm4"},
	{L7_1_EAX, 3, 0, "rao_int"},
	{L7_1_EAX, 4, YMM, "avx_vnni"},
	{L7_1_EAX, 5, ZMM, "avx512_bf16"},
	{L7_1_EAX, 7, 0, "cmpccxadd"},
	{L7_1_EAX, 21, TILES, "amx_fp16"},
	{L7_1_EAX, 23, YMM, "avx_ifma"},
	{L7_1_EAX, 31, 0, "movrs"},
	{L7_1_EDX, 4, YMM, "avx_vnni_int8"},
	{L7_1_EDX, 5, YMM, "avx_ne_convert"},
	{L7_1_EDX, 8, TILES, "amx_complex"},
	{L7_1_EDX, 10, YMM, "avx_vnni_int16"},
	{L7_1_EDX, 19, ZMM, "avx10"},
	{L7_1_EDX, 21, APX, "apx"},
	{E1_ECX, 0, 0, "lahf_lm"},
	{E1_ECX, 5, 0, "abm"}, /* LZCNT, which CPUs without it take for BSR */
	{E1_ECX, 6, 0, "sse4a"},
	{E1_ECX, 11, YMM, "xop"},
	{E1_ECX, 16, YMM, "fma4"},
	{E1_ECX, 21, 0, "tbm"},
	{E1_ECX, 29, 0, "mwaitx"},
	{E1_EDX, 22, 0, "mmxext"},
	{E1_EDX, 27, 0, "rdtscp"},
	{E1_EDX, 30, 0, "3dnowext"},
	{E1_EDX, 31, 0, "3dnow"},
	{E8_EBX, 0, 0, "clzero"},
	{E8_EBX, 4, 0, "rdpru"},
	{LD_1_EAX, 0, 0, "xsaveopt"},
	{LD_1_EAX, 1, 0, "xsavec"},
	{LD_1_EAX, 2, 0, "xgetbv1"},
	{0, 0, 0, NULL},
};

/* <asm/hwcap2.h> */
static const struct arch_cap x86_caps[] = {
	{26, 1 << 0, "ring3mwait"},
	{26, 1 << 1, "fsgsbase"},
	{0, 0, NULL},
};

enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };

static int64_t x86_restart_code(const void *prstatus)
{
	uint64_t r[NREGS];
	int64_t ret;

	memcpy(r, prstatus, sizeof(r));
	ret = (int64_t)r[RAX];
	if ((int64_t)r[ORIG_RAX] < 0)
		return 0;
	if (ret == -ERESTARTSYS || ret == -ERESTARTNOINTR || ret == -ERESTARTNOHAND ||
	    ret == -ERESTART_RESTARTBLOCK)
		return ret;
	return 0;
}

static bool x86_restart_fixup(void *prstatus)
{
	int64_t code = x86_restart_code(prstatus);
	uint64_t r[NREGS];

	if (!code)
		return false;
	memcpy(r, prstatus, sizeof(r));
	if (code == -ERESTART_RESTARTBLOCK) {
		r[RAX] = (uint64_t)-EINTR;
	} else {
		r[RAX] = r[ORIG_RAX];
		r[RIP] -= 2;
	}
	memcpy(prstatus, r, sizeof(r));
	return true;
}

static bool x86_restart_undo(void *prstatus, int64_t code)
{
	uint64_t r[NREGS];

	memcpy(r, prstatus, sizeof(r));
	if ((int64_t)r[ORIG_RAX] < 0)
		return false;
	switch (code) {
	case -ERESTART_RESTARTBLOCK:
		if ((int64_t)r[RAX] != -EINTR)
			return false;
		break;
	case -ERESTARTSYS:
	case -ERESTARTNOINTR:
	case -ERESTARTNOHAND:
		if (r[RAX] != r[ORIG_RAX])
			return false;
		r[RIP] += 2;
		break;
	default:
		return false;
	}
	r[RAX] = (uint64_t)code;
	memcpy(prstatus, r, sizeof(r));
	return true;
}

const struct arch_desc arch_x86_64 = {
	.name = "x86_64",
	.elf_machine = EM_X86_64,
	.elf_class = ELFCLASS64,
	.elf_data = ELFDATA2LSB,
	.criu_march = 1,
	.regsets = x86_regsets,
	/* NT_386_IOPERM (0x201) can only be read: arch_inject.ports_note. */
	.first_note = NT_X86_XSTATE,
	.last_note = 0x20f,
	.pc_off = RIP * 8,
	.sp_off = RSP * 8,
	.fp_off = RBP * 8,
	.ret_off = RAX * 8,
	.sysno_off = ORIG_RAX * 8,
	.regs = x86_regs,
	.restart_code = x86_restart_code,
	.restart_fixup = x86_restart_fixup,
	.restart_undo = x86_restart_undo,
	.syscall_len = 2,
	.caps = x86_caps,
	.hwcap_other = ~0ull, /* leaf 1 of CPUID, which is among the words */
	.ins = x86_ins,
};
