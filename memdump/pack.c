/* SPDX-License-Identifier: MIT */
/* The pack stage: what one worker does to one block. */
#include "memdump/pack.h"

#include <string.h>

#include "memdump/block.h"
#include "memdump/sum.h"

enum {
	STREAK_MIN = 2,	  /* raw blocks in a row before a block is probed instead of tried */
	STREAK_TRY = 32,  /* every so many probed blocks one is tried in full */
	PROBE_LEN = 2048, /* bytes of one sample */
};

bool md_is_zero(const void *p, size_t len)
{
	const uint8_t *s = p;
	size_t i = 0;

	for (; i + 64 <= len; i += 64) {
		uint64_t w[8], any = 0;

		memcpy(w, s + i, 64);
		for (unsigned k = 0; k < 8; k++)
			any |= w[k];
		if (any)
			return false;
	}
	for (; i < len; i++)
		if (s[i])
			return false;
	return true;
}

int md_packer_init(struct md_packer *p, enum md_codec_id codec, int level, uint32_t block_size,
		   uint8_t *spare, struct err *err)
{
	*p = (struct md_packer){.codec = md_codec_find(codec), .spare = spare};
	if (!p->codec)
		return 0;
	p->state = p->codec->pack_new(level, block_size);
	if (!p->state)
		return err_set(err, ENOMEM, "reserve memory for %s", p->codec->name);
	return 0;
}

void md_packer_deinit(struct md_packer *p)
{
	if (p->codec && p->state)
		p->codec->pack_free(p->state);
}

/* Shrinking by less is not worth unpacking for. */
static bool shrank(size_t packed, size_t raw)
{
	return packed && packed <= raw - raw / 64;
}

/* Whether @b is worth packing, judged by little of it. */
static bool probe(struct md_packer *p, const struct md_block *b)
{
	size_t n;

	if (p->raw_streak < STREAK_MIN || b->raw_len <= 4 * PROBE_LEN)
		return true;
	if (p->raw_streak % STREAK_TRY == 0)
		return true;
	/* Not from the start: the head of an allocation is often unlike the rest. */
	n = p->codec->pack(p->state, b->raw + b->raw_len / 2, PROBE_LEN, p->spare,
			   md_pool_payload_cap(PROBE_LEN));
	return shrank(n, PROBE_LEN);
}

static void store_raw(struct md_block *b)
{
	b->codec = MD_CODEC_NONE;
	b->packed_len = b->raw_len;
	b->data = b->raw;
	b->sum = md_sum(b->raw, b->raw_len);
}

void md_packer_pack(struct md_packer *p, struct md_block *b)
{
	size_t n = 0;

	if (b->codec == MD_CODEC_SAME) {
		b->data = b->raw;
		return;
	}
	if (md_is_zero(b->raw, b->raw_len)) {
		b->codec = MD_CODEC_ZERO;
		b->packed_len = 0;
		b->data = b->raw;
		b->sum = 0;
		return;
	}
	if (p->codec && probe(p, b))
		n = p->codec->pack(p->state, b->raw, b->raw_len, p->spare,
				   md_pool_payload_cap(b->raw_len));
	if (!shrank(n, b->raw_len)) {
		p->raw_streak++;
		store_raw(b);
		return;
	}
	p->raw_streak = 0;
	uint8_t *packed = p->spare;

	p->spare = b->raw;
	b->raw = packed;
	b->codec = p->codec->id;
	b->packed_len = (uint32_t)n;
	b->data = packed;
	b->sum = md_sum(packed, n);
}
