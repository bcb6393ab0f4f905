/* SPDX-License-Identifier: MIT */
/* Finds the blocks of a log and puts the segments of each stream in order. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "tools/bindecode/decode_log.h"
#include "tools/bindecode/decode_sum.h"

/* No segment begins behind it, or the place of the next one would come round to 0. */
#define POS_MAX (UINT64_MAX - DEC_SEG_MAX)

/* The count of what is complete stands so many bytes before the first slot. */
enum { DONE_BEFORE = 64 };

/* From a header's fields on, whatever its type means by them. */
static void swap_header(struct binlog_block *h)
{
	h->magic = binlog_le32(h->magic);
	h->type = binlog_le16(h->type);
	h->flags = binlog_le16(h->flags);
	h->tag = binlog_le32(h->tag);
	h->check = binlog_le32(h->check);
	h->offset = binlog_le64(h->offset);
	h->len = binlog_le64(h->len);
	switch (h->type) {
	case BINLOG_BLOCK_DICT:
	case BINLOG_BLOCK_ERRNO:
		h->dict.base = binlog_le32(h->dict.base);
		h->dict.count = binlog_le32(h->dict.count);
		h->dict.used = binlog_le64(h->dict.used);
		h->dict.sum = binlog_le64(h->dict.sum);
		break;
	case BINLOG_BLOCK_RING:
		h->ring.stream = binlog_le32(h->ring.stream);
		h->ring.pid = binlog_le32(h->ring.pid);
		h->ring.tid = binlog_le32(h->ring.tid);
		h->ring.nsegs = binlog_le32(h->ring.nsegs);
		h->ring.seg_len = binlog_le32(h->ring.seg_len);
		h->ring.data = binlog_le32(h->ring.data);
		break;
	default:
		h->seg.stream = binlog_le32(h->seg.stream);
		h->seg.pid = binlog_le32(h->seg.pid);
		h->seg.tid = binlog_le32(h->seg.tid);
		h->seg.used = binlog_le32(h->seg.used);
		h->seg.pos = binlog_le64(h->seg.pos);
		h->seg.sum = binlog_le64(h->seg.sum);
	}
}

static bool parse_header(const struct dec_log *log, uint64_t off, const void *p,
			 struct binlog_block *ret)
{
	struct binlog_block h;

	memcpy(&h, p, sizeof(h));
	if (binlog_le32(h.magic) != BINLOG_BLOCK_MAGIC || binlog_le32(h.tag) != log->tag ||
	    binlog_le64(h.offset) != off)
		return false;
	if ((uint32_t)dec_sum_without(p, sizeof(h), offsetof(struct binlog_block, check)) !=
	    binlog_le32(h.check))
		return false;
	swap_header(&h);
	*ret = h;
	return true;
}

bool dec_index_header(struct dec_log *log, uint64_t off, struct binlog_block *ret)
{
	uint8_t raw[sizeof(struct binlog_block)];

	return dec_source_read(&log->src, off, raw, sizeof(raw)) == (ssize_t)sizeof(raw) &&
	       parse_header(log, off, raw, ret);
}

