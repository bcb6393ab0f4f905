/* SPDX-License-Identifier: MIT */
/* Core files: a thread and, with the leader, its process. */
#include <signal.h>
#include <string.h>

#include "src/image/core_msg.h"

enum { SIG_KILL = 9, SIG_STOP = 19 };

static const struct {
	uint16_t elf_machine;
	Im__Core__March march;
} marches[] = {
	{62, IM__CORE__MARCH__X86_64},
	{183, IM__CORE__MARCH__AARCH64},
	{21, IM__CORE__MARCH__PPC64},
	{22, IM__CORE__MARCH__S390},
};

enum { NMARCHES = sizeof(marches) / sizeof(marches[0]) };

static Im__Core__March march_of(uint16_t elf_machine)
{
	for (unsigned i = 0; i < NMARCHES; i++)
		if (marches[i].elf_machine == elf_machine)
			return marches[i].march;
	return IM__CORE__MARCH__UNKNOWN;
}

static uint16_t machine_of(Im__Core__March march)
{
	for (unsigned i = 0; i < NMARCHES; i++)
		if (marches[i].march == march)
			return marches[i].elf_machine;
	return 0;
}

/* --- timers --------------------------------------------------------------------------------- */

static bool put_timers(struct core_msg *c, struct arena *a, const struct m_proc *p)
{
	Im__PosixTimer *items;

	im__timers__init(&c->timers);
	for (unsigned i = 0; i < 3; i++) {
		im__interval_timer__init(&c->itimers[i]);
		c->itimers[i].isec = p->itimers[i].interval_us / 1000000;
		c->itimers[i].iusec = p->itimers[i].interval_us % 1000000;
		c->itimers[i].vsec = p->itimers[i].value_us / 1000000;
		c->itimers[i].vusec = p->itimers[i].value_us % 1000000;
	}
	c->timers.real = &c->itimers[0];
	c->timers.virt = &c->itimers[1];
	c->timers.prof = &c->itimers[2];
	c->timers.n_posix = p->nposix_timers;
	if (!meta_array(a, p->nposix_timers, sizeof(*items), &items, &c->timers.posix))
		return false;
	for (uint32_t i = 0; i < p->nposix_timers; i++) {
		const struct m_posix_timer *from = &p->posix_timers[i];

		im__posix_timer__init(&items[i]);
		items[i].it_id = (uint32_t)from->id;
		items[i].clock_id = (uint32_t)from->clock_id;
		items[i].si_signo = from->signo;
		items[i].it_sigev_notify = from->notify;
		items[i].sival_ptr = from->sigval;
		items[i].overrun = from->overrun;
		items[i].isec = from->interval_ns / 1000000000;
		items[i].insec = from->interval_ns % 1000000000;
		items[i].vsec = from->value_ns / 1000000000;
		items[i].vnsec = from->value_ns % 1000000000;
		META_SET_NZ(&items[i], notify_thread_id, from->notify_tid);
	}
	c->task.timers = &c->timers;
	return true;
}

static void get_itimer(const Im__IntervalTimer *from, struct m_itimer *to)
{
	to->interval_us = from->isec * 1000000 + from->iusec;
	to->value_us = from->vsec * 1000000 + from->vusec;
}

static int get_timers(struct meta_in *in, const char *name, const Im__Timers *from,
		      struct m_proc *p)
{
	if (!from)
		return 0;
	get_itimer(from->real, &p->itimers[0]);
	get_itimer(from->virt, &p->itimers[1]);
	get_itimer(from->prof, &p->itimers[2]);
	p->nposix_timers = (uint32_t)from->n_posix;
	p->posix_timers = model_alloc(in->m, from->n_posix * sizeof(*p->posix_timers));
	if (!p->posix_timers)
		return meta_nomem(in->err, name);
	for (size_t i = 0; i < from->n_posix; i++) {
		const Im__PosixTimer *t = from->posix[i];

		p->posix_timers[i] = (struct m_posix_timer){
			.id = (int32_t)t->it_id,
			.clock_id = (int32_t)t->clock_id,
			.signo = t->si_signo,
			.notify = t->it_sigev_notify,
			.sigval = t->sival_ptr,
			.overrun = t->overrun,
			.notify_tid = META_GET(t, notify_thread_id),
			.interval_ns = t->isec * 1000000000 + t->insec,
			.value_ns = t->vsec * 1000000000 + t->vnsec,
		};
	}
	return 0;
}

