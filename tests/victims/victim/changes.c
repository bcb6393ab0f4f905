/* SPDX-License-Identifier: MIT */
/*
 * A scenario of mappings that change all the time, with a ledger of what each page must hold.
 * --kinds is a list of letters: m(appers), e(dges: heap and stack), p(arent of processes),
 * t(hreads).
 *
 * A region is written and changed by one thread, which looks at it before it changes it; the ledger
 * lies in pages of its own. So a region that was taken at another instant than the ledger is found.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum {
	RW = PROT_READ | PROT_WRITE,
	ANON = MAP_PRIVATE | MAP_ANONYMOUS,
	MAPPERS = 2,
	REGIONS = 24, /* of each mapper; the first is a big one, for huge pages */
	BIG = 1024,
	SMALL = 48,
	WINDOW = 8 << 20, /* of a region; it has two, to move between */
	BRK_PAGES = 64,
	GROW_PAGES = 64,
	BALLAST = 4 << 20,
};

/* A page's seed: 0 for zeros. */
struct region {
	bool mapped, pieces; /* in pieces: more than one mapping, which mremap refuses */
	unsigned window, npages;
	int prot;
	uint64_t seed[BIG];
	bool maybe_zero[BIG]; /* MADV_FREE: the kernel may have taken it */
};

static struct gate gate;
static uint64_t rate;
static struct region (*ledger)[REGIONS];
static unsigned nthreads;

static char *region_at(unsigned mapper, unsigned i, unsigned window)
{
	return (char *)HOME(1) + ((size_t)(mapper * REGIONS + i) * 2 + window) * WINDOW;
}

static void *region_base(unsigned mapper, unsigned i)
{
	return region_at(mapper, i, ledger[mapper][i].window);
}

static void page_put(char *p, uint64_t seed)
{
	if (seed)
		fill(p, PAGE, seed);
	else
		memset(p, 0, PAGE);
}

static bool is_zero(const char *p)
{
	const volatile uint64_t *w = (const volatile uint64_t *)p;

	for (size_t i = 0; i < PAGE / 8; i++)
		if (w[i])
			return false;
	return true;
}

static void page_look(const char *p, uint64_t seed, bool maybe_zero, const char *what)
{
	if (seed ? wrong(p, PAGE, seed) < 0 : is_zero(p))
		return;
	if (maybe_zero && is_zero(p))
		return;
	v_bad("changes: %s: the page at %p should hold %#llx%s and begins with %#llx", what, p,
	      (unsigned long long)seed, maybe_zero ? " or zeros" : "",
	      *(const unsigned long long *)p);
}

static void region_look(unsigned mapper, unsigned i, unsigned every, const char *what)
{
	struct region *r = &ledger[mapper][i];
	char *base = region_base(mapper, i);

	if (!r->mapped || !(r->prot & PROT_READ))
		return;
	for (unsigned p = 0; p < r->npages; p += every)
		page_look(base + (size_t)p * PAGE, r->seed[p], r->maybe_zero[p], what);
}

static void pages_zero(struct region *r, unsigned from, unsigned to)
{
	memset(r->seed + from, 0, (to - from) * sizeof(r->seed[0]));
	memset(r->maybe_zero + from, 0, (to - from) * sizeof(r->maybe_zero[0]));
}

static void region_write(struct region *r, char *base, uint64_t *rnd, unsigned n)
{
	while (n--) {
		unsigned p = (unsigned)(random_next(rnd) % r->npages);

		page_look(base + (size_t)p * PAGE, r->seed[p], r->maybe_zero[p], "before a write");
		/* Its first byte is written at once, or what was freed could go in the middle. */
		r->maybe_zero[p] = false;
		r->seed[p] = random_next(rnd) | 1;
		page_put(base + (size_t)p * PAGE, r->seed[p]);
	}
}

static void expect_ok(int rc, const char *what)
{
	if (rc)
		v_bad("changes: %s: %s", what, strerrordesc_np(errno));
}

