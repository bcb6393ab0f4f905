/* SPDX-License-Identifier: MIT */
/* x86-64 registers between the kernel's register sets and CRIU's messages. */
#include "src/image/regs.h"

#include <assert.h>

#include "base/bytes.h"

/*
 * NT_X86_XSTATE is the standard (not compacted) XSAVE area: FXSAVE image, header, components. The
 * place of a component is a property of the CPU (CPUID leaf 13); two layouts exist for what CRIU
 * knows, told apart by the length that the CPU's set of components (XCR0) then has.
 *
 *	   0  FXSAVE image; 464: XCR0, put there by the kernel
 *	 512  XSTATE_BV
 *	 576  YMM upper halves
 *	      Intel   AMD (no MPX: what follows moves up)
 *	 960  -       832
 */
enum {
	FXSAVE_LEN = 512,
	XCR0_OFF = 464,
	XSTATE_BV_OFF = 512,
	XSAVE_MIN = 576,
	NGREGS = 27,
	PRSTATUS_LEN = NGREGS * 8,
	SHSTK = 1, /* ARCH_SHSTK_SHSTK */
};

enum xcomp_bit { X87, SSE, YMM, BNDREG, BNDCSR, OPMASK, ZMM_HI, HI16_ZMM, PKRU = 9 };

static const struct xcomp {
	enum xcomp_bit bit;
	uint16_t len, intel, amd;
} xcomps[] = {
	{YMM, 256, 576, 576},	 {BNDREG, 64, 960, 0},	   {BNDCSR, 64, 1024, 0},
	{OPMASK, 64, 1088, 832}, {ZMM_HI, 512, 1152, 896}, {HI16_ZMM, 1024, 1664, 1408},
	{PKRU, 8, 2688, 2432},
};

enum { NXCOMPS = sizeof(xcomps) / sizeof(xcomps[0]) };

/* AMD CPUs without AVX-512 have PKRU where the others have opmasks. */
static uint32_t amd_off(const struct xcomp *c, uint64_t xcr0)
{
	return c->bit == PKRU && !(xcr0 & 1ULL << OPMASK) ? 832 : c->amd;
}

static bool is_amd(uint64_t xcr0, uint32_t len)
{
	uint32_t intel_end = XSAVE_MIN, amd_end = XSAVE_MIN;

	if (xcr0 & (1ULL << BNDREG | 1ULL << BNDCSR))
		return false;
	for (unsigned i = 0; i < NXCOMPS; i++) {
		const struct xcomp *c = &xcomps[i];

		if (!(xcr0 & 1ULL << c->bit))
			continue;
		intel_end = c->intel + c->len;
		amd_end = amd_off(c, xcr0) + c->len;
	}
	return amd_end != intel_end && len == amd_end;
}

static void *comp_dest(struct regs_x86 *r, enum xcomp_bit bit)
{
	switch (bit) {
	case YMM:
		r->xsave.n_ymmh_space = 64;
		return r->xsave.ymmh_space = r->ymmh;
	case BNDREG:
		r->xsave.n_bndreg_state = 8;
		return r->xsave.bndreg_state = r->bndreg;
	case BNDCSR:
		r->xsave.n_bndcsr_state = 8;
		return r->xsave.bndcsr_state = r->bndcsr;
	case OPMASK:
		r->xsave.n_opmask_reg = 8;
		return r->xsave.opmask_reg = r->opmask;
	case ZMM_HI:
		r->xsave.n_zmm_upper = 64;
		return r->xsave.zmm_upper = r->zmm_upper;
	case HI16_ZMM:
		r->xsave.n_hi16_zmm = 128;
		return r->xsave.hi16_zmm = r->hi16_zmm;
	case PKRU:
		r->xsave.n_pkru = 2;
		return r->xsave.pkru = r->pkru;
	default:
		return NULL;
	}
}

static uint64_t get64(const uint8_t *p)
{
	struct bytes b = bytes_of(p, 8);

	return bytes_u64(&b);
}

static uint32_t get32(const uint8_t *p)
{
	struct bytes b = bytes_of(p, 4);

	return bytes_u32(&b);
}

/* Words of the register sets are little endian; the arrays they go to are the host's. */
static void words32(uint32_t *to, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = get32(from + 4 * i);
}

static void words64(uint64_t *to, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = get64(from + 8 * i);
}

