/* SPDX-License-Identifier: MIT */
/*
 * Threads that hold known values in every register of a ppc64le CPU and compare them for ever.
 */
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/victim.h"

/* Offsets are known to regs_ppc64.S. */
struct victim_regs {
	uint64_t saved_sp;
	uint64_t count;
	uint32_t stop, isa31;
	uint64_t cr, xer, ctr, lr, tar, dscr, ppr, vrsave, fpscr, hash, sc_ppr;
	uint64_t saved[24];
	uint64_t gpr[32];
	uint64_t vscr[2];
	uint64_t vec[64][2];
	uint64_t scratch[64][2];
	uint64_t scr[8];
} __attribute__((aligned(16)));
_Static_assert(offsetof(struct victim_regs, saved) == 112, "regs_ppc64.S");
_Static_assert(offsetof(struct victim_regs, gpr) == 304, "regs_ppc64.S");
_Static_assert(offsetof(struct victim_regs, vscr) == 560, "regs_ppc64.S");
_Static_assert(offsetof(struct victim_regs, scratch) == 1600, "regs_ppc64.S");
_Static_assert(offsetof(struct victim_regs, scr) == 2624, "regs_ppc64.S");

uint64_t victim_regs_spin(struct victim_regs *r);

/* AT_HWCAP2: Linux arch/powerpc/include/uapi/asm/cputable.h */
enum { ARCH_3_1 = 0x00040000 };

static void write_facts(const struct victim_regs *r)
{
	pid_t tid = gettid_();

	/* r0 and r12 are scratch of the loop's. */
	for (int i = 3; i < 32; i++)
		if (i != 12 && i != 13)
			v_fact("reg %d r%d %#llx", tid, i, (unsigned long long)r->gpr[i]);
	v_fact("reg %d r1 %#llx", tid, (unsigned long long)r->gpr[1]);
	v_fact("reg %d xer %#llx", tid, (unsigned long long)r->xer);
	v_fact("reg %d ctr %#llx", tid, (unsigned long long)r->ctr);
	v_fact("reg %d lr %#llx", tid, (unsigned long long)r->lr);
}

void *cpu_regs_thread(void *arg)
{
	const uint64_t n = (uint64_t)(uintptr_t)arg;
	struct victim_regs r;
	uint64_t ret;

	memset(&r, 0, sizeof(r));
	fill(r.gpr, sizeof(r.gpr), 0x5eed0000 + n);
	fill(r.vec, sizeof(r.vec), 0x5eed1000 + n);
	r.gpr[1] = (uint64_t)(uintptr_t)&r;
	r.isa31 = (getauxval(AT_HWCAP2) & ARCH_3_1) != 0;
	r.cr = 0x05a3c961 ^ n << 4;
	r.xer = 0xa0000000 | n; /* SO, CA, and a length */
	r.ctr = 0x123456789abcdef0 + n;
	r.lr = 0xfedcba9876543210 - 8 * n;
	r.tar = 0x0f1e2d3c4b5a6978 + 8 * n;
	r.dscr = 1 + n % 7;
	r.ppr = (2 + n % 3) << 50; /* low, medium low, medium */
	r.vrsave = 0x80000001 + n;
	r.fpscr = n % 4;		 /* how to round */
	r.vscr[1] = n % 2 ? 0x10000 : 1; /* not Java's way, or saturated */
	write_facts(&r);
	/* They leave the CPU to everybody else: what they look at is their own registers. */
	setpriority(PRIO_PROCESS, (id_t)gettid_(), 19);
	spinning[n] = &r.count;
	v_tick();
	ret = victim_regs_spin(&r);
	spinning[n] = NULL;
	v_bad("thread %d: register %llu changed (100 + n: general register n; 200 and up: "
	      "special ones; 1000: vectors)",
	      gettid_(), (unsigned long long)ret);
	return NULL;
}

const struct scenario cpu_scenarios[] = {
	{},
};
