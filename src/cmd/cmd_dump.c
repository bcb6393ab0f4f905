/* SPDX-License-Identifier: MIT */
/* stasis dump. */
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "src/cmd/cmd.h"
#include "src/cmd/dump_result.h"
#include "src/cmd/log.h"
#include "src/cmd/progress.h"
#include "src/ops/ops.h"

enum {
	OPT_COMPRESS = 256,
	OPT_THREADS,
	OPT_BLOCK_SIZE,
	OPT_DIRECT,
	OPT_NO_URING,
	OPT_FORMAT,
	OPT_JSON,
	OPT_TIMEOUT,
	OPT_QUIET,
	OPT_ALLOW,
	OPT_GHOST,
	OPT_LINK_REMAP,
	OPT_TCP,
	OPT_TCP_CLOSE,
	OPT_NET_LOCK,
	OPT_VALIDATE,
	OPT_CHECKSUM_N,
	OPT_TRACKING,
	OPT_MAX_FREEZE,
	OPT_STRICT,
	OPT_NICE,
	OPT_MAX_CPU,
	OPT_PREV,
	OPT_TRACK_MEM,
};

struct dump_cmd {
	struct dump_opts opts;
	struct log_opts log;
	bool json;
	bool quiet;
	bool pre; /* a pre-dump */
	bool codec_given;
	struct progress *progress;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static const struct argp_option options[] = {
	{"tree", 't', "PID", 0, "The root of the process tree to dump", 0},
	{"images-dir", 'D', "DIR", 0, "The image: a directory that must not exist yet, or be empty",
	 0},
	{"leave-running", 'R', NULL, 0, "Let the tree run on after the dump (else it is killed)",
	 1},
	{"leave-stopped", 's', NULL, 0, "Leave the tree stopped after the dump (SIGCONT wakes it)",
	 1},
	{"tracking", OPT_TRACKING, "HOW", 0,
	 "Copy memory while the tree runs and track what it writes meanwhile: uffd, "
	 "soft-dirty, or none (stop and copy); default with -R: the first of them that works; fork "
	 "is refused, with the reason",
	 1},
	{"prev-images-dir", OPT_PREV, "DIR", 0,
	 "An earlier image of the tree, as seen from the new one (../NAME for one beside it): store "
	 "only what has changed since",
	 1},
	{"track-mem", OPT_TRACK_MEM, NULL, 0,
	 "Go on tracking writes for the next dump with --prev-images-dir", 1},
	{"max-freeze", OPT_MAX_FREEZE, "MS", 0, "How long the tree may stand still; default 50", 1},
	{"strict-freeze", OPT_STRICT, NULL, 0,
	 "Rather no dump than a longer stop than --max-freeze", 1},
	{"nice", OPT_NICE, "N", 0,
	 "Priority of the threads that copy while the tree runs, 0 to 19; default 10. CPUs that the "
	 "tree needs are left to it besides",
	 1},
	{"max-cpu", OPT_MAX_CPU, "PERCENT", 0,
	 "Most CPU time while the tree runs, 100 for one CPU; default: all there is", 1},
	{"compress", OPT_COMPRESS, "CODEC[:LEVEL]", 0,
	 "lz4[:ACCELERATION], zstd[:LEVEL] (negative levels too) or none; default lz4:1", 2},
	{"threads", OPT_THREADS, "N", 0, "Compressing threads; default: every CPU we may use", 2},
	{"block-size", OPT_BLOCK_SIZE, "SIZE", 0, "64K to 4M, a power of two", 2},
	{"direct", OPT_DIRECT, NULL, 0, "Write with O_DIRECT, past the page cache", 2},
	{"no-io-uring", OPT_NO_URING, NULL, 0, "Write with pwrite", 2},
	{"image-format", OPT_FORMAT, "FORMAT", 0,
	 "stasis (default) or criu: CRIU's own page files, uncompressed", 2},
	{"work-dir", 'W', "DIR", 0, "Where CRIU's stats-dump file goes; not written without it", 3},
	{"freeze-timeout", OPT_TIMEOUT, "MS", 0,
	 "Give up when a thread does not stop in this time; default 10000", 3},
	{"allow-findings", OPT_ALLOW, NULL, 0,
	 "Dump what cannot be restored all the same, to look at: see stasis check --pid", 3},
	{"ghost-limit", OPT_GHOST, "SIZE", 0,
	 "Most bytes on disk of a deleted file that is open or mapped; default 1M", 3},
	{"link-remap", OPT_LINK_REMAP, NULL, 0,
	 "Give files whose name is gone and whose other names are not found one for the restore",
	 3},
	{"file-validation", OPT_VALIDATE, "METHOD", 0,
	 "What a restore compares: buildid (default), filesize, checksum, checksum-full, "
	 "checksum-period",
	 3},
	{"checksum-parameter", OPT_CHECKSUM_N, "N", 0,
	 "The first N bytes (checksum), every Nth byte (checksum-period); default 1024", 3},
	{"shell-job", 'j', NULL, 0,
	 "The terminal and the session may be somebody else's, as of a job of a shell", 3},
	{"tcp-established", OPT_TCP, NULL, 0,
	 "Carry TCP connections with somebody outside of the tree", 3},
	{"tcp-close", OPT_TCP_CLOSE, NULL, 0,
	 "TCP connections with somebody outside of the tree are closed ones in the image; the "
	 "running program keeps them",
	 3},
	{"network-lock", OPT_NET_LOCK, "METHOD", 0,
	 "How packets of these are held back from a dump that kills to the restore: nftables "
	 "(default) or skip",
	 3},
	{"ext-unix-sk", 'x', NULL, 0,
	 "Unix datagram sockets may have a peer outside of the tree, found again by its name", 3},
	{"json", OPT_JSON, NULL, 0, "One machine-readable result line on standard output", 4},
	{"quiet", OPT_QUIET, NULL, 0, "No progress and no result line for people", 4},
	{0},
};

/* What a pre-dump is by itself, or cannot be. */
static const int dump_only[] = {'R', 's', OPT_TRACK_MEM, OPT_ALLOW, OPT_FORMAT, OPT_NET_LOCK};

/* The table of a pre-dump: all of them are understood, but those of a dump alone are not shown. */
static const struct argp_option *pre_dump_options(void)
{
	static struct argp_option v[sizeof(options) / sizeof(*options)];

	memcpy(v, options, sizeof(options));
	for (struct argp_option *o = v; o->name; o++) {
		for (size_t i = 0; i < sizeof(dump_only) / sizeof(*dump_only); i++)
			if (o->key == dump_only[i])
				o->flags |= OPTION_HIDDEN;
		if (o->key == OPT_TRACKING)
			o->doc = "How writes are tracked: uffd or soft-dirty; default: the first "
				 "of them that works";
	}
	return v;
}

static void parse_format(struct argp_state *state, struct dump_opts *o, const char *arg)
{
	if (!strcmp(arg, "stasis"))
		o->format = IMAGE_STASIS;
	else if (!strcmp(arg, "criu"))
		o->format = IMAGE_CRIU;
	else
		argp_error(state, "--image-format: '%s' is neither stasis nor criu", arg);
}

static void parse_tracking(struct argp_state *state, struct dump_opts *o, const char *arg)
{
	if (!strcmp(arg, "uffd"))
		o->tracking = TRACKING_UFFD;
	else if (!strcmp(arg, "soft-dirty"))
		o->tracking = TRACKING_SOFT;
	else if (!strcmp(arg, "none"))
		o->tracking = TRACKING_NONE;
	else if (!strcmp(arg, "fork"))
		o->tracking = TRACKING_FORK;
	else
		argp_error(state, "--tracking: '%s' is none of uffd, soft-dirty, none, fork", arg);
}

static void parse_net_lock(struct argp_state *state, struct dump_opts *o, const char *arg)
{
	if (strcmp(arg, "nftables") != 0 && strcmp(arg, "skip") != 0)
		argp_error(state, "--network-lock: '%s' is neither nftables nor skip", arg);
	o->no_net_lock = !strcmp(arg, "skip");
}

/* Said of a pre-dump, and not of options that nobody gave. */
static void check_pre_dump(struct argp_state *state, const struct dump_opts *o)
{
	if (o->end != TARGET_RUN)
		argp_error(state, "a pre-dump lets the tree run on: -s is for stasis dump");
	if (o->tracking == TRACKING_NONE)
		argp_error(state, "a pre-dump tracks writes: --tracking none is for stasis dump");
	if (o->format == IMAGE_CRIU)
		argp_error(state, "a pre-dump is an image of the stasis format: --image-format "
				  "criu is for stasis dump");
}

static void check_opts(struct argp_state *state, const struct dump_cmd *c)
{
	const struct dump_opts *o = &c->opts;

	if (c->pre)
		check_pre_dump(state, o);
	if (!o->pid)
		argp_error(state, "which process? -t PID is missing");
	if (!o->dir)
		argp_error(state, "where to? -D DIR is missing");
	if (o->dir && !*o->dir)
		argp_error(state, "-D: the name of the image is empty");
	if (o->prev_dir && !*o->prev_dir)
		argp_error(state, "--prev-images-dir: the name of the earlier image is empty");
	if (o->block_size & (o->block_size - 1))
		argp_error(state, "--block-size must be a power of two");
	if (o->format == IMAGE_CRIU && o->direct)
		argp_error(state, "--direct is for the stasis format, not for --image-format criu");
	if (o->format == IMAGE_CRIU &&
	    (o->tracking == TRACKING_UFFD || o->tracking == TRACKING_SOFT))
		argp_error(state,
			   "--tracking %s is for the stasis format, not for "
			   "--image-format criu",
			   o->tracking == TRACKING_UFFD ? "uffd" : "soft-dirty");
	if (o->format == IMAGE_CRIU && (o->prev_dir || o->track_mem))
		argp_error(state, "%s is for the stasis format, not for --image-format criu",
			   o->prev_dir ? "--prev-images-dir" : "--track-mem");
	if (o->track_mem && o->end != TARGET_RUN)
		argp_error(state, "--track-mem is for a tree that runs on: add -R");
	if (o->track_mem && o->tracking == TRACKING_NONE)
		argp_error(state, "--track-mem and --tracking none contradict each other");
	if (o->format == IMAGE_CRIU && c->codec_given && o->codec != MD_CODEC_NONE)
		argp_error(state,
			   "--compress: pages of --image-format criu are not compressed: leave it "
			   "out, or use --image-format stasis");
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct dump_cmd *c = state->input;
	struct dump_opts *o = &c->opts;
	struct err err = {0};

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &c->log;
		return 0;
	case 't':
		o->pid = (pid_t)cmd_number(state, "-t", arg, 1, 1 << 22);
		return 0;
	case 'D':
		o->dir = arg;
		return 0;
	case 'R':
		o->end = TARGET_RUN;
		return 0;
	case 's':
		o->end = TARGET_STOPPED;
		return 0;
	case 'W':
		o->stats_dir = arg;
		return 0;
	case 'j':
		o->shell_job = true;
		return 0;
	case 'x':
		o->ext_unix = true;
		return 0;
	case OPT_TCP:
		o->tcp_established = true;
		return 0;
	case OPT_TCP_CLOSE:
		o->tcp_close = true;
		return 0;
	case OPT_NET_LOCK:
		parse_net_lock(state, o, arg);
		return 0;
	case OPT_COMPRESS:
		if (md_codec_parse(arg, &o->codec, &o->level, &err) < 0)
			argp_error(state, "--compress: %s%s%s", err.msg, err.hint[0] ? ": " : "",
				   err.hint);
		c->codec_given = true;
		return 0;
	case OPT_THREADS:
		o->threads = (unsigned)cmd_number(state, "--threads", arg, 1, 1024);
		return 0;
	case OPT_BLOCK_SIZE:
		o->block_size =
			(uint32_t)cmd_size(state, "--block-size", arg, MD_BLOCK_MIN, MD_BLOCK_MAX);
		return 0;
	case OPT_DIRECT:
		o->direct = true;
		return 0;
	case OPT_NO_URING:
		o->no_uring = true;
		return 0;
	case OPT_FORMAT:
		parse_format(state, o, arg);
		return 0;
	case OPT_TIMEOUT:
		o->freeze_timeout_ms =
			(unsigned)cmd_number(state, "--freeze-timeout", arg, 1, 3600000);
		return 0;
	case OPT_ALLOW:
		o->allow_findings = true;
		return 0;
	case OPT_GHOST:
		o->ghost_limit = cmd_size(state, "--ghost-limit", arg, 1, (uint64_t)1 << 30);
		return 0;
	case OPT_LINK_REMAP:
		o->link_remap = true;
		return 0;
	case OPT_VALIDATE:
		cmd_file_validation(state, arg, &o->file_id.method);
		return 0;
	case OPT_CHECKSUM_N:
		o->file_id.parameter =
			(uint32_t)cmd_number(state, "--checksum-parameter", arg, 1, INT32_MAX);
		return 0;
	case OPT_TRACKING:
		parse_tracking(state, o, arg);
		return 0;
	case OPT_MAX_FREEZE:
		o->max_freeze_ns = cmd_number(state, "--max-freeze", arg, 1, 3600000) * 1000000ull;
		return 0;
	case OPT_PREV:
		o->prev_dir = arg;
		return 0;
	case OPT_TRACK_MEM:
		o->track_mem = true;
		return 0;
	case OPT_STRICT:
		o->strict_freeze = true;
		return 0;
	case OPT_NICE:
		o->nice = (int)cmd_number(state, "--nice", arg, 0, 19);
		return 0;
	case OPT_MAX_CPU:
		o->max_cpu = (unsigned)cmd_number(state, "--max-cpu", arg, 1, 1000000);
		return 0;
	case OPT_JSON:
		c->json = true;
		return 0;
	case OPT_QUIET:
		c->quiet = true;
		return 0;
	case ARGP_KEY_END:
		check_opts(state, c);
		return 0;
	default:
		return cmd_unknown(state, key, arg);
	}
}

