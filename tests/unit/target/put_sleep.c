/* SPDX-License-Identifier: MIT */
/* Restored threads: calls that were interrupted go on as if nothing had been. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/unit/target/stub.h"

enum { HOUR = 3600 };

/* Long enough for a stop to come in between; where a CPU is emulated that takes its time. */
static unsigned limit_ms = 900, at_ms = 500;
static struct timespec limit = {.tv_nsec = 900000000};
static const struct timespec hour = {.tv_sec = HOUR};
static int never[2], data[2];
static uint32_t word;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static long by_nanosleep(void)
{
	struct timespec left;

	return nanosleep(&limit, &left) ? errno : 0;
}

static long by_same_buffer(void)
{
	struct timespec left = limit;

	return nanosleep(&left, &left) ? errno : 0;
}

static long by_clock_nanosleep(void)
{
	struct timespec left;

	return clock_nanosleep(CLOCK_BOOTTIME, 0, &limit, &left);
}

static long by_absolute(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += limit.tv_nsec;
	ts.tv_sec += limit.tv_sec;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static long by_futex_until(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += limit.tv_nsec;
	ts.tv_sec += limit.tv_sec;
	ts.tv_sec += ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	if (syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &ts, NULL, ~0u) == 0)
		return EBADE;
	return errno == ETIMEDOUT ? 0 : errno;
}

static long by_plain_nanosleep(void)
{
	return nanosleep(&limit, NULL) ? errno : 0;
}

static long by_poll(void)
{
	struct pollfd p = {.fd = never[0], .events = POLLIN};

	return poll(&p, 1, (int)limit_ms) < 0 ? errno : 0;
}

static long by_futex(void)
{
	if (syscall(SYS_futex, &word, FUTEX_WAIT, 0, &limit, NULL, 0) == 0)
		return EBADE;
	return errno == ETIMEDOUT ? 0 : errno;
}

/* Its descriptor gets ready while it is stopped. */
static long by_poll_data(void)
{
	struct pollfd p = {.fd = data[0], .events = POLLIN};

	return poll(&p, 1, HOUR * 1000) == 1 && p.revents == POLLIN ? 0 : EBADE;
}

/* A handler's signal waits in the image: the call ends, and is not made again. */
static long by_pause(void)
{
	return pause() < 0 && errno == EINTR ? 0 : EBADE;
}

static long by_read(void)
{
	char b;

	return read(never[0], &b, 1) < 0 && errno == EINTR ? 0 : EBADE;
}

enum kind { EXACT, FROM_START, AT_ONCE };

static const struct wait {
	const char *name;
	long (*wait)(void);
	enum kind kind;
	bool signalled;
	bool anonymous; /* made by code that does not hold the number of the call, syscall(2) */
} waits[] = {
	{"nanosleep", by_nanosleep, EXACT, false, false},
	{"nanosleep, one buffer", by_same_buffer, EXACT, false, false},
	{"clock_nanosleep", by_clock_nanosleep, EXACT, false, false},
	{"absolute clock_nanosleep", by_absolute, EXACT, false, false},
	{"futex until a time", by_futex_until, EXACT, false, true},
	{"nanosleep without room", by_plain_nanosleep, FROM_START, false, false},
	{"poll", by_poll, FROM_START, false, false},
#ifdef SYS_poll
	{"poll of which is known what is left", by_poll, EXACT, false, false},
#endif
	{"futex", by_futex, FROM_START, false, true},
	{"poll with data", by_poll_data, AT_ONCE, false, false},
	{"pause and a signal", by_pause, AT_ONCE, true, false},
	{"read and a signal", by_read, AT_ONCE, true, false},
	{"nanosleep without room of which is known what is left", by_plain_nanosleep, EXACT, false,
	 false},
};

/* PLAIN: nanosleep without room, which starts again. */
enum { NWAITS = sizeof(waits) / sizeof(waits[0]), PLAIN = 5, KNOWN = 7 };

struct result {
	uint64_t tid, done, error, took_ms;
};

static struct result *results;

