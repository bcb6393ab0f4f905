/* SPDX-License-Identifier: MIT */
/* An image as one JSON document: the frame, and what belongs to no single process. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/inspect/show.h"

static void show_ins(struct doc *d, const struct model *m, const struct arch_desc *arch)
{
	if (!m->ncpu_words)
		return;
	doc_inline_array(d, "instructions");
	for (const struct arch_ins *i = arch ? arch->ins : NULL; i && i->name; i++)
		if (i->word < m->ncpu_words && m->cpu_words[i->word] >> i->bit & 1)
			doc_str(d, NULL, i->name);
	doc_end(d);
}

static void show_origin(struct doc *d, struct image *img, const struct model *m,
			const struct arch_desc *arch)
{
	doc_str(d, "image", image_path(img));
	doc_str(d, "format", image_format(img) == IMAGE_CRIU ? "criu" : "stasis");
	doc_object(d, "origin");
	doc_str(d, "host", m->hostname);
	doc_str(d, "kernel", m->kernel);
	doc_str(d, "cpu", arch ? arch->name : NULL);
	doc_u64(d, "elf_machine", m->elf_machine);
	doc_u64(d, "page_size", m->page_size);
	show_ins(d, m, arch);
	doc_u64(d, "realtime_ns", m->realtime_ns);
	doc_u64(d, "boottime_ns", m->boottime_ns);
	doc_u64(d, "monotonic_ns", m->monotonic_ns);
	doc_u64(d, "uptime_us", m->uptime_us);
	doc_end(d);
}

static void show_segment(struct doc *d, const struct m_shm *s)
{
	doc_inline_object(d, NULL);
	doc_u64(d, "id", s->id);
	doc_str(d, "name", s->name);
	doc_u64(d, "size", s->size);
	doc_u64(d, "dev", s->dev);
	doc_u64(d, "ino", s->ino);
	doc_u64(d, "uid", s->uid);
	doc_u64(d, "gid", s->gid);
	doc_u64(d, "mode", s->mode);
	if (s->seals_known)
		doc_hex(d, "seals", s->seals);
	doc_bool(d, "memfd", s->memfd);
	doc_bool(d, "sysv", s->sysv);
	doc_bool(d, "hugetlb", s->hugetlb);
	doc_end(d);
}

/* Which files a process uses, so that --pid shows no others. */
static void mark(bool *used, const struct model *m, uint32_t id)
{
	if (id && id <= m->nfiles)
		used[id] = true;
}

static void mark_files(bool *used, const struct model *m, const struct m_proc *p)
{
	const struct m_fdtable *t = model_fdtable(m, p->fdtable_id);

	for (uint32_t i = 0; i < p->mm.nvmas; i++)
		mark(used, m, p->mm.vmas[i].file_id);
	for (uint32_t i = 0; t && i < t->n; i++)
		mark(used, m, t->fds[i].file_id);
	mark(used, m, p->mm.exe_file_id);
	mark(used, m, p->cwd_file_id);
	mark(used, m, p->root_file_id);
}

static int show_files(struct doc *d, const struct model *m, const struct show_opts *opts,
		      struct err *err)
{
	cleanup_free bool *used = calloc((size_t)m->nfiles + 1, sizeof(bool));
	const struct m_proc *p = opts->pid ? model_proc(m, opts->pid) : NULL;

	if (!used)
		return err_set(err, ENOMEM, "list %u files", m->nfiles);
	if (p)
		mark_files(used, m, p);
	doc_array(d, "files");
	for (uint32_t i = 0; i < m->nfiles; i++)
		if (!p || used[m->files[i].id])
			show_file(d, &m->files[i]);
	doc_end(d);
	return 0;
}

static void show_shared(struct doc *d, const struct model *m, const struct show_opts *opts)
{
	if (opts->brief) {
		doc_u64(d, "shared_memory_count", m->nshms);
		return;
	}
	doc_array(d, "shared_memory");
	for (uint32_t i = 0; i < m->nshms; i++)
		show_segment(d, &m->shms[i]);
	doc_end(d);
}

static void show_findings(struct doc *d, const struct model *m, const struct show_opts *opts)
{
	doc_array(d, "findings");
	for (uint32_t i = 0; i < m->nfindings; i++) {
		const struct m_finding *f = &m->findings[i];

		if (opts->pid && f->pid != opts->pid)
			continue;
		doc_inline_object(d, NULL);
		doc_u64(d, "pid", f->pid);
		doc_str(d, "text", f->text);
		doc_end(d);
	}
	doc_end(d);
}

static int show_model(struct doc *d, struct image *img, const struct model *m,
		      const struct show_opts *opts, struct err *err)
{
	const struct arch_desc *arch = arch_by_machine(m->elf_machine);
	int ret;

	doc_object(d, NULL);
	show_origin(d, img, m, arch);
	ret = show_memory(d, img, m, opts, err);
	if (ret)
		return ret;
	doc_array(d, "processes");
	for (uint32_t i = 0; i < m->nprocs; i++)
		if (!opts->pid || m->procs[i].pid == opts->pid)
			show_proc(d, m, &m->procs[i], arch, opts);
	doc_end(d);
	if (opts->brief)
		doc_u64(d, "file_count", m->nfiles);
	else
		ret = show_files(d, m, opts, err);
	if (ret)
		return ret;
	show_shared(d, m, opts);
	show_findings(d, m, opts);
	doc_end(d);
	return 0;
}

static int show_image(struct image *img, FILE *out, const struct show_opts *opts, struct err *err)
{
	struct model *m = image_read_model(img, err);
	struct doc d;
	int ret;

	if (!m)
		return err && err->errnum ? -err->errnum : -EBADMSG;
	doc_init(&d, out);
	if (opts->pid && !model_proc(m, opts->pid))
		ret = err_fail(err, ESRCH, ERR_NO_PROCESS, "no process %u in the image", opts->pid);
	else
		ret = show_model(&d, img, m, opts, err);
	model_free(m);
	return ret;
}

static int no_such_file(const struct image *img, const char *file, struct err *err)
{
	err_fail(err, ENOENT, ERR_IMAGE, "%s: there is no such file in the image %s", file,
		 image_path(img));
	err_hint(err, "ls %s names its files; stasis show %s shows all of them", image_path(img),
		 image_path(img));
	return -ENOENT;
}

static int show_one(struct image *img, const char *file, FILE *out, struct err *err)
{
	struct doc d;

	/* Before half a document is on its way. */
	if (strchr(file, '/'))
		return err_fail(err, EINVAL, ERR_USAGE, "%s: not the name of a file in the image",
				file);
	if (faccessat(image_dirfd(img), file, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return no_such_file(img, file, err);
	doc_init(&d, out);
	if (!strcmp(file, IMAGE_BLOCK_FILE))
		return show_blocks(&d, img, err);
	return show_fields(&d, img, file, err);
}

int inspect_show(struct image *img, const char *file, FILE *out, const struct show_opts *opts,
		 struct err *err)
{
	int ret = file ? show_one(img, file, out, err) : show_image(img, out, opts, err);

	if (!ret && (fflush(out) || ferror(out)))
		ret = err_set(err, errno ? errno : EIO, "write JSON");
	return ret;
}
