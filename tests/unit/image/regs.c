/* SPDX-License-Identifier: MIT */
/* Registers of other CPUs into CRIU's messages and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "src/image/regs.h"

/* A set of @len different bytes at the end of its memory. */
static void add_set(struct model *m, struct m_thread *t, uint32_t note, uint32_t len)
{
	struct m_regset *set = model_push(m, &t->regsets, &t->nregsets, sizeof(*set));

	assert_non_null(set);
	set->note = note;
	set->len = len;
	set->data = malloc(len);
	assert_non_null(set->data);
	for (uint32_t i = 0; i < len; i++)
		set->data[i] = (uint8_t)(i * 7 + note * 13 + 1);
}

static void same_set(const struct m_thread *a, const struct m_thread *b, uint32_t note)
{
	const struct m_regset *x = model_regset(a, note), *y = model_regset(b, note);

	assert_non_null(x);
	assert_non_null(y);
	assert_int_equal(x->len, y->len);
	assert_memory_equal(x->data, y->data, x->len);
}

static void free_sets(struct m_thread *t)
{
	for (uint32_t i = 0; i < t->nregsets; i++)
		free(t->regsets[i].data);
}

static void aarch64(void **state)
{
	static const uint32_t notes[] = {REGS_PRSTATUS,	     REGS_PRFPREG,
					 REGS_ARM_TLS,	     REGS_ARM_PACA_KEYS,
					 REGS_ARM_PACG_KEYS, REGS_ARM_PAC_ENABLED_KEYS};
	static const uint32_t lens[] = {272, 528, 8, 64, 16, 8};
	struct regs_aarch64 *r = calloc(1, sizeof(*r));
	struct m_thread t = {.clear_tid_addr = 0x1234}, back = {0};
	struct model *m = model_new(0);

	assert_false(regs_aarch64_put(r, &t));
	for (unsigned i = 0; i < 6; i++)
		add_set(m, &t, notes[i], lens[i]);
	/* user_fpsimd_state ends with eight bytes of nothing. */
	memset(t.regsets[1].data + 520, 0, 8);
	add_set(m, &t, REGS_ARM_GCS, 24);
	/* CRIU has no place for what is locked. */
	memset(t.regsets[6].data + 8, 0, 8);
	assert_true(regs_aarch64_put(r, &t));
	assert_int_equal(r->thread.clear_tid_addr, 0x1234);
	assert_int_equal(regs_aarch64_get(m, &back, &r->thread), 0);
	assert_int_equal(back.nregsets, 7);
	for (unsigned i = 0; i < 6; i++)
		same_set(&t, &back, notes[i]);
	same_set(&t, &back, REGS_ARM_GCS);
	/* Where it is off there is no message; short sets are not looked into. */
	memset(t.regsets[6].data, 0, 24);
	t.regsets[1].len = 527;
	t.regsets[3].len = 63;
	t.regsets[4].len = 15;
	assert_true(regs_aarch64_put(r, &t));
	assert_null(r->thread.gcs);
	assert_null(r->thread.pac_keys);
	assert_int_equal(r->fp.fpsr, 0);
	t.regsets[0].len = 271;
	assert_false(regs_aarch64_put(r, &t));
	free_sets(&t);
	model_free(m);
	free(r);
}

/* CRIU keeps the pointer and what is on, and locks it after a restore. */
static void x86_shadow_stack(void **state)
{
	struct regs_x86 *r = calloc(1, sizeof(*r));
	struct m_thread t = {.shadow = 1}, back = {0};
	struct model *m = model_new(0);

	add_set(m, &t, REGS_PRSTATUS, 216);
	add_set(m, &t, REGS_PRFPREG, 512);
	add_set(m, &t, REGS_X86_XSTATE, 832);
	add_set(m, &t, REGS_X86_SHSTK, 8);
	/* x87, SSE and AVX. */
	memset(t.regsets[2].data + 464, 0, 8);
	memset(t.regsets[2].data + 512, 0, 8);
	t.regsets[2].data[464] = t.regsets[2].data[512] = 7;
	assert_true(regs_x86_put(r, &t));
	assert_non_null(r->xsave.cet);
	assert_int_equal(r->cet.cet, 1);
	assert_int_equal(regs_x86_get(m, &back, &r->thread), 0);
	same_set(&t, &back, REGS_X86_SHSTK);
	assert_int_equal(back.shadow, 1);
	assert_int_equal(back.shadow_locked, 1);
	/* Where it is off, the pointer means nothing. */
	r->cet.cet = 2;
	back = (struct m_thread){0};
	assert_int_equal(regs_x86_get(m, &back, &r->thread), 0);
	assert_null(model_regset(&back, REGS_X86_SHSTK));
	assert_int_equal(back.shadow | back.shadow_locked, 0);
	free_sets(&t);
	model_free(m);
	free(r);
}

/* Entries of the GDT: CRIU has a field for each bit, and all three when there is one. */
static void x86_gdt(void **state)
{
	struct regs_x86 *r = calloc(1, sizeof(*r));
	struct m_thread t = {0}, back = {0};
	struct model *m = model_new(0);

	add_set(m, &t, REGS_PRSTATUS, 216);
	add_set(m, &t, REGS_PRFPREG, 512);
	assert_true(regs_x86_put(r, &t));
	assert_int_equal(r->thread.n_tls, 0);
	assert_false(regs_x86_has_tls(&t));
	t.tls[1] = (struct m_tls){0x1234000, 0xfffff, 0x51};
	t.tls[2] = (struct m_tls){0, 0, 0x2f};
	assert_true(regs_x86_has_tls(&t));
	assert_true(regs_x86_put(r, &t));
	assert_int_equal(r->thread.n_tls, 3);
	assert_int_equal(r->tls[0].entry_number, 12);
	assert_true(r->tls[0].read_exec_only && r->tls[0].seg_not_present);
	assert_int_equal(r->tls[1].entry_number, 13);
	assert_int_equal(r->tls[1].base_addr, 0x1234000);
	assert_int_equal(r->tls[1].limit, 0xfffff);
	assert_true(r->tls[1].seg_32bit && r->tls[1].limit_in_pages && r->tls[1].usable);
	assert_false(r->tls[1].seg_not_present || r->tls[1].read_exec_only);
	assert_false(r->tls[1].contents_h || r->tls[1].contents_l);
	assert_true(r->tls[2].contents_h && r->tls[2].contents_l);
	assert_int_equal(regs_x86_get(m, &back, &r->thread), 0);
	assert_memory_equal(back.tls, t.tls, sizeof(t.tls));
	/* Numbers of kernels of 32 bits. */
	r->tls[1].entry_number = 6;
	r->tls[2].entry_number = 15;
	back = (struct m_thread){0};
	assert_int_equal(regs_x86_get(m, &back, &r->thread), 0);
	assert_false(regs_x86_has_tls(&back));
	free_sets(&t);
	model_free(m);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(aarch64),
		cmocka_unit_test(x86_shadow_stack),
		cmocka_unit_test(x86_gdt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
