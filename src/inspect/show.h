/* SPDX-License-Identifier: MIT */
/* Parts of the JSON document, one file each. Every function writes members of what is open. */
#ifndef INSPECT_SHOW_H
#define INSPECT_SHOW_H

#include "arch/arch.h"
#include "src/image/image.h"
#include "src/inspect/inspect.h"
#include "src/inspect/doc.h"

/* "memory": what each space holds and how it is packed. Of one process and its segments, or all. */
int show_memory(struct doc *d, struct image *img, const struct model *m,
		const struct show_opts *opts, struct err *err);

/* The documents of one file: every entry of a metadata file, every block of the block file. */
int show_fields(struct doc *d, struct image *img, const char *file, struct err *err);
int show_blocks(struct doc *d, struct image *img, struct err *err);

/* An object of the "processes" array. @arch may be NULL: registers are then not named. */
void show_proc(struct doc *d, const struct model *m, const struct m_proc *p,
	       const struct arch_desc *arch, const struct show_opts *opts);
/* Members of one thread. */
void show_thread(struct doc *d, const struct m_thread *t, const struct arch_desc *arch,
		 const struct show_opts *opts);

/* An object of the "files" array. */
void show_file(struct doc *d, const struct m_file *f);
const char *show_file_type(enum m_file_type type);

#endif
