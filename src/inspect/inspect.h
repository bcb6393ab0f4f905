/* SPDX-License-Identifier: MIT */
/*
 * Looking into an image: as JSON, as ELF core files, as stack traces. Nothing here needs the
 * processes, a debugger or privileges; the image is only read.
 *
 * Results go where the caller says; errors are returned, never printed. Threads: one at a time for
 * one image.
 */
#ifndef INSPECT_INSPECT_H
#define INSPECT_INSPECT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "src/image/image.h"

struct show_opts {
	uint32_t pid; /* only this process of the tree; 0: all */
	bool brief;   /* counts in place of the lists of mappings, files and registers */
};

/*
 * Without @file: one JSON document of the whole image: where it was made, what memory it holds,
 * every process with its threads, mappings and descriptors. With @file: every entry of that one
 * metadata file of the directory. Addresses and masks are "0x..." strings, everything else numbers.
 * -ENOENT: no such file in the image; -EBADMSG: damaged; -EIO and the like: @out cannot be written.
 */
int inspect_show(struct image *img, const char *file, FILE *out, const struct show_opts *opts,
		 struct err *err);

/*
 * An ELF core file of process @pid at @out_path; with @pid 0 of every process: at @out_path when
 * the image holds one living process, else at OUT_PATH.PID for each. Written sparse under no name,
 * or a temporary one, and renamed: an existing file stays as it was until the new one is whole.
 * Mode 0600.
 *
 * Anonymous memory is all there; pages nobody touched are holes. Reservations (no access, or
 * without reserve and huge) have only their stored pages. Of file mappings only changed pages and
 * the first page of ELF files are written, as the kernel does by default; debuggers find the rest
 * in the files.
 */
int inspect_core(struct image *img, const char *out_path, uint32_t pid, struct err *err);

/*
 * Stack traces of all threads of @pid (0: of all processes). Text:
 *
 *	Process 71 "redis-server" /usr/bin/redis-server
 *	Thread 71 "redis-server"
 *	#0  0x00007f2ad1b0c9c6 epoll_wait+0x56 in /lib/x86_64-linux-gnu/libc.so.6 (93ac3a...)
 *
 * What is not known is said in place: a frame outside any mapping, a file that changed.
 *-EOPNOTSUPP: the image comes from another CPU.
 */
int inspect_bt(struct image *img, FILE *out, uint32_t pid, struct err *err);

#endif
