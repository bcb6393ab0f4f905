/* SPDX-License-Identifier: MIT */
/* Restore: empty stopped processes, filled from outside, let go. */
#include <fcntl.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "binlog/pr.h"
#include "src/ops/restore.h"
#include "src/target/put.h"

/* The time since @from, which becomes now. */
static uint64_t lap(uint64_t *from)
{
	uint64_t t0 = *from;

	*from = now_ns();
	return *from - t0;
}

int restore_interrupted(const struct restore *r, struct err *err)
{
	if (!r->opts->stop || !r->opts->stop(r->opts->arg))
		return 0;
	return err_fail(err, EINTR, ERR_INTERRUPTED,
			"interrupted by a signal: restore from %s given up", r->opts->dir);
}

static void phase(const struct restore *r, enum restore_phase which, uint64_t total)
{
	static const char *const name[] = {
		[RESTORE_READ] = "read",
		[RESTORE_SPAWN] = "spawn",
		[RESTORE_MEMORY] = "memory",
		[RESTORE_STATE] = "state",
	};

	pr_info("restore from %s: %s\n", r->opts->dir, name[which]);
	if (r->opts->phase)
		r->opts->phase(r->opts->arg, which, total);
}

static bool lives(const struct m_proc *p)
{
	return p->state != M_DEAD;
}

/* --- is this image for this machine? ---------------------------------------------------------- */

/* A dump that could make no system call in a process did not learn of them; all are 0 then. */
static bool has_limits(const struct m_proc *p)
{
	for (unsigned i = 0; i < M_NRLIMITS; i++)
		if (p->rlimits[i].cur || p->rlimits[i].max)
			return true;
	return false;
}

static int check_findings(const struct restore *r, struct err *err)
{
	const struct model *m = r->model;

	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];

		if (!lives(p) || has_limits(p))
			continue;
		err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			 "%s cannot be restored: it has no signal actions, timers and limits of "
			 "pid %u (%s)",
			 r->opts->dir, p->pid, p->comm);
		err_hint(err, "the dump could make no system call in that process and said so; "
			      "`stasis show` and `stasis core` take the image");
		return -EOPNOTSUPP;
	}

	for (uint32_t i = 0; i < m->nfindings; i++)
		if (m->findings[i].fatal) {
			err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				 "%s was dumped for looking at only: pid %u: %s", r->opts->dir,
				 m->findings[i].pid, m->findings[i].text);
			err_hint(err,
				 "`stasis show`, `core` and `bt` take it; an image that can be "
				 "restored is one that was dumped without --allow-findings, which "
				 "pre-dump implies");
			return -EOPNOTSUPP;
		}
	return 0;
}

/* The vdso's code as the image has it is this kernel's: programs have its addresses. */
static int check_vdso(struct restore *r, struct err *err)
{
	const struct spawn_vdso *v = &r->spawn.vdso;
	const size_t len_page = r->model->page_size;
	cleanup_free uint8_t *page = malloc(len_page);
	struct image_mem *mem = NULL;
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < r->model->nprocs; i++)
		ret = fill_check_vdso(&r->spawn, &r->model->procs[i], err);
	if (ret < 0 || !v->n)
		return ret;
	mem = page ? image_mem_open(r->image, err) : NULL;
	if (!mem)
		return page ? -err->errnum : err_set(err, ENOMEM, "a page of the vdso");
	for (uint32_t i = 0; ret == 0 && i < r->model->nprocs; i++) {
		const struct m_proc *p = &r->model->procs[i];

		for (uint32_t j = 0; ret == 0 && j < p->mm.nvmas; j++) {
			const struct m_vma *w = &p->mm.vmas[j];
			const uint8_t *own = (void *)(uintptr_t)v->part[v->n - 1].start;

			uint64_t len = w->end - w->start, own_len = v->part[v->n - 1].len;

			/* A hostile image has several pieces that sum up to ours. */
			for (uint64_t a = w->start;
			     w->kind == M_VMA_VDSO && len <= own_len && a < w->end; a += len_page) {
				struct err drop = {0};
				ssize_t n = image_mem_read(mem, MD_SPACE_PROC(p->pid), a, page,
							   len_page, &drop);

				/* An image need not have it. */
				if (n != (ssize_t)len_page ||
				    !memcmp(page, own + (a - w->start), len_page))
					continue;
				ret = err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
					       "process %u: the vdso of the image (%s) differs "
					       "from this kernel's",
					       p->pid, r->model->kernel);
				err_hint(err, "restore under the kernel that the image was made "
					      "under");
				break;
			}
		}
	}
	image_mem_close(mem);
	return ret;
}

