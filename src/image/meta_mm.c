/* SPDX-License-Identifier: MIT */
/* An address space: mm files. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "src/image/meta_tags.h"
#include "src/image/vma.h"

/* --- AIO rings ------------------------------------------------------------------------------ */

static int put_aios(struct meta_out *o, const struct m_mm *mm, Im__Mm *to)
{
	const uint32_t header = 32, event = 32, spare = 2;
	Im__AioRing *items;
	size_t n = 0;

	for (uint32_t i = 0; i < mm->nvmas; i++)
		n += (mm->vmas[i].flags & M_VMF_AIORING) != 0;
	to->n_aios = n;
	if (!meta_array(o->scratch, n, sizeof(*items), &items, &to->aios))
		return -ENOMEM;
	n = 0;
	for (uint32_t i = 0; i < mm->nvmas; i++) {
		const struct m_vma *v = &mm->vmas[i];
		uint64_t len = v->end - v->start;

		if (!(v->flags & M_VMF_AIORING))
			continue;
		im__aio_ring__init(&items[n]);
		items[n].id = v->start;
		items[n].ring_len = (uint32_t)len;
		/* io_setup() with this makes a ring of the same length: it adds two and doubles. */
		items[n].nr_req = (uint32_t)(((len - header) / event - spare) / 2);
		n++;
	}
	return 0;
}

/* --- VMAs ----------------------------------------------------------------------------------- */

/* CRIU knows the kernel's pages of variables as one mapping, however many there are. */
static bool merges(const struct m_vma *v, const Im__Vma *before)
{
	return v->kind == M_VMA_VVAR && before && (before->status & VMA_VVAR) &&
	       before->end == v->start;
}

static void put_guard(const struct m_guard *g, Im__Vma *to)
{
	im__vma__init(to);
	to->start = g->start;
	to->end = g->end;
	to->status = VMA_GUARD;
	to->flags = VMA_MAP_PRIVATE | VMA_MAP_ANONYMOUS;
	to->fd = -1;
}

static int put_vmas(struct meta_out *o, const struct m_mm *mm, Im__Mm *to)
{
	size_t n = (size_t)mm->nvmas + mm->nguards;
	Im__VmaMore *mores = arena_alloc(o->scratch, mm->nvmas * sizeof(*mores));
	Im__Vma *items, *before = NULL;

	to->merged = arena_alloc(o->scratch, mm->nvmas * sizeof(*to->merged));
	if (!mores || !to->merged || !meta_array(o->scratch, n, sizeof(*items), &items, &to->vmas))
		return -ENOMEM;
	for (uint32_t i = 0; i < mm->nvmas; i++) {
		const struct m_vma *v = &mm->vmas[i];

		vma_put(o->m, v, &items[i], &mores[i]);
		if (merges(v, before)) {
			if (!before->stasis->has_end)
				META_SET(before->stasis, end, before->end);
			before->end = v->end;
			to->merged[to->n_merged++] = &items[i];
		} else {
			before = &items[i];
			to->vmas[to->n_vmas++] = before;
		}
	}
	for (uint32_t i = 0; i < mm->nguards; i++) {
		put_guard(&mm->guards[i], &items[mm->nvmas + i]);
		to->vmas[to->n_vmas++] = &items[mm->nvmas + i];
	}
	return 0;
}

static int get_vma(struct meta_in *in, const char *name, const Im__Vma *v, struct m_mm *mm)
{
	struct m_vma *to = model_push(in->m, &mm->vmas, &mm->nvmas, sizeof(*to));

	return to ? vma_get(in, name, v, to) : meta_nomem(in->err, name);
}

static int by_start(const void *a, const void *b)
{
	uint64_t x = ((const struct m_vma *)a)->start, y = ((const struct m_vma *)b)->start;

	return x < y ? -1 : x > y;
}

static int get_vmas(struct meta_in *in, const char *name, const Im__Mm *from, struct m_mm *mm)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < from->n_vmas; i++) {
		const Im__Vma *v = from->vmas[i];
		struct m_guard *g;

		if (!(v->status & VMA_GUARD)) {
			ret = get_vma(in, name, v, mm);
			continue;
		}
		g = model_push(in->m, &mm->guards, &mm->nguards, sizeof(*g));
		if (!g)
			return meta_nomem(in->err, name);
		g->start = v->start;
		g->end = v->end;
	}
	for (size_t i = 0; !ret && i < from->n_merged; i++)
		ret = get_vma(in, name, from->merged[i], mm);
	if (!ret && from->n_merged)
		qsort(mm->vmas, mm->nvmas, sizeof(*mm->vmas), by_start);
	return ret;
}

