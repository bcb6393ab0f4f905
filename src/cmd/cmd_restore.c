/* SPDX-License-Identifier: MIT */
/* stasis restore. */
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "src/cmd/cmd.h"
#include "src/cmd/job.h"
#include "src/cmd/log.h"
#include "src/cmd/progress.h"
#include "src/image/store.h"
#include "src/ops/ops.h"

enum {
	OPT_THREADS = 256,
	OPT_JSON,
	OPT_QUIET,
	OPT_PIDFILE,
	OPT_TCP,
	OPT_TCP_CLOSE,
	OPT_VALIDATE,
	OPT_CHECKSUM_N,
	OPT_CPU_CAP,
};

struct restore_cmd {
	struct restore_opts opts;
	struct log_opts log;
	const char *pidfile;
	bool detached;
	bool json;
	bool quiet;
	struct progress *progress;
};

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

enum { NSIGNALS = sizeof(signals) / sizeof(signals[0]) };

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static const struct argp_option options[] = {
	{"images-dir", 'D', "DIR", 0, "The image", 0},
	{"restore-detached", 'd', NULL, 0,
	 "End when the tree runs; else wait for its root and exit as it does", 1},
	{"restore-sibling", 'S', NULL, 0,
	 "Make the root a sibling of this command and not its child; goes with -d", 1},
	{"leave-stopped", 's', NULL, 0, "Leave the tree stopped (SIGCONT wakes it)", 1},
	{"pidfile", OPT_PIDFILE, "FILE", 0, "Write the root's pid into FILE", 1},
	{"shell-job", 'j', NULL, 0,
	 "Bring a tree that was started from a shell into this command's session", 1},
	{"tcp-established", OPT_TCP, NULL, 0,
	 "Accepted as in criu: TCP connections that the image has are always restored", 1},
	{"tcp-close", OPT_TCP_CLOSE, NULL, 0,
	 "TCP connections that the image has are closed ones instead", 1},
	{"ext-unix-sk", 'x', NULL, 0,
	 "Accepted as in criu: unix sockets whose peer is outside are connected to it", 1},
	{"file-validation", OPT_VALIDATE, "METHOD", 0,
	 "What files must agree in beside their size: buildid (of ELF files, the default), filesize, "
	 "checksum, checksum-full or checksum-period",
	 2},
	{"checksum-parameter", OPT_CHECKSUM_N, "N", 0,
	 "Of the first N bytes, or every Nth byte; default 1024", 2},
	{"cpu-cap", OPT_CPU_CAP, "CAP", 0,
	 "In what this CPU must have all that the image's had: fpu (registers), ins (instructions), "
	 "cpu (both), all, none; ^CAP takes one away. Default: all",
	 2},
	{"threads", OPT_THREADS, "N", 0, "Threads that fill memory; default: every CPU we may use",
	 2},
	{"json", OPT_JSON, NULL, 0, "One machine-readable result line on standard output", 4},
	{"quiet", OPT_QUIET, NULL, 0, "No progress and no result line for people", 4},
	{0},
};

static void check_opts(struct argp_state *state, const struct restore_cmd *c)
{
	if (!c->opts.dir)
		argp_error(state, "from where? -D DIR is missing");
	if (c->opts.sibling && !c->detached)
		argp_error(state, "--restore-sibling makes a process that is not ours to wait for: "
				  "use it with --restore-detached");
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct restore_cmd *c = state->input;
	struct restore_opts *o = &c->opts;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &c->log;
		return 0;
	case 'D':
		o->dir = arg;
		return 0;
	case 'd':
		c->detached = true;
		return 0;
	case 'S':
		o->sibling = true;
		return 0;
	case 's':
		o->leave_stopped = true;
		return 0;
	case 'j':
		o->shell_job = true;
		return 0;
	case OPT_TCP:
	case 'x':
		return 0;
	case OPT_TCP_CLOSE:
		o->make.tcp_close = true;
		return 0;
	case OPT_PIDFILE:
		c->pidfile = arg;
		return 0;
	case OPT_VALIDATE:
		cmd_file_validation(state, arg, &o->make.id.method);
		return 0;
	case OPT_CHECKSUM_N:
		o->make.id.parameter =
			(uint32_t)cmd_number(state, "--checksum-parameter", arg, 1, INT32_MAX);
		return 0;
	case OPT_CPU_CAP:
		if (cmd_cpu_cap(arg, &o->cpu_unchecked) < 0)
			argp_error(state,
				   "--cpu-cap: %s: none, fpu, ins, cpu, all or a list of these, "
				   "^ before one that is not to be",
				   arg);
		return 0;
	case OPT_THREADS:
		o->threads = (unsigned)cmd_number(state, "--threads", arg, 1, 1024);
		return 0;
	case OPT_JSON:
		c->json = true;
		return 0;
	case OPT_QUIET:
		c->quiet = true;
		return 0;
	case ARGP_KEY_ARG:
		if (o->dir)
			return cmd_unknown(state, key, arg);
		argp_error(state, "what is '%s'? An image is named by -D: -D %s", arg, arg);
		return 0;
	case ARGP_KEY_END:
		check_opts(state, c);
		return 0;
	default:
		return cmd_unknown(state, key, arg);
	}
}

