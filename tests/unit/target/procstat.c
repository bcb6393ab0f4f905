/* SPDX-License-Identifier: MIT */
/* What /proc and plain system calls tell of a process and its threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "src/target/collect.h"
#include "src/target/procfs.h"
#include "tests/unit/target/child.h"

enum { DEADLINE = 6 };

struct view {
	struct model *m;
	struct m_proc *p;
	struct err err;
};

static int view_open(struct view *v, pid_t pid)
{
	*v = (struct view){.m = model_new(0)};
	v->p = model_push(v->m, &v->m->procs, &v->m->nprocs, sizeof(*v->p));
	v->p->pid = (uint32_t)pid;
	return proc_collect(v->m, v->p, &v->err);
}

static struct m_thread *view_thread(struct view *v, pid_t tid)
{
	struct m_thread *t =
		model_push(v->m, &v->p->threads, &v->p->nthreads, sizeof(struct m_thread));

	t->tid = (uint32_t)tid;
	assert_int_equal(proc_collect_thread(v->m, v->p, t, &v->err), 0);
	return t;
}

static bool has_finding(const struct view *v, const char *part)
{
	for (uint32_t i = 0; i < v->m->nfindings; i++)
		if (strstr(v->m->findings[i].text, part))
			return true;
	return false;
}

static void be_odd(struct child *c)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	timer_t timer;

	setsid();
	prctl(PR_SET_NAME, "a) R 1 (\n\\");
	personality(ADDR_NO_RANDOMIZE);
	umask(0123);
	ev.sigev_value.sival_ptr = (void *)0x12345678;
	timer_create(CLOCK_MONOTONIC, &ev, &timer);
	ev.sigev_notify = SIGEV_NONE;
	timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &timer);
	c->shared[0] = (uint64_t)syscall(SYS_gettid);
}

static void process_facts(void **state)
{
	struct child c;
	struct view v;
	struct m_ns own;

	child_start(&c, be_odd);
	assert_int_equal(view_open(&v, c.pid), 0);
	assert_int_equal(v.p->ppid, getpid());
	assert_int_equal(v.p->pgid, c.pid);
	assert_int_equal(v.p->sid, c.pid);
	assert_int_equal(v.p->state, M_ALIVE);
	assert_string_equal(v.p->comm, "a) R 1 (\n\\");
	assert_int_equal(v.p->personality, ADDR_NO_RANDOMIZE);
	assert_int_equal(v.p->umask, 0123);
	assert_true(v.p->start_time > 0);
	assert_true(v.p->pf_flags & 0x40); /* PF_FORKNOEXEC */
	assert_non_null(strstr(v.p->cmdline, "procstat"));
	assert_non_null(v.p->cgroups);
	proc_namespaces(0, &own);
	assert_true(own.pid && own.mnt && own.user);
	assert_memory_equal(&own, &v.p->ns, sizeof(own));
	assert_int_equal(v.p->nposix_timers, 2);
	assert_int_equal(v.p->posix_timers[0].signo, SIGUSR1);
	assert_int_equal(v.p->posix_timers[0].sigval, 0x12345678);
	assert_int_equal(v.p->posix_timers[0].notify, SIGEV_SIGNAL);
	assert_int_equal(v.p->posix_timers[0].clock_id, CLOCK_MONOTONIC);
	assert_int_equal(v.p->posix_timers[1].notify, SIGEV_NONE);
	assert_int_not_equal(v.p->posix_timers[0].id, v.p->posix_timers[1].id);
	model_free(v.m);
	child_end(&c);
}

static void state_of_the_caller_is_kept(void **state)
{
	struct child c;
	struct view v;

	child_start(&c, be_odd);
	assert_int_equal(view_open(&v, c.pid), 0);
	v.p->state = M_STOPPED;
	assert_int_equal(proc_collect(v.m, v.p, &v.err), 0);
	assert_int_equal(v.p->state, M_STOPPED);
	model_free(v.m);
	child_end(&c);
}

