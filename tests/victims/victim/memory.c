/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of private anonymous memory: dense, sparse, huge, guarded, unreadable.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

enum { RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS };

static const char zero_page[PAGE];
static char *base;

/* Every page its own contents; seed 0 stands for a page of zeros. */
static void fill_pages(char *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		fill(p + i * PAGE, PAGE, seed + (i << 16));
}

static void expect_page(const char *p, size_t i, uint64_t seed, const char *what)
{
	if (seed)
		expect_filled(p + i * PAGE, PAGE, seed + (i << 16), what);
	else if (memcmp(p + i * PAGE, zero_page, PAGE) != 0)
		v_bad("%s: page %zu is not zero", what, i);
}

/* --- plain ---------------------------------------------------------------------------------- */

enum { PLAIN_LEN = 1 << 20 };

static void plain_setup(void)
{
	base = map_at(HOME(1), PLAIN_LEN, RW, ANON, -1, 0);
	fill_pages(base, PLAIN_LEN / PAGE, 1);
	/* Two pages of zeros, one of them never written again after it was dropped. */
	memset(base + 5 * PAGE, 0, PAGE);
	if (madvise(base + 9 * PAGE, PAGE, MADV_DONTNEED))
		v_die("madvise");
	fact_memory("region", base, PLAIN_LEN, "plain");
}

static void plain_check(void)
{
	for (size_t i = 0; i < PLAIN_LEN / PAGE; i++)
		expect_page(base, i, i == 5 || i == 9 ? 0 : 1, "plain");
}

/* --- sparse: one page in 64 over 1 GiB
 * --------------------------------------------------------------- */

enum { SPARSE_LEN = 1 << 30, SPARSE_STEP = 64 * PAGE };

static void sparse_setup(void)
{
	uint32_t crc = 0;

	base = map_at(HOME(1), SPARSE_LEN, RW, ANON | MAP_NORESERVE, -1, 0);
	madvise(base, SPARSE_LEN, MADV_NOHUGEPAGE);
	for (size_t off = 0; off < SPARSE_LEN; off += SPARSE_STEP)
		fill(base + off, PAGE, off);
	/* The checksum of the whole range without touching what was never written. */
	for (size_t off = 0; off < SPARSE_LEN; off += SPARSE_STEP) {
		crc = crc32_of(crc, base + off, PAGE);
		for (size_t hole = PAGE; hole < SPARSE_STEP; hole += PAGE)
			crc = crc32_of(crc, zero_page, PAGE);
	}
	v_fact("region %d %#llx %d %08x sparse", getpid(), (unsigned long long)HOME(1), SPARSE_LEN,
	       crc);
}

static void sparse_check(void)
{
	for (size_t off = 0; off < SPARSE_LEN; off += SPARSE_STEP)
		expect_filled(base + off, PAGE, off, "sparse");
}

/* --- vmas: --n mappings of one page, no two neighbours alike
 * ------------------------------------------ */

static size_t nvmas;

static void vmas_setup(void)
{
	nvmas = opt_u64("n", 30000);
	base = map_at(HOME(1), nvmas * PAGE, RW, ANON, -1, 0);
	for (size_t i = 0; i < nvmas; i++)
		*(uint64_t *)(base + i * PAGE) = ~i;
	fact_memory("region", base, nvmas * PAGE, "vmas");
	for (size_t i = 0; i < nvmas; i += 2)
		if (mprotect(base + i * PAGE, PAGE, PROT_READ))
			v_skip("only %zu mappings allowed (vm.max_map_count)", i);
}

static void vmas_check(void)
{
	for (size_t i = 0; i < nvmas; i++)
		if (*(volatile uint64_t *)(base + i * PAGE) != ~i)
			v_bad("vmas: page %zu is wrong", i);
}

/* --- huge pages
 * ------------------------------------------------------------------------------------ */

enum { HUGE = 2 << 20, THP_LEN = 16 * HUGE };

static void thp_setup(void)
{
	base = map_at(HOME(1), THP_LEN, RW, ANON, -1, 0);
	if (madvise(base, THP_LEN, MADV_HUGEPAGE))
		v_skip("no transparent huge pages in this kernel");
	fill_pages(base, THP_LEN / PAGE, 3);
	/* A huge page with a hole, and one that is split by a protection. */
	if (madvise(base + HUGE + 3 * PAGE, PAGE, MADV_DONTNEED) ||
	    mprotect(base + 3 * HUGE + 8 * PAGE, PAGE, PROT_READ))
		v_die("thp");
	fact_memory("region", base, THP_LEN, "thp");
}

static void thp_check(void)
{
	for (size_t i = 0; i < THP_LEN / PAGE; i++)
		expect_page(base, i, i == HUGE / PAGE + 3 ? 0 : 3, "thp");
}

static char *huge_memfd;

static void hugetlb_setup(void)
{
	base = mmap((void *)HOME(1), 2 * HUGE, RW, ANON | MAP_HUGETLB | MAP_FIXED_NOREPLACE, -1, 0);
	if (base == MAP_FAILED)
		v_skip("no hugetlb pages reserved (vm.nr_hugepages)");
	fill(base, HUGE, 4);
	v_fact("region %d %#llx %d %08x hugetlb", getpid(), (unsigned long long)HOME(1), HUGE,
	       crc32_of(0, base, HUGE));
}

