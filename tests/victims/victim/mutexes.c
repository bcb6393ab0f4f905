/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of what user memory and the kernel agree on: mutexes of the dead, inherited priorities,
 * sequences that must not be resumed.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/arch.h"
#include "tests/victims/victim/victim.h"

/* --- heldlocks: robust and priority-inheriting mutexes, held and waited for
 * ------------------------
 */

enum { PRIVATE_ROBUST, PRIVATE_PI, SHARED_ROBUST, SHARED_PI, NMUTEXES };

static struct held {
	pthread_mutex_t m[NMUTEXES];
	_Atomic int leave, waiter_got, waiter_error;
} * held;
static pid_t owner_child;

static void mutex_make(int i)
{
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, i >= SHARED_ROBUST ? PTHREAD_PROCESS_SHARED
							    : PTHREAD_PROCESS_PRIVATE);
	if (i == PRIVATE_ROBUST || i == SHARED_ROBUST)
		pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	else
		pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	if (pthread_mutex_init(&held->m[i], &a))
		v_die("pthread_mutex_init");
}

/* Ends with the robust one held, and leaves the other one by the kernel's hand-over. */
static void *owner_thread(void *arg)
{
	if (pthread_mutex_lock(&held->m[PRIVATE_ROBUST]) ||
	    pthread_mutex_lock(&held->m[PRIVATE_PI]))
		v_die("pthread_mutex_lock");
	v_tick();
	while (!held->leave)
		sleep_ms(2);
	if (pthread_mutex_unlock(&held->m[PRIVATE_PI]))
		v_bad("heldlocks: unlock: %s", strerrordesc_np(errno));
	return NULL;
}

static void owner_process(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (pthread_mutex_lock(&held->m[SHARED_ROBUST]) || pthread_mutex_lock(&held->m[SHARED_PI]))
		v_die("pthread_mutex_lock");
	v_tick();
	while (held->leave < 2)
		sleep_ms(2);
	pthread_mutex_unlock(&held->m[SHARED_PI]);
	_exit(0);
}

static void *waiter_thread(void *arg)
{
	int i = (int)(intptr_t)arg, err;

	v_tick();
	err = pthread_mutex_lock(&held->m[i]);
	if (err != (i == PRIVATE_ROBUST || i == SHARED_ROBUST ? EOWNERDEAD : 0))
		held->waiter_error = err ? err : -1;
	held->waiter_got |= 1 << i;
	if (err == EOWNERDEAD)
		pthread_mutex_consistent(&held->m[i]);
	if (pthread_mutex_unlock(&held->m[i]))
		held->waiter_error = EPERM;
	return NULL;
}

static void heldlocks_setup(void)
{
	held = map_at(HOME(1), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < NMUTEXES; i++)
		mutex_make(i);
	start_thread(owner_thread, NULL);
	owner_child = fork();
	if (!owner_child)
		owner_process();
	if (owner_child < 0)
		v_die("fork");
	v_await_ticks(2);
	for (intptr_t i = 0; i < NMUTEXES; i++)
		start_thread(waiter_thread, (void *)i);
	v_await_ticks(2 + NMUTEXES);
	/* The waiters are to wait. */
	sleep_ms(50);
}

static void heldlocks_check(void)
{
	for (int i = 0; i < NMUTEXES; i++)
		if (pthread_mutex_trylock(&held->m[i]) != EBUSY)
			v_bad("heldlocks: mutex %d is not held any more", i);
	if (held->waiter_got)
		v_bad("heldlocks: a waiter has got what is held: %#x", held->waiter_got);
}

static void heldlocks_finish(void)
{
	held->leave = 2;
	for (int ms = 0; held->waiter_got != (1 << NMUTEXES) - 1 && ms < 10000; ms++)
		sleep_ms(1);
	if (held->waiter_got != (1 << NMUTEXES) - 1)
		v_bad("heldlocks: waiters were not woken: %#x", held->waiter_got);
	if (held->waiter_error)
		v_bad("heldlocks: a waiter got %d", held->waiter_error);
	if (waitpid(owner_child, NULL, 0) != owner_child)
		v_bad("heldlocks: the owner did not end");
	for (int i = 0; i < NMUTEXES; i++)
		if (pthread_mutex_trylock(&held->m[i]))
			v_bad("heldlocks: mutex %d is still held", i);
}

