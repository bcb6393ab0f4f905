/* SPDX-License-Identifier: MIT */
/* The decoder of binary logs on arbitrary bytes. */
/* timeout: 300 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "binlog/format.h"
#include "tools/bindecode/decode.h"
#include "tools/bindecode/decode_line.h"
#include "tools/bindecode/decode_sum.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum {
	PAGE = 4096,
	INPUT_MAX = 1 << 20,
	/* Of all records: each of 8 bytes may ask for megabytes; that is slow, not wrong. */
	TEXT_MAX = 8 << 20,
};

static volatile uint64_t sink;

static void see_log(const struct dec_log *log)
{
	const struct dec_note *note;
	uint32_t cookie = 0;
	struct dec_site *s;

	for (unsigned i = 0; (note = dec_log_note(log, i)); i++)
		sink += note->off + note->len + strlen(note->text);
	while ((s = dec_log_site(log, &cookie)))
		sink += strlen(s->fmt) + strlen(s->file) + strlen(s->func);
}

static void see_records(struct decode *d, struct dec_prefix *prefix)
{
	struct dec_record rec;
	struct dec_buf line;
	uint64_t total = 0;

	dec_buf_init(&line);
	while (total < TEXT_MAX && decode_next(d, &rec, NULL) > 0) {
		line.len = 0;
		if (rec.event == DEC_CALL)
			decode_text(&rec, &line);
		if (line.len > DEC_TEXT_MAX + 4 * rec.len)
			abort(); /* no record may ask for all memory */
		dec_line_put(prefix, &rec, &line);
		total += line.len;
		if (line.len)
			sink += (uint8_t)line.p[line.len - 1];
		sink += (uint64_t)decode_real_ns(&rec);
	}
	dec_buf_deinit(&line);
}

static void decode(const uint8_t *data, size_t len, unsigned flags)
{
	struct err err = {0};
	struct decode *d = NULL;
	struct dec_prefix *prefix = NULL;

	if (decode_new(&d, &err) || dec_prefix_new(&prefix, "(%t %T) %c %5l %f:%n: ", true, &err))
		abort();
	if (decode_add_mem(d, "log", data, len, flags, &err) == 0) {
		see_records(d, prefix);
		if (flags & DEC_ADD_FOLLOW && decode_refresh(d, &err) > 0)
			see_records(d, prefix);
		see_log(decode_log(d, 0));
	} else if (!err.msg[0]) {
		abort(); /* a refusal says why */
	}
	dec_prefix_free(prefix);
	decode_free(d);
}

/* --- sums put right: or they would keep every change out -------------------------------------- */

static uint32_t get32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void seal(uint8_t *p, size_t n, size_t check)
{
	bytes_put_u32(p + check, 0);
	bytes_put_u32(p + check, (uint32_t)dec_sum(p, n));
}

static void seal_block(uint8_t *p, size_t off, const uint8_t *tag)
{
	memcpy(p + 8, tag, 4);
	bytes_put_u64(p + 16, off);
	seal(p, 64, 12);
}

static void seal_slots(uint8_t *data, size_t len, size_t off)
{
	uint32_t nsegs = get32(data + off + 44);
	uint32_t seg_len = get32(data + off + 48);
	uint64_t at = off + get32(data + off + 52);

	for (uint32_t i = 0; i < nsegs && i < 64 && at + 64 <= len; i++, at += seg_len)
		if (get32(data + at) == BINLOG_BLOCK_MAGIC)
			seal_block(data + at, at, data + 24);
}

static void put_right(uint8_t *data, size_t len)
{
	if (len < PAGE)
		return;
	seal(data, 512, 20);
	for (size_t off = PAGE; off + 64 <= len; off += PAGE) {
		uint8_t *p = data + off;
		unsigned type = get32(p + 4) & 0xffff;
		uint64_t used = get32(p + 40) | (uint64_t)get32(p + 44) << 32;

		if (get32(p) != BINLOG_BLOCK_MAGIC)
			continue;
		if (type == BINLOG_BLOCK_RING)
			seal_slots(data, len, off);
		if (type == BINLOG_BLOCK_CHUNK)
			used = get32(p + 44);
		if (type == BINLOG_BLOCK_CHUNK && used <= len - off - 64)
			bytes_put_u64(p + 56, dec_sum(p + 64, used));
		if ((type == BINLOG_BLOCK_DICT || type == BINLOG_BLOCK_ERRNO) &&
		    used <= len - off - 64)
			bytes_put_u64(p + 48, dec_sum(p + 64, used));
		seal_block(p, off, data + 24);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t copy[INPUT_MAX];

	if (len > INPUT_MAX)
		return 0;
	decode(data, len, DEC_ADD_FORCE);
	memcpy(copy, data, len);
	put_right(copy, len);
	decode(copy, len, len % 3 == 0 ? DEC_ADD_FOLLOW : len % 3 == 1 ? DEC_ADD_TAIL : 0);
	return 0;
}
