/* SPDX-License-Identifier: MIT */
/* Parses the command line of bindecode. */
#include <argp.h>
#include <stdlib.h>

#include "tools/bindecode/options.h"

enum key {
	KEY_RAW = 256,
	KEY_UTC,
	KEY_COLOUR,
	KEY_FUNCTION,
	KEY_PID,
	KEY_TID,
	KEY_SINCE,
	KEY_UNTIL,
	KEY_CHECK,
	KEY_STATS,
	KEY_TOP,
	KEY_SORT,
	KEY_FORCE,
};

static const struct argp_option table[] = {
	{0, 0, 0, 0, "What to print:", 1},
	{"format", 'F', "FORM", 0, "text (default), json, csv or trace (Chrome trace events)", 0},
	{"output", 'o', "FILE", 0, "Write to FILE", 0},
	{"prefix", 'P', "TEMPLATE", 0, "What stands before the text, see below; may be empty", 0},
	{"wall", 'w', 0, 0, "Time of day instead of seconds since the log was opened", 0},
	{"utc", KEY_UTC, 0, 0, "Times of day are UTC", 0},
	{"raw", KEY_RAW, 0, 0, "Text exactly as printf would have printed it, no prefix", 0},
	{"colour", KEY_COLOUR, "WHEN", 0, "auto (default: on a terminal), always, never", 0},
	{"color", KEY_COLOUR, "WHEN", OPTION_ALIAS | OPTION_HIDDEN, 0, 0},
	{"follow", 'f', 0, 0, "Go on while the log is written", 0},

	{0, 0, 0, 0, "Which records:", 2},
	{"level", 'l', "LEVEL", 0, "LEVEL and graver: msg, error, warn, info, debug, or 0 to 254",
	 0},
	{"file", 's', "FILE[:LINE]", 0, "Of that source file; wildcards; may be repeated", 0},
	{"function", KEY_FUNCTION, "NAME", 0, "Of that function; wildcards; may be repeated", 0},
	{"pid", KEY_PID, "PID", 0, "Of that process; may be repeated", 0},
	{"tid", KEY_TID, "TID", 0, "Of that thread; may be repeated", 0},
	{"since", KEY_SINCE, "TIME", 0,
	 "From TIME on: seconds since the log was opened, or [YYYY-MM-DD ]HH:MM[:SS[.FRACTION]]",
	 0},
	{"until", KEY_UNTIL, "TIME", 0, "Up to TIME", 0},
	{"grep", 'e', "REGEX", 0, "Whose text matches the extended regular expression", 0},
	{"ignore-case", 'i', 0, 0, "For --grep", 0},
	{"invert-match", 'v', 0, 0, "Whose text does not match", 0},
	{"context", 'C', "N", 0, "Only errors, and N records before and behind each", 0},

	{0, 0, 0, 0, "Instead of records:", 3},
	{"stats", KEY_STATS, 0, 0,
	 "A table of call sites and threads: count, bytes, first, last, gap", 0},
	{"top", KEY_TOP, "N", 0, "Only the first N rows of the tables", 0},
	{"sort", KEY_SORT, "BY", 0, "bytes (default), count or gap", 0},
	{"check", KEY_CHECK, 0, 0, "Read everything and report on the state of the log", 0},

	{0, 0, 0, 0, "Else:", 4},
	{"force", KEY_FORCE, 0, 0, "Read a log whose header is damaged", 0},
	{0},
};

static const char doc[] =
	"Turns binary logs into text. Several logs are merged by time; - is standard input."
	"\v"
	"TEMPLATE: %t seconds, %T time of day, %p pid, %i tid, %c thread name, %l level, %L its "
	"letter, %f file, %b file without folders, %n line, %F function, %S site, %s stream, %%; a "
	"number is a width: %-5l.\n\n"
	"Exit code: 0 all was decoded; 1 reading or writing failed; 2 wrong command line; 3 a log is "
	"damaged, what could be read was printed; 4 the writer lost records (with --check); 5 not a "
	"log, or a later version, or its dictionary does not belong to it.";

static unsigned number(const char *arg, struct argp_state *state, unsigned long max)
{
	char *end;
	unsigned long v = strtoul(arg, &end, 10);

	if (!*arg || *end || *arg == '-' || v > max)
		argp_error(state, "\"%s\" is no number up to %lu", arg, max);
	return (unsigned)v;
}