static void region_map(unsigned mapper, unsigned i, uint64_t *rnd)
{
	struct region *r = &ledger[mapper][i];

	r->npages = i ? 1 + (unsigned)(random_next(rnd) % SMALL) : BIG / 2;
	r->window = (unsigned)(random_next(rnd) & 1);
	r->prot = RW;
	pages_zero(r, 0, r->npages);
	map_at((uint64_t)(uintptr_t)region_base(mapper, i), (size_t)r->npages * PAGE, RW, ANON, -1,
	       0);
	r->mapped = true;
	r->pieces = false;
}

static void region_resize(struct region *r, char *base, unsigned npages)
{
	if (mremap(base, (size_t)r->npages * PAGE, (size_t)npages * PAGE, 0) != base)
		v_bad("changes: mremap from %u to %u pages at %p: %s", r->npages, npages, base,
		      strerrordesc_np(errno));
	if (npages > r->npages)
		pages_zero(r, r->npages, npages);
	r->npages = npages;
}

static void region_move(unsigned mapper, unsigned i, int keep)
{
	struct region *r = &ledger[mapper][i];
	char *from = region_base(mapper, i), *to = region_at(mapper, i, !r->window);
	size_t len = (size_t)r->npages * PAGE;

	if (mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED | keep, to) != to)
		v_bad("changes: mremap from %p to %p: %s", from, to, strerrordesc_np(errno));
	r->window = !r->window;
	if (keep) {
		page_look(from, 0, false, "left by MREMAP_DONTUNMAP");
		expect_ok(munmap(from, len), "munmap");
	}
}

static void region_protect(struct region *r, char *base, int prot)
{
	expect_ok(mprotect(base, (size_t)r->npages * PAGE, prot), "mprotect");
	r->prot = prot;
}

/* Something that needs no write access, and whose result is known. */
static void region_change(unsigned mapper, unsigned i, uint64_t *rnd)
{
	struct region *r = &ledger[mapper][i];
	char *base = region_base(mapper, i);
	unsigned from = (unsigned)(random_next(rnd) % r->npages);
	unsigned n = 1 + (unsigned)(random_next(rnd) % (r->npages - from));
	unsigned most = i ? SMALL : BIG;

	switch (random_next(rnd) % 14) {
	case 0:
		expect_ok(munmap(base, (size_t)r->npages * PAGE), "munmap");
		r->mapped = false;
		break;
	case 1:
		if (r->npages < most && !r->pieces)
			region_resize(r, base,
				      r->npages + 1 +
					      (unsigned)(random_next(rnd) % (most - r->npages)));
		break;
	case 2:
		if (r->npages > 1 && !r->pieces)
			region_resize(r, base,
				      r->npages - 1 -
					      (unsigned)(random_next(rnd) % (r->npages - 1)));
		break;
	case 3:
	case 4:
		if (!r->pieces)
			region_move(mapper, i, random_next(rnd) & 1 ? MREMAP_DONTUNMAP : 0);
		break;
	case 5:
		region_protect(r, base, PROT_READ);
		break;
	case 6:
		region_protect(r, base, PROT_NONE);
		break;
	case 7:
	case 8:
		expect_ok(madvise(base + (size_t)from * PAGE, (size_t)n * PAGE, MADV_DONTNEED),
			  "MADV_DONTNEED");
		pages_zero(r, from, from + n);
		break;
	case 9:
		memset(r->maybe_zero + from, true, n);
		expect_ok(madvise(base + (size_t)from * PAGE, (size_t)n * PAGE, MADV_FREE),
			  "MADV_FREE");
		break;
	case 10:
		/* A hole, closed again by an empty mapping. */
		r->pieces = true;
		expect_ok(munmap(base + (size_t)from * PAGE, (size_t)n * PAGE), "munmap");
		map_at((uint64_t)(uintptr_t)(base + (size_t)from * PAGE), (size_t)n * PAGE, RW,
		       ANON, -1, 0);
		pages_zero(r, from, from + n);
		break;
	case 11:
		r->pieces = true;
		madvise(base + (size_t)from * PAGE, (size_t)n * PAGE, MADV_NOHUGEPAGE);
		break;
	default:
		madvise(base, (size_t)r->npages * PAGE, MADV_HUGEPAGE);
		madvise(base, (size_t)r->npages * PAGE, 25); /* MADV_COLLAPSE, 6.1 */
		break;
	}
}

