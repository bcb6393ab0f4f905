/* SPDX-License-Identifier: MIT */
/* Threads of the kill test's victim that are a ppc64le CPU's own. */
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "tests/e2e/kill/kill.h"
#include "tests/e2e/kill/sequence.h"
#include "tests/victims/victim/regs_ppc64.h"

/* The ticker ends a round, so that the CPU is there for others, too. */
static struct victim_regs *_Atomic spinning[3];

void kill_end_rounds(void)
{
	for (int i = 0; i < 3; i++)
		if (spinning[i])
			*(volatile uint32_t *)&spinning[i]->stop = 1;
}

void *kill_registers(void *arg)
{
	struct kill_slot *s = arg;
	struct victim_regs r;

	memset(&r, 0, sizeof(r));
	kill_fill(r.gpr, sizeof(r.gpr), (uint64_t)s->tid);
	kill_fill(r.vec, sizeof(r.vec), (uint64_t)s->tid + 1);
	victim_regs_complete(&r, (uint64_t)s->tid);
	s->far = &r.count;
	spinning[s->name[strlen(s->name) - 1] - '0'] = &r;
	for (;;) {
		uint64_t ret = victim_regs_spin(&r);

		if (ret)
			kill_bad(s, "register %lu has changed (see regs_ppc64.S)",
				 (unsigned long)ret);
		usleep(1000);
		r.stop = 0;
	}
	return NULL;
}

/* The 288 bytes below the stack pointer belong to the function. */
static void *red_zone(void *arg)
{
	struct kill_slot *s = arg;
	uint64_t wrong;

	for (;;) {
		uint64_t rounds = 50000;

		__asm__ volatile("	lis 9, 0x5a5a\n"
				 "	std 9, -8(1)\n"
				 "	addi 10, 9, 1\n"
				 "	std 10, -144(1)\n"
				 "	addi 11, 9, 2\n"
				 "	std 11, -288(1)\n"
				 "	mtctr %[rounds]\n"
				 "	li %[wrong], 0\n"
				 "1:	ld 0, -8(1)\n"
				 "	cmpd 0, 9\n"
				 "	bne 2f\n"
				 "	ld 0, -144(1)\n"
				 "	cmpd 0, 10\n"
				 "	bne 2f\n"
				 "	ld 0, -288(1)\n"
				 "	cmpd 0, 11\n"
				 "	bne 2f\n"
				 "	bdnz 1b\n"
				 "	b 3f\n"
				 "2:	li %[wrong], 1\n"
				 "3:\n"
				 : [wrong] "=&r"(wrong)
				 : [rounds] "r"(rounds)
				 : "r0", "r9", "r10", "r11", "ctr", "cr0", "memory");
		if (wrong)
			kill_bad(s, "the red zone has changed");
		atomic_fetch_add(&s->count, 1);
		kill_rest();
	}
	return NULL;
}

extern const struct rseq_cs kill_sequence;

/* The body takes long, so that stops fall into it: a loop between load and store. */
__attribute__((noinline)) int kill_increment(void)
{
	volatile struct rseq *area = (volatile struct rseq *)((char *)arch_self() + __rseq_offset);
	uint32_t cpu = area->cpu_id_start;
	uint64_t *counter = &percpu[cpu].n;
	int ret;

	__asm__ volatile("	.pushsection .data.rel.ro, \"aw\"\n"
			 "	.balign 32\n"
			 "	.globl kill_sequence\n"
			 "kill_sequence:\n"
			 "	.long 0, 0\n"
			 "	.quad 1f, 2f - 1f, 4f\n"
			 "	.popsection\n"
			 "	std %[sequence], %c[cs](%[area])\n"
			 "1:	lwz 9, %c[now](%[area])\n"
			 "	cmpw 9, %[cpu]\n"
			 "	bne 4f\n"
			 "	ld 9, 0(%[counter])\n"
			 "	li 10, 300\n"
			 "	mtctr 10\n"
			 "6:	bdnz 6b\n"
			 "	addi 9, 9, 1\n"
			 "	std 9, 0(%[counter])\n"
			 "2:	li %[ret], 0\n"
			 "	b 7f\n"
			 "	.long %c[sig]\n"
			 "4:	li %[ret], 1\n"
			 "7:\n"
			 : [ret] "=&r"(ret)
			 : [sequence] "r"(&kill_sequence), [area] "b"(area), [cpu] "r"(cpu),
			   [counter] "b"(counter), [cs] "i"(offsetof(struct rseq, rseq_cs)),
			   [now] "i"(offsetof(struct rseq, cpu_id)), [sig] "i"(RSEQ_SIG)
			 : "r9", "r10", "ctr", "cr0", "memory");
	return ret;
}

const struct kill_more kill_more[] = {
	{"red-zone", red_zone},
	{"sequence0", sequence},
	{"sequence1", sequence},
	{NULL, NULL},
};
