/* SPDX-License-Identifier: MIT */
/*
 * Pieces of JSON, written straight into a buffer.
 */
#ifndef BINDECODE_JSON_H
#define BINDECODE_JSON_H

#include "tools/bindecode/decode.h"

/* A string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void json_string(struct dec_buf *b, const char *p, size_t n);
void json_cstr(struct dec_buf *b, const char *s);
/* ,"key": */
void json_key(struct dec_buf *b, const char *key);
/* @v / 10^@digits: 1234567 with 6 digits is 1.234567. */
void json_fixed(struct dec_buf *b, int64_t v, unsigned digits);
/* The arguments of a call: an array of objects, each {"type":value}. */
void json_args(struct dec_buf *b, const struct dec_record *rec);

#endif
