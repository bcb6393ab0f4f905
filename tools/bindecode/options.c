/* SPDX-License-Identifier: MIT */
/* Parses the command line of bindecode. */
#include <argp.h>
#include <stdlib.h>
#include <sys/stat.h>

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
	{"utc", KEY_UTC, 0, 0, "Times of day are UTC, those of --since and --until too", 0},
	{"raw", KEY_RAW, 0, 0, "Text exactly as printf would have printed it, no prefix", 0},
	{"colour", KEY_COLOUR, "WHEN", 0, "auto (default: on a terminal), always, never", 0},
	{"color", KEY_COLOUR, "WHEN", OPTION_ALIAS | OPTION_HIDDEN, 0, 0},
	{"follow", 'f', 0, 0,
	 "Go on while the logs are written; what several have is shown as it arrives, in order of "
	 "time only within a twentieth of a second",
	 0},

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
	{"ignore-case", 'i', 0, 0, "For --grep: case does not matter", 0},
	{"invert-match", 'v', 0, 0, "For --grep: whose text does not match", 0},
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
	"An option that would have no effect beside the others is refused.\n\n"
	"TEMPLATE: %t seconds, %T time of day, %p pid, %i tid, %c thread name, %l level, %L its "
	"letter, %f file, %b file without folders, %n line, %F function, %S site, %s stream, %%; a "
	"number is a width: %-5l.\n\n"
	"Exit code: 0 all was decoded; 1 reading or writing failed; 2 wrong command line; 3 a log is "
	"damaged, what could be read was printed; 4 the writer lost records (with --check); 5 not a "
	"log, or a later version, or its dictionary does not belong to it.";

static unsigned number(const char *option, const char *arg, struct argp_state *state,
		       unsigned long min, unsigned long max)
{
	char *end;
	unsigned long v = strtoul(arg, &end, 10);

	if (*arg < '0' || *arg > '9' || *end || v < min || v > max)
		argp_error(state, "%s takes a number from %lu to %lu, not \"%s\"", option, min, max,
			   arg);
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
	if (*arg < '0' || *arg > '9')
		argp_error(state,
			   "--level takes msg, error, warn, info, debug or a number from 0 to "
			   "254, not \"%s\"",
			   arg);
	return (int)number("--level", arg, state, 0, 254);
}

static void add_name(const char *option, const char **list, unsigned *n, const char *arg,
		     struct argp_state *state)
{
	if (*n == FILTER_LIST_MAX)
		argp_error(state, "%s is given more than %d times", option, FILTER_LIST_MAX);
	list[(*n)++] = arg;
}

static void add_number(const char *option, uint32_t *list, unsigned *n, const char *arg,
		       struct argp_state *state)
{
	if (*n == FILTER_LIST_MAX)
		argp_error(state, "%s is given more than %d times", option, FILTER_LIST_MAX);
	list[(*n)++] = number(option, arg, state, 0, UINT32_MAX);
}

/* Which of the @names, ended by NULL, @arg is. */
static unsigned choice(const char *option, const char *arg, const char *const *names,
		       struct argp_state *state)
{
	char all[64] = "";

