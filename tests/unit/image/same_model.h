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
	SAME(ioprio), SAME(mempolicy), SAME(mce_kill), SAME(io_flusher), SAME(tsc);
	SAME(shadow), SAME(shadow_locked);
	SAME_MEM(tls, sizeof(a->tls));
	SAME_MEM(nodes, sizeof(a->nodes));
	SAME_MEM(speculation, sizeof(a->speculation));
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
	SAME(pkey);
}

static void same_tags(const struct m_tags *a, const struct m_tags *b)
{
	SAME(start), SAME(len);
	if (a->len == b->len)
		SAME_MEM(data, a->len / M_TAGS_BYTE);
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
	SAME(ntags);
	for (uint32_t i = 0; i < a->ntags && i < b->ntags; i++)
		same_tags(&a->tags[i], &b->tags[i]);
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
	SAME(has_coredump_filter), SAME(coredump_filter), SAME(mdwe), SAME(memory_merge);
	SAME(mlock_future), SAME(mlock_onfault), SAME(mm.thp_except_advised), SAME(permitted);
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

static void same_opts(const struct m_sk_opts *a, const struct m_sk_opts *b)
{
	SAME(sndbuf), SAME(rcvbuf), SAME(buf_lock), SAME(snd_tmo_sec), SAME(snd_tmo_usec);
	SAME(rcv_tmo_sec), SAME(rcv_tmo_usec), SAME(priority), SAME(rcvlowat), SAME(mark);
	SAME(reuseaddr), SAME(reuseport), SAME(passcred), SAME(passsec), SAME(dontroute);
	SAME(no_check), SAME(broadcast), SAME(keepalive), SAME(oobinline), SAME(linger_on);
	SAME(linger), SAME(peek_off), SAME_STR(bound_dev), SAME(nfilter);
	if (a->nfilter == b->nfilter)
		SAME_MEM(filter, 8 * a->nfilter);
}

static void same_unix(const struct m_unix *a, const struct m_unix *b)
{
	SAME(type), SAME(state), SAME(backlog), SAME(peer_ino), SAME(place), SAME(shutdown);
	SAME(name_len), SAME(peer_name_len), SAME_STR(name_dir), SAME(has_perms);
	if (a->name_len == b->name_len)
		SAME_MEM(name, a->name_len);
	if (a->peer_name_len == b->peer_name_len)
		SAME_MEM(peer_name, a->peer_name_len);
	SAME(perm_mode), SAME(perm_uid), SAME(perm_gid), SAME(path_ino), SAME(deleted),
		SAME(has_cred);
	SAME(cred_pid), SAME(cred_uid), SAME(cred_gid);
	same_opts(&a->opts, &b->opts);
}

static void same_tcp(const struct m_tcp *a, const struct m_tcp *b)
{
	SAME(inq_len), SAME(inq_seq), SAME(outq_len), SAME(outq_seq), SAME(unsent_len);
	if (a->inq_len == b->inq_len)
		SAME_MEM(inq, a->inq_len);
	if (a->outq_len == b->outq_len)
		SAME_MEM(outq, a->outq_len);
	SAME(opt_mask), SAME(snd_wscale), SAME(rcv_wscale), SAME(mss_clamp), SAME(timestamp);
	SAME(has_window), SAME(snd_wl1), SAME(snd_wnd), SAME(max_window), SAME(rcv_wnd);
	SAME(rcv_wup);
}

static void same_inet(const struct m_inet *a, const struct m_inet *b)
{
	SAME(family), SAME(type), SAME(proto), SAME(state), SAME(src_port), SAME(dst_port);
	SAME_MEM(src_addr, 16), SAME_MEM(dst_addr, 16), SAME(backlog), SAME(shutdown);
	SAME_STR(ifname), SAME(v6only), SAME(freebind), SAME(pktinfo), SAME(hdrincl);
	SAME(nodefrag), SAME(tos), SAME(ttl), SAME(has_tcp), SAME(cork), SAME(nodelay);
	SAME(keepcnt), SAME(keepidle), SAME(keepintvl), SAME(user_timeout), SAME(defer_accept);
	SAME(maxseg), SAME_STR(congestion);
	if (!a->tcp != !b->tcp)
		differs_print("same_inet: tcp differs\n");
	else if (a->tcp)
		same_tcp(a->tcp, b->tcp);
	same_opts(&a->opts, &b->opts);
}

static void same_netlink(const struct m_netlink *a, const struct m_netlink *b)
{
	SAME(type), SAME(protocol), SAME(state), SAME(portid), SAME(dst_portid), SAME(dst_group);
	SAME(ngroups), SAME(pktinfo), SAME(broadcast_error), SAME(no_enobufs), SAME(cap_ack);
	SAME(ext_ack), SAME(strict);
	if (a->ngroups == b->ngroups)
		SAME_MEM(groups, 4 * a->ngroups);
	same_opts(&a->opts, &b->opts);
}

static void same_packet_sk(const struct m_packet_sk *a, const struct m_packet_sk *b)
{
	SAME(type), SAME(protocol), SAME(ifindex), SAME(version), SAME(reserve);
	SAME(timestamp), SAME(aux_data), SAME(orig_dev), SAME(vnet_hdr), SAME(loss);
	SAME(copy_thresh);
	same_opts(&a->opts, &b->opts);
}

static void same_socket(const struct m_file *a, const struct m_file *b)
{
	if (!a->usk != !b->usk || !a->isk != !b->isk || !a->nlsk != !b->nlsk ||
	    !a->psk != !b->psk) {
		differs_print("same_socket: kind differs\n");
		return;
	}
	if (a->usk)
		same_unix(a->usk, b->usk);
	if (a->isk)
		same_inet(a->isk, b->isk);
	if (a->nlsk)
		same_netlink(a->nlsk, b->nlsk);
	if (a->psk)
		same_packet_sk(a->psk, b->psk);
}

static void same_tty(const struct m_tty *a, const struct m_tty *b)
{
	SAME(id), SAME(kind), SAME(master), SAME(index), SAME(locked), SAME(exclusive);
	SAME(packet_mode), SAME(inherited), SAME(sid), SAME(pgrp), SAME(rdev), SAME(dev);
	SAME(uid), SAME(gid), SAME(mode), SAME(has_winsize), SAME(row), SAME(col);
	SAME(xpixel), SAME(ypixel), SAME(ndata), SAME_MEM(termios.cc, 32);
	SAME_MEM(locked_termios.cc, 32), SAME(termios.known), SAME(locked_termios.known);
	SAME(termios.iflag), SAME(termios.oflag), SAME(termios.cflag), SAME(termios.lflag);
	SAME(termios.line), SAME(locked_termios.iflag), SAME(locked_termios.oflag);
	SAME(locked_termios.cflag), SAME(locked_termios.lflag), SAME(locked_termios.line);
	if (a->ndata == b->ndata)
		SAME_MEM(data, a->ndata);
}

static void same_packet(const struct m_packet *a, const struct m_packet *b)
{
	SAME(file_id), SAME(len), SAME(nrights), SAME(has_cred), SAME(pid), SAME(uid), SAME(gid);
	SAME(from_id);
	if (a->len == b->len)
		SAME_MEM(data, a->len);
	if (a->nrights == b->nrights)
		SAME_MEM(rights, 4 * a->nrights);
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
	SAME(pidfd_pid), SAME(shm_id), SAME(pipe_size), SAME(tty);
	same_socket(a, b);
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
	SAME_STR(run_id), SAME(net_lock), SAME(ncpu_words);
	if (memcmp(a->cpu_words, b->cpu_words, sizeof(a->cpu_words)))
		differs_print("cpu_words differ\n");
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
	SAME(npipes), SAME(nghosts), SAME(nlocks), SAME(npackets), SAME(nttys);
	for (uint32_t i = 0; i < a->npackets && i < b->npackets; i++)
		same_packet(&a->packets[i], &b->packets[i]);
	for (uint32_t i = 0; i < a->nttys && i < b->nttys; i++)
		same_tty(&a->ttys[i], &b->ttys[i]);
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
