/* SPDX-License-Identifier: MIT */
/* stasis show, core and bt: the commands that read an image. */
#include <string.h>
#include <unistd.h>

#include "src/cmd/cmd.h"
#include "src/image/image.h"
#include "src/inspect/inspect.h"

struct inspect_cmd {
	const char *dir;
	const char *file;  /* show: one file of the image; core: output */
	uint32_t pid;	   /* 0: all */
	bool brief;	   /* show */
	bool wants_output; /* core */
	bool takes_file;   /* show */
};

static const struct argp_option show_options[] = {
	{"pid", 'p', "PID", 0, "Only this process", 0},
	{"brief", 'b', NULL, 0, "Counts in place of the lists of mappings, files and registers", 0},
	{0},
};

static const struct argp_option core_options[] = {
	{"output", 'o', "FILE", 0,
	 "The core file; FILE.PID for each process of a tree; - is standard output", 0},
	{"pid", 'p', "PID", 0, "Only this process", 0},
	{0},
};

static const struct argp_option bt_options[] = {
	{"pid", 'p', "PID", 0, "Only this process", 0},
	{0},
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct inspect_cmd *c = state->input;

	switch (key) {
	case 'o':
		c->file = arg;
		return 0;
	case 'p':
		c->pid = (uint32_t)cmd_number(state, "--pid", arg, 1, 1 << 22);
		return 0;
	case 'b':
		c->brief = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!c->dir)
			c->dir = arg;
		else if (c->takes_file && !c->file)
			c->file = arg;
		else
			argp_error(state, "too many arguments: '%s'", arg);
		return 0;
	case ARGP_KEY_END:
		if (!c->dir)
			argp_error(state, "which image? DIR is missing");
		if (c->wants_output && !c->file)
			argp_error(state, "where to? -o FILE is missing");
		if (c->wants_output && !strcmp(c->file, "-") && isatty(STDOUT_FILENO))
			argp_error(state, "-o -: standard output is a terminal: give a file, or a "
					  "program that reads a core");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp show_argp = {
	show_options, parse_opt,
	"DIR [FILE]", "Prints an image as one JSON document, or every entry of one of its files.",
	NULL,	      NULL,
	NULL};

static const struct argp core_argp = {
	core_options, parse_opt, "DIR", "Makes an ELF core file of an image, for gdb and its kin.",
	NULL,	      NULL,	 NULL};

static const struct argp bt_argp = {
	bt_options,
	parse_opt,
	"DIR",
	"Prints the stack of every thread in an image, with symbol names from the ELF files on disk.",
	NULL,
	NULL,
	NULL};

static int flush_stdout(struct err *err)
{
	if (fflush(stdout) == EOF || ferror(stdout))
		return err_set(err, errno ? errno : EIO, "write to standard output");
	return 0;
}

int cmd_show(int argc, char **argv)
{
	struct inspect_cmd c = {.takes_file = true};
	struct show_opts opts;
	struct err err = {0};
	struct image *img;
	int ret = cmd_parse(&show_argp, argc, argv, &c);

	if (ret)
		return ret;
	img = image_open(c.dir, &err);
	if (!img)
		return cmd_fail("show", &err);
	opts = (struct show_opts){.pid = c.pid, .brief = c.brief};
	ret = inspect_show(img, c.file, stdout, &opts, &err);
	if (ret == 0)
		ret = flush_stdout(&err);
	image_close(img);
	return ret < 0 ? cmd_fail("show", &err) : 0;
}

int cmd_core(int argc, char **argv)
{
	struct inspect_cmd c = {.wants_output = true};
	struct err err = {0};
	struct image *img;
	int ret = cmd_parse(&core_argp, argc, argv, &c);

	if (ret)
		return ret;
	img = image_open(c.dir, &err);
	if (!img)
		return cmd_fail("core", &err);
	ret = inspect_core(img, c.file, c.pid, &err);
	image_close(img);
	return ret < 0 ? cmd_fail("core", &err) : 0;
}

int cmd_bt(int argc, char **argv)
{
	struct inspect_cmd c = {0};
	struct err err = {0};
	struct image *img;
	int ret = cmd_parse(&bt_argp, argc, argv, &c);

	if (ret)
		return ret;
	img = image_open(c.dir, &err);
	if (!img)
		return cmd_fail("bt", &err);
	ret = inspect_bt(img, stdout, c.pid, &err);
	if (ret == 0)
		ret = flush_stdout(&err);
	image_close(img);
	return ret < 0 ? cmd_fail("bt", &err) : 0;
}
