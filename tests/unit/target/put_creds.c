/* SPDX-License-Identifier: MIT */
/* Credentials and seccomp filters put into a child with threads, and what it may do afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "tests/unit/target/stub.h"

enum { NTHREADS = 5 };

#define CAP(n) (1ull << (n))

/* Results of system calls that the child's threads make, in shared memory. */
static int64_t *results;
static uint32_t *turn;

static long raw(long ret)
{
	return ret < 0 ? -errno : ret;
}

/* What each thread tries once it is let go. */
static void probe(int64_t *to)
{
	to[0] = raw(syscall(SYS_setresuid, 0, 0, 0));
	to[1] = raw(syscall(SYS_sethostname, "", -1));
	to[2] = raw(syscall(SYS_getppid));
	to[3] = raw(syscall(SYS_getpgid, 0));
	to[4] = 1;
}

static void *thread(void *arg)
{
	uintptr_t i = (uintptr_t)arg;

	while (__atomic_load_n(turn, __ATOMIC_ACQUIRE) < i)
		usleep(1000);
	probe(results + 8 * i);
	__atomic_store_n(&turn[1], (uint32_t)i, __ATOMIC_RELEASE);
	for (;;)
		pause();
	return NULL;
}

static void child_probes(struct child *c)
{
	pthread_t t;

	for (uintptr_t i = 1; i < NTHREADS; i++)
		pthread_create(&t, NULL, thread, (void *)i);
	child_sync(c);
	probe(results);
	for (uint32_t i = 1; i < NTHREADS; i++) {
		__atomic_store_n(turn, i, __ATOMIC_RELEASE);
		while (__atomic_load_n(&turn[1], __ATOMIC_ACQUIRE) < i)
			usleep(1000);
	}
}

static void start(struct stub *s)
{
	results = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stub_start(s, child_probes);
	assert_int_equal(s->p->nthreads, NTHREADS);
}

static void ids(struct m_creds *c, uint32_t uid, uint32_t gid)
{
	c->uid = c->euid = c->suid = c->fsuid = uid;
	c->gid = c->egid = c->sgid = c->fsgid = gid;
}

static void caps(struct m_creds *c, uint64_t set)
{
	c->cap_inh = c->cap_amb = 0;
	c->cap_prm = c->cap_eff = set;
}

static void same_creds(const struct m_thread *x, const struct m_thread *y)
{
	const struct m_creds *a = &x->creds, *b = &y->creds;

	assert_memory_equal(a, b, offsetof(struct m_creds, cap_inh));
	assert_true(a->cap_inh == b->cap_inh && a->cap_prm == b->cap_prm);
	assert_true(a->cap_eff == b->cap_eff && a->cap_bnd == b->cap_bnd);
	assert_true(a->cap_amb == b->cap_amb);
	assert_int_equal(a->securebits, b->securebits);
	assert_int_equal(a->no_new_privs, b->no_new_privs);
	assert_int_equal(a->ngroups, b->ngroups);
	if (a->ngroups)
		assert_memory_equal(a->groups, b->groups, a->ngroups * 4);
	assert_int_equal(x->pdeath_sig, y->pdeath_sig);
}

