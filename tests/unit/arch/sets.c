/* SPDX-License-Identifier: MIT */
/* Register sets of images for threads that are here, of the CPUs that need not be asked: on every
 * host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <elf.h>
#include <endian.h>
#include <errno.h>

#include "arch/fit.h"

static uint8_t bytes[ARCH_REGSET_MAX], ret[ARCH_REGSET_MAX];

static struct arch_set of(uint32_t note, uint32_t len)
{
	return (struct arch_set){note, len, bytes};
}

/* struct user_sve_header, as the host has numbers. */
static struct arch_set vectors(uint32_t note, uint32_t vl, uint32_t flags, uint32_t len)
{
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, &len, sizeof(len));
	memcpy(bytes + 8, &(uint16_t){(uint16_t)vl}, 2);
	memcpy(bytes + 12, &(uint16_t){(uint16_t)flags}, 2);
	return of(note, len);
}

/*
 * Of 32 bytes: Z 32 * 32, P 16 * 4, FFR 4, so 16 + 1092, to the next 16 is 1120, and FPSR and FPCR
 * behind that: 1128 at least.
 */
static void sve(void **state)
{
	const struct arch_set none = {NT_ARM_SVE, 0, bytes};
	struct arch_set s = vectors(NT_ARM_SVE, 32, 1, 1136);

	assert_false(aarch64_set_wrong(&s));
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), 1136);
	s.len = 1128;
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), 1128);
	s.len = 1127;
	assert_true(aarch64_set_wrong(&s));
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), -EBADMSG);
	/* Only the low 128 bits of each; nothing but the head. */
	s = vectors(NT_ARM_SVE, 256, 0, 544);
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), 544);
	s.len = 543;
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), -EBADMSG);
	s.len = 16;
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), 16);
	s.len = 15;
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), -EBADMSG);
	s = vectors(NT_ARM_SVE, 0, 0, 544);
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), -EBADMSG);
	s = vectors(NT_ARM_SVE, 40, 0, 544);
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), -EBADMSG);
	s = vectors(NT_ARM_SVE, 512, 0, 544);
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), -EBADMSG);
	/* Streaming mode is not switched on by what was off. */
	s = vectors(NT_ARM_SSVE, 32, 0, 16);
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), 0);
	s = vectors(NT_ARM_SSVE, 32, 1, 1136);
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), 1136);
}

/* What the kernel refuses, or takes as another length, without a word of which. */
static void lengths(void **state)
{
	struct arch_set s = vectors(NT_ARM_SVE, 256, 1, 16);
	bool used = false;
	char text[192];

	assert_true(aarch64_lacks_length(&s, 64, &used, text, sizeof(text)));
	assert_int_equal(strcmp(text, "SVE vectors of 2048 bits, in place of which it has 512"), 0);
	assert_true(used);
	assert_false(aarch64_lacks_length(&s, 256, &used, text, sizeof(text)));
	assert_false(aarch64_lacks_length(&s, 0, &used, text, sizeof(text)));
	s = vectors(NT_ARM_SVE, 256, 0, 16);
	assert_true(aarch64_lacks_length(&s, 64, &used, text, sizeof(text)));
	assert_false(used);
	s = vectors(NT_ARM_SSVE, 48, 1, 16);
	assert_true(aarch64_lacks_length(&s, 32, &used, text, sizeof(text)));
	assert_int_equal(
		strcmp(text, "streaming SVE vectors of 384 bits, in place of which it has 256"), 0);
	assert_true(used);
	s = vectors(NT_ARM_ZA, 32, 0, 16);
	assert_true(aarch64_lacks_length(&s, 16, &used, text, sizeof(text)));
	assert_false(used);
	s.len = 16 + 32 * 32;
	assert_true(aarch64_lacks_length(&s, 16, &used, text, sizeof(text)));
	assert_true(used);
	s = vectors(NT_ARM_SVE, 40, 1, 16); /* none at all: set_wrong says so */
	assert_false(aarch64_lacks_length(&s, 32, &used, text, sizeof(text)));
	s = vectors(NT_ARM_TLS, 32, 1, 16);
	assert_false(aarch64_lacks_length(&s, 16, &used, text, sizeof(text)));
}

static void matrix(void **state)
{
	const struct arch_set none = {NT_ARM_ZA, 0, bytes};
	struct arch_set s = vectors(NT_ARM_ZA, 32, 0, 16 + 32 * 32);

	assert_int_equal(aarch64_regset_fit(&s, &none, ret), 16 + 32 * 32);
	s.len--;
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), -EBADMSG);
	s.len = 16;
	assert_int_equal(aarch64_regset_fit(&s, &none, ret), 16);
}

/* Four pairs here; what there is not may be there as long as nothing is in it. */
static void watchpoints(void **state)
{
	static uint8_t now[104] = {4};
	const struct arch_set has = {NT_ARM_HW_WATCH, sizeof(now), now};
	struct arch_set s = of(NT_ARM_HW_WATCH, 264);

	memset(bytes, 0, sizeof(bytes));
	bytes[0] = 16;
	assert_int_equal(aarch64_regset_fit(&s, &has, ret), 0);
	bytes[8] = 1;
	assert_int_equal(aarch64_regset_fit(&s, &has, ret), 8 + 4 * 16);
	assert_int_equal(ret[0], 4);
	assert_int_equal(ret[8], 1);
	bytes[8 + 4 * 16] = 1;
	assert_int_equal(aarch64_regset_fit(&s, &has, ret), -EBADMSG);
	s.len = 7;
	assert_int_equal(aarch64_regset_fit(&s, &has, ret), -EBADMSG);
}

