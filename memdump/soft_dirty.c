/* SPDX-License-Identifier: MIT */
/* Which pages were written, by soft-dirty marks and frame numbers. */
#include "memdump/soft_dirty.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "memdump/holes.h"
#include "memdump/zero.h"

/* Documentation/admin-guide/mm/pagemap.rst, Documentation/admin-guide/mm/soft-dirty.rst */
#define PM_PRESENT (1ULL << 63)
#define PM_SWAP	   (1ULL << 62)
#define PM_SOFT	   (1ULL << 55)
#define PM_FRAME   ((1ULL << 55) - 1)

enum { ENTRIES = 4096 /* words of one read */ };

/*
 * What is kept of a page: the low bits of its frame's number, or of its place in swap, and whether
 * it was seen to be dirty. Frames that are 8 TiB apart look the same.
 */
#define KEPT_DIRTY 0x80000000u
#define KEPT_FRAME 0x7fffffffu

/* Pages one behind the other, which were there: their words begin at @at. */
struct run {
	uint64_t addr, npages;
	uint64_t at;
};

struct table {
	struct run *runs;
	size_t nruns, room;
	uint32_t *words;
	size_t nwords, words_room;
};

struct proc {
	int pid;
	struct table now;  /* as of the last MD_SOFT_CLEAR */
	struct table next; /* of the one that is being made; then the two change places */
	size_t cursor;	   /* in now.runs: addresses ascend within a scan */
	bool looked_at;	   /* in this scan */
};

struct md_soft {
	uint64_t page_size;
	struct md_zero zero;
	struct proc *procs;
	size_t n;
	struct md_holes holes;
	uint64_t entries[ENTRIES];
};

bool md_can_soft_dirty(void)
{
	size_t len = (size_t)sysconf(_SC_PAGESIZE);
	uint64_t word = 0;
	cleanup_fd int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	volatile char *p =
		mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	*p = 1;
	if (fd < 0 ||
	    io_pread(fd, &word, sizeof(word), (uintptr_t)p / len * sizeof(word)) != sizeof(word))
		word = 0;
	munmap((void *)p, len);
	return word & PM_PRESENT && word & PM_SOFT && word & PM_FRAME;
}

struct md_soft *md_soft_new(struct err *err)
{
	struct md_soft *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(err, ENOMEM, "reserve memory for write tracking");
		return NULL;
	}
	s->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	s->zero = md_zero_find();
	return s;
}

static void forget(struct md_soft *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct table *t[2] = {&s->procs[i].now, &s->procs[i].next};

		for (int k = 0; k < 2; k++) {
			free(t[k]->runs);
			free(t[k]->words);
		}
	}
	free(s->procs);
	s->procs = NULL;
	s->n = 0;
}

void md_soft_free(struct md_soft *s)
{
	if (!s)
		return;
	forget(s);
	free(s);
}

static struct proc *find_proc(const struct md_soft *s, int pid)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->procs[i].pid == pid)
			return &s->procs[i];
	return NULL;
}

bool md_soft_knows(const struct md_soft *s, int pid)
{
	const struct proc *p = find_proc(s, pid);

	return p && p->now.nruns;
}

static struct proc *add_proc(struct md_soft *s, int pid)
{
	struct proc *p = find_proc(s, pid);

	if (p)
		return p;
	p = reallocarray(s->procs, s->n + 1, sizeof(*p));
	if (!p)
		return NULL;
	s->procs = p;
	p += s->n++;
	*p = (struct proc){.pid = pid};
	return p;
}

/* --- what is kept of a page ------------------------------------------------------------------- */

static bool keep(struct table *t, uint64_t page_size, uint64_t addr, uint32_t word)
{
	struct run *last = t->nruns ? &t->runs[t->nruns - 1] : NULL;

	if (t->nwords == t->words_room) {
		size_t room = t->words_room ? 2 * t->words_room : 4096;
		uint32_t *v = reallocarray(t->words, room, sizeof(*v));

		if (!v)
			return false;
		t->words = v;
		t->words_room = room;
	}
	if (!last || last->addr + last->npages * page_size != addr) {
		if (t->nruns == t->room) {
			size_t room = t->room ? 2 * t->room : 64;
			struct run *v = reallocarray(t->runs, room, sizeof(*v));

			if (!v)
				return false;
			t->runs = v;
			t->room = room;
		}
		last = &t->runs[t->nruns++];
		*last = (struct run){addr, 0, t->nwords};
	}
	last->npages++;
	t->words[t->nwords++] = word;
	return true;
}

