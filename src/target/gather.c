/* SPDX-License-Identifier: MIT */
/* Filling the model from a frozen tree, process by process. */
#include "src/target/gather.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "src/target/aside.h"
#include "src/target/collect.h"
#include "src/target/deadline.h"
#include "src/target/dirty.h"
#include "src/target/gadget.h"
#include "src/target/locking.h"
#include "src/target/phase.h"
#include "src/target/procfs.h"
#include "src/target/ready.h"
#include "src/target/remote.h"
#include "src/target/sessions.h"
#include "src/target/tags.h"

struct gather {
	struct tree *tree;
	struct model *m;
	const struct target_opts *opts;
	struct remote remote;
	struct files *files;
	struct dirty *dirty; /* who is tracked; NULL: nobody */
	bool kept;	     /* a keeper tracks writes, for a list of findings */
	uint32_t *order;     /* process indices, parents before children */
	uint32_t norder;
	unsigned batches, batch_calls;
	struct phase phase;
	/* what /proc tells of the threads of one process, in their order; others may look */
	struct thread_look *looks;
	uint32_t looks_room;
	struct aside *aside; /* NULL: nobody else is there */
	struct proc *looked_at;
	struct deadlines *deadlines; /* NULL: not to be had */
	uint64_t ready;		     /* bytes of the model that threads and processes may take */
};

struct gather *gather_new(struct tree *t, struct model *m, const struct target_opts *opts,
			  struct err *err)
{
	struct gather *g = calloc(1, sizeof(*g));

	if (!g) {
		err_set(err, ENOMEM, "collector of process %d", t->root);
		return NULL;
	}
	g->tree = t;
	g->m = m;
	g->opts = opts;
	g->remote.mem_fd = -1;
	g->files = files_new(m, err);
	if (!g->files) {
		free(g);
		return NULL;
	}
	files_options(g->files, opts);
	g->deadlines = deadlines_new();
	return g;
}

void gather_undo(struct gather *g)
{
	if (g)
		remote_close(&g->remote);
}

void gather_close(struct gather *g)
{
	if (!g)
		return;
	aside_free(g->aside);
	ready_free(g->tree->ready);
	g->tree->ready = NULL;
	remote_close(&g->remote);
	files_free(g->files);
	deadlines_free(g->deadlines);
	free(g->looks);
	free(g->order);
	free(g);
}

void gather_grasp(struct gather *g)
{
	/* Of no use any more, and connections need descriptors. */
	ready_free(g->tree->ready);
	g->tree->ready = NULL;
	hold_grasp(g->files);
}

void gather_hold_end(struct gather *g)
{
	hold_end(g->files);
}

void gather_times(const struct gather *g, struct target_times *ret)
{
	if (!g)
		return;
	ret->batches = g->batches;
	ret->batch_calls = g->batch_calls;
}

/* What a process that runs has that an image does not carry; one that has gone has nothing. */
static void survey_findings(struct gather *g, pid_t pid, struct model *m, struct files *f)
{
	struct m_proc *p = model_push(m, &m->procs, &m->nprocs, sizeof(*p));
	struct err drop = {0};

	if (!p)
		return;
	p->pid = (uint32_t)pid;
	if (proc_collect(m, p, &drop) == 0 && p->state != M_DEAD) {
		if (g->opts->survey_all || g->opts->file_id.method >= FILEID_CRC_FIRST)
			maps_collect(m, p, f, &drop);
		files_collect(f, p, &drop);
	}
}

enum { MAX_CHILDREN = 4096, MAX_DEPTH = 64, VMA_BYTES = 256 /* in the model */ };

/* One look at the tree while it runs. */
struct survey_pass {
	struct gather *g;
	bool first;
	struct model *m; /* of its own: of a tree that changes nothing but the findings is kept */
	struct files *f;
};

