/* SPDX-License-Identifier: MIT */
/*
 * Signal frames and control blocks of AArch64, taken apart as the kernel does it: whatever vector
 * length, all of a thread's state is in them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <elf.h>

#include "arch/aarch64/sve.h"
#include "arch/arch.h"

enum {
	ADDR = 0x10000040,
	SVE_MOST = 16 + 32 * 256 + 17 * 32 + 16,
	/* Linux arch/arm64/include/uapi/asm/sigcontext.h */
	RESERVED = 592, /* where records begin */
	FPSIMD = 0x46508001,
	SVE = 0x53564501,
	FPMR = 0x46504d52,
	POE = 0x504f4530,
	EXTRA = 0x45585401,
};

static uint8_t frame[32 << 10], vectors[SVE_MOST], fpmr[8], por[8], fpsimd[528], state[400];

/* What it is made of; len 0: the thread has none. */
static struct arch_set sets[5];

/* --- as parse_user_sigframe() of Linux 6.12 takes it ------------------------------------------ */

static struct seen {
	const uint8_t *fpsimd, *sve, *fpmr, *poe;
	uint32_t sve_len;
} seen;

static uint32_t u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void take(const uint8_t **ret, const uint8_t *at)
{
	assert_true(!*ret);
	*ret = at;
}

/* The end of what it has looked at. */
static size_t parse(uint64_t addr)
{
	uint32_t off = 0, limit = 4096, base = RESERVED;
	int extra = 0;

	memset(&seen, 0, sizeof(seen));
	for (;;) {
		const uint8_t *at = frame + base + off;
		uint32_t magic, size;

		assert_true(limit - off >= 8);
		assert_true(off % 16 == 0);
		magic = u32(at);
		size = u32(at + 4);
		if (!magic) {
			assert_int_equal(size, 0);
			return base + off + 16;
		}
		assert_true(size >= 8 && limit - off >= size);
		switch (magic) {
		case FPSIMD:
			assert_int_equal(size, 528);
			take(&seen.fpsimd, at);
			break;
		case SVE:
			take(&seen.sve, at);
			seen.sve_len = size;
			break;
		case FPMR:
			assert_int_equal(size, 16);
			take(&seen.fpmr, at);
			break;
		case POE:
			assert_int_equal(size, 16);
			take(&seen.poe, at);
			break;
		case EXTRA:
			assert_true(!extra && size >= 32 && limit - off - size >= 16);
			assert_true(!u32(at + size) && !u32(at + size + 4));
			base = base + off + size + 16;
			assert_true(u64(at + 8) == addr + base && base % 16 == 0);
			limit = u32(at + 16);
			assert_true(limit % 16 == 0);
			extra = 1;
			off = 0;
			continue;
		default:
			assert_true(!"a record of that magic number");
		}
		off += size;
	}
}

/* --- threads ---------------------------------------------------------------------------------- */

/* Different bytes everywhere. */
static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 7 + i / 251 + seed);
}

/* Vectors of @vl bytes, in streaming mode or not; 0: none are in use. */
static void thread_of(uint32_t vl, int streaming, int words)
{
	const uint32_t len = ((16 + 32 * vl + 17 * (vl / 8) + 15) & ~15u) + 16;
	const uint16_t head[] = {(uint16_t)vl, 256, 1, 0};

	fill(fpsimd, sizeof(fpsimd), 1);
	fill(vectors, sizeof(vectors), 2);
	fill(fpmr, sizeof(fpmr), 3);
	fill(por, sizeof(por), 4);
	fill(state, sizeof(state), 5);
	memcpy(vectors, &len, 4);
	memcpy(vectors + 8, head, sizeof(head));
	sets[0] = (struct arch_set){NT_FPREGSET, sizeof(fpsimd), fpsimd};
	sets[1] = (struct arch_set){NT_ARM_SVE, vl && !streaming ? len : 0, vectors};
	sets[2] = (struct arch_set){NT_ARM_SSVE, vl && streaming ? len : 0, vectors};
	sets[3] = (struct arch_set){NT_ARM_FPMR, words ? 8 : 0, fpmr};
	sets[4] = (struct arch_set){NT_ARM_POE, words ? 8 : 0, por};
}

