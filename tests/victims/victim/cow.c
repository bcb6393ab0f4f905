/* SPDX-License-Identifier: MIT */
/*
 * A family that shares pages since it was forked: --size MiB, --n children, who each wrote to some.
 *
 *	root ─┬─ child 0	writes every 100th page
 *	      ├─ child 1	likewise; lacks a part, has moved another
 *	      ├─ child 2	protects parts
 *	      ├─ child 3	drops pages, zeroes one
 *	      ├─ child 4 ─── a grandchild, who shares with both
 *	      ├─ child 5	has executed another program
 *	      ├─ child 6	has grown a mapping
 *	      └─ child 7...	as child 0
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum {
	RW = PROT_READ | PROT_WRITE,
	ANON = MAP_PRIVATE | MAP_ANONYMOUS,
	STEP = 100, /* who writes, writes to every such page */
	SIDE = 128, /* pages of the second mapping, and of the file */
	GROWN = 16, /* pages more of the second mapping */
	MEMBERS = 64,
	HUGE = 2 << 20,
	GRANDCHILD = 60, /* a member's number, as children have 0 to 49 */
	ROOT = 99,
};

#define MAIN_AT	 HOME(1)
#define SIDE_AT	 (HOME(1) + 0x80000000)
#define MOVED_AT (HOME(1) + 0x81000000)
#define FILE_AT	 (HOME(1) + 0x82000000)
#define HUGE_AT	 (HOME(1) + 0x84000000)

static char *const pages = (char *)MAIN_AT, *const side = (char *)SIDE_AT,
		   *const file = (char *)FILE_AT, *const huge = (char *)HUGE_AT;
static size_t npages;
static unsigned nchildren;

/* What each is asked, and has answered. */
static struct round {
	_Atomic unsigned asked, done[MEMBERS];
} * rounds;

/* Who wrote last to page @i, of those whose memory this is: @member, or as it was inherited. */
static unsigned writer_of(size_t i, unsigned member)
{
	const unsigned slot = (unsigned)(i % STEP);

	if (slot == member)
		return member;
	/* The grandchild was born when child 4 had written its pages, not those of 70. */
	if (member == GRANDCHILD && slot == 4)
		return 4;
	return member == 4 && slot == 70 ? 70 : 98;
}

static uint64_t seed_of(size_t i, unsigned member)
{
	return writer_of(i, member) * 0x1000000ULL + i;
}

static void write_slot(unsigned slot)
{
	for (size_t i = slot; i < npages; i += STEP)
		fill(pages + i * PAGE, PAGE, slot * 0x1000000ULL + i);
	if (slot < SIDE)
		fill(file + slot * PAGE, PAGE, slot);
	if (slot < HUGE / PAGE)
		fill(huge + slot * PAGE, PAGE, slot);
}

static bool zero(const char *p)
{
	for (size_t i = 0; i < PAGE; i++)
		if (p[i])
			return false;
	return true;
}

static void check_side(unsigned member)
{
	for (unsigned i = 0; i < SIDE; i++) {
		const char *p = side + i * PAGE;

		if (member == 1 && i >= 10 && i < 20)
			continue;
		if (member == 1 && i >= 30 && i < 40)
			p = (char *)MOVED_AT + (i - 30) * PAGE;
		if (member == 2 && i >= 64 && i < 80)
			continue;
		if (member == 3 && ((i >= 10 && i < 30) || i == 40)) {
			if (!zero(p))
				v_bad("cow: member 3: page %u is not zero", i);
			continue;
		}
		expect_filled(p, PAGE, 777000 + i, "cow: the second mapping");
	}
	if (member == 6)
		expect_filled(side + SIDE * PAGE, GROWN * PAGE, 888, "cow: what has grown");
	if (member == 2 && mprotect(side + 64 * PAGE, 16 * PAGE, PROT_READ) == 0) {
		expect_filled(side + 70 * PAGE, PAGE, 777070, "cow: what was PROT_NONE");
		mprotect(side + 64 * PAGE, 16 * PAGE, PROT_NONE);
	}
}

static void check(unsigned member)
{
	for (size_t i = 0; i < npages; i++)
		if (wrong(pages + i * PAGE, PAGE, seed_of(i, member)) >= 0)
			v_bad("cow: page %zu of member %u is wrong", i, member);
	check_side(member);
	for (unsigned i = 0; i < SIDE; i++) {
		const unsigned w = i < STEP ? writer_of(i, member) : 98;

		expect_filled(file + i * PAGE, PAGE, w == 98 ? 555000 + (i < 64 ? i : 1000 + i) : w,
			      "cow: the mapping of a file");
	}
	for (unsigned i = 0; i < HUGE / PAGE; i++) {
		const unsigned w = i < STEP ? writer_of(i, member) : 98;

		expect_filled(huge + i * PAGE, PAGE, w == 98 ? 333000 + i : w, "cow: a huge page");
	}
}

