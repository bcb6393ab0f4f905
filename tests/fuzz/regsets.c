/* SPDX-License-Identifier: MIT */
/*
 * Register sets of an image, on their way into threads: whatever they hold, what would be written
 * is what the kernel knows how to take, or nothing.
 *
 * An input is the CPU, by the low two bits of its first byte, and sets behind it:
 *
 *	u16 note, u16 length, u16 length of what the thread has now, the set, what the thread has
 *
 * each cut where the input ends. A set of the CPU that runs this goes all of a restore's way up to
 * the kernel, as one of a thread; of the others' all that asks no CPU.
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/fit.h"
#include "src/ops/restore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { MOST = 80, GUARD = 64, HEAD = 6, XCR0_OFF = 464, FX_LEN = 512, STATE = ARCH_PRSTATUS_MAX };

typedef int64_t fit_fn(const struct arch_set *set, const struct arch_set *has, uint8_t *ret);
typedef const char *wrong_fn(const struct arch_set *set);

static const struct cpu {
	const struct arch_desc *desc;
	fit_fn *fit; /* NULL: that of the CPU that runs this, if it is one */
	wrong_fn *wrong;
} cpus[4] = {
	{&arch_x86_64, NULL, NULL},
	{&arch_aarch64, aarch64_regset_fit, aarch64_set_wrong},
	{&arch_ppc64, ppc64_regset_fit, NULL},
	{&arch_s390, s390_regset_fit, s390_set_wrong},
};

/* Copies of a set and of what the thread has, which end at pages that are not there. */
static struct room {
	uint8_t *end;
} set_room, has_room;

static void make_room(struct room *r)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), len = 2 * 65536;
	uint8_t *p =
		mmap(NULL, len + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + len, page, PROT_NONE))
		exit(1);
	r->end = p + len;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	make_room(&set_room);
	make_room(&has_room);
	return 0;
}

static void must(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "regsets: not so: %s\n", what);
	abort();
}

#define MUST(what) must(what, #what)

static const struct arch_regset *known(const struct arch_desc *d, uint32_t note)
{
	for (const struct arch_regset *a = d->regsets; a->note; a++)
		if (a->note == note)
			return a;
	return NULL;
}

/* --- the state of an interrupted call ------------------------------------------------------- */

static void see_general(const struct arch_desc *d, const uint8_t *set, uint32_t len)
{
	uint8_t was[STATE] = {0}, now[STATE];
	int64_t code;

	memcpy(was, set, len < STATE ? len : STATE);
	for (int64_t c = -517; c <= -511; c++) {
		memcpy(now, was, STATE);
		if (d->restart_undo && !d->restart_undo(now, c))
			MUST(!memcmp(now, was, STATE));
	}
	if (!d->restart_code || !d->restart_fixup)
		return;
	code = d->restart_code(was);
	memcpy(now, was, STATE);
	if (!d->restart_fixup(now)) {
		MUST(!code && !memcmp(now, was, STATE));
		return;
	}
	MUST(code);
	/* There and back, where there is a way back. */
	if (d->restart_undo(now, code))
		MUST(!memcmp(now, was, STATE));
}

/* --- what would be written ------------------------------------------------------------------ */

