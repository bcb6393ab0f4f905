/* SPDX-License-Identifier: MIT */
/*
 * One table row per compression algorithm.
 *
 * A packer belongs to one worker and keeps its contexts from block to block, so that packing
 * allocates nothing.
 */
#ifndef MEMDUMP_CODEC_H
#define MEMDUMP_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "memdump/memdump.h"

struct md_codec {
	const char *name;
	enum md_codec_id id;
	int level_default, level_min, level_max; /* all equal: takes no level */
	/* Bytes one packer takes for blocks of @block_size. */
	size_t (*pack_memory)(int level, uint32_t block_size);
	/* NULL: out of memory. */
	void *(*pack_new)(int level, uint32_t block_size);
	void (*pack_free)(void *packer);
	/* Bytes written to @dst, 0 when they would not fit in @cap, or on any failure. */
	size_t (*pack)(void *packer, const void *src, size_t len, void *dst, size_t cap);
	/* As above for one unpacker; NULL hooks when no state is needed. */
	void *(*unpack_new)(void);
	void (*unpack_free)(void *unpacker);
	/* True when exactly @len bytes came out. Never writes beyond; @src may be garbage. */
	bool (*unpack)(void *unpacker, const void *src, size_t src_len, void *dst, size_t len);
};

extern const struct md_codec md_codec_lz4, md_codec_zstd;

/* NULL for numbers that are no codec with a packer (NONE, ZERO, unknown). */
const struct md_codec *md_codec_find(enum md_codec_id id);

/* Unpacks blocks of any codec; one thread at a time. */
struct md_unpacker {
	void *state[4]; /* by codec, made at first use */
};

void md_unpacker_deinit(struct md_unpacker *u);
/* Raw bytes of a stored block to @dst. -EBADMSG when the payload is not @raw_len bytes packed. */
int md_unpack(struct md_unpacker *u, unsigned codec, const void *payload, uint32_t packed_len,
	      void *dst, uint32_t raw_len);

#endif
