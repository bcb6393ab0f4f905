/* SPDX-License-Identifier: MIT */
/* What of the memory that could not be read is a loss: all but guard regions, to the byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/ops/lost.h"

static struct m_guard guards[8];
static struct m_proc procs[2];
static struct model model;
static struct lost lost;
static struct md_reader reader;

static int fresh(void **state)
{
	procs[0] = (struct m_proc){.pid = 7, .mm = {.guards = guards}};
	procs[1] = (struct m_proc){.pid = 8};
	model = (struct model){.nprocs = 2, .procs = procs};
	lost = (struct lost){0};
	reader = (struct md_reader){0};
	lost_note(&lost, &reader);
	return 0;
}

static int done(void **state)
{
	lost_deinit(&lost);
	return 0;
}

static void unread(uint32_t pid, uint64_t start, uint64_t end)
{
	reader.vanished(reader.vanished_arg, MD_SPACE_PROC(pid), start, end - start);
}

static void guard(uint64_t start, uint64_t end)
{
	guards[procs[0].mm.nguards++] = (struct m_guard){start, end};
}

static void test_picture(void **state)
{
	unread(7, 0x1000, 0x5000);
	guard(0x3000, 0x9000);
	assert_int_equal(lost_bytes(&lost, &model), 8192);
}

/* A guard region that nobody tried to read takes nothing off a loss elsewhere. */
static void test_guards_not_read(void **state)
{
	unread(7, 0x1000, 0x2000);
	guard(0x10000, 0x90000);
	assert_int_equal(lost_bytes(&lost, &model), 4096);
}

/* Nor does one of another process at the same address, or one counted twice. */
static void test_whose(void **state)
{
	unread(7, 0x1000, 0x2000);
	unread(8, 0x1000, 0x2000);
	guard(0x1000, 0x2000);
	assert_int_equal(lost_bytes(&lost, &model), 4096);
	procs[1].mm = procs[0].mm;
	procs[1].shares_vm = true;
	assert_int_equal(lost_bytes(&lost, &model), 4096);
}

static void test_pieces(void **state)
{
	unread(7, 0x9000, 0xa000);
	unread(7, 0x1000, 0x3000);
	unread(7, 0x3000, 0x4000);
	guard(0x0, 0x2000);
	guard(0x3000, 0x9000);
	guard(0x9000, 0xb000);
	assert_int_equal(lost_bytes(&lost, &model), 4096);
}

static void test_none(void **state)
{
	guard(0x1000, 0x2000);
	assert_int_equal(lost_bytes(&lost, &model), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_picture, fresh, done),
		cmocka_unit_test_setup_teardown(test_guards_not_read, fresh, done),
		cmocka_unit_test_setup_teardown(test_whose, fresh, done),
		cmocka_unit_test_setup_teardown(test_pieces, fresh, done),
		cmocka_unit_test_setup_teardown(test_none, fresh, done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
