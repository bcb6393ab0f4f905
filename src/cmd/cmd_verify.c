/* SPDX-License-Identifier: MIT */
/* stasis verify. */
#include <inttypes.h>
#include <jansson.h>

#include "src/cmd/cmd.h"
#include "src/image/image.h"

enum { OPT_JSON = 256, OPT_THREADS };

struct verify_cmd {
	const char *dir;
	unsigned threads;
	bool json;
	json_t *findings;
};

static const struct argp_option options[] = {
	{"threads", OPT_THREADS, "N", 0, "Checking threads; default: every CPU we may use", 0},
	{"json", OPT_JSON, NULL, 0, "One machine-readable result line on standard output", 0},
	{0},
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct verify_cmd *c = state->input;

	switch (key) {
	case OPT_JSON:
		c->json = true;
		return 0;
	case OPT_THREADS:
		c->threads = (unsigned)cmd_number(state, "--threads", arg, 1, 1024);
		return 0;
	case ARGP_KEY_ARG:
		if (c->dir)
			argp_error(state, "one image at a time");
		c->dir = arg;
		return 0;
	case ARGP_KEY_END:
		if (!c->dir)
			argp_error(state, "which image? DIR is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options,
	parse_opt,
	"DIR",
	"Reads every byte of an image and checks every checksum, length and cross-reference.\v"
	"Every damaged place is reported on a line of its own. Exit code 0: whole; 15: damaged.",
	NULL,
	NULL,
	NULL};

static void report(void *arg, const char *line)
{
	struct verify_cmd *c = arg;

	fprintf(stderr, "damaged: %s\n", line);
	json_array_append_new(c->findings, cmd_json_text(line));
}

static void print_json(struct verify_cmd *c, const struct image_verify *v, const struct err *err)
{
	json_t *o = json_object();

	json_object_set_new(o, "ok", json_boolean(!err->errnum));
	json_object_set_new(o, "exit_code", json_integer(err->class));
	if (err->errnum)
		json_object_set_new(o, "error", cmd_json_text(err->msg));
	json_object_set_new(o, "dir", cmd_json_text(c->dir));
	json_object_set_new(o, "files", json_integer((json_int_t)v->files));
	json_object_set_new(o, "blocks", json_integer((json_int_t)v->mem.blocks));
	json_object_set_new(o, "raw_bytes", json_integer((json_int_t)v->mem.raw_bytes));
	json_object_set_new(o, "stale_bytes", json_integer((json_int_t)v->mem.stale_bytes));
	json_object_set_new(o, "parents", json_integer((json_int_t)v->mem.parents));
	json_object_set_new(o, "findings", c->findings);
	c->findings = NULL;
	json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(o);
}

int cmd_verify(int argc, char **argv)
{
	struct verify_cmd c = {0};
	struct image_verify v = {0};
	struct err err = {0};
	char raw[24];
	int ret = cmd_parse(&argp, argc, argv, &c);

	if (ret)
		return ret;
	c.findings = json_array();
	ret = image_verify(c.dir, c.threads, report, &c, &v, &err);
	if (c.json)
		print_json(&c, &v, &err);
	json_decref(c.findings);
	if (ret < 0)
		return cmd_fail("verify", &err);
	fprintf(stderr, "%s: whole: %" PRIu64 " files, %" PRIu64 " blocks, %s of memory", c.dir,
		v.files, v.mem.blocks, cmd_bytes(raw, sizeof(raw), v.mem.raw_bytes));
	if (v.mem.stale_bytes)
		fprintf(stderr, ", %s of it stale", cmd_bytes(raw, sizeof(raw), v.mem.stale_bytes));
	if (v.mem.parents)
		fprintf(stderr, ", and the rest of its memory in %u parent%s", v.mem.parents,
			v.mem.parents == 1 ? "" : "s");
	fputc('\n', stderr);
	return 0;
}