static const struct argp_child children[] = {{&log_argp_restore, 0, NULL, 0}, {0}};

static const struct argp argp = {
	options,
	parse_opt,
	NULL,
	"Brings the process tree of an image back: same pids, memory, threads, descriptors.\v"
	"Without -d the command waits for the root, hands signals on to it and exits as it does (128 "
	"and the signal's number when one ended it). If anything fails no process is left. The exit "
	"code tells what failed: see stasis(1).",
	children,
	NULL,
	NULL};

static void on_phase(void *arg, enum restore_phase phase, uint64_t total)
{
	static const char *const name[] = {
		[RESTORE_READ] = "read",
		[RESTORE_SPAWN] = "spawn",
		[RESTORE_MEMORY] = "memory",
		[RESTORE_STATE] = "state",
	};
	struct restore_cmd *c = arg;

	if (phase == RESTORE_END) {
		progress_free(c->progress);
		c->progress = NULL;
		return;
	}
	progress_phase(c->progress, name[phase], phase == RESTORE_MEMORY, total);
}

static bool on_stop(void *arg)
{
	return interrupted;
}

static void set_int(json_t *o, const char *key, uint64_t value)
{
	json_object_set_new(o, key, json_integer((json_int_t)value));
}

static void print_json(const struct restore_cmd *c, const struct restore_result *r,
		       const struct err *err)
{
	json_t *o = json_object();

	json_object_set_new(o, "ok", json_boolean(!err->errnum));
	json_object_set_new(o, "exit_code", json_integer(err->class));
	if (err->errnum) {
		json_object_set_new(o, "error", json_string(err->msg));
		json_object_set_new(o, "hint", json_string(err->hint));
	}
	set_int(o, "pid", (uint64_t)r->root);
	json_object_set_new(o, "dir", json_string(c->opts.dir));
	set_int(o, "processes", r->nprocs);
	set_int(o, "threads", r->nthreads);
	set_int(o, "vmas", r->nvmas);
	set_int(o, "files", r->nfiles);
	set_int(o, "files_without_checksum", r->nunsummed);
	set_int(o, "raw_bytes", r->mem.raw_bytes);
	set_int(o, "packed_bytes", r->mem.packed_bytes);
	set_int(o, "fill_threads", r->mem.threads);
	set_int(o, "fill_read_ns", r->mem.read_ns);
	set_int(o, "fill_unpack_ns", r->mem.unpack_ns);
	set_int(o, "fill_write_ns", r->mem.write_ns);
	set_int(o, "fill_cpu_ns", r->mem.cpu_ns);
	set_int(o, "read_ns", r->read_ns);
	set_int(o, "spawn_ns", r->spawn_ns);
	set_int(o, "maps_ns", r->maps_ns);
	set_int(o, "memory_ns", r->memory_ns);
	set_int(o, "state_ns", r->state_ns);
	set_int(o, "go_ns", r->go_ns);
	set_int(o, "total_ns", r->total_ns);
	json_object_set_new(o, "userfaultfd", json_boolean(!r->uffd_reason[0]));
	json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	json_decref(o);
}

/* Also before a failure: what it compared is of interest then. */
static void print_notes(const struct restore_result *r)
{
	if (r->nunsummed)
		fprintf(stderr,
			"note: the image has no checksum of %u file%s, %s%s: compared by build id "
			"or size (a dump with --file-validation=checksum takes checksums)\n",
			r->nunsummed, r->nunsummed == 1 ? "" : "s", r->unsummed,
			r->nunsummed == 1 ? "" : " for one");
	if (r->without_tty)
		fprintf(stderr,
			"note: process %d leads a session of its own and has no controlling terminal: "
			"this one belongs to the session of the restoring command: no job control "
			"in it, and ^C does not reach it\n",
			r->without_tty);
}

