/* SPDX-License-Identifier: MIT */
/*
 * The command line of bindecode.
 */
#ifndef BINDECODE_OPTIONS_H
#define BINDECODE_OPTIONS_H

#include "tools/bindecode/filter.h"
#include "tools/bindecode/out.h"
#include "tools/bindecode/stats.h"

enum { FILES_MAX = 1024 };

enum colour { COLOUR_AUTO, COLOUR_ALWAYS, COLOUR_NEVER };

struct options {
	const char *files[FILES_MAX];
	unsigned nfiles;
	const struct out_form *form;
	struct out_opts out;
	enum colour colour;
	const char *output; /* file, NULL: standard output */
	struct filter filter;
	const char *since; /* parsed when the log is open */
	const char *until;
	const char *regex;
	bool ignore_case;
	int context; /* records around errors, -1: all records */
	bool follow;
	bool check;
	bool stats;
	enum stats_order order;
	bool sorted;  /* the order was given */
	unsigned top; /* rows, 0: all */
	bool force;
};

/* Parses @argv; leaves the program on --help and on a wrong command line (exit code 2). */
void options_parse(struct options *o, int argc, char **argv);

#endif
