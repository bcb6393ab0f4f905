/* SPDX-License-Identifier: MIT */
/* Pre-copy of a child: what counts as stored, and what is read again while it stands still. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "src/ops/precopy_priv.h"
#include "tests/unit/target/child.h"

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* The child's memory, there from the beginning. */
#define HERE 0x210000000000ull

enum { MIB = 1 << 20, LEN = 4 * MIB, MANY = 3000 };

static char dir[64];
static int dirfd;
static struct dump_opts opts;
static struct md_opts mopts;
static struct model *model;
static struct target *target;
static struct md_writer *writer;
static struct precopy *p;
static struct precopy_result result;
static struct lost lost;
static struct err err;

/* --- children --------------------------------------------------------------------------------- */

static void map_here(void)
{
	void *at = mmap((void *)HERE, LEN, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (at == MAP_FAILED)
		_exit(98);
	memset(at, 1, LEN);
}

static void child_plain(struct child *c)
{
	map_here();
}

static unsigned long make_ring(void)
{
	unsigned long ctx = 0;

	if (syscall(SYS_io_setup, 1, &ctx) < 0)
		_exit(97);
	return ctx;
}

/* Once the dump has begun there is none any more. */
static void child_ends_aio(struct child *c)
{
	unsigned long ctx;

	map_here();
	ctx = make_ring();
	child_sync(c);
	syscall(SYS_io_destroy, ctx);
}

/* Another process of the tree waits in a call that may write past page tables. */
static void child_has_reader(struct child *c)
{
	int fds[2];
	char b;

	map_here();
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* pipe2() would set it at the writing end alone. */
		if (pipe(fds) < 0 || fcntl(fds[0], F_SETFL, O_DIRECT) < 0)
			_exit(97);
		c->shared[0] = 1;
		_exit(read(fds[0], &b, 1) < 0);
	}
	while (!*(volatile uint64_t *)c->shared)
		usleep(1000);
	usleep(20000);
}

/* Once the dump has begun there is one. */
static void child_begins_aio(struct child *c)
{
	map_here();
	child_sync(c);
	make_ring();
	c->shared[0] = 1;
}

static void child_has_aio(struct child *c)
{
	map_here();
	make_ring();
}

static void open_direct(void)
{
	int fds[2];

	if (syscall(SYS_pipe2, fds, O_DIRECT | O_CLOEXEC) < 0)
		_exit(97);
}

static void child_has_direct(struct child *c)
{
	map_here();
	open_direct();
}

static void child_has_uring(struct child *c)
{
	struct io_uring_params ring = {0};

	map_here();
	if (syscall(SYS_io_uring_setup, 1, &ring) < 0)
		_exit(97);
}

/* Runs, and is in one call for seconds. */
static void *read_random(void *arg)
{
	static struct iovec iov[1000];
	static char room[2 * MIB];
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	for (int i = 0; i < 1000; i++)
		iov[i] = (struct iovec){room, sizeof(room)};
	*(volatile char *)arg = 1;
	while (readv(fd, iov, 1000) > 0)
		;
	return NULL;
}

static void child_runs(struct child *c)
{
	pthread_t t;

	map_here();
	if (pthread_create(&t, NULL, read_random, c->shared))
		_exit(97);
	while (!*(volatile char *)c->shared)
		usleep(1000);
	usleep(20000);
}

static void child_runs_with_direct(struct child *c)
{
	open_direct();
	child_runs(c);
}

/* Where memory was that is tracked, with a userfaultfd of its own; of many mappings. */
static void child_registers(struct child *c)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
	struct uffdio_register reg = {
		.range = {HERE, MIB},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = {HERE, MIB},
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	char *many = mmap(NULL, MANY * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd;

	for (size_t i = 0; i < MANY; i += 2)
		mprotect(many + i * 4096, 4096, PROT_READ);
	map_here();
	child_sync(c);
	mmap((void *)HERE, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
	     0);
	memset((void *)HERE, 2, MIB);
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0 ||
	    ioctl(fd, UFFDIO_WRITEPROTECT, &wp) < 0)
		_exit(97);
}

