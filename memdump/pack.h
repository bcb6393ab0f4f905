/* SPDX-License-Identifier: MIT */
/*
 * The pack stage: what one worker does to one block.
 *
 * A block of zeros loses its payload; one that does not shrink stays as it is; every other one
 * changes its buffer for the worker's spare, which then holds the packed bytes.
 */
#ifndef MEMDUMP_PACK_H
#define MEMDUMP_PACK_H

#include "memdump/codec.h"

struct md_packer {
	const struct md_codec *codec; /* NULL: store raw */
	void *state;
	uint8_t *spare;
	/* the probe's memory: blocks in a row that did not shrink */
	unsigned raw_streak;
};

/* @spare: a buffer's payload area, the worker's own from now on. */
int md_packer_init(struct md_packer *p, enum md_codec_id codec, int level, uint32_t block_size,
		   uint8_t *spare, struct err *err);
void md_packer_deinit(struct md_packer *p);
/* Sets codec, packed_len, data and sum of @b; raw is lost if the block was packed. */
void md_packer_pack(struct md_packer *p, struct md_block *b);

bool md_is_zero(const void *p, size_t len);

#endif
