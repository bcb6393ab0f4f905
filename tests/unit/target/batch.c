/* SPDX-License-Identifier: MIT */
/* System-call batches in a stopped child: results, and what is left of them afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "src/target/remote.h"
#include "tests/unit/target/child.h"

enum { NTHREADS = 40 };

static struct tree tree;
static struct remote remote;

static struct proc *freeze(struct child *c)
{
	struct err err = {0};

	if (tree_init(&tree, c->pid, &err))
		fail_msg("%s", err.msg);
	tree.timeout_ms = 20000;
	if (tree_freeze(&tree, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(tree.nlive_procs, 1);
	for (uint32_t i = 0; i < tree.procs[0].ntasks; i++)
		assert_int_equal(remote_save(tree_proc_task(&tree, &tree.procs[0], i), &err), 0);
	return &tree.procs[0];
}

static void thaw(void)
{
	tree_thaw(&tree, 0);
	tree_deinit(&tree);
}

/* Everything of a thread that a run might leave changed. */
struct snapshot {
	uint8_t prstatus[ARCH_PRSTATUS_MAX];
	uint8_t xstate[16384];
	size_t xstate_len;
	uint64_t mask;
	siginfo_t pending[32], shared[32];
	long npending, nshared;
};

/* Which of two different signals was queued first nobody can tell; by number, then, but stable. */
static void sort_queue(siginfo_t *info, long n)
{
	for (long i = 1; i < n; i++)
		for (long j = i; j > 0 && info[j - 1].si_signo > info[j].si_signo; j--) {
			siginfo_t tmp = info[j];

			info[j] = info[j - 1];
			info[j - 1] = tmp;
		}
}

static void snapshot(struct snapshot *s, pid_t tid)
{
	struct __ptrace_peeksiginfo_args args = {.nr = 32};
	struct iovec iov = {s->xstate, sizeof(s->xstate)};

	memset(s, 0, sizeof(*s));
	assert_int_equal(task_regs(tid, s->prstatus), 0);
	/*
	 * ppc64's dar, dsisr, result, and the lowest bit of trap, set after a signal's return: what
	 * the kernel has noted of its last entry, not writable.
	 */
	if (arch_host()->elf_machine == EM_PPC64) {
		memset(s->prstatus + 41 * 8, 0, 3 * 8);
		s->prstatus[40 * 8] &= 0xfe;
	}
	iov.iov_base = s->xstate;
	assert_int_equal(ptrace(PTRACE_GETREGSET, tid, arch_inject.frame_notes[0], &iov), 0);
	s->xstate_len = iov.iov_len;
	assert_int_equal(ptrace(PTRACE_GETSIGMASK, tid, 8, &s->mask), 0);
	s->npending = ptrace(PTRACE_PEEKSIGINFO, tid, &args, s->pending);
	args.flags = PTRACE_PEEKSIGINFO_SHARED;
	s->nshared = ptrace(PTRACE_PEEKSIGINFO, tid, &args, s->shared);
	sort_queue(s->pending, s->npending);
	sort_queue(s->shared, s->nshared);
}

static char *read_maps(pid_t pid)
{
	char path[64], *text = calloc(1, 1 << 20);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	return text;
}

/* The stack below the pointer is a signal frame's for a moment. */
static void read_stack(struct task *t, uint8_t *buf, size_t len)
{
	uint64_t sp;
	struct iovec l = {buf, len}, r;

	memcpy(&sp, t->prstatus + arch_host()->sp_off, 8);
	r = (struct iovec){(void *)(uintptr_t)(sp - len), len};
	assert_true(process_vm_readv(t->tid, &l, 1, &r, 1, 0) == (ssize_t)len);
}

/* Which words of NT_PRSTATUS differ, and their values. */
static const char *differ(const uint8_t *before, const uint8_t *after)
{
	static char text[512];
	size_t n = 0;

	snprintf(text, sizeof(text), " the same");
	for (uint32_t i = 0; i + 8 <= ARCH_PRSTATUS_MAX && n + 64 < sizeof(text); i += 8) {
		uint64_t b, a;

		memcpy(&b, before + i, 8);
		memcpy(&a, after + i, 8);
		if (a != b)
			n += (size_t)snprintf(text + n, sizeof(text) - n,
					      " %u: %" PRIx64 " %" PRIx64, i / 8, b, a);
	}
	return text;
}

