/* SPDX-License-Identifier: MIT */
/* What a CPU lets a process have and no restore makes: findings. */
#include <errno.h>

#include "src/target/collect.h"
#include "src/target/gather.h"
#include "src/target/keys.h"

/* Registers that a restore could not put back. */
static int lost_sets(struct model *m, const struct m_proc *p, const struct m_thread *t)
{
	const char *lost = NULL;

	for (uint32_t i = 0; arch_inject.set_lost && !lost && i < t->nregsets; i++)
		lost = arch_inject.set_lost(&(struct arch_set){
			t->regsets[i].note, t->regsets[i].len, t->regsets[i].data});
	return lost ? finding_fatal(m, p->pid, "thread %u: %s", t->tid, lost) : 0;
}

int odd_collect(struct model *m, const struct m_proc *p, struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		ret = lost_sets(m, p, &p->threads[i]);
	for (uint32_t i = 0; ret == 0 && i < ARCH_ODDITIES_MAX; i++)
		if (p->oddities >> i & 1)
			ret = finding_fatal(m, p->pid, "%s: not supported",
					    arch_inject.oddities[i].what);
	if (ret == 0 && arch_inject.keys_lost && keys_used(&p->mm))
		ret = finding_fatal(m, p->pid, "it has protection keys: %s", arch_inject.keys_lost);
	return ret < 0 ? err_set(err, ENOMEM, "findings of pid %u", p->pid) : 0;
}