static void print_result(const struct restore_cmd *c, const struct restore_result *r)
{
	char raw[24], total[24];
	double rate = r->memory_ns ? (double)r->mem.raw_bytes / (double)r->memory_ns : 0;

	if (r->uffd_reason[0])
		fprintf(stderr, "note: pages were written through /proc, without userfaultfd: %s\n",
			r->uffd_reason);
	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) > 0)
		fprintf(stderr, "note: this command runs with seccomp filters, and so does what it "
				"has brought back\n");
	fprintf(stderr,
		"pid %d runs: %u process%s, %u thread%s, %s of memory from %s, total %s, memory at %.2f GB/s\n",
		r->root, r->nprocs, r->nprocs == 1 ? "" : "es", r->nthreads,
		r->nthreads == 1 ? "" : "s", cmd_bytes(raw, sizeof(raw), r->mem.raw_bytes),
		c->opts.dir, cmd_time(total, sizeof(total), r->total_ns), rate);
}

/* Before anything of the tree is made. What is in a file of before stays until the tree runs. */
static int open_pidfile(const char *path, int *ret_fd, bool *ret_made, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	bool made = fd >= 0;

	if (fd < 0 && errno == EEXIST)
		fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0) {
		int ret = err_set(err, errno, "create pidfile %s", path);

		err_hint(err,
			 "nothing was restored: name a file in a directory that exists and may be "
			 "written to");
		return ret;
	}
	*ret_fd = fd;
	*ret_made = made;
	return 0;
}

/* The tree runs by then: a file that cannot be written is said, and nothing else. */
static void write_pidfile(int fd, const char *path, pid_t pid)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", pid);
	struct stat st;

	if ((fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(fd, 0) < 0) ||
	    io_write(fd, text, (size_t)len) < 0)
		fprintf(stderr, "stasis restore: write %s: %s: pid %d runs all the same\n", path,
			strerror(errno), pid);
}

/* Beside what is no image, a mistyped name say, a log would only be in the way. */
static bool is_image(const char *dir)
{
	cleanup_free char *path = NULL;

	return asprintf(&path, "%s/" INVENTORY_FILE, dir) < 0 || access(path, F_OK) == 0;
}

/* In the worker; what is awaited may take seconds. */
static void on_wait(void *arg, pid_t pid, pid_t parent)
{
	const struct restore_cmd *c = arg;

	if (!c->quiet)
		fprintf(stderr,
			"note: pid %d is held by a process that has ended: waiting up to 5 s until "
			"its parent, pid %d, collects it\n",
			pid, parent);
}

int cmd_restore(int argc, char **argv)
{
	struct restore_cmd c = {.log = LOG_OPTS_DEFAULT};
	struct sigaction sa = {.sa_handler = on_signal};
	struct restore_result res = {0};
	cleanup_fd int pidfile = -1;
	bool made = false;
	struct err err = {0};
	int ret = cmd_parse(&argp, argc, argv, &c);

	if (ret)
		return ret;
	for (size_t i = 0; i < NSIGNALS; i++)
		sigaction(signals[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* Not over the log of the dump. */
	c.log.off |= !c.log.path && !c.log.to_stderr && !is_image(c.opts.dir);
	log_start(&c.log, c.opts.dir, ".restore");
	c.progress = progress_new(c.quiet, false);
	c.opts.arg = &c;
	c.opts.phase = on_phase;
	c.opts.stop = on_stop;
	c.opts.waits = on_wait;
	c.opts.progress = progress_counters(c.progress);
	if (c.pidfile)
		ret = open_pidfile(c.pidfile, &pidfile, &made, &err);
	if (ret == 0)
		ret = restore_run(&c.opts, &res, &err);
	if (ret < 0 && made)
		unlink(c.pidfile);
	progress_free(c.progress);
	if (c.json)
		print_json(&c, &res, &err);
	if (!c.quiet || ret < 0)
		print_notes(&res);
	if (ret < 0)
		ret = cmd_fail("restore", &err);
	else if (!c.quiet)
		print_result(&c, &res);
	log_end(ret != 0);
	if (ret)
		return ret;
	if (c.pidfile)
		write_pidfile(pidfile, c.pidfile, res.root);
	return c.detached ? 0 : job_await(res.root, c.opts.shell_job, &interrupted);
}
