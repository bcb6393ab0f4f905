/* SPDX-License-Identifier: MIT */
/* Ticks to nanoseconds: linear between calibration points. */
#include <errno.h>
#include <stdlib.h>

#include "tools/bindecode/decode_time.h"

enum { NOISE_NS = 1000000 }; /* points closer than this say nothing about the slope */

void dec_time_deinit(struct dec_time *t)
{
	free(t->points);
	free(t->pieces);
	*t = (struct dec_time){0};
}

int dec_time_add(struct dec_time *t, struct dec_point p)
{
	if (t->npoints == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 64;
		struct dec_point *points = realloc(t->points, cap * sizeof(*points));

		if (!points)
			return -ENOMEM;
		t->points = points;
		t->cap = cap;
	}
	t->points[t->npoints++] = p;
	return 0;
}

static int by_ticks(const void *a, const void *b)
{
	uint64_t x = ((const struct dec_point *)a)->ticks;
	uint64_t y = ((const struct dec_point *)b)->ticks;

	return (x > y) - (x < y);
}

static unsigned bits_of(uint64_t v)
{
	return v ? 64u - (unsigned)__builtin_clzll(v) : 0;
}

/* The line through @base with slope dv/dt, its factor scaled to 61 or 62 bits. */
static struct dec_line line_of(int64_t base, int64_t dv, uint64_t dt)
{
	struct dec_line l = {.base = base};
	uint64_t v = dv < 0 ? -(uint64_t)dv : (uint64_t)dv;
	int shift = 61 - ((int)bits_of(v) - (int)bits_of(dt));

	/* A slope that does not fit is absurd: then a clock that stands still is as good. */
	if (!v || !dt || shift < 0)
		return l;
	l.shift = shift > 62 ? 62 : (unsigned)shift;
	l.mult = (int64_t)(((unsigned __int128)v << l.shift) / dt);
	if (dv < 0)
		l.mult = -l.mult;
	return l;
}

/* b - a, wrapping: garbage may be anything. */
static int64_t minus(int64_t b, int64_t a)
{
	return (int64_t)((uint64_t)b - (uint64_t)a);
}

static int64_t line_at(const struct dec_line *l, uint64_t from, uint64_t ticks)
{
	__int128 dt = (__int128)ticks - (__int128)from;

	/* |dt| < 2^64 and |mult| < 2^62 stay below 2^126. */
	return (int64_t)((uint64_t)l->base + (uint64_t)((dt * l->mult) >> l->shift));
}

int dec_time_fit(struct dec_time *t, uint64_t hz)
{
	struct dec_point *p = t->points;
	size_t n = 0;

	qsort(p, t->npoints, sizeof(*p), by_ticks);
	for (size_t i = 0; i < t->npoints; i++) {
		if (!n || (p[i].ticks > p[n - 1].ticks &&
			   (__int128)p[i].mono_ns - p[n - 1].mono_ns >= NOISE_NS))
			p[n++] = p[i];
	}
	t->npoints = n;
	free(t->pieces);
	t->last = 0;
	t->npieces = 0;
	t->pieces = calloc(n ? n : 1, sizeof(*t->pieces));
	if (!t->pieces)
		return -ENOMEM;
	t->npieces = n > 1 ? n - 1 : 1;
	if (n < 2) {
		struct dec_piece *piece = &t->pieces[0];

		piece->from = n ? p[0].ticks : 0;
		piece->mono = line_of(n ? p[0].mono_ns : 0, 1000000000, hz ? hz : 1000000000);
		piece->real = line_of(n ? p[0].real_ns : 0, 1000000000, hz ? hz : 1000000000);
		return 0;
	}
	for (size_t i = 0; i + 1 < n; i++) {
		uint64_t dt = p[i + 1].ticks - p[i].ticks;
		struct dec_piece *piece = &t->pieces[i];

		piece->from = p[i].ticks;
		piece->mono = line_of(p[i].mono_ns, minus(p[i + 1].mono_ns, p[i].mono_ns), dt);
		piece->real = line_of(p[i].real_ns, minus(p[i + 1].real_ns, p[i].real_ns), dt);
	}
	return 0;
}

static const struct dec_piece *piece_at(struct dec_time *t, uint64_t ticks)
{
	size_t i = t->last;

	if (ticks >= t->pieces[i].from && (i + 1 == t->npieces || ticks < t->pieces[i + 1].from))
		return &t->pieces[i];
	size_t lo = 0, hi = t->npieces;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->pieces[mid].from <= ticks)
			lo = mid;
		else
			hi = mid;
	}
	t->last = lo;
	return &t->pieces[lo];
}

int64_t dec_time_mono(struct dec_time *t, uint64_t ticks)
{
	const struct dec_piece *p = piece_at(t, ticks);

	return line_at(&p->mono, p->from, ticks);
}

int64_t dec_time_real(struct dec_time *t, uint64_t ticks)
{
	const struct dec_piece *p = piece_at(t, ticks);

	return line_at(&p->real, p->from, ticks);
}