/* --- sequences: a restartable sequence that takes most of a thread's time
 * --------------------------
 *
 * It reads a word, counts for a while, and commits the word that it read plus one. Whatever stops
 * the thread in between must send it to the abort handler. What a dump or a restore resumed in the
 * middle would commit long after it began.
 */

#ifdef __x86_64__

extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

enum { LONGEST_MS = 60 };
static _Atomic uint64_t commits, aborts;
static volatile uint64_t word;

/* 1 committed, 0 sent away. */
static int __attribute__((noinline)) sequence(uint64_t *rseq_cs, uint64_t rounds)
{
	int done = 0;

	__asm__ volatile(".pushsection .data.rel, \"aw\"\n"
			 ".balign 32\n"
			 "77: .long 0, 0\n"
			 ".quad 71f, 72f - 71f, 73f\n"
			 ".popsection\n"
			 "leaq 77b(%%rip), %%rax\n"
			 "movq %%rax, (%[cs])\n"
			 "71:\n"
			 "movq %[word], %%rax\n"
			 "74: decq %[n]\n"
			 "jnz 74b\n"
			 "incq %%rax\n"
			 "movq %%rax, %[word]\n"
			 "72:\n"
			 "movl $1, %[done]\n"
			 ".pushsection .text.unlikely, \"ax\"\n"
			 ".byte 0x0f, 0xb9, 0x3d\n" /* ud1, so that the signature is no code */
			 ".long 0x53053053\n"	    /* the C library's signature */
			 "73: jmp 75f\n"
			 ".popsection\n"
			 "75:\n"
			 : [done] "+r"(done), [word] "+m"(word), [n] "+r"(rounds)
			 : [cs] "r"(rseq_cs)
			 : "rax", "memory", "cc");
	*rseq_cs = 0;
	return done;
}

static void *sequence_thread(void *arg)
{
	uint64_t *rseq_cs = (uint64_t *)((char *)arch_self() + __rseq_offset + 8);

	v_tick();
	while (!v_quitting()) {
		uint64_t before = word, began = now_ns(), took;

		if (!sequence(rseq_cs, 3000000)) {
			aborts++;
			if (word != before)
				v_bad("sequences: an aborted one has committed");
			continue;
		}
		took = (now_ns() - began) / 1000000;
		commits++;
		if (word != before + 1)
			v_bad("sequences: %llu was committed on %llu", (unsigned long long)word,
			      (unsigned long long)before);
		if (took > LONGEST_MS)
			v_bad("sequences: one was committed after %llu ms",
			      (unsigned long long)took);
	}
	return NULL;
}

static void sequences_setup(void)
{
	if (!&__rseq_size || !__rseq_size)
		v_skip("the C library registers no rseq area");
	start_thread(sequence_thread, NULL);
	v_await_ticks(1);
}

static void sequences_check(void)
{
	uint64_t before = commits + aborts, deadline = now_ns() + 10000000000ULL;

	while (commits + aborts < before + 5 && now_ns() < deadline)
		sleep_ms(1);
	if (commits + aborts < before + 5)
		v_bad("sequences: the thread stands still");
}

static void sequences_finish(void)
{
	if (!commits)
		v_bad("sequences: none was ever committed");
}

#else

static void sequences_setup(void)
{
	v_skip("no sequence for this CPU");
}

static void sequences_check(void)
{
}

static void sequences_finish(void)
{
}

#endif

const struct scenario mutex_scenarios[] = {
	{"heldlocks", "robust and priority-inheriting mutexes, held and waited for",
	 heldlocks_setup, heldlocks_check, heldlocks_finish},
	{"sequences", "a restartable sequence that is interrupted", sequences_setup,
	 sequences_check, sequences_finish},
	{},
};
