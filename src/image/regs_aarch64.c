/* SPDX-License-Identifier: MIT */
/* aarch64 registers between the kernel's register sets and CRIU's messages. */
#include "src/image/regs.h"

#include <assert.h>

#include "base/bytes.h"

enum {
	NGREGS = 34, /* x0 to x30, sp, pc, pstate */
	PRSTATUS_LEN = NGREGS * 8,
	NVREGS = 64, /* halves */
	FPSIMD_LEN = 528,
	FPSR_OFF = 512,
	TLS_LEN = 8,
	PACA_LEN = 64,
	PACG_LEN = 16,
	GCS_LEN = 24, /* enabled, locked, pointer */
};

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

static const uint8_t *set_of(const struct m_thread *t, uint32_t note, uint32_t len)
{
	const struct m_regset *set = model_regset(t, note);

	return set && set->len >= len ? set->data : NULL;
}

static void put_pac(struct regs_aarch64 *r, const struct m_thread *t)
{
	const uint8_t *keys = set_of(t, REGS_ARM_PACA_KEYS, PACA_LEN);
	const uint8_t *generic = set_of(t, REGS_ARM_PACG_KEYS, PACG_LEN);
	const uint8_t *enabled = set_of(t, REGS_ARM_PAC_ENABLED_KEYS, 8);

	im__aarch64_pac__init(&r->pac);
	if (keys) {
		im__aarch64_pac_address__init(&r->address);
		for (unsigned i = 0; i < PACA_LEN / 8; i++)
			(&r->address.apiakey_lo)[i] = get64(keys + 8 * i);
		r->address.pac_enabled_key = enabled ? get64(enabled) : 0;
		r->pac.pac_address_keys = &r->address;
		r->thread.pac_keys = &r->pac;
	}
	if (generic) {
		im__aarch64_pac_generic__init(&r->generic);
		r->generic.apgakey_lo = get64(generic);
		r->generic.apgakey_hi = get64(generic + 8);
		r->pac.pac_generic_keys = &r->generic;
		r->thread.pac_keys = &r->pac;
	}
}

static_assert(offsetof(Im__Aarch64PacAddress, apdbkey_hi) -
			      offsetof(Im__Aarch64PacAddress, apiakey_lo) ==
		      7 * sizeof(uint64_t),
	      "the keys are one array");

bool regs_aarch64_put(struct regs_aarch64 *r, const struct m_thread *t)
{
	const uint8_t *gp = set_of(t, REGS_PRSTATUS, PRSTATUS_LEN);
	const uint8_t *fp = set_of(t, REGS_PRFPREG, FPSIMD_LEN);
	const uint8_t *tls = set_of(t, REGS_ARM_TLS, TLS_LEN);
	const uint8_t *gcs = set_of(t, REGS_ARM_GCS, GCS_LEN);

	if (!gp)
		return false;
	im__aarch64_thread__init(&r->thread);
	im__aarch64_regs__init(&r->gp);
	im__aarch64_fpsimd__init(&r->fp);
	for (unsigned i = 0; i < 31; i++)
		r->x[i] = get64(gp + 8 * i);
	r->gp.n_regs = 31;
	r->gp.regs = r->x;
	r->gp.sp = get64(gp + 248);
	r->gp.pc = get64(gp + 256);
	r->gp.pstate = get64(gp + 264);
	for (unsigned i = 0; i < NVREGS; i++)
		r->v[i] = fp ? get64(fp + 8 * i) : 0;
	r->fp.n_vregs = NVREGS;
	r->fp.vregs = r->v;
	r->fp.fpsr = fp ? get32(fp + FPSR_OFF) : 0;
	r->fp.fpcr = fp ? get32(fp + FPSR_OFF + 4) : 0;
	r->thread.clear_tid_addr = t->clear_tid_addr;
	r->thread.tls = tls ? get64(tls) : 0;
	r->thread.gpregs = &r->gp;
	r->thread.fpsimd = &r->fp;
	put_pac(r, t);
	if (gcs && get64(gcs)) {
		im__aarch64_gcs__init(&r->gcs);
		r->gcs.features_enabled = get64(gcs);
		r->gcs.gcspr_el0 = get64(gcs + 16);
		r->thread.gcs = &r->gcs;
	}
	return true;
}

