/* SPDX-License-Identifier: MIT */
/* The memory reader against children whose mappings are of every awkward kind. */
#include "tests/unit/memdump/reader_child.h"

#include <errno.h>
#include <fcntl.h>

/* --- anonymous memory ----------------------------------------------------------------------- */

/* 0..999 every third touched, every fifth read only, which maps the shared zero page */
static bool is_third(size_t page)
{
	return page < 1000 && page % 3 == 0;
}

static void make_sparse(void)
{
	map_anon(0, 1000, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < 1000; i++) {
		if (i % 5 == 0)
			(void)*(volatile uint8_t *)at(i);
		if (is_third(i))
			touch(i);
	}
}

static void test_sparse(void **state)
{
	pid_t pid = child(make_sparse, NULL);
	struct md_range r = range_of(pid, 0, 1000, MD_PICK_PRESENT);

	expect(&r, 1, is_third);
	assert_int_equal(found.vanished, 0);
	/* 334 extents: one block */
	assert_int_equal(found.nblocks, 334 * PAGE / BLOCK + 1);
	end(pid);
}

/* The same memory as 1000 ranges of one page, in a backward order too. */
static void test_many_ranges(void **state)
{
	pid_t pid = child(make_sparse, NULL);
	struct md_range *r = calloc(1000, sizeof(*r));

	for (size_t i = 0; i < 1000; i++)
		r[i] = range_of(pid, i, 1, MD_PICK_PRESENT);
	expect(r, 1000, is_third);
	for (size_t i = 0; i < 1000; i++)
		r[i] = range_of(pid, 999 - i, 1, MD_PICK_PRESENT);
	expect(r, 1000, is_third);
	/* Halves swapped: back to a place that the window has passed. */
	for (size_t i = 0; i < 1000; i++)
		r[i] = range_of(pid, (i + 500) % 1000, 1, MD_PICK_PRESENT);
	expect(r, 1000, is_third);
	free(r);
	end(pid);
}

static bool is_even(size_t page)
{
	return page < 1400 && page % 2 == 0;
}

static void make_even(void)
{
	map_anon(0, 1400, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < 1400; i += 2)
		touch(i);
}

/* 700 extents: more than a block may have, and more regions than one look finds. */
static void test_more_extents_than_a_block_has(void **state)
{
	pid_t pid = child(make_even, NULL);
	struct md_range r = range_of(pid, 0, 1400, MD_PICK_PRESENT);

	expect(&r, 1, is_even);
	end(pid);
}

static bool is_guarded(size_t page)
{
	return page >= 100 && page < 400;
}

static void make_prot_none(void)
{
	map_anon(100, 300, PROT_READ | PROT_WRITE);
	for (size_t i = 100; i < 400; i++)
		touch(i);
	need(!mprotect(at(150), 100 * PAGE, PROT_NONE), "mprotect");
	need(!mprotect(at(300), 10 * PAGE, PROT_READ), "mprotect");
}

static void test_prot_none(void **state)
{
	pid_t pid = child(make_prot_none, NULL);
	struct md_range r = range_of(pid, 0, 500, MD_PICK_PRESENT);

	expect(&r, 1, is_guarded);
	assert_int_equal(found.vanished, 0);
	end(pid);
}

/* --- pages that are not there ---------------------------------------------------------------- */

/* Every page but each tenth is mapped: what a list that was scanned before looks like, later. */
static bool is_not_tenth(size_t page)
{
	return page < 700 && page % 10;
}

static void make_holes(void)
{
	map_anon(0, 700, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < 700; i++)
		touch(i);
	for (size_t i = 0; i < 700; i += 10)
		need(!munmap(at(i), PAGE), "munmap");
}

static void test_vanished(void **state)
{
	pid_t pid = child(make_holes, NULL);
	struct md_range r = range_of(pid, 0, 700, MD_PICK_ALL);

	read_ranges(&r, 1, true);
	assert_int_equal(found.ret, 0);
	for (size_t i = 0; i < NPAGES; i++)
		assert_int_equal(found.page[i], is_not_tenth(i));
	assert_int_equal(found.vanished, 70 * PAGE);
	end(pid);
}

/* The others are asked for: the first 40 of them are there, a page at a time, then there is an
 * error. */
static unsigned asked;

static ssize_t ask_for_tenth(void *arg, int pid, uint64_t addr, void *buf, size_t len,
			     struct err *err)
{
	size_t page = (size_t)(addr - (uintptr_t)area) / PAGE;

