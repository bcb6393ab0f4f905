/* SPDX-License-Identifier: MIT */
/* Looks at memory whose writes are tracked, and what is kept of it: MD_PICK_TRACK, _DIRTY,
 * _TRACKED. */
#include "tests/unit/memdump/reader_child.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

enum { HUGE = 512 };

/* --- a child that does as it is told -------------------------------------------------------- */

static int orders[2];

struct order {
	void (*act)(size_t page, size_t n);
	size_t page, n;
};

static bool have_wp_async(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	bool yes = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

	if (fd >= 0)
		close(fd);
	return yes;
}

static void track(size_t page, size_t n)
{
	static int fd = -1;
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
	struct uffdio_register reg = {
		.range = {(uintptr_t)at(page), n * PAGE},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	if (fd < 0) {
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
		need(fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0, "userfaultfd");
	}
	need(ioctl(fd, UFFDIO_REGISTER, &reg) == 0, "register");
}

static void touch_all(size_t page, size_t n)
{
	for (size_t i = 0; i < n; i++)
		touch(page + i);
}

static void look_at(size_t page, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)*(volatile uint8_t *)at(page + i);
}

static void drop(size_t page, size_t n)
{
	need(madvise(at(page), n * PAGE, MADV_DONTNEED) == 0, "MADV_DONTNEED");
}

static void map_new(size_t page, size_t n)
{
	map_anon(page, n, PROT_READ | PROT_WRITE);
}

static void by_the_kernel(size_t page, size_t n)
{
	int fd = open("/dev/zero", O_RDONLY);

	/* A page of zeros is still a page that was written. */
	need(read(fd, at(page), n * PAGE) == (ssize_t)(n * PAGE), "read");
	touch_all(page, n);
	close(fd);
}

/* The last page of it goes to another place and comes back. */
static void move(size_t page, size_t n)
{
	void *away = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *last = at(page + n - 1);

	need(mremap(last, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away) == away, "mremap");
	need(mremap(away, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, last) == last, "mremap");
}

static void huge(size_t page, size_t n)
{
	map_anon(page, n, PROT_READ | PROT_WRITE);
	madvise(at(page), n * PAGE, MADV_HUGEPAGE);
	touch_all(page, n);
}

static void protect(size_t page, size_t n)
{
	need(mprotect(at(page), n * PAGE, PROT_NONE) == 0, "mprotect");
}

static void prepare(void)
{
	map_anon(0, 1000, PROT_READ | PROT_WRITE);
	touch_all(0, 600);
	look_at(600, 100); /* the shared zero page */
	track(0, 1000);
}

static void obey(void)
{
	struct order o;

	need(read(orders[1], &o, sizeof(o)) == sizeof(o), "order");
	o.act(o.page, o.n);
	need(write(orders[1], "", 1) == 1, "answer");
}

static void order(void (*act)(size_t page, size_t n), size_t page, size_t n)
{
	struct order o = {act, page, n};
	char c;

	assert_int_equal(write(orders[0], &o, sizeof(o)), sizeof(o));
	assert_int_equal(read(orders[0], &c, 1), 1);
}

static pid_t start(void)
{
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, orders), 0);
	pid = child(prepare, obey);
	/* Nobody waits for a child that could not do as it was told. */
	close(orders[1]);
	return pid;
}

static void stop(pid_t pid)
{
	end(pid);
	close(orders[0]);
}

/* --- looking -------------------------------------------------------------------------------- */

static bool seen[NPAGES];

static void look(pid_t pid, enum md_pick pick)
{
	struct md_range r = range_of(pid, 0, NPAGES, pick);

	read_ranges(&r, 1, true);
	assert_int_equal(found.ret, 0);
	memcpy(seen, found.page, sizeof(seen));
}

static void expect_pages(const char *what, size_t page, size_t n)
{
	for (size_t i = 0; i < NPAGES; i++)
		if (seen[i] != (i >= page && i < page + n))
			fail_msg("%s: page %zu is %sthere", what, i, seen[i] ? "" : "not ");
}

struct tracked {
	uint8_t kind[NPAGES]; /* 0 not there, 1 clean, 2 to be read */
};

