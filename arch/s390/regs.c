/* SPDX-License-Identifier: MIT */
/* s390x as data: register sets, names and offsets; no ptrace header, so every host builds it. */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "arch/arch.h"

/*
 * s390_regs of <asm/ptrace.h>: PSW mask and address, r0 to r15, a0 to a15 of four bytes, and r2 as
 * the last system call found it. A thread's state has the word of NT_S390_SYSTEM_CALL behind it:
 * the length of the instruction that made the call above, its number below; 0: in no call.
 */
enum {
	PSW_ADDR = 8,
	GPRS = 16,
	ACRS = 144,
	ORIG_GPR2 = 208,
	SYSTEM_CALL = 216,
	R2 = GPRS + 2 * 8,
	FPRS = 8, /* s390_fp_regs: FPC, four unused bytes, f0 to f15 */
	FPREGS_LEN = 136,
};

#define GPR(n, i)                    \
	{                            \
		n, GPRS + 8 * (i), 8 \
	}
#define ACR(n, i)                    \
	{                            \
		n, ACRS + 4 * (i), 4 \
	}

static const struct arch_reg s390_regs[] = {
	{"psw_mask", 0, 8},
	{"psw_addr", PSW_ADDR, 8},
	GPR("r0", 0),
	GPR("r1", 1),
	GPR("r2", 2),
	GPR("r3", 3),
	GPR("r4", 4),
	GPR("r5", 5),
	GPR("r6", 6),
	GPR("r7", 7),
	GPR("r8", 8),
	GPR("r9", 9),
	GPR("r10", 10),
	GPR("r11", 11),
	GPR("r12", 12),
	GPR("r13", 13),
	GPR("r14", 14),
	GPR("r15", 15),
	ACR("a0", 0),
	ACR("a1", 1),
	ACR("a2", 2),
	ACR("a3", 3),
	ACR("a4", 4),
	ACR("a5", 5),
	ACR("a6", 6),
	ACR("a7", 7),
	ACR("a8", 8),
	ACR("a9", 9),
	ACR("a10", 10),
	ACR("a11", 11),
	ACR("a12", 12),
	ACR("a13", 13),
	ACR("a14", 14),
	ACR("a15", 15),
	{"orig_r2", ORIG_GPR2, 8},
	{NULL, 0, 0},
};

/*
 * All that Linux shows of a 64-bit thread. The notes 0x300 to 0x305 (upper halves, timer, clock
 * comparator, control registers, prefix) are those of 31-bit threads and of dumps of whole
 * machines.
 */
static const struct arch_regset s390_regsets[] = {
	{NT_PRSTATUS, "CORE", "NT_PRSTATUS", 216, 216, "2.6.27; s390_regs, <asm/ptrace.h>"},
	{NT_FPREGSET, "CORE", "NT_FPREGSET", FPREGS_LEN, FPREGS_LEN,
	 "2.6.27; s390_fp_regs, <asm/ptrace.h>: FPC, f0 to f15"},
	{NT_S390_LAST_BREAK, "LINUX", "NT_S390_LAST_BREAK", 8, 8,
	 "3.0; address of the last branch (Principles of Operation: breaking-event address)"},
	{NT_S390_SYSTEM_CALL, "LINUX", "NT_S390_SYSTEM_CALL", 4, 4,
	 "3.2; the interrupted call: length of its instruction << 16 | number"},
	{NT_S390_TDB, "LINUX", "NT_S390_TDB", 256, 256,
	 "3.7; transaction diagnostic block of the last abort, Principles of Operation 5"},
	{NT_S390_VXRS_LOW, "LINUX", "NT_S390_VXRS_LOW", 128, 128,
	 "3.18; lower halves of v0 to v15, of which f0 to f15 are the upper ones"},
	{NT_S390_VXRS_HIGH, "LINUX", "NT_S390_VXRS_HIGH", 256, 256, "3.18; v16 to v31"},
	{NT_S390_GS_CB, "LINUX", "NT_S390_GS_CB", 32, 32,
	 "4.12; struct gs_cb, <asm/guarded_storage.h>"},
	{NT_S390_GS_BC, "LINUX", "NT_S390_GS_BC", 32, 32,
	 "4.12; the broadcast one, loaded by the next broadcast"},
	{NT_S390_RI_CB, "LINUX", "NT_S390_RI_CB", 64, 64,
	 "4.15; struct runtime_instr_cb, <asm/runtime_instr.h>"},
	{0, NULL, NULL, 0, 0, NULL},
};

static const struct arch_alias s390_names[] = {{"IP", "psw_addr"}, {NULL, NULL}};

/*
 * Linux arch/s390/kernel/signal.c, at the stack pointer: 160 bytes for the handler, then for
 *
 *	one with SA_SIGINFO   8 unused, 128 of siginfo, ucontext: 40 before its registers
 *	any other             sigcontext: the mask, a pointer to the registers, which follow
 */
static const uint8_t svc_rt_sigreturn[] = {0x0a, 173}, svc_sigreturn[] = {0x0a, 119};

