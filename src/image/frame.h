/* SPDX-License-Identifier: MIT */
/*
 * The container of metadata: magics, then entries with a size before each.
 *
 *	│ u32 common magic │ u32 kind's magic │ u32 size │ message │ u32 size │ message │ payload
 *... 0                  4                  8
 *
 * The inventory has no common magic. Numbers are in the byte order of the dumping machine; we write
 * the host's and read either. Some kinds have raw bytes after a message, as many as it says.
 *
 * Input is bounded: a size is compared with what is left before anything is taken on its word, and
 * messages come out of an arena whose size follows the file's.
 */
#ifndef IMAGE_FRAME_H
#define IMAGE_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/bytes.h"
#include "base/err.h"
#include "src/image/arena.h"

enum frame_id {
	FRAME_INVENTORY,
	FRAME_PSTREE,
	FRAME_IDS,
	FRAME_CORE,
	FRAME_MM,
	FRAME_PAGEMAP,
	FRAME_FDINFO,
	FRAME_FILES,
	FRAME_FS,
	FRAME_MEMFD,
	FRAME_TIMENS,
	FRAME_SECCOMP,
	FRAME_STATS,
	FRAME_PIPES_DATA,
	FRAME_FIFO_DATA,
	FRAME_REMAP,
	FRAME_GHOST,
	FRAME_FILELOCKS,
	FRAME_SK_QUEUES,
	FRAME_TCP_STREAM,
	FRAME_TTY_INFO,
	FRAME_TTY_DATA,
	FRAME_OTHERS, /* from here on: kinds that are known by name only */
};

struct frame_kind {
	const char *name; /* "core": the file name up to its number */
	uint32_t magic;
	const ProtobufCMessageDescriptor *first; /* NULL: known by name only */
	const ProtobufCMessageDescriptor *rest;	 /* of later entries; NULL: there is only one */
};

const struct frame_kind *frame_kind(enum frame_id id);
/* "core-7.img", "pages-1.img", "files.img": is @name one that a file of an image has? */
bool frame_names_image(const char *name);

/* A file being made, in memory. */
struct frame_out {
	uint8_t *buf; /* malloc'ed, reused from file to file */
	size_t len, cap;
	bool failed; /* out of memory: sticks, tested once at the end */
};

/* Starts a file: forgets the one before. */
void frame_begin(struct frame_out *o, enum frame_id id);
void frame_add(struct frame_out *o, const ProtobufCMessage *msg);
/* Raw bytes after the newest message, as many as it says. */
void frame_bytes(struct frame_out *o, const void *data, size_t len);
void frame_deinit(struct frame_out *o);

/* A file being read. */
struct frame_in {
	const char *name; /* for messages; borrowed */
	struct bytes b;
	const struct frame_kind *kind; /* NULL: magic not known */
	bool big_endian;
	bool chunked;	     /* ghost file in chunks */
	unsigned entries;    /* read so far */
	struct arena *arena; /* borrowed */
	ProtobufCAllocator allocator;
};

/*
 * Looks at the magics of the @len bytes at @data, which stay the caller's and must outlive @f.
 * Messages are allocated from @arena. -EBADMSG when it is no image file.
 */
int frame_open(struct frame_in *f, const char *name, const void *data, size_t len,
	       struct arena *arena, struct err *err);
/* As frame_open(), and -EBADMSG when it is a file of another kind. */
int frame_open_as(struct frame_in *f, enum frame_id id, const char *name, const void *data,
		  size_t len, struct arena *arena, struct err *err);
/*
 * The next entry, 1, with the bytes after it in *@payload; 0 at the end of the file; -EBADMSG.
 * @payload may be NULL.
 */
int frame_next(struct frame_in *f, ProtobufCMessage **ret, struct bytes *payload, struct err *err);
/* The only entry of a file: -EBADMSG when there is none or another one. */
int frame_single(struct frame_in *f, ProtobufCMessage **ret, struct err *err);

/* Room that an arena for reading a file of @len bytes should have. */
size_t frame_arena_size(uint64_t len);

#endif
