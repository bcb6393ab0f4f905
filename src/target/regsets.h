/* SPDX-License-Identifier: MIT */
/*
 * Every register set of a stopped thread, those that this build has never heard of among them: they
 * are kept as they are.
 */
#ifndef TARGET_REGSETS_H
#define TARGET_REGSETS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "arch/arch.h"
#include "base/err.h"
#include "src/image/model.h"

/* What a kernel has, the same for all threads: found out with the first one. */
struct regsets {
	const struct arch_desc *arch;
	/* As PTRACE_GETREGSET of a thread: bytes that it has, -errno. */
	int64_t (*read)(pid_t tid, uint32_t note, void *buf, size_t len);
	bool looked;
	uint64_t absent;  /* of the list: bit n is the set at n + 1 of arch->regsets */
	uint64_t unheard; /* not in the list, and there: bit n is arch->first_note + n */
};

/* Of this machine. */
struct regsets *regsets_host(void);

/* Appends to @t, whose tid is known, all sets but the first one of the list. */
int regsets_read(struct regsets *r, struct model *m, struct m_thread *t, struct err *err);

/* Appends one. */
int regsets_add(struct model *m, struct m_thread *t, uint32_t note, const void *data, size_t len,
		struct err *err);

/* The set as the CPU's list has it; NULL: it does not. */
const struct arch_regset *regsets_listed(const struct arch_desc *arch, uint32_t note);

#endif
