/* SPDX-License-Identifier: MIT */
/* stasis squash. */
#include <inttypes.h>
#include <signal.h>

#include "src/cmd/cmd.h"
#include "src/ops/ops.h"

enum { OPT_COMPRESS = 256, OPT_THREADS };

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static bool on_stop(void *arg)
{
	return interrupted;
}

static const struct argp_option options[] = {
	{"output", 'o', "OUT", 0, "The new image: a directory that must not exist yet, or be empty",
	 0},
	{"compress", OPT_COMPRESS, "CODEC[:LEVEL]", 0,
	 "lz4[:ACCELERATION], zstd[:LEVEL] (negative levels too) or none; default lz4:1", 0},
	{"threads", OPT_THREADS, "N", 0, "Compressing threads; default: every CPU we may use", 0},
	{0},
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct squash_opts *o = state->input;
	struct err err = {0};

	switch (key) {
	case 'o':
		o->out = arg;
		return 0;
	case OPT_COMPRESS:
		if (md_codec_parse(arg, &o->codec, &o->level, &err) < 0)
			argp_error(state, "--compress: %s%s%s", err.msg, err.hint[0] ? ": " : "",
				   err.hint);
		return 0;
	case OPT_THREADS:
		o->threads = (unsigned)cmd_number(state, "--threads", arg, 1, 1024);
		return 0;
	case ARGP_KEY_ARG:
		if (o->dir)
			argp_error(state, "one image at a time: what is '%s'?", arg);
		o->dir = arg;
		return 0;
	case ARGP_KEY_END:
		if (!o->dir)
			argp_error(state, "which image? DIR is missing");
		if (!o->out)
			argp_error(state, "where to? -o OUT is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options,
	parse_opt,
	"DIR",
	"Makes one whole image of an incremental one and all the earlier images it refers to.\v"
	"The images it was made of are left as they are.",
	NULL,
	NULL,
	NULL};

int cmd_squash(int argc, char **argv)
{
	struct squash_opts o = {.codec = MD_DEFAULT_CODEC, .level = MD_DEFAULT_LEVEL};
	struct sigaction sa = {.sa_handler = on_signal};
	struct md_stats stats;
	struct err err = {0};
	char raw[24], file[24];
	int ret = cmd_parse(&argp, argc, argv, &o);

	if (ret)
		return ret;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	signal(SIGXFSZ, SIG_IGN);
	o.stop = on_stop;
	if (squash_run(&o, &stats, &err) < 0)
		return cmd_fail("squash", &err);
	fprintf(stderr, "%s: %s of memory -> %s\n", o.out,
		cmd_bytes(raw, sizeof(raw), stats.raw_bytes),
		cmd_bytes(file, sizeof(file), stats.file_bytes));
	return 0;
}
