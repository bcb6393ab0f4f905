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
#include "src/target/keys.h"
#include "src/target/put.h"

enum {
	FEATURES_LEN = 192,
	INS_LEN = 320, /* a message has room for as many names */
	MAX_SETS = 64, /* register sets of a thread: no CPU has as many */
};

static const struct arch_regset *known(uint32_t note)
{
	for (const struct arch_regset *a = arch_host()->regsets; a->note; a++)
		if (a->note == note)
			return a;
	return NULL;
}

/* --- what programs were told ---------------------------------------------------------------- */

/* AT_HWCAP3 and 4: Linux 6.9 */
static const struct {
	uint64_t type;
	const char *name;
} hwcaps[] = {
	{AT_HWCAP, "AT_HWCAP"}, {AT_HWCAP2, "AT_HWCAP2"}, {29, "AT_HWCAP3"}, {30, "AT_HWCAP4"}};

enum { NHWCAPS = sizeof(hwcaps) / sizeof(hwcaps[0]) };

/* NULL: @type tells of something else. */
static const char *hwcap_name(uint64_t type)
{
	for (unsigned i = 0; i < NHWCAPS; i++)
		if (hwcaps[i].type == type)
			return hwcaps[i].name;
	return NULL;
}

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
		snprintf(buf + at, len - at, "%s%s %#" PRIx64, at ? ", " : "", hwcap_name(type),
			 bits);
}

