/* SPDX-License-Identifier: MIT */
/* Two models compared field by field, for tests of what writes and reads them. */
#ifndef TESTS_SAME_MODEL_H
#define TESTS_SAME_MODEL_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "src/image/model.h"

static unsigned differences;
static bool differences_quiet;

__attribute__((format(printf, 1, 2))) static void differs_print(const char *fmt, ...)
{
	va_list ap;

	differences++;
	if (differences_quiet)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
}

static void same_number(const char *func, const char *field, uint64_t a, uint64_t b)
{
	if (a == b)
		return;
	differs_print("%s: %s differs: %#" PRIx64 " %#" PRIx64 "\n", func, field, a, b);
}

static void same_text(const char *func, const char *field, const char *a, const char *b)
{
	if ((a == NULL) == (b == NULL) && (!a || !strcmp(a, b)))
		return;
	differs_print("%s: %s differs: '%s' '%s'\n", func, field, a ? a : "NULL", b ? b : "NULL");
}

static void same_bytes(const char *func, const char *field, const void *a, const void *b,
		       size_t len)
{
	if (!len || !memcmp(a, b, len))
		return;
	differs_print("%s: %s differs\n", func, field);
}

#define SAME(field)	     same_number(__func__, #field, (uint64_t)a->field, (uint64_t)b->field)
#define SAME_STR(field)	     same_text(__func__, #field, a->field, b->field)
#define SAME_MEM(field, len) same_bytes(__func__, #field, a->field, b->field, (len))

/* The structs without padding and pointers are compared as bytes. */
static void same_queue(const struct m_sigqueue *a, const struct m_sigqueue *b)
{
	SAME(n);
	if (a->n == b->n)
		SAME_MEM(info, a->n * sizeof(*a->info));
}

static void same_creds(const struct m_creds *a, const struct m_creds *b)
{
	SAME(uid), SAME(gid), SAME(euid), SAME(egid), SAME(suid), SAME(sgid), SAME(fsuid);
	SAME(fsgid), SAME(cap_inh), SAME(cap_prm), SAME(cap_eff), SAME(cap_bnd), SAME(cap_amb);
	SAME(securebits), SAME(no_new_privs), SAME(ngroups);
	if (a->ngroups == b->ngroups)
		SAME_MEM(groups, a->ngroups * 4);
	SAME_STR(lsm_profile);
}

static void same_regsets(const struct m_thread *a, const struct m_thread *b)
{
	SAME(nregsets);
	for (uint32_t i = 0; i < a->nregsets && i < b->nregsets; i++) {
		SAME(regsets[i].note);
		SAME(regsets[i].len);
		if (a->regsets[i].len == b->regsets[i].len)
			SAME_MEM(regsets[i].data, a->regsets[i].len);
	}
}

static void same_thread(const struct m_thread *a, const struct m_thread *b)
{
	SAME(tid), SAME_STR(comm), SAME(in_syscall), SAME(syscall_ret), SAME(sigmask);
	same_regsets(a, b);
	same_queue(&a->pending, &b->pending);
	SAME(altstack_addr), SAME(altstack_len), SAME(altstack_flags);
	SAME(rseq.addr), SAME(rseq.len), SAME(rseq.signature), SAME(rseq.flags);
	SAME(robust_addr), SAME(robust_len), SAME(clear_tid_addr), SAME(nice), SAME(policy);
	SAME(rt_priority), SAME(sched_runtime_ns), SAME(sched_deadline_ns);
	SAME(sched_period_ns), SAME(affinity_len);
	if (a->affinity_len == b->affinity_len)
		SAME_MEM(affinity, a->affinity_len);
	SAME(timerslack_ns), SAME(pdeath_sig), SAME(seccomp_mode);
	same_creds(&a->creds, &b->creds);
	SAME(pc), SAME(sp), SAME(utime_us), SAME(stime_us);
}

static void same_vma(const struct m_vma *a, const struct m_vma *b)
{
	SAME(start), SAME(end), SAME(pgoff), SAME(prot), SAME(flags), SAME(shared), SAME(kind);
	SAME(file_id), SAME(shm_id), SAME(hugetlb_page_shift), SAME_STR(vmflags), SAME_STR(name);
}

