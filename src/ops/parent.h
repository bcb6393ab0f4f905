/* SPDX-License-Identifier: MIT */
/* The earlier image that an incremental dump refers to. */
#ifndef OPS_PARENT_H
#define OPS_PARENT_H

#include "memdump/memdump.h"
#include "src/image/image.h"
#include "src/ops/ops.h"

/*
 * Opens the memory of opts->prev_dir, as seen from the new image @img, and has that refer to it.
 * An image of another process is refused, had it the same number or not. The caller closes *ret.
 */
int parent_open(const struct dump_opts *opts, struct image *img, struct md_file **ret,
		struct err *err);

#endif
