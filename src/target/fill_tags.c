/* SPDX-License-Identifier: MIT */
/* Tags of memory, back into a process whose contents are there. */
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/arch.h"
#include "src/target/fill.h"
#include "src/target/script.h"
#include "src/target/tags.h"

struct put {
	struct remote *r;
	const struct m_proc *p;
	const struct m_vma *v;
	uint64_t more; /* protection that it has for a moment, beside its own */
	uint32_t run;  /* the first that is not in a mapping before it */
	struct err *err;
};

uint64_t fill_tags_prot(const struct m_vma *v)
{
	const struct arch_tags *t = v->flags & M_VMF_TAGS ? arch_host_tags() : NULL;

	return t ? t->prot : 0;
}

static int protect(struct put *u, uint64_t more)
{
	const struct m_vma *v = u->v;
	const uint64_t args[6] = {v->start, v->end - v->start, v->prot | fill_tags_prot(v) | more};
	int64_t ret;

	if (more == u->more)
		return 0;
	u->more = more;
	ret = script_one(u->r, u->r->first, SYS_mprotect, args, u->err);
	if (ret >= 0)
		return 0;
	return u->err->errnum
		       ? (int)ret
		       : err_set(u->err, (int)-ret,
				 "process %u: protect the memory at %#" PRIx64 " for its tags",
				 u->p->pid, v->start);
}

/*
 * A page has no tags before it has been where the program can read it: at that moment they are
 * cleared. Only then are those that the kernel shows true, and stay those that are written.
 */
static int open_pages(struct put *u)
{
	return u->v->prot & (PROT_READ | PROT_WRITE) ? 0 : protect(u, PROT_READ);
}

/* The kernel writes to what a process has for itself, and to what is shared by its leave only. */
static int begin_writing(struct put *u)
{
	return !u->v->shared || u->v->prot & PROT_WRITE ? 0 : protect(u, PROT_READ | PROT_WRITE);
}

static int poke(struct put *u, uint64_t addr, uint64_t len, const uint8_t *tags)
{
	const pid_t pid = (pid_t)u->p->pid;
	int ret = begin_writing(u);

	if (ret == 0) {
		ret = tags_poke(pid, addr, len, tags);
		if (ret < 0)
			err_set(u->err, -ret,
				"write the tags of %" PRIu64 " bytes at %#" PRIx64 " of process %u",
				len, addr, u->p->pid);
	}
	return ret;
}

/* At most TAGS_PIECE bytes: pages that have other tags get @want. */
static int put_piece(struct put *u, uint64_t addr, uint64_t len, const uint8_t *want)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint8_t has[TAGS_ROOM];
	uint64_t from = 0;
	int ret = tags_peek((pid_t)u->p->pid, addr, len, has);

	if (ret < 0)
		return err_set(u->err, -ret,
			       "look at the tags of %" PRIu64 " bytes at %#" PRIx64
			       " of process %u",
			       len, addr, u->p->pid);
	for (uint64_t at = 0; ret == 0 && at <= len; at += page) {
		const uint64_t n = at + page <= len ? page : len - at;

		/* [from, at) differs. */
		if (n && memcmp(want + at / TAGS_GRANULE, has + at / TAGS_GRANULE,
				n / TAGS_GRANULE) != 0)
			continue;
		if (at > from)
			ret = poke(u, addr + from, at - from, want + from / TAGS_GRANULE);
		from = at + n;
	}
	return ret < 0 || from >= len
		       ? ret
		       : poke(u, addr + from, len - from, want + from / TAGS_GRANULE);
}

static int put_run(struct put *u, const struct m_tags *t)
{
	uint8_t want[TAGS_ROOM];
	int ret = 0;

	for (uint64_t at = 0; ret == 0 && at < t->len; at += TAGS_PIECE) {
		const uint64_t len = t->len - at < TAGS_PIECE ? t->len - at : TAGS_PIECE;

		tags_unpack(t->data + at / M_TAGS_BYTE, len, want);
		ret = put_piece(u, t->start + at, len, want);
	}
	return ret;
}

/* --- what came with the fork ----------------------------------------------------------------- */

/* Pages of the parent's that have tags with him alone: [start, end) is in no run. */
static int put_none(struct put *u, uint64_t start, uint64_t end)
{
	static const uint8_t zeros[TAGS_ROOM];
	int ret = 0;

	for (uint64_t at = start; ret == 0 && at < end; at += TAGS_PIECE)
		ret = put_piece(u, at, end - at < TAGS_PIECE ? end - at : TAGS_PIECE, zeros);
	return ret;
}

/* @at: the first run that may reach into [start, end). */
static int put_between(struct put *u, uint64_t start, uint64_t end, uint32_t *at)
{
	const struct m_mm *mm = &u->p->mm;
	int ret = 0;

	while (*at < mm->ntags && mm->tags[*at].start + mm->tags[*at].len <= start)
		++*at;
	for (uint32_t i = *at; ret == 0 && i < mm->ntags && mm->tags[i].start < end; i++) {
		ret = put_none(u, start, mm->tags[i].start);
		start = mm->tags[i].start + mm->tags[i].len;
	}
	return ret < 0 ? ret : put_none(u, start, end);
}

static int put_kept(struct put *u, uint32_t at)
{
	const struct m_vma *v = u->v;
	uint64_t start, end = v->start;
	struct tags_pages pages;
	int n = tags_pages_open(&pages, (pid_t)u->p->pid, v), ret = 0;

	while (n == 0 && ret == 0) {
		n = tags_pages_next(&pages, end, &start, &end);
		if (n <= 0)
			break;
		n = 0;
		ret = put_between(u, start, end, &at);
	}
	tags_pages_close(&pages);
	return n < 0 ? err_set(u->err, -n, "look for pages at %#" PRIx64 " of process %u", v->start,
			       u->p->pid)
		     : ret;
}

static int put_vma(struct put *u, bool kept)
{
	const struct m_mm *mm = &u->p->mm;
	const uint32_t first = u->run;
	int ret = open_pages(u);

	for (; ret == 0 && u->run < mm->ntags && mm->tags[u->run].start < u->v->end; u->run++)
		ret = put_run(u, &mm->tags[u->run]);
	if (ret == 0 && kept)
		ret = put_kept(u, first);
	return ret < 0 ? ret : protect(u, 0);
}

int fill_tags(struct remote *r, const struct m_proc *p, const struct fill_kin *kin, struct err *err)
{
	struct put u = {.r = r, .p = p, .err = err};
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < p->mm.nvmas; i++) {
		u.v = &p->mm.vmas[i];
		/* The reader of the image has seen to it that each run is in one of these. */
		if (u.v->flags & M_VMF_TAGS)
			ret = put_vma(&u, kin->from && kin->keep[i]);
	}
	return ret;
}