/* --- signal actions, limits ----------------------------------------------------------------- */

static void put_sigactions(struct core_msg *c, const struct m_proc *p)
{
	unsigned n = 0;

	for (unsigned signo = 1; signo <= M_NSIG; signo++) {
		const struct m_sigaction *from = &p->sigactions[signo - 1];
		Im__SignalAction *to = &c->sa[n];

		if (signo == SIG_KILL || signo == SIG_STOP)
			continue;
		im__signal_action__init(to);
		to->sigaction = from->handler;
		to->flags = from->flags;
		to->restorer = from->restorer;
		to->mask = from->mask;
		c->psa[n++] = to;
	}
	c->task.n_sigactions = n;
	c->task.sigactions = c->psa;
}

static int get_sigactions(struct meta_in *in, const char *name, const Im__TaskState *from,
			  struct m_proc *p)
{
	size_t n = 0;

	if (from->n_sigactions != CORE_NSIGACTIONS && p->state != M_DEAD)
		return err_fail(in->err, EBADMSG, ERR_IMAGE, "%s: %zu sigactions, not 62", name,
				from->n_sigactions);
	for (unsigned signo = 1; signo <= M_NSIG && n < from->n_sigactions; signo++) {
		struct m_sigaction *to = &p->sigactions[signo - 1];

		if (signo == SIG_KILL || signo == SIG_STOP)
			continue;
		to->handler = from->sigactions[n]->sigaction;
		to->flags = from->sigactions[n]->flags;
		to->restorer = from->sigactions[n]->restorer;
		to->mask = from->sigactions[n]->mask;
		n++;
	}
	return 0;
}

static void put_rlimits(struct core_msg *c, const struct m_proc *p)
{
	im__rlimits__init(&c->rlimits);
	for (unsigned i = 0; i < M_NRLIMITS; i++) {
		im__rlimit__init(&c->rlimit[i]);
		c->rlimit[i].cur = p->rlimits[i].cur;
		c->rlimit[i].max = p->rlimits[i].max;
		c->prlimit[i] = &c->rlimit[i];
	}
	c->rlimits.n_rlimits = M_NRLIMITS;
	c->rlimits.rlimits = c->prlimit;
	c->task.rlimits = &c->rlimits;
}

static void get_rlimits(const Im__Rlimits *from, struct m_proc *p)
{
	for (size_t i = 0; from && i < from->n_rlimits && i < M_NRLIMITS; i++) {
		p->rlimits[i].cur = from->rlimits[i]->cur;
		p->rlimits[i].max = from->rlimits[i]->max;
	}
}

/* --- process -------------------------------------------------------------------------------- */

