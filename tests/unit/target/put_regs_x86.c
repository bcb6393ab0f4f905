/* SPDX-License-Identifier: MIT */
/* Registers put into x86-64 threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "tests/unit/target/stub.h"

/* --- two threads change places -------------------------------------------------------------- */

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
	arch_inject.set_call(regs, s->r.syscall_pc, 0, 0, SYS_getppid, none);
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
	FAILS(put_regs(&s->r, s->p, &s->err), "NT_PRSTATUS (0x1)");
	memcpy(sets[0].data, gp, sizeof(gp));
	v = 0x10;
	memcpy(sets[0].data + offsetof(struct user_regs_struct, cs), &v, 8);
	FAILS(put_regs(&s->r, s->p, &s->err), "NT_PRSTATUS (0x1)");
	memcpy(sets[0].data, gp, sizeof(gp));
	sets[1].note = 0x7777;
	FAILS(put_regs(&s->r, s->p, &s->err), "unknown kind");
	sets[1].note = NT_X86_XSTATE, sets[1].data = xstate, sets[1].len = 575;
	FAILS(put_regs(&s->r, s->p, &s->err), "NT_X86_XSTATE");
	/* A component that no CPU of this kind has, with XCR0 and without; then a reserved bit. */
	sets[1].len = x->len;
	xstate[512 + 7] |= 0x40;
	FAILS(put_regs(&s->r, s->p, &s->err), "that its XCR0 does not tell of");
	xstate[464 + 7] |= 0x40;
	FAILS(put_regs(&s->r, s->p, &s->err), "do not fit");
	memcpy(xstate, data, x->len);
	xstate[512] |= 2;
	xstate[27] = 0x80; /* MXCSR */
	FAILS(put_regs(&s->r, s->p, &s->err), "has reserved bits in its MXCSR");
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

/* --- registers that must be asked for ------------------------------------------------------- */

enum { XCR0_OFF = 464, BV_OFF = 512, YMM_OFF = 576, YMM_LEN = 256, YMM = 4 };

static void child_idle(struct child *c)
{
}

/* AMX's numbers, whatever this CPU has: the kernel knows them since 5.16. */
static void permits(void **state)
{
	const struct arch_permits *a = arch_inject.permits;
	struct stub stub, *s = &stub;
	uint64_t has = 0;
	long ret;

	if (syscall(SYS_arch_prctl, 0x1021 /* ARCH_GET_XCOMP_SUPP */, &has) < 0)
		skip();
	assert_int_equal(syscall((long)a->nr, a->get, &has), 0);
	assert_true((has & 3) == 3 && !(a->bits & (a->bits - 1)));
	stub_start(s, child_idle);
	assert_true(s->p->permitted == (a->here() ? has : 0));
	stub_kill(s);
	ret = syscall((long)a->nr, a->ask, __builtin_ctzll(a->bits));
	assert_true(a->here() ? ret == 0 : ret < 0 && errno == EOPNOTSUPP);
	/* 2: YMM is not to be asked for. */
	assert_true(syscall((long)a->nr, a->ask, 2) < 0 && errno == EOPNOTSUPP);
}

static uint64_t fake_here;
static unsigned uses;

static uint64_t here(void)
{
	return fake_here;
}

static uint64_t in_use(const struct arch_set *set)
{
	uses += set->note == NT_X86_XSTATE;
	return set->note == NT_X86_XSTATE ? 1ull << 40 : 0;
}

static uint64_t slack(struct stub *s)
{
	OK(context_collect(&s->r, s->p, &s->err));
	return s->p->threads[0].timerslack_ns;
}

