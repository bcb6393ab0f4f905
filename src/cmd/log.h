/* SPDX-License-Identifier: MIT */
/*
 * The program's own log: where it goes, how much of it, and its last lines after a failure.
 *
 * Everything is logged with BINLOG (binlog/binlog.h) into one binary file, by default beside the
 * image (DIR.binlog); bindecode turns it into text. One log per process, one thread.
 */
#ifndef CMD_LOG_H
#define CMD_LOG_H

#include <argp.h>
#include <stdbool.h>

#include "binlog/binlog.h"

struct log_opts {
	const char *path; /* -o; NULL: beside the image */
	int level;	  /* -v: BINLOG_ERR .. BINLOG_DEBUG */
	bool text;	  /* --log-text */
	bool off;	  /* --no-log */
	bool to_stderr;	  /* as text, and into no file */
};

#define LOG_OPTS_DEFAULT             \
	{                            \
		.level = BINLOG_INFO \
	}

/* A child parser with -o, -v, --log-text, --no-log; its input is a struct log_opts. */
extern const struct argp log_argp;
/* The same for a restore, whose log has another name. */
extern const struct argp log_argp_restore;

/*
 * Starts logging to opts->path, or beside @image: its name, @suffix and ".binlog". A log that
 * cannot be written is said on stderr and done without: it must not keep anybody from a dump.
 * Before the guardian is forked.
 */
void log_start(const struct log_opts *opts, const char *image, const char *suffix);

/* Ends logging. After a failure the last lines are printed, decoded, on stderr. */
void log_end(bool failed);

#endif
