/* SPDX-License-Identifier: MIT */
/*
 * Where the bytes of a log come from: a file, or memory.
 *
 * Files are read, not mapped: a writer cuts the tail of its log when it closes it, and a mapping of
 * what is gone ends in SIGBUS.
 */
#ifndef BINDECODE_DECODE_SOURCE_H
#define BINDECODE_DECODE_SOURCE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct dec_source {
	int fd; /* -1: memory */
	const uint8_t *mem;
	uint64_t len;
	void *owned; /* freed with it */
};

/* Opens @path ("-": standard input); what cannot be seeked in is read to its end. */
int dec_source_open(struct dec_source *ret, const char *path, struct err *err);
void dec_source_close(struct dec_source *s);
/* Up to @len bytes at @off; short at the end only. */
ssize_t dec_source_read(const struct dec_source *s, uint64_t off, void *buf, size_t len);
/* Notices that the file has grown or shrunk. */
int dec_source_refresh(struct dec_source *s);
/* The first offset from @off on that is not in a hole; the length if there is none. */
uint64_t dec_source_data(const struct dec_source *s, uint64_t off);

#endif
