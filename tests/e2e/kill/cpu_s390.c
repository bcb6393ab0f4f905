/* SPDX-License-Identifier: MIT */
/* Threads of the kill test's victim that are an s390x CPU's own. */
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "tests/e2e/kill/kill.h"
#include "tests/victims/victim/regs_s390.h"

/* The ticker ends a round, so that the CPU is there for others, too. */
static struct victim_regs *_Atomic spinning[3];

void kill_end_rounds(void)
{
	for (int i = 0; i < 3; i++)
		if (spinning[i])
			*(volatile uint32_t *)&spinning[i]->stop = 1;
}

void *kill_registers(void *arg)
{
	struct kill_slot *s = arg;
	struct victim_regs r;

	memset(&r, 0, sizeof(r));
	kill_fill(r.gpr, sizeof(r.gpr), (uint64_t)s->tid);
	kill_fill(r.acr, sizeof(r.acr), (uint64_t)s->tid + 1);
	kill_fill(r.vec, sizeof(r.vec), (uint64_t)s->tid + 2);
	victim_regs_complete(&r, (uint32_t)s->tid);
	s->far = &r.count;
	spinning[s->name[strlen(s->name) - 1] - '0'] = &r;
	for (;;) {
		uint64_t ret = victim_regs_spin(&r);

		if (ret)
			kill_bad(s, "register %lu has changed (see regs_s390.S)",
				 (unsigned long)ret);
		usleep(1000);
		r.stop = 0;
	}
	return NULL;
}

const struct kill_more kill_more[] = {
	{NULL, NULL},
};
