/* SPDX-License-Identifier: MIT */
/*
 * Memory with known contents, and the small services every scenario needs.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

void *map_at(uint64_t addr, size_t len, int prot, int flags, int fd, off_t off)
{
	void *p = mmap((void *)addr, len, prot, flags | MAP_FIXED_NOREPLACE, fd, off);

	if (p == MAP_FAILED)
		v_die("mmap %#llx+%zu", (unsigned long long)addr, len);
	return p;
}

/* splitmix64: every word depends on seed and position alone. */
static uint64_t word_at(uint64_t seed, uint64_t i)
{
	uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

void fill(void *p, size_t len, uint64_t seed)
{
	uint64_t *w = p;

	for (size_t i = 0; i < len / 8; i++)
		w[i] = word_at(seed, i);
}

ssize_t wrong(const void *p, size_t len, uint64_t seed)
{
	const volatile uint64_t *w = p;

	for (size_t i = 0; i < len / 8; i++)
		if (w[i] != word_at(seed, i))
			return (ssize_t)(i * 8);
	return -1;
}

void expect_filled(const void *p, size_t len, uint64_t seed, const char *what)
{
	ssize_t at = wrong(p, len, seed);

	if (at >= 0)
		v_bad("%s: byte %zd of %p+%zu is wrong", what, at, p, len);
}

/* Eight tables: a checksum of a GiB is part of a scenario's start. */
static uint32_t crc_table[8][256];

static void crc_init(void)
{
	for (uint32_t n = 0; n < 256; n++) {
		uint32_t c = n;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320U ^ (c >> 1) : c >> 1;
		crc_table[0][n] = c;
	}
	for (int t = 1; t < 8; t++)
		for (uint32_t n = 0; n < 256; n++)
			crc_table[t][n] = crc_table[0][crc_table[t - 1][n] & 0xff] ^
					  (crc_table[t - 1][n] >> 8);
}

uint32_t crc32_of(uint32_t crc, const void *p, size_t len)
{
	const uint8_t *b = p;

	if (!crc_table[0][1])
		crc_init();
	crc = ~crc;
	for (; len >= 8; b += 8, len -= 8) {
		crc ^= (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
		       (uint32_t)b[3] << 24;
		crc = crc_table[7][crc & 0xff] ^ crc_table[6][crc >> 8 & 0xff] ^
		      crc_table[5][crc >> 16 & 0xff] ^ crc_table[4][crc >> 24] ^
		      crc_table[3][b[4]] ^ crc_table[2][b[5]] ^ crc_table[1][b[6]] ^
		      crc_table[0][b[7]];
	}
	for (; len; b++, len--)
		crc = crc_table[0][(crc ^ *b) & 0xff] ^ (crc >> 8);
	return ~crc;
}

void fact_memory(const char *kind, const void *p, size_t len, const char *name)
{
	v_fact("%s %d %#llx %zu %08x %s", kind, getpid(), (unsigned long long)(uintptr_t)p, len,
	       crc32_of(0, p, len), name);
}

void start_thread(void *(*fn)(void *), void *arg)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t t;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	err = pthread_create(&t, &attr, fn, arg);
	if (err)
		v_die("pthread_create: %s", strerrordesc_np(err));
	pthread_detach(t);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

pid_t gettid_(void)
{
	return (pid_t)syscall(SYS_gettid);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

void sleep_ms(unsigned ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	while (nanosleep(&ts, &ts))
		;
}
