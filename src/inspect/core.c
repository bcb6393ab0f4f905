/* SPDX-License-Identifier: MIT */
/* ELF core files out of an image: which memory goes where, and the headers that say so. */
#include "src/inspect/core.h"

#include <elf.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/inspect/inspect.h"
#include "src/inspect/procmem.h"

enum {
	COPY_LEN = 1 << 20,
	MERGE_GAP = 64 << 10, /* a hole this small costs less than a segment of its own */
};

/* From here on an anonymous mapping is a reservation: only its stored pages are worth a segment. */
#define RESERVE_LEN	      (64ULL << 30)
#define RESERVE_LEN_NORESERVE (1ULL << 30)

struct seg {
	const struct m_vma *v;
	uint64_t addr, len;
	uint64_t off; /* in the core */
	bool filled;  /* false: p_filesz 0 */
	bool header;  /* first page of an ELF file, from the disk */
};

struct core {
	struct image_mem *mem;
	const struct model *m;
	const struct m_proc *proc;
	const struct arch_desc *arch;
	struct objects *objects;
	struct procmem *pm;
	size_t nsegs, max_segs;
	struct seg *segs;
	struct core_file out;
	struct core_seq seq;
	uint64_t tags_off; /* of the first of them in the core */
	uint8_t *copy;	   /* COPY_LEN */
};

static int add_seg(struct core *c, const struct m_vma *v, uint64_t addr, uint64_t end, bool filled)
{
	if (addr >= end)
		return 0;
	if (c->nsegs == c->max_segs) {
		size_t max = c->max_segs ? c->max_segs * 2 : 256;
		struct seg *p = reallocarray(c->segs, max, sizeof(*p));

		if (!p)
			return -ENOMEM;
		c->segs = p;
		c->max_segs = max;
	}
	c->segs[c->nsegs++] =
		(struct seg){.v = v, .addr = addr, .len = end - addr, .filled = filled};
	return 0;
}

/* The next stored extent of @v at or above @addr, of either home, in addresses. 1, 0 none, -errno.
 */
static int next_stored(struct core *c, const struct m_vma *v, uint64_t addr, struct md_extent *ret,
		       struct err *err)
{
	struct procmem_home home = procmem_home(c->pm, v);
	struct md_extent e;
	int best = 0, n;

	if (home.has_private) {
		n = image_mem_extent(c->mem, home.private_space, addr, &e, err);
		if (n < 0)
			return n;
		if (n && e.addr < v->end) {
			*ret = e;
			best = 1;
		}
	}
	if (home.has_shared) {
		n = image_mem_extent(c->mem, home.shared_space, v->pgoff + (addr - v->start), &e,
				     err);
		if (n < 0)
			return n;
		if (n && e.addr - v->pgoff < v->end - v->start) {
			e.addr = e.addr - v->pgoff + v->start;
			if (!best || e.addr < ret->addr)
				*ret = e;
			best = 1;
		}
	}
	if (best && ret->len > v->end - ret->addr)
		ret->len = v->end - ret->addr;
	return best;
}

static bool is_reservation(const struct m_vma *v)
{
	uint64_t len = v->end - v->start;

	return v->prot == PROT_NONE || len > RESERVE_LEN ||
	       ((v->flags & M_VMF_NORESERVE) && len > RESERVE_LEN_NORESERVE);
}

/* Debuggers find the file of a mapping by the build id in its first page. */
static bool wants_header(struct core *c, const struct m_vma *v)
{
	struct object *obj;

	if (v->kind != M_VMA_FILE_PRIVATE || v->pgoff || !(v->prot & PROT_READ) || !v->file_id)
		return false;
	obj = objects_get(c->objects, v->file_id);
	return obj && obj->elf;
}