static void *wait_thread(void *arg)
{
	struct result *r = &results[(uintptr_t)arg];
	uint64_t began = now_ms();

	r->tid = (uint64_t)syscall(SYS_gettid);
	r->error = (uint64_t)waits[(uintptr_t)arg].wait();
	r->took_ms = now_ms() - began;
	__atomic_store_n(&r->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static volatile sig_atomic_t handled;

static void on_usr1(int signo)
{
	handled++;
}

static void *other_sleep(void *arg)
{
	results[NWAITS].tid = (uint64_t)syscall(SYS_gettid);
	return nanosleep(&hour, NULL) ? NULL : arg;
}

static void child_waits(struct child *c)
{
	struct sigaction sa = {.sa_handler = on_usr1};
	pthread_t t[NWAITS], other;

	sigaction(SIGUSR1, &sa, NULL);
	for (uintptr_t i = 0; i < NWAITS; i++)
		pthread_create(&t[i], NULL, wait_thread, (void *)i);
	pthread_create(&other, NULL, other_sleep, NULL);
	child_sync(c);
	for (unsigned i = 0; i < NWAITS; i++)
		pthread_join(t[i], NULL);
	c->shared[1] = (uint64_t)handled;
}

static void add_usr1(struct stub *s, struct m_thread *t)
{
	struct m_siginfo *to = model_push(s->m, &t->pending.info, &t->pending.n, sizeof(*to));
	siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_TKILL};

	memcpy(to->data, &info, sizeof(info));
}

/* All restart blocks that the threads have from before are those of another sleep. */
static void spoil(struct stub *s)
{
	const struct m_thread *other = stub_thread(s->p, results[NWAITS].tid);
	struct m_proc p = *s->p;

	assert_true(other->in_syscall && other->syscall_ret == -516);
	p.threads = model_alloc(s->m, p.nthreads * sizeof(*p.threads));
	memcpy(p.threads, s->p->threads, p.nthreads * sizeof(*p.threads));
	for (uint32_t i = 0; i < p.nthreads; i++) {
		struct m_thread *t = &p.threads[i];

		t->in_syscall = true;
		t->syscall_ret = -516;
		t->regsets = other->regsets;
		t->nregsets = other->nregsets;
		t->pc = other->pc;
	}
	OK(put_sleeps(&s->r, &p, &s->err));
	for (uint32_t i = 0; i < p.nthreads; i++)
		assert_true(p.threads[i].in_syscall && p.threads[i].syscall_ret == -516);
}

static void check_wait(const struct wait *w, const struct result *r, uint64_t other_ms, bool again)
{
	/* Where a register holds it, and nobody changes that, the number is known all the same. */
	const bool in_register = arch_host()->elf_machine == EM_S390;
	const bool told = w == &waits[NWAITS - 1] || w == &waits[KNOWN];

	if (again && w->anonymous && !in_register) {
		assert_int_equal(r->error, EINTR);
		return;
	}
	if (!r->done || r->error)
		fail_msg("%s: %s", w->name, r->done ? strerrordesc_np((int)r->error) : "not done");
	/* What we tell of what is left counts from our start, and the thread's was a moment later.
	 */
	if (w->kind != AT_ONCE && r->took_ms + (told ? at_ms / 2 : 0) < limit_ms)
		fail_msg("%s took %u ms, not %u", w->name, (unsigned)r->took_ms, limit_ms);
	/* However slow the machine, the others began a second time when this one was half over. */
	if (w->kind == EXACT && r->took_ms + at_ms / 2 > other_ms)
		fail_msg("%s took %u ms of the %u that one from its start took", w->name,
			 (unsigned)r->took_ms, (unsigned)other_ms);
}

static void waits_go_on(void **state)
{
	const bool again = *state != NULL;
	const uint64_t began = now_ms();
	struct stub stub, *s = &stub;

	results = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(pipe(never) + pipe(data), 0);
	memset(s, 0, sizeof(*s));
	child_start(&s->c, child_waits);
	usleep(at_ms / 2 * 1000);
	/* The kernel has restarted interrupted calls by then, under another number. */
	if (again) {
		stub_open(s);
		stub_thaw(s);
	}
	usleep(at_ms / 2 * 1000);
	stub_open(s);
	/* Where a CPU is emulated the sleeps may be over by now. */
	if (s->p->nthreads < NWAITS + 2 && now_ms() - began > limit_ms) {
		stub_thaw(s);
		child_end(&s->c);
		skip();
	}
	assert_int_equal(s->p->nthreads, NWAITS + 2);
	for (unsigned i = 0; i < NWAITS; i++)
		if (waits[i].signalled)
			add_usr1(s, stub_thread(s->p, results[i].tid));
	assert_int_equal(write(data[1], "x", 1), 1);
	stub_thread(s->p, results[NWAITS - 1].tid)->sleep_left_ns = (limit_ms - at_ms) * 1000000ull;
#ifdef SYS_poll
	stub_thread(s->p, results[KNOWN].tid)->sleep_left_ns = (limit_ms - at_ms) * 1000000ull;
#endif
	spoil(s);
	OK(put_pending(&s->r, s->p, &s->err));
	OK(put_sleeps(&s->r, s->p, &s->err));
	stub_run(s);
	child_next(&s->c);
	for (unsigned i = 0; i < NWAITS; i++)
		check_wait(&waits[i], &results[i], results[PLAIN].took_ms, again);
	assert_int_equal(s->c.shared[1], 2);
	child_end(&s->c);
}

int main(void)
{
	static int twice;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_go_on),
		{"waits go on, stopped twice", waits_go_on, NULL, NULL, &twice},
	};

	if (getenv("PATIENCE")) {
		limit_ms *= 10;
		at_ms *= 10;
		limit = (struct timespec){.tv_sec = limit_ms / 1000};
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
