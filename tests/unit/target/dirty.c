/* SPDX-License-Identifier: MIT */
/* Writes to memory are tracked in what is ours alone: mappings that come, that go, of others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "src/target/target.h"
#include "tests/unit/target/child.h"

#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/*
 *	HERE       4 MiB, there from the beginning
 *	BESIDE     1 MiB behind it, comes later
 *	FAR        1 MiB, comes later
 */
#define HERE   0x210000000000ull
#define BESIDE (HERE + (4 << 20))
#define FAR    0x220000000000ull

enum { MIB = 1 << 20 };

static struct model *model;
static struct target *target;
static struct err err;

/* --- the child -------------------------------------------------------------------------------- */

static void *map_at(uint64_t addr, size_t len)
{
	void *p = mmap((void *)(uintptr_t)addr, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p == MAP_FAILED)
		_exit(98);
	memset(p, 1, len);
	return p;
}

/* A userfaultfd of the program's own. */
static void register_at(uint64_t addr, size_t len)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
	struct uffdio_register reg = {
		.range = {addr, len},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &reg) < 0)
		_exit(97);
}

static void child_registers_far(struct child *c)
{
	map_at(HERE, 4 * MIB);
	child_sync(c);
	map_at(FAR, MIB);
	register_at(FAR, MIB);
}

static void child_registers_in_place(struct child *c)
{
	map_at(HERE, 4 * MIB);
	child_sync(c);
	map_at(HERE + MIB, MIB);
	register_at(HERE + MIB, MIB);
}

static void child_maps(struct child *c)
{
	map_at(HERE, 4 * MIB);
	child_sync(c);
	map_at(BESIDE, MIB);
	map_at(FAR, MIB);
}

/* Changes a mapping as programs do that know nothing of us; adds what failed to shared[0]. */
static void change(struct child *c)
{
	char *there = (char *)mmap(NULL, 16 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *here = (char *)HERE, *p;
	uint64_t bad = 0;

	/* A part of one goes elsewhere and comes back, all of one shrinks, grows, and moves. */
	p = mremap(here + MIB, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, there);
	bad |= p != there;
	p = mremap(there, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, here + MIB);
	bad |= (uint64_t)(p != here + MIB) << 1;
	p = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 2, 2 * MIB);
	p = mremap(p, 2 * MIB, MIB, 0);
	bad |= (uint64_t)(p == MAP_FAILED) << 2;
	p = mremap(p, MIB, 8 * MIB, MREMAP_MAYMOVE);
	bad |= (uint64_t)(p == MAP_FAILED) << 3;
	memset(p, 3, 8 * MIB);
	munmap(p, 8 * MIB);
	/* Over what was there and what has come beside it. */
	map_at(BESIDE, MIB);
	bad |= (uint64_t)(mprotect(here + 3 * MIB, 2 * MIB, PROT_READ) < 0) << 4;
	bad |= (uint64_t)(mprotect(here + 3 * MIB, 2 * MIB, PROT_READ | PROT_WRITE) < 0) << 5;
	bad |= (uint64_t)(madvise(here + 3 * MIB, 2 * MIB, MADV_DONTNEED) < 0) << 6;
	bad |= (uint64_t)(munmap(here + 3 * MIB, 2 * MIB) < 0) << 7;
	map_at(HERE + 3 * MIB, MIB);
	munmap(there, 16 * MIB);
	c->shared[0] |= bad;
}

/* All of the mapping that was there when tracking began, as realloc() would move it. */
static void child_changes(struct child *c)
{
	map_at(HERE, 4 * MIB);
	child_sync(c);
	c->shared[0] =
		mremap((void *)HERE, 4 * MIB, 8 * MIB, MREMAP_MAYMOVE) == MAP_FAILED ? 256 : 0;
	map_at(HERE, 4 * MIB);
	change(c);
	child_sync(c);
	change(c);
}

/* --- the target ------------------------------------------------------------------------------- */

static void ok(int ret)
{
	if (ret)
		fail_msg("%d: %s", err.class, err.msg);
}

