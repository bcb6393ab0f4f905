/* SPDX-License-Identifier: MIT */
/* Who is to be forked from whom, by the model alone. */
#include "src/target/sessions.h"

#include <errno.h>
#include <linux/sched.h>
#include <stdio.h>

#include "src/target/collect.h"

const struct m_proc *session_parent(const struct model *m, const struct m_proc *p)
{
	return p == &m->procs[0] ? NULL : model_proc(m, p->ppid);
}

bool session_leads(const struct m_proc *p)
{
	return p->sid == p->pid;
}

/* The session that @p had before its own setsid(): its parent's at that time, if there is a choice.
 */
static uint32_t first_session(const struct model *m, const struct m_proc *p)
{
	const struct m_proc *up = session_parent(m, p);

	if (!session_leads(p))
		return p->sid;
	return up ? up->sid : 0;
}

bool session_before(const struct model *m, const struct m_proc *child, const struct m_proc *parent)
{
	return session_leads(parent) && !session_leads(child) && child->sid != parent->sid &&
	       child->sid == first_session(m, parent);
}

bool session_orphan(const struct model *m, const struct m_proc *child, const struct m_proc *parent)
{
	return !session_leads(child) && child->sid != parent->sid &&
	       !session_before(m, child, parent);
}

/* An orphan's parent, NULL for all others. */
static const struct m_proc *parent_of_orphan(const struct model *m, const struct m_proc *p)
{
	const struct m_proc *up = session_parent(m, p);

	return up && session_orphan(m, p, up) ? up : NULL;
}

bool session_comes_home(const struct model *m, const struct m_proc *p)
{
	return parent_of_orphan(m, p) && model_proc(m, p->sid);
}

bool session_spread(const struct model *m, const struct m_proc *p)
{
	if (!parent_of_orphan(m, p) || model_proc(m, p->sid))
		return false;
	for (uint32_t i = 1; i < m->nprocs; i++) {
		const struct m_proc *q = &m->procs[i];

		if (q->sid == p->sid && q->ppid != p->ppid && parent_of_orphan(m, q))
			return true;
	}
	return false;
}

static bool is_below(const struct model *m, const struct m_proc *p, const struct m_proc *above)
{
	for (uint32_t depth = 0; p && depth < m->nprocs; depth++) {
		if (p == above)
			return true;
		p = session_parent(m, p);
	}
	return false;
}

/* @low is below every parent of an orphan of @sid, and below none of the orphans. */
static bool is_lowest(const struct model *m, const struct m_proc *low, uint32_t sid)
{
	for (uint32_t i = 1; i < m->nprocs; i++) {
		const struct m_proc *q = &m->procs[i];
		const struct m_proc *up = q->sid == sid ? parent_of_orphan(m, q) : NULL;

		if (up && (!is_below(m, low, up) || is_below(m, low, q)))
			return false;
	}
	return true;
}

const struct m_proc *session_lowest(const struct model *m, uint32_t sid)
{
	for (uint32_t i = 1; i < m->nprocs; i++) {
		const struct m_proc *q = &m->procs[i];
		const struct m_proc *up = q->sid == sid ? parent_of_orphan(m, q) : NULL;

		if (up && is_lowest(m, up, sid))
			return up;
	}
	return NULL;
}

const struct m_proc *session_forker(const struct model *m, const struct m_proc *p)
{
	const struct m_proc *ret = NULL;

	if (session_comes_home(m, p))
		ret = model_proc(m, p->sid);
	else if (session_spread(m, p))
		ret = session_lowest(m, p->sid);
	return ret ? ret : session_parent(m, p);
}

uint64_t session_shares(const struct m_proc *p, const struct m_proc *other)
{
	uint64_t flags = 0;

	if (p->state == M_DEAD || !other)
		return 0;
	if (p->fdtable_id && p->fdtable_id == other->fdtable_id)
		flags |= CLONE_FILES;
	if (p->fs_id && p->fs_id == other->fs_id)
		flags |= CLONE_FS;
	return flags;
}

bool session_impossible(const struct model *m, const struct m_proc *p, char *ret, size_t len)
{
	const struct m_proc *up = session_parent(m, p);
	const struct m_proc *from;

	if (!up || session_leads(p) || p->sid == up->sid)
		return false;
	from = session_forker(m, p);
	if (session_comes_home(m, p) && !is_below(m, from, up))
		snprintf(ret, len,
			 "in session %u, and its parent %u is no ancestor of that one's leader: "
			 "not supported",
			 p->sid, p->ppid);
	else if (session_spread(m, p) && !session_lowest(m, p->sid))
		snprintf(ret, len,
			 "in session %u, whose leader has ended, as are children of others than "
			 "its parent %u, none of them below all others: not supported",
			 p->sid, p->ppid);
	else if (session_shares(p, up) & ~session_shares(p, from))
		snprintf(ret, len,
			 "in a session that its parent %u is not in, with a descriptor table or "
			 "working directory of that one's (clone): not supported",
			 p->ppid);
	else
		return false;
	return true;
}

/* Not a fault of the tree's: from the session of now it is restored without a word. */
static int note_session(struct model *m, bool shell_job)
{
	const struct m_proc *root = &m->procs[0];

	if (shell_job || session_leads(root) || model_proc(m, root->sid))
		return 0;
	return finding_add(m, root->pid,
			   "session %u began outside of the tree: a restore from another session "
			   "needs --shell-job",
			   root->sid);
}

int sessions_collect(struct model *m, bool shell_job, struct err *err)
{
	if (m->nprocs && note_session(m, shell_job) < 0)
		return err_set(err, ENOMEM, "findings of pid %u", m->procs[0].pid);
	for (uint32_t i = 1; i < m->nprocs; i++) {
		char why[200];

		if (session_impossible(m, &m->procs[i], why, sizeof(why)) &&
		    finding_fatal(m, m->procs[i].pid, "%s", why) < 0)
			return err_set(err, ENOMEM, "findings of pid %u", m->procs[i].pid);
	}
	return 0;
}