static void put_comp(struct regs_x86 *r, const struct xcomp *c, const uint8_t *p)
{
	void *to = comp_dest(r, c->bit);

	if (c->bit == YMM || c->bit == PKRU)
		words32(to, p, c->len / 4);
	else
		words64(to, p, c->len / 8);
}

static void put_xsave(struct regs_x86 *r, const struct m_regset *set, const struct m_regset *shstk)
{
	uint64_t xcr0 = get64(set->data + XCR0_OFF);
	bool amd = is_amd(xcr0, set->len);

	im__x86_xsave__init(&r->xsave);
	r->xsave.xstate_bv = get64(set->data + XSTATE_BV_OFF);
	for (unsigned i = 0; i < NXCOMPS; i++) {
		const struct xcomp *c = &xcomps[i];
		uint32_t off = amd ? amd_off(c, xcr0) : c->intel;

		if ((xcr0 & 1ULL << c->bit) && off + c->len <= set->len)
			put_comp(r, c, set->data + off);
	}
	if (shstk && shstk->len >= 8) {
		im__x86_cet__init(&r->cet);
		r->cet.cet = SHSTK; /* the register set is only there when it is on */
		r->cet.ssp = get64(shstk->data);
		r->xsave.cet = &r->cet;
	}
	r->fp.xsave = &r->xsave;
}

static void put_fxsave(struct regs_x86 *r, const uint8_t *p)
{
	r->fp.cwd = get32(p) & 0xffff;
	r->fp.swd = get32(p) >> 16;
	r->fp.twd = get32(p + 4) & 0xffff;
	r->fp.fop = get32(p + 4) >> 16;
	r->fp.rip = get64(p + 8);
	r->fp.rdp = get64(p + 16);
	r->fp.mxcsr = get32(p + 24);
	r->fp.mxcsr_mask = get32(p + 28);
	words32(r->st, p + 32, 32);
	words32(r->xmm, p + 160, 64);
	r->fp.n_st_space = 32;
	r->fp.st_space = r->st;
	r->fp.n_xmm_space = 64;
	r->fp.xmm_space = r->xmm;
}

/* Of struct user_desc. */
enum {
	SEG_32BIT = 1 << 0,
	CONTENTS_L = 1 << 1,
	CONTENTS_H = 1 << 2,
	READ_EXEC_ONLY = 1 << 3,
	LIMIT_IN_PAGES = 1 << 4,
	NOT_PRESENT = 1 << 5,
	USABLE = 1 << 6,
	NO_TLS = READ_EXEC_ONLY | NOT_PRESENT,
	TLS_FIRST = 12,
};

bool regs_x86_has_tls(const struct m_thread *t)
{
	for (unsigned i = 0; i < M_TLS; i++)
		if (t->tls[i].base || t->tls[i].limit || t->tls[i].flags)
			return true;
	return false;
}

static void put_tls(struct regs_x86 *r, const struct m_thread *t)
{
	for (unsigned i = 0; i < M_TLS && regs_x86_has_tls(t); i++) {
		const struct m_tls *from = &t->tls[i];
		const bool none = !from->base && !from->limit && !from->flags;
		const uint32_t flags = none ? NO_TLS : from->flags;
		Im__X86Tls *to = r->tls_ptr[i] = &r->tls[i];

		im__x86_tls__init(to);
		to->entry_number = TLS_FIRST + i;
		to->base_addr = from->base;
		to->limit = from->limit;
		to->seg_32bit = flags & SEG_32BIT;
		to->contents_h = flags & CONTENTS_H;
		to->contents_l = flags & CONTENTS_L;
		to->read_exec_only = flags & READ_EXEC_ONLY;
		to->limit_in_pages = flags & LIMIT_IN_PAGES;
		to->seg_not_present = flags & NOT_PRESENT;
		to->usable = flags & USABLE;
		r->thread.tls = r->tls_ptr;
		r->thread.n_tls = i + 1;
	}
}

