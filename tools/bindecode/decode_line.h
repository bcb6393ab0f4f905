/* SPDX-License-Identifier: MIT */
/*
 * A record as a line for a person: prefix, text, line end.
 */
#ifndef BINDECODE_DECODE_LINE_H
#define BINDECODE_DECODE_LINE_H

#include "tools/bindecode/decode_prefix.h"

/* Appends @rec, a call or a loss, ending in a newline. @p NULL: no prefix. */
void dec_line_put(struct dec_prefix *p, const struct dec_record *rec, struct dec_buf *b);

/* "12 records (480 bytes) lost: the log reached its size limit" */
void dec_loss_put(const struct dec_loss *loss, struct dec_buf *b);

#endif
