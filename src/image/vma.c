/* SPDX-License-Identifier: MIT */
/* VMAs in CRIU's terms. */
#include "src/image/vma.h"

#include <string.h>
#include <sys/mman.h>

/* Kinds on disk, VmaMore.kind. */
static const uint8_t kind_numbers[] = {
	[M_VMA_ANON] = 1,     [M_VMA_FILE_PRIVATE] = 2, [M_VMA_FILE_SHARED] = 3,
	[M_VMA_SHMEM] = 4,    [M_VMA_VDSO] = 5,		[M_VMA_VVAR] = 6,
	[M_VMA_VSYSCALL] = 7, [M_VMA_DEVICE] = 8,	[M_VMA_OTHER] = 9,
};

/* Bits of the model's flags that are madvise() calls for CRIU. */
static const struct {
	uint32_t flag;
	uint8_t advice;
} advices[] = {
	{M_VMF_RAND, 1},      {M_VMF_SEQ, 2},	      {M_VMF_DONTFORK, 10}, {M_VMF_MERGEABLE, 12},
	{M_VMF_HUGEPAGE, 14}, {M_VMF_NOHUGEPAGE, 15}, {M_VMF_DONTDUMP, 16}, {M_VMF_WIPEONFORK, 18},
};

static const struct {
	uint32_t flag, map;
} map_flags[] = {
	{M_VMF_GROWSDOWN, VMA_MAP_GROWSDOWN}, {M_VMF_LOCKED, VMA_MAP_LOCKED},
	{M_VMF_NORESERVE, VMA_MAP_NORESERVE}, {M_VMF_HUGETLB, VMA_MAP_HUGETLB},
	{M_VMF_DROPPABLE, VMA_MAP_DROPPABLE},
};

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

/*
 * The contents of a segment are where CRIU looks for them: under the number in the mapping, or that
 * of the memfd it names. (A SysV segment's IPC id is in the inventory; CRIU puts it here.)
 */
static uint32_t shmem_status(const struct model *m, const struct m_vma *v, uint64_t *ret_shmid)
{
	const struct m_shm *shm = model_shm(m, v->shm_id);

	if (shm && shm->memfd) {
		*ret_shmid = meta_memfd_file(m, v);
		return VMA_MEMFD | (v->shared ? VMA_FILE_SHARED : VMA_FILE_PRIVATE);
	}
	*ret_shmid = v->shm_id;
	return VMA_ANON_SHARED | (shm && shm->sysv ? VMA_SYSVIPC : 0);
}

static uint32_t status_of(const struct model *m, const struct m_vma *v, uint64_t *ret_shmid)
{
	const struct m_file *f = model_file(m, v->file_id);

	*ret_shmid = 0;
	switch (v->kind) {
	case M_VMA_ANON:
		if (v->flags & M_VMF_AIORING)
			return VMA_REGULAR | VMA_AIORING;
		return VMA_REGULAR | VMA_ANON_PRIVATE | (v->flags & M_VMF_HEAP ? VMA_HEAP : 0) |
		       (v->flags & M_VMF_SHSTK ? VMA_SHSTK : 0);
	case M_VMA_FILE_PRIVATE:
		*ret_shmid = v->file_id;
		return VMA_REGULAR | VMA_FILE_PRIVATE |
		       (f && f->type == M_FILE_MEMFD ? VMA_MEMFD : 0);
	case M_VMA_FILE_SHARED:
		*ret_shmid = v->file_id;
		return VMA_REGULAR | VMA_FILE_SHARED;
	case M_VMA_SHMEM:
		return VMA_REGULAR | shmem_status(m, v, ret_shmid);
	case M_VMA_VDSO:
		return VMA_REGULAR | VMA_ANON_PRIVATE | VMA_VDSO;
	case M_VMA_VVAR:
		return VMA_REGULAR | VMA_ANON_PRIVATE | VMA_VVAR;
	case M_VMA_VSYSCALL:
		return VMA_ANON_PRIVATE | VMA_VSYSCALL;
	case M_VMA_DEVICE:
		if (!v->file_id)
			break;
		*ret_shmid = v->file_id;
		return VMA_REGULAR | (v->shared ? VMA_FILE_SHARED : VMA_FILE_PRIVATE);
	case M_VMA_OTHER:
		break;
	}
	return v->name && !strcmp(v->name, "[uprobes]") ? VMA_UPROBES
							: VMA_REGULAR | VMA_ANON_PRIVATE;
}

static void put_more(const struct m_vma *v, Im__VmaMore *to)
{
	im__vma_more__init(to);
	to->kind = kind_numbers[v->kind];
	META_SET_NZ(to, file_id, v->file_id);
	META_SET_NZ(to, segment_id, v->shm_id);
	META_SET_NZ(to, flags, v->flags);
	META_SET_NZ(to, hugetlb_page_shift, v->hugetlb_page_shift);
	META_SET_NZ(to, pkey, v->pkey);
	to->vmflags = v->vmflags[0] ? (char *)v->vmflags : NULL;
	to->name = v->name;
}

