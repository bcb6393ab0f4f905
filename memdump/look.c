/* SPDX-License-Identifier: MIT */
/* Looks at tracked memory: one after the other, or by several threads at once. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "memdump/cpus.h"
#include "memdump/scan.h"

enum {
	/*
	 * One look. Small enough that the last of them is not waited for, and that the target's
	 * mmap lock is free again before somebody notices: 30 us.
	 */
	SLICE = 64 << 20,
	/* Between two ranges of a slice; what lies there takes time, too. */
	GAP = 1 << 20,
	/* In one slice: each takes half a microsecond, whatever is in it. */
	MOST_RANGES = 64,
	MOST_LOOKERS = 16,
};

struct slice {
	int pid;
	unsigned ranges;
	uint64_t start, end;
	/* by the thread that looked at it: up to @seen these regions are not clean */
	uint64_t seen;
	const struct md_region *regions;
	size_t n;
};

/* One thread: its page tables' descriptor, and memory for what it finds. */
struct looker {
	struct md_look *look;
	pthread_t thread;
	int pid, pagemap_fd;
	struct md_region *regions;
	size_t used;
};

struct md_look {
	/* immutable while threads look */
	struct slice *v; /* by process and address */
	size_t n, room;
	size_t nregions; /* room for them, each thread */
	bool guards;
	unsigned nthreads;
	const uint32_t *calling; /* NULL: nobody is given way */
	/* any thread */
	_Atomic size_t next; /* slice */
	_Atomic bool tired;  /* of giving way */
	/* protected by lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool begun, over;
	unsigned busy;
	struct looker lookers[MOST_LOOKERS]; /* the first is the calling thread's */
};

/* --- what to look at -------------------------------------------------------------------------- */

static int slice_add(struct md_look *l, int pid, uint64_t start, uint64_t end)
{
	if (l->n == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		struct slice *v = reallocarray(l->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->room = room;
	}
	l->v[l->n++] =
		(struct slice){.pid = pid, .ranges = 1, .start = start, .end = end, .seen = start};
	return 0;
}

static int by_place(const void *va, const void *vb)
{
	const struct slice *a = va, *b = vb;

	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	return a->start < b->start ? -1 : a->start > b->start;
}

/* Small neighbours together, large ranges in parts. */
static int slices_make(struct md_look *l, const struct md_range *r, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct slice *last = l->n ? &l->v[l->n - 1] : NULL;
		uint64_t start = r[i].addr, end = r[i].addr + r[i].len;

		if (r[i].fd != -1 || r[i].pick != MD_PICK_TRACKED)
			continue;
		if (last && last->pid == r[i].pid && start >= last->end &&
		    start - last->end <= GAP && end - last->start <= SLICE &&
		    last->ranges < MOST_RANGES) {
			last->end = end;
			last->ranges++;
			continue;
		}
		for (; start < end; start += SLICE)
			if (slice_add(l, r[i].pid, start,
				      end - start > SLICE ? start + SLICE : end) < 0)
				return -ENOMEM;
	}
	if (l->n)
		qsort(l->v, l->n, sizeof(*l->v), by_place);
	return 0;
}

/* --- looking ---------------------------------------------------------------------------------- */

static void close_pagemap(struct looker *k)
{
	if (k->pagemap_fd >= 0)
		close(k->pagemap_fd);
	k->pagemap_fd = -1;
	k->pid = 0;
}

/*
 * Opened now and not before: a descriptor keeps the memory that the process had then, and it may
 * have called exec since.
 */
static bool open_pagemap(struct looker *k, int pid)
{
	char path[40];

	if (k->pid == pid)
		return k->pagemap_fd >= 0;
	close_pagemap(k);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	k->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	k->pid = pid;
	return k->pagemap_fd >= 0;
}

