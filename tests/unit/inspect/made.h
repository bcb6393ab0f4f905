/* SPDX-License-Identifier: MIT */
/*
 * An image made by hand, of one process with whatever mappings and stored pages a test wants:
 * written by the real writers into a temporary directory and opened again.
 *
 *	made_begin(); made_vma(...); made_store(...); img = made_open(); ... made_end();
 */
#ifndef TESTS_UNIT_INSPECT_MADE_H
#define TESTS_UNIT_INSPECT_MADE_H

#include <elf.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/arch.h"
#include "src/image/image.h"

enum { MADE_PID = 77, MADE_PAGE = 4096 };

/* General registers of the CPU that this is built for. */
#define MADE_PRSTATUS arch_host()->regsets[0].size

static struct {
	char dir[64];
	struct model *m;
	struct image *img;
	size_t nstored, next, max_stored;
	size_t first_round;   /* so many of them are of round 0, the rest of round 1; 0: all */
	bool second;	      /* round 1 is read */
	struct md_extent map; /* of the process, with rounds only; len 0: none */
	struct {
		uint64_t space, addr;
		uint8_t fill;
	} * stored;
} made;

static void *made_push(void *array, uint32_t *n, size_t size)
{
	void *p = model_push(made.m, array, n, size);

	if (!p)
		abort();
	return p;
}

static struct m_thread *made_thread(uint32_t tid)
{
	struct m_proc *p = &made.m->procs[0];
	struct m_thread *t = made_push(&p->threads, &p->nthreads, sizeof(*t));
	struct m_regset *r = made_push(&t->regsets, &t->nregsets, sizeof(*r));

	t->tid = tid;
	strcpy(t->comm, "made");
	*r = (struct m_regset){.note = NT_PRSTATUS, .len = MADE_PRSTATUS};
	r->data = model_alloc(made.m, MADE_PRSTATUS);
	for (unsigned i = 0; i < MADE_PRSTATUS; i++)
		r->data[i] = (uint8_t)(tid + i);
	return t;
}

static void made_begin(void)
{
	struct m_fdtable *t;
	struct m_proc *p;

	strcpy(made.dir, "/tmp/stasis-inspect-XXXXXX");
	if (!mkdtemp(made.dir))
		abort();
	made.m = model_new(0);
	made.nstored = 0;
	made.next = 0;
	made.m->elf_machine = arch_host()->elf_machine;
	made.m->page_size = MADE_PAGE;
	strcpy(made.m->kernel, "6.0 made");
	strcpy(made.m->hostname, "host");
	t = made_push(&made.m->fdtables, &made.m->nfdtables, sizeof(*t));
	t->id = 2;
	p = made_push(&made.m->procs, &made.m->nprocs, sizeof(*p));
	p->pid = p->pgid = p->sid = MADE_PID;
	p->state = M_ALIVE;
	strcpy(p->comm, "made");
	p->cmdline = model_strdup(made.m, "made --by hand");
	p->fdtable_id = 2;
	p->vm_id = p->fs_id = p->sighand_id = 2;
	p->rlimits[0].cur = UINT64_MAX;
	p->rlimits[0].max = UINT64_MAX;
	made_thread(MADE_PID);
}

static struct m_file *made_file(const char *path)
{
	struct m_file *f = made_push(&made.m->files, &made.m->nfiles, sizeof(*f));

	f->id = made.m->nfiles;
	f->type = M_FILE_REG;
	f->path = model_strdup(made.m, path);
	f->mnt_id = -1;
	return f;
}

static struct m_shm *made_shm(uint64_t size)
{
	struct m_shm *s = made_push(&made.m->shms, &made.m->nshms, sizeof(*s));

	s->id = made.m->nshms;
	s->name = model_strdup(made.m, "/dev/zero");
	s->size = size;
	s->ino = 1000 + s->id;
	s->mode = 0600;
	s->fd = -1;
	return s;
}