void vma_put(const struct model *m, const struct m_vma *v, Im__Vma *to, Im__VmaMore *more)
{
	bool file;

	im__vma__init(to);
	to->start = v->start;
	to->end = v->end;
	to->pgoff = v->pgoff;
	to->prot = v->prot;
	to->fd = -1;
	to->status = status_of(m, v, &to->shmid);
	file = to->status & (VMA_FILE_PRIVATE | VMA_FILE_SHARED);
	to->flags = (v->shared ? VMA_MAP_SHARED : VMA_MAP_PRIVATE) | (file ? 0 : VMA_MAP_ANONYMOUS);
	for (unsigned i = 0; i < LEN(map_flags); i++)
		if (v->flags & map_flags[i].flag)
			to->flags |= map_flags[i].map;
	if (v->flags & M_VMF_HUGETLB)
		to->flags |= (v->hugetlb_page_shift & 0x3f) << VMA_MAP_HUGE_SHIFT;
	for (unsigned i = 0; i < LEN(advices); i++)
		if (v->flags & advices[i].flag)
			META_SET(to, madv, to->madv | 1ULL << advices[i].advice);
	/* How the mapped file must be opened: O_RDWR where writing goes to it. */
	if (file)
		META_SET(to, fdflags, v->shared && (v->prot & PROT_WRITE) ? 2 : 0);
	put_more(v, more);
	to->stasis = more;
}

/* --- back ----------------------------------------------------------------------------------- */

/* What CRIU's status alone tells, for images that are not ours. */
static enum m_vma_kind kind_of_status(uint32_t status)
{
	static const struct {
		uint32_t bit;
		enum m_vma_kind kind;
	} kinds[] = {
		{VMA_VSYSCALL, M_VMA_VSYSCALL},
		{VMA_VDSO, M_VMA_VDSO},
		{VMA_VVAR, M_VMA_VVAR},
		{VMA_UPROBES, M_VMA_OTHER},
		{VMA_MEMFD, M_VMA_SHMEM},
		{VMA_ANON_SHARED, M_VMA_SHMEM},
		{VMA_FILE_SHARED, M_VMA_FILE_SHARED},
		{VMA_FILE_PRIVATE, M_VMA_FILE_PRIVATE},
		{VMA_ANON_PRIVATE, M_VMA_ANON},
		{VMA_AIORING, M_VMA_ANON},
	};

	for (unsigned i = 0; i < LEN(kinds); i++)
		if (status & kinds[i].bit)
			return kinds[i].kind;
	return M_VMA_OTHER;
}

static int get_stock(struct meta_in *in, const Im__Vma *from, struct m_vma *to)
{
	to->kind = kind_of_status(from->status);
	for (unsigned i = 0; i < LEN(map_flags); i++)
		if (from->flags & map_flags[i].map)
			to->flags |= map_flags[i].flag;
	if (to->flags & M_VMF_HUGETLB)
		to->hugetlb_page_shift = from->flags >> VMA_MAP_HUGE_SHIFT & 0x3f;
	for (unsigned i = 0; i < LEN(advices); i++)
		if (META_GET(from, madv) & 1ULL << advices[i].advice)
			to->flags |= advices[i].flag;
	to->flags |= (from->status & VMA_HEAP ? M_VMF_HEAP : 0) |
		     (from->status & VMA_AIORING ? M_VMF_AIORING : 0) |
		     (from->status & VMA_SHSTK ? M_VMF_SHSTK : 0);
	if (from->status & (VMA_FILE_PRIVATE | VMA_FILE_SHARED)) {
		to->file_id = meta_file_id(in, (uint32_t)from->shmid);
		meta_stock_mapped(in, to->file_id, META_GET(from, fdflags));
	}
	if (to->kind == M_VMA_SHMEM)
		return meta_stock_segment(in, from->status & VMA_MEMFD ? to->file_id : 0,
					  from->shmid, from->pgoff + (from->end - from->start),
					  from->status & VMA_SYSVIPC, &to->shm_id);
	return 0;
}

static int get_more(struct meta_in *in, const char *name, const Im__VmaMore *from, struct m_vma *to)
{
	unsigned kind = 0;

	while (kind < LEN(kind_numbers) && kind_numbers[kind] != from->kind)
		kind++;
	if (kind == LEN(kind_numbers))
		return err_fail(in->err, EBADMSG, ERR_IMAGE, "%s: VMA at %#" PRIx64 ": kind %u",
				name, to->start, from->kind);
	to->kind = (enum m_vma_kind)kind;
	if (from->has_end)
		to->end = from->end;
	to->file_id = META_GET(from, file_id);
	to->shm_id = META_GET(from, segment_id);
	to->flags = META_GET(from, flags);
	to->hugetlb_page_shift = META_GET(from, hugetlb_page_shift);
	if (META_GET(from, pkey) >= M_PKEYS)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"%s: VMA at %#" PRIx64 ": protection key %u", name, to->start,
				from->pkey);
	to->pkey = (uint8_t)META_GET(from, pkey);
	if (from->vmflags && strlen(from->vmflags) >= sizeof(to->vmflags))
		return err_fail(in->err, EBADMSG, ERR_IMAGE, "%s: VMA at %#" PRIx64 ": vmflags",
				name, to->start);
	if (from->vmflags)
		strcpy(to->vmflags, from->vmflags);
	return meta_get_str(in, from->name, &to->name);
}

int vma_get(struct meta_in *in, const char *name, const Im__Vma *from, struct m_vma *to)
{
	to->start = from->start;
	to->end = from->end;
	to->pgoff = from->pgoff;
	to->prot = from->prot;
	to->shared = from->flags & VMA_MAP_SHARED;
	return from->stasis ? get_more(in, name, from->stasis, to) : get_stock(in, from, to);
}
