/* SPDX-License-Identifier: MIT */
/* The block file's records, to bytes and back. */
#include "memdump/format.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "memdump/sum.h"

enum {
	SUM_FROM = 16, /* magic and the sum itself are not summed */
};

/* The sum of a record of @len bytes that is complete but for it. */
static void put_sum(uint8_t *start, size_t len)
{
	bytes_put_u64(start + 8, md_sum(start + SUM_FROM, len - SUM_FROM));
}

static uint8_t *put_magic(uint8_t *p, const char *magic)
{
	memcpy(p, magic, 8);
	return p + SUM_FROM;
}

static uint8_t *put_zero(uint8_t *p, size_t len)
{
	memset(p, 0, len);
	return p + len;
}

void md_put_file_head(uint8_t *start, const struct md_file_head *h)
{
	uint8_t *p = put_magic(start, MD_FILE_MAGIC);

	p = bytes_put_u16(p, h->major);
	p = bytes_put_u16(p, h->minor);
	p = bytes_put_u32(p, h->page_size);
	p = bytes_put_u32(p, h->align);
	p = bytes_put_u32(p, h->flags);
	p = bytes_put_u64(p, h->file_id);
	p = bytes_put_u64(p, h->parent_id);
	p = put_zero(p, sizeof(h->reserved));
	assert(p == start + MD_HEAD_LEN);
	put_sum(start, MD_HEAD_LEN);
}

uint8_t *md_put_extents(uint8_t *p, const struct md_extent *extents, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		p = bytes_put_u64(p, extents[i].addr);
		p = bytes_put_u64(p, extents[i].len);
	}
	return p;
}

void md_put_block_head(uint8_t *start, const struct md_block_head *h,
		       const struct md_extent *extents)
{
	uint8_t *p = put_magic(start, MD_BLOCK_MAGIC);

	p = bytes_put_u64(p, h->file_id);
	p = bytes_put_u64(p, h->space);
	p = bytes_put_u32(p, h->raw_len);
	p = bytes_put_u32(p, h->packed_len);
	p = bytes_put_u64(p, h->payload_sum);
	p = bytes_put_u16(p, h->codec);
	p = bytes_put_u16(p, h->nextents);
	p = bytes_put_u32(p, h->round);
	p = put_zero(p, sizeof(h->reserved));
	assert(p == start + MD_HEAD_LEN);
	p = md_put_extents(p, extents, h->nextents);
	put_sum(start, (size_t)(p - start));
}

void md_put_index_head(uint8_t *start, const struct md_index_head *h)
{
	uint8_t *p = put_magic(start, MD_INDEX_MAGIC);

	p = bytes_put_u64(p, h->file_id);
	p = bytes_put_u64(p, h->nblocks);
	p = bytes_put_u64(p, h->nextents);
	p = put_zero(p, sizeof(h->reserved));
	assert(p == start + MD_HEAD_LEN);
	put_sum(start, MD_HEAD_LEN);
}

uint8_t *md_put_index_entry(uint8_t *p, const struct md_index_entry *e)
{
	p = bytes_put_u64(p, e->off);
	p = bytes_put_u64(p, e->space);
	p = bytes_put_u32(p, e->raw_len);
	p = bytes_put_u32(p, e->packed_len);
	p = bytes_put_u16(p, e->codec);
	p = bytes_put_u16(p, e->nextents);
	return bytes_put_u32(p, e->round);
}

void md_put_trailer(uint8_t *start, const struct md_trailer *t)
{
	uint8_t *p = put_magic(start, MD_TRAILER_MAGIC);

	p = bytes_put_u64(p, t->file_id);
	p = bytes_put_u64(p, t->index_off);
	p = bytes_put_u64(p, t->index_len);
	p = bytes_put_u64(p, t->index_sum);
	p = bytes_put_u64(p, t->raw_bytes);
	p = bytes_put_u64(p, t->file_len);
	assert(p == start + MD_HEAD_LEN);
	put_sum(start, MD_HEAD_LEN);
}

/* --- and back ------------------------------------------------------------------------------ */

#define bad(err, off, what)                                                                \
	err_fail(err, EBADMSG, ERR_IMAGE, "block file damaged at offset %#" PRIx64 ": %s", \
		 (uint64_t)(off), what)

static bool take_zero(struct bytes *b, size_t len)
{
	const uint8_t *p = bytes_take(b, len);
	uint8_t any = 0;

	for (size_t i = 0; p && i < len; i++)
		any |= p[i];
	return p && !any;
}

static bool take_magic(struct bytes *b, const char *magic, uint8_t *ret)
{
	const void *p = bytes_take(b, 8);

	if (!p || memcmp(p, magic, 8))
		return false;
	memcpy(ret, p, 8);
	return true;
}

/* Whether @sum is that of the @len bytes at @p, which are there. */
static bool sum_fits(const uint8_t *p, size_t len, uint64_t sum)
{
	return sum == md_sum(p + SUM_FROM, len - SUM_FROM);
}

