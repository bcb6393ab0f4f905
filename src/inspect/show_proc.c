/* SPDX-License-Identifier: MIT */
/* One process of an image as JSON: its ids, limits, mappings and descriptors. */
#include <sys/mman.h>

#include "src/inspect/show.h"

static const char *const rlimit_names[M_NRLIMITS] = {
	"cpu",	   "fsize", "data",  "stack",	   "core",     "rss",  "nproc",	 "nofile",
	"memlock", "as",    "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
};

static const char *path_of(const struct model *m, uint32_t file_id)
{
	const struct m_file *f = model_file(m, file_id);

	return f ? f->path : NULL;
}

static const char *state_name(enum m_state state)
{
	switch (state) {
	case M_ALIVE:
		return "alive";
	case M_DEAD:
		return "zombie";
	case M_STOPPED:
		return "stopped";
	}
	return "unknown";
}

static const char *kind_name(enum m_vma_kind kind)
{
	static const char *const names[] = {
		[M_VMA_ANON] = "anon",
		[M_VMA_FILE_PRIVATE] = "file_private",
		[M_VMA_FILE_SHARED] = "file_shared",
		[M_VMA_SHMEM] = "shmem",
		[M_VMA_VDSO] = "vdso",
		[M_VMA_VVAR] = "vvar",
		[M_VMA_VSYSCALL] = "vsyscall",
		[M_VMA_DEVICE] = "device",
		[M_VMA_OTHER] = "other",
	};

	return (unsigned)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "unknown";
}

/* Of pages that have tags of their own. */
static uint64_t tagged_bytes(const struct m_mm *mm, const struct m_vma *v)
{
	uint64_t len = 0;

	for (uint32_t i = 0; v->flags & M_VMF_TAGS && i < mm->ntags; i++)
		if (mm->tags[i].start >= v->start && mm->tags[i].start < v->end)
			len += mm->tags[i].len;
	return len;
}

static void show_vma(struct doc *d, const struct model *m, const struct m_mm *mm,
		     const struct m_vma *v)
{
	char perm[5] = {v->prot & PROT_READ ? 'r' : '-', v->prot & PROT_WRITE ? 'w' : '-',
			v->prot & PROT_EXEC ? 'x' : '-', v->shared ? 's' : 'p'};
	const char *path = path_of(m, v->file_id);

	doc_inline_object(d, NULL);
	doc_hex(d, "start", v->start);
	doc_hex(d, "end", v->end);
	doc_str(d, "perm", perm);
	doc_str(d, "kind", kind_name(v->kind));
	if (v->file_id || v->shm_id)
		doc_hex(d, "offset", v->pgoff);
	if (path || v->name)
		doc_str(d, "name", path ? path : v->name);
	if (v->file_id)
		doc_u64(d, "file", v->file_id);
	if (v->shm_id)
		doc_u64(d, "segment", v->shm_id);
	if (v->pkey)
		doc_u64(d, "pkey", v->pkey);
	if (tagged_bytes(mm, v))
		doc_u64(d, "tagged_bytes", tagged_bytes(mm, v));
	if (v->vmflags[0])
		doc_strn(d, "vmflags", v->vmflags, strnlen(v->vmflags, sizeof(v->vmflags)));
	doc_end(d);
}

