/* SPDX-License-Identifier: MIT */
/* The processes of a tree from its root on: parents, sessions, groups, zombies, threads. */
#include <inttypes.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "src/target/script.h"
#include "src/target/sessions.h"
#include "src/target/stub.h"

enum { WAIT_MS = 10000, CLONES_AT_ONCE = 512 };

/* How, and why so: sessions.h. */
struct family {
	struct spawn *s;
	struct remote r;
};

static struct task *leader_of(struct family *f, uint32_t index)
{
	struct tree *t = &f->s->tree;
	struct proc *p = &t->procs[index];

	return tree_task(t, p->pid);
}

/* The remote of family is one process at a time. */
static int enter(struct family *f, uint32_t index, struct err *err)
{
	remote_detach(&f->r);
	return remote_adopt(&f->r, &f->s->tree, &f->s->tree.procs[index], f->s->base, err);
}

static int one(struct family *f, uint32_t index, uint64_t nr, uint64_t a, uint64_t b, uint64_t c,
	       const char *what, struct err *err)
{
	const uint64_t args[6] = {a, b, c};
	int ret = enter(f, index, err);
	int64_t value;

	if (ret < 0)
		return ret;
	value = script_one(&f->r, leader_of(f, index), nr, args, err);
	if (value < 0)
		return err_set(err, (int)-value, "%s in process %d", what,
			       f->s->tree.procs[index].pid);
	return 0;
}

/* --- one process ---------------------------------------------------------------------------- */

static int add_stub(struct family *f, pid_t pid, uint32_t *ret_index, struct err *err)
{
	struct tree *t = &f->s->tree;
	int ret = tree_add_proc(t, pid, ret_index);

	if (ret == 0)
		ret = tree_add_task(t, *ret_index, pid);
	if (ret < 0)
		return err_set(err, -ret, "note process %d", pid);
	return stub_await(f->s, &t->tasks[t->ntasks - 1], err);
}

/* A child of tree.procs[@parent], which @exit_signal tells of its end. @pid 0: whatever number
 * comes. */
static int fork_stub(struct family *f, uint32_t parent, uint32_t pid, uint64_t flags,
		     uint32_t exit_signal, uint32_t *ret_index, struct err *err)
{
	struct clone_args args = {
		.flags = flags, .exit_signal = exit_signal, .set_tid_size = pid != 0};
	struct script script;
	int64_t got;
	int ret = enter(f, parent, err);

	if (ret < 0)
		return ret;
	script_begin(&script, &f->r, leader_of(f, parent));
	if (pid)
		args.set_tid = script_buf(&script, &pid, sizeof(pid), err);
	script_add(
		&script,
		(struct script_call){SYS_clone3,
				     {script_buf(&script, &args, sizeof(args), err), sizeof(args)},
				     .may_fail = true},
		err);
	ret = script_run(&script, err);
	if (ret < 0)
		return ret;
	got = script_ret(&script, 0);
	if (got < 0)
		return stub_clone_failed((int)got, pid, err);
	return add_stub(f, (pid_t)got, ret_index, err);
}

/*
 * One that has ended ends again, and its parent must not be killed or stopped by that: it has been
 * told before. Any number but SIGCHLD means the same to wait4().
 */
static uint32_t exit_signal(const struct m_proc *p)
{
	bool again = p->state == M_DEAD && (p->exit_signal == SIGKILL || p->exit_signal == SIGSTOP);

	return again ? 0 : p->exit_signal;
}

static int make_process(struct family *f, const struct m_proc *p, uint32_t from, struct err *err)
{
	const struct m_proc *forker = session_forker(f->s->m, p);
	uint32_t index;
	int ret =
		fork_stub(f, from, p->pid, session_shares(p, forker), exit_signal(p), &index, err);

	if (ret < 0)
		return ret;
	f->s->order[p - f->s->m->procs] = index;
	if (FAULT("restore.child"))
		return err_set(err, EIO, "fault injected at restore.child");
	return 0;
}

