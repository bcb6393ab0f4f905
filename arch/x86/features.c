/* SPDX-License-Identifier: MIT */
/* x86-64: what this CPU has, and what that of an image had that this one lacks. */
#include <cpuid.h>
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "arch/x86/features.h"

enum { MXCSR_OFF = 24, XCR0_OFF = 464, XSTATE_BV_OFF = 512, ECX_OSXSAVE = 1 << 27 };
/* Components of AMX. The kernel asks to be asked for the second one alone. */
enum { TILE_CONFIGURATION = 1 << 17, TILES = 1 << 18 };

/* By bit of XCR0: Intel SDM vol. 1 13.1. */
static const char *const components[] = {
	"x87",
	"SSE",
	"AVX",
	"MPX bounds",
	"MPX control",
	"AVX-512 opmasks",
	"AVX-512 upper halves",
	"AVX-512 zmm16 to zmm31",
	"processor trace",
	"protection keys",
	"PASID",
	"CET user state",
	"CET supervisor state",
	"HDC",
	"user interrupts",
	"last branch records",
	"HWP",
	"AMX configuration",
	"AMX tiles",
	"APX registers",
};

enum { NCOMPONENTS = sizeof(components) / sizeof(components[0]) };

/* What the kernel has switched on. Asked once: see component_of(). */
static uint64_t host_xcr0(void)
{
	static uint64_t xcr0;
	unsigned a, b, c = 0, d;
	uint32_t lo, hi;

	if (xcr0)
		return xcr0;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & ECX_OSXSAVE))
		return xcr0 = 3;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return xcr0 = (uint64_t)hi << 32 | lo;
}

/* --- instructions --------------------------------------------------------------------------- */

enum { EAX, EBX, ECX, EDX };

/* Where the words of arch_x86_64.ins are; those of one leaf side by side. */
static const struct {
	uint32_t leaf, subleaf, reg;
} places[ARCH_INS_WORDS] = {
	{1, 0, ECX},	      {1, 0, EDX},	    {7, 0, EBX},   {7, 0, ECX},
	{7, 0, EDX},	      {7, 1, EAX},	    {7, 1, EDX},   {0x80000001, 0, ECX},
	{0x80000001, 0, EDX}, {0x80000008, 0, EBX}, {0xd, 1, EAX},
};

static void ask(uint32_t words[ARCH_INS_WORDS])
{
	const uint32_t last = __get_cpuid_max(0, NULL);
	const uint32_t last_extended = __get_cpuid_max(0x80000000, NULL);
	uint32_t r[4] = {0}, leaf = 0, subleaf = 0;

	for (unsigned i = 0; i < ARCH_INS_WORDS; i++) {
		if (places[i].leaf > (places[i].leaf >> 31 ? last_extended : last))
			continue;
		if (places[i].leaf != leaf || places[i].subleaf != subleaf) {
			leaf = places[i].leaf;
			subleaf = places[i].subleaf;
			__cpuid_count(leaf, subleaf, r[EAX], r[EBX], r[ECX], r[EDX]);
		}
		words[i] = r[places[i].reg];
	}
	for (const struct arch_ins *i = arch_x86_64.ins; i->name; i++)
		if (i->needs & ~host_xcr0())
			words[i->word] &= ~(1u << i->bit);
}

void x86_ins_words(uint32_t ret[ARCH_INS_WORDS])
{
	static uint32_t words[ARCH_INS_WORDS];
	static bool known;

	if (!known)
		ask(words);
	known = true;
	memcpy(ret, words, sizeof(words));
}

/* --- registers ------------------------------------------------------------------------------ */

bool x86_cpu_lacks(const struct arch_set *set, uint64_t permitted, bool *ret_used, char *buf,
		   size_t len)
{
	uint64_t xcr0, bv, lacks;
	size_t at = 0;

	if (set->note != NT_X86_XSTATE || set->len < XSAVE_MIN)
		return false;
	memcpy(&xcr0, set->data + XCR0_OFF, sizeof(xcr0));
	memcpy(&bv, set->data + XSTATE_BV_OFF, sizeof(bv));
	lacks = (xcr0 | bv) & ~host_xcr0();
	if (permitted && !(permitted & TILES))
		lacks &= bv | ~(uint64_t)(TILE_CONFIGURATION | TILES);
	if (!lacks)
		return false;
	*ret_used = (bv & lacks) != 0;
	buf[0] = '\0';
	for (unsigned i = 0; i < NCOMPONENTS && at < len; i++)
		if (lacks >> i & 1) {
			at += (size_t)snprintf(buf + at, len - at, "%s%s", at ? ", " : "",
					       components[i]);
			lacks &= ~(1ull << i);
		}
	if (lacks && at < len)
		snprintf(buf + at, len - at, "%sXCR0 %#llx", at ? ", " : "",
			 (unsigned long long)lacks);
	return true;
}

/* --- registers that must be asked for ------------------------------------------------------- */

/* Linux 5.16: Documentation/arch/x86/xstate.rst */
enum { GET_XCOMP_PERM = 0x1022, REQ_XCOMP_PERM = 0x1023 };

static uint64_t permits_here(void)
{
	return host_xcr0() & TILES;
}

static uint64_t permits_in_use(const struct arch_set *set)
{
	uint64_t bv;

	if (set->note != NT_X86_XSTATE || set->len < XSAVE_MIN)
		return 0;
	memcpy(&bv, set->data + XSTATE_BV_OFF, sizeof(bv));
	return bv & TILES;
}

const struct arch_permits x86_permits = {
	.name = "AMX tiles",
	.bits = TILES,
	.nr = SYS_arch_prctl,
	.get = GET_XCOMP_PERM,
	.ask = REQ_XCOMP_PERM,
	.here = permits_here,
	.in_use = permits_in_use,
};

/*
 * The kernel has room for tiles in a thread that has touched some, and refuses to take any for
 * another one: XRSTOR of one component traps then (XFD), as any use does. What it loads is
 * whatever lies there, with the set behind it.
 */
bool x86_lazy_area(const struct arch_set *set, uint8_t ret[ARCH_LAZY_LEN])
{
	const uint64_t bv = permits_in_use(set);
	const uint32_t mxcsr = 0x1f80;

	if (!bv)
		return false;
	memset(ret, 0, ARCH_LAZY_LEN);
	memcpy(ret + MXCSR_OFF, &mxcsr, sizeof(mxcsr));
	memcpy(ret + XSTATE_BV_OFF, &bv, sizeof(bv));
	return true;
}
