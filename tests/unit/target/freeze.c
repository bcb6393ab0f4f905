/* SPDX-License-Identifier: MIT */
/* Freeze and thaw through the guardian: trees, storms, stopped and dying processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "src/target/target.h"
#include "tests/unit/target/child.h"

static struct model *model;
static struct target *target;
static struct err err;

static void open_target(pid_t pid, unsigned timeout_ms)
{
	struct target_opts opts = {.freeze_timeout_ms = timeout_ms};

	err_clear(&err);
	model = model_new(MODEL_SHARED);
	target = target_open(pid, model, &opts, &err);
	if (!target)
		fail_msg("%s", err.msg);
}

static void ok(int ret)
{
	if (ret)
		fail_msg("%d: %s", err.class, err.msg);
}

static void release(void)
{
	target_release(target);
	model_free(model);
}

static char state_of(pid_t pid, pid_t *ret_tracer)
{
	char path[64], line[256], state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "State: %c", &state);
		sscanf(line, "TracerPid: %d", ret_tracer);
	}
	fclose(f);
	return state;
}

/* The word keeps changing, and nobody traces. */
static void assert_runs(struct child *c, int word)
{
	volatile uint64_t *p = &c->shared[word];
	uint64_t before = *p;
	pid_t tracer = 0;

	for (int ms = 0; *p == before && ms < 20000; ms++)
		usleep(1000);
	assert_true(*p != before);
	state_of(c->pid, &tracer);
	assert_int_equal(tracer, 0);
}

/* --- a tree --------------------------------------------------------------------------------- */

static void count_for_ever(uint64_t *word)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		++*(volatile uint64_t *)word;
		usleep(1000);
	}
}

static void child_tree(struct child *c)
{
	for (int i = 1; i < 4; i++)
		if (fork() == 0) {
			if (i == 2 && fork() == 0)
				count_for_ever(&c->shared[10]);
			count_for_ever(&c->shared[i]);
		}
	if (fork() == 0)
		_exit(42);
	if (fork() == 0) {
		raise(SIGSTOP);
		count_for_ever(&c->shared[11]);
	}
	while (!c->shared[1] || !c->shared[2] || !c->shared[3] || !c->shared[10])
		usleep(1000);
	usleep(20000);
}

/* Frozen and collected: not one of its @n words has changed since. */
static void collect_still(const struct child *c, size_t n)
{
	uint64_t words[12];

	assert_in_range(n, 1, 12);
	open_target(c->pid, 0);
	ok(target_freeze(target, &err));
	memcpy(words, c->shared, n * sizeof(words[0]));
	ok(target_collect(target, &err));
	usleep(20000);
	assert_memory_equal(words, c->shared, n * sizeof(words[0]));
}

static void whole_tree(void **state)
{
	unsigned zombies = 0, stopped = 0, live = 0;
	struct child c;

	child_start(&c, child_tree);
	collect_still(&c, 12);
	assert_int_equal(model->nprocs, 7);
	assert_int_equal(model->procs[0].pid, c.pid);
	for (uint32_t i = 0; i < model->nprocs; i++) {
		const struct m_proc *p = &model->procs[i];

		zombies += p->state == M_DEAD;
		stopped += p->state == M_STOPPED;
		live += p->state == M_ALIVE;
		if (i)
			assert_true(model_proc(model, p->ppid) < p && model_proc(model, p->ppid));
		if (p->state == M_DEAD)
			assert_int_equal(p->exit_code, 42 << 8);
		if (p->state == M_STOPPED)
			assert_int_equal(p->stop_signo, SIGSTOP);
	}
	assert_true(zombies == 1 && stopped == 1 && live == 5);
	assert_int_equal(target_times(target)->nprocs, 6);
	ok(target_alive(target, &err));
	ok(target_thaw(target, TARGET_RUN, &err));
	for (int i = 1; i < 4; i++)
		assert_runs(&c, i);
	assert_runs(&c, 10);
	assert_int_equal(c.shared[11], 0);
	release();
	child_end(&c);
}

static void *bears(void *arg)
{
	uint64_t *words = arg;

	if (fork() == 0) {
		if (fork() == 0)
			count_for_ever(&words[2]);
		count_for_ever(&words[1]);
	}
	for (;;)
		pause();
	return NULL;
}

static void child_of_a_thread(struct child *c)
{
	pthread_t t;

	pthread_create(&t, NULL, bears, c->shared);
	while (!c->shared[1] || !c->shared[2])
		usleep(1000);
}

/* Each thread has children of its own, and is asked for them when it has stopped. */
static void born_of_threads(void **state)
{
	struct child c;

	child_start(&c, child_of_a_thread);
	collect_still(&c, 3);
	assert_int_equal(target_times(target)->nprocs, 3);
	ok(target_thaw(target, TARGET_RUN, &err));
	assert_runs(&c, 1);
	assert_runs(&c, 2);
	release();
	child_end(&c);
}

