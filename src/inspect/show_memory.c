/* SPDX-License-Identifier: MIT */
/* How much memory an image holds, per space, and how it is packed. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "src/inspect/show.h"

struct total {
	uint64_t space;
	uint64_t raw, packed, extents;
	uint64_t stale;	 /* of raw: older rounds, dropped pages */
	uint64_t parent; /* not stored here: in the parents */
	uint64_t blocks[MD_NCODECS];
};

static bool wanted(const struct model *m, const struct show_opts *opts, uint64_t space)
{
	return !opts->pid || MD_SPACE_KIND(space) != 0 || MD_SPACE_ID(space) == opts->pid;
}

static void add(struct total *to, const struct total *t)
{
	to->raw += t->raw;
	to->packed += t->packed;
	to->extents += t->extents;
	to->stale += t->stale;
	to->parent += t->parent;
	for (unsigned i = 0; i < MD_NCODECS; i++)
		to->blocks[i] += t->blocks[i];
}

static void show_total(struct doc *d, const struct total *t, bool packed)
{
	doc_u64(d, "stored_bytes", t->raw);
	if (t->stale)
		doc_u64(d, "stale_bytes", t->stale);
	if (t->parent)
		doc_u64(d, "parent_bytes", t->parent);
	if (!packed)
		return;
	doc_u64(d, "packed_bytes", t->packed);
	doc_inline_object(d, "blocks");
	for (unsigned i = 0; i < MD_NCODECS; i++)
		doc_u64(d, md_codec_name((enum md_codec_id)i), t->blocks[i]);
	doc_end(d);
}

static void show_space(struct doc *d, const struct total *t, bool packed)
{
	doc_inline_object(d, NULL);
	doc_str(d, "kind", MD_SPACE_KIND(t->space) ? "shared" : "process");
	doc_u64(d, "id", MD_SPACE_ID(t->space));
	doc_u64(d, "extents", t->extents);
	show_total(d, t, packed);
	doc_end(d);
}

/* What a space has beyond what counts of the file's own blocks. */
static uint64_t in_parents(const struct md_file *f, const struct total *t)
{
	struct md_extent e = {0};
	uint64_t bytes = 0;

	while (md_file_extent(f, t->space, e.addr + e.len, &e) > 0) {
		bytes += e.len;
		if (e.addr + e.len < e.addr)
			break;
	}
	return bytes - (t->raw - t->stale);
}

static void end_space(struct doc *d, const struct md_file *f, const struct model *m,
		      const struct show_opts *opts, struct total *t, struct total *all)
{
	if (!wanted(m, opts, t->space))
		return;
	t->parent = in_parents(f, t);
	show_space(d, t, true);
	add(all, t);
}

/* The block file's index knows it all; blocks come space by space. */
static int from_blocks(struct doc *d, struct image *img, const struct model *m,
		       const struct show_opts *opts, struct total *all, struct err *err)
{
	struct md_file *f = md_file_open(image_dirfd(img), IMAGE_BLOCK_FILE, 0, err);
	struct total t = {0};
	struct md_stored b;
	size_t i;

	if (!f)
		return err && err->errnum ? -err->errnum : -EBADMSG;
	for (i = 0; md_file_block(f, i, &b); i++) {
		if (i && b.space != t.space) {
			end_space(d, f, m, opts, &t, all);
			t = (struct total){0};
		}
		t.space = b.space;
		t.raw += b.raw_len;
		t.stale += b.raw_len - b.live_len;
		t.packed += b.packed_len;
		t.extents += b.nextents;
		if ((unsigned)b.codec < MD_NCODECS)
			t.blocks[b.codec]++;
	}
	if (i)
		end_space(d, f, m, opts, &t, all);
	md_file_close(f);
	return 0;
}

static int count_extents(struct image_mem *mem, struct total *t, struct err *err)
{
	struct md_extent e = {0};
	int n;

	while ((n = image_mem_extent(mem, t->space, e.addr + e.len, &e, err)) > 0) {
		t->raw += e.len;
		t->extents++;
		if (e.addr + e.len < e.addr)
			break;
	}
	return n < 0 ? n : 0;
}

/* CRIU's page files have no codecs and no list of spaces: the model says what there can be. */
static int from_pagemaps(struct doc *d, struct image *img, const struct model *m,
			 const struct show_opts *opts, struct total *all, struct err *err)
{
	struct image_mem *mem = image_mem_open(img, err);
	int ret = 0;

	if (!mem)
		return err && err->errnum ? -err->errnum : -EBADMSG;
	for (uint32_t i = 0; !ret && i < m->nprocs + m->nshms; i++) {
		struct total t = {0};

		t.space = i < m->nprocs ? MD_SPACE_PROC(m->procs[i].pid)
					: MD_SPACE_SHMEM(m->shms[i - m->nprocs].id);
		if (!wanted(m, opts, t.space) ||
		    (i < m->nprocs && (m->procs[i].shares_vm || m->procs[i].state == M_DEAD)))
			continue;
		ret = count_extents(mem, &t, err);
		if (!ret && t.raw) {
			show_space(d, &t, false);
			add(all, &t);
		}
	}
	image_mem_close(mem);
	return ret;
}

int show_blocks(struct doc *d, struct image *img, struct err *err)
{
	struct md_file *f = md_file_open(image_dirfd(img), IMAGE_BLOCK_FILE, 0, err);
	struct md_stored b;

	if (!f)
		return err && err->errnum ? -err->errnum : -EBADMSG;
	doc_object(d, NULL);
	doc_str(d, "file", IMAGE_BLOCK_FILE);
	doc_u64(d, "page_size", md_file_page_size(f));
	doc_array(d, "blocks");
	for (size_t i = 0; md_file_block(f, i, &b); i++) {
		doc_inline_object(d, NULL);
		doc_str(d, "kind", MD_SPACE_KIND(b.space) ? "shared" : "process");
		doc_u64(d, "id", MD_SPACE_ID(b.space));
		doc_str(d, "codec", md_codec_name(b.codec));
		if (b.round)
			doc_u64(d, "round", b.round);
		if (b.codec == MD_CODEC_SAME)
			doc_u64(d, "same_as", b.same_as);
		doc_u64(d, "raw_bytes", b.raw_len);
		doc_u64(d, "packed_bytes", b.packed_len);
		doc_u64(d, "extents", b.nextents);
		doc_end(d);
	}
	doc_end(d);
	doc_end(d);
	md_file_close(f);
	return 0;
}

int show_memory(struct doc *d, struct image *img, const struct model *m,
		const struct show_opts *opts, struct err *err)
{
	bool packed = image_format(img) == IMAGE_STASIS;
	struct total all = {0};
	int ret;

	doc_object(d, "memory");
	doc_array(d, "spaces");
	ret = packed ? from_blocks(d, img, m, opts, &all, err)
		     : from_pagemaps(d, img, m, opts, &all, err);
	if (ret)
		return ret;
	doc_end(d);
	show_total(d, &all, packed);
	doc_end(d);
	return 0;
}
