/* SPDX-License-Identifier: MIT */
/* Threads of the kill test's victim that are an x86-64 CPU's own. */
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/kill/kill.h"
#include "tests/e2e/kill/sequence.h"

/* tests/victims/victim/regs_x86.S: every register, compared for ever. */
struct victim_regs {
	uint64_t saved_sp;
	volatile uint64_t count;
	volatile uint32_t stop;
	uint32_t mode; /* 0 SSE, 1 AVX, 2 AVX-512 */
	uint32_t mxcsr, fpucw;
	uint64_t gpr[16];
	uint64_t k[8], mm[8];
	uint64_t unused[4];
	uint64_t vec[32][8];
	uint64_t scratch[32][8];
	uint64_t scratch_k[8], scratch_mm[8];
	uint64_t control[8];
};
_Static_assert(offsetof(struct victim_regs, control) == 4544, "regs_x86.S");

uint64_t victim_regs_spin(struct victim_regs *r);

/* The ticker ends a round, so that the CPU is there for others, too. */
static struct victim_regs *_Atomic spinning[3];

void kill_end_rounds(void)
{
	for (int i = 0; i < 3; i++)
		if (spinning[i])
			spinning[i]->stop = 1;
}

void *kill_registers(void *arg)
{
	struct kill_slot *s = arg;
	struct victim_regs r;

	memset(&r, 0, sizeof(r));
	kill_fill(r.gpr, sizeof(r.gpr), (uint64_t)s->tid);
	r.gpr[4] = (uint64_t)(uintptr_t)&r;
	kill_fill(r.vec, sizeof(r.vec), (uint64_t)s->tid + 1);
	kill_fill(r.mm, sizeof(r.mm), (uint64_t)s->tid + 2);
	r.mode = __builtin_cpu_supports("avx") ? 1 : 0;
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512f")) {
		r.mode = 2;
		kill_fill(r.k, sizeof(r.k), (uint64_t)s->tid + 3);
	}
	r.k[0] = 0;
	memcpy(r.scratch, r.vec, sizeof(r.vec));
	memcpy(r.scratch_k, r.k, sizeof(r.k));
	r.mxcsr = 0x7f80;
	r.fpucw = 0x0f7f;
	s->far = &r.count;
	spinning[s->name[strlen(s->name) - 1] - '0'] = &r;
	for (;;) {
		uint64_t ret = victim_regs_spin(&r);

		if (ret)
			kill_bad(s, "register %lu has changed (100 + n: general register n)",
				 (unsigned long)ret);
		usleep(1000);
		r.stop = 0;
	}
	return NULL;
}

/* The 128 bytes below the stack pointer belong to the function. */
static void *red_zone(void *arg)
{
	struct kill_slot *s = arg;
	uint64_t wrong;

	for (;;) {
		uint64_t rounds = 50000;

		__asm__ volatile("	mov $0x5a5a0001, %%eax\n"
				 "	mov %%rax, -8(%%rsp)\n"
				 "	mov $0x5a5a0002, %%eax\n"
				 "	mov %%rax, -64(%%rsp)\n"
				 "	mov $0x5a5a0003, %%eax\n"
				 "	mov %%rax, -128(%%rsp)\n"
				 "	xor %[wrong], %[wrong]\n"
				 "1:	cmpq $0x5a5a0001, -8(%%rsp)\n"
				 "	jne 2f\n"
				 "	cmpq $0x5a5a0002, -64(%%rsp)\n"
				 "	jne 2f\n"
				 "	cmpq $0x5a5a0003, -128(%%rsp)\n"
				 "	jne 2f\n"
				 "	dec %[rounds]\n"
				 "	jnz 1b\n"
				 "	jmp 3f\n"
				 "2:	mov $1, %[wrong]\n"
				 "3:\n"
				 : [wrong] "=&r"(wrong), [rounds] "+&r"(rounds)
				 :
				 : "rax", "memory", "cc");
		if (wrong)
			kill_bad(s, "the red zone has changed");
		atomic_fetch_add(&s->count, 1);
		kill_rest();
	}
	return NULL;
}

static volatile struct rseq *rseq_area(void)
{
	return (volatile struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

int kill_increment(void)
{
	volatile struct rseq *area = rseq_area();
	uint64_t *counter = &percpu[area->cpu_id_start].n;
	uint32_t cpu = area->cpu_id_start;
	int ret;

	/* The body takes long, so that stops fall into it: a loop between load and store. */
	__asm__ volatile("	.pushsection __rseq_cs, \"aw\"\n"
			 "	.balign 32\n"
			 "3:	.long 0, 0\n"
			 "	.quad 1f, 2f - 1f, 4f\n"
			 "	.popsection\n"
			 "	mov $1, %[ret]\n"
			 "	lea 3b(%%rip), %%rax\n"
			 "	mov %%rax, %[cs]\n"
			 "1:	cmp %[cpu], %[cpu_now]\n"
			 "	jne 7f\n"
			 "	mov (%[counter]), %%rax\n"
			 "	mov $300, %%ecx\n"
			 "6:	dec %%ecx\n"
			 "	jnz 6b\n"
			 "	inc %%rax\n"
			 "	mov %%rax, (%[counter])\n"
			 "2:	xor %[ret], %[ret]\n"
			 "	jmp 7f\n"
			 "	.long %c[sig]\n"
			 "4:	mov $1, %[ret]\n"
			 "7:\n"
			 : [ret] "=&r"(ret), [cs] "=m"(area->rseq_cs)
			 : [cpu] "r"(cpu), [cpu_now] "m"(area->cpu_id), [counter] "r"(counter),
			   [sig] "i"(RSEQ_SIG)
			 : "rax", "rcx", "memory", "cc");
	return ret;
}

const struct kill_more kill_more[] = {
	{"red-zone", red_zone},
	{"sequence0", sequence},
	{"sequence1", sequence},
	{NULL, NULL},
};
