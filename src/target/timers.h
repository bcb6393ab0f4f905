/* SPDX-License-Identifier: MIT */
/*
 * The text of /proc/PID/timers: the POSIX timers of a process.
 *
 *	ID: 1
 *	signal: 60/00007fff86e452a8
 *	notify: signal/pid.2634
 *	ClockID: 0
 */
#ifndef TARGET_TIMERS_H
#define TARGET_TIMERS_H

#include "src/image/model.h"

/* Appends to @p's timers, all but values and overruns. 0 or -ENOMEM; other lines are passed over.
 */
int timers_parse(struct model *m, const char *text, struct m_proc *p);

#endif
