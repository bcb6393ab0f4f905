/* SPDX-License-Identifier: MIT */
/*
 * A progress line on a terminal: phase, bytes, GB/s, ratio, ETA. Silent when stderr is not one.
 *
 * The thread starts with the second phase: the first forks what must not inherit it. The operation
 * only stores to md_progress and to the phase; it never waits for the terminal.
 */
#ifndef CMD_PROGRESS_H
#define CMD_PROGRESS_H

#include "memdump/memdump.h"

struct progress;

/*
 * NULL when nothing is to be shown (no terminal, or @quiet). @partial: what is read and has not
 * changed is in another image, so that the ratio is none of compression and not shown.
 */
struct progress *progress_new(bool quiet, bool partial);
/* Where md_run() counts; NULL when @p is. */
struct md_progress *progress_counters(struct progress *p);
/*
 * A phase begins; @name is static text. The one that moves @memory has a bar, of @estimate bytes.
 */
void progress_phase(struct progress *p, const char *name, bool memory, uint64_t estimate_bytes);
/* Ends the thread and wipes the line. NULL is allowed. */
void progress_free(struct progress *p);

#endif