/* The controlling terminal of a session leader: taken at first, told its foreground group later. */
static int with_terminal(struct restore *r, struct remote *remote, const struct m_proc *p,
			 bool take, struct err *err)
{
	static struct arch_call calls[BATCH_CALLS];
	static uint8_t data[BATCH_DATA];
	struct batch b;
	int fd, ret = make_ctty(r->make, p, &fd, err);

	if (ret < 0 || fd < 0)
		return ret;
	ret = fill_take(remote, &fd, 1, err);
	if (ret < 0)
		return ret;
	batch_init_big(&b, remote, calls, data);
	if (take)
		make_ctty_take(&b, 1);
	else
		make_ctty_group(r->make, p, &b, 1);
	if (b.ncalls)
		ret = remote_run(remote, &remote->first, &b, 1, err);
	/* A group that had ended, which a shell is about to notice: the leader's is in front. */
	if (ret == 0 && b.ncalls && calls[0].ret < 0 && (take || calls[0].ret != -ESRCH))
		ret = err_set(err, (int)-calls[0].ret, "%s of process %u",
			      take ? "take the controlling terminal"
				   : "tell the terminal the foreground group",
			      p->pid);
	return ret < 0 ? ret : fill_drop(remote, err);
}

static void tell_waiting(void *arg, uint32_t pid, pid_t parent)
{
	struct restore *r = arg;

	pr_warn("pid %u is held by a process that has ended; its parent %d has not collected it\n",
		pid, parent);
	if (r->opts->waits)
		r->opts->waits(r->opts->arg, (pid_t)pid, parent);
}

/* The terminal of this command is its own session's: nobody takes it away from there. */
static void tell_without_tty(struct restore *r)
{
	for (uint32_t i = 0; i < r->model->nttys; i++) {
		const struct m_tty *t = &r->model->ttys[i];
		const struct m_proc *p = t->sid ? model_proc(r->model, t->sid) : NULL;

		if (!p || !t->inherited || p->sid != p->pid || r->res->without_tty)
			continue;
		r->res->without_tty = (pid_t)p->pid;
		pr_warn("process %u leads a session and has no terminal of its own\n", p->pid);
	}
}

/* A session leader takes its controlling terminal, before it has children that inherit it. */
static int take_terminal(void *arg, struct remote *remote, const struct m_proc *p, struct err *err)
{
	struct restore *r = arg;

	return with_terminal(r, remote, p, true, err);
}

/* The other side has given up, or shall: what is left is a socket that says so. */
static void close_connections(struct model *m)
{
	for (uint32_t i = 0; i < m->nfiles; i++) {
		struct m_inet *sk = m->files[i].isk;

		if (!sk || sk->proto != IPPROTO_TCP || sk->state == M_SK_CLOSE ||
		    sk->state == M_SK_LISTEN)
			continue;
		sk->state = M_SK_CLOSE;
		sk->shutdown = M_SK_SHUT_READ | M_SK_SHUT_WRITE;
		sk->tcp = NULL;
	}
}

