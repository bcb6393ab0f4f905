/* SPDX-License-Identifier: MIT */
/*
 * Memory and descriptors into the empty processes of spawn.h.
 *
 *	fill_maps()       every VMA, with its protection, empty
 *	fill_vdso()       the kernel's own at its old place
 *	fill_open()       the way in for contents: then fill_write() from any thread
 *	fill_late()       what that had to leave to the thread that traces the process
 *	fill_tags()       tags of memory, where the CPU has them
 *	fill_close()
 *	fill_advice()     what must come behind the contents: madvise, mlock, guards, names,
 *	                  protection keys, seals
 *	fill_take()       a few descriptors under known numbers, for calls that want one
 *	fill_table()      the descriptor table itself
 *
 * A process may be forked from one that is filled already, its parent, so that the two share the
 * pages that are equal (struct fill_kin):
 *
 *	parent   │ A: 1 2 3 │ B: 4 5 6 │ C: 7 8 9 │	mappings and their pages
 *	child    │ A: 1 2 x │          │ C: 7   9 │	in the image
 *	         A kept; x is not 3, and is written; B unmapped; C kept, 8 dropped
 *
 * The tool's descriptors (make.h) go into a process by its own pidfd_getfd() on the tool, so that
 * they stay one open file description wherever they appear.
 */
#ifndef TARGET_FILL_H
#define TARGET_FILL_H

#include <sys/syscall.h>

#include "src/target/make.h"
#include "src/target/spawn.h"

#ifndef SYS_map_shadow_stack
#define SYS_map_shadow_stack 453 /* Linux 6.6, the same number on every CPU */
#endif

/* Is the kernel's vdso of the size that the image's processes had? ERR_UNSUPPORTED if not. */
int fill_check_vdso(const struct spawn *s, const struct m_proc *p, struct err *err);

struct fill_span {
	uint64_t start, end;
};

/* What a process has of its parent, as a child of which it was forked. */
struct fill_kin {
	const struct m_proc *from; /* whose memory was full then; NULL: the process is empty */
	uint8_t *keep;		   /* of each VMA of the process: it stays as it came */
	/* Pages of VMAs that stay, ascending. */
	struct fill_span *drop; /* which the process has not */
	size_t ndrop;
	struct fill_span *both; /* which both have: written where they differ */
	size_t nboth;
};

/* May @v of a child be what it inherited of @from of its parent? */
bool fill_may_keep(const struct m_vma *from, const struct m_vma *v);

int fill_maps(struct spawn *s, struct remote *r, const struct m_proc *p, const struct make *mk,
	      const struct fill_kin *kin, struct err *err);
int fill_vdso(struct spawn *s, struct remote *r, const struct m_proc *p, struct err *err);

struct script;

/* For fill_maps.c alone: the attachment of a System V segment whose mappings are made, in order. */
struct fill_attach {
	uint32_t shm_id; /* 0: none yet */
	uint64_t base;	 /* where its first byte was */
	uint64_t spare;	 /* room for a whole segment, 0: not looked for */
};

/* That of mapping @first of @p, with all that is of it; nothing where that has been done. */
int fill_attach(struct fill_attach *a, struct script *script, const struct spawn *s,
		const struct m_proc *p, uint32_t first, const struct make *mk, struct err *err);

/* How contents get into one process; the mappings are those of fill_maps(). */
struct fill {
	const struct m_proc *p;
	const struct fill_kin *kin;
	int mem_fd; /* /proc/PID/mem */
	int uffd;   /* pages of private anonymous memory come by UFFDIO_COPY; -1: not to be had */
	char uffd_reason[96];
	uint8_t *by_uffd; /* of each VMA */
	pid_t tracer;	  /* the thread that traces the process */
	struct fill_late *late;
};

/* The kernel's own: not mapped like others, and its contents are never written. */
static inline bool fill_is_kernels(const struct m_vma *v)
{
	return v->kind == M_VMA_VDSO || v->kind == M_VMA_VVAR || v->kind == M_VMA_VSYSCALL;
}

/* Borrows @kin. */
int fill_open(struct fill *f, struct remote *r, const struct m_proc *p, const struct fill_kin *kin,
	      struct err *err);
/*
 * @len bytes to @addr, whole pages that were not written before; @buf NULL: zeros. Any thread,
 * several at a time.
 * -EFAULT: there is no such mapping.
 */
int fill_write(const struct fill *f, uint64_t addr, const void *buf, uint64_t len, struct err *err);
void fill_close(struct fill *f);

/*
 * Memory that the process may not write itself takes a write by force. A kernel may grant that to
 * the thread that traces the process alone (Linux 6.12, proc_mem.force_override=ptrace; it is how
 * Debian's 7.3 comes): fill_write() of another one keeps such contents, fill_late() of that one
 * writes them. Shadow stacks and what the linker made read-only are such memory: little.
 */
int fill_late(const struct fill *f, struct err *err);

/* For fill_mem.c alone: @buf NULL: zeros. */
int fill_late_open(struct fill *f, struct err *err);
void fill_late_close(struct fill *f);
int fill_keep(const struct fill *f, uint64_t addr, const void *buf, uint64_t len, struct err *err);

/* What mmap() and mprotect() are told for the tags of @v. */
uint64_t fill_tags_prot(const struct m_vma *v);
/*
 * Behind the contents, before the registers, which may have the CPU look at them. By the thread
 * that traces the process. Pages that have the right ones are not touched, so what a child shares
 * with its parent stays shared.
 */
int fill_tags(struct remote *r, const struct m_proc *p, const struct fill_kin *kin,
	      struct err *err);

int fill_advice(struct remote *r, const struct m_proc *p, struct err *err);

/*
 * The tool's descriptors @fds as numbers 1 to @n of a process whose table is empty (-1: left out);
 * fill_drop() empties it again.
 */
int fill_take(struct remote *r, const int *fds, unsigned n, struct err *err);
int fill_drop(struct remote *r, struct err *err);

int fill_table(struct remote *r, const struct m_fdtable *t, const struct make *mk, struct err *err);

#endif
