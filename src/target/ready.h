/* SPDX-License-Identifier: MIT */
/*
 * Files of threads below /proc, opened before anybody stands still: to find a name there takes
 * longer than to read what it says.
 *
 * A descriptor stands for the thread and not for its number: when another one has that number, it
 * reads nothing, and the file is opened by its name. One thread opens, any thread reads.
 */
#ifndef TARGET_READY_H
#define TARGET_READY_H

#include <sys/types.h>

struct ready;

enum ready_file { READY_CHILDREN, READY_STAT, READY_STATUS, READY_ALIVE, READY_FILES };

struct ready *ready_new(void); /* NULL: no memory */
void ready_free(struct ready *r);

/* Those of all threads that @pid has now, as far as there are descriptors for them. */
void ready_open(struct ready *r, pid_t pid);

/* As procfs_read(), of thread @tid of @pid. @r NULL: by its name. */
ssize_t ready_read(const struct ready *r, pid_t pid, pid_t tid, enum ready_file file, char *buf,
		   size_t room);

#endif