/* The tree as it is now, as far as it goes: what it misses is read later. */
static int survey_children(struct survey_pass *s, pid_t pid, unsigned depth, struct err *err)
{
	pid_t *pids;
	bool maps = s->first && !s->g->opts->maps_later;
	int n, ret = maps ? maps_survey(s->g->files, pid, err) : 0;

	if (ret < 0)
		return ret;
	survey_findings(s->g, pid, s->m, s->f);
	if (depth == MAX_DEPTH)
		return 0;
	pids = malloc(MAX_CHILDREN * sizeof(*pids));
	if (!pids)
		return err_set(err, ENOMEM, "children of process %d", pid);
	n = proc_children(pid, pids, MAX_CHILDREN);
	for (int i = 0; ret == 0 && i < n && i < MAX_CHILDREN; i++)
		ret = survey_children(s, pids[i], depth + 1, err);
	free(pids);
	return ret;
}

/* @ret is a model with the findings, whatever is returned; or NULL. */
static int survey_look(struct gather *g, bool first, struct model **ret_m, struct err *err)
{
	struct model *m = *ret_m = model_new(0);
	struct files *f = m ? files_new(m, err) : NULL;
	struct survey_pass s = {.g = g, .first = first, .m = m, .f = f};
	int ret;

	if (!f)
		return err_set(err, ENOMEM, "survey of process %d", g->tree->root);
	files_options(f, g->opts);
	files_hands_off(f);
	if (g->kept)
		files_kept(f);
	ret = survey_children(&s, g->tree->root, 0, err);
	if (ret == 0)
		ret = files_finish(f, err);
	if (ret == 0 && first)
		files_know_sums(g->files, f);
	files_free(f);
	return ret;
}

static bool has_finding(const struct model *m, const struct m_finding *want)
{
	for (uint32_t i = 0; i < m->nfindings; i++)
		if (m->findings[i].pid == want->pid && !strcmp(m->findings[i].text, want->text))
			return true;
	return false;
}

static bool any_fatal(const struct model *m)
{
	for (uint32_t i = 0; i < m->nfindings; i++)
		if (m->findings[i].fatal)
			return true;
	return false;
}

/* What is fatal must be in @again, too, if there is one. */
static int survey_keep(struct model *to, const struct model *from, const struct model *again,
		       struct err *err)
{
	for (uint32_t i = 0; i < from->nfindings; i++) {
		const struct m_finding *found = &from->findings[i];
		struct m_finding *e;

		if (found->fatal && again && !has_finding(again, found))
			continue;
		e = model_push(to, &to->findings, &to->nfindings, sizeof(*e));
		if (!e)
			return err_set(err, ENOMEM, "findings");
		*e = *found;
	}
	return 0;
}

static int looks_reserve(struct gather *g, uint32_t n)
{
	struct thread_look *v;

	if (n <= g->looks_room)
		return 0;
	v = malloc(n * sizeof(*v));
	if (!v)
		return -ENOMEM;
	memset(v, 0, n * sizeof(*v));
	free(g->looks);
	g->looks = v;
	g->looks_room = n;
	return 0;
}

static void survey_ready_maps(struct gather *g)
{
	model_ready(g->m, g->ready + (uint64_t)files_surveyed(g->files) * VMA_BYTES);
}

/* Page faults of the guardian's own, taken before anybody stands still for them; and open files. */
static void survey_ready(struct gather *g, const struct model *m)
{
	enum { THREAD_BYTES = 8 << 10, LEAST = 64 << 10, MOST = 64 << 20 };
	enum { MANY = 16, SPARE = 8 };
	uint32_t most = 0, sum = 0;
	uint64_t len = LEAST;

	if (!g->tree->ready)
		g->tree->ready = ready_new();
	for (uint32_t i = 0; i < m->nprocs; i++) {
		struct procfs_stat st;

		if (procfs_stat((pid_t)m->procs[i].pid, 0, &st) < 0)
			continue;
		gadgets_learn((pid_t)m->procs[i].pid);
		len += (uint64_t)st.nthreads * THREAD_BYTES + LEAST;
		most = st.nthreads > most ? st.nthreads : most;
		sum += st.nthreads;
		if (g->tree->ready)
			ready_open(g->tree->ready, (pid_t)m->procs[i].pid);
	}
	looks_reserve(g, most + SPARE);
	context_ready(most);
	g->tree->many = sum >= MANY;
	if (most >= MANY && !g->aside)
		g->aside = aside_new();
	g->ready = len < MOST ? len : MOST;
	survey_ready_maps(g);
}

