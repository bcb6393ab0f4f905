/* SPDX-License-Identifier: MIT */
/* The command line of criu: one table of every option it knows. */
#include "src/cmd/criu_opts.h"

#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/cmd/cmd.h"

enum kind {
	K_FLAG,	  /* sets a bool; --no-NAME clears it */
	K_TEXT,	  /* sets a string */
	K_VALUE,  /* has a function of its own */
	K_NOTED,  /* does not matter here */
	K_REFUSE, /* asks for what there is not */
};

enum { ARG_NONE = no_argument, ARG_YES = required_argument, ARG_MAY = optional_argument };

struct row;
typedef int take_fn(struct criu_opts *o, const struct row *row, const char *arg, struct err *err);

struct row {
	const char *name; /* "" for a letter that has no long name */
	char letter;
	int arg;
	enum kind kind;
	size_t at;	  /* K_FLAG, K_TEXT */
	take_fn *take;	  /* K_VALUE */
	const char *text; /* why it is refused */
	bool positive;	  /* there is no --no-NAME */
};

static int bad_value(const struct row *row, const char *arg, const char *want, struct err *err)
{
	return err_fail(err, EINVAL, ERR_USAGE, "--%s: '%s' is not %s", row->name, arg, want);
}

static int number(const struct row *row, const char *arg, long min, long max, long *ret,
		  struct err *err)
{
	char want[64], *end;
	long v;

	errno = 0;
	v = strtol(arg, &end, 10);
	if (errno || end == arg || *end || v < min || v > max) {
		snprintf(want, sizeof(want), "a number from %ld to %ld", min, max);
		return bad_value(row, arg, want, err);
	}
	*ret = v;
	return 0;
}

static int take_pid(struct criu_opts *o, const struct row *row, const char *arg, struct err *err)
{
	long v;
	int ret = number(row, arg, 1, 1 << 22, &v, err);

	if (ret == 0)
		o->pid = (pid_t)v;
	return ret;
}

static int take_timeout(struct criu_opts *o, const struct row *row, const char *arg,
			struct err *err)
{
	long v;
	int ret = number(row, arg, 0, 3600, &v, err);

	if (ret == 0)
		o->timeout_s = (unsigned)v;
	return ret;
}

static int take_close(struct criu_opts *o, const struct row *row, const char *arg, struct err *err)
{
	long v;
	int ret = number(row, arg, 0, 1 << 20, &v, err);

	if (ret == 0)
		close((int)v);
	return ret;
}

static int take_ghost_limit(struct criu_opts *o, const struct row *row, const char *arg,
			    struct err *err)
{
	static const char units[] = "KMG";
	const char *unit;
	uint64_t v;
	char *end;

	errno = 0;
	v = strtoull(arg, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	if (unit)
		end++;
	if (errno || end == arg || *end || *arg == '-' || v > (uint64_t)1 << 30)
		return bad_value(row, arg, "a size such as 512K, 8M or 1G", err);
	if (unit)
		v <<= 10 * (unit - units + 1);
	/* 0 is the default in our options, and nothing passes a limit of one byte. */
	o->ghost_limit = v ? v : 1;
	return 0;
}

/* -v4 and --verbosity=4 set it, -v, -vv add to it. */
static int take_verbosity(struct criu_opts *o, const struct row *row, const char *arg,
			  struct err *err)
{
	long v;
	int ret;

	if (!arg || strspn(arg, "v") == strlen(arg)) {
		o->level += 1 + (arg ? (int)strlen(arg) : 0);
	} else {
		ret = number(row, arg, 0, INT32_MAX, &v, err);
		if (ret < 0)
			return ret;
		o->level = v > 4 ? 4 : (int)v;
	}
	o->level = o->level > 4 ? 4 : o->level;
	o->level_given = true;
	return 0;
}

static int take_validation(struct criu_opts *o, const struct row *row, const char *arg,
			   struct err *err)
{
	/* The others are ours, and CRIU's reader knows nothing of them. */
	if (strcmp(arg, "filesize") && strcmp(arg, "buildid"))
		return bad_value(row, arg, "filesize or buildid", err);
	fileid_method_of(arg, &o->file_id.method);
	return 0;
}

static int take_ext_unix(struct criu_opts *o, const struct row *row, const char *arg,
			 struct err *err)
{
	if (arg)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"--%s: a list of sockets is not supported, the option alone is",
				row->name);
	o->ext_unix = true;
	return 0;
}