static void child_counter(struct child *c)
{
	if (fork() == 0)
		count_for_ever(&c->shared[1]);
}

static void left_stopped(void **state)
{
	pid_t tracer;
	struct child c;

	child_start(&c, child_counter);
	open_target(c.pid, 0);
	ok(target_freeze(target, &err));
	ok(target_thaw(target, TARGET_STOPPED, &err));
	release();
	for (int ms = 0; state_of(c.pid, &tracer) != 'T' && ms < 10000; ms++)
		usleep(1000);
	assert_int_equal(state_of(c.pid, &tracer), 'T');
	assert_int_equal(tracer, 0);
	child_end(&c);
}

static void killed(void **state)
{
	struct child c;
	int status;

	child_start(&c, child_counter);
	open_target(c.pid, 0);
	ok(target_freeze(target, &err));
	ok(target_thaw(target, TARGET_KILL, &err));
	release();
	assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	child_end(&c);
}

/* --- the unexpected ------------------------------------------------------------------------- */

static void killed_by_others(void **state)
{
	struct child c;
	int status;

	child_start(&c, child_counter);
	open_target(c.pid, 0);
	ok(target_freeze(target, &err));
	kill(c.pid, SIGKILL);
	/* Its parent hears of it while the rest of the tree is frozen. */
	assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
	assert_int_equal(target_alive(target, &err), -ESRCH);
	assert_int_equal(err.class, ERR_TARGET_GONE);
	release();
	child_end(&c);
}

static pid_t guardian_of(pid_t pid)
{
	pid_t tracer = 0;

	state_of(pid, &tracer);
	return tracer;
}

static void guardian_dies(void **state)
{
	struct child c;

	child_start(&c, child_counter);
	open_target(c.pid, 0);
	ok(target_freeze(target, &err));
	kill(guardian_of(c.pid), SIGKILL);
	assert_true(target_collect(target, &err) < 0);
	assert_int_equal(err.class, ERR_GUARDIAN);
	err_clear(&err);
	assert_true(target_thaw(target, TARGET_RUN, &err) < 0);
	assert_int_equal(err.class, ERR_GUARDIAN);
	release();
	assert_runs(&c, 1);
	child_end(&c);
}

static void guardian_ignores_signals(void **state)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1};
	struct child c;

	child_start(&c, child_counter);
	open_target(c.pid, 0);
	ok(target_freeze(target, &err));
	for (unsigned i = 0; i < sizeof(signals) / sizeof(int); i++)
		kill(guardian_of(c.pid), signals[i]);
	assert_true(getsid(guardian_of(c.pid)) != getsid(0));
	ok(target_collect(target, &err));
	release();
	assert_runs(&c, 1);
	child_end(&c);
}

/* The turn is ours; who cannot see that finds the process traced. */
static void traced_by_others(void **state)
{
	struct model *m2 = model_new(MODEL_SHARED);
	struct err e2 = {0};
	struct target *t2;
	struct child c;
	char us[32];
	int net;

	child_start(&c, child_counter);
	open_target(c.pid, 0);
	snprintf(us, sizeof(us), "(stasis, pid %d)", getpid());
	assert_true(target_precheck(c.pid, &e2) < 0);
	assert_int_equal(e2.class, ERR_TRACED);
	assert_non_null(strstr(e2.msg, us));
	err_clear(&e2);
	assert_null(target_open(c.pid, m2, NULL, &e2));
	assert_int_equal(e2.class, ERR_TRACED);
	assert_non_null(strstr(e2.msg, "another dump"));
	assert_non_null(strstr(e2.msg, us));
	ok(target_freeze(target, &err));
	net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (net >= 0 && unshare(CLONE_NEWNET) == 0) {
		err_clear(&e2);
		t2 = target_open(c.pid, m2, NULL, &e2);
		assert_non_null(t2);
		assert_true(target_freeze(t2, &e2) < 0);
		assert_int_equal(e2.class, ERR_TRACED);
		assert_non_null(strstr(e2.msg, "another dump"));
		assert_non_null(strstr(e2.msg, "stasis-guard"));
		target_release(t2);
		assert_int_equal(setns(net, CLONE_NEWNET), 0);
	}
	close(net);
	ok(target_thaw(target, TARGET_RUN, &err));
	release();
	/* Whoever comes next has the turn. */
	err_clear(&e2);
	t2 = target_open(c.pid, m2, NULL, &e2);
	assert_non_null(t2);
	target_release(t2);
	model_free(m2);
	assert_runs(&c, 1);
	child_end(&c);
}

static void no_such_process(void **state)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	open_target(pid, 0);
	assert_true(target_freeze(target, &err) < 0);
	assert_int_equal(err.class, ERR_TARGET_GONE);
	release();
}

/* --- vfork ---------------------------------------------------------------------------------- */