static void put_task_more(struct core_msg *c, const struct model *m, const struct m_proc *p)
{
	Im__TaskMore *to = &c->task_more;

	im__task_more__init(to);
	META_SET_NZ(to, start_time, p->start_time);
	to->cmdline = p->cmdline;
	to->cgroups = p->cgroups;
	im__namespaces__init(&c->ns);
	meta_put_ns(&p->ns, &c->ns);
	to->ns = &c->ns;
	META_SET_NZ(to, shares_vm, p->shares_vm);
	META_SET_NZ(to, membarrier, p->membarrier);
	META_SET(to, coredump_filter, p->coredump_filter);
	to->has_coredump_filter = p->has_coredump_filter;
	META_SET_NZ(to, permitted, p->permitted);
	META_SET_NZ(to, mdwe, p->mdwe);
	META_SET_NZ(to, memory_merge, p->memory_merge);
	META_SET_NZ(to, mlock_future, p->mlock_future);
	META_SET_NZ(to, mlock_onfault, p->mlock_onfault);
	META_SET_NZ(to, thp_except_advised, p->mm.thp_except_advised);
	META_SET(to, exit_signal, p->exit_signal);
	to->has_exit_signal = p->exit_signal != SIGCHLD;
	if (p == m->procs)
		META_SET_NZ(to, ppid, p->ppid);
	if (p->state == M_DEAD) {
		META_SET_NZ(to, fdtable_id, p->fdtable_id);
		META_SET_NZ(to, vm_id, p->vm_id);
		META_SET_NZ(to, fs_id, p->fs_id);
		META_SET_NZ(to, sighand_id, p->sighand_id);
	}
	c->task.stasis = to;
}

static bool put_task(struct core_msg *c, struct arena *a, const struct model *m,
		     const struct m_proc *p)
{
	Im__TaskState *to = &c->task;

	im__task_state__init(to);
	to->task_state = (uint32_t)p->state;
	to->exit_code = p->exit_code;
	to->personality = p->personality;
	to->flags = p->pf_flags;
	to->blk_sigset = p->nthreads ? p->threads[0].sigmask : 0;
	to->comm = (char *)p->comm;
	META_SET(to, cg_set, 1);
	META_SET(to, loginuid, p->loginuid);
	META_SET(to, oom_score_adj, p->oom_score_adj);
	META_SET(to, child_subreaper, p->child_subreaper);
	META_SET_NZ(to, stop_signo, p->stop_signo);
	META_SET_NZ(to, membarrier_registration_mask, (uint32_t)p->membarrier);
	put_rlimits(c, p);
	put_sigactions(c, p);
	put_task_more(c, m, p);
	to->signals_s = &c->signals_s;
	c->core.tc = to;
	return core_put_signals(&c->signals_s, a, &p->pending) && put_timers(c, a, p);
}

int meta_put_core(struct meta_out *o, const struct m_proc *p, uint32_t thread)
{
	const struct m_thread *t = thread < p->nthreads ? &p->threads[thread] : NULL;
	struct core_msg *c = arena_alloc(o->scratch, sizeof(*c));
	bool dead = p->state == M_DEAD;
	char name[STORE_NAME];
	bool ok = c != NULL;

	store_name(name, "core-%u.img", t && !dead ? t->tid : p->pid);
	if (ok) {
		im__core__init(&c->core);
		c->core.mtype = march_of(o->m->elf_machine);
	}
	if (ok && !thread)
		ok = put_task(c, o->scratch, o->m, p);
	if (ok && t && !dead)
		ok = core_put_thread(c, o->scratch, o->m, t, !thread);
	if (!ok)
		return meta_nomem(o->err, name);
	frame_begin(&o->img->out, FRAME_CORE);
	frame_add(&o->img->out, &c->core.base);
	return store_put(o->img, name, o->err);
}

/* --- back ----------------------------------------------------------------------------------- */

void core_get_comm(char to[16], const char *from)
{
	if (from)
		snprintf(to, 16, "%s", from);
}