	assert_ptr_equal(arg, &ask);
	assert_true(page % 10 == 0 && len >= PAGE && len % PAGE == 0);
	if (asked++ == 60)
		return err_set(err, EPIPE, "nobody is left to be asked");
	if (page >= 400)
		return 0;
	memset(buf, byte_of(page), PAGE);
	return PAGE + (page == 10 ? 7 : 0); /* not a whole page more */
}

static void test_asked(void **state)
{
	pid_t pid = child(make_holes, NULL);
	struct md_range r = range_of(pid, 0, 600, MD_PICK_ALL);

	ask = ask_for_tenth;
	asked = 0;
	read_ranges(&r, 1, true);
	assert_int_equal(found.ret, 0);
	assert_int_equal(asked, 60);
	for (size_t i = 0; i < 600; i++)
		assert_int_equal(found.page[i], i < 400 || is_not_tenth(i));
	assert_int_equal(found.vanished, 20 * PAGE);
	r = range_of(pid, 600, 100, MD_PICK_ALL);
	asked = 60;
	read_ranges(&r, 1, true);
	assert_int_equal(found.ret, -EPIPE);
	assert_string_equal(found.err.msg, "nobody is left to be asked: Broken pipe");
	ask = NULL;
	end(pid);
}

/* All of it is gone: no block, no error. */
static void make_nothing(void)
{
	need(!munmap(area, NPAGES * PAGE), "munmap");
}

static void test_nothing(void **state)
{
	pid_t pid = child(make_nothing, NULL);
	struct md_range r = range_of(pid, 0, NPAGES, MD_PICK_ALL);

	read_ranges(&r, 1, true);
	assert_int_equal(found.ret, 0);
	assert_int_equal(found.nblocks, 0);
	assert_int_equal(found.vanished, NPAGES * PAGE);
	end(pid);
}

static void map_and_unmap(void)
{
	static unsigned n;
	size_t page = n++ * 37 % 500;

	munmap(at(page), 20 * PAGE);
	map_anon(page, 20, PROT_READ | PROT_WRITE);
	for (size_t i = page; i < page + 20; i++)
		touch(i);
}

static void test_map_and_unmap_while_reading(void **state)
{
	pid_t pid = child(make_prot_none, map_and_unmap);
	struct md_range r = range_of(pid, 0, 520, MD_PICK_PRESENT);

	for (unsigned i = 0; i < 100; i++) {
		read_ranges(&r, 1, false);
		if (found.ret)
			fail_msg("%s", found.err.msg);
	}
	end(pid);
}

static void test_process_gone(void **state)
{
	static const enum md_pick picks[] = {MD_PICK_PRESENT, MD_PICK_ALL};

	for (unsigned zombie = 0; zombie < 2; zombie++) {
		for (unsigned i = 0; i < 2; i++) {
			pid_t pid = child(make_sparse, NULL);
			struct md_range r = range_of(pid, 0, 1000, picks[i]);

			kill(pid, SIGKILL);
			if (zombie)
				waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT);
			else
				waitpid(pid, NULL, 0);
			read_ranges(&r, 1, true);
			assert_int_equal(found.ret, -ESRCH);
			assert_int_equal(found.err.class, ERR_TARGET_GONE);
			assert_int_equal(found.nblocks, 0);
			if (zombie)
				waitpid(pid, NULL, 0);
		}
	}
}

/* It dies between two blocks: page tables and mem are open already. */
static void test_process_dies(void **state)
{
	static struct md_extent extents[MD_BLOCK_EXTENTS];
	pid_t pid = child(make_even, NULL);
	struct md_range r[2] = {range_of(pid, 0, 600, MD_PICK_PRESENT),
				range_of(pid, 600, 800, MD_PICK_PRESENT)};
	uint8_t *raw = aligned_alloc(PAGE, BLOCK);
	struct err err = {0};
	struct md_reader *rd = md_reader_vm_new(r, 2, &err);
	struct md_block b = {.extents = extents, .raw = raw};
	int ret;

	assert_int_equal(rd->next(rd, &b, BLOCK, &err), 1);
	end(pid);
	do {
		b = (struct md_block){.extents = extents, .raw = raw};
		ret = rd->next(rd, &b, BLOCK, &err);
	} while (ret > 0);
	assert_int_equal(ret, -ESRCH);
	rd->close(rd);
	free(raw);
}

/* --- files ---------------------------------------------------------------------------------- */