static void set_numbers(struct child *c)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);

	c->shared[0] = fd >= 0 && write(fd, "777", 3) == 3;
	close(fd);
}

static void numbers_of_proc(void **state)
{
	char text[32] = "4294967295";
	struct child c;
	struct view v;

	child_start(&c, set_numbers);
	assert_int_equal(view_open(&v, c.pid), 0);
	assert_int_equal(c.shared[0], 1);
	assert_int_equal(v.p->oom_score_adj, 777);
	procfs_read(text, sizeof(text), "/proc/%d/loginuid", c.pid);
	assert_int_equal(v.p->loginuid, strtoul(text, NULL, 10));
	model_free(v.m);
	child_end(&c);
}

static void die(struct child *c)
{
	pid_t pid = fork();

	if (!pid)
		_exit(200);
	c->shared[0] = (uint64_t)pid;
	pid = fork();
	if (!pid)
		raise(SIGKILL);
	c->shared[1] = (uint64_t)pid;
	while (c->shared[2] < 2) {
		siginfo_t si;

		if (waitid(P_PID, (id_t)c->shared[c->shared[2]], &si, WEXITED | WNOWAIT) == 0)
			c->shared[2]++;
	}
}

static void zombies(void **state)
{
	struct child c;
	struct view v;

	child_start(&c, die);
	assert_int_equal(view_open(&v, (pid_t)c.shared[0]), 0);
	assert_int_equal(v.p->state, M_DEAD);
	assert_int_equal(v.p->exit_code, 200 << 8);
	assert_int_equal(v.p->ppid, c.pid);
	assert_true(*v.p->comm);
	model_free(v.m);
	assert_int_equal(view_open(&v, (pid_t)c.shared[1]), 0);
	assert_int_equal(v.p->state, M_DEAD);
	assert_int_equal(v.p->exit_code, SIGKILL);
	model_free(v.m);
	child_end(&c);
	assert_int_equal(view_open(&v, c.pid), -ESRCH);
	assert_int_equal(v.err.class, ERR_TARGET_GONE);
	model_free(v.m);
}

static void *idle(void *arg)
{
	struct child *c = arg;

	c->shared[1] = (uint64_t)syscall(SYS_gettid);
	for (;;)
		pause();
	return NULL;
}

enum { NGROUPS = 1000 };

static void set_thread(struct child *c)
{
	static gid_t groups[NGROUPS];
	struct sched_param sp = {.sched_priority = 0};
	cpu_set_t cpu;
	pthread_t t;

	pthread_create(&t, NULL, idle, c);
	while (!__atomic_load_n(&c->shared[1], __ATOMIC_ACQUIRE))
		sched_yield();
	/* glibc would do these to all threads. */
	for (int i = 0; i < NGROUPS; i++)
		groups[i] = (gid_t)(70000 + i);
	syscall(SYS_setgroups, NGROUPS, groups);
	sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &sp);
	syscall(SYS_setpriority, PRIO_PROCESS, syscall(SYS_gettid), 7);
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	prctl(PR_SET_TIMERSLACK, 123456);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_NAME, "one\ntwo");
	prctl(PR_CAPBSET_DROP, 3);
	syscall(SYS_setresgid, 11, 12, 13);
	syscall(SYS_setresuid, 21, 22, 23);
	/* uid changes make a process undumpable, and its /proc somebody else's. */
	prctl(PR_SET_DUMPABLE, 1);
	c->shared[0] = (uint64_t)syscall(SYS_gettid);
}

