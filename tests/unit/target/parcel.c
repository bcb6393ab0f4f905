/* SPDX-License-Identifier: MIT */
/* What lies close together goes over as one piece, and each part to its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "src/target/parcel.h"

static char area[1 << 16], a[0x120], b[0x400], c[0x100];
static struct iovec here[16], there[8];

static uint64_t at(size_t off)
{
	return (uintptr_t)area + off;
}

static void fill(void)
{
	memset(area, '.', sizeof(area));
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	memset(c, 'c', sizeof(c));
}

static void expect(size_t from, size_t to, char want)
{
	for (size_t i = from; i < to; i++)
		if (area[i] != want)
			fail_msg("%#zx is %d, want %d", i, area[i], want);
}

static void test_picture(void **state)
{
	struct parcel p = {.here = here, .there = there};

	fill();
	parcel_add(&p, a, at(0x10c0), sizeof(a));
	parcel_add(&p, b, at(0x1200), sizeof(b));
	parcel_add(&p, c, at(0x1700), 0);
	parcel_add(&p, c, at(0x1700), sizeof(c));
	assert_int_equal(p.nthere, 1);
	assert_int_equal(p.nhere, 5);
	assert_int_equal(p.len, 0x1800 - 0x10c0);
	assert_int_equal(process_vm_writev(getpid(), here, p.nhere, there, p.nthere, 0), p.len);
	expect(0, 0x10c0, '.');
	expect(0x10c0, 0x11e0, 'a');
	expect(0x11e0, 0x1200, 0);
	expect(0x1200, 0x1600, 'b');
	expect(0x1600, 0x1700, 0);
	expect(0x1700, 0x1800, 'c');
	expect(0x1800, sizeof(area), '.');
	memset(a, 0, sizeof(a));
	memset(c, 0, sizeof(c));
	assert_int_equal(process_vm_readv(getpid(), here, p.nhere, there, p.nthere, 0), p.len);
	assert_int_equal(a[0x11f], 'a');
	assert_int_equal(c[0], 'c');
}

static void test_apart(void **state)
{
	struct parcel p = {.here = here, .there = there};

	fill();
	parcel_add(&p, a, at(0x8000), sizeof(a));
	parcel_add(&p, b, at(0x8120), sizeof(b));
	parcel_add(&p, c, at(0x8520 + PARCEL_GAP + 1), sizeof(c));
	/* Downwards, too. */
	parcel_add(&p, a, at(0x2000), sizeof(a));
	assert_int_equal(p.nthere, 3);
	assert_int_equal(p.nhere, 4);
	assert_int_equal(process_vm_writev(getpid(), here, p.nhere, there, p.nthere, 0), p.len);
	expect(0x2000, 0x2120, 'a');
	expect(0x2120, 0x8000, '.');
	expect(0x8000, 0x8120, 'a');
	expect(0x8120, 0x8520, 'b');
	expect(0x8520, 0x8520 + PARCEL_GAP + 1, '.');
	expect(0x8520 + PARCEL_GAP + 1, 0x8621 + PARCEL_GAP, 'c');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_picture),
		cmocka_unit_test(test_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
