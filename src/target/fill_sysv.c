/* SPDX-License-Identifier: MIT */
/*
 * Attachments of System V segments. shmat() makes whole ones; what a program has made of one since,
 * by mprotect(), munmap() or mremap(), is several mappings, or a part:
 *
 *	in the image    2000-3000 of the segment's page 1, r--   4000-5000 of page 3, rw-
 *	each of them    shmat() of the whole where nothing is, mremap() of the part,
 *	                munmap() of the rest
 *
 * so that shmdt(1000), where the segment was attached, finds both.
 */
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "src/target/fill.h"
#include "src/target/script.h"

#define END_OF_MEMORY 0x7fff00000000ull

enum { MARGIN = 16 << 20 };

static uint64_t up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* Where nothing of the image and nothing of ours is: room for the largest segment. */
static int find_spare(struct fill_attach *a, const struct spawn *s, const struct m_proc *p,
		      struct err *err)
{
	uint64_t unit = 1 << 16, need = 0, at;

	for (uint32_t i = 0; i < s->m->nshms; i++) {
		const struct m_shm *shm = &s->m->shms[i];

		if (!shm->sysv)
			continue;
		if (shm->hugetlb)
			unit = 1 << 30; /* the largest pages there are, but for some of 16 GiB */
		need = shm->size > need ? shm->size : need;
	}
	at = up(s->park + s->vdso.len + MARGIN, unit);
	if (need < END_OF_MEMORY)
		need = up(need, unit) + MARGIN;
	for (uint32_t i = 0; need < END_OF_MEMORY && i < p->mm.nvmas; i++) {
		const struct m_vma *v = &p->mm.vmas[i];

		if (v->start < at + need && v->end + MARGIN > at)
			at = up(v->end + MARGIN, unit);
	}
	if (need >= END_OF_MEMORY || at + need > END_OF_MEMORY)
		return err_fail(err, ENOMEM, ERR_UNSUPPORTED,
				"process %u: no room for another %" PRIu64
				" bytes of a System V segment beside its mappings",
				p->pid, need);
	a->spare = at;
	return 0;
}

static bool is_part_of(const struct fill_attach *a, const struct m_vma *v)
{
	return a->shm_id == v->shm_id && a->base == v->start - v->pgoff;
}

/* The mapping behind @i that is the next of the attachment, before any of another; else nvmas. */
static uint32_t next_part(const struct fill_attach *a, const struct spawn *s,
			  const struct m_proc *p, uint32_t i)
{
	while (++i < p->mm.nvmas) {
		const struct m_vma *v = &p->mm.vmas[i];
		const struct m_shm *shm = v->shm_id ? model_shm(s->m, v->shm_id) : NULL;

		if (is_part_of(a, v))
			return i;
		if (shm && shm->sysv)
			break;
	}
	return p->mm.nvmas;
}

static void attach(struct script *script, const struct m_vma *v, int id, uint64_t at, uint32_t prot,
		   struct err *err)
{
	uint64_t flags = (prot & PROT_WRITE ? 0 : SHM_RDONLY) | (prot & PROT_EXEC ? SHM_EXEC : 0);

	script_add(script,
		   (struct script_call){SYS_shmat,
					{(uint64_t)id, at, flags},
					.what = "attach the System V segment of",
					.at = v->start,
					.wants = true,
					.want = at},
		   err);
}

/* Attached with @prot, and never with tags of memory. */
static void protect(struct script *script, const struct m_vma *v, uint32_t prot, struct err *err)
{
	const uint64_t want = v->prot | fill_tags_prot(v);

	if (want != prot)
		script_add(script,
			   (struct script_call){SYS_mprotect,
						{v->start, v->end - v->start, want},
						.what = "protect a System V segment at",
						.at = v->start},
			   err);
}

static void take_part(struct script *script, const struct m_vma *v, uint64_t spare, uint32_t prot,
		      struct err *err)
{
	const uint64_t len = v->end - v->start;

	script_add(script,
		   (struct script_call){
			   SYS_mremap,
			   {spare + v->pgoff, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, v->start},
			   .what = "move a part of a System V segment to",
			   .at = v->start,
			   .wants = true,
			   .want = v->start},
		   err);
	protect(script, v, prot, err);
}

int fill_attach(struct fill_attach *a, struct script *script, const struct spawn *s,
		const struct m_proc *p, uint32_t first, const struct make *mk, struct err *err)
{
	const struct m_vma *vmas = p->mm.vmas, *v = &vmas[first];
	const struct m_shm *shm = model_shm(s->m, v->shm_id);
	const int id = make_sysv_id(mk, v->shm_id);
	uint32_t prot = PROT_READ;

	/* With the first of them. */
	if (is_part_of(a, v))
		return 0;
	a->shm_id = v->shm_id;
	a->base = v->start - v->pgoff;
	/* What one of them may, all were attached for. */
	for (uint32_t i = first; i < p->mm.nvmas; i = next_part(a, s, p, i))
		prot |= vmas[i].prot & (PROT_WRITE | PROT_EXEC);
	if (!v->pgoff && v->end - v->start >= shm->size) {
		attach(script, v, id, v->start, prot, err);
		if (v->flags & M_VMF_TAGS)
			protect(script, v, prot, err);
		return 0;
	}
	if (!a->spare) {
		int ret = find_spare(a, s, p, err);

		if (ret < 0)
			return ret;
	}
	attach(script, v, id, a->spare, prot, err);
	for (uint32_t i = first; i < p->mm.nvmas; i = next_part(a, s, p, i))
		take_part(script, &vmas[i], a->spare, prot, err);
	script_add(script,
		   (struct script_call){SYS_munmap,
					{a->spare, up(shm->size, shm->hugetlb ? 1 << 30 : 1 << 16)},
					.what = "unmap what is left of a System V segment at",
					.at = a->spare},
		   err);
	return 0;
}
