/* SPDX-License-Identifier: MIT */
/*
 * Threads that hold known values in every register of an aarch64 CPU and compare them for ever.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/victims/victim/registers.h"
#include "tests/victims/victim/regs_aarch64.h"
#include "tests/victims/victim/shadow.h"
#include "tests/victims/victim/victim.h"

enum { HAS_PACA = 1 << 30 /* AT_HWCAP */ };

static void write_facts(const struct victim_regs *r)
{
	pid_t tid = gettid_();
	char text[33];

	for (int i = 6; i < 31; i++)
		if (i != 12)
			v_fact("reg %d x%d %#llx", tid, i, (unsigned long long)r->gpr[i]);
	for (unsigned v = 0; v < 32 && r->mode != VICTIM_SME; v++) {
		/* As bytes in memory, lowest first. */
		for (unsigned b = 0; b < 16; b++)
			snprintf(text + 2 * b, 3, "%02x", r->z[v * r->vl + b]);
		v_fact("vec %d %u %s", tid, v, text);
	}
}

void *cpu_regs_thread(void *arg)
{
	uint64_t seed = 0x5eed0000 + (uint64_t)(uintptr_t)arg, ret;
	struct victim_regs r;
	int vl;

	memset(&r, 0, sizeof(r));
	r.mode = victim_regs_mode((uintptr_t)arg);
	/* A few have vectors as long as there are any. */
	vl = victim_regs_vl(r.mode, (uintptr_t)arg % 8 >= 2 && (uintptr_t)arg % 8 < 4);
	if (vl < 0)
		v_die("the length of vector registers");
	r.vl = (uint64_t)vl;
	fill(r.gpr, sizeof(r.gpr), seed);
	fill(r.z, sizeof(r.z), seed + 1);
	fill(r.p, sizeof(r.p), seed + 2);
	if (r.mode == VICTIM_SME) {
		r.za = (uint64_t)(uintptr_t)malloc(victim_regs_za_len(&r));
		if (!r.za)
			v_die("memory");
		fill((void *)(uintptr_t)r.za, victim_regs_za_len(&r), seed + 3);
	}
	victim_regs_complete(&r);
	write_facts(&r);
	/* They leave the CPU to everybody else: what they look at is their own registers. */
	setpriority(PRIO_PROCESS, (id_t)gettid_(), 19);
	spinning[(uintptr_t)arg] = &r.count;
	v_tick();
	ret = victim_regs_spin(&r);
	spinning[(uintptr_t)arg] = NULL;
	v_bad("thread %d, mode %u: register %llu changed (100 + n: general register n; 1000: a "
	      "vector, 1001: FPSR or FPCR, 1002: ZA, 1003: FPMR, 1004: POR_EL0, 1005: ZT0)",
	      gettid_(), r.mode, (unsigned long long)ret);
	return NULL;
}

/* --- pointer authentication: the keys, seen by what they sign ------------------------------- */

static uint64_t sign(unsigned key)
{
	uint64_t p = 0x200123456780ull, salt = 0x1122334455667788ull;

	switch (key) {
	case 0:
		__asm__(".arch armv8.3-a\npacia %0, %1" : "+r"(p) : "r"(salt));
		break;
	case 1:
		__asm__(".arch armv8.3-a\npacib %0, %1" : "+r"(p) : "r"(salt));
		break;
	case 2:
		__asm__(".arch armv8.3-a\npacda %0, %1" : "+r"(p) : "r"(salt));
		break;
	case 3:
		__asm__(".arch armv8.3-a\npacdb %0, %1" : "+r"(p) : "r"(salt));
		break;
	default:
		__asm__(".arch armv8.3-a\npacga %0, %0, %1" : "+r"(p) : "r"(salt));
	}
	return p;
}

enum { NKEYS = 5, KEY_IB = 2 /* PR_PAC_APIBKEY */ };
static uint64_t signed_once[NKEYS];
static bool off;

static void pac_setup(void)
{
	if (!(getauxval(AT_HWCAP) & HAS_PACA))
		v_skip("this CPU has no pointer authentication");
	/* One key is switched off; nobody in here signs with it. */
	off = prctl(PR_PAC_SET_ENABLED_KEYS, KEY_IB, 0, 0, 0) == 0;
	for (unsigned i = 0; i < NKEYS; i++)
		signed_once[i] = sign(i);
}

static void pac_check(void)
{
	for (unsigned i = 0; i < NKEYS; i++)
		if (sign(i) != signed_once[i])
			v_bad("pac: key %u of the image signs %#llx, this one %#llx", i,
			      (unsigned long long)signed_once[i], (unsigned long long)sign(i));
	if (off && prctl(PR_PAC_GET_ENABLED_KEYS, 0, 0, 0, 0) & KEY_IB)
		v_bad("pac: the key that was switched off is on again");
}

/* --- the tagged address ABI ----------------------------------------------------------------- */

static void tagged_setup(void)
{
	if (prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE, 0, 0, 0))
		v_skip("no tagged addresses here");
}

static void tagged_check(void)
{
	if (prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0) != PR_TAGGED_ADDR_ENABLE)
		v_bad("tagged: addresses with tags are not taken any more");
}

/* All but what a call takes, returns or spoils, and the pointer to the table. */
const struct victim_rest_cpu cpu_rest = {
	.gpr = {[2] = "x2",   [3] = "x3",   [4] = "x4",	  [5] = "x5",	[6] = "x6",   [7] = "x7",
		[9] = "x9",   [10] = "x10", [11] = "x11", [12] = "x12", [13] = "x13", [14] = "x14",
		[15] = "x15", [16] = "x16", [17] = "x17", [18] = "x18", [20] = "x20", [21] = "x21",
		[22] = "x22", [23] = "x23", [24] = "x24", [25] = "x25", [26] = "x26", [27] = "x27",
		[28] = "x28", [29] = "x29", [30] = "x30"},
	.nvecs = 32,
	.facts = true,
};

bool cpu_rest_vectors(void)
{
	return true;
}

const struct scenario cpu_scenarios[] = {
	{"pac", "pointer authentication with one key switched off", pac_setup, pac_check},
	{"tagged", "system calls take addresses with tags", tagged_setup, tagged_check},
	{"mte", "memory with tags, of a process, a thread and a child", mte_setup, mte_check},
	SHADOW_SCENARIO,
	{},
};
