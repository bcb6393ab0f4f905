/* SPDX-License-Identifier: MIT */
/* Pages that processes share since a fork: read without a change to them, and stored once. */
#include "tests/unit/memdump/reader_child.h"

#include <fcntl.h>
#include <unistd.h>

#include "memdump/words.h"
#include "tests/unit/memdump/made.h"

enum { N = 1024 };

static pid_t pids[3]; /* each the child of the one before */

/* Of every hundredth page: the parent's, the child's, the grandchild's; the others are shared. */
static void write_own(size_t who)
{
	for (size_t i = who; i < N; i += 100)
		memset(at(i), (int)(200 + who), PAGE);
}

static uint8_t want(size_t page, size_t who)
{
	if (page % 100 == who)
		return (uint8_t)(200 + who);
	/* The grandchild was forked when the child had written. */
	return who == 2 && page % 100 == 1 ? 201 : byte_of(page);
}

static void family(void)
{
	map_anon(0, N, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < N; i++)
		touch(i);
	for (size_t who = 0; who < 2; who++) {
		int ready[2];
		char c;
		pid_t pid;

		need(pipe(ready) == 0, "pipe");
		if (who)
			write_own(who);
		pid = fork();
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (who)
				write_own(2);
			need(write(ready[1], "", 1) == 1, "ready");
			if (who)
				for (;;)
					pause();
			continue;
		}
		/* Its end closes the pipe, too. */
		need(pid > 0 && read(ready[0], &c, 1) == 1, "a child");
		*(volatile pid_t *)at(N + who) = pid;
		if (who == 0) {
			write_own(0);
			return;
		}
		for (;;)
			pause();
	}
}

/* Where each writes the pid of its child is shared. */
static void begin(void)
{
	need(mmap(at(N), 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
		  -1, 0) != MAP_FAILED,
	     "mmap");
	pids[0] = child(family, NULL);
	for (size_t i = 1; i < 3; i++)
		while (!(pids[i] = *(volatile pid_t *)at(N + i - 1)))
			usleep(1000);
}

static struct md_range range_kin(size_t who, bool kin)
{
	struct md_range r = range_of(pids[who], 0, N, MD_PICK_PRESENT);

	r.kin = kin && who ? pids[who - 1] : 0;
	return r;
}

/* How many pages of all three are only one's own. */
static unsigned count_own(bool *ret_frames)
{
	struct md_words w;
	unsigned n = 0;

	md_words_init(&w);
	*ret_frames = false;
	for (size_t who = 0; who < 3; who++)
		for (size_t i = 0; i < N; i++) {
			uint64_t left;
			const uint64_t *word =
				md_words_at(&w, pids[who], (uintptr_t)at(i), PAGE, &left);

			assert_non_null(word);
			n += !md_word_shared(*word);
			*ret_frames |= md_word_same(*word, *word);
		}
	md_words_deinit(&w);
	return n;
}

static struct md_file *write_and_open(struct made_dir *d, const struct md_range *ranges, size_t n,
				      struct md_stats *st)
{
	const struct md_opts o = {.codec = MD_CODEC_LZ4, .level = 1, .threads = 2};
	const struct md_file_opts fo = {.page_size = PAGE};
	struct err err = {0};
	struct md_reader *r = md_reader_vm_new(ranges, n, &err);
	struct md_writer *w = md_writer_file_open(d->fd, "f", &fo, &err);
	struct md_verify v;
	struct md_file *f;

	assert_non_null(r);
	assert_non_null(w);
	assert_int_equal(md_run(r, w, &o, st, &err), 0);
	r->close(r);
	w->close(w);
	assert_int_equal(md_file_verify(d->fd, "f", 1, NULL, NULL, &v, &err), 0);
	f = md_file_open(d->fd, "f", 0, &err);
	if (!f)
		fail_msg("%s", err.msg);
	return f;
}