static void show_mm(struct doc *d, const struct model *m, const struct m_mm *mm,
		    const struct show_opts *opts)
{
	uint64_t mapped = 0;

	for (uint32_t i = 0; i < mm->nvmas; i++)
		mapped += mm->vmas[i].end - mm->vmas[i].start;
	doc_u64(d, "mapped_bytes", mapped);
	if (opts->brief) {
		doc_u64(d, "mapping_count", mm->nvmas);
		return;
	}
	doc_object(d, "mm");
	doc_hex(d, "start_code", mm->start_code);
	doc_hex(d, "end_code", mm->end_code);
	doc_hex(d, "start_data", mm->start_data);
	doc_hex(d, "end_data", mm->end_data);
	doc_hex(d, "start_brk", mm->start_brk);
	doc_hex(d, "brk", mm->brk);
	doc_hex(d, "start_stack", mm->start_stack);
	doc_hex(d, "arg_start", mm->arg_start);
	doc_hex(d, "arg_end", mm->arg_end);
	doc_hex(d, "env_start", mm->env_start);
	doc_hex(d, "env_end", mm->env_end);
	doc_i64(d, "dumpable", mm->dumpable);
	doc_bool(d, "thp_disabled", mm->thp_disabled);
	if (mm->pkeys)
		doc_hex(d, "pkeys", mm->pkeys);
	doc_end(d);
	doc_array(d, "mappings");
	for (uint32_t i = 0; i < mm->nvmas; i++)
		show_vma(d, m, mm, &mm->vmas[i]);
	doc_end(d);
	doc_array(d, "guards");
	for (uint32_t i = 0; i < mm->nguards; i++) {
		doc_inline_object(d, NULL);
		doc_hex(d, "start", mm->guards[i].start);
		doc_hex(d, "end", mm->guards[i].end);
		doc_end(d);
	}
	doc_end(d);
}

static void show_fds(struct doc *d, const struct model *m, const struct m_proc *p,
		     const struct show_opts *opts)
{
	const struct m_fdtable *t = model_fdtable(m, p->fdtable_id);

	if (opts->brief) {
		doc_u64(d, "fd_count", t ? t->n : 0);
		return;
	}
	doc_array(d, "fds");
	for (uint32_t i = 0; t && i < t->n; i++) {
		const struct m_file *f = model_file(m, t->fds[i].file_id);

		doc_inline_object(d, NULL);
		doc_u64(d, "fd", t->fds[i].fd);
		doc_u64(d, "file", t->fds[i].file_id);
		doc_bool(d, "cloexec", t->fds[i].cloexec);
		if (f) {
			doc_str(d, "type", show_file_type(f->type));
			doc_str(d, "path", f->path);
		}
		doc_end(d);
	}
	doc_end(d);
}

static void show_limit(struct doc *d, const char *key, uint64_t v)
{
	if (v == UINT64_MAX)
		doc_str(d, key, "unlimited");
	else
		doc_u64(d, key, v);
}

static void show_rlimits(struct doc *d, const struct m_proc *p)
{
	doc_object(d, "rlimits");
	for (unsigned i = 0; i < M_NRLIMITS; i++) {
		doc_inline_object(d, rlimit_names[i]);
		show_limit(d, "soft", p->rlimits[i].cur);
		show_limit(d, "hard", p->rlimits[i].max);
		doc_end(d);
	}
	doc_end(d);
}

static void show_timers(struct doc *d, const struct m_proc *p)
{
	static const char *const names[] = {"real", "virtual", "prof"};

	doc_object(d, "itimers");
	for (unsigned i = 0; i < 3; i++) {
		doc_inline_object(d, names[i]);
		doc_u64(d, "interval_us", p->itimers[i].interval_us);
		doc_u64(d, "value_us", p->itimers[i].value_us);
		doc_end(d);
	}
	doc_end(d);
	doc_array(d, "posix_timers");
	for (uint32_t i = 0; i < p->nposix_timers; i++) {
		const struct m_posix_timer *t = &p->posix_timers[i];

		doc_inline_object(d, NULL);
		doc_i64(d, "id", t->id);
		doc_i64(d, "clock", t->clock_id);
		doc_u64(d, "signal", t->signo);
		doc_u64(d, "notify", t->notify);
		doc_i64(d, "notify_tid", t->notify_tid);
		doc_u64(d, "interval_ns", t->interval_ns);
		doc_u64(d, "value_ns", t->value_ns);
		doc_u64(d, "overrun", t->overrun);
		doc_end(d);
	}
	doc_end(d);
}

