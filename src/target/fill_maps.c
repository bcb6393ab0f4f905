/* SPDX-License-Identifier: MIT */
/* The mappings of a process that is brought back, and what must follow their contents. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "src/target/fill.h"
#include "src/target/keys.h"
#include "src/target/procfs.h"
#include "src/target/script.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17 */
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08 /* Linux 6.11 */
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif
#ifndef SYS_mseal
#define SYS_mseal 462 /* Linux 6.10: the same number on every CPU */
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA	     0x53564d41 /* Linux 5.17 */
#define PR_SET_VMA_ANON_NAME 0
#endif

/* --- the kernel's own code ------------------------------------------------------------------ */

struct kernels {
	uint64_t start, len, code_len; /* 0: the process has none */
};

static struct kernels kernels_of(const struct m_proc *p)
{
	struct kernels k = {0};

	for (uint32_t i = 0; i < p->mm.nvmas; i++) {
		const struct m_vma *v = &p->mm.vmas[i];

		if (v->kind != M_VMA_VVAR && v->kind != M_VMA_VDSO)
			continue;
		if (!k.len)
			k.start = v->start;
		k.len = v->end - k.start;
		if (v->kind == M_VMA_VDSO)
			k.code_len = v->end - v->start;
	}
	return k;
}

int fill_check_vdso(const struct spawn *s, const struct m_proc *p, struct err *err)
{
	struct kernels k = kernels_of(p);

	if (!k.len || (k.len == s->vdso.len && k.code_len == s->vdso.code_len))
		return 0;
	err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
		 "process %u: the image's vdso has %" PRIu64 " bytes of code and %" PRIu64
		 " in all, this kernel's %" PRIu64 " and %" PRIu64,
		 p->pid, k.code_len, k.len, s->vdso.code_len, s->vdso.len);
	err_hint(err, "restore under the kernel that the image was made under");
	return -EOPNOTSUPP;
}

static void place_vdso(struct spawn *s, struct script *script, const struct m_proc *p,
		       struct err *err)
{
	struct kernels k = kernels_of(p);
	uint64_t off = 0;

	if (!k.len && s->vdso.len) {
		script_add(script,
			   (struct script_call){SYS_munmap,
						{s->park, s->vdso.len},
						.what = "unmap the vdso at",
						.at = s->park},
			   err);
		return;
	}
	for (unsigned i = 0; i < s->vdso.n; i++) {
		uint64_t len = s->vdso.part[i].len, to = k.start + off;

		script_add(script,
			   (struct script_call){
				   SYS_mremap,
				   {s->park + off, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to},
				   .what = "move the vdso to",
				   .at = to,
				   .wants = true,
				   .want = to},
			   err);
		off += len;
	}
}

/* --- mappings ------------------------------------------------------------------------------- */

static bool has_file(const struct m_vma *v)
{
	return v->kind == M_VMA_FILE_PRIVATE || v->kind == M_VMA_FILE_SHARED ||
	       v->kind == M_VMA_SHMEM;
}

static uint64_t map_flags(const struct m_vma *v)
{
	uint64_t flags = MAP_FIXED_NOREPLACE | (v->shared ? MAP_SHARED : MAP_PRIVATE);

	if (!has_file(v))
		flags |= MAP_ANONYMOUS;
	if (v->flags & M_VMF_DROPPABLE)
		flags = (flags & ~(uint64_t)MAP_PRIVATE) | MAP_DROPPABLE;
	if (v->flags & M_VMF_NORESERVE)
		flags |= MAP_NORESERVE;
	if (v->flags & M_VMF_GROWSDOWN)
		flags |= MAP_GROWSDOWN;
	if (v->flags & M_VMF_HUGETLB && !has_file(v))
		flags |= MAP_HUGETLB | (uint64_t)v->hugetlb_page_shift << 26 /* MAP_HUGE_SHIFT */;
	return flags;
}

/*
 * The numbers that files and segments have in the process while it is mapped: of file n at n - 1,
 * of segment n behind all files; 0: not taken.
 */
struct taken {
	uint32_t *number;
	uint32_t n;
	uint32_t nfiles, nall;
};

