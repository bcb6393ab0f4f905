/* SPDX-License-Identifier: MIT */
/* The table of codecs, their names, and unpacking by number. */
#include "memdump/codec.h"

#include <stdlib.h>
#include <string.h>

static const struct md_codec *const codecs[] = {&md_codec_lz4, &md_codec_zstd};
enum { NCODECS = sizeof(codecs) / sizeof(codecs[0]) };

const struct md_codec *md_codec_find(enum md_codec_id id)
{
	for (unsigned i = 0; i < NCODECS; i++)
		if (codecs[i]->id == id)
			return codecs[i];
	return NULL;
}

const char *md_codec_name(enum md_codec_id id)
{
	const struct md_codec *c = md_codec_find(id);

	if (c)
		return c->name;
	return id == MD_CODEC_NONE   ? "none"
	       : id == MD_CODEC_ZERO ? "zero"
	       : id == MD_CODEC_MAP  ? "map"
	       : id == MD_CODEC_SAME ? "same"
				     : "unknown";
}

static int parse_level(const struct md_codec *c, const char *text, int *ret_level, struct err *err)
{
	char *end;
	long level;

	errno = 0;
	level = strtol(text, &end, 10);
	if (errno || end == text || *end || level < c->level_min || level > c->level_max)
		return err_fail(err, EINVAL, ERR_USAGE, "%s takes a number from %d to %d, not '%s'",
				c->name, c->level_min, c->level_max, text);
	*ret_level = (int)level;
	return 0;
}

int md_codec_parse(const char *text, enum md_codec_id *ret_codec, int *ret_level, struct err *err)
{
	size_t len = strcspn(text, ":");

	if (!strcmp(text, "none")) {
		*ret_codec = MD_CODEC_NONE;
		*ret_level = 0;
		return 0;
	}
	for (unsigned i = 0; i < NCODECS; i++) {
		const struct md_codec *c = codecs[i];
		int level = c->level_default;

		if (strncmp(text, c->name, len) || c->name[len])
			continue;
		if (text[len]) {
			int ret = parse_level(c, text + len + 1, &level, err);

			if (ret < 0)
				return ret;
		}
		*ret_codec = c->id;
		*ret_level = level;
		return 0;
	}
	err_fail(err, EINVAL, ERR_USAGE, "'%s' is no compression this program knows", text);
	err_hint(err, "use none, lz4[:ACCELERATION] or zstd[:LEVEL]");
	return -EINVAL;
}

void md_unpacker_deinit(struct md_unpacker *u)
{
	for (unsigned i = 0; i < NCODECS; i++)
		if (u->state[codecs[i]->id])
			codecs[i]->unpack_free(u->state[codecs[i]->id]);
	*u = (struct md_unpacker){0};
}

int md_unpack(struct md_unpacker *u, unsigned codec, const void *payload, uint32_t packed_len,
	      void *dst, uint32_t raw_len)
{
	const struct md_codec *c = md_codec_find(codec);

	if (codec == MD_CODEC_ZERO && packed_len == 0) {
		memset(dst, 0, raw_len);
		return 0;
	}
	if (codec == MD_CODEC_NONE && packed_len == raw_len) {
		memcpy(dst, payload, raw_len);
		return 0;
	}
	if (!c)
		return -EBADMSG;
	if (c->unpack_new && !u->state[codec]) {
		u->state[codec] = c->unpack_new();
		if (!u->state[codec])
			return -ENOMEM;
	}
	return c->unpack(u->state[codec], payload, packed_len, dst, raw_len) ? 0 : -EBADMSG;
}
