/* SPDX-License-Identifier: MIT */
/* The look that several threads take sees what one alone sees: md_look. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "memdump/memdump.h"
#include "memdump/scan.h"

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

enum { PIECES = 3000, STRIDE = 256 << 10 };

static const size_t area_len = (size_t)PIECES * STRIDE; /* twelve slices */
static uint8_t *area;
static size_t page;
static bool guards;

struct seen {
	struct {
		uint64_t addr, len;
		enum md_seen seen;
	} v[3 * PIECES];
	size_t n;
};

static int note(void *arg, const struct md_range *range, const struct md_extent *e,
		enum md_seen seen)
{
	struct seen *s = arg;

	assert_true(s->n < 3 * PIECES);
	s->v[s->n].addr = e->addr;
	s->v[s->n].len = e->len;
	s->v[s->n++].seen = seen;
	return 0;
}

static int drop(void *arg, const struct md_range *range, const struct md_extent *e, bool clean)
{
	return 0;
}

static struct md_range range_of(size_t off, size_t len, enum md_pick pick)
{
	return (struct md_range){
		.space = MD_SPACE_PROC(getpid()),
		.addr = (uintptr_t)area + off,
		.len = len,
		.pid = getpid(),
		.fd = -1,
		.pick = pick,
	};
}

/* Ours: pages far from each other, protected, then some of them written, some dropped. */
static int make_area(void **state)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_WP};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct md_range r;
	struct err err = {0};

	page = (size_t)sysconf(_SC_PAGESIZE);
	area = mmap(NULL, area_len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return -1;
	madvise(area, area_len, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < PIECES; i++)
		memset(area + i * STRIDE, 1, 3 * page);
	/* Before they are protected, and after. */
	guards = md_can_see_guards();
	for (size_t i = 5; i < PIECES; i += 200)
		guards &= madvise(area + i * STRIDE + 4 * page, 2 * page, MADV_GUARD_INSTALL) == 0;
	reg.range.start = (uintptr_t)area;
	reg.range.len = area_len;
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0)
		return 0;
	r = range_of(0, area_len, MD_PICK_TRACK);
	if (md_scan_tracked(&r, 1, drop, NULL, &err) < 0)
		return -1;
	for (size_t i = 0; i < PIECES; i += 7)
		area[i * STRIDE + page] = 2;
	for (size_t i = 3; i < PIECES; i += 11)
		madvise(area + i * STRIDE, page, MADV_DONTNEED);
	for (size_t i = 105; i < PIECES; i += 200)
		guards &= madvise(area + i * STRIDE + 4 * page, 2 * page, MADV_GUARD_INSTALL) == 0;
	*state = area;
	return 0;
}

static void look_alone(struct seen *s)
{
	struct md_range r = range_of(0, area_len, MD_PICK_TRACKED);
	struct err err = {0};

	s->n = 0;
	if (md_look_each(NULL, &r, 1, note, s, &err) < 0)
		fail_msg("%s", err.msg);
}

/* Of what a look knew before @len bytes from @off on. */
static void look_together(struct seen *s, unsigned threads, size_t nregions, size_t off, size_t len)
{
	struct md_range known = range_of(off, len, MD_PICK_TRACKED);
	struct md_range r = range_of(0, area_len, MD_PICK_TRACKED);
	struct err err = {0};
	struct md_look *l = md_look_new(&known, 1, threads, nregions, &err);

	assert_non_null(l);
	md_look_begin(l);
	md_look_end(l);
	s->n = 0;
	if (md_look_each(l, &r, 1, note, s, &err) < 0)
		fail_msg("%s", err.msg);
	md_look_free(l);
}

static void expect_same(const struct seen *a, const struct seen *b)
{
	for (size_t i = 0; i < a->n && i < b->n; i++)
		if (a->v[i].addr != b->v[i].addr || a->v[i].len != b->v[i].len ||
		    a->v[i].seen != b->v[i].seen)
			fail_msg("piece %zu: %#lx+%#lx is %d alone, %#lx+%#lx is %d together", i,
				 a->v[i].addr, a->v[i].len, a->v[i].seen, b->v[i].addr, b->v[i].len,
				 b->v[i].seen);
	assert_int_equal(a->n, b->n);
}

static struct seen alone, together;

