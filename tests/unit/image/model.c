/* SPDX-License-Identifier: MIT */
/* The model's arena, shared and private, and its look-ups. */
#include "src/image/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/image/arena.h"

static void alloc_is_zeroed_and_aligned(void **state)
{
	struct model *m = model_new(0);

	assert_non_null(m);
	for (size_t len = 0; len < 100; len++) {
		unsigned char *p = model_alloc(m, len);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < len; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xaa, len);
	}
	model_free(m);
	model_free(NULL);
}

static void push_keeps_elements(void **state)
{
	struct model *m = model_new(0);
	uint64_t *a = NULL, *b = NULL;
	uint32_t na = 0, nb = 0;

	for (uint64_t i = 0; i < 20000; i++) {
		uint64_t *e = model_push(m, &a, &na, sizeof(*e));

		assert_int_equal(*e, 0);
		*e = i;
		if (i % 3 == 0) {
			e = model_push(m, &b, &nb, sizeof(*e));
			assert_int_equal(*e, 0);
			*e = ~i;
		}
	}
	assert_int_equal(na, 20000);
	assert_int_equal(nb, 6667);
	for (uint64_t i = 0; i < na; i++)
		assert_int_equal(a[i], i);
	for (uint64_t i = 0; i < nb; i++)
		assert_int_equal(b[i], ~(i * 3));
	model_free(m);
}

/* An array made with model_alloc() has no spare room: a push must not run over its neighbour. */
static void push_after_exact_alloc(void **state)
{
	struct model *m = model_new(0);
	uint32_t *a = model_alloc(m, 5 * sizeof(*a)), *first = a, n = 5;
	uint8_t *next = model_alloc(m, 16), *foreign = next + 1;

	memset(next, 0x55, 16);
	for (int i = 0; i < 100; i++)
		*(uint32_t *)model_push(m, &a, &n, sizeof(*a)) = 7;
	assert_ptr_not_equal(a, first);
	assert_int_equal(n, 105);
	assert_int_equal(a[104], 7);
	for (int i = 0; i < 16; i++)
		assert_int_equal(next[i], 0x55);
	foreign = (uint8_t *)&n; /* not the arena's */
	assert_null(model_push(m, &foreign, &n, 1));
	assert_int_equal(n, 105);
	model_free(m);
}

static void shared_arena_is_filled_by_a_child(void **state)
{
	struct model *m = model_new(MODEL_SHARED);
	int status;
	pid_t pid;

	assert_non_null(m);
	pid = fork();
	if (!pid) {
		for (int i = 0; i < 1000; i++) {
			struct m_proc *p = model_push(m, &m->procs, &m->nprocs, sizeof(*p));

			p->pid = 100 + i;
			p->cmdline = model_strdup(m, "made by a child");
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(m->nprocs, 1000);
	assert_int_equal(m->procs[999].pid, 1099);
	assert_string_equal(m->procs[999].cmdline, "made by a child");
	/* and the parent goes on where the child stopped */
	model_strdup(m, "xxxxxxxxxxxxxxxxxxxxxxxx");
	assert_string_equal(m->procs[999].cmdline, "made by a child");
	model_free(m);
}

static void full_arena_says_so(void **state)
{
	struct arena *a = arena_new(16 << 20, false);
	uint32_t n = 0;
	void *p;

	assert_non_null(a);
	assert_null(arena_alloc(a, 16 << 20));
	assert_null(arena_alloc(a, SIZE_MAX));
	assert_null(arena_alloc(a, SIZE_MAX - 8));
	p = arena_alloc(a, 100);
	assert_null(arena_grow(a, p, 17 << 20));
	assert_null(arena_grow(a, p, SIZE_MAX));
	assert_ptr_equal(arena_grow(a, p, 1 << 20), p);
	while (arena_alloc(a, 65536))
		n++;
	assert_in_range(n, 200, 255);
	arena_free(a);
	assert_null(arena_new(1 << 20, false));
}

static void small_address_space(void **state)
{
	struct rlimit old, lim;
	struct model *m;

	getrlimit(RLIMIT_AS, &old);
	lim = old;
	lim.rlim_cur = (size_t)1 << 30;
	/* Sanitizers reserve terabytes: then no limit helps and model_new() fails cleanly. */
	setrlimit(RLIMIT_AS, &lim);
	m = model_new(MODEL_SHARED);
	setrlimit(RLIMIT_AS, &old);
	if (m)
		assert_non_null(model_alloc(m, 1 << 20));
	model_free(m);
}

static void look_ups(void **state)
{
	struct model *m = model_new(0);
	struct m_thread t = {0};
	struct m_regset *r;

	assert_null(model_file(m, 0));
	assert_null(model_file(m, 1));
	((struct m_file *)model_push(m, &m->files, &m->nfiles, sizeof(struct m_file)))->id = 1;
	((struct m_shm *)model_push(m, &m->shms, &m->nshms, sizeof(struct m_shm)))->id = 1;
	((struct m_fdtable *)model_push(m, &m->fdtables, &m->nfdtables, sizeof(struct m_fdtable)))
		->id = 2;
	((struct m_proc *)model_push(m, &m->procs, &m->nprocs, sizeof(struct m_proc)))->pid = 42;
	assert_ptr_equal(model_file(m, 1), m->files);
	assert_null(model_file(m, 2));
	assert_ptr_equal(model_shm(m, 1), m->shms);
	assert_null(model_shm(m, 0));
	assert_ptr_equal(model_fdtable(m, 2), m->fdtables);
	assert_null(model_fdtable(m, 1));
	assert_ptr_equal(model_proc(m, 42), m->procs);
	assert_null(model_proc(m, 43));
	r = model_push(m, &t.regsets, &t.nregsets, sizeof(*r));
	r->note = 0x202;
	assert_ptr_equal(model_regset(&t, 0x202), r);
	assert_null(model_regset(&t, 1));
	model_free(m);
}

static void descriptors_are_found(void **state)
{
	struct m_fd fds[] = {{9, 1, false}, {3, 2, false}, {1000000, 3, true}, {4, 4, false}};
	struct m_fdtable t = {.n = 4, .fds = fds}, none = {0};

	model_sort_fds(&t);
	assert_int_equal(model_fd(&t, 3)->file_id, 2);
	assert_int_equal(model_fd(&t, 9)->file_id, 1);
	assert_int_equal(model_fd(&t, 1000000)->file_id, 3);
	assert_null(model_fd(&t, 5));
	assert_null(model_fd(&none, 5));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alloc_is_zeroed_and_aligned),
		cmocka_unit_test(push_keeps_elements),
		cmocka_unit_test(push_after_exact_alloc),
		cmocka_unit_test(shared_arena_is_filled_by_a_child),
		cmocka_unit_test(full_arena_says_so),
		cmocka_unit_test(small_address_space),
		cmocka_unit_test(look_ups),
		cmocka_unit_test(descriptors_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