/* What it cannot see, for whatever reason, is looked at later, by who can tell why. */
static void look_at(struct looker *k, struct slice *s)
{
	const struct md_look *l = k->look;

	s->regions = k->regions + k->used;
	if (!open_pagemap(k, s->pid))
		return;
	while (s->seen < s->end && k->used < l->nregions) {
		uint64_t end = 0;
		int n = md_pages_look(k->pagemap_fd, MD_PICK_TRACKED, l->guards, s->seen, s->end,
				      k->regions + k->used, l->nregions - k->used, &end);

		if (n < 0)
			return;
		k->used += (size_t)n;
		s->n += (size_t)n;
		s->seen = end;
	}
}

/* Asleep: who only yields keeps threads of other groups of the scheduler waiting. */
static void give_way(struct md_look *l, int pid)
{
	enum { MOST_NS = 1000000 };
	const struct timespec most = {.tv_nsec = MOST_NS};
	uint64_t began = 0;

	while (l->calling && !atomic_load(&l->tired) &&
	       __atomic_load_n(l->calling, __ATOMIC_ACQUIRE) == (uint32_t)pid) {
		const uint64_t now = clock_ns(CLOCK_MONOTONIC);

		began = began ?: now;
		if (now - began >= MOST_NS)
			atomic_store(&l->tired, true);
		else
			syscall(SYS_futex, l->calling, FUTEX_WAIT, (uint32_t)pid, &most, NULL, 0);
	}
}

static void look_on(struct looker *k)
{
	struct md_look *l = k->look;
	size_t i;

	while ((i = atomic_fetch_add(&l->next, 1)) < l->n) {
		give_way(l, l->v[i].pid);
		look_at(k, &l->v[i]);
	}
	close_pagemap(k);
}

