/* SPDX-License-Identifier: MIT */
/* Work that other threads do while the guardian's own does something else. */
#include "src/target/aside.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/urgent.h"

enum { MOST_HELPERS = 3 };

struct aside {
	pthread_t threads[MOST_HELPERS];
	unsigned nthreads;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* protected by lock; what is done for each number is not */
	void (*fn)(void *arg, uint32_t i);
	void *arg;
	uint32_t next, n, done;
	bool over;
};

/* One number, with the lock held before and after. */
static void do_next(struct aside *a)
{
	void (*fn)(void *arg, uint32_t i) = a->fn;
	void *arg = a->arg;
	uint32_t i = a->next++;

	pthread_mutex_unlock(&a->lock);
	fn(arg, i);
	pthread_mutex_lock(&a->lock);
	if (++a->done == a->n)
		pthread_cond_broadcast(&a->changed);
}

static void *helper_main(void *arg)
{
	struct aside *a = arg;
	struct urgent urgent = {0};

	/* What it does is waited for; else it sleeps. */
	urgent_begin(&urgent);
	pthread_mutex_lock(&a->lock);
	while (!a->over) {
		if (a->next < a->n)
			do_next(a);
		else
			pthread_cond_wait(&a->changed, &a->lock);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static unsigned cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

struct aside *aside_new(void)
{
	struct aside *a = calloc(1, sizeof(*a));
	unsigned want = cpus() - 1;
	sigset_t all, old;

	if (!a)
		return NULL;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	/* Those that the guardian hears of it alone must be given. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (a->nthreads < want && a->nthreads < MOST_HELPERS &&
	       !pthread_create(&a->threads[a->nthreads], NULL, helper_main, a))
		a->nthreads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (a->nthreads)
		return a;
	aside_free(a);
	return NULL;
}

void aside_free(struct aside *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->over = true;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	for (unsigned i = 0; i < a->nthreads; i++)
		pthread_join(a->threads[i], NULL);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

void aside_begin(struct aside *a, void (*fn)(void *arg, uint32_t i), void *arg, uint32_t n)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->fn = fn;
	a->arg = arg;
	a->next = a->done = 0;
	a->n = n;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

void aside_end(struct aside *a, void (*fn)(void *arg, uint32_t i), void *arg, uint32_t n)
{
	for (uint32_t i = 0; !a && i < n; i++)
		fn(arg, i);
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	while (a->next < a->n)
		do_next(a);
	while (a->done < a->n)
		pthread_cond_wait(&a->changed, &a->lock);
	pthread_mutex_unlock(&a->lock);
}