/* --- mm ------------------------------------------------------------------------------------- */

static void put_fields(const struct m_mm *mm, Im__Mm *to)
{
	to->mm_start_code = mm->start_code;
	to->mm_end_code = mm->end_code;
	to->mm_start_data = mm->start_data;
	to->mm_end_data = mm->end_data;
	to->mm_start_stack = mm->start_stack;
	to->mm_start_brk = mm->start_brk;
	to->mm_brk = mm->brk;
	to->mm_arg_start = mm->arg_start;
	to->mm_arg_end = mm->arg_end;
	to->mm_env_start = mm->env_start;
	to->mm_env_end = mm->env_end;
	to->exe_file_id = mm->exe_file_id;
	to->n_mm_saved_auxv = mm->nauxv;
	to->mm_saved_auxv = mm->auxv;
	META_SET(to, dumpable, mm->dumpable);
	META_SET(to, thp_disabled, mm->thp_disabled);
	META_SET_NZ(to, pkeys, mm->pkeys);
}

/* AT_PAGESZ, which no program is without. */
static void get_page_size(const struct m_mm *mm, struct model *m)
{
	enum { PAGESZ = 6, LEAST = 4096, MOST = 65536 };

	for (uint32_t i = 0; i + 1 < mm->nauxv; i += 2) {
		uint64_t v = mm->auxv[i + 1];

		if (mm->auxv[i] == PAGESZ && v >= LEAST && v <= MOST && !(v & (v - 1)))
			m->page_size = (uint32_t)v;
	}
}

static int get_fields(struct meta_in *in, const char *name, const Im__Mm *from, struct m_mm *mm)
{
	mm->start_code = from->mm_start_code;
	mm->end_code = from->mm_end_code;
	mm->start_data = from->mm_start_data;
	mm->end_data = from->mm_end_data;
	mm->start_stack = from->mm_start_stack;
	mm->start_brk = from->mm_start_brk;
	mm->brk = from->mm_brk;
	mm->arg_start = from->mm_arg_start;
	mm->arg_end = from->mm_arg_end;
	mm->env_start = from->mm_env_start;
	mm->env_end = from->mm_env_end;
	mm->exe_file_id = meta_file_id(in, from->exe_file_id);
	mm->dumpable = META_GET(from, dumpable);
	mm->thp_disabled = META_GET(from, thp_disabled);
	mm->pkeys = META_GET(from, pkeys);
	mm->nauxv = (uint32_t)from->n_mm_saved_auxv;
	while (mm->nauxv >= 2 && !from->mm_saved_auxv[mm->nauxv - 2])
		mm->nauxv -= 2;
	if (!mm->nauxv)
		return 0;
	mm->auxv = model_alloc(in->m, mm->nauxv * sizeof(*mm->auxv));
	if (!mm->auxv)
		return meta_nomem(in->err, name);
	memcpy(mm->auxv, from->mm_saved_auxv, mm->nauxv * sizeof(*mm->auxv));
	if (in->stock)
		get_page_size(mm, in->m);
	return 0;
}

int meta_put_mm(struct meta_out *o, const struct m_proc *p)
{
	char name[STORE_NAME];
	Im__Mm mm = IM__MM__INIT;

	store_name(name, "mm-%u.img", p->pid);
	put_fields(&p->mm, &mm);
	if (put_vmas(o, &p->mm, &mm) || put_aios(o, &p->mm, &mm) ||
	    (!p->shares_vm && meta_put_tags(o, &p->mm, &mm)))
		return meta_nomem(o->err, name);
	frame_begin(&o->img->out, FRAME_MM);
	frame_add(&o->img->out, &mm.base);
	return store_put(o->img, name, o->err);
}

int meta_get_mm(struct meta_in *in, struct m_proc *p)
{
	char name[STORE_NAME];
	struct store_in file;
	ProtobufCMessage *msg;
	int ret;

	ret = store_load(in->dirfd, FRAME_MM, store_name(name, "mm-%u.img", p->pid), &file,
			 in->err);
	if (ret)
		return ret;
	ret = frame_single(&file.f, &msg, in->err);
	if (!ret)
		ret = get_fields(in, name, (const Im__Mm *)msg, &p->mm);
	if (!ret)
		ret = get_vmas(in, name, (const Im__Mm *)msg, &p->mm);
	if (!ret)
		ret = meta_get_tags(in, name, (const Im__Mm *)msg, &p->mm);
	store_unload(&file);
	return ret;
}