/* A segment without a description of its own: plain shared memory. */
static uint32_t taken_index(const struct taken *t, const struct m_vma *v)
{
	if (!has_file(v))
		return UINT32_MAX;
	if (v->file_id)
		return v->file_id <= t->nfiles ? v->file_id - 1 : UINT32_MAX;
	return v->shm_id && v->shm_id <= t->nall - t->nfiles ? t->nfiles + v->shm_id - 1
							     : UINT32_MAX;
}

static bool is_sysv(const struct m_vma *v, const struct make *mk)
{
	return v->kind == M_VMA_SHMEM && v->shared && make_sysv_id(mk, v->shm_id) >= 0;
}

static int take_files(struct taken *t, struct script *script, const struct m_proc *p,
		      const struct make *mk, struct err *err)
{
	script_add(script,
		   (struct script_call){SYS_pidfd_open,
					{(uint64_t)getpid()},
					.what = "open a pidfd of pid",
					.at = (uint64_t)getpid(),
					.wants = true},
		   err);
	for (uint32_t i = 0; i < p->mm.nvmas; i++) {
		const struct m_vma *v = &p->mm.vmas[i];
		uint32_t index = taken_index(t, v);
		int fd;

		if (!has_file(v) || is_sysv(v, mk))
			continue;
		fd = v->file_id ? make_fd(mk, v->file_id) : make_segment(mk, v->shm_id);
		if (fd < 0 || index == UINT32_MAX)
			return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
					"process %u: the mapping at %#" PRIx64
					" (%s): its file or segment cannot be restored",
					p->pid, v->start, v->name ? v->name : "no name");
		if (t->number[index])
			continue;
		t->number[index] = ++t->n;
		script_add(script,
			   (struct script_call){SYS_pidfd_getfd,
						{0, (uint64_t)fd, 0},
						.what = "take the file mapped at",
						.at = v->start,
						.wants = true,
						.want = t->n},
			   err);
	}
	return 0;
}

/*
 * Once writable, now not: it stays counted as memory that may be needed, and does not become one
 * with a neighbour that never was. The linker's read-only data is such memory. Of memory without a
 * file and without contents the kernel (Linux 6.3) takes it off the count.
 */
static bool was_writable(const struct m_vma *v)
{
	return v->kind == M_VMA_FILE_PRIVATE && v->flags & M_VMF_ACCOUNT &&
	       !(v->prot & PROT_WRITE) && !(v->flags & M_VMF_HUGETLB);
}

/* Written by calls alone, and from outside by /proc/PID/mem; contents come later. */
static void map_shadow_stack(struct script *script, const struct m_vma *v, struct err *err)
{
	script_add(script,
		   (struct script_call){SYS_map_shadow_stack,
					{v->start, v->end - v->start, 0},
					.what = "map a shadow stack at",
					.at = v->start,
					.wants = true,
					.want = v->start},
		   err);
}

static void map_one(struct script *script, const struct m_mm *mm, const struct m_vma *v,
		    uint64_t fd, struct err *err)
{
	const uint64_t tags = fill_tags_prot(v); /* mprotect() leaves it */
	const uint64_t last = keys_prot_before(mm, v);
	uint64_t prot = (was_writable(v) ? PROT_READ | PROT_WRITE : last) | tags;

	script_add(script,
		   (struct script_call){SYS_mmap,
					{v->start, v->end - v->start, prot, map_flags(v), fd,
					 has_file(v) ? v->pgoff : 0},
					.what = "map memory at",
					.at = v->start,
					.wants = true,
					.want = v->start},
		   err);
	if ((prot & ~tags) != last)
		script_add(script,
			   (struct script_call){SYS_mprotect,
						{v->start, v->end - v->start, last},
						.what = "protect memory at",
						.at = v->start},
			   err);
}

/* --- what came with the fork ----------------------------------------------------------------- */