static void child_vfork_short(struct child *c)
{
	if (fork() == 0)
		for (;;) {
			pid_t pid = vfork();

			if (pid == 0) {
				struct timespec ts = {.tv_nsec = 30000000};

				nanosleep(&ts, NULL);
				execl("/bin/true", "true", NULL);
				_exit(1);
			}
			waitpid(pid, NULL, 0);
			c->shared[1]++;
		}
	while (!c->shared[1])
		usleep(1000);
}

/* The parent stops only after the child's exec: that child is let run for it. */
static void vfork_short(void **state)
{
	struct child c;

	child_start(&c, child_vfork_short);
	for (int i = 0; i < 8; i++) {
		open_target(c.pid, 20000);
		ok(target_freeze(target, &err));
		ok(target_collect(target, &err));
		ok(target_thaw(target, TARGET_RUN, &err));
		release();
		assert_runs(&c, 1);
	}
	child_end(&c);
}

static void child_vfork_long(struct child *c)
{
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c->shared[2] = 1;
		if (vfork() == 0)
			count_for_ever(&c->shared[1]);
	}
	while (!c->shared[1])
		usleep(1000);
}

static void vfork_long(void **state)
{
	struct child c;

	child_start(&c, child_vfork_long);
	open_target(c.pid, 300);
	assert_true(target_freeze(target, &err) < 0);
	assert_int_equal(err.class, ERR_TIMEOUT);
	assert_runs(&c, 1);
	release();
	assert_runs(&c, 1);
	child_end(&c);
}

/* --- storms --------------------------------------------------------------------------------- */

static void *nothing(void *arg)
{
	return NULL;
}

static void *make_threads(void *arg)
{
	volatile uint64_t *n = arg;
	pthread_t t;

	for (;; ++*n)
		if (pthread_create(&t, NULL, nothing, NULL) == 0)
			pthread_join(t, NULL);
	return NULL;
}

static void fork_on(uint64_t *word, bool exec)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;; ++*(volatile uint64_t *)word) {
		pid_t pid = fork();

		if (pid == 0 && exec)
			execl("/bin/true", "true", NULL);
		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
}

static void child_storms(struct child *c)
{
	pthread_t t;

	pthread_create(&t, NULL, make_threads, &c->shared[1]);
	if (fork() == 0)
		fork_on(&c->shared[2], false);
	if (fork() == 0)
		fork_on(&c->shared[3], true);
	while (!c->shared[1] || !c->shared[2] || !c->shared[3])
		usleep(1000);
}

static void storms(void **state)
{
	uint64_t words[4];
	struct child c;

	child_start(&c, child_storms);
	for (int i = 0; i < 25; i++) {
		open_target(c.pid, 60000);
		ok(target_freeze(target, &err));
		memcpy(words, c.shared, sizeof(words));
		ok(target_collect(target, &err));
		assert_memory_equal(words, c.shared, sizeof(words));
		if (i % 3)
			ok(target_thaw(target, TARGET_RUN, &err));
		release();
		for (int w = 1; w < 4; w++)
			assert_runs(&c, w);
	}
	child_end(&c);
}

/* Signals on their way while threads are seized are neither lost nor doubled. */
static volatile sig_atomic_t got;

static void on_usr1(int signo)
{
	got++;
}

static void child_signals(struct child *c)
{
	struct sigaction sa = {.sa_handler = on_usr1};
	pid_t parent = getpid(), pid;

	sigaction(SIGUSR1, &sa, NULL);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;; usleep(50)) {
			/* The next one only when the last one was handled: none is merged. */
			volatile uint64_t *sent = &c->shared[1], *handled = &c->shared[2];

			if (*handled == *sent) {
				++*sent;
				kill(parent, SIGUSR1);
			}
		}
	}
	*(volatile uint64_t *)&c->shared[3] = 1;
}

static void signals_during_freeze(void **state)
{
	struct child c;
	pid_t pid;

	c.shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid = c.pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child_signals(&c);
		for (;;)
			*(volatile uint64_t *)&c.shared[2] = (uint64_t)got;
	}
	while (!*(volatile uint64_t *)&c.shared[3])
		usleep(1000);
	for (int i = 0; i < 100; i++) {
		open_target(pid, 60000);
		ok(target_freeze(target, &err));
		if (i % 4 == 0)
			ok(target_collect(target, &err));
		ok(target_thaw(target, TARGET_RUN, &err));
		release();
		assert_runs(&c, 1);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_tree),
		cmocka_unit_test(born_of_threads),
		cmocka_unit_test(left_stopped),
		cmocka_unit_test(killed),
		cmocka_unit_test(killed_by_others),
		cmocka_unit_test(guardian_dies),
		cmocka_unit_test(guardian_ignores_signals),
		cmocka_unit_test(traced_by_others),
		cmocka_unit_test(no_such_process),
		cmocka_unit_test(vfork_short),
		cmocka_unit_test(vfork_long),
		cmocka_unit_test(storms),
		cmocka_unit_test(signals_during_freeze),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
