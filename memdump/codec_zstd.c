/* SPDX-License-Identifier: MIT */
/* Zstandard: one frame per block. */
#include "memdump/codec.h"

#define ZSTD_STATIC_LINKING_ONLY /* ZSTD_estimateCCtxSize_usingCParams(), ZSTD_minCLevel() */
#include <zstd.h>

static size_t pack_memory(int level, uint32_t block_size)
{
	return ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(level, block_size, 0));
}

static void pack_free(void *packer)
{
	ZSTD_freeCCtx(packer);
}

static void *pack_new(int level, uint32_t block_size)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();

	if (!c)
		return NULL;
	if (ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level)) ||
	    /* The record holds a checksum and both lengths already. */
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 0)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0))) {
		ZSTD_freeCCtx(c);
		return NULL;
	}
	return c;
}

static size_t pack(void *packer, const void *src, size_t len, void *dst, size_t cap)
{
	size_t n = ZSTD_compress2(packer, dst, cap, src, len);

	return ZSTD_isError(n) ? 0 : n;
}

static void *unpack_new(void)
{
	return ZSTD_createDCtx();
}

static void unpack_free(void *unpacker)
{
	ZSTD_freeDCtx(unpacker);
}

static bool unpack(void *unpacker, const void *src, size_t src_len, void *dst, size_t len)
{
	/* Exactly one frame: ZSTD_decompressDCtx() would take several, or skippable ones. */
	if (ZSTD_findFrameCompressedSize(src, src_len) != src_len)
		return false;
	return ZSTD_decompressDCtx(unpacker, dst, len, src, src_len) == len;
}

const struct md_codec md_codec_zstd = {
	.name = "zstd",
	.id = MD_CODEC_ZSTD,
	.level_default = 1,
	.level_min = -131072, /* ZSTD_minCLevel() of 1.5 */
	.level_max = 22,
	.pack_memory = pack_memory,
	.pack_new = pack_new,
	.pack_free = pack_free,
	.pack = pack,
	.unpack_new = unpack_new,
	.unpack_free = unpack_free,
	.unpack = unpack,
};