/* Segments for the stored extents of @v, and empty ones between them. */
static int plan_extents(struct core *c, const struct m_vma *v, struct err *err)
{
	bool zeros = procmem_zero_filled(v);
	uint64_t at = v->start; /* planned up to here */
	struct md_extent e;
	int ret = next_stored(c, v, at, &e, err);

	if (ret >= 0 && wants_header(c, v) && (!ret || e.addr >= at + c->m->page_size)) {
		if (add_seg(c, v, at, at + c->m->page_size, true))
			return -ENOMEM;
		c->segs[c->nsegs - 1].header = true;
		at += c->m->page_size;
	}
	while (ret > 0) {
		uint64_t end = e.addr + e.len;

		if (add_seg(c, v, at, e.addr, false))
			return -ENOMEM;
		at = e.addr;
		/* Grow over what follows closely; over holes only if they read as zeros. */
		while (end < v->end && (ret = next_stored(c, v, end, &e, err)) > 0 &&
		       e.addr - end <= (zeros ? MERGE_GAP : 0))
			end = e.addr + e.len;
		if (ret < 0)
			return ret;
		if (add_seg(c, v, at, end, true))
			return -ENOMEM;
		at = end;
		if (end >= v->end)
			break;
	}
	if (ret < 0)
		return ret;
	return add_seg(c, v, at, v->end, false);
}

static int plan_vma(struct core *c, const struct m_vma *v, struct err *err)
{
	struct procmem_home home = procmem_home(c->pm, v);

	/* The program asked that this stays out of cores. */
	if (v->flags & M_VMF_DONTDUMP || (!home.has_private && !home.has_shared))
		return add_seg(c, v, v->start, v->end, false);
	if (procmem_zero_filled(v) && !is_reservation(v))
		return add_seg(c, v, v->start, v->end, true);
	return plan_extents(c, v, err);
}

