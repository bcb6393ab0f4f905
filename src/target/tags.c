/* SPDX-License-Identifier: MIT */
/* Tags of memory, read and written by ptrace. */
#include "src/target/tags.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/io.h"

bool tags_checked(pid_t tid)
{
	const struct arch_tags *t = arch_host_tags();
	uint64_t ctrl = 0;
	struct iovec iov = {&ctrl, sizeof(ctrl)};

	return t && ptrace(PTRACE_GETREGSET, tid, t->ctrl_note, &iov) == 0 && ctrl & t->ctrl_on;
}

/* As far as it gets, again and again. */
static int transfer(uint32_t request, pid_t tid, uint64_t addr, uint64_t len, uint8_t *tags)
{
	const size_t n = len / TAGS_GRANULE;
	size_t at = 0;

	while (at < n) {
		struct iovec iov = {tags + at, n - at};

		if (ptrace((enum __ptrace_request)request, tid, addr + at * TAGS_GRANULE, &iov) < 0)
			return -errno;
		if (!iov.iov_len || iov.iov_len > n - at)
			return -EIO;
		at += iov.iov_len;
	}
	return 0;
}

int tags_peek(pid_t tid, uint64_t addr, uint64_t len, uint8_t ret[TAGS_ROOM])
{
	const struct arch_tags *t = arch_host_tags();

	return t ? transfer(t->peek, tid, addr, len, ret) : -EOPNOTSUPP;
}

int tags_poke(pid_t tid, uint64_t addr, uint64_t len, const uint8_t tags[TAGS_ROOM])
{
	const struct arch_tags *t = arch_host_tags();

	return t ? transfer(t->poke, tid, addr, len, (uint8_t *)tags) : -EOPNOTSUPP;
}

void tags_pack(const uint8_t *tags, uint64_t len, uint8_t *ret)
{
	for (uint64_t i = 0; i < len / M_TAGS_BYTE; i++)
		ret[i] = (uint8_t)((tags[2 * i] & 15) | tags[2 * i + 1] << 4);
}

void tags_unpack(const uint8_t *packed, uint64_t len, uint8_t *ret)
{
	for (uint64_t i = 0; i < len / M_TAGS_BYTE; i++) {
		ret[2 * i] = packed[i] & 15;
		ret[2 * i + 1] = packed[i] >> 4;
	}
}

/* --- where there are pages ------------------------------------------------------------------ */

int tags_pages_open(struct tags_pages *p, pid_t tid, const struct m_vma *v)
{
	char path[96];

	*p = (struct tags_pages){.v = v, .pagemap = -1, .file = -1};
	/* All of a file of huge pages counts as data. */
	if (v->shared && !(v->flags & M_VMF_HUGETLB)) {
		snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, tid,
			 v->start, v->end);
		p->file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	}
	if (p->file >= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", tid);
	p->pagemap = open(path, O_RDONLY | O_CLOEXEC);
	return p->pagemap < 0 ? -errno : 0;
}

void tags_pages_close(struct tags_pages *p)
{
	if (p->pagemap >= 0)
		close(p->pagemap);
	if (p->file >= 0)
		close(p->file);
	p->pagemap = p->file = -1;
}

static int next_in_file(const struct tags_pages *p, uint64_t addr, uint64_t *ret_start,
			uint64_t *ret_end)
{
	const struct m_vma *v = p->v;
	off_t from, to;

	from = lseek(p->file, (off_t)(v->pgoff + (addr - v->start)), SEEK_DATA);
	if (from < 0)
		return errno == ENXIO ? 0 : -errno;
	if ((uint64_t)from - v->pgoff >= v->end - v->start)
		return 0;
	to = lseek(p->file, from, SEEK_HOLE);
	if (to < 0)
		return -errno;
	*ret_start = v->start + ((uint64_t)from - v->pgoff);
	*ret_end = (uint64_t)to - v->pgoff < v->end - v->start
			   ? v->start + ((uint64_t)to - v->pgoff)
			   : v->end;
	/* The end of a file may be within a page. */
	*ret_end = (*ret_end + M_TAGS_PAGE - 1) & ~(uint64_t)(M_TAGS_PAGE - 1);
	return 1;
}

int tags_pages_next(const struct tags_pages *p, uint64_t addr, uint64_t *ret_start,
		    uint64_t *ret_end)
{
	enum { WORDS = 512 };
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), there = 3ull << 62;
	uint64_t words[WORDS], start = 0;

	if (addr >= p->v->end)
		return 0;
	if (p->file >= 0)
		return next_in_file(p, addr, ret_start, ret_end);
	while (addr < p->v->end) {
		uint64_t n = (p->v->end - addr) / page;
		ssize_t got;

		n = n < WORDS ? n : WORDS;
		got = io_pread(p->pagemap, words, n * sizeof(*words), addr / page * sizeof(*words));
		if (got != (ssize_t)(n * sizeof(*words)))
			return got < 0 ? (int)got : -EIO;
		for (uint64_t i = 0; i < n; i++, addr += page) {
			/* In memory, or swapped out: then they are kept beside it. */
			if (words[i] & there) {
				start = start ? start : addr;
				continue;
			}
			if (!start)
				continue;
			*ret_start = start;
			*ret_end = addr;
			return 1;
		}
	}
	*ret_start = start;
	*ret_end = addr;
	return start != 0;
}

