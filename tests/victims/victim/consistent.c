/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of memory that is only right as a whole, as of one instant.
 *
 * Every writer knows what must be there and looks before it writes: what was wrong in an image is
 * found when a restored writer comes by, and never covered up. --rate steps a second and writer
 * (0: all it can), --mib of memory, --threads writers.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum { RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS, MAX_WRITERS = 16 };

static struct gate gate;
static unsigned nwriters;
static uint64_t rate;

static void options(uint64_t default_rate)
{
	nwriters = (unsigned)opt_u64("threads", 2);
	rate = opt_u64("rate", default_rate);
	if (nwriters < 1 || nwriters > MAX_WRITERS)
		v_die("--threads 1 to %d", MAX_WRITERS);
}

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* --- pairs: a counter on page A is raised before the one on page B; both far apart
 *
 * Page i of the first third is A, of the second B, of the third what the next writer saw in A. Each
 * writer has a word of its own in every page.
 */
static uint64_t (*page_a)[PAGE / 8], (*page_b)[PAGE / 8], (*page_seen)[PAGE / 8];
static uint64_t npairs;
static struct pair_sum {
	uint64_t sum;
	char rest[PAGE - 8];
} * sums;

/* Set only while the gate is closed, or by the writer itself. */
static void pair_step(unsigned me, uint64_t i)
{
	unsigned next = (me + 1) % nwriters;
	uint64_t a = *(volatile uint64_t *)&page_a[i][me];
	uint64_t b = *(volatile uint64_t *)&page_b[i][me];
	uint64_t seen = *(volatile uint64_t *)&page_seen[i][me];
	uint64_t now = __atomic_load_n(&page_a[i][next], __ATOMIC_ACQUIRE);

	if (a != b)
		v_bad("pairs: writer %u, pair %llu: A is %llu, B is %llu", me,
		      (unsigned long long)i, (unsigned long long)a, (unsigned long long)b);
	if (nwriters > 1 && now < seen)
		v_bad("pairs: pair %llu of writer %u has gone back from %llu to %llu",
		      (unsigned long long)i, next, (unsigned long long)seen,
		      (unsigned long long)now);
	__atomic_store_n(&page_a[i][me], a + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&page_b[i][me], a + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&page_seen[i][me], now, __ATOMIC_RELEASE);
	__atomic_store_n(&sums[me].sum, sums[me].sum + 1, __ATOMIC_RELEASE);
}

static void *pair_thread(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t r = 88172645463325252ULL + me;
	struct pace p = {};

	v_tick();
	for (uint64_t n = 0; n % 1024 || !v_quitting(); n++) {
		gate_pass(&gate);
		pair_step(me, random_next(&r) % npairs);
		pace(&p, rate);
	}
	return NULL;
}

static void pairs_setup(void)
{
	char *base;

	options(0);
	npairs = (opt_u64("mib", 12) << 20) / PAGE / 3;
	base = map_at(HOME(1), npairs * 3 * PAGE, RW, ANON, -1, 0);
	page_a = (void *)base;
	page_b = (void *)(base + npairs * PAGE);
	page_seen = (void *)(base + 2 * npairs * PAGE);
	sums = map_at(HOME(2), MAX_WRITERS * PAGE, RW, ANON, -1, 0);
	for (unsigned t = 0; t < nwriters; t++)
		start_thread(pair_thread, (void *)(uintptr_t)t);
	v_await_ticks(nwriters);
}

static void pairs_check(void)
{
	if (gate_close(&gate, nwriters)) {
		for (unsigned t = 0; t < nwriters; t++) {
			uint64_t sum = 0;

			for (uint64_t i = 0; i < npairs; i++) {
				sum += page_a[i][t];
				if (page_a[i][t] != page_b[i][t] ||
				    (nwriters > 1 &&
				     page_seen[i][t] > page_a[i][(t + 1) % nwriters]))
					v_bad("pairs: writer %u, pair %llu: A %llu, B %llu, seen "
					      "%llu",
					      t, (unsigned long long)i,
					      (unsigned long long)page_a[i][t],
					      (unsigned long long)page_b[i][t],
					      (unsigned long long)page_seen[i][t]);
			}
			if (sum != sums[t].sum)
				v_bad("pairs: writer %u has made %llu steps, its pages know of "
				      "%llu",
				      t, (unsigned long long)sums[t].sum, (unsigned long long)sum);
		}
	}
	gate_open(&gate);
}

/* --- chain: each record has the hash of the one before it, at a random place
 *
 *	record n of a writer lies in slot scatter(n mod nslots); it replaces record n - nslots
 *	hash(n) = mix(hash(n - 1) ^ n * K), hash(-1) = the writer's seed
 *
 * So what every slot holds follows from n alone. A writer runs two hashes, of n and of n - nslots,
 * and looks at the record that it replaces.
 */
struct record {
	uint64_t n, hash;
	uint64_t ticket; /* of a counter of all writers */
	uint64_t seen;	 /* how far the next writer was */
};

