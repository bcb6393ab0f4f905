/* SPDX-License-Identifier: MIT */
/* ppc64le: register sets of an image, for a thread that is here; any host builds it. */
#include <errno.h>
#include <string.h>

#include "arch/fit.h"

/* Linux 4.8; PKEY 4.16, DEXCR 6.5. Layouts: ppc64_regsets of regs.c. */
enum { NT_EBB = 0x106, NT_PMU, NT_TM_CGPR, NT_TM_SPR = 0x10c, NT_TM_CDSCR = 0x10f };
enum { NT_PKEY = 0x110, NT_DEXCR };

int64_t ppc64_regset_fit(const struct arch_set *set, const struct arch_set *has, uint8_t *ret)
{
	uint32_t room = has->len, len = set->len;

	switch (set->note) {
	case NT_DEXCR: /* no tracer can write it */
		return 0;
	case NT_EBB: /* a thread has none before its first use, and takes it all the same */
		room = 24;
		break;
	case NT_PMU:
		room = 40;
		break;
	case NT_PKEY: /* AMR, IAMR, UAMOR: of these the kernel takes the first, and that alone */
		len = 8;
		break;
	}
	if (set->len != room || len > set->len)
		return -EBADMSG;
	memcpy(ret, set->data, len);
	return len;
}

/*
 * The kernel keeps checkpointed registers for a thread in a transaction alone, which nothing from
 * outside can put it into.
 */
const char *ppc64_set_lost(const struct arch_set *set)
{
	if (set->note >= NT_TM_CGPR && set->note <= NT_TM_CDSCR && set->note != NT_TM_SPR)
		return "it is in a transaction (transactional memory), which nothing can begin "
		       "again";
	return NULL;
}
