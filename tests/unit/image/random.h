/* SPDX-License-Identifier: MIT */
/* Random numbers, bytes and words that depend on a seed alone. */
#ifndef TESTS_RANDOM_H
#define TESTS_RANDOM_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>

#include "src/image/model.h"

static uint64_t rnd_state = 1;

static uint64_t rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state * 0x2545f4914f6cdd1dULL;
}

static uint32_t rnd32(void)
{
	/* zero and the largest are where mistakes are */
	switch (rnd() % 8) {
	case 0:
		return 0;
	case 1:
		return UINT32_MAX;
	default:
		return (uint32_t)(rnd() >> 32);
	}
}

static uint64_t rnd64(void)
{
	return rnd() % 8 ? rnd() : rnd() % 2 ? UINT64_MAX : 0;
}

static uint32_t below(uint32_t n)
{
	return (uint32_t)((rnd() >> 32) % n);
}

static bool coin(void)
{
	return rnd() >> 63;
}

static void rnd_bytes(void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)p)[i] = (uint8_t)(rnd() >> 56);
}

static void rnd_word(char *to, size_t size)
{
	size_t len = below((uint32_t)size);

	for (size_t i = 0; i < len; i++)
		to[i] = "abcdefghijklmnopqrstuvwxyz0123456789-_./: "[below(42)];
	to[len] = '\0';
}

static char *rnd_str(struct model *m)
{
	char text[60];

	rnd_word(text, sizeof(text));
	return model_strdup(m, text);
}

static char *rnd_str_or_null(struct model *m)
{
	return coin() ? rnd_str(m) : NULL;
}

static void rnd_queue(struct model *m, struct m_sigqueue *q)
{
	for (uint32_t n = below(4); n; n--)
		rnd_bytes(model_push(m, &q->info, &q->n, sizeof(*q->info)), 128);
}

static void rnd_ns(struct m_ns *ns)
{
	*ns = (struct m_ns){rnd64(), rnd64(), rnd64(), rnd64(), rnd64(), rnd64(), rnd64(), rnd64()};
}

#endif
