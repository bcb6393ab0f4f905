/* SPDX-License-Identifier: MIT */
/* AArch64: guarded control stacks, as Linux 6.13 has them: Documentation/arch/arm64/gcs.rst. */
#include "arch/arch.h"

enum { GCS_ENABLED = 1, POINTER = 16, CAP_LOW = 0xfff };

/* The address that is returned to, then a cap: the page that it lies in itself, not valid. */
static void aarch64_shadow_words(uint64_t pointer, uint64_t back, uint64_t ret[2])
{
	ret[0] = back;
	ret[1] = (pointer - 8) & ~(uint64_t)CAP_LOW;
}

const struct arch_shadow aarch64_shadow = {
	.note = NT_ARM_GCS,
	.pointer_off = POINTER,
	.on = GCS_ENABLED,
	.words = aarch64_shadow_words,
	.loop_token = true,
};
