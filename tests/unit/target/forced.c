/* SPDX-License-Identifier: MIT */
/* Memory that its process may not read: read by the thread that traces it, both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "src/target/forced.h"
#include "tests/unit/target/child.h"

static size_t page;
static uint8_t *area, *whole;

/* Three pages that nobody may read, a hole, and one that is executable alone. */
static void child_hides(struct child *c)
{
	for (size_t i = 0; i < 5 * page; i++)
		area[i] = whole[i];
	if (munmap(area + 3 * page, page) || mprotect(area, 3 * page, PROT_NONE) ||
	    mprotect(area + 4 * page, page, PROT_EXEC))
		_exit(98);
	child_sync(c);
}

static void both_ways(void **state)
{
	struct err err = {0};
	struct child c;
	struct tree t;
	uint8_t *buf;

	page = (size_t)sysconf(_SC_PAGESIZE);
	area = mmap(NULL, 5 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	whole = malloc(5 * page);
	buf = malloc(5 * page);
	for (size_t i = 0; i < 5 * page; i++)
		whole[i] = (uint8_t)(i * 31 + i / page);
	child_start(&c, child_hides);
	assert_int_equal(tree_init(&t, c.pid, &err), 0);
	t.timeout_ms = 20000;
	assert_int_equal(tree_freeze(&t, &err), 0);
	for (int words = 0; words < 2; words++) {
		const uint64_t at = (uint64_t)(uintptr_t)area;
#define READ(off, len)                                                               \
	(words ? forced_words(c.pid, at + (off)*page, memset(buf, 0, 5 * page), len) \
	       : forced_read(&t, &t.procs[0], at + (off)*page, memset(buf, 0, 5 * page), len))
		assert_int_equal(READ(0, 3 * page), 3 * page);
		assert_memory_equal(buf, whole, 3 * page);
		/* As far as it goes. */
		assert_int_equal(READ(1, 4 * page), 2 * page);
		assert_memory_equal(buf, whole + page, 2 * page);
		assert_int_equal(READ(3, page), 0);
		assert_int_equal(READ(4, page), page);
		assert_memory_equal(buf, whole + 4 * page, page);
#undef READ
	}
	tree_thaw(&t, 0);
	tree_deinit(&t);
	child_end(&c);
	free(buf);
	free(whole);
	munmap(area, 5 * page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
