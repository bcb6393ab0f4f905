/* SPDX-License-Identifier: MIT */
/* Which memory of a process tree has to be read. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "src/ops/ranges.h"
#include "src/target/target.h"

static int ranges_add(struct ranges *r, struct md_range range, struct err *err)
{
	if (r->n == r->room) {
		size_t room = r->room ? 2 * r->room : 256;
		struct md_range *v = realloc(r->v, room * sizeof(*v));

		if (!v)
			return err_set(err, ENOMEM, "list of memory ranges (%zu)", room);
		r->v = v;
		r->room = room;
	}
	r->v[r->n++] = range;
	return 0;
}

/* False for memory that a restore gets from elsewhere: files, the kernel, devices. */
static bool vma_pick(const struct m_vma *v, enum md_pick *ret)
{
	if (v->flags & (M_VMF_IO | M_VMF_PFNMAP | M_VMF_DROPPABLE))
		return false;
	switch (v->kind) {
	case M_VMA_ANON:
		*ret = MD_PICK_PRESENT;
		return true;
	case M_VMA_FILE_PRIVATE:
		*ret = MD_PICK_COW;
		return true;
	case M_VMA_VDSO:
		*ret = MD_PICK_ALL;
		return true;
	default:
		if (v->flags & M_VMF_AIORING) {
			*ret = MD_PICK_ALL;
			return true;
		}
		return false;
	}
}

/* Whose pages a process may have: those of the one that has forked it, if its own are read. */
static int kin_of(const struct model *m, const struct m_proc *p)
{
	const struct m_proc *parent = p->ppid == p->pid ? NULL : model_proc(m, p->ppid);

	return parent && parent->state != M_DEAD && !parent->shares_vm ? (int)parent->pid : 0;
}

static int ranges_add_proc(struct ranges *r, const struct model *m, const struct m_proc *p,
			   struct err *err)
{
	const int kin = kin_of(m, p);

	if (p->state == M_DEAD || p->shares_vm)
		return 0;
	for (uint32_t i = 0; i < p->mm.nvmas; i++) {
		const struct m_vma *v = &p->mm.vmas[i];
		enum md_pick pick;
		int ret;

		if (!vma_pick(v, &pick))
			continue;
		ret = ranges_add(r,
				 (struct md_range){.space = MD_SPACE_PROC(p->pid),
						   .addr = v->start,
						   .len = v->end - v->start,
						   .pid = (int)p->pid,
						   .fd = -1,
						   .pick = pick,
						   .kin = pick == MD_PICK_ALL ? 0 : kin},
				 err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* A memfd may end in the middle of a page. */
static uint64_t whole_pages(const struct model *m, uint64_t len)
{
	return (len + m->page_size - 1) & ~((uint64_t)m->page_size - 1);
}

static bool fd_is_segment(int fd, const struct m_shm *s)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_dev == s->dev &&
	       (uint64_t)st.st_ino == s->ino;
}

/* Through a mapping (needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE) or through a descriptor. */
static int segment_open(const struct model *m, const struct m_shm *s)
{
	char path[96];

	if (s->map_len) {
		snprintf(path, sizeof(path), "/proc/%u/map_files/%" PRIx64 "-%" PRIx64, s->pid,
			 s->map_start, s->map_start + s->map_len);
		cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd >= 0 && fd_is_segment(fd, s))
			return take_fd(&fd);
	}
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_fdtable *t = model_fdtable(m, m->procs[i].fdtable_id);

		for (uint32_t j = 0; t && j < t->n; j++) {
			const struct m_file *f = model_file(m, t->fds[j].file_id);

			if (!f || f->shm_id != s->id)
				continue;
			snprintf(path, sizeof(path), "/proc/%u/fd/%u", m->procs[i].pid,
				 t->fds[j].fd);
			cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

			if (fd >= 0 && fd_is_segment(fd, s))
				return take_fd(&fd);
		}
	}
	if (s->fd >= 0) {
		snprintf(path, sizeof(path), "/proc/%u/fd/%d", s->pid, s->fd);
		cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd >= 0 && fd_is_segment(fd, s))
			return take_fd(&fd);
	}
	return -1;
}

/* Every mapping of a segment that cannot be opened: what is mapped nowhere is not reachable then.
 */
static int ranges_add_mapped(struct ranges *r, const struct model *m, const struct m_shm *s,
			     struct err *err)
{
	bool any = false;

	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];

		for (uint32_t j = 0; j < p->mm.nvmas; j++) {
			const struct m_vma *v = &p->mm.vmas[j];
			int ret;

			if (v->shm_id != s->id || any)
				continue;
			if (v->pgoff || v->end - v->start < s->size)
				continue;
			any = true;
			ret = ranges_add(r,
					 (struct md_range){.space = MD_SPACE_SHMEM(s->id),
							   .addr = v->start,
							   .stored_as = 0,
							   .len = s->size ? whole_pages(m, s->size)
									  : v->end - v->start,
							   .pid = (int)p->pid,
							   .fd = -1,
							   .pick = MD_PICK_ALL},
					 err);
			if (ret < 0)
				return ret;
		}
	}
	if (any)
		return 0;
	err_fail(err, EPERM, ERR_PERM,
		 "pid %u: shared memory \"%s\" mapped at %#" PRIx64
		 " cannot be read: permission denied",
		 s->pid, s->name ? s->name : "?", s->map_start);
	err_hint(err, "run stasis as root or with CAP_CHECKPOINT_RESTORE");
	return -EPERM;
}