static int check_hwcaps(const struct restore *r, const struct m_proc *p, struct err *err)
{
	const uint64_t *v = p->mm.auxv;
	char names[FEATURES_LEN];

	for (uint32_t i = 0; i + 1 < p->mm.nauxv; i += 2) {
		uint64_t lacks;

		if (!hwcap_name(v[i]))
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

/* --- what programs ask the CPU -------------------------------------------------------------- */

/* As many as there is room for, then how many more there are. */
static void name_ins(uint32_t lacks[M_CPU_WORDS], char *buf, size_t len)
{
	enum { TAIL = 40 /* a word, and how many more */ };
	unsigned more = 0;
	size_t at = 0;

	buf[0] = '\0';
	for (const struct arch_ins *i = arch_host()->ins; i && i->name; i++) {
		if (!(lacks[i->word] >> i->bit & 1))
			continue;
		lacks[i->word] &= ~(1u << i->bit);
		if (at + TAIL + strlen(i->name) < len)
			at += (size_t)snprintf(buf + at, len - at, "%s%s", at ? ", " : "", i->name);
		else
			more++;
	}
	/* A later version's. */
	for (unsigned w = 0; w < M_CPU_WORDS; w++) {
		if (lacks[w] && !more && at + TAIL < len)
			at += (size_t)snprintf(buf + at, len - at, "%sword %u %#x", at ? ", " : "",
					       w, lacks[w]);
		else if (lacks[w])
			more++;
	}
	if (more)
		snprintf(buf + at, len - at, " and %u more", more);
}

/* Who has not asked for its registers cannot have made use of an instruction. */
static void drop_unasked(const struct model *m, uint32_t lacks[M_CPU_WORDS])
{
	uint64_t permitted = 0;

	for (uint32_t i = 0; i < m->nprocs; i++)
		permitted |= m->procs[i].permitted;
	for (const struct arch_ins *i = arch_host()->ins;
	     permitted && arch_inject.permits && i->name; i++)
		if (i->needs & arch_inject.permits->bits & ~permitted)
			lacks[i->word] &= ~(1u << i->bit);
}

static int check_ins(const struct restore *r, struct err *err)
{
	uint32_t has[ARCH_INS_WORDS], lacks[M_CPU_WORDS] = {0}, any = 0;
	const struct model *m = r->model;
	char names[INS_LEN];

	if (!m->ncpu_words || !arch_inject.ins_words)
		return 0;
	arch_inject.ins_words(has);
	for (uint32_t i = 0; i < m->ncpu_words; i++)
		lacks[i] = m->cpu_words[i] & ~(i < ARCH_INS_WORDS ? has[i] : 0);
	drop_unasked(m, lacks);
	for (uint32_t i = 0; i < m->ncpu_words; i++)
		any |= lacks[i];
	if (!any)
		return 0;
	name_ins(lacks, names, sizeof(names));
	err_fail(err, EOPNOTSUPP, ERR_ABI,
		 "%s was made on a CPU with instructions that this one lacks: %s", r->opts->dir,
		 names);
	err_hint(err, "--cpu-cap ^ins restores it all the same: a program that makes use of one "
		      "ends with SIGILL");
	return -EOPNOTSUPP;
}

/* --- register sets -------------------------------------------------------------------------- */

static int check_vectors(const struct restore *r, const struct m_proc *p, const struct m_thread *t,
			 const struct m_regset *set, struct err *err)
{
	const struct arch_set s = {set->note, set->len, set->data};
	char names[FEATURES_LEN];
	bool used = false;

	if (!arch_inject.cpu_lacks ||
	    !arch_inject.cpu_lacks(&s, p->permitted, &used, names, sizeof(names)))
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

/* Whose CPU's set @note is, when it is none of this one's; NULL: nobody knows. */
static const struct arch_desc *another(uint32_t note, const struct arch_regset **ret)
{
	static const struct arch_desc *const all[] = {&arch_x86_64, &arch_aarch64, &arch_ppc64,
						      &arch_s390};

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		for (const struct arch_regset *a = all[i]->regsets; a->note; a++)
			if (a->note == note) {
				*ret = a;
				return all[i];
			}
	return NULL;
}

static int check_set(const struct restore *r, const struct m_proc *p, const struct m_thread *t,
		     const struct m_regset *set, struct err *err)
{
	const struct arch_set s = {set->note, set->len, set->data};
	const struct arch_regset *a = known(set->note);
	const struct arch_desc *of = a ? NULL : another(set->note, &a);
	const char *wrong = NULL;
	int ret;

	if (of)
		return err_fail(err, EOPNOTSUPP, ERR_ABI,
				"%s (%#x) of thread %u is a register set of another CPU: %s",
				a->name, set->note, t->tid, of->name);
	if (!set->len || (a && (a->size ? set->len != a->size : set->len > a->max_size)))
		return err_fail(
			err, EBADMSG, ERR_IMAGE,
			"%s (%#x) of thread %u has %u bytes, which no such register set has",
			a ? a->name : "a register set", set->note, t->tid, set->len);
	ret = check_vectors(r, p, t, set, err);
	if (ret == 0 && arch_inject.set_wrong)
		wrong = arch_inject.set_wrong(&s);
	return wrong ? err_fail(err, EBADMSG, ERR_IMAGE, "%s (%#x) of thread %u %s",
				a ? a->name : "a register set", set->note, t->tid, wrong)
		     : ret;
}

/* --- shadow stacks -------------------------------------------------------------------------- */

enum { FEATURE_ON = 1 /* ARCH_SHSTK_SHSTK */ };

/* Whose mappings a process has. */
static const struct m_mm *mm_of(const struct model *m, const struct m_proc *p)
{
	for (uint32_t i = 0; p->shares_vm && i < m->nprocs; i++)
		if (m->procs[i].vm_id == p->vm_id && !m->procs[i].shares_vm &&
		    m->procs[i].state != M_DEAD)
			return &m->procs[i].mm;
	return &p->mm;
}

/* One that is empty has its pointer at the end. */
static bool in_shadow_stack(const struct m_mm *mm, uint64_t pointer)
{
	for (uint32_t i = 0; i < mm->nvmas; i++) {
		const struct m_vma *v = &mm->vmas[i];

		if (v->flags & M_VMF_SHSTK && v->start <= pointer && pointer <= v->end)
			return pointer % sizeof(uint64_t) == 0;
	}
	return false;
}

/* Whether @set has the pointer of one that is on. */
static bool is_on(const struct arch_shadow *s, const struct m_regset *set)
{
	uint64_t features;

	if (!set || set->len < s->pointer_off + sizeof(uint64_t))
		return false;
	memcpy(&features, set->data, sizeof(features));
	return !s->on || features & s->on;
}

/* The CPU ends a thread whose pointer points elsewhere at its first return. */
static int check_shadow(const struct restore *r, const struct m_proc *p, const struct m_thread *t,
			struct err *err)
{
	const struct arch_shadow *s = arch_inject.shadow;
	const struct m_regset *set = s ? model_regset(t, s->note) : NULL;
	const bool on = s && is_on(s, set), told = t->shadow & FEATURE_ON;
	uint64_t pointer;

	if (!s || (!on && !told))
		return 0;
	/* Where the set itself says whether it is on (no s->nr), only that without it is wrong. */
	if (on != told && (s->nr || !on))
		return err_fail(err, EBADMSG, ERR_IMAGE, "%s (%#x) of thread %u: %s",
				known(s->note)->name, s->note, t->tid,
				set ? "the pointer of a shadow stack that is not on"
				    : "a shadow stack is on and has no pointer");
	memcpy(&pointer, set->data + s->pointer_off, sizeof(pointer));
	if (!in_shadow_stack(mm_of(r->model, p), pointer))
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"%s (%#x) of thread %u points to %#" PRIx64
				", where the image has no shadow stack",
				known(s->note)->name, s->note, t->tid, pointer);
	if (put_has_shadow())
		return 0;
	err_fail(err, EOPNOTSUPP, ERR_ABI,
		 "thread %u has a shadow stack, which this CPU or its kernel does not have",
		 t->tid);
	err_hint(err, "no program can take it away from one that runs: restore it where `stasis "
		      "check` lists shadow stacks");
	return -EOPNOTSUPP;
}

/* --- all of it ------------------------------------------------------------------------------ */

static int check_thread(const struct restore *r, const struct m_proc *p, const struct m_thread *t,
			struct err *err)
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
		ret = check_set(r, p, t, &t->regsets[i], err);
	}
	return ret < 0 ? ret : check_shadow(r, p, t, err);
}

