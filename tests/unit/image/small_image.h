/* SPDX-License-Identifier: MIT */
/* A small image of either format with pages in it, made through a reader that invents them. */
#ifndef TESTS_SMALL_IMAGE_H
#define TESTS_SMALL_IMAGE_H

#include <stdlib.h>
#include <string.h>

#include "memdump/memdump.h"
#include "src/image/image.h"

enum { SMALL_PID = 100, PAGE = 4096 };

/* What is stored; a page whose number is a multiple of 5 is zero. */
struct small_extent {
	uint64_t space;
	struct md_extent e;
	bool lazy;
};

static const struct small_extent small_extents[] = {
	{MD_SPACE_PROC(SMALL_PID), {0x10000, 3 * PAGE}, false},
	{MD_SPACE_PROC(SMALL_PID), {0x15000, 1 * PAGE}, true},
	{MD_SPACE_PROC(SMALL_PID), {0x16000, 4 * PAGE}, false},
	{MD_SPACE_PROC(SMALL_PID), {0x7f000, 1 * PAGE}, true},
	{MD_SPACE_SHMEM(1), {0, 2 * PAGE}, false},
	{MD_SPACE_SHMEM(1), {0x8000, 1 * PAGE}, false},
};

enum { NEXTENTS = sizeof(small_extents) / sizeof(small_extents[0]) };

static void small_page(uint64_t space, uint64_t addr, uint8_t *to)
{
	uint64_t x = (space * 31 + addr / PAGE) * 0x9e3779b97f4a7c15ULL + 1;

	memset(to, 0, PAGE);
	if (addr / PAGE % 5 == 0)
		return;
	for (unsigned i = 0; i < PAGE / 8; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		memcpy(to + 8 * i, &x, 8);
	}
}

/* --- a reader that reads small_extents, two extents to a block ------------------------------ */

struct small_reader {
	struct md_reader r;
	unsigned next;
	unsigned per_block;
};

static int small_next(struct md_reader *r, struct md_block *b, uint32_t block_size, struct err *err)
{
	struct small_reader *s = (struct small_reader *)r;

	if (s->next == NEXTENTS)
		return 0;
	b->space = small_extents[s->next].space;
	b->space_off = 0;
	for (unsigned i = 0; i < s->next; i++)
		if (small_extents[i].space == b->space)
			b->space_off += small_extents[i].e.len;
	b->nextents = 0;
	b->raw_len = 0;
	while (s->next < NEXTENTS && small_extents[s->next].space == b->space &&
	       b->nextents < s->per_block) {
		const struct md_extent *e = &small_extents[s->next++].e;

		b->extents[b->nextents++] = *e;
		for (uint64_t off = 0; off < e->len; off += PAGE)
			small_page(b->space, e->addr + off, b->raw + b->raw_len + off);
		b->raw_len += (uint32_t)e->len;
	}
	return 1;
}

static void small_close(struct md_reader *r)
{
}

/* --- a model to go with it ------------------------------------------------------------------ */

static void small_vma(struct model *m, uint64_t start, uint64_t end, enum m_vma_kind kind)
{
	struct m_mm *mm = &m->procs[0].mm;
	struct m_vma *v = model_push(m, &mm->vmas, &mm->nvmas, sizeof(*v));

	v->start = start;
	v->end = end;
	v->prot = 3;
	v->kind = kind;
	v->shared = kind == M_VMA_SHMEM;
	v->file_id = kind == M_VMA_FILE_PRIVATE ? 1 : 0;
	v->shm_id = kind == M_VMA_SHMEM ? 1 : 0;
	v->name = model_strdup(m, kind == M_VMA_FILE_PRIVATE ? "/usr/bin/victim" : "");
}

static void small_file(struct model *m, enum m_file_type type, const char *path)
{
	struct m_file *f = model_push(m, &m->files, &m->nfiles, sizeof(*f));

	f->id = m->nfiles;
	f->type = type;
	f->path = model_strdup(m, path);
	f->mode = type == M_FILE_REG ? 0100644 : 0;
	f->mnt_id = -1;
	f->flags = 2;
	f->ino = 4711 + f->id;
}

