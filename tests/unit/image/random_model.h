/* SPDX-License-Identifier: MIT */
/* Models with every field set to something. */
#ifndef TESTS_RANDOM_MODEL_H
#define TESTS_RANDOM_MODEL_H

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "src/image/model.h"
#include "tests/unit/image/random_sockets.h"

/* --- threads -------------------------------------------------------------------------------- */

static void rnd_creds(struct model *m, struct m_creds *c)
{
	c->uid = rnd32(), c->gid = rnd32(), c->euid = rnd32(), c->egid = rnd32();
	c->suid = rnd32(), c->sgid = rnd32(), c->fsuid = rnd32(), c->fsgid = rnd32();
	c->cap_inh = rnd64(), c->cap_prm = rnd64(), c->cap_eff = rnd64();
	c->cap_bnd = rnd64(), c->cap_amb = rnd64();
	c->securebits = rnd32();
	c->no_new_privs = coin();
	for (uint32_t n = below(5); n; n--)
		*(uint32_t *)model_push(m, &c->groups, &c->ngroups, 4) = rnd32();
	c->lsm_profile = rnd_str_or_null(m);
}

static void rnd_regset(struct model *m, struct m_thread *t, uint32_t note, uint32_t len)
{
	struct m_regset *set = model_push(m, &t->regsets, &t->nregsets, sizeof(*set));

	set->note = note;
	set->len = len;
	set->data = model_alloc(m, len);
	rnd_bytes(set->data, len);
}

static void rnd_thread(struct model *m, struct m_thread *t, uint32_t tid)
{
	t->tid = tid;
	rnd_word(t->comm, sizeof(t->comm));
	rnd_regset(m, t, 1, 216);
	memcpy(&t->pc, t->regsets[0].data + 128, 8);
	memcpy(&t->sp, t->regsets[0].data + 152, 8);
	if (coin())
		t->pc = rnd64();
	if (coin())
		rnd_regset(m, t, 2, 512);
	if (coin())
		rnd_regset(m, t, 0x202, 576 + 8 * below(400));
	t->in_syscall = coin();
	t->syscall_ret = coin() ? -512 - (int64_t)below(5) : 0;
	t->sigmask = rnd64();
	rnd_queue(m, &t->pending);
	t->altstack_addr = rnd64(), t->altstack_len = rnd64(), t->altstack_flags = rnd32();
	if (coin())
		t->rseq = (struct m_rseq){rnd() | 1, rnd32(), rnd32(), rnd32()};
	t->robust_addr = rnd64(), t->robust_len = rnd32();
	t->clear_tid_addr = rnd64();
	t->ioprio = rnd32(), t->mempolicy = rnd32(), t->mce_kill = below(3);
	t->nodes[below(M_NODES / 64)] = rnd64();
	t->io_flusher = coin(), t->tsc = 2 * coin();
	t->shadow = below(4), t->shadow_locked = below(4);
	if (coin())
		t->tls[below(M_TLS)] = (struct m_tls){rnd32(), rnd32(), rnd32()};
	t->speculation[below(M_NSPEC)] = rnd32();
	t->nice = (int32_t)below(40) - 20;
	t->policy = below(7) | (coin() ? 0x40000000 : 0);
	t->rt_priority = rnd32();
	t->sched_runtime_ns = rnd64(), t->sched_deadline_ns = rnd64();
	t->sched_period_ns = rnd64();
	t->affinity_len = below(40);
	t->affinity = t->affinity_len ? model_alloc(m, t->affinity_len) : NULL;
	rnd_bytes(t->affinity, t->affinity_len);
	t->timerslack_ns = rnd64();
	t->pdeath_sig = rnd32();
	t->seccomp_mode = below(3);
	t->seccomp_chain = coin() ? 1 + below(m->nchains) : 0;
	rnd_creds(m, &t->creds);
	t->utime_us = rnd64(), t->stime_us = rnd64();
}

/* --- memory --------------------------------------------------------------------------------- */