static struct arch_call big_calls[BATCH_CALLS];
static uint8_t big_data[BATCH_DATA];

static void run_thousand(struct task *task, pid_t pid)
{
	struct batch b;
	struct err err = {0};
	uint64_t buf;
	int uname_at;

	batch_init_big(&b, &remote, big_calls, big_data);
	buf = batch_buf(&b, 6 * 65);
	assert_true(buf != 0);
	for (int i = 0; i < 999; i++)
		assert_int_equal(batch_call(&b, SYS_getpid, 0, 0, 0, 0, 0), i);
	uname_at = batch_call(&b, SYS_uname, buf, 0, 0, 0, 0);
	assert_int_equal(batch_call(&b, SYS_close, (uint64_t)-1, 0, 0, 0, 0), 1000);
	if (remote_run(&remote, &task, &b, 1, &err))
		fail_msg("%s", err.msg);
	for (int i = 0; i < 999; i++)
		assert_int_equal(b.calls[i].ret, pid);
	assert_int_equal(b.calls[uname_at].ret, 0);
	assert_string_equal(batch_data(&b, buf), "Linux");
	assert_int_equal(b.calls[1000].ret, -EBADF);
}

/* gettid in every thread, a thousand calls in one; then all is as before. */
static void check_runs(struct child *c, uint64_t caught)
{
	static struct snapshot before[NTHREADS + 1], after;
	static uint8_t stack[2][4096];
	struct proc *p = freeze(c);
	struct err err = {0};
	char *maps = read_maps(c->pid), *maps_after;

	for (uint32_t i = 0; i < p->ntasks; i++)
		snapshot(&before[i], tree_proc_task(&tree, p, i)->tid);
	read_stack(tree_proc_task(&tree, p, 0), stack[0], sizeof(stack[0]));
	remote.mem_fd = -1;
	if (remote_open(&remote, &tree, p, caught, p->ntasks, &err))
		fail_msg("%s", err.msg);
	for (uint32_t i = 0; i < p->ntasks; i += remote.nslots) {
		static struct arch_call calls[REMOTE_SLOTS][SLOT_CALLS];
		static uint8_t data[REMOTE_SLOTS][SLOT_DATA];
		struct batch b[REMOTE_SLOTS];
		struct task *t[REMOTE_SLOTS] = {NULL};
		unsigned n = 0;

		for (; n < remote.nslots && i + n < p->ntasks; n++) {
			batch_init(&b[n], &remote, n, calls[n], data[n]);
			batch_call(&b[n], SYS_gettid, 0, 0, 0, 0, 0);
			t[n] = tree_proc_task(&tree, p, i + n);
		}
		if (remote_run(&remote, t, b, n, &err))
			fail_msg("%s", err.msg);
		for (unsigned j = 0; j < n; j++)
			assert_int_equal(calls[j][0].ret, t[j]->tid);
	}
	run_thousand(tree_proc_task(&tree, p, p->ntasks - 1), c->pid);
	remote_close(&remote);
	maps_after = read_maps(c->pid);
	assert_string_equal(maps_after, maps);
	for (uint32_t i = 0; i < p->ntasks; i++) {
		assert_false(tree_proc_task(&tree, p, i)->altered);
		snapshot(&after, tree_proc_task(&tree, p, i)->tid);
		if (memcmp(&before[i], &after, sizeof(after)) != 0)
			fail_msg("thread %u is not as it was: registers%s, vectors %d, mask %d, "
				 "queue %d, shared queue %d",
				 i, differ(before[i].prstatus, after.prstatus),
				 memcmp(before[i].xstate, after.xstate, after.xstate_len),
				 before[i].mask != after.mask,
				 memcmp(before[i].pending, after.pending, sizeof(after.pending)),
				 memcmp(before[i].shared, after.shared, sizeof(after.shared)));
	}
	read_stack(tree_proc_task(&tree, p, 0), stack[1], sizeof(stack[1]));
	assert_memory_equal(stack[0], stack[1], sizeof(stack[0]));
	free(maps);
	free(maps_after);
	thaw();
}

