/* SPDX-License-Identifier: MIT */
/* The life of a log: before it is open, after it is closed, bounds, descriptors, a full disk. */
#include "tests/unit/binlog/reader.h"

#include <pthread.h>
#include <sys/resource.h>
#include <signal.h>

#include "binlog/pr.h"

static const char *path;

static int early = 1;

__attribute__((constructor)) static void before_main(void)
{
	/* No log yet, no thread set up by anybody: nothing happens, and nothing breaks. */
	BINLOG(BINLOG_ERR, "early %d\n", early++);
	errno = 0;
}

static void test_off(void **state)
{
	struct binlog_stats stats;

	errno = 77;
	for (int i = 0; i < 1000; i++)
		BINLOG(0, "off %d %s\n", i, path);
	assert_int_equal(errno, 77);
	assert_int_equal(early, 2);
	assert_int_equal(binlog_stats(&stats), -EBADF);
	assert_int_equal(binlog_sync(), -EBADF);
	binlog_close();
}

static void test_open_errors(void **state)
{
	const struct binlog_opts keep = {.level = 4, .keep = true, .mode = 0600};
	struct err err = {0};

	assert_int_equal(binlog_open("/nowhere/at/all", NULL, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/nowhere/at/all"));
	assert_int_equal(binlog_open("/dev/null", NULL, NULL), -EEXIST);
	reader_open(path, NULL);
	assert_int_equal(binlog_open(path, NULL, NULL), -EBUSY);
	binlog_close();
	assert_int_equal(binlog_open(path, &keep, NULL), -EEXIST);
	reader_open(path, NULL);
	binlog_close();
}

/* One log after another: numbers stay, each file has the dictionary. */
static void test_again(void **state)
{
	for (int i = 0; i < 5; i++) {
		reader_open(path, NULL);
		for (int k = 0; k < 3000 * i + 1; k++)
			BINLOG(1, "again %d %d\n", i, k);
		assert_int_equal(binlog_sync(), 0);
		binlog_close();
		BINLOG(1, "between %d\n", i);
		struct reader *r = reader_load(path);

		assert_int_equal(r->nrecs, 3000 * (size_t)i + 1);
		assert_int_equal(r->recs[r->nrecs - 1].args[1].word, 3000 * i);
		assert_int_equal(r->closed, 1);
		reader_free(r);
	}
}

#define BOUND (1u << 20)

static void *fill(void *arg)
{
	for (unsigned i = 0; i < 60000; i++)
		BINLOG(3, "fill %u %s\n", i, "with a literal that takes no room");
	return NULL;
}

/* What is decoded and what is counted as lost make up what was written; the newest is there. */
static void test_bound(void **state)
{
	const struct binlog_opts opts = {.level = 4, .mode = 0600, .max_len = BOUND};
	struct binlog_stats stats;
	pthread_t t;

	reader_open(path, &opts);
	pthread_create(&t, NULL, fill, NULL);
	pthread_join(t, NULL);
	for (unsigned i = 0; i < 60000; i++)
		BINLOG(3, "bound %u\n", i);
	assert_int_equal(binlog_stats(&stats), 0);
	assert_in_range(stats.file_len, BOUND / 2, BOUND);
	assert_in_range(stats.lost_records, 1, 120000);
	binlog_close();
	struct reader *r = reader_load(path);

	assert_in_range(r->len, BOUND / 2, BOUND);
	assert_int_equal(r->nrecs + r->lost_records, 120000);
	assert_int_equal(r->lost_records, stats.lost_records);
	assert_int_equal(r->recs[r->nrecs - 1].args[0].word, 59999);
	assert_int_equal(r->loss_records, r->lost_records);
	reader_free(r);
}

/* What a thread loses while others have all the rings is told when it gets one. */
static void *wait_with_ring(void *arg)
{
	pthread_barrier_t *b = arg;

	for (unsigned i = 0; i < 60000; i++)
		BINLOG(3, "holder %u\n", i);
	pthread_barrier_wait(b);
	pthread_barrier_wait(b);
	return NULL;
}

static void test_late_ring(void **state)
{
	const struct binlog_opts opts = {.level = 4, .mode = 0600, .max_len = 300000};
	pthread_barrier_t b;
	pthread_t t;

	pthread_barrier_init(&b, NULL, 2);
	reader_open(path, &opts);
	pthread_create(&t, NULL, wait_with_ring, &b);
	pthread_barrier_wait(&b);
	for (unsigned i = 0; i < 10; i++)
		BINLOG(3, "late %u\n", i);
	pthread_barrier_wait(&b);
	pthread_join(t, NULL);
	/* A joined thread may still be on its way out for a moment. */
	for (unsigned i = 10; i < 20000; i++)
		BINLOG(3, "late %u\n", i);
	binlog_close();
	struct reader *r = reader_load(path);

	assert_int_equal(r->nrecs + r->lost_records, 80000);
	assert_int_equal(r->recs[r->nrecs - 1].args[0].word, 19999);
	assert_int_equal(r->loss_records, r->lost_records);
	reader_free(r);
	pthread_barrier_destroy(&b);
}

/* A record of many pieces is one call, and so it is lost. */
static void test_bound_long(void **state)
{
	const struct binlog_opts opts = {.level = 4, .mode = 0600, .max_len = BOUND};
	static char text[200001];

	memset(text, 'x', 200000);
	reader_open(path, &opts);
	for (unsigned i = 0; i < 100; i++) {
		BINLOG(3, "short %u\n", i);
		BINLOG(3, "long %u %s\n", i, text);
	}
	for (unsigned i = 0; i < 20000; i++)
		BINLOG(3, "short %u\n", i);
	binlog_close();
	struct reader *r = reader_load(path);

	assert_in_range(r->nrecs, 4000, 20000);
	assert_int_equal(r->nrecs + r->lost_records, 20200);
	assert_int_equal(r->loss_records, r->lost_records);
	reader_free(r);
}

/* No room for a ring: every call is counted. */
static void test_no_room(void **state)
{
	const struct binlog_opts opts = {.level = 4, .mode = 0600, .max_len = 65536};

	reader_open(path, &opts);
	for (unsigned i = 0; i < 100; i++)
		BINLOG(3, "no room %u\n", i);
	binlog_close();
	struct reader *r = reader_load(path);

	assert_int_equal(r->nrecs, 0);
	assert_int_equal(r->lost_records, 100);
	reader_free(r);
}

/* RLIMIT_FSIZE stands for a full disk: writes fail in the middle of the log. */
static void test_write_fails(void **state)
{
	struct rlimit old;
	struct rlimit limit;

	getrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, SIG_DFL); /* which would end us, if it came */
	reader_open(path, NULL);
	for (unsigned i = 0; i < 30000; i++)
		BINLOG(3, "write %u\n", i);
	limit = old;
	limit.rlim_cur = 400000;
	setrlimit(RLIMIT_FSIZE, &limit);
	for (unsigned i = 30000; i < 100000; i++)
		BINLOG(3, "write %u\n", i);
	setrlimit(RLIMIT_FSIZE, &old);
	for (unsigned i = 100000; i < 130000; i++)
		BINLOG(3, "write %u\n", i);
	binlog_close();
	struct reader *r = reader_load(path);

	assert_int_equal(r->nrecs + r->lost_records, 130000);
	/* And of a segment that waited for the next one when the limit came. */
	assert_in_range(r->lost_records, 1, 70000 + 65536 / 16);
	assert_int_equal(r->recs[r->nrecs - 1].args[0].word, 129999);
	assert_int_equal(r->loss_records, r->lost_records);
	reader_free(r);
}

/* Of a write that got stuck in the middle nothing is left, and it is not counted. */
static void test_write_is_cut(void **state)
{
	struct rlimit limit;
	uint64_t chunks;
	unsigned there = 0;
	pid_t pid = fork();

	if (pid == 0) {
		reader_open(path, NULL);
		BINLOG(3, "cut %u\n", 0u);
		getrlimit(RLIMIT_FSIZE, &limit);
		limit.rlim_cur = 700000; /* in the middle of a page, in the middle of a chunk */
		setrlimit(RLIMIT_FSIZE, &limit);
		for (unsigned i = 1; i < 100000; i++)
			BINLOG(3, "cut %u\n", i);
		/* A close would cut the tail. */
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	struct reader *r = reader_load(path);

	assert_int_equal(r->nrecs + r->lost_records, 100000);
	assert_in_range(r->nrecs, 20000, 60000);
	assert_int_equal(r->bad_chunks, 0);
	for (size_t at = 700000 / 4096 * 4096; at < 700000 && at < r->len; at++)
		assert_int_equal(r->data[at], 0);
	for (size_t at = 4096; at + 64 <= r->len; at += 4096)
		there += reader_head_ok(r, at) && r->data[at + 4] == BINLOG_BLOCK_CHUNK;
	memcpy(&chunks, r->data + 592, 8);
	assert_int_equal(binlog_le64(chunks), there);
	reader_free(r);
}

/* The program closes all descriptors, and ours becomes another file. */
static void test_descriptor_taken(void **state)
{
	char other[600];
	char *text;
	int low;
	int fd;

	snprintf(other, sizeof(other), "%s.other", path);
	reader_open(path, NULL);
	fd = binlog_fd();
	low = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_in_range(low, 0, 63); /* the log's number is out of the way of the program's */
	assert_in_range(fd, 64, 1024);
	assert_int_equal(close(fd), 0);
	assert_int_equal(dup2(low, fd), fd);
	for (unsigned i = 0; i < 50000; i++)
		BINLOG(3, "taken %u\n", i);
	text = calloc(1, 100);
	assert_int_equal(read(fd, text, 100), 0); /* not one byte of ours */
	assert_int_equal(close(low), 0);
	free(text);
	binlog_close();
	assert_int_equal(close(fd), 0); /* nor closed by us */
	struct reader *r = reader_load(path);

	/* The rings are mapped: had the thread one, the newest would be there. */
	assert_int_equal(r->nrecs + r->lost_records, 50000);
	reader_free(r);
	unlink(other);
}

/* What the other file holds stays, to its last byte, though our tail is cut and our ring is
 * emptied. */
static void test_descriptor_of_data(void **state)
{
	enum { DATA = 1 << 20 };
	char *data = malloc(DATA), *text = malloc(DATA);
	char other[600];
	int fd;

	assert_true(data && text);
	memset(data, 'd', DATA);
	snprintf(other, sizeof(other), "%s.other", path);
	reader_open(path, NULL);
	BINLOG(3, "data %u\n", 0u);
	fd = open(other, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, data, DATA), DATA);
	assert_int_equal(dup2(fd, binlog_fd()), binlog_fd());
	for (unsigned i = 1; i < 50000; i++)
		BINLOG(3, "data %u\n", i);
	assert_int_equal(binlog_sync(), -EBADF);
	binlog_close();
	assert_int_equal(lseek(fd, 0, SEEK_END), DATA);
	assert_int_equal(pread(fd, text, DATA, 0), DATA);
	assert_memory_equal(data, text, DATA);
	close(fd);
	unlink(other);
	free(data);
	free(text);
}

/* Calls of write so far. */
static unsigned long writes(void)
{
	char text[512] = "";
	int fd = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
	const char *at;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		skip();
	close(fd);
	at = strstr(text, "syscw:");
	assert_non_null(at);
	return strtoul(at + 6, NULL, 10);
}

static void *log_late(void *arg)
{
	for (unsigned i = 0; i < 20000; i++)
		BINLOG(3, "late %u\n", i);
	return NULL;
}

/* A thread that begins when the disk is full asks for room from time to time, and not in each call.
 */
static void test_full_for_new_threads(void **state)
{
	struct rlimit old;
	struct rlimit limit;
	unsigned long before;
	pthread_t t;

	getrlimit(RLIMIT_FSIZE, &old);
	reader_open(path, NULL);
	BINLOG(3, "first\n");
	limit = old;
	limit.rlim_cur = 200000;
	setrlimit(RLIMIT_FSIZE, &limit);
	before = writes();
	pthread_create(&t, NULL, log_late, NULL);
	pthread_join(t, NULL);
	assert_in_range(writes() - before, 0, 1000);
	setrlimit(RLIMIT_FSIZE, &old);
	binlog_close();
	struct reader *r = reader_load(path);

	assert_int_equal(r->nrecs, 1);
	assert_int_equal(r->lost_records, 20000);
	reader_free(r);
}

/* As above, with a ring: the newest records are there. */
static void test_descriptor_closed(void **state)
{
	reader_open(path, NULL);
	BINLOG(3, "closed %u\n", 0u);
	assert_int_equal(close(binlog_fd()), 0);
	for (unsigned i = 1; i < 50000; i++)
		BINLOG(3, "closed %u\n", i);
	binlog_close();
	struct reader *r = reader_load(path);

	assert_int_equal(r->nrecs + r->lost_records, 50000);
	assert_in_range(r->nrecs, 4000, 16000);
	assert_int_equal(r->recs[r->nrecs - 1].args[0].word, 49999);
	reader_free(r);
}

/* The parent closes as the last that has logged so far; then a child of its begins, and dies. */
static void test_writes_after_close(void **state)
{
	int go[2];
	pid_t pid;

	assert_int_equal(pipe(go), 0);
	reader_open(path, NULL);
	BINLOG(3, "parent\n");
	pid = fork();
	if (pid == 0) {
		char c;

		close(go[1]);
		if (read(go[0], &c, 1) == 0)
			for (unsigned i = 0; i < 20; i++)
				BINLOG(3, "child %u\n", i);
		raise(SIGKILL);
	}
	close(go[0]);
	binlog_close();
	struct reader *r = reader_load(path);

	assert_int_equal(r->closed, 1);
	reader_free(r);
	close(go[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	r = reader_load(path);
	assert_int_equal(r->nrecs, 21);
	assert_int_equal(r->closed, 0);
	reader_free(r);
}

/* The tail is cut, and a short log is short on the disk. */
static void test_short(void **state)
{
	struct stat st;

	reader_open(path, NULL);
	for (unsigned i = 0; i < 10; i++)
		BINLOG(3, "short %u\n", i);
	binlog_close();
	assert_int_equal(stat(path, &st), 0);
	/* Where pages are long the first of the ring is stored as a whole. */
	assert_in_range(st.st_blocks * 512, 0, 65536 + (sysconf(_SC_PAGESIZE) > 4096 ? 131072 : 0));
	assert_in_range(st.st_size, 0, 262144);
}

static bool stop_logging; /* atomic */

static void *log_on(void *arg)
{
	for (unsigned i = 0; !__atomic_load_n(&stop_logging, __ATOMIC_RELAXED); i++)
		if (i % 8)
			BINLOG(3, "on %u and on\n", i);
		else
			BINLOG(3, "on %u %m\n", i);
	return NULL;
}

/* A log call is no cancellation point, not even one that writes a segment out. */
static void test_cancelled(void **state)
{
	pthread_t t[8];

	reader_open(path, NULL);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t[i], NULL, log_on, NULL), 0);
	usleep(20000);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(pthread_cancel(t[i]), 0);
	usleep(20000);
	__atomic_store_n(&stop_logging, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 8; i++) {
		void *ret;

		pthread_join(t[i], &ret);
		assert_ptr_equal(ret, NULL);
	}
	binlog_close(); /* waits for ever for one that was cancelled within */
	assert_int_equal(binlog_fd(), -1);
}

static int begin(void **state)
{
	path = reader_path("life");
	return 0;
}

static int end(void **state)
{
	binlog_close();
	unlink(path);
	return 0;
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_off),
		TEST(test_open_errors),
		TEST(test_again),
		TEST(test_bound),
		TEST(test_late_ring),
		TEST(test_bound_long),
		TEST(test_no_room),
		TEST(test_writes_after_close),
		TEST(test_write_fails),
		TEST(test_write_is_cut),
		TEST(test_descriptor_taken),
		TEST(test_descriptor_of_data),
		TEST(test_full_for_new_threads),
		TEST(test_descriptor_closed),
		TEST(test_short),
		TEST(test_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