/* A different lot for each thread. */
static void invent(struct stub *s)
{
	static uint32_t some[] = {5, 7, 7, 4000000000u}, many[3000];
	const uint64_t all = s->p->threads[0].creds.cap_bnd;
	struct m_creds *c;

	for (uint32_t i = 0; i < 3000; i++)
		many[i] = 2 * i + 1;
	/* An ordinary user, with nothing. */
	c = &s->p->threads[0].creds;
	ids(c, 1000, 1001);
	caps(c, 0);
	c->groups = some, c->ngroups = 4;
	s->p->threads[0].pdeath_sig = SIGKILL;
	/* All ids different; two capabilities, one of them asleep, one ambient; narrow bounds. */
	c = &s->p->threads[1].creds;
	*c = (struct m_creds){.uid = 1,
			      .euid = 2,
			      .suid = 3,
			      .fsuid = 4,
			      .gid = 5,
			      .egid = 6,
			      .sgid = 7,
			      .fsgid = 8};
	c->cap_prm = CAP(CAP_NET_RAW) | CAP(CAP_KILL);
	c->cap_eff = CAP(CAP_KILL);
	c->cap_inh = CAP(CAP_NET_RAW) | CAP(CAP_SYSLOG);
	c->cap_amb = CAP(CAP_NET_RAW);
	c->cap_bnd = CAP(CAP_NET_RAW) | CAP(CAP_CHOWN);
	c->securebits = 1u << SECURE_NOROOT | 1u << SECURE_NOROOT_LOCKED |
			1u << SECURE_NO_CAP_AMBIENT_RAISE | 1u << SECURE_KEEP_CAPS;
	c->groups = many, c->ngroups = 3000;
	s->p->threads[1].pdeath_sig = SIGUSR1;
	/* Root without some, and never more. */
	c = &s->p->threads[2].creds;
	caps(c, all & ~CAP(CAP_SYS_ADMIN));
	c->cap_bnd = all & ~CAP(CAP_SYS_ADMIN);
	c->no_new_privs = 1;
	/* A user with all of them, from before a keep-caps change. */
	c = &s->p->threads[3].creds;
	ids(c, 65534, 65534);
	c->ngroups = 0;
	caps(c, all);
	c->cap_inh = c->cap_amb = all;
	c->securebits = 0x2f & ~(1u << SECURE_KEEP_CAPS);
	/* threads[4] stays what it is: root */
}

static void credentials(void **state)
{
	struct stub stub, *s = &stub;
	struct m_proc *again;

	start(s);
	invent(s);
	s->p->mm.dumpable = 1;
	OK(put_creds(&s->r, s->p, &s->err));
	again = stub_collect(s);
	for (uint32_t i = 0; i < NTHREADS; i++)
		same_creds(&s->p->threads[i], &again->threads[i]);
	assert_int_equal(again->mm.dumpable, 1);
	stub_thaw(s);
	child_next(&s->c);
	/* Back to root, and what takes CAP_SYS_ADMIN: -EINVAL is that it was looked at. */
	assert_int_equal(results[0], -EPERM);
	assert_int_equal(results[1], -EPERM);
	assert_int_equal(results[8], -EPERM);
	assert_int_equal(results[9], -EPERM);
	assert_int_equal(results[16], 0);
	assert_int_equal(results[17], -EPERM);
	assert_int_equal(results[24], 0);
	assert_int_equal(results[25], -EINVAL);
	assert_int_equal(results[32], 0);
	assert_int_equal(results[33], -EINVAL);
	child_end(&s->c);
}

/* Never more than there is, and never something else without a word. */
static void wrong_credentials(void **state)
{
	struct stub stub, *s = &stub;
	struct m_thread *t, good;
	uint32_t unsorted[] = {9, 3};

	start(s);
	t = &s->p->threads[1];
	good = *t;
	t->creds.cap_prm = t->creds.cap_bnd = ~0ull;
	FAILS(put_creds(&s->r, s->p, &s->err), "permitted capabilities");
	*t = good;
	t->creds.cap_bnd = ~0ull;
	FAILS(put_creds(&s->r, s->p, &s->err), "bounding capabilities");
	*t = good;
	t->creds.cap_prm = 0;
	FAILS(put_creds(&s->r, s->p, &s->err), "not among the permitted");
	*t = good;
	t->creds.cap_amb = CAP(3);
	FAILS(put_creds(&s->r, s->p, &s->err), "not among the permitted");
	*t = good;
	t->creds.no_new_privs = 2;
	FAILS(put_creds(&s->r, s->p, &s->err), "no_new_privs");
	*t = good;
	t->creds.ngroups = 1 << 30;
	FAILS(put_creds(&s->r, s->p, &s->err), "groups");
	*t = good;
	t->creds.groups = unsorted, t->creds.ngroups = 2;
	FAILS(put_creds(&s->r, s->p, &s->err), "groups of thread");
	*t = good;
	t->creds.lsm_profile = "confined (enforce)";
	FAILS(put_creds(&s->r, s->p, &s->err), "wanted confined (enforce), got");
	*t = good;
	t->creds.securebits = 1u << 20;
	FAILS(put_creds(&s->r, s->p, &s->err), "secure bits");
	*t = good;
	t->creds.fsuid = 0xffffffff;
	FAILS(put_creds(&s->r, s->p, &s->err), "file system user id");
	*t = good;
	t->pdeath_sig = 65;
	FAILS(put_creds(&s->r, s->p, &s->err), "parent-death");
	*t = good;
	/* Gone for good. */
	t->creds.no_new_privs = 1;
	OK(put_creds(&s->r, s->p, &s->err));
	t->creds.no_new_privs = 0;
	FAILS(put_creds(&s->r, s->p, &s->err), "no_new_privs of thread");
	stub_kill(s);
}

