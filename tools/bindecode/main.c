/* SPDX-License-Identifier: MIT */
/* bindecode: prints binary logs. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "tools/bindecode/check.h"
#include "tools/bindecode/options.h"

/* Documented in bindecode(1); never renumber. */
enum exit_code {
	EXIT_ALL = 0,
	EXIT_FAILED = 1,
	EXIT_WRONG_USE = 2,
	EXIT_DAMAGED = 3,
	EXIT_LOST = 4,
	EXIT_NO_LOG = 5,
};

enum {
	FLUSH_AT = 256 << 10,
	/* Stores to a mapping wake nobody, so a follower has to look; this often a second. */
	FOLLOW_MS = 50,
	QUIET_ROUNDS = 4, /* without news and without writers: the end */
};

/* Records kept until an error shows whether they are wanted. */
struct context {
	struct dec_buf *held;
	unsigned n;	  /* of them */
	uint64_t put;	  /* records passed */
	uint64_t printed; /* records up to here are out */
	unsigned owed;	  /* still to come behind the last error */
};

struct run {
	struct options opts;
	struct decode *d;
	struct out out;
	struct stats *stats;
	struct context context;
	struct dec_buf buf;
	int fd;
};

static int flush(struct run *run, struct err *err)
{
	ssize_t n;

	if (run->buf.oom)
		return err_set(err, ENOMEM, "decode");
	n = io_write(run->fd, run->buf.p, run->buf.len);
	run->buf.len = 0;
	if (n < 0)
		return err_set(err, (int)-n, "write %s",
			       run->opts.output ? run->opts.output : "standard output");
	return 0;
}

/* Before every record. */
static void put_between(struct run *run)
{
	if (run->out.some && run->opts.form->between)
		dec_buf_str(&run->buf, run->opts.form->between);
	run->out.some = true;
}

static void put_held(struct run *run, uint64_t from)
{
	struct context *c = &run->context;
	bool text = run->opts.form == &out_text && !run->opts.out.raw;

	if (text && c->printed && from > c->printed)
		dec_buf_str(&run->buf, "--\n");
	for (uint64_t i = from; i < c->put; i++) {
		put_between(run);
		dec_buf_put(&run->buf, c->held[i % c->n].p, c->held[i % c->n].len);
	}
	c->printed = c->put;
}

/* Prints errors with their surroundings. */
static void put_context(struct run *run, const struct dec_record *rec)
{
	struct context *c = &run->context;
	struct dec_buf *line = &c->held[c->put++ % c->n];
	uint64_t from;

	line->len = 0;
	run->out.form->put(&run->out, rec, line);
	run->buf.oom |= line->oom;
	if (rec->event == DEC_CALL && rec->level == BINLOG_ERR) {
		from = c->put > c->n ? c->put - c->n : 0;
		put_held(run, from > c->printed ? from : c->printed);
		c->owed = c->n - 1;
	} else if (c->owed) {
		c->owed--;
		put_held(run, c->put - 1);
	}
}

static int put_record(struct run *run, const struct dec_record *rec, struct err *err)
{
	if (run->opts.check) { /* the text, too, must come out */
		run->out.text.len = 0;
		if (rec->event == DEC_CALL)
			decode_text(rec, &run->out.text);
		return 0;
	}
	if (!filter_wants(&run->opts.filter, rec))
		return 0;
	if (run->stats)
		return stats_add(run->stats, rec) ? 0 : err_set(err, ENOMEM, "statistics");
	if (run->context.held) {
		put_context(run, rec);
	} else {
		put_between(run);
		run->out.form->put(&run->out, rec, &run->buf);
	}
	return run->buf.len >= FLUSH_AT ? flush(run, err) : 0;
}

static int drain(struct run *run, struct err *err)
{
	struct dec_record rec;
	int r;

	while ((r = decode_next(run->d, &rec, err)) > 0) {
		r = put_record(run, &rec, err);
		if (r)
			return r;
	}
	return r;
}

/* SIGINT ends following in order: what was read is out, JSON is closed. */
static int follow(struct run *run, const sigset_t *stop, struct err *err)
{
	unsigned quiet = 0;

	while (quiet < QUIET_ROUNDS) {
		const struct timespec ts = {.tv_nsec = FOLLOW_MS * 1000000L};
		bool ended = decode_ended(run->d);
		int r = decode_refresh(run->d, err);

		if (r < 0)
			return r;
		quiet = ended && !r ? quiet + 1 : 0;
		r = drain(run, err);
		r = r ? r : flush(run, err);
		if (r)
			return r;
		if (sigtimedwait(stop, NULL, &ts) > 0)
			break;
	}
	return 0;
}

static int open_logs(struct run *run, struct err *err)
{
	struct options *o = &run->opts;
	unsigned flags = (o->force ? DEC_ADD_FORCE : 0u) | (o->follow ? DEC_ADD_FOLLOW : 0u);
	int64_t open_ns;
	int r = decode_new(&run->d, err);

	for (unsigned i = 0; !r && i < o->nfiles; i++)
		r = decode_add(run->d, o->files[i], flags, err);
	if (r)
		return r;
	open_ns = (int64_t)dec_log_header(decode_log(run->d, 0))->open.real_ns;
	if (o->since)
		r = filter_parse_time(&o->filter.since, o->since, open_ns, o->out.utc, err);
	if (!r && o->until)
		r = filter_parse_time(&o->filter.until, o->until, open_ns, o->out.utc, err);
	return r;
}

