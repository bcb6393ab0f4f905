/* SPDX-License-Identifier: MIT */
/* What is reserved and not there is passed over, exactly, and in no time to speak of. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "memdump/holes.h"
#include "memdump/soft_dirty.h"

#define GIB  ((uint64_t)1 << 30)
#define FAR  (700 * GIB)
#define LEN  (1024 * GIB)
#define HUGE (16 * LEN)

static uint64_t page_size;

/* Nothing is there but a page at @far, in a mapping of @own bytes before and behind it. */
static uint64_t reserve(uint64_t len, uint64_t far, uint64_t own)
{
	char *p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(mprotect(p + far - own, 2 * own, PROT_READ | PROT_WRITE), 0);
	madvise(p, len, MADV_NOHUGEPAGE);
	p[far] = 1;
	return (uintptr_t)p;
}

static uint64_t next(struct md_holes *h, uint64_t addr, uint64_t end)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t ret;

	assert_true(fd >= 0);
	ret = md_holes_end(h, getpid(), fd, addr, end);
	close(fd);
	return ret;
}

static void test_scan(void **state)
{
	uint64_t at = reserve(LEN, FAR, GIB);
	struct md_holes h = {0};
	uint64_t found = next(&h, at, at + LEN);

	if (h.no_scan)
		skip(); /* before Linux 6.7 */
	assert_int_equal(found, at + FAR);
	assert_int_equal(next(&h, at + FAR, at + LEN), at + FAR);
	assert_int_equal(next(&h, at + FAR + page_size, at + LEN), at + LEN);
	assert_int_equal(next(&h, at, at + FAR), at + FAR);
	md_holes_forget(&h);
	munmap((void *)(uintptr_t)at, LEN);
}

/* Before that mappings are all there is to know. */
static void test_mappings(void **state)
{
	uint64_t at = reserve(LEN, FAR, GIB);
	struct md_holes h = {.no_scan = true};

	assert_int_equal(next(&h, at, at + LEN), at + FAR - GIB);
	assert_int_equal(next(&h, at + FAR, at + LEN), at + FAR);
	assert_int_equal(next(&h, at + FAR + GIB, at + LEN), at + LEN);
	assert_int_equal(next(&h, at, at + FAR - 2 * GIB), at + FAR - 2 * GIB);
	/* Not worth it. */
	assert_int_equal(next(&h, at, at + GIB), at);
	/* What was there is forgotten. */
	((char *)(uintptr_t)at)[FAR - GIB] = 1;
	madvise((void *)(uintptr_t)(at + FAR - GIB), 2 * GIB, MADV_DONTNEED);
	assert_int_equal(next(&h, at, at + LEN), at + FAR - GIB);
	md_holes_forget(&h);
	assert_int_equal(next(&h, at, at + LEN), at + LEN);
	md_holes_forget(&h);
	munmap((void *)(uintptr_t)at, LEN);
}

static uint64_t told;

static int note(void *arg, const struct md_range *range, const struct md_extent *e, bool clean)
{
	told += e->len;
	return 0;
}

static uint64_t cpu_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Word by word it would be 6 s. */
static void test_soft_dirty(void **state)
{
	struct md_range r = {.pid = getpid(), .fd = -1, .pick = MD_PICK_TRACKED, .len = HUGE};
	struct err err = {0};
	struct md_soft *s;
	uint64_t began;

	if (!md_can_soft_dirty())
		skip();
	r.space = MD_SPACE_PROC((uint32_t)r.pid);
	r.addr = reserve(HUGE, FAR, GIB);
	s = md_soft_new(&err);
	assert_non_null(s);
	began = cpu_ms();
	if (md_soft_scan(s, &r, 1, MD_SOFT_LOOK, note, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(told, page_size);
	assert_true(cpu_ms() - began < 1500);
	md_soft_free(s);
	munmap((void *)(uintptr_t)r.addr, HUGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan),
		cmocka_unit_test(test_mappings),
		cmocka_unit_test(test_soft_dirty),
	};

	page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
