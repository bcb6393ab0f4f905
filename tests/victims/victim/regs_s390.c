/* SPDX-License-Identifier: MIT */
/*
 * Threads that hold known values in every register of an s390x CPU and compare them for ever.
 */
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/victim.h"

/* Offsets are known to regs_s390.S. */
struct victim_regs {
	uint64_t save_area[20]; /* r15 points here: a callee's, should there be one */
	uint64_t saved_sp;
	uint64_t count;
	uint32_t stop, vx;
	uint32_t fpc, cc; /* cc: condition code and program mask, as IPM tells them */
	uint64_t gpr[16];
	uint32_t acr[16]; /* the first two are the thread's pointer */
	uint64_t vec[32][2];
	uint64_t scratch[32][2];
	uint32_t scr_acr[16];
	uint32_t scr_fpc, scr_cc;
	uint64_t scr_gpr[2];
	uint64_t saved_fpr[8];
	uint32_t saved_acr[16];
	uint32_t saved_fpc, saved_cc;
} __attribute__((aligned(16)));
_Static_assert(offsetof(struct victim_regs, saved_sp) == 160, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, gpr) == 192, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, acr) == 320, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, vec) == 384, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, scratch) == 896, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, scr_acr) == 1408, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, scr_fpc) == 1472, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, scr_gpr) == 1480, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, saved_fpr) == 1496, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, saved_acr) == 1560, "regs_s390.S");
_Static_assert(offsetof(struct victim_regs, saved_fpc) == 1624, "regs_s390.S");

uint64_t victim_regs_spin(struct victim_regs *r);

enum { HWCAP_VX = 1 << 11 }; /* Linux arch/s390/include/asm/elf.h */

static void write_facts(const struct victim_regs *r)
{
	pid_t tid = gettid_();

	/* r0 and r1 are scratch of the loop's. */
	for (int i = 2; i < 16; i++)
		v_fact("reg %d r%d %#llx", tid, i, (unsigned long long)r->gpr[i]);
	for (int i = 2; i < 16; i++)
		v_fact("reg %d a%d %#x", tid, i, r->acr[i]);
}

void *cpu_regs_thread(void *arg)
{
	const uint64_t n = (uint64_t)(uintptr_t)arg;
	struct victim_regs r;
	uint64_t ret;

	memset(&r, 0, sizeof(r));
	fill(r.gpr, sizeof(r.gpr), 0x5eed0000 + n);
	fill(r.acr, sizeof(r.acr), 0x5eed1000 + n);
	fill(r.vec, sizeof(r.vec), 0x5eed2000 + n);
	r.gpr[15] = (uint64_t)(uintptr_t)&r;
	__asm__("ear %0, %%a0\n\tear %1, %%a1" : "=d"(r.acr[0]), "=d"(r.acr[1]));
	r.vx = (getauxval(AT_HWCAP) & HWCAP_VX) != 0;
	memcpy(r.scratch, r.vec, sizeof(r.vec));
	r.fpc = 0x00000030 | (uint32_t)n % 4; /* how to round, decimal and binary */
	r.cc = (uint32_t)n % 4 << 28;	      /* no trap of an overflow */
	write_facts(&r);
	/* They leave the CPU to everybody else: what they look at is their own registers. */
	setpriority(PRIO_PROCESS, (id_t)gettid_(), 19);
	spinning[n] = &r.count;
	v_tick();
	ret = victim_regs_spin(&r);
	spinning[n] = NULL;
	v_bad("thread %d: register %llu changed (100 + n: general register n; 200 and up: "
	      "condition code, FPC, access registers; 1000: vectors)",
	      gettid_(), (unsigned long long)ret);
	return NULL;
}

const struct scenario cpu_scenarios[] = {
	{},
};