bool fill_may_keep(const struct m_vma *from, const struct m_vma *v)
{
	/* What cannot be changed later, and what would not be the same when it was. */
	const uint32_t made_with = M_VMF_GROWSDOWN | M_VMF_NORESERVE | M_VMF_TAGS;
	const uint32_t never = M_VMF_HUGETLB | M_VMF_SHSTK | M_VMF_DROPPABLE | M_VMF_AIORING |
			       M_VMF_IO | M_VMF_PFNMAP;

	if (v->start < from->start || v->end > from->end || v->kind != from->kind || v->shared ||
	    from->shared || (v->flags ^ from->flags) & made_with ||
	    (v->flags | from->flags) & never)
		return false;
	if (v->kind == M_VMA_ANON)
		return true;
	return v->kind == M_VMA_FILE_PRIVATE && v->file_id == from->file_id &&
	       v->shm_id == from->shm_id && v->pgoff - v->start == from->pgoff - from->start &&
	       was_writable(v) == was_writable(from);
}

/* What a child is rid of: few calls, for what lies between two mappings that stay goes at once. */
struct gone {
	struct script *script;
	uint64_t hole; /* the scratch area, which stays */
	uint64_t start, end;
};

static void unmap_all(struct gone *g, struct err *err)
{
	if (g->start < g->end)
		script_add(g->script,
			   (struct script_call){SYS_munmap,
						{g->start, g->end - g->start},
						.what = "unmap the parent's memory at",
						.at = g->start},
			   err);
	g->start = g->end = 0;
}

static void unmap(struct gone *g, uint64_t start, uint64_t end, struct err *err)
{
	if (start >= end)
		return;
	if (g->start < g->hole && start > g->hole)
		unmap_all(g, err);
	if (!g->end)
		g->start = start;
	g->end = end;
}

/* The parent's mapping @w, protected by @has: what stays, as it is to be; the rest goes. */
static void inherit_one(struct gone *g, const struct m_vma *w, uint32_t has, const struct m_proc *p,
			const uint8_t *keep, uint32_t *at, struct err *err)
{
	uint64_t done = w->start;

	while (*at < p->mm.nvmas && p->mm.vmas[*at].end <= w->start)
		++*at;
	for (uint32_t i = *at; i < p->mm.nvmas && p->mm.vmas[i].start < w->end; i++) {
		const struct m_vma *v = &p->mm.vmas[i];
		const uint32_t want = keys_prot_before(&p->mm, v);

		if (!keep[i])
			continue;
		unmap(g, done, v->start, err);
		unmap_all(g, err);
		done = v->end;
		if (want != has)
			script_add(g->script,
				   (struct script_call){SYS_mprotect,
							{v->start, v->end - v->start, want},
							.what = "protect memory at",
							.at = v->start},
				   err);
	}
	unmap(g, done, w->end, err);
}

static void inherit(const struct spawn *s, struct script *script, const struct m_proc *p,
		    const struct fill_kin *kin, struct err *err)
{
	struct gone g = {.script = script, .hole = s->base};
	uint32_t at = 0;

	for (uint32_t i = 0; i < kin->from->mm.nvmas; i++) {
		const struct m_vma *w = &kin->from->mm.vmas[i];

		if (!fill_is_kernels(w))
			inherit_one(&g, w, keys_prot_before(&kin->from->mm, w), p, kin->keep, &at,
				    err);
	}
	unmap_all(&g, err);
	for (size_t i = 0; i < kin->ndrop; i++)
		script_add(
			script,
			(struct script_call){SYS_madvise,
					     {kin->drop[i].start,
					      kin->drop[i].end - kin->drop[i].start, MADV_DONTNEED},
					     .what = "drop the parent's pages at",
					     .at = kin->drop[i].start},
			err);
}

static int map_all(struct spawn *s, struct remote *r, const struct m_proc *p, const struct make *mk,
		   const struct fill_kin *kin, struct taken *t, struct err *err)
{
	struct fill_attach a = {0};
	struct script script;
	int ret;

	script_begin(&script, r, r->first);
	if (kin->from)
		inherit(s, &script, p, kin, err);
	ret = take_files(t, &script, p, mk, err);
	for (uint32_t i = 0; ret == 0 && i < p->mm.nvmas; i++) {
		const struct m_vma *v = &p->mm.vmas[i];

		if (fill_is_kernels(v) || (kin->from && kin->keep[i]))
			continue;
		if ((!has_file(v) && v->kind != M_VMA_ANON) || v->flags & M_VMF_AIORING)
			return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
					"process %u: the mapping at %#" PRIx64
					" (%s) is of a kind that cannot be restored",
					p->pid, v->start, v->name ? v->name : "no name");
		if (is_sysv(v, mk)) {
			ret = fill_attach(&a, &script, s, p, i, mk, err);
			continue;
		}
		if (v->flags & M_VMF_SHSTK)
			map_shadow_stack(&script, v, err);
		else
			map_one(&script, &p->mm, v,
				has_file(v) ? t->number[taken_index(t, v)] : (uint64_t)-1, err);
	}
	if (ret < 0)
		return ret;
	script_add(&script,
		   (struct script_call){SYS_close_range, {0, ~0u, 0}, .what = "close all files"},
		   err);
	return script_run(&script, err);
}

