/* SPDX-License-Identifier: MIT */
/* The calls that give protection keys back, made by a kernel of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/keys.h"

enum { RW = PROT_READ | PROT_WRITE, MAX = 4, X86 = 0xfffe, PPC = 0xfffffff8 /* 3 and above */ };

/* One process, as the kernel has it. */
static struct {
	uint32_t free, allocated;
	int own, fixed; /* key of its own, 0: none yet; the one that it always takes, 0: any */
	const struct m_mm *mm;
	struct m_vma v[MAX];
	unsigned ncalls;
} k;

static int take_lowest(void)
{
	const int key = k.free ? __builtin_ctz(k.free) : 0;

	k.free &= k.free - 1;
	return key;
}

static struct m_vma *vma_of(const struct script_call *c)
{
	for (uint32_t i = 0; i < k.mm->nvmas; i++)
		if (k.v[i].start == c->args[0] && k.v[i].end == c->args[0] + c->args[1])
			return &k.v[i];
	fail_msg("no mapping at %#lx", (unsigned long)c->args[0]);
	return NULL;
}

static void protect(const struct script_call *c)
{
	struct m_vma *v = vma_of(c);

	v->prot = (uint32_t)c->args[2];
	if (c->nr == SYS_pkey_mprotect) {
		assert_true(!c->args[3] || k.allocated >> c->args[3] & 1);
		v->pkey = (uint8_t)c->args[3];
		return;
	}
	assert_int_equal(v->prot, PROT_EXEC);
	if (!k.own)
		k.own = k.fixed ? k.fixed : take_lowest();
	v->pkey = (uint8_t)k.own;
}

static void make(void *arg, const struct script_call *c)
{
	int key;

	assert_ptr_equal(arg, &k);
	k.ncalls++;
	switch (c->nr) {
	case SYS_pkey_alloc:
		key = take_lowest();
		assert_true(key && c->wants && c->want == (uint64_t)key);
		k.allocated |= 1u << key;
		break;
	case SYS_pkey_free:
		assert_true(k.allocated >> c->args[0] & 1);
		k.allocated &= ~(1u << c->args[0]);
		k.free |= 1u << c->args[0];
		break;
	default:
		assert_true(c->nr == SYS_pkey_mprotect || c->nr == SYS_mprotect);
		protect(c);
	}
}

/* An empty process gets the keys of @mm; its own for memory to be executed is @own in the end. */
static void give(const struct m_mm *mm, uint32_t here, int fixed, int own)
{
	memset(&k, 0, sizeof(k));
	k.free = here;
	k.fixed = fixed;
	k.mm = mm;
	for (uint32_t i = 0; i < mm->nvmas; i++) {
		k.v[i] = mm->vmas[i];
		k.v[i].pkey = 0;
		k.v[i].prot = keys_prot_before(mm, &mm->vmas[i]);
		/* Mapped so, the kernel would take one before its time. */
		assert_true(!keys_used(mm) || k.v[i].prot != PROT_EXEC);
	}
	keys_plan(mm, here, make, &k);
	for (uint32_t i = 0; i < mm->nvmas; i++) {
		assert_int_equal(k.v[i].pkey, mm->vmas[i].pkey);
		assert_int_equal(k.v[i].prot, mm->vmas[i].prot);
	}
	assert_int_equal(k.allocated, mm->pkeys);
	assert_int_equal(k.own, own);
	assert_int_equal(keys_kernels(mm), own ? 1u << own : 0);
}

#define VMA(n, p, key)                                                                         \
	{                                                                                      \
		.start = 0x10000 * (n), .end = 0x10000 * ((n) + 1), .prot = (p), .pkey = (key) \
	}
#define MM(keys, ...)                                                                          \
	(&(struct m_mm){.vmas = (struct m_vma[]){__VA_ARGS__},                                 \
			.nvmas = sizeof((struct m_vma[]){__VA_ARGS__}) / sizeof(struct m_vma), \
			.pkeys = (keys)})

static void without_keys(void **state)
{
	give(MM(0, VMA(1, RW, 0), VMA(2, PROT_EXEC, 0)), X86, 0, 0);
	assert_int_equal(k.ncalls, 0);
}

static void allocated_and_used(void **state)
{
	give(MM(1 << 1 | 1 << 2, VMA(1, RW, 1), VMA(2, RW, 2), VMA(3, RW, 0)), X86, 0, 0);
	assert_int_equal(k.ncalls, 4);
	/* Allocated and on no mapping; freed, and on one all the same. */
	give(MM(1 << 5, VMA(1, RW, 3), VMA(2, PROT_NONE, 3)), X86, 0, 0);
	give(MM(1 << 15, VMA(1, RW, 0)), X86, 0, 0);
	give(MM(X86, VMA(1, RW, 15), VMA(2, PROT_READ, 1)), X86, 0, 0);
}

static void kernels_own(void **state)
{
	/* The first that it could take, one between others, the last one. */
	give(MM(0, VMA(1, PROT_EXEC, 1)), X86, 0, 1);
	give(MM(1 << 1 | 1 << 3, VMA(1, PROT_EXEC, 2), VMA(2, RW, 3), VMA(3, PROT_EXEC, 2)), X86, 0,
	     2);
	give(MM(1 << 1, VMA(1, RW, 1), VMA(2, PROT_EXEC, 15)), X86, 0, 15);
	/* The program's own for such memory; of two that nobody has one is the kernel's. */
	give(MM(1 << 1, VMA(1, PROT_EXEC, 1)), X86, 0, 0);
	give(MM(1 << 2, VMA(1, PROT_EXEC, 2), VMA(2, PROT_EXEC, 1), VMA(3, RW, 2)), X86, 0, 1);
	give(MM(0, VMA(1, PROT_EXEC, 4), VMA(2, PROT_EXEC, 2)), X86, 0, 2);
	give(MM(0, VMA(1, PROT_EXEC, 4), VMA(2, RW, 4)), X86, 0, 0);
	/* There was none left for it. */
	give(MM(X86, VMA(1, PROT_EXEC, 0), VMA(2, RW, 7)), X86, 0, 0);
	/* It has one of its own that no program is ever given. */
	give(MM(1 << 4, VMA(1, PROT_EXEC, 2), VMA(2, RW, 4)), PPC, 2, 2);
}

static void of_this_machine(void **state)
{
	const uint32_t here = keys_here();
	long key = syscall(SYS_pkey_alloc, 0, 0);

	/* None of them is kept. */
	assert_int_equal(keys_here(), here);
	if (key <= 0) {
		assert_int_equal(here, 0);
		skip();
	}
	assert_int_equal(__builtin_ctz(here), key);
	assert_int_equal(syscall(SYS_pkey_free, key), 0);
#ifdef __x86_64__
	assert_int_equal(here, X86);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_keys),
		cmocka_unit_test(allocated_and_used),
		cmocka_unit_test(kernels_own),
		cmocka_unit_test(of_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
