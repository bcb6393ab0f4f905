/* SPDX-License-Identifier: MIT */
/* Contents that another thread than the tracing one is refused come later, from that one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "src/target/fill.h"

enum { LEN = 2 * 65536 };

/* What is not mapped is refused to everybody, with the error of memory that takes force. */
static void kept_and_written(void **state)
{
	static uint8_t first[65536], zeros[65536];
	static const struct fill_kin kin;
	uint8_t by_uffd = 0, *at = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct m_vma v = {
		.start = (uint64_t)(uintptr_t)at,
		.end = (uint64_t)(uintptr_t)at + LEN,
		.kind = M_VMA_FILE_PRIVATE,
	};
	struct m_proc p = {.pid = (uint32_t)getpid(), .mm = {.nvmas = 1, .vmas = &v}};
	struct fill f = {.p = &p, .kin = &kin, .uffd = -1, .by_uffd = &by_uffd};
	struct err err = {0};

	memset(first, 'x', sizeof(first));
	assert_ptr_not_equal(at, MAP_FAILED);
	munmap(at, LEN);
	f.mem_fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	assert_true(f.mem_fd >= 0);
	assert_int_equal(fill_late_open(&f, &err), 0);
	f.tracer = gettid();
	assert_int_equal(fill_write(&f, v.start, first, sizeof(first), &err), -EIO);
	err_clear(&err);
	f.tracer = gettid() + 1;
	assert_int_equal(fill_write(&f, v.start, first, sizeof(first), &err), 0);
	assert_int_equal(fill_write(&f, v.start + sizeof(first), NULL, sizeof(first), &err), 0);
	assert_int_equal(err.errnum, 0);
	assert_ptr_equal(mmap(at, LEN, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
			 at);
	memset(at, 'y', LEN);
	f.tracer = gettid();
	assert_int_equal(fill_late(&f, &err), 0);
	assert_memory_equal(at, first, sizeof(first));
	assert_memory_equal(at + sizeof(first), zeros, sizeof(zeros));
	/* Once. */
	memset(at, 'y', LEN);
	assert_int_equal(fill_late(&f, &err), 0);
	assert_int_equal(at[0], 'y');
	/* What nobody has written goes with the rest; refused again, it is an error. */
	munmap(at, LEN);
	f.tracer = gettid() + 1;
	assert_int_equal(fill_write(&f, v.start, first, sizeof(first), &err), 0);
	assert_int_equal(fill_write(&f, v.start, NULL, sizeof(first), &err), 0);
	f.tracer = gettid();
	assert_int_equal(fill_late(&f, &err), -EIO);
	f.tracer = gettid() + 1;
	assert_int_equal(fill_write(&f, v.start, first, sizeof(first), &err), 0);
	fill_late_close(&f);
	fill_late_close(&f);
	close(f.mem_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kept_and_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