static void hugetlb_check(void)
{
	expect_filled(base, HUGE, 4, "hugetlb");
}

static void hugeshared_setup(void)
{
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);

	base = mmap((void *)HOME(1), 2 * HUGE, RW,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED_NOREPLACE, -1, 0);
	huge_memfd = fd < 0 || ftruncate(fd, 2 * HUGE)
			     ? MAP_FAILED
			     : mmap((void *)HOME(2), 2 * HUGE, RW, MAP_SHARED | MAP_FIXED_NOREPLACE,
				    fd, 0);
	if (base == MAP_FAILED || huge_memfd == MAP_FAILED)
		v_skip("no hugetlb pages reserved (vm.nr_hugepages)");
	fill(base, HUGE, 4);
	fill(huge_memfd + HUGE, HUGE, 5);
	if (fork() == 0) {
		while (!v_quitting()) {
			expect_filled(base, HUGE, 4, "hugeshared: of a child");
			if (!base[HUGE + 1])
				base[HUGE + 1] = 1;
			sleep_ms(5);
		}
		_exit(0);
	}
}

static void hugeshared_check(void)
{
	expect_filled(base, HUGE, 4, "hugeshared");
	expect_filled(huge_memfd + HUGE, HUGE, 5, "hugeshared: memfd");
	base[HUGE + 1] = 0;
	for (int i = 0; !*(volatile char *)(base + HUGE + 1) && i < 2000; i++)
		sleep_ms(1);
	if (!base[HUGE + 1])
		v_bad("hugeshared: a child has another's");
}

/* --- guard: pages that must stay inaccessible
 * ------------------------------------------------------- */

static bool readable(const void *p)
{
	char c;
	struct iovec local = {&c, 1}, remote = {(void *)p, 1};

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

enum { GUARD_PAGES = 1024 /* enough to be copied while it runs */ };
static bool have_guard;

static void guard_setup(void)
{
	base = map_at(HOME(1), GUARD_PAGES * PAGE, RW, ANON, -1, 0);
	fill_pages(base, GUARD_PAGES, 5);
	if (mprotect(base + 4 * PAGE, PAGE, PROT_NONE))
		v_die("mprotect");
	have_guard = !madvise(base + 8 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL);
	fact_memory("region", base, 4 * PAGE, "before-none");
	fact_memory("region", base + 5 * PAGE, 3 * PAGE, "after-none");
	fact_memory("region", base + 10 * PAGE, (GUARD_PAGES - 10) * PAGE, "after-guard");
	if (have_guard)
		v_fact("guard %d %#llx %d", getpid(), (unsigned long long)HOME(1) + 8 * PAGE,
		       2 * PAGE);
}

static void guard_check(void)
{
	for (size_t i = 0; i < GUARD_PAGES; i++)
		if (i != 4 && (!have_guard || (i != 8 && i != 9)))
			expect_page(base, i, 5, "guard");
	if (readable(base + 4 * PAGE))
		v_bad("guard: the PROT_NONE page can be read");
	if (have_guard && (readable(base + 8 * PAGE) || readable(base + 9 * PAGE)))
		v_bad("guard: the guard pages can be read");
}

/* --- protnone: contents behind PROT_NONE and PROT_WRITE alone
 * ----------------------------------------- */

static void protnone_setup(void)
{
	base = map_at(HOME(1), 8 * PAGE, RW, ANON, -1, 0);
	fill(base, 8 * PAGE, 6);
	fact_memory("region", base, 8 * PAGE, "protnone");
	if (mprotect(base, 4 * PAGE, PROT_NONE) || mprotect(base + 6 * PAGE, 2 * PAGE, PROT_EXEC))
		v_die("mprotect");
}

static void protnone_check(void)
{
	static char copy[8 * PAGE];
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		v_bad("open /proc/self/mem: %s", strerrordesc_np(errno));
	else if (pread(fd, copy, sizeof(copy), (off_t)HOME(1)) != sizeof(copy))
		v_bad("protnone: /proc/self/mem gives less than it should");
	else
		expect_filled(copy, sizeof(copy), 6, "protnone");
	close(fd);
}

const struct scenario memory_scenarios[] = {
	{"plain", "a megabyte of known contents, with zero pages", plain_setup, plain_check},
	{"sparse", "one page in 64 over 1 GiB", sparse_setup, sparse_check},
	{"vmas", "--n 30000 mappings", vmas_setup, vmas_check},
	{"thp", "transparent huge pages, one with a hole, one split", thp_setup, thp_check},
	{"hugetlb", "hugetlb pages", hugetlb_setup, hugetlb_check},
	{"hugeshared", "hugetlb pages in common, of a memfd too", hugeshared_setup,
	 hugeshared_check},
	{"guard", "PROT_NONE and MADV_GUARD_INSTALL pages", guard_setup, guard_check},
	{"protnone", "contents behind PROT_NONE and PROT_EXEC", protnone_setup, protnone_check},
	{},
};
