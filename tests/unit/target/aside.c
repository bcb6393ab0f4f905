/* SPDX-License-Identifier: MIT */
/* Work aside: each number once, and all of them done at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/target/aside.h"

enum { MOST = 600 };

static unsigned hits[MOST]; /* each written by who has the number */

static void hit(void *arg, uint32_t i)
{
	unsigned *all = arg;

	/* Long enough for somebody else to be at it when the caller has nothing left. */
	if (i % 16 == 0)
		usleep(200);
	all[i]++;
}

static void expect(uint32_t n)
{
	for (uint32_t i = 0; i < MOST; i++)
		assert_int_equal(hits[i], i < n);
}

static void test_each_once(void **state)
{
	struct aside *a = aside_new();

	for (uint32_t n = 0; n < MOST; n += 7) {
		memset(hits, 0, sizeof(hits));
		aside_begin(a, hit, hits, n);
		aside_end(a, hit, hits, n);
		expect(n);
	}
	aside_free(a);
}

static void test_nobody_else(void **state)
{
	memset(hits, 0, sizeof(hits));
	aside_begin(NULL, hit, hits, 10);
	aside_end(NULL, hit, hits, 10);
	expect(10);
	aside_free(NULL);
}

/* After a failure nobody waits for the rest. */
static void test_given_up(void **state)
{
	struct aside *a = aside_new();

	aside_begin(a, hit, hits, MOST);
	aside_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_once),
		cmocka_unit_test(test_nobody_else),
		cmocka_unit_test(test_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
