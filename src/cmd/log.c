/* SPDX-License-Identifier: MIT */
/* The program's own log. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "binlog/binlog.h"
#include "src/cmd/cmd.h"
#include "src/cmd/log.h"
#include "tools/bindecode/decode.h"

enum { OPT_LOG_TEXT = 1024, OPT_NO_LOG, LAST_LINES = 12 };

static struct {
	char *path;
	int text_fd; /* --log-text; -1 */
	bool open;   /* a binary log */
} the_log = {.text_fd = -1};

#define OPTIONS(name)                                                                              \
	{"log-file", 'o', "FILE", 0, "The log; default: " name ", beside the image", 10},          \
		{NULL,                                                                             \
		 'v',                                                                              \
		 "LEVEL",                                                                          \
		 OPTION_ARG_OPTIONAL,                                                              \
		 "More of it: -v adds debugging; -v1 errors only, -v2 warnings, -v3 the default, " \
		 "-v4 everything",                                                                 \
		 10},                                                                              \
		{"log-text", OPT_LOG_TEXT, NULL, 0, "The log as text, not for bindecode (slower)", \
		 10},                                                                              \
		{"no-log", OPT_NO_LOG, NULL, 0, "No log", 10},                                     \
	{                                                                                          \
		0                                                                                  \
	}

static const struct argp_option options[] = {OPTIONS("DIR.binlog")};
static const struct argp_option options_restore[] = {OPTIONS("DIR.restore.binlog")};

/* -v as in criu: a digit sets the level, v's add to it. */
static void parse_level(struct argp_state *state, struct log_opts *o, const char *arg)
{
	int level = o->level + 1;

	if (arg && strspn(arg, "v") == strlen(arg))
		level += (int)strlen(arg);
	else if (arg)
		level = (int)cmd_number(state, "-v", arg, 0, 4);
	o->level = level > BINLOG_DEBUG ? BINLOG_DEBUG : level;
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct log_opts *o = state->input;

	switch (key) {
	case 'o':
		o->path = arg;
		return 0;
	case 'v':
		parse_level(state, o, arg);
		return 0;
	case OPT_LOG_TEXT:
		o->text = true;
		return 0;
	case OPT_NO_LOG:
		o->off = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp log_argp = {options, parse_opt, NULL, NULL, NULL, NULL, NULL};
const struct argp log_argp_restore = {options_restore, parse_opt, NULL, NULL, NULL, NULL, NULL};

static char *beside(const char *image, const char *suffix, const char *ending)
{
	cleanup_free char *real = NULL;
	char *path = NULL;
	size_t len = strlen(image), at;

	while (len > 1 && image[len - 1] == '/')
		len--;
	for (at = len; at && image[at - 1] != '/'; at--)
		;
	/* Of "." the name is elsewhere: beside it, not in it. */
	if (len - at <= 2 && !strncmp(image + at, "..", len - at))
		real = realpath(image, NULL);
	if (real) {
		image = real;
		len = strlen(real);
	}
	if (asprintf(&path, "%.*s%s%s", (int)len, image, suffix, ending) < 0)
		return NULL;
	return path;
}

void log_start(const struct log_opts *opts, const char *image, const char *suffix)
{
	struct binlog_opts bopts = BINLOG_OPTS_DEFAULT;
	struct err err = {0};

	if (opts->off)
		return;
	if (opts->to_stderr) {
		the_log.text_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 64);
		if (the_log.text_fd >= 0)
			binlog_set_sink(binlog_sink_fd, &the_log.text_fd, opts->level);
		return;
	}
	the_log.path = opts->path ? strdup(opts->path)
				  : beside(image, suffix, opts->text ? ".log" : ".binlog");
	if (!the_log.path)
		return;
	if (opts->text) {
		int fd = open(the_log.path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC,
			      0600);

		/* Away from the low numbers, which the guardian gives out again. */
		the_log.text_fd = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 64);
		if (fd >= 0)
			close(fd);
		if (the_log.text_fd >= 0)
			binlog_set_sink(binlog_sink_fd, &the_log.text_fd, opts->level);
		else
			err_set(&err, errno, "create %s", the_log.path);
	} else {
		bopts.level = opts->level;
		the_log.open = binlog_open(the_log.path, &bopts, &err) == 0;
	}
	if (err.errnum)
		fprintf(stderr, "note: no log is written: %s\n", err.msg);
}

/* The newest lines of the log, oldest first. */
static void print_last(const char *path)
{
	struct dec_buf lines[LAST_LINES];
	struct decode *d = NULL;
	struct dec_record rec;
	struct err err = {0};
	unsigned n = 0;
	int ret;

	for (unsigned i = 0; i < LAST_LINES; i++)
		dec_buf_init(&lines[i]);
	ret = decode_new(&d, &err);
	if (ret == 0)
		ret = decode_add(d, path, 0, &err);
	while (ret == 0 && decode_next(d, &rec, &err) > 0) {
		struct dec_buf *b = &lines[n % LAST_LINES];

		b->len = 0;
		if (rec.event == DEC_CALL && decode_text(&rec, b))
			n++;
	}
	if (n)
		fprintf(stderr, "  the last lines of %s:\n", path);
	for (unsigned i = n > LAST_LINES ? n - LAST_LINES : 0; i < n; i++) {
		const struct dec_buf *b = &lines[i % LAST_LINES];

		fprintf(stderr, "  | %.*s%s", (int)b->len, (const char *)b->p,
			b->len && b->p[b->len - 1] == '\n' ? "" : "\n");
	}
	for (unsigned i = 0; i < LAST_LINES; i++)
		dec_buf_deinit(&lines[i]);
	decode_free(d);
}

void log_end(bool failed)
{
	binlog_set_sink(NULL, NULL, 0);
	if (the_log.open) {
		binlog_close();
		if (failed)
			print_last(the_log.path);
	}
	if (the_log.text_fd >= 0)
		close(the_log.text_fd);
	the_log.text_fd = -1;
	the_log.open = false;
	free(the_log.path);
	the_log.path = NULL;
}
