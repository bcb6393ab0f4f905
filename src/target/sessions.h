/* SPDX-License-Identifier: MIT */
/*
 * Who is to be forked from whom, so that every process of a model comes into its session and to its
 * parent. A session is joined by birth alone; the parent changes when the first one ends.
 *
 *	root of another session than its own	the tool's (--shell-job), else refused
 *	child of its parent's session		forked behind the parent's setsid()
 *	child of the session before that	forked ahead of it
 *	child of a session whose leader died	forked by a helper that leads it, and then dies
 *						while the parent is a subreaper: the orphan comes
 *						home
 *	such children of several parents	the helper is the child of the lowest of them, and
 *						has helpers of its own for orphans of the others
 *	child of a descendant's session		in the same way, when that one is there: by a helper
 *						that the leader forks, alive or a zombie
 */
#ifndef TARGET_SESSIONS_H
#define TARGET_SESSIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "src/image/model.h"

/* NULL: the root's is not in the model. */
const struct m_proc *session_parent(const struct model *m, const struct m_proc *p);
bool session_leads(const struct m_proc *p);
/* @child is forked ahead of its parent's setsid(). */
bool session_before(const struct model *m, const struct m_proc *child, const struct m_proc *parent);
/* In neither session that its parent has or had: forked by a helper that ends. */
bool session_orphan(const struct model *m, const struct m_proc *child, const struct m_proc *parent);
/* Such a one whose leader is in the tree. */
bool session_comes_home(const struct model *m, const struct m_proc *p);
/* Such a one whose leader is not, in a session with orphans of another parent. */
bool session_spread(const struct model *m, const struct m_proc *p);
/* Of the parents of the orphans of a dead leader the one that is below all others; NULL: none. */
const struct m_proc *session_lowest(const struct model *m, uint32_t sid);

/*
 * Whose memory and tables a helper or child has when it is forked as above: the parent's, or those
 * of the leader or the lowest parent. NULL: the root.
 */
const struct m_proc *session_forker(const struct model *m, const struct m_proc *p);

/* CLONE_FILES, CLONE_FS: what @p has in common with @other. */
uint64_t session_shares(const struct m_proc *p, const struct m_proc *other);

/* What cannot be had: why, in @ret of @len bytes, and true. */
bool session_impossible(const struct model *m, const struct m_proc *p, char *ret, size_t len);
/*
 * All of that as findings, when all processes are in the model; and a note where the root's session
 * began outside of the tree and the dump is not made for any other (--shell-job).
 */
int sessions_collect(struct model *m, bool shell_job, struct err *err);

#endif
