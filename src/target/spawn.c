/* SPDX-License-Identifier: MIT */
/* The first stub of a tree that is brought back, and the end of all: running, or killed. */
#include "src/target/spawn.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "src/target/procfs.h"
#include "src/target/recall.h"
#include "src/target/script.h"
#include "src/target/stub.h"

enum {
	FIRST_BASE = 1 << 24,
	MARGIN = 16 << 20, /* nothing of the image so near: a stack may grow */
	WAIT_MS = 10000,
	REAP_MS = 5000,
	REAP_LOOK_US = 20000,
	REAP_TELL_MS = 300,
	LINGER_MS = 1000,
	LINGER_LOOK_US = 1000,
};

/* --- where there is room -------------------------------------------------------------------- */

struct span {
	uint64_t start, end;
};

static int span_compare(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static bool next_map(struct procfs_lines *l, struct span *ret, const char **ret_name)
{
	const char *line = procfs_lines_next(l), *p = line;

	if (!line || !procfs_hex(&p, &ret->start) || *p++ != '-' || !procfs_hex(&p, &ret->end))
		return false;
	*ret_name = strchr(p, '[') ? strchr(p, '[') : "";
	return true;
}

/* What the tool has mapped, the kernel's parts noted. */
static size_t own_spans(struct spawn *s, struct span *spans, size_t max, struct err *err)
{
	struct procfs_lines l;
	char buf[16384];
	const char *name;
	size_t n = 0;
	int ret = procfs_lines_open(&l, buf, sizeof(buf), "/proc/self/maps");

	if (ret < 0)
		return (size_t)err_set(err, -ret, "open /proc/self/maps") * 0;
	while (n < max && next_map(&l, &spans[n], &name)) {
		bool code = !strncmp(name, "[vdso]", 6);
		uint64_t len = spans[n].end - spans[n].start;

		if ((code || !strncmp(name, "[vvar", 5)) && s->vdso.n < 4) {
			s->vdso.part[s->vdso.n].start = spans[n].start;
			s->vdso.part[s->vdso.n++].len = len;
			s->vdso.len += len;
			s->vdso.code_len = code ? len : s->vdso.code_len;
		}
		n++;
	}
	procfs_lines_close(&l);
	return n;
}

static int find_base(struct spawn *s, struct err *err)
{
	uint64_t need = remote_len() + (1 << 20), at = FIRST_BASE;
	size_t max = 65536, n = 0;
	struct span *spans;

	for (uint32_t i = 0; i < s->m->nprocs; i++)
		max += s->m->procs[i].mm.nvmas;
	spans = calloc(max, sizeof(*spans));
	if (!spans)
		return err_set(err, ENOMEM, "list of %zu mappings", max);
	n = own_spans(s, spans, 65536, err);
	for (uint32_t i = 0; i < s->m->nprocs; i++)
		for (uint32_t j = 0; j < s->m->procs[i].mm.nvmas; j++)
			spans[n++] = (struct span){s->m->procs[i].mm.vmas[j].start,
						   s->m->procs[i].mm.vmas[j].end};
	qsort(spans, n, sizeof(*spans), span_compare);
	for (size_t i = 0; i < n; i++) {
		if (spans[i].start >= at + need + MARGIN)
			break;
		if (spans[i].end + MARGIN > at && spans[i].end < INT64_MAX)
			at = spans[i].end + MARGIN;
	}
	free(spans);
	s->base = at;
	s->park = at + remote_len();
	if (at + need > 0x7fff00000000ull)
		return err_fail(err, ENOMEM, ERR_UNSUPPORTED,
				"no room for %" PRIu64 " bytes beside the mappings of the image",
				need);
	return 0;
}

/* --- before anything is created ------------------------------------------------------------- */

/* Dead, or on its way: a dump that has just ended its tree does not wait for the last of it. */
static bool is_ending(uint32_t pid, struct procfs_stat *ret)
{
	enum { PF_EXITING = 4 };
	struct procfs_status status;
	char text[4096];

	if (procfs_stat((pid_t)pid, 0, ret) < 0)
		return true; /* gone since */
	if (ret->state == 'Z' || ret->flags & PF_EXITING)
		return true;
	return procfs_status((pid_t)pid, text, sizeof(text), &status) == 0 &&
	       (status.sig_pending | status.sig_shared) >> (SIGKILL - 1) & 1;
}

/*
 * Also as a group's or a session's, or for a moment after the last of its tasks has been collected
 * (Linux 6.15 gives the number free later): an owner of signals may be anything that has one.
 */
static bool is_taken(int fd, uint32_t pid)
{
	return fcntl(fd, F_SETOWN, (pid_t)pid) == 0 || errno != ESRCH;
}

static bool has_task(uint32_t pid)
{
	return kill((pid_t)pid, 0) == 0 || errno != ESRCH;
}

/* A dead one waits for its parent, which may be an init that looks around once in a while. */
static bool await_reaping(const struct spawn *s, int fd, uint32_t pid, uint64_t deadline)
{
	uint64_t tell = now_ns() + REAP_TELL_MS * 1000000ull;
	uint64_t linger = now_ns() + LINGER_MS * 1000000ull;
	struct procfs_stat st = {0};
	bool told = !s->opts.waits;

	while (is_taken(fd, pid)) {
		bool task = has_task(pid);

		if (now_ns() > (task ? deadline : linger) || (task && !is_ending(pid, &st)))
			return false;
		if (task && !told && now_ns() > tell && st.state == 'Z') {
			s->opts.waits(s->opts.arg, pid, st.ppid);
			told = true;
		}
		usleep(task ? REAP_LOOK_US : LINGER_LOOK_US);
	}
	return true;
}

static int pid_free(const struct spawn *s, int fd, uint32_t pid, const char *what,
		    uint64_t deadline, struct err *err)
{
	struct procfs_stat st = {0};

	if (await_reaping(s, fd, pid, deadline))
		return 0;
	if (!has_task(pid))
		return stub_clone_failed(-EEXIST, pid, err);
	if (procfs_stat((pid_t)pid, 0, &st) == 0 && st.state == 'Z') {
		err_fail(
			err, EEXIST, ERR_EXISTS,
			"%s %u of the image is taken by a process that has ended (%s) and that its "
			"parent, pid %d, has not collected",
			what, pid, st.comm, st.ppid);
		err_hint(err, "end or wake that parent, then try again");
		return -EEXIST;
	}
	err_fail(err, EEXIST, ERR_EXISTS, "%s %u of the image is taken by a running one (%s)", what,
		 pid, st.comm[0] ? st.comm : "?");
	err_hint(err, "end that process, or restore in a pid namespace of its own");
	return -EEXIST;
}

static int pids_free(const struct spawn *s, struct err *err)
{
	const struct model *m = s->m;
	uint64_t deadline = now_ns() + REAP_MS * 1000000ull;
	cleanup_fd int fd = memfd_create("owner", MFD_CLOEXEC);

	if (fd < 0)
		return err_set(err, errno, "a file to ask for pids with");

	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];
		int ret = pid_free(s, fd, p->pid, "pid", deadline, err);

		for (uint32_t j = 1; ret == 0 && j < p->nthreads; j++)
			ret = pid_free(s, fd, p->threads[j].tid, "thread id", deadline, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int spawn_open(struct spawn *s, const struct model *m, const struct spawn_opts *opts,
	       struct err *err)
{
	int ret;

	memset(s, 0, sizeof(*s));
	s->m = m;
	s->opts = *opts;
	s->sock = s->warden.sock = -1;
	ret = tree_init(&s->tree, (pid_t)m->procs[0].pid, err);
	if (ret < 0)
		return ret;
	s->tree.options |= PTRACE_O_EXITKILL;
	s->order = calloc(m->nprocs, sizeof(*s->order));
	if (!s->order)
		return err_set(err, ENOMEM, "list of %u processes", m->nprocs);
	ret = pids_free(s, err);
	if (ret == 0)
		ret = find_base(s, err);
	return ret < 0 ? ret : warden_start(&s->warden, m, opts->live, err);
}

/* --- the first stub ------------------------------------------------------------------------- */

/*
 * A copy of the tool that takes the scratch area and waits. Raw calls and no memory of the C
 * library's: other threads of the tool may hold its locks.
 */
static _Noreturn void stub_main(int sock, uint64_t base, size_t len)
{
	void *area = (void *)(uintptr_t)base;
	stack_t none = {.ss_flags = SS_DISABLE};
	/* As the kernel has them: struct sigaction of the library's is another one. */
	static const uint64_t all = ~0ull, by_default[4];
	char byte = 'r';

	/* The terminal's signals are for the tool; what it ignores or catches no child of ours may.
	 */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all));
	for (int signo = 1; signo <= M_NSIG; signo++)
		syscall(SYS_rt_sigaction, signo, by_default, NULL, sizeof(all));
	syscall(SYS_dup3, sock, 0, 0);
	syscall(SYS_close_range, 1, ~0u, 0);
	/* The kernel writes to the area of a registered thread whenever it runs: it will be gone.
	 */
	if (__rseq_size)
		syscall(SYS_rseq, (char *)arch_self() + __rseq_offset, 32, 1, RSEQ_SIG);
	sigaltstack(&none, NULL);
	if (mmap(area, len, PROT_READ | PROT_WRITE | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != area)
		byte = 'm';
	if (write(0, &byte, 1) == 1)
		while (read(0, &byte, 1) < 0 && errno == EINTR)
			;
	_exit(1);
}

static pid_t clone_root(struct spawn *s, int sock)
{
	pid_t tid = s->tree.root;
	struct clone_args args = {
		.flags = s->opts.sibling ? CLONE_PARENT : 0,
		/* A sibling has the exit signal of the tool. */
		.exit_signal = s->opts.sibling ? 0 : SIGCHLD,
		.set_tid = (uint64_t)(uintptr_t)&tid,
		.set_tid_size = 1,
	};
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		stub_main(sock, s->base, remote_len());
	return pid < 0 ? -errno : pid;
}

int stub_clone_failed(int error, uint32_t pid, struct err *err)
{
	if (error == -EEXIST) {
		err_fail(err, EEXIST, ERR_EXISTS,
			 "pid %u of the image is taken: a process, thread, group or session has it",
			 pid);
		err_hint(err, "end those processes, or restore in a pid namespace of its own");
		return error;
	}
	if (error == -EPERM) {
		err_fail(err, EPERM, ERR_PERM, "no permission to create a process with pid %u",
			 pid);
		err_hint(err, "run as root or with CAP_CHECKPOINT_RESTORE");
		return error;
	}
	return err_set(err, -error, "create a process with pid %u", pid);
}

int stub_await(struct spawn *s, struct task *task, struct err *err)
{
	uint64_t deadline = now_ns() + WAIT_MS * 1000000ull;

	for (;;) {
		struct stop stop = task_poll(task);

		if (stop.kind == STOP_TRAP || stop.kind == STOP_GROUP) {
			task->state = TASK_STOPPED;
			return remote_save(task, err);
		}
		if (stop.kind == STOP_DEAD) {
			task->state = TASK_GONE;
			return err_fail(err, ESRCH, ERR_TARGET_GONE,
					"process %d was killed while it was being made", task->tid);
		}
		if (stop.kind != STOP_NONE)
			ptrace(PTRACE_CONT, task->tid, 0, 0);
		if (now_ns() > deadline)
			return err_fail(err, ETIMEDOUT, ERR_TIMEOUT, "new process %d does not stop",
					task->tid);
		tree_wait_child(&s->tree, 20);
	}
}

static int wait_ready(struct spawn *s, pid_t pid, struct err *err)
{
	char byte = 0;
	ssize_t n;

	do {
		n = read(s->sock, &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1 && byte == 'r')
		return 0;
	return err_fail(err, ENOMEM, ERR_NOMEM,
			"new process %d could not map %zu bytes at %#" PRIx64, pid, remote_len(),
			s->base);
}

static int make_root(struct spawn *s, struct err *err)
{
	cleanup_fd int theirs = -1;
	uint32_t proc;
	int fds[2], ret;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_set(err, errno, "socket to the first process");
	s->sock = fds[0];
	theirs = fds[1];
	pid = clone_root(s, theirs);
	if (pid < 0)
		return stub_clone_failed(pid, (uint32_t)s->tree.root, err);
	close(take_fd(&theirs));
	ret = tree_add_proc(&s->tree, pid, &proc);
	if (ret == 0)
		ret = tree_add_task(&s->tree, proc, pid);
	if (ret < 0)
		return err_set(err, -ret, "note process %d", pid);
	ret = wait_ready(s, pid, err);
	if (ret < 0)
		return ret;
	if (ptrace(PTRACE_SEIZE, pid, 0, s->tree.options) < 0 ||
	    ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0)
		return err_set(err, errno, "trace new process %d", pid);
	return stub_await(s, &s->tree.tasks[0], err);
}

/* What it has of the tool goes; the kernel's parts are parked. */
static int empty_root(struct spawn *s, struct remote *r, struct err *err)
{
	struct task *task = &s->tree.tasks[0];
	uint64_t park = s->park;
	struct procfs_lines l;
	struct script script;
	char buf[16384];
	const char *name;
	struct span v;
	int ret;

	ret = procfs_lines_open(&l, buf, sizeof(buf), "/proc/%d/maps", task->tid);
	if (ret < 0)
		return err_set(err, -ret, "open /proc/%d/maps", task->tid);
	script_begin(&script, r, task);
	for (unsigned i = 0; i < s->vdso.n; i++) {
		uint64_t start = s->vdso.part[i].start, len = s->vdso.part[i].len;

		script_add(
			&script,
			(struct script_call){SYS_mremap,
					     {start, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, park},
					     .what = "park the vdso from",
					     .at = start,
					     .wants = true,
					     .want = park},
			err);
		park += len;
	}
	while (next_map(&l, &v, &name)) {
		bool kernels = !strncmp(name, "[vdso]", 6) || !strncmp(name, "[vvar", 5) ||
			       !strncmp(name, "[vsyscall]", 10);

		if (!kernels && v.start != s->base)
			script_add(&script,
				   (struct script_call){SYS_munmap,
							{v.start, v.end - v.start},
							.what = "unmap the tool's memory at",
							.at = v.start},
				   err);
	}
	procfs_lines_close(&l);
	script_add(&script, (struct script_call){SYS_close, {0}, .what = "close a socket"}, err);
	return script_run(&script, err);
}

int stub_root(struct spawn *s, struct err *err)
{
	struct remote r = {.mem_fd = -1};
	int ret = make_root(s, err);

	if (FAULT("restore.root"))
		ret = err_set(err, EIO, "fault injected at restore.root");
	if (ret == 0)
		ret = remote_adopt(&r, &s->tree, &s->tree.procs[0], s->base, err);
	if (ret == 0)
		ret = remote_plant(&r, err);
	if (ret == 0)
		ret = empty_root(s, &r, err);
	remote_detach(&r);
	return ret;
}

/* --- the end -------------------------------------------------------------------------------- */

struct proc *spawn_proc(struct spawn *s, uint32_t i)
{
	return &s->tree.procs[s->order[i]];
}

int spawn_remote(struct spawn *s, uint32_t i, struct remote *r, struct err *err)
{
	struct proc *proc = spawn_proc(s, i);
	int ret = remote_adopt(r, &s->tree, proc, s->base, err);

	if (ret == 0)
		r->first = tree_proc_task(&s->tree, proc, 0);
	return ret;
}

int spawn_leave(struct spawn *s, uint32_t i, struct err *err)
{
	struct remote r = {.mem_fd = -1};
	int ret = spawn_remote(s, i, &r, err);

	if (ret == 0)
		ret = remote_leave(&r, r.first, err);
	remote_detach(&r);
	return ret;
}

/* Somebody of the session would be there to let the group of @p go on. */
static bool has_shell(const struct model *m, const struct m_proc *p)
{
	for (uint32_t i = 1; i < m->nprocs; i++) {
		const struct m_proc *q = &m->procs[i], *up = model_proc(m, q->ppid);

		if (q->pgid == p->pgid && q->state != M_DEAD && up && up->state != M_DEAD &&
		    up->pgid != q->pgid && up->sid == q->sid)
			return true;
	}
	return false;
}

/* What stops @pid again, and is told to its parent: SIGSTOP where another might not; 0: runs. */
static int stop_signal(const struct spawn *s, pid_t pid)
{
	const struct m_proc *p = model_proc(s->m, (uint32_t)pid);
	int signo = p && p->state == M_STOPPED ? (int)p->stop_signo : 0;

	if (!p || p->state == M_DEAD || (p->state != M_STOPPED && !s->opts.stopped))
		return 0;
	/* The kernel ignores these in groups without a shell; and by default alone they stop. */
	if ((signo != SIGTSTP && signo != SIGTTIN && signo != SIGTTOU) || !has_shell(s->m, p) ||
	    p->sigactions[signo - 1].handler != (uint64_t)(uintptr_t)SIG_DFL)
		return SIGSTOP;
	for (uint32_t i = 0; i < p->nthreads; i++)
		if (!(p->threads[i].sigmask >> (signo - 1) & 1))
			return signo;
	return SIGSTOP;
}

/* From here on they live without us. */
static int let_live(struct spawn *s, struct err *err)
{
	struct tree *t = &s->tree;

	for (uint32_t i = 0; i < t->ntasks; i++) {
		if (t->tasks[i].state != TASK_STOPPED)
			continue;
		if (ptrace(PTRACE_SETOPTIONS, t->tasks[i].tid, 0,
			   t->options & ~(unsigned long)PTRACE_O_EXITKILL) < 0)
			return err_set(err, errno, "let thread %d live", t->tasks[i].tid);
		if (FAULT("restore.letting_go"))
			return err_set(err, EIO, "fault injected at restore.letting_go");
	}
	return 0;
}

int spawn_go(struct spawn *s, struct err *err)
{
	struct tree *t = &s->tree;
	int ret = warden_arm(&s->warden, err);

	if (ret < 0)
		return ret;
	/*
	 * Ahead of what stops them: a thread that goes to its call is the first to meet that
	 * signal, and those that have been let go would run until it is through with it.
	 */
	for (uint32_t i = 0; i < t->ntasks; i++)
		if (t->tasks[i].state == TASK_STOPPED)
			recall_again(t, &t->tasks[i]);
	for (uint32_t i = 0; i < t->nprocs; i++) {
		int signo = stop_signal(s, t->procs[i].pid);

		if (signo)
			kill(t->procs[i].pid, signo);
	}
	/* A death up to here has been seen or ends all. */
	ret = let_live(s, err);
	if (ret < 0)
		return ret;
	warden_switch(&s->warden);
	s->running = true;
	/* Nothing to undo: for tests that kill the tracer here. */
	if (FAULT("target.let_go"))
		errno = 0;
	for (uint32_t i = 0; i < t->ntasks; i++) {
		if (t->tasks[i].state != TASK_STOPPED)
			continue;
		ptrace(PTRACE_DETACH, t->tasks[i].tid, 0, 0);
		t->tasks[i].state = TASK_GONE;
	}
	return 0;
}

static void kill_all(struct spawn *s)
{
	struct tree *t = &s->tree;
	uint64_t deadline = now_ns() + WAIT_MS * 1000000ull;

	for (uint32_t i = 0; i < t->nprocs; i++)
		if (t->procs[i].state != PROC_GONE)
			kill(t->procs[i].pid, SIGKILL);
	for (uint32_t i = t->ntasks; i-- > 0;)
		while (t->tasks[i].state != TASK_GONE && now_ns() < deadline) {
			if (task_poll(&t->tasks[i]).kind == STOP_DEAD)
				t->tasks[i].state = TASK_GONE;
			else
				tree_wait_child(t, 1);
		}
}

void spawn_free(struct spawn *s)
{
	if (s->tree.tasks && !s->running)
		kill_all(s);
	warden_end(&s->warden);
	if (s->sock >= 0)
		close(s->sock);
	tree_deinit(&s->tree);
	free(s->order);
	s->order = NULL;
	s->sock = -1;
}