static void same_mm(const struct m_mm *a, const struct m_mm *b)
{
	SAME(start_code), SAME(end_code), SAME(start_data), SAME(end_data), SAME(start_stack);
	SAME(start_brk), SAME(brk), SAME(arg_start), SAME(arg_end), SAME(env_start);
	SAME(env_end), SAME(exe_file_id), SAME(nauxv), SAME(dumpable), SAME(thp_disabled);
	SAME(nvmas), SAME(nguards);
	if (a->nauxv == b->nauxv)
		SAME_MEM(auxv, a->nauxv * 8);
	for (uint32_t i = 0; i < a->nvmas && i < b->nvmas; i++)
		same_vma(&a->vmas[i], &b->vmas[i]);
	if (a->nguards == b->nguards)
		SAME_MEM(guards, a->nguards * sizeof(*a->guards));
}

static void same_proc(const struct m_proc *a, const struct m_proc *b)
{
	SAME(pid), SAME(ppid), SAME(pgid), SAME(sid), SAME(state), SAME(exit_code);
	SAME(stop_signo), SAME_STR(comm), SAME(personality), SAME(pf_flags), SAME(start_time);
	SAME(nthreads);
	for (uint32_t i = 0; i < a->nthreads && i < b->nthreads; i++)
		same_thread(&a->threads[i], &b->threads[i]);
	same_mm(&a->mm, &b->mm);
	SAME_MEM(sigactions, sizeof(a->sigactions));
	same_queue(&a->pending, &b->pending);
	SAME_MEM(itimers, sizeof(a->itimers));
	SAME(nposix_timers);
	for (uint32_t i = 0; i < a->nposix_timers && i < b->nposix_timers; i++) {
		SAME(posix_timers[i].id), SAME(posix_timers[i].clock_id);
		SAME(posix_timers[i].signo), SAME(posix_timers[i].notify);
		SAME(posix_timers[i].sigval), SAME(posix_timers[i].overrun);
		SAME(posix_timers[i].notify_tid), SAME(posix_timers[i].interval_ns);
		SAME(posix_timers[i].value_ns);
	}
	SAME_MEM(rlimits, sizeof(a->rlimits));
	SAME(cwd_file_id), SAME(root_file_id), SAME(umask), SAME(fdtable_id), SAME(vm_id);
	SAME(fs_id), SAME(sighand_id);
	if (memcmp(&a->ns, &b->ns, sizeof(a->ns)))
		differs_print("same_proc: ns differs\n");
	SAME(oom_score_adj), SAME(loginuid), SAME(child_subreaper), SAME(membarrier);
	SAME_STR(cgroups), SAME_STR(cmdline), SAME(shares_vm);
}

static void same_watch(const struct m_watch *a, const struct m_watch *b)
{
	SAME(wd), SAME(mask), SAME(ignored_mask), SAME(ino), SAME(dev), SAME(handle_type);
	SAME(handle_len), SAME_MEM(handle, sizeof(a->handle)), SAME_STR(path);
}

static void same_pipe(const struct m_pipe *a, const struct m_pipe *b)
{
	SAME(dev), SAME(ino), SAME(fifo), SAME(size), SAME(len), SAME(npackets);
	if (a->len == b->len)
		SAME_MEM(data, a->len);
	if (a->npackets == b->npackets)
		SAME_MEM(packets, 4 * a->npackets);
}

static void same_ghost(const struct m_ghost *a, const struct m_ghost *b)
{
	SAME(id), SAME(dev), SAME(ino), SAME(rdev), SAME(mode), SAME(uid), SAME(gid);
	SAME(size), SAME(atime_ns), SAME(mtime_ns), SAME(nextents), SAME_STR(target);
	for (uint32_t i = 0; i < a->nextents && i < b->nextents; i++) {
		SAME(extents[i].off), SAME(extents[i].len);
		if (a->extents[i].len == b->extents[i].len)
			SAME_MEM(extents[i].data, a->extents[i].len);
	}
}

static void same_lock(const struct m_lock *a, const struct m_lock *b)
{
	SAME(kind), SAME(type), SAME(pid), SAME(fd), SAME(start), SAME(len);
}

