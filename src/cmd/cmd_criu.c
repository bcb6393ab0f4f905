/* SPDX-License-Identifier: MIT */
/* The name criu: its command line, file names and exit codes. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "binlog/pr.h"
#include "src/cmd/cmd.h"
#include "src/cmd/criu_opts.h"
#include "src/cmd/log.h"
#include "src/ops/ops.h"

/* The release whose options and files these are. */
#define CRIU_RELEASE "4.2"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static bool on_stop(void *arg)
{
	return interrupted;
}

static const int ending[] = {SIGINT, SIGTERM, SIGHUP};

static void catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	for (unsigned i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		sigaction(ending[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
}

static void signals_back(void)
{
	for (unsigned i = 0; i < sizeof(ending) / sizeof(ending[0]); i++)
		signal(ending[i], SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
}

/* Everything that fails is exit code 1. In the log it has been said where it happened. */
static int fail(const struct criu_opts *o, const struct err *err)
{
	if (o->level_given && !o->level)
		return 1;
	fprintf(stderr, "criu: Error: %s\n", err->msg);
	if (err->hint[0])
		fprintf(stderr, "  %s\n", err->hint);
	return 1;
}

static int refuse(const struct criu_opts *o, const char *what, const char *why)
{
	struct err err = {0};

	err_fail(&err, EINVAL, ERR_USAGE, "%s: %s", what, why);
	return fail(o, &err);
}

static int want_dir(const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_set(err, errno, "directory %s", path);
	return S_ISDIR(st.st_mode) ? 0 : err_set(err, ENOTDIR, "directory %s", path);
}

/* @name in the work directory, unless it says where it is. */
static char *in_work_dir(const struct criu_opts *o, const char *name)
{
	char *path;

	if (*name == '/')
		return strdup(name);
	return asprintf(&path, "%s/%s", o->work_dir, name) < 0 ? NULL : path;
}

static int start(const struct criu_opts *o, struct err *err)
{
	cleanup_free char *path = o->log_file ? in_work_dir(o, o->log_file) : NULL;
	struct log_opts log = {.path = path, .level = o->level, .text = true};
	int ret = want_dir(o->images_dir, err);

	if (ret == 0)
		ret = want_dir(o->work_dir, err);
	if (ret < 0)
		return ret;
	/* On stderr errors are said in any case. */
	log.off = !o->log_file && !o->level_given;
	log.to_stderr = !o->log_file;
	log_start(&log, o->images_dir, "");
	pr_info("stasis " STASIS_VERSION " as criu " CRIU_RELEASE ": %s, images in %s\n",
		o->command, o->images_dir);
	for (unsigned i = 0; i < o->nnotes; i++)
		pr_warn("--%s: taken, and of no consequence here\n", o->notes[i]);
	if (!access("/etc/criu/default.conf", F_OK))
		pr_warn("/etc/criu/default.conf is not read\n");
	catch_signals();
	return 0;
}

static uint64_t pages_of(uint64_t bytes)
{
	return bytes / (uint64_t)sysconf(_SC_PAGESIZE);
}

/* --- dump ----------------------------------------------------------------------------------- */

static void show_dump_stats(const struct dump_result *r)
{
	uint64_t pages = pages_of(r->mem.raw_bytes);

	printf("Displaying dump stats:\n"
	       "Freezing time: %" PRIu64 " us\n"
	       "Frozen time: %" PRIu64 " us\n"
	       "Memory dump time: %" PRIu64 " us\n"
	       "Memory write time: %" PRIu64 " us\n"
	       "Memory pages scanned: %" PRIu64 " (%#" PRIx64 ")\n"
	       "Memory pages written: %" PRIu64 " (%#" PRIx64 ")\n",
	       r->freezing_ns / 1000, r->frozen_ns / 1000, r->memory_ns / 1000, r->memory_ns / 1000,
	       pages, pages, pages, pages);
}

static int do_dump(const struct criu_opts *o, struct err *err)
{
	struct dump_opts opts = {
		.pid = o->pid,
		.dir = o->images_dir,
		.into = true,
		.format = IMAGE_CRIU,
		.codec = MD_CODEC_NONE,
		.end = o->leave_running	  ? TARGET_RUN
		       : o->leave_stopped ? TARGET_STOPPED
					  : TARGET_KILL,
		.freeze_timeout_ms = o->timeout_s * 1000,
		.ghost_limit = o->ghost_limit,
		.link_remap = o->link_remap,
		.tcp_established = o->tcp_established,
		.tcp_close = o->tcp_close,
		.no_net_lock = o->no_net_lock,
		.ext_unix = o->ext_unix,
		.shell_job = o->shell_job,
		.file_id = o->file_id,
		.stats_dir = o->work_dir,
		.stop = on_stop,
	};
	struct dump_result res;
	int ret;

	if (!o->pid)
		return err_fail(err, EINVAL, ERR_USAGE, "which process? -t PID is missing");
	ret = start(o, err);
	if (ret < 0)
		return ret;
	ret = dump_run(&opts, &res, err);
	if (ret < 0 && err->class == ERR_NOSPACE)
		err_hint(err, "free some space in %s, or choose another directory (-D)", opts.dir);
	for (uint32_t i = 0; ret < 0 && o->level && i < res.nfindings; i++)
		if (res.findings[i].fatal)
			fprintf(stderr, "criu: Error: pid %u: %s\n", res.findings[i].pid,
				res.findings[i].text);
	if (ret == 0 && o->display_stats)
		show_dump_stats(&res);
	free(res.findings);
	return ret;
}

/* --- restore -------------------------------------------------------------------------------- */

static void show_restore_stats(const struct image_restore_stats *st)
{
	printf("Displaying restore stats:\n"
	       "Pages restored: %" PRIu64 " (%#" PRIx64 ")\n"
	       "Restore time: %u us\n"
	       "Forking time: %u us\n",
	       st->pages_restored, st->pages_restored, st->restore_us, st->forking_us);
}

/* The tree runs: what fails now is said and changes nothing. */
static void leave_stats(const struct criu_opts *o, const struct restore_result *r)
{
	cleanup_fd int dir = open(o->work_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct image_restore_stats st = {
		.forking_us = (uint32_t)(r->spawn_ns / 1000),
		.restore_us = (uint32_t)(r->total_ns / 1000),
		.pages_restored = pages_of(r->mem.raw_bytes),
	};
	struct err err = {0};

	if (dir < 0)
		err_set(&err, errno, "open work directory %s", o->work_dir);
	else
		image_write_restore_stats(dir, &st, &err);
	if (err.errnum)
		pr_warn("no stats-restore: %s\n", err.msg);
	if (o->display_stats)
		show_restore_stats(&st);
}

/* Made before the tree is, so that a file in the way is no surprise afterwards. */
static int open_pidfile(const char *path, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd >= 0)
		return fd;
	err_set(err, errno, "create pidfile %s", path);
	return -err->errnum;
}

static int bring_back(const struct criu_opts *o, struct restore_result *res, struct err *err)
{
	struct restore_opts opts = {
		.dir = o->images_dir,
		.sibling = o->sibling,
		.shell_job = o->shell_job,
		.tcp_close = o->tcp_close,
		.make = {.id = o->file_id},
		.cpu_unchecked = o->cpu_unchecked,
		.leave_stopped = o->leave_stopped,
		.stop = on_stop,
	};
	cleanup_free char *pidfile = o->pidfile ? in_work_dir(o, o->pidfile) : NULL;
	cleanup_fd int fd = -1;
	char text[16];
	int ret, len;

	if (o->pidfile && !pidfile)
		return err_set(err, ENOMEM, "name of the pidfile");
	if (pidfile) {
		fd = open_pidfile(pidfile, err);
		if (fd < 0)
			return fd;
	}
	ret = restore_run(&opts, res, err);
	if (ret < 0 && pidfile)
		unlink(pidfile);
	if (ret < 0)
		return ret;
	len = snprintf(text, sizeof(text), "%d", res->root);
	if (pidfile && io_write(fd, text, (size_t)len) < 0)
		fprintf(stderr, "criu: Warning: write %s: %s: pid %d runs all the same\n", pidfile,
			strerror(errno), res->root);
	return 0;
}

static int do_restore(const struct criu_opts *o, struct err *err)
{
	struct restore_result res;
	int ret;

	if (o->sibling && !o->detached)
		return err_fail(err, EINVAL, ERR_USAGE,
				"--restore-sibling makes a process that is not ours to wait for: "
				"use it with --restore-detached");
	if (o->exec_cmd && o->detached)
		return err_fail(err, EINVAL, ERR_USAGE,
				"--exec-cmd and --restore-detached exclude each other");
	ret = start(o, err);
	if (ret == 0)
		ret = bring_back(o, &res, err);
	if (ret < 0)
		return ret;
	leave_stats(o, &res);
	fflush(stdout);
	log_end(false);
	signals_back();
	if (o->exec_cmd) {
		execvp(o->rest[0], o->rest);
		return err_set(err, errno, "run %s: pid %d runs all the same", o->rest[0],
			       res.root);
	}
	/* All that is ours, until nothing is; how it ended is not told. */
	while (!o->detached && (waitpid(-1, NULL, 0) > 0 || errno == EINTR))
		;
	return 0;
}

/* --- check ---------------------------------------------------------------------------------- */

/* What `check --feature` is asked for: ours of that meaning, or what stasis does without any. */
static const struct feature {
	const char *name;
	const char *needs; /* a name of target_features(); NULL: nothing */
	bool able;
} features[] = {
	{"mnt_id", NULL, true},
	{"mem_dirty_track", NULL, false}, /* pre-dump */
	{"aio_remap", NULL, false},
	{"timerfd", "pidfd_getfd", true},
	{"tun", NULL, false},
	{"tun_ns", NULL, false},
	{"userns", NULL, false},
	{"fdinfo_lock", NULL, true},
	{"seccomp_suspend", "CAP_SYS_ADMIN", true},
	{"seccomp_filters", "CAP_SYS_ADMIN", true},
	{"loginuid", NULL, true},
	{"cgroupns", NULL, false},
	{"autofs", NULL, false},
	{"tcp_half_closed", NULL, true},
	{"compat_cr", NULL, false}, /* 32-bit processes */
	{"uffd", NULL, false},	    /* lazy pages */
	{"uffd-noncoop", NULL, false},
	{"can_map_vdso", NULL, true},
	{"sk_ns", NULL, false},
	{"sk_unix_file", NULL, false},
	{"net_diag_raw", NULL, false},
	{"nsid", NULL, false},
	{"link_nsid", NULL, false},
	{"kcmp_epoll", "kcmp", true},
	{"timens", NULL, false},
	{"external_net_ns", NULL, false},
	{"clone3_set_tid", "clone3 set_tid", true},
	{"newifindex", NULL, false},
	{"nftables", NULL, false},
	{"has_ipt_legacy", NULL, false},
	{"pidfd_store", NULL, false},
	{"ns_pid", NULL, false},
	{"apparmor_stacking", NULL, false},
	{"network_lock_nftables", "nf_tables", true},
	{"sockopt_buf_lock", NULL, false},
	{"memfd_hugetlb", NULL, true},
	{"move_mount_set_group", NULL, false},
	{"openat2", NULL, true},
	{"get_rseq_conf", "ptrace rseq configuration", true},
	{"ipv6_freebind", NULL, true},
	{"pagemap_scan", "PAGEMAP_SCAN", true},
	{"timer_cr_ids", NULL, true},
	{"overlayfs_maps", "/proc/PID/map_files", true},
	{"breakpoints", NULL, true},
	{"pagemap_scan_guard_pages", "guard pages by madvise", true},
};

static int check_feature(const struct criu_opts *o)
{
	const char *name = o->check_feature;
	bool list = !strcmp(name, "list");

	for (unsigned i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		const struct target_feature *f = target_features();

		if (list)
			printf("%s%s", i ? " " : "", features[i].name);
		if (strcmp(features[i].name, name))
			continue;
		if (!features[i].able)
			return refuse(o, name, "stasis does not make use of it");
		while (f->name && features[i].needs && strcmp(f->name, features[i].needs))
			f++;
		return !features[i].needs || f->have ? 0 : refuse(o, name, f->without);
	}
	if (!list)
		return refuse(o, name, "there is no such feature; --feature list names all");
	putchar('\n');
	return 0;
}

static int do_check(const struct criu_opts *o, struct err *err)
{
	const struct target_feature *f;
	bool able = true, all = true;

	if (o->check_feature)
		return check_feature(o);
	for (f = target_features(); f->name; f++) {
		able &= f->have || !f->required;
		all &= f->have || !f->restores;
		if (!f->have && (f->required || o->check_all))
			fprintf(stderr, "criu: %s: %s: without it %s\n",
				f->required || f->restores ? "Error" : "Warning", f->name,
				f->without);
	}
	if (!able)
		puts("Does not look good.");
	else if (!all && o->check_all)
		puts("Looks good but for what is named above.");
	else
		puts("Looks good.");
	return able && (all || !o->check_all) ? 0 : 1;
}

/* --- commands ------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	/* 0, 1 without a word, or -errno with @err */
	int (*run)(const struct criu_opts *o, struct err *err);
	const char *why_not;
} commands[] = {
	{"dump", do_dump, NULL},
	{"restore", do_restore, NULL},
	{"check", do_check, NULL},
	{"pre-dump", NULL,
	 "a dump is whole, and takes all memory at once; stasis pre-dump is there"},
	{"page-server", NULL, "pages go into the image, not over the network"},
	{"lazy-pages", NULL, "all pages are there before the tree runs"},
	{"service", NULL, "there is no service"},
	{"swrk", NULL, "there is no service"},
	{"dedup", NULL, "images have no parents here; stasis squash makes one image of a chain"},
	{"cpuinfo", NULL, "what the CPU has is in every image, and restore compares it"},
	{"exec", NULL, "nothing is run in other processes"},
};

static void usage(FILE *out, bool options)
{
	fprintf(out, "Usage: criu dump -t PID [-D DIR] [OPTION...]\n"
		     "       criu restore [-D DIR] [OPTION...]\n"
		     "       criu check [--all | --feature NAME]\n\n"
		     "This is stasis " STASIS_VERSION " under the name criu: see stasis(1).\n");
	if (options)
		criu_opts_help(out);
}

int cmd_criu(int argc, char **argv)
{
	struct criu_opts o = {.level = 1};
	struct err err = {0};
	unsigned i;
	int ret;

	if (criu_opts_parse(&o, argc, argv, &err) < 0)
		return fail(&o, &err);
	if (o.version) {
		puts("Version: " CRIU_RELEASE "\nGitID: stasis-" STASIS_VERSION);
		return 0;
	}
	if (o.help || !o.command) {
		usage(o.help ? stdout : stderr, o.help);
		return !o.help;
	}
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(o.command, commands[i].name))
			break;
	if (i == sizeof(commands) / sizeof(commands[0]))
		return refuse(&o, o.command, "there is no such command");
	if (!commands[i].run)
		return refuse(&o, o.command, commands[i].why_not);
	if (o.rest[0] && !o.exec_cmd)
		return refuse(&o, o.rest[0], "what is this for?");
	if (!o.rest[0] && o.exec_cmd)
		return refuse(&o, "--exec-cmd", "which command? It comes after --");
	ret = commands[i].run(&o, &err);
	log_end(false);
	return ret < 0 ? fail(&o, &err) : ret;
}