/* Which numbers are asked for: by a call that tells afterwards what was the last one. */
static void asked(void **state)
{
	const struct arch_permits a = {
		"some", 1ull << 40 | 1ull << 33 | 1 << 6, SYS_prctl, 0, PR_SET_TIMERSLACK, here,
		in_use};
	struct arch_permits wrong = a;
	struct stub stub, *s = &stub;

	stub_start(s, child_idle);
	OK(put_permits(&s->r, s->p, NULL, &s->err));
	fake_here = 0;
	s->p->permitted = ~0ull;
	OK(put_permits(&s->r, s->p, &a, &s->err));
	assert_int_equal(uses, 0);
	assert_true(slack(s) > 40);
	/* What is in use and not permitted; what is permitted; not what is not here. */
	fake_here = a.bits;
	s->p->permitted = 0;
	OK(put_permits(&s->r, s->p, &a, &s->err));
	assert_int_equal(uses, 1);
	assert_int_equal(slack(s), 40);
	fake_here = 1ull << 33 | 1 << 6;
	s->p->permitted = 1ull << 33 | 1 << 7;
	OK(put_permits(&s->r, s->p, &a, &s->err));
	assert_int_equal(slack(s), 33);
	s->p->permitted = 1 << 6;
	OK(put_permits(&s->r, s->p, &a, &s->err));
	assert_int_equal(slack(s), 6);
	wrong.ask = 0x7fff;
	assert_true(put_permits(&s->r, s->p, &wrong, &s->err) < 0);
	assert_non_null(strstr(s->err.msg, "ask for registers"));
	assert_non_null(strstr(s->err.hint, "was permitted to use some"));
	err_clear(&s->err);
	stub_kill(s);
}

/* The memory from which a thread is to load tiles; a thread without any loads none. */
static void area_of_tiles(void **state)
{
	static uint8_t xstate[11008], area[ARCH_LAZY_LEN];
	const struct arch_set set = {NT_X86_XSTATE, sizeof(xstate), xstate};
	const uint64_t all = 0x602e7, tiles = 1 << 18;

	memcpy(xstate + XCR0_OFF, &all, sizeof(all));
	xstate[BV_OFF] = 0xe7, xstate[BV_OFF + 2] = 2;
	assert_false(arch_inject.lazy_area(&set, area));
	xstate[BV_OFF + 2] = 6;
	memset(area, 0x5a, sizeof(area));
	assert_true(arch_inject.lazy_area(&set, area));
	assert_memory_equal(area + BV_OFF, &tiles, sizeof(tiles));
	/* Of the header XRSTOR wants nothing else. */
	for (unsigned i = BV_OFF + 8; i < sizeof(area); i++)
		assert_int_equal(area[i], 0);
	assert_false(arch_inject.lazy_area(&(struct arch_set){NT_FPREGSET, 512, xstate}, area));
}

/* The code that loads them, with registers that most CPUs have. */
static void loads(void **state)
{
	static uint8_t memory[YMM_OFF + YMM_LEN], now[16384];
	struct iovec iov = {now, sizeof(now)};
	uint8_t regs[ARCH_PRSTATUS_MAX];
	struct stub stub, *s = &stub;
	const uint32_t mxcsr = 0x1f80;
	struct task *task;
	struct batch b;

	if (!__builtin_cpu_supports("avx"))
		skip();
	stub_start(s, child_idle);
	task = tree_proc_task(&s->tree, s->r.proc, 0);
	memcpy(memory + 24, &mxcsr, sizeof(mxcsr));
	memory[BV_OFF] = YMM;
	for (unsigned i = 0; i < YMM_LEN; i++)
		memory[YMM_OFF + i] = (uint8_t)(0x31 + 7 * i);
	batch_init_big(&b, &s->r, NULL, NULL);
	assert_int_equal(b.data_addr % 64, 0);
	assert_int_equal(pwrite(s->r.mem_fd, memory, sizeof(memory), (off_t)b.data_addr),
			 sizeof(memory));
	memcpy(regs, task->prstatus, sizeof(regs));
	arch_inject.set_lazy(regs, slot_code(&s->r, 0), slot_control(&s->r, 0), b.data_addr);
	OK(run_enter(task, regs, ~0ull, &s->err));
	OK(run_to_syscall(&s->r, task, &s->err));
	assert_int_equal(ptrace(PTRACE_GETREGSET, task->tid, NT_X86_XSTATE, &iov), 0);
	assert_true(now[BV_OFF] & YMM);
	assert_memory_equal(now + YMM_OFF, memory + YMM_OFF, YMM_LEN);
	OK(run_to_trap(&s->r, task, 0, &s->err));
	run_retreat(&s->r, task);
	/* All is as it was when its own are put back. */
	OK(put_lazy_regs(&s->r, s->p, &s->err));
	stub_run(s);
	child_end(&s->c);
}

