/* SPDX-License-Identifier: MIT */
/* LZ4: one LZ4 block per block, no frame. */
#include "memdump/codec.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

struct packer {
	int acceleration;
	LZ4_stream_t state;
};

static size_t pack_memory(int level, uint32_t block_size)
{
	return sizeof(struct packer);
}

static void *pack_new(int level, uint32_t block_size)
{
	struct packer *p = malloc(sizeof(*p));

	if (p) {
		p->acceleration = level;
		memset(&p->state, 0, sizeof(p->state));
	}
	return p;
}

static size_t pack(void *packer, const void *src, size_t len, void *dst, size_t cap)
{
	struct packer *p = packer;
	int n = LZ4_compress_fast_extState(&p->state, src, dst, (int)len, (int)cap,
					   p->acceleration);

	return n > 0 ? (size_t)n : 0;
}

static bool unpack(void *unpacker, const void *src, size_t src_len, void *dst, size_t len)
{
	return LZ4_decompress_safe(src, dst, (int)src_len, (int)len) == (int)len;
}

const struct md_codec md_codec_lz4 = {
	.name = "lz4",
	.id = MD_CODEC_LZ4,
	.level_default = 1,
	.level_min = 1,
	.level_max = 65537, /* LZ4_ACCELERATION_MAX */
	.pack_memory = pack_memory,
	.pack_new = pack_new,
	.pack_free = free,
	.pack = pack,
	.unpack = unpack,
};
