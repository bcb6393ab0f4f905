/* SPDX-License-Identifier: MIT */
/* One thread of an image as JSON: registers by name, and what else is its own. */
#include <elf.h>

#include "src/inspect/regs.h"
#include "src/inspect/show.h"

static const char *regset_name(const struct arch_desc *arch, uint32_t note)
{
	for (const struct arch_regset *r = arch ? arch->regsets : NULL; r && r->note; r++)
		if (r->note == note)
			return r->name;
	return NULL;
}

static void show_registers(struct doc *d, const struct m_thread *t, const struct arch_desc *arch)
{
	const struct m_regset *r = model_regset(t, NT_PRSTATUS);

	if (arch && r) {
		doc_inline_object(d, "registers");
		for (size_t i = 0; arch->regs[i].name; i++)
			doc_hex(d, arch->regs[i].name,
				regs_get(r->data, r->len, arch->regs[i].off, arch->regs[i].size,
					 arch));
		doc_end(d);
	}
	doc_array(d, "register_sets");
	for (uint32_t i = 0; i < t->nregsets; i++) {
		doc_inline_object(d, NULL);
		doc_u64(d, "note", t->regsets[i].note);
		doc_str(d, "name", regset_name(arch, t->regsets[i].note));
		doc_u64(d, "bytes", t->regsets[i].len);
		doc_end(d);
	}
	doc_end(d);
}

static void show_creds(struct doc *d, const struct m_creds *c)
{
	doc_object(d, "credentials");
	doc_inline_array(d, "uid_real_effective_saved_fs");
	doc_u64(d, NULL, c->uid);
	doc_u64(d, NULL, c->euid);
	doc_u64(d, NULL, c->suid);
	doc_u64(d, NULL, c->fsuid);
	doc_end(d);
	doc_inline_array(d, "gid_real_effective_saved_fs");
	doc_u64(d, NULL, c->gid);
	doc_u64(d, NULL, c->egid);
	doc_u64(d, NULL, c->sgid);
	doc_u64(d, NULL, c->fsgid);
	doc_end(d);
	doc_inline_array(d, "groups");
	for (uint32_t i = 0; i < c->ngroups; i++)
		doc_u64(d, NULL, c->groups[i]);
	doc_end(d);
	doc_inline_object(d, "capabilities");
	doc_hex(d, "inheritable", c->cap_inh);
	doc_hex(d, "permitted", c->cap_prm);
	doc_hex(d, "effective", c->cap_eff);
	doc_hex(d, "bounding", c->cap_bnd);
	doc_hex(d, "ambient", c->cap_amb);
	doc_end(d);
	doc_hex(d, "securebits", c->securebits);
	doc_u64(d, "no_new_privs", c->no_new_privs);
	doc_str(d, "lsm_profile", c->lsm_profile);
	doc_end(d);
}

static void show_scheduling(struct doc *d, const struct m_thread *t)
{
	doc_inline_object(d, "scheduling");
	doc_i64(d, "nice", t->nice);
	doc_u64(d, "policy", t->policy);
	doc_u64(d, "rt_priority", t->rt_priority);
	if (t->sched_period_ns || t->sched_runtime_ns) {
		doc_u64(d, "runtime_ns", t->sched_runtime_ns);
		doc_u64(d, "deadline_ns", t->sched_deadline_ns);
		doc_u64(d, "period_ns", t->sched_period_ns);
	}
	doc_u64(d, "timerslack_ns", t->timerslack_ns);
	doc_bytes(d, "affinity", t->affinity, t->affinity_len);
	doc_end(d);
}

/* x86-64: entries of the GDT that are its own. */
static void show_gdt(struct doc *d, const struct m_thread *t)
{
	enum { FIRST = 12 };
	bool any = false;

	for (unsigned i = 0; i < M_TLS; i++)
		any |= t->tls[i].base || t->tls[i].limit || t->tls[i].flags;
	if (!any)
		return;
	doc_array(d, "gdt");
	for (unsigned i = 0; i < M_TLS; i++) {
		doc_inline_object(d, NULL);
		doc_u64(d, "entry", FIRST + i);
		doc_hex(d, "base", t->tls[i].base);
		doc_hex(d, "limit", t->tls[i].limit);
		doc_hex(d, "flags", t->tls[i].flags);
		doc_end(d);
	}
	doc_end(d);
}

void show_thread(struct doc *d, const struct m_thread *t, const struct arch_desc *arch,
		 const struct show_opts *opts)
{
	doc_u64(d, "tid", t->tid);
	doc_strn(d, "comm", t->comm, strnlen(t->comm, sizeof(t->comm)));
	doc_hex(d, "pc", t->pc);
	doc_hex(d, "sp", t->sp);
	if (opts->brief)
		return;
	if (t->in_syscall)
		doc_i64(d, "restarted_syscall", t->syscall_ret);
	show_registers(d, t, arch);
	doc_hex(d, "signal_mask", t->sigmask);
	doc_u64(d, "pending_signals", t->pending.n);
	doc_inline_object(d, "altstack");
	doc_hex(d, "addr", t->altstack_addr);
	doc_u64(d, "bytes", t->altstack_len);
	doc_hex(d, "flags", t->altstack_flags);
	doc_end(d);
	doc_inline_object(d, "rseq");
	doc_hex(d, "addr", t->rseq.addr);
	doc_u64(d, "bytes", t->rseq.len);
	doc_hex(d, "signature", t->rseq.signature);
	doc_end(d);
	if (t->shadow | t->shadow_locked) {
		doc_inline_object(d, "shadow_stack");
		doc_hex(d, "features", t->shadow);
		doc_hex(d, "locked", t->shadow_locked);
		doc_end(d);
	}
	show_gdt(d, t);
	doc_hex(d, "robust_list", t->robust_addr);
	doc_hex(d, "clear_tid", t->clear_tid_addr);
	doc_u64(d, "pdeath_signal", t->pdeath_sig);
	doc_hex(d, "io_priority", t->ioprio);
	doc_hex(d, "memory_policy", t->mempolicy);
	doc_u64(d, "seccomp_mode", t->seccomp_mode);
	show_scheduling(d, t);
	show_creds(d, &t->creds);
	doc_u64(d, "utime_us", t->utime_us);
	doc_u64(d, "stime_us", t->stime_us);
}