static void arm(struct child *c, void (*fn)(struct child *c))
{
	struct target_opts opts = {.maps_later = true};

	child_start(c, fn);
	err_clear(&err);
	model = model_new(MODEL_SHARED);
	target = target_open(c->pid, model, &opts, &err);
	if (!target)
		fail_msg("%s", err.msg);
	ok(target_survey(target, &err));
	ok(target_track(target, TARGET_WAY_UFFD, &err));
	if (!target_tracks_pid(target, c->pid))
		fail_msg("not tracked: %s", target_tracks(target)->v[0].why);
	child_next(c);
}

static void release(struct child *c)
{
	target_release(target);
	model_free(model);
	child_end(c);
}

struct asked {
	uint64_t start, end; /* of whom */
	uint64_t bytes;	     /* that are ours in there */
};

static int add_bytes(void *arg, uint64_t start, uint64_t end)
{
	struct asked *a = arg;

	start = start > a->start ? start : a->start;
	end = end < a->end ? end : a->end;
	a->bytes += start < end ? end - start : 0;
	return 0;
}

static uint64_t ours(const struct child *c, uint64_t start, uint64_t len)
{
	struct asked a = {start, start + len, 0};

	ok(target_armed(target_tracks(target), c->pid, add_bytes, &a, &err));
	return a.bytes;
}

static bool has_finding(void)
{
	for (uint32_t i = 0; i < model->nfindings; i++)
		if (model->findings[i].fatal && strstr(model->findings[i].text, "userfaultfd"))
			return true;
	return false;
}

static void freeze(void)
{
	ok(target_freeze(target, &err));
	ok(target_collect(target, &err));
}

/* --- tests ------------------------------------------------------------------------------------ */

/* Rounds leave it alone, and no page of the process counts as it was read by them. */
static void test_new_memory_of_others(void **state)
{
	struct child c;

	arm(&c, child_registers_far);
	assert_int_equal(ours(&c, HERE, 4 * MIB), 4 * MIB);
	assert_int_equal(ours(&c, FAR, MIB), 0);
	freeze();
	assert_false(target_tracks_pid(target, c.pid));
	assert_true(has_finding());
	release(&c);
}

/* While it runs, from what smaps says. */
static void test_seen_by_the_survey(void **state)
{
	struct child c;

	arm(&c, child_registers_far);
	ok(target_survey_again(target, &err));
	assert_false(target_tracks_pid(target, c.pid));
	freeze();
	assert_true(has_finding());
	release(&c);
}

/* Where ours was: the survey takes it for ours. */
static void test_in_the_place_of_ours(void **state)
{
	struct child c;

	arm(&c, child_registers_in_place);
	ok(target_survey_again(target, &err));
	freeze();
	assert_false(target_tracks_pid(target, c.pid));
	assert_true(has_finding());
	release(&c);
}

/* What the program maps becomes ours with the next stop. */
static void test_new_memory(void **state)
{
	struct child c;

	arm(&c, child_maps);
	assert_int_equal(ours(&c, HERE, 5 * MIB), 4 * MIB);
	assert_int_equal(ours(&c, FAR, MIB), 0);
	ok(target_survey_again(target, &err));
	freeze();
	assert_true(target_tracks_pid(target, c.pid));
	assert_false(has_finding());
	release(&c);
}

/* The program's calls do not fail because of us, while it is tracked and when it no longer is. */
static void test_changes(void **state)
{
	struct child c;

	arm(&c, child_changes);
	assert_int_equal(c.shared[0], 0);
	ok(target_survey_again(target, &err));
	freeze();
	ok(target_thaw(target, TARGET_RUN, &err));
	ok(target_untrack(target, &err));
	child_next(&c);
	assert_int_equal(c.shared[0], 0);
	release(&c);
}

/* More of it is looked at by rounds after another stop for it. */
static void test_more(void **state)
{
	struct child c;

	arm(&c, child_maps);
	ok(target_track(target, TARGET_WAY_MORE, &err));
	assert_int_equal(ours(&c, HERE, 5 * MIB), 5 * MIB);
	assert_int_equal(ours(&c, FAR, MIB), MIB);
	release(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_memory_of_others),
		cmocka_unit_test(test_seen_by_the_survey),
		cmocka_unit_test(test_in_the_place_of_ours),
		cmocka_unit_test(test_new_memory),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_more),
	};

	if (geteuid() != 0 || !target_has_wp_async()) {
		printf("userfaultfd with WP_ASYNC (Linux 6.7), and root, are not to be had here\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
