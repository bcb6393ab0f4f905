/* SPDX-License-Identifier: MIT */
/* x86-64: entries of the GDT that are each thread's own, set by set_thread_area(2) of 32 bits. */
#include <string.h>
#include <sys/user.h>

#include "arch/arch.h"

enum {
	/* <asm/ptrace-abi.h>; kernels with CONFIG_IA32_EMULATION answer for 64 bits, too. */
	GET_THREAD_AREA = 25,
	SET_THREAD_AREA = 26,
	/* <asm/segment.h>: GDT_ENTRY_TLS_MIN, GDT_ENTRY_TLS_ENTRIES */
	FIRST = 12,
	N = 3,
};

static bool x86_gdt_named(const void *prstatus)
{
	struct user_regs_struct r;
	uint64_t selectors[6];

	memcpy(&r, prstatus, sizeof(r));
	memcpy(selectors, (uint64_t[]){r.cs, r.ss, r.ds, r.es, r.fs, r.gs}, sizeof(selectors));
	for (int i = 0; i < 6; i++)
		if ((selectors[i] & 0xffff) >> 3 >= FIRST &&
		    (selectors[i] & 0xffff) >> 3 < FIRST + N)
			return true;
	return false;
}

const struct arch_gdt x86_gdt = {
	.first = FIRST,
	.n = N,
	.get = GET_THREAD_AREA,
	.set = SET_THREAD_AREA,
	.none = 1 << 3 | 1 << 5, /* read_exec_only, seg_not_present of struct user_desc */
	.reach = 1ull << 32,
	.named = x86_gdt_named,
};