static int get_task_more(struct meta_in *in, const Im__TaskMore *from, struct m_proc *p)
{
	int ret;

	p->start_time = META_GET(from, start_time);
	meta_get_ns(from->ns, &p->ns);
	p->shares_vm = META_GET(from, shares_vm);
	p->membarrier = META_GET(from, membarrier);
	p->has_coredump_filter = from->has_coredump_filter;
	p->coredump_filter = META_GET(from, coredump_filter);
	p->permitted = META_GET(from, permitted);
	p->mdwe = META_GET(from, mdwe);
	p->memory_merge = META_GET(from, memory_merge);
	p->mlock_future = META_GET(from, mlock_future);
	p->mlock_onfault = META_GET(from, mlock_onfault);
	p->mm.thp_except_advised = META_GET(from, thp_except_advised);
	if (from->has_exit_signal)
		p->exit_signal = from->exit_signal;
	if (p->exit_signal > M_NSIG)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"core-%u.img: the end of the process is told by signal %u", p->pid,
				p->exit_signal);
	if (p == in->m->procs)
		p->ppid = META_GET(from, ppid);
	if (p->state == M_DEAD) {
		p->fdtable_id = META_GET(from, fdtable_id);
		p->vm_id = META_GET(from, vm_id);
		p->fs_id = META_GET(from, fs_id);
		p->sighand_id = META_GET(from, sighand_id);
	}
	ret = meta_get_str(in, from->cmdline, &p->cmdline);
	return ret ? ret : meta_get_str(in, from->cgroups, &p->cgroups);
}

static int get_task(struct meta_in *in, const char *name, const Im__TaskState *from,
		    struct m_proc *p)
{
	int ret;

	if (!from)
		return err_fail(in->err, EBADMSG, ERR_IMAGE, "%s: has no tc", name);
	if (from->task_state < M_ALIVE || from->task_state > M_STOPPED)
		return err_fail(in->err, EBADMSG, ERR_IMAGE, "%s: task_state %u", name,
				from->task_state);
	p->state = (enum m_state)from->task_state;
	p->exit_code = from->exit_code;
	p->personality = from->personality;
	p->pf_flags = from->flags;
	core_get_comm(p->comm, from->comm);
	p->loginuid = from->has_loginuid ? from->loginuid : UINT32_MAX;
	p->oom_score_adj = META_GET(from, oom_score_adj);
	p->child_subreaper = META_GET(from, child_subreaper);
	p->stop_signo = META_GET(from, stop_signo);
	p->exit_signal = SIGCHLD;
	p->membarrier = META_GET(from, membarrier_registration_mask);
	get_rlimits(from->rlimits, p);
	ret = get_sigactions(in, name, from, p);
	if (!ret)
		ret = core_get_signals(in, name, from->signals_s, &p->pending);
	if (!ret)
		ret = get_timers(in, name, from->timers, p);
	if (!ret && from->stasis)
		ret = get_task_more(in, from->stasis, p);
	return ret;
}

static int get_core(struct meta_in *in, const char *name, const Im__Core *core, struct m_proc *p,
		    uint32_t thread)
{
	int ret = 0;

	if (!in->m->elf_machine)
		in->m->elf_machine = machine_of(core->mtype);
	if (core->mtype != march_of(in->m->elf_machine))
		return err_fail(in->err, EBADMSG, ERR_IMAGE, "%s: mtype %d of another CPU", name,
				(int)core->mtype);
	if (!thread)
		ret = get_task(in, name, core->tc, p);
	else if (core->tc)
		return err_fail(in->err, EBADMSG, ERR_IMAGE, "%s: tc in a thread's file", name);
	if (ret || p->state == M_DEAD)
		return ret;
	if (!p->nthreads)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"pstree.img: process %u has no threads", p->pid);
	ret = core_get_thread(in, name, &p->threads[thread], core);
	if (!ret && !thread)
		p->threads[0].sigmask = core->tc->blk_sigset;
	return ret;
}

int meta_get_core(struct meta_in *in, struct m_proc *p, uint32_t thread)
{
	uint32_t tid = thread < p->nthreads ? p->threads[thread].tid : p->pid;
	char name[STORE_NAME];
	struct store_in file;
	ProtobufCMessage *msg;
	int ret;

	ret = store_load(in->dirfd, FRAME_CORE, store_name(name, "core-%u.img", tid), &file,
			 in->err);
	if (ret)
		return ret;
	ret = frame_single(&file.f, &msg, in->err);
	if (!ret)
		ret = get_core(in, name, (const Im__Core *)msg, p, thread);
	store_unload(&file);
	return ret;
}
