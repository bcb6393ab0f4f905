/* SPDX-License-Identifier: MIT */
/* x86-64 as data: register sets, names and offsets; no ptrace header, so every host builds it. */
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
	{NT_X86_SHSTK, "LINUX", "NT_X86_SHSTK", 8, 8, "6.6; the shadow stack pointer"},
	{0, NULL, NULL, 0, 0, NULL},
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
	/* NT_386_IOPERM (0x201) can only be read. */
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
	.hwcap_other =
		~0ull, /* leaf 1 of CPUID: with bits of no instruction, and none is optional */
};
