/* SPDX-License-Identifier: MIT */
/*
 * The block file's records, as docs/FORMAT.md lays them down.
 *
 *	│ file head │ block head, extents │ payload │ ... │ index │ trailer │
 *
 * The structs have the fields of the records in their order and width, but in the host's byte
 * order: md_put_*() and md_take_*() translate. md_take_*() checks magic, checksum, reserved fields
 * and every limit that can be judged from the record alone; the file offset is for the message.
 */
#ifndef MEMDUMP_FORMAT_H
#define MEMDUMP_FORMAT_H

#include <assert.h>
#include <stdint.h>

#include "memdump/memdump.h"

enum {
	MD_FORMAT_MAJOR = 1,
	MD_FORMAT_MINOR = 1,
	MD_HEAD_LEN = 64,	/* file head, block head, index head and trailer */
	MD_EXTENT_LEN = 16,	/* one extent */
	MD_ENTRY_LEN = 32,	/* one block's entry in the index, without its extents */
	MD_MAP_LEN = 256 << 10, /* most bytes of one map record */
	MD_FLAG_PARENT = 1,	/* of the file head */
	MD_ALIGN = 64,		/* of records in a file written without O_DIRECT */
	MD_ALIGN_DIRECT = 4096,
};

/*
 * Every record of 64 bytes starts with eight bytes of magic and the sum of all that follows them
 * in the record: up to byte 64, and for a block head up to the end of its extents.
 */
#define MD_FILE_MAGIC	 "\x93STASIS\n"
#define MD_BLOCK_MAGIC	 "\x93STBLK\r\n"
#define MD_INDEX_MAGIC	 "\x93STIDX\r\n"
#define MD_TRAILER_MAGIC "\x93STEND\r\n"

struct md_file_head {
	uint8_t magic[8];
	uint64_t sum;
	uint16_t major, minor;
	uint32_t page_size;
	uint32_t align;
	uint32_t flags;
	uint64_t file_id;
	uint64_t parent_id; /* with MD_FLAG_PARENT: file_id of the parent's file */
	uint8_t reserved[16];
};
static_assert(sizeof(struct md_file_head) == MD_HEAD_LEN, "file head");

struct md_block_head {
	uint8_t magic[8];
	uint64_t sum;
	uint64_t file_id;
	uint64_t space;
	uint32_t raw_len, packed_len;
	uint64_t payload_sum;
	uint16_t codec;
	uint16_t nextents;
	/*
	 * Of a map record: how many more of its space follow, in ascending order of addresses. Of
	 * MD_CODEC_SAME: the process whose pages these are.
	 */
	uint32_t round;
	uint8_t reserved[8];
};
static_assert(sizeof(struct md_block_head) == MD_HEAD_LEN, "block head");
static_assert(sizeof(struct md_extent) == MD_EXTENT_LEN, "extent");

struct md_index_head {
	uint8_t magic[8];
	uint64_t sum;
	uint64_t file_id;
	uint64_t nblocks, nextents;
	uint8_t reserved[24];
};
static_assert(sizeof(struct md_index_head) == MD_HEAD_LEN, "index head");

struct md_index_entry {
	uint64_t off;
	uint64_t space;
	uint32_t raw_len, packed_len;
	uint16_t codec;
	uint16_t nextents;
	uint32_t round;
};
static_assert(sizeof(struct md_index_entry) == MD_ENTRY_LEN, "index entry");

struct md_trailer {
	uint8_t magic[8];
	uint64_t sum;
	uint64_t file_id;
	uint64_t index_off, index_len;
	uint64_t index_sum;
	uint64_t raw_bytes;
	uint64_t file_len;
};
static_assert(sizeof(struct md_trailer) == MD_HEAD_LEN, "trailer");

static inline uint64_t md_align_up(uint64_t v, uint32_t align)
{
	return (v + align - 1) & ~(uint64_t)(align - 1);
}

/* Bytes of a block's record from its head to the payload. */
static inline uint32_t md_head_span(unsigned nextents, uint32_t align)
{
	return (uint32_t)md_align_up(MD_HEAD_LEN + (uint64_t)nextents * MD_EXTENT_LEN, align);
}

/* The writing side fills in magic and sum. @p has room; padding is the caller's. */
void md_put_file_head(uint8_t *p, const struct md_file_head *h);
void md_put_block_head(uint8_t *p, const struct md_block_head *h, const struct md_extent *extents);
void md_put_index_head(uint8_t *p, const struct md_index_head *h);
uint8_t *md_put_index_entry(uint8_t *p, const struct md_index_entry *e);
uint8_t *md_put_extents(uint8_t *p, const struct md_extent *extents, unsigned n);
void md_put_trailer(uint8_t *p, const struct md_trailer *t);

/* 0 or -EBADMSG with @off in the message; -EOPNOTSUPP for a newer format. */
int md_take_file_head(const uint8_t *p, size_t len, struct md_file_head *ret, struct err *err);
/* The fixed part alone, unchecked but for magic and limits: how long is the record? */
int md_take_block_head(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
		       struct md_block_head *ret, struct err *err);
/* Head and extents (md_block_head.nextents of them), with checksum and every check of extents. */
int md_take_block_extents(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
			  const struct md_block_head *h, struct md_extent *ret, struct err *err);
int md_take_index_head(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
		       struct md_index_head *ret, struct err *err);
int md_take_index_entry(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
			struct md_index_entry *ret, struct err *err);
/* @n extents that must be ascending, page aligned and @raw_len bytes in all. */
int md_take_extents(const uint8_t *p, size_t len, uint64_t off, uint32_t page_size, unsigned n,
		    uint32_t raw_len, struct md_extent *ret, struct err *err);
/* @n extents of a map record: ascending, page aligned, not overlapping; of any length. */
int md_take_map(const uint8_t *p, size_t len, uint64_t off, uint32_t page_size, unsigned n,
		struct md_extent *ret, struct err *err);
int md_take_trailer(const uint8_t *p, size_t len, uint64_t off, const struct md_file_head *fh,
		    struct md_trailer *ret, struct err *err);

#endif
