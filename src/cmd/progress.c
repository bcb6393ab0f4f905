/* SPDX-License-Identifier: MIT */
/* A progress line on a terminal. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "src/cmd/cmd.h"
#include "src/cmd/progress.h"

enum { TICK_MS = 80, BAR = 24 };

struct progress {
	struct md_progress count; /* written by the dump, relaxed */
	bool partial;		  /* what is read and not stored is in another image */
	pthread_t thread;
	bool running;
	/* protected by lock */
	pthread_mutex_t lock;
	pthread_cond_t end;
	bool ended;
	const char *phase;
	bool memory; /* the phase with a bar */
	uint64_t estimate;
	struct timespec since; /* start of the memory phase */
};

static double seconds_since(const struct timespec *t)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - t->tv_sec) + (double)(now.tv_nsec - t->tv_nsec) / 1e9;
}

/* One row, whatever the width: what wraps cannot be taken back. */
static void put_row(const char *text)
{
	struct winsize ws = {0};
	int room = ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col ? ws.ws_col - 1 : 79;

	fprintf(stderr, "\r\033[K%.*s", room, text);
}

static void draw(struct progress *p)
{
	uint64_t raw = __atomic_load_n(&p->count.raw_bytes, __ATOMIC_RELAXED);
	uint64_t packed = __atomic_load_n(&p->count.packed_bytes, __ATOMIC_RELAXED);
	char done[24], all[24], kept[32], bar[BAR + 1], row[160];
	uint64_t total = p->estimate;
	double s, part, eta;
	int fill;

	if (!p->memory) {
		put_row(p->phase);
		return;
	}
	if (!total)
		total = __atomic_load_n(&p->count.raw_total, __ATOMIC_RELAXED);
	s = seconds_since(&p->since);
	part = total ? (double)raw / (double)total : 0;
	if (part > 1)
		part = 1;
	eta = part > 0.01 ? s / part - s : 0;
	fill = (int)(part * BAR);
	for (int i = 0; i < BAR; i++)
		bar[i] = i < fill ? '#' : '-';
	bar[BAR] = '\0';
	if (p->partial)
		snprintf(kept, sizeof(kept), "%s stored", cmd_bytes(all, sizeof(all), packed));
	else
		snprintf(kept, sizeof(kept), "ratio %.2f",
			 packed ? (double)raw / (double)packed : 1.0);
	snprintf(row, sizeof(row), "%-7s [%s] %3.0f%%  %s of %s  %.2f GB/s  %s  ETA %.1f s",
		 p->phase, bar, part * 100, cmd_bytes(done, sizeof(done), raw),
		 cmd_bytes(all, sizeof(all), total > raw ? total : raw),
		 s > 0 ? (double)raw / s / 1e9 : 0, kept, eta);
	put_row(row);
}

static void *progress_main(void *arg)
{
	struct progress *p = arg;
	struct timespec until;

	pthread_mutex_lock(&p->lock);
	while (!p->ended) {
		draw(p);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += TICK_MS * 1000000L;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_nsec -= 1000000000L;
			until.tv_sec++;
		}
		pthread_cond_timedwait(&p->end, &p->lock, &until);
	}
	pthread_mutex_unlock(&p->lock);
	fputs("\r\033[K", stderr);
	return NULL;
}

struct progress *progress_new(bool quiet, bool partial)
{
	pthread_condattr_t attr;
	struct progress *p;

	if (quiet || !isatty(STDERR_FILENO))
		return NULL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->partial = partial;
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->end, &attr);
	pthread_condattr_destroy(&attr);
	return p;
}

struct md_progress *progress_counters(struct progress *p)
{
	return p ? &p->count : NULL;
}

void progress_phase(struct progress *p, const char *name, bool memory, uint64_t estimate_bytes)
{
	bool first;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	first = !p->phase;
	p->phase = name;
	p->memory = memory;
	if (memory) {
		p->estimate = estimate_bytes;
		clock_gettime(CLOCK_MONOTONIC, &p->since);
	}
	pthread_mutex_unlock(&p->lock);
	/* Processes that must not inherit a thread are forked in the first phase. */
	if (!p->running && !first)
		p->running = pthread_create(&p->thread, NULL, progress_main, p) == 0;
}

void progress_free(struct progress *p)
{
	if (!p)
		return;
	if (p->running) {
		pthread_mutex_lock(&p->lock);
		p->ended = true;
		pthread_cond_signal(&p->end);
		pthread_mutex_unlock(&p->lock);
		pthread_join(p->thread, NULL);
	}
	pthread_cond_destroy(&p->end);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
