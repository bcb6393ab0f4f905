/* SPDX-License-Identifier: MIT */
/*
 * The command line of criu, as far as stasis gives an option its effect.
 *
 * Every option that CRIU 4.2 knows is in one table: it sets something, or does not matter here and
 * is noted in the log, or asks for what stasis does not do and is refused by its name, before
 * anything is touched.
 */
#ifndef CMD_CRIU_OPTS_H
#define CMD_CRIU_OPTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"
#include "src/target/fileid.h"

enum { CRIU_NOTES = 32 };

struct criu_opts {
	const char *command;
	pid_t pid;
	const char *images_dir; /* "." */
	const char *work_dir;	/* the images' unless given */
	const char *log_file;	/* NULL: stderr */
	int level;		/* -v; 0 nothing to 4 everything */
	bool level_given;
	bool leave_running, leave_stopped;
	bool detached, sibling, shell_job;
	bool tcp_established, tcp_close, ext_unix, link_remap, no_net_lock;
	bool display_stats;
	uint64_t ghost_limit; /* 0: the default */
	unsigned timeout_s;   /* 0: the default */
	uint32_t cpu_unchecked;
	const char *pidfile;
	struct fileid_opts file_id;
	bool exec_cmd;
	char **rest;		   /* words after the command, ends with NULL */
	bool check_all;		   /* check --all, --extra, --experimental */
	const char *check_feature; /* check --feature */
	bool help, version;
	/* Options that do not matter here, for the log. */
	unsigned nnotes;
	const char *notes[CRIU_NOTES];
};

/* @argv as main() got it. 0, or -EINVAL, -EOPNOTSUPP with @err. */
int criu_opts_parse(struct criu_opts *ret, int argc, char **argv, struct err *err);

/* Every option, by what becomes of it. */
void criu_opts_help(FILE *out);

#endif