/* A tree that runs may be caught between two of its steps: what counts is seen twice. */
int gather_survey(struct gather *g, struct err *err)
{
	struct model *m = NULL, *again = NULL;
	int ret = survey_look(g, true, &m, err);

	if (ret == 0 && any_fatal(m))
		ret = survey_look(g, false, &again, err);
	if (ret == 0)
		ret = survey_keep(g->m, m, again, err);
	if (ret == 0)
		survey_ready(g, m);
	if (!g->opts->maps_later)
		deadlines_look(g->deadlines, g->tree->root);
	model_free(m);
	model_free(again);
	return ret;
}

void gather_tracked(struct gather *g, struct dirty *d)
{
	g->dirty = d;
	files_tracked(g->files, d);
}

int gather_kept(struct gather *g, struct err *err)
{
	g->kept = true;
	return finding_add(g->m, (uint32_t)g->tree->root,
			   "writes to its memory are tracked by stasis for the next dump "
			   "(--prev-images-dir)") < 0
		       ? err_set(err, ENOMEM, "findings of pid %d", g->tree->root)
		       : 0;
}

int gather_survey_again(struct gather *g, pid_t pid, struct err *err)
{
	if (pid == g->tree->root)
		deadlines_look(g->deadlines, pid);
	return maps_survey(g->files, pid, err);
}

static int survey_maps(struct gather *g, pid_t pid, unsigned depth, struct err *err)
{
	int n, ret = maps_survey(g->files, pid, err);
	pid_t *pids;

	if (ret < 0 || depth == MAX_DEPTH)
		return ret;
	pids = malloc(MAX_CHILDREN * sizeof(*pids));
	if (!pids)
		return err_set(err, ENOMEM, "children of process %d", pid);
	n = proc_children(pid, pids, MAX_CHILDREN);
	for (int i = 0; ret == 0 && i < n && i < MAX_CHILDREN; i++)
		ret = survey_maps(g, pids[i], depth + 1, err);
	free(pids);
	return ret;
}

int gather_survey_maps(struct gather *g, struct err *err)
{
	int ret = survey_maps(g, g->tree->root, 0, err);

	survey_ready_maps(g);
	deadlines_look(g->deadlines, g->tree->root);
	return ret;
}

static void look_at_thread(void *arg, uint32_t i)
{
	struct gather *g = arg;
	struct proc *proc = g->looked_at;

	thread_look(&g->looks[i], proc->pid, tree_proc_task(g->tree, proc, 0)->tid,
		    tree_proc_task(g->tree, proc, i)->tid, g->tree->ready);
}

/* Goes on while something else is done, until gather_threads() needs it. */
static int looks_begin(struct gather *g, struct proc *proc, struct err *err)
{
	if (looks_reserve(g, proc->ntasks) < 0)
		return err_set(err, ENOMEM, "threads of process %d", proc->pid);
	g->looked_at = proc;
	aside_begin(g->aside, look_at_thread, g, proc->ntasks);
	return 0;
}

/* What ptrace tells, by this thread alone. */
static int gather_registers(struct gather *g, struct proc *proc, struct m_proc *p, struct err *err)
{
	int ret;

	p->threads = model_alloc(g->m, proc->ntasks * sizeof(*p->threads));
	if (!p->threads)
		return err_set(err, ENOMEM, "threads of process %d", proc->pid);
	p->nthreads = proc->ntasks;
	ret = threads_shared_pending(g->m, tree_proc_task(g->tree, proc, 0), &p->pending, err);
	for (uint32_t i = 0; ret == 0 && i < p->nthreads; i++) {
		struct task *task = tree_proc_task(g->tree, proc, i);

		p->threads[i].tid = (uint32_t)task->tid;
		ret = threads_collect(g->m, g->tree, task, &p->threads[i], err);
	}
	return ret < 0 ? ret : gdt_collect(p, err);
}

