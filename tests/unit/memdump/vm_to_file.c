/* SPDX-License-Identifier: MIT */
/* The whole way: a child's memory into a block file, and back, byte for byte. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "memdump/memdump.h"

enum { LEN = 4 << 20 };

/* Thirds: text-like, random, zero (but touched). */
static void fill(uint8_t *p, size_t len)
{
	uint64_t x = 88172645463325252ULL;

	for (size_t i = 0; i < len; i++) {
		if (i < len / 3) {
			p[i] = (uint8_t)("the quick brown fox "[i % 20] + (i / 4096) % 3);
		} else if (i < len / 3 * 2) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			p[i] = (uint8_t)x;
		} else {
			p[i] = 0;
		}
	}
}

/* A child that shares our mappings copy on write and waits for its end. */
static pid_t spawn_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void kill_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void no_finding(void *arg, const char *line)
{
	print_error("%s\n", line);
}

static void round_trip(enum md_codec_id codec, int level, bool no_uring)
{
	char dir[] = "/tmp/stasis-memdump-XXXXXX";
	struct err err = {0};
	uint8_t *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *back = malloc(LEN);

	assert_non_null(mkdtemp(dir));
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY);

	fill(p, LEN);
	pid_t pid = spawn_child();
	struct md_range range = {
		.space = MD_SPACE_PROC(pid),
		.addr = (uintptr_t)p,
		.len = LEN,
		.pid = pid,
		.fd = -1,
		.pick = MD_PICK_PRESENT,
	};
	struct md_file_opts fo = {.no_uring = no_uring, .page_size = 4096};
	struct md_opts o = {.codec = codec, .level = level};
	struct md_stats st;
	struct md_reader *r = md_reader_vm_new(&range, 1, &err);
	struct md_writer *w = md_writer_file_open(dirfd, "mem", &fo, &err);

	assert_non_null(r);
	assert_non_null(w);
	if (md_run(r, w, &o, &st, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(st.raw_bytes, LEN);
	assert_int_equal(st.vanished_bytes, 0);
	assert_true(st.blocks[MD_CODEC_ZERO] > 0);
	assert_true(st.blocks[MD_CODEC_NONE] > 0);
	if (codec != MD_CODEC_NONE)
		assert_true(st.blocks[codec] > 0);
	r->close(r);
	w->close(w);
	kill_child(pid);

	struct md_verify v;

	assert_int_equal(md_file_verify(dirfd, "mem", 2, no_finding, NULL, &v, &err), 0);
	assert_int_equal(v.raw_bytes, LEN);
	assert_int_equal(v.packed_bytes, st.packed_bytes);

	struct md_file *f = md_file_open(dirfd, "mem", 0, &err);
	struct md_extent e;

	assert_non_null(f);
	assert_int_equal(md_file_extent(f, range.space, 0, &e), 1);
	assert_int_equal(e.addr, range.addr);
	assert_int_equal(e.len, LEN);
	assert_int_equal(md_file_read(f, range.space, range.addr, back, LEN, &err), LEN);
	assert_memory_equal(back, p, LEN);
	assert_int_equal(md_file_read(f, range.space, range.addr + LEN, back, 1, &err), 0);
	md_file_close(f);

	assert_int_equal(unlinkat(dirfd, "mem", 0), 0);
	close(dirfd);
	rmdir(dir);
	munmap(p, LEN);
	free(back);
}

static void test_none(void **state)
{
	round_trip(MD_CODEC_NONE, 0, false);
}

static void test_lz4(void **state)
{
	round_trip(MD_CODEC_LZ4, 1, false);
}

static void test_zstd(void **state)
{
	round_trip(MD_CODEC_ZSTD, 1, false);
	round_trip(MD_CODEC_ZSTD, -5, false);
}

static void test_pwrite(void **state)
{
	round_trip(MD_CODEC_LZ4, 1, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_lz4),
		cmocka_unit_test(test_zstd),
		cmocka_unit_test(test_pwrite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
