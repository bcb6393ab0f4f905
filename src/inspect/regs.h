/* SPDX-License-Identifier: MIT */
/* General registers of a thread as bytes of its NT_PRSTATUS set. */
#ifndef INSPECT_REGS_H
#define INSPECT_REGS_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/arch.h"
#include "src/image/model.h"

/* @size bytes (at most 8) at @off in the byte order of @arch; 0 when @r is too short for them. */
uint64_t regs_get(const uint8_t *regs, uint32_t len, uint32_t off, unsigned size,
		  const struct arch_desc *arch);

/*
 * The image holds registers ready for a restart of the system call a thread was in. This changes
 * them to what a debugger at the stopped process sees before that: the pc behind the system-call
 * instruction, the kernel's restart code as its result. Does nothing for other threads.
 */
void regs_undo_restart(uint8_t *regs, uint32_t len, const struct m_thread *t,
		       const struct arch_desc *arch);

#endif
