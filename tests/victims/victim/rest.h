/* SPDX-License-Identifier: MIT */
/*
 * Known values in the registers of a thread that sleeps: all that a system call leaves alone.
 */
#ifndef VICTIM_REST_H
#define VICTIM_REST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { REST_GPRS = 32, REST_VECS = 64 };

/* Offsets are known to rest_CPU.S. */
struct victim_rest {
	struct timespec time;
	uint64_t vectors; /* 0: they are not held */
	uint64_t unused;
	uint64_t gpr[REST_GPRS];
	uint64_t vec[REST_VECS][2];
	uint64_t got_gpr[REST_GPRS];
	uint64_t got_vec[REST_VECS][2];
	uint64_t saved[96];
} __attribute__((aligned(16)));
_Static_assert(sizeof(struct timespec) == 16, "rest_CPU.S");
_Static_assert(offsetof(struct victim_rest, vectors) == 16, "rest_CPU.S");
_Static_assert(offsetof(struct victim_rest, gpr) == 32, "rest_CPU.S");
_Static_assert(offsetof(struct victim_rest, vec) == 288, "rest_CPU.S");
_Static_assert(offsetof(struct victim_rest, got_gpr) == 1312, "rest_CPU.S");
_Static_assert(offsetof(struct victim_rest, got_vec) == 1568, "rest_CPU.S");
_Static_assert(offsetof(struct victim_rest, saved) == 2592, "rest_CPU.S");

/* Sleeps for @r->time with registers from @r->gpr and @r->vec, and takes them from there to got_.
 */
void victim_regs_rest(struct victim_rest *r);

/* regs_CPU.c */
struct victim_rest_cpu {
	const char *gpr[REST_GPRS]; /* NULL: not held */
	unsigned nvecs;
	bool facts; /* vectors are facts, too */
};
extern const struct victim_rest_cpu cpu_rest;
/* Whether this machine has them. */
bool cpu_rest_vectors(void);

#endif
