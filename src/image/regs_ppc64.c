/* SPDX-License-Identifier: MIT */
/* ppc64le registers between the kernel's register sets and CRIU's messages. */
#include "src/image/regs.h"

#include <assert.h>

#include "base/bytes.h"

/*
 * In a transaction CRIU's registers are those from before it, to which the thread falls back when
 * it fails; what it holds at the moment is in the tmstate.
 */
struct notes {
	uint32_t gp, fp, vmx, vsx;
};

static const struct notes live = {1, 2, 0x100, 0x102};
static const struct notes checkpointed = {0x108, 0x109, 0x10a, 0x10b};

enum {
	TM_SPR = 0x10c, /* TFHAR, TEXASR, TFIAR */
	NGPR = 32,
	NIP = NGPR,
	MSR,
	ORIG_R3,
	CTR,
	LR,
	XER,
	CR,
	TRAP = 40,
	GP_LEN = 48 * 8,
	FP_LEN = 33 * 8,
	VMX_LEN = 34 * 16,
	VSX_LEN = 32 * 8,
	VRSAVE_OFF = 33 * 16,
};

static_assert(sizeof(((struct regs_ppc64 *)NULL)->live.gpr) == NGPR * 8, "regs.h");

static uint64_t word(const uint8_t *set, unsigned i)
{
	struct bytes b = bytes_of(set + 8 * i, 8);

	return bytes_u64(&b);
}

static void words(uint64_t *to, const uint8_t *set, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		to[i] = word(set, i);
}

static const uint8_t *set_of(const struct m_thread *t, uint32_t note, uint32_t len)
{
	const struct m_regset *set = model_regset(t, note);

	return set && set->len == len ? set->data : NULL;
}

/* Which message points to which is the caller's. */
static bool put_state(struct regs_ppc64_state *s, const struct m_thread *t, const struct notes *n)
{
	const uint8_t *gp = set_of(t, n->gp, GP_LEN), *fp = set_of(t, n->fp, FP_LEN);
	const uint8_t *vmx = set_of(t, n->vmx, VMX_LEN), *vsx = set_of(t, n->vsx, VSX_LEN);

	if (!gp)
		return false;
	im__ppc64_regs__init(&s->gp);
	words(s->gpr, gp, NGPR);
	s->gp.n_gpr = NGPR;
	s->gp.gpr = s->gpr;
	s->gp.nip = word(gp, NIP);
	s->gp.msr = word(gp, MSR);
	s->gp.orig_gpr3 = word(gp, ORIG_R3);
	s->gp.ctr = word(gp, CTR);
	s->gp.link = word(gp, LR);
	s->gp.xer = word(gp, XER);
	s->gp.ccr = word(gp, CR);
	/* No interrupted call: what was one is made again by the registers. */
	s->gp.trap = 0;
	im__ppc64_fp__init(&s->fp);
	im__ppc64_vr__init(&s->vr);
	im__ppc64_vsx__init(&s->vsx);
	if (fp)
		words(s->fpregs, fp, FP_LEN / 8);
	s->fp.n_fpregs = fp ? FP_LEN / 8 : 0;
	s->fp.fpregs = s->fpregs;
	if (vmx) {
		words(s->vrregs, vmx, VRSAVE_OFF / 8);
		s->vr.vrsave = (uint32_t)word(vmx, VRSAVE_OFF / 8);
	}
	s->vr.n_vrregs = vmx ? VRSAVE_OFF / 8 : 0;
	s->vr.vrregs = s->vrregs;
	if (vsx)
		words(s->vsxregs, vsx, VSX_LEN / 8);
	s->vsx.n_vsxregs = vsx ? VSX_LEN / 8 : 0;
	s->vsx.vsxregs = s->vsxregs;
	return true;
}

static void put_spr(Im__Ppc64Regs *gp, const uint8_t *spr)
{
	META_SET(gp, tfhar, word(spr, 0));
	META_SET(gp, texasr, word(spr, 1));
	META_SET(gp, tfiar, word(spr, 2));
}

