/* SPDX-License-Identifier: MIT */
/* A block file for random access: every byte is checked before it is handed out. */
#include <stdlib.h>
#include <string.h>

#include "memdump/chain.h"

/* Unpacked blocks kept: a few, and one for every layer that a walk up the addresses goes through.
 */
enum {
	CACHED = 4,
	CACHED_MOST = 64,
	CACHED_BYTES = 64 << 20,
	ROUNDS_MOST = 16,
};

struct md_file {
	struct md_chain chain;
	struct md_index index;
	uint32_t *live; /* bytes that count, by block; NULL: all of all */
	struct md_block_reader reader;
	struct cached {
		uint8_t *raw; /* NULL: never used */
		uint32_t file, block;
		uint64_t used; /* tick of last use; 0: holds nothing */
	} cache[CACHED_MOST];
	unsigned ncached; /* places of it that are used */
	uint64_t tick;
	uint32_t raw_max; /* of all blocks */
};

/* Of the file's own blocks. */
static int count_live(struct md_file *f, struct err *err)
{
	const struct md_index_list *l = &f->chain.files[0].list;

	if (!l->layered)
		return 0;
	f->live = calloc(l->nblocks + 1, sizeof(*f->live));
	if (!f->live)
		return err_set(err, ENOMEM, "reserve memory for the index");
	/* Another's: its own space has them all. */
	for (size_t i = 0; i < l->nblocks; i++)
		if (l->blocks[i].entry.codec == MD_CODEC_SAME)
			f->live[i] = l->blocks[i].entry.raw_len;
	for (size_t i = 0; i < f->index.npieces; i++)
		if (!f->index.pieces[i].file && !f->index.pieces[i].as)
			f->live[f->index.pieces[i].block] += (uint32_t)f->index.pieces[i].len;
	return 0;
}

static void size_cache(struct md_file *f)
{
	unsigned layers = 0;

	for (unsigned n = 0; n < f->chain.n; n++) {
		const struct md_index_list *l = &f->chain.files[n].list;
		uint32_t round = 0;

		for (size_t i = 0; i < l->nblocks; i++) {
			const struct md_index_entry *e = &l->blocks[i].entry;

			if (e->codec == MD_CODEC_SAME)
				continue;
			if (e->raw_len > f->raw_max)
				f->raw_max = e->raw_len;
			if (!md_index_is_map(e) && e->round > round)
				round = e->round;
		}
		layers += (n > 0) + (round < ROUNDS_MOST ? round : ROUNDS_MOST);
	}
	if (f->raw_max && layers > CACHED_BYTES / f->raw_max)
		layers = CACHED_BYTES / f->raw_max;
	f->ncached = CACHED + layers < CACHED_MOST ? CACHED + layers : CACHED_MOST;
}

struct md_file *md_file_open(int dirfd, const char *name, unsigned flags, struct err *err)
{
	struct md_file *f = calloc(1, sizeof(*f));

	if (!f) {
		err_set(err, ENOMEM, "open %s", name);
		return NULL;
	}
	if (md_chain_open(&f->chain, dirfd, name, flags, err) < 0 ||
	    md_chain_resolve(&f->chain, &f->index, err) < 0 || count_live(f, err) < 0) {
		md_file_close(f);
		return NULL;
	}
	size_cache(f);
	return f;
}

void md_file_close(struct md_file *f)
{
	if (!f)
		return;
	for (unsigned i = 0; i < CACHED_MOST; i++)
		free(f->cache[i].raw);
	free(f->live);
	md_block_reader_deinit(&f->reader);
	md_index_deinit(&f->index);
	md_chain_close(&f->chain);
	free(f);
}

uint32_t md_file_page_size(const struct md_file *f)
{
	return f->chain.files[0].raw.head.page_size;
}

uint64_t md_file_id(const struct md_file *f)
{
	return f->chain.files[0].raw.head.file_id;
}

bool md_file_space(const struct md_file *f, size_t i, uint64_t *ret_space)
{
	if (i >= f->index.nspaces)
		return false;
	*ret_space = f->index.spaces[i].space;
	return true;
}

