/* SPDX-License-Identifier: MIT */
/*
 * JSON written as it is told, nothing kept: a document of any size in constant memory.
 *
 * Each call writes one member of the object or array that is open; @key is NULL in arrays. An
 * inline object or array stays on one line with everything in it. Write errors stay with the FILE.
 */
#ifndef INSPECT_DOC_H
#define INSPECT_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { DOC_DEPTH = 64 };

struct doc {
	FILE *out;
	unsigned depth;
	unsigned inline_from; /* objects at this depth and deeper are on one line; 0: none */
	struct {
		char close;
		bool any; /* a member is written */
	} open[DOC_DEPTH];
};

void doc_init(struct doc *d, FILE *out);

void doc_object(struct doc *d, const char *key);
void doc_array(struct doc *d, const char *key);
void doc_inline_object(struct doc *d, const char *key);
void doc_inline_array(struct doc *d, const char *key);
void doc_end(struct doc *d);
/* As deep as it goes: the caller must not open another one. */
bool doc_full(const struct doc *d);

/* Above INT64_MAX as "0x..." text: many readers know no larger numbers. */
void doc_u64(struct doc *d, const char *key, uint64_t v);
void doc_i64(struct doc *d, const char *key, int64_t v);
void doc_double(struct doc *d, const char *key, double v);
/* "0x...": addresses and masks. */
void doc_hex(struct doc *d, const char *key, uint64_t v);
void doc_bool(struct doc *d, const char *key, bool v);
/* Bytes that are no UTF-8 appear as \xHH in the text. NULL is null. */
void doc_str(struct doc *d, const char *key, const char *s);
void doc_strn(struct doc *d, const char *key, const char *s, size_t len);
/* Hexadecimal text. */
void doc_bytes(struct doc *d, const char *key, const void *p, size_t len);

#endif