static int restore_open(struct restore *r, struct err *err)
{
	struct spawn_opts sopts;
	int ret;

	phase(r, RESTORE_READ, 0);
	r->image = image_open(r->opts->dir, err);
	if (!r->image)
		return -err->errnum;
	r->model = image_read_model(r->image, err);
	if (!r->model)
		return -err->errnum;
	if (r->opts->tcp_close)
		close_connections(r->model);
	ret = restore_check_cpu(r, err);
	if (ret == 0)
		ret = check_findings(r, err);
	if (ret < 0)
		return ret;
	r->res->nprocs = r->model->nprocs;
	r->res->nfiles = r->model->nfiles;
	for (uint32_t i = 0; i < r->model->nprocs; i++) {
		r->res->nthreads += r->model->procs[i].nthreads;
		r->res->nvmas += r->model->procs[i].mm.nvmas;
	}
	r->spawning = true;
	tell_without_tty(r);
	sopts = (struct spawn_opts){.session = take_terminal,
				    .waits = tell_waiting,
				    .parent = restore_parent,
				    .arg = r,
				    .sibling = r->opts->sibling || r->tool,
				    .shell_job = r->opts->shell_job,
				    .live = r->tool ? &r->res->live : NULL,
				    .stopped = r->opts->leave_stopped};
	ret = spawn_open(&r->spawn, r->model, &sopts, err);
	if (ret == 0)
		ret = check_vdso(r, err);
	if (ret < 0)
		return ret;
	r->make = make_new(r->model, &r->opts->make, err);
	ret = r->make ? make_files(r->make, err) : -err->errnum;
	if (ret == 0)
		ret = restore_sealed(r, err);
	return ret < 0 ? ret : restore_kin_plan(r, err);
}

/* --- state ------------------------------------------------------------------------------------ */

/* The directory that all begin with: to set it again would take a privilege. */
static bool is_root_already(int fd)
{
	struct statx has, want;
	const unsigned mask = STATX_INO | STATX_MNT_ID;

	return fd >= 0 && statx(AT_FDCWD, "/", 0, mask, &has) == 0 &&
	       statx(fd, "", AT_EMPTY_PATH, mask, &want) == 0 && has.stx_ino == want.stx_ino &&
	       has.stx_dev_major == want.stx_dev_major && has.stx_dev_minor == want.stx_dev_minor &&
	       has.stx_mask & STATX_MNT_ID && want.stx_mask & STATX_MNT_ID &&
	       has.stx_mnt_id == want.stx_mnt_id;
}

/* What needs a program file or directory by number: they are 1 to 3 for a moment. */
static int put_with_files(struct restore *r, struct remote *remote, const struct m_proc *p,
			  struct err *err)
{
	const int root = make_fd(r->make, p->root_file_id);
	const int fds[3] = {make_fd(r->make, p->mm.exe_file_id), make_fd(r->make, p->cwd_file_id),
			    is_root_already(root) ? -1 : root};
	const struct m_file *exe;
	int ret = fill_take(remote, fds, 3, err);

	if (ret == 0)
		ret = put_mm(remote, p, fds[0] >= 0 ? 1 : -1, err);
	exe = model_file(r->model, p->mm.exe_file_id);
	if (ret == -EACCES && exe && exe->path)
		err_hint(err,
			 "%s may not be run (or its mount is noexec): chmod +x %s, as it was at "
			 "the dump",
			 exe->path, exe->path);
	if (ret == 0)
		ret = put_directories(remote, fds[1] >= 0 ? 2 : -1, fds[2] >= 0 ? 3 : -1, err);
	return ret < 0 ? ret : fill_drop(remote, err);
}

/* What fills it comes after what the others with that table need it empty for. */
static bool last_with_table(const struct model *m, uint32_t i)
{
	for (uint32_t j = i + 1; j < m->nprocs; j++)
		if (lives(&m->procs[j]) && m->procs[j].fdtable_id == m->procs[i].fdtable_id)
			return false;
	return true;
}

/* A matter of the machine's administration, not of the program: not permitted is not fatal. */
static int put_administration(const struct m_proc *p, struct remote *remote, struct err *err)
{
	struct err drop = {0};
	int ret = put_oom_score(p, &drop);

	if (ret == 0)
		ret = put_loginuid(remote, p, &drop);
	if (ret == -EPERM || ret == -EACCES) {
		pr_warn("pid %u: %s\n", p->pid, drop.msg);
		return 0;
	}
	return ret < 0 ? err_take(err, &drop) : 0;
}