static void small_tables(struct model *m)
{
	static const char *const names[] = {"/usr/bin/victim", "/", "pipe:[4714]", "[eventfd]"};
	static const enum m_file_type types[] = {M_FILE_REG, M_FILE_REG, M_FILE_PIPE,
						 M_FILE_EVENTFD};
	struct m_fdtable *t = model_push(m, &m->fdtables, &m->nfdtables, sizeof(*t));
	struct m_shm *s = model_push(m, &m->shms, &m->nshms, sizeof(*s));

	for (unsigned i = 0; i < 4; i++) {
		struct m_fd *fd = model_push(m, &t->fds, &t->n, sizeof(*fd));

		small_file(m, types[i], names[i]);
		fd->fd = i;
		fd->file_id = i + 1;
	}
	t->id = 2;
	s->id = 1;
	s->name = model_strdup(m, "/dev/zero");
	s->size = 0x9000;
	s->fd = -1;
}

static struct model *small_model(unsigned nthreads)
{
	struct model *m = model_new(0);
	struct m_proc *p;

	small_tables(m);
	p = model_push(m, &m->procs, &m->nprocs, sizeof(*p));
	p->pid = SMALL_PID;
	p->state = M_ALIVE;
	strcpy(p->comm, "victim");
	p->fdtable_id = p->vm_id = p->fs_id = p->sighand_id = 2;
	p->cwd_file_id = p->root_file_id = 2;
	p->nthreads = nthreads;
	p->threads = model_alloc(m, nthreads * sizeof(*p->threads));
	for (unsigned i = 0; i < nthreads; i++) {
		struct m_regset *set = model_push(m, &p->threads[i].regsets,
						  &p->threads[i].nregsets, sizeof(*set));

		p->threads[i].tid = p->pid + i;
		strcpy(p->threads[i].comm, "victim");
		set->note = 1;
		set->len = 216;
		set->data = model_alloc(m, set->len);
	}
	p->mm.exe_file_id = 1;
	small_vma(m, 0x10000, 0x14000, M_VMA_FILE_PRIVATE);
	small_vma(m, 0x14000, 0x20000, M_VMA_ANON);
	small_vma(m, 0x7f000, 0x80000, M_VMA_ANON);
	small_vma(m, 0x90000, 0x99000, M_VMA_SHMEM);
	m->elf_machine = 62;
	m->page_size = PAGE;
	strcpy(m->kernel, "6.1.0");
	strcpy(m->hostname, "host");
	return m;
}

/* --- the image ------------------------------------------------------------------------------ */

static struct md_writer *small_writer(struct image *img, enum image_format format,
				      struct image_criu_pages **pages, struct err *err)
{
	const struct md_file_opts opts = {.no_uring = true, .page_size = PAGE};

	*pages = NULL;
	if (format == IMAGE_STASIS)
		return md_writer_file_open(image_dirfd(img), IMAGE_BLOCK_FILE, &opts, err);
	*pages = image_criu_pages_new(img, PAGE, err);
	for (unsigned i = 0; *pages && i < NEXTENTS; i++)
		if (image_criu_add(*pages, small_extents[i].space, &small_extents[i].e,
				   small_extents[i].lazy, err) < 0)
			return NULL;
	return *pages ? image_criu_writer(*pages, err) : NULL;
}

/* Pages into @img; @per_block extents go into one block. */
static int small_pages(struct image *img, enum image_format format, unsigned per_block,
		       struct err *err)
{
	struct small_reader reader = {.r = {.next = small_next, .close = small_close},
				      .per_block = per_block};
	const struct md_opts opts = {
		.codec = MD_CODEC_NONE, .threads = 1, .block_size = MD_BLOCK_MIN};
	struct image_criu_pages *pages;
	struct md_writer *w = small_writer(img, format, &pages, err);
	int ret = w ? md_run(&reader.r, w, &opts, NULL, err) : -err->errnum;

	if (ret == 0)
		ret = w->sync(w, err);
	if (w)
		w->close(w);
	image_criu_pages_free(pages);
	return ret;
}

static int small_image(const char *path, enum image_format format, unsigned nthreads,
		       unsigned per_block, struct err *err)
{
	struct model *m = small_model(nthreads);
	struct image *img = image_create(path, format, err);
	int ret = img ? image_write_model(img, m, err) : -err->errnum;

	if (!ret)
		ret = small_pages(img, format, per_block, err);
	if (!ret)
		ret = image_commit(img, m, err);
	image_close(img);
	model_free(m);
	return ret;
}

#endif