static int plan(struct core *c, struct err *err)
{
	const struct m_mm *mm = procmem_mm(c->pm);

	for (uint32_t i = 0; i < mm->nvmas; i++) {
		int ret = plan_vma(c, &mm->vmas[i], err);

		if (ret == -ENOMEM)
			return err_set(err, ENOMEM, "plan the core of process %u", c->proc->pid);
		if (ret)
			return ret;
	}
	return 0;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

/* Writes @len bytes of c->copy; whole zero pages stay holes when @sparse. */
static int write_copy(struct core *c, uint64_t off, size_t len, bool sparse, struct err *err)
{
	size_t page = c->m->page_size, from = 0;

	while (from < len) {
		size_t to = from;
		ssize_t n;

		if (sparse && is_zero(c->copy + from, len - from < page ? len - from : page)) {
			from += page;
			continue;
		}
		do {
			to += page;
		} while (to < len &&
			 !(sparse && is_zero(c->copy + to, len - to < page ? len - to : page)));
		if (to > len)
			to = len;
		n = io_pwrite(c->out.fd, c->copy + from, to - from, off + from);
		if (n < 0)
			return err_set(err, (int)-n, "write %s", c->out.path);
		from = to;
	}
	return 0;
}

/* Stored bytes of @space from @at on, @len of them, to the core at @off. */
static int copy_space(struct core *c, uint64_t space, uint64_t at, uint64_t len, uint64_t off,
		      bool sparse, struct err *err)
{
	uint64_t end = at + len;
	struct md_extent e;
	int found;

	while (at < end && (found = image_mem_extent(c->mem, space, at, &e, err)) != 0) {
		uint64_t stop = e.addr + e.len < end ? e.addr + e.len : end;

		if (found < 0)
			return found;
		off += e.addr - at;
		at = e.addr;
		while (at < stop) {
			size_t want = stop - at < COPY_LEN ? stop - at : COPY_LEN;
			ssize_t n = image_mem_read(c->mem, space, at, c->copy, want, err);
			int ret;

			if (n <= 0)
				return n ? (int)n
					 : err_fail(err, EBADMSG, ERR_IMAGE,
						    "%#llx of process %u is listed but not there",
						    (unsigned long long)at, c->proc->pid);
			ret = write_copy(c, off, (size_t)n, sparse, err);
			if (ret)
				return ret;
			at += (uint64_t)n;
			off += (uint64_t)n;
		}
	}
	return 0;
}

static int write_header_page(struct core *c, const struct seg *s, struct err *err)
{
	uint64_t done = 0;

	while (done < s->len) {
		size_t want = s->len - done < COPY_LEN ? s->len - done : COPY_LEN;
		ssize_t n = procmem_read(c->pm, s->addr + done, c->copy, want, err);
		int ret;

		/* The file shrank under us: the page stays a hole. */
		if (n <= 0)
			return (int)n;
		ret = write_copy(c, s->off + done, (size_t)n, true, err);
		if (ret)
			return ret;
		done += (uint64_t)n;
	}
	return 0;
}

static int write_seg(struct core *c, const struct seg *s, struct err *err)
{
	struct procmem_home home = procmem_home(c->pm, s->v);
	int ret = 0;

	if (s->header)
		return write_header_page(c, s, err);
	if (home.has_shared)
		ret = copy_space(c, home.shared_space, s->v->pgoff + (s->addr - s->v->start),
				 s->len, s->off, true, err);
	/* A private page of zeros over a shared page of data must be written. */
	if (!ret && home.has_private)
		ret = copy_space(c, home.private_space, s->addr, s->len, s->off, !home.has_shared,
				 err);
	return ret;
}

static void put_phdr(struct core_seq *s, uint32_t type, uint32_t flags, uint64_t off, uint64_t addr,
		     uint64_t filesz, uint64_t memsz, uint64_t align)
{
	core_put_uint(s, type, 4);
	core_put_uint(s, flags, 4);
	core_put_uint(s, off, 8);
	core_put_uint(s, addr, 8);
	core_put_uint(s, 0, 8);
	core_put_uint(s, filesz, 8);
	core_put_uint(s, memsz, 8);
	core_put_uint(s, align, 8);
}

static void put_ehdr(struct core *c, uint64_t nphdrs, uint64_t shoff)
{
	uint8_t ident[EI_NIDENT] = {
		ELFMAG0,	   ELFMAG1,   ELFMAG2, ELFMAG3, c->arch->elf_class,
		c->arch->elf_data, EV_CURRENT};
	struct core_seq *s = &c->seq;

	core_put(s, ident, sizeof(ident));
	core_put_uint(s, ET_CORE, 2);
	core_put_uint(s, c->arch->elf_machine, 2);
	core_put_uint(s, EV_CURRENT, 4);
	core_put_uint(s, 0, 8);
	core_put_uint(s, sizeof(Elf64_Ehdr), 8);
	core_put_uint(s, shoff, 8);
	/* ELFv2, as the kernel's own have it for little-endian programs (asm/elf.h). */
	core_put_uint(
		s, c->arch->elf_machine == EM_PPC64 && c->arch->elf_data == ELFDATA2LSB ? 2 : 0, 4);
	core_put_uint(s, sizeof(Elf64_Ehdr), 2);
	core_put_uint(s, sizeof(Elf64_Phdr), 2);
	core_put_uint(s, shoff ? PN_XNUM : nphdrs, 2);
	core_put_uint(s, shoff ? sizeof(Elf64_Shdr) : 0, 2);
	core_put_uint(s, shoff ? 1 : 0, 2);
	core_put_uint(s, 0, 2);
}

static uint32_t phdr_flags(uint32_t prot)
{
	return (prot & PROT_READ ? PF_R : 0) | (prot & PROT_WRITE ? PF_W : 0) |
	       (prot & PROT_EXEC ? PF_X : 0);
}

/* The section header that holds a number of segments too large for e_phnum (PN_XNUM). */
static void put_xnum(struct core_seq *s, uint64_t nphdrs)
{
	core_put_zeros(s, 4 + 4 + 8 + 8 + 8);
	core_put_uint(s, 1, 8); /* sh_size: number of sections */
	core_put_zeros(s, 4);
	core_put_uint(s, nphdrs, 4); /* sh_info */
	core_put_zeros(s, 8 + 8);
}

/* --- tags of memory ------------------------------------------------------------------------- */

static bool has_tags(const struct core *c, const struct m_vma *v)
{
	return c->arch->tags && v->flags & M_VMF_TAGS;
}

static uint64_t tags_len(const struct m_vma *v)
{
	return (v->end - v->start) / M_TAGS_BYTE;
}

static uint64_t count_tags(const struct core *c)
{
	const struct m_mm *mm = procmem_mm(c->pm);
	uint64_t n = 0;

	for (uint32_t i = 0; i < mm->nvmas; i++)
		n += has_tags(c, &mm->vmas[i]);
	return n;
}

/* As the kernel's cores have them: a segment for each mapping, behind those of memory. */
static void put_tags(struct core *c, uint64_t *off)
{
	const struct m_mm *mm = procmem_mm(c->pm);

	c->tags_off = *off;
	for (uint32_t i = 0; i < mm->nvmas; i++) {
		const struct m_vma *v = &mm->vmas[i];

		if (!has_tags(c, v))
			continue;
		put_phdr(&c->seq, c->arch->tags->core_segment, 0, *off, v->start, tags_len(v),
			 v->end - v->start, 0);
		*off += tags_len(v);
	}
}

static int write_tags(struct core *c, struct err *err)
{
	const struct m_mm *mm = procmem_mm(c->pm);
	uint64_t off = c->tags_off;
	uint32_t run = 0;

	for (uint32_t i = 0; i < mm->nvmas; i++) {
		const struct m_vma *v = &mm->vmas[i];

		if (!has_tags(c, v))
			continue;
		for (; run < mm->ntags && mm->tags[run].start < v->end; run++) {
			const struct m_tags *t = &mm->tags[run];
			ssize_t n = io_pwrite(c->out.fd, t->data, t->len / M_TAGS_BYTE,
					      off + (t->start - v->start) / M_TAGS_BYTE);

			if (n < 0)
				return err_set(err, (int)-n, "write %s", c->out.path);
		}
		off += tags_len(v);
	}
	return 0;
}

/*
 * ELF header │ program headers │ [section header] │ notes │ pad │ memory │ tags
 *
 * The notes are written first, to learn their length; then the headers; then the memory.
 */
static int write_headers(struct core *c, struct err *err)
{
	uint64_t page = c->m->page_size, nphdrs = c->nsegs + 1 + count_tags(c);
	uint64_t shoff = sizeof(Elf64_Ehdr) + nphdrs * sizeof(Elf64_Phdr);
	uint64_t notes, notes_end, off;
	bool xnum = nphdrs >= PN_XNUM, big = c->arch->elf_data == ELFDATA2MSB;
	struct core_seq *s = &c->seq;
	int ret;

	notes = shoff + (xnum ? sizeof(Elf64_Shdr) : 0);
	core_begin(s, c->out.fd, notes, big);
	ret = core_notes(s, c->m, c->proc, procmem_mm(c->pm), c->arch, err);
	if (ret)
		return ret;
	notes_end = core_at(s);
	ret = core_end(s);
	if (ret)
		return err_set(err, -ret, "write %s", c->out.path);
	core_begin(s, c->out.fd, 0, big);
	put_ehdr(c, nphdrs, xnum ? shoff : 0);
	put_phdr(s, PT_NOTE, 0, notes, 0, notes_end - notes, 0, 4);
	off = (notes_end + page - 1) / page * page;
	for (size_t i = 0; i < c->nsegs; i++) {
		struct seg *g = &c->segs[i];

		g->off = off;
		put_phdr(s, PT_LOAD, phdr_flags(g->v->prot), off, g->addr, g->filled ? g->len : 0,
			 g->len, page);
		off += g->filled ? g->len : 0;
	}
	put_tags(c, &off);
	if (xnum)
		put_xnum(s, nphdrs);
	ret = core_end(s);
	if (ret)
		return err_set(err, -ret, "write %s", c->out.path);
	/* The length at once: a hole at the end is part of the last segment. */
	if (ftruncate(c->out.fd, (off_t)off) < 0)
		return err_set(err, errno, "make %s %llu bytes long", c->out.path,
			       (unsigned long long)off);
	return 0;
}

static int write_core(struct core *c, const char *path, struct err *err)
{
	int ret = plan(c, err);

	if (!ret)
		ret = core_file_open(&c->out, path, err);
	if (!ret)
		ret = write_headers(c, err);
	for (size_t i = 0; !ret && i < c->nsegs; i++)
		if (c->segs[i].filled)
			ret = write_seg(c, &c->segs[i], err);
	if (!ret)
		ret = write_tags(c, err);
	return ret ? ret : core_file_commit(&c->out, err);
}

static int core_of(struct image_mem *mem, const struct model *m, const struct m_proc *proc,
		   struct objects *objects, const char *path, struct err *err)
{
	struct core *c = calloc(1, sizeof(*c));
	int ret = -ENOMEM;

	if (!c)
		return err_set(err, ENOMEM, "write %s", path);
	c->mem = mem;
	c->m = m;
	c->proc = proc;
	c->objects = objects;
	c->out.fd = -1;
	c->arch = arch_by_machine(m->elf_machine);
	c->pm = procmem_new(mem, objects, m, proc);
	c->copy = malloc(COPY_LEN);
	if (m->page_size < 4096 || m->page_size & (m->page_size - 1))
		ret = err_fail(err, EBADMSG, ERR_IMAGE, "the image's page size is %u",
			       m->page_size);
	else if (!c->arch)
		ret = err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			       "ELF machine %u of the image is not known", m->elf_machine);
	else if (!c->pm || !c->copy)
		ret = err_set(err, ENOMEM, "write %s", path);
	else
		ret = write_core(c, path, err);
	core_file_close(&c->out);
	procmem_free(c->pm);
	free(c->segs);
	free(c->copy);
	free(c);
	return ret;
}

