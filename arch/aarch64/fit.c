/* SPDX-License-Identifier: MIT */
/* AArch64: register sets of an image, for a thread that is here; any host builds it. */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arch/aarch64/sve.h"
#include "arch/fit.h"

enum { FPSIMD_LEN = 528, STATUS_LEN = 8 /* FPSR, FPCR */ };

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

bool aarch64_sve_header(const struct arch_set *set, struct sve_header *ret)
{
	if (set->len < sizeof(*ret))
		return false;
	memcpy(ret, set->data, sizeof(*ret));
	return ret->vl && ret->vl % 16 == 0 && ret->vl <= VL_MAX;
}

/* With all registers that its head tells of; a head alone where none are in use. */
static bool is_whole(const struct arch_set *set, const struct sve_header *h)
{
	uint32_t end;

	if (set->note == NT_ARM_ZA)
		return set->len == SVE_HEAD || set->len >= SVE_HEAD + (uint32_t)h->vl * h->vl;
	if (!(h->flags & SVE_REGS))
		return set->len == SVE_HEAD || set->len >= SVE_HEAD + FPSIMD_LEN;
	end = (SVE_HEAD + aarch64_sve_regs_len(h->vl) + 15) & ~15u;
	return set->len >= end + STATUS_LEN;
}

bool aarch64_lacks_length(const struct arch_set *set, uint32_t fits, bool *ret_used, char *buf,
			  size_t len)
{
	const char *const what = set->note == NT_ARM_SVE    ? "SVE"
				 : set->note == NT_ARM_SSVE ? "streaming SVE"
				 : set->note == NT_ARM_ZA   ? "ZA"
							    : NULL;
	struct sve_header h;

	if (!what || !fits || !aarch64_sve_header(set, &h) || h.vl == fits)
		return false;
	*ret_used = set->note == NT_ARM_ZA ? set->len > SVE_HEAD : h.flags & SVE_REGS;
	snprintf(buf, len, "%s vectors of %u bits, in place of which it has %u", what, 8u * h.vl,
		 8u * fits);
	return true;
}

const char *aarch64_set_wrong(const struct arch_set *set)
{
	struct sve_header h;

	if (set->note != NT_ARM_SVE && set->note != NT_ARM_SSVE && set->note != NT_ARM_ZA)
		return NULL;
	if (!aarch64_sve_header(set, &h))
		return "has no vector length that there is";
	return is_whole(set, &h) ? NULL : "has fewer registers than its head tells of";
}

/* As many registers as this CPU has; the others must be unused. */
static int64_t fit_hardware_stops(const struct arch_set *set, const struct arch_set *has,
				  uint8_t *ret)
{
	enum { HEAD = 8, PAIR = 16 };
	uint32_t len;

	if (has->len < HEAD || set->len < HEAD)
		return -EBADMSG;
	len = HEAD + PAIR * has->data[0];
	if (len > has->len)
		len = has->len;
	if (set->len > len && !all_zero(set->data + len, set->len - len))
		return -EBADMSG;
	memset(ret, 0, len);
	/* dbg_info is the CPU's own. */
	memcpy(ret, has->data, HEAD);
	memcpy(ret + HEAD, set->data + HEAD, (set->len < len ? set->len : len) - HEAD);
	return all_zero(ret + HEAD, len - HEAD) && all_zero(has->data + HEAD, has->len - HEAD)
		       ? 0
		       : (int64_t)len;
}

int64_t aarch64_regset_fit(const struct arch_set *set, const struct arch_set *has, uint8_t *ret)
{
	struct sve_header h;

	if (aarch64_set_wrong(set))
		return -EBADMSG;
	switch (set->note) {
	case NT_ARM_PAC_MASK:
		return 0;
	case NT_ARM_HW_BREAK:
	case NT_ARM_HW_WATCH:
		return fit_hardware_stops(set, has, ret);
	case NT_ARM_ZT:
		/* Written, it would switch the matrix on; where that is on it has been zeroed. */
		if (set->len == has->len && all_zero(set->data, set->len))
			return 0;
		break;
	case NT_ARM_SSVE:
		/* Written, it would switch streaming mode on. */
		if (!aarch64_sve_header(set, &h) || !(h.flags & SVE_REGS))
			return 0;
		memcpy(ret, set->data, set->len);
		return set->len;
	case NT_ARM_SVE:
	case NT_ARM_ZA:
		memcpy(ret, set->data, set->len);
		return set->len;
	case NT_ARM_TLS:
		/* Without SME there is one word. */
		if (set->len > has->len && !all_zero(set->data + has->len, set->len - has->len))
			return -EBADMSG;
		memcpy(ret, has->data, has->len);
		memcpy(ret, set->data, set->len < has->len ? set->len : has->len);
		return has->len;
	}
	if (set->len != has->len)
		return -EBADMSG;
	memcpy(ret, set->data, set->len);
	return set->len;
}
