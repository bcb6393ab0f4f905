/* SPDX-License-Identifier: MIT */
/* Attributes of threads and of what they share, put into a child and collected again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/unit/target/stub.h"

enum { NTHREADS = 40, AREA = 16384 };

/* Mapped before the fork: what the child's threads register is known to the test. */
static uint8_t *areas;

static unsigned awake;

static void *wait_for_ever(void *arg)
{
	__atomic_add_fetch(&awake, 1, __ATOMIC_RELAXED);
	for (;;)
		pause();
	return NULL;
}

static void child_threads(struct child *c)
{
	pthread_t t;

	for (int i = 1; i < NTHREADS; i++)
		pthread_create(&t, NULL, wait_for_ever, NULL);
	/* The C library is done with them then: it would find its rseq area to be another one. */
	while (__atomic_load_n(&awake, __ATOMIC_RELAXED) < NTHREADS - 1)
		usleep(1000);
}

static uint64_t area(uint32_t i)
{
	return (uint64_t)(uintptr_t)areas + (uint64_t)i * AREA;
}

/* Everything different from thread to thread. */
static void invent_thread(struct m_thread *t, uint32_t i)
{
	snprintf(t->comm, sizeof(t->comm), "put \t%u", i);
	t->robust_addr = area(i) + 512;
	t->robust_len = 24;
	t->clear_tid_addr = area(i) + 256;
	t->altstack_addr = area(i) + 1024;
	/* Enough on every CPU: 8192 is the least on ppc64le (MINSIGSTKSZ). */
	t->altstack_len = 8192 + 16 * i;
	t->altstack_flags = i % 3 == 1 ? 1u << 31 /* SS_AUTODISARM */ : 0;
	t->rseq = (struct m_rseq){.addr = area(i), .len = 32, .signature = 0x1000 + i};
	t->timerslack_ns = 100000 + i;
	t->nice = (int32_t)(i % 10);
	t->policy = i % 4 == 3 ? SCHED_BATCH : i % 4 == 2 ? SCHED_IDLE : SCHED_OTHER;
}

/* SCHED_DEADLINE is not to be had everywhere. */
static bool may_have(const struct m_thread *t)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = sizeof(attr),
		  .policy = t->policy,
		  .priority = t->rt_priority,
		  .runtime = t->sched_runtime_ns,
		  .deadline = t->sched_deadline_ns,
		  .period = t->sched_period_ns};
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(syscall(SYS_sched_setattr, 0, &attr, 0) != 0);
	waitpid(pid, &status, 0);
	return status == 0;
}

/* The lowest of the CPUs it may run on, alone. */
static void pin(struct m_thread *t)
{
	bool found = false;

	for (uint32_t i = 0; i < t->affinity_len; i++) {
		t->affinity[i] = found ? 0 : t->affinity[i] & -t->affinity[i];
		found = found || t->affinity[i];
	}
}

static void same_thread(const struct m_thread *a, const struct m_thread *b)
{
	assert_string_equal(a->comm, b->comm);
	assert_true(a->robust_addr == b->robust_addr && a->robust_len == b->robust_len);
	assert_true(a->clear_tid_addr == b->clear_tid_addr);
	assert_true(a->altstack_addr == b->altstack_addr && a->altstack_len == b->altstack_len);
	assert_int_equal(a->altstack_flags, b->altstack_flags);
	assert_true(a->rseq.addr == b->rseq.addr && a->rseq.len == b->rseq.len);
	assert_int_equal(a->rseq.signature, b->rseq.signature);
	assert_true(a->timerslack_ns == b->timerslack_ns);
	assert_int_equal(a->nice, b->nice);
	assert_int_equal(a->policy, b->policy);
	assert_int_equal(a->rt_priority, b->rt_priority);
	assert_true(a->sched_runtime_ns == b->sched_runtime_ns);
}