static void rnd_vma(struct model *m, struct m_vma *v, uint64_t *at)
{
	v->start = *at + 4096 * (uint64_t)below(3);
	v->end = v->start + 4096 * (1 + (uint64_t)below(100));
	*at = v->end;
	v->pgoff = 4096 * (uint64_t)below(1000);
	v->prot = below(8);
	v->flags = below(1 << 25);
	v->kind = below(M_VMA_OTHER + 1);
	v->shared = coin();
	if (v->kind == M_VMA_FILE_PRIVATE || v->kind == M_VMA_FILE_SHARED || coin())
		v->file_id = 1 + below(m->nfiles);
	if (v->kind == M_VMA_SHMEM || coin())
		v->shm_id = 1 + below(m->nshms);
	v->hugetlb_page_shift = coin() ? 21 : 0;
	v->pkey = (uint8_t)(coin() ? below(M_PKEYS) : 0);
	rnd_word(v->vmflags, sizeof(v->vmflags));
	v->name = rnd_str_or_null(m);
}

/* Of some of its pages: such as no codec makes shorter, and such as any does. */
static void rnd_tags(struct model *m, struct m_mm *mm, const struct m_vma *v)
{
	struct m_tags *t;
	uint32_t npages = (uint32_t)((v->end - v->start) / 4096);
	uint32_t first = below(npages), n = 1 + below(npages - first);

	if (!(v->flags & M_VMF_TAGS) || coin())
		return;
	t = model_push(m, &mm->tags, &mm->ntags, sizeof(*t));
	t->start = v->start + 4096 * (uint64_t)first;
	t->len = 4096 * (uint64_t)n;
	t->data = model_alloc(m, t->len / M_TAGS_BYTE);
	if (coin())
		memset(t->data, (int)below(256), t->len / M_TAGS_BYTE);
	else
		rnd_bytes(t->data, t->len / M_TAGS_BYTE);
}

static void rnd_mm(struct model *m, struct m_mm *mm)
{
	uint64_t at = 0x10000;

	mm->start_code = rnd64(), mm->end_code = rnd64(), mm->start_data = rnd64();
	mm->end_data = rnd64(), mm->start_stack = rnd64(), mm->start_brk = rnd64();
	mm->brk = rnd64(), mm->arg_start = rnd64(), mm->arg_end = rnd64();
	mm->env_start = rnd64(), mm->env_end = rnd64();
	mm->exe_file_id = 1 + below(m->nfiles);
	for (uint32_t n = below(40); n; n--)
		*(uint64_t *)model_push(m, &mm->auxv, &mm->nauxv, 8) = 1 + rnd64() / 2;
	mm->dumpable = (int32_t)rnd32();
	mm->thp_disabled = coin();
	mm->pkeys = coin() ? rnd32() : 0;
	for (uint32_t n = below(20); n; n--)
		rnd_vma(m, model_push(m, &mm->vmas, &mm->nvmas, sizeof(*mm->vmas)), &at);
	for (uint32_t i = 0; i < mm->nvmas; i++)
		rnd_tags(m, mm, &mm->vmas[i]);
	for (uint32_t n = mm->nvmas ? below(3) : 0; n; n--) {
		struct m_guard *g = model_push(m, &mm->guards, &mm->nguards, sizeof(*g));

		g->start = mm->vmas[n % mm->nvmas].start;
		g->end = g->start + 4096;
	}
}

/* --- files ---------------------------------------------------------------------------------- */

static void rnd_watch(struct model *m, struct m_watch *w)
{
	w->wd = rnd32(), w->mask = rnd32(), w->ignored_mask = rnd32();
	w->ino = rnd64(), w->dev = rnd32();
	w->handle_type = below(256), w->handle_len = below(129);
	rnd_bytes(w->handle, w->handle_len);
	w->path = rnd_str_or_null(m);
}

