/* SPDX-License-Identifier: MIT */
/* s390x registers between the kernel's register sets and CRIU's messages. */
#include "src/image/regs.h"

/*
 * The register sets are big endian wherever they are read; the messages' words are the host's.
 *
 *	NT_PRSTATUS   0 PSW mask, 8 PSW address, 16 r0 to r15, 144 a0 to a15, 208 r2 at the call
 *	NT_PRFPREG    0 FPC, 8 f0 to f15
 */
enum {
	NOTE_SYSTEM_CALL = 0x307,
	NOTE_VXRS_LOW = 0x309,
	NOTE_VXRS_HIGH = 0x30a,
	NOTE_GS_CB = 0x30b,
	NOTE_GS_BC = 0x30c,
	NOTE_RI_CB = 0x30d,
	PRSTATUS_LEN = 216,
	GPRS = 16,
	ACRS = 144,
	ORIG_GPR2 = 208,
	PRFPREG_LEN = 136,
	FPRS = 8,
};

#define PSW_MASK_RI 0x0000008000000000ull /* runtime instrumentation is on */

static uint64_t get_be(const uint8_t *p, unsigned size)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < size; i++)
		v = v << 8 | p[i];
	return v;
}

static void put_be(uint8_t *p, uint64_t v, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		p[i] = (uint8_t)(v >> 8 * (size - 1 - i));
}

static void get_words(uint64_t *to, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = get_be(from + 8 * i, 8);
}

/* A set that is nothing but words: into @msg, when the thread has it in full. */
static Im__S390Words *words_of(const struct m_thread *t, uint32_t note, Im__S390Words *msg,
			       uint64_t *words, size_t n)
{
	const struct m_regset *set = model_regset(t, note);

	if (!set || set->len < 8 * n)
		return NULL;
	get_words(words, set->data, n);
	im__s390_words__init(msg);
	msg->n_regs = n;
	msg->regs = words;
	return msg;
}

static void put_general(struct regs_s390 *r, const struct m_thread *t, const uint8_t *gp)
{
	const struct m_regset *call = model_regset(t, NOTE_SYSTEM_CALL);

	im__s390_regs__init(&r->gp);
	r->gp.psw_mask = get_be(gp, 8);
	r->gp.psw_addr = get_be(gp + 8, 8);
	get_words(r->gprs, gp + GPRS, 16);
	for (unsigned i = 0; i < 16; i++)
		r->acrs[i] = (uint32_t)get_be(gp + ACRS + 4 * i, 4);
	r->gp.n_gprs = r->gp.n_acrs = 16;
	r->gp.gprs = r->gprs;
	r->gp.acrs = r->acrs;
	r->gp.orig_gpr2 = get_be(gp + ORIG_GPR2, 8);
	r->gp.system_call = call && call->len == 4 ? (uint32_t)get_be(call->data, 4) : 0;
}

bool regs_s390_put(struct regs_s390 *r, const struct m_thread *t)
{
	const struct m_regset *gp = model_regset(t, REGS_PRSTATUS);
	const struct m_regset *fp = model_regset(t, REGS_PRFPREG);
	const struct m_regset *ri = model_regset(t, NOTE_RI_CB);

	if (!gp || gp->len < PRSTATUS_LEN)
		return false;
	im__s390_thread__init(&r->thread);
	im__s390_fp__init(&r->fp);
	put_general(r, t, gp->data);
	if (fp && fp->len >= PRFPREG_LEN) {
		r->fp.fpc = (uint32_t)get_be(fp->data, 4);
		get_words(r->fprs, fp->data + FPRS, 16);
		r->fp.n_fprs = 16;
		r->fp.fprs = r->fprs;
	}
	r->thread.clear_tid_addr = t->clear_tid_addr;
	r->thread.gpregs = &r->gp;
	r->thread.fpregs = &r->fp;
	r->thread.vxrs_low = words_of(t, NOTE_VXRS_LOW, &r->vxrs_low_msg, r->vxrs_low, 16);
	r->thread.vxrs_high = words_of(t, NOTE_VXRS_HIGH, &r->vxrs_high_msg, r->vxrs_high, 32);
	r->thread.gs_cb = words_of(t, NOTE_GS_CB, &r->gs_cb_msg, r->gs_cb, 4);
	r->thread.gs_bc = words_of(t, NOTE_GS_BC, &r->gs_bc_msg, r->gs_bc, 4);
	if (ri && ri->len >= sizeof(r->ri_cb)) {
		im__s390_ri__init(&r->ri);
		get_words(r->ri_cb, ri->data, 8);
		r->ri.ri_on = (r->gp.psw_mask & PSW_MASK_RI) != 0;
		r->ri.n_regs = 8;
		r->ri.regs = r->ri_cb;
		r->thread.ri_cb = &r->ri;
	}
	return true;
}

