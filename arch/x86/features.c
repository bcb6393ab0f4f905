/* SPDX-License-Identifier: MIT */
/* x86-64: what the CPU of an image had that this one lacks. */
#include <cpuid.h>
#include <elf.h>
#include <stdio.h>
#include <string.h>

#include "arch/x86/features.h"

enum { XCR0_OFF = 464, XSTATE_BV_OFF = 512, ECX_OSXSAVE = 1 << 27 };

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

/* What the kernel has switched on. */
static uint64_t host_xcr0(void)
{
	unsigned a, b, c = 0, d;
	uint32_t lo, hi;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & ECX_OSXSAVE))
		return 3;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

bool x86_cpu_lacks(const struct arch_set *set, bool *ret_used, char *buf, size_t len)
{
	uint64_t xcr0, bv, lacks;
	size_t at = 0;

	if (set->note != NT_X86_XSTATE || set->len < XSAVE_MIN)
		return false;
	memcpy(&xcr0, set->data + XCR0_OFF, sizeof(xcr0));
	memcpy(&bv, set->data + XSTATE_BV_OFF, sizeof(bv));
	lacks = (xcr0 | bv) & ~host_xcr0();
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
