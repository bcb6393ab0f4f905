/* SPDX-License-Identifier: MIT */
/* Where the time of a freeze goes: one line of the log, at debug level, for each thing done. */
#include "src/target/phase.h"

#include <inttypes.h>

#include "base/clock.h"
#include "binlog/pr.h"

void phase_begin(struct phase *p)
{
	p->wall_ns = clock_ns(CLOCK_MONOTONIC);
	p->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void phase_done(struct phase *p, pid_t pid, const char *name)
{
	struct phase then = *p;

	phase_begin(p);
	pr_debug("frozen: pid %d: %s: %" PRIu64 " us, of these %" PRIu64 " us on a CPU\n", pid,
		 name, (p->wall_ns - then.wall_ns) / 1000, (p->cpu_ns - then.cpu_ns) / 1000);
}
