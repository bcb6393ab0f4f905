/* SPDX-License-Identifier: MIT */
/* Threads of the kill test's victim that are an AArch64 CPU's own. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/kill/kill.h"
#include "tests/e2e/kill/sequence.h"
#include "tests/victims/victim/regs_aarch64.h"

/* The ticker ends a round, so that the CPU is there for others, too. */
static struct victim_regs *_Atomic spinning[3];

void kill_end_rounds(void)
{
	for (int i = 0; i < 3; i++)
		if (spinning[i])
			*(volatile uint32_t *)&spinning[i]->stop = 1;
}

/*
 * One thread has the most that the CPU has, streaming mode and its matrix say, the others SVE;
 * after the first one vectors are as long as there are any, so that they are not in a frame's own
 * room.
 */
void *kill_registers(void *arg)
{
	struct kill_slot *s = arg;
	unsigned n = (unsigned)(s->name[strlen(s->name) - 1] - '0');
	struct victim_regs r;

	memset(&r, 0, sizeof(r));
	r.mode = victim_regs_mode(n & 1);
	r.vl = (uint64_t)victim_regs_vl(r.mode, n > 0);
	kill_fill(r.gpr, sizeof(r.gpr), (uint64_t)s->tid);
	kill_fill(r.z, sizeof(r.z), (uint64_t)s->tid + 1);
	kill_fill(r.p, sizeof(r.p), (uint64_t)s->tid + 2);
	if (r.mode == VICTIM_SME) {
		r.za = (uint64_t)(uintptr_t)malloc(victim_regs_za_len(&r));
		kill_fill((void *)(uintptr_t)r.za, victim_regs_za_len(&r), (uint64_t)s->tid + 3);
	}
	victim_regs_complete(&r);
	s->far = &r.count;
	spinning[n] = &r;
	for (;;) {
		uint64_t ret = victim_regs_spin(&r);

		if (ret)
			kill_bad(s,
				 "mode %u: register %lu has changed (100 + n: general register n; "
				 "1000: a vector, 1001: FPSR or FPCR, 1002: ZA, 1003: FPMR, "
				 "1004: POR_EL0, 1005: ZT0)",
				 r.mode, (unsigned long)ret);
		usleep(1000);
		r.stop = 0;
	}
	return NULL;
}

int kill_increment(void)
{
	volatile struct rseq *area =
		(volatile struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	uint64_t *counter = &percpu[area->cpu_id_start].n;
	uint32_t cpu = area->cpu_id_start;
	int ret;

	/* The body takes long, so that stops fall into it: a loop between load and store. */
	__asm__ volatile("	.pushsection __rseq_cs, \"aw\"\n"
			 "	.balign 32\n"
			 "3:	.long 0, 0\n"
			 "	.quad 1f, 2f - 1f, 4f\n"
			 "	.popsection\n"
			 "	mov %w[ret], #1\n"
			 "	adrp x9, 3b\n"
			 "	add x9, x9, :lo12:3b\n"
			 "	str x9, %[cs]\n"
			 "1:	ldr w10, %[cpu_now]\n"
			 "	cmp w10, %w[cpu]\n"
			 "	b.ne 7f\n"
			 "	ldr x9, [%[counter]]\n"
			 "	mov w10, #300\n"
			 "6:	subs w10, w10, #1\n"
			 "	b.ne 6b\n"
			 "	add x9, x9, #1\n"
			 "	str x9, [%[counter]]\n"
			 "2:	mov %w[ret], #0\n"
			 "	b 7f\n"
			 "	.inst %c[sig]\n"
			 "4:	mov %w[ret], #1\n"
			 "7:\n"
			 : [ret] "=&r"(ret), [cs] "=m"(area->rseq_cs)
			 : [cpu] "r"(cpu), [cpu_now] "m"(area->cpu_id), [counter] "r"(counter),
			   [sig] "i"(RSEQ_SIG)
			 : "x9", "x10", "memory", "cc");
	return ret;
}

const struct kill_more kill_more[] = {
	{"sequence0", sequence},
	{"sequence1", sequence},
	{NULL, NULL},
};