static int take_look(struct gather *g, struct task *task, struct m_proc *p, struct m_thread *t,
		     struct thread_look *l, struct err *err)
{
	int ret = thread_take(g->m, p, t, l, err);

	if (ret == 0 && l->status.sig_pending)
		ret = threads_pending(g->m, task, &t->pending, err);
	task->seccomp = t->seccomp_mode != 0;
	if (ret == 0 && t->seccomp_mode == 2)
		ret = seccomp_collect(g->m, p, t, err);
	return ret;
}

static int gather_threads(struct gather *g, struct proc *proc, struct m_proc *p, struct err *err)
{
	int ret = gather_registers(g, proc, p, err);

	aside_end(g->aside, look_at_thread, g, proc->ntasks);
	for (uint32_t i = 0; i < proc->ntasks; i++) {
		struct thread_look *l = &g->looks[i];

		if (ret == 0)
			ret = take_look(g, tree_proc_task(g->tree, proc, i), p, &p->threads[i], l,
					err);
		if (ret == 0)
			deadlines_tell(g->deadlines, l->status.nvcsw, g->m->monotonic_ns,
				       &p->threads[i]);
		thread_look_deinit(l);
	}
	return ret;
}

/* Pages that somebody else protects look as if they were those that a round has read. */
static int gather_sure(struct gather *g, const struct m_proc *p, struct err *err)
{
	if (!g->dirty || p->shares_vm || dirty_sure(g->dirty, p))
		return 0;
	return finding_fatal(g->m, p->pid, TARGET_REGISTERED) < 0
		       ? err_set(err, ENOMEM, "findings of pid %u", p->pid)
		       : 0;
}

