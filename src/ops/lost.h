/* SPDX-License-Identifier: MIT */
/*
 * Memory that had a page and could not be read while the tree stood still. Guard regions
 * (MADV_GUARD_INSTALL) look like that and are no loss: what lies in one does not count.
 *
 *	could not be read   0x1000-0x5000
 *	guard regions              0x3000-0x9000
 *	lost                0x1000-0x3000: 8192 bytes
 *
 * What its own process may not read either (PROT_NONE) is asked of the guardian first, who traces
 * it.
 */
#ifndef OPS_LOST_H
#define OPS_LOST_H

#include "src/image/model.h"
#include "src/ops/extents.h"
#include "src/target/target.h"

struct lost {
	struct target *target; /* frozen; NULL: nobody is asked */
	const struct model *model;
	struct extents pieces;
	uint64_t unnoted; /* there was no memory to note these: they count */
};

/* @reader tells from here on. */
void lost_note(struct lost *l, struct md_reader *reader);
/* When @m has its guard regions. */
uint64_t lost_bytes(struct lost *l, const struct model *m);
void lost_deinit(struct lost *l);

#endif