/* --- into the model ------------------------------------------------------------------------- */

/* A run that grows until a page has none but zeros, or is elsewhere. */
struct run {
	struct model *m;
	struct m_mm *mm;
	uint64_t start, len;
	uint8_t data[M_TAGS_MOST];
};

static int run_end(struct run *r)
{
	struct m_tags *t;
	uint8_t *data;

	if (!r->len)
		return 0;
	data = model_alloc(r->m, r->len / M_TAGS_BYTE);
	t = model_push(r->m, &r->mm->tags, &r->mm->ntags, sizeof(*t));
	if (!data || !t)
		return -ENOMEM;
	memcpy(data, r->data, r->len / M_TAGS_BYTE);
	*t = (struct m_tags){r->start, r->len, data};
	r->len = 0;
	return 0;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

/* Of at most TAGS_PIECE bytes. */
static int run_add(struct run *r, uint64_t addr, uint64_t len, const uint8_t *tags)
{
	int ret = 0;

	for (uint64_t at = 0; ret == 0 && at < len; at += M_TAGS_PAGE) {
		const uint8_t *of = tags + at / TAGS_GRANULE;
		bool none = all_zero(of, M_TAGS_PAGE / TAGS_GRANULE);

		if (r->len && (none || r->start + r->len != addr + at ||
			       r->len / M_TAGS_BYTE == sizeof(r->data)))
			ret = run_end(r);
		if (none || ret < 0)
			continue;
		if (!r->len)
			r->start = addr + at;
		tags_pack(of, M_TAGS_PAGE, r->data + r->len / M_TAGS_BYTE);
		r->len += M_TAGS_PAGE;
	}
	return ret;
}

static int stretch_collect(struct run *r, pid_t tid, uint64_t addr, uint64_t end, struct err *err)
{
	uint8_t tags[TAGS_ROOM];

	while (addr < end) {
		const uint64_t len = end - addr < TAGS_PIECE ? end - addr : TAGS_PIECE;
		int ret = tags_peek(tid, addr, len, tags);

		if (ret < 0)
			return err_set(err, -ret,
				       "read the tags of %" PRIu64 " bytes at %#" PRIx64
				       " of process %d",
				       len, addr, tid);
		if (run_add(r, addr, len, tags) < 0)
			return err_set(err, ENOMEM, "tags of process %d", tid);
		addr += len;
	}
	return 0;
}

static int vma_collect(struct run *r, pid_t tid, const struct m_vma *v, struct err *err)
{
	uint64_t start, end = v->start;
	struct tags_pages pages;
	int n = tags_pages_open(&pages, tid, v), ret = 0;

	while (n == 0 && ret == 0) {
		n = tags_pages_next(&pages, end, &start, &end);
		if (n <= 0)
			break;
		n = 0;
		ret = stretch_collect(r, tid, start, end, err);
	}
	tags_pages_close(&pages);
	if (n < 0)
		return err_set(err, -n, "look for pages at %#" PRIx64 " of process %d", v->start,
			       tid);
	if (ret == 0 && run_end(r) < 0)
		ret = err_set(err, ENOMEM, "tags of process %d", tid);
	return ret;
}

/* Tags are the page's: once is enough, but where they can be written. */
static bool has_all(const struct m_vma *w, const struct m_vma *v)
{
	return w->flags & M_VMF_TAGS && w->shared && w->kind == v->kind &&
	       w->file_id == v->file_id && w->shm_id == v->shm_id && w->pgoff <= v->pgoff &&
	       w->pgoff + (w->end - w->start) >= v->pgoff + (v->end - v->start) &&
	       (w->prot & PROT_WRITE || !(v->prot & PROT_WRITE));
}

static bool is_known(const struct model *m, const struct m_vma *v)
{
	if (!v->shared)
		return false;
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_mm *of = &m->procs[i].mm;

		for (uint32_t j = 0; j < of->nvmas; j++) {
			if (&of->vmas[j] == v)
				return false;
			if (has_all(&of->vmas[j], v))
				return true;
		}
	}
	return false;
}

int tags_collect(struct model *m, struct m_proc *p, pid_t tid, struct err *err)
{
	static struct run r;
	int ret = 0;

	if (p->shares_vm || !arch_host_tags())
		return 0;
	r.m = m;
	r.mm = &p->mm;
	r.len = 0;
	for (uint32_t i = 0; ret == 0 && i < p->mm.nvmas; i++) {
		const struct m_vma *v = &p->mm.vmas[i];

		if (v->flags & M_VMF_TAGS && !is_known(m, v))
			ret = vma_collect(&r, tid, v, err);
	}
	return ret;
}
