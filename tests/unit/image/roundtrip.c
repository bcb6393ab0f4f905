/* SPDX-License-Identifier: MIT */
/* Everything in a model survives being written and read back. */
#include "src/image/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/image/random_model.h"
#include "tests/unit/image/same_model.h"
#include "tests/unit/image/scratch.h"

/* By contents: chains get new numbers, and those that nobody has are not read. */
static void check_chains(const struct model *m, const struct m_thread *t, const struct model *back,
			 const struct m_thread *u)
{
	static const struct m_seccomp_chain none;
	const struct m_seccomp_chain *a = model_chain(m, t->seccomp_chain);
	const struct m_seccomp_chain *b = model_chain(back, u->seccomp_chain);

	a = a ? a : &none, b = b ? b : &none;
	assert_int_equal(a->n, b->n);
	for (uint32_t i = 0; i < a->n; i++) {
		assert_int_equal(a->filters[i].flags, b->filters[i].flags);
		assert_int_equal(a->filters[i].len, b->filters[i].len);
		assert_memory_equal(a->filters[i].code, b->filters[i].code, a->filters[i].len);
	}
}

static void check_roundtrip(const struct model *m, enum image_format format)
{
	struct err err = {0};
	struct image *img = image_create("x", format, &err);
	struct model *back;

	assert_no_err(&err);
	image_write_model(img, m, &err);
	assert_no_err(&err);
	image_commit(img, m, &err);
	assert_no_err(&err);
	image_close(img);

	img = image_open("x", &err);
	assert_no_err(&err);
	assert_int_equal(image_format(img), format);
	back = image_read_model(img, &err);
	assert_no_err(&err);
	assert_int_equal(model_differences(m, back), 0);
	for (uint32_t i = 0; i < m->nprocs; i++)
		for (uint32_t k = 0; k < m->procs[i].nthreads; k++)
			check_chains(m, &m->procs[i].threads[k], back, &back->procs[i].threads[k]);
	model_free(back);
	image_close(img);
	scratch_remove("x");
}

static void random_models(void **state)
{
	for (uint64_t seed = 1; seed <= 150; seed++) {
		struct model *m = random_model(seed);

		check_roundtrip(m, seed % 2 ? IMAGE_STASIS : IMAGE_CRIU);
		model_free(m);
	}
}

/* It names a table of the firewall that a restore removes. */
static void bad_run(void **state)
{
	static const char *const ids[] = {"0123/../4", "a b", "0123456789abcdef-with-words"};

	for (size_t i = 0; i < 4; i++) {
		struct model *m = random_model(3);
		struct err err = {0};
		struct image *img = image_create("x", IMAGE_STASIS, &err);

		m->run_id[0] = '\0';
		if (i < 3)
			strcpy(m->run_id, ids[i]);
		else
			m->net_lock = (enum m_net_lock)(M_NET_LOCK_SKIP + 1);
		image_write_model(img, m, &err);
		image_commit(img, m, &err);
		assert_no_err(&err);
		image_close(img);
		img = image_open("x", &err);
		assert_no_err(&err);
		assert_null(image_read_model(img, &err));
		assert_int_equal(err.errnum, EBADMSG);
		assert_non_null(strstr(err.msg, i < 3 ? "id of the run" : "network lock 3"));
		image_close(img);
		scratch_remove("x");
		model_free(m);
	}
}

/* The comparison can tell models apart at all. */
static void comparison_sees_differences(void **state)
{
	struct model *a = random_model(7), *b = random_model(7), *c = random_model(8);

	assert_int_equal(model_differences(a, b), 0);
	differences_quiet = true;
	assert_int_not_equal(model_differences(a, c), 0);
	b->procs[0].threads[0].regsets[0].data[215] ^= 1;
	assert_int_equal(model_differences(a, b), 1);
	differences_quiet = false;
	model_free(a);
	model_free(b);
	model_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comparison_sees_differences),
		cmocka_unit_test(random_models),
		cmocka_unit_test(bad_run),
	};

	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
