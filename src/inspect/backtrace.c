/* SPDX-License-Identifier: MIT */
/* Stack traces of an image as text. */
#include <inttypes.h>
#include <stdlib.h>

#include "src/inspect/inspect.h"
#include "src/inspect/unwind.h"

enum { MAX_FRAMES = 65536 };

struct bt {
	FILE *out;
	const struct model *m;
	struct unwind *u;
	unsigned n; /* frame number */
	/* objects of this process that are not what they were, each said once */
	uint32_t nnoted, max_noted;
	struct object **noted;
};

/* Names come from the image: whatever is no plain text must not reach a terminal. */
static void put_text(FILE *out, const char *s)
{
	for (; s && *s; s++)
		putc((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s, out);
}

static const char *name_of(const struct place *p)
{
	if (p->obj && p->obj->file && p->obj->file->path)
		return p->obj->file->path;
	if (p->vma->name && p->vma->name[0])
		return p->vma->name;
	return "[anon]";
}

static void note(struct bt *bt, struct object *obj)
{
	for (uint32_t i = 0; i < bt->nnoted; i++)
		if (bt->noted[i] == obj)
			return;
	if (bt->nnoted == bt->max_noted) {
		uint32_t max = bt->max_noted ? 2 * bt->max_noted : 16;
		struct object **p = reallocarray(bt->noted, max, sizeof(struct object *));

		if (!p)
			return;
		bt->noted = p;
		bt->max_noted = max;
	}
	bt->noted[bt->nnoted++] = obj;
}

static void put_object(struct bt *bt, const struct place *p, bool named)
{
	char id[2 * 20 + 1] = "";

	fputs(" in ", bt->out);
	put_text(bt->out, name_of(p));
	/* Without a name the place in the file is what a person can go on with. */
	if (!named)
		fprintf(bt->out, "+%#" PRIx64, p->file_off);
	if (!p->obj)
		return;
	if (p->obj->state == OBJECT_CHANGED || p->obj->state == OBJECT_ABSENT) {
		fputs(p->obj->state == OBJECT_CHANGED ? " (changed)" : " (absent)", bt->out);
		note(bt, p->obj);
		return;
	}
	object_build_id(p->obj, id, sizeof(id));
	if (id[0])
		fprintf(bt->out, " (%s)", id);
	else if (p->obj->state == OBJECT_UNCHECKED)
		fputs(" (unchecked)", bt->out);
}

static bool put_frame(void *arg, const struct unwind_frame *f)
{
	struct bt *bt = arg;
	const char *name;
	struct place p;
	uint64_t start;
	bool named;

	unwind_place(bt->u, f->lookup, &p);
	named = p.loaded && object_symbol(p.obj, p.vaddr, &name, &start);
	fprintf(bt->out, "#%-3u 0x%016" PRIx64 " ", bt->n++, f->pc);
	if (named) {
		put_text(bt->out, name);
		fprintf(bt->out, "+0x%" PRIx64, f->pc - p.bias - start);
	} else {
		fputs("??", bt->out);
	}
	if (p.vma) {
		/* the offset of pc itself, not of the byte before it that was looked up */
		p.file_off += f->pc - f->lookup;
		put_object(bt, &p, named);
	} else {
		fputs(" (not mapped)", bt->out);
	}
	fputs(f->signal ? " <signal frame>\n" : "\n", bt->out);
	return !ferror(bt->out);
}

static void put_notes(struct bt *bt)
{
	for (uint32_t i = 0; i < bt->nnoted; i++) {
		fputs("note: ", bt->out);
		put_text(bt->out, bt->noted[i]->file->path);
		fprintf(bt->out, ": %s\n", bt->noted[i]->why);
	}
	bt->nnoted = 0;
}

static void put_process(struct bt *bt, const struct m_proc *p)
{
	const struct m_file *exe = model_file(bt->m, p->mm.exe_file_id);

	fprintf(bt->out, "Process %u \"", p->pid);
	put_text(bt->out, p->comm);
	fputs("\" ", bt->out);
	put_text(bt->out, exe && exe->path ? exe->path : "");
	putc('\n', bt->out);
}

/* All threads, also after one whose stack is damaged; the first damage is what returns. */
static int bt_threads(struct bt *bt, const struct m_proc *p, struct err *err)
{
	for (uint32_t i = 0; i < p->nthreads && !ferror(bt->out); i++) {
		const struct m_thread *t = &p->threads[i];
		const char *why;

		fprintf(bt->out, "Thread %u \"", t->tid);
		put_text(bt->out, t->comm);
		fputs("\"\n", bt->out);
		bt->n = 0;
		why = unwind_thread(bt->u, t, MAX_FRAMES, put_frame, bt, err);
		if (why)
			fprintf(bt->out, "     (stops here: %s)\n", why);
	}
	put_notes(bt);
	return err && err->errnum ? -err->errnum : 0;
}

static int bt_proc(FILE *out, struct image_mem *mem, const struct model *m, const struct m_proc *p,
		   struct objects *objects, struct err *err)
{
	struct bt bt = {.out = out, .m = m};
	struct procmem *pm = procmem_new(mem, objects, m, p);
	int ret;

	if (pm)
		bt.u = unwind_new(arch_host(), objects, pm, err);
	put_process(&bt, p);
	if (bt.u)
		ret = bt_threads(&bt, p, err);
	else
		ret = err_set(err, ENOMEM, "unwind process %u", p->pid);
	free(bt.noted);
	unwind_free(bt.u);
	procmem_free(pm);
	return ret;
}

static int bt_all(FILE *out, struct image_mem *mem, const struct model *m, struct objects *objects,
		  uint32_t pid, struct err *err)
{
	unsigned done = 0;
	int first = 0;

	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];
		struct err own = {0};
		int ret;

		if ((pid && p->pid != pid) || p->state == M_DEAD)
			continue;
		if (done++)
			putc('\n', out);
		ret = bt_proc(out, mem, m, p, objects, &own);
		err_take(err, &own);
		if (!first)
			first = ret;
	}
	if (first)
		return first;
	if (fflush(out) || ferror(out))
		return err_set(err, EIO, "write stack traces");
	if (done)
		return 0;
	if (pid && model_proc(m, pid))
		return err_fail(err, EINVAL, ERR_OTHER, "process %u was a zombie: it has no stack",
				pid);
	return err_fail(err, ESRCH, ERR_NO_PROCESS, "no process %u in the image", pid);
}

static const char *cpu_name(const struct model *m)
{
	const struct arch_desc *arch = arch_by_machine(m->elf_machine);

	return arch ? arch->name : "an unknown CPU";
}

int inspect_bt(struct image *img, FILE *out, uint32_t pid, struct err *err)
{
	struct model *m = image_read_model(img, err);
	struct image_mem *mem = m ? image_mem_open(img, err) : NULL;
	struct objects *objects = m ? objects_new(m) : NULL;
	int ret;

	if (!m || !mem)
		ret = err && err->errnum ? -err->errnum : -EBADMSG;
	else if (!objects)
		ret = err_set(err, ENOMEM, "unwind stacks");
	else if (m->elf_machine != arch_host()->elf_machine)
		ret = err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			       "the image is of %s, and libunwind here unwinds %s only: let "
			       "qemu-user run a stasis of that CPU, or make a core file by "
			       "`stasis core`, for gdb-multiarch beside the program and its "
			       "libraries",
			       cpu_name(m), arch_host()->name);
	else
		ret = bt_all(out, mem, m, objects, pid, err);
	objects_free(objects);
	if (mem)
		image_mem_close(mem);
	if (m)
		model_free(m);
	return ret;
}