/* A process of ours ends; the parent collects it, so that its number is free again. */
static int end_helper(struct family *f, uint32_t index, uint32_t parent, struct err *err)
{
	struct tree *t = &f->s->tree;
	pid_t pid = t->procs[index].pid;
	struct task *task = leader_of(f, index);
	uint64_t deadline = now_ns() + WAIT_MS * 1000000ull;

	kill(pid, SIGKILL);
	while (task && task_poll(task).kind != STOP_DEAD) {
		if (now_ns() > deadline)
			return err_fail(err, ETIMEDOUT, ERR_TIMEOUT,
					"helper process %d does not end", pid);
		tree_wait_child(t, 20);
	}
	if (task)
		task->state = TASK_GONE;
	t->procs[index].state = PROC_GONE;
	return one(f, parent, SYS_wait4, (uint64_t)pid, 0, WNOHANG, "collect a helper process",
		   err);
}

/* --- sessions ------------------------------------------------------------------------------- */

static int set_subreaper(struct family *f, uint32_t index, bool on, struct err *err)
{
	return one(f, index, SYS_prctl, PR_SET_CHILD_SUBREAPER, on, 0,
		   on ? "become a subreaper" : "end as a subreaper", err);
}

/* All children of @p that belong to the dead leader @sid, by one helper. */
static int adopt_orphans(struct family *f, const struct m_proc *p, uint32_t sid, struct err *err)
{
	const struct model *m = f->s->m;
	uint32_t parent = f->s->order[p - m->procs], helper;
	int ret;

	ret = set_subreaper(f, parent, true, err);
	if (ret == 0)
		/* With the tables that a child may have in common with its parent. */
		ret = fork_stub(f, parent, sid, CLONE_FILES | CLONE_FS, SIGCHLD, &helper, err);
	if (ret == 0)
		ret = one(f, helper, SYS_setsid, 0, 0, 0, "begin a session", err);
	for (uint32_t i = 1; ret == 0 && i < m->nprocs; i++) {
		const struct m_proc *c = &m->procs[i];

		if (c->ppid == p->pid && c->sid == sid && session_orphan(m, c, p))
			ret = make_process(f, c, helper, err);
	}
	if (ret == 0)
		ret = end_helper(f, helper, parent, err);
	return ret < 0 ? ret : set_subreaper(f, parent, false, err);
}

/* A number that somebody is still to have. */
static bool is_wanted(const struct model *m, uint32_t id)
{
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];

		if (p->pid == id || p->pgid == id || p->sid == id)
			return true;
		for (uint32_t k = 1; k < p->nthreads; k++)
			if (p->threads[k].tid == id)
				return true;
	}
	return false;
}

/* A child of tree.procs[@from] with a number that nobody is to have. */
static int fork_helper(struct family *f, uint32_t from, uint32_t *ret_helper, struct err *err)
{
	bool wanted;
	int ret;

	do {
		ret = fork_stub(f, from, 0, CLONE_FILES | CLONE_FS, SIGCHLD, ret_helper, err);
		wanted =
			ret == 0 && is_wanted(f->s->m, (uint32_t)f->s->tree.procs[*ret_helper].pid);
		if (wanted)
			ret = end_helper(f, *ret_helper, from, err);
	} while (wanted && ret == 0);
	return ret;
}

/* @p by a helper that a process of its session forks, which then ends: it falls to its parent. */
static int make_orphan(struct family *f, const struct m_proc *p, uint32_t from, struct err *err)
{
	const struct model *m = f->s->m;
	uint32_t home = f->s->order[session_parent(m, p) - m->procs], helper;
	int ret = fork_helper(f, from, &helper, err);

	if (ret == 0)
		ret = set_subreaper(f, home, true, err);
	if (ret == 0)
		ret = make_process(f, p, helper, err);
	if (ret == 0)
		ret = end_helper(f, helper, from, err);
	return ret < 0 ? ret : set_subreaper(f, home, false, err);
}

/* In the session of one that is in the tree: 1, or 0 when that is not there yet. */
static int bring_home(struct family *f, const struct m_proc *p, const bool *settled,
		      struct err *err)
{
	const struct model *m = f->s->m;
	const struct m_proc *up = session_parent(m, p), *leader = model_proc(m, p->sid);
	int ret;

	if (!settled[leader - m->procs] || !settled[up - m->procs])
		return 0;
	ret = make_orphan(f, p, f->s->order[leader - m->procs], err);
	return ret < 0 ? ret : 1;
}