static bool has_core(const struct m_proc *p)
{
	return p->state != M_DEAD && p->nthreads;
}

static int all_cores(struct image_mem *mem, const struct model *m, struct objects *objects,
		     const char *out_path, uint32_t pid, struct err *err)
{
	unsigned living = 0;

	for (uint32_t i = 0; i < m->nprocs; i++)
		living += has_core(&m->procs[i]);
	if (!pid && living > 1 && !strcmp(out_path, "-")) {
		err_fail(err, EINVAL, ERR_OTHER,
			 "the image has %u processes, and standard output takes one core", living);
		err_hint(err, "choose one with --pid, or give the name of a file");
		return -EINVAL;
	}
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];
		cleanup_free char *path = NULL;
		int ret;

		if (!has_core(p) || (pid && p->pid != pid))
			continue;
		if (!pid && living > 1)
			ret = asprintf(&path, "%s.%u", out_path, p->pid);
		else
			ret = asprintf(&path, "%s", out_path);
		if (ret < 0) {
			path = NULL;
			return err_set(err, ENOMEM, "write %s", out_path);
		}
		ret = core_of(mem, m, p, objects, path, err);
		if (ret || pid)
			return ret;
	}
	if (!pid && living)
		return 0;
	if (pid && model_proc(m, pid))
		return err_fail(err, EINVAL, ERR_OTHER, "process %u was a zombie: it has no memory",
				pid);
	return err_fail(err, ESRCH, ERR_NO_PROCESS, "no process %u in the image", pid);
}

int inspect_core(struct image *img, const char *out_path, uint32_t pid, struct err *err)
{
	struct model *m = image_read_model(img, err);
	struct image_mem *mem = m ? image_mem_open(img, err) : NULL;
	struct objects *objects = m ? objects_new(m) : NULL;
	int ret;

	if (!m || !mem)
		ret = err && err->errnum ? -err->errnum : -EBADMSG;
	else if (!objects)
		ret = err_set(err, ENOMEM, "write %s", out_path);
	else
		ret = all_cores(mem, m, objects, out_path, pid, err);
	objects_free(objects);
	if (mem)
		image_mem_close(mem);
	if (m)
		model_free(m);
	return ret;
}
