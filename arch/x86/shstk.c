/* SPDX-License-Identifier: MIT */
/* x86-64: user shadow stacks, as Linux 6.6 has them: Documentation/arch/x86/shstk.rst. */
#include <sys/syscall.h>

#include "arch/arch.h"

enum { SHSTK_ENABLE = 0x5001, SHSTK_LOCK = 0x5003 };

#define SIGNAL_TOKEN (1ull << 63)

/* The address that is returned to, then where the pointer was, marked as no return address. */
static void x86_shadow_words(uint64_t pointer, uint64_t back, uint64_t ret[2])
{
	ret[0] = back;
	ret[1] = pointer | SIGNAL_TOKEN;
}

const struct arch_shadow x86_shadow = {
	.note = NT_X86_SHSTK,
	.nr = SYS_arch_prctl,
	.enable = SHSTK_ENABLE,
	.lock = SHSTK_LOCK,
	.words = x86_shadow_words,
};
