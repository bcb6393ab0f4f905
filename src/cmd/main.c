/* SPDX-License-Identifier: MIT */
/* The command line's first word, looked up in a table. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "src/cmd/cmd.h"

static const struct cmd cmds[] = {
	{"dump", "dump a running process tree into an image", cmd_dump},
	{"pre-dump", "dump and let it run on, for a later --prev-images-dir", cmd_pre_dump},
	{"restore", "bring the process tree of an image back", cmd_restore},
	{"verify", "check every checksum and cross-reference of an image", cmd_verify},
	{"squash", "make one whole image of an incremental one and its parents", cmd_squash},
	{"show", "print an image, or one file of it, as JSON", cmd_show},
	{"core", "make an ELF core file of an image", cmd_core},
	{"bt", "print the stacks of every thread in an image", cmd_bt},
	{"check", "tell what this kernel and these privileges allow", cmd_check},
};

static void usage(FILE *out)
{
	fprintf(out,
		"Usage: stasis COMMAND [OPTION...]\n\n"
		"Checkpoints running Linux processes: compressed, asynchronous, verified.\n\n");
	for (size_t i = 0; i < sizeof(cmds) / sizeof(*cmds); i++)
		fprintf(out, "  %-8s %s\n", cmds[i].name, cmds[i].summary);
	fprintf(out, "\n  stasis COMMAND --help   the options of one command\n"
		     "  stasis --version        the version\n\n"
		     "Example: stasis dump -t 1234 -D images -R && stasis verify images\n");
}

int cmd_fail(const char *command, const struct err *err)
{
	fprintf(stderr, "stasis %s: %s\n", command, err->msg);
	if (err->hint[0])
		fprintf(stderr, "  %s\n", err->hint);
	return err->class ? err->class : ERR_OTHER;
}

int cmd_parse(const struct argp *argp, int argc, char **argv, void *input)
{
	char name[64];

	snprintf(name, sizeof(name), "stasis %s", argv[0]);
	argv[0] = name;
	argp_err_exit_status = ERR_USAGE;
	return argp_parse(argp, argc, argv, 0, NULL, input) ? ERR_USAGE : 0;
}

long cmd_number(struct argp_state *state, const char *option, const char *text, long min, long max)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(text, &end, 10);
	if (errno || end == text || *end || v < min || v > max)
		argp_error(state, "%s: '%s' is not a whole number from %ld to %ld", option, text,
			   min, max);
	return v;
}

uint64_t cmd_size(struct argp_state *state, const char *option, const char *text, uint64_t min,
		  uint64_t max)
{
	unsigned shift = 0;
	uint64_t v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (*end == 'K' || *end == 'k')
		shift = 10;
	else if (*end == 'M' || *end == 'm')
		shift = 20;
	else if (*end == 'G' || *end == 'g')
		shift = 30;
	if (shift)
		end++;
	if (errno || end == text || *end || *text == '-' || v > UINT64_MAX >> shift ||
	    v << shift < min || v << shift > max)
		argp_error(state, "%s: '%s' is not a size from %" PRIu64 "K to %" PRIu64 "K",
			   option, text, min >> 10, max >> 10);
	return v << shift;
}

json_t *cmd_json_text(const char *text)
{
	json_t *j = json_string(text);
	char *copy = j ? NULL : strdup(text);

	for (char *p = copy; p && *p; p++)
		if (*p & 0x80)
			*p = '?';
	if (copy)
		j = json_string(copy);
	free(copy);
	return j;
}

error_t cmd_unknown(struct argp_state *state, int key, const char *arg)
{
	if (key == ARGP_KEY_ARG)
		argp_error(state, "what is '%s'? %s takes no arguments but options", arg,
			   state->name);
	return ARGP_ERR_UNKNOWN;
}

void cmd_file_validation(struct argp_state *state, const char *text, enum fileid_method *ret)
{
	if (!fileid_method_of(text, ret))
		argp_error(state,
			   "--file-validation: '%s' is none of buildid, filesize, checksum, "
			   "checksum-full, checksum-period",
			   text);
}

const char *cmd_bytes(char *buf, size_t len, uint64_t bytes)
{
	static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes / 1024;
	unsigned u = 0;

	if (bytes < 1024) {
		snprintf(buf, len, "%" PRIu64 " B", bytes);
		return buf;
	}
	while (v >= 1024 && u < 3) {
		v /= 1024;
		u++;
	}
	snprintf(buf, len, v < 10 ? "%.2f %s" : "%.1f %s", v, unit[u]);
	return buf;
}

const char *cmd_time(char *buf, size_t len, uint64_t ns)
{
	if (ns < 1000000)
		snprintf(buf, len, "%.0f us", (double)ns / 1e3);
	else if (ns < 1000000000)
		snprintf(buf, len, ns < 100000000 ? "%.2f ms" : "%.0f ms", (double)ns / 1e6);
	else
		snprintf(buf, len, "%.2f s", (double)ns / 1e9);
	return buf;
}

#ifdef FAULTS
static int list_faults(void)
{
	for (const char *const *p = __start_stasis_faults; p < __stop_stasis_faults; p++) {
		bool seen = false;

		for (const char *const *q = __start_stasis_faults; q < p; q++)
			seen |= !strcmp(*p, *q);
		if (!seen)
			puts(*p);
	}
	return 0;
}
#endif

int main(int argc, char **argv)
{
	const char *name = argc ? strrchr(argv[0], '/') : NULL;

	if (argc && !strcmp(name ? name + 1 : argv[0], "criu"))
		return cmd_criu(argc, argv);
	if (argc < 2) {
		usage(stderr);
		return ERR_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts("stasis " STASIS_VERSION);
		return 0;
	}
#ifdef FAULTS
	if (!strcmp(argv[1], "--list-faults"))
		return list_faults();
#endif
	for (size_t i = 0; i < sizeof(cmds) / sizeof(*cmds); i++)
		if (!strcmp(argv[1], cmds[i].name))
			return cmds[i].run(argc - 1, argv + 1);
	fprintf(stderr, "stasis: there is no command '%s'\n  stasis --help lists them\n", argv[1]);
	return ERR_USAGE;
}