static void child_plain(struct child *c)
{
}

static void one_thread(void **state)
{
	struct child c;

	child_start(&c, child_plain);
	for (int i = 0; i < 5; i++)
		check_runs(&c, 0);
	child_next(&c);
	child_end(&c);
}

static void *spin(void *arg)
{
	for (volatile uint64_t *n = arg;; ++*n)
		;
	return NULL;
}

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return NULL;
}

static void child_threads(struct child *c)
{
	pthread_t t;

	pthread_create(&t, NULL, spin, &c->shared[1]);
	for (int i = 1; i < NTHREADS; i++)
		pthread_create(&t, NULL, wait_for_ever, NULL);
}

static void many_threads(void **state)
{
	struct child c;
	uint64_t count;

	child_start(&c, child_threads);
	for (int i = 0; i < 3; i++)
		check_runs(&c, 0);
	count = c.shared[1];
	while (*(volatile uint64_t *)&c.shared[1] == count)
		usleep(1000);
	child_end(&c);
}

/* Signals that could close a run are caught, or pending: they are neither lost nor delivered. */
static void on_signal(int signo)
{
	_exit(96);
}

static void child_signals(struct child *c)
{
	union sigval v = {.sival_int = 4711};
	sigset_t set;

	signal(SIGCHLD, on_signal);
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGURG);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigqueue(getpid(), SIGWINCH, v);
	pthread_sigqueue(pthread_self(), SIGURG, v);
	sigqueue(getpid(), SIGCHLD, v);
	sigqueue(getpid(), SIGRTMIN, v);
	sigqueue(getpid(), SIGRTMIN, v);
}

static void pending_signals(void **state)
{
	struct child c;

	child_start(&c, child_signals);
	check_runs(&c, 1ull << (SIGCHLD - 1));
	check_runs(&c, 0);
	/* None to close with: system call by system call. */
	check_runs(&c, ~0ull);
	child_next(&c);
	child_end(&c);
}

static void child_stopped(struct child *c)
{
	pthread_t t;

	pthread_create(&t, NULL, wait_for_ever, NULL);
	c->shared[0] = 1;
	for (;;)
		raise(SIGSTOP);
}

static void start_stopped(struct child *c)
{
	int status;

	c->shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	c->pid = fork();
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child_stopped(c);
	}
	assert_int_equal(waitpid(c->pid, &status, WUNTRACED), c->pid);
	assert_true(WIFSTOPPED(status));
}

static void job_control(void **state)
{
	struct child c;
	char path[64], text[4096] = "";
	FILE *f;

	start_stopped(&c);
	for (int i = 0; i < 3; i++)
		check_runs(&c, 0);
	/* Stopped it was and stopped it stays, and nobody is told a second time. */
	snprintf(path, sizeof(path), "/proc/%d/status", c.pid);
	for (int i = 0; i < 1000 && !strstr(text, "State:	T"); i++) {
		f = fopen(path, "r");
		assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
		fclose(f);
		usleep(1000);
	}
	assert_non_null(strstr(text, "State:	T"));
	assert_int_equal(waitpid(c.pid, NULL, WUNTRACED | WNOHANG), 0);
	kill(c.pid, SIGKILL);
	waitpid(c.pid, NULL, 0);
}

/* A filter that kills for everything but what the child itself does. */
static void child_seccomp(struct child *c)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(f) / sizeof(f[0]), f};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(95);
}

static void seccomp(void **state)
{
	struct child c;
	struct proc *p;
	struct err err = {0};

	child_start(&c, child_seccomp);
	p = freeze(&c);
	tree_proc_task(&tree, p, 0)->seccomp = true;
	remote.mem_fd = -1;
	if (remote_open(&remote, &tree, p, 0, 1, &err))
		fail_msg("%s", err.msg);
	run_thousand(tree_proc_task(&tree, p, 0), c.pid);
	remote_close(&remote);
	thaw();
	child_next(&c);
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_thread),	   cmocka_unit_test(many_threads),
		cmocka_unit_test(pending_signals), cmocka_unit_test(job_control),
		cmocka_unit_test(seccomp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