static void child_makes_ring(struct child *c)
{
	map_here();
	child_sync(c);
	make_ring();
}

/* --- a dump without its image ----------------------------------------------------------------- */

static void ok(int ret)
{
	if (ret)
		fail_msg("%d: %s", err.class, err.msg);
}

static void copy_rounds(struct child *c, void (*fn)(struct child *c))
{
	struct target_opts topts = {.maps_later = true};
	struct md_file_opts fopts = {.page_size = (uint32_t)sysconf(_SC_PAGESIZE)};

	child_start(c, fn);
	err_clear(&err);
	result = (struct precopy_result){0};
	opts = (struct dump_opts){.pid = c->pid, .tracking = TRACKING_UFFD};
	mopts = (struct md_opts){.codec = MD_CODEC_NONE};
	model = model_new(MODEL_SHARED);
	target = target_open(c->pid, model, &topts, &err);
	if (!target)
		fail_msg("%s", err.msg);
	ok(target_survey(target, &err));
	writer = md_writer_file_open(dirfd, "memory", &fopts, &err);
	if (!writer)
		fail_msg("%s", err.msg);
	p = precopy_begin(target, &opts, NULL, &result, &err);
	if (!p)
		fail_msg("not tracked: %s %s", result.reason, err.msg);
	if (fn == child_ends_aio) {
		assert_int_equal(p->naio, 1);
		child_next(c);
	}
	if (fn == child_begins_aio) {
		assert_int_equal(p->naio, 0);
		child_next(c);
		while (!*(volatile uint64_t *)c->shared)
			usleep(1000);
	}
	ok(precopy_rounds(p, writer, &mopts, &err));
}

static void stop_and_look(void)
{
	struct ranges r = {0};

	lost = (struct lost){.target = target, .model = model};
	ok(target_freeze(target, &err));
	target_leave_guards(target);
	precopy_look(p);
	ok(target_collect(target, &err));
	ok(ranges_collect(&r, model, &err));
	ok(precopy_frozen(p, model, &r, writer, &mopts, &lost, &err));
	ok(target_thaw(target, TARGET_RUN, &err));
	ranges_free(&r);
}

static void release(struct child *c)
{
	lost_deinit(&lost);
	target_release(target);
	precopy_free(p);
	writer->close(writer);
	unlinkat(dirfd, "memory", 0);
	model_free(model);
	child_end(c);
}

/* Bytes of @x in a part of the child's memory. */
static uint64_t bytes_in(const struct extents *x, uint64_t start, uint64_t len)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < x->n; i++) {
		uint64_t from = x->v[i].addr > start ? x->v[i].addr : start;
		uint64_t to = x->v[i].addr + x->v[i].len;

		if (x->v[i].space != MD_SPACE_PROC(opts.pid))
			continue;
		to = to < start + len ? to : start + len;
		sum += from < to ? to - from : 0;
	}
	return sum;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_stored(void **state)
{
	struct child c;

	copy_rounds(&c, child_plain);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), LEN);
	stop_and_look();
	assert_int_equal(bytes_in(&p->clean, HERE, LEN), LEN);
	assert_int_equal(bytes_in(&p->taken, HERE, LEN), 0);
	release(&c);
}

/* What is clean and no round has read is read. */
static void test_never_stored(void **state)
{
	const uint64_t hole = HERE + MIB;
	struct extents left = {0};
	struct child c;

	copy_rounds(&c, child_plain);
	for (size_t i = 0; i < p->stored.n; i++) {
		struct space_extent e = p->stored.v[i];
		uint64_t end = e.addr + e.len;

		if (e.addr > hole || end < hole + MIB) {
			assert_int_equal(extents_add(&left, e.space, e.addr, e.len), 0);
			continue;
		}
		assert_int_equal(extents_add(&left, e.space, e.addr, hole - e.addr), 0);
		assert_int_equal(extents_add(&left, e.space, hole + MIB, end - hole - MIB), 0);
	}
	extents_free(&p->stored);
	p->stored = left;
	stop_and_look();
	assert_int_equal(bytes_in(&p->taken, hole, MIB), MIB);
	assert_int_equal(bytes_in(&p->clean, hole, MIB), 0);
	assert_int_equal(bytes_in(&p->taken, HERE, LEN), MIB);
	assert_int_equal(bytes_in(&p->clean, HERE, LEN), LEN - MIB);
	release(&c);
}

