/* SPDX-License-Identifier: MIT */
/*
 * Threads that hold known values in every register of a ppc64le CPU and compare them for ever.
 */
#include <string.h>
#include <sys/resource.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/regs_ppc64.h"
#include "tests/victims/victim/victim.h"

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
	victim_regs_complete(&r, n);
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

/* All but what a call takes, returns or spoils, and the pointer to the table. */
const struct victim_rest_cpu cpu_rest = {
	.gpr = {[14] = "r14",
		[15] = "r15",
		[16] = "r16",
		[17] = "r17",
		[18] = "r18",
		[19] = "r19",
		[20] = "r20",
		[21] = "r21",
		[22] = "r22",
		[23] = "r23",
		[24] = "r24",
		[25] = "r25",
		[26] = "r26",
		[27] = "r27",
		[28] = "r28",
		[29] = "r29",
		[30] = "r30"},
	.nvecs = 64,
	.facts = false,
};

bool cpu_rest_vectors(void)
{
	return true;
}

const struct scenario cpu_scenarios[] = {
	{},
};