static int file_fd;

/* Pages 0..63 map the file privately; 8..11 were written; the file has 32 pages. */
static bool is_cow(size_t page)
{
	return page >= 8 && page < 12;
}

static void make_private_file(void)
{
	need(mmap(area, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file_fd, 0) !=
		     MAP_FAILED,
	     "mmap");
	for (size_t i = 0; i < 32; i++)
		(void)*(volatile uint8_t *)at(i);
	for (size_t i = 8; i < 12; i++)
		touch(i);
}

static void test_private_file(void **state)
{
	char path[] = "/tmp/stasis-memdump-XXXXXX";
	pid_t pid;

	file_fd = mkstemp(path);
	unlink(path);
	assert_int_equal(ftruncate(file_fd, 32 * PAGE), 0);
	pid = child(make_private_file, NULL);
	struct md_range r = range_of(pid, 0, 64, MD_PICK_COW);

	expect(&r, 1, is_cow);
	assert_int_equal(found.vanished, 0);
	/* Beyond the file's end pages cannot be read: left out. */
	r.pick = MD_PICK_ALL;
	read_ranges(&r, 1, false);
	assert_int_equal(found.ret, 0);
	assert_int_equal(found.vanished, 32 * PAGE);
	end(pid);
	close(file_fd);
}

/* A memfd with data at pages 2, 3 and 9, and 100 bytes in page 20. */
static void test_descriptor(void **state)
{
	static struct md_extent extents[MD_BLOCK_EXTENTS];
	int fd = memfd_create("t", MFD_CLOEXEC);
	uint8_t *raw = aligned_alloc(PAGE, BLOCK), *page = malloc(PAGE);
	struct md_block b = {.extents = extents, .raw = raw};
	struct md_range r = {
		.space = MD_SPACE_SHMEM(4),
		.len = 64 * PAGE,
		.pid = getpid(),
		.fd = fd,
		.pick = MD_PICK_DATA,
	};
	struct err err = {0};

	for (unsigned i = 0; i < 3; i++) {
		memset(page, i + 1, PAGE);
		assert_int_equal(pwrite(fd, page, PAGE, (i < 2 ? 2 + i : 9) * PAGE), PAGE);
	}
	memset(page, 9, 100);
	assert_int_equal(pwrite(fd, page, 100, 20 * PAGE), 100);
	assert_int_equal(lseek(fd, 12345, SEEK_SET), 12345);

	struct md_reader *rd = md_reader_vm_new(&r, 1, &err);

	memset(raw, 0xa5, BLOCK); /* buffers are used again and again */
	assert_int_equal(rd->next(rd, &b, BLOCK, &err), 1);
	assert_int_equal(b.nextents, 3);
	assert_int_equal(b.extents[0].addr, 2 * PAGE);
	assert_int_equal(b.extents[0].len, 2 * PAGE);
	assert_int_equal(b.extents[1].addr, 9 * PAGE);
	assert_int_equal(b.extents[2].addr, 20 * PAGE);
	assert_int_equal(b.raw_len, 4 * PAGE);
	assert_int_equal(raw[0], 1);
	assert_int_equal(raw[PAGE], 2);
	assert_int_equal(raw[2 * PAGE], 3);
	assert_int_equal(raw[3 * PAGE + 99], 9);
	memset(page + 100, 0, PAGE - 100); /* behind the end of the file */
	assert_memory_equal(raw + 3 * PAGE, page, PAGE);
	b = (struct md_block){.extents = extents, .raw = raw};
	assert_int_equal(rd->next(rd, &b, BLOCK, &err), 0);
	rd->close(rd);
	/* The position belongs to whoever shares the description. */
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 12345);
	close(fd);
	free(raw);
	free(page);
}