struct head {
	uint64_t n;	     /* of the next record */
	uint64_t hash, tail; /* of the last record, and of the last that was replaced */
	uint64_t ticket;     /* of the last record */
	uint64_t old_ticket; /* of the last that was replaced */
	char rest[PAGE - 40];
};

static struct record *records;
static uint64_t nslots; /* of each writer; a power of two */
static struct head *heads;
static _Atomic uint64_t *tickets;
static uint64_t chain_seed;

static uint64_t scatter(uint64_t n)
{
	uint64_t mask = nslots - 1;

	n = n * 0x9e3779b97f4a7c15ULL & mask;
	n ^= n >> 7;
	return n * 0xd1342543de82ef95ULL & mask;
}

static uint64_t chain_hash(uint64_t before, uint64_t n)
{
	return mix(before ^ (n + 1) * 0x9e3779b97f4a7c15ULL);
}

static struct record *record_at(unsigned me, uint64_t n)
{
	return &records[scatter(n) * nwriters + me];
}

static uint64_t seed_of(unsigned me)
{
	return mix(chain_seed * MAX_WRITERS + me + 1);
}

static void record_put(unsigned me, struct head *h)
{
	struct record *r = record_at(me, h->n);
	unsigned next = (me + 1) % nwriters;

	h->hash = chain_hash(h->hash, h->n);
	h->ticket = atomic_fetch_add(tickets, 1);
	r->n = h->n;
	r->hash = h->hash;
	r->ticket = h->ticket;
	r->seen = __atomic_load_n(&heads[next].n, __ATOMIC_ACQUIRE);
	__atomic_store_n(&h->n, h->n + 1, __ATOMIC_RELEASE);
}

static void record_wrong(unsigned me, uint64_t n, const struct record *r)
{
	v_bad("chain: writer %u, record %llu at %p: there is record %llu, hash %#llx, ticket %llu, "
	      "seen %llu; the heads are at %llu and %llu, tickets at %llu",
	      me, (unsigned long long)n, (const void *)r, (unsigned long long)r->n,
	      (unsigned long long)r->hash, (unsigned long long)r->ticket,
	      (unsigned long long)r->seen, (unsigned long long)heads[me].n,
	      (unsigned long long)heads[(me + 1) % nwriters].n,
	      (unsigned long long)atomic_load(tickets));
}

/* The record that is about to be replaced is the one that must be there. */
static void chain_step(unsigned me, struct head *h)
{
	uint64_t old = h->n - nslots;
	const struct record *r = record_at(me, old);
	uint64_t head_of_next = __atomic_load_n(&heads[(me + 1) % nwriters].n, __ATOMIC_ACQUIRE);

	h->tail = chain_hash(h->tail, old);
	if (r->n != old || r->hash != h->tail || (old && r->ticket <= h->old_ticket) ||
	    r->seen > head_of_next)
		record_wrong(me, old, r);
	h->old_ticket = r->ticket;
	record_put(me, h);
}

static void *chain_thread(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	struct pace p = {};

	v_tick();
	for (uint64_t n = 0; n % 1024 || !v_quitting(); n++) {
		gate_pass(&gate);
		chain_step(me, &heads[me]);
		pace(&p, rate);
	}
	return NULL;
}

static void chain_start(uint64_t mib, bool huge)
{
	uint64_t len = mib << 20;

	for (nslots = 1; nslots * 2 * nwriters * sizeof(struct record) <= len;)
		nslots *= 2;
	records = map_at(HOME(1), len, RW, ANON, -1, 0);
	if (huge && madvise(records, len, MADV_HUGEPAGE))
		v_skip("no transparent huge pages here");
	heads = map_at(HOME(2), MAX_WRITERS * PAGE, RW, ANON, -1, 0);
	tickets = map_at(HOME(2) + 2 * MAX_WRITERS * PAGE, PAGE, RW, ANON, -1, 0);
	chain_seed = v_resumed();
	for (unsigned t = 0; t < nwriters; t++)
		heads[t].hash = heads[t].tail = seed_of(t);
	for (uint64_t n = 0; n < nslots; n++)
		for (unsigned t = 0; t < nwriters; t++)
			record_put(t, &heads[t]);
	for (unsigned t = 0; t < nwriters; t++)
		start_thread(chain_thread, (void *)(uintptr_t)t);
}

static void chain_setup(void)
{
	options(0);
	chain_start(opt_u64("mib", 16), false);
	v_await_ticks(nwriters);
}

/* The whole of every chain. */
static void chain_check(void)
{
	if (gate_close(&gate, nwriters)) {
		for (unsigned t = 0; t < nwriters; t++) {
			const struct head *h = &heads[t];
			uint64_t hash = h->tail, ticket = 0;

			for (uint64_t n = h->n - nslots; n < h->n; n++) {
				const struct record *r = record_at(t, n);

				hash = chain_hash(hash, n);
				if (r->n != n || r->hash != hash || (n && r->ticket <= ticket) ||
				    r->seen > heads[(t + 1) % nwriters].n ||
				    r->ticket >= atomic_load(tickets))
					record_wrong(t, n, r);
				ticket = r->ticket;
			}
			if (hash != h->hash)
				v_bad("chain: the hash of writer %u's head is another", t);
		}
	}
	gate_open(&gate);
}