/* A call that may have pinned pages before they were protected: what is read now does not count. */
static void test_in_a_call(void **state)
{
	struct child c;

	copy_rounds(&c, child_has_reader);
	assert_int_equal(result.rounds, 1);
	assert_true(result.round_bytes[0] >= LEN);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), 0);
	stop_and_look();
	assert_int_equal(bytes_in(&p->taken, HERE, LEN), LEN);
	release(&c);
}

/* Of such a process all would be read for nothing, and nothing is. */
static void test_has_aio(void **state)
{
	struct child c;

	copy_rounds(&c, child_has_aio);
	assert_true(precopy_has_aio(p, (uint32_t)c.pid));
	assert_int_equal(result.round_bytes[0], 0);
	stop_and_look();
	assert_int_equal(bytes_in(&p->taken, HERE, LEN), LEN);
	ok(precopy_tell_aio(p, &err));
	assert_true(model->nfindings > 0);
	assert_non_null(strstr(model->findings[model->nfindings - 1].text, "io_setup"));
	assert_false(model->findings[model->nfindings - 1].fatal);
	release(&c);
}

static void test_begins_aio(void **state)
{
	struct child c;

	copy_rounds(&c, child_begins_aio);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), 0);
	stop_and_look();
	assert_int_equal(bytes_in(&p->taken, HERE, LEN), LEN);
	release(&c);
}

static void test_ends_aio(void **state)
{
	struct child c;

	copy_rounds(&c, child_ends_aio);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), LEN);
	stop_and_look();
	assert_int_equal(bytes_in(&p->taken, HERE, LEN), 0);
	release(&c);
}

/* What somebody else has protected looks clean, and was stored before: none of it counts. */
static void test_registered(void **state)
{
	bool found = false;
	struct child c;

	copy_rounds(&c, child_registers);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), LEN);
	child_next(&c);
	stop_and_look();
	assert_int_equal(bytes_in(&p->clean, HERE, LEN), 0);
	assert_int_equal(bytes_in(&p->taken, HERE, LEN), LEN);
	for (uint32_t i = 0; i < model->nfindings; i++)
		found |= model->findings[i].fatal &&
			 !strcmp(model->findings[i].text, TARGET_REGISTERED);
	assert_true(found);
	release(&c);
}

/* All that was stored, or nothing of it, counts when it stands still. */
static void check_counts(struct child *c, bool counts)
{
	stop_and_look();
	assert_int_equal(bytes_in(&p->taken, HERE, LEN), counts ? 0 : LEN);
	assert_int_equal(bytes_in(&p->clean, HERE, LEN), counts ? LEN : 0);
	release(c);
}

static void test_ring(void **state)
{
	struct child c;

	copy_rounds(&c, child_makes_ring);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), LEN);
	child_next(&c);
	check_counts(&c, false);
}

static void test_uring(void **state)
{
	struct io_uring_params ring = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 1, &ring);
	struct child c;

	if (fd < 0)
		skip();
	close(fd);
	copy_rounds(&c, child_has_uring);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), LEN);
	check_counts(&c, false);
}

/* Asleep in no such call: all counts. */
static void test_has_direct(void **state)
{
	struct child c;

	copy_rounds(&c, child_has_direct);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), LEN);
	check_counts(&c, true);
}

/* Of a thread that runs nobody can say in which call: with such a file it may be a read of that. */
static void test_runs(void **state)
{
	struct child c;

	copy_rounds(&c, child_runs);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), LEN);
	check_counts(&c, true);
	copy_rounds(&c, child_runs_with_direct);
	assert_int_equal(bytes_in(&p->stored, HERE, LEN), 0);
	stop_and_look();
	assert_int_equal(bytes_in(&p->taken, HERE, LEN), LEN);
	release(&c);
}

