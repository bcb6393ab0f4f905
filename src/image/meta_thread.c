/* SPDX-License-Identifier: MIT */
/* A thread's half of a core file. */
#include <string.h>

#include "src/image/core_msg.h"

enum { POLICY_FIFO = 1, POLICY_RR = 2, POLICY_MASK = 0xffff, HAVE_SIGINFO = 128 };

static void split_cap(uint32_t to[2], uint64_t cap)
{
	to[0] = (uint32_t)cap;
	to[1] = (uint32_t)(cap >> 32);
}

static void put_caps(struct core_msg *c, const struct m_creds *from)
{
	Im__Creds *to = &c->creds;

	split_cap(c->caps[0], from->cap_inh);
	split_cap(c->caps[1], from->cap_prm);
	split_cap(c->caps[2], from->cap_eff);
	split_cap(c->caps[3], from->cap_bnd);
	split_cap(c->caps[4], from->cap_amb);
	to->n_cap_inh = to->n_cap_prm = to->n_cap_eff = to->n_cap_bnd = to->n_cap_amb = 2;
	to->cap_inh = c->caps[0];
	to->cap_prm = c->caps[1];
	to->cap_eff = c->caps[2];
	to->cap_bnd = c->caps[3];
	to->cap_amb = c->caps[4];
}

static void put_creds(struct core_msg *c, const struct m_creds *from)
{
	Im__Creds *to = &c->creds;

	im__creds__init(to);
	to->uid = from->uid;
	to->gid = from->gid;
	to->euid = from->euid;
	to->egid = from->egid;
	to->suid = from->suid;
	to->sgid = from->sgid;
	to->fsuid = from->fsuid;
	to->fsgid = from->fsgid;
	to->secbits = from->securebits;
	to->n_groups = from->ngroups;
	to->groups = from->groups;
	to->lsm_profile = from->lsm_profile;
	META_SET(to, no_new_privs, from->no_new_privs);
	put_caps(c, from);
	c->thread.creds = to;
}

bool core_put_signals(Im__SignalQueue *s, struct arena *a, const struct m_sigqueue *q)
{
	Im__Siginfo *items;

	im__signal_queue__init(s);
	s->n_signals = q->n;
	if (!meta_array(a, q->n, sizeof(*items), &items, &s->signals))
		return false;
	for (uint32_t i = 0; i < q->n; i++) {
		im__siginfo__init(&items[i]);
		items[i].siginfo.data = q->info[i].data;
		items[i].siginfo.len = sizeof(q->info[i].data);
	}
	return true;
}

static void put_habits(Im__ThreadMore *to, const struct m_thread *t)
{
	META_SET_NZ(to, ioprio, t->ioprio);
	META_SET_NZ(to, mempolicy, t->mempolicy);
	for (size_t i = 0; i < M_NODES / 64; i++)
		if (t->nodes[i])
			to->n_nodes = i + 1;
	to->nodes = (uint64_t *)t->nodes;
	META_SET_NZ(to, mce_kill, t->mce_kill);
	META_SET_NZ(to, io_flusher, t->io_flusher);
	META_SET_NZ(to, tsc, t->tsc);
	META_SET_NZ(to, shadow, t->shadow);
	META_SET_NZ(to, shadow_locked, t->shadow_locked);
	for (size_t i = 0; i < M_NSPEC; i++)
		if (t->speculation[i])
			to->n_speculation = i + 1;
	to->speculation = (uint32_t *)t->speculation;
	if (regs_x86_has_tls(t)) {
		to->n_tls = 3 * (size_t)M_TLS;
		to->tls = (uint32_t *)t->tls;
	}
}

