/* SPDX-License-Identifier: MIT */
/*
 * Which register sets a dump reads, of kernels that are made up: for each CPU they have what its
 * list lacks, with elements of every size, in use by some threads alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>

#include "src/target/regsets.h"

static const uint16_t machines[] = {EM_X86_64, EM_AARCH64, EM_PPC64, EM_S390};

enum { NMACHINES = sizeof(machines) / sizeof(machines[0]), NTHREADS = 3, MOST = 64 };

/* What this kernel has beside the list: elements of @size, @n of them; bit t of @in: thread t has
 * it. */
static struct made {
	uint32_t note, size, n, in;
	int why; /* the others' answer */
} made[MOST];
static unsigned nmade, calls;
static const struct arch_desc *desc;

static const struct made *made_of(uint32_t note)
{
	for (unsigned i = 0; i < nmade; i++)
		if (made[i].note == note)
			return &made[i];
	return NULL;
}

/* As the kernel has it: whole elements, then as many as there are. */
static int64_t made_read(pid_t tid, uint32_t note, void *buf, size_t len)
{
	const struct made *s = made_of(note);

	calls++;
	if (!s || len % s->size)
		return -EINVAL;
	if (!(s->in >> tid & 1))
		return -s->why;
	assert_true(s->size * s->n <= len);
	memset(buf, (int)(note + (uint32_t)tid), s->size * s->n);
	return s->size * s->n;
}

static void add(uint32_t note, uint32_t size, uint32_t n, uint32_t in, int why)
{
	assert_true(nmade < MOST);
	made[nmade++] = (struct made){note, size, n, in, why};
}

static uint32_t next_note(uint32_t note)
{
	do
		note++;
	while (regsets_listed(desc, note));
	assert_true(note <= desc->last_note);
	return note;
}

static void expect(const struct m_thread *t)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < nmade; i++) {
		const struct m_regset *set = model_regset(t, made[i].note);
		bool in = made[i].in >> t->tid & 1;

		assert_int_equal(!!set, in);
		if (!in)
			continue;
		n++;
		assert_int_equal(set->len, made[i].size * made[i].n);
		for (uint32_t k = 0; k < set->len; k++)
			assert_int_equal(set->data[k], (uint8_t)(set->note + t->tid));
	}
	assert_int_equal(t->nregsets, n);
}

/* What each thread but the first is asked for is what is there: no more. */
static void read_all(struct regsets *r)
{
	struct model *m = model_new(0);
	struct err err = {0};

	assert_non_null(m);
	for (uint32_t tid = 0; tid < NTHREADS; tid++) {
		struct m_thread t = {.tid = tid};

		calls = 0;
		if (regsets_read(r, m, &t, &err))
			fail_msg("%s", err.msg);
		expect(&t);
		if (tid)
			assert_true(calls <= nmade + 8);
	}
	model_free(m);
}

static void every_cpu(void (*make)(void))
{
	for (unsigned i = 0; i < NMACHINES; i++) {
		struct regsets r = {.read = made_read};

		desc = r.arch = arch_by_machine(machines[i]);
		nmade = 0;
		make();
		read_all(&r);
	}
}

/* Whatever an element has: the kernel wants whole ones, and says EINVAL as if it had no such set.
 */
static void make_sizes(void)
{
	static const uint32_t sizes[] = {1, 4, 8, 12, 16, 24, 28, 48, 64, 256, 1024, 4096};
	uint32_t note = desc->first_note;

	add(desc->regsets[1].note, 8, 33, 7, ENODEV);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && note < desc->last_note - 1;
	     i++)
		add(note = next_note(note), sizes[i], 1 + i % 3, 7, ENODEV);
}

static void sizes(void **state)
{
	every_cpu(make_sizes);
}

/* The first thread that is asked has nothing in it, or the second; or the kernel never tells. */
static void make_in_use(void)
{
	uint32_t note = next_note(desc->first_note);

	add(note, 16, 4, 2, ENODATA);
	add(note = next_note(note), 8, 1, 4, ENODEV);
	add(note = next_note(note), 64, 1, 5, ENODATA);
	add(note = next_note(note), 8, 3, 0, ENODATA);
	add(next_note(note), 8, 3, 6, EOPNOTSUPP);
	/* In the list, and likewise in use by one alone. */
	add(desc->regsets[2].note, 8, 2, 4, ENODATA);
}

static void in_use(void **state)
{
	every_cpu(make_in_use);
}

/* As many as there are numbers for. */
static void make_many(void)
{
	for (uint32_t note = desc->first_note; note <= desc->last_note; note++)
		if (!regsets_listed(desc, note))
			add(note, 8, 1, note % 7 + 1, ENODATA);
}

static void many(void **state)
{
	for (unsigned i = 0; i < NMACHINES; i++) {
		const struct arch_desc *d = arch_by_machine(machines[i]);

		/* One bit for each. */
		assert_true(d->first_note && d->last_note > d->first_note);
		assert_true(d->last_note - d->first_note < 64);
	}
	every_cpu(make_many);
}

/* Longer than all that is known: it would be cut. */
static void too_long(void **state)
{
	struct regsets r = {.read = made_read, .arch = arch_by_machine(EM_AARCH64)};
	struct m_thread t = {.tid = 1};
	struct model *m = model_new(0);
	struct err err = {0};

	desc = r.arch;
	nmade = 0;
	add(next_note(desc->first_note), 4096, ARCH_REGSET_MAX / 4096, 7, 0);
	assert_int_equal(regsets_read(&r, m, &t, &err), -EOVERFLOW);
	assert_non_null(strstr(err.msg, "thread 1"));
	model_free(m);
}

/* A thread that is gone. */
static int64_t gone_read(pid_t tid, uint32_t note, void *buf, size_t len)
{
	return -ESRCH;
}

static void gone(void **state)
{
	struct regsets r = {.read = gone_read, .arch = arch_host()};
	struct m_thread t = {.tid = 1};
	struct model *m = model_new(0);
	struct err err = {0};

	assert_int_equal(regsets_read(&r, m, &t, &err), -ESRCH);
	assert_false(r.looked);
	model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),    cmocka_unit_test(in_use), cmocka_unit_test(many),
		cmocka_unit_test(too_long), cmocka_unit_test(gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