/* Numbers of entries of other kernels have nothing in them. */
static void get_tls(struct m_thread *t, const Im__X86Thread *msg)
{
	for (size_t i = 0; i < msg->n_tls; i++) {
		const Im__X86Tls *from = msg->tls[i];
		const uint32_t at = from->entry_number - TLS_FIRST;
		const uint32_t flags =
			(from->seg_32bit ? SEG_32BIT : 0) | (from->contents_l ? CONTENTS_L : 0) |
			(from->contents_h ? CONTENTS_H : 0) |
			(from->read_exec_only ? READ_EXEC_ONLY : 0) |
			(from->limit_in_pages ? LIMIT_IN_PAGES : 0) |
			(from->seg_not_present ? NOT_PRESENT : 0) | (from->usable ? USABLE : 0);

		if (at < M_TLS && (from->base_addr || from->limit || (flags && flags != NO_TLS)))
			t->tls[at] = (struct m_tls){from->base_addr, from->limit, flags};
	}
}

static_assert(offsetof(Im__X86Regs, gs) - offsetof(Im__X86Regs, r15) == 26 * sizeof(uint64_t),
	      "general registers are one array");

bool regs_x86_put(struct regs_x86 *r, const struct m_thread *t)
{
	const struct m_regset *gp = model_regset(t, REGS_PRSTATUS);
	const struct m_regset *fp = model_regset(t, REGS_PRFPREG);
	const struct m_regset *xs = model_regset(t, REGS_X86_XSTATE);
	const uint64_t legacy = 1 << X87 | 1 << SSE;

	if (!gp || gp->len < PRSTATUS_LEN)
		return false;
	im__x86_thread__init(&r->thread);
	im__x86_regs__init(&r->gp);
	im__x86_fpregs__init(&r->fp);
	words64(&r->gp.r15, gp->data, NGREGS);
	META_SET(&r->gp, mode, IM__X86_MODE__NATIVE);
	if (xs && xs->len < XSAVE_MIN)
		xs = NULL;
	if (fp && fp->len < FXSAVE_LEN)
		fp = NULL;
	if (xs)
		put_xsave(r, xs, model_regset(t, REGS_X86_SHSTK));
	/* A component in its initial state may be stale in the XSAVE area, never in FXSAVE's. */
	if (xs && (!fp || (r->xsave.xstate_bv & legacy) == legacy))
		put_fxsave(r, xs->data);
	else if (fp)
		put_fxsave(r, fp->data);
	r->thread.clear_tid_addr = t->clear_tid_addr;
	r->thread.gpregs = &r->gp;
	r->thread.fpregs = &r->fp;
	put_tls(r, t);
	return true;
}

/* --- back ----------------------------------------------------------------------------------- */

uint8_t *regs_new_set(struct model *m, struct m_thread *t, uint32_t note, uint32_t len)
{
	struct m_regset *set = model_push(m, &t->regsets, &t->nregsets, sizeof(*set));

	if (!set)
		return NULL;
	set->note = note;
	set->len = len;
	set->data = model_alloc(m, len);
	return set->data;
}

static void get_fxsave(uint8_t *p, const Im__X86Fpregs *fp)
{
	bytes_put_u16(p, (uint16_t)fp->cwd);
	bytes_put_u16(p + 2, (uint16_t)fp->swd);
	bytes_put_u16(p + 4, (uint16_t)fp->twd);
	bytes_put_u16(p + 6, (uint16_t)fp->fop);
	bytes_put_u64(p + 8, fp->rip);
	bytes_put_u64(p + 16, fp->rdp);
	bytes_put_u32(p + 24, fp->mxcsr);
	bytes_put_u32(p + 28, fp->mxcsr_mask);
	for (size_t i = 0; i < 32 && i < fp->n_st_space; i++)
		bytes_put_u32(p + 32 + 4 * i, fp->st_space[i]);
	for (size_t i = 0; i < 64 && i < fp->n_xmm_space; i++)
		bytes_put_u32(p + 160 + 4 * i, fp->xmm_space[i]);
}

/* One component of the message as words; how many there are. */
static size_t comp_words(const Im__X86Xsave *xs, enum xcomp_bit bit, const uint32_t **ret32,
			 const uint64_t **ret64)
{
	*ret32 = NULL;
	*ret64 = NULL;
	switch (bit) {
	case YMM:
		*ret32 = xs->ymmh_space;
		return xs->n_ymmh_space;
	case PKRU:
		*ret32 = xs->pkru;
		return xs->n_pkru;
	case BNDREG:
		*ret64 = xs->bndreg_state;
		return xs->n_bndreg_state;
	case BNDCSR:
		*ret64 = xs->bndcsr_state;
		return xs->n_bndcsr_state;
	case OPMASK:
		*ret64 = xs->opmask_reg;
		return xs->n_opmask_reg;
	case ZMM_HI:
		*ret64 = xs->zmm_upper;
		return xs->n_zmm_upper;
	case HI16_ZMM:
		*ret64 = xs->hi16_zmm;
		return xs->n_hi16_zmm;
	default:
		return 0;
	}
}

