/* SPDX-License-Identifier: MIT */
/*
 * An image: a directory that exists whole or not at all.
 *
 * While it is written it has a temporary name beside its final one (".NAME.partial-PID"); commit
 * fsyncs every file, writes the inventory last, fsyncs the directory and renames it. Metadata is
 * CRIU's wire format (stock crit decodes every file); pages are in the block file memory.stasis, or
 * with IMAGE_CRIU in CRIU's own pagemap and pages files. Directory 0700, files 0600.
 *
 * Threads: one thread at a time. Errors name the path.
 */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "memdump/memdump.h"
#include "src/image/model.h"

/* Our block file's name: unknown to CRIU, so that stock tools refuse instead of restoring garbage.
 */
#define IMAGE_BLOCK_FILE "memory.stasis"

enum image_format {
	IMAGE_STASIS, /* block file */
	IMAGE_CRIU,   /* pagemap-*.img + pages-*.img */
};

struct image;

/*
 * Creates the temporary directory beside @path. -EEXIST when @path exists (an empty directory is
 * allowed and replaced), with a hint; read-only, full and forbidden places are told apart. An empty
 * directory that cannot be replaced (mount point, working directory, parent not writable) is filled
 * in place, the inventory last. What a killed run left for the same name is taken away.
 */
struct image *image_create(const char *path, enum image_format format, struct err *err);

/*
 * As image_create() into the directory @path, which exists and may hold anything, an older image
 * too: criu's way. What is no image's file stays; the older image goes at the commit.
 */
struct image *image_create_into(const char *path, enum image_format format, struct err *err);

/* Opens a finished image for reading. The directory is opened once; nothing outside it is followed.
 */
struct image *image_open(const char *path, struct err *err);
/* The same, @path as seen from the directory @dirfd. */
struct image *image_open_at(int dirfd, const char *path, struct err *err);

int image_dirfd(const struct image *img);
const char *image_path(const struct image *img);
/* Bytes of all its files, as far as they can be looked at. */
uint64_t image_size(const struct image *img);
enum image_format image_format(const struct image *img);

/* Writes every metadata file of @m but the inventory. */
int image_write_model(struct image *img, const struct model *m, struct err *err);

struct image_stats {
	uint32_t freezing_us, frozen_us, memdump_us, memwrite_us;
	uint64_t pages_scanned, pages_written;
};
/* CRIU's stats-dump file in @dirfd. */
int image_write_stats(int dirfd, const struct image_stats *st, struct err *err);

struct image_restore_stats {
	uint32_t forking_us, restore_us;
	uint64_t pages_restored;
};
/* CRIU's stats-restore file. */
int image_write_restore_stats(int dirfd, const struct image_restore_stats *st, struct err *err);

/* Inventory, fsync of all, rename. The image exists from here on. */
int image_commit(struct image *img, const struct model *m, struct err *err);

/* Closes; an image that was created and not committed is removed. NULL is allowed. */
void image_close(struct image *img);

/* Reads all metadata into a new model; checks every cross-reference. NULL with @err. */
struct model *image_read_model(struct image *img, struct err *err);

/*
 * CRIU's page files. image_criu_pagemap() records that the extents (ascending, merged by the
 * caller's scan) of @space are wanted and assigns their slots; image_criu_writer() is the writer
 * plug that puts blocks there; its flush() writes the pagemap files, its sync() fsyncs the pages.
 */
struct image_criu_pages;
struct image_criu_pages *image_criu_pages_new(struct image *img, uint32_t page_size,
					      struct err *err);
int image_criu_add(struct image_criu_pages *p, uint64_t space, const struct md_extent *e, bool lazy,
		   struct err *err);
struct md_writer *image_criu_writer(struct image_criu_pages *p, struct err *err);
void image_criu_pages_free(struct image_criu_pages *p);

/* Pages of either home, for random access. */
struct image_mem;
struct image_mem *image_mem_open(struct image *img, struct err *err);
void image_mem_close(struct image_mem *mem);
/* As md_file_extent() and md_file_read(). */
int image_mem_extent(struct image_mem *mem, uint64_t space, uint64_t addr,
		     struct md_extent *ret_extent, struct err *err);
/* As md_file_origin(). */
int image_mem_origin(struct image_mem *mem, uint64_t space, uint64_t addr,
		     struct md_extent *ret_extent, uint64_t *ret_space, struct err *err);
ssize_t image_mem_read(struct image_mem *mem, uint64_t space, uint64_t addr, void *buf, size_t len,
		       struct err *err);

struct image_verify {
	uint64_t files, meta_bytes;
	struct md_verify mem;
	unsigned bad;
};
/*
 * Every checksum and cross-reference. @report gets each finding as one line. 0: whole; -EBADMSG
 * with the number of findings.
 */
int image_verify(const char *path, unsigned threads, void (*report)(void *arg, const char *line),
		 void *arg, struct image_verify *ret, struct err *err);

#endif