static bool put_more(struct core_msg *c, struct arena *a, const struct model *m,
		     const struct m_thread *t)
{
	Im__ThreadMore *to = &c->thread_more;
	uint64_t pc = 0, sp = 0;
	Im__Regset *sets;

	im__thread_more__init(to);
	to->n_regsets = t->nregsets;
	if (!meta_array(a, t->nregsets, sizeof(*sets), &sets, &to->regsets))
		return false;
	for (uint32_t i = 0; i < t->nregsets; i++) {
		im__regset__init(&sets[i]);
		sets[i].note = t->regsets[i].note;
		sets[i].data.data = t->regsets[i].data;
		sets[i].data.len = t->regsets[i].len;
	}
	META_SET_NZ(to, in_syscall, t->in_syscall);
	META_SET_NZ(to, syscall_ret, t->syscall_ret);
	META_SET_NZ(to, sleep_left_ns, t->sleep_left_ns);
	to->has_affinity = t->affinity_len != 0;
	to->affinity.data = t->affinity;
	to->affinity.len = t->affinity_len;
	META_SET_NZ(to, sched_runtime_ns, t->sched_runtime_ns);
	META_SET_NZ(to, sched_deadline_ns, t->sched_deadline_ns);
	META_SET_NZ(to, sched_period_ns, t->sched_period_ns);
	META_SET_NZ(to, sched_priority, t->rt_priority);
	META_SET_NZ(to, utime_us, t->utime_us);
	META_SET_NZ(to, stime_us, t->stime_us);
	META_SET_NZ(to, clear_tid_addr, t->clear_tid_addr);
	put_habits(to, t);
	regs_pc_sp(m->elf_machine, META_HOST_BIG_ENDIAN, t, &pc, &sp);
	META_SET(to, pc, t->pc);
	META_SET(to, sp, t->sp);
	to->has_pc = to->has_sp = t->pc != pc || t->sp != sp;
	c->core.stasis = to;
	return true;
}

static void put_state(struct core_msg *c, const struct model *m, const struct m_thread *t,
		      bool leader)
{
	Im__ThreadState *to = &c->thread;
	uint32_t policy = t->policy & POLICY_MASK;

	to->futex_rla = t->robust_addr;
	to->futex_rla_len = (uint32_t)t->robust_len;
	META_SET(to, sched_nice, t->nice);
	META_SET(to, sched_policy, t->policy);
	if (policy == POLICY_FIFO || policy == POLICY_RR)
		META_SET(to, sched_prio, t->rt_priority);
	if (!leader)
		META_SET(to, blk_sigset, t->sigmask);
	im__alt_stack__init(&c->sas);
	c->sas.ss_sp = t->altstack_addr;
	c->sas.ss_size = t->altstack_len;
	c->sas.ss_flags = t->altstack_flags;
	to->sas = &c->sas;
	META_SET(to, pdeath_sig, t->pdeath_sig);
	META_SET_NZ(to, seccomp_mode, (Im__SeccompMode)t->seccomp_mode);
	to->has_seccomp_filter = meta_seccomp_index(m, t->seccomp_chain, &to->seccomp_filter);
	to->comm = (char *)t->comm;
	META_SET(to, timerslack_ns, t->timerslack_ns);
	if (!t->rseq.addr)
		return;
	im__rseq__init(&c->rseq);
	c->rseq.rseq_abi_pointer = t->rseq.addr;
	c->rseq.rseq_abi_size = t->rseq.len;
	c->rseq.signature = t->rseq.signature;
	META_SET_NZ(&c->rseq, flags, t->rseq.flags);
	to->rseq_entry = &c->rseq;
}

bool core_put_thread(struct core_msg *c, struct arena *a, const struct model *m,
		     const struct m_thread *t, bool leader)
{
	im__thread_state__init(&c->thread);
	c->core.thread_core = &c->thread;
	put_state(c, m, t, leader);
	META_SET(&c->thread, cg_set, 1);
	put_creds(c, &t->creds);
	if (c->core.mtype == IM__CORE__MARCH__X86_64 && regs_x86_put(&c->x86, t))
		c->core.thread_info = &c->x86.thread;
	if (c->core.mtype == IM__CORE__MARCH__AARCH64 && regs_aarch64_put(&c->aarch64, t))
		c->core.ti_aarch64 = &c->aarch64.thread;
	if (c->core.mtype == IM__CORE__MARCH__PPC64 && regs_ppc64_put(&c->ppc64, t))
		c->core.ti_ppc64 = &c->ppc64.thread;
	if (c->core.mtype == IM__CORE__MARCH__S390 && regs_s390_put(&c->s390, t))
		c->core.ti_s390 = &c->s390.thread;
	c->thread.signals_p = &c->signals_p;
	return core_put_signals(&c->signals_p, a, &t->pending) && put_more(c, a, m, t);
}

