/* SPDX-License-Identifier: MIT */
/*
 * What regs_CPU.c gives to registers.c: threads that hold known values in every register.
 */
#ifndef VICTIM_REGISTERS_H
#define VICTIM_REGISTERS_H

#include <stdint.h>

#include "tests/victims/victim/rest.h"
#include "tests/victims/victim/victim.h"

enum { MAX_THREADS = 64 };

/* By number of the thread: a word that it counts up whenever it has compared all. NULL: it ended.
 */
extern volatile uint64_t *_Atomic spinning[MAX_THREADS];

/*
 * Thread number @arg: puts known values in all registers, writes them as facts, sets spinning[],
 * calls v_tick() and compares for ever. What it finds wrong it tells by v_bad().
 */
void *cpu_regs_thread(void *arg);

/* regs_aarch64_tags.c */
void mte_setup(void);
void mte_check(void);

/* regs_x86_gdt.c */
void gdt_setup(void);
void gdt_check(void);

/* What this CPU alone has; ends with an empty one. */
extern const struct scenario cpu_scenarios[];

#endif
