/* SPDX-License-Identifier: MIT */
/* s390x registers through CRIU's message and back, on hosts of either byte order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "src/image/regs.h"

static const struct {
	uint32_t note, len;
} sets[] = {
	{1, 216},     {0x307, 4},  {2, 136},	{0x309, 128},
	{0x30a, 256}, {0x30b, 32}, {0x30c, 32}, {0x30d, 64},
};

enum { NSETS = sizeof(sets) / sizeof(sets[0]) };

static void there_and_back(void **state)
{
	struct model *m = model_new(0), *back = model_new(0);
	struct m_thread t = {.tid = 7, .clear_tid_addr = 0x3ff00001000}, u = {.tid = 7};
	static struct regs_s390 r;

	for (unsigned i = 0; i < NSETS; i++) {
		uint8_t *p = regs_new_set(m, &t, sets[i].note, sets[i].len);

		for (uint32_t k = 0; k < sets[i].len; k++)
			p[k] = (uint8_t)(rand() | 1);
		if (sets[i].note == 2)
			memset(p + 4, 0, 4); /* behind FPC is nothing */
	}
	assert_true(regs_s390_put(&r, &t));
	assert_int_equal(r.thread.clear_tid_addr, 0x3ff00001000);
	assert_int_equal(r.thread.ri_cb->ri_on, t.regsets[0].data[3] >> 7 & 1);
	assert_int_equal(regs_s390_get(back, &u, &r.thread), 0);
	assert_int_equal(u.nregsets, NSETS);
	for (unsigned i = 0; i < NSETS; i++) {
		const struct m_regset *s = model_regset(&u, sets[i].note);

		assert_non_null(s);
		assert_int_equal(s->len, sets[i].len);
		assert_memory_equal(s->data, model_regset(&t, sets[i].note)->data, s->len);
	}
	model_free(m);
	model_free(back);
}

/* The values that a person would read, from a set that ends at odd lengths or is not there. */
static void values(void **state)
{
	struct model *m = model_new(0);
	static const uint8_t word[8] = {0, 0, 3, 0xff, 0x12, 0x34, 0x56, 0x78};
	static struct regs_s390 r;
	struct m_thread t = {0};
	uint64_t pc = 0, sp = 0;
	uint8_t *p;

	assert_false(regs_s390_put(&r, &t));
	p = regs_new_set(m, &t, 1, 216);
	memcpy(p + 8, word, 8);
	memcpy(p + 16 + 15 * 8, word, 8);
	memcpy(p + 144 + 4 * 15, word + 4, 4);
	regs_new_set(m, &t, 0x309, 120);
	assert_true(regs_s390_put(&r, &t));
	assert_int_equal(r.gp.psw_addr, 0x3ff12345678);
	assert_int_equal(r.gp.gprs[15], 0x3ff12345678);
	assert_int_equal(r.gp.acrs[15], 0x12345678);
	assert_int_equal(r.gp.system_call, 0);
	assert_int_equal(r.fp.n_fprs, 0);
	assert_null(r.thread.vxrs_low);
	assert_null(r.thread.gs_cb);
	assert_true(regs_pc_sp(22, true, &t, &pc, &sp));
	assert_true(pc == 0x3ff12345678 && sp == pc);
	model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