/* --- back ----------------------------------------------------------------------------------- */

static uint64_t join_cap(const uint32_t *words, size_t n)
{
	return (n > 0 ? words[0] : 0) | (n > 1 ? (uint64_t)words[1] << 32 : 0);
}

static int get_creds(struct meta_in *in, const Im__Creds *from, struct m_creds *to)
{
	if (!from)
		return 0;
	to->uid = from->uid;
	to->gid = from->gid;
	to->euid = from->euid;
	to->egid = from->egid;
	to->suid = from->suid;
	to->sgid = from->sgid;
	to->fsuid = from->fsuid;
	to->fsgid = from->fsgid;
	to->securebits = from->secbits;
	to->no_new_privs = META_GET(from, no_new_privs);
	to->cap_inh = join_cap(from->cap_inh, from->n_cap_inh);
	to->cap_prm = join_cap(from->cap_prm, from->n_cap_prm);
	to->cap_eff = join_cap(from->cap_eff, from->n_cap_eff);
	to->cap_bnd = join_cap(from->cap_bnd, from->n_cap_bnd);
	to->cap_amb = join_cap(from->cap_amb, from->n_cap_amb);
	to->ngroups = (uint32_t)from->n_groups;
	if (from->n_groups) {
		to->groups = model_alloc(in->m, from->n_groups * sizeof(*to->groups));
		if (!to->groups)
			return meta_nomem(in->err, "credentials");
		memcpy(to->groups, from->groups, from->n_groups * sizeof(*to->groups));
	}
	return meta_get_str(in, from->lsm_profile, &to->lsm_profile);
}

int core_get_signals(struct meta_in *in, const char *name, const Im__SignalQueue *queue,
		     struct m_sigqueue *ret)
{
	if (!queue || !queue->n_signals)
		return 0;
	ret->n = (uint32_t)queue->n_signals;
	ret->info = model_alloc(in->m, queue->n_signals * sizeof(*ret->info));
	if (!ret->info)
		return meta_nomem(in->err, name);
	for (size_t i = 0; i < queue->n_signals; i++) {
		const ProtobufCBinaryData *info = &queue->signals[i]->siginfo;

		if (info->len != HAVE_SIGINFO)
			return err_fail(in->err, EBADMSG, ERR_IMAGE,
					"%s: siginfo %zu has %zu bytes, not 128", name, i,
					info->len);
		memcpy(ret->info[i].data, info->data, HAVE_SIGINFO);
	}
	return 0;
}

static int get_regsets(struct meta_in *in, const char *name, struct m_thread *t,
		       const Im__ThreadMore *from)
{
	for (size_t i = 0; i < from->n_regsets; i++) {
		const Im__Regset *set = from->regsets[i];
		struct m_regset *to = model_push(in->m, &t->regsets, &t->nregsets, sizeof(*to));

		if (!to || meta_get_bytes(in, &set->data, &to->data, &to->len))
			return meta_nomem(in->err, name);
		to->note = set->note;
	}
	return 0;
}

static void get_habits(struct m_thread *t, const Im__ThreadMore *from)
{
	t->ioprio = META_GET(from, ioprio);
	t->mempolicy = META_GET(from, mempolicy);
	for (size_t i = 0; i < from->n_nodes && i < M_NODES / 64; i++)
		t->nodes[i] = from->nodes[i];
	t->mce_kill = META_GET(from, mce_kill);
	t->io_flusher = META_GET(from, io_flusher);
	t->tsc = META_GET(from, tsc);
	t->shadow = META_GET(from, shadow);
	t->shadow_locked = META_GET(from, shadow_locked);
	for (size_t i = 0; i < from->n_speculation && i < M_NSPEC; i++)
		t->speculation[i] = from->speculation[i];
	for (size_t i = 0; i < M_TLS && 3 * i + 2 < from->n_tls; i++)
		t->tls[i] = (struct m_tls){from->tls[3 * i], from->tls[3 * i + 1],
					   from->tls[3 * i + 2]};
}

