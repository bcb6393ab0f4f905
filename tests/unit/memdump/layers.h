/* SPDX-License-Identifier: MIT */
/*
 * A memory that changes, and what its dumps must say: pages by number, each with a version, from
 * which its bytes follow; a reader plug that yields any choice of them; chains of directories.
 */
#ifndef TESTS_UNIT_MEMDUMP_LAYERS_H
#define TESTS_UNIT_MEMDUMP_LAYERS_H

#include <sys/stat.h>

#include "tests/unit/memdump/made.h"

enum { NSPACES = 3, NPAGES = 96 };

static const uint64_t layer_space[NSPACES] = {MD_SPACE_PROC(5), MD_SPACE_PROC(6),
					      MD_SPACE_SHMEM(9)};

/* High enough that page numbers are no addresses. */
static inline uint64_t layer_addr(unsigned page)
{
	return 0x7f0000000000 + (uint64_t)page * MADE_PAGE;
}

struct memory {
	unsigned version[NSPACES][NPAGES]; /* 0: there is no such page */
	unsigned last;			   /* version given out */
};

/* Zeros, text and noise in turns; no two versions are alike, but for zeros. */
static inline void layer_page(unsigned version, uint8_t *page)
{
	uint64_t x = version;

	memset(page, 0, MADE_PAGE);
	if (version % 5 == 0)
		return;
	for (unsigned i = 0; i < MADE_PAGE; i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		page[i] = (uint8_t)(version % 2 ? x >> 56 : i / 64 + version);
	}
	memcpy(page, &version, sizeof(version));
}

/* --- a reader of chosen pages ---------------------------------------------------------------- */

struct pick {
	unsigned space, page, version;
};

struct picker {
	struct md_reader r;
	const struct pick *picks; /* of one space in a row, ascending */
	size_t n, at, per_block;
};

static inline int picker_next(struct md_reader *r, struct md_block *b, uint32_t block_size,
			      struct err *err)
{
	struct picker *p = (struct picker *)r;
	size_t first = p->at;

	while (p->at < p->n && p->at - first < p->per_block &&
	       p->picks[p->at].space == p->picks[first].space) {
		const struct pick *k = &p->picks[p->at++];
		struct md_extent *e = &b->extents[b->nextents];

		if (b->nextents && e[-1].addr + e[-1].len == layer_addr(k->page))
			e[-1].len += MADE_PAGE;
		else
			b->extents[b->nextents++] =
				(struct md_extent){layer_addr(k->page), MADE_PAGE};
		layer_page(k->version, b->raw + b->raw_len);
		b->raw_len += MADE_PAGE;
	}
	if (p->at > first)
		b->space = layer_space[p->picks[first].space];
	return p->at > first;
}

/* One run of a writer. */
static inline int layer_run(struct md_writer *w, const struct pick *picks, size_t n,
			    size_t per_block, uint32_t round, bool more, struct err *err)
{
	static const enum md_codec_id codecs[] = {MD_CODEC_LZ4, MD_CODEC_ZSTD, MD_CODEC_NONE};
	struct picker p = {.r.next = picker_next, .picks = picks, .n = n, .per_block = per_block};
	struct md_opts o = {
		.codec = codecs[round % 3],
		.level = 1,
		.threads = 2,
		.block_size = MD_BLOCK_MIN,
		.round = round,
		.more = more,
	};

	return md_run(&p.r, w, &o, NULL, err);
}

/* --- chains of directories: d/parent/parent/... --------------------------------------------- */

/* The directory of dump @n of the chain below @d, made, its link to dump n - 1 with it. */
static inline int layer_dir(const struct made_dir *d, unsigned n)
{
	char name[16], parent[24];
	int fd;

	snprintf(name, sizeof(name), "%u", n);
	snprintf(parent, sizeof(parent), "../%u", n - 1);
	if (mkdirat(d->fd, name, 0700))
		abort();
	fd = openat(d->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || (n && symlinkat(parent, fd, "parent")))
		abort();
	return fd;
}

static inline int layer_open(const struct made_dir *d, unsigned n)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", n);
	return openat(d->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static inline void layer_remove(struct made_dir *d, unsigned n)
{
	while (n--) {
		char name[16];
		int fd = layer_open(d, n);

		snprintf(name, sizeof(name), "%u", n);
		unlinkat(fd, "mem", 0);
		unlinkat(fd, "parent", 0);
		close(fd);
		unlinkat(d->fd, name, AT_REMOVEDIR);
	}
	made_dir_remove(d);
}

#endif
