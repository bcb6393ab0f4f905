/* SPDX-License-Identifier: MIT */
/* Registers that a process must have asked for. */
#include "src/target/put.h"
#include "src/target/put_list.h"

static uint64_t in_use(const struct m_proc *p, const struct arch_permits *a)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < p->nthreads; i++)
		for (uint32_t k = 0; k < p->threads[i].nregsets; k++) {
			const struct m_regset *set = &p->threads[i].regsets[k];

			bits |= a->in_use(&(struct arch_set){set->note, set->len, set->data});
		}
	return bits;
}

int put_permits(struct remote *r, const struct m_proc *p, const struct arch_permits *a,
		struct err *err)
{
	static struct list list;
	uint64_t bits = a ? a->here() : 0;
	int ret;

	if (bits)
		bits &= a->bits & (p->permitted | in_use(p, a));
	if (!bits)
		return 0;
	list_begin(&list);
	for (uint64_t bit = 0; bit < 64; bit++)
		if (bits >> bit & 1)
			list_add(&list, a->nr, a->ask, "ask for registers")->args[1] = bit;
	ret = list_run(&list, r, r->first, err);
	if (ret < 0)
		err_hint(err, "process %u was permitted to use %s where it was dumped", p->pid,
			 a->name);
	return ret;
}