/*
 * Whether all threads have been asked, as the second one shows, that has @tls; @low: where the
 * process's memory begins, 0: it has none.
 */
static int seen_in(struct stub *s, uint64_t low, const struct m_tls *tls)
{
	struct m_vma v = {.start = low, .end = low + 4096};
	struct m_proc p = {.pid = s->p->pid, .nthreads = 3, .mm = {.nvmas = low != 0, .vmas = &v}};
	struct m_thread t[3] = {s->p->threads[0], s->p->threads[1], s->p->threads[2]};

	p.threads = t;
	for (int i = 0; i < 3; i++)
		memset(t[i].tls, 0, sizeof(t[i].tls));
	OK(gdt_collect(&p, &s->err));
	assert_memory_equal(t[0].tls, s->p->threads[0].tls, sizeof(t[0].tls));
	assert_memory_equal(t[2].tls, s->p->threads[2].tls, sizeof(t[2].tls));
	return !memcmp(t[1].tls, tls, sizeof(t[1].tls));
}

static void gdt_entries(void **state)
{
	static const struct m_tls none[M_TLS];
	struct stub stub, *s = &stub;
	struct m_thread *t;
	uint32_t desc[4];

	areas = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	release = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stub_start(s, child_holds);
	t = &s->p->threads[1];
	assert_memory_equal(t->tls, none, sizeof(none));
	if (ptrace(arch_inject.gdt->get, t->tid, arch_inject.gdt->first, desc) < 0) {
		stub_kill(s);
		skip(); /* a kernel without calls of 32 bits */
	}
	t->tls[0] = (struct m_tls){0x1234000, 0xfffff, 0x51};
	t->tls[2] = (struct m_tls){0x5678000, 0x10, 0x09};
	remote_close(&s->r);
	OK(put_regs(&s->r, s->p, &s->err));
	/* Asked of all threads where one may have some. */
	assert_int_equal(seen_in(s, 1ull << 32, t->tls), 0);
	assert_int_equal(seen_in(s, 0x400000, t->tls), 1);
	((struct user_regs_struct *)(void *)t->regsets[0].data)->es = 14 << 3 | 3;
	assert_int_equal(seen_in(s, 0, t->tls), 1);
	((struct user_regs_struct *)(void *)t->regsets[0].data)->es = 15 << 3 | 3;
	assert_int_equal(seen_in(s, 0, t->tls), 0);
	s->p->threads[0].tls[1] = (struct m_tls){0x2000, 1, 0x51};
	((struct user_regs_struct *)(void *)t->regsets[0].data)->es = 0;
	OK(put_regs(&s->r, s->p, &s->err));
	assert_int_equal(seen_in(s, 0, t->tls), 1);
	/* Not a segment of 32 bits. */
	t->tls[1] = (struct m_tls){0x1000, 1, 0x50};
	FAILS(put_regs(&s->r, s->p, &s->err), "entry 13 of the GDT of thread");
	tree_thaw(&s->tree, 0);
	tree_deinit(&s->tree);
	model_free(s->m);
	child_end(&s->c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places),     cmocka_unit_test(no_second_restart),
		cmocka_unit_test(wrong_regs), cmocka_unit_test(permits),
		cmocka_unit_test(asked),      cmocka_unit_test(area_of_tiles),
		cmocka_unit_test(loads),      cmocka_unit_test(gdt_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