/* What was written and then could not be read is not stored, whatever was before. */
static void test_forget_gone(void **state)
{
	struct precopy q = {0};

	assert_int_equal(extents_add(&q.stored, 7, 0x1000, 0x8000), 0);
	assert_int_equal(extents_add(&q.stored, 8, 0x1000, 0x8000), 0);
	assert_int_equal(extents_add(&q.gone, 7, 0x7000, 0x4000), 0);
	assert_int_equal(extents_add(&q.gone, 7, 0x3000, 0x1000), 0);
	assert_int_equal(precopy_forget_gone(&q, &err), 0);
	assert_int_equal(q.gone.n, 0);
	assert_int_equal(q.stored.n, 3);
	assert_int_equal(q.stored.v[0].addr, 0x1000);
	assert_int_equal(q.stored.v[0].len, 0x2000);
	assert_int_equal(q.stored.v[1].addr, 0x4000);
	assert_int_equal(q.stored.v[1].len, 0x3000);
	assert_int_equal(q.stored.v[2].space, 8);
	assert_int_equal(q.stored.v[2].len, 0x8000);
	extents_free(&q.stored);
	extents_free(&q.gone);
}

/* --- where the last look ends ----------------------------------------------------------------- */

struct watch {
	pthread_t thread;
	pid_t tid;
	int cpu;
	_Atomic bool over, seen; /* the thread may run on that CPU alone */
};

static void *watch_main(void *arg)
{
	struct watch *w = arg;
	cpu_set_t cpus;

	while (!w->over && !w->seen)
		w->seen = sched_getaffinity(w->tid, sizeof(cpus), &cpus) == 0 &&
			  CPU_COUNT(&cpus) == 1 && CPU_ISSET(w->cpu, &cpus);
	return NULL;
}

/* Whoever looks waits for a millisecond, as if calls were being made: long enough to be seen. */
static bool ends_where_calls_are_made(void)
{
	uint32_t *calling = (uint32_t *)(uintptr_t)&p->tracks->calling;
	struct watch w = {.tid = gettid(), .cpu = p->calls_cpu};
	struct ranges r = {0};

	lost = (struct lost){.target = target, .model = model};
	ok(target_freeze(target, &err));
	target_leave_guards(target);
	ok(target_collect(target, &err));
	ok(ranges_collect(&r, model, &err));
	assert_int_equal(pthread_create(&w.thread, NULL, watch_main, &w), 0);
	*calling = (uint32_t)opts.pid;
	precopy_look(p);
	ok(precopy_frozen(p, model, &r, writer, &mopts, &lost, &err));
	*calling = 0;
	w.over = true;
	pthread_join(w.thread, NULL);
	ok(target_thaw(target, TARGET_RUN, &err));
	ranges_free(&r);
	return w.seen;
}

static void test_end_of_the_look(void **state)
{
	cpu_set_t before, after;
	bool seen = false;
	struct child c;

	sched_getaffinity(0, sizeof(before), &before);
	if (CPU_COUNT(&before) < 2)
		skip();
	/* The watcher may come too late. */
	for (int i = 0; i < 20 && !seen; i++) {
		copy_rounds(&c, child_plain);
		assert_true(p->calls_cpu >= 0);
		seen = ends_where_calls_are_made();
		release(&c);
	}
	assert_true(seen);
	sched_getaffinity(0, sizeof(after), &after);
	assert_true(CPU_EQUAL(&before, &after));
}

static int make_dir(void **state)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%.40s/precopy-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir))
		return -1;
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd < 0 ? -1 : 0;
}

static int remove_dir(void **state)
{
	close(dirfd);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forget_gone),
		cmocka_unit_test(test_stored),
		cmocka_unit_test(test_never_stored),
		cmocka_unit_test(test_in_a_call),
		cmocka_unit_test(test_has_aio),
		cmocka_unit_test(test_has_direct),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_uring),
		cmocka_unit_test(test_end_of_the_look),
		cmocka_unit_test(test_registered),
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_ends_aio),
		cmocka_unit_test(test_begins_aio),
	};

	if (geteuid() != 0 || !target_has_wp_async()) {
		printf("userfaultfd with WP_ASYNC (Linux 6.7), and root, are not to be had here\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
