/* SPDX-License-Identifier: MIT */
/* stasis check: what this kernel and these privileges allow, and what is lost without each. */
#include <jansson.h>

#include "src/cmd/cmd.h"
#include "src/target/target.h"

enum {
	OPT_JSON = 256,
	OPT_PID,
	OPT_GHOST,
	OPT_LINK_REMAP,
	OPT_TCP,
	OPT_TCP_CLOSE,
};

struct check_cmd {
	bool json;
	pid_t pid;		 /* 0: the kernel */
	struct target_opts opts; /* of the dump that is asked about */
	const char *for_pid;	 /* an option without --pid */
};

static const struct argp_option options[] = {
	{"json", OPT_JSON, NULL, 0, "A JSON array on standard output", 0},
	{"pid", OPT_PID, "PID", 0, "What of this process tree could not be restored", 0},
	{NULL, 0, NULL, 0, "With --pid, what the dump would be told:", 1},
	{"ghost-limit", OPT_GHOST, "SIZE", 0, "As of stasis dump", 1},
	{"link-remap", OPT_LINK_REMAP, NULL, 0, "As of stasis dump", 1},
	{"shell-job", 'j', NULL, 0, "As of stasis dump", 1},
	{"tcp-established", OPT_TCP, NULL, 0, "As of stasis dump", 1},
	{"tcp-close", OPT_TCP_CLOSE, NULL, 0, "As of stasis dump", 1},
	{"ext-unix-sk", 'x', NULL, 0, "As of stasis dump", 1},
	{0},
};

/* True when @key is one of these. */
static bool parse_dump_opt(int key, char *arg, struct argp_state *state, struct check_cmd *c)
{
	static const struct {
		int key;
		const char *name;
	} names[] = {{OPT_GHOST, "--ghost-limit"},   {OPT_LINK_REMAP, "--link-remap"},
		     {'j', "--shell-job"},	     {OPT_TCP, "--tcp-established"},
		     {OPT_TCP_CLOSE, "--tcp-close"}, {'x', "--ext-unix-sk"}};
	struct target_opts *o = &c->opts;

	switch (key) {
	case OPT_GHOST:
		o->ghost_limit = cmd_size(state, "--ghost-limit", arg, 1, (uint64_t)1 << 30);
		break;
	case OPT_LINK_REMAP:
		o->link_remap = true;
		break;
	case 'j':
		o->shell_job = true;
		break;
	case OPT_TCP:
		o->tcp_established = true;
		break;
	case OPT_TCP_CLOSE:
		o->tcp_close = true;
		break;
	case 'x':
		o->ext_unix = true;
		break;
	default:
		return false;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].key == key)
			c->for_pid = names[i].name;
	return true;
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct check_cmd *c = state->input;

	switch (key) {
	case OPT_JSON:
		c->json = true;
		return 0;
	case OPT_PID:
		c->pid = (pid_t)cmd_number(state, "--pid", arg, 1, 1 << 22);
		return 0;
	case ARGP_KEY_END:
		if (c->for_pid && !c->pid)
			argp_error(state, "%s is of a process tree: --pid PID is missing",
				   c->for_pid);
		return 0;
	default:
		return parse_dump_opt(key, arg, state, c) ? 0 : cmd_unknown(state, key, arg);
	}
}

static const struct argp argp = {
	options,
	parse_opt,
	NULL,
	"Tells what this kernel and these privileges allow, and what is lost without each.\v"
	"Exit code 0 when a dump is possible, 16 when something that every dump needs is missing. With "
	"--pid the tree is looked at while it runs, untouched: exit code 0 when nothing is in the "
	"way of a restore, 16 with a list when something is.",
	NULL,
	NULL,
	NULL};

/* --- a process tree ------------------------------------------------------------------------- */

static unsigned print_findings(const struct model *m, bool json)
{
	json_t *list = json ? json_array() : NULL;
	unsigned fatal = 0;

	for (uint32_t i = 0; i < m->nfindings; i++) {
		const struct m_finding *f = &m->findings[i];

		fatal += f->fatal;
		if (json)
			json_array_append_new(list, json_pack("{s:i, s:o, s:b}", "pid", (int)f->pid,
							      "text", cmd_json_text(f->text),
							      "fatal", f->fatal));
		else
			printf("pid %u: %s%s\n", f->pid, f->text, f->fatal ? "" : " (a note)");
	}
	if (json) {
		json_dumpf(list, stdout, JSON_INDENT(1));
		putchar('\n');
		json_decref(list);
	}
	return fatal;
}

static int check_pid(const struct check_cmd *c)
{
	struct target_opts opts = c->opts;
	struct model *m = NULL;
	struct target *t = NULL;
	struct err err = {0};
	int ret = target_precheck(c->pid, &err);

	opts.survey_all = true;
	if (ret == 0) {
		m = model_new(MODEL_SHARED);
		if (!m)
			ret = err_set(&err, ENOMEM, "reserve address space for the process tree");
	}
	if (ret == 0) {
		t = target_open(c->pid, m, &opts, &err);
		ret = t ? target_survey(t, &err) : -err.errnum;
	}
	target_release(t);
	if (ret < 0)
		ret = cmd_fail("check", &err);
	else if (print_findings(m, c->json))
		ret = ERR_UNSUPPORTED;
	model_free(m);
	return ret;
}

/* --- the kernel ----------------------------------------------------------------------------- */

static int check_kernel(bool json)
{
	const struct target_feature *f;
	json_t *list = json_array();
	bool able = true, restores = true;

	for (f = target_features(); f->name; f++) {
		able &= f->have || !f->required;
		restores &= f->have || !f->restores;
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
		printf("\n%s\n",
		       !able ? "A dump is not possible here: see the first NO above."
		       : restores
			       ? "A dump and a restore are possible here."
			       : "A dump is possible here, a restore is not (see the NO above that "
				 "says so): restore as root, or with CAP_CHECKPOINT_RESTORE.");
	}
	json_decref(list);
	return able ? 0 : ERR_UNSUPPORTED;
}

int cmd_check(int argc, char **argv)
{
	struct check_cmd c = {0};
	int ret = cmd_parse(&argp, argc, argv, &c);

	if (ret)
		return ret;
	return c.pid ? check_pid(&c) : check_kernel(c.json);
}
