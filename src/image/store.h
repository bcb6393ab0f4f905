/* SPDX-License-Identifier: MIT */
/*
 * The files of an image directory: written whole and registered, read whole and bounded.
 *
 * Every file is reached by its plain name below the directory's descriptor; symbolic links are not
 * followed and what is not a regular file is not opened. What is written is remembered with size
 * and checksum for the manifest in the inventory.
 */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include <inttypes.h>
#include <limits.h>

#include "src/image/frame.h"
#include "src/image/image.h"
#include "src/image/tree.pb-c.h"

enum {
	STORE_PENDING = 32, /* files that are fsynced one by one; with more, the filesystem is */
	STORE_TAIL = 4096,  /* bytes under a CHECK_TAIL sum */
	STORE_NAME = NAME_MAX + 1,
};

/* Metadata above this is not ours: half a million VMAs are 100 MiB. */
#define STORE_META_MAX ((uint64_t)1 << 30)

#define INVENTORY_FILE "inventory.img"
#define INVENTORY_TMP  ".inventory.partial" /* its name until an image in place is whole */

struct store_file {
	char name[STORE_NAME];
	Im__FileCheck check;
	uint64_t size;
	uint64_t sum;
};

struct image {
	char *path; /* as given, for messages */
	int dirfd;
	enum image_format format;
	/* writing only */
	bool writing; /* created and not committed */
	bool in_place;
	bool into;				/* parent_fd is the directory that gets the files */
	uint32_t nmoved;			/* of files[], when into: have their place */
	bool replace;				/* an empty directory has the final name */
	int parent_fd;				/* -1 when in place */
	char name[STORE_NAME], tmp[STORE_NAME]; /* below parent_fd */
	uint32_t nfiles, files_cap;
	struct store_file *files;
	unsigned npending; /* written, not fsynced yet */
	int pending[STORE_PENDING];
	bool more_pending; /* than are in pending[] */
	struct frame_out out;
};

/* "pagemap-shmem-7.img" into @buf; for error messages, too. */
__attribute__((format(printf, 2, 3))) const char *store_name(char buf[STORE_NAME], const char *fmt,
							     ...);

/* Writes @img->out as the new file @name, 0600, and registers it. */
int store_put(struct image *img, const char *name, struct err *err);
/* Opens a new file for a writer of its own, 0600: a descriptor. It is registered by store_adopt().
 */
int store_create(struct image *img, const char *name, struct err *err);
/* Registers what somebody else wrote and fsynced; the newest call counts. */
int store_adopt(struct image *img, const struct store_file *f, struct err *err);
/* Registers every file of the directory that is not registered yet, and fsyncs all of them. */
int store_sync(struct image *img, struct err *err);
/* What store_put() put off: fsync of what it wrote; or its descriptors closed without. */
int store_flush(struct image *img, struct err *err);
void store_abandon(struct image *img);
/* A file that belongs to no image, replaced if there is one. */
int store_write_loose(int dirfd, const char *name, const struct frame_out *out, struct err *err);
/* Removes every file of the directory; best effort. */
void store_wipe(int dirfd);

/* XXH3-64, and that of a whole file below @dirfd by @check. */
uint64_t store_sum(const void *p, size_t len);
int store_check_file(int dirfd, const char *name, Im__FileCheck check, struct store_file *ret,
		     struct err *err);

/* A regular file below @dirfd, no link followed; a descriptor and its size. */
int store_open(int dirfd, const char *name, uint64_t *ret_size, struct err *err);

/* A metadata file while it is read; everything points into its arena. */
struct store_in {
	struct arena *arena;
	struct frame_in f;
	struct bytes all; /* the whole file */
	const void *user; /* of who loaded it */
};
/* -ENOENT when there is no such file, -EBADMSG when it is not what it should be. */
int store_load(int dirfd, enum frame_id id, const char *name, struct store_in *ret,
	       struct err *err);
/* Any kind; @name's own magic says which. */
int store_load_any(int dirfd, const char *name, struct store_in *ret, struct err *err);
void store_unload(struct store_in *in);

#endif
