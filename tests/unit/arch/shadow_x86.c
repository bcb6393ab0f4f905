/* SPDX-License-Identifier: MIT */
/* What a way back takes from a shadow stack of x86-64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/arch.h"

/*
 * The pointer is 0x7000000000f8; it goes down to 0x7000000000e8:
 *
 *	0xe8  the address that "return" goes to
 *	0xf0  where the pointer was, with bit 63: what rt_sigreturn takes, to put the pointer back
 */
static void words(void **state)
{
	uint64_t w[2] = {0};

	assert_non_null(arch_inject.shadow);
	assert_int_equal(arch_inject.shadow->note, 0x204);
	assert_int_equal(arch_inject.shadow->on, 0);
	arch_inject.shadow->words(0x7000000000f8, 0x401000, w);
	assert_true(w[0] == 0x401000);
	assert_true(w[1] == (0x7000000000f8 | 1ull << 63));
	/* The loop ends by a jump: it needs nothing. */
	assert_false(arch_inject.shadow->loop_token);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