/* NULL: nothing. Addresses ascend from call to call. */
static uint32_t *kept(struct proc *p, uint64_t page_size, uint64_t addr)
{
	const struct table *t = &p->now;

	while (p->cursor < t->nruns &&
	       t->runs[p->cursor].addr + t->runs[p->cursor].npages * page_size <= addr)
		p->cursor++;
	if (p->cursor == t->nruns || t->runs[p->cursor].addr > addr)
		return NULL;
	return &t->words[t->runs[p->cursor].at + (addr - t->runs[p->cursor].addr) / page_size];
}

/* --- a scan ----------------------------------------------------------------------------------- */

struct scan {
	struct md_soft *s;
	enum md_soft_step step;
	struct proc *proc; /* NULL: nothing is known of it, nor will be */
	int (*emit)(void *arg, const struct md_range *range, const struct md_extent *e, bool clean);
	void *arg;
	/* not yet emitted */
	struct md_extent e;
	bool clean;
};

static int flush(struct scan *c, const struct md_range *range)
{
	int ret = c->e.len ? c->emit(c->arg, range, &c->e, c->clean) : 0;

	c->e.len = 0;
	return ret;
}

static bool is_there(const struct md_soft *s, uint64_t word)
{
	return word & PM_PRESENT ? !md_zero_has(&s->zero, word & PM_FRAME) : word & PM_SWAP;
}

/* 1: clean, 0: dirty, -ESTALE: as nobody but somebody else can have made it. */
static int judge(struct scan *c, uint64_t addr, uint64_t word)
{
	uint32_t frame = (uint32_t)(word & KEPT_FRAME);
	bool dirty = word & PM_SOFT;
	uint32_t *was = c->proc ? kept(c->proc, c->s->page_size, addr) : NULL;

	if (!was || (*was & KEPT_FRAME) != frame)
		return 0;
	if (*was & KEPT_DIRTY && !dirty)
		return -ESTALE;
	if (dirty)
		*was |= KEPT_DIRTY;
	return !dirty;
}

static int one_page(struct scan *c, const struct md_range *range, uint64_t addr, uint64_t word)
{
	int clean = judge(c, addr, word), ret = 0;

	if (clean < 0)
		return clean;
	if (c->step == MD_SOFT_CLEAR &&
	    !keep(&c->proc->next, c->s->page_size, addr, (uint32_t)(word & KEPT_FRAME)))
		return -ENOMEM;
	if (c->e.len && c->clean == clean && c->e.addr + c->e.len == addr) {
		c->e.len += c->s->page_size;
		return 0;
	}
	ret = flush(c, range);
	c->e = (struct md_extent){addr, c->s->page_size};
	c->clean = clean;
	return ret;
}

static int one_range(struct scan *c, const struct md_range *range, int fd)
{
	struct md_soft *s = c->s;
	uint64_t addr = range->addr, end = addr + range->len;
	int ret = 0;

	while (ret == 0 && addr < end) {
		uint64_t n = (end - addr) / s->page_size;
		bool any = false;
		ssize_t got = io_pread(fd, s->entries, (n < ENTRIES ? n : ENTRIES) * 8,
				       addr / s->page_size * 8);

		if (got < 8) /* 0: it has no memory any more */
			return got < 0 ? (int)got : flush(c, range);
		for (size_t i = 0; ret == 0 && i < (size_t)got / 8; i++, addr += s->page_size)
			if (is_there(s, s->entries[i])) {
				any = true;
				ret = one_page(c, range, addr, s->entries[i]);
			}
		if (!any && addr < end)
			addr = md_holes_end(&s->holes, range->pid, fd, addr, end);
	}
	return ret == 0 ? flush(c, range) : ret;
}

static int open_of(int pid, const char *name, int flags)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool gone(int ret)
{
	return ret == -ESRCH || ret == -ENOENT;
}

/* All ranges of the process of @r[0]. */
static int one_process(struct scan *c, const struct md_range *r, size_t n, struct err *err)
{
	cleanup_fd int fd = open_of(r[0].pid, "pagemap", O_RDONLY);
	int ret = fd < 0 ? fd : 0;

	c->proc = c->step == MD_SOFT_CLEAR ? add_proc(c->s, r[0].pid) : find_proc(c->s, r[0].pid);
	if (c->step == MD_SOFT_CLEAR && !c->proc)
		return err_set(err, ENOMEM, "reserve memory for write tracking");
	if (c->proc) {
		c->proc->cursor = 0;
		c->proc->looked_at = true;
		c->proc->next.nruns = c->proc->next.nwords = 0;
	}
	for (size_t i = 0; ret == 0 && i < n; i++)
		ret = one_range(c, &r[i], fd);
	c->e.len = 0;
	if (ret == -ESTALE)
		return ret;
	if (ret < 0 && !gone(ret))
		return err_set(err, -ret, "look at the page tables of pid %d", r[0].pid);
	return 0;
}