/* Only what is not the default: 64 lines of nothing help nobody. */
static void show_signals(struct doc *d, const struct m_proc *p)
{
	doc_array(d, "signal_actions");
	for (unsigned i = 0; i < M_NSIG; i++) {
		const struct m_sigaction *a = &p->sigactions[i];

		if (!a->handler && !a->flags && !a->mask)
			continue;
		doc_inline_object(d, NULL);
		doc_u64(d, "signal", i + 1);
		if (a->handler <= 1)
			doc_str(d, "handler", a->handler ? "ignore" : "default");
		else
			doc_hex(d, "handler", a->handler);
		doc_hex(d, "flags", a->flags);
		doc_hex(d, "restorer", a->restorer);
		doc_hex(d, "mask", a->mask);
		doc_end(d);
	}
	doc_end(d);
	doc_u64(d, "pending_signals", p->pending.n);
}

static void show_namespaces(struct doc *d, const struct m_ns *ns)
{
	doc_inline_object(d, "namespaces");
	doc_u64(d, "pid", ns->pid);
	doc_u64(d, "net", ns->net);
	doc_u64(d, "ipc", ns->ipc);
	doc_u64(d, "uts", ns->uts);
	doc_u64(d, "mnt", ns->mnt);
	doc_u64(d, "user", ns->user);
	doc_u64(d, "cgroup", ns->cgroup);
	doc_u64(d, "time", ns->time);
	doc_end(d);
}

static void show_ids(struct doc *d, const struct model *m, const struct m_proc *p)
{
	doc_u64(d, "pid", p->pid);
	doc_u64(d, "ppid", p->ppid);
	doc_u64(d, "pgid", p->pgid);
	doc_u64(d, "sid", p->sid);
	doc_str(d, "state", state_name(p->state));
	doc_strn(d, "comm", p->comm, strnlen(p->comm, sizeof(p->comm)));
	doc_str(d, "cmdline", p->cmdline);
	if (p->state == M_DEAD)
		doc_u64(d, "exit_code", p->exit_code);
	if (p->state == M_STOPPED)
		doc_u64(d, "stop_signal", p->stop_signo);
	doc_str(d, "exe", path_of(m, p->mm.exe_file_id));
	doc_str(d, "cwd", path_of(m, p->cwd_file_id));
	doc_str(d, "root", path_of(m, p->root_file_id));
}

static void show_settings(struct doc *d, const struct m_proc *p)
{
	char text[16];

	snprintf(text, sizeof(text), "%04o", p->umask);
	doc_str(d, "umask", text);
	doc_hex(d, "personality", p->personality);
	doc_i64(d, "oom_score_adj", p->oom_score_adj);
	doc_u64(d, "loginuid", p->loginuid);
	doc_bool(d, "child_subreaper", p->child_subreaper);
	doc_hex(d, "membarrier", p->membarrier);
	if (p->has_coredump_filter)
		doc_hex(d, "coredump_filter", p->coredump_filter);
	doc_bool(d, "mlock_future", p->mlock_future);
	doc_hex(d, "mdwe", p->mdwe);
	if (p->permitted)
		doc_hex(d, "permitted_registers", p->permitted);
	doc_u64(d, "start_time", p->start_time);
	doc_str(d, "cgroups", p->cgroups);
	doc_inline_object(d, "sharing");
	doc_u64(d, "vm", p->vm_id);
	doc_u64(d, "files", p->fdtable_id);
	doc_u64(d, "fs", p->fs_id);
	doc_u64(d, "sighand", p->sighand_id);
	doc_end(d);
	show_namespaces(d, &p->ns);
}

void show_proc(struct doc *d, const struct model *m, const struct m_proc *p,
	       const struct arch_desc *arch, const struct show_opts *opts)
{
	doc_object(d, NULL);
	show_ids(d, m, p);
	if (p->state != M_DEAD) {
		doc_array(d, "threads");
		for (uint32_t i = 0; i < p->nthreads; i++) {
			doc_object(d, NULL);
			show_thread(d, &p->threads[i], arch, opts);
			doc_end(d);
		}
		doc_end(d);
		show_mm(d, m, &p->mm, opts);
		show_fds(d, m, p, opts);
		if (!opts->brief) {
			show_settings(d, p);
			show_rlimits(d, p);
			show_timers(d, p);
			show_signals(d, p);
		}
	}
	doc_end(d);
}
