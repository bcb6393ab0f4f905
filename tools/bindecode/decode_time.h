/* SPDX-License-Identifier: MIT */
/*
 * Ticks of the writer's counter to nanoseconds, by the calibration points in the log.
 */
#ifndef BINDECODE_DECODE_TIME_H
#define BINDECODE_DECODE_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dec_point {
	uint64_t ticks;
	int64_t mono_ns;
	int64_t real_ns;
};

/* value = base + ((ticks - from) * mult >> shift), rounded towards minus infinity */
struct dec_line {
	int64_t base;
	int64_t mult;
	unsigned shift;
};

struct dec_piece {
	uint64_t from; /* ticks, inclusive; the first piece reaches back to 0 */
	struct dec_line mono;
	struct dec_line real;
};

struct dec_time {
	struct dec_point *points;
	size_t npoints;
	size_t cap;
	struct dec_piece *pieces;
	size_t npieces;
	size_t last; /* piece used last */
};

void dec_time_deinit(struct dec_time *t);
/* 0 or -ENOMEM. */
int dec_time_add(struct dec_time *t, struct dec_point p);
/* Makes the function from the points added so far; @hz 0: unknown. 0 or -ENOMEM. */
int dec_time_fit(struct dec_time *t, uint64_t hz);
int64_t dec_time_mono(struct dec_time *t, uint64_t ticks);
int64_t dec_time_real(struct dec_time *t, uint64_t ticks);

#endif
