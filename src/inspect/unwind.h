/* SPDX-License-Identifier: MIT */
/*
 * Frames of one thread, by libunwind over the memory of the image and the files on disk.
 *
 * Call-frame information is outside bytes that libunwind interprets: every byte it reads goes
 * through a bounded accessor, and a frame may cost only so many reads, so that a damaged file ends
 * a trace and never hangs it.
 */
#ifndef INSPECT_UNWIND_H
#define INSPECT_UNWIND_H

#include <stdbool.h>
#include <stdint.h>

#include "arch/arch.h"
#include "base/err.h"
#include "src/inspect/object.h"
#include "src/inspect/procmem.h"

/* Where an address of the process lies. */
struct place {
	const struct m_vma *vma; /* NULL: not mapped */
	struct object *obj;	 /* NULL: no file, no vDSO */
	uint64_t file_off;	 /* in the file, or in the mapping when there is none */
	bool loaded;		 /* obj is an ELF object that loads this address: bias is known */
	uint64_t vaddr, bias;	 /* address - bias = vaddr of the object */
};

struct unwind;

/* All arguments must outlive the result. NULL with @err. */
struct unwind *unwind_new(const struct arch_desc *arch, struct objects *objects, struct procmem *pm,
			  struct err *err);
void unwind_free(struct unwind *u);

void unwind_place(struct unwind *u, uint64_t addr, struct place *ret);

struct unwind_frame {
	uint64_t pc;
	uint64_t lookup; /* in the function's body: pc - 1 where pc is a return address */
	bool signal;	 /* the frame the kernel pushed for a signal handler */
};

/*
 * Calls @emit for each frame, innermost first, until the stack ends, @max frames are out or @emit
 * returns false. NULL when the stack ended where it should, else why it went no further (static
 * text). A damaged image is -EBADMSG in @err beside the text.
 */
const char *unwind_thread(struct unwind *u, const struct m_thread *t, unsigned max,
			  bool (*emit)(void *arg, const struct unwind_frame *f), void *arg,
			  struct err *err);

#endif