static void rnd_file_by_type(struct model *m, struct m_file *f)
{
	switch (f->type) {
	case M_FILE_EVENTFD:
		f->eventfd_count = rnd64();
		f->eventfd_semaphore = coin();
		break;
	case M_FILE_SIGNALFD:
		f->signalfd_mask = rnd64();
		break;
	case M_FILE_EVENTPOLL:
		for (uint32_t n = below(4); n; n--)
			*(struct m_epoll_target *)model_push(
				m, &f->targets, &f->ntargets,
				sizeof(*f->targets)) = (struct m_epoll_target){
				rnd32(), rnd32(), rnd64(), rnd64(), rnd64(), rnd32(), below(26),
			};
		break;
	case M_FILE_TIMERFD:
		f->timerfd.clockid = rnd32(), f->timerfd.settime_flags = rnd32();
		f->timerfd.ticks = rnd64(), f->timerfd.value_ns = rnd64();
		f->timerfd.interval_ns = rnd64();
		break;
	case M_FILE_PIDFD:
		f->pidfd_pid = (int32_t)rnd32();
		f->flags |= O_RDWR; /* every one is */
		break;
	case M_FILE_INOTIFY:
		for (uint32_t n = below(4); n; n--)
			rnd_watch(m, model_push(m, &f->watches, &f->nwatches, sizeof(*f->watches)));
		break;
	case M_FILE_REG:
		f->checksum_kind = (enum m_checksum)below(4);
		if (f->checksum_kind)
			f->checksum = rnd32(), f->checksum_n = rnd32();
		break;
	case M_FILE_MEMFD:
		f->shm_id = 1 + below(m->nshms);
		break;
	case M_FILE_PIPE:
	case M_FILE_FIFO:
		f->pipe_size = rnd32();
		break;
	case M_FILE_UNIXSK:
		rnd_unix(m, f);
		break;
	case M_FILE_INETSK:
		rnd_inet(m, f);
		break;
	case M_FILE_NETLINKSK:
		rnd_netlink(m, f);
		break;
	case M_FILE_PACKETSK:
		rnd_packet_sk(m, f);
		break;
	case M_FILE_TTY:
		f->tty = below(m->nttys + 1);
		break;
	default:
		break;
	}
}

static uint32_t rnd_ghost(struct model *m)
{
	struct m_ghost *g = model_push(m, &m->ghosts, &m->nghosts, sizeof(*g));
	uint64_t at = 0;

	g->id = m->nghosts;
	g->dev = rnd64(), g->ino = rnd64(), g->rdev = rnd64();
	g->mode = rnd32(), g->uid = rnd32(), g->gid = rnd32();
	g->atime_ns = (int64_t)rnd64(), g->mtime_ns = (int64_t)rnd64();
	for (uint32_t n = below(4); n; n--) {
		struct m_extent *e = model_push(m, &g->extents, &g->nextents, sizeof(*e));

		e->off = at += below(5000);
		e->len = below(300);
		e->data = model_alloc(m, e->len);
		rnd_bytes(e->data, e->len);
		at += e->len;
	}
	g->size = at + below(5000);
	g->target = rnd_str_or_null(m);
	return g->id;
}

static void rnd_pipe(struct model *m)
{
	struct m_pipe *p = model_push(m, &m->pipes, &m->npipes, sizeof(*p));

	p->dev = rnd64(), p->ino = rnd64(), p->fifo = m->npipes > 2, p->size = rnd32();
	for (uint32_t n = below(4); n; n--)
		p->len += *(uint32_t *)model_push(m, &p->packets, &p->npackets, 4) = below(50);
	if (!p->npackets)
		p->len = below(5000);
	p->data = p->len ? model_alloc(m, p->len) : NULL;
	rnd_bytes(p->data, p->len);
}

static void rnd_lock(struct model *m)
{
	const struct m_fdtable *t = model_fdtable(m, m->procs[0].fdtable_id);
	struct m_lock *l;

	if (!t || !t->n)
		return;
	l = model_push(m, &m->locks, &m->nlocks, sizeof(*l));
	l->kind = (enum m_lock_kind)(1 << below(4));
	l->type = below(3), l->pid = m->procs[0].pid, l->fd = t->fds[below(t->n)].fd;
	l->start = (int64_t)rnd64(), l->len = (int64_t)rnd64();
}

