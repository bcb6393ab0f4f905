/* SPDX-License-Identifier: MIT */
/*
 * The cycle counter of each CPU, read without a system call.
 *
 * The one place outside arch/ that asks for the CPU: binlog/ stands alone and its callers inline
 * this. A CPU without a line of its own uses CLOCK_MONOTONIC, which is right and slower.
 *
 * A tick is the counter shifted right by BINLOG_SHIFT, chosen so that a tick is 1 to 10 ns.
 */
#ifndef BINLOG_COUNTER_H
#define BINLOG_COUNTER_H

#include <stdint.h>

#include "binlog/format.h"

#if defined(__x86_64__)

#define BINLOG_COUNTER BINLOG_COUNTER_TSC
#define BINLOG_SHIFT   3

static inline uint64_t binlog_counter(void)
{
	return __builtin_ia32_rdtsc();
}

#elif defined(__aarch64__)

#define BINLOG_COUNTER BINLOG_COUNTER_CNTVCT
#define BINLOG_SHIFT   0

static inline uint64_t binlog_counter(void)
{
	uint64_t v;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
	return v;
}

#elif defined(__powerpc64__)

#define BINLOG_COUNTER BINLOG_COUNTER_TIMEBASE
#define BINLOG_SHIFT   0

static inline uint64_t binlog_counter(void)
{
	return __builtin_ppc_get_timebase();
}

#elif defined(__s390x__)

#define BINLOG_COUNTER BINLOG_COUNTER_TOD
#define BINLOG_SHIFT   4

static inline uint64_t binlog_counter(void)
{
	uint64_t v;

	__asm__ volatile("stckf %0" : "=Q"(v) : : "cc");
	return v;
}

#else

#include <time.h>

#ifndef CLOCK_MONOTONIC
#error "on this CPU binlog needs clock_gettime() of time.h: not -std=c11, or with -D_GNU_SOURCE"
#endif

#define BINLOG_COUNTER BINLOG_COUNTER_NS
#define BINLOG_SHIFT   0

static inline uint64_t binlog_counter(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif

static inline uint64_t binlog_ticks(void)
{
	return binlog_counter() >> BINLOG_SHIFT;
}

#endif