/* Big endian on every host. */
static void control_word(void **state)
{
	static const uint8_t good[] = {0, 3, 7}, bad[] = {4, 5, 6, 8};
	const struct arch_set has = {NT_FPREGSET, 136, bytes};
	struct arch_set s = of(NT_FPREGSET, 136);

	memset(bytes, 0, sizeof(bytes));
	for (unsigned i = 0; i < sizeof(good); i++) {
		bytes[3] = good[i];
		assert_int_equal(s390_regset_fit(&s, &has, ret), 136);
	}
	for (unsigned i = 0; i < sizeof(bad); i++) {
		bytes[3] = bad[i];
		assert_int_equal(s390_regset_fit(&s, &has, ret), -EBADMSG);
		assert_non_null(s390_set_wrong(&s));
	}
	bytes[3] = 0;
	bytes[0] = 2;
	assert_int_equal(s390_regset_fit(&s, &has, ret), -EBADMSG);
	bytes[0] = 0xf8;
	assert_int_equal(s390_regset_fit(&s, &has, ret), 136);
	s.len = 128;
	assert_int_equal(s390_regset_fit(&s, &has, ret), -EBADMSG);
	/* What the kernel alone writes, and what a thread has none of yet. */
	s = of(NT_S390_LAST_BREAK, 8);
	assert_int_equal(s390_regset_fit(&s, &s, ret), 0);
	s = of(NT_S390_GS_CB, 32);
	assert_int_equal(s390_regset_fit(&s, &(struct arch_set){NT_S390_GS_CB, 0, bytes}, ret), 32);
	s.len = 31;
	assert_int_equal(s390_regset_fit(&s, &(struct arch_set){NT_S390_GS_CB, 0, bytes}, ret),
			 -EBADMSG);
}

/*
 * Linux arch/powerpc/kernel/ptrace/ptrace-view.c: NT_PPC_PKEY is read as 24 bytes and takes 8; a
 * thread has no NT_PPC_EBB (0x106) and NT_PPC_PMU (0x107) before it uses them.
 */
static void ppc64(void **state)
{
	const struct arch_set keys = {0x110, 24, bytes};
	struct arch_set s = of(0x110, 24);

	memset(bytes, 0x5a, sizeof(bytes));
	memset(ret, 0, sizeof(ret));
	assert_int_equal(ppc64_regset_fit(&s, &keys, ret), 8);
	assert_memory_equal(ret, bytes, 8);
	assert_int_equal(ret[8], 0);
	s.len = 8;
	assert_int_equal(ppc64_regset_fit(&s, &keys, ret), -EBADMSG);
	s = of(0x106, 24);
	assert_int_equal(ppc64_regset_fit(&s, &(struct arch_set){0x106, 0, bytes}, ret), 24);
	s.len = 16;
	assert_int_equal(ppc64_regset_fit(&s, &(struct arch_set){0x106, 0, bytes}, ret), -EBADMSG);
	s = of(0x107, 40);
	assert_int_equal(ppc64_regset_fit(&s, &(struct arch_set){0x107, 0, bytes}, ret), 40);
	/* Checkpointed registers: of no thread that is in no transaction. */
	s = of(0x108, 384);
	assert_int_equal(ppc64_regset_fit(&s, &(struct arch_set){0x108, 0, bytes}, ret), -EBADMSG);
	s = of(0x111, 16);
	assert_int_equal(ppc64_regset_fit(&s, &s, ret), 0);
}

/* What a dump says of a thread on ppc64le: it is in a transaction. */
static void ppc64_lost(void **state)
{
	for (uint32_t note = 0x101; note < 0x113; note++)
		assert_int_equal(!!ppc64_set_lost(&(struct arch_set){note, 8, bytes}),
				 note >= 0x108 && note <= 0x10f && note != 0x10c);
}

/* `sc` tells an error by CR0.SO: words 38 and 3, the entry in word 40, the first argument in 34. */
static void no_error(void **state)
{
	const struct arch_desc *d = arch_by_machine(EM_PPC64);
	uint64_t regs[50] = {0}, was[50];

	regs[40] = htole64(0xc00);
	regs[3] = htole64((uint64_t)-512);
	memcpy(was, regs, sizeof(was));
	assert_int_equal(d->restart_code(regs), 0);
	assert_false(d->restart_fixup(regs));
	assert_memory_equal(regs, was, sizeof(was));
	regs[3] = htole64(512);
	regs[38] = htole64(0x10000000);
	assert_int_equal(d->restart_code(regs), -512);
	regs[40] = htole64(0x3000);
	assert_int_equal(d->restart_code(regs), 0);
	regs[3] = htole64((uint64_t)-512);
	assert_int_equal(d->restart_code(regs), -512);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sve),	       cmocka_unit_test(matrix),
		cmocka_unit_test(watchpoints), cmocka_unit_test(control_word),
		cmocka_unit_test(no_error),    cmocka_unit_test(lengths),
		cmocka_unit_test(ppc64),       cmocka_unit_test(ppc64_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