static const struct argp_child children[] = {{&log_argp, 0, NULL, 0}, {0}};

static const struct argp argp = {
	options,
	parse_opt,
	NULL,
	"Dumps the memory and state of a running process tree into DIR.\v"
	"Without -R or -s the tree is killed once the image is safe on disk, as criu does. If anything "
	"fails the tree runs on untouched and no image is left. The exit code tells what failed: see "
	"stasis(1).",
	children,
	NULL,
	NULL};

static const char pre_dump_doc[] =
	"Dumps the memory and state of a running process tree into DIR, lets it run on, and goes on "
	"tracking what it writes.\v"
	"The next dump stores what has changed since, and no more, when it is given this image: "
	"stasis dump -t PID -D DIR2 --prev-images-dir ../DIR. To restore that one, this one is "
	"needed where it is. What could not be restored is a note and no reason to refuse. If "
	"anything fails the tree runs on untouched and no image is left. The exit code tells what "
	"failed: see stasis(1).";

static void on_phase(void *arg, enum dump_phase phase, uint64_t estimate)
{
	static const char *const name[] = {
		[DUMP_SURVEY] = "survey", [DUMP_PRECOPY] = "pre-copy", [DUMP_FREEZE] = "freeze",
		[DUMP_MEMORY] = "memory", [DUMP_COMMIT] = "commit",
	};
	struct dump_cmd *c = arg;

	progress_phase(c->progress, name[phase], phase == DUMP_MEMORY || phase == DUMP_PRECOPY,
		       estimate);
}

