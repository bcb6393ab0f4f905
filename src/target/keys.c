/* SPDX-License-Identifier: MIT */
/* Protection keys of memory: which there are, and the calls that give them back. */
#include "src/target/keys.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/fill.h"

#ifndef PKEY_DISABLE_ACCESS
#define PKEY_DISABLE_ACCESS 1
#endif

#define BIT(key) (1u << (key))

/* Above all that a process can map, and aligned whatever the size of pages. */
#define NOWHERE	    0xfffffffffffe0000ull
#define NOWHERE_LEN 0x10000u

/* --- which there are ------------------------------------------------------------------------- */

uint32_t keys_here(void)
{
	static bool looked;
	static uint32_t here;
	uint32_t got = 0;

	/* ENOSYS, EINVAL, ENOSPC: none, or no more. */
	while (!looked) {
		long key = syscall(SYS_pkey_alloc, 0, PKEY_DISABLE_ACCESS);

		if (key > 0 && key < M_PKEYS)
			got |= BIT(key);
		else
			looked = true;
	}
	for (int key = 1; key < M_PKEYS; key++)
		if (got & BIT(key))
			syscall(SYS_pkey_free, key);
	here |= got;
	return here;
}

/* The kernel looks at the key first: EINVAL when it is not the caller's, ENOMEM: no memory there.
 */
void keys_ask(struct keys_questions *q, struct batch *b)
{
	const uint32_t here = keys_here();

	for (uint32_t key = 0; key < M_PKEYS; key++)
		q->i[key] = here & BIT(key) ? batch_call(b, SYS_pkey_mprotect, NOWHERE, NOWHERE_LEN,
							 PROT_NONE, key, 0)
					    : -1;
}

uint32_t keys_answer(const struct keys_questions *q, const struct batch *b)
{
	uint32_t keys = 0;

	for (uint32_t key = 0; key < M_PKEYS; key++)
		if (q->i[key] >= 0 && b->calls[q->i[key]].ret == -ENOMEM)
			keys |= BIT(key);
	return keys;
}

/* --- what an image has ------------------------------------------------------------------------ */

uint32_t keys_used(const struct m_mm *mm)
{
	uint32_t keys = mm->pkeys;

	for (uint32_t i = 0; i < mm->nvmas; i++)
		keys |= BIT(mm->vmas[i].pkey);
	return keys & ~BIT(0);
}

/* Not allocated, and on memory that may be executed alone. */
uint32_t keys_kernels(const struct m_mm *mm)
{
	uint32_t on_such = 0, on_others = mm->pkeys | BIT(0), own;

	for (uint32_t i = 0; i < mm->nvmas; i++)
		*(mm->vmas[i].prot == PROT_EXEC ? &on_such : &on_others) |= BIT(mm->vmas[i].pkey);
	own = on_such & ~on_others;
	return own & -own; /* a key that was freed may look the same: it has one */
}

uint32_t keys_prot_before(const struct m_mm *mm, const struct m_vma *v)
{
	return v->prot == PROT_EXEC && keys_used(mm) ? PROT_READ | PROT_EXEC : v->prot;
}

/* --- back into a process ---------------------------------------------------------------------- */

static void add_key(keys_add *add, void *arg, uint64_t nr, uint32_t key)
{
	const bool take = nr == SYS_pkey_alloc;
	struct script_call call = {nr, {take ? 0 : key}, .at = key, .wants = take, .want = key};

	call.what = take ? "allocate the protection key" : "free the protection key";
	add(arg, &call);
}

/* @key: of the kernel's choice where it is @kernels. */
static void add_vma(keys_add *add, void *arg, const struct m_vma *v, uint32_t kernels)
{
	const bool own = BIT(v->pkey) & kernels;
	struct script_call call = {
		own ? SYS_mprotect : SYS_pkey_mprotect,
		{v->start, v->end - v->start, v->prot | fill_tags_prot(v), v->pkey},
		.what = "give its protection key to the memory at",
		.at = v->start};

	if (own)
		call.args[2] = v->prot;
	add(arg, &call);
}

/*
 * All up to the highest that is wanted are allocated, for the kernel gives the lowest; then its own
 * is the only one free, so that it takes that for the first mapping that wants it.
 */
void keys_plan(const struct m_mm *mm, uint32_t here, keys_add *add, void *arg)
{
	const uint32_t used = keys_used(mm), kernels = keys_kernels(mm);
	uint32_t all = used;

	if (!used)
		return;
	for (uint32_t n = 1; n < M_PKEYS; n <<= 1)
		all |= all >> n;
	all &= here & ~BIT(0);
	for (uint32_t key = 1; key < M_PKEYS; key++)
		if (all & BIT(key))
			add_key(add, arg, SYS_pkey_alloc, key);
	for (uint32_t key = 1; key < M_PKEYS; key++)
		if (all & kernels & BIT(key))
			add_key(add, arg, SYS_pkey_free, key);
	for (uint32_t i = 0; i < mm->nvmas; i++)
		if (BIT(mm->vmas[i].pkey) & kernels)
			add_vma(add, arg, &mm->vmas[i], kernels);
	for (uint32_t i = 0; i < mm->nvmas; i++) {
		const struct m_vma *v = &mm->vmas[i];

		/* Key 0, too, where the kernel's own would be: there was none left for it. */
		if (!(BIT(v->pkey) & kernels) && v->kind != M_VMA_VSYSCALL &&
		    (v->pkey || v->prot == PROT_EXEC))
			add_vma(add, arg, v, kernels);
	}
	for (uint32_t key = 1; key < M_PKEYS; key++)
		if (all & ~mm->pkeys & ~kernels & BIT(key))
			add_key(add, arg, SYS_pkey_free, key);
}