/* --- hugechain: a chain in huge pages that are split and collapsed all the time */

static void *split_thread(void *arg)
{
	uint64_t len = opt_u64("mib", 16) << 20, r = 99, huge = 2 << 20;

	v_tick();
	while (!v_quitting()) {
		char *chunk = (char *)records + random_next(&r) % (len / huge) * huge;

		/* Two mappings instead of one inside a huge page: it is split. */
		madvise(chunk + PAGE * (1 + random_next(&r) % 510), PAGE, MADV_NOHUGEPAGE);
		sleep_ms(2);
		madvise(chunk, huge, MADV_HUGEPAGE);
		madvise(chunk, huge, 25); /* MADV_COLLAPSE, 6.1; else khugepaged may come by */
		sleep_ms(2);
	}
	return NULL;
}

static void hugechain_setup(void)
{
	options(0);
	chain_start(opt_u64("mib", 16), true);
	start_thread(split_thread, NULL);
	v_await_ticks(nwriters + 1);
}

/* --- execchain: a chain whose process execs itself again and again */

static void execchain_setup(void)
{
	options(0);
	chain_start(opt_u64("mib", 2), false);
	if (!v_resumed())
		v_await_ticks(nwriters);
}

static void execchain_check(void)
{
	static int rounds;

	chain_check();
	/* Not in setup's own check: ready has to be said first. */
	if (++rounds > 3)
		v_exec_again();
}

/* --- family: two processes and memory that they share
 *
 * The parent raises A in shared memory, the child follows with B; each keeps a private copy of its
 * own words. B is never ahead of A, and the private copies say what the shared ones must be.
 */
static struct family {
	struct gate gate;
	char rest[PAGE - sizeof(struct gate)];
	uint64_t a[1024][PAGE / 8], b[1024][PAGE / 8];
} * family;
static uint64_t (*own)[PAGE / 8];

enum { FAMILY_PAGES = 1024 };

static void family_look(uint64_t i, bool parent)
{
	uint64_t b = __atomic_load_n(&family->b[i][0], __ATOMIC_ACQUIRE);
	uint64_t a = __atomic_load_n(&family->a[i][0], __ATOMIC_ACQUIRE);

	if (b > a)
		v_bad("family: page %llu: B is %llu and A %llu", (unsigned long long)i,
		      (unsigned long long)b, (unsigned long long)a);
	if (own[i][0] != (parent ? a : b))
		v_bad("family: page %llu: the %s has written %llu, there is %llu",
		      (unsigned long long)i, parent ? "parent" : "child",
		      (unsigned long long)own[i][0], (unsigned long long)(parent ? a : b));
}

static void *family_writer(void *arg)
{
	bool parent = arg;
	uint64_t r = parent ? 5 : 6;
	struct pace p = {};

	v_tick();
	for (uint64_t n = 0; n % 1024 || !v_quitting(); n++) {
		uint64_t i = random_next(&r) % FAMILY_PAGES;

		gate_pass(&family->gate);
		family_look(i, parent);
		if (parent) {
			own[i][0]++;
			__atomic_store_n(&family->a[i][0], own[i][0], __ATOMIC_RELEASE);
		} else {
			own[i][0] = __atomic_load_n(&family->a[i][0], __ATOMIC_ACQUIRE);
			__atomic_store_n(&family->b[i][0], own[i][0], __ATOMIC_RELEASE);
		}
		pace(&p, rate);
	}
	return NULL;
}

static void family_setup(void)
{
	options(0);
	family = map_at(HOME(1), sizeof(*family), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	own = map_at(HOME(2), FAMILY_PAGES * PAGE, RW, ANON, -1, 0);
	switch (fork()) {
	case 0:
		family_writer(NULL);
		_exit(0);
	case -1:
		v_die("fork");
	}
	start_thread(family_writer, family);
	v_await_ticks(2);
}

static void family_check(void)
{
	if (gate_close(&family->gate, 2))
		for (uint64_t i = 0; i < FAMILY_PAGES; i++)
			family_look(i, true);
	gate_open(&family->gate);
}

const struct scenario consistent_scenarios[] = {
	{"pairs", "counters on two pages that go up one after the other", pairs_setup, pairs_check},
	{"chain", "a hash chain scattered over memory", chain_setup, chain_check},
	{"hugechain", "the same in huge pages that are split and collapsed", hugechain_setup,
	 chain_check},
	{"execchain", "the same in a process that execs itself", execchain_setup, execchain_check},
	{"family", "two processes that follow each other in shared memory", family_setup,
	 family_check},
	{},
};