static void threads(void **state)
{
	struct stub stub, *s = &stub;
	struct m_proc *p, *again;
	uint32_t old;

	areas = mmap(NULL, NTHREADS * AREA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	stub_start(s, child_threads);
	p = s->p;
	assert_int_equal(p->nthreads, NTHREADS);
	old = p->threads[0].rseq.len;
	for (uint32_t i = 0; i < NTHREADS; i++)
		invent_thread(&p->threads[i], i);
	p->threads[3].policy = SCHED_RR | SCHED_RESET_ON_FORK;
	p->threads[3].rt_priority = 7;
	p->threads[5].policy = 6; /* SCHED_DEADLINE */
	p->threads[5].sched_runtime_ns = 1000000;
	p->threads[5].sched_deadline_ns = p->threads[5].sched_period_ns = 100000000;
	if (!may_have(&p->threads[5]))
		p->threads[5].policy = SCHED_OTHER, p->threads[5].sched_runtime_ns = 0;
	p->threads[4].altstack_len = 0;
	p->threads[4].altstack_flags = SS_DISABLE;
	p->threads[4].altstack_addr = 0;
	p->threads[6].rseq = (struct m_rseq){0};
	/* The saved stack pointer on the alternate stack is none of its business. */
	p->threads[7].altstack_addr = p->threads[7].sp - 1280;
	pin(&p->threads[8]);
	OK(put_threads(&s->r, p, &s->err));
	OK(put_sched(&s->r, p, &s->err));
	again = stub_collect(s);
	for (uint32_t i = 0; i < NTHREADS; i++) {
		/* What real-time threads have of it, they do not tell. */
		if (i == 3 || i == 5)
			again->threads[i].timerslack_ns = p->threads[i].timerslack_ns;
		same_thread(&p->threads[i], &again->threads[i]);
	}
	assert_memory_equal(again->threads[8].affinity, p->threads[8].affinity,
			    p->threads[8].affinity_len);
	/* A second time, now that all of it is in use. */
	OK(put_threads(&s->r, p, &s->err));
	OK(put_sched(&s->r, p, &s->err));
	p->threads[0].rseq = (struct m_rseq){0};
	OK(put_threads(&s->r, p, &s->err));
	stub_thaw(s);
	/* On their way to user mode the kernel wrote the CPU number, and did not to the dropped
	 * one. */
	usleep(20000);
	assert_true(old != 0);
	for (uint32_t i = 10; i < NTHREADS; i++) {
		const struct rseq *rs = (const struct rseq *)(const void *)(areas + i * AREA);

		assert_true(__atomic_load_n(&rs->cpu_id, __ATOMIC_RELAXED) < 4096);
	}
	child_end(&s->c);
	munmap(areas, NTHREADS * AREA);
}

static void wrong_threads(void **state)
{
	struct stub stub, *s = &stub;
	uint8_t far[64] = {[40] = 0x0f, [63] = 0x80};
	struct m_thread *t, good;

	stub_start(s, child_threads);
	t = &s->p->threads[2];
	good = *t;
	t->robust_len = 25, t->robust_addr = 16;
	FAILS(put_threads(&s->r, s->p, &s->err), "robust list");
	*t = good;
	t->altstack_len = 1, t->altstack_addr = 4096, t->altstack_flags = 0;
	FAILS(put_threads(&s->r, s->p, &s->err), "alternate stack");
	*t = good;
	t->rseq = (struct m_rseq){.addr = ~0ull - 31, .len = 32};
	FAILS(put_threads(&s->r, s->p, &s->err), "restartable sequence");
	t->rseq = (struct m_rseq){.addr = good.rseq.addr + 1, .len = 32};
	FAILS(put_threads(&s->r, s->p, &s->err), "restartable sequence");
	*t = good;
	t->affinity = far, t->affinity_len = sizeof(far);
	FAILS(put_sched(&s->r, s->p, &s->err), "CPU 320-323,511 only");
	t->affinity = calloc(1 << 10, 1);
	memset(t->affinity + 128, 0xaa, 800);
	t->affinity_len = 1 << 10;
	FAILS(put_sched(&s->r, s->p, &s->err), "...");
	free(t->affinity);
	*t = good;
	t->policy = SCHED_FIFO, t->rt_priority = 100;
	FAILS(put_sched(&s->r, s->p, &s->err), "scheduling policy");
	t->policy = 77;
	FAILS(put_sched(&s->r, s->p, &s->err), "scheduling policy");
	t->policy = 6, t->sched_runtime_ns = ~0ull;
	FAILS(put_sched(&s->r, s->p, &s->err), "scheduling policy");
	*t = good;
	t->nice = INT32_MIN;
	FAILS(put_sched(&s->r, s->p, &s->err), "nice value");
	*t = good;
	t->tid++;
	FAILS(put_threads(&s->r, s->p, &s->err), "should be");
	*t = good;
	s->p->nthreads--;
	FAILS(put_sched(&s->r, s->p, &s->err), "should have");
	stub_kill(s);
}

/* On a CPU that has none it fails, and leaves the limit of stacks as it was. */
static void shadow_stacks(void **state)
{
	struct stub stub, *s = &stub;
	struct rlimit before, after;
	struct m_thread *t;

	stub_start(s, child_threads);
	t = &s->p->threads[2];
	OK(put_shadow(&s->r, s->p, &s->err));
	t->shadow = 4;
	FAILS(put_shadow(&s->r, s->p, &s->err), "0x4 and 0 of a shadow stack");
	t->shadow = 0, t->shadow_locked = 1u << 31;
	FAILS(put_shadow(&s->r, s->p, &s->err), "of a shadow stack");
	t->shadow = 1, t->shadow_locked = 1;
	assert_int_equal(prlimit(s->c.pid, RLIMIT_STACK, NULL, &before), 0);
	if (put_shadow(&s->r, s->p, &s->err) < 0) {
		assert_non_null(strstr(s->err.msg, "shadow stack"));
		err_clear(&s->err);
	} else {
		t = &stub_collect(s)->threads[2];
		assert_int_equal(t->shadow, 1);
		assert_int_equal(t->shadow_locked, 1);
	}
	assert_int_equal(prlimit(s->c.pid, RLIMIT_STACK, NULL, &after), 0);
	assert_memory_equal(&before, &after, sizeof(before));
	stub_kill(s);
}

/* --- what threads share --------------------------------------------------------------------- */

static void child_plain(struct child *c)
{
}

static void process(void **state)
{
	struct stub stub, *s = &stub;
	struct m_proc *again;

	stub_start(s, child_plain);
	s->p->umask = 0137;
	s->p->personality = ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC;
	s->p->child_subreaper = true;
	s->p->mm.thp_disabled = true;
	s->p->membarrier = MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED |
			   MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED;
	s->p->oom_score_adj = 300;
	OK(put_thp(&s->r, s->p, &s->err));
	OK(put_process(&s->r, s->p, &s->err));
	OK(put_oom_score(s->p, &s->err));
	OK(put_loginuid(&s->r, s->p, &s->err));
	again = stub_collect(s);
	assert_int_equal(again->umask, 0137);
	assert_int_equal(again->personality, s->p->personality);
	assert_true(again->child_subreaper);
	assert_true(again->mm.thp_disabled);
	/* Linux 6.3 tells. */
	if (again->membarrier)
		assert_true(again->membarrier == s->p->membarrier);
	assert_int_equal(again->oom_score_adj, 300);
	assert_int_equal(again->loginuid, s->p->loginuid);
	s->p->child_subreaper = s->p->mm.thp_disabled = false;
	OK(put_thp(&s->r, s->p, &s->err));
	OK(put_process(&s->r, s->p, &s->err));
	again = stub_collect(s);
	assert_false(again->child_subreaper || again->mm.thp_disabled);
	s->p->personality = 0xffffffff;
	FAILS(put_process(&s->r, s->p, &s->err), "personality");
	s->p->personality = 0;
	s->p->membarrier = 1;
	FAILS(put_process(&s->r, s->p, &s->err), "membarrier");
	s->p->oom_score_adj = 5000;
	FAILS(put_oom_score(s->p, &s->err), "oom_score_adj");
	stub_kill(s);
}

static void limits(void **state)
{
	struct stub stub, *s = &stub;
	struct m_rlimit had[M_NRLIMITS], *want;
	struct m_proc *again;

	stub_start(s, child_plain);
	want = s->p->rlimits;
	memcpy(had, want, sizeof(had));
	want[RLIMIT_NOFILE] = (struct m_rlimit){17, 99};
	want[RLIMIT_CORE] = (struct m_rlimit){0, had[RLIMIT_CORE].max};
	want[RLIMIT_CPU] = (struct m_rlimit){5000, UINT64_MAX};
	OK(put_limits_raise(&s->r, s->p, &s->err));
	again = stub_collect(s);
	assert_memory_equal(again->rlimits, had, sizeof(had));
	OK(put_limits_lower(&s->r, s->p, &s->err));
	again = stub_collect(s);
	assert_memory_equal(again->rlimits, want, sizeof(had));
	/* The soft one may go up again, the hard one by a privilege. */
	want[RLIMIT_NOFILE].cur = 50;
	OK(put_limits_raise(&s->r, s->p, &s->err));
	want[RLIMIT_NOFILE].max = 100;
	if (put_limits_raise(&s->r, s->p, &s->err) < 0) {
		assert_non_null(strstr(s->err.msg, "RLIMIT_NOFILE"));
		assert_non_null(strstr(s->err.hint, "CAP_SYS_RESOURCE"));
		err_clear(&s->err);
	}
	want[RLIMIT_NOFILE] = (struct m_rlimit){90, 80};
	FAILS(put_limits_lower(&s->r, s->p, &s->err), "RLIMIT_NOFILE");
	/* Not known. */
	memset(want, 0, sizeof(had));
	OK(put_limits_raise(&s->r, s->p, &s->err));
	OK(put_limits_lower(&s->r, s->p, &s->err));
	again = stub_collect(s);
	assert_true(again->rlimits[RLIMIT_STACK].max == had[RLIMIT_STACK].max);
	stub_kill(s);
}

static int cwd_fd, root_fd, exe_fd;

static void child_directories(struct child *c)
{
	char path[64];
	struct stat a, b;

	child_sync(c);
	/* Moved in the meantime. */
	if (!getcwd(path, sizeof(path)) || strcmp(path, "/self") != 0)
		_exit(91);
	if (stat("/", &a) || fstat(root_fd, &b) || a.st_ino != b.st_ino)
		_exit(92);
}

static void directories(void **state)
{
	struct stub stub, *s = &stub;
	char has[256] = "", want[256], dir[128];
	uint64_t auxv[4] = {6, 4096, 0, 0};
	struct m_proc *again;

	snprintf(dir, sizeof(dir), "%s/putXXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(mkdir("top", 0755) + mkdir("top/self", 0755), 0);
	exe_fd = open("/proc/self/exe", O_RDONLY);
	root_fd = open("top", O_PATH | O_DIRECTORY);
	cwd_fd = open("top/self", O_RDONLY | O_DIRECTORY);
	stub_start(s, child_directories);
	s->p->mm = (struct m_mm){.start_code = (uint64_t)(uintptr_t)&cwd_fd};
	FAILS(put_mm(&s->r, s->p, -1, &s->err), "memory layout");
	again = stub_collect(s);
	s->p->mm.start_brk = s->p->mm.brk = again->mm.brk;
	s->p->mm.end_code = s->p->mm.start_data = s->p->mm.end_data = s->p->mm.start_code + 1;
	s->p->mm.start_stack = s->p->mm.arg_start = s->p->mm.arg_end = s->p->mm.env_start =
		s->p->mm.env_end = (uint64_t)(uintptr_t)has;
	s->p->mm.arg_end += 5;
	s->p->mm.auxv = auxv;
	s->p->mm.nauxv = 4;
	OK(put_mm(&s->r, s->p, -1, &s->err));
	assert_true(procfs_read(has, sizeof(has), "/proc/%d/auxv", s->c.pid) >= 32);
	assert_memory_equal(has, auxv, sizeof(auxv));
	/* Its own executable is mapped: no other one may take its place. */
	FAILS(put_mm(&s->r, s->p, cwd_fd, &s->err), "executable changed");
	s->p->mm.nauxv = 0x20000000;
	FAILS(put_mm(&s->r, s->p, -1, &s->err), "auxv");
	s->p->mm.nauxv = 4;
	s->p->mm.brk = 0;
	FAILS(put_mm(&s->r, s->p, -1, &s->err), "memory layout");
	FAILS(put_directories(&s->r, 1000000, -1, &s->err), "working directory");
	FAILS(put_directories(&s->r, -1, exe_fd, &s->err), "root directory");
	OK(put_directories(&s->r, cwd_fd, root_fd, &s->err));
	procfs_link(has, sizeof(has), "/proc/%d/cwd", s->c.pid);
	assert_non_null(getcwd(want, sizeof(want) - 16));
	strcat(want, "/top/self");
	assert_string_equal(has, want);
	stub_thaw(s);
	child_next(&s->c);
	child_end(&s->c);
	rmdir("top/self");
	rmdir("top");
	rmdir(dir);
}

int main(void)
{
	const struct m_thread rr = {.policy = SCHED_RR, .rt_priority = 1};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads),	 cmocka_unit_test(wrong_threads),
		cmocka_unit_test(shadow_stacks), cmocka_unit_test(process),
		cmocka_unit_test(limits),	 cmocka_unit_test(directories),
	};

	if (geteuid() != 0 || !may_have(&rr)) {
		printf("needs root and CAP_SYS_NICE\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