bool regs_ppc64_put(struct regs_ppc64 *r, const struct m_thread *t)
{
	const uint8_t *spr = set_of(t, TM_SPR, 24);
	bool tm = put_state(&r->outer, t, &checkpointed) && spr;
	struct regs_ppc64_state *now = &r->live, *to = tm ? &r->outer : now;

	if (!put_state(now, t, &live))
		return false;
	im__ppc64_thread__init(&r->thread);
	r->thread.clear_tid_addr = t->clear_tid_addr;
	r->thread.gpregs = &to->gp;
	r->thread.fpstate = to->fp.n_fpregs ? &to->fp : NULL;
	r->thread.vrstate = to->vr.n_vrregs ? &to->vr : NULL;
	r->thread.vsxstate = to->vsx.n_vsxregs ? &to->vsx : NULL;
	if (!tm)
		return true;
	put_spr(&to->gp, spr);
	put_spr(&now->gp, spr);
	im__ppc64_tm__init(&r->tm);
	r->tm.gpregs = &now->gp;
	r->tm.fpstate = now->fp.n_fpregs ? &now->fp : NULL;
	r->tm.vrstate = now->vr.n_vrregs ? &now->vr : NULL;
	r->tm.vsxstate = now->vsx.n_vsxregs ? &now->vsx : NULL;
	r->thread.tmstate = &r->tm;
	return true;
}

/* --- back ----------------------------------------------------------------------------------- */

/* A set of @len bytes, of which the message has the first @n words. */
static uint8_t *get_set(struct model *m, struct m_thread *t, uint32_t note, uint32_t len,
			const uint64_t *from, size_t n)
{
	uint8_t *p = regs_new_set(m, t, note, len);

	for (size_t i = 0; p && i < n && i < len / 8; i++)
		bytes_put_u64(p + 8 * i, from[i]);
	return p;
}

static uint8_t *get_gp(struct model *m, struct m_thread *t, uint32_t note,
		       const Im__Ppc64Regs *from)
{
	uint8_t *p =
		get_set(m, t, note, GP_LEN, from->gpr, from->n_gpr < NGPR ? from->n_gpr : NGPR);

	if (!p)
		return NULL;
	bytes_put_u64(p + 8 * NIP, from->nip);
	bytes_put_u64(p + 8 * MSR, from->msr);
	bytes_put_u64(p + 8 * ORIG_R3, from->orig_gpr3);
	bytes_put_u64(p + 8 * CTR, from->ctr);
	bytes_put_u64(p + 8 * LR, from->link);
	bytes_put_u64(p + 8 * XER, from->xer);
	bytes_put_u64(p + 8 * CR, from->ccr);
	bytes_put_u64(p + 8 * TRAP, from->trap);
	return p;
}

static int get_state(struct model *m, struct m_thread *t, const struct notes *n,
		     const Im__Ppc64Regs *gp, const Im__Ppc64Fp *fp, const Im__Ppc64Vr *vr,
		     const Im__Ppc64Vsx *vsx)
{
	uint8_t *p;

	if (!get_gp(m, t, n->gp, gp))
		return -ENOMEM;
	if (fp && !get_set(m, t, n->fp, FP_LEN, fp->fpregs, fp->n_fpregs))
		return -ENOMEM;
	if (vr) {
		p = get_set(m, t, n->vmx, VMX_LEN, vr->vrregs,
			    vr->n_vrregs < VRSAVE_OFF / 8 ? vr->n_vrregs : VRSAVE_OFF / 8);
		if (!p)
			return -ENOMEM;
		bytes_put_u32(p + VRSAVE_OFF, vr->vrsave);
	}
	if (vsx && !get_set(m, t, n->vsx, VSX_LEN, vsx->vsxregs, vsx->n_vsxregs))
		return -ENOMEM;
	return 0;
}

int regs_ppc64_get(struct model *m, struct m_thread *t, const Im__Ppc64Thread *msg)
{
	const Im__Ppc64Tm *tm = msg->tmstate;
	const Im__Ppc64Regs *gp = msg->gpregs;
	uint8_t *p;
	int ret;

	if (!tm)
		return get_state(m, t, &live, gp, msg->fpstate, msg->vrstate, msg->vsxstate);
	ret = get_state(m, t, &live, tm->gpregs, tm->fpstate, tm->vrstate, tm->vsxstate);
	if (ret == 0)
		ret = get_state(m, t, &checkpointed, gp, msg->fpstate, msg->vrstate, msg->vsxstate);
	if (ret < 0)
		return ret;
	p = regs_new_set(m, t, TM_SPR, 24);
	if (!p)
		return -ENOMEM;
	bytes_put_u64(p, META_GET(gp, tfhar));
	bytes_put_u64(p + 8, META_GET(gp, texasr));
	bytes_put_u64(p + 16, META_GET(gp, tfiar));
	return 0;
}
