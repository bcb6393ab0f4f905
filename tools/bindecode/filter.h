/* SPDX-License-Identifier: MIT */
/*
 * Which records are wanted.
 *
 * Conditions of one kind are alternatives, different kinds must all hold. What a site decides alone
 * (file, function, a constant level) is decided once per site.
 */
#ifndef BINDECODE_FILTER_H
#define BINDECODE_FILTER_H

#include <regex.h>

#include "tools/bindecode/decode.h"

enum { FILTER_LIST_MAX = 64 };

/* A point in time: relative to the opening of the log, or of the calendar. */
struct filter_time {
	bool set;
	bool real;
	int64_t ns;
};

struct filter {
	int level;			    /* this one and graver; -1: all */
	const char *files[FILTER_LIST_MAX]; /* patterns of fnmatch(3), may end in :LINE */
	unsigned nfiles;
	const char *funcs[FILTER_LIST_MAX];
	unsigned nfuncs;
	uint32_t pids[FILTER_LIST_MAX];
	unsigned npids;
	uint32_t tids[FILTER_LIST_MAX];
	unsigned ntids;
	struct filter_time since;
	struct filter_time until;
	regex_t regex;
	bool has_regex;
	bool invert; /* of the expression */
	struct dec_buf text;
};

void filter_init(struct filter *f);
void filter_deinit(struct filter *f);
int filter_set_regex(struct filter *f, const char *pattern, bool ignore_case, struct err *err);
/* Seconds, [DATE ]HH:MM[:SS[.FRACTION]] with the date of @open_real_ns if none is given. */
int filter_parse_time(struct filter_time *ret, const char *text, int64_t open_real_ns, bool utc,
		      struct err *err);
bool filter_wants(struct filter *f, const struct dec_record *rec);

#endif
