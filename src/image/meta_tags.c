/* SPDX-License-Identifier: MIT */
/* Tags of memory: a part of mm files. */
#include <inttypes.h>
#include <string.h>

#include "memdump/codec.h"
#include "src/image/meta_tags.h"

/* Packed, in memory of the scratch arena; as they are where that is no shorter. */
static int put_one(struct meta_out *o, const struct m_tags *t, void *packer, Im__MemTags *to)
{
	const struct md_codec *c = md_codec_find(MD_CODEC_LZ4);
	const size_t len = t->len / M_TAGS_BYTE;
	uint8_t *buf = arena_alloc(o->scratch, len);

	if (!buf)
		return -ENOMEM;
	im__mem_tags__init(to);
	to->start = t->start;
	to->len = t->len;
	to->codec = MD_CODEC_LZ4;
	to->tags.data = buf;
	to->tags.len = c->pack(packer, t->data, len, buf, len - 1);
	if (!to->tags.len) {
		to->codec = MD_CODEC_NONE;
		to->tags.data = t->data;
		to->tags.len = len;
	}
	return 0;
}

int meta_put_tags(struct meta_out *o, const struct m_mm *mm, Im__Mm *to)
{
	const struct md_codec *c = md_codec_find(MD_CODEC_LZ4);
	Im__MemTags *items;
	void *packer;
	int ret = 0;

	if (!mm->ntags)
		return 0;
	if (!meta_array(o->scratch, mm->ntags, sizeof(*items), &items, &to->tags))
		return -ENOMEM;
	packer = c->pack_new(c->level_default, M_TAGS_MOST);
	if (!packer)
		return -ENOMEM;
	to->n_tags = mm->ntags;
	for (uint32_t i = 0; ret == 0 && i < mm->ntags; i++)
		ret = put_one(o, &mm->tags[i], packer, &items[i]);
	c->pack_free(packer);
	return ret;
}

static int get_one(struct meta_in *in, const char *name, const Im__MemTags *from,
		   struct md_unpacker *u, struct m_mm *mm)
{
	struct m_tags *to;
	uint32_t len;
	uint8_t *data;
	int ret;

	if (!from->len || from->len % M_TAGS_PAGE || from->start % M_TAGS_PAGE ||
	    from->len / M_TAGS_BYTE > M_TAGS_MOST || from->tags.len > M_TAGS_MOST)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"%s: tags of %" PRIu64 " bytes at %#" PRIx64
				", which no image has in one piece",
				name, from->len, from->start);
	len = (uint32_t)(from->len / M_TAGS_BYTE);
	data = model_alloc(in->m, len);
	to = model_push(in->m, &mm->tags, &mm->ntags, sizeof(*to));
	if (!data || !to)
		return meta_nomem(in->err, name);
	*to = (struct m_tags){from->start, from->len, data};
	ret = from->codec == MD_CODEC_NONE || from->codec == MD_CODEC_LZ4
		      ? md_unpack(u, from->codec, from->tags.data, (uint32_t)from->tags.len, data,
				  len)
		      : -EBADMSG;
	if (ret == -ENOMEM)
		return meta_nomem(in->err, name);
	return ret < 0 ? err_fail(in->err, EBADMSG, ERR_IMAGE,
				  "%s: the tags of %" PRIu64 " bytes at %#" PRIx64
				  " are damaged: codec %u, %zu bytes",
				  name, from->len, from->start, from->codec, from->tags.len)
		       : 0;
}

int meta_get_tags(struct meta_in *in, const char *name, const Im__Mm *from, struct m_mm *mm)
{
	struct md_unpacker u = {0};
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < from->n_tags; i++)
		ret = get_one(in, name, from->tags[i], &u, mm);
	md_unpacker_deinit(&u);
	return ret;
}
