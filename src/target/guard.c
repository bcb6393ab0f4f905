/* SPDX-License-Identifier: MIT */
/* The guardian: the process that holds the ptrace attachment, and lets go whatever happens. */
#include "src/target/guard.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/urgent.h"
#include "binlog/pr.h"
#include "src/target/collect.h"
#include "src/target/dirty.h"
#include "src/target/forced.h"
#include "src/target/gather.h"
#include "src/target/keeper.h"
#include "src/target/phase.h"
#include "src/target/remote.h"
#include "src/target/spare.h"
#include "src/target/tree.h"

#ifndef CLOSE_RANGE_SYSCALL
#define CLOSE_RANGE_SYSCALL 436 /* close_range, Linux 5.9: the same number on every CPU */
#endif

enum { SOCK_FD = 3, FREEZE_TIMEOUT_MS = 10000, SOON_MS = 20 };

struct guard {
	struct tree tree;
	struct gather *gather;
	const struct model *m;
	const struct target_opts *opts;
	struct target_tracks *tracks;
	struct dirty *dirty; /* NULL: nothing is tracked */
	struct keeper keeper;
	int turn_fd; /* ours to dump, until it is closed; -1 */
	bool frozen, paused;
	struct urgent urgent; /* while anybody stands still because of a call of ours */
};

static void close_from_to(unsigned first, unsigned last)
{
	if (first > last || syscall(CLOSE_RANGE_SYSCALL, first, last, 0) == 0)
		return;
	for (unsigned fd = first; fd <= last && fd < 1024; fd++)
		close((int)fd);
}

/* Those of @stay that are above the socket stay. */
static void close_all_but(const int *stay, unsigned n)
{
	unsigned first = SOCK_FD + 1;

	for (;;) {
		int next = INT_MAX;

		for (unsigned i = 0; i < n; i++)
			if (stay[i] >= (int)first && stay[i] < next)
				next = stay[i];
		if (next == INT_MAX)
			break;
		close_from_to(first, (unsigned)next - 1);
		first = (unsigned)next + 1;
	}
	close_from_to(first, ~0u);
}

/*
 * Nothing of the tool's that could hold up others: descriptors, session, directory, signals. The
 * turn's descriptor is returned, which may have another number now.
 */
static int leave_the_tool(int sock, int turn_fd)
{
	static const int ignored[] = {SIGINT,  SIGTERM, SIGHUP,	 SIGPIPE, SIGQUIT,
				      SIGALRM, SIGUSR1, SIGUSR2, SIGTSTP, SIGTTIN};
	int null = open("/dev/null", O_RDWR);
	int turn = turn_fd < 0 ? -1 : fcntl(turn_fd, F_DUPFD_CLOEXEC, SOCK_FD + 1);
	sigset_t none;
	int fd;

	setsid();
	prctl(PR_SET_NAME, GUARD_NAME);
	for (unsigned i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Standard error stays, for assertions and sanitizers. */
	dup2(null, 0);
	dup2(null, 1);
	dup2(sock, SOCK_FD);
	/* The log's text, if it had our number, would go to the tool as answers. */
	if (binlog_sink_descriptor() == SOCK_FD)
		binlog_set_sink(NULL, NULL, 0);
	close_all_but((int[]){binlog_fd(), binlog_sink_descriptor(), turn}, 3);
	fcntl(SOCK_FD, F_SETFD, FD_CLOEXEC);
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		/* Needs CAP_SYS_RESOURCE: if it does not work, so be it. */
		if (write(fd, "-900", 4) < 0)
			errno = 0;
		close(fd);
	}
	if (chdir("/") < 0)
		errno = 0;
	return turn;
}

/*
 * Not for a few threads: from a CPU with such a priority on it work goes to another one, which has
 * to be woken for each call that one thread makes.
 */
static void hurry(struct guard *g)
{
	if (g->tree.many)
		urgent_begin(&g->urgent);
}

static int guard_freeze(struct guard *g, struct err *err)
{
	struct phase phase;
	int ret;

	if (g->frozen || g->paused)
		return err_set(err, EALREADY, "freeze process %d", g->tree.root);
	phase_begin(&phase);
	hurry(g);
	ret = tree_freeze(&g->tree, err);
	phase_done(&phase, g->tree.root, "stopping");
	g->frozen = ret == 0;
	return ret;
}