static int tracked_emit(void *arg, const struct md_range *range, const struct md_extent *e,
			bool clean)
{
	struct tracked *t = arg;

	for (uint64_t a = e->addr; a < e->addr + e->len; a += PAGE)
		t->kind[(a - (uintptr_t)area) / PAGE] = clean ? 1 : 2;
	return 0;
}

static void look_tracked(pid_t pid, struct tracked *t)
{
	/* Two ranges, so that a look passes from one into the other. */
	struct md_range r[2] = {
		range_of(pid, 0, 500, MD_PICK_TRACKED),
		range_of(pid, 500, NPAGES - 500, MD_PICK_TRACKED),
	};
	struct err err = {0};

	memset(t, 0, sizeof(*t));
	if (md_scan_tracked(r, 2, tracked_emit, t, &err) < 0)
		fail_msg("%s", err.msg);
}

static void expect_tracked(pid_t pid, const char *what, uint8_t (*want)(size_t page))
{
	struct tracked t;

	look_tracked(pid, &t);
	for (size_t i = 0; i < NPAGES; i++)
		if (t.kind[i] != want(i))
			fail_msg("%s: page %zu is %d, want %d", what, i, t.kind[i], want(i));
}

/* --- tests ---------------------------------------------------------------------------------- */

static uint8_t all_dirty(size_t i)
{
	return i < 600 ? 2 : 0;
}

static uint8_t all_clean(size_t i)
{
	return i < 600 ? 1 : 0;
}

static uint8_t some_dirty(size_t i)
{
	if (i >= 600)
		return i >= 650 && i < 660 ? 2 : 0;
	return (i >= 10 && i < 20) || i == 499 || i == 500 ? 2 : 1;
}

static void test_writes(void **state)
{
	pid_t pid = start();

	expect_tracked(pid, "before", all_dirty);
	look(pid, MD_PICK_TRACK);
	expect_pages("first", 0, 600);
	expect_tracked(pid, "protected", all_clean);
	look(pid, MD_PICK_DIRTY);
	expect_pages("nothing written", 0, 0);
	order(touch_all, 10, 10);
	order(touch_all, 499, 2);
	order(touch_all, 650, 10); /* where the shared zero page was */
	order(look_at, 0, 1000);
	expect_tracked(pid, "written", some_dirty);
	look(pid, MD_PICK_DIRTY);
	for (size_t i = 0; i < NPAGES; i++)
		assert_int_equal(seen[i], some_dirty(i) == 2);
	look(pid, MD_PICK_DIRTY);
	expect_pages("told once", 0, 0);
	stop(pid);
}

static void test_written_by_the_kernel(void **state)
{
	pid_t pid = start();

	look(pid, MD_PICK_TRACK);
	order(by_the_kernel, 100, 7);
	look(pid, MD_PICK_DIRTY);
	expect_pages("read(2)", 100, 7);
	stop(pid);
}

static uint8_t dropped(size_t i)
{
	if (i >= 200 && i < 220)
		return i < 205 ? 2 : 0;
	return all_clean(i);
}

/* What is dropped is not there; what comes in its place was written. */
static void test_dropped(void **state)
{
	pid_t pid = start();

	look(pid, MD_PICK_TRACK);
	order(drop, 200, 20);
	order(touch_all, 200, 5);
	expect_tracked(pid, "dropped", dropped);
	look(pid, MD_PICK_DIRTY);
	expect_pages("dropped", 200, 5);
	stop(pid);
}

static uint8_t mapped_anew(size_t i)
{
	if (i >= 300 && i < 400)
		return i < 350 ? 2 : 0;
	return all_clean(i);
}

/* A new mapping is not tracked: rounds pass it by, and the last look has all of it read. */
static void test_mapped_anew(void **state)
{
	pid_t pid = start();

	look(pid, MD_PICK_TRACK);
	order(map_new, 300, 100);
	order(touch_all, 300, 50);
	look(pid, MD_PICK_DIRTY);
	expect_pages("not tracked", 0, 0);
	expect_tracked(pid, "not tracked", mapped_anew);
	order(track, 300, 100);
	look(pid, MD_PICK_DIRTY);
	expect_pages("tracked", 300, 50);
	stop(pid);
}