static void test_kinds(void **state)
{
	size_t n[4] = {0};

	if (!*state)
		skip();
	look_alone(&alone);
	for (size_t i = 0; i < alone.n; i++)
		n[alone.v[i].seen] += alone.v[i].len / page;
	assert_int_equal(n[MD_SEEN_WRITTEN], (PIECES + 6) / 7);
	assert_int_equal(n[MD_SEEN_OTHER], 0);
	assert_int_equal(n[MD_SEEN_CLEAN], 3 * PIECES - (PIECES + 6) / 7 - (PIECES - 3 + 10) / 11);
	if (guards)
		assert_int_equal(n[MD_SEEN_GUARD], 2 * PIECES / 100);
}

static void test_threads(void **state)
{
	if (!*state)
		skip();
	look_alone(&alone);
	for (unsigned threads = 1; threads < 6; threads++) {
		look_together(&together, threads, 1 << 16, 0, area_len);
		expect_same(&alone, &together);
	}
}

/* What finds no room is looked at later, and so is what nobody knew of. */
static void test_parts(void **state)
{
	if (!*state)
		skip();
	look_alone(&alone);
	look_together(&together, 3, 100, 0, area_len);
	expect_same(&alone, &together);
	look_together(&together, 3, 1 << 16, area_len / 3, area_len / 3);
	expect_same(&alone, &together);
}

/* Threads that wait for a look that is never taken go away. */
static void test_given_up(void **state)
{
	struct md_range r = range_of(0, area_len, MD_PICK_TRACKED);
	struct err err = {0};
	struct md_look *l = md_look_new(&r, 1, 4, 100, &err);

	assert_non_null(l);
	md_look_free(l);
	l = md_look_new(&r, 1, 4, 100, &err);
	assert_non_null(l);
	md_look_begin(l);
	md_look_free(l);
	md_look_free(NULL);
}

/* Nothing is looked at while the process makes calls: what is written until then is seen. */
static void test_give_way(void **state)
{
	struct md_range r = range_of(0, area_len, MD_PICK_TRACKED);
	struct err err = {0};
	uint64_t began, took = UINT64_MAX;

	if (!*state)
		skip();
	/* After a millisecond it is looked at all the same, so once more where this was kept
	 * waiting. */
	for (size_t i = 1; i < PIECES && took > 1000000; i += 7) {
		uint32_t calling = (uint32_t)getpid();
		struct md_look *l = md_look_new(&r, 1, 3, 1 << 16, &err);

		assert_non_null(l);
		md_look_give_way(l, &calling);
		began = clock_ns(CLOCK_MONOTONIC);
		md_look_begin(l);
		usleep(100);
		area[i * STRIDE + page] = 2;
		__atomic_store_n(&calling, 0, __ATOMIC_RELEASE);
		took = clock_ns(CLOCK_MONOTONIC) - began;
		md_look_end(l);
		together.n = 0;
		assert_int_equal(md_look_each(l, &r, 1, note, &together, &err), 0);
		md_look_free(l);
		look_alone(&alone);
		if (took <= 1000000)
			expect_same(&alone, &together);
	}
}

/* Whoever makes calls for ever, or was killed meanwhile, is waited for no more. */
static void test_tired(void **state)
{
	struct md_range r = range_of(0, area_len, MD_PICK_TRACKED);
	const uint32_t calling[2] = {(uint32_t)getpid(), 1};
	struct err err = {0};

	if (!*state)
		skip();
	look_alone(&alone);
	for (int i = 0; i < 2; i++) {
		struct md_look *l = md_look_new(&r, 1, 3, 1 << 16, &err);
		uint64_t began = clock_ns(CLOCK_MONOTONIC);

		assert_non_null(l);
		md_look_give_way(l, &calling[i]);
		md_look_begin(l);
		md_look_end(l);
		if (i == 0)
			assert_true(clock_ns(CLOCK_MONOTONIC) - began >= 1000000);
		together.n = 0;
		assert_int_equal(md_look_each(l, &r, 1, note, &together, &err), 0);
		expect_same(&alone, &together);
		md_look_free(l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),	 cmocka_unit_test(test_threads),
		cmocka_unit_test(test_parts),	 cmocka_unit_test(test_given_up),
		cmocka_unit_test(test_give_way), cmocka_unit_test(test_tired),
	};

	return cmocka_run_group_tests(tests, make_area, NULL);
}
