/* SPDX-License-Identifier: MIT */
/* General registers of a thread: read by offset, and as they were before the restart fix-up. */
#include "src/inspect/regs.h"

static bool is_big(const struct arch_desc *arch)
{
	enum { MSB = 2 }; /* ELFDATA2MSB */

	return arch->elf_data == MSB;
}

uint64_t regs_get(const uint8_t *regs, uint32_t len, uint32_t off, unsigned size,
		  const struct arch_desc *arch)
{
	bool big = is_big(arch);
	uint64_t v = 0;

	if (size > 8 || off > len || size > len - off)
		return 0;
	for (unsigned i = 0; i < size; i++)
		v |= (uint64_t)regs[off + i] << 8 * (big ? size - 1 - i : i);
	return v;
}

static void set(uint8_t *regs, uint32_t off, uint64_t v, bool big)
{
	for (unsigned i = 0; i < 8; i++)
		regs[off + i] = (uint8_t)(v >> 8 * (big ? 7 - i : i));
}

void regs_undo_restart(uint8_t *regs, uint32_t len, const struct m_thread *t,
		       const struct arch_desc *arch)
{
	enum { KERNEL_RESTARTBLOCK = 516 }; /* include/linux/errno.h of the kernel */
	bool big = is_big(arch);

	if (!t->in_syscall || !arch->syscall_len || len < 8 || arch->pc_off > len - 8 ||
	    arch->ret_off > len - 8 ||
	    (arch->sysno_off > len - 8 && arch->sysno_off != ARCH_NO_OFF))
		return;
	if (arch->undo_anywhere && len == arch->regsets[0].size) {
		arch->restart_undo(regs, t->syscall_ret);
		return;
	}
	/* The restart-block case became EINTR in place: only the result differs. */
	if (t->syscall_ret != -KERNEL_RESTARTBLOCK) {
		uint64_t sysno = regs_get(regs, len, arch->ret_off, 8, arch);
		uint64_t pc = regs_get(regs, len, arch->pc_off, 8, arch);

		set(regs, arch->pc_off, pc + arch->syscall_len, big);
		if (arch->sysno_off != ARCH_NO_OFF)
			set(regs, arch->sysno_off, sysno, big);
	}
	set(regs, arch->ret_off, (uint64_t)t->syscall_ret, big);
}