/* A member of the family that is born, until the end. */
static void live(unsigned member)
{
	const unsigned me = member == GRANDCHILD ? MEMBERS - 1 : member;

	fact_memory("region", pages, npages * PAGE, "pages-of-a-member");
	v_tick();
	while (!v_quitting()) {
		const unsigned asked = atomic_load(&rounds->asked);

		if (atomic_load(&rounds->done[me]) != asked) {
			check(member);
			atomic_store(&rounds->done[me], asked);
		}
		sleep_ms(5);
	}
	_exit(0);
}

static void differ(unsigned member)
{
	write_slot(member);
	if (member == 1 &&
	    (munmap(side + 10 * PAGE, 10 * PAGE) ||
	     mremap(side + 30 * PAGE, 10 * PAGE, 10 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		    (void *)MOVED_AT) != (void *)MOVED_AT))
		v_die("cow: munmap, mremap");
	if (member == 2 && (mprotect(side, 64 * PAGE, PROT_READ) ||
			    mprotect(side + 64 * PAGE, 16 * PAGE, PROT_NONE)))
		v_die("cow: mprotect");
	if (member == 6) {
		if (mremap(side, SIDE * PAGE, (SIDE + GROWN) * PAGE, 0) != side)
			v_die("cow: mremap");
		fill(side + SIDE * PAGE, GROWN * PAGE, 888);
	}
	if (member == 3) {
		if (madvise(side + 10 * PAGE, 20 * PAGE, MADV_DONTNEED))
			v_die("cow: madvise");
		memset(side + 40 * PAGE, 0, PAGE);
	}
}

static void child(unsigned member)
{
	pid_t pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (member == 5) {
		v_tick();
		execl("/bin/sleep", "sleep", "100000", NULL);
		_exit(1);
	}
	differ(member);
	pid = member == 4 ? fork() : 1;
	if (pid < 0)
		v_die("cow: fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		write_slot(GRANDCHILD);
		live(GRANDCHILD);
	}
	if (member == 4)
		write_slot(70);
	live(member);
}

static void map_file(void)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/cow-file", v_dir());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, SIDE * PAGE))
		v_die("open %s", path);
	map_at(FILE_AT, SIDE * PAGE, RW, MAP_SHARED, fd, 0);
	for (unsigned i = 0; i < SIDE; i++)
		fill(file + i * PAGE, PAGE, 555000 + i);
	munmap(file, SIDE * PAGE);
	map_at(FILE_AT, SIDE * PAGE, RW, MAP_PRIVATE, fd, 0);
	for (unsigned i = 64; i < SIDE; i++)
		fill(file + i * PAGE, PAGE, 555000 + 1000 + i);
	close(fd);
}

static void cow_setup(void)
{
	npages = (opt_u64("size", 16) << 20) / PAGE;
	nchildren = (unsigned)opt_u64("n", 7);
	if (nchildren > 50)
		v_die("cow: too many children");
	map_at(MAIN_AT, npages * PAGE, RW, ANON, -1, 0);
	rounds = map_at(HOME(2), PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < npages; i++)
		fill(pages + i * PAGE, PAGE, 98 * 0x1000000ULL + i);
	map_at(SIDE_AT, SIDE * PAGE, RW, ANON, -1, 0);
	for (unsigned i = 0; i < SIDE; i++)
		fill(side + i * PAGE, PAGE, 777000 + i);
	map_file();
	map_at(HUGE_AT, HUGE, RW, ANON, -1, 0);
	madvise(huge, HUGE, MADV_HUGEPAGE);
	for (unsigned i = 0; i < HUGE / PAGE; i++)
		fill(huge + i * PAGE, PAGE, 333000 + i);
	for (unsigned i = 0; i < nchildren; i++) {
		pid_t pid = fork();

		if (pid < 0)
			v_die("fork");
		if (pid == 0)
			child(i);
	}
	v_await_ticks(nchildren + (nchildren > 4));
	write_slot(ROOT);
	fact_memory("region", pages, npages * PAGE, "pages-of-the-root");
}

static void cow_check(void)
{
	const unsigned asked = atomic_fetch_add(&rounds->asked, 1) + 1;
	const uint64_t deadline = now_ns() + 50000000000ULL;

	check(ROOT);
	for (unsigned i = 0; i < MEMBERS; i++) {
		if (i == 5 || (i >= nchildren && (i < MEMBERS - 1 || nchildren <= 4)))
			continue;
		while (atomic_load(&rounds->done[i]) != asked && now_ns() < deadline)
			sleep_ms(2);
		if (atomic_load(&rounds->done[i]) != asked)
			v_bad("cow: member %u does not answer", i);
	}
}

const struct scenario cow_scenarios[] = {
	{"cow", "--n 7 children that share --size 16 MiB with their parent", cow_setup, cow_check},
	{},
};
