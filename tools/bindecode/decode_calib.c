/* SPDX-License-Identifier: MIT */
/* Collects the calibration points of a log: every EPOCH, but for those that damage made up. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "tools/bindecode/decode_log.h"
#include "tools/bindecode/decode_sum.h"

/*
 * A segment has a second EPOCH only where a stamp would not reach from the first, which is 2^31
 * ticks; when the next segment begins sooner there is none to look for.
 */
#define ONE_EPOCH (1ULL << 30)

static struct dec_point point_of(const struct binlog_calib *c)
{
	return (struct dec_point){c->ticks, (int64_t)c->mono_ns, (int64_t)c->real_ns};
}

/* Agrees with the header's frequency, and nobody has set the clock. */
static bool is_plausible(const struct dec_log *log, const struct dec_point *p, bool *ret_mono)
{
	const struct binlog_header *h = &log->header;
	double ns = ((double)p->ticks - (double)h->open.ticks) * 1e9 / (double)h->ticks_hz;
	double mono = (double)p->mono_ns - (double)(int64_t)h->open.mono_ns;
	double real = (double)p->real_ns - (double)(int64_t)h->open.real_ns;
	double allow = (ns < 0 ? -ns : ns) / 100 + 1e8;

	/* CLOCK_MONOTONIC stands still while the machine is suspended, the other two go on. */
	*ret_mono = h->ticks_hz && mono - ns < allow &&
		    (ns - mono < allow ||
		     (mono >= 0 && real - ns < allow + 1e9 && ns - real < allow + 1e9));
	return *ret_mono && ns - mono < allow && real - mono < 1e9 && mono - real < 1e9;
}

/* The records of a segment as they are in the file now; *@ret freed by the caller. */
static int read_seg(const struct dec_log *log, const struct dec_seg *seg, uint8_t **ret,
		    size_t *ret_len, struct err *err)
{
	uint64_t off = (seg->chunk ? seg->chunk : seg->slot) + sizeof(struct binlog_block);
	size_t len = (seg->chunk ? seg->used : seg->len);
	ssize_t n;

	len = len > sizeof(struct binlog_block) ? len - sizeof(struct binlog_block) : 0;
	*ret = malloc(len + 1);
	if (!*ret)
		return err_set(err, ENOMEM, "read %s", log->name);
	n = dec_source_read(&log->src, off, *ret, len);
	if (n < 0)
		return err_set(err, (int)-n, "read %s at %" PRIu64, log->name, off);
	*ret_len = (size_t)n;
	return 0;
}

static int add_point(struct dec_log *log, const struct dec_point *p, struct err *err)
{
	if (dec_time_add(&log->time, *p))
		return err_set(err, ENOMEM, "clock of %s", log->name);
	return 0;
}

/* The EPOCHs behind the segment's header; @sure: they are under a right sum. */
static int add_later(struct dec_log *log, const uint8_t *p, size_t len, bool sure, struct err *err)
{
	struct bytes b = bytes_of(p, len);
	bool mono;
	int r = 0;

	while (!r && bytes_left(&b) >= 8) {
		uint64_t word = bytes_u64(&b);
		uint32_t words = word >> BINLOG_LEN_SHIFT & BINLOG_LEN_MASK;
		size_t at = b.pos;
		struct dec_point point;

		if (!words || (words - 1) * 8 > bytes_left(&b))
			continue;
		if (word >> BINLOG_SITE_SHIFT == BINLOG_R_EPOCH && words == 4) {
			point.ticks = bytes_u64(&b);
			point.mono_ns = (int64_t)bytes_u64(&b);
			point.real_ns = (int64_t)bytes_u64(&b);
			is_plausible(log, &point, &mono);
			if (sure || mono || !log->header.ticks_hz)
				r = add_point(log, &point, err);
		}
		bytes_seek(&b, at + (words - 1) * 8);
	}
	return r;
}

static int add_seg_points(struct dec_log *log, struct dec_stream *s, size_t i, struct err *err)
{
	struct dec_seg *seg = &s->segs[i];
	bool last = i + 1 == s->nsegs;
	bool mono = true, good, look;
	cleanup_free uint8_t *p = NULL;
	size_t len = 0;
	int r;

	if (seg->timed)
		return 0;
	seg->timed = !last; /* the last one may still grow */
	good = seg->epoch.ticks && is_plausible(log, &seg->epoch, &mono);
	look = last || !seg->epoch.ticks || s->segs[i + 1].epoch.ticks < seg->epoch.ticks ||
	       s->segs[i + 1].epoch.ticks - seg->epoch.ticks > ONE_EPOCH;
	if (good && !look)
		return add_point(log, &seg->epoch, err);
	r = read_seg(log, seg, &p, &len, err);
	if (r)
		return r;
	if (seg->chunk)
		good = dec_sum(p, len) == seg->sum;
	else
		good = seg->epoch.ticks && (mono || !log->header.ticks_hz);
	return good ? add_later(log, p, len, seg->chunk, err) : 0;
}

int dec_index_time(struct dec_log *log, struct err *err)
{
	struct dec_point open = point_of(&log->header.open);
	struct dec_point close = point_of(&log->header.close);
	int r;

	r = add_point(log, &open, err);
	if (!r && close.ticks)
		r = add_point(log, &close, err);
	for (size_t i = 0; !r && i < log->nstreams; i++) {
		for (size_t k = 0; !r && k < log->streams[i]->nsegs; k++)
			r = add_seg_points(log, log->streams[i], k, err);
	}
	if (!r && dec_time_fit(&log->time, log->header.ticks_hz))
		r = err_set(err, ENOMEM, "clock of %s", log->name);
	return r;
}
