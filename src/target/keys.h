/* SPDX-License-Identifier: MIT */
/*
 * Protection keys of memory: each mapping has one, and a register of each thread says what it may
 * do with memory of which key. pkeys(7), Linux 4.9: x86-64 (PKU), ppc64 (AMR); 6.12: arm64 (POE).
 *
 *	key	0		what all memory has at first
 *		1, 2, ...	allocated by the program, the lowest that is free
 *		one of these	taken by the kernel for memory that may be executed and nothing
 *				else (x86-64, ppc64), when there is the first such mapping; the
 *				program can neither free it nor give it to other memory
 *
 * Which of them a process has allocated only the process itself can find out.
 */
#ifndef TARGET_KEYS_H
#define TARGET_KEYS_H

#include <stdint.h>

#include "src/image/model.h"
#include "src/target/script.h"

/* Those that a process here can allocate: bit n is key n. 0: CPU or kernel has none. */
uint32_t keys_here(void);

/* For keys_here(): does the process whose batch this is have them? */
struct keys_questions {
	int i[M_PKEYS]; /* of its calls, -1: not asked */
};
void keys_ask(struct keys_questions *q, struct batch *b);
uint32_t keys_answer(const struct keys_questions *q, const struct batch *b);

/* All that @mm has, on mappings or allocated. 0: it knows nothing of keys. */
uint32_t keys_used(const struct m_mm *mm);
/* The kernel's own one of them, as its bit; 0: none. */
uint32_t keys_kernels(const struct m_mm *mm);

/* With what @v is mapped until it has its key: to map it as it is may have the kernel take one. */
uint32_t keys_prot_before(const struct m_mm *mm, const struct m_vma *v);

/*
 * The calls that give mappings their keys, in a process that has none, and leave those allocated
 * that are to be: one @add for each. @here: keys_here() of that process.
 */
typedef void keys_add(void *arg, const struct script_call *call);
void keys_plan(const struct m_mm *mm, uint32_t here, keys_add *add, void *arg);

#endif