/* Two spaces that follow each other are two blocks; a segment read through a mapping. */
static void test_spaces(void **state)
{
	static struct md_extent extents[MD_BLOCK_EXTENTS];
	pid_t pid = child(make_prot_none, NULL);
	struct md_range r[2] = {range_of(pid, 100, 10, MD_PICK_PRESENT),
				range_of(pid, 110, 10, MD_PICK_ALL)};
	uint8_t *raw = aligned_alloc(PAGE, BLOCK);
	struct md_block b = {.extents = extents, .raw = raw};
	struct err err = {0};
	struct md_reader *rd;

	r[1].space = MD_SPACE_SHMEM(77);
	r[1].stored_as = 0x5000;
	rd = md_reader_vm_new(r, 2, &err);
	assert_int_equal(rd->next(rd, &b, BLOCK, &err), 1);
	assert_int_equal(b.space, MD_SPACE_PROC(pid));
	assert_int_equal(b.raw_len, 10 * PAGE);
	b = (struct md_block){.extents = extents, .raw = raw};
	assert_int_equal(rd->next(rd, &b, BLOCK, &err), 1);
	assert_int_equal(b.space, MD_SPACE_SHMEM(77));
	assert_int_equal(b.nextents, 1);
	assert_int_equal(b.extents[0].addr, 0x5000);
	assert_int_equal(b.raw_len, 10 * PAGE);
	assert_int_equal(raw[0], byte_of(110));
	rd->close(rd);
	end(pid);
	free(raw);
}

/* --- huge pages ----------------------------------------------------------------------------- */

enum { HUGE = 512 };

static bool huge_failed(pid_t pid)
{
	int status;

	return waitpid(pid, &status, WNOHANG) == pid;
}

static bool is_huge(size_t page)
{
	return page < HUGE;
}

static void make_thp(void)
{
	map_anon(0, HUGE, PROT_READ | PROT_WRITE);
	(void)madvise(area, HUGE * PAGE, MADV_HUGEPAGE);
	for (size_t i = 0; i < HUGE; i++)
		touch(i);
}

static void test_thp(void **state)
{
	pid_t pid = child(make_thp, NULL);
	struct md_range r = range_of(pid, 0, NPAGES, MD_PICK_PRESENT);

	expect(&r, 1, is_huge);
	end(pid);
}

static bool have_hugetlb(void)
{
	void *p = mmap(NULL, HUGE * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, HUGE * PAGE);
	return true;
}

static void make_hugetlb(void)
{
	need(mmap(area, HUGE * PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, -1, 0) != MAP_FAILED,
	     "mmap");
	for (size_t i = 0; i < HUGE; i++)
		touch(i);
}

static void test_hugetlb(void **state)
{
	if (!have_hugetlb()) {
		print_message("SKIP: no hugetlb pages are reserved (vm.nr_hugepages)\n");
		skip();
	}
	pid_t pid = child(make_hugetlb, NULL);
	struct md_range r = range_of(pid, 0, HUGE, MD_PICK_PRESENT);

	assert_false(huge_failed(pid));
	expect(&r, 1, is_huge);
	end(pid);
}

/* --- md_scan() ------------------------------------------------------------------------------ */

static int count_extent(void *arg, const struct md_extent *e)
{
	size_t *n = arg;

	assert_int_equal(e->len, PAGE);
	return ++*n == 100 ? -ECANCELED : 0;
}

static int sum_extent(void *arg, const struct md_extent *e)
{
	*(size_t *)arg += e->len / PAGE;
	return 0;
}

static void test_md_scan(void **state)
{
	pid_t pid = child(make_sparse, NULL);
	struct md_range r = range_of(pid, 0, 1000, MD_PICK_PRESENT);
	struct err err = {0};
	size_t n = 0;

	assert_int_equal(md_scan(&r, sum_extent, &n, &err), 0);
	assert_int_equal(n, 334);
	n = 0;
	assert_int_equal(md_scan(&r, count_extent, &n, &err), -ECANCELED);
	assert_int_equal(n, 100);
	end(pid);
}

static int make_area(void **state)
{
	uint8_t *p = mmap(NULL, (NPAGES + 2 * HUGE) * PAGE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -1;
	/* On a 2 MiB boundary, for the huge pages. */
	area = (uint8_t *)(((uintptr_t)p + HUGE * PAGE - 1) & ~(uintptr_t)(HUGE * PAGE - 1));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sparse),
		cmocka_unit_test(test_many_ranges),
		cmocka_unit_test(test_more_extents_than_a_block_has),
		cmocka_unit_test(test_prot_none),
		cmocka_unit_test(test_vanished),
		cmocka_unit_test(test_asked),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_map_and_unmap_while_reading),
		cmocka_unit_test(test_process_gone),
		cmocka_unit_test(test_process_dies),
		cmocka_unit_test(test_private_file),
		cmocka_unit_test(test_descriptor),
		cmocka_unit_test(test_spaces),
		cmocka_unit_test(test_thp),
		cmocka_unit_test(test_hugetlb),
		cmocka_unit_test(test_md_scan),
	};

	return cmocka_run_group_tests(tests, make_area, NULL);
}