static int only(const struct row *row, const char *arg, const char *const *able, struct err *err)
{
	for (; *able; able++)
		if (!strcmp(arg, *able))
			return 0;
	return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED, "--%s=%s is not supported: %s", row->name,
			arg, row->text);
}

static int take_network_lock(struct criu_opts *o, const struct row *row, const char *arg,
			     struct err *err)
{
	static const char *const able[] = {"iptables", "nftables", "skip", NULL};

	o->no_net_lock = !strcmp(arg, "skip");
	return only(row, arg, able, err);
}

static int take_cgroups(struct criu_opts *o, const struct row *row, const char *arg,
			struct err *err)
{
	static const char *const able[] = {"ignore", NULL};

	return only(row, arg ? arg : "soft", able, err);
}

static int take_cpu_cap(struct criu_opts *o, const struct row *row, const char *arg,
			struct err *err)
{
	if (cmd_cpu_cap(arg ? arg : "all", &o->cpu_unchecked) < 0)
		return bad_value(row, arg, "none, fpu, ins, cpu, all or a list of these", err);
	return 0;
}

#define FLAG(n, c, field)                                                                \
	{                                                                                \
		n, c, ARG_NONE, K_FLAG, offsetof(struct criu_opts, field), NULL, NULL, 0 \
	}
/* As FLAG, without a negative form. */
#define ONLY(n, c, field)                                                                \
	{                                                                                \
		n, c, ARG_NONE, K_FLAG, offsetof(struct criu_opts, field), NULL, NULL, 1 \
	}
#define TEXT(n, c, field)                                                               \
	{                                                                               \
		n, c, ARG_YES, K_TEXT, offsetof(struct criu_opts, field), NULL, NULL, 1 \
	}
#define VALUE(n, c, arg, fn, text)                 \
	{                                          \
		n, c, arg, K_VALUE, 0, fn, text, 1 \
	}
#define NOTED(n, c, arg)                                             \
	{                                                            \
		n, c, arg, K_NOTED, 0, NULL, NULL, (arg) != ARG_NONE \
	}
#define REFUSE(n, c, arg, text)                                       \
	{                                                             \
		n, c, arg, K_REFUSE, 0, NULL, text, (arg) != ARG_NONE \
	}

#define NO_NS	   "namespaces of the tree's own are not carried"
#define NO_MOUNTS  "mounts are not carried"
#define NO_CGROUPS "cgroups are not carried"
#define NO_ROUNDS                                                                              \
	"a dump is whole, and takes all memory at once; stasis dump and stasis pre-dump take " \
	"--prev-images-dir and --track-mem"
#define NO_SERVER "pages go into the image, not over the network"
#define NO_TLS	  NO_SERVER
#define NO_EXTERN "everything of the tree comes from the image"