static uint64_t word(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* What the kernel would refuse, or worse, take. */
static void see_xstate(const uint8_t *ret, int64_t n)
{
	const struct arch_set s = {NT_X86_XSTATE, (uint32_t)n, ret};
	bool used = false;
	char names[192];

	for (unsigned i = 8; i < 64; i++)
		MUST(!ret[FX_LEN + i]);
	MUST(!(word(ret + FX_LEN) & ~word(ret + XCR0_OFF)));
	if (arch_inject.cpu_lacks && arch_inject.cpu_lacks(&s, 0, &used, names, sizeof(names)))
		MUST(!used);
}

static void see_vectors(const uint8_t *ret, int64_t n)
{
	const uint32_t vl = ret[8] | (uint32_t)ret[9] << 8;

	MUST(n >= 16 && vl && vl % 16 == 0 && vl <= 256);
	MUST(n == 16 || n >= 16 + (ret[12] & 1 ? 32 * vl + 17 * (vl / 8) : 528));
}

static void see_fit(const struct cpu *c, fit_fn *fit, const struct arch_set *set,
		    const struct arch_set *has)
{
	static uint8_t ret[ARCH_REGSET_MAX + GUARD];
	const struct arch_regset *a = known(c->desc, set->note);
	int64_t n;

	memset(ret + ARCH_REGSET_MAX, 0x5a, GUARD);
	n = fit(set, has, ret);
	for (unsigned i = 0; i < GUARD; i++)
		MUST(ret[ARCH_REGSET_MAX + i] == 0x5a);
	MUST(n == -EBADMSG || (n >= 0 && n <= ARCH_REGSET_MAX));
	if (n <= 0)
		return;
	MUST(!a || (a->size ? n == a->size : n <= a->max_size));
	if (c->desc == &arch_x86_64 && set->note == NT_X86_XSTATE)
		see_xstate(ret, n);
	if (c->desc == &arch_aarch64 && (set->note == NT_ARM_SVE || set->note == NT_ARM_SSVE))
		see_vectors(ret, n);
}

/* It has been refused before. */
static bool is_refused(const struct arch_regset *a, const struct arch_set *set, bool host)
{
	bool used = false;
	char names[192];

	return !set->len || set->len > ARCH_REGSET_MAX ||
	       (a && (a->size ? set->len != a->size : set->len > a->max_size)) ||
	       (host && arch_inject.cpu_lacks &&
		arch_inject.cpu_lacks(set, 0, &used, names, sizeof(names)) && used);
}

/* As put_regs.c has it. What the thread has is the kernel's word. */
static void see_set(const struct cpu *c, const struct arch_set *set, struct arch_set *has)
{
	const struct arch_regset *a = known(c->desc, set->note);
	const bool host = c->desc == arch_host();
	fit_fn *fit = host ? arch_inject.regset_fit : c->fit;
	wrong_fn *wrong = host ? arch_inject.set_wrong : c->wrong;

	if (set->note == NT_PRSTATUS)
		see_general(c->desc, set->data, set->len);
	if (!fit || is_refused(a, set, host))
		return;
	if (a && has->len > a->max_size)
		has->len = a->max_size;
	if (wrong && wrong(set))
		MUST(strlen(wrong(set)) > 5);
	see_fit(c, fit, set, has);
}

/* --- all of a thread's ---------------------------------------------------------------------- */

static struct m_regset sets[MOST];
static uint8_t *copies[MOST];
static uint32_t nsets;

/* What is taken has every set once, and with a shadow stack one that is there. */
static void see_taken(const struct m_thread *t, const struct m_vma *v)
{
	const struct arch_shadow *s = arch_inject.shadow;
	const struct m_regset *set = s ? model_regset(t, s->note) : NULL;

	MUST(!nsets || t->regsets[0].note == NT_PRSTATUS);
	for (uint32_t i = 0; i < nsets; i++) {
		const struct arch_set a = {sets[i].note, sets[i].len, sets[i].data};

		MUST(sets[i].len);
		MUST(model_regset(t, sets[i].note) == &sets[i]);
		MUST(!arch_inject.set_wrong || !arch_inject.set_wrong(&a));
	}
	if (set && (!s->on || word(set->data) & s->on))
		MUST(word(set->data + s->pointer_off) - v->start <= v->end - v->start);
}

static void see_thread(uint8_t shadow)
{
	static uint64_t auxv[4] = {AT_HWCAP, 0, AT_HWCAP2, 0};
	struct m_vma v = {.start = 0x10000, .end = 0x12000, .flags = M_VMF_SHSTK};
	struct m_thread t = {.tid = 7, .nregsets = nsets, .regsets = sets, .shadow = shadow & 3};
	struct m_proc p = {.pid = 7, .comm = "p", .nthreads = 1, .threads = &t};
	struct model m = {.elf_machine = arch_host()->elf_machine,
			  .page_size = (uint32_t)sysconf(_SC_PAGESIZE),
			  .nprocs = 1,
			  .procs = &p};
	const struct restore_opts opts = {.dir = "image",
					  .cpu_unchecked = shadow & RESTORE_CPU_FPU};
	const struct restore r = {.opts = &opts, .model = &m};
	struct err err = {0};

	p.mm.nauxv = 4;
	p.mm.auxv = auxv;
	p.mm.nvmas = 1;
	p.mm.vmas = &v;
	if (restore_check_cpu(&r, &err) == 0)
		see_taken(&t, &v);
	else
		MUST(strstr(err.msg, "thread 7"));
}

/* --- the input ------------------------------------------------------------------------------ */

static uint32_t take16(const uint8_t **data, size_t *len)
{
	uint32_t v = (*data)[0] | (uint32_t)(*data)[1] << 8;

	*data += 2;
	*len -= 2;
	return v;
}

static struct arch_set take_set(const struct room *r, uint32_t note, uint32_t want,
				const uint8_t **data, size_t *len)
{
	struct arch_set s = {note, want < *len ? want : (uint32_t)*len, NULL};

	s.data = memcpy(r->end - s.len, *data, s.len);
	*data += s.len;
	*len -= s.len;
	return s;
}

static void keep_set(const struct arch_set *s)
{
	if (nsets == MOST)
		return;
	copies[nsets] = malloc(s->len + 1);
	if (!copies[nsets])
		exit(1);
	memcpy(copies[nsets], s->data, s->len);
	sets[nsets] = (struct m_regset){s->note, s->len, copies[nsets]};
	nsets++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct cpu *c;
	uint8_t first;

	if (!len)
		return 0;
	first = *data++;
	len--;
	c = &cpus[first & 3];
	nsets = 0;
	while (len >= HEAD) {
		uint32_t note = take16(&data, &len), want = take16(&data, &len);
		uint32_t has_len = take16(&data, &len);
		struct arch_set set = take_set(&set_room, note, want, &data, &len);
		struct arch_set has = take_set(&has_room, note, has_len, &data, &len);

		see_set(c, &set, &has);
		if (c->desc == arch_host())
			keep_set(&set);
	}
	if (c->desc == arch_host())
		see_thread(first >> 2);
	for (uint32_t i = 0; i < nsets; i++)
		free(copies[i]);
	return 0;
}