static void region_step(unsigned mapper, unsigned i, uint64_t *rnd)
{
	struct region *r = &ledger[mapper][i];

	if (!r->mapped)
		region_map(mapper, i, rnd);
	else if (r->prot != RW)
		region_protect(r, region_base(mapper, i), RW);
	region_look(mapper, i, i ? 1 : 37, "before a change");
	region_write(r, region_base(mapper, i), rnd, 4);
	/* Most regions rest for a while: what is copied early is to be looked at as well. */
	if (random_next(rnd) % 4 == 0)
		region_change(mapper, i, rnd);
}

static void *mapper_thread(void *arg)
{
	unsigned mapper = (unsigned)(uintptr_t)arg;
	uint64_t rnd = 3 + mapper;
	struct pace p = {};

	v_tick();
	while (!v_quitting()) {
		gate_pass(&gate);
		region_step(mapper, (unsigned)(random_next(&rnd) % REGIONS), &rnd);
		pace(&p, rate);
	}
	return NULL;
}

/* --- the heap's end, and a mapping that grows downwards by being touched */

/* Pages [0, n) of a row that has its own seeds; page k lies at base + k * step. */
struct row {
	char *base;
	ssize_t step;
	unsigned n;
	uint64_t seed[GROW_PAGES];
};

static struct row *brk_row, *grow_row;

static void row_look(const struct row *row, const char *what)
{
	for (unsigned k = 0; k < row->n; k++)
		page_look(row->base + row->step * (ssize_t)k, row->seed[k], false, what);
}

static void row_add(struct row *row, uint64_t seed)
{
	page_put(row->base + row->step * (ssize_t)row->n, seed);
	row->seed[row->n++] = seed;
}

static void *edge_thread(void *arg)
{
	uint64_t rnd = 77;
	struct pace p = {};

	v_tick();
	while (!v_quitting()) {
		unsigned want = (unsigned)(random_next(&rnd) % BRK_PAGES);

		gate_pass(&gate);
		row_look(brk_row, "brk");
		expect_ok(brk(brk_row->base + (size_t)want * PAGE), "brk");
		if (brk_row->n > want)
			brk_row->n = want;
		while (brk_row->n < want)
			row_add(brk_row, random_next(&rnd) | 1);

		row_look(grow_row, "the stack");
		if (grow_row->n < GROW_PAGES && random_next(&rnd) % 8) {
			row_add(grow_row, random_next(&rnd) | 1);
		} else if (grow_row->n > 4) {
			unsigned k = grow_row->n / 2;

			expect_ok(munmap(grow_row->base - (size_t)(grow_row->n - 1) * PAGE,
					 (size_t)(grow_row->n - k) * PAGE),
				  "munmap of a stack's end");
			grow_row->n = k;
		}
		pace(&p, rate);
	}
	return NULL;
}

/* --- processes and threads that come and go */

static void await_child(pid_t pid, int want)
{
	int status = 0;

	if (pid < 0)
		v_bad("changes: fork: %s", strerrordesc_np(errno));
	else if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
		 WEXITSTATUS(status) != want)
		v_bad("changes: a child ended with status %#x instead of exit %d", status, want);
}

/* Pages that a child inherits, looks at and writes its own things to. */
static char *heritage;
enum { HERITAGE = 128 };

static int child_life(uint64_t seed)
{
	for (unsigned k = 0; k < HERITAGE; k++)
		if (wrong(heritage + k * PAGE, PAGE, seed + k) >= 0)
			return 22;
	for (unsigned k = 0; k < HERITAGE; k += 3)
		fill(heritage + k * PAGE, PAGE, ~seed + k);
	for (unsigned k = 0; k < HERITAGE; k++)
		if (wrong(heritage + k * PAGE, PAGE, (k % 3 ? seed : ~seed) + k) >= 0)
			return 23;
	return 21;
}

