/* SPDX-License-Identifier: MIT */
/*
 * The requests of ptrace() by which a guardian changes a thread or lets it run, seen by its tracer:
 * a filter stops it before each, and nothing else does, so that it takes little longer.
 */
#ifndef TESTS_KILL_AIM_H
#define TESTS_KILL_AIM_H

#include <stdbool.h>
#include <sys/types.h>

/* Of the caller and what it forks from here on. Whoever has no tracer then fails. */
void aim_show(void);
/*
 * @status of a stop of @guardian: it is before such a request, for thread @tid. @ret_name, of 24
 * bytes, is the request's name then.
 */
bool aim_request(pid_t guardian, int status, pid_t tid, char *ret_name);

#endif
