/* SPDX-License-Identifier: MIT */
/*
 * Options of sockets that are plain values: what getsockopt() gives is what setsockopt() takes.
 *
 * The table says all about one; a dump keeps those that are not as in a new socket of the kind, a
 * restore sets what it finds in the image, and only what the table has.
 */
#ifndef TARGET_SK_TABLE_H
#define TARGET_SK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/image/model.h"

enum sk_when {
	SK_EARLY = 1,	/* before it is bound */
	SK_UNMADE = 2,	/* of a TCP socket that never was connected: else it is not the program's */
	SK_STREAMS = 4, /* TCP */
	SK_PACKETS = 8, /* UDP and its kin */
	SK_RAW = 16,	/* raw ones */
	SK_DATAGRAMS = 32, /* not streams: they cannot set it, and a connection has another value */
};

struct sk_row {
	int level, name;
	uint8_t len; /* bytes, or the most */
	uint8_t when;
};

enum { SK_ROWS_MAX = 128 };

const struct sk_row *sk_rows(size_t *ret_n);
/* NULL: none. */
const struct sk_row *sk_row_find(uint32_t level, uint32_t name);
/* What there is of it: false, or @ret with its length. */
bool sk_row_read(const struct sk_row *row, int sk, struct m_sk_opt *ret);
/* May a socket of this kind have it? */
bool sk_row_fits(const struct sk_row *row, int family, int type, int proto);

#endif
