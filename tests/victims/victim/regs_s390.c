/* SPDX-License-Identifier: MIT */
/*
 * Threads that hold known values in every register of an s390x CPU and compare them for ever.
 */
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/regs_s390.h"
#include "tests/victims/victim/victim.h"

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
	victim_regs_complete(&r, (uint32_t)n);
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

/* All but what a call takes, returns or spoils, and the pointer to the table. */
const struct victim_rest_cpu cpu_rest = {
	.gpr = {[0] = "r0",
		[1] = "r1",
		[4] = "r4",
		[5] = "r5",
		[6] = "r6",
		[7] = "r7",
		[8] = "r8",
		[9] = "r9",
		[10] = "r10",
		[11] = "r11",
		[12] = "r12",
		[14] = "r14"},
	.nvecs = 32,
	.facts = false,
};

bool cpu_rest_vectors(void)
{
	enum { HWCAP_VX = 1 << 11 }; /* Linux arch/s390/include/asm/elf.h */

	return getauxval(AT_HWCAP) & HWCAP_VX;
}

const struct scenario cpu_scenarios[] = {
	{},
};
