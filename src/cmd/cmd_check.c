/* SPDX-License-Identifier: MIT */
/* stasis check: what this kernel and these privileges allow, and what is lost without each. */
#include <jansson.h>

#include "src/cmd/cmd.h"
#include "src/target/target.h"

enum { OPT_JSON = 256 };

static const struct argp_option options[] = {
	{"json", OPT_JSON, NULL, 0, "A JSON array on standard output", 0},
	{0},
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	bool *json = state->input;

	if (key == OPT_JSON) {
		*json = true;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	options,
	parse_opt,
	NULL,
	"Tells what this kernel and these privileges allow, and what is lost without each.\v"
	"Exit code 0 when a dump is possible, 16 when something that every dump needs is missing.",
	NULL,
	NULL,
	NULL};

int cmd_check(int argc, char **argv)
{
	const struct target_feature *f;
	bool json = false, able = true;
	json_t *list;
	int ret = cmd_parse(&argp, argc, argv, &json);

	if (ret)
		return ret;
	list = json_array();
	for (f = target_features(); f->name; f++) {
		able &= f->have || !f->required;
		if (json) {
			json_array_append_new(list,
					      json_pack("{s:s, s:b, s:b, s:s, s:s, s:s}", "name",
							f->name, "have", f->have, "required",
							f->required, "since", f->since, "detail",
							f->detail, "without", f->without));
			continue;
		}
		printf("%-4s %-24s %s%s%s\n", f->have ? "yes" : "NO", f->name, f->since,
		       f->detail[0] ? "; " : "", f->detail);
		if (!f->have)
			printf("     without it: %s\n", f->without);
	}
	if (json) {
		json_dumpf(list, stdout, JSON_INDENT(1));
		putchar('\n');
	} else {
		printf("\n%s\n", able ? "A dump is possible here."
				      : "A dump is not possible here: see the first NO above.");
	}
	json_decref(list);
	return able ? 0 : ERR_UNSUPPORTED;
}