static int ranges_add_segment(struct ranges *r, const struct model *m, const struct m_shm *s,
			      struct err *err)
{
	struct stat st;
	int fd = segment_open(m, s);

	if (fd < 0)
		return ranges_add_mapped(r, m, s, err);
	r->fds[r->nfds++] = fd;
	if (fstat(fd, &st) < 0)
		return err_set(err, errno, "stat shared segment %u", s->id);
	return ranges_add(r,
			  (struct md_range){.space = MD_SPACE_SHMEM(s->id),
					    .len = whole_pages(m, (uint64_t)st.st_size),
					    .fd = fd,
					    .pick = MD_PICK_DATA},
			  err);
}

int ranges_collect(struct ranges *r, const struct model *m, struct err *err)
{
	int ret = 0;

	memset(r, 0, sizeof(*r));
	r->fds = calloc(m->nshms ? m->nshms : 1, sizeof(*r->fds));
	if (!r->fds)
		return err_set(err, ENOMEM, "list of %u shared segments", m->nshms);
	for (uint32_t i = 0; ret == 0 && i < m->nprocs; i++)
		ret = ranges_add_proc(r, m, &m->procs[i], err);
	for (uint32_t i = 0; ret == 0 && i < m->nshms; i++)
		ret = ranges_add_segment(r, m, &m->shms[i], err);
	return ret;
}

void ranges_free(struct ranges *r)
{
	for (size_t i = 0; i < r->nfds; i++)
		close(r->fds[i]);
	free(r->fds);
	free(r->v);
	memset(r, 0, sizeof(*r));
}

struct scan {
	struct ranges *out;
	const struct md_range *from;
	const struct m_proc *proc; /* NULL: shared segment */
	bool lazy_vma;
	int (*emit)(void *arg, uint64_t space, const struct md_extent *e, bool lazy,
		    struct err *err);
	void *arg;
	struct err *err;
};

static int scan_piece(struct scan *s, struct md_extent e, bool lazy)
{
	struct md_range range = *s->from;
	int ret;

	range.addr = e.addr;
	/* A segment's extents are offsets in it; through a mapping they are read where that is. */
	if (range.fd < 0 && MD_SPACE_KIND(range.space) == 1) {
		range.addr = s->from->addr + (e.addr - s->from->stored_as);
		range.stored_as = e.addr;
	}
	range.len = e.len;
	/* CRIU's page files have no place for it. */
	range.kin = 0;
	range.pick = s->from->fd >= 0 ? MD_PICK_DATA : MD_PICK_ALL;
	ret = ranges_add(s->out, range, s->err);
	return ret < 0 ? ret : s->emit(s->arg, s->from->space, &e, lazy, s->err);
}

/* CRIU never serves the page that holds a thread's stack pointer lazily: cut it out. */
static int scan_emit(void *arg, const struct md_extent *e)
{
	struct scan *s = arg;
	struct md_extent rest = *e;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	int ret = 0;

	while (s->lazy_vma && rest.len && ret == 0) {
		uint64_t hit = UINT64_MAX;

		for (uint32_t i = 0; i < s->proc->nthreads; i++) {
			uint64_t sp = s->proc->threads[i].sp & ~(page - 1);

			if (sp >= rest.addr && sp < rest.addr + rest.len && sp < hit)
				hit = sp;
		}
		if (hit == UINT64_MAX)
			break;
		if (hit > rest.addr)
			ret = scan_piece(s, (struct md_extent){rest.addr, hit - rest.addr}, true);
		if (ret == 0)
			ret = scan_piece(s, (struct md_extent){hit, page}, false);
		rest.len -= hit + page - rest.addr;
		rest.addr = hit + page;
	}
	return ret < 0 || !rest.len ? ret : scan_piece(s, rest, s->lazy_vma);
}

static bool vma_lazy(const struct m_proc *p, uint64_t addr)
{
	uint32_t lo = 0, hi = p->mm.nvmas;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (p->mm.vmas[mid].end <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->mm.nvmas && p->mm.vmas[lo].kind == M_VMA_ANON &&
	       !(p->mm.vmas[lo].flags & (M_VMF_LOCKED | M_VMF_HUGETLB));
}

int ranges_scan(struct ranges *r, const struct model *m,
		int (*emit)(void *arg, uint64_t space, const struct md_extent *e, bool lazy,
			    struct err *err),
		void *arg, struct err *err)
{
	struct ranges out = {0};
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < r->n; i++) {
		struct scan s = {
			.out = &out, .from = &r->v[i], .emit = emit, .arg = arg, .err = err};

		if (MD_SPACE_KIND(r->v[i].space) == 0) {
			s.proc = model_proc(m, (uint32_t)MD_SPACE_ID(r->v[i].space));
			s.lazy_vma = s.proc && vma_lazy(s.proc, r->v[i].addr);
		}
		ret = md_scan(&r->v[i], scan_emit, &s, err);
	}
	if (ret < 0) {
		ranges_free(&out);
		return ret;
	}
	free(r->v);
	r->v = out.v;
	r->n = out.n;
	r->room = out.room;
	return 0;
}

uint64_t ranges_estimate(const struct model *m)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < m->nprocs; i++)
		if (m->procs[i].state != M_DEAD && !m->procs[i].shares_vm)
			sum += target_private_bytes((pid_t)m->procs[i].pid);
	return sum;
}