/* --- tags of memory ------------------------------------------------------------------------- */

static int check_tags(const struct m_proc *p, struct err *err)
{
	const struct arch_tags *t = arch_host()->tags;

	for (uint32_t i = 0; i < p->mm.nvmas; i++) {
		const struct m_vma *v = &p->mm.vmas[i];

		if (!(v->flags & M_VMF_TAGS) || arch_host_tags())
			continue;
		err_fail(err, EOPNOTSUPP, ERR_ABI,
			 "pid %u (%s) has memory with tags at %#" PRIx64
			 ", which this CPU or its kernel does not have: %s",
			 p->pid, p->comm, v->start, t ? t->name : "MTE of aarch64");
		err_hint(err, "the program goes by them: restore it where /proc/cpuinfo has mte "
			      "among its features");
		return -EOPNOTSUPP;
	}
	return 0;
}

/* --- protection keys ------------------------------------------------------------------------ */

static int check_keys(const struct m_proc *p, struct err *err)
{
	const uint32_t here = keys_here(), used = keys_used(&p->mm);
	/* Which one the kernel takes for itself need not be one of those that it gives. */
	const uint32_t lacks = here ? used & ~here & ~keys_kernels(&p->mm) : used;
	const int key = lacks ? __builtin_ctz(lacks) : 0;
	char what[48] = "it has allocated";

	if (!lacks)
		return 0;
	for (uint32_t i = 0; i < p->mm.nvmas; i++)
		if (p->mm.vmas[i].pkey == key) {
			snprintf(what, sizeof(what), "its memory at %#" PRIx64 " has",
				 p->mm.vmas[i].start);
			break;
		}
	err_fail(err, EOPNOTSUPP, ERR_ABI,
		 "pid %u (%s): this CPU or its kernel does not have protection key %d (pkeys), "
		 "which %s",
		 p->pid, p->comm, key, what);
	err_hint(err, "who may touch its memory depends on it: restore it where a program can "
		      "allocate as many (/proc/cpuinfo: ospke on x86-64, poe on aarch64)");
	return -EOPNOTSUPP;
}

static int check_proc(const struct restore *r, const struct m_proc *p, struct err *err)
{
	int ret = 0;

	if (!(r->opts->cpu_unchecked & RESTORE_CPU_INS))
		ret = check_hwcaps(r, p, err);
	if (ret == 0)
		ret = check_tags(p, err);
	if (ret == 0)
		ret = check_keys(p, err);
	/* Of a leader that ended before its threads nothing is left. */
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++)
		if (i || p->threads[i].nregsets)
			ret = check_thread(r, p, &p->threads[i], err);
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
	if (!(r->opts->cpu_unchecked & RESTORE_CPU_INS))
		ret = check_ins(r, err);
	for (uint32_t i = 0; ret == 0 && i < m->nprocs; i++)
		if (m->procs[i].state != M_DEAD)
			ret = check_proc(r, &m->procs[i], err);
	return ret;
}