static uint8_t moved(size_t i)
{
	return i == 599 ? 2 : all_clean(i);
}

static void test_moved(void **state)
{
	pid_t pid = start();

	look(pid, MD_PICK_TRACK);
	order(move, 590, 10);
	expect_tracked(pid, "moved", moved);
	stop(pid);
}

/* Its pages are read all the same, and changing the protection writes nothing. */
static void test_protected(void **state)
{
	pid_t pid = start();

	order(touch_all, 0, 600);
	order(protect, 100, 50);
	look(pid, MD_PICK_TRACK);
	expect_pages("PROT_NONE", 0, 600);
	assert_int_equal(found.vanished, 0);
	expect_tracked(pid, "PROT_NONE", all_clean);
	stop(pid);
}

/* One page of a huge one is written: that one at least is told, and no other content is lost. */
static void test_huge(void **state)
{
	pid_t pid = start();
	struct tracked t;

	order(huge, HUGE, HUGE);
	order(track, HUGE, HUGE);
	look(pid, MD_PICK_TRACK);
	for (size_t i = HUGE; i < 2 * HUGE; i++)
		assert_true(seen[i]);
	look_tracked(pid, &t);
	for (size_t i = HUGE; i < 2 * HUGE; i++)
		assert_int_equal(t.kind[i], 1);
	order(touch_all, HUGE + 17, 1);
	look_tracked(pid, &t);
	assert_int_equal(t.kind[HUGE + 17], 2);
	look(pid, MD_PICK_DIRTY);
	assert_true(seen[HUGE + 17]);
	stop(pid);
}

/* What was kept comes out as it went in, in blocks of any size. */
static void test_capture(void **state)
{
	pid_t pid = start();
	struct md_range r = range_of(pid, 0, NPAGES, MD_PICK_PRESENT);
	static struct md_extent extents[MD_BLOCK_EXTENTS];
	uint8_t *raw = aligned_alloc(PAGE, BLOCK);
	size_t npages = 0, passes = 0;
	struct err err = {0};
	struct md_reader *vm;
	int ret;

	/* Every other page: as many extents as there may be. */
	for (size_t i = 1; i < 600; i += 2)
		order(drop, i, 1);
	vm = md_reader_vm_new(&r, 1, &err);
	do {
		/* Too small for all of it: it says so, and the rest comes later. */
		struct md_capture *c = md_capture_new(150 * PAGE, &err);
		struct md_reader *again;

		assert_non_null(c);
		ret = md_capture_fill(c, vm, &err);
		assert_true(ret >= 0);
		again = md_capture_reader(c, &err);
		memset(&found, 0, sizeof(found));
		for (;;) {
			struct md_block b = {.extents = extents, .raw = raw};
			int got = again->next(again, &b, BLOCK, &err);

			assert_true(got >= 0);
			if (!got)
				break;
			check_block(&b, true);
		}
		assert_int_equal(found.npages * PAGE, md_capture_bytes(c));
		npages += found.npages;
		passes++;
		again->close(again);
		md_capture_free(c);
	} while (ret > 0);
	assert_int_equal(npages, 300);
	assert_true(passes > 1);
	vm->close(vm);
	free(raw);
	stop(pid);
}

static int make_area(void **state)
{
	uint8_t *p = mmap(NULL, (NPAGES + 2 * HUGE) * PAGE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -1;
	area = (uint8_t *)(((uintptr_t)p + HUGE * PAGE - 1) & ~(uintptr_t)(HUGE * PAGE - 1));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writes),	cmocka_unit_test(test_written_by_the_kernel),
		cmocka_unit_test(test_dropped), cmocka_unit_test(test_mapped_anew),
		cmocka_unit_test(test_moved),	cmocka_unit_test(test_protected),
		cmocka_unit_test(test_huge),	cmocka_unit_test(test_capture),
	};

	if (!have_wp_async()) {
		printf("userfaultfd with WP_ASYNC (Linux 6.7) is not to be had here\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, make_area, NULL);
}