/* All orphans of the session of @p, whose leader has ended, and their several parents are there. */
static int bring_all_home(struct family *f, const struct m_proc *p, const bool *settled,
			  struct err *err)
{
	const struct model *m = f->s->m;
	const struct m_proc *low = session_lowest(m, p->sid);
	uint32_t parent, leader;
	int ret;

	for (uint32_t i = 1; i < m->nprocs; i++) {
		const struct m_proc *c = &m->procs[i];

		if (c->sid == p->sid && session_spread(m, c) &&
		    !settled[session_parent(m, c) - m->procs])
			return 0;
	}
	parent = f->s->order[low - m->procs];
	ret = fork_stub(f, parent, p->sid, CLONE_FILES | CLONE_FS, SIGCHLD, &leader, err);
	if (ret == 0)
		ret = one(f, leader, SYS_setsid, 0, 0, 0, "begin a session", err);
	for (uint32_t i = 1; ret == 0 && i < m->nprocs; i++)
		if (m->procs[i].sid == p->sid && session_spread(m, &m->procs[i]))
			ret = make_orphan(f, &m->procs[i], leader, err);
	if (ret == 0)
		ret = end_helper(f, leader, parent, err);
	return ret < 0 ? ret : 1;
}

static bool made(const struct family *f, const struct m_proc *p)
{
	return f->s->order[p - f->s->m->procs] != UINT32_MAX;
}

static int begin_session(struct family *f, uint32_t index, const struct m_proc *p, struct err *err)
{
	int ret = one(f, index, SYS_setsid, 0, 0, 0, "begin a session", err);

	if (ret < 0 || !f->s->opts.session)
		return ret;
	f->r.first = leader_of(f, index);
	return f->s->opts.session(f->s->opts.arg, &f->r, p, err);
}

static bool has_children(const struct model *m, const struct m_proc *p)
{
	for (uint32_t i = 1; i < m->nprocs; i++)
		if (m->procs[i].ppid == p->pid)
			return true;
	return false;
}

/* What its children are to have of it must be there when they are forked. */
static int become_parent(struct family *f, const struct m_proc *p, struct err *err)
{
	uint32_t index = f->s->order[p - f->s->m->procs];
	int ret;

	if (!f->s->opts.parent || !has_children(f->s->m, p))
		return 0;
	ret = enter(f, index, err);
	if (ret < 0)
		return ret;
	f->r.first = leader_of(f, index);
	return f->s->opts.parent(f->s->opts.arg, &f->r, p, err);
}

/* The children of @p, around its setsid(). */
static int make_children(struct family *f, const struct m_proc *p, struct err *err)
{
	const struct model *m = f->s->m;
	uint32_t index = f->s->order[p - m->procs];
	int ret = become_parent(f, p, err);

	for (int late = 0; ret == 0 && late < 2; late++) {
		for (uint32_t i = 1; ret == 0 && i < m->nprocs; i++) {
			const struct m_proc *c = &m->procs[i];

			if (c->ppid != p->pid || made(f, c) || session_before(m, c, p) != !late ||
			    session_comes_home(m, c) || session_spread(m, c))
				continue;
			ret = session_orphan(m, c, p) ? adopt_orphans(f, p, c->sid, err)
						      : make_process(f, c, index, err);
		}
		if (ret == 0 && !late && session_leads(p))
			ret = begin_session(f, index, p, err);
	}
	return ret;
}

static int check_root_session(struct spawn *s, struct err *err)
{
	const struct m_proc *root = &s->m->procs[0];

	if (session_leads(root) || model_proc(s->m, root->sid) || s->opts.shell_job ||
	    root->sid == (uint32_t)getsid(0))
		return 0;
	err_fail(err, EINVAL, ERR_UNSUPPORTED,
		 "process %u was in session %u, whose leader is not in the image", root->pid,
		 root->sid);
	err_hint(err, "use --shell-job to bring it back into the session of this command, or start "
		      "programs that are to be dumped with setsid");
	return -EINVAL;
}

/* --- groups --------------------------------------------------------------------------------- */

