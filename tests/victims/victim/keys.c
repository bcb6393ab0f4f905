/* SPDX-License-Identifier: MIT */
/*
 * Protection keys of memory in a process, a thread and a child: every mapping has the key that it
 * had, each thread the rights that it had, and the same keys are allocated.
 *
 *	page	0   key A, which the main thread may not touch, and the other thread may
 *		1   key B, which the main thread may read, and the other thread may not
 *		2   key 0
 *		3   key A, locked
 *		8   a key that was freed
 *		12  may be executed alone: a key of the kernel's own choice
 *		16  may be executed alone: a key of the program's
 *		20  shared memory, key B
 *
 * Pages 0 to 2 differ in nothing but their keys. One key is allocated and on no memory.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum {
	RW = PROT_READ | PROT_WRITE,
	ANON = MAP_PRIVATE | MAP_ANONYMOUS,
	FAULT = 4, /* SEGV_PKUERR */
	NKEYS = 16,
	ROW = 4,
	FREED = 8,
	KERNELS = 12,
	OURS = 16,
	SHARED = 20,
	NPAGES = 21,
	ANSWER = 42,
};

static const unsigned char code[] = {0xb8, ANSWER, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */

static char *base;
static int a, b, ours, unused;
static int want[NPAGES]; /* key of each page, -1: not mapped */
static uint32_t allocated;
static _Atomic uint64_t *rounds; /* of the thread, of the child: shared memory */
static __thread sigjmp_buf back;
static __thread volatile int fault, fault_key;

static void on_fault(int signo, siginfo_t *si, void *context)
{
	fault = si->si_code;
	fault_key = (int)si->si_pkey;
	siglongjmp(back, 1);
}

/* What this thread may do with memory of each key. */
struct rights {
	int of[NKEYS];
};

static struct rights rights_now(void)
{
	struct rights r = {{0}};

	for (int key = 1; key < NKEYS; key++)
		r.of[key] = pkey_get(key);
	return r;
}

static void rights_set(const struct rights *r)
{
	for (int key = 1; key < NKEYS; key++)
		pkey_set(key, (unsigned)r->of[key]);
}

static int touch(char *p, bool write)
{
	const struct rights was = rights_now();

	fault = fault_key = 0;
	if (!sigsetjmp(back, 1)) {
		const char byte = *(volatile char *)p;

		if (write)
			*(volatile char *)p = byte;
		return 0;
	}
	/* Who leaves a handler this way has the rights of the handler. */
	rights_set(&was);
	return fault;
}

static void expect_touch(int page, bool write, int want_key, const char *who)
{
	char *p = base + page * PAGE;
	int ret = touch(p, write);

	if (ret != (want_key ? FAULT : 0) || (want_key && fault_key != want_key))
		v_bad("keys: %s: page %d, %s: code %d, key %d, not of key %d", who, page,
		      write ? "written" : "read", ret, fault_key, want_key);
}

/* Where nothing may be touched a fault tells the key of each page. */
static void look_at_keys(const char *who)
{
	const struct rights was = rights_now();

	for (int key = 1; key < NKEYS; key++)
		pkey_set(key, PKEY_DISABLE_ACCESS);
	for (int i = 0; i < NPAGES; i++) {
		if (want[i] < 0)
			continue;
		touch(base + i * PAGE, false);
		if (fault_key != want[i] || fault != (want[i] ? FAULT : 0))
			v_bad("keys: %s: page %d has key %d, not %d: code %d", who, i, fault_key,
			      want[i], fault);
	}
	rights_set(&was);
}

/* Where nothing is mapped a key that is not allocated is the first thing wrong. */
static uint32_t look_at_allocated(void)
{
	uint32_t keys = 0;

	for (int key = 1; key < NKEYS; key++)
		if (pkey_mprotect(base + 30 * PAGE, PAGE, PROT_NONE, key) && errno == ENOMEM)
			keys |= 1u << key;
	return keys;
}

static void look(const char *who)
{
	uint32_t has = look_at_allocated();

	look_at_keys(who);
	if (has != allocated)
		v_bad("keys: %s: %#x are allocated, not %#x", who, has, allocated);
	expect_touch(0, false, a, who);
	expect_touch(want[1] == b ? 1 : 2, false, 0, who);
	expect_touch(1, true, want[1], who);
	expect_touch(2, true, 0, who);
	expect_touch(3, true, a, who);
	expect_touch(SHARED, false, 0, who);
	expect_touch(SHARED, true, b, who);
	expect_touch(OURS, false, ours, who);
	expect_touch(KERNELS, false, want[KERNELS], who);
#ifdef __x86_64__
	for (int i = KERNELS; i <= OURS; i += OURS - KERNELS)
		if (((int (*)(void))(uintptr_t)(base + i * PAGE))() != ANSWER)
			v_bad("keys: %s: page %d is not the code that it was", who, i);
#endif
}

static void look_inside(void)
{
	const struct rights was = rights_now();

	pkey_set(a, 0);
	pkey_set(b, 0);
	expect_filled(base, ROW * PAGE, 3, "memory with keys");
	expect_filled(base + SHARED * PAGE, PAGE, 4, "shared memory with a key");
	rights_set(&was);
}

static void *other_thread(void *arg)
{
	sigset_t segv;

	/* Blocked, a fault would be the end. */
	sigemptyset(&segv);
	sigaddset(&segv, SIGSEGV);
	pthread_sigmask(SIG_UNBLOCK, &segv, NULL);
	pkey_set(a, 0);
	pkey_set(b, PKEY_DISABLE_ACCESS);
	v_tick();
	while (!v_quitting()) {
		expect_touch(0, true, 0, "a thread");
		expect_touch(1, false, b, "a thread");
		expect_touch(2, false, 0, "a thread");
		rounds[0]++;
		sleep_ms(20);
	}
	return NULL;
}

/* What it has of its parent is not all that it has. */
static void child(void)
{
	if (pkey_mprotect(base + PAGE, PAGE, RW, unused) || pkey_free(unused) ||
	    mprotect(base + FREED * PAGE, PAGE, PROT_READ))
		v_die("keys of a child");
	pkey_set(unused, PKEY_DISABLE_ACCESS);
	want[1] = unused;
	allocated &= ~(1u << unused);
	v_tick();
	while (!v_quitting()) {
		look("child");
		rounds[1]++;
		sleep_ms(20);
	}
	_exit(0);
}

static char *page(int n, int prot, int flags)
{
	char *p = map_at((uint64_t)(uintptr_t)base + (uint64_t)n * PAGE, PAGE, prot, flags, -1, 0);

	want[n] = 0;
	return p;
}

static void give(int n, int prot, int key)
{
	if (pkey_mprotect(base + n * PAGE, PAGE, prot, key))
		v_die("pkey_mprotect");
	want[n] = key;
}

static void map_pages(void)
{
	base = map_at(HOME(1), ROW * PAGE, RW, ANON, -1, 0);
	fill(base, ROW * PAGE, 3);
	for (int i = 0; i < NPAGES; i++)
		want[i] = i < ROW ? 0 : -1;
	fill(page(FREED, RW, ANON), PAGE, 5);
	memcpy(page(KERNELS, RW, ANON), code, sizeof(code));
	memcpy(page(OURS, RW, ANON), code, sizeof(code));
	fill(page(SHARED, RW, MAP_SHARED | MAP_ANONYMOUS), PAGE, 4);
	mlock(base + 3 * PAGE, PAGE);
}

static void keys_setup(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	int between, freed;

	a = pkey_alloc(0, 0);
	if (a < 0)
		v_skip("no protection keys here: %s", strerror(errno));
	if (pkey_get(a) != 0)
		v_skip("this C library does not know the register of protection keys");
	b = pkey_alloc(0, 0);
	between = pkey_alloc(0, 0);
	ours = pkey_alloc(0, PKEY_DISABLE_ACCESS);
	unused = pkey_alloc(0, 0);
	if (b < 0 || between < 0 || ours < 0 || unused < 0)
		v_skip("not enough protection keys here");
	map_pages();
	rounds = map_at(HOME(2), PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* The kernel's own is one between others. */
	pkey_free(between);
	if (mprotect(base + KERNELS * PAGE, PAGE, PROT_EXEC))
		v_die("mprotect");
	freed = pkey_alloc(0, 0);
	give(0, RW, a);
	give(1, RW, b);
	give(3, RW, a);
	give(FREED, RW, freed);
	give(OURS, PROT_EXEC, ours);
	give(SHARED, RW, b);
	pkey_free(freed);
	allocated = look_at_allocated();
	want[KERNELS] = between; /* the lowest that was free, and no longer to be had */
	pkey_set(unused, 0);
	sigaction(SIGSEGV, &sa, NULL);
	start_thread(other_thread, NULL);
	v_await_ticks(1);
	pkey_set(a, PKEY_DISABLE_ACCESS);
	pkey_set(b, PKEY_DISABLE_WRITE);
	if (fork() == 0)
		child();
	v_await_ticks(2);
}

static void keys_check(void)
{
	uint64_t seen[2] = {rounds[0], rounds[1]};

	look("parent");
	look_inside();
	for (int i = 0; i < 2; i++)
		for (unsigned ms = 0; rounds[i] < seen[i] + 2; ms++) {
			if (ms == 60000) {
				v_bad("keys: the %s stands still", i ? "child" : "thread");
				return;
			}
			sleep_ms(1);
		}
}

const struct scenario key_scenarios[] = {
	{"keys", "protection keys of memory, in a process, a thread and a child", keys_setup,
	 keys_check},
	{},
};
