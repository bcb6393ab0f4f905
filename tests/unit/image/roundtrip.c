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

/* --- tags of memory ------------------------------------------------------------------------- */

static uint8_t tags[M_TAGS_MOST + 128];
static struct m_vma tag_vmas[] = {
	{.start = 0x100000, .end = 0x500000, .kind = M_VMA_ANON, .flags = M_VMF_TAGS},
	{.start = 0x500000, .end = 0x600000, .kind = M_VMA_ANON},
	{.start = 0x700000, .end = 0x710000, .kind = M_VMA_ANON, .flags = M_VMF_TAGS},
};

/* An image whose first process has these tags, read: NULL when it is not taken. */
static struct model *with_tags(struct m_tags *t, uint32_t n, struct err *err)
{
	struct model *m = random_model(5), *back;
	struct m_proc *p = &m->procs[0];
	struct image *img;

	*err = (struct err){0};
	p->mm.vmas = tag_vmas;
	p->mm.nvmas = 3;
	p->mm.nguards = 0;
	p->mm.tags = t;
	p->mm.ntags = n;
	img = image_create("x", IMAGE_STASIS, err);
	image_write_model(img, m, err);
	image_commit(img, m, err);
	assert_no_err(err);
	image_close(img);
	img = image_open("x", err);
	assert_no_err(err);
	back = image_read_model(img, err);
	image_close(img);
	scratch_remove("x");
	model_free(m);
	return back;
}

static void tags_refused(struct m_tags *t, uint32_t n, const char *why)
{
	struct err err;
	struct model *m = with_tags(t, n, &err);

	model_free(m);
	if (m || !strstr(err.msg, why))
		fail_msg("wanted \"%s\", got \"%s\"", why, m ? "it was taken" : err.msg);
	assert_int_equal(err.errnum, EBADMSG);
}

/* Nobody is to write tags to where an image has no memory that has them. */
static void hostile_tags(void **state)
{
	struct m_tags t[2] = {{0x100000, 0x200000, tags}, {0x300000, 0x1000, tags}};
	struct err err;
	struct model *m = with_tags(t, 2, &err);

	assert_no_err(&err);
	assert_int_equal(m->procs[0].mm.ntags, 2);
	model_free(m);
	t[0].len += 0x1000;
	tags_refused(t, 1, "in one piece");
	t[0].len = 0x1800;
	tags_refused(t, 1, "in one piece");
	t[0].len = 0;
	tags_refused(t, 1, "in one piece");
	t[0] = (struct m_tags){0x100010, 0x1000, tags};
	tags_refused(t, 1, "in one piece");
	t[0].start = 0x4ff000;
	t[0].len = 0x2000; /* the second half is in memory without */
	tags_refused(t, 1, "in no mapping that has tags");
	t[0].start = 0x500000;
	tags_refused(t, 1, "in no mapping that has tags");
	t[0].start = 0x600000;
	tags_refused(t, 1, "in no mapping that has tags");
	t[0].start = 0xff000;
	tags_refused(t, 1, "in no mapping that has tags");
	t[0] = (struct m_tags){-0x1000ull, 0x1000, tags};
	tags_refused(t, 1, "in no mapping that has tags");
	t[0] = (struct m_tags){0x300000, 0x2000, tags};
	t[1] = (struct m_tags){0x301000, 0x1000, tags};
	tags_refused(t, 2, "out of order");
}

/* There are not so many keys on any CPU. */
static void bad_key(void **state)
{
	for (unsigned key = M_PKEYS - 1; key <= M_PKEYS; key++) {
		struct model *m = random_model(3), *back;
		struct err err = {0};
		struct image *img = image_create("x", IMAGE_STASIS, &err);
		uint32_t i = 0;

		while (m->procs[i].state == M_DEAD || !m->procs[i].mm.nvmas)
			i++;
		m->procs[i].mm.vmas[0].pkey = (uint8_t)key;
		image_write_model(img, m, &err);
		image_commit(img, m, &err);
		assert_no_err(&err);
		image_close(img);
		img = image_open("x", &err);
		assert_no_err(&err);
		back = image_read_model(img, &err);
		assert_int_equal(back == NULL, key == M_PKEYS);
		if (!back)
			assert_non_null(strstr(err.msg, "protection key 32"));
		image_close(img);
		scratch_remove("x");
		model_free(back);
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
		cmocka_unit_test(hostile_tags),
		cmocka_unit_test(bad_run),
		cmocka_unit_test(bad_key),
	};

	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
