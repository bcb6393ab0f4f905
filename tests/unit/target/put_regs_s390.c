/* SPDX-License-Identifier: MIT */
/* Registers put into s390x threads: every set byte by byte, and those that no thread can have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "tests/unit/target/stub.h"

enum { PSW_MASK = 0, R2 = 32, PRSTATUS_LEN = 216, MAX_LEN = 512 };

static void *spin(void *arg)
{
	__atomic_store_n((uint32_t *)arg, 1, __ATOMIC_RELEASE);
	for (;;)
		__asm__ volatile("" : : : "memory");
	return NULL;
}

static void child_spins(struct child *c)
{
	static uint32_t ready;
	pthread_t t;

	pthread_create(&t, NULL, spin, &ready);
	while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
		usleep(1000);
	child_sync(c);
}

/* The second thread, in no call. */
static struct m_thread *start(struct stub *s)
{
	struct m_thread *t;

	stub_start(s, child_spins);
	t = &s->p->threads[1];
	assert_false(t->in_syscall);
	assert_true(t->nregsets >= 4);
	return t;
}

static void end(struct stub *s)
{
	tree_thaw(&s->tree, 0);
	tree_deinit(&s->tree);
	model_free(s->m);
	child_end(&s->c);
}

static size_t get_set(const struct m_thread *t, uint32_t note, uint8_t buf[MAX_LEN])
{
	struct iovec iov = {buf, MAX_LEN};

	if (ptrace(PTRACE_GETREGSET, (pid_t)t->tid, note, &iov) < 0)
		return 0;
	return iov.iov_len;
}

static struct m_regset *set_of(struct m_thread *t, uint32_t note)
{
	return (struct m_regset *)(uintptr_t)model_regset(t, note);
}

/* Any values at all: it does not run with them. */
static void every_byte(void **state)
{
	static const uint32_t notes[] = {NT_PRSTATUS, NT_FPREGSET, NT_S390_VXRS_LOW,
					 NT_S390_VXRS_HIGH};
	struct stub stub, *s = &stub;
	struct m_thread *t = start(s);
	uint8_t now[MAX_LEN];
	unsigned n = 0;

	for (unsigned i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
		struct m_regset *set = set_of(t, notes[i]);
		/* PSW mask, and FPC with nothing behind: few values are any. */
		uint32_t from = notes[i] == NT_PRSTATUS || notes[i] == NT_FPREGSET ? 8 : 0;

		for (uint32_t k = from; set && k < set->len; k++)
			set->data[k] = (uint8_t)rand();
	}
	set_of(t, NT_FPREGSET)->data[3] = 0x31;
	set_of(t, NT_PRSTATUS)->data[2] ^= 0x30; /* condition code */
	remote_close(&s->r);
	OK(put_regs(&s->r, s->p, &s->err));
	for (unsigned i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
		const struct m_regset *set = set_of(t, notes[i]);

		if (!set)
			continue;
		assert_int_equal(get_set(t, notes[i], now), set->len);
		assert_memory_equal(now, set->data, set->len);
		n++;
	}
	assert_true(n >= 2);
	end(s);
}

/* A result like that of a call to be made again, and a word of a call that no kernel writes. */
static void no_restart(void **state)
{
	static const uint32_t words[] = {0x000200a2, 0x000300a2, 0x7fff0001, 0};
	static const uint8_t result[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x00};
	struct stub stub, *s = &stub;
	struct m_thread *t = start(s);
	uint8_t now[MAX_LEN];

	memcpy(t->regsets[0].data + R2, result, 8);
	for (unsigned i = 0; i < 4; i++) {
		memcpy(set_of(t, NT_S390_SYSTEM_CALL)->data, &words[i], 4);
		/* In no call; or in one that the word does not fit. */
		t->in_syscall = i == 1 || i == 2;
		t->syscall_ret = -512;
		OK(put_regs(&s->r, s->p, &s->err));
		assert_int_equal(get_set(t, NT_PRSTATUS, now), PRSTATUS_LEN);
		assert_memory_equal(now, t->regsets[0].data, PRSTATUS_LEN);
		assert_int_equal(get_set(t, NT_S390_SYSTEM_CALL, now), 4);
		assert_memory_equal(now, "\0\0\0", 4);
	}
	remote_close(&s->r);
	end(s);
}

static void wrong_regs(void **state)
{
	static uint8_t block[64];
	struct stub stub, *s = &stub;
	struct m_thread *t = start(s);
	struct m_regset *good = t->regsets, sets[2], *fp = set_of(t, NT_FPREGSET);
	uint8_t byte;

	sets[0] = good[0];
	t->regsets = sets, t->nregsets = 0;
	FAILS(put_regs(&s->r, s->p, &s->err), "no general registers");
	t->nregsets = 1, sets[0].len = PRSTATUS_LEN - 1;
	FAILS(put_regs(&s->r, s->p, &s->err), "no general registers");
	sets[0].len = PRSTATUS_LEN;
	/* The kernel's own mode, and no address space of a program. */
	byte = sets[0].data[PSW_MASK + 1];
	sets[0].data[PSW_MASK + 1] &= (uint8_t)~1;
	FAILS(put_regs(&s->r, s->p, &s->err), "NT_PRSTATUS (0x1)");
	sets[0].data[PSW_MASK + 1] = byte;
	byte = sets[0].data[PSW_MASK + 2];
	sets[0].data[PSW_MASK + 2] |= 0xc0;
	FAILS(put_regs(&s->r, s->p, &s->err), "NT_PRSTATUS (0x1)");
	sets[0].data[PSW_MASK + 2] = byte;

	t->nregsets = 2, sets[1] = *fp;
	fp->data[3] = 4; /* a way to round that there is not */
	FAILS(put_regs(&s->r, s->p, &s->err), "NT_FPREGSET (0x2) of thread");
	fp->data[3] = 0;
	sets[1].len--;
	FAILS(put_regs(&s->r, s->p, &s->err), "do not fit");
	sets[1] = (struct m_regset){.note = 0x3ff, .len = 8, .data = block};
	FAILS(put_regs(&s->r, s->p, &s->err), "register set of unknown kind");
	/* The kernel alone writes these: whatever they hold, there is nothing to do. */
	sets[1] = (struct m_regset){.note = NT_S390_LAST_BREAK, .len = 8, .data = block};
	OK(put_regs(&s->r, s->p, &s->err));
	sets[1] = (struct m_regset){.note = NT_S390_TDB, .len = 3, .data = block};
	OK(put_regs(&s->r, s->p, &s->err));
	t->regsets = good;
	remote_close(&s->r);
	end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte),
		cmocka_unit_test(no_restart),
		cmocka_unit_test(wrong_regs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
