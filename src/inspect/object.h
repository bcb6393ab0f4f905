/* SPDX-License-Identifier: MIT */
/*
 * The mapped files of a model as they lie on this disk today, and whether they still are what the
 * dumped process had mapped.
 *
 * A file is opened at first use and stays open until objects_free(). It counts as the same when the
 * build id of the model equals the one on disk; where the model has no build id, when size and time
 * of last change are equal. Device and inode numbers are not compared: they differ between stat()
 * and /proc/PID/maps on some file systems, and a restored backup is as good.
 */
#ifndef INSPECT_OBJECT_H
#define INSPECT_OBJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "src/image/model.h"
#include "src/inspect/elf.h"

enum object_state {
	OBJECT_SAME,	  /* build id, or size and time, agree */
	OBJECT_UNCHECKED, /* the image says nothing to compare with: used, but not vouched for */
	OBJECT_CHANGED,	  /* another file by now: not used */
	OBJECT_ABSENT,	  /* cannot be opened: not used */
};

struct object {
	const struct m_file *file; /* NULL: the vDSO */
	enum object_state state;
	char why[160];	   /* CHANGED, ABSENT: what is wrong, for a person; else empty */
	int fd;		   /* -1 unless usable */
	struct elf *elf;   /* NULL: not usable, or no ELF file */
	struct elf *debug; /* separate debug file with the same build id, NULL: none */
	bool debug_tried;
};

struct objects;

/* @m must outlive the result. NULL: out of memory. */
struct objects *objects_new(const struct model *m);
void objects_free(struct objects *o);

/* The mapped file @file_id; NULL when the model has no such file or memory is out. */
struct object *objects_get(struct objects *o, uint32_t file_id);

/* May its contents stand in for pages that are not in the image? */
static inline bool object_usable(const struct object *obj)
{
	return obj->fd >= 0;
}

/*
 * Name of the function that holds @vaddr of the object: from its own full symbol table, else from
 * its debug file, else from the dynamic symbols. False: none.
 */
bool object_symbol(struct object *obj, uint64_t vaddr, const char **ret_name, uint64_t *ret_start);

/* "" when there is none; at most @len bytes of hexadecimal text, always ends with NUL. */
void object_build_id(const struct object *obj, char *text, size_t len);

#endif
