/* SPDX-License-Identifier: MIT */
/* Walks the records of one thread, segment by segment, past gaps and damage. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "tools/bindecode/decode_log.h"

enum { HEAD = sizeof(struct binlog_block) };

static inline uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return binlog_le64(v);
}

static uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return binlog_le32(v);
}

void dec_stream_free(struct dec_stream *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->nfrags; i++)
		dec_buf_deinit(&s->frags[i].data);
	free(s->frags);
	dec_buf_deinit(&s->whole);
	if (s->inlined)
		dec_site_free(s->inlined);
	free(s->inlined);
	free(s->inlined_def);
	free(s->segs);
	free(s->buf);
	free(s);
}

/* --- segments --------------------------------------------------------------------------------- */

static void end_skip(struct dec_stream *s);

static void note_missing(struct dec_stream *s, uint64_t from, uint64_t to)
{
	if (from >= to)
		return;
	s->log->counts.missing_bytes += to - from;
	dec_log_add_note(s->log, 0, to - from,
			 "stream %u (tid %u) lacks its bytes from %" PRIu64 " to %" PRIu64,
			 s->number, s->tid, from, to);
}

/* The first word from @at on that is not zero; behind the last one if there is none. */
static uint32_t skip_zeros(const struct dec_stream *s, uint32_t at)
{
	while (at + 8 <= s->end && !load64(s->buf + at))
		at += 8;
	return at;
}

static bool is_rest_zero(const struct dec_stream *s, uint32_t at)
{
	return skip_zeros(s, at) + 8 > s->end;
}

static void begin(struct dec_stream *s, const struct dec_seg *seg)
{
	/* A stream begins at 2^36 times its number; of a tail that is read, somewhere. */
	if (s->begun)
		note_missing(s, s->want, seg->pos);
	else if (seg->pos >> 36 == s->number && !(s->log->flags & DEC_ADD_TAIL))
		note_missing(s, (uint64_t)s->number << 36, seg->pos);
	s->begun = true;
	s->pid = seg->pid;
	s->tid = seg->tid;
	s->loaded = true;
	s->at = HEAD;
	s->skipped = 0;
	s->complete = HEAD;
	s->last = HEAD;
	s->anchor = seg->epoch.ticks;
	if (!s->anchor || (s->damaged && s->ticks))
		s->anchor = s->ticks ? s->ticks : s->log->header.open.ticks;
	s->key_before = s->key;
}

/* Finds the next segment: 1, or 0 if there is none. */
static int find_next(struct dec_stream *s, struct err *err)
{
	for (int look = 0;; look++) {
		int r;

		while (s->seg < s->nsegs && s->segs[s->seg].pos < s->want)
			s->seg++;
		if (s->seg == s->nsegs)
			return 0;
		if (look || !s->begun || s->segs[s->seg].pos == s->want)
			return 1;
		/* One is missing: it may have been on its way when we looked for it. */
		r = dec_index_walk(s->log, err);
		if (r)
			return r;
	}
}

/* Puts the next segment into buf: 1, or 0 if there is none. */
static int load_next(struct dec_stream *s, struct err *err)
{
	struct dec_log *log = s->log;

	for (;;) {
		uint64_t pos;
		int r;

		r = find_next(s, err);
		if (r <= 0)
			return r;
		pos = s->segs[s->seg].pos;
		r = dec_seg_load(s, err);
		if (r == 0) { /* its slot serves a later segment: it must be a chunk by now */
			s->segs[s->seg].slot = 0;
			r = dec_index_walk(log, err);
			while (s->seg < s->nsegs && s->segs[s->seg].pos < pos)
				s->seg++;
			r = r ? r : dec_seg_load(s, err);
		}
		if (r < 0)
			return r;
		if (r == 1) {
			begin(s, &s->segs[s->seg]);
			return 1;
		}
		note_missing(s, pos, pos + log->seg_len);
		s->begun = true;
		s->want = pos + log->seg_len;
	}
}

