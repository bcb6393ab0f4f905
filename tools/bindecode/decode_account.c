/* SPDX-License-Identifier: MIT */
/* What a log handed out, beside what is there. */
#include <inttypes.h>

#include "tools/bindecode/decode_log.h"

/* So many streams a log may have before its numbers are those of a later log of the process. */
#define STREAMS_OF_A_LOG 65536u
/* The file grows in steps of this. */
#define STEP (4ULL << 20)
/* The longest block of a thread: its ring. */
#define BLOCK_MAX (BINLOG_ALIGN + (128ULL << 10))

static bool is_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* A block may stand at a multiple of its length, with a gap before it that is shorter than it. */
static bool is_alignment(uint64_t gap, uint64_t off, uint64_t len)
{
	return gap < len && off % len == 0;
}

static void end_empty(struct dec_log *log, uint64_t from, uint64_t len)
{
	if (!len)
		return;
	if (log->header.closed != 1) {
		log->counts.unfilled_bytes += len;
		return;
	}
	log->counts.empty_bytes += len;
	dec_log_add_note(log, from, len, "no block is here, though the log is closed");
}

static void account_blocks(struct dec_log *log)
{
	uint64_t end = log->header.next < log->src.len ? log->header.next : log->src.len;
	uint64_t off = BINLOG_ALIGN;
	uint64_t empty = 0;
	uint64_t from = off;
	uint8_t page[BINLOG_ALIGN];
	struct binlog_block h;

	while (off < end) {
		uint64_t to = off + BINLOG_ALIGN;
		ssize_t n;

		if (dec_index_header(log, off, &h) && h.len && h.len % BINLOG_ALIGN == 0) {
			if (!is_alignment(empty, off, h.len))
				end_empty(log, from, empty);
			if (h.len >= end - off)
				return;
			off += h.len;
			from = off;
			empty = 0;
			continue;
		}
		n = dec_source_read(&log->src, off, page, sizeof(page));
		if (n <= 0)
			return;
		if (is_zero(page, (size_t)n)) {
			uint64_t data = dec_source_data(&log->src, off);

			data -= data % BINLOG_ALIGN;
			to = data > to ? data : to;
			to = to < end ? to : end;
			empty += to - off;
		} else {
			end_empty(log, from, empty);
			empty = 0;
			from = to;
		}
		off = to;
	}
	end_empty(log, from, empty);
}

/* Counted when they were whole, before the walk that looked for them: none is still on its way. */
static void account_chunks(struct dec_log *log)
{
	uint64_t written = log->header.chunks;

	if (written > log->counts.chunks)
		log->counts.missing_chunks = written - log->counts.chunks;
}

static void account_streams(struct dec_log *log)
{
	uint32_t next = log->header.next_stream;
	uint32_t least = log->nstreams ? log->streams[0]->number : next;
	uint32_t first = least ? (least - 1) / STREAMS_OF_A_LOG * STREAMS_OF_A_LOG + 1 : 1;
	uint32_t there = 0;

	for (size_t i = 0; i < log->nstreams; i++)
		there += log->streams[i]->number >= first && log->streams[i]->number < next &&
			 log->streams[i]->nsegs;
	if (next <= first || there == next - first)
		return;
	if (log->header.closed == 1)
		log->counts.lost_streams = next - first - there;
	else
		log->counts.unbegun_streams = next - first - there;
}

/* What the ring of a stream counted as complete must be in a segment that is there. */
static void account_done(struct dec_log *log)
{
	for (size_t i = 0; i < log->nstreams; i++) {
		const struct dec_stream *s = log->streams[i];
		uint64_t at = dec_seg_of(log, s->done);

		if (!s->done || (s->nsegs && s->segs[s->nsegs - 1].pos >= at))
			continue;
		log->counts.missing_bytes += s->done - at;
		dec_log_add_note(log, 0, s->done - at,
				 "stream %u lacks its bytes from %" PRIu64 " to %" PRIu64,
				 s->number, at, s->done);
	}
}

/*
 * The end of a log that was not closed. The file grows to `preallocated`, in steps, when a block is
 * written behind what that was. A writer may have died before it grew, with a block of each of its
 * threads unwritten; in the first step there is no block then. One whose disk was full says that
 * it lost records.
 */
static bool is_cut(const struct dec_log *log)
{
	const struct binlog_header *h = &log->header;
	uint64_t len = log->src.len;

	if (h->next <= len || h->closed == 1)
		return h->next > len;
	if (h->preallocated <= len || h->lost_records)
		return false;
	if (!log->counts.blocks && (h->next_stream - 1) % STREAMS_OF_A_LOG == 0)
		return false;
	return len < STEP || h->preallocated - len > 2 * STEP ||
	       h->next - len > (uint64_t)(h->next_stream - 1) % STREAMS_OF_A_LOG * BLOCK_MAX;
}

void dec_log_account(struct dec_log *log)
{
	if (log->flags & (DEC_ADD_FOLLOW | DEC_ADD_TAIL))
		return;
	if (is_cut(log)) {
		log->counts.cut_bytes = log->header.next - log->src.len;
		dec_log_add_note(log, log->src.len, log->counts.cut_bytes,
				 "the file ends here, before its last block does");
	}
	account_blocks(log);
	account_chunks(log);
	account_streams(log);
	account_done(log);
}
