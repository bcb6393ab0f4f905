/* SPDX-License-Identifier: MIT */
/*
 * Pre-copy: the memory of a tree is copied while it runs, until little is left for the stop.
 *
 *	precopy_begin()    arms write tracking: one short stop
 *	precopy_rounds()   copies everything, then what was written meanwhile, and again ...
 *	                   (the tree is frozen here)
 *	precopy_look()     the look at the page tables begins
 *	                   (the tree is collected here)
 *	precopy_frozen()   the look ends: what is left goes into memory made ready
 *	                   (the tree may run on here)
 *	precopy_finish()   writes what was kept, and the map that says which pages count
 *	precopy_keep()     goes on tracking, for the next dump
 *
 * What is stored is the state of the one instant in which the tree was frozen. A page counts as
 * stored only if the kernel says that it was not written since it was read; everything else, the
 * memory that is not tracked among it, is read while the tree is frozen.
 *
 * One thread calls.
 */
#ifndef OPS_PRECOPY_H
#define OPS_PRECOPY_H

#include "memdump/memdump.h"
#include "src/image/model.h"
#include "src/ops/lost.h"
#include "src/ops/ops.h"
#include "src/ops/ranges.h"
#include "src/target/target.h"

struct precopy;

/*
 * NULL without @err set when no process of the tree can be tracked and there is no @parent:
 * @ret->reason tells why. @parent: the memory of an earlier image, or NULL; it outlives the result.
 */
struct precopy *precopy_begin(struct target *t, const struct dump_opts *opts,
			      struct md_file *parent, struct precopy_result *ret, struct err *err);
void precopy_free(struct precopy *p); /* NULL is allowed */

/*
 * @mopts: the run's; round and more are set here. @writer must have what rounds need (a block
 * file). -EBUSY with ERR_BUDGET when opts->strict_freeze and no number of rounds meets max_freeze.
 */
int precopy_rounds(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		   struct err *err);

/* Frozen: other threads take the last look, while the caller has the tree collected. */
void precopy_look(struct precopy *p);

/*
 * Frozen, and @m collected; by userfaultfd without guard regions, which are added. What does not
 * fit in the memory made ready is written at once; what could not be read goes to @lost.
 */
int precopy_frozen(struct precopy *p, struct model *m, const struct ranges *r,
		   struct md_writer *writer, const struct md_opts *mopts, struct lost *lost,
		   struct err *err);

/* The image is there, number @image: the next dump can tell what was written since. */
int precopy_keep(struct precopy *p, uint64_t image, struct err *err);

/* @stats: of all rounds together. The writer's flush() has been called on success. */
int precopy_finish(struct precopy *p, struct md_writer *writer, const struct md_opts *mopts,
		   struct md_stats *stats, struct err *err);

#endif