/* --- back ----------------------------------------------------------------------------------- */

/* Up to @n of the @have words; what the message does not have stays zero. */
static void put_words(uint8_t *to, const uint64_t *from, size_t have, size_t n)
{
	for (size_t i = 0; i < n && i < have; i++)
		put_be(to + 8 * i, from[i], 8);
}

static int get_set(struct model *m, struct m_thread *t, uint32_t note, const uint64_t *words,
		   size_t have, size_t n)
{
	uint8_t *p = regs_new_set(m, t, note, (uint32_t)(8 * n));

	if (!p)
		return -ENOMEM;
	put_words(p, words, have, n);
	return 0;
}

static int get_general(struct model *m, struct m_thread *t, const Im__S390Regs *gp)
{
	uint8_t *p = regs_new_set(m, t, REGS_PRSTATUS, PRSTATUS_LEN);

	if (!p)
		return -ENOMEM;
	put_be(p, gp->psw_mask, 8);
	put_be(p + 8, gp->psw_addr, 8);
	put_words(p + GPRS, gp->gprs, gp->n_gprs, 16);
	for (size_t i = 0; i < 16 && i < gp->n_acrs; i++)
		put_be(p + ACRS + 4 * i, gp->acrs[i], 4);
	put_be(p + ORIG_GPR2, gp->orig_gpr2, 8);
	p = regs_new_set(m, t, NOTE_SYSTEM_CALL, 4);
	if (!p)
		return -ENOMEM;
	put_be(p, gp->system_call, 4);
	return 0;
}

int regs_s390_get(struct model *m, struct m_thread *t, const Im__S390Thread *msg)
{
	const struct {
		uint32_t note, n;
		const Im__S390Words *words;
	} sets[] = {
		{NOTE_VXRS_LOW, 16, msg->vxrs_low},
		{NOTE_VXRS_HIGH, 32, msg->vxrs_high},
		{NOTE_GS_CB, 4, msg->gs_cb},
		{NOTE_GS_BC, 4, msg->gs_bc},
	};
	int ret = get_general(m, t, msg->gpregs);
	uint8_t *p;

	if (ret < 0)
		return ret;
	p = regs_new_set(m, t, REGS_PRFPREG, PRFPREG_LEN);
	if (!p)
		return -ENOMEM;
	put_be(p, msg->fpregs->fpc, 4);
	put_words(p + FPRS, msg->fpregs->fprs, msg->fpregs->n_fprs, 16);
	for (unsigned i = 0; ret == 0 && i < sizeof(sets) / sizeof(sets[0]); i++)
		if (sets[i].words)
			ret = get_set(m, t, sets[i].note, sets[i].words->regs,
				      sets[i].words->n_regs, sets[i].n);
	if (ret == 0 && msg->ri_cb)
		ret = get_set(m, t, NOTE_RI_CB, msg->ri_cb->regs, msg->ri_cb->n_regs, 8);
	return ret;
}
