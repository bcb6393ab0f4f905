/* SPDX-License-Identifier: MIT */
/* CPUs that a running tree leaves over: what it uses, and where it is. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "src/target/procfs.h"
#include "src/target/spare.h"
#include "tests/unit/target/child.h"

static struct target_tracks tracks;
static cpu_set_t all;

static unsigned long sum;

static void spins(struct child *c)
{
	child_sync(c);
	for (;;)
		__atomic_fetch_add(&sum, 1, __ATOMIC_RELAXED);
}

static void sleeps(struct child *c)
{
	child_sync(c);
	__atomic_store_n(&c->shared[0], 1, __ATOMIC_RELAXED);
	for (;;)
		pause();
}

static int beside_on;

static void *spin(void *arg)
{
	struct child *c = arg;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(beside_on, &one);
	sched_setaffinity(0, sizeof(one), &one);
	__atomic_store_n(&c->shared[0], 1, __ATOMIC_RELAXED);
	for (;;)
		__atomic_fetch_add(&sum, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* The main thread sleeps, another one does not. */
static void spins_beside(struct child *c)
{
	pthread_t t;

	child_sync(c);
	if (pthread_create(&t, NULL, spin, c))
		_exit(1);
	for (;;)
		pause();
}

/* Goes on behind its child_sync(), and does not come back. */
static void start(struct child *c, void (*fn)(struct child *c), int cpu)
{
	char go = 1;
	cpu_set_t one;

	child_start(c, fn);
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (cpu >= 0)
		assert_int_equal(sched_setaffinity(c->pid, sizeof(one), &one), 0);
	assert_int_equal(write(c->down[1], &go, 1), 1);
	tracks.n = 1;
	tracks.v[0].pid = (uint32_t)c->pid;
}

static int nth(unsigned n)
{
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &all) && !n--)
			return i;
	return -1;
}

static void test_use(void **state)
{
	struct spare s = {0};
	struct child c;

	start(&c, spins, -1);
	assert_true(spare_look(&s, &tracks));
	assert_false(s.known);
	/* A wait for a CPU counts when it has ended. */
	for (int i = 0; i < 50 && !s.busy; i++) {
		usleep(60000);
		assert_true(spare_look(&s, &tracks));
		assert_true(s.known);
	}
	assert_int_equal(s.busy, 1);
	/* Within a moment there is nothing new. */
	s.busy = 7;
	s.wall_ns = clock_ns(CLOCK_MONOTONIC);
	assert_false(spare_look(&s, &tracks));
	assert_int_equal(s.busy, 7);
	child_end(&c);
}

static void test_no_use(void **state)
{
	struct spare s = {0};
	cpu_set_t cpus;
	struct procfs_stat st = {0};
	struct child c;

	start(&c, sleeps, -1);
	while (!__atomic_load_n(&c.shared[0], __ATOMIC_RELAXED) || st.state != 'S') {
		usleep(1000);
		assert_int_equal(procfs_stat(c.pid, 0, &st), 0);
	}
	assert_true(spare_look(&s, &tracks));
	assert_true(spare_look(&s, &tracks));
	assert_true(s.known);
	assert_int_equal(s.busy, 0);
	assert_false(spare_cpus(&s, &tracks, &cpus));
	child_end(&c);
}

/* The one with the spinning child is left out, whichever it is. */
static void test_where(void **state)
{
	const int n = CPU_COUNT(&all);
	struct spare s = {.busy = 1};
	cpu_set_t cpus, want;

	if (n < 2)
		skip();
	for (int i = 0; i < n && i < 4; i++) {
		struct child c;

		start(&c, spins, nth((unsigned)i));
		usleep(20000);
		assert_true(spare_cpus(&s, &tracks, &cpus));
		CPU_XOR(&want, &cpus, &all);
		assert_int_equal(CPU_COUNT(&want), 1);
		assert_true(CPU_ISSET(nth((unsigned)i), &want));
		child_end(&c);
	}
}

/* One is left, however much the tree uses, and it is never kept from what is not ours anyway. */
static void test_bounds(void **state)
{
	struct spare s = {.busy = 100000};
	cpu_set_t cpus, one;
	struct child c;

	if (CPU_COUNT(&all) < 2)
		skip();
	start(&c, spins, nth(0));
	usleep(20000);
	assert_true(spare_cpus(&s, &tracks, &cpus));
	assert_true(CPU_COUNT(&cpus) >= 1);
	assert_false(CPU_ISSET(nth(0), &cpus));
	CPU_ZERO(&one);
	CPU_SET(nth(1), &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_false(spare_cpus(&s, &tracks, &cpus));
	one = all;
	CPU_CLR(nth(0), &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	assert_false(spare_cpus(&s, &tracks, &cpus));
	assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
	child_end(&c);
	/* Nobody is there any more. */
	assert_false(spare_cpus(&s, &tracks, &cpus));
}

/* Away from the one that is busy; or from the one where the main thread sleeps; or to it. */
static void test_go(void **state)
{
	struct spare_away away;
	cpu_set_t now;
	struct child c;

	if (CPU_COUNT(&all) < 2)
		skip();
	beside_on = nth(1);
	start(&c, spins_beside, nth(0));
	while (!__atomic_load_n(&c.shared[0], __ATOMIC_RELAXED))
		usleep(1000);
	usleep(20000);
	spare_go(&away, &tracks);
	assert_true(away.on);
	assert_int_equal(away.from, nth(1));
	sched_getaffinity(0, sizeof(now), &now);
	assert_false(CPU_ISSET(nth(1), &now));
	spare_return(&away);
	spare_go_aside(&away, &tracks);
	assert_true(away.on);
	assert_int_equal(away.from, nth(0));
	sched_getaffinity(0, sizeof(now), &now);
	assert_false(CPU_ISSET(nth(0), &now));
	assert_int_equal(CPU_COUNT(&now), CPU_COUNT(&all) - 1);
	spare_return(&away);
	spare_stay(&away, nth(0));
	assert_true(away.on);
	sched_getaffinity(0, sizeof(now), &now);
	assert_int_equal(CPU_COUNT(&now), 1);
	assert_true(CPU_ISSET(nth(0), &now));
	spare_return(&away);
	sched_getaffinity(0, sizeof(now), &now);
	assert_true(CPU_EQUAL(&now, &all));
	/* One that there is not, or that is not ours. */
	spare_stay(&away, -1);
	assert_false(away.on);
	spare_stay(&away, CPU_SETSIZE - 1);
	assert_false(away.on);
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_use),   cmocka_unit_test(test_no_use),
		cmocka_unit_test(test_where), cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_go),
	};

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