static int get_xsave(struct model *m, struct m_thread *t, const Im__X86Fpregs *fp)
{
	uint64_t xcr0 = 1 << X87 | 1 << SSE;
	uint32_t len = XSAVE_MIN;
	const uint32_t *w32;
	const uint64_t *w64;
	uint8_t *p;

	for (unsigned i = 0; i < NXCOMPS; i++) {
		if (!comp_words(fp->xsave, xcomps[i].bit, &w32, &w64))
			continue;
		xcr0 |= 1ULL << xcomps[i].bit;
		len = xcomps[i].intel + xcomps[i].len;
	}
	p = regs_new_set(m, t, REGS_X86_XSTATE, len);
	if (!p)
		return -ENOMEM;
	get_fxsave(p, fp);
	bytes_put_u64(p + XCR0_OFF, xcr0);
	/* x87 and SSE are always in the message, whatever XSTATE_BV says. */
	bytes_put_u64(p + XSTATE_BV_OFF, fp->xsave->xstate_bv | 3);
	for (unsigned i = 0; i < NXCOMPS; i++) {
		const struct xcomp *c = &xcomps[i];
		size_t n = comp_words(fp->xsave, c->bit, &w32, &w64);
		size_t size = w32 ? 4 : 8;

		for (size_t k = 0; k < n && k < c->len / size; k++)
			bytes_put_uint(p + c->intel + size * k, w32 ? w32[k] : w64[k],
				       (unsigned)size);
	}
	return 0;
}

/* Locked, as CRIU has it after a restore; what else was on it does not keep. */
static int get_shstk(struct model *m, struct m_thread *t, const Im__X86Cet *cet)
{
	uint8_t *p;

	if (!(cet->cet & SHSTK))
		return 0;
	p = regs_new_set(m, t, REGS_X86_SHSTK, sizeof(cet->ssp));
	if (!p)
		return -ENOMEM;
	bytes_put_u64(p, cet->ssp);
	t->shadow = t->shadow_locked = SHSTK;
	return 0;
}

int regs_x86_get(struct model *m, struct m_thread *t, const Im__X86Thread *msg)
{
	uint8_t *p = regs_new_set(m, t, REGS_PRSTATUS, PRSTATUS_LEN);
	int ret;

	if (!p)
		return -ENOMEM;
	for (unsigned i = 0; i < NGREGS; i++)
		bytes_put_u64(p + 8 * i, (&msg->gpregs->r15)[i]);
	p = regs_new_set(m, t, REGS_PRFPREG, FXSAVE_LEN);
	if (!p)
		return -ENOMEM;
	get_fxsave(p, msg->fpregs);
	get_tls(t, msg);
	ret = msg->fpregs->xsave ? get_xsave(m, t, msg->fpregs) : 0;
	return ret == 0 && msg->fpregs->xsave && msg->fpregs->xsave->cet
		       ? get_shstk(m, t, msg->fpregs->xsave->cet)
		       : ret;
}

bool regs_pc_sp(uint16_t elf_machine, bool big_endian, const struct m_thread *t, uint64_t *ret_pc,
		uint64_t *ret_sp)
{
	static const struct {
		uint16_t elf_machine, pc, sp;
	} places[] = {
		{62, 128, 152},	 /* x86-64: rip, rsp */
		{183, 256, 248}, /* aarch64: pc, sp */
		{21, 256, 8},	 /* ppc64: nip, r1 */
		{22, 8, 136},	 /* s390: PSW address, r15 */
	};
	const struct m_regset *set = model_regset(t, REGS_PRSTATUS);

	for (unsigned i = 0; set && i < sizeof(places) / sizeof(places[0]); i++) {
		uint16_t pc = places[i].pc, sp = places[i].sp;

		if (places[i].elf_machine != elf_machine || set->len < pc + 8u ||
		    set->len < sp + 8u)
			continue;
		*ret_pc = get64(set->data + pc);
		*ret_sp = get64(set->data + sp);
		if (big_endian) {
			*ret_pc = __builtin_bswap64(*ret_pc);
			*ret_sp = __builtin_bswap64(*ret_sp);
		}
		return true;
	}
	return false;
}
