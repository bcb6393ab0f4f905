/* SPDX-License-Identifier: MIT */
/* Writes of another process told by soft-dirty marks and frame numbers, and what these marks do not
 * tell. */
#include "tests/unit/memdump/reader_child.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "memdump/soft_dirty.h"

enum { HUGE = 512, USED = 600 };

/* --- a child that does as it is told, and stands still between -------------------------------- */

static int orders[2];

struct order {
	void (*act)(size_t page, size_t n);
	size_t page, n;
};

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

	need(read(fd, at(page), n * PAGE) == (ssize_t)(n * PAGE), "read");
	close(fd);
}

/* What is behind it comes to its place. */
static void move_here(size_t page, size_t n)
{
	need(mremap(at(page + n), n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(page)) ==
		     at(page),
	     "mremap");
}

static void huge(size_t page, size_t n)
{
	map_anon(page, n, PROT_READ | PROT_WRITE);
	madvise(at(page), n * PAGE, MADV_HUGEPAGE);
	touch_all(page, n);
}

static void prepare(void)
{
	map_anon(0, 1000, PROT_READ | PROT_WRITE);
	touch_all(0, USED);
	look_at(USED, 100); /* the shared zero page */
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

/* --- looking ---------------------------------------------------------------------------------- */

static struct md_soft *soft;

static pid_t start(void)
{
	struct err err = {0};
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, orders), 0);
	soft = md_soft_new(&err);
	assert_non_null(soft);
	pid = child(prepare, obey);
	/* Nobody waits for a child that could not do as it was told. */
	close(orders[1]);
	return pid;
}

static void stop(pid_t pid)
{
	end(pid);
	close(orders[0]);
	md_soft_free(soft);
}

/* '.': not there, 'c': clean, 'd': dirty */
static char told[NPAGES];

static int note(void *arg, const struct md_range *range, const struct md_extent *e, bool clean)
{
	for (uint64_t a = e->addr; a < e->addr + e->len; a += PAGE) {
		size_t page = (a - (uintptr_t)area) / PAGE;

		assert_true(a >= range->addr && a < range->addr + range->len);
		assert_int_equal(told[page], '.');
		told[page] = clean ? 'c' : 'd';
	}
	return 0;
}

static int scan(pid_t pid, enum md_soft_step step)
{
	/* Two ranges, so that a run of pages passes from one into the other. */
	struct md_range r[2] = {
		range_of(pid, 0, 500, MD_PICK_TRACKED),
		range_of(pid, 500, NPAGES - 500, MD_PICK_TRACKED),
	};
	struct err err = {0};
	int ret;

	memset(told, '.', sizeof(told));
	ret = md_soft_scan(soft, r, 2, step, note, NULL, &err);
	if (ret < 0 && ret != -ESTALE)
		fail_msg("%s", err.msg);
	return ret;
}

static void expect_told(pid_t pid, const char *what, enum md_soft_step step,
			char (*want)(size_t page))
{
	assert_int_equal(scan(pid, step), 0);
	for (size_t i = 0; i < NPAGES; i++)
		if (told[i] != want(i))
			fail_msg("%s: page %zu is %c, want %c", what, i, told[i], want(i));
}

static char all_dirty(size_t i)
{
	return i < USED ? 'd' : '.';
}

static char all_clean(size_t i)
{
	return i < USED ? 'c' : '.';
}

/* --- tests ------------------------------------------------------------------------------------ */

static char some_dirty(size_t i)
{
	if (i >= USED)
		return i >= 650 && i < 660 ? 'd' : '.';
	return (i >= 10 && i < 20) || i == 499 || i == 500 ? 'd' : 'c';
}

static void some_writes(void)
{
	order(touch_all, 10, 10);
	order(touch_all, 499, 2);
	order(touch_all, 650, 10); /* where the shared zero page was */
	order(look_at, 0, 1000);
}

static void writes(void **state)
{
	pid_t pid = start();

	assert_false(md_soft_knows(soft, pid));
	expect_told(pid, "nothing is known", MD_SOFT_LOOK, all_dirty);
	expect_told(pid, "first", MD_SOFT_CLEAR, all_dirty);
	assert_true(md_soft_knows(soft, pid));
	expect_told(pid, "cleared", MD_SOFT_LOOK, all_clean);
	some_writes();
	expect_told(pid, "written", MD_SOFT_LOOK, some_dirty);
	expect_told(pid, "written, again", MD_SOFT_CLEAR, some_dirty);
	order(drop, 650, 10);
	expect_told(pid, "told once", MD_SOFT_LOOK, all_clean);
	stop(pid);
}

static char seven(size_t i)
{
	return i >= 100 && i < 107 ? 'd' : all_clean(i);
}

static void written_by_the_kernel(void **state)
{
	pid_t pid = start();

	scan(pid, MD_SOFT_CLEAR);
	order(by_the_kernel, 100, 7);
	expect_told(pid, "read(2)", MD_SOFT_LOOK, seven);
	stop(pid);
}

