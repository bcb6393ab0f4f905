/* SPDX-License-Identifier: MIT */
/* The address space of a process as /proc shows it: its mappings and the fields of its mm. */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "src/target/files.h"
#include "base/clock.h"
#include "src/target/dirty.h"
#include "src/target/procfs.h"

static bool starts(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

/* Mappings without a file: their names come from the kernel, or are [anon:...]. */
static void kind_by_name(const struct smaps_vma *from, struct m_vma *v)
{
	static const struct {
		const char *name;
		enum m_vma_kind kind;
		uint32_t flags;
	} names[] = {
		{"[heap]", M_VMA_ANON, M_VMF_HEAP}, {"[stack", M_VMA_ANON, M_VMF_STACK},
		{"[anon:", M_VMA_ANON, 0},	    {"[vdso]", M_VMA_VDSO, 0},
		{"[vvar", M_VMA_VVAR, 0},	    {"[vsyscall]", M_VMA_VSYSCALL, 0},
	};

	if (!v->name && from->ino) {
		v->kind = M_VMA_OTHER;
		return;
	}
	if (!v->name) {
		v->kind = v->flags & (M_VMF_IO | M_VMF_PFNMAP) ? M_VMA_DEVICE : M_VMA_ANON;
		return;
	}
	v->kind = M_VMA_OTHER;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!starts(v->name, names[i].name))
			continue;
		v->kind = names[i].kind;
		v->flags |= names[i].flags;
		return;
	}
}

/* Shared memory and huge pages that no path leads to; a private mapping of them is one of a file.
 */
static int kind_segment(struct files *f, const struct proc_at *at, const struct smaps_vma *from,
			const struct segment_fs *fs, struct m_vma *v, struct err *err)
{
	uint64_t dev = makedev(from->major, from->minor);
	char link[64];

	if (!v->shared && fs->page_shift && starts(v->name, "/anon_hugepage")) {
		v->kind = M_VMA_ANON;
		v->flags |= M_VMF_HUGETLB;
		v->pgoff = 0;
		return 0;
	}
	if (!v->shared) {
		v->kind = M_VMA_FILE_PRIVATE;
		return files_mapped(f, at, from, v->name, &v->file_id, err);
	}
	v->kind = M_VMA_SHMEM;
	if (starts(v->name, "/memfd:")) {
		int ret = files_mapped(f, at, from, v->name, &v->file_id, err);

		if (ret < 0)
			return ret;
		v->shm_id = f->m->files[v->file_id - 1].shm_id;
		return 0;
	}
	map_files_name(link, from);
	return files_segment(f, at, link, v->name, dev, from->ino, from, &v->shm_id, err);
}

static int kind_file(struct files *f, const struct proc_at *at, const struct smaps_vma *from,
		     struct m_vma *v, struct err *err)
{
	const struct segment_fs *fs = segment_fs_find(f, makedev(from->major, from->minor));

	if (fs)
		return kind_segment(f, at, from, fs, v, err);
	if (from->no_expand && !strcmp(v->name, "/[aio] (deleted)")) {
		v->kind = M_VMA_OTHER;
		v->flags |= M_VMF_AIORING;
		return 0;
	}
	if (*v->name != '/' && !starts(v->name, "(unreachable)")) {
		v->kind = M_VMA_OTHER;
		return 0;
	}
	if (!strcmp(v->name, "/secretmem (deleted)") && v->flags & M_VMF_LOCKED) {
		v->kind = M_VMA_OTHER;
		return 0;
	}
	v->kind = v->shared ? M_VMA_FILE_SHARED : M_VMA_FILE_PRIVATE;
	if (v->flags & (M_VMF_IO | M_VMF_PFNMAP))
		v->kind = M_VMA_DEVICE;
	return files_mapped(f, at, from, v->name, &v->file_id, err);
}

static int vma_finding(struct files *f, const struct proc_at *at, const struct m_vma *v)
{
	const char *name = v->name ? v->name : "no name";

	if (v->flags & M_VMF_AIORING)
		return finding_fatal(f->m, at->pid,
				     "%" PRIx64 "-%" PRIx64 ": ring of asynchronous I/O: requests "
				     "in flight are not saved",
				     v->start, v->end);
	if (v->flags & M_VMF_UFFD)
		return finding_fatal(f->m, at->pid,
				     "%" PRIx64 "-%" PRIx64
				     ": userfaultfd: its registration is not "
				     "saved",
				     v->start, v->end);
	if (v->kind == M_VMA_DEVICE)
		return finding_fatal(f->m, at->pid,
				     "%" PRIx64 "-%" PRIx64
				     ": device memory (%s): its contents are "
				     "not saved",
				     v->start, v->end, name);
	if (v->kind == M_VMA_OTHER)
		return finding_fatal(f->m, at->pid,
				     "%" PRIx64 "-%" PRIx64 ": special mapping (%s): its contents "
				     "are not saved",
				     v->start, v->end, name);
	return 0;
}

