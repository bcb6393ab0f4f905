/* SPDX-License-Identifier: MIT */
/* Pieces that follow each other go out in one write, and a short one goes on where it stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "memdump/out.h"
#include "tests/unit/memdump/made.h"

static size_t most; /* of one write; 0: all */
static unsigned calls;

/* In the place of the C library's. */
ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	uint8_t buf[4096];
	size_t len = 0;

	calls++;
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < iov[i].iov_len && !(most && len == most); k++)
			buf[len++] = ((const uint8_t *)iov[i].iov_base)[k];
	return pwrite(fd, buf, len, off);
}

/* Five pieces: three, and two more after a gap of 100 bytes. */
static void write_five(bool no_uring, bool now, unsigned want_calls)
{
	static const struct {
		size_t len;
		uint64_t off;
	} piece[5] = {{100, 0}, {1, 100}, {764, 101}, {300, 965}, {9, 1265}};
	int fd = memfd_create("out", MFD_CLOEXEC);
	uint8_t bytes[1274], got[1274] = {0};
	struct err err = {0};
	struct md_out o;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 31 + i / 256);
	calls = 0;
	md_out_init(&o, fd, "five", 1, no_uring);
	o.now = now;
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(md_out_write(&o, NULL, bytes + piece[i].off, piece[i].len,
					      piece[i].off, &err),
				 0);
	assert_int_equal(md_out_drain(&o, &err), 0);
	md_out_deinit(&o);
	assert_int_equal(pread(fd, got, sizeof(got), 0), sizeof(got));
	memset(bytes + 865, 0, 100);
	assert_memory_equal(got, bytes, sizeof(bytes));
	assert_int_equal(calls, want_calls);
	close(fd);
}

static void test_gathered(void **state)
{
	most = 0;
	write_five(true, false, 2);
	write_five(false, false, 0);
	/* With a ring, and without making use of it. */
	write_five(false, true, 2);
}

static void test_short(void **state)
{
	/* Writes of 865 and 309 bytes, in steps of one byte, of two, of nearly all. */
	for (most = 1; most < 865; most++)
		write_five(true, false,
			   (unsigned)((865 + most - 1) / most + (309 + most - 1) / most));
}

/* What is gathered and not written yet is given up; what is complete is in the file. */
static void test_abandoned(void **state)
{
	int fd = memfd_create("out", MFD_CLOEXEC);
	uint8_t bytes[50] = {0};
	struct err err = {0};
	struct md_out o;

	md_out_init(&o, fd, "gathered", 1, true);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(md_out_write(&o, NULL, bytes + 10 * i, 10, 10 * i, &err), 0);
	md_out_abandon(&o);
	assert_int_equal(o.nfree, MD_OUT_DEPTH);
	assert_int_equal(lseek(fd, 0, SEEK_END), 40);
	md_out_deinit(&o);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gathered),
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_abandoned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