static void check_contents(struct md_file *f)
{
	uint8_t *buf = malloc(N * PAGE);
	struct err err = {0};

	for (size_t who = 0; who < 3; who++) {
		assert_int_equal(md_file_read(f, MD_SPACE_PROC(pids[who]), (uintptr_t)at(0), buf,
					      N * PAGE, &err),
				 N * PAGE);
		for (size_t i = 0; i < N; i++)
			if (buf[i * PAGE] != want(i, who) ||
			    buf[(i + 1) * PAGE - 1] != want(i, who))
				fail_msg("process %zu, page %zu", who, i);
	}
	free(buf);
}

static uint64_t origin(struct md_file *f, size_t who, size_t page)
{
	struct md_extent e;
	uint64_t space = 0;

	assert_int_equal(
		md_file_origin(f, MD_SPACE_PROC(pids[who]), (uintptr_t)at(page), &e, &space), 1);
	assert_int_equal(e.addr, (uintptr_t)at(page));
	return space;
}

static void test_stored_once(void **state)
{
	struct made_dir d = made_dir();
	struct md_range ranges[3];
	struct md_stats st;
	struct md_file *f;
	unsigned own;
	bool frames;

	begin();
	for (size_t i = 0; i < 3; i++)
		ranges[i] = range_kin(i, true);
	own = count_own(&frames);
	f = write_and_open(&d, ranges, 3, &st);
	assert_int_equal(count_own(&frames), own);
	check_contents(f);
	if (frames) {
		/* 11 pages written by each of 0, 1 and 2; the child's are the grandchild's, too. */
		assert_int_equal(st.raw_bytes, (N + 2 * 11 + 11) * PAGE);
		assert_int_equal(st.same_bytes, 3 * N * PAGE - st.raw_bytes);
		assert_true(st.blocks[MD_CODEC_SAME] >= 3);
		assert_int_equal(origin(f, 1, 50), pids[0]);
		assert_int_equal(origin(f, 1, 1), pids[1]);
		assert_int_equal(origin(f, 2, 50), pids[0]);
		assert_int_equal(origin(f, 2, 1), pids[1]);
		assert_int_equal(origin(f, 2, 2), pids[2]);
	}
	md_file_close(f);
	unlinkat(d.fd, "f", 0);
	made_dir_remove(&d);
	end(pids[0]);
	if (!frames)
		print_message("SKIP: no right to see frame numbers\n");
}

/* Those of the parent have not been read yet, or never are. */
static void test_not_before(void **state)
{
	struct made_dir d = made_dir();
	struct md_range ranges[3];
	struct md_stats st;
	struct md_file *f;

	begin();
	for (size_t i = 0; i < 3; i++)
		ranges[i] = range_kin(2 - i, true);
	f = write_and_open(&d, ranges, 3, &st);
	assert_int_equal(st.same_bytes, 0);
	check_contents(f);
	md_file_close(f);
	unlinkat(d.fd, "f", 0);
	made_dir_remove(&d);
	end(pids[0]);
}

static void make_shared(void)
{
	map_anon(0, N, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < N; i++)
		touch(i);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
}

static bool is_all(size_t page)
{
	return page < N;
}

/* With somebody outside of the run. */
static void test_stays_shared(void **state)
{
	pid_t pid = child(make_shared, NULL);
	struct md_range r = range_of(pid, 0, N, MD_PICK_PRESENT);
	bool frames;

	for (size_t i = 0; i < 3; i++)
		pids[i] = pid;
	assert_int_equal(count_own(&frames), 0);
	expect(&r, 1, is_all);
	assert_int_equal(count_own(&frames), 0);
	end(pid);
}

static int make_area(void **state)
{
	area = mmap(NULL, NPAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return area == MAP_FAILED ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stays_shared),
		cmocka_unit_test(test_stored_once),
		cmocka_unit_test(test_not_before),
	};

	return cmocka_run_group_tests(tests, make_area, NULL);
}
