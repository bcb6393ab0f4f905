/* SPDX-License-Identifier: MIT */
/* Registers put into threads, and calls that were interrupted going on as if nothing had been. */
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
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <time.h>

#include "tests/unit/target/stub.h"

/* --- two threads change places ------------------------------------------------------------------
 */

struct area {
	uint64_t value[4], out[4];
	double x87, x87_out;
	uint64_t tid;
	uint32_t ready, mxcsr, mxcsr_out, pad;
};

static struct area *areas;
static uint32_t *release;

/* Holds its area's values in registers until it is let go, then says who it is. */
static void *hold(void *arg)
{
	struct area *a = arg;

	__asm__ volatile("ldmxcsr 92(%%rbx)\n"
			 "fldl 64(%%rbx)\n"
			 "mov 0(%%rbx), %%r12\n"
			 "mov 8(%%rbx), %%r13\n"
			 "movq 16(%%rbx), %%xmm9\n"
			 "movq 24(%%rbx), %%xmm10\n"
			 "movl $1, 88(%%rbx)\n"
			 "1:	pause\n"
			 "	cmpl $0, (%%rdi)\n"
			 "	je 1b\n"
			 "	mov %%r12, 32(%%rbx)\n"
			 "	mov %%r13, 40(%%rbx)\n"
			 "	movq %%xmm9, 48(%%rbx)\n"
			 "	movq %%xmm10, 56(%%rbx)\n"
			 "	fstpl 72(%%rbx)\n"
			 "	stmxcsr 96(%%rbx)\n"
			 "	mov $186, %%eax\n" /* gettid */
			 "	syscall\n"
			 "	mov %%rax, 80(%%rbx)\n"
			 :
			 : "b"(a), "D"(release)
			 : "rax", "rcx", "r11", "r12", "r13", "xmm9", "xmm10", "memory", "st");
	for (;;)
		pause();
	return NULL;
}

static void child_holds(struct child *c)
{
	pthread_t t;

	for (int i = 0; i < 2; i++) {
		pthread_create(&t, NULL, hold, &areas[i]);
		while (!__atomic_load_n(&areas[i].ready, __ATOMIC_ACQUIRE))
			usleep(1000);
	}
	child_sync(c);
	__atomic_store_n(release, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		while (!__atomic_load_n(&areas[i].tid, __ATOMIC_ACQUIRE))
			usleep(1000);
}

static uint64_t mask_of(pid_t tid)
{
	uint64_t mask = 0;

	assert_int_equal(ptrace(PTRACE_GETSIGMASK, tid, sizeof(mask), &mask), 0);
	return mask;
}

/*
 * Where the last injected call leaves a thread: at the exit of a call. From there the kernel would
 * not make the program's own call again.
 */
static void leave_call(struct stub *s, struct task *task)
{
	const uint64_t none[6] = {0};
	uint8_t regs[ARCH_PRSTATUS_MAX];

	memcpy(regs, task->prstatus, sizeof(regs));
	arch_inject.set_call(regs, s->r.syscall_pc, 0, SYS_getppid, none);
	OK(run_enter(task, regs, ~0ull, &s->err));
	OK(run_to_syscall(&s->r, task, &s->err));
	OK(run_to_syscall(&s->r, task, &s->err));
	assert_int_equal(task_poll(task).kind, STOP_SYSCALL);
}

static void places(void **state)
{
	struct stub stub, *s = &stub;
	struct m_thread *a, *b, tmp;
	uint32_t tid[2];

	areas = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	release = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	areas[0] = (struct area){.value = {1, 2, 3, 4}, .x87 = 1.5, .mxcsr = 0x1f80};
	areas[1] = (struct area){.value = {~5ull, 6, ~7ull, 8}, .x87 = -2.25, .mxcsr = 0x3fa0};
	stub_start(s, child_holds);
	a = &s->p->threads[1], b = &s->p->threads[2];
	tid[0] = a->tid, tid[1] = b->tid;
	tmp = *a;
	a->regsets = b->regsets, a->nregsets = b->nregsets;
	b->regsets = tmp.regsets, b->nregsets = tmp.nregsets;
	a->sigmask = 0x1234400ull, b->sigmask = ~0ull;
	remote_close(&s->r);
	leave_call(s, tree_proc_task(&s->tree, s->r.proc, 0));
	OK(put_regs(&s->r, s->p, &s->err));
	assert_true(mask_of((pid_t)a->tid) == 0x1234400);
	/* SIGKILL and SIGSTOP are never in one. */
	assert_true(mask_of((pid_t)b->tid) == ~(1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1)));
	tree_thaw(&s->tree, 0);
	tree_deinit(&s->tree);
	model_free(s->m);
	child_next(&s->c);
	for (int i = 0; i < 2; i++) {
		assert_memory_equal(areas[i].out, areas[i].value, sizeof(areas[i].out));
		assert_true(areas[i].x87_out == areas[i].x87);
		assert_int_equal(areas[i].mxcsr_out, areas[i].mxcsr);
		assert_int_equal(areas[i].tid, tid[!i]);
	}
	child_end(&s->c);
}

