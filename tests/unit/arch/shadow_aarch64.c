/* SPDX-License-Identifier: MIT */
/* What a way back takes from a guarded control stack of AArch64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arch/arch.h"

/*
 * The pointer is 0xffff00001ff8; it goes down to 0xffff00001fe8, or to 0xffff00001ff0 in the loop:
 *
 *	0xfe8  the address that "return" goes to
 *	0xff0  the page that this word lies in: what rt_sigreturn takes
 */
static void words(void **state)
{
	uint64_t w[2] = {0};

	assert_non_null(arch_inject.shadow);
	assert_int_equal(arch_inject.shadow->note, 0x410);
	arch_inject.shadow->words(0xffff00001ff8, 0x401000, w);
	assert_true(w[0] == 0x401000);
	assert_true(w[1] == 0xffff00001000);
	/* At a page's start the word is in the one below. */
	arch_inject.shadow->words(0xffff00001000, 0x401000, w);
	assert_true(w[1] == 0xffff00000000);
	assert_true(arch_inject.shadow->loop_token);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