static void same_file(const struct m_file *a, const struct m_file *b)
{
	SAME(id), SAME(type), SAME_STR(path), SAME(deleted), SAME(flags), SAME(pos), SAME(dev);
	SAME(ino), SAME(rdev), SAME(mode), SAME(size), SAME(mtime_ns), SAME(mnt_id);
	SAME(build_id_len);
	if (a->build_id_len == b->build_id_len)
		SAME_MEM(build_id, a->build_id_len);
	SAME(fown.uid), SAME(fown.euid), SAME(fown.signum), SAME(fown.pid_type), SAME(fown.pid);
	SAME_STR(fdinfo), SAME(eventfd_count), SAME(eventfd_semaphore), SAME(signalfd_mask);
	SAME(ntargets);
	for (uint32_t i = 0; i < a->ntargets && i < b->ntargets; i++) {
		SAME(targets[i].fd), SAME(targets[i].events), SAME(targets[i].data);
		SAME(targets[i].pos), SAME(targets[i].ino), SAME(targets[i].dev);
		SAME(targets[i].file_id);
	}
	SAME(nwatches), SAME(checksum_kind), SAME(checksum), SAME(checksum_n), SAME(ghost_id);
	SAME_STR(link_path), SAME(link_made);
	for (uint32_t i = 0; i < a->nwatches && i < b->nwatches; i++)
		same_watch(&a->watches[i], &b->watches[i]);
	SAME(timerfd.clockid), SAME(timerfd.settime_flags), SAME(timerfd.ticks);
	SAME(timerfd.value_ns), SAME(timerfd.interval_ns);
	SAME(pidfd_pid), SAME(shm_id), SAME(pipe_size);
}

static void same_fdtable(const struct m_fdtable *a, const struct m_fdtable *b)
{
	SAME(id), SAME(n);
	for (uint32_t i = 0; i < a->n && i < b->n; i++) {
		SAME(fds[i].fd), SAME(fds[i].file_id), SAME(fds[i].cloexec);
	}
}

static void same_shm(const struct m_shm *a, const struct m_shm *b)
{
	SAME(id), SAME_STR(name), SAME(dev), SAME(ino), SAME(size), SAME(uid), SAME(gid);
	SAME(mode), SAME(seals), SAME(seals_known), SAME(memfd), SAME(sysv), SAME(hugetlb);
}

/* The number of fields that differ; each is printed. */
__attribute__((unused)) static unsigned model_differences(const struct model *a,
							  const struct model *b)
{
	differences = 0;
	SAME(elf_machine), SAME(page_size), SAME(nprocs), SAME(nfiles), SAME(nfdtables);
	SAME(nshms), SAME(nfindings), SAME(uptime_us), SAME(monotonic_ns), SAME(boottime_ns);
	SAME(realtime_ns), SAME_STR(kernel), SAME_STR(hostname);
	if (memcmp(&a->tool_ns, &b->tool_ns, sizeof(a->tool_ns)))
		differs_print("tool_ns differs\n");
	for (uint32_t i = 0; i < a->nprocs && i < b->nprocs; i++)
		same_proc(&a->procs[i], &b->procs[i]);
	for (uint32_t i = 0; i < a->nfiles && i < b->nfiles; i++)
		same_file(&a->files[i], &b->files[i]);
	for (uint32_t i = 0; i < a->nfdtables && i < b->nfdtables; i++)
		same_fdtable(&a->fdtables[i], &b->fdtables[i]);
	for (uint32_t i = 0; i < a->nshms && i < b->nshms; i++)
		same_shm(&a->shms[i], &b->shms[i]);
	SAME(npipes), SAME(nghosts), SAME(nlocks);
	for (uint32_t i = 0; i < a->npipes && i < b->npipes; i++)
		same_pipe(&a->pipes[i], &b->pipes[i]);
	for (uint32_t i = 0; i < a->nghosts && i < b->nghosts; i++)
		same_ghost(&a->ghosts[i], &b->ghosts[i]);
	for (uint32_t i = 0; i < a->nlocks && i < b->nlocks; i++)
		same_lock(&a->locks[i], &b->locks[i]);
	for (uint32_t i = 0; i < a->nfindings && i < b->nfindings; i++) {
		SAME(findings[i].pid), SAME_STR(findings[i].text), SAME(findings[i].fatal);
	}
	return differences;
}

#endif