static struct m_vma *made_vma(uint64_t start, uint64_t len, enum m_vma_kind kind)
{
	struct m_mm *mm = &made.m->procs[0].mm;
	struct m_vma *v = made_push(&mm->vmas, &mm->nvmas, sizeof(*v));

	v->start = start;
	v->end = start + len;
	v->prot = PROT_READ | PROT_WRITE;
	v->kind = kind;
	return v;
}

/* One page, all of whose bytes are @fill. */
static void made_store(uint64_t space, uint64_t addr, uint8_t fill)
{
	if (made.nstored == made.max_stored) {
		made.max_stored = made.max_stored ? 2 * made.max_stored : 64;
		made.stored = reallocarray(made.stored, made.max_stored, sizeof(made.stored[0]));
		if (!made.stored)
			abort();
	}
	made.stored[made.nstored].space = space;
	made.stored[made.nstored].addr = addr;
	made.stored[made.nstored++].fill = fill;
}

static int made_next(struct md_reader *r, struct md_block *b, uint32_t block_size, struct err *err)
{
	size_t n = 0, end = made.next < made.first_round ? made.first_round : made.nstored;

	b->nextents = 0;
	if (made.first_round && made.next == made.first_round && !made.second)
		return 0;
	while (made.next + n < end && b->nextents < MD_BLOCK_EXTENTS &&
	       (n + 1) * MADE_PAGE <= block_size &&
	       made.stored[made.next + n].space == made.stored[made.next].space) {
		uint64_t addr = made.stored[made.next + n].addr;
		struct md_extent *last = b->nextents ? &b->extents[b->nextents - 1] : NULL;

		memset(b->raw + n * MADE_PAGE, made.stored[made.next + n].fill, MADE_PAGE);
		if (last && last->addr + last->len == addr)
			last->len += MADE_PAGE;
		else
			b->extents[b->nextents++] = (struct md_extent){addr, MADE_PAGE};
		n++;
	}
	if (!n)
		return 0;
	b->space = made.stored[made.next].space;
	b->raw_len = (uint32_t)(n * MADE_PAGE);
	made.next += n;
	return 1;
}

static int made_write(struct image *img, struct err *err)
{
	struct md_file_opts fopts = {.page_size = MADE_PAGE, .no_uring = true};
	struct md_opts opts = {.codec = MD_CODEC_LZ4, .level = 1, .threads = 1};
	struct md_reader reader = {.next = made_next};
	struct md_writer *w = md_writer_file_open(image_dirfd(img), IMAGE_BLOCK_FILE, &fopts, err);
	int ret;

	opts.more = made.first_round > 0;
	ret = w ? md_run(&reader, w, &opts, NULL, err) : -EIO;
	if (!ret && made.map.len)
		ret = md_writer_file_map(w, MD_SPACE_PROC(MADE_PID), &made.map, 1, err);
	if (!ret && opts.more) {
		made.second = true;
		opts.round = 1;
		opts.more = false;
		ret = md_run(&reader, w, &opts, NULL, err);
	}
	made.second = false;
	made.first_round = made.map.len = 0;
	if (w)
		w->close(w);
	if (!ret)
		ret = image_write_model(img, made.m, err);
	return ret ? ret : image_commit(img, made.m, err);
}

static struct image *made_open(void)
{
	char path[80];
	struct err err = {0};
	struct image *img;

	snprintf(path, sizeof(path), "%s/img", made.dir);
	img = image_create(path, IMAGE_STASIS, &err);
	if (!img || made_write(img, &err)) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	image_close(img);
	made.img = image_open(path, &err);
	if (!made.img) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	return made.img;
}

static int made_rm(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void made_end(void)
{
	image_close(made.img);
	model_free(made.m);
	free(made.stored);
	made.stored = NULL;
	made.max_stored = 0;
	nftw(made.dir, made_rm, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