int dec_stream_reload(struct dec_stream *s, struct err *err)
{
	const struct dec_seg *seg = &s->segs[s->seg];
	uint8_t word[8];
	int r;

	if (!s->loaded || !s->from_slot)
		return 0;
	if (!seg->chunk && s->at + 8 <= s->end && !s->waits && is_rest_zero(s, s->at) &&
	    dec_source_read(&s->log->src, seg->slot + s->at, word, 8) == 8 && !load64(word) &&
	    s->seg + 1 == s->nsegs)
		return 0;
	r = dec_seg_load(s, err);
	if (r ==
	    0) { /* its slot serves a later segment, which is in buf: it must be a chunk by now */
		s->segs[s->seg].slot = 0;
		r = dec_index_walk(s->log, err);
		r = r ? r : dec_seg_load(s, err);
	}
	if (r == 0) {
		note_missing(s, s->segs[s->seg].pos + s->at, s->segs[s->seg].pos + s->log->seg_len);
		s->end = s->at;
	}
	return r < 0 ? r : 0;
}

/* Records that are zero as a whole leave no other trace. */
static void note_short(struct dec_stream *s)
{
	uint32_t n = s->log->flags & DEC_ADD_FOLLOW ? 0 : dec_seg_short(s);

	if (!n)
		return;
	s->log->counts.missing_bytes += n;
	dec_log_add_note(s->log, s->segs[s->seg].slot, n,
			 "stream %u (tid %u) had more records in this slot", s->number, s->tid);
}

static void unload(struct dec_stream *s)
{
	end_skip(s);
	note_short(s);
	s->want = s->segs[s->seg].pos + s->log->seg_len;
	s->loaded = false;
	/* A stamp that damage made up shall not hold back the rest. */
	if (s->damaged && s->key_before)
		s->key = s->key_before;
	if (s->seg + 1 == s->nsegs && !(s->log->flags & DEC_ADD_FOLLOW)) {
		free(s->buf);
		s->buf = NULL;
		s->buf_cap = 0;
	}
}

/* --- damage ----------------------------------------------------------------------------------- */

static void skip(struct dec_stream *s, uint32_t n)
{
	if (!s->skipped)
		s->skip_from = s->at;
	s->skipped += n;
	s->at += n;
}

static void end_skip(struct dec_stream *s)
{
	const struct dec_seg *seg = &s->segs[s->seg];
	uint64_t off = (s->from_slot ? seg->slot : seg->chunk) + s->skip_from;

	if (s->skipped) {
		s->complete += s->skipped;
		s->last = s->at;
		s->log->counts.skipped_bytes += s->skipped;
		dec_log_add_note(s->log, off, s->skipped, "no record of stream %u (tid %u)",
				 s->number, s->tid);
	}
	s->skipped = 0;
}

/* --- records ---------------------------------------------------------------------------------- */

static void set_ticks(struct dec_stream *s, uint32_t stamp)
{
	s->ticks = s->anchor + (uint64_t)(int64_t)(int32_t)(stamp - (uint32_t)s->anchor);
	if (s->ticks > s->key)
		s->key = s->ticks;
}