static const struct arch_sigframe s390_frames[] = {
	{{svc_rt_sigreturn, 2}, 160 + 8 + 128 + 40, ORIG_GPR2, FPREGS_LEN},
	{{svc_sigreturn, 2}, 160 + 8 + 8, ORIG_GPR2, FPREGS_LEN},
	{{NULL, 0}, 0, 0, 0},
};

/* A function that calls no other keeps general registers in f0 to f7, where it saves a store. */
static const struct arch_unwind s390_unwind = {
	.names = s390_names,
	.fp_first = 16,
	.nfp = 16,
	.fp_off = FPRS,
	.frames = s390_frames,
};

/* Linux arch/s390/include/asm/elf.h; the names are those of /proc/cpuinfo. */
static const struct arch_cap s390_caps[] = {
	{16, 1 << 0, "esan3"},	  {16, 1 << 1, "zarch"}, {16, 1 << 2, "stfle"},
	{16, 1 << 3, "msa"},	  {16, 1 << 4, "ldisp"}, {16, 1 << 5, "eimm"},
	{16, 1 << 6, "dfp"},	  {16, 1 << 7, "edat"},	 {16, 1 << 8, "etf3eh"},
	{16, 1 << 9, "highgprs"}, {16, 1 << 10, "te"},	 {16, 1 << 11, "vx"},
	{16, 1 << 12, "vxd"},	  {16, 1 << 13, "vxe"},	 {16, 1 << 14, "gs"},
	{16, 1 << 15, "vxe2"},	  {16, 1 << 16, "vxp"},	 {16, 1 << 17, "sort"},
	{16, 1 << 18, "dflt"},	  {16, 1 << 19, "vxp2"}, {16, 1 << 20, "nnpa"},
	{16, 1 << 21, "pcimio"},  {16, 1 << 22, "sie"},	 {0, 0, NULL},
};

/* Big endian on every host, so that every host can test it. */
static uint64_t get(const void *state, unsigned off, unsigned size)
{
	const uint8_t *p = (const uint8_t *)state + off;
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v = v << 8 | p[i];
	return v;
}

static void put(void *state, unsigned off, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		((uint8_t *)state)[off + i] = (uint8_t)(v >> (56 - 8 * i));
}

enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };

static int64_t s390_restart_code(const void *state)
{
	int64_t ret = (int64_t)get(state, R2, 8);

	if (!get(state, SYSTEM_CALL, 4))
		return 0;
	if (ret == -ERESTARTSYS || ret == -ERESTARTNOINTR || ret == -ERESTARTNOHAND ||
	    ret == -ERESTART_RESTARTBLOCK)
		return ret;
	return 0;
}

/* Two bytes of `svc`; four or six where an EXECUTE instruction had it made. 0: nothing of the kind.
 */
static unsigned call_len(const void *state)
{
	uint64_t len = get(state, SYSTEM_CALL, 4) >> 16;

	return len == 2 || len == 4 || len == 6 ? (unsigned)len : 0;
}

static bool s390_restart_fixup(void *state)
{
	int64_t code = s390_restart_code(state);

	if (!code)
		return false;
	if (code == -ERESTART_RESTARTBLOCK) {
		put(state, R2, (uint64_t)-EINTR);
	} else {
		put(state, R2, get(state, ORIG_GPR2, 8));
		put(state, PSW_ADDR, get(state, PSW_ADDR, 8) - call_len(state));
	}
	return true;
}

static bool s390_restart_undo(void *state, int64_t code)
{
	unsigned len = call_len(state);

	if (!len)
		return false;
	switch (code) {
	case -ERESTART_RESTARTBLOCK:
		if ((int64_t)get(state, R2, 8) != -EINTR)
			return false;
		break;
	case -ERESTARTSYS:
	case -ERESTARTNOINTR:
	case -ERESTARTNOHAND:
		if (get(state, R2, 8) != get(state, ORIG_GPR2, 8))
			return false;
		put(state, PSW_ADDR, get(state, PSW_ADDR, 8) + len);
		break;
	default:
		return false;
	}
	put(state, R2, (uint64_t)code);
	return true;
}

const struct arch_desc arch_s390 = {
	.name = "s390x",
	.elf_machine = EM_S390,
	.elf_class = ELFCLASS64,
	.elf_data = ELFDATA2MSB,
	.criu_march = 5,
	.regsets = s390_regsets,
	.first_note = NT_S390_HIGH_GPRS,
	.last_note = 0x31f,
	.pc_off = PSW_ADDR,
	.sp_off = GPRS + 15 * 8,
	.fp_off = GPRS + 11 * 8,
	.ret_off = R2,
	.sysno_off = ARCH_NO_OFF,
	.regs = s390_regs,
	.unwind = &s390_unwind,
	.restart_code = s390_restart_code,
	.restart_fixup = s390_restart_fixup,
	.restart_undo = s390_restart_undo,
	.syscall_len = 2,
	.caps = s390_caps,
	/* what only kernels, or drivers through them, make use of: edat, pcimio, sie */
	.hwcap_other = 1 << 7 | 1 << 21 | 1 << 22,
};
