/* SPDX-License-Identifier: MIT */
/* Entries of the GDT that are each thread's own. */
#include <errno.h>
#include <sys/ptrace.h>

#include "src/target/gather.h"

static bool has_some(const struct m_thread *t)
{
	for (int i = 0; i < M_TLS; i++)
		if (t->tls[i].base || t->tls[i].limit || t->tls[i].flags)
			return true;
	return false;
}

static int read_all(struct m_thread *t, struct err *err)
{
	const struct arch_gdt *g = arch_inject.gdt;
	static bool none; /* in this kernel */

	for (uint32_t i = 0; !none && i < g->n && i < M_TLS; i++) {
		uint32_t desc[4] = {0};

		if (ptrace((enum __ptrace_request)g->get, (pid_t)t->tid, g->first + i, desc) < 0) {
			if (errno != EIO)
				return err_set(err, errno, "read entry %u of the GDT of thread %u",
					       g->first + i, t->tid);
			none = true;
		} else if (desc[1] || desc[2] || desc[3] != g->none) {
			t->tls[i] = (struct m_tls){desc[1], desc[2], desc[3]};
		}
	}
	return 0;
}

int gdt_collect(struct m_proc *p, struct err *err)
{
	const struct arch_gdt *g = arch_inject.gdt;
	bool all = g && p->mm.nvmas && p->mm.vmas[0].start < g->reach;
	int ret = 0;

	for (uint32_t i = 0; g && ret == 0 && i < p->nthreads; i++) {
		struct m_thread *t = &p->threads[i];

		if (i == 0 || all || (t->nregsets && g->named(t->regsets[0].data)))
			ret = read_all(t, err);
		all |= i == 0 && has_some(t);
	}
	return ret;
}