static void check_changed_thread(const struct m_thread *t)
{
	assert_string_equal(t->comm, "one\ntwo");
	assert_int_equal(t->creds.uid, 21);
	assert_int_equal(t->creds.euid, 22);
	assert_int_equal(t->creds.suid, 23);
	assert_int_equal(t->creds.fsuid, 22);
	assert_int_equal(t->creds.gid, 11);
	assert_int_equal(t->creds.egid, 12);
	assert_int_equal(t->creds.sgid, 13);
	assert_int_equal(t->creds.ngroups, NGROUPS);
	for (int i = 0; i < NGROUPS; i++)
		assert_int_equal(t->creds.groups[i], 70000 + i);
	assert_false(t->creds.cap_bnd >> 3 & 1);
	assert_true(t->creds.cap_bnd & 1);
	assert_int_equal(t->creds.cap_eff, 0);
	assert_int_equal(t->creds.no_new_privs, 1);
	assert_int_equal(t->policy, SCHED_BATCH | SCHED_RESET_ON_FORK);
	assert_int_equal(t->nice, 7);
	assert_true(t->affinity_len >= 8);
	assert_int_equal(t->affinity[0], 1);
	for (uint32_t i = 1; i < t->affinity_len; i++)
		assert_int_equal(t->affinity[i], 0);
	assert_int_equal(t->sched_runtime_ns, 0);
}

static void thread_facts(void **state)
{
	struct child c;
	struct view v;
	struct m_thread *t;

	if (geteuid() != 0)
		skip();
	child_start(&c, set_thread);
	assert_int_equal(view_open(&v, c.pid), 0);
	check_changed_thread(view_thread(&v, (pid_t)c.shared[0]));
	t = view_thread(&v, (pid_t)c.shared[1]);
	assert_int_equal(t->creds.uid, 0);
	assert_true(t->creds.cap_bnd >> 3 & 1);
	assert_int_equal(t->creds.no_new_privs, 0);
	assert_int_equal(t->nice, getpriority(PRIO_PROCESS, 0));
	assert_int_equal(t->policy, SCHED_OTHER);
	assert_true(t->robust_addr && t->robust_len == 24);
	assert_int_equal(t->seccomp_mode, 0);
	assert_int_equal(v.m->nfindings, 0);
	proc_collect_slack(v.p);
	assert_int_equal(v.p->threads[0].timerslack_ns, 123456);
	assert_int_equal(v.p->threads[1].timerslack_ns, 50000);
	model_free(v.m);
	child_end(&c);
}

static void be_realtime(struct child *c)
{
	struct sched_param sp = {.sched_priority = 5};

	c->shared[0] = sched_setscheduler(0, SCHED_FIFO, &sp) == 0;
	setpriority(PRIO_PROCESS, 0, -3);
}

static void be_deadline(struct child *c)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} a = {.size = 48,
	       .policy = DEADLINE,
	       .runtime = 1000000,
	       .deadline = 20000000,
	       .period = 100000000};

	c->shared[0] = syscall(SYS_sched_setattr, 0, &a, 0) == 0;
}

static void real_time(void **state)
{
	struct child c;
	struct view v;
	struct m_thread *t;

	child_start(&c, be_realtime);
	assert_int_equal(view_open(&v, c.pid), 0);
	t = view_thread(&v, c.pid);
	if (c.shared[0]) {
		assert_int_equal(t->policy, SCHED_FIFO);
		assert_int_equal(t->rt_priority, 5);
		assert_int_equal(t->nice, -3);
	}
	model_free(v.m);
	child_end(&c);

	child_start(&c, be_deadline);
	assert_int_equal(view_open(&v, c.pid), 0);
	t = view_thread(&v, c.pid);
	if (c.shared[0]) {
		assert_int_equal(t->policy, DEADLINE);
		assert_int_equal(t->sched_runtime_ns, 1000000);
		assert_int_equal(t->sched_deadline_ns, 20000000);
		assert_int_equal(t->sched_period_ns, 100000000);
	}
	model_free(v.m);
	child_end(&c);
}