static bool on_stop(void *arg)
{
	return interrupted;
}

static bool is_filled(const char *path)
{
	cleanup_dir DIR *dir = opendir(path);
	struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			return true;
	return false;
}

/* A pid that cannot be dumped: that is said at once, and a log would have nothing to add. */
static bool is_mistyped(pid_t pid)
{
	struct err drop = {0};

	return target_precheck(pid, &drop) < 0;
}

static int run_dump(int argc, char **argv, const char *command, bool pre)
{
	struct dump_cmd c = {
		.opts = {.end = TARGET_KILL,
			 .codec = MD_DEFAULT_CODEC,
			 .level = MD_DEFAULT_LEVEL,
			 .nice = 10},
		.log = LOG_OPTS_DEFAULT,
	};
	struct sigaction sa = {.sa_handler = on_signal};
	struct argp a = argp;
	struct dump_result res;
	struct err err = {0};
	int ret;

	if (pre) {
		c.pre = true;
		c.opts.end = TARGET_RUN;
		c.opts.track_mem = true;
		c.opts.allow_findings = true;
		a.options = pre_dump_options();
		a.doc = pre_dump_doc;
	}
	ret = cmd_parse(&a, argc, argv, &c);
	if (ret)
		return ret;
	if (c.opts.format == IMAGE_CRIU)
		c.opts.codec = MD_CODEC_NONE;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error like a full disk: EFBIG */
	/* It is refused, and a log beside it is that of the dump that made it. */
	if (!c.log.path && (is_filled(c.opts.dir) || is_mistyped(c.opts.pid)))
		c.log.off = true;
	log_start(&c.log, c.opts.dir, "");
	c.progress = progress_new(c.quiet, c.opts.prev_dir);
	c.opts.arg = &c;
	c.opts.phase = on_phase;
	c.opts.stop = on_stop;
	c.opts.progress = progress_counters(c.progress);
	ret = dump_run(&c.opts, &res, &err);
	if (ret < 0 && err.class == ERR_NOSPACE)
		err_hint(&err, "free some space in %s, or choose another (-D)", c.opts.dir);
	progress_free(c.progress);
	if (c.json)
		dump_print_json(&c.opts, &res, &err);
	if (!c.quiet || ret < 0)
		dump_print_findings(&res);
	if (ret < 0)
		ret = cmd_fail(command, &err);
	else if (!c.quiet)
		dump_print_result(&c.opts, &res);
	free(res.findings);
	log_end(ret != 0);
	return ret;
}

int cmd_dump(int argc, char **argv)
{
	return run_dump(argc, argv, "dump", false);
}

/* criu's name for what comes before the last dump of a chain. */
int cmd_pre_dump(int argc, char **argv)
{
	return run_dump(argc, argv, "pre-dump", true);
}