static int clear_marks(struct md_soft *s, struct err *err)
{
	for (size_t i = 0; i < s->n; i++) {
		struct proc *p = &s->procs[i];
		struct table old = p->now;
		cleanup_fd int fd = -1;
		int ret;

		if (!p->looked_at)
			continue;
		fd = open_of(p->pid, "clear_refs", O_WRONLY);
		ret = fd < 0 ? fd : (int)io_write(fd, "4", 1);
		if (ret < 0 && !gone(ret))
			return err_set(err, -ret, "clear the soft-dirty marks of pid %d", p->pid);
		p->now = p->next;
		p->next = old;
	}
	return 0;
}

int md_soft_scan(struct md_soft *s, const struct md_range *ranges, size_t n, enum md_soft_step step,
		 int (*emit)(void *arg, const struct md_range *range, const struct md_extent *e,
			     bool clean),
		 void *arg, struct err *err)
{
	struct scan c = {.s = s, .step = step, .emit = emit, .arg = arg};
	size_t next;
	int ret = 0;

	for (size_t i = 0; i < s->n; i++)
		s->procs[i].looked_at = false;
	for (size_t i = 0; ret == 0 && i < n; i = next) {
		for (next = i + 1; next < n && ranges[next].pid == ranges[i].pid; next++)
			;
		ret = one_process(&c, &ranges[i], next - i, err);
	}
	if (ret == 0 && step == MD_SOFT_CLEAR)
		ret = clear_marks(s, err);
	if (ret == -ESTALE)
		forget(s);
	md_holes_forget(&s->holes);
	return ret;
}

/* --- for the next dump ------------------------------------------------------------------------ */

#define SAVED_MAGIC 0x31797472696474ull

struct saved {
	uint64_t magic, pid, nruns, nwords;
};

int md_soft_save(const struct md_soft *s, int fd, struct err *err)
{
	bool ok = ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0;

	for (size_t i = 0; ok && i < s->n; i++) {
		const struct table *t = &s->procs[i].now;
		struct saved h = {SAVED_MAGIC, (uint64_t)s->procs[i].pid, t->nruns, t->nwords};
		size_t runs = t->nruns * sizeof(*t->runs), words = t->nwords * sizeof(*t->words);

		ok = io_write(fd, &h, sizeof(h)) == (ssize_t)sizeof(h) &&
		     io_write(fd, t->runs, runs) == (ssize_t)runs &&
		     io_write(fd, t->words, words) == (ssize_t)words;
	}
	return ok ? 0 : err_set(err, errno, "keep which pages were written");
}

static bool load_table(struct table *t, const struct saved *h, uint64_t page_size, int fd)
{
	size_t runs = h->nruns * sizeof(*t->runs), words = h->nwords * sizeof(*t->words);
	uint64_t end = 0, at = 0;

	t->runs = malloc(runs);
	t->words = malloc(words);
	if (!t->runs || !t->words || io_read(fd, t->runs, runs) != (ssize_t)runs ||
	    io_read(fd, t->words, words) != (ssize_t)words)
		return false;
	t->nruns = t->room = h->nruns;
	t->nwords = t->words_room = h->nwords;
	for (size_t i = 0; i < t->nruns; i++) {
		const struct run *r = &t->runs[i];

		if (r->addr < end || r->at != at || !r->npages || r->npages > t->nwords - at)
			return false;
		at += r->npages;
		end = r->addr + r->npages * page_size;
	}
	return at == t->nwords;
}

int md_soft_load(struct md_soft *s, int fd)
{
	off_t left = lseek(fd, 0, SEEK_END);
	struct saved h;

	forget(s);
	if (left < 0 || lseek(fd, 0, SEEK_SET) != 0)
		return 0;
	while (left > 0) {
		struct proc *p;

		if (io_read(fd, &h, sizeof(h)) != (ssize_t)sizeof(h) || h.magic != SAVED_MAGIC ||
		    h.nruns > (uint64_t)left || h.nwords > (uint64_t)left)
			break;
		p = add_proc(s, (int)h.pid);
		if (!p || p->now.nruns || !load_table(&p->now, &h, s->page_size, fd))
			break;
		left -= (off_t)(sizeof(h) + h.nruns * sizeof(struct run) + h.nwords * 4);
	}
	if (left != 0)
		forget(s);
	return s->n > 0;
}
