/* SPDX-License-Identifier: MIT */
/*
 * Threads that hold known values in every register of an x86-64 CPU and compare them for ever.
 */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/shadow.h"
#include "tests/victims/victim/victim.h"

/* Offsets are known to regs_x86.S. */
struct victim_regs {
	uint64_t saved_sp;
	uint64_t count;
	uint32_t stop;
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
_Static_assert(offsetof(struct victim_regs, vec) == 320, "regs_x86.S");
_Static_assert(offsetof(struct victim_regs, scratch) == 2368, "regs_x86.S");
_Static_assert(offsetof(struct victim_regs, control) == 4544, "regs_x86.S");

uint64_t victim_regs_spin(struct victim_regs *r);

enum { ARCH_SET_GS = 0x1001 };
static const char *const gpr_names[16] = {
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15",
};

static unsigned cpu_mode(void)
{
	if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512f"))
		return 2;
	return __builtin_cpu_supports("avx") ? 1 : 0;
}

static void write_facts(const struct victim_regs *r)
{
	pid_t tid = gettid_();
	unsigned words = r->mode == 2 ? 8 : r->mode ? 4 : 2;
	char text[160];

	/* rax is scratch while vectors are compared: checked by the loop, not a fact. */
	for (int i = 1; i < 16; i++)
		v_fact("reg %d %s %#llx", tid, gpr_names[i], (unsigned long long)r->gpr[i]);
	v_fact("reg %d gs_base %#llx", tid, (unsigned long long)(uintptr_t)r);
	v_fact("mxcsr %d %#x", tid, r->mxcsr);
	v_fact("fpucw %d %#x", tid, r->fpucw);
	for (unsigned v = 0; v < (r->mode == 2 ? 32 : 16); v++) {
		/* As bytes in memory, lowest first. */
		for (unsigned b = 0; b < words * 8; b++)
			snprintf(text + 2 * b, 3, "%02x", ((const uint8_t *)r->vec[v])[b]);
		v_fact("vec %d %u %s", tid, v, text);
	}
}

void *cpu_regs_thread(void *arg)
{
	struct victim_regs r;
	uint64_t seed = 0x5eed0000 + (uint64_t)(uintptr_t)arg;
	uint64_t ret;

	memset(&r, 0, sizeof(r));
	fill(r.gpr, sizeof(r.gpr), seed);
	r.gpr[4] = (uint64_t)(uintptr_t)&r;
	fill(r.vec, sizeof(r.vec), seed + 1);
	fill(r.mm, sizeof(r.mm), seed + 2);
	r.mode = cpu_mode();
	if (arg && r.mode)
		r.mode = (uint32_t)(uintptr_t)arg % (r.mode + 1);
	if (r.mode == 2)
		fill(r.k, sizeof(r.k), seed + 3);
	r.k[0] = 0;
	memcpy(r.scratch, r.vec, sizeof(r.vec));
	memcpy(r.scratch_k, r.k, sizeof(r.k));
	r.mxcsr = 0x7f80; /* round to zero */
	r.fpucw = 0x0f7f; /* round to zero */
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, &r))
		v_die("arch_prctl(ARCH_SET_GS)");
	write_facts(&r);
	/* They leave the CPU to everybody else: what they look at is their own registers. */
	setpriority(PRIO_PROCESS, (id_t)gettid_(), 19);
	spinning[(uintptr_t)arg] = &r.count;
	v_tick();
	ret = victim_regs_spin(&r);
	spinning[(uintptr_t)arg] = NULL;
	v_bad("thread %d: register %llu changed (100 + n: general register n; 1000: another)",
	      gettid_(), (unsigned long long)ret);
	return NULL;
}

/* --- AMX: eight tiles, 8 KiB of state that appears in the xstate only when it is used
 * ------------------ */

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_TILEDATA = 18, TILE = 1024 };

static __attribute__((target("amx-tile"))) void tiles_load(const uint8_t *config, const char *data)
{
	_tile_loadconfig(config);
	_tile_loadd(0, data, 64);
	_tile_loadd(1, data + TILE, 64);
	_tile_loadd(7, data + 7 * TILE, 64);
}

static __attribute__((target("amx-tile"))) void tiles_store(char *data)
{
	_tile_stored(0, data, 64);
	_tile_stored(1, data + TILE, 64);
	_tile_stored(7, data + 7 * TILE, 64);
}

static void *amx_thread(void *arg)
{
	static char want[8 * TILE], got[8 * TILE];
	/* Palette 1: every tile 16 rows of 64 bytes. */
	uint8_t config[64] = {1};

	for (int i = 0; i < 8; i++) {
		config[16 + 2 * i] = 64;
		config[48 + i] = 16;
	}
	setpriority(PRIO_PROCESS, (id_t)gettid_(), 19);
	fill(want, sizeof(want), 0xa3);
	tiles_load(config, want);
	v_tick();
	for (;;) {
		tiles_store(got);
		if (memcmp(got, want, 2 * TILE) || memcmp(got + 7 * TILE, want + 7 * TILE, TILE)) {
			v_bad("amx: the tiles have changed");
			return NULL;
		}
	}
	return NULL;
}

static void amx_setup(void)
{
	if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILEDATA))
		v_skip("this CPU or kernel has no AMX tiles");
	start_thread(amx_thread, NULL);
	v_await_ticks(1);
}

/* All but what a call takes, returns or spoils, and the pointer to the table. */
const struct victim_rest_cpu cpu_rest = {
	.gpr = {[2] = "rdx",
		[5] = "rbp",
		[8] = "r8",
		[9] = "r9",
		[10] = "r10",
		[12] = "r12",
		[13] = "r13",
		[14] = "r14",
		[15] = "r15"},
	.nvecs = 16,
	.facts = true,
};

bool cpu_rest_vectors(void)
{
	return true;
}

const struct scenario cpu_scenarios[] = {
	{"amx", "a thread with data in AMX tiles", amx_setup},
	{"gdt", "entries of the GDT that are a thread's own", gdt_setup, gdt_check},
	SHADOW_SCENARIO,
	{},
};