/* The record of 64 bytes at the start of @len bytes; a shorter one fails at its first read. */
static struct bytes record_of(const uint8_t *p, size_t len)
{
	return bytes_of(p, len < MD_HEAD_LEN ? 0 : MD_HEAD_LEN);
}

static bool power_of_two(uint32_t v, uint32_t min, uint32_t max)
{
	return v >= min && v <= max && !(v & (v - 1));
}

int md_take_file_head(const uint8_t *p, size_t len, struct md_file_head *ret, struct err *err)
{
	struct bytes b = record_of(p, len);
	struct md_file_head h = {0};
	bool zero;

	if (!take_magic(&b, MD_FILE_MAGIC, h.magic))
		return err_fail(err, EBADMSG, ERR_IMAGE, "not a block file: no magic at offset 0");
	h.sum = bytes_u64(&b);
	h.major = bytes_u16(&b);
	h.minor = bytes_u16(&b);
	h.page_size = bytes_u32(&b);
	h.align = bytes_u32(&b);
	h.flags = bytes_u32(&b);
	h.file_id = bytes_u64(&b);
	h.parent_id = bytes_u64(&b);
	zero = take_zero(&b, sizeof(h.reserved));
	if (!sum_fits(p, MD_HEAD_LEN, h.sum))
		return bad(err, 0, "checksum of the file head");
	if (h.major != MD_FORMAT_MAJOR || h.minor > MD_FORMAT_MINOR)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"block file has format %u.%u, this program reads up to %u.%u",
				h.major, h.minor, MD_FORMAT_MAJOR, MD_FORMAT_MINOR);
	if (!zero || (h.flags & ~(h.minor ? MD_FLAG_PARENT : 0u)) || (!h.flags && h.parent_id))
		return bad(err, 0, "reserved fields of the file head are not zero");
	if (h.flags && h.parent_id == h.file_id)
		return bad(err, 0, "the file is its own parent");
	if (!power_of_two(h.page_size, 4096, 65536) || !power_of_two(h.align, MD_ALIGN, 65536))
		return bad(err, 0, "page size or alignment out of bounds");
	*ret = h;
	return 0;
}

static bool packed_len_fits(const struct md_index_entry *e)
{
	if (e->codec == MD_CODEC_ZERO || e->codec == MD_CODEC_SAME)
		return !e->packed_len;
	if (e->codec == MD_CODEC_NONE)
		return e->packed_len == e->raw_len;
	return e->packed_len && e->packed_len <= e->raw_len;
}

/* Two processes, in a file that is one look at them. */
static const char *same_wrong(const struct md_index_entry *e, const struct md_file_head *fh)
{
	if (!e->space || e->space > UINT32_MAX || !e->round || e->round == e->space)
		return "process with the same pages";
	return fh->flags & MD_FLAG_PARENT ? "pages of another process in a file that has a parent"
					  : NULL;
}

/* What holds for a block in its head and in the index alike; NULL when all is well. */
static const char *block_wrong(const struct md_index_entry *e, const struct md_file_head *fh)
{
	if (e->codec > (fh->minor ? MD_CODEC_SAME : MD_CODEC_ZERO))
		return "unknown codec";
	if (!fh->minor && e->round)
		return "reserved field of a block is not zero";
	if (e->codec == MD_CODEC_MAP)
		return e->raw_len || e->nextents || e->packed_len % MD_EXTENT_LEN ||
				       e->packed_len > MD_MAP_LEN
			       ? "map record out of bounds"
			       : NULL;
	if (!e->nextents || e->nextents > MD_BLOCK_EXTENTS)
		return "number of extents out of bounds";
	if (!e->raw_len || e->raw_len > MD_BLOCK_MAX || e->raw_len % fh->page_size)
		return "raw length out of bounds";
	if (!packed_len_fits(e))
		return "packed length out of bounds";
	return e->codec == MD_CODEC_SAME ? same_wrong(e, fh) : NULL;
}

int md_take_block_head(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
		       struct md_block_head *ret, struct err *err)
{
	struct bytes b = record_of(p, len);
	struct md_block_head h = {0};
	const char *wrong;
	bool zero;

	if (!take_magic(&b, MD_BLOCK_MAGIC, h.magic))
		return bad(err, off, "no block head");
	h.sum = bytes_u64(&b);
	h.file_id = bytes_u64(&b);
	h.space = bytes_u64(&b);
	h.raw_len = bytes_u32(&b);
	h.packed_len = bytes_u32(&b);
	h.payload_sum = bytes_u64(&b);
	h.codec = bytes_u16(&b);
	h.nextents = bytes_u16(&b);
	h.round = bytes_u32(&b);
	zero = take_zero(&b, sizeof(h.reserved));
	if (h.file_id != fh->file_id)
		return bad(err, off, "block of another file");
	wrong = block_wrong(&(struct md_index_entry){.space = h.space,
						     .raw_len = h.raw_len,
						     .packed_len = h.packed_len,
						     .codec = h.codec,
						     .nextents = h.nextents,
						     .round = h.round},
			    fh);
	if (wrong || !zero)
		return bad(err, off, wrong ? wrong : "reserved field of a block is not zero");
	*ret = h;
	return 0;
}