/* @prev: the mapping before, whose name is often the same. */
static int vma_fill(struct files *f, const struct proc_at *at, const struct smaps_vma *from,
		    const struct m_vma *prev, struct m_vma *v, struct err *err)
{
	const char *name = smaps_string(&f->smaps, from->name);
	int ret = 0;

	v->start = from->start;
	v->end = from->end;
	v->pgoff = from->pgoff;
	v->prot = from->prot;
	v->flags = from->flags;
	v->shared = from->shared;
	v->pkey = from->pkey;
	strncpy(v->vmflags, smaps_string(&f->smaps, from->vmflags), sizeof(v->vmflags) - 1);
	if (from->flags & M_VMF_HUGETLB)
		v->hugetlb_page_shift = from->page_shift;
	if (*name) {
		bool again = prev && prev->name && !strcmp(prev->name, name);

		v->name = again ? prev->name : model_strdup(f->m, name);
		if (!v->name)
			return err_set(err, ENOMEM, "mappings of pid %u", at->pid);
	}
	if (v->name && (from->ino || from->major || from->minor))
		ret = kind_file(f, at, from, v, err);
	else
		kind_by_name(from, v);
	if (ret == 0 && vma_finding(f, at, v) < 0)
		ret = err_set(err, ENOMEM, "findings of pid %u", at->pid);
	return ret;
}

static struct survey *survey_find(struct files *f, pid_t tid)
{
	uint32_t i;

	return idmap_get(&f->by_survey, (uint64_t)tid, &i) ? &f->surveys[i] : NULL;
}

/* f->smaps, by the survey if it still holds. */
static int list_read(struct files *f, const struct proc_at *at, struct err *err)
{
	const struct survey *old = survey_find(f, at->tid);
	int ret = -EAGAIN;

	/* Keys are given without a trace in maps. */
	if (old && !f->distrust && !old->smaps.keys && old->cost_ns >= f->survey_worth_ns) {
		ret = smaps_read(&f->smaps, at->tid, "maps");
		if (ret == 0 && !smaps_inherit(&f->smaps, &old->smaps))
			ret = -EAGAIN;
	}
	f->inherited = ret == 0;
	f->smaps.drop_wp = f->kept || (f->dirty && dirty_tracks(f->dirty, (pid_t)at->pid));
	if (ret == -EAGAIN)
		ret = smaps_read(&f->smaps, at->tid, "smaps");
	return ret < 0 ? files_fail(err, ret, at, "mappings") : 0;
}

static int vmas_collect(struct files *f, const struct proc_at *at, struct m_mm *mm, struct err *err)
{
	int ret = list_read(f, at, err);
	struct m_vma *v;

	if (ret < 0)
		return ret;
	v = model_alloc(f->m, f->smaps.n * sizeof(*v));
	if (!v)
		return err_set(err, ENOMEM, "%u mappings of pid %u", f->smaps.n, at->pid);
	for (uint32_t i = 0; i < f->smaps.n && ret == 0; i++)
		ret = vma_fill(f, at, &f->smaps.v[i], i ? &v[i - 1] : NULL, &v[i], err);
	mm->vmas = v;
	mm->nvmas = f->smaps.n;
	return ret;
}

int maps_keys(struct files *f, struct m_proc *p, struct err *err)
{
	const struct smaps *s = &f->smaps;
	struct proc_at at;
	uint32_t j = 0;
	int ret;

	if (!p->mm.pkeys || !f->inherited)
		return 0;
	ret = proc_at_open(f, p, &at, err);
	if (ret < 0)
		return ret;
	ret = smaps_read(&f->smaps, at.tid, "smaps");
	if (ret < 0)
		files_fail(err, ret, &at, "mappings");
	for (uint32_t i = 0; ret == 0 && i < p->mm.nvmas; i++) {
		while (j < s->n && s->v[j].end <= p->mm.vmas[i].start)
			j++;
		if (j < s->n && s->v[j].start <= p->mm.vmas[i].start)
			p->mm.vmas[i].pkey = s->v[j].pkey;
	}
	proc_at_close(&at);
	return ret;
}

static int mm_stat(const struct proc_at *at, struct m_mm *mm, struct err *err)
{
	struct procfs_stat st;
	int ret = procfs_stat(at->tid, 0, &st);

	if (ret < 0)
		return files_fail(err, ret, at, "stat");
	mm->start_code = st.start_code;
	mm->end_code = st.end_code;
	mm->start_data = st.start_data;
	mm->end_data = st.end_data;
	mm->start_stack = st.start_stack;
	mm->start_brk = st.start_brk;
	mm->arg_start = st.arg_start;
	mm->arg_end = st.arg_end;
	mm->env_start = st.env_start;
	mm->env_end = st.env_end;
	return 0;
}