int fill_vdso(struct spawn *s, struct remote *r, const struct m_proc *p, struct err *err)
{
	struct script script;

	script_begin(&script, r, r->first);
	place_vdso(s, &script, p, err);
	return script_run(&script, err);
}

static void explain_nomem(const struct m_proc *p, struct err *err)
{
	unsigned long max;
	char text[32];

	if (procfs_read(text, sizeof(text), "/proc/sys/vm/max_map_count") <= 0)
		return;
	max = strtoul(text, NULL, 10);
	/* Some go beside the image's own while it is filled. */
	if (p->mm.nvmas + 64 > max)
		err_hint(err,
			 "it has %u mappings in the image, and %lu are allowed here: raise "
			 "vm.max_map_count",
			 p->mm.nvmas, max);
}

int fill_maps(struct spawn *s, struct remote *r, const struct m_proc *p, const struct make *mk,
	      const struct fill_kin *kin, struct err *err)
{
	struct taken t = {
		.nfiles = s->m->nfiles,
		.nall = s->m->nfiles + s->m->nshms,
	};
	int ret;

	t.number = calloc(t.nall + 1, sizeof(*t.number));
	if (!t.number)
		return err_set(err, ENOMEM, "mapped files of process %u", p->pid);
	ret = map_all(s, r, p, mk, kin, &t, err);
	if (ret == -ENOMEM)
		explain_nomem(p, err);
	free(t.number);
	return ret;
}

/* --- behind the contents ---------------------------------------------------------------------- */

static const struct {
	uint32_t flag;
	int advice;
	const char *what;
} advices[] = {
	{M_VMF_SEQ, MADV_SEQUENTIAL, "madvise(MADV_SEQUENTIAL) at"},
	{M_VMF_RAND, MADV_RANDOM, "madvise(MADV_RANDOM) at"},
	{M_VMF_DONTFORK, MADV_DONTFORK, "madvise(MADV_DONTFORK) at"},
	{M_VMF_MERGEABLE, MADV_MERGEABLE, "madvise(MADV_MERGEABLE) at"},
	{M_VMF_HUGEPAGE, MADV_HUGEPAGE, "madvise(MADV_HUGEPAGE) at"},
	{M_VMF_NOHUGEPAGE, MADV_NOHUGEPAGE, "madvise(MADV_NOHUGEPAGE) at"},
	{M_VMF_DONTDUMP, MADV_DONTDUMP, "madvise(MADV_DONTDUMP) at"},
	{M_VMF_WIPEONFORK, MADV_WIPEONFORK, "madvise(MADV_WIPEONFORK) at"},
};

static void advise(struct script *s, const struct m_vma *v, struct err *err)
{
	for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++)
		/* A hint: a kernel that was built without the feature is no reason to fail. */
		if (v->flags & advices[i].flag)
			script_add(
				s,
				(struct script_call){
					SYS_madvise,
					{v->start, v->end - v->start, (uint64_t)advices[i].advice},
					.what = advices[i].what,
					.at = v->start,
					.may_fail = advices[i].flag &
						    (M_VMF_MERGEABLE | M_VMF_HUGEPAGE |
						     M_VMF_NOHUGEPAGE | M_VMF_DROPPABLE)},
				err);
}

