/* SPDX-License-Identifier: MIT */
/* x86-64: XSAVE images, as register sets of this CPU. */
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "arch/x86/features.h"

/*
 * Intel SDM vol. 1 13.4. The kernel writes XCR0 where the CPU leaves room for software.
 *
 *	  0  FXSAVE image; 24: MXCSR; 464: XCR0
 *	512  header: XSTATE_BV, XCOMP_BV, 48 bytes of nothing
 *	576  components, each at its place
 */
enum { MXCSR_OFF = 24, XCR0_OFF = 464, XCOMP_OFF = 8 };

/* Of the bits of MXCSR: those that a CPU has, one of AMD's with it (17, misaligned SSE). */
#define MXCSR_BITS 0x2ffffu
#define SSE_OR_AVX 6ull

struct component {
	uint32_t off, len; /* len 0: this CPU does not have it */
};

/*
 * Of one in @bits, else none. Asked once, and of none that nobody has: in a virtual machine each
 * CPUID is a trip to the hypervisor, tens of microseconds, and the first one may be asked while the
 * target stands still.
 */
static struct component component_of(uint64_t bits, unsigned i)
{
	static struct component table[63];
	static uint64_t known;
	unsigned a, b, c, d;

	if (!(bits >> i & 1))
		return (struct component){0};
	if (!(known & 1ull << i) && __get_cpuid_count(0xd, i, &a, &b, &c, &d))
		table[i] = (struct component){b, a};
	known |= 1ull << i;
	return table[i];
}

uint32_t x86_xstate_len(uint64_t bv, size_t xstate_len)
{
	uint32_t len = XSAVE_MIN;

	for (unsigned i = 2; i < 63; i++) {
		struct component c = component_of(bv, i);

		if (bv >> i & 1 && (!c.len || c.off + c.len > xstate_len))
			return 0;
		if (c.off + c.len > len)
			len = c.off + c.len;
	}
	return len;
}

/* --- what no thread has --------------------------------------------------------------------- */

static uint64_t word(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static bool mxcsr_valid(const uint8_t *fxsave)
{
	uint32_t v;

	memcpy(&v, fxsave + MXCSR_OFF, sizeof(v));
	return !(v & ~MXCSR_BITS);
}

static const char *xstate_wrong(const struct arch_set *set)
{
	const uint8_t *header = set->data + FX_LEN;
	uint64_t bv;

	if (set->len < XSAVE_MIN)
		return "is cut off";
	bv = word(header);
	if (word(header + XCOMP_OFF))
		return "is in the compacted format";
	for (unsigned i = XCOMP_OFF + 8; i < XHDR_LEN; i++)
		if (header[i])
			return "has something in the part of its header that is reserved";
	if (bv & ~word(set->data + XCR0_OFF))
		return "has registers that its XCR0 does not tell of";
	return bv & SSE_OR_AVX && !mxcsr_valid(set->data) ? "has reserved bits in its MXCSR" : NULL;
}

const char *x86_set_wrong(const struct arch_set *set)
{
	if (set->note == NT_X86_XSTATE)
		return xstate_wrong(set);
	if (set->note == NT_FPREGSET && set->len >= MXCSR_OFF + 4 && !mxcsr_valid(set->data))
		return "has reserved bits in its MXCSR";
	return NULL;
}

/* --- for a thread that is here -------------------------------------------------------------- */

/* Where CPUs with MPX have them, and a set that is made of an image of CRIU. */
static const struct {
	uint16_t bit, off;
} wide_places[] = {{2, 576}, {3, 960}, {4, 1024}, {5, 1088}, {6, 1152}, {7, 1664}, {9, 2688}};

enum { NPLACES = sizeof(wide_places) / sizeof(wide_places[0]) };

/* Whether an area of @len bytes has its components there, which this CPU has elsewhere. */
static bool is_wide(const uint8_t *data, size_t len)
{
	const uint64_t xcr0 = word(data + XCR0_OFF);
	uint32_t end = XSAVE_MIN;
	bool same = true;

	for (unsigned i = 0; i < NPLACES; i++) {
		struct component c = component_of(xcr0, wide_places[i].bit);

		if (!c.len)
			continue;
		end = wide_places[i].off + c.len;
		same = same && c.off == wide_places[i].off;
	}
	return !same && end == len;
}

/* Each component from there to its place on this CPU. */
static void move_components(uint64_t bv, const uint8_t *data, uint8_t *ret, size_t room)
{
	memset(ret, 0, room);
	memcpy(ret, data, XSAVE_MIN);
	for (unsigned i = 0; i < NPLACES; i++) {
		struct component c = component_of(bv, wide_places[i].bit);

		memcpy(ret + c.off, data + wide_places[i].off, c.len);
	}
}

int64_t x86_regset_fit(const struct arch_set *set, const struct arch_set *has, uint8_t *ret)
{
	uint64_t bv;

	if (x86_set_wrong(set))
		return -EBADMSG;
	if (set->note == NT_X86_XSTATE) {
		if (has->len < XSAVE_MIN)
			return -EBADMSG;
		bv = word(set->data + FX_LEN);
		if (!x86_xstate_len(bv, set->len) || !x86_xstate_len(bv, has->len))
			return -EBADMSG;
		/* All that it has is in its XCR0, which tells how far it reaches. */
		if (is_wide(set->data, set->len)) {
			move_components(bv, set->data, ret, has->len);
			return has->len;
		}
	} else if (set->len != has->len) {
		return -EBADMSG;
	}
	memset(ret, 0, has->len);
	memcpy(ret, set->data, set->len < has->len ? set->len : has->len);
	return has->len;
}