/* A stop at the exit of a call, with a result that looks like one to be restarted. */
static void no_second_restart(void **state)
{
	struct stub stub, *s = &stub;
	struct user_regs_struct *r, now;
	struct iovec iov = {&now, sizeof(now)};

	areas = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	release = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stub_start(s, child_holds);
	r = (struct user_regs_struct *)(void *)s->p->threads[1].regsets[0].data;
	r->orig_rax = SYS_getppid;
	r->rax = (uint64_t)-512;
	r->r12 = 77;
	remote_close(&s->r);
	OK(put_regs(&s->r, s->p, &s->err));
	assert_int_equal(ptrace(PTRACE_GETREGSET, s->p->threads[1].tid, NT_PRSTATUS, &iov), 0);
	assert_true(now.orig_rax == ~0ull && now.rax == (uint64_t)-512 && now.rip == r->rip);
	tree_thaw(&s->tree, 0);
	tree_deinit(&s->tree);
	model_free(s->m);
	child_next(&s->c);
	assert_int_equal(areas[0].out[0], 77);
	child_end(&s->c);
}

static void wrong_regs(void **state)
{
	struct stub stub, *s = &stub;
	uint8_t gp[216], xstate[16384], *data;
	struct m_regset sets[3], *x;
	struct m_thread *t;
	struct m_regset *good;
	uint64_t v;

	areas = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	release = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stub_start(s, child_holds);
	t = &s->p->threads[1];
	x = (struct m_regset *)(uintptr_t)model_regset(t, NT_X86_XSTATE);
	memcpy(gp, t->regsets[0].data, sizeof(gp));
	memcpy(xstate, x->data, x->len);
	data = x->data;
	good = t->regsets;
	memcpy(sets, good, sizeof(sets));
	t->nregsets = 0;
	FAILS(put_regs(&s->r, s->p, &s->err), "no general registers");
	t->nregsets = 1, t->regsets = &sets[1];
	FAILS(put_regs(&s->r, s->p, &s->err), "no general registers");
	t->regsets = sets, t->nregsets = 3;
	sets[0].len = 215;
	FAILS(put_regs(&s->r, s->p, &s->err), "no general registers");
	sets[0].len = 216;
	/* A kernel address, and a segment of the kernel's. */
	v = 0xffff800000000000ull;
	memcpy(sets[0].data + offsetof(struct user_regs_struct, fs_base), &v, 8);
	FAILS(put_regs(&s->r, s->p, &s->err), "set the general registers");
	memcpy(sets[0].data, gp, sizeof(gp));
	v = 0x10;
	memcpy(sets[0].data + offsetof(struct user_regs_struct, cs), &v, 8);
	FAILS(put_regs(&s->r, s->p, &s->err), "set the general registers");
	memcpy(sets[0].data, gp, sizeof(gp));
	sets[1].note = 0x7777;
	FAILS(put_regs(&s->r, s->p, &s->err), "unknown kind");
	sets[1].note = NT_X86_XSTATE, sets[1].data = xstate, sets[1].len = 575;
	FAILS(put_regs(&s->r, s->p, &s->err), "NT_X86_XSTATE");
	/* A component that no CPU of this kind has; then a reserved bit. */
	sets[1].len = x->len;
	xstate[512 + 7] |= 0x40;
	FAILS(put_regs(&s->r, s->p, &s->err), "do not fit");
	memcpy(xstate, data, x->len);
	xstate[512] |= 2;
	xstate[27] = 0x80; /* MXCSR */
	FAILS(put_regs(&s->r, s->p, &s->err), "set NT_X86_XSTATE");
	/* Longer than this CPU's, with nothing in it; and shorter. */
	memset(xstate, 0, sizeof(xstate));
	memcpy(xstate, data, 576);
	memset(xstate + 512, 0, 8);
	xstate[512] = 3;
	sets[1].len = sizeof(xstate);
	OK(put_regs(&s->r, s->p, &s->err));
	sets[1].len = 576;
	OK(put_regs(&s->r, s->p, &s->err));
	t->regsets = good;
	stub_run(s);
	child_end(&s->c);
}

