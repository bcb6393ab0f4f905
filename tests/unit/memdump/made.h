/* SPDX-License-Identifier: MIT */
/*
 * A made-up memory: pages whose contents follow from space and address, a reader plug that yields
 * them, and a directory to put block files in.
 */
#ifndef TESTS_UNIT_MEMDUMP_MADE_H
#define TESTS_UNIT_MEMDUMP_MADE_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memdump/memdump.h"

enum { MADE_PAGE = 4096 };

/* The space of a block without bytes: process @pid has the pages of process @other. */
#define MADE_SAME(pid, other) ((uint64_t)(other) << 32 | (pid))

/* One block, as it will be read. */
struct made_block {
	uint64_t space;
	unsigned nextents;
	struct md_extent extents[4];
};

/* By address: zero, text, noise, in turns of 16 pages. */
static inline void made_page(uint64_t space, uint64_t addr, uint8_t *page)
{
	uint64_t x = space * 1000003 + addr;

	for (unsigned i = 0; i < MADE_PAGE; i++) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		switch (addr / MADE_PAGE / 16 % 3) {
		case 0:
			page[i] = 0;
			break;
		case 1:
			page[i] =
				(uint8_t)("all the king's horses "[i % 22] + addr / MADE_PAGE % 7);
			break;
		default:
			page[i] = (uint8_t)(x >> 56);
		}
	}
}

struct made_reader {
	struct md_reader r;
	const struct made_block *blocks;
	size_t n, at;
};

static inline int made_next(struct md_reader *r, struct md_block *b, uint32_t block_size,
			    struct err *err)
{
	struct made_reader *m = (struct made_reader *)r;

	if (m->at == m->n)
		return 0;
	const struct made_block *k = &m->blocks[m->at++];

	const uint32_t same_as = MD_SPACE_KIND(k->space) ? 0 : (uint32_t)(k->space >> 32);

	b->space = same_as ? (uint32_t)k->space : k->space;
	b->nextents = k->nextents;
	b->codec = same_as ? MD_CODEC_SAME : MD_CODEC_NONE;
	b->same_as = same_as;
	for (unsigned i = 0; i < k->nextents; i++) {
		b->extents[i] = k->extents[i];
		if (same_as) {
			b->raw_len += (uint32_t)k->extents[i].len;
			continue;
		}
		for (uint64_t a = 0; a < k->extents[i].len; a += MADE_PAGE) {
			made_page(k->space, k->extents[i].addr + a, b->raw + b->raw_len);
			b->raw_len += MADE_PAGE;
		}
	}
	return 1;
}

static inline struct made_reader made_reader(const struct made_block *blocks, size_t n)
{
	return (struct made_reader){.r.next = made_next, .blocks = blocks, .n = n};
}

/* Writes @blocks to @name; md_run()'s answer. */
static inline int made_file(int dirfd, const char *name, const struct made_block *blocks, size_t n,
			    enum md_codec_id codec, const struct md_file_opts *fo,
			    struct md_stats *st, struct err *err)
{
	struct made_reader r = made_reader(blocks, n);
	struct md_opts o = {.codec = codec, .level = 1, .threads = 2};
	struct md_writer *w = md_writer_file_open(dirfd, name, fo, err);
	int ret;

	if (!w)
		return -err->errnum;
	ret = md_run(&r.r, w, &o, st, err);
	w->close(w);
	return ret;
}

struct made_dir {
	char path[64];
	int fd;
};

static inline struct made_dir made_dir(void)
{
	const char *tmp = getenv("TMPDIR");
	struct made_dir d;

	snprintf(d.path, sizeof(d.path), "%.40s/stasis-memdump-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(d.path))
		abort();
	d.fd = open(d.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return d;
}

/* The directory must be empty. */
static inline void made_dir_remove(struct made_dir *d)
{
	close(d->fd);
	if (rmdir(d->path))
		abort();
}

/* The whole of @name; malloc'd. */
static inline uint8_t *made_slurp(int dirfd, const char *name, size_t *ret_len)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	off_t len = lseek(fd, 0, SEEK_END);
	uint8_t *p = malloc((size_t)len + 1);

	if (!p || pread(fd, p, (size_t)len, 0) != len)
		abort();
	close(fd);
	*ret_len = (size_t)len;
	return p;
}

static inline void made_spit(int dirfd, const char *name, const uint8_t *p, size_t len)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || pwrite(fd, p, len, 0) != (ssize_t)len)
		abort();
	close(fd);
}

#endif