/* --- seccomp -------------------------------------------------------------------------------- */

/* Call @nr fails with @errnum; everything else is let through. */
static void add_filter(struct stub *s, struct m_seccomp_chain *c, uint32_t nr, uint32_t errnum,
		       uint32_t flags)
{
	struct m_seccomp_filter *f = model_push(s->m, &c->filters, &c->n, sizeof(*f));
	const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errnum),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	f->flags = flags;
	f->len = sizeof(code);
	f->code = model_alloc(s->m, sizeof(code));
	memcpy(f->code, code, sizeof(code));
}

/*
 * Chain 1 forbids getppid twice, the newer one with its own number, which does not count: of
 * several errors the newest filter's wins. Chain 2 forbids what batches close with.
 */
static void invent_filters(struct stub *s)
{
	struct m_seccomp_chain *c;

	c = model_push(s->m, &s->m->chains, &s->m->nchains, sizeof(*c));
	add_filter(s, c, SYS_getppid, EXDEV, 0);
	add_filter(s, c, SYS_getppid, EDOM, M_SECCOMP_LOG);
	c = model_push(s->m, &s->m->chains, &s->m->nchains, sizeof(*c));
	add_filter(s, c, SYS_prctl, EPERM, 0);
	add_filter(s, c, SYS_rt_tgsigqueueinfo, EPERM, 0);
	add_filter(s, c, SYS_getpgid, ERANGE, M_SECCOMP_TSYNC);
	/* Of the size and flags of the first. */
	c = model_push(s->m, &s->m->chains, &s->m->nchains, sizeof(*c));
	add_filter(s, c, SYS_getpgid, ERANGE, 0);
	add_filter(s, c, SYS_getpgid, ERANGE, M_SECCOMP_LOG);
}

static void same_filters(struct stub *s, uint32_t x, uint32_t y)
{
	const struct m_seccomp_chain *a = model_chain(s->m, x), *b = model_chain(s->m, y);

	assert_int_equal(a != NULL, b != NULL);
	for (uint32_t i = 0; a && i < a->n; i++) {
		assert_int_equal(a->n, b->n);
		assert_int_equal(a->filters[i].flags & M_SECCOMP_LOG, b->filters[i].flags);
		assert_int_equal(a->filters[i].len, b->filters[i].len);
		assert_memory_equal(a->filters[i].code, b->filters[i].code, a->filters[i].len);
	}
}

