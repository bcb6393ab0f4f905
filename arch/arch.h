/* SPDX-License-Identifier: MIT */
/*
 * One CPU as data: register sets, where pc and sp are. The only interface of arch/.
 *
 * Data (regs.c) of every CPU is in every build, because `stasis show` opens any image; code
 * (inject.c) only for the host. What a CPU lacks is a NULL hook, tested in the one place that calls
 * it.
 *
 * Porting checklist: a folder with regs.c (register sets and offsets, no ptrace header, builds on
 * every host) and inject.c (host only); one row in arch.c; a march number for CRIU's core entry;
 * the batch loop proved by tests/unit/target and the kill test.
 */
#ifndef ARCH_ARCH_H
#define ARCH_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A register set as the kernel's ptrace GETREGSET knows it. */
struct arch_regset {
	uint32_t note;	   /* NT_* type, also the ELF note type */
	const char *owner; /* ELF note owner: "CORE" or "LINUX" */
	const char *name;  /* "NT_PRSTATUS" */
	uint32_t size;	   /* bytes; 0: varies with the CPU, largest in max_size */
	uint32_t max_size;
	const char *since; /* kernel version that brought it and where its layout is documented */
};

struct arch_desc {
	const char *name;		   /* "x86_64" */
	uint16_t elf_machine;		   /* EM_* */
	uint8_t elf_class;		   /* ELFCLASS64 */
	uint8_t elf_data;		   /* ELFDATA2LSB or ELFDATA2MSB */
	uint32_t criu_march;		   /* core_entry.mtype */
	const struct arch_regset *regsets; /* ends with note 0; the first is NT_PRSTATUS */
	/* byte offsets and widths in the NT_PRSTATUS register set */
	uint32_t pc_off, sp_off, fp_off, ret_off, sysno_off;
	/* name, byte offset and width of each general register, for show; ends with NULL */
	const struct arch_reg {
		const char *name;
		uint16_t off;
		uint8_t size;
	} * regs;
	/*
	 * A thread that was stopped inside a restartable system call: changes @prstatus to what it
	 * must hold so that the call is made again (ERESTARTSYS, NOINTR, NOHAND) or returns EINTR
	 * (ERESTART_RESTARTBLOCK) once it is put back without the kernel's help. True if changed.
	 * NULL where the kernel has done it before the stop (aarch64).
	 */
	bool (*restart_fixup)(void *prstatus);
	/*
	 * Bytes of the system-call instruction that restart_fixup steps back over; 0 where it does
	 * not. `stasis core` steps forward again, to show what a debugger at the process shows.
	 */
	uint8_t syscall_len;
};

/* By ELF machine; NULL when unknown. */
const struct arch_desc *arch_by_machine(uint16_t elf_machine);
const struct arch_desc *arch_by_march(uint32_t criu_march);
/* The CPU this build runs on. */
const struct arch_desc *arch_host(void);

#endif