/* Directories, memory layout, descriptors: what the tool's own rights are good for. */
static int put_places(struct restore *r, uint32_t i, struct remote *remote, struct err *err)
{
	const struct m_proc *p = &r->model->procs[i];
	const struct m_fdtable *t = model_fdtable(r->model, p->fdtable_id);
	int ret = fill_advice(remote, p, err);

	/* Before the root directory is another one: it looks at /proc. */
	if (ret == 0)
		ret = put_administration(p, remote, err);
	if (ret == 0)
		ret = put_coredump_filter(p, err);
	if (ret == 0)
		ret = put_with_files(r, remote, p, err);
	if (ret == 0)
		ret = with_terminal(r, remote, p, false, err);
	if (ret == 0 && t && last_with_table(r->model, i))
		ret = fill_table(remote, t, r->make, err);
	return ret;
}

/* What is a process's own in the kernel, by its own calls: batch after batch of them. */
static int put_locks(struct restore *r, struct remote *remote, const struct m_proc *p,
		     struct err *err)
{
	static struct arch_call calls[BATCH_CALLS];
	static uint8_t data[BATCH_DATA];
	uint32_t at = 0;

	for (;;) {
		struct batch b;
		uint32_t from = at;
		int n, ret;

		batch_init_big(&b, remote, calls, data);
		n = make_inside(r->make, p, &b, &at);
		if (n <= 0)
			return n;
		ret = remote_run(remote, &remote->first, &b, 1, err);
		if (ret == 0)
			ret = make_inside_done(r->make, p, &b, 0, from, at, err);
		if (ret < 0)
			return ret;
	}
}

/* What comes when all processes have all descriptors: 5 to 14 of put.h. */
static int put_attributes(struct restore *r, uint32_t i, struct remote *remote, struct err *err)
{
	const struct m_proc *p = &r->model->procs[i];
	int ret = put_locks(r, remote, p, err);

	if (ret == 0)
		ret = put_shadow(remote, p, err);
	if (ret == 0)
		ret = put_process(remote, p, err);
	if (ret == 0)
		ret = put_threads(remote, p, err);
	if (ret == 0)
		ret = put_permits(remote, p, arch_inject.permits, err);
	if (ret == 0)
		ret = put_actions(remote, p, err);
	if (ret == 0)
		ret = put_pending(remote, p, err);
	if (ret == 0)
		ret = put_timers_create(remote, p, false, err);
	if (ret == 0)
		ret = put_seccomp(remote, r->model, p, err);
	if (ret == 0)
		ret = put_creds(remote, p, err);
	if (ret == 0)
		ret = put_sched(remote, p, err);
	return ret < 0 ? ret : put_limits_lower(remote, p, err);
}

static int each(struct restore *r,
		int (*put)(struct restore *r, uint32_t i, struct remote *remote, struct err *err),
		struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < r->model->nprocs; i++) {
		struct remote remote = {.mem_fd = -1};

		if (!lives(&r->model->procs[i]))
			continue;
		ret = spawn_remote(&r->spawn, i, &remote, err);
		if (ret == 0)
			ret = put(r, i, &remote, err);
		remote_detach(&remote);
	}
	return ret;
}

/* The clocks of the program run from here on. */
static int put_clocks(struct restore *r, uint32_t i, struct remote *remote, struct err *err)
{
	struct m_proc *p = &r->model->procs[i];
	int ret = put_lazy_regs(remote, p, err);

	if (ret == 0)
		ret = put_sleeps(remote, p, err);
	return ret < 0 ? ret : put_timers_arm(remote, p, err);
}

