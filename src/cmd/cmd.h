/* SPDX-License-Identifier: MIT */
/*
 * What the commands share: the table's row, the one place that prints errors, human units.
 *
 * A command returns the exit code: 0, or the err_class of what failed (base/err.h, stasis(1)).
 * People's text goes to stderr, results for programs (--json, show, bt) to stdout.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "src/target/fileid.h"

struct cmd {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);
};

int cmd_dump(int argc, char **argv);
int cmd_pre_dump(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_squash(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_core(int argc, char **argv);
int cmd_bt(int argc, char **argv);
int cmd_check(int argc, char **argv);
/* The whole program under the name criu; @argv is main()'s. */
int cmd_criu(int argc, char **argv);

/* Prints "stasis COMMAND: what went wrong" and the hint; the exit code. */
int cmd_fail(const char *command, const struct err *err);

/*
 * argp_parse() for one command: argv[0] becomes "stasis COMMAND", usage errors exit with ERR_USAGE.
 * --help and --usage come from the option table. 0, or the exit code.
 */
int cmd_parse(const struct argp *argp, int argc, char **argv, void *input);

/*
 * What a parser returns for a key that is none of its: an argument is named, for there is no place
 * for one.
 */
error_t cmd_unknown(struct argp_state *state, int key, const char *arg);

/* A whole decimal number in [@min, @max]; else argp_error(), which exits with ERR_USAGE. */
long cmd_number(struct argp_state *state, const char *option, const char *text, long min, long max);
/* As cmd_number(), in bytes with an optional suffix K, M or G. */
uint64_t cmd_size(struct argp_state *state, const char *option, const char *text, uint64_t min,
		  uint64_t max);

/* @text as a JSON string; names are any bytes, and what is not UTF-8 becomes "?". */
json_t *cmd_json_text(const char *text);

/* --file-validation; else argp_error(). */
void cmd_file_validation(struct argp_state *state, const char *text, enum fileid_method *ret);

/*
 * --cpu-cap: none, fpu, ins, cpu, all, with commas between; ^ before one takes it away. Into
 * restore_opts.cpu_unchecked; -EINVAL.
 */
int cmd_cpu_cap(const char *text, uint32_t *ret_unchecked);

/* "512.0 MiB", "1.20 ms" in the caller's buffer; returns it. */
const char *cmd_bytes(char *buf, size_t len, uint64_t bytes);
const char *cmd_time(char *buf, size_t len, uint64_t ns);

#endif