/* All that thread_of() made is in the frame; @fp: the low halves too, where there are no others. */
static void expect(uint32_t vl, int streaming, int words, int fp)
{
	assert_non_null(seen.fpsimd);
	assert_int_equal(!!seen.sve, !!vl);
	assert_int_equal(!!seen.fpmr, words);
	assert_int_equal(!!seen.poe, words);
	if (words) {
		assert_memory_equal(seen.fpmr + 8, fpmr, 8);
		assert_memory_equal(seen.poe + 8, por, 8);
	}
	if (!vl && fp)
		assert_memory_equal(seen.fpsimd + 16, fpsimd, 512);
	if (!vl)
		return;
	assert_true(seen.sve_len >= 16 + 32 * vl + 17 * (vl / 8));
	assert_int_equal(seen.sve[8] | seen.sve[9] << 8, vl);
	assert_int_equal(seen.sve[10], streaming);
	assert_memory_equal(seen.sve + 16, vectors + 16, 32 * vl + 17 * (vl / 8));
	for (unsigned i = 0; i < 32; i++)
		assert_memory_equal(seen.fpsimd + 16 + 16 * i, vectors + 16 + i * vl, 16);
	/* FPSR and FPCR come behind the registers. */
	assert_memory_equal(seen.fpsimd + 8, vectors + ((16 + 32 * vl + 17 * (vl / 8) + 15) & ~15u),
			    8);
}

static void frames(void **unused)
{
	for (uint32_t vl = 0; vl <= 256; vl += 16)
		for (int kind = 0; kind < 4; kind++) {
			size_t len;

			thread_of(vl, kind & 1, kind >> 1);
			memset(frame, 0xee, sizeof(frame));
			len = arch_inject.frame(frame, sizeof(frame), ADDR, 0, state, sets, 0x55);
			assert_true(len > 0 && len <= sizeof(frame));
			assert_int_equal(parse(ADDR), len);
			expect(vl, kind & 1, kind >> 1, 1);
			assert_int_equal(frame[len], 0xee);
			/* Less room: none at all, and not half of one. */
			assert_int_equal(
				arch_inject.frame(frame, len - 1, ADDR, 0, state, sets, 0x55), 0);
		}
}

static void controls(void **unused)
{
	for (uint32_t vl = 0; vl <= 256; vl += 16)
		for (int kind = 0; kind < 4; kind++) {
			size_t len;

			thread_of(vl, kind & 1, kind >> 1);
			memset(frame, 0xee, sizeof(frame));
			len = arch_inject.control(frame, ADDR, state, sets + 1, false, 0x55, 17, 3);
			assert_true(len > 0 && len <= arch_inject.control_len);
			assert_int_equal(parse(ADDR), len);
			expect(vl, kind & 1, kind >> 1, 0);
			assert_int_equal(frame[len], 0xee);
		}
	assert_true(arch_inject.control_len <= ARCH_CONTROL_MAX);
}

/* What is saved before calls, and of what a frame may be silent. */
static void lost(void **unused)
{
	unsigned n = 0;

	thread_of(256, 1, 1);
	for (unsigned i = 1; i < 5; i++)
		assert_int_equal(arch_inject.is_lost(&sets[i]), i != 1);
	memset(fpmr, 0, sizeof(fpmr));
	assert_false(arch_inject.is_lost(&sets[3]));
	arch_inject.control(frame, ADDR, state, sets + 1, false, 0, 17, 3);
	parse(ADDR);
	assert_true(!seen.fpmr && seen.poe);
	/* FPMR after what switches streaming mode on, which makes it zero. */
	while (arch_inject.lost_notes[n])
		n++;
	assert_true(n <= ARCH_LOST_NOTES);
	assert_int_equal(arch_inject.lost_notes[1], NT_ARM_SSVE);
	assert_int_equal(arch_inject.lost_notes[2], NT_ARM_FPMR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames),
		cmocka_unit_test(controls),
		cmocka_unit_test(lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