/* The stream's place in the table, or where it would go. */
static size_t find_stream(const struct dec_log *log, uint32_t number)
{
	size_t lo = 0, hi = log->nstreams;

	if (hi && log->streams[hi - 1]->number < number)
		return hi;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (log->streams[mid]->number < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct dec_stream *get_stream(struct dec_log *log, uint32_t number)
{
	size_t i = find_stream(log, number);
	struct dec_stream **streams;
	struct dec_stream *s;

	if (i < log->nstreams && log->streams[i]->number == number)
		return log->streams[i];
	if ((log->nstreams & (log->nstreams - 1)) == 0) {
		size_t cap = log->nstreams ? 2 * log->nstreams : 1;

		streams = realloc(log->streams, cap * sizeof(*streams));
		if (!streams)
			return NULL;
		log->streams = streams;
		streams = realloc(log->heap, cap * sizeof(*streams));
		if (!streams)
			return NULL;
		log->heap = streams;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->log = log;
	s->number = number;
	memmove(log->streams + i + 1, log->streams + i,
		(log->nstreams - i) * sizeof(*log->streams));
	log->streams[i] = s;
	log->nstreams++;
	return s;
}

/* The segment at @pos of a stream, made if it is new; NULL: no memory. */
static struct dec_seg *get_seg(struct dec_stream *s, uint64_t pos)
{
	size_t i = s->nsegs;

	while (i && s->segs[i - 1].pos > pos)
		i--;
	if (i && s->segs[i - 1].pos == pos)
		return &s->segs[i - 1];
	if (s->nsegs == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 4;
		struct dec_seg *segs = realloc(s->segs, cap * sizeof(*segs));

		if (!segs)
			return NULL;
		s->segs = segs;
		s->cap = cap;
	}
	memmove(s->segs + i + 1, s->segs + i, (s->nsegs - i) * sizeof(*s->segs));
	s->segs[i] = (struct dec_seg){.pos = pos};
	s->nsegs++;
	if (s->loaded && i <= s->seg)
		s->seg++;
	return &s->segs[i];
}

/* The EPOCH that a segment opens with; ticks 0: there is none. */
static struct dec_point first_epoch(const struct dec_log *log, uint64_t off)
{
	uint8_t raw[32];
	struct dec_point p = {0};
	struct bytes b = bytes_of(raw, sizeof(raw));

	off += sizeof(struct binlog_block);
	if (dec_source_read(&log->src, off, raw, sizeof(raw)) != (ssize_t)sizeof(raw) ||
	    bytes_u64(&b) >> BINLOG_SITE_SHIFT != BINLOG_R_EPOCH)
		return p;
	p.ticks = bytes_u64(&b);
	p.mono_ns = (int64_t)bytes_u64(&b);
	p.real_ns = (int64_t)bytes_u64(&b);
	return p;
}

static int add_seg(struct dec_log *log, uint64_t off, const struct binlog_block *h,
		   const struct dec_seg *found, struct err *err)
{
	struct dec_stream *s = get_stream(log, h->seg.stream);
	struct dec_seg *seg = s ? get_seg(s, h->seg.pos) : NULL;

	if (!seg)
		return err_set(err, ENOMEM, "index %s", log->name);
	if (found->chunk) {
		log->fresh |= !seg->chunk;
		seg->chunk = found->chunk;
		seg->sum = found->sum;
		seg->used = found->used;
		seg->cut = found->cut;
	} else {
		log->fresh |= !seg->slot && !seg->chunk;
		seg->slot = found->slot;
		seg->len = found->len;
		seg->done = found->done;
	}
	seg->pid = h->seg.pid;
	seg->tid = h->seg.tid;
	if (!seg->epoch.ticks)
		seg->epoch = first_epoch(log, off);
	return 0;
}

static int add_chunk(struct dec_log *log, uint64_t off, const struct binlog_block *h,
		     struct err *err)
{
	struct dec_seg found = {.chunk = off, .sum = h->seg.sum};
	uint64_t used = sizeof(*h) + (uint64_t)h->seg.used;

	if (used > h->len || used > DEC_SEG_MAX || h->seg.pos > POS_MAX) {
		log->counts.bad_chunks++;
		dec_log_add_note(log, off, h->len, "a chunk longer than its block or its stream");
		return 0;
	}
	found.cut = off + used > log->src.len;
	found.used = (uint32_t)(found.cut ? log->src.len - off : used);
	log->counts.chunks++;
	return add_seg(log, off, h, &found, err);
}

/* Its slots fit into it. */
static bool is_ring(const struct binlog_block *h)
{
	return h->ring.seg_len >= 4096 && h->ring.seg_len <= DEC_SEG_MAX &&
	       !(h->ring.seg_len & (h->ring.seg_len - 1)) && h->ring.data >= sizeof(*h) &&
	       h->ring.data + (uint64_t)h->ring.nsegs * h->ring.seg_len <= h->len;
}

static int add_ring(struct dec_log *log, uint64_t off, const struct binlog_block *h,
		    struct err *err)
{
	uint64_t *rings;

	if (!is_ring(h)) {
		log->counts.skipped_bytes += h->len;
		dec_log_add_note(log, off, h->len, "a ring whose slots do not fit into it");
		return 0;
	}
	if ((log->nrings & (log->nrings - 1)) == 0) {
		rings = realloc(log->rings, (log->nrings ? 2 * log->nrings : 1) * sizeof(*rings));
		if (!rings)
			return err_set(err, ENOMEM, "index %s", log->name);
		log->rings = rings;
	}
	log->rings[log->nrings++] = off;
	log->ring_seg_len = h->ring.seg_len;
	log->counts.rings++;
	return 0;
}

/*
 * How far the records of the thread are complete, by the count that it keeps in the page of its
 * ring; read before the slots, which may have more by then. 0: there is none.
 */
static int read_done(struct dec_log *log, uint64_t ring, const struct binlog_block *h,
		     uint64_t *ret, struct err *err)
{
	struct dec_stream *s;
	uint64_t done;

	*ret = 0;
	if (h->ring.data < sizeof(*h) + sizeof(struct binlog_ring_state) + DONE_BEFORE ||
	    dec_source_read(&log->src, ring + h->ring.data - DONE_BEFORE, &done, sizeof(done)) !=
		    (ssize_t)sizeof(done))
		return 0;
	done = log->header.big_endian ? __builtin_bswap64(binlog_le64(done)) : binlog_le64(done);
	if (done <= (uint64_t)h->ring.stream << 36 || done > POS_MAX)
		return 0;
	s = get_stream(log, h->ring.stream);
	if (!s)
		return err_set(err, ENOMEM, "index %s", log->name);
	s->done = done > s->done ? done : s->done;
	*ret = done;
	return 0;
}

/*
 * The segment before the newest one may be in a slot alone, and may have come there after the slot
 * was looked at. So all are looked at again but the last: what was in a slot when a later one
 * showed up elsewhere is in a chunk before it goes.
 */
static int read_slots(struct dec_log *log, uint64_t ring, struct err *err)
{
	struct binlog_block h, slot;
	uint64_t nlooks, done;
	int r = 0;

	/* Of a live log, this may be another header than the one that was looked at. */
	if (!dec_index_header(log, ring, &h) || h.type != BINLOG_BLOCK_RING || !h.ring.nsegs ||
	    !is_ring(&h) || h.len > log->src.len - ring)
		return 0;
	r = read_done(log, ring, &h, &done, err);
	nlooks = log->header.closed == 1 ? h.ring.nsegs : 2ull * h.ring.nsegs - 1;
	for (uint64_t i = 0; !r && i < nlooks; i++) {
		uint64_t off = ring + h.ring.data + i % h.ring.nsegs * h.ring.seg_len;
		struct dec_seg found = {.slot = off, .len = h.ring.seg_len};
		uint64_t data = dec_source_data(&log->src, off);

		if (data >= off + h.ring.seg_len) {
			/* A hole: no slot before its end, or the ring's, whose first comes next. */
			uint64_t skip = (data - off) / h.ring.seg_len;
			uint64_t left = h.ring.nsegs - i % h.ring.nsegs;

			i += (skip < left ? skip : left) - 1;
			continue;
		}

		if (!dec_index_header(log, off, &slot) || slot.type != BINLOG_BLOCK_SEG ||
		    slot.len != h.ring.seg_len || slot.seg.pos > POS_MAX ||
		    off + h.ring.seg_len > log->src.len)
			continue;
		found.done = slot.seg.stream == h.ring.stream ? done : 0;
		r = add_seg(log, off, &slot, &found, err);
	}
	return r;
}

static bool is_known(const struct dec_log *log, uint64_t off, const struct binlog_block *h)
{
	if (h->type == BINLOG_BLOCK_RING) {
		for (uint32_t i = 0; i < log->nrings; i++)
			if (log->rings[i] == off)
				return true;
	} else if (h->type == BINLOG_BLOCK_CHUNK) {
		size_t i = find_stream(log, h->seg.stream);
		const struct dec_stream *s = i < log->nstreams ? log->streams[i] : NULL;

		if (!s || s->number != h->seg.stream)
			return false;
		for (size_t k = s->nsegs; k-- > 0 && s->segs[k].pos >= h->seg.pos;)
			if (s->segs[k].pos == h->seg.pos)
				return s->segs[k].chunk == off && !s->segs[k].cut;
	} else {
		for (uint32_t i = 0; i < log->ndicts; i++)
			if (log->dicts[i] == off)
				return true;
	}
	return false;
}

static int remember_dict(struct dec_log *log, uint64_t off, struct err *err)
{
	if ((log->ndicts & (log->ndicts - 1)) == 0) {
		size_t cap = log->ndicts ? 2 * log->ndicts : 1;
		uint64_t *dicts = realloc(log->dicts, cap * sizeof(*dicts));

		if (!dicts)
			return err_set(err, ENOMEM, "index %s", log->name);
		log->dicts = dicts;
	}
	log->dicts[log->ndicts++] = off;
	return 0;
}

static int add_block(struct dec_log *log, uint64_t off, const struct binlog_block *h,
		     struct err *err)
{
	int r;

	if (is_known(log, off, h))
		return 0;
	log->counts.blocks++;
	switch (h->type) {
	case BINLOG_BLOCK_CHUNK:
		return add_chunk(log, off, h, err);
	case BINLOG_BLOCK_RING:
		return add_ring(log, off, h, err);
	case BINLOG_BLOCK_DICT:
		r = remember_dict(log, off, err);
		return r ? r : dec_dict_read(log, off, h, err);
	case BINLOG_BLOCK_ERRNO:
		r = remember_dict(log, off, err);
		return r ? r : dec_errno_read(log, off, h, err);
	default:
		log->counts.later_kinds++;
		return remember_dict(log, off, err);
	}
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return len == 0 || (p[0] == 0 && !memcmp(p, p + 1, len - 1));
}

/* True: @h may stand at @off of this file. */
static bool is_block(const struct dec_log *log, uint64_t off, const struct binlog_block *h)
{
	if (!h->len || h->len % BINLOG_ALIGN || h->type == BINLOG_BLOCK_SEG)
		return false;
	return h->len <= log->src.len - off || h->type == BINLOG_BLOCK_CHUNK;
}

/* Of a live log: remembers an area that may still become a block. */
static int add_gap(struct dec_log *log, uint64_t from, uint64_t to, unsigned age, struct err *err)
{
	struct dec_gap *last = log->ngaps ? &log->gaps[log->ngaps - 1] : NULL;
	struct dec_gap *gaps;

	if (last && last->to == from && last->age == age) {
		last->to = to;
		return 0;
	}
	gaps = realloc(log->gaps, (log->ngaps + 1) * sizeof(*gaps));
	if (!gaps)
		return err_set(err, ENOMEM, "index %s", log->name);
	log->gaps = gaps;
	log->gaps[log->ngaps++] = (struct dec_gap){from, to, age};
	return 0;
}

/* A run of bytes that are not zero and belong to no block. */
struct skipped {
	uint64_t from;
	uint64_t len;
};

static void end_skipped(struct dec_log *log, struct skipped *g)
{
	/* While the log is live, this may be a block that is being written. */
	if (g->len && !log->walked && !(log->flags & DEC_ADD_FOLLOW)) {
		log->counts.skipped_bytes += g->len;
		dec_log_add_note(log, g->from, g->len, "no block begins here");
	}
	g->len = 0;
}

/* Walks the blocks between @off and @end; @age: how often that was tried before. */
static int walk(struct dec_log *log, uint64_t off, uint64_t end, unsigned age, struct err *err)
{
	struct skipped skipped = {0};
	uint8_t page[BINLOG_ALIGN];
	struct binlog_block h;
	int r = 0;

	while (!r && off < end) {
		ssize_t n = dec_source_read(&log->src, off, page, sizeof(page));
		uint64_t to = off + BINLOG_ALIGN;

		if (n < 0)
			return err_set(err, (int)-n, "read %s at %" PRIu64, log->name, off);
		if (n == 0)
			break;
		if ((size_t)n >= sizeof(h) && parse_header(log, off, page, &h) &&
		    is_block(log, off, &h)) {
			end_skipped(log, &skipped);
			r = add_block(log, off, &h, err);
			to = h.len < end - off ? off + h.len : end;
			if (h.len <= log->src.len - off) {
				off = to;
				continue;
			}
		} else if (all_zero(page, (size_t)n)) {
			end_skipped(log, &skipped);
			to = dec_source_data(&log->src, off);
			to -= to % BINLOG_ALIGN;
			to = to > off ? to : off + BINLOG_ALIGN;
			to = to < end ? to : end;
		} else {
			skipped.from = skipped.len ? skipped.from : off;
			skipped.len += (uint64_t)n;
		}
		if (!r && log->flags & DEC_ADD_FOLLOW)
			r = add_gap(log, off, to, age + 1, err);
		off = to;
	}
	end_skipped(log, &skipped);
	return r;
}

/* Looks again at what was no block before; at what has been none for long only now and then. */
static int walk_gaps(struct dec_log *log, struct err *err)
{
	struct dec_gap *gaps = log->gaps;
	size_t n = log->ngaps;
	int r = 0;

	log->gaps = NULL;
	log->ngaps = 0;
	log->round++;
	for (size_t i = 0; !r && i < n; i++) {
		if (gaps[i].age < 200 || log->round % 64 == 0)
			r = walk(log, gaps[i].from, gaps[i].to, gaps[i].age, err);
		else
			r = add_gap(log, gaps[i].from, gaps[i].to, gaps[i].age, err);
	}
	free(gaps);
	return r;
}

/* The length of a segment: the rings know it, else the nearest two of one stream tell. */
static uint64_t find_seg_len(const struct dec_log *log)
{
	uint64_t least = UINT64_MAX;

	if (log->ring_seg_len)
		return log->ring_seg_len;
	for (size_t i = 0; i < log->nstreams; i++) {
		const struct dec_stream *s = log->streams[i];

		for (size_t k = 1; k < s->nsegs; k++)
			if (s->segs[k].pos - s->segs[k - 1].pos < least)
				least = s->segs[k].pos - s->segs[k - 1].pos;
	}
	return least == UINT64_MAX ? BINLOG_ALIGN : least;
}

/* Nothing was added to a file that is not followed. */
static bool is_unchanged(const struct dec_log *log)
{
	return !(log->flags & DEC_ADD_FOLLOW) && log->walked && log->walked_len == log->src.len &&
	       log->walked_next == log->header.next;
}

/* Blocks that were not there before. */
static int walk_new(struct dec_log *log, struct err *err)
{
	bool live = log->flags & DEC_ADD_FOLLOW;
	uint64_t end = log->src.len;
	int r = 0;

	if (is_unchanged(log))
		return 0;
	log->walked_len = end;
	log->walked_next = log->header.next;
	/* What lies behind `next` of a live log is space got in advance. */
	if (live && log->header.next < end)
		end = log->header.next > log->walk_from ? log->header.next : log->walk_from;
	if (live)
		r = walk_gaps(log, err);
	r = r ? r : walk(log, log->walk_from, end, 0, err);
	if (live && end > log->walk_from)
		log->walk_from = end;
	log->walked = true;
	return r;
}

/*
 * Slots first, then blocks: when a slot shows a segment, the ones before it are in chunks or in
 * other slots. The other way round a fast writer's chunks of the moment between would be missing.
 */
int dec_index_walk(struct dec_log *log, struct err *err)
{
	uint32_t nrings;
	int r = log->walked ? dec_log_reread(log, err) : 0;

	if (r || is_unchanged(log))
		return r;
	do {
		nrings = log->nrings;
		for (uint32_t i = 0; !r && i < nrings; i++)
			r = read_slots(log, log->rings[i], err);
		r = r ? r : dec_log_reread(log, err);
		r = r ? r : walk_new(log, err);
	} while (!r && log->nrings != nrings);
	log->seg_len = find_seg_len(log);
	return r;
}