bool md_file_block(const struct md_file *f, size_t i, struct md_stored *ret)
{
	const struct md_index_list *l = &f->chain.files[0].list;
	const struct md_index_entry *e;

	if (i >= l->nblocks)
		return false;
	e = &l->blocks[i].entry;
	*ret = (struct md_stored){
		.space = e->space,
		.codec = (enum md_codec_id)e->codec,
		.raw_len = e->raw_len,
		.packed_len = e->packed_len,
		.nextents = e->nextents,
		.round = md_index_is_map(e) ? 0 : md_index_round(e),
		.live_len = f->live ? f->live[i] : e->raw_len,
		.same_as = e->codec == MD_CODEC_SAME ? e->round : 0,
	};
	return true;
}

int md_file_extent(const struct md_file *f, uint64_t space, uint64_t addr,
		   struct md_extent *ret_extent)
{
	const struct md_index_piece *p = md_index_find(&f->index, space, addr);
	uint64_t start, len;

	if (!p)
		return 0;
	start = p->addr > addr ? p->addr : addr;
	len = p->len - (start - p->addr);
	while ((p = md_index_next(&f->index, space, p)) && p->addr == start + len)
		len += p->len;
	*ret_extent = (struct md_extent){start, len};
	return 1;
}

int md_file_origin(const struct md_file *f, uint64_t space, uint64_t addr,
		   struct md_extent *ret_extent, uint64_t *ret_space)
{
	const struct md_index_list *l = &f->chain.files[0].list;
	const struct md_index_piece *p = md_index_find(&f->index, space, addr);
	uint64_t start;

	if (!p)
		return 0;
	start = p->addr > addr ? p->addr : addr;
	*ret_extent = (struct md_extent){start, p->len - (start - p->addr)};
	*ret_space = md_chain_is_plain(&f->chain) ? l->blocks[p->block].entry.space : space;
	return 1;
}

static int read_block(struct md_file *f, uint32_t file, uint32_t block, uint8_t *raw,
		      struct err *err)
{
	const struct md_chain_file *c = &f->chain.files[file];
	const struct md_index_block *b = &c->list.blocks[block];
	struct err e = {0};
	int ret =
		md_block_read(&f->reader, &c->raw, &b->entry, c->list.extents + b->first, raw, &e);

	return ret < 0 ? md_err_where(err, c->where, &e) : 0;
}

/* The raw bytes of a block, from the cache or read into its oldest place. */
static const uint8_t *cached_block(struct md_file *f, uint32_t file, uint32_t block,
				   struct err *err)
{
	struct cached *c = &f->cache[0];

	for (unsigned i = 0; i < f->ncached; i++) {
		struct cached *k = &f->cache[i];

		if (k->used && k->file == file && k->block == block) {
			k->used = ++f->tick;
			return k->raw;
		}
		if (k->used < c->used)
			c = k;
	}
	if (!c->raw && !(c->raw = malloc(f->raw_max))) {
		err_set(err, ENOMEM, "reserve %u bytes for a block", f->raw_max);
		return NULL;
	}
	c->used = 0;
	if (read_block(f, file, block, c->raw, err) < 0)
		return NULL;
	c->file = file;
	c->block = block;
	c->used = ++f->tick;
	return c->raw;
}

ssize_t md_file_read(struct md_file *f, uint64_t space, uint64_t addr, void *buf, size_t len,
		     struct err *err)
{
	size_t done = 0;

	while (done < len) {
		const struct md_index_piece *p = md_index_find(&f->index, space, addr + done);
		struct err e = {0};
		const uint8_t *raw;
		uint64_t skip, n;

		if (!p || p->addr > addr + done)
			break;
		raw = cached_block(f, p->file, p->block, &e);
		if (!raw) {
			if (done)
				break; /* the next call tells */
			return err_take(err, &e);
		}
		skip = addr + done - p->addr;
		n = p->len - skip < len - done ? p->len - skip : len - done;
		memcpy((uint8_t *)buf + done, raw + p->raw_off + skip, n);
		done += n;
	}
	return (ssize_t)done;
}