/* One short stop of the tree, after which writes to its memory can be told. */
static int guard_track(struct guard *g, enum target_way way, struct err *err)
{
	struct tree *t = &g->tree;
	int ret;

	if (g->frozen || !g->dirty != (way != TARGET_WAY_MORE))
		return err_set(err, EALREADY, "track process %d", t->root);
	if (!g->dirty) {
		g->dirty = dirty_new(g->tracks, err);
		if (!g->dirty)
			return -err->errnum;
		keeper_take_over(t->root, g->dirty);
	}
	hurry(g);
	ret = tree_freeze(t, err);
	/* Those that did not stop would stop later: see what follows a failed freeze. */
	if (ret < 0)
		return ret;
	ret = dirty_arm(g->dirty, t, way, err);
	tree_thaw(t, TARGET_RUN);
	urgent_end(&g->urgent);
	g->tracks->stop_ns = t->thaw_end_ns - t->freeze_begin_ns;
	g->tracks->nprocs = t->nlive_procs;
	g->tracks->nthreads = t->nlive;
	tree_reset(t);
	return ret;
}

/* A short stop, for the tool to look at page tables. */
static int guard_pause(struct guard *g, struct err *err)
{
	int ret;

	if (g->frozen || g->paused)
		return err_set(err, EALREADY, "pause process %d", g->tree.root);
	hurry(g);
	ret = tree_freeze(&g->tree, err);
	g->paused = ret == 0;
	return ret;
}

static int guard_resume(struct guard *g, struct err *err)
{
	if (!g->paused)
		return err_set(err, EINVAL, "resume process %d, which is not paused", g->tree.root);
	tree_thaw(&g->tree, TARGET_RUN);
	urgent_end(&g->urgent);
	tree_reset(&g->tree);
	g->paused = false;
	return 0;
}

/* While the tree runs: once more what is slow, or for the first time. */
static int survey_again(struct guard *g, struct err *err)
{
	gather_tracked(g->gather, g->dirty);
	if (g->opts->maps_later)
		return gather_survey_maps(g->gather, err);
	for (uint32_t i = 0; i < g->tracks->n; i++) {
		const struct target_track *r = &g->tracks->v[i];
		int ret = r->on ? gather_survey_again(g->gather, (pid_t)r->pid, err) : 0;

		if (ret < 0)
			return ret;
	}
	return 0;
}

static int guard_survey_again(struct guard *g, struct err *err)
{
	struct spare_away away;
	int ret;

	spare_go(&away, g->tracks);
	ret = survey_again(g, err);
	spare_return(&away);
	return ret;
}

/* To give up what is tracked is a walk over all of it: 9 ms per GiB. */
static void guard_untrack(struct guard *g)
{
	struct spare_away away;

	if (!g->dirty)
		return;
	gather_tracked(g->gather, NULL);
	spare_go(&away, g->tracks);
	dirty_close(g->dirty);
	g->dirty = NULL;
	spare_return(&away);
}

static int guard_collect(struct guard *g, uint32_t leave_guards, struct err *err)
{
	if (!g->frozen)
		return err_set(err, EINVAL, "collect process %d, which is not frozen",
			       g->tree.root);
	gather_tracked(g->gather, g->dirty);
	return gather_run(g->gather, leave_guards, err);
}

/*
 * Who does not go on with what a keeper tracks ends it: its registrations look like the program's
 * own, which no image carries. A list of findings changes nothing.
 */
static int guard_survey(struct guard *g, struct err *err)
{
	struct err drop = {0};
	struct dirty *d =
		g->opts->maps_later || g->opts->survey_all ? NULL : dirty_new(g->tracks, &drop);

	if (d) {
		keeper_take_over(g->tree.root, d);
		dirty_close(d);
		g->tracks->n = 0;
		g->tracks->since = 0;
		g->tracks->notes = 0;
	}
	if (g->opts->survey_all && keeper_is_there(g->tree.root) && gather_kept(g->gather, err) < 0)
		return -err->errnum;
	return gather_survey(g->gather, err);
}

static int guard_read(struct guard *g, const struct guard_cmd *cmd, struct err *err)
{
	const struct proc *p = tree_proc(&g->tree, cmd->pid);

	if (!g->frozen || !p || cmd->len > sizeof(g->tracks->bytes))
		return err_set(err, EINVAL, "read process %d, which is not frozen", cmd->pid);
	return (int)forced_read(&g->tree, p, cmd->addr, g->tracks->bytes, cmd->len);
}