static void rnd_file(struct model *m, uint32_t id, enum m_file_type type)
{
	struct m_file *f = model_push(m, &m->files, &m->nfiles, sizeof(*f));

	f->id = id;
	f->type = type;
	f->path = rnd_str(m);
	f->deleted = coin();
	f->flags = rnd32(), f->pos = rnd64();
	f->dev = rnd64(), f->ino = rnd64(), f->rdev = rnd64(), f->mode = rnd32();
	f->size = rnd64(), f->mtime_ns = (int64_t)rnd64();
	f->mnt_id = coin() ? -1 : (int32_t)below(1000);
	f->build_id_len = coin() ? 20 : below(9);
	f->build_id = f->build_id_len ? model_alloc(m, f->build_id_len) : NULL;
	rnd_bytes(f->build_id, f->build_id_len);
	f->fown = (struct m_fown){rnd32(), rnd32(), rnd32(), rnd32(), (int32_t)rnd32()};
	f->fdinfo = rnd_str_or_null(m);
	rnd_file_by_type(m, f);
	/* Ghosts are numbered in the order of the files that were them. */
	if (f->deleted && coin())
		f->ghost_id = m->nghosts && coin() ? 1 + below(m->nghosts) : rnd_ghost(m);
	else if (f->deleted)
		f->link_path = rnd_str_or_null(m), f->link_made = coin();
}

static void rnd_shm(struct model *m)
{
	struct m_shm *s = model_push(m, &m->shms, &m->nshms, sizeof(*s));

	s->id = m->nshms;
	s->name = rnd_str(m);
	s->dev = rnd64(), s->ino = rnd64(), s->size = rnd64();
	s->uid = rnd32(), s->gid = rnd32(), s->mode = rnd32();
	s->seals_known = coin();
	s->seals = s->seals_known ? rnd32() : 0;
	s->memfd = coin(), s->sysv = coin(), s->hugetlb = coin();
	s->fd = -1;
}

static void rnd_fdtable(struct model *m, uint32_t id)
{
	struct m_fdtable *t = model_push(m, &m->fdtables, &m->nfdtables, sizeof(*t));
	uint32_t fd = 0;

	t->id = id;
	for (uint32_t n = below(20); n; n--) {
		struct m_fd *f = model_push(m, &t->fds, &t->n, sizeof(*f));

		f->fd = fd += 1 + below(3);
		f->file_id = 1 + below(m->nfiles);
		f->cloexec = coin();
	}
}

/* --- processes ------------------------------------------------------------------------------ */

static void rnd_live(struct model *m, struct m_proc *p)
{
	for (unsigned i = 0; i < M_NSIG; i++)
		if (i + 1 != 9 && i + 1 != 19)
			p->sigactions[i] = (struct m_sigaction){rnd64(), rnd64(), rnd64(), rnd64()};
	rnd_queue(m, &p->pending);
	for (unsigned i = 0; i < 3; i++)
		p->itimers[i] = (struct m_itimer){rnd64(), rnd64()};
	for (uint32_t n = below(3); n; n--)
		*(struct m_posix_timer *)model_push(m, &p->posix_timers, &p->nposix_timers,
						    sizeof(*p->posix_timers)) =
			(struct m_posix_timer){(int32_t)rnd32(), (int32_t)rnd32(), rnd32(),
					       rnd32(),		 rnd64(),	   rnd32(),
					       (int32_t)rnd32(), rnd64(),	   rnd64()};
	for (unsigned i = 0; i < M_NRLIMITS; i++)
		p->rlimits[i] = (struct m_rlimit){rnd64(), rnd64()};
	p->cwd_file_id = 1 + below(m->nfiles), p->root_file_id = 1 + below(m->nfiles);
	p->umask = below(512);
	rnd_mm(m, &p->mm);
	if (p->shares_vm)
		p->mm.ntags = 0;
}