static char came_anew(size_t i)
{
	if (i >= 200 && i < 300)
		return i < 205 ? 'd' : '.';
	return all_clean(i);
}

/* What is dropped is not there; what comes in its place was written. */
static void dropped_and_mapped(void **state)
{
	pid_t pid = start();

	scan(pid, MD_SOFT_CLEAR);
	order(drop, 200, 100);
	order(touch_all, 200, 5);
	expect_told(pid, "dropped", MD_SOFT_LOOK, came_anew);
	order(map_new, 200, 100);
	order(touch_all, 200, 5);
	/* Where the new mapping has become one with its neighbours all of it counts as written. */
	scan(pid, MD_SOFT_LOOK);
	for (size_t i = 200; i < 300; i++)
		assert_int_equal(told[i], came_anew(i));
	stop(pid);
}

static char moved(size_t i)
{
	return i < HUGE ? 'd' : '.';
}

/* Page tables that were moved as they are have the marks of where they came from. */
static void another_in_its_place(void **state)
{
	pid_t pid = start();

	order(map_new, 0, 2 * HUGE);
	order(touch_all, 0, 2 * HUGE);
	scan(pid, MD_SOFT_CLEAR);
	order(move_here, 0, HUGE);
	expect_told(pid, "2 MiB moved", MD_SOFT_LOOK, moved);
	stop(pid);
}

static void of_huge_pages(void **state)
{
	pid_t pid = start();

	order(huge, HUGE, HUGE);
	scan(pid, MD_SOFT_CLEAR);
	scan(pid, MD_SOFT_LOOK);
	for (size_t i = HUGE; i < 2 * HUGE; i++)
		assert_int_equal(told[i], 'c');
	order(touch_all, HUGE + 17, 1);
	scan(pid, MD_SOFT_LOOK);
	assert_int_equal(told[HUGE + 17], 'd');
	assert_int_equal(told[0], 'c');
	stop(pid);
}

static void clear(pid_t pid)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/clear_refs", pid);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "4", 1), 1);
	close(fd);
}

/* Somebody else cleared the marks: it is told as soon as a page shows it, and nothing counts. */
static void cleared_by_others(void **state)
{
	pid_t pid = start();

	scan(pid, MD_SOFT_CLEAR);
	order(touch_all, 10, 1);
	scan(pid, MD_SOFT_LOOK);
	order(touch_all, 20, 1);
	clear(pid);
	assert_int_equal(scan(pid, MD_SOFT_LOOK), -ESTALE);
	assert_int_equal(scan(pid, MD_SOFT_LOOK), 0);
	for (size_t i = 0; i < USED; i++)
		assert_int_equal(told[i], 'd');
	expect_told(pid, "all of it is read", MD_SOFT_CLEAR, all_dirty);
	expect_told(pid, "from here on", MD_SOFT_LOOK, all_clean);
	stop(pid);
}

static void saved_and_loaded(void **state)
{
	pid_t pid = start();
	int fd = memfd_create("saved", 0);
	struct err err = {0};
	off_t len;

	assert_true(fd >= 0);
	assert_int_equal(md_soft_load(soft, fd), 0);
	scan(pid, MD_SOFT_CLEAR);
	some_writes();
	scan(pid, MD_SOFT_LOOK);
	assert_int_equal(md_soft_save(soft, fd, &err), 0);
	md_soft_free(soft);
	soft = md_soft_new(&err);
	assert_int_equal(md_soft_load(soft, fd), 1);
	assert_true(md_soft_knows(soft, pid));
	expect_told(pid, "loaded", MD_SOFT_LOOK, some_dirty);
	/* What was seen to be dirty is in there, too. */
	clear(pid);
	assert_int_equal(scan(pid, MD_SOFT_LOOK), -ESTALE);
	/* Not whole. */
	len = lseek(fd, 0, SEEK_END);
	assert_int_equal(ftruncate(fd, len - 4), 0);
	assert_int_equal(md_soft_load(soft, fd), 0);
	assert_false(md_soft_knows(soft, pid));
	assert_int_equal(ftruncate(fd, 20), 0);
	assert_int_equal(md_soft_load(soft, fd), 0);
	close(fd);
	stop(pid);
}

static void process_gone(void **state)
{
	pid_t pid = start();

	scan(pid, MD_SOFT_CLEAR);
	end(pid);
	assert_int_equal(scan(pid, MD_SOFT_LOOK), 0);
	assert_int_equal(told[0], '.');
	assert_int_equal(scan(pid, MD_SOFT_CLEAR), 0);
	close(orders[0]);
	md_soft_free(soft);
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
		cmocka_unit_test(writes),
		cmocka_unit_test(written_by_the_kernel),
		cmocka_unit_test(dropped_and_mapped),
		cmocka_unit_test(another_in_its_place),
		cmocka_unit_test(of_huge_pages),
		cmocka_unit_test(cleared_by_others),
		cmocka_unit_test(saved_and_loaded),
		cmocka_unit_test(process_gone),
	};

	if (!md_can_soft_dirty()) {
		printf("soft-dirty marks and frame numbers are not to be had here\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, make_area, NULL);
}
