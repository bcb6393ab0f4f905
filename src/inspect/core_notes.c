/* SPDX-License-Identifier: MIT */
/* The notes of a core file: who the process was, its threads' registers, what files were mapped. */
#include <elf.h>
#include <sys/mman.h>

#include "src/inspect/core.h"
#include "src/inspect/regs.h"

enum {
	PRSTATUS_HEAD = 112, /* of struct elf_prstatus before the registers, on every 64-bit CPU */
	PRPSINFO_LEN = 136,
	SIGINFO_LEN = 128,
	FNAME_LEN = 16,
	PSARGS_LEN = 80,
	MAX_PRSTATUS = 1024, /* more than any CPU has */
};

static void note_head(struct core_seq *s, const char *owner, uint32_t type, size_t len)
{
	size_t name_len = strlen(owner) + 1;

	core_put_uint(s, name_len, 4);
	core_put_uint(s, len, 4);
	core_put_uint(s, type, 4);
	core_put(s, owner, name_len);
	core_put_zeros(s, -name_len & 3);
}

static void note_tail(struct core_seq *s, size_t len)
{
	core_put_zeros(s, -len & 3);
}

static void put_timeval(struct core_seq *s, uint64_t us)
{
	core_put_uint(s, us / 1000000, 8);
	core_put_uint(s, us % 1000000, 8);
}

/* Fixed-width text field, cut and padded with NUL; the last byte is always NUL. */
static void put_text(struct core_seq *s, const char *text, size_t field)
{
	size_t len = text ? strnlen(text, field - 1) : 0;

	core_put(s, text, len);
	core_put_zeros(s, field - len);
}

static void put_prstatus(struct core_seq *s, const struct m_proc *p, const struct m_thread *t,
			 const struct m_regset *r, const struct arch_desc *arch)
{
	uint8_t regs[MAX_PRSTATUS];
	size_t len;

	memcpy(regs, r->data, r->len);
	regs_undo_restart(regs, r->len, t, arch);
	len = PRSTATUS_HEAD + r->len + 8;
	note_head(s, "CORE", NT_PRSTATUS, len);
	core_put_zeros(s, 12 + 4);	 /* pr_info, pr_cursig: nothing killed it */
	core_put_zeros(s, 8);		 /* pr_sigpend: see the queues, `stasis show` */
	core_put_uint(s, t->sigmask, 8); /* pr_sighold */
	core_put_uint(s, t->tid, 4);
	core_put_uint(s, p->ppid, 4);
	core_put_uint(s, p->pgid, 4);
	core_put_uint(s, p->sid, 4);
	put_timeval(s, t->utime_us);
	put_timeval(s, t->stime_us);
	core_put_zeros(s, 2 * 16); /* children's times */
	core_put(s, regs, r->len);
	core_put_uint(s, model_regset(t, NT_FPREGSET) != NULL, 4); /* pr_fpvalid */
	core_put_zeros(s, 4);
	note_tail(s, len);
}

static void put_prpsinfo(struct core_seq *s, const struct m_proc *p)
{
	const struct m_thread *t = &p->threads[0];
	bool stopped = p->state == M_STOPPED;

	note_head(s, "CORE", NT_PRPSINFO, PRPSINFO_LEN);
	/* pr_state indexes "RSDTZW" */
	core_put_uint(s, stopped ? 3 : 0, 1);
	core_put_uint(s, stopped ? 'T' : 'R', 1);
	core_put_uint(s, 0, 1);
	core_put_uint(s, (uint8_t)t->nice, 1);
	core_put_zeros(s, 4);
	core_put_uint(s, p->pf_flags, 8);
	core_put_uint(s, t->creds.uid, 4);
	core_put_uint(s, t->creds.gid, 4);
	core_put_uint(s, p->pid, 4);
	core_put_uint(s, p->ppid, 4);
	core_put_uint(s, p->pgid, 4);
	core_put_uint(s, p->sid, 4);
	put_text(s, p->comm, FNAME_LEN);
	put_text(s, p->cmdline, PSARGS_LEN);
}

/* No signal stopped it: the kernel's "none". */
static void put_siginfo(struct core_seq *s)
{
	note_head(s, "CORE", NT_SIGINFO, SIGINFO_LEN);
	core_put_zeros(s, SIGINFO_LEN);
}

static void put_auxv(struct core_seq *s, const struct m_mm *mm)
{
	note_head(s, "CORE", NT_AUXV, ((size_t)mm->nauxv + 2) * 8);
	for (uint32_t i = 0; i < mm->nauxv; i++)
		core_put_uint(s, mm->auxv[i], 8);
	/* AT_NULL */
	core_put_uint(s, 0, 8);
	core_put_uint(s, 0, 8);
}

