/* SPDX-License-Identifier: MIT */
/*
 * Every field of every entry of an image file, by name, without knowing the messages.
 *
 * A walk calls the visitor in file order. Names and texts are valid during the call only. What a
 * callback returns stops the walk and is what the walk returns; 0 goes on.
 *
 *	entry("core", "Core", 0)
 *	  scalar("mtype", ENUM 1 "X86_64")
 *	  message("tc")
 *	    scalar("task_state", UINT 1)
 *	    list("sigactions")
 *	      message(NULL) ... message_end()
 *	    list_end()
 *	  message_end()
 *	  payload(bytes)		only of kinds that have any
 *	entry_end()
 */
#ifndef IMAGE_FIELDS_H
#define IMAGE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "src/image/image.h"

enum field_kind {
	FIELD_UINT,   /* u */
	FIELD_INT,    /* i */
	FIELD_BOOL,   /* u: 0 or 1 */
	FIELD_ENUM,   /* i, and text when the number has a name, else NULL */
	FIELD_STRING, /* text, len; may be no valid UTF-8 */
	FIELD_BYTES,  /* data, len */
};

struct field_value {
	enum field_kind kind;
	uint64_t u;
	int64_t i;
	const char *text;
	const uint8_t *data;
	size_t len;
};

struct field_visitor {
	void *arg;
	/* @kind is the file's ("core"), @message the entry's type ("Core"), NULL when not known. */
	int (*entry)(void *arg, const char *kind, const char *message, unsigned n);
	int (*entry_end)(void *arg);
	/* @name is NULL inside a list. */
	int (*scalar)(void *arg, const char *name, const struct field_value *v);
	int (*message)(void *arg, const char *name);
	int (*message_end)(void *arg);
	int (*list)(void *arg, const char *name);
	int (*list_end)(void *arg);
	/* Raw bytes that follow an entry; of a kind known by name only, all of the file. */
	int (*payload)(void *arg, const uint8_t *data, size_t len);
};

/*
 * Walks the file @name of the directory, a plain name. -ENOENT; -EBADMSG when it is damaged or no
 * image file; -EMEDIUMTYPE when it holds pages and not metadata.
 */
int fields_walk(const struct image *img, const char *name, const struct field_visitor *v,
		struct err *err);

/* The same for bytes in memory; @name is for messages. */
int fields_walk_bytes(const char *name, const void *data, size_t len, const struct field_visitor *v,
		      struct err *err);

#endif
