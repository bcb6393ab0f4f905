/* SPDX-License-Identifier: MIT */
/*
 * A CPU for which nobody has written a loop over all registers.
 */
#include "tests/victims/victim/registers.h"

void *cpu_regs_thread(void *arg)
{
	v_skip("no register loop for this CPU");
}

const struct scenario cpu_scenarios[] = {
	{},
};