static void *loner(void *arg)
{
	struct child *c = arg;

	if (unshare(CLONE_FILES | CLONE_FS))
		_exit(96);
	__atomic_store_n(&c->shared[1], (uint64_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	for (;;)
		pause();
	return NULL;
}

static void unshare_thread(struct child *c)
{
	pthread_t t;

	pthread_create(&t, NULL, loner, c);
	while (!__atomic_load_n(&c->shared[1], __ATOMIC_ACQUIRE))
		sched_yield();
}

static void thread_with_own_tables(void **state)
{
	struct child c;
	struct view v;

	child_start(&c, unshare_thread);
	assert_int_equal(view_open(&v, c.pid), 0);
	view_thread(&v, c.pid);
	assert_int_equal(v.m->nfindings, 0);
	view_thread(&v, (pid_t)c.shared[1]);
	assert_int_equal(v.m->nfindings, 2);
	assert_true(has_finding(&v, "descriptor table of its own"));
	assert_true(has_finding(&v, "working directory of its own"));
	model_free(v.m);
	child_end(&c);
}

static void *last_thread(void *arg)
{
	struct child *c = arg;

	c->shared[0] = (uint64_t)syscall(SYS_gettid);
	child_sync(c);
	for (;;)
		pause();
	return NULL;
}

static void main_thread_exits(struct child *c)
{
	pthread_t t;

	pthread_create(&t, NULL, last_thread, c);
	pthread_exit(NULL);
}

static void main_thread_gone(void **state)
{
	struct procfs_stat st;
	struct child c;
	struct view v;

	child_start(&c, main_thread_exits);
	do {
		sched_yield();
	} while (procfs_stat(c.pid, 0, &st) == 0 && st.state != 'Z');
	assert_int_equal(proc_viewer(c.pid), (pid_t)c.shared[0]);
	assert_int_equal(view_open(&v, c.pid), 0);
	assert_int_equal(v.p->state, M_ALIVE);
	assert_true(v.p->ns.mnt);
	view_thread(&v, c.pid);
	view_thread(&v, (pid_t)c.shared[0]);
	assert_int_equal(v.m->nfindings, 0);
	model_free(v.m);
	child_end(&c);
	assert_int_equal(proc_viewer(c.pid), -ESRCH);
}

static void *forker(void *arg)
{
	struct child *c = arg;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	__atomic_store_n(&c->shared[1], (uint64_t)pid, __ATOMIC_RELEASE);
	for (;;)
		pause();
	return NULL;
}

static void fork_two(struct child *c)
{
	pthread_t t;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	c->shared[0] = (uint64_t)pid;
	pthread_create(&t, NULL, forker, c);
	while (!__atomic_load_n(&c->shared[1], __ATOMIC_ACQUIRE))
		sched_yield();
}

static void children_of_all_threads(void **state)
{
	pid_t pids[4] = {0};
	struct child c;

	child_start(&c, fork_two);
	assert_int_equal(proc_children(c.pid, pids, 4), 2);
	assert_true((pids[0] == (pid_t)c.shared[0] && pids[1] == (pid_t)c.shared[1]) ||
		    (pids[1] == (pid_t)c.shared[0] && pids[0] == (pid_t)c.shared[1]));
	pids[1] = 0;
	assert_int_equal(proc_children(c.pid, pids, 1), 2);
	assert_int_equal(pids[1], 0);
	kill((pid_t)c.shared[0], SIGKILL);
	kill((pid_t)c.shared[1], SIGKILL);
	child_end(&c);
	assert_int_equal(proc_children(c.pid, pids, 4), -ESRCH);
}

static void burn(struct child *c)
{
	struct timespec t;

	do {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	} while (t.tv_nsec < 60000000 && !t.tv_sec);
}

static void times(void **state)
{
	struct child c;
	struct view v;
	struct m_thread *t;

	child_start(&c, burn);
	assert_int_equal(view_open(&v, c.pid), 0);
	t = view_thread(&v, c.pid);
	assert_in_range(t->utime_us + t->stime_us, 30000, 1000000);
	model_free(v.m);
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(process_facts),
		cmocka_unit_test(state_of_the_caller_is_kept),
		cmocka_unit_test(numbers_of_proc),
		cmocka_unit_test(zombies),
		cmocka_unit_test(thread_facts),
		cmocka_unit_test(real_time),
		cmocka_unit_test(thread_with_own_tables),
		cmocka_unit_test(main_thread_gone),
		cmocka_unit_test(children_of_all_threads),
		cmocka_unit_test(times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
