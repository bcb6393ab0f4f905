/* SPDX-License-Identifier: MIT */
/* The table of seccomp filters: what CRIU writes, and what nobody should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "src/image/meta.h"
#include "tests/unit/image/scratch.h"

enum { NONE = UINT32_MAX, MOST = 9000 };

struct entry {
	uint32_t prev, flags;
	const char *code;
};

/* seccomp.img with these filters; -1 for no file at all. */
static void write_table(const struct entry *e, int n)
{
	static Im__SeccompFilter items[MOST];
	static Im__SeccompFilter *ptrs[MOST];
	Im__Seccomp msg = IM__SECCOMP__INIT;
	struct frame_out out = {0};
	struct err err = {0};

	unlink("seccomp.img");
	if (n < 0)
		return;
	for (int i = 0; i < n; i++) {
		im__seccomp_filter__init(&items[i]);
		items[i].filter.data = (uint8_t *)(uintptr_t)e[i].code;
		items[i].filter.len = strlen(e[i].code);
		items[i].has_prev = e[i].prev != NONE;
		items[i].prev = e[i].prev;
		items[i].has_flags = e[i].flags != 0;
		items[i].flags = e[i].flags;
		ptrs[i] = &items[i];
	}
	msg.n_seccomp_filters = (size_t)n;
	msg.seccomp_filters = ptrs;
	frame_begin(&out, FRAME_SECCOMP);
	frame_add(&out, &msg.base);
	store_write_loose(AT_FDCWD, "seccomp.img", &out, &err);
	assert_no_err(&err);
	frame_deinit(&out);
}

/* A process whose threads name these filters, after all has been read. */
static struct model *read_table(const uint32_t *first, uint32_t n, struct err *err)
{
	struct model *m = model_new(0);
	struct meta_in in = {.dirfd = AT_FDCWD, .m = m, .err = err};
	struct m_proc *p = model_push(m, &m->procs, &m->nprocs, sizeof(*p));
	int ret;

	p->nthreads = n;
	p->threads = model_alloc(m, n * sizeof(*p->threads));
	for (uint32_t i = 0; i < n; i++)
		p->threads[i].seccomp_chain = first[i] == NONE ? 0 : first[i] + 1;
	p->threads[0].seccomp_mode = 2;
	ret = meta_get_seccomp(&in);
	assert_int_equal(ret, -err->errnum);
	return m;
}

static void chain_is(const struct model *m, uint32_t thread, const char *codes)
{
	const struct m_seccomp_chain *c = model_chain(m, m->procs[0].threads[thread].seccomp_chain);
	char got[64] = "";

	for (uint32_t i = 0; c && i < c->n; i++)
		strncat(got, (const char *)c->filters[i].code, c->filters[i].len);
	assert_string_equal(got, codes);
}

static void as_criu(void **state)
{
	static const struct entry table[] = {
		{NONE, 0, "c"}, {2, 0, "a"}, {0, 2, "b"}, {NONE, 0, "d"}};
	static const uint32_t first[] = {1, NONE, 3, 1, 2};
	struct err err = {0};
	struct model *m;

	write_table(table, 4);
	m = read_table(first, 5, &err);
	assert_no_err(&err);
	/* The oldest first, by way of what is called prev. */
	chain_is(m, 0, "abc");
	chain_is(m, 1, "");
	chain_is(m, 2, "d");
	chain_is(m, 3, "abc");
	chain_is(m, 4, "bc");
	assert_int_equal(m->procs[0].threads[3].seccomp_chain,
			 m->procs[0].threads[0].seccomp_chain);
	assert_int_equal(m->chains[0].filters[1].flags, M_SECCOMP_LOG);
	assert_int_equal(m->nchains, 3);
	model_free(m);
}

/* Only the leader names what all have. */
static void for_all(void **state)
{
	static const struct entry table[] = {{1, 1, "x"}, {NONE, 3, "y"}};
	static const uint32_t first[] = {0, NONE, NONE};
	struct err err = {0};
	struct model *m;

	write_table(table, 2);
	m = read_table(first, 3, &err);
	assert_no_err(&err);
	chain_is(m, 2, "xy");
	assert_int_equal(m->procs[0].threads[2].seccomp_mode, 2);
	model_free(m);
}

static void refused(const struct entry *table, int n, uint32_t first, const char *text)
{
	struct err err = {0};
	struct model *m;

	write_table(table, n);
	m = read_table(&first, 1, &err);
	assert_int_equal(err.errnum, EBADMSG);
	if (!strstr(err.msg, text))
		fail_msg("%s", err.msg);
	model_free(m);
}

static void damaged(void **state)
{
	static struct entry table[MOST];
	static const uint32_t none = NONE;
	struct err err = {0};
	struct model *m;

	for (int i = 0; i < MOST; i++)
		table[i] = (struct entry){(uint32_t)i + 1, 0, "z"};
	refused(table, 3, 3, "filter 3 is not there");
	refused(table, 3, 0x7fffffff, "is not there");
	refused(table, 3, 0, "filter 3 is not there");
	refused(table, MOST, 0, "without end");
	table[2].prev = 0;
	refused(table, 3, 1, "without end");
	table[1].prev = 1;
	refused(table, 3, 1, "without end");
	refused(NULL, -1, 0, "is not there");
	write_table(NULL, -1);
	m = read_table(&none, 1, &err);
	assert_no_err(&err);
	model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_criu),
		cmocka_unit_test(for_all),
		cmocka_unit_test(damaged),
	};

	return cmocka_run_group_tests(tests, scratch_enter, scratch_leave);
}