/* Creating the output would empty the log. */
static bool is_log(const struct options *o, const char *path)
{
	struct stat out, in;

	for (unsigned i = 0; i < o->nfiles && !stat(path, &out); i++)
		if (!(strcmp(o->files[i], "-") ? stat(o->files[i], &in) : fstat(0, &in)) &&
		    in.st_dev == out.st_dev && in.st_ino == out.st_ino)
			return S_ISREG(out.st_mode);
	return false;
}

static int open_output(struct run *run, struct err *err)
{
	struct options *o = &run->opts;

	run->fd = 1;
	if (o->output && is_log(o, o->output))
		return err_fail(err, EINVAL, ERR_USAGE, "--output %s is one of the logs",
				o->output);
	if (o->output) {
		run->fd = open(o->output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
		if (run->fd < 0)
			return err_set(err, errno, "create %s", o->output);
	}
	o->out.colour = o->colour == COLOUR_ALWAYS ||
			(o->colour == COLOUR_AUTO && isatty(run->fd) && !getenv("NO_COLOR"));
	return 0;
}

static int prepare(struct run *run, struct err *err)
{
	struct options *o = &run->opts;
	int r = 0;

	if (o->regex)
		r = filter_set_regex(&o->filter, o->regex, o->ignore_case, err);
	r = r ? r : open_logs(run, err);
	r = r ? r : open_output(run, err);
	r = r ? r : out_init(&run->out, o->form, &o->out, err);
	if (!r && o->stats)
		r = stats_new(&run->stats, err);
	if (!r && o->context >= 0) {
		run->context.n = (unsigned)o->context + 1;
		run->context.held = calloc(run->context.n, sizeof(*run->context.held));
		if (!run->context.held)
			r = err_set(err, ENOMEM, "context");
	}
	return r;
}

static int print(struct run *run, struct err *err)
{
	const struct options *o = &run->opts;
	const struct out_form *form = o->stats || o->check ? NULL : o->form;
	sigset_t stop;
	int r;

	if (form && form->begin)
		form->begin(&run->out, &run->buf);
	if (o->follow) {
		sigemptyset(&stop);
		sigaddset(&stop, SIGINT);
		sigaddset(&stop, SIGTERM);
		sigprocmask(SIG_BLOCK, &stop, NULL);
	}
	r = drain(run, err);
	if (!r && o->follow)
		r = follow(run, &stop, err);
	if (r)
		return r;
	if (form && form->end)
		form->end(&run->out, &run->buf);
	if (o->stats)
		stats_put(run->stats, o->order, o->top, o->form == &out_json, &run->buf);
	for (unsigned i = 0; o->check && decode_log(run->d, i); i++)
		check_put(decode_log(run->d, i), &run->buf);
	return flush(run, err);
}

static void finish(struct run *run)
{
	for (unsigned i = 0; i < run->context.n && run->context.held; i++)
		dec_buf_deinit(&run->context.held[i]);
	free(run->context.held);
	stats_free(run->stats);
	out_deinit(&run->out);
	filter_deinit(&run->opts.filter);
	decode_free(run->d);
	dec_buf_deinit(&run->buf);
	if (run->fd > 1)
		close(run->fd);
}

static enum exit_code code_of(const struct err *err)
{
	switch (err->class) {
	case ERR_USAGE:
		return EXIT_WRONG_USE;
	case ERR_IMAGE:
	case ERR_UNSUPPORTED:
		return EXIT_NO_LOG;
	default:
		return EXIT_FAILED;
	}
}

static enum exit_code report(struct run *run)
{
	enum exit_code code = EXIT_ALL;

	run->buf.len = 0;
	for (unsigned i = 0; decode_log(run->d, i); i++) {
		enum check_verdict v = check_verdict(decode_log(run->d, i));

		if (v == CHECK_DAMAGED)
			code = EXIT_DAMAGED;
		else if (v == CHECK_LOST && run->opts.check && code == EXIT_ALL)
			code = EXIT_LOST;
		if (!run->opts.check)
			check_put_brief(decode_log(run->d, i), &run->buf);
	}
	io_write(2, run->buf.p, run->buf.len);
	return code;
}

int main(int argc, char **argv)
{
	struct err err = {0};
	static struct run run;
	enum exit_code code;
	int r;

	options_parse(&run.opts, argc, argv);
	r = prepare(&run, &err);
	r = r ? r : print(&run, &err);
	if (r) {
		fprintf(stderr, "bindecode: %s\n", err.msg);
		if (err.hint[0])
			fprintf(stderr, "bindecode: %s\n", err.hint);
		code = code_of(&err);
	} else {
		code = report(&run);
	}
	finish(&run);
	return code;
}