static int join_group(struct family *f, const struct m_proc *p, struct err *err)
{
	return one(f, f->s->order[p - f->s->m->procs], SYS_setpgid, 0, p->pgid, 0,
		   "join its process group", err);
}

/* The groups that lead themselves first; then a helper for each whose leader has ended. */
static int make_groups(struct family *f, struct err *err)
{
	const struct model *m = f->s->m;
	uint32_t outside = m->procs[0].pgid;
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < m->nprocs; i++)
		if (m->procs[i].pgid == m->procs[i].pid && !session_leads(&m->procs[i]))
			ret = join_group(f, &m->procs[i], err);
	if (model_proc(m, outside))
		outside = 0;
	for (uint32_t i = 0; ret == 0 && i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];
		uint32_t helper = UINT32_MAX, parent = f->s->order[i];

		/* The root's group came with it, and with those that were never moved. */
		if (p->pgid == p->pid || p->pgid == outside)
			continue;
		if (model_proc(m, p->pgid)) {
			ret = join_group(f, p, err);
			continue;
		}
		/* A session's first group is where its processes begin, its leader dead or not. */
		if (p->pgid == p->sid)
			continue;
		for (uint32_t j = 0; j < i; j++)
			if (m->procs[j].pgid == p->pgid)
				parent = UINT32_MAX; /* with the first of them */
		if (parent == UINT32_MAX)
			continue;
		ret = fork_stub(f, parent, p->pgid, 0, SIGCHLD, &helper, err);
		if (ret == 0)
			ret = one(f, helper, SYS_setpgid, 0, 0, 0, "begin a process group", err);
		for (uint32_t j = i; ret == 0 && j < m->nprocs; j++)
			if (m->procs[j].pgid == p->pgid)
				ret = join_group(f, &m->procs[j], err);
		if (ret == 0)
			ret = end_helper(f, helper, parent, err);
	}
	return ret;
}

/* --- threads -------------------------------------------------------------------------------- */

