/* SPDX-License-Identifier: MIT */
/*
 * What each call site and each thread wrote: how often, how much, when, with what pauses.
 */
#ifndef BINDECODE_STATS_H
#define BINDECODE_STATS_H

#include "tools/bindecode/decode.h"

struct stats;

enum stats_order { STATS_BYTES, STATS_COUNT, STATS_GAP };

int stats_new(struct stats **ret, struct err *err);
void stats_free(struct stats *s);
/* False: no memory. */
bool stats_add(struct stats *s, const struct dec_record *rec);
/* @top 0: all rows. @json: a line per row instead of tables. */
void stats_put(struct stats *s, enum stats_order order, unsigned top, bool json, struct dec_buf *b);

#endif