/* The scratch area goes, and with it every way in: registers are the last thing. */
static int put_last(struct restore *r, uint32_t i, struct remote *remote, struct err *err)
{
	int ret = remote_leave(remote, remote->first, err);

	return ret < 0 ? ret : put_regs(remote, &r->model->procs[i], err);
}

/* As criu does, such files are compared by what there is; unlike it, not in silence. */
static void tell_unsummed(struct restore *r)
{
	struct restore_result *res = r->res;
	const char *path;

	res->nunsummed = make_unsummed(r->make, &path);
	if (!res->nunsummed)
		return;
	snprintf(res->unsummed, sizeof(res->unsummed), "%s", path);
	pr_warn("the image has no checksum of %u files, of %s for one\n", res->nunsummed, path);
}

static int restore_state(struct restore *r, struct err *err)
{
	int ret;

	phase(r, RESTORE_STATE, 0);
	restore_close_fills(r);
	ret = make_late(r->make, err);
	tell_unsummed(r);
	if (ret == 0)
		ret = each(r, put_places, err);
	if (ret == 0)
		ret = each(r, put_attributes, err);
	if (FAULT("restore.state"))
		ret = err_set(err, EIO, "fault injected at restore.state");
	if (ret == 0)
		ret = make_finish(r->make, err);
	if (ret == 0)
		ret = restore_interrupted(r, err);
	if (ret == 0)
		ret = each(r, put_clocks, err);
	if (ret == 0)
		ret = each(r, put_last, err);
	if (FAULT("restore.registers"))
		ret = err_set(err, EIO, "fault injected at restore.registers");
	return ret;
}

static int restore_steps(struct restore *r, struct err *err)
{
	struct restore_result *res = r->res;
	uint64_t t = now_ns();
	int ret = restore_open(r, err);

	res->read_ns = lap(&t);
	if (ret == 0)
		ret = restore_interrupted(r, err);
	if (ret < 0)
		return ret;
	phase(r, RESTORE_SPAWN, 0);
	ret = spawn_tree(&r->spawn, err);
	/* What parents were filled with meanwhile. */
	res->spawn_ns = lap(&t) - res->memory_ns;
	if (ret == 0)
		ret = restore_maps(r, err);
	res->maps_ns = lap(&t);
	if (ret < 0)
		return ret;
	phase(r, RESTORE_MEMORY, 0);
	ret = restore_memory(r, err);
	if (ret == 0)
		ret = restore_tags(r, err);
	if (FAULT("restore.memory"))
		ret = err_set(err, EIO, "fault injected at restore.memory");
	res->memory_ns += lap(&t);
	if (ret == 0)
		ret = restore_state(r, err);
	res->state_ns = lap(&t);
	if (ret == 0)
		ret = restore_point_of_no_return(r->tool, err);
	/* Until here no peer has noticed anything: a restore that fails can be tried again. */
	if (ret == 0)
		ret = make_release(r->make, err);
	/* Should we be killed when it has been let go. */
	res->root = (pid_t)r->model->procs[0].pid;
	if (ret == 0)
		ret = spawn_go(&r->spawn, err);
	if (ret == 0)
		make_done(r->make);
	res->go_ns = lap(&t);
	res->root = ret < 0 ? 0 : (pid_t)r->model->procs[0].pid;
	return ret;
}

int restore_tree(const struct restore_opts *opts, pid_t tool, struct restore_result *ret_result,
		 struct err *err)
{
	struct restore r = {.opts = opts, .res = ret_result, .tool = tool};
	uint64_t t0 = now_ns();
	int ret;

	ret = restore_steps(&r, err);
	if (ret < 0)
		pr_err("restore from %s failed: %s\n", opts->dir, err->msg);
	else
		pr_info("restore from %s: pid %d runs\n", opts->dir, ret_result->root);
	restore_close_fills(&r);
	restore_kin_free(&r);
	if (r.spawning)
		spawn_free(&r.spawn);
	make_free(r.make);
	model_free(r.model);
	image_close(r.image);
	ret_result->total_ns = now_ns() - t0;
	return ret;
}
