/* SPDX-License-Identifier: MIT */
/* ppc64le: register sets of an image, for a thread that is here; any host builds it. */
#include <errno.h>
#include <string.h>

#include "arch/fit.h"

enum { NT_DEXCR = 0x111 /* Linux 6.6 */ };

int64_t ppc64_regset_fit(const struct arch_set *set, const struct arch_set *has, uint8_t *ret)
{
	/* The kernel has no way to write it. */
	if (set->note == NT_DEXCR)
		return 0;
	if (set->len != has->len)
		return -EBADMSG;
	memcpy(ret, set->data, set->len);
	return set->len;
}