	for (unsigned i = 0; names[i]; i++) {
		size_t len = strlen(all);

		if (!strcmp(arg, names[i]))
			return i;
		snprintf(all + len, sizeof(all) - len, "%s%s",
			 !i		? ""
			 : names[i + 1] ? ", "
					: " or ",
			 names[i]);
	}
	argp_error(state, "%s takes %s, not \"%s\"", option, all, arg);
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
		add_name("--file", f->files, &f->nfiles, arg, state);
		return 0;
	case KEY_FUNCTION:
		add_name("--function", f->funcs, &f->nfuncs, arg, state);
		return 0;
	case KEY_PID:
		add_number("--pid", f->pids, &f->npids, arg, state);
		return 0;
	case KEY_TID:
		add_number("--tid", f->tids, &f->ntids, arg, state);
		return 0;
	case KEY_SINCE:
		o->since = arg;
		return 0;
	case KEY_UNTIL:
		o->until = arg;
		return 0;
	case 'e':
		if (o->regex)
			argp_error(state, "one --grep only: \"A|B\" is either of two");
		o->regex = arg;
		return 0;
	case 'i':
		o->ignore_case = true;
		return 0;
	case 'v':
		f->invert = true;
		return 0;
	case 'C':
		o->context = (int)number("--context", arg, state, 0, 100000);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse_other(int key, char *arg, struct argp_state *state)
{
	static const char *const orders[] = {"bytes", "count", "gap", NULL};
	static const char *const colours[] = {"auto", "always", "never", NULL};
	static const char *const names[] = {"text", "json", "csv", "trace", NULL};
	struct options *o = state->input;

	switch (key) {
	case 'F':
		o->form = out_find(names[choice("--format", arg, names, state)]);
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
		o->colour = choice("--colour", arg, colours, state);
		return 0;
	case 'f':
		o->follow = true;
		return 0;
	case KEY_STATS:
		o->stats = true;
		return 0;
	case KEY_TOP:
		o->top = number("--top", arg, state, 1, UINT32_MAX);
		return 0;
	case KEY_SORT:
		o->order = choice("--sort", arg, orders, state);
		o->sorted = true;
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

/* The template has the time of day. */
static bool has_clock(const char *template)
{
	for (const char *s = template; (s = strchr(s, '%'));) {
		s += 1 + strspn(s + 1, "-0123456789");
		if (*s == 'T')
			return true;
		s += *s != '\0';
	}
	return false;
}

/* An option that has no effect is a mistake, or will be taken for one later. */
static void refuse_useless(const struct options *o, struct argp_state *state)
{
	static const char as_text[] =
		"records as text: not with --stats, --check or another --format";
	static const char not_check[] = "records or --stats: --check reads everything";
	const struct filter *f = &o->filter;
	bool records = !o->stats && !o->check;
	bool text = records && o->form == &out_text;
	bool clock = text && o->out.prefix ? has_clock(o->out.prefix)
		     : text		   ? o->out.wall
					   : records && o->form == &out_csv;
	const struct {
		bool given, used;
		const char *name, *with;
	} all[] = {
		{o->stats || o->follow, !o->check, o->stats ? "--stats" : "--follow",
		 "records: --check goes alone"},
		{o->form != &out_text, records || (o->stats && o->form == &out_json), "--format",
		 o->stats ? "records; --stats has the forms text and json"
			  : "records or --stats: --check reports as text"},
		{o->out.prefix, text, "--prefix", as_text},
		{o->out.raw, text, "--raw", as_text},
		{o->out.wall, text && !o->out.raw && !o->out.prefix, "--wall",
		 "the default prefix of text; in a --prefix %T is the time of day"},
		{o->colour == COLOUR_ALWAYS, text && !o->out.raw, "--colour=always",
		 "records as text that are not --raw: not with --stats, --check or another "
		 "--format"},
		{o->out.utc, clock || o->since || o->until, "--utc",
		 "times of day: --wall, %T in a --prefix, --format=csv, --since, --until"},
		{f->level >= 0, !o->check, "--level", not_check},
		{f->nfiles, !o->check, "--file", not_check},
		{f->nfuncs, !o->check, "--function", not_check},
		{f->npids, !o->check, "--pid", not_check},
		{f->ntids, !o->check, "--tid", not_check},
		{o->since, !o->check, "--since", not_check},
		{o->until, !o->check, "--until", not_check},
		{o->regex, !o->check, "--grep", not_check},
		{o->ignore_case, o->regex, "--ignore-case", "--grep"},
		{f->invert, o->regex, "--invert-match", "--grep"},
		{o->context >= 0, records, "--context", "records: not with --stats or --check"},
		{o->context >= 0, f->level != BINLOG_MSG, "--context",
		 "errors, and --level=msg leaves them out"},
		{o->top, o->stats, "--top", "--stats"},
		{o->sorted, o->stats, "--sort", "--stats"},
	};

	for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (all[i].given && !all[i].used)
			argp_error(state, "%s goes only with %s", all[i].name, all[i].with);
}

static void check(const struct options *o, struct argp_state *state)
{
	struct stat st;

	if (!o->nfiles)
		argp_error(state, "no log named");
	for (unsigned i = 0; o->follow && i < o->nfiles; i++)
		if (!strcmp(o->files[i], "-") && !fstat(0, &st) && !S_ISREG(st.st_mode))
			argp_error(state,
				   "--follow goes only with files, and standard input is none");
	refuse_useless(o, state);
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
