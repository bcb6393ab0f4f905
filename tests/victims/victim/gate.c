/* SPDX-License-Identifier: MIT */
/*
 * A gate between steps: writers pass it, a checker closes it to look while nobody writes.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

/* Not private: a gate may lie in memory that processes share. */
static void gate_futex(_Atomic uint32_t *word, int op, uint32_t val)
{
	struct timespec ts = {0, 100000000};

	syscall(SYS_futex, word, op, val, op == FUTEX_WAIT ? &ts : NULL, NULL, 0);
}

void gate_wait(struct gate *g)
{
	atomic_fetch_add(&g->waiting, 1);
	gate_futex(&g->waiting, FUTEX_WAKE, INT_MAX);
	while (atomic_load(&g->closed) && !v_quitting())
		gate_futex(&g->closed, FUTEX_WAIT, 1);
	atomic_fetch_sub(&g->waiting, 1);
}

bool gate_close(struct gate *g, unsigned nwriters)
{
	uint64_t deadline = now_ns() + 30000000000ULL;
	uint32_t seen;

	atomic_store(&g->closed, 1);
	while ((seen = atomic_load(&g->waiting)) < nwriters) {
		if (v_quitting())
			return false;
		if (now_ns() > deadline) {
			v_bad("only %u of %u writers came to the gate", seen, nwriters);
			return false;
		}
		gate_futex(&g->waiting, FUTEX_WAIT, seen);
	}
	return true;
}

void gate_open(struct gate *g)
{
	atomic_store(&g->closed, 0);
	gate_futex(&g->closed, FUTEX_WAKE, INT_MAX);
	/* Whoever was counted must be gone before it closes again. */
	while (atomic_load(&g->waiting) && !v_quitting())
		sched_yield();
}

/* Steps come in bursts of a millisecond's worth. */
void pace(struct pace *p, uint64_t per_s)
{
	struct timespec ts;

	if (!per_s)
		return;
	if (!p->next_ns)
		p->next_ns = now_ns();
	if (++p->steps < per_s / 1000 + 1)
		return;
	p->next_ns += p->steps * 1000000000ULL / per_s;
	p->steps = 0;
	/* After a restore it is long past: what was missed is not made up for. */
	if (p->next_ns + 100000000 < now_ns())
		p->next_ns = now_ns();
	ts.tv_sec = (time_t)(p->next_ns / 1000000000);
	ts.tv_nsec = (long)(p->next_ns % 1000000000);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

uint64_t random_next(uint64_t *state)
{
	uint64_t r = *state;

	r ^= r << 13;
	r ^= r >> 7;
	r ^= r << 17;
	*state = r;
	return r * 0x2545f4914f6cdd1dULL;
}