/* In the order of what becomes of them. */
static const struct row rows[] = {
	/* With their effect. */
	VALUE("tree", 't', ARG_YES, take_pid, NULL),
	TEXT("images-dir", 'D', images_dir),
	TEXT("work-dir", 'W', work_dir),
	TEXT("log-file", 'o', log_file),
	VALUE("verbosity", 'v', ARG_MAY, take_verbosity, NULL),
	ONLY("leave-running", 'R', leave_running),
	ONLY("leave-stopped", 's', leave_stopped),
	FLAG("restore-detached", 'd', detached),
	FLAG("daemon", 0, detached),
	FLAG("restore-sibling", 'S', sibling),
	FLAG("shell-job", 'j', shell_job),
	FLAG("tcp-established", 0, tcp_established),
	FLAG("tcp-close", 0, tcp_close),
	VALUE("ext-unix-sk", 'x', ARG_MAY, take_ext_unix, NULL),
	FLAG("link-remap", 0, link_remap),
	VALUE("ghost-limit", 0, ARG_YES, take_ghost_limit, NULL),
	VALUE("timeout", 0, ARG_YES, take_timeout, NULL),
	VALUE("file-validation", 0, ARG_YES, take_validation, NULL),
	FLAG("display-stats", 0, display_stats),
	TEXT("pidfile", 0, pidfile),
	VALUE("close", 0, ARG_YES, take_close, NULL),
	ONLY("exec-cmd", 0, exec_cmd),
	ONLY("all", 0, check_all),
	FLAG("extra", 0, check_all),
	FLAG("experimental", 0, check_all),
	TEXT("feature", 0, check_feature),
	ONLY("help", 'h', help),
	ONLY("version", 'V', version),
	VALUE("network-lock", 0, ARG_YES, take_network_lock,
	      "packets are held back by nf_tables (nftables, iptables means the same here), or not "
	      "(skip)"),
	VALUE("manage-cgroups", 0, ARG_MAY, take_cgroups, NO_CGROUPS " (ignore)"),
	VALUE("cpu-cap", 0, ARG_MAY, take_cpu_cap,
	      "in what the CPU of a restore must be as good as the image's (none, fpu, ins, cpu, "
	      "all)"),
	/* Always so, or of no consequence here. */
	NOTED("file-locks", 'l', ARG_NONE),
	NOTED("evasive-devices", 0, ARG_NONE),
	NOTED("force-irmap", 0, ARG_NONE),
	NOTED("irmap-scan-path", 0, ARG_YES),
	NOTED("ghost-fiemap", 0, ARG_NONE),
	NOTED("freeze-cgroup", 0, ARG_YES),
	NOTED("weak-sysctls", 0, ARG_NONE),
	NOTED("unprivileged", 0, ARG_NONE),
	NOTED("deprecated", 0, ARG_NONE),
	NOTED("log-pid", 0, ARG_NONE),
	NOTED("ms", 0, ARG_NONE),
	NOTED("libdir", 'L', ARG_YES),
	{"no-default-config", 0, ARG_NONE, K_NOTED, 0, NULL, NULL, true},
	NOTED("mntns-compat-mode", 0, ARG_NONE),
	/* Modes of files are not compared. */
	NOTED("skip-file-rwx-check", 0, ARG_NONE),
	/* Not done. */
	REFUSE("config", 0, ARG_YES, "configuration files are not read"),
	REFUSE("stream", 0, ARG_NONE, "an image is a directory"),
	REFUSE("action-script", 0, ARG_YES, "no scripts are run"),
	REFUSE("page-server", 0, ARG_NONE, NO_SERVER),
	REFUSE("address", 0, ARG_YES, NO_SERVER),
	REFUSE("port", 0, ARG_YES, NO_SERVER),
	REFUSE("ps-socket", 0, ARG_YES, NO_SERVER),
	REFUSE("status-fd", 0, ARG_YES, NO_SERVER),
	REFUSE("tls", 0, ARG_NONE, NO_TLS),
	REFUSE("tls-cacert", 0, ARG_YES, NO_TLS),
	REFUSE("tls-cacrl", 0, ARG_YES, NO_TLS),
	REFUSE("tls-cert", 0, ARG_YES, NO_TLS),
	REFUSE("tls-key", 0, ARG_YES, NO_TLS),
	REFUSE("tls-no-cn-verify", 0, ARG_NONE, NO_TLS),
	REFUSE("lazy-pages", 0, ARG_NONE, "all pages are there before the tree runs"),
	REFUSE("track-mem", 0, ARG_NONE, NO_ROUNDS),
	REFUSE("prev-images-dir", 0, ARG_YES, NO_ROUNDS),
	REFUSE("auto-dedup", 0, ARG_NONE, NO_ROUNDS),
	REFUSE("pre-dump-mode", 0, ARG_YES, NO_ROUNDS),
	REFUSE("skip-in-flight", 0, ARG_NONE,
	       "connections that are not established yet are refused"),
	REFUSE("allow-uprobes", 0, ARG_NONE, "the page of probes is not carried"),
	REFUSE("external", 0, ARG_YES, NO_EXTERN),
	REFUSE("inherit-fd", 0, ARG_YES, NO_EXTERN),
	REFUSE("join-ns", 'J', ARG_YES, NO_NS),
	REFUSE("empty-ns", 0, ARG_YES, NO_NS),
	REFUSE("veth-pair", 0, ARG_YES, NO_NS),
	REFUSE("root", 'r', ARG_YES, NO_MOUNTS),
	REFUSE("ext-mount-map", 'M', ARG_YES, NO_MOUNTS),
	REFUSE("skip-mnt", 0, ARG_YES, NO_MOUNTS),
	REFUSE("enable-fs", 0, ARG_YES, NO_MOUNTS),
	REFUSE("enable-external-sharing", 0, ARG_NONE, NO_MOUNTS),
	REFUSE("enable-external-masters", 0, ARG_NONE, NO_MOUNTS),
	REFUSE("cgroup-root", 0, ARG_YES, NO_CGROUPS),
	REFUSE("cgroup-props", 0, ARG_YES, NO_CGROUPS),
	REFUSE("cgroup-props-file", 0, ARG_YES, NO_CGROUPS),
	REFUSE("cgroup-dump-controller", 0, ARG_YES, NO_CGROUPS),
	REFUSE("cgroup-yard", 0, ARG_YES, NO_CGROUPS),
	REFUSE("lsm-profile", 0, ARG_YES, "the profile is the one of the image"),
	REFUSE("lsm-mount-context", 0, ARG_YES, NO_MOUNTS),
};