/* NULL: no file the kernel would list. */
static const char *mapped_path(const struct model *m, const struct m_vma *v)
{
	const struct m_file *f = v->file_id ? model_file(m, v->file_id) : NULL;

	if (v->kind != M_VMA_FILE_PRIVATE && v->kind != M_VMA_FILE_SHARED && v->kind != M_VMA_SHMEM)
		return NULL;
	return f && f->path ? f->path : v->name;
}

/*
 * The kernel marks unlinked files in the name itself. Without the mark a debugger would take
 * another file of that name for the mapped one.
 */
static const char *deleted_mark(const struct model *m, const struct m_vma *v, const char *path)
{
	static const char mark[] = " (deleted)";
	const struct m_file *f = v->file_id ? model_file(m, v->file_id) : NULL;
	size_t len = strlen(path);

	if (!f || !f->deleted)
		return "";
	if (len >= sizeof(mark) - 1 && !strcmp(path + len - (sizeof(mark) - 1), mark))
		return "";
	return mark;
}

/* count, page size, (start, end, page offset) of each, then the names, each with its NUL */
static void put_files(struct core_seq *s, const struct model *m, const struct m_mm *mm)
{
	uint64_t page = m->page_size, n = 0, names = 0, len;

	for (uint32_t i = 0; i < mm->nvmas; i++) {
		const char *path = mapped_path(m, &mm->vmas[i]);

		if (path) {
			n++;
			names += strlen(path) + strlen(deleted_mark(m, &mm->vmas[i], path)) + 1;
		}
	}
	len = 16 + n * 24 + names;
	/* Too long for the length field of a note: gdb does without. */
	if (!n || !page || len > UINT32_MAX - 4)
		return;
	note_head(s, "CORE", NT_FILE, len);
	core_put_uint(s, n, 8);
	core_put_uint(s, page, 8);
	for (uint32_t i = 0; i < mm->nvmas; i++) {
		const struct m_vma *v = &mm->vmas[i];

		if (!mapped_path(m, v))
			continue;
		core_put_uint(s, v->start, 8);
		core_put_uint(s, v->end, 8);
		core_put_uint(s, v->pgoff / page, 8);
	}
	for (uint32_t i = 0; i < mm->nvmas; i++) {
		const char *path = mapped_path(m, &mm->vmas[i]), *mark;

		if (!path)
			continue;
		mark = deleted_mark(m, &mm->vmas[i], path);
		core_put(s, path, strlen(path));
		core_put(s, mark, strlen(mark) + 1);
	}
	note_tail(s, len);
}

static const char *owner_of(const struct arch_desc *arch, uint32_t note)
{
	for (const struct arch_regset *r = arch->regsets; r->note; r++)
		if (r->note == note)
			return r->owner;
	return "LINUX";
}

static void put_regsets(struct core_seq *s, const struct m_thread *t, const struct arch_desc *arch)
{
	for (uint32_t i = 0; i < t->nregsets; i++) {
		const struct m_regset *r = &t->regsets[i];

		if (r->note == NT_PRSTATUS || !r->len)
			continue;
		note_head(s, owner_of(arch, r->note), r->note, r->len);
		core_put(s, r->data, r->len);
		note_tail(s, r->len);
	}
}

/*
 * The kernel's order, which debuggers count on: a PRSTATUS opens a thread, the notes up to the next
 * PRSTATUS are that thread's; the process's own stand with the first.
 */
int core_notes(struct core_seq *s, const struct model *m, const struct m_proc *proc,
	       const struct m_mm *mm, const struct arch_desc *arch, struct err *err)
{
	bool any = false;

	for (uint32_t i = 0; i < proc->nthreads; i++) {
		const struct m_thread *t = &proc->threads[i];
		const struct m_regset *r = model_regset(t, NT_PRSTATUS);

		/* A leader that ended before its threads has none, and is in no kernel's core. */
		if (!r || r->len > MAX_PRSTATUS)
			continue;
		put_prstatus(s, proc, t, r, arch);
		if (!any) {
			put_prpsinfo(s, proc);
			put_siginfo(s);
			put_auxv(s, mm);
			put_files(s, m, mm);
		}
		put_regsets(s, t, arch);
		any = true;
	}
	if (!any)
		return err_fail(err, EBADMSG, ERR_IMAGE,
				"no thread of process %u has general registers in the image",
				proc->pid);
	return 0;
}
