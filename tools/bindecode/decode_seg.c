/* SPDX-License-Identifier: MIT */
/* Brings a segment into memory, from its chunk or from its slot in a ring. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "tools/bindecode/decode_log.h"
#include "tools/bindecode/decode_sum.h"

enum { HEAD = sizeof(struct binlog_block) };

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return binlog_le64(v);
}

static int grow_buf(struct dec_stream *s, size_t len, struct err *err)
{
	uint8_t *p;

	if (s->buf_cap >= len)
		return 0;
	p = realloc(s->buf, len);
	if (!p)
		return err_set(err, ENOMEM, "read %s", s->log->name);
	s->buf = p;
	s->buf_cap = len;
	return 0;
}

/* 1: the chunk is in buf, its sum is right; 0: it is not. */
static int load_chunk(struct dec_stream *s, const struct dec_seg *seg, struct err *err)
{
	ssize_t n;
	int r = grow_buf(s, seg->used, err);

	if (r)
		return r;
	n = dec_source_read(&s->log->src, seg->chunk, s->buf, seg->used);
	if (n < 0)
		return err_set(err, (int)-n, "read %s at %" PRIu64, s->log->name, seg->chunk);
	s->end = (uint32_t)n;
	s->settled = s->end;
	s->from_slot = false;
	s->damaged = n < HEAD || seg->cut || dec_sum(s->buf + HEAD, (size_t)n - HEAD) != seg->sum;
	return !s->damaged;
}

static bool is_slot_of(const struct dec_stream *s, const struct dec_seg *seg)
{
	struct binlog_block h;

	return dec_index_header(s->log, seg->slot, &h) && h.type == BINLOG_BLOCK_SEG &&
	       h.seg.stream == s->number && h.seg.pos == seg->pos;
}

/*
 * 1: the slot is in buf; 0: it has been given to a later segment meanwhile. Read twice: a record
 * whose word the first read saw is complete in the second.
 */
static int load_slot(struct dec_stream *s, const struct dec_seg *seg, struct err *err)
{
	ssize_t n;
	int r = grow_buf(s, seg->len, err);

	if (r)
		return r;
	s->newest = s->seg + 1 == s->nsegs;
	for (int i = 0; i < 2; i++) {
		n = dec_source_read(&s->log->src, seg->slot, s->buf, seg->len);
		if (n < 0)
			return err_set(err, (int)-n, "read %s at %" PRIu64, s->log->name,
				       seg->slot);
		if (n < HEAD)
			return 0;
		if (i == 0) {
			s->settled = (uint32_t)n & ~7u;
			while (s->settled > HEAD && !load64(s->buf + s->settled - 8))
				s->settled -= 8;
		}
	}
	s->end = (uint32_t)n;
	s->from_slot = true;
	s->damaged = false;
	return is_slot_of(s, seg);
}

uint64_t dec_seg_of(const struct dec_log *log, uint64_t done)
{
	return done ? (done - 1) & ~(log->seg_len - 1) : 0;
}

/*
 * In the segment that the ring is at, so many bytes of records are whole as it counts; more may be.
 * The one before it was left when all of its records were, so nothing lies between them, and what
 * is free behind them is shorter than the record that did not fit.
 */
uint32_t dec_seg_short(const struct dec_stream *s)
{
	const struct dec_seg *seg = &s->segs[s->seg];
	uint64_t at = dec_seg_of(s->log, seg->done);
	uint64_t want;

	if (!s->from_slot || !seg->done || at < seg->pos)
		return 0;
	if (at == seg->pos)
		want = seg->done - seg->pos;
	else if (s->end - s->last > BINLOG_RECORD_MAX)
		want = s->end;
	else
		want = s->last;
	return want > s->complete ? (uint32_t)(want - s->complete) : 0;
}

int dec_seg_load(struct dec_stream *s, struct err *err)
{
	struct dec_log *log = s->log;
	struct dec_seg *seg = &s->segs[s->seg];
	int r = 0;

	if (seg->chunk)
		r = load_chunk(s, seg, err);
	if (r == 0 && seg->slot) {
		r = load_slot(s, seg, err);
		log->counts.torn_chunks += r == 1 && seg->chunk;
	}
	if (r == 0 && seg->chunk) {
		r = load_chunk(s, seg, err);
		if (r < 0)
			return r;
		log->counts.bad_chunks++;
		dec_log_add_note(log, seg->chunk, seg->used,
				 "a chunk of stream %u (tid %u) whose sum is wrong", s->number,
				 seg->tid);
		r = 1;
	}
	return r;
}
