/* SPDX-License-Identifier: MIT */
/* Restart of s390x system calls, as data: on every host, whatever its byte order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>

#include "arch/arch.h"

/* NT_PRSTATUS, and NT_S390_SYSTEM_CALL behind it. */
enum { LEN = 220, PSW_ADDR = 8, R2 = 32, ORIG_R2 = 208, CALL = 216 };

static void put(uint8_t *state, unsigned off, uint64_t v, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		state[off + i] = (uint8_t)(v >> 8 * (size - 1 - i));
}

static uint64_t get(const uint8_t *state, unsigned off)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | state[off + i];
	return v;
}

/* Stopped behind a call of 2, 4 or 6 bytes that had 0x1234 as its first argument. */
static void stopped(uint8_t state[LEN], uint32_t call, int64_t ret)
{
	for (unsigned i = 0; i < LEN; i++)
		state[i] = (uint8_t)(i * 7 + 1);
	put(state, PSW_ADDR, 0x1000106, 8);
	put(state, R2, (uint64_t)ret, 8);
	put(state, ORIG_R2, 0x1234, 8);
	put(state, CALL, call, 4);
}

static void there_and_back(void **state)
{
	static const int64_t codes[] = {-512, -513, -514, -516};
	const struct arch_desc *a = arch_by_machine(EM_S390);

	assert_ptr_equal(a, arch_by_march(5));
	for (unsigned len = 2; len <= 6; len += 2)
		for (unsigned i = 0; i < 4; i++) {
			uint8_t was[LEN], s[LEN];

			stopped(was, len << 16 | 162, codes[i]);
			memcpy(s, was, LEN);
			assert_int_equal(a->restart_code(s), codes[i]);
			assert_true(a->restart_fixup(s));
			assert_int_equal(get(s, R2), codes[i] == -516 ? (uint64_t)-EINTR : 0x1234);
			assert_int_equal(get(s, PSW_ADDR),
					 0x1000106 - (codes[i] == -516 ? 0 : len));
			assert_int_equal(a->restart_code(s), 0);
			assert_true(a->restart_undo(s, codes[i]));
			assert_memory_equal(s, was, LEN);
		}
}

/* In no call r2 is the program's own, whatever is in it. */
static void in_no_call(void **state)
{
	const struct arch_desc *a = arch_by_machine(EM_S390);
	uint8_t was[LEN], s[LEN];

	stopped(was, 0, -512);
	memcpy(s, was, LEN);
	assert_int_equal(a->restart_code(s), 0);
	assert_false(a->restart_fixup(s));
	assert_false(a->restart_undo(s, -512));
	assert_memory_equal(s, was, LEN);
	stopped(s, 2 << 16 | 162, 0);
	assert_int_equal(a->restart_code(s), 0);
}

/* What no kernel writes is undone by nobody. */
static void lies(void **state)
{
	const struct arch_desc *a = arch_by_machine(EM_S390);
	static const uint32_t calls[] = {162, 1 << 16, 3 << 16 | 162, 8 << 16, 0x7fff0000};
	uint8_t was[LEN], s[LEN];

	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		stopped(was, calls[i], 0x1234);
		memcpy(s, was, LEN);
		assert_false(a->restart_undo(s, -512));
		assert_memory_equal(s, was, LEN);
	}
	stopped(was, 2 << 16 | 162, 0x1235);
	memcpy(s, was, LEN);
	assert_false(a->restart_undo(s, -512));
	assert_false(a->restart_undo(s, -516));
	assert_false(a->restart_undo(s, -4));
	assert_memory_equal(s, was, LEN);
}

static void places(void **state)
{
	const struct arch_desc *a = arch_by_machine(EM_S390);
	unsigned n = 0;

	assert_int_equal(a->elf_data, ELFDATA2MSB);
	assert_int_equal(a->regsets[0].size, CALL);
	assert_int_equal(a->sp_off, 16 + 15 * 8);
	for (const struct arch_reg *r = a->regs; r->name; r++) {
		assert_true(r->off + r->size <= CALL);
		n += r->size;
	}
	assert_int_equal(n, CALL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(in_no_call),
		cmocka_unit_test(lies),
		cmocka_unit_test(places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
