/* SPDX-License-Identifier: MIT */
/*
 * A block file's parts, for those who read it: random access, rebuilding, verifying.
 *
 * Threads: a raw file may be shared for reading; a block reader belongs to one thread.
 */
#ifndef MEMDUMP_READER_FILE_H
#define MEMDUMP_READER_FILE_H

#include "memdump/codec.h"
#include "memdump/format.h"
#include "memdump/index.h"
#include "memdump/memdump.h"

struct md_raw_file {
	int fd;
	uint64_t len;
	struct md_file_head head;
};

/* Opens @name below @dirfd and reads its head. */
int md_raw_file_open(struct md_raw_file *f, int dirfd, const char *name, struct err *err);
void md_raw_file_close(struct md_raw_file *f);
int md_raw_file_trailer(const struct md_raw_file *f, struct md_trailer *ret, struct err *err);
/* The stored index; every entry lies within the blocks' part of the file. Caller deinits. */
int md_raw_file_index(const struct md_raw_file *f, const struct md_trailer *t,
		      struct md_index_list *ret, struct err *err);

struct md_block_reader;
/* The maps of @l, which begins without, from their records. -EBADMSG. */
int md_raw_file_maps(const struct md_raw_file *f, struct md_block_reader *br,
		     struct md_index_list *l, struct err *err);
/* That of one record, whose payload was checked. */
int md_map_take(const struct md_raw_file *f, struct md_index_block *b, const uint8_t *payload,
		struct md_index_list *l, struct err *err);

/* Buffers and contexts for reading blocks; starts as {0}. */
struct md_block_reader {
	uint8_t *buf;
	size_t cap;
	struct md_unpacker unpacker;
};
void md_block_reader_deinit(struct md_block_reader *br);
/*
 * The record of @e, in memory at @record: its head against @e and @extents, sums and padding.
 * -EBADMSG. md_block_fetch() reads it first; its payload is good until the next call.
 */
int md_block_check(const struct md_raw_file *f, const struct md_index_entry *e,
		   const struct md_extent *extents, const uint8_t *record,
		   const uint8_t **ret_payload, struct err *err);
int md_block_fetch(struct md_block_reader *br, const struct md_raw_file *f,
		   const struct md_index_entry *e, const struct md_extent *extents,
		   const uint8_t **ret_payload, struct err *err);
/* A payload that was checked, to @raw with room for e->raw_len. -EBADMSG. */
int md_block_unpack(struct md_block_reader *br, const struct md_raw_file *f,
		    const struct md_index_entry *e, const uint8_t *payload, uint8_t *raw,
		    struct err *err);
/*
 * Reads the block of @e, compares its head with @e and @extents, checks sums and padding, and
 * unpacks it to @raw, which has room for e->raw_len; one of MD_CODEC_SAME has nothing to unpack.
 * -EBADMSG.
 */
int md_block_read(struct md_block_reader *br, const struct md_raw_file *f,
		  const struct md_index_entry *e, const struct md_extent *extents, uint8_t *raw,
		  struct err *err);

/*
 * The index of a torn file from its block heads. Blocks that are not whole are left out: payload
 * cut off, or its checksum wrong. Reads the file to its end. 0 or -errno other than -EBADMSG.
 */
int md_raw_file_rebuild(const struct md_raw_file *f, struct md_block_reader *br,
			struct md_index_list *ret, struct err *err);

/* Bytes of the block's record, padding included. */
static inline size_t md_record_len(const struct md_index_entry *e, uint32_t align)
{
	return md_head_span(e->nextents, align) + md_align_up(e->packed_len, align);
}

#endif
