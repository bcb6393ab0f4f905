/* SPDX-License-Identifier: MIT */
/* All that put.h lists, in its order, in one child with threads, which then finds all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/unit/target/stub.h"

enum { NTHREADS = 34, UID = 4321 };

/* Not over before all threads are there and stand still. */
static struct timespec nap = {.tv_nsec = 300000000};

/* In shared memory: thread i has seen that all is right, or the line where it was not. */
static uint64_t *found;

#define WANT(condition)                  \
	do {                             \
		if (!(condition))        \
			return __LINE__; \
	} while (0)

static uint64_t look(int slept)
{
	const struct timespec now = {0};
	struct rlimit limit;
	siginfo_t info;
	sigset_t set;

	WANT(slept == 0);
	WANT(getuid() == UID && syscall(SYS_setresuid, 0, 0, 0) < 0 && errno == EPERM);
	WANT(syscall(SYS_getppid) == -1 && errno == EXDEV);
	WANT(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max == 77);
	WANT(sched_getscheduler(0) == SCHED_BATCH);
	sigfillset(&set);
	sigdelset(&set, SIGRTMIN + 5);
	/* Its own, by number, and nothing that the closing of runs left behind. */
	WANT(sigtimedwait(&set, &info, &now) == SIGCHLD && info.si_code == SI_ASYNCIO);
	WANT(sigtimedwait(&set, &info, &now) == SIGURG);
	WANT(sigtimedwait(&set, &info, &now) == SIGWINCH);
	WANT(sigtimedwait(&set, &info, &now) < 0);
	return 1;
}

static void *thread(void *arg)
{
	struct timespec left;

	found[(uintptr_t)arg] = look(nanosleep(&nap, &left));
	for (;;)
		pause();
	return NULL;
}

static void child(struct child *c)
{
	const struct timespec long_enough = {.tv_sec = 20};
	siginfo_t info;
	sigset_t all;
	pthread_t t;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (uintptr_t i = 1; i < NTHREADS; i++)
		pthread_create(&t, NULL, thread, (void *)i);
	child_sync(c);
	found[0] = look(0);
	/* The timer, the only one that is for all. */
	sigemptyset(&all);
	sigaddset(&all, SIGRTMIN + 5);
	if (found[0] == 1 && (sigtimedwait(&all, &info, &long_enough) < 0 ||
			      info.si_code != SI_TIMER || (uintptr_t)info.si_value.sival_ptr != 11))
		found[0] = __LINE__;
	for (unsigned i = 1; i < NTHREADS; i++)
		while (!__atomic_load_n(&found[i], __ATOMIC_ACQUIRE))
			usleep(1000);
}

static void invent(struct stub *s)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	static struct m_seccomp_filter filter = {0, sizeof(code), (uint8_t *)code};
	static const int signals[] = {SIGWINCH, SIGURG, SIGCHLD};
	static struct m_posix_timer timer = {
		.id = 9, .clock_id = CLOCK_MONOTONIC, .sigval = 11, .value_ns = 1000000};
	struct m_seccomp_chain *chain;

	chain = model_push(s->m, &s->m->chains, &s->m->nchains, sizeof(*chain));
	*chain = (struct m_seccomp_chain){1, &filter};
	timer.signo = (uint32_t)SIGRTMIN + 5;
	s->p->posix_timers = &timer, s->p->nposix_timers = 1;
	s->p->rlimits[RLIMIT_NOFILE] = (struct m_rlimit){70, 77};
	for (uint32_t i = 0; i < NTHREADS; i++) {
		struct m_thread *t = &s->p->threads[i];
		struct m_creds *c = &t->creds;

		c->uid = c->euid = c->suid = c->fsuid = UID;
		c->cap_prm = c->cap_eff = c->cap_inh = c->cap_amb = 0;
		t->seccomp_mode = 2, t->seccomp_chain = 1;
		t->policy = SCHED_BATCH;
		for (unsigned k = 0; k < 3; k++) {
			struct m_siginfo *q =
				model_push(s->m, &t->pending.info, &t->pending.n, sizeof(*q));
			siginfo_t info = {.si_signo = signals[k], .si_code = SI_ASYNCIO};

			memcpy(q->data, &info, sizeof(info));
		}
	}
}

static void in_order(void **state)
{
	struct stub stub, *s = &stub;

	found = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stub_start(s, child);
	invent(s);
	OK(put_limits_raise(&s->r, s->p, &s->err));
	OK(put_thp(&s->r, s->p, &s->err));
	OK(put_oom_score(s->p, &s->err));
	OK(put_loginuid(&s->r, s->p, &s->err));
	OK(put_directories(&s->r, -1, -1, &s->err));
	OK(put_process(&s->r, s->p, &s->err));
	OK(put_threads(&s->r, s->p, &s->err));
	OK(put_actions(&s->r, s->p, &s->err));
	OK(put_pending(&s->r, s->p, &s->err));
	OK(put_timers_create(&s->r, s->p, false, &s->err));
	OK(put_seccomp(&s->r, s->m, s->p, &s->err));
	OK(put_creds(&s->r, s->p, &s->err));
	OK(put_limits_lower(&s->r, s->p, &s->err));
	OK(put_sleeps(&s->r, s->p, &s->err));
	OK(put_timers_arm(&s->r, s->p, &s->err));
	remote_close(&s->r);
	OK(put_regs(&s->r, s->p, &s->err));
	OK(put_sched(&s->r, s->p, &s->err));
	tree_thaw(&s->tree, 0);
	tree_deinit(&s->tree);
	model_free(s->m);
	child_next(&s->c);
	for (unsigned i = 0; i < NTHREADS; i++)
		if (found[i] != 1)
			fail_msg("thread %u: line %u", i, (unsigned)found[i]);
	child_end(&s->c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_order),
	};

	if (geteuid() != 0) {
		printf("needs root\n");
		return 77;
	}
	if (getenv("PATIENCE"))
		nap = (struct timespec){.tv_sec = 6};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