enum { NROWS = sizeof(rows) / sizeof(rows[0]), NEGATIVE = 1 << 12, LONG = 1 << 10 };

static void note(struct criu_opts *o, const char *name)
{
	if (o->nnotes < CRIU_NOTES)
		o->notes[o->nnotes++] = name;
}

static int take(struct criu_opts *o, const struct row *row, bool negative, const char *arg,
		struct err *err)
{
	switch (row->kind) {
	case K_FLAG:
		*(bool *)((char *)o + row->at) = !negative;
		return 0;
	case K_TEXT:
		if (!*arg)
			return err_fail(err, EINVAL, ERR_USAGE, "--%s: is empty", row->name);
		*(const char **)((char *)o + row->at) = arg;
		return 0;
	case K_VALUE:
		return row->take(o, row, arg, err);
	case K_NOTED:
		note(o, row->name);
		return 0;
	case K_REFUSE:
		/* What is not wanted need not be there. */
		if (negative)
			return 0;
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED, "--%s is not supported: %s",
				row->name, row->text);
	}
	return 0;
}

/* getopt's tables from ours: letters, names, and names with "no-" before them. */
static void tables(struct option *longs, char (*negatives)[40], char *letters)
{
	unsigned n = 0;

	/* Stops at nothing, and says "missing" by a colon. */
	*letters++ = ':';
	for (unsigned i = 0; i < NROWS; i++) {
		const struct row *row = &rows[i];

		longs[n++] = (struct option){row->name, row->arg, NULL, LONG + (int)i};
		if (!row->positive) {
			snprintf(negatives[i], sizeof(negatives[i]), "no-%s", row->name);
			longs[n++] =
				(struct option){negatives[i], no_argument, NULL, NEGATIVE + (int)i};
		}
		if (!row->letter)
			continue;
		*letters++ = row->letter;
		for (int k = 0; k < row->arg; k++)
			*letters++ = ':';
	}
	longs[n] = (struct option){0};
	*letters = '\0';
}

static const struct row *row_of_letter(int c)
{
	for (unsigned i = 0; i < NROWS; i++)
		if (rows[i].letter && rows[i].letter == c)
			return &rows[i];
	return NULL;
}

static int take_all(struct criu_opts *o, int argc, char **argv, struct err *err)
{
	static struct option longs[2 * NROWS + 1];
	static char negatives[NROWS][40];
	static char letters[3 * NROWS];
	int c;

	tables(longs, negatives, letters);
	opterr = 0;
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		const struct row *row = c >= NEGATIVE ? &rows[c - NEGATIVE]
					: c >= LONG   ? &rows[c - LONG]
						      : row_of_letter(c);
		int ret;

		if (!row)
			return err_fail(err, EINVAL, ERR_USAGE, "%s: %s", argv[optind - 1],
					c == ':' ? "its value is missing"
						 : "there is no such option");
		ret = take(o, row, c >= NEGATIVE, optarg, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int criu_opts_parse(struct criu_opts *ret, int argc, char **argv, struct err *err)
{
	struct criu_opts o = {.images_dir = ".", .level = 2};
	int e = take_all(&o, argc, argv, err);

	if (e < 0)
		return e;
	o.command = optind < argc ? argv[optind++] : NULL;
	o.rest = argv + optind;
	if (!o.work_dir)
		o.work_dir = o.images_dir;
	*ret = o;
	return 0;
}

void criu_opts_help(FILE *out)
{
	static const char *const title[] = {
		"Options that have their effect:",
		"Options that are taken and change nothing here:",
		"Options that are refused:",
	};
	int last = -1;

	for (unsigned i = 0; i < NROWS; i++) {
		int group = rows[i].kind == K_REFUSE ? 2 : rows[i].kind == K_NOTED ? 1 : 0;

		if (group != last)
			fprintf(out, "\n%s\n", title[group]);
		last = group;
		fprintf(out, "  %c%c%s --%s%s\n", rows[i].letter ? '-' : ' ',
			rows[i].letter ? rows[i].letter : ' ', rows[i].letter ? "," : " ",
			rows[i].name,
			rows[i].arg == ARG_YES	 ? " VALUE"
			: rows[i].arg == ARG_MAY ? "[=VALUE]"
						 : "");
	}
}
