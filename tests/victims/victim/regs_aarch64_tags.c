/* SPDX-License-Identifier: MIT */
/*
 * Memory with allocation tags (MTE), in a process, a thread and a child that shares pages with it:
 * every tag is what it was, the right pointer reads, a wrong one ends in a fault.
 *
 *	page	0 1       tags by chance, as IRG has them
 *		2 to 31   a tag of its own for each 16 bytes
 *		32 to 39  the same, read-only
 *		40 to 47  data, no tags
 *		48        tags, no data
 *		49 to 55  the same tag everywhere, out of reach
 *		56 to 63  never touched
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/victim.h"

enum {
	MTE = 1 << 18,	  /* AT_HWCAP2 */
	PROT_TAGS = 0x20, /* PROT_MTE, Linux 5.10, as all that follows */
	SET_CTRL = 55,
	GET_CTRL = 56,
	ADDRESSES = 1,
	SYNC = 2,
	ASYNC = 4,
	TAGS_SHIFT = 3,
	FAULT_SYNC = 9, /* SEGV_MTESERR */
	GRANULE = 16,
	NPAGES = 64,
	CHANCE = 2,
	READ_ONLY = 32,
	NO_TAGS = 40,
	NO_DATA = 48,
	OUT_OF_REACH = 49,
	UNTOUCHED = 56,
	NSHARED = 8,
	RW = PROT_READ | PROT_WRITE,
	ANON = MAP_PRIVATE | MAP_ANONYMOUS,
	/* What of the child's is not the parent's. */
	CHILDS = 10,
	CHILDS_NONE = 11,
	/* Tags that each may draw. */
	MAIN_TAGS = 0x0ff0,
	THREAD_TAGS = 0x000e,
};

static char *base, *shared, *once;
static uint8_t chance[CHANCE * PAGE / GRANULE];
static bool in_child;
/*
 * QEMU 7.2 has one byte for the tags of a whole page, so all even granules have the same one, and
 * all odd ones; 11.1 has them all. Then so has this.
 */
static bool coarse;
static _Atomic uint64_t *rounds; /* of the thread, of the child: shared memory */
static __thread sigjmp_buf back;
static __thread volatile int code;

static uint64_t load_tag(const char *p)
{
	uint64_t at = (uint64_t)(uintptr_t)p;

	__asm__ volatile(".arch armv8.5-a+memtag\n\tldg %0, [%1]" : "+r"(at) : "r"(p) : "memory");
	return at >> 56 & 15;
}

static void store_tag(char *p, uint64_t tag)
{
	uint64_t at = (uint64_t)(uintptr_t)p | tag << 56;

	__asm__ volatile(".arch armv8.5-a+memtag\n\tstg %0, [%0]" : : "r"(at) : "memory");
}

static uint64_t draw_tag(void)
{
	uint64_t at = 0;

	__asm__ volatile(".arch armv8.5-a+memtag\n\tirg %0, %0" : "+r"(at));
	return at >> 56 & 15;
}

static char *tagged(char *p, uint64_t tag)
{
	return (char *)((uintptr_t)p | (uintptr_t)tag << 56);
}

static uint64_t mixed(uint64_t n)
{
	return n * 0x9e3779b97f4a7c15ull >> 60;
}

static uint64_t of_shared(size_t g)
{
	return mixed(coarse ? g / (PAGE / GRANULE) * 2 + g % 2 : g);
}

/* Of granule @g of page @page of the region. */
static uint64_t wanted(size_t page, size_t g)
{
	g = coarse ? g % 2 : g;
	if (in_child && page == CHILDS)
		return 15 - mixed(g);
	if ((in_child && page == CHILDS_NONE) || (page >= NO_TAGS && page < NO_DATA) ||
	    page >= UNTOUCHED)
		return 0;
	if (page < CHANCE)
		return chance[page * (PAGE / GRANULE) + g];
	return page >= OUT_OF_REACH ? 7 : mixed(page * PAGE + g);
}

static void on_fault(int signo, siginfo_t *si, void *context)
{
	code = si->si_code;
	siglongjmp(back, 1);
}

/* What a read ends with: 0, or the code of its fault. */
static int read_at(const char *p)
{
	code = 0;
	if (!sigsetjmp(back, 0))
		(void)*(const volatile char *)p;
	return code;
}

static void look_at(char *p, uint64_t tag, const char *what)
{
	uint64_t has = load_tag(p);
	int ret;

	if (has != tag)
		v_bad("mte: %s: the tag of %p is %llu, not %llu", what, p, (unsigned long long)has,
		      (unsigned long long)tag);
	ret = read_at(tagged(p, tag));
	if (ret)
		v_bad("mte: %s: the right pointer to %p: code %d", what, p, ret);
}

static void look_wrong(char *p, uint64_t tag, const char *what)
{
	int ret = read_at(tagged(p, tag ^ 5));

	if (ret != FAULT_SYNC)
		v_bad("mte: %s: a wrong pointer to %p: code %d", what, p, ret);
}

