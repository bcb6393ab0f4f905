/* SPDX-License-Identifier: MIT */
/* The checksum of the log format. */
#include <assert.h>
#include <string.h>

#include "binlog/format.h"
#include "tools/bindecode/decode_sum.h"

#define K 0x9E3779B97F4A7C15ULL

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= K;
	return x ^ x >> 29;
}

static inline void add(uint64_t a[4], uint64_t b[4], const uint64_t w[4])
{
	for (int l = 0; l < 4; l++) {
		a[l] += binlog_le64(w[l]);
		b[l] += a[l];
	}
}

uint64_t dec_sum(const void *p, size_t len)
{
	uint64_t a[4] = {K, K * 2, K * 3, K * 4};
	uint64_t b[4] = {0};
	uint64_t w[4];
	const uint8_t *q = p;
	const uint8_t *whole = q + (len & ~(size_t)31);
	uint64_t h = len;

	for (; q < whole; q += 32) {
		memcpy(w, q, 32);
		add(a, b, w);
	}
	if (len & 31) {
		memset(w, 0, sizeof(w));
		memcpy(w, q, len & 31);
		add(a, b, w);
	}
	for (int l = 0; l < 4; l++) {
		h = mix(h ^ a[l]);
		h = mix(h ^ b[l]);
	}
	return h;
}

uint64_t dec_sum_without(const void *p, size_t len, size_t zero)
{
	uint8_t copy[512];

	assert(len <= sizeof(copy) && zero + 4 <= len);
	memcpy(copy, p, len);
	memset(copy + zero, 0, 4);
	return dec_sum(copy, len);
}