static int guard_alive(struct guard *g, struct err *err)
{
	tree_reap(&g->tree);
	for (uint32_t i = 0; i < g->tree.nprocs; i++) {
		struct proc *p = &g->tree.procs[i];

		if (p->state != PROC_LIVE)
			continue;
		for (uint32_t j = 0; j < p->ntasks; j++)
			if (tree_proc_task(&g->tree, p, j)->state == TASK_GONE)
				return err_fail(err, ESRCH, ERR_TARGET_GONE,
						"process %d was killed while it was being dumped",
						p->pid);
	}
	return 0;
}

static int guard_thaw(struct guard *g, uint32_t end, struct err *err)
{
	struct phase phase;
	int ret;

	if (!g->frozen)
		return err_set(err, EINVAL, "thaw process %d, which is not frozen", g->tree.root);
	ret = end == TARGET_RUN ? guard_alive(g, err) : 0;
	if (ret < 0)
		return ret;
	if (end == TARGET_KILL)
		gather_grasp(g->gather);
	phase_begin(&phase);
	/* Who is let go first is not to wait for us to let go of the others. */
	urgent_end(&g->urgent);
	tree_thaw(&g->tree, (int)end);
	phase_done(&phase, g->tree.root, "letting go");
	g->frozen = false;
	if (end == TARGET_KILL)
		gather_hold_end(g->gather);
	return 0;
}

static int guard_command(struct guard *g, const struct guard_cmd *cmd, struct err *err)
{
	switch ((enum guard_op)cmd->op) {
	case GUARD_SURVEY:
		return guard_survey(g, err);
	case GUARD_TRACK:
		return guard_track(g, (enum target_way)cmd->arg, err);
	case GUARD_SURVEY_AGAIN:
		return guard_survey_again(g, err);
	case GUARD_UNTRACK:
		guard_untrack(g);
		return 0;
	case GUARD_KEEP:
		if (g->frozen || !g->dirty)
			return err_set(err, EINVAL, "keep tracking process %d", g->tree.root);
		if (dirty_take_notes(g->dirty, err) < 0)
			return -err->errnum;
		return keeper_listen(g->tree.root, &g->keeper, err);
	case GUARD_FREEZE:
		return guard_freeze(g, err);
	case GUARD_COLLECT:
		return guard_collect(g, cmd->arg, err);
	case GUARD_SURE:
		return g->frozen && g->dirty ? (int)dirty_sure_rest(g->dirty, g->m) : 0;
	case GUARD_ALIVE:
		return guard_alive(g, err);
	case GUARD_PAUSE:
		return guard_pause(g, err);
	case GUARD_RESUME:
		return guard_resume(g, err);
	case GUARD_READ:
		return guard_read(g, cmd, err);
	case GUARD_THAW:
		return guard_thaw(g, cmd->arg, err);
	}
	return err_set(err, EINVAL, "command %u to the guardian", cmd->op);
}