static void rnd_proc(struct model *m, uint32_t i)
{
	struct m_proc *p = model_push(m, &m->procs, &m->nprocs, sizeof(*p));
	uint32_t nthreads = 1 + below(4);

	p->pid = 100 * (i + 1);
	p->ppid = i ? m->procs[below(i)].pid : rnd32();
	p->pgid = rnd32(), p->sid = rnd32();
	p->state = !i ? M_ALIVE : (enum m_state)(1 + below(3));
	p->exit_code = rnd32(), p->stop_signo = rnd32();
	rnd_word(p->comm, sizeof(p->comm));
	p->personality = rnd32(), p->pf_flags = rnd32(), p->start_time = rnd64();
	p->fdtable_id = 2 + i, p->vm_id = rnd32(), p->fs_id = rnd32(), p->sighand_id = rnd32();
	rnd_ns(&p->ns);
	p->oom_score_adj = (int32_t)below(2001) - 1000;
	p->loginuid = rnd32();
	p->child_subreaper = coin();
	p->membarrier = rnd64();
	p->has_coredump_filter = coin(), p->coredump_filter = p->has_coredump_filter ? rnd32() : 0;
	p->mdwe = rnd32(), p->memory_merge = coin(), p->permitted = rnd64();
	p->mlock_future = coin(), p->mlock_onfault = coin();
	p->mm.thp_except_advised = coin();
	p->cgroups = rnd_str_or_null(m), p->cmdline = rnd_str_or_null(m);
	if (p->state == M_DEAD)
		return;
	if (i && m->procs[0].state == M_ALIVE && coin()) {
		p->vm_id = m->procs[0].vm_id;
		p->shares_vm = true;
	}
	if (i > 1 && m->procs[1].state != M_DEAD && coin())
		p->fdtable_id = m->procs[1].fdtable_id;
	else
		rnd_fdtable(m, p->fdtable_id);
	p->nthreads = nthreads;
	p->threads = model_alloc(m, nthreads * sizeof(*p->threads));
	for (uint32_t k = 0; k < nthreads; k++)
		rnd_thread(m, &p->threads[k], p->pid + k);
	rnd_live(m, p);
}

static void rnd_chain(struct model *m, uint32_t n)
{
	struct m_seccomp_chain *c = model_push(m, &m->chains, &m->nchains, sizeof(*c));

	while (n--) {
		struct m_seccomp_filter *f = model_push(m, &c->filters, &c->n, sizeof(*f));

		*f = (struct m_seccomp_filter){coin() ? M_SECCOMP_LOG : 0, 8 * (1 + below(20)), 0};
		f->code = model_alloc(m, f->len);
		rnd_bytes(f->code, f->len);
	}
}

static struct model *random_model(uint64_t seed)
{
	struct model *m = model_new(0);

	rnd_state = seed * 0x9e3779b97f4a7c15ULL | 1;
	for (int i = 0; i < 20; i++)
		rnd();
	m->elf_machine = 62;
	m->page_size = 4096;
	m->ncpu_words = below(M_CPU_WORDS + 1);
	for (uint32_t i = 0; i < m->ncpu_words; i++)
		m->cpu_words[i] = rnd32();
	for (uint32_t n = 1 + below(3); n; n--)
		rnd_shm(m);
	for (uint32_t n = below(4); n; n--)
		rnd_tty(m);
	for (uint32_t i = 0; i < 25; i++)
		rnd_file(m, i + 1, i < 21 ? (enum m_file_type)i : (enum m_file_type)below(21));
	for (uint32_t n = 1 + below(3); n; n--)
		rnd_chain(m, 1 + below(3));
	for (uint32_t n = 1 + below(5), i = 0; i < n; i++)
		rnd_proc(m, i);
	for (uint32_t n = below(5); n; n--)
		rnd_pipe(m);
	for (uint32_t n = below(5); n; n--)
		rnd_packet(m);
	for (uint32_t n = below(3); n; n--)
		rnd_lock(m);
	for (uint32_t n = below(3); n; n--) {
		struct m_finding *f = model_push(m, &m->findings, &m->nfindings, sizeof(*f));

		f->pid = rnd32();
		f->fatal = coin();
		rnd_word(f->text, sizeof(f->text));
	}
	rnd_ns(&m->tool_ns);
	m->uptime_us = rnd64(), m->monotonic_ns = rnd64();
	m->boottime_ns = rnd64(), m->realtime_ns = rnd64();
	rnd_word(m->kernel, sizeof(m->kernel));
	rnd_word(m->hostname, sizeof(m->hostname));
	m->net_lock = (enum m_net_lock)below(3);
	if (coin())
		snprintf(m->run_id, sizeof(m->run_id), "%08x-%04x-4%03X", rnd32(), below(65536),
			 below(4096));
	return m;
}

#endif
