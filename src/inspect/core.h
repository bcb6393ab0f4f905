/* SPDX-License-Identifier: MIT */
/* Between the two halves of the core writer: notes and memory go to one file, in order. */
#ifndef INSPECT_CORE_H
#define INSPECT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h"
#include "base/err.h"
#include "src/image/model.h"

/*
 * Writes one byte after the other, in the byte order of the core. The first error sticks;
 * core_end() tells it.
 */
struct core_seq {
	int fd;
	bool big_endian;
	uint64_t off; /* file offset of buf[0] */
	size_t n;
	int error; /* -errno */
	uint8_t buf[1 << 16];
};

void core_begin(struct core_seq *s, int fd, uint64_t off, bool big_endian);
void core_put(struct core_seq *s, const void *p, size_t len);
void core_put_uint(struct core_seq *s, uint64_t v, unsigned size);
void core_put_zeros(struct core_seq *s, size_t len);
/* File offset of the next byte. */
uint64_t core_at(const struct core_seq *s);
/* Flushes. 0 or the first -errno. */
int core_end(struct core_seq *s);

/* A file that gets its name only when it is whole. Mode 0600. */
struct core_file {
	int fd;
	bool unnamed; /* O_TMPFILE: a killed tool leaves nothing behind */
	bool stream;  /* goes to standard output in the end: the path was "-" */
	char *path;   /* final */
	char *temp;   /* beside it */
};

int core_file_open(struct core_file *f, const char *path, struct err *err);
/* fsync and rename. */
int core_file_commit(struct core_file *f, struct err *err);
/* Removes what was not committed. */
void core_file_close(struct core_file *f);

/* All notes of @proc, whose address space is @mm. -EBADMSG: no thread has registers. */
int core_notes(struct core_seq *s, const struct model *m, const struct m_proc *proc,
	       const struct m_mm *mm, const struct arch_desc *arch, struct err *err);

#endif