/* True with a command; false when the tool is gone or has closed its end. */
/* Who asks whose turn it is has its answer from the kernel: a full queue would keep others out. */
static void let_askers_go(const struct guard *g)
{
	int fd;

	while ((fd = accept4(g->turn_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
	errno = 0;
}

static bool next_command(struct guard *g, struct guard_cmd *cmd)
{
	struct pollfd soon = {.fd = SOCK_FD, .events = POLLIN};

	/*
	 * In a freeze one follows the other, and each of the stops before has left its SIGCHLD: to
	 * look at all threads for that would be part of the freeze.
	 */
	if (poll(&soon, 1, SOON_MS) < 0)
		errno = 0;
	for (;;) {
		struct pollfd fds[3] = {
			{.fd = SOCK_FD, .events = POLLIN},
			{.fd = g->tree.wake_fd, .events = POLLIN},
			{.fd = g->turn_fd, .events = POLLIN},
		};
		struct signalfd_siginfo_room {
			char bytes[128 * 16];
		} drop;
		ssize_t n;

		if (poll(fds, 3, -1) < 0 && errno == EINTR)
			continue;
		if (fds[0].revents) {
			n = recv(SOCK_FD, cmd, sizeof(*cmd), 0);
			if (n == (ssize_t)sizeof(*cmd))
				return true;
			if (n < 0 && errno == EINTR)
				continue;
			return false;
		}
		/* Somebody died while frozen: the parent must hear of it now, not after the thaw.
		 */
		if (fds[1].revents && read(g->tree.wake_fd, &drop, sizeof(drop)) > 0)
			tree_reap(&g->tree);
		if (fds[2].revents)
			let_askers_go(g);
	}
}

static const char *const op_name[] = {
	[GUARD_SURVEY] = "survey",
	[GUARD_TRACK] = "track",
	[GUARD_SURVEY_AGAIN] = "survey again",
	[GUARD_UNTRACK] = "untrack",
	[GUARD_KEEP] = "keep tracking",
	[GUARD_FREEZE] = "freeze",
	[GUARD_COLLECT] = "collect",
	[GUARD_SURE] = "look for registrations",
	[GUARD_ALIVE] = "alive",
	[GUARD_PAUSE] = "pause",
	[GUARD_RESUME] = "resume",
	[GUARD_READ] = "read",
	[GUARD_THAW] = "thaw",
};

static void log_command(struct guard *g, uint32_t op, int ret, const struct err *err)
{
	if (op > GUARD_THAW)
		return;
	if (ret < 0)
		pr_err("guardian: %s: %s\n", op_name[op], err->msg);
	else
		pr_info("guardian: %s: done, %u processes and %u threads frozen\n", op_name[op],
			g->tree.nlive_procs, g->tree.nlive);
}

static void guard_reply(struct guard *g, int ret, const struct err *err)
{
	struct guard_reply r = {.ret = ret, .err = *err};

	r.times = (struct target_times){
		.freeze_begin_ns = g->tree.freeze_begin_ns,
		.frozen_ns = g->tree.frozen_ns,
		.thaw_end_ns = g->tree.thaw_end_ns,
		.nthreads = g->tree.nlive,
		.nprocs = g->tree.nlive_procs,
	};
	if (r.ret < 0 || !g->keeper.root)
		gather_times(g->gather, &r.times);
	send(SOCK_FD, &r, sizeof(r), MSG_NOSIGNAL);
}

void guard_main(int sock, pid_t root, struct model *m, struct target_tracks *tracks, int turn_fd,
		const struct target_opts *opts)
{
	struct guard g = {.opts = opts, .m = m, .tracks = tracks, .keeper = KEEPER_NONE};
	struct guard_cmd cmd;
	struct err err = {0};
	int ret;

	g.turn_fd = leave_the_tool(sock, turn_fd);
	ret = tree_init(&g.tree, root, &err);
	if (ret == 0) {
		tree_wait_one(&g.tree);
		g.tree.stop_fd = SOCK_FD;
		g.tree.limits = &tracks->limits;
		g.tree.calling = &tracks->calling;
		g.tree.timeout_ms =
			opts->freeze_timeout_ms ? opts->freeze_timeout_ms : FREEZE_TIMEOUT_MS;
		g.gather = gather_new(&g.tree, m, opts, &err);
		ret = g.gather ? 0 : -err.errnum;
	}
	while (next_command(&g, &cmd)) {
		if (ret == 0)
			ret = guard_command(&g, &cmd, &err);
		if (ret < 0 &&
		    (cmd.op == GUARD_FREEZE || cmd.op == GUARD_TRACK || cmd.op == GUARD_PAUSE)) {
			/*
			 * What has stopped goes on here; what would stop later goes on when the
			 * kernel ends our attachment with us. The tool must find everything
			 * running, so we end before we answer for it.
			 */
			tree_thaw(&g.tree, TARGET_RUN);
			guard_untrack(&g);
			log_command(&g, cmd.op, ret, &err);
			binlog_close();
			guard_reply(&g, ret, &err);
			_exit(0);
		}
		log_command(&g, cmd.op, ret, &err);
		if (ret == 0 && cmd.op == GUARD_KEEP) {
			binlog_close();
			gather_close(g.gather);
			/* The next dump's. */
			if (g.turn_fd >= 0)
				close(g.turn_fd);
			guard_reply(&g, ret, &err);
			close(SOCK_FD);
			keeper_main(&g.keeper, g.dirty);
		}
		guard_reply(&g, ret, &err);
		err_clear(&err);
		ret = 0;
	}
	pr_info("guardian: the tool has closed its end: letting everything go\n");
	gather_undo(g.gather);
	tree_thaw(&g.tree, TARGET_RUN);
	guard_untrack(&g);
	gather_close(g.gather);
	binlog_close();
	_exit(0);
}