/* --- back ----------------------------------------------------------------------------------- */

static uint8_t *new_set(struct model *m, struct m_thread *t, uint32_t note, uint32_t len)
{
	struct m_regset *set = model_push(m, &t->regsets, &t->nregsets, sizeof(*set));

	if (!set)
		return NULL;
	set->note = note;
	set->len = len;
	set->data = model_alloc(m, len);
	return set->data;
}

static int get_pac(struct model *m, struct m_thread *t, const Im__Aarch64Pac *pac)
{
	uint8_t *p;

	if (pac->pac_address_keys) {
		p = new_set(m, t, REGS_ARM_PACA_KEYS, PACA_LEN);
		if (!p)
			return -ENOMEM;
		for (unsigned i = 0; i < PACA_LEN / 8; i++)
			bytes_put_u64(p + 8 * i, (&pac->pac_address_keys->apiakey_lo)[i]);
	}
	if (pac->pac_generic_keys) {
		p = new_set(m, t, REGS_ARM_PACG_KEYS, PACG_LEN);
		if (!p)
			return -ENOMEM;
		bytes_put_u64(p, pac->pac_generic_keys->apgakey_lo);
		bytes_put_u64(p + 8, pac->pac_generic_keys->apgakey_hi);
	}
	if (pac->pac_address_keys) {
		p = new_set(m, t, REGS_ARM_PAC_ENABLED_KEYS, 8);
		if (!p)
			return -ENOMEM;
		bytes_put_u64(p, pac->pac_address_keys->pac_enabled_key);
	}
	return 0;
}

static int get_gcs(struct model *m, struct m_thread *t, const Im__Aarch64Gcs *gcs)
{
	uint8_t *p = new_set(m, t, REGS_ARM_GCS, GCS_LEN);

	if (!p)
		return -ENOMEM;
	bytes_put_u64(p, gcs->features_enabled);
	bytes_put_u64(p + 8, 0);
	bytes_put_u64(p + 16, gcs->gcspr_el0);
	return 0;
}

int regs_aarch64_get(struct model *m, struct m_thread *t, const Im__Aarch64Thread *msg)
{
	uint8_t *p = new_set(m, t, REGS_PRSTATUS, PRSTATUS_LEN);
	int ret;

	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < 31; i++)
		bytes_put_u64(p + 8 * i, i < msg->gpregs->n_regs ? msg->gpregs->regs[i] : 0);
	bytes_put_u64(p + 248, msg->gpregs->sp);
	bytes_put_u64(p + 256, msg->gpregs->pc);
	bytes_put_u64(p + 264, msg->gpregs->pstate);
	p = new_set(m, t, REGS_PRFPREG, FPSIMD_LEN);
	if (!p)
		return -ENOMEM;
	for (size_t i = 0; i < NVREGS && i < msg->fpsimd->n_vregs; i++)
		bytes_put_u64(p + 8 * i, msg->fpsimd->vregs[i]);
	bytes_put_u32(p + FPSR_OFF, msg->fpsimd->fpsr);
	bytes_put_u32(p + FPSR_OFF + 4, msg->fpsimd->fpcr);
	p = new_set(m, t, REGS_ARM_TLS, TLS_LEN);
	if (!p)
		return -ENOMEM;
	bytes_put_u64(p, msg->tls);
	ret = msg->pac_keys ? get_pac(m, t, msg->pac_keys) : 0;
	return !ret && msg->gcs ? get_gcs(m, t, msg->gcs) : ret;
}