static void *parent_thread(void *arg)
{
	char *const argv[] = {"victim", "--exec-child", NULL};
	char *const env[] = {NULL};
	uint64_t seed = 1000;
	struct pace p = {};

	v_tick();
	while (!v_quitting()) {
		bool execs = seed / 1000 % 4 == 3;
		pid_t pid;

		gate_pass(&gate);
		for (unsigned k = 0; k < HERITAGE; k++)
			fill(heritage + k * PAGE, PAGE, seed + k);
		pid = fork();
		if (pid == 0 && execs)
			execve(v_self(), argv, env);
		if (pid == 0)
			_exit(child_life(seed));
		await_child(pid, execs ? 33 : 21);
		for (unsigned k = 0; k < HERITAGE; k++)
			expect_filled(heritage + k * PAGE, PAGE, seed + k, "changes: heritage");
		seed += 1000;
		pace(&p, rate ? rate / 8 + 1 : 0);
	}
	return NULL;
}

static void *short_thread(void *arg)
{
	char page[PAGE];

	fill(page, PAGE, (uint64_t)(uintptr_t)arg);
	return wrong(page, PAGE, (uint64_t)(uintptr_t)arg) < 0 ? arg : NULL;
}

static void *maker_thread(void *arg)
{
	uintptr_t serial = 1;
	struct pace p = {};

	v_tick();
	while (!v_quitting()) {
		pthread_t t;
		void *ret = NULL;

		gate_pass(&gate);
		if (pthread_create(&t, NULL, short_thread, (void *)serial))
			v_bad("changes: pthread_create failed");
		else if (pthread_join(t, &ret) || (uintptr_t)ret != serial)
			v_bad("changes: a thread returned %p", ret);
		serial++;
		pace(&p, rate);
	}
	return NULL;
}

static void start_kind(void *(*fn)(void *), uintptr_t arg)
{
	start_thread(fn, (void *)arg);
	nthreads++;
}

static void changes_setup(void)
{
	const char *kinds = opt_str("kinds", "mept");
	size_t len = MAPPERS * sizeof(ledger[0]);
	char *top;

	rate = opt_u64("rate", 2000);
	ledger = map_at(HOME(2), (len + PAGE - 1) / PAGE * PAGE, RW, ANON, -1, 0);
	brk_row = map_at(HOME(2) + (64 << 20), PAGE, RW, ANON, -1, 0);
	grow_row = map_at(HOME(2) + (65 << 20), PAGE, RW, ANON, -1, 0);
	heritage = map_at(HOME(2) + (66 << 20), HERITAGE * PAGE, RW, ANON, -1, 0);
	*brk_row = (struct row){.step = PAGE};
	/* Enough to be worth tracking, whatever the others have at the moment. */
	fill(map_at(HOME(2) + (96 << 20), BALLAST, RW, ANON, -1, 0), BALLAST, 5);
	top = map_at(HOME(2) + (80 << 20), PAGE, RW, ANON | MAP_GROWSDOWN, -1, 0);
	*grow_row = (struct row){.base = top, .step = -PAGE};
	row_add(grow_row, 3);
	for (unsigned t = 0; strchr(kinds, 'm') && t < MAPPERS; t++)
		start_kind(mapper_thread, t);
	if (strchr(kinds, 'p'))
		start_kind(parent_thread, 0);
	if (strchr(kinds, 't'))
		start_kind(maker_thread, 0);
	/* Last: what making a thread allocates lies below the heap's end from here on. */
	brk_row->base = (char *)(((uintptr_t)sbrk(0) + PAGE - 1) / PAGE * PAGE + 64 * PAGE);
	if (strchr(kinds, 'e'))
		start_kind(edge_thread, 0);
	v_await_ticks(nthreads);
}

/* The main thread's stack grows by this, and is not given back. */
static void deep(unsigned n)
{
	char page[PAGE];

	fill(page, PAGE, n);
	if (n)
		deep(n - 1);
	expect_filled(page, PAGE, n, "changes: the main stack");
}

static void changes_check(void)
{
	static unsigned depth;

	if (gate_close(&gate, nthreads)) {
		for (unsigned t = 0; t < MAPPERS; t++)
			for (unsigned i = 0; i < REGIONS; i++)
				region_look(t, i, 1, "at a check");
		row_look(brk_row, "brk, at a check");
		row_look(grow_row, "the stack, at a check");
	}
	gate_open(&gate);
	depth = depth < 200 ? depth + 1 : 200;
	deep(depth);
}

const struct scenario change_scenarios[] = {
	{"changes", "mappings, processes and threads that come and go; a ledger of every page",
	 changes_setup, changes_check},
	{},
};