/* CRIU's restore takes no more words than the kernel of its day had, the last pair left out. */
static uint32_t mm_auxv_end(const uint64_t *words, uint32_t n)
{
	while (n >= 2 && words[n - 2] == AT_NULL)
		n -= 2;
	return n;
}

static int mm_auxv(struct files *f, const struct proc_at *at, struct m_mm *mm, struct err *err)
{
	ssize_t n = proctext_read(&f->text, at->dir, "auxv");

	if (n == -EPERM || n == -EACCES)
		return 0;
	if (n < 0)
		return files_fail(err, (int)n, at, "auxv");
	mm->nauxv = (uint32_t)((size_t)n / sizeof(*mm->auxv)) & ~1U;
	mm->nauxv = mm_auxv_end((const uint64_t *)(const void *)f->text.data, mm->nauxv);
	mm->auxv = model_alloc(f->m, mm->nauxv * sizeof(*mm->auxv));
	if (!mm->auxv)
		return err_set(err, ENOMEM, "auxv of pid %u", at->pid);
	memcpy(mm->auxv, f->text.data, mm->nauxv * sizeof(*mm->auxv));
	return 0;
}

/* 1: @p has the address space of an earlier process, which is copied. */
static int mm_shared(struct model *m, struct m_proc *p, struct files *f, const struct proc_at *at,
		     struct err *err)
{
	uint32_t index = (uint32_t)(p - m->procs), first;
	int ret = same_find(&f->same, SAME_VM, 0, at->tid, 0, index, &first);

	if (ret < 0)
		return files_fail(err, ret, at, "kcmp of memory");
	if (ret) {
		p->mm = m->procs[first].mm;
		p->vm_id = m->procs[first].vm_id;
		p->shares_vm = true;
	} else {
		p->vm_id = f->next_vm++;
	}
	return ret;
}

int maps_collect(struct model *m, struct m_proc *p, struct files *f, struct err *err)
{
	struct proc_at at;
	int ret;

	if (p->state == M_DEAD)
		return 0;
	ret = proc_at_open(f, p, &at, err);
	if (ret < 0)
		return ret;
	if (at.dir < 0)
		return err_set(err, ESRCH, "mappings of pid %u", p->pid);
	ret = mm_shared(m, p, f, &at, err);
	if (ret == 0)
		ret = mm_stat(&at, &p->mm, err);
	if (ret == 0)
		ret = mm_auxv(f, &at, &p->mm, err);
	if (ret == 0)
		ret = files_link(f, &at, "exe", &p->mm.exe_file_id, err);
	if (ret == 0)
		ret = vmas_collect(f, &at, &p->mm, err);
	if (ret == 0 && !f->leave_guards)
		ret = guards_collect(m, &at, &p->mm, err);
	proc_at_close(&at);
	return ret < 0 ? ret : 0;
}

/* A text torn by a running target, or none: the freeze reads all again. */
static void survey_read(struct files *f, pid_t pid, const struct proc_at *at, struct smaps *s)
{
	int ret;

	s->drop_wp = f->dirty && dirty_tracks(f->dirty, pid);
	ret = smaps_read(s, at->tid, "smaps");
	if (ret == 0 && s->drop_wp && dirty_others(f->dirty, pid, s)) {
		s->drop_wp = false;
		ret = smaps_read(s, at->tid, "smaps");
	}
	if (ret < 0)
		s->n = 0;
}

int maps_survey(struct files *f, pid_t pid, struct err *err)
{
	struct m_proc p = {.pid = (uint32_t)pid};
	struct err gone = {0};
	uint64_t began_ns;
	struct survey *s;
	struct proc_at at;
	int ret = proc_at_open(f, &p, &at, &gone);

	if (ret < 0 && ret != -ESRCH)
		return err_take(err, &gone);
	if (ret < 0 || at.dir < 0)
		return 0;
	s = survey_find(f, at.tid);
	if (!s) {
		s = files_push(&f->surveys, &f->nsurveys, &f->surveys_room, sizeof(*s));
		if (!s || idmap_put(&f->by_survey, (uint64_t)at.tid, f->nsurveys - 1) < 0) {
			proc_at_close(&at);
			return err_set(err, ENOMEM, "survey of pid %d", pid);
		}
		s->tid = at.tid;
	}
	began_ns = clock_ns(CLOCK_MONOTONIC);
	survey_read(f, pid, &at, &s->smaps);
	s->cost_ns = clock_ns(CLOCK_MONOTONIC) - began_ns;
	for (uint32_t i = 0; i < s->smaps.n; i++)
		if (s->smaps.v[i].prot & PROT_EXEC && s->smaps.v[i].ino)
			files_build_id(f, &at, &s->smaps.v[i]);
	proc_at_close(&at);
	return 0;
}

void files_distrust(struct files *f, bool distrust)
{
	f->distrust = distrust;
}

size_t files_surveyed(const struct files *f)
{
	size_t n = 0;

	for (uint32_t i = 0; i < f->nsurveys; i++)
		n += f->surveys[i].smaps.n;
	return n;
}
