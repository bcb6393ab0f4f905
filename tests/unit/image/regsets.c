/* SPDX-License-Identifier: MIT */
/* Register sets: none empty or twice in an image; ppc64le's through CRIU's messages and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "src/image/check.h"
#include "src/image/regs.h"
#include "tests/unit/image/random_model.h"

static char said[256];

static void keep(void *arg, const char *line)
{
	snprintf(said, sizeof(said), "%s", line);
}

static struct m_thread *with_sets(struct model *m)
{
	for (uint32_t i = 0; i < m->nprocs; i++)
		for (uint32_t k = 0; k < m->procs[i].nthreads; k++)
			if (m->procs[i].state != M_DEAD && m->procs[i].threads[k].nregsets > 1)
				return &m->procs[i].threads[k];
	fail_msg("no thread with register sets");
	return NULL;
}

static void empty_and_twice(void **state)
{
	struct model *m = random_model(2);
	struct m_thread *t = with_sets(m);
	unsigned before = check_model(m, NULL, NULL);
	uint32_t note = t->regsets[1].note, len = t->regsets[1].len;

	t->regsets[1].note = t->regsets[0].note;
	assert_int_equal(check_model(m, keep, NULL), before + 1);
	assert_non_null(strstr(said, "0x1 is there twice"));
	t->regsets[1].note = note;
	t->regsets[1].len = 0;
	assert_int_equal(check_model(m, keep, NULL), before + 1);
	assert_non_null(strstr(said, "is empty"));
	t->regsets[1].len = len;
	assert_int_equal(check_model(m, NULL, NULL), before);
	model_free(m);
}

/* --- ppc64le -------------------------------------------------------------------------------- */

static const struct {
	uint32_t note, len;
	bool tm;
} ppc64_sets[] = {
	{1, 384, false},     {2, 264, false},	 {0x100, 544, false},
	{0x102, 256, false}, {0x108, 384, true}, {0x109, 264, true},
	{0x10a, 544, true},  {0x10b, 256, true}, {0x10c, 24, true},
};

enum { NSETS = sizeof(ppc64_sets) / sizeof(ppc64_sets[0]) };

static void add_sets(struct model *m, struct m_thread *t, bool tm)
{
	for (unsigned i = 0; i < NSETS; i++) {
		uint8_t *p;

		if (ppc64_sets[i].tm && !tm)
			continue;
		p = regs_new_set(m, t, ppc64_sets[i].note, ppc64_sets[i].len);
		for (uint32_t k = 0; k < ppc64_sets[i].len; k++)
			p[k] = (uint8_t)(rand() | 1);
		if (ppc64_sets[i].len == 384) {
			/* softe, trap, and what cannot be written; the last four are none */
			memset(p + 39 * 8, 0, 9 * 8);
		} else if (ppc64_sets[i].len == 544) {
			memset(p + 33 * 16 + 4, 0, 12); /* VRSAVE is a word */
		}
	}
}

static void same_sets(const struct m_thread *a, const struct m_thread *b)
{
	assert_int_equal(a->nregsets, b->nregsets);
	for (uint32_t i = 0; i < a->nregsets; i++) {
		const struct m_regset *x = &a->regsets[i], *y = model_regset(b, x->note);

		assert_non_null(y);
		assert_int_equal(x->len, y->len);
		assert_memory_equal(x->data, y->data, x->len);
	}
}

static void there_and_back(bool tm)
{
	static struct regs_ppc64 r;
	struct model *m = model_new(0);
	struct m_thread t = {.clear_tid_addr = 0x1234}, back = {0};
	Im__Ppc64Thread *msg;
	struct bytes nip;
	uint8_t *packed;
	size_t len;

	assert_false(regs_ppc64_put(&r, &t));
	add_sets(m, &t, tm);
	assert_true(regs_ppc64_put(&r, &t));
	len = im__ppc64_thread__get_packed_size(&r.thread);
	packed = malloc(len);
	assert_int_equal(im__ppc64_thread__pack(&r.thread, packed), len);
	msg = im__ppc64_thread__unpack(NULL, len, packed);
	assert_non_null(msg);
	assert_int_equal(msg->clear_tid_addr, 0x1234);
	assert_int_equal(msg->tmstate != NULL, tm);
	/* In a transaction CRIU's registers are those to which it would fall back. */
	nip = bytes_of(model_regset(&t, tm ? 0x108 : 1)->data + 256, 8);
	assert_int_equal(msg->gpregs->nip, bytes_u64(&nip));
	assert_int_equal(regs_ppc64_get(m, &back, msg), 0);
	same_sets(&t, &back);
	im__ppc64_thread__free_unpacked(msg, NULL);
	free(packed);
	model_free(m);
}

static void ppc64_plain(void **state)
{
	there_and_back(false);
}

static void ppc64_transaction(void **state)
{
	there_and_back(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_and_twice),
		cmocka_unit_test(ppc64_plain),
		cmocka_unit_test(ppc64_transaction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