static void tell_calling(const struct gather *g, pid_t pid)
{
	if (!g->tree->calling)
		return;
	__atomic_store_n(g->tree->calling, (uint32_t)pid, __ATOMIC_RELEASE);
	if (!pid)
		syscall(SYS_futex, g->tree->calling, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* A process that cannot be asked is dumped without the answers for a look only. */
static int gather_context(struct gather *g, struct proc *proc, struct m_proc *p, struct err *err)
{
	struct remote *r = &g->remote;
	struct procfs_status st;
	struct err why = {0};
	pid_t tid = tree_proc_task(g->tree, proc, 0)->tid;
	uint64_t before_kb;
	int ret;

	ret = procfs_status(tid, g->tree->text, TREE_TEXT, &st);
	if (ret < 0)
		return err_set(err, -ret, "read /proc/%d/status", proc->pid);
	before_kb = locking_kb(g->tree->text);
	tell_calling(g, proc->pid);
	ret = gather_sure(g, p, &why);
	if (ret == 0)
		ret = remote_open(r, g->tree, proc, st.sig_caught, proc->ntasks, &why);
	if (ret == 0)
		locking_collect(p, tid, before_kb, g->remote.base, g->tree->text);
	if (ret == 0)
		ret = context_collect(r, p, &why);
	remote_close(r);
	if (ret == 0)
		ret = maps_keys(g->files, p, &why);
	tell_calling(g, 0);
	g->batches += r->runs;
	g->batch_calls += r->calls;
	if (ret == 0)
		return odd_collect(g->m, p, err);
	if (why.class == ERR_TARGET_GONE || why.class == ERR_TIMEOUT)
		return err_take(err, &why);
	proc_collect_slack(p);
	/* EAGAIN: a stack is full, at this moment. */
	return (why.errnum == EAGAIN ? finding_passing : finding_fatal)(
		       g->m, p->pid,
		       "its signal actions, timers and limits cannot be asked for: %s", why.msg) < 0
		       ? err_set(err, ENOMEM, "findings of pid %u", p->pid)
		       : 0;
}

static int gather_live(struct gather *g, struct proc *proc, struct m_proc *p, struct err *err)
{
	pid_t leader;
	int ret;

	if (proc->headless)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"the main thread of process %d (%s) has exited while others run: "
				"not supported",
				proc->pid, p->comm);
	ret = looks_begin(g, proc, err);
	if (ret < 0)
		return ret;
	leader = tree_proc_task(g->tree, proc, 0)->tid;
	/* Before anything is mapped into it. */
	files_distrust(g->files, tags_checked(leader));
	ret = maps_collect(g->m, p, g->files, err);
	if (ret == 0)
		ret = tags_collect(g->m, p, leader, err);
	phase_done(&g->phase, proc->pid, "mappings");
	if (ret == 0)
		ret = files_collect(g->files, p, err);
	phase_done(&g->phase, proc->pid, "descriptors");
	if (ret == 0)
		ret = gather_threads(g, proc, p, err);
	phase_done(&g->phase, proc->pid, "threads");
	if (ret == 0)
		ret = gather_context(g, proc, p, err);
	phase_done(&g->phase, proc->pid, "calls made in it");
	return ret;
}

static int gather_proc(struct gather *g, struct proc *proc, struct m_proc *p, struct err *err)
{
	struct task *leader = proc->ntasks ? tree_proc_task(g->tree, proc, 0) : NULL;
	int ret;

	p->pid = (uint32_t)proc->pid;
	if (proc->state == PROC_ZOMBIE)
		p->state = M_DEAD;
	else
		p->state = leader->stop_signo ? M_STOPPED : M_ALIVE;
	if (p->state == M_STOPPED)
		p->stop_signo = (uint32_t)leader->stop_signo;
	ret = proc_collect(g->m, p, err);
	phase_done(&g->phase, proc->pid, "process");
	if (ret == 0 && p->state != M_DEAD)
		ret = gather_live(g, proc, p, err);
	return ret;
}

/*
 * Parents before children. They are found that way, but for one that got another parent in the
 * meantime: processes by distance from the root, otherwise as found.
 */
static int order_procs(struct gather *g, struct err *err)
{
	struct tree *t = g->tree;
	uint32_t *depth = calloc(t->nprocs + 1, sizeof(*depth));
	uint32_t deepest = 0, n = 0;

	g->order = calloc(t->nprocs + 1, sizeof(*g->order));
	if (!depth || !g->order) {
		free(depth);
		return err_set(err, ENOMEM, "order of %u processes", t->nprocs);
	}
	for (uint32_t i = 0; i < t->nprocs; i++) {
		pid_t pid = t->procs[i].pid;
		struct procfs_stat st;

		/* A loop cannot be, but the numbers are read one after the other. */
		while (depth[i] < t->nprocs && pid != t->root && procfs_stat(pid, 0, &st) == 0 &&
		       tree_proc(t, st.ppid)) {
			const struct proc *up = tree_proc(t, st.ppid);

			depth[i]++;
			if (up < &t->procs[i] && t->procs[i].state != PROC_GONE) {
				depth[i] += depth[up - t->procs];
				break;
			}
			pid = st.ppid;
		}
		if (depth[i] > deepest)
			deepest = depth[i];
	}
	for (uint32_t d = 0; d <= deepest; d++)
		for (uint32_t i = 0; i < t->nprocs; i++)
			if (depth[i] == d && t->procs[i].state != PROC_GONE)
				g->order[n++] = i;
	g->norder = n;
	free(depth);
	return 0;
}

int gather_run(struct gather *g, bool leave_guards, struct err *err)
{
	struct model *m = g->m;
	int ret;

	phase_begin(&g->phase);
	if (leave_guards)
		files_leave_guards(g->files);
	ret = order_procs(g, err);
	if (ret < 0)
		return ret;
	/* What the survey found is found again. */
	m->findings = NULL;
	m->nfindings = 0;
	host_collect(m);
	proc_namespaces(0, &m->tool_ns);
	m->procs = model_alloc(m, g->norder * sizeof(*m->procs));
	if (!m->procs)
		return err_set(err, ENOMEM, "list of %u processes", g->norder);
	for (uint32_t i = 0; i < g->norder; i++) {
		ret = gather_proc(g, &g->tree->procs[g->order[i]], &m->procs[m->nprocs++], err);
		if (ret < 0)
			return ret;
	}
	ret = files_finish(g->files, err);
	if (ret == 0)
		ret = sessions_collect(m, g->opts->shell_job, err);
	phase_done(&g->phase, g->tree->root, "all of them together");
	return ret;
}