static int level(const char *arg, struct argp_state *state)
{
	static const struct {
		const char *name;
		int level;
	} names[] = {
		{"msg", BINLOG_MSG},	  {"error", BINLOG_ERR}, {"err", BINLOG_ERR},
		{"warn", BINLOG_WARN},	  {"info", BINLOG_INFO}, {"debug", BINLOG_DEBUG},
		{"warning", BINLOG_WARN},
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(arg, names[i].name))
			return names[i].level;
	return (int)number(arg, state, 254);
}

static void add_name(const char **list, unsigned *n, const char *arg, struct argp_state *state)
{
	if (*n == FILTER_LIST_MAX)
		argp_error(state, "more than %d of one option", FILTER_LIST_MAX);
	list[(*n)++] = arg;
}

static void add_number(uint32_t *list, unsigned *n, const char *arg, struct argp_state *state)
{
	if (*n == FILTER_LIST_MAX)
		argp_error(state, "more than %d of one option", FILTER_LIST_MAX);
	list[(*n)++] = number(arg, state, UINT32_MAX);
}

/* Which of the @names, ended by NULL, @arg is. */
static unsigned choice(const char *arg, const char *const *names, struct argp_state *state)
{
	for (unsigned i = 0; names[i]; i++)
		if (!strcmp(arg, names[i]))
			return i;
	argp_error(state, "\"%s\" is not one of the choices", arg);
	return 0;
}

static error_t parse_filter(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	struct filter *f = &o->filter;

	switch (key) {
	case 'l':
		f->level = level(arg, state);
		return 0;
	case 's':
		add_name(f->files, &f->nfiles, arg, state);
		return 0;
	case KEY_FUNCTION:
		add_name(f->funcs, &f->nfuncs, arg, state);
		return 0;
	case KEY_PID:
		add_number(f->pids, &f->npids, arg, state);
		return 0;
	case KEY_TID:
		add_number(f->tids, &f->ntids, arg, state);
		return 0;
	case KEY_SINCE:
		o->since = arg;
		return 0;
	case KEY_UNTIL:
		o->until = arg;
		return 0;
	case 'e':
		o->regex = arg;
		return 0;
	case 'i':
		o->ignore_case = true;
		return 0;
	case 'v':
		f->invert = true;
		return 0;
	case 'C':
		o->context = (int)number(arg, state, 100000);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse_other(int key, char *arg, struct argp_state *state)
{
	static const char *const orders[] = {"bytes", "count", "gap", NULL};
	static const char *const colours[] = {"auto", "always", "never", NULL};
	struct options *o = state->input;

	switch (key) {
	case 'F':
		o->form = out_find(arg);
		if (!o->form)
			argp_error(state, "\"%s\" is no form of output", arg);
		return 0;
	case 'o':
		o->output = arg;
		return 0;
	case 'P':
		o->out.prefix = arg;
		return 0;
	case 'w':
		o->out.wall = true;
		return 0;
	case KEY_UTC:
		o->out.utc = true;
		return 0;
	case KEY_RAW:
		o->out.raw = true;
		return 0;
	case KEY_COLOUR:
		o->colour = choice(arg, colours, state);
		return 0;
	case 'f':
		o->follow = true;
		return 0;
	case KEY_STATS:
		o->stats = true;
		return 0;
	case KEY_TOP:
		o->top = number(arg, state, UINT32_MAX);
		return 0;
	case KEY_SORT:
		o->order = choice(arg, orders, state);
		return 0;
	case KEY_CHECK:
		o->check = true;
		return 0;
	case KEY_FORCE:
		o->force = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void check(const struct options *o, struct argp_state *state)
{
	if (!o->nfiles)
		argp_error(state, "no log named");
	if (o->check && (o->stats || o->follow))
		argp_error(state, "--check goes alone");
	if (o->stats && o->form != &out_text && o->form != &out_json)
		argp_error(state, "--stats has the forms text and json");
	if (o->filter.invert && !o->regex)
		argp_error(state, "--invert-match needs --grep");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	if (key == ARGP_KEY_ARG) {
		if (o->nfiles == FILES_MAX)
			argp_error(state, "more than %d logs", FILES_MAX);
		o->files[o->nfiles++] = arg;
		return 0;
	}
	if (key == ARGP_KEY_END) {
		check(o, state);
		return 0;
	}
	if (parse_filter(key, arg, state) == 0)
		return 0;
	return parse_other(key, arg, state);
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct argp argp = {table, parse, "LOG...", doc, NULL, NULL, NULL};

	memset(o, 0, sizeof(*o));
	filter_init(&o->filter);
	o->form = &out_text;
	o->context = -1;
	argp_program_version = "bindecode " STASIS_VERSION;
	argp_err_exit_status = 2;
	argp_parse(&argp, argc, argv, 0, NULL, o);
	o->out.many = o->nfiles > 1;
}