static void filters(void **state)
{
	struct stub stub, *s = &stub;
	static const uint32_t chains[NTHREADS] = {1, 2, 0, 2, 3};
	struct m_proc *again;

	start(s);
	invent_filters(s);
	for (uint32_t i = 0; i < NTHREADS; i++) {
		s->p->threads[i].seccomp_mode = chains[i] ? 2 : 0;
		s->p->threads[i].seccomp_chain = chains[i];
		/* Without no_new_privs, and without the right to set one afterwards. */
		ids(&s->p->threads[i].creds, 1000, 1000);
		caps(&s->p->threads[i].creds, 0);
	}
	OK(put_seccomp(&s->r, s->m, s->p, &s->err));
	OK(put_creds(&s->r, s->p, &s->err));
	again = stub_collect(s);
	for (uint32_t i = 0; i < NTHREADS; i++) {
		assert_int_equal(again->threads[i].seccomp_mode, chains[i] ? 2 : 0);
		same_filters(s, s->p->threads[i].seccomp_chain, again->threads[i].seccomp_chain);
	}
	/* Threads with the same share it. */
	assert_int_equal(again->threads[1].seccomp_chain, again->threads[3].seccomp_chain);
	stub_thaw(s);
	child_next(&s->c);
	for (uint32_t i = 0; i < NTHREADS; i++) {
		const int64_t *got = results + 8 * i;

		assert_int_equal(got[4], 1);
		assert_true(got[2] == (chains[i] == 1 ? -EDOM : getpid()));
		assert_true(got[3] == (chains[i] > 1 ? -ERANGE : getpgid(0)));
		assert_int_equal(got[0], -EPERM);
	}
	child_end(&s->c);
}

/* Also in: a filter that one thread later adds for all of them. */
static void child_adds(struct child *c)
{
	pthread_t t;
	struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog prog = {1, all};

	for (uintptr_t i = 1; i < NTHREADS; i++)
		pthread_create(&t, NULL, thread, (void *)(i + 1000));
	child_sync(c);
	results[0] = raw(
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog));
}

static void shared_filters(void **state)
{
	struct stub stub, *s = &stub;

	results = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	turn = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stub_start(s, child_adds);
	invent_filters(s);
	for (uint32_t i = 0; i < NTHREADS; i++) {
		s->p->threads[i].seccomp_mode = 2;
		s->p->threads[i].seccomp_chain = 1;
	}
	OK(put_seccomp(&s->r, s->m, s->p, &s->err));
	stub_thaw(s);
	child_next(&s->c);
	assert_int_equal(results[0], 0);
	child_end(&s->c);
}

static void child_strict(struct child *c)
{
	child_sync(c);
	getppid();
	c->shared[1] = 1;
}

static void strict(void **state)
{
	struct stub stub, *s = &stub;
	struct m_proc *again;
	int status;

	stub_start(s, child_strict);
	s->p->threads[0].seccomp_mode = 1;
	OK(put_seccomp(&s->r, s->m, s->p, &s->err));
	again = stub_collect(s);
	assert_int_equal(again->threads[0].seccomp_mode, 1);
	stub_thaw(s);
	assert_int_equal(write(s->c.down[1], "x", 1), 1);
	assert_int_equal(waitpid(s->c.pid, &status, 0), s->c.pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !s->c.shared[1]);
}

static void wrong_filters(void **state)
{
	struct stub stub, *s = &stub;
	struct m_seccomp_filter *f;
	struct m_thread *t;

	start(s);
	invent_filters(s);
	t = &s->p->threads[3];
	f = &s->m->chains[0].filters[1];
	t->seccomp_mode = 3;
	FAILS(put_seccomp(&s->r, s->m, s->p, &s->err), "seccomp mode");
	t->seccomp_mode = 2;
	FAILS(put_seccomp(&s->r, s->m, s->p, &s->err), "does not hold");
	t->seccomp_chain = UINT32_MAX;
	FAILS(put_seccomp(&s->r, s->m, s->p, &s->err), "does not hold");
	t->seccomp_chain = 1;
	f->flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
	FAILS(put_seccomp(&s->r, s->m, s->p, &s->err), "flags");
	f->flags = 0;
	f->len = 12;
	FAILS(put_seccomp(&s->r, s->m, s->p, &s->err), "12 bytes");
	f->len = 0x80000000;
	FAILS(put_seccomp(&s->r, s->m, s->p, &s->err), "bytes");
	f->len = 8;
	FAILS(put_seccomp(&s->r, s->m, s->p, &s->err), "set seccomp filter 1");
	stub_kill(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(credentials), cmocka_unit_test(wrong_credentials),
		cmocka_unit_test(filters),     cmocka_unit_test(shared_filters),
		cmocka_unit_test(strict),      cmocka_unit_test(wrong_filters),
	};

	if (geteuid() != 0) {
		printf("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
