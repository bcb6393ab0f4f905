/* SPDX-License-Identifier: MIT */
/* Whether an image's processes can run on this CPU, before anything is made for them. */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "arch/arch.h"
#include "src/ops/restore.h"

enum {
	FEATURES_LEN = 192,
	MAX_SETS = 64, /* register sets of a thread: no CPU has as many */
};

static const struct arch_regset *known(uint32_t note)
{
	for (const struct arch_regset *a = arch_host()->regsets; a->note; a++)
		if (a->note == note)
			return a;
	return NULL;
}

/* --- what programs were told -------------------------------------------------------------------
 */

static void name_bits(uint64_t type, uint64_t bits, char *buf, size_t len)
{
	size_t at = 0;

	buf[0] = '\0';
	for (const struct arch_cap *c = arch_host()->caps; c && c->name; c++)
		if (c->type == type && bits & c->bit && at < len) {
			at += (size_t)snprintf(buf + at, len - at, "%s%s", at ? ", " : "", c->name);
			bits &= ~c->bit;
		}
	if (bits && at < len)
		snprintf(buf + at, len - at, "%s%s %#" PRIx64, at ? ", " : "",
			 type == AT_HWCAP ? "AT_HWCAP" : "AT_HWCAP2", bits);
}

static int check_hwcaps(const struct restore *r, const struct m_proc *p, struct err *err)
{
	const uint64_t *v = p->mm.auxv;
	char names[FEATURES_LEN];

	for (uint32_t i = 0; i + 1 < p->mm.nauxv; i += 2) {
		uint64_t lacks;

		if (v[i] != AT_HWCAP && v[i] != AT_HWCAP2)
			continue;
		lacks = v[i + 1] & ~getauxval(v[i]);
		if (v[i] == AT_HWCAP)
			lacks &= ~arch_host()->hwcap_other;
		if (!lacks)
			continue;
		name_bits(v[i], lacks, names, sizeof(names));
		err_fail(err, EOPNOTSUPP, ERR_ABI,
			 "pid %u (%s) was started on a CPU that has what this one lacks: %s",
			 p->pid, p->comm, names);
		err_hint(err, "--cpu-cap ^ins restores it all the same: it ends with SIGILL if it "
			      "has made use of that");
		return -EOPNOTSUPP;
	}
	return 0;
}

/* --- register sets -----------------------------------------------------------------------------
 */

static int check_vectors(const struct restore *r, const struct m_thread *t,
			 const struct m_regset *set, struct err *err)
{
	const struct arch_set s = {set->note, set->len, set->data};
	char names[FEATURES_LEN];
	bool used = false;

	if (!arch_inject.cpu_lacks || !arch_inject.cpu_lacks(&s, &used, names, sizeof(names)))
		return 0;
	if (used)
		return err_fail(err, EOPNOTSUPP, ERR_ABI,
				"thread %u has registers that this CPU lacks: %s", t->tid, names);
	if (r->opts->cpu_unchecked & RESTORE_CPU_FPU)
		return 0;
	err_fail(err, EOPNOTSUPP, ERR_ABI,
		 "thread %u ran on a CPU with registers that this one lacks: %s", t->tid, names);
	err_hint(err, "they are not in use; --cpu-cap ^fpu restores it all the same: it ends with "
		      "SIGILL if it comes to use them");
	return -EOPNOTSUPP;
}

static int check_set(const struct restore *r, const struct m_thread *t, const struct m_regset *set,
		     struct err *err)
{
	const struct arch_regset *a = known(set->note);

	if (!set->len || (a && (a->size ? set->len != a->size : set->len > a->max_size)))
		return err_fail(
			err, EBADMSG, ERR_IMAGE,
			"%s (%#x) of thread %u has %u bytes, which no such register set has",
			a ? a->name : "a register set", set->note, t->tid, set->len);
	return check_vectors(r, t, set, err);
}

static int check_thread(const struct restore *r, const struct m_thread *t, struct err *err)
{
	const struct arch_regset *gp = arch_host()->regsets;
	int ret = 0;

	if (t->nregsets > MAX_SETS)
		return err_fail(err, EBADMSG, ERR_IMAGE, "thread %u has %u register sets", t->tid,
				t->nregsets);
	if (!t->nregsets || t->regsets[0].note != gp->note)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"thread %u has no general registers of this CPU", t->tid);
	for (uint32_t i = 0; ret == 0 && i < t->nregsets; i++) {
		if (model_regset(t, t->regsets[i].note) != &t->regsets[i])
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"thread %u has register set %#x twice", t->tid,
					t->regsets[i].note);
		ret = check_set(r, t, &t->regsets[i], err);
	}
	return ret;
}

static int check_proc(const struct restore *r, const struct m_proc *p, struct err *err)
{
	int ret = 0;

	if (!(r->opts->cpu_unchecked & RESTORE_CPU_INS))
		ret = check_hwcaps(r, p, err);
	/* Of a leader that ended before its threads nothing is left. */
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		if (i || p->threads[i].nregsets)
			ret = check_thread(r, &p->threads[i], err);
	return ret;
}

int restore_check_cpu(const struct restore *r, struct err *err)
{
	const struct model *m = r->model;
	const struct arch_desc *image = arch_by_machine(m->elf_machine);
	int ret = 0;

	if (m->elf_machine != arch_host()->elf_machine)
		return err_fail(err, EOPNOTSUPP, ERR_ABI,
				"%s is an image of another CPU: %s, this is %s", r->opts->dir,
				image ? image->name : "unknown", arch_host()->name);
	if (m->page_size != (uint32_t)sysconf(_SC_PAGESIZE)) {
		err_fail(err, EOPNOTSUPP, ERR_ABI, "%s has pages of %u bytes, this kernel of %ld",
			 r->opts->dir, m->page_size, sysconf(_SC_PAGESIZE));
		err_hint(err, "addresses and lengths of mappings follow it: boot a kernel with "
			      "pages of that size");
		return -EOPNOTSUPP;
	}
	if (!m->nprocs)
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s holds no process", r->opts->dir);
	for (uint32_t i = 0; ret == 0 && i < m->nprocs; i++)
		if (m->procs[i].state != M_DEAD)
			ret = check_proc(r, &m->procs[i], err);
	return ret;
}