static int await_threads(struct family *f, uint32_t index, const struct m_proc *p, uint32_t from,
			 uint32_t n, struct err *err)
{
	struct tree *t = &f->s->tree;

	for (uint32_t i = from; i < from + n; i++) {
		int ret = tree_add_task(t, index, (pid_t)p->threads[i].tid);

		if (ret < 0)
			return err_set(err, -ret, "note thread %u", p->threads[i].tid);
		ret = stub_await(f->s, &t->tasks[t->ntasks - 1], err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int clone_threads(struct family *f, uint32_t index, const struct m_proc *p, uint32_t from,
			 uint32_t n, struct err *err)
{
	struct script script;
	uint32_t born = 0;
	int64_t bad = 0;
	int ret;

	script_begin(&script, &f->r, leader_of(f, index));
	for (uint32_t i = 0; i < n; i++) {
		struct clone_args args = {
			.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
				 CLONE_SYSVSEM,
			.set_tid = script_buf(&script, &p->threads[from + i].tid, 4, err),
			.set_tid_size = 1,
		};
		uint64_t at = script_buf(&script, &args, sizeof(args), err);

		script_add(&script,
			   (struct script_call){SYS_clone3, {at, sizeof(args)}, .may_fail = true},
			   err);
	}
	ret = script_run(&script, err);
	for (uint32_t i = 0; ret == 0 && i < n; i++) {
		if (script_ret(&script, i) < 0) {
			bad = bad ? bad : script_ret(&script, i);
			continue;
		}
		/* Those behind a failure are ours, too, and must be waited for. */
		ret = await_threads(f, index, p, from + i, 1, err);
		born++;
	}
	if (ret == 0 && bad)
		return stub_clone_failed((int)bad, p->threads[from + born].tid, err);
	return ret;
}

static int make_threads(struct family *f, const struct m_proc *p, struct err *err)
{
	uint32_t index = f->s->order[p - f->s->m->procs];
	int ret = enter(f, index, err);

	for (uint32_t i = 1; ret == 0 && i < p->nthreads; i += CLONES_AT_ONCE) {
		uint32_t n = p->nthreads - i;

		ret = clone_threads(f, index, p, i, n < CLONES_AT_ONCE ? n : CLONES_AT_ONCE, err);
	}
	return ret;
}

/* --- all ------------------------------------------------------------------------------------ */

/* One pass over all that are not @settled, with their session and their children: 1 as long as
 * there is more to do. */
static int settle(struct family *f, bool *settled, struct err *err)
{
	const struct model *m = f->s->m;
	int ret = 0, did = 0;

	for (uint32_t i = 0; ret >= 0 && i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];

		if (settled[i])
			continue;
		if (!made(f, p) && session_comes_home(m, p))
			ret = bring_home(f, p, settled, err);
		else if (!made(f, p) && session_spread(m, p))
			ret = bring_all_home(f, p, settled, err);
		if (ret < 0 || !made(f, p))
			continue;
		ret = make_children(f, p, err);
		settled[i] = true;
		did = 1;
	}
	return ret < 0 ? ret : did;
}

/*
 * Whom process @i has a descriptor table in common with though it is forked from none that has it,
 * NULL. A dump refuses that; other tools' images may have it.
 */
static const struct m_proc *stray_table(const struct model *m, uint32_t i)
{
	const struct m_proc *p = &m->procs[i], *q;

	if (p->state == M_DEAD || !p->fdtable_id ||
	    session_shares(p, session_forker(m, p)) & CLONE_FILES)
		return NULL;
	for (q = m->procs; q != p; q++)
		if (q->state != M_DEAD && q->fdtable_id == p->fdtable_id)
			return q;
	return NULL;
}

static int make_processes(struct family *f, struct err *err)
{
	const struct model *m = f->s->m;
	cleanup_free bool *settled = calloc(m->nprocs + 1, sizeof(*settled));
	int ret;

	if (!settled)
		return err_set(err, ENOMEM, "list of %u processes", m->nprocs);
	for (uint32_t i = 1; i < m->nprocs; i++) {
		const struct m_proc *other = stray_table(m, i);
		char why[200];

		if (session_impossible(m, &m->procs[i], why, sizeof(why)))
			return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED, "process %u is %s",
					m->procs[i].pid, why);
		if (other)
			return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
					"process %u has its descriptor table in common with "
					"process %u, which is not its parent: not supported",
					m->procs[i].pid, other->pid);
	}
	do {
		ret = settle(f, settled, err);
	} while (ret > 0);
	for (uint32_t i = 0; ret == 0 && i < m->nprocs; i++)
		if (!settled[i])
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"process %u of the image has parent %u, which is not in it",
					m->procs[i].pid, m->procs[i].ppid);
	return ret;
}

static int make_all(struct family *f, struct err *err)
{
	const struct model *m = f->s->m;
	int ret = make_processes(f, err);

	if (ret == 0)
		ret = make_groups(f, err);
	/* Zombies last: a dead process can have no session, group or child of its own made. */
	for (uint32_t i = m->nprocs; ret == 0 && i-- > 0;)
		if (m->procs[i].state == M_DEAD) {
			ret = enter(f, f->s->order[i], err);
			if (ret == 0)
				ret = stub_die(&f->r, &m->procs[i], err);
		}
	for (uint32_t i = 0; ret == 0 && i < m->nprocs; i++)
		if (m->procs[i].state != M_DEAD)
			ret = make_threads(f, &m->procs[i], err);
	return ret;
}

int spawn_tree(struct spawn *s, struct err *err)
{
	struct family f = {.s = s, .r = {.mem_fd = -1}};
	int ret = check_root_session(s, err);

	for (uint32_t i = 0; i < s->m->nprocs; i++)
		s->order[i] = UINT32_MAX;
	if (ret == 0)
		ret = stub_root(s, err);
	if (ret == 0) {
		s->order[0] = 0;
		ret = make_all(&f, err);
	}
	remote_detach(&f.r);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < s->tree.nprocs; i++)
		s->tree.procs[i].ntasks = 0;
	for (uint32_t i = 0; i < s->tree.ntasks; i++)
		if (s->tree.tasks[i].state == TASK_STOPPED)
			s->tree.procs[s->tree.tasks[i].proc].ntasks++;
	tree_order(&s->tree);
	if (FAULT("restore.tree"))
		return err_set(err, EIO, "fault injected at restore.tree");
	return 0;
}
