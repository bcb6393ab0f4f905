/* SPDX-License-Identifier: MIT */
/* One process's memory, put together from the image, files on disk and zeros. */
#include "src/inspect/procmem.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/io.h"

enum {
	CHUNK = 4096, /* divides every page size */
	NCHUNKS = 256,
};

struct procmem {
	struct image_mem *mem;
	struct objects *objects;
	const struct m_mm *mm; /* of the process whose address space it is */
	uint64_t space;
	const struct m_vma *last;
	/* direct-mapped; addr 1: empty. An unreadable chunk is remembered too. */
	struct {
		uint64_t addr;
		bool readable;
	} slots[NCHUNKS];
	uint8_t *chunks;
};

/* CLONE_VM without CLONE_THREAD: the pages are stored once, with the first such process. */
static const struct m_proc *owner_of(const struct model *m, const struct m_proc *proc)
{
	if (!proc->shares_vm)
		return proc;
	for (uint32_t i = 0; i < m->nprocs; i++)
		if (!m->procs[i].shares_vm && m->procs[i].vm_id == proc->vm_id &&
		    m->procs[i].state != M_DEAD)
			return &m->procs[i];
	return proc;
}

struct procmem *procmem_new(struct image_mem *mem, struct objects *objects, const struct model *m,
			    const struct m_proc *proc)
{
	cleanup_free struct procmem *pm = calloc(1, sizeof(*pm));
	const struct m_proc *owner = owner_of(m, proc);

	if (!pm)
		return NULL;
	pm->mem = mem;
	pm->objects = objects;
	pm->mm = proc->mm.nvmas ? &proc->mm : &owner->mm;
	pm->space = MD_SPACE_PROC(owner->pid);
	pm->chunks = malloc((size_t)CHUNK * NCHUNKS);
	for (unsigned i = 0; i < NCHUNKS; i++)
		pm->slots[i].addr = 1;
	return pm->chunks ? take_ptr(&pm) : NULL;
}

void procmem_free(struct procmem *pm)
{
	if (!pm)
		return;
	free(pm->chunks);
	free(pm);
}

const struct m_mm *procmem_mm(const struct procmem *pm)
{
	return pm->mm;
}

const struct m_vma *procmem_vma(struct procmem *pm, uint64_t addr)
{
	uint32_t lo = 0, hi = pm->mm->nvmas;

	if (pm->last && addr >= pm->last->start && addr < pm->last->end)
		return pm->last;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (pm->mm->vmas[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == pm->mm->nvmas || pm->mm->vmas[lo].start > addr)
		return NULL;
	return pm->last = &pm->mm->vmas[lo];
}

struct procmem_home procmem_home(const struct procmem *pm, const struct m_vma *v)
{
	struct procmem_home h = {0};

	switch (v->kind) {
	case M_VMA_DEVICE:
	case M_VMA_VSYSCALL:
		return h;
	default:
		break;
	}
	if (!v->shared) {
		h.has_private = true;
		h.private_space = pm->space;
	}
	/* A private map of a memfd has its unmodified pages in the segment. */
	if (v->shm_id) {
		h.has_shared = true;
		h.shared_space = MD_SPACE_SHMEM(v->shm_id);
	}
	return h;
}

bool procmem_zero_filled(const struct m_vma *v)
{
	switch (v->kind) {
	case M_VMA_ANON:
	case M_VMA_SHMEM:
		return true;
	case M_VMA_FILE_PRIVATE:
	case M_VMA_FILE_SHARED:
		return v->shm_id != 0;
	default:
		return false;
	}
}

/* The file on disk; zeros from its end to the end of the page, as the kernel maps it. */
static ssize_t read_file(struct procmem *pm, const struct m_vma *v, uint64_t addr, void *buf,
			 size_t len)
{
	struct object *obj = v->file_id ? objects_get(pm->objects, v->file_id) : NULL;
	size_t rest;
	ssize_t n;

	if (!obj || !object_usable(obj))
		return 0;
	n = io_pread(obj->fd, buf, len, v->pgoff + (addr - v->start));
	if (n <= 0)
		return 0;
	rest = -(addr + (uint64_t)n) % CHUNK;
	if (rest > len - (size_t)n)
		rest = len - (size_t)n;
	memset((uint8_t *)buf + n, 0, rest);
	return n + (ssize_t)rest;
}

/* Stored bytes of one space at @addr; 0 and *@len cut to the hole's length when there are none. */
static ssize_t read_stored(struct procmem *pm, uint64_t space, uint64_t addr, void *buf,
			   size_t *len, struct err *err)
{
	ssize_t n = image_mem_read(pm->mem, space, addr, buf, *len, err);
	struct md_extent e;
	int found;

	if (n)
		return n;
	found = image_mem_extent(pm->mem, space, addr, &e, err);
	if (found < 0)
		return found;
	if (found && e.addr > addr && e.addr - addr < *len)
		*len = e.addr - addr;
	return 0;
}

ssize_t procmem_read(struct procmem *pm, uint64_t addr, void *buf, size_t len, struct err *err)
{
	const struct m_vma *v = procmem_vma(pm, addr);
	struct procmem_home home;
	ssize_t n = 0;

	if (!v || !len)
		return 0;
	if (len > v->end - addr)
		len = v->end - addr;
	home = procmem_home(pm, v);
	if (home.has_private)
		n = read_stored(pm, home.private_space, addr, buf, &len, err);
	if (!n && home.has_shared)
		n = read_stored(pm, home.shared_space, v->pgoff + (addr - v->start), buf, &len,
				err);
	if (n)
		return n;
	if (procmem_zero_filled(v)) {
		memset(buf, 0, len);
		return (ssize_t)len;
	}
	if (v->kind == M_VMA_FILE_PRIVATE || v->kind == M_VMA_FILE_SHARED)
		return read_file(pm, v, addr, buf, len);
	return 0;
}

/* The chunk at @addr (aligned) in *@ret, NULL when no byte of it is readable. */
static int chunk_at(struct procmem *pm, uint64_t addr, const uint8_t **ret, struct err *err)
{
	unsigned i = addr / CHUNK % NCHUNKS;
	uint8_t *chunk = pm->chunks + (size_t)i * CHUNK;
	size_t done = 0;

	if (pm->slots[i].addr != addr) {
		pm->slots[i].addr = 1;
		while (done < CHUNK) {
			ssize_t n = procmem_read(pm, addr + done, chunk + done, CHUNK - done, err);

			if (n < 0)
				return (int)n;
			if (!n)
				break;
			done += (size_t)n;
		}
		pm->slots[i].addr = addr;
		pm->slots[i].readable = done == CHUNK;
	}
	*ret = pm->slots[i].readable ? chunk : NULL;
	return 0;
}

int procmem_fetch(struct procmem *pm, uint64_t addr, void *buf, size_t len, struct err *err)
{
	if (addr + len < addr)
		return -EFAULT;
	while (len) {
		size_t off = addr % CHUNK, n = CHUNK - off < len ? CHUNK - off : len;
		const uint8_t *chunk = NULL;
		int ret = chunk_at(pm, addr - off, &chunk, err);

		if (ret)
			return ret;
		if (!chunk)
			return -EFAULT;
		memcpy(buf, chunk + off, n);
		buf = (uint8_t *)buf + n;
		addr += n;
		len -= n;
	}
	return 0;
}
