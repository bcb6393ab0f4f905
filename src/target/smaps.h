/* SPDX-License-Identifier: MIT */
/*
 * The text of /proc/PID/maps and /proc/PID/smaps as an array.
 *
 *	7f00a000-7f00b000 rw-p 00002000 fe:00 247134      /lib/a\012b      <- maps, and first line
 *	KernelPageSize:        4 kB                                        <- smaps
 *	ProtectionKey:         1                       where CPU and kernel have them
 *	VmFlags: rd wr mr mw me ac
 *
 * Names are the target's own choice; any bytes are taken without harm. Strings lie in one heap and
 * are named by their offset, which stays good while the heap grows; equal neighbours are one
 * string.
 */
#ifndef TARGET_SMAPS_H
#define TARGET_SMAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/target/procfs.h"

struct smaps_vma {
	uint64_t start, end;
	uint64_t pgoff; /* bytes */
	uint64_t ino;
	uint32_t major, minor; /* of the super block, which stat() may name otherwise */
	uint32_t prot;	       /* PROT_* */
	bool shared;
	uint8_t page_shift; /* of KernelPageSize, 0: not read */
	uint8_t pkey;	    /* ProtectionKey, below M_PKEYS */
	uint32_t name;	    /* as printed, 0: none */
	uint32_t vmflags;   /* the VmFlags line, 0: not read */
	uint32_t flags;	    /* M_VMF_* of it */
	bool may_write;	    /* mw: the file was opened for writing, if the mapping is shared */
	bool no_expand;	    /* de */
	bool wp;	    /* uw, where smaps.drop_wp left it out */
};

enum { SMAPS_RECENT = 8 };

struct smaps {
	struct smaps_vma *v; /* ascending, disjoint */
	uint32_t n, room;
	char *strings; /* [0] is '\0' */
	size_t len, strings_room;
	uint32_t recent[SMAPS_RECENT]; /* VmFlags lines seen last */
	bool keys;		       /* some of v has a protection key that is not 0 */
	bool drop_wp; /* of the caller's: write protection by userfaultfd is left out of VmFlags, of
			 memory that could be tracked by us */
};

void smaps_deinit(struct smaps *s);

static inline const char *smaps_string(const struct smaps *s, uint32_t off)
{
	return s->strings + off;
}

/*
 * Private memory without a file: what only writes of this process itself change, and its page
 * tables tell.
 */
bool smaps_trackable(const struct smaps *s, const struct smaps_vma *v);

/* Replaces what @s holds. -EBADMSG when it is not such a text, -ENOMEM, or the error of reading. */
int smaps_parse(struct smaps *s, struct procfs_lines *l);

/* /proc/@tid/@file, "maps" or "smaps"; -ESRCH or -ENOENT when the task has gone. */
int smaps_read(struct smaps *s, pid_t tid, const char *file);

/*
 * Takes VmFlags, page sizes and keys over from @old, an earlier smaps of the same process, for
 * every VMA. False when one of them is not there just so; @s is then of no use.
 */
bool smaps_inherit(struct smaps *s, const struct smaps *old);

#endif
