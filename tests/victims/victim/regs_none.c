/* SPDX-License-Identifier: MIT */
/*
 * A CPU for which nobody has written a loop over all registers.
 */
#include "tests/victims/victim/registers.h"

void *cpu_regs_thread(void *arg)
{
	v_skip("no register loop for this CPU");
}

void victim_regs_rest(struct victim_rest *r)
{
	nanosleep(&r->time, NULL);
}

const struct victim_rest_cpu cpu_rest;

bool cpu_rest_vectors(void)
{
	return false;
}

const struct scenario cpu_scenarios[] = {
	{},
};