static int get_more(struct meta_in *in, const char *name, struct m_thread *t,
		    const Im__ThreadMore *from)
{
	int ret = get_regsets(in, name, t, from);

	if (ret)
		return ret;
	t->in_syscall = META_GET(from, in_syscall);
	t->syscall_ret = META_GET(from, syscall_ret);
	t->sleep_left_ns = META_GET(from, sleep_left_ns);
	t->sched_runtime_ns = META_GET(from, sched_runtime_ns);
	t->sched_deadline_ns = META_GET(from, sched_deadline_ns);
	t->sched_period_ns = META_GET(from, sched_period_ns);
	t->rt_priority = META_GET(from, sched_priority);
	t->utime_us = META_GET(from, utime_us);
	t->stime_us = META_GET(from, stime_us);
	t->clear_tid_addr = META_GET(from, clear_tid_addr);
	get_habits(t, from);
	if (!from->has_affinity)
		return 0;
	return meta_get_bytes(in, &from->affinity, &t->affinity, &t->affinity_len);
}

static int get_state(struct meta_in *in, const char *name, struct m_thread *t,
		     const Im__ThreadState *from)
{
	t->robust_addr = from->futex_rla;
	t->robust_len = from->futex_rla_len;
	t->nice = META_GET(from, sched_nice);
	t->policy = META_GET(from, sched_policy);
	t->rt_priority = META_GET(from, sched_prio);
	t->sigmask = META_GET(from, blk_sigset);
	if (from->sas) {
		t->altstack_addr = from->sas->ss_sp;
		t->altstack_len = from->sas->ss_size;
		t->altstack_flags = from->sas->ss_flags;
	}
	t->pdeath_sig = META_GET(from, pdeath_sig);
	t->seccomp_mode = (uint32_t)META_GET(from, seccomp_mode);
	/* Made a chain by meta_get_seccomp(). */
	t->seccomp_chain = from->has_seccomp_filter ? from->seccomp_filter + 1 : 0;
	core_get_comm(t->comm, from->comm);
	t->timerslack_ns = META_GET(from, timerslack_ns);
	if (from->rseq_entry) {
		t->rseq.addr = from->rseq_entry->rseq_abi_pointer;
		t->rseq.len = from->rseq_entry->rseq_abi_size;
		t->rseq.signature = from->rseq_entry->signature;
		t->rseq.flags = META_GET(from->rseq_entry, flags);
	}
	return core_get_signals(in, name, from->signals_p, &t->pending);
}

int core_get_thread(struct meta_in *in, const char *name, struct m_thread *t, const Im__Core *core)
{
	int ret;

	if (!core->thread_core)
		return err_fail(in->err, EBADMSG, ERR_IMAGE, "%s: has no thread_core", name);
	ret = get_state(in, name, t, core->thread_core);
	if (!ret)
		ret = get_creds(in, core->thread_core->creds, &t->creds);
	if (!ret && core->stasis)
		ret = get_more(in, name, t, core->stasis);
	if (!ret && !t->nregsets && core->thread_info) {
		t->clear_tid_addr = core->thread_info->clear_tid_addr;
		ret = regs_x86_get(in->m, t, core->thread_info);
		if (ret)
			meta_nomem(in->err, name);
	}
	if (!ret && !t->nregsets && core->ti_aarch64) {
		t->clear_tid_addr = core->ti_aarch64->clear_tid_addr;
		ret = regs_aarch64_get(in->m, t, core->ti_aarch64);
		if (ret)
			meta_nomem(in->err, name);
	}
	if (!ret && !t->nregsets && core->ti_ppc64) {
		t->clear_tid_addr = core->ti_ppc64->clear_tid_addr;
		ret = regs_ppc64_get(in->m, t, core->ti_ppc64);
		if (ret)
			meta_nomem(in->err, name);
	}
	if (!ret && !t->nregsets && core->ti_s390) {
		t->clear_tid_addr = core->ti_s390->clear_tid_addr;
		ret = regs_s390_get(in->m, t, core->ti_s390);
		if (ret)
			meta_nomem(in->err, name);
	}
	if (ret)
		return ret;
	regs_pc_sp(in->m->elf_machine, in->big_endian, t, &t->pc, &t->sp);
	if (core->stasis && core->stasis->has_pc && core->stasis->has_sp) {
		t->pc = core->stasis->pc;
		t->sp = core->stasis->sp;
	}
	return 0;
}