static void look(void)
{
	const char *who = in_child ? "child" : "parent";

	if (mprotect(base + OUT_OF_REACH * PAGE, (UNTOUCHED - OUT_OF_REACH) * PAGE, PROT_READ))
		v_bad("mte: mprotect: %s", strerror(errno));
	for (size_t page = 0; page < NPAGES; page++) {
		for (size_t g = 0; g < PAGE / GRANULE; g++)
			look_at(base + page * PAGE + g * GRANULE, wanted(page, g), who);
		look_wrong(base + page * PAGE, wanted(page, 0), who);
	}
	if (mprotect(base + OUT_OF_REACH * PAGE, (UNTOUCHED - OUT_OF_REACH) * PAGE, PROT_NONE))
		v_bad("mte: mprotect: %s", strerror(errno));
	for (size_t i = 0; i < NSHARED * PAGE / GRANULE; i++) {
		look_at(shared + i * GRANULE, of_shared(i), "shared memory");
		look_at(once + i * GRANULE, 15 - of_shared(i), "shared memory, read-only");
	}
	look_wrong(shared, of_shared(0), "shared memory");
	look_wrong(once, 15 - of_shared(0), "shared memory, read-only");
}

static void expect_ctrl(int want, const char *what)
{
	int has = prctl(GET_CTRL, 0, 0, 0, 0);
	int tags = want >> TAGS_SHIFT & 0xffff;

	if (has != want)
		v_bad("mte: %s: tagged addresses: %#x, not %#x", what, has, want);
	for (int i = 0; i < 64; i++) {
		uint64_t tag = draw_tag();

		if (!(tags >> tag & 1))
			v_bad("mte: %s: tag %d was drawn", what, (int)tag);
	}
}

enum {
	MAIN_CTRL = ADDRESSES | SYNC | MAIN_TAGS << TAGS_SHIFT,
	THREAD_CTRL = ADDRESSES | ASYNC | THREAD_TAGS << TAGS_SHIFT,
};

static void *other_thread(void *arg)
{
	if (prctl(SET_CTRL, THREAD_CTRL, 0, 0, 0))
		v_die("the tags of a thread");
	v_tick();
	while (!v_quitting()) {
		expect_ctrl(THREAD_CTRL, "a thread");
		rounds[0]++;
		sleep_ms(20);
	}
	return NULL;
}

static void child(void)
{
	in_child = true;
	for (size_t g = 0; g < PAGE / GRANULE; g++) {
		store_tag(base + CHILDS * PAGE + g * GRANULE, wanted(CHILDS, g));
		store_tag(base + CHILDS_NONE * PAGE + g * GRANULE, 0);
	}
	v_tick();
	while (!v_quitting()) {
		look();
		expect_ctrl(MAIN_CTRL, "child");
		rounds[1]++;
		sleep_ms(20);
	}
	_exit(0);
}

static void *map_segment(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	void *p;

	if (fd < 0 || ftruncate(fd, NSHARED * PAGE))
		v_die("memfd");
	p = mmap(NULL, NSHARED * PAGE, RW | PROT_TAGS, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		v_die("shared memory with tags");
	close(fd);
	fill(p, NSHARED * PAGE, 9);
	return p;
}

static void tag_all(void)
{
	store_tag(base, 1);
	store_tag(base + 2 * GRANULE, 2);
	coarse = load_tag(base) == 2;
	for (size_t i = 0; i < sizeof(chance); i++)
		chance[i] = (uint8_t)draw_tag();
	for (size_t page = 0; page < UNTOUCHED; page++)
		for (size_t g = 0; g < PAGE / GRANULE; g++)
			if (page < NO_TAGS || page >= NO_DATA)
				store_tag(base + page * PAGE + g * GRANULE, wanted(page, g));
	for (size_t i = 0; i < NSHARED * PAGE / GRANULE; i++) {
		store_tag(shared + i * GRANULE, of_shared(i));
		store_tag(once + i * GRANULE, 15 - of_shared(i));
	}
}

void mte_setup(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

	if (!(getauxval(AT_HWCAP2) & MTE))
		v_skip("no memory tagging here");
	rounds = map_at(HOME(2), PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	base = map_at(HOME(1), NPAGES * PAGE, RW | PROT_TAGS, ANON, -1, 0);
	fill(base, NO_DATA * PAGE, 3);
	fill(base + OUT_OF_REACH * PAGE, (UNTOUCHED - OUT_OF_REACH) * PAGE, 4);
	fact_memory("region", base, UNTOUCHED * PAGE, "tags");
	shared = map_segment("tags");
	once = map_segment("tags-once");
	/* So that it draws what it may, before anything is tagged. */
	if (prctl(SET_CTRL, MAIN_CTRL, 0, 0, 0))
		v_die("the tags of the main thread");
	tag_all();
	if (mprotect(base + READ_ONLY * PAGE, (NO_TAGS - READ_ONLY) * PAGE, PROT_READ) ||
	    mprotect(base + OUT_OF_REACH * PAGE, (UNTOUCHED - OUT_OF_REACH) * PAGE, PROT_NONE) ||
	    mprotect(once, NSHARED * PAGE, PROT_READ))
		v_die("mprotect");
	sigaction(SIGSEGV, &sa, NULL);
	start_thread(other_thread, NULL);
	v_await_ticks(1);
	if (fork() == 0)
		child();
	v_await_ticks(2);
}

void mte_check(void)
{
	uint64_t seen[2] = {rounds[0], rounds[1]};

	look();
	expect_ctrl(MAIN_CTRL, "main thread");
	for (int i = 0; i < 2; i++)
		for (unsigned ms = 0; rounds[i] < seen[i] + 2; ms++) {
			if (ms == 60000) {
				v_bad("mte: the %s stands still", i ? "child" : "thread");
				return;
			}
			sleep_ms(1);
		}
}
