/* SPDX-License-Identifier: MIT */
/*
 * Waiting for the root of a restored tree.
 *
 * Signals that end programs are handed on to it. With --shell-job it is a job of our session: when
 * its process group is not ours it gets the terminal, if that is ours to give, and when it stops
 * (^Z) we stop, so that the shell has it back; SIGCONT to us wakes it.
 */
#ifndef CMD_JOB_H
#define CMD_JOB_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* The exit code of child @pid, or 128 and its signal. @early: one that came before, or 0. */
int job_await(pid_t pid, bool shell_job, volatile sig_atomic_t *early);

#endif