int md_take_extents(const uint8_t *p, size_t len, uint64_t off, uint32_t page_size, unsigned n,
		    uint32_t raw_len, struct md_extent *ret, struct err *err)
{
	struct bytes b = bytes_of(p, len);
	uint64_t end = 0, sum = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t addr = bytes_u64(&b);
		uint64_t elen = bytes_u64(&b);

		if (!bytes_ok(&b))
			return bad(err, off, "extents are cut off");
		if (addr % page_size || elen % page_size || !elen || elen > raw_len - sum ||
		    addr + elen - 1 < addr || (i && addr < end))
			return bad(err, off, "extents out of bounds");
		end = addr + elen;
		if (!end && i + 1 < n)
			return bad(err, off, "extents out of bounds");
		sum += elen;
		ret[i] = (struct md_extent){addr, elen};
	}
	if (sum != raw_len)
		return bad(err, off, "extents and raw length differ");
	return 0;
}

int md_take_map(const uint8_t *p, size_t len, uint64_t off, uint32_t page_size, unsigned n,
		struct md_extent *ret, struct err *err)
{
	struct bytes b = bytes_of(p, len);
	uint64_t last = 0; /* address of the byte before */

	for (unsigned i = 0; i < n; i++) {
		uint64_t addr = bytes_u64(&b);
		uint64_t elen = bytes_u64(&b);

		if (!bytes_ok(&b))
			return bad(err, off, "map is cut off");
		if (addr % page_size || elen % page_size || !elen || addr + (elen - 1) < addr ||
		    (i && addr <= last))
			return bad(err, off + i * MD_EXTENT_LEN, "map out of bounds");
		last = addr + (elen - 1);
		ret[i] = (struct md_extent){addr, elen};
	}
	return 0;
}

int md_take_block_extents(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
			  const struct md_block_head *h, struct md_extent *ret, struct err *err)
{
	size_t want = MD_HEAD_LEN + (size_t)h->nextents * MD_EXTENT_LEN;

	if (len < want)
		return bad(err, off, "block head is cut off");
	if (!sum_fits(p, want, h->sum))
		return bad(err, off, "checksum of a block head");
	return md_take_extents(p + MD_HEAD_LEN, want - MD_HEAD_LEN, off + MD_HEAD_LEN,
			       fh->page_size, h->nextents, h->raw_len, ret, err);
}

int md_take_index_head(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
		       struct md_index_head *ret, struct err *err)
{
	struct bytes b = record_of(p, len);
	struct md_index_head h = {0};
	bool zero;

	if (!take_magic(&b, MD_INDEX_MAGIC, h.magic))
		return bad(err, off, "no index");
	h.sum = bytes_u64(&b);
	h.file_id = bytes_u64(&b);
	h.nblocks = bytes_u64(&b);
	h.nextents = bytes_u64(&b);
	zero = take_zero(&b, sizeof(h.reserved));
	if (!sum_fits(p, MD_HEAD_LEN, h.sum) || h.file_id != fh->file_id || !zero)
		return bad(err, off, "head of the index");
	*ret = h;
	return 0;
}

int md_take_index_entry(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
			struct md_index_entry *ret, struct err *err)
{
	struct bytes b = bytes_of(p, len < MD_ENTRY_LEN ? len : MD_ENTRY_LEN);
	struct md_index_entry e = {0};
	const char *wrong;

	e.off = bytes_u64(&b);
	e.space = bytes_u64(&b);
	e.raw_len = bytes_u32(&b);
	e.packed_len = bytes_u32(&b);
	e.codec = bytes_u16(&b);
	e.nextents = bytes_u16(&b);
	e.round = bytes_u32(&b);
	if (!bytes_ok(&b))
		return bad(err, off, "index is cut off");
	wrong = block_wrong(&e, fh);
	if (wrong || e.off % fh->align)
		return bad(err, off, wrong ? wrong : "entry of the index");
	*ret = e;
	return 0;
}

int md_take_trailer(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
		    struct md_trailer *ret, struct err *err)
{
	struct bytes b = record_of(p, len);
	struct md_trailer t = {0};
	bool magic = take_magic(&b, MD_TRAILER_MAGIC, t.magic);

	t.sum = bytes_u64(&b);
	t.file_id = bytes_u64(&b);
	t.index_off = bytes_u64(&b);
	t.index_len = bytes_u64(&b);
	t.index_sum = bytes_u64(&b);
	t.raw_bytes = bytes_u64(&b);
	t.file_len = bytes_u64(&b);
	if (!magic || !sum_fits(p, MD_HEAD_LEN, t.sum) || t.file_id != fh->file_id) {
		bad(err, off, "no trailer");
		err_hint(err, "the file was not written to its end; opening it as torn rebuilds "
			      "the index from the block heads");
		return -EBADMSG;
	}
	if (t.file_len != off + MD_HEAD_LEN || t.index_off % fh->align || t.index_off > off ||
	    t.index_len > off - t.index_off || t.index_len < MD_HEAD_LEN)
		return bad(err, off, "trailer out of bounds");
	*ret = t;
	return 0;
}
