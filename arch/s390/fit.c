/* SPDX-License-Identifier: MIT */
/* s390x: register sets of an image, for a thread that is here; any host builds it. */
#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "arch/fit.h"

/*
 * Reserved bits are zero, and of the ways to round 4 to 6 are none. Linux 6.1 refuses others; 6.12
 * takes them, but not as they are.
 */
static bool fpc_valid(const uint8_t *fpregs)
{
	uint32_t fpc, rounding;

	memcpy(&fpc, fpregs, sizeof(fpc));
	fpc = be32toh(fpc);
	rounding = fpc & 7;
	return !(fpc & ~0xfcfcff77u) && (rounding < 4 || rounding == 7);
}

const char *s390_set_wrong(const struct arch_set *set)
{
	return set->note == NT_FPREGSET && set->len >= sizeof(uint32_t) && !fpc_valid(set->data)
		       ? "has a floating-point control word that there is not"
		       : NULL;
}

int64_t s390_regset_fit(const struct arch_set *set, const struct arch_set *has, uint8_t *ret)
{
	uint32_t room = has->len;

	switch (set->note) {
	case NT_S390_LAST_BREAK:
	case NT_S390_TDB:
		return 0; /* the kernel alone writes these */
	case NT_S390_GS_CB:
	case NT_S390_GS_BC:
	case NT_S390_RI_CB: /* a thread has none before its first use */
		room = set->note == NT_S390_RI_CB ? 64 : 32;
		break;
	}
	if (set->len != room || s390_set_wrong(set))
		return -EBADMSG;
	memcpy(ret, set->data, set->len);
	return set->len;
}