static bool is_padding(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* The arguments of @site take @len bytes, less than a word of padding included. */
static bool is_fit(const struct dec_site *site, const uint8_t *p, uint64_t len)
{
	int64_t need = dec_site_need(site, p, len);

	return need >= 0 && len - (uint64_t)need < 8 &&
	       is_padding(p + need, (size_t)(len - (uint64_t)need));
}

/* The segment has more behind a record without text, by the count of its ring or behind zeros. */
static bool is_followed(const struct dec_stream *s, const uint8_t *p, uint64_t len)
{
	const struct dec_seg *seg = &s->segs[s->seg];

	if (!s->from_slot || !seg->done)
		return false;
	if (dec_seg_of(s->log, seg->done) == seg->pos)
		return seg->done - seg->pos > s->complete + 8 + len;
	return !is_rest_zero(s, (uint32_t)(p - s->buf + (ptrdiff_t)len));
}

/*
 * The end of the record was zeroed with the rest of its page. Its texts, which have no NULs, show
 * that: all is zero from a page on through the last byte of text, and in the word behind.
 */
static bool is_zeroed(const struct dec_stream *s, const struct dec_site *site, const uint8_t *p,
		      uint64_t len)
{
	uint64_t need = (uint64_t)dec_site_need(site, p, len);
	const struct dec_seg *seg = &s->segs[s->seg];
	uint64_t off, to, page;

	if (need <= site->fixed ? !is_followed(s, p, len) : p[need - 1])
		return false;
	off = (uint64_t)(p - s->buf) + (s->from_slot ? seg->slot : seg->chunk);
	to = off + len;
	page = (to - 1) & ~(uint64_t)(BINLOG_ALIGN - 1);
	if (page < off)
		return false;
	page -= off;
	return is_padding(p + page, (size_t)(len - page)) &&
	       (p + len + 8 > s->buf + s->end || !load64(p + len));
}

static int set_head(struct dec_stream *s, struct dec_site *site, const uint8_t *args, uint64_t len,
		    uint32_t stamp)
{
	struct dec_record *r = &s->head;

	set_ticks(s, stamp);
	r->event = DEC_CALL;
	r->site = site;
	r->args = args;
	r->len = len;
	r->level = dec_site_level(site, args);
	return 1;
}

/* A call that brings its own entry: 1, 0 if it is none, -ENOMEM. The entry is kept for the next. */
static int take_inline(struct dec_stream *s, const uint8_t *p, uint64_t len, uint32_t stamp,
		       uint64_t total)
{
	struct bytes b = bytes_of(p, len);
	struct dec_site site;
	uint8_t *def;
	size_t n = s->inlined_len;
	int r;

	if (!n || n > len || memcmp(p, s->inlined_def, n)) {
		r = dec_site_make(&site, &b, BINLOG_R_INLINE, &s->log->world);
		if (r)
			return r == -EBADMSG ? 0 : r;
		n = b.pos;
		def = realloc(s->inlined_def, n);
		if (def)
			s->inlined_def = def;
		if (!s->inlined)
			s->inlined = calloc(1, sizeof(*s->inlined));
		if (!def || !s->inlined) {
			dec_site_free(&site);
			s->inlined_len = 0;
			return -ENOMEM;
		}
		memcpy(def, p, n);
		dec_site_free(s->inlined);
		*s->inlined = site;
		s->inlined_len = n;
		s->log->counts.bad_sites += site.fault != NULL;
	}
	if (!is_fit(s->inlined, p + n, len - n))
		return 0;
	return set_head(s, s->inlined, p + n, total, stamp);
}

/* A call: 1, 0 if it is none, -ENOMEM; @p is behind the word, @len without it. */
static int take_call(struct dec_stream *s, uint32_t id, const uint8_t *p, uint64_t len,
		     uint32_t stamp)
{
	const struct dec_log *log = s->log;
	struct dec_site *site;

	if (id == BINLOG_R_INLINE)
		return take_inline(s, p, len, stamp, len + 8);
	site = id < log->nsites ? log->sites[id] : NULL;
	if (!site || !is_fit(site, p, len))
		return 0;
	if ((s->from_slot || s->damaged) && p >= s->buf && p < s->buf + s->end &&
	    is_zeroed(s, site, p, len))
		return 0;
	return set_head(s, site, p, len + 8, stamp);
}

static void drop_fragment(struct dec_stream *s, unsigned i)
{
	s->log->counts.broken_fragments++;
	dec_buf_deinit(&s->frags[i].data);
	s->frags[i] = s->frags[--s->nfrags];
}

static struct dec_fragment *find_fragment(struct dec_stream *s, uint32_t id, uint64_t total,
					  uint64_t offset)
{
	unsigned i;

	for (i = 0; i < s->nfrags && s->frags[i].id != id; i++)
		;
	if (i < s->nfrags &&
	    (!offset || s->frags[i].total != total || s->frags[i].data.len != offset)) {
		drop_fragment(s, i);
		s->stray = id;
		s->has_stray = true;
		i = s->nfrags;
	}
	if (i < s->nfrags)
		return &s->frags[i];
	if (offset) { /* a tail, without its beginning: a long record less */
		if (!(s->has_stray && s->stray == id) && !(s->log->flags & DEC_ADD_TAIL))
			s->log->counts.broken_fragments++;
		s->stray = id;
		s->has_stray = true;
		return NULL;
	}
	if (s->has_stray && s->stray == id)
		s->has_stray = false;
	if (!s->frags)
		s->frags = calloc(DEC_FRAGMENTS_MAX, sizeof(*s->frags));
	if (!s->frags)
		return NULL;
	if (s->nfrags == DEC_FRAGMENTS_MAX)
		drop_fragment(s, 0);
	s->frags[s->nfrags] = (struct dec_fragment){.id = id, .total = total};
	dec_buf_init(&s->frags[s->nfrags].data);
	return &s->frags[s->nfrags++];
}

/* A piece of a long record: 1 when it completes a call, 2 when not, 0 if it is no fragment. */
static int take_fragment(struct dec_stream *s, const uint8_t *p, uint64_t len)
{
	struct bytes b = bytes_of(p, len);
	uint32_t id = bytes_u32(&b);
	uint32_t n = bytes_u32(&b);
	uint64_t total = bytes_u64(&b);
	uint64_t offset = bytes_u64(&b);
	const uint8_t *data = bytes_take(&b, n);
	struct dec_fragment *f;
	uint64_t word;
	int r;

	if (!data || bytes_left(&b) > 7 || offset > total || n > total - offset || total % 8 ||
	    total < 8)
		return 0;
	f = find_fragment(s, id, total, offset);
	if (!f)
		return 2;
	dec_buf_put(&f->data, data, n);
	if (f->data.oom)
		return -ENOMEM;
	if (f->data.len < total)
		return 2;
	dec_buf_deinit(&s->whole);
	s->whole = f->data;
	*f = s->frags[--s->nfrags];
	p = (const uint8_t *)s->whole.p;
	word = load64(p);
	r = take_call(s, (uint32_t)(word >> BINLOG_SITE_SHIFT), p + 8, total - 8, (uint32_t)word);
	if (r == 0) {
		s->log->counts.skipped_bytes += total;
		return 2;
	}
	return r;
}

static void take_epoch(struct dec_stream *s, const uint8_t *p)
{
	uint64_t ticks = load64(p);
	const struct dec_seg *next = s->seg + 1 < s->nsegs ? &s->segs[s->seg + 1] : NULL;

	/* In a damaged segment believe only what fits between its neighbours. */
	if (s->damaged && ((s->key_before && ticks + (1u << 30) < s->key_before) ||
			   (next && next->epoch.ticks && ticks > next->epoch.ticks)))
		return;
	s->anchor = ticks;
}

static void take_thread(struct dec_stream *s, const uint8_t *p)
{
	s->pid = load32(p);
	s->tid = load32(p + 4);
	memcpy(s->comm, p + 16, 16);
	s->comm[16] = '\0';
}

/* A record of the log itself, or one nobody knows: as take_fragment(). */
static int take_other(struct dec_stream *s, uint32_t id, const uint8_t *p, uint64_t len,
		      uint32_t stamp)
{
	switch (id) {
	case BINLOG_R_NONE:
		return 0;
	case BINLOG_R_PENDING:
		s->log->counts.pending++;
		s->log->counts.torn_bytes += len + 8;
		return 2;
	case BINLOG_R_EPOCH:
		if (len != sizeof(struct binlog_calib))
			return 0;
		take_epoch(s, p);
		return 2;
	case BINLOG_R_THREAD:
		if (len != sizeof(struct binlog_r_thread))
			return 0;
		take_thread(s, p);
		return 2;
	case BINLOG_R_LOSS:
		if (len != sizeof(struct binlog_r_loss))
			return 0;
		set_ticks(s, stamp);
		s->head.event = DEC_LOSS;
		s->head.site = NULL;
		s->head.args = NULL;
		s->head.level = BINLOG_WARN;
		s->head.len = len + 8;
		s->head.loss =
			(struct dec_loss){load64(p), load64(p + 8), load32(p + 16), load32(p + 20)};
		s->log->counts.losses++;
		return 1;
	case BINLOG_R_FRAGMENT:
		return take_fragment(s, p, len);
	default:
		if (id < BINLOG_SITE_FIRST) {
			s->log->counts.later_kinds++;
			return 2;
		}
		/* A site of a lost dictionary; under a right sum its length can be trusted. */
		if (s->damaged || s->from_slot || (id < s->log->nsites && s->log->sites[id]))
			return 0;
		s->log->counts.unknown_sites++;
		return 2;
	}
}

/* --- walking ---------------------------------------------------------------------------------- */

/*
 * Whether to stop at a zero word or PENDING record at s->at of a live slot, because the call may
 * still be on its way. With something behind it the call is being interrupted by a signal handler,
 * or its thread was killed in it: that is given a few rounds.
 */
static bool is_awaited(struct dec_stream *s, uint32_t len)
{
	uint64_t here = s->segs[s->seg].pos + s->at;

	if (!(s->log->flags & DEC_ADD_FOLLOW) || !s->from_slot)
		return false;
	/* A later segment may have shown up since: what is in buf is older then. */
	if (is_rest_zero(s, s->at + len))
		return s->newest;
	if (s->gap != here) {
		s->gap = here;
		s->waits = 0;
	}
	return s->waits++ < 4;
}

/* The stream ends in a long record: that call never ended, and nothing else is missing for it. */
static void end_fragments(struct dec_stream *s)
{
	while (s->nfrags && !(s->log->flags & DEC_ADD_FOLLOW)) {
		struct dec_fragment *f = &s->frags[--s->nfrags];

		s->log->counts.pending++;
		s->log->counts.torn_bytes += f->data.len;
		dec_buf_deinit(&f->data);
	}
}

int dec_stream_next(struct dec_stream *s, struct err *err)
{
	for (;;) {
		int r;

		if (!s->loaded) {
			r = load_next(s, err);
			if (r == 0)
				end_fragments(s);
			if (r <= 0)
				return r;
		}
		while (s->at + 8 <= s->end) {
			const uint8_t *p = s->buf + s->at;
			uint64_t word = load64(p);
			uint32_t id = (uint32_t)(word >> BINLOG_SITE_SHIFT);
			uint32_t len = 8 * (word >> BINLOG_LEN_SHIFT & BINLOG_LEN_MASK);

			if (!word) {
				if (is_awaited(s, 8))
					return 0;
				/* The whole run at once: word by word takes its length squared. */
				end_skip(s);
				s->at = skip_zeros(s, s->at);
				continue;
			}
			if (s->from_slot && s->at >= s->settled && s->log->flags & DEC_ADD_FOLLOW)
				return 0;
			if (!len || len > s->end - s->at) {
				skip(s, 8);
				continue;
			}
			if (id == BINLOG_R_PENDING && is_awaited(s, len))
				return 0;
			r = id >= BINLOG_SITE_FIRST || id == BINLOG_R_INLINE
				    ? take_call(s, id, p + 8, len - 8, (uint32_t)word)
				    : 0;
			if (r == 0 && id != BINLOG_R_INLINE)
				r = take_other(s, id, p + 8, len - 8, (uint32_t)word);
			if (r < 0)
				return err_set(err, -r, "decode %s", s->log->name);
			if (r == 0) {
				skip(s, 8);
				continue;
			}
			if (s->skipped)
				end_skip(s);
			s->at += len;
			if (id != BINLOG_R_PENDING) {
				s->complete += len;
				s->last = s->at;
			}
			if (r == 1)
				return 1;
		}
		unload(s);
	}
}
