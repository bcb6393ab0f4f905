/* SPDX-License-Identifier: MIT */
/* Between restore.c, restore_memory.c and restore_guard.c. */
#ifndef OPS_RESTORE_H
#define OPS_RESTORE_H

#include "src/ops/ops.h"
#include "src/target/fill.h"
#include "src/target/spawn.h"

struct restore {
	const struct restore_opts *opts;
	struct restore_result *res;
	pid_t tool; /* whose worker we are; 0: nobody's */
	struct image *image;
	struct model *model;
	struct make *make;
	struct spawn spawn;
	bool spawning;
	struct fill *fills; /* of the model's processes */
	uint32_t nfills;
	bool only_segments; /* the first of two passes over the pages */
};

/* -EINTR with ERR_INTERRUPTED when the caller has been asked to stop. */
int restore_interrupted(const struct restore *r, struct err *err);

/* Segments that are sealed against writing, filled and sealed: before anything is mapped. */
int restore_sealed(struct restore *r, struct err *err);
/* Mappings, and a way in for every process. */
int restore_maps(struct restore *r, struct err *err);
int restore_memory(struct restore *r, struct err *err);
void restore_close_fills(struct restore *r);

/*
 * The restore itself. @tool: the caller is a worker of this process, whose child the root becomes;
 * 0: the caller is the tool.
 */
int restore_tree(const struct restore_opts *opts, pid_t tool, struct restore_result *ret,
		 struct err *err);

int restore_point_of_no_return(pid_t tool, struct err *err);

#endif