static void name_anon(struct script *s, const struct m_vma *v, struct err *err)
{
	static const char prefix[] = "[anon:";
	size_t len = v->name ? strlen(v->name) : 0;
	char text[96];
	uint64_t at;

	if (v->kind != M_VMA_ANON || len < sizeof(prefix) || len >= sizeof(text) ||
	    strncmp(v->name, prefix, sizeof(prefix) - 1) != 0)
		return;
	memcpy(text, v->name + sizeof(prefix) - 1, len - sizeof(prefix));
	text[len - sizeof(prefix)] = '\0';
	script_room(s, 1, sizeof(text), err);
	at = script_buf(s, text, sizeof(text), err);
	script_add(s,
		   (struct script_call){
			   SYS_prctl,
			   {PR_SET_VMA, PR_SET_VMA_ANON_NAME, v->start, v->end - v->start, at},
			   .what = "name the memory at",
			   .at = v->start,
			   .may_fail = true},
		   err);
}

static void add_len(struct script *s, uint64_t nr, uint64_t start, uint64_t end, uint64_t arg,
		    const char *what, struct err *err)
{
	script_add(s,
		   (struct script_call){nr, {start, end - start, arg}, .what = what, .at = start},
		   err);
}

/* Do VmFlags tell memory that is locked page by page, as it is touched? Older kernels do not. */
static bool onfault_is_told(void)
{
	size_t len = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct procfs_lines l;
	char buf[16384], begin[32];
	const char *line;
	bool here = false, told = false;

	if (page == MAP_FAILED)
		return false;
	snprintf(begin, sizeof(begin), "%" PRIxPTR "-", (uintptr_t)page);
	if (mlock2(page, len, MLOCK_ONFAULT) == 0 &&
	    procfs_lines_open(&l, buf, sizeof(buf), "/proc/self/smaps") == 0) {
		while (!told && (line = procfs_lines_next(&l))) {
			here = here || !strncmp(line, begin, strlen(begin));
			told = here && strstr(line, "VmFlags:") && strstr(line, " lf");
			if (here && strstr(line, "VmFlags:"))
				break;
		}
		procfs_lines_close(&l);
	}
	munmap(page, len);
	return told;
}

/* Whose pages are there, present or not in the image, and where the area grows those too. */
static bool locked_whole(const struct m_vma *v)
{
	static int told = -1;

	/* Not known: whatever is locked page by page must not be filled up. */
	if (!v->vmflags[0] || strstr(v->vmflags, "lf"))
		return false;
	if (told < 0)
		told = onfault_is_told();
	return told;
}

static void lock(struct script *s, const struct m_vma *v, struct err *err)
{
	const uint64_t len = v->end - v->start;

	script_add(s,
		   (struct script_call){SYS_mlock2,
					{v->start, len, MLOCK_ONFAULT},
					.what = "lock memory at",
					.at = v->start},
		   err);
	/* An error where there is nothing to be touched: it is locked all the same. */
	if (locked_whole(v))
		script_add(s,
			   (struct script_call){SYS_mlock,
						{v->start, len},
						.what = "lock memory at",
						.at = v->start,
						.may_fail = true},
			   err);
}

struct giving {
	struct script *s;
	struct err *err;
};

static void give_key(void *arg, const struct script_call *call)
{
	const struct giving *g = arg;

	script_add(g->s, *call, g->err);
}

int fill_advice(struct remote *r, const struct m_proc *p, struct err *err)
{
	struct script s;
	struct giving giving = {&s, err};

	script_begin(&s, r, r->first);
	for (uint32_t i = 0; i < p->mm.nvmas; i++) {
		const struct m_vma *v = &p->mm.vmas[i];

		if (fill_is_kernels(v))
			continue;
		advise(&s, v, err);
		name_anon(&s, v, err);
		if (v->flags & M_VMF_LOCKED)
			lock(&s, v, err);
	}
	for (uint32_t i = 0; i < p->mm.nguards; i++)
		add_len(&s, SYS_madvise, p->mm.guards[i].start, p->mm.guards[i].end,
			MADV_GUARD_INSTALL, "install guard pages at", err);
	/* Behind what touches pages, which the calling thread may not where a key forbids it. */
	keys_plan(&p->mm, keys_here(), give_key, &giving);
	for (uint32_t i = 0; i < p->mm.nvmas; i++)
		if (p->mm.vmas[i].flags & M_VMF_SEALED && !fill_is_kernels(&p->mm.vmas[i]))
			add_len(&s, SYS_mseal, p->mm.vmas[i].start, p->mm.vmas[i].end, 0,
				"seal memory at", err);
	return script_run(&s, err);
}