/* --- calls that go on ---------------------------------------------------------------------------
 */

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
	ts.tv_sec += limit.tv_sec + ts.tv_nsec / 1000000000;
	ts.tv_nsec %= 1000000000;
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static long by_futex_until(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += limit.tv_nsec;
	ts.tv_sec += limit.tv_sec + ts.tv_nsec / 1000000000;
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
	bool anonymous; /* made by code that does not hold the number of the call */
} waits[] = {
	{"nanosleep", by_nanosleep, EXACT, false, false},
	{"nanosleep, one buffer", by_same_buffer, EXACT, false, false},
	{"clock_nanosleep", by_clock_nanosleep, EXACT, false, false},
	{"absolute clock_nanosleep", by_absolute, EXACT, false, false},
	{"futex until a time", by_futex_until, EXACT, false, true},
	{"nanosleep without room", by_plain_nanosleep, FROM_START, false, false},
	{"poll", by_poll, FROM_START, false, false},
	{"futex", by_futex, FROM_START, false, true},
	{"poll with data", by_poll_data, AT_ONCE, false, false},
	{"pause and a signal", by_pause, AT_ONCE, true, false},
	{"read and a signal", by_read, AT_ONCE, true, false},
};

/* PLAIN: nanosleep without room, which starts again. */
enum { NWAITS = sizeof(waits) / sizeof(waits[0]), PLAIN = 5 };

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

static void child_waits(struct child *c)
{
	struct sigaction sa = {.sa_handler = on_usr1};
	pthread_t t[NWAITS];

	sigaction(SIGUSR1, &sa, NULL);
	for (uintptr_t i = 0; i < NWAITS; i++)
		pthread_create(&t[i], NULL, wait_thread, (void *)i);
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
	struct m_proc p = *s->p;
	struct user_regs_struct r;

	p.threads = model_alloc(s->m, p.nthreads * sizeof(*p.threads));
	memcpy(p.threads, s->p->threads, p.nthreads * sizeof(*p.threads));
	for (uint32_t i = 0; i < p.nthreads; i++) {
		struct m_thread *t = &p.threads[i];

		memcpy(&r, t->regsets[0].data, sizeof(r));
		r.orig_rax = SYS_nanosleep;
		r.rax = (uint64_t)-EINTR;
		r.rdi = (uint64_t)(uintptr_t)&hour;
		r.rsi = 0;
		t->in_syscall = true;
		t->syscall_ret = -516;
		t->regsets = model_alloc(s->m, sizeof(*t->regsets));
		t->regsets[0] =
			(struct m_regset){NT_PRSTATUS, sizeof(r), model_alloc(s->m, sizeof(r))};
		memcpy(t->regsets[0].data, &r, sizeof(r));
	}
	OK(put_sleeps(&s->r, &p, &s->err));
	for (uint32_t i = 0; i < p.nthreads; i++)
		assert_true(p.threads[i].in_syscall && p.threads[i].syscall_ret == -516);
}

static void check_wait(const struct wait *w, const struct result *r, uint64_t other_ms, bool again)
{
	if (again && w->anonymous) {
		assert_int_equal(r->error, EINTR);
		return;
	}
	if (!r->done || r->error)
		fail_msg("%s: %s", w->name, r->done ? strerrordesc_np((int)r->error) : "not done");
	if (w->kind != AT_ONCE && r->took_ms < limit_ms)
		fail_msg("%s took %u ms, not %u", w->name, (unsigned)r->took_ms, limit_ms);
	/* However slow the machine, the others began a second time when this one was half over. */
	if (w->kind == EXACT && r->took_ms + at_ms / 2 > other_ms)
		fail_msg("%s took %u ms of the %u that one from its start took", w->name,
			 (unsigned)r->took_ms, (unsigned)other_ms);
}

static void waits_go_on(void **state)
{
	const bool again = *state != NULL;
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
	assert_int_equal(s->p->nthreads, NWAITS + 1);
	for (unsigned i = 0; i < NWAITS; i++)
		if (waits[i].signalled)
			add_usr1(s, stub_thread(s->p, results[i].tid));
	assert_int_equal(write(data[1], "x", 1), 1);
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
		cmocka_unit_test(places),
		cmocka_unit_test(no_second_restart),
		cmocka_unit_test(wrong_regs),
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
