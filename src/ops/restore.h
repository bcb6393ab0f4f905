/* SPDX-License-Identifier: MIT */
/* Between restore.c, restore_memory.c, restore_kin.c, restore_cpu.c, restore_guard.c. */
#ifndef OPS_RESTORE_H
#define OPS_RESTORE_H

#include "src/ops/ops.h"
#include "src/target/fill.h"
#include "src/target/spawn.h"

/* A process as a parent or child of one with whom it shares pages. */
struct restore_kin {
	bool parent; /* some of its children share with it: full before it has them */
	bool mapped, full;
	uint64_t npages; /* of a process that has children: those in the image; 0: not counted */
	struct fill_kin kin;
	/* What the image has as pages of another process, and is not inherited. */
	struct fill_span *fetch;
	size_t nfetch;
};

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
	struct restore_kin *kin;
	struct image_mem *mem; /* NULL when only one process lives */
	bool only_segments;    /* the first of two passes over the pages */
	uint32_t only_pid;     /* the one process whose turn it is; 0: all that are not full */
};

/* -EINTR with ERR_INTERRUPTED when the caller has been asked to stop. */
int restore_interrupted(const struct restore *r, struct err *err);

/* Refuses images of another CPU or page size, and register sets that cannot be this CPU's. */
int restore_check_cpu(const struct restore *r, struct err *err);

/* Segments that are sealed against writing, filled and sealed: before anything is mapped. */
int restore_sealed(struct restore *r, struct err *err);
/* Mappings, and a way in for every process. */
int restore_maps(struct restore *r, struct err *err);
int restore_memory(struct restore *r, struct err *err);
/* Tags of memory, where it has them: of all processes that are not full; of process @i. */
int restore_tags(struct restore *r, struct err *err);
int restore_tags_of(struct restore *r, uint32_t i, struct remote *remote, struct err *err);
void restore_close_fills(struct restore *r);

/* Who is to share with whom, before anything is created. */
int restore_kin_plan(struct restore *r, struct err *err);
/* As spawn_opts.parent: mappings and pages of @p, if a child is to share them. */
int restore_parent(void *arg, struct remote *remote, const struct m_proc *p, struct err *err);
/* Which pages process @i has in common with its parent, when it is about to be mapped. */
int restore_kin_spans(struct restore *r, uint32_t i, struct err *err);
/* What it has as another's pages and did not inherit, when all else is written. */
int restore_kin_fetch(struct restore *r, uint32_t i, struct err *err);
void restore_kin_free(struct restore *r);
/* Mappings of process @i, and a way in. */
int restore_map(struct restore *r, uint32_t i, struct remote *remote, struct err *err);

/*
 * The restore itself. @tool: the caller is a worker of this process, whose child the root becomes;
 * 0: the caller is the tool.
 */
int restore_tree(const struct restore_opts *opts, pid_t tool, struct restore_result *ret,
		 struct err *err);

int restore_point_of_no_return(pid_t tool, struct err *err);

#endif