static void *looker_main(void *arg)
{
	struct looker *k = arg;
	struct md_look *l = k->look;
	bool begun;

	pthread_mutex_lock(&l->lock);
	while (!l->begun && !l->over)
		pthread_cond_wait(&l->changed, &l->lock);
	begun = l->begun;
	pthread_mutex_unlock(&l->lock);
	if (begun)
		look_on(k);
	pthread_mutex_lock(&l->lock);
	l->busy--;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

static bool looker_init(struct md_look *l, struct looker *k)
{
	void *p = mmap(NULL, l->nregions * sizeof(struct md_region), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		return false;
	*k = (struct looker){.look = l, .pagemap_fd = -1, .regions = p};
	return true;
}

/* Fewer than wanted do as well. */
static void start_lookers(struct md_look *l, unsigned want)
{
	sigset_t all, old;

	/* Signals are the caller's business: they go to threads it knows. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	while (l->nthreads < want && looker_init(l, &l->lookers[l->nthreads])) {
		struct looker *k = &l->lookers[l->nthreads];

		l->busy++;
		if (pthread_create(&k->thread, NULL, looker_main, k)) {
			l->busy--;
			munmap(k->regions, l->nregions * sizeof(*k->regions));
			break;
		}
		l->nthreads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

struct md_look *md_look_new(const struct md_range *ranges, size_t n, unsigned threads,
			    size_t nregions, struct err *err)
{
	struct md_look *l = calloc(1, sizeof(*l));
	unsigned want = threads ? threads : md_cpus_allowed();

	if (!l) {
		err_set(err, ENOMEM, "reserve memory for a look at page tables");
		return NULL;
	}
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	l->guards = md_can_see_guards();
	l->nregions = nregions;
	if (slices_make(l, ranges, n) < 0 || !looker_init(l, &l->lookers[0])) {
		md_look_free(l);
		err_set(err, ENOMEM, "reserve memory for a look at page tables");
		return NULL;
	}
	l->nthreads = 1;
	want = want < MOST_LOOKERS ? want : MOST_LOOKERS;
	/* For less than two slices each it is not worth waking somebody. */
	start_lookers(l, want < l->n / 2 ? want : (unsigned)(l->n / 2));
	return l;
}

/* From within the lock, so that nobody misses it. */
static void tell(struct md_look *l, bool *what)
{
	pthread_mutex_lock(&l->lock);
	*what = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

void md_look_give_way(struct md_look *l, const uint32_t *pid)
{
	l->calling = pid;
}

void md_look_begin(struct md_look *l)
{
	tell(l, &l->begun);
}

void md_look_end(struct md_look *l)
{
	look_on(&l->lookers[0]);
	pthread_mutex_lock(&l->lock);
	while (l->busy)
		pthread_cond_wait(&l->changed, &l->lock);
	pthread_mutex_unlock(&l->lock);
}

void md_look_free(struct md_look *l)
{
	if (!l)
		return;
	tell(l, &l->over);
	for (unsigned i = 0; i < l->nthreads; i++) {
		if (i)
			pthread_join(l->lookers[i].thread, NULL);
		munmap(l->lookers[i].regions, l->nregions * sizeof(struct md_region));
	}
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
	free(l->v);
	free(l);
}

bool md_look_find(const struct md_look *l, int pid, uint64_t addr, const struct md_region **ret,
		  size_t *ret_n, uint64_t *ret_end)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct slice *s = &l->v[mid];

		if (s->pid < pid || (s->pid == pid && s->end <= addr))
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == l->n || l->v[lo].pid != pid || l->v[lo].start > addr || l->v[lo].seen <= addr)
		return false;
	*ret = l->v[lo].regions;
	*ret_n = l->v[lo].n;
	*ret_end = l->v[lo].seen;
	return true;
}

/* --- what was seen ---------------------------------------------------------------------------- */

static enum md_seen seen_of(const struct md_piece *p)
{
	/* A guard region may have been protected like a page. */
	if (p->guard)
		return MD_SEEN_GUARD;
	if (p->clean)
		return MD_SEEN_CLEAN;
	return p->written ? MD_SEEN_WRITTEN : MD_SEEN_OTHER;
}

static int scan_pieces(struct md_scanner *s, md_seen_fn *emit, void *arg, struct err *err)
{
	enum md_seen seen = MD_SEEN_CLEAN;
	struct md_extent e = {0};
	struct md_piece p;
	size_t at = 0;
	int ret;

	s->skip_gone = true;
	while ((ret = md_scanner_next(s, UINT64_MAX, &p, err)) > 0) {
		p.addr += p.shift;
		if (e.len && at == s->at && seen == seen_of(&p) && p.addr == e.addr + e.len) {
			e.len += p.len;
			continue;
		}
		if (e.len && (ret = emit(arg, &s->ranges[at], &e, seen)) < 0)
			break;
		e = (struct md_extent){p.addr, p.len};
		at = s->at;
		seen = seen_of(&p);
	}
	if (ret == 0 && e.len)
		ret = emit(arg, &s->ranges[at], &e, seen);
	md_scanner_deinit(s);
	return ret;
}

int md_look_each(const struct md_look *l, const struct md_range *ranges, size_t n, md_seen_fn *emit,
		 void *arg, struct err *err)
{
	struct md_scanner s;

	md_scanner_init(&s, ranges, n, false);
	s.ahead = l;
	s.guards = l ? l->guards : md_can_see_guards();
	return scan_pieces(&s, emit, arg, err);
}

struct tracked_arg {
	int (*emit)(void *arg, const struct md_range *range, const struct md_extent *e, bool clean);
	void *arg;
};

static int tracked_emit(void *varg, const struct md_range *range, const struct md_extent *e,
			enum md_seen seen)
{
	const struct tracked_arg *arg = varg;

	return arg->emit(arg->arg, range, e, seen == MD_SEEN_CLEAN);
}

int md_scan_tracked(const struct md_range *ranges, size_t n,
		    int (*emit)(void *arg, const struct md_range *range, const struct md_extent *e,
				bool clean),
		    void *arg, struct err *err)
{
	struct tracked_arg a = {emit, arg};
	struct md_scanner s;

	md_scanner_init(&s, ranges, n, false);
	return scan_pieces(&s, tracked_emit, &a, err);
}
