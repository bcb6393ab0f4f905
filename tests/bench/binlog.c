/* SPDX-License-Identifier: MIT */
/*
 * What a log call costs, beside a bare counter read with a 32-byte store, fprintf and
 * snprintf+write: JSON lines on stdout.
 *
 *	binlog [DIR]		where the logs go, default build/bench; they are removed
 *	binlog --write FILE N	writes N calls of mixed kinds
 *	binlog --killed FILE N	the same, then SIGKILL
 *
 * Every row is measured in rounds, in turn with the bare loop, so that a noisy moment hits both.
 * A sample is the mean of a batch of calls; p50, p10 and p90 are over the samples of all rounds.
 * `ratio` is p50 over the p50 of the bare loop of this run; `bar` is what the project asks for.
 * What two threads take is compared in CPU time: on a busy machine they may have to share a CPU.
 * Beside it stands what the bare loop does in two threads, and two processes with a log each, which
 * share nothing of ours: what those lose as well, the machine takes and not the log. The call
 * alone, without the kernel's writing, is the p50 of the batches of such threads.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "binlog/binlog.h"

#define BATCH	  256
#define SAMPLES	  40 /* per row and round */
#define ROUNDS	  50
#define BATCHES	  11719
#define SUSTAINED (BATCH * BATCHES) /* 3 million */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t bare_buffer[8192] __attribute__((aligned(64)));
static unsigned bare_at;
static FILE *text;
static int text_fd;
/* Read anew each time, so that the compiler cannot know them. */
static volatile int vi = 12345;
static volatile uint64_t vu = 0x123456789abcull;
static char name[] = "sixteen bytes...";

static void run_bare(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t t = binlog_counter();
		volatile uint64_t *p = bare_buffer + bare_at;

		p[0] = t;
		p[1] = i;
		p[2] = i;
		p[3] = i;
		bare_at = (bare_at + 4) % 8192;
	}
}

static void run_empty(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		__asm__ volatile("" : : "r"(i));
}

static void run_below(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		__asm__ volatile("" : : "r"(i));
		BINLOG(9, "below %u\n", i);
	}
}

#define RUN(name, ...)                           \
	static void name(unsigned n)             \
	{                                        \
		const int v = vi;                \
		const uint64_t u = vu;           \
                                                 \
		(void)v;                         \
		(void)u;                         \
		for (unsigned i = 0; i < n; i++) \
			__VA_ARGS__;             \
	}

/* clang-format off */
RUN(run_0, BINLOG(BINLOG_INFO, "no argument\n"))
RUN(run_1, BINLOG(BINLOG_INFO, "%u\n", i))
RUN(run_2, BINLOG(BINLOG_INFO, "%u %d\n", i, v))
RUN(run_3, BINLOG(BINLOG_INFO, "%u %d %d\n", i, v, v + 1))
RUN(run_4, BINLOG(BINLOG_INFO, "%u %d %d %d\n", i, v, v + 1, v + 2))
RUN(run_5, BINLOG(BINLOG_INFO, "%u %d %d %d %d\n", i, v, v + 1, v + 2, v + 3))
RUN(run_6, BINLOG(BINLOG_INFO, "%u %d %d %d %d %d\n", i, v, v + 1, v + 2, v + 3, v + 4))
RUN(run_7, BINLOG(BINLOG_INFO, "%u %d %d %d %d %d %d\n", i, v, v + 1, v + 2, v + 3, v + 4, v + 5))
RUN(run_8, BINLOG(BINLOG_INFO, "%u %d %d %d %d %d %d %d\n", i, v, v + 1, v + 2, v + 3, v + 4, v + 5,
		  v + 6))
RUN(run_9, BINLOG(BINLOG_INFO, "%u %d %d %d %d %d %d %d %d\n", i, v, v + 1, v + 2, v + 3, v + 4,
		  v + 5, v + 6, v + 7))
RUN(run_10, BINLOG(BINLOG_INFO, "%u %d %d %d %d %d %d %d %d %d\n", i, v, v + 1, v + 2, v + 3, v + 4,
		   v + 5, v + 6, v + 7, v + 8))
RUN(run_10_u64, BINLOG(BINLOG_INFO,
	"%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
	" %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", u, u + i, u + 1, u + 2, u + 3, u + 4, u + 5,
	u + 6, u + 7, u + 8))
RUN(run_string, BINLOG(BINLOG_INFO, "%s %" PRIu64 " %" PRIu64 "\n", name, u, u + i))
RUN(run_precision, BINLOG(BINLOG_INFO, "%.*s %u\n", 7, name, i))
RUN(run_fprintf, fprintf(text, "%u %d\n", i, v))
RUN(run_fprintf_string, fprintf(text, "%s %" PRIu64 " %" PRIu64 "\n", name, u, u + i))
/* clang-format on */

static void run_snprintf_write(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char line[64];
		int len = snprintf(line, sizeof(line), "%u %d\n", i, vi);

		if (write(text_fd, line, (size_t)len) != len)
			abort();
	}
}

static struct row {
	const char *name;
	void (*run)(unsigned n);
	double bar; /* times the bare loop; 0: none */
	double samples[SAMPLES * ROUNDS];
} rows[] = {
	{"bare counter + 32-byte store", run_bare, 0, {0}},
	{"call, 0 ints", run_0, 1.3, {0}},
	{"call, 1 int", run_1, 1.3, {0}},
	{"call, 2 ints", run_2, 1.3, {0}},
	{"call, 3 ints", run_3, 1.3, {0}},
	{"call, 4 ints", run_4, 1.3, {0}},
	{"call, 5 ints", run_5, 1.3, {0}},
	{"call, 6 ints", run_6, 1.3, {0}},
	{"call, 7 ints", run_7, 1.3, {0}},
	{"call, 8 ints", run_8, 1.3, {0}},
	{"call, 9 ints", run_9, 1.3, {0}},
	{"call, 10 ints", run_10, 1.3, {0}},
	{"call, 10 u64", run_10_u64, 1.3, {0}},
	{"call, 16-byte string + 2 u64", run_string, 1.6, {0}},
	{"call, %.*s + int", run_precision, 0, {0}},
	{"empty loop", run_empty, 0, {0}},
	{"call below the level", run_below, 0, {0}},
	{"fprintf, 2 ints", run_fprintf, 0, {0}},
	{"fprintf, string + 2 u64", run_fprintf_string, 0, {0}},
	{"snprintf + write, 2 ints", run_snprintf_write, 0, {0}},
};
#define NROWS (sizeof(rows) / sizeof(rows[0]))

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static double percentile(double *samples, unsigned n, unsigned p)
{
	qsort(samples, n, sizeof(*samples), by_value);
	return samples[n * p / 100];
}

static double bare_ns;

static void report(const char *row, double *samples, unsigned n, double bar)
{
	double p50 = percentile(samples, n, 50);

	printf("{\"bench\": \"binlog\", \"row\": \"%s\", \"p50_ns\": %.2f, \"p10_ns\": %.2f, "
	       "\"p90_ns\": %.2f, \"ratio\": %.3f",
	       row, p50, percentile(samples, n, 10), percentile(samples, n, 90), p50 / bare_ns);
	if (bar > 0)
		printf(", \"bar\": %.1f, \"ok\": %s", bar, p50 <= bar * bare_ns ? "true" : "false");
	printf("}\n");
	fflush(stdout);
}

static void measure_rows(void)
{
	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned r = 0; r < NROWS; r++) {
			rows[r].run(BATCH);
			for (unsigned s = 0; s < SAMPLES; s++) {
				uint64_t t = now_ns();

				rows[r].run(BATCH);
				rows[r].samples[round * SAMPLES + s] =
					(double)(now_ns() - t) / BATCH;
			}
			if (ftruncate(text_fd, 0) < 0)
				abort();
		}
	bare_ns = percentile(rows[0].samples, SAMPLES * ROUNDS, 50);
	for (unsigned r = 0; r < NROWS; r++)
		report(rows[r].name, rows[r].samples, SAMPLES * ROUNDS, rows[r].bar);

	double empty = percentile(rows[15].samples, SAMPLES * ROUNDS, 50);
	double below = percentile(rows[16].samples, SAMPLES * ROUNDS, 50);

	printf("{\"bench\": \"binlog\", \"row\": \"below the level, over an empty loop\", "
	       "\"p50_ns\": %.2f, \"bar_ns\": 1.0, \"ok\": %s}\n",
	       below - empty, below - empty <= 1.0 ? "true" : "false");
}

static void open_log(const char *path)
{
	struct err err = {0};

	if (binlog_open(path, NULL, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
}

static uint64_t thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A thread's work, its CPU time per call and the p50 of its batches. */
struct work {
	void (*run)(unsigned n);
	double cpu, p50;
	double *batches;
};

static double work_batches[2][BATCHES];

static void *work(void *arg)
{
	struct work *w = arg;
	uint64_t t = thread_ns(), b = now_ns();

	for (unsigned i = 0; i < BATCHES; i++) {
		uint64_t e;

		w->run(BATCH);
		e = now_ns();
		w->batches[i] = (double)(e - b) / BATCH;
		b = e;
	}
	w->cpu = (double)(thread_ns() - t) / SUSTAINED;
	return NULL;
}

/* Time per call of @nthreads that do the same at once, this one among them: CPU time; p50 of
 * batches. */
static double in_threads(void (*run)(unsigned n), unsigned nthreads, double *ret_p50)
{
	struct work w[2] = {{run, 0, 0, work_batches[0]}, {run, 0, 0, work_batches[1]}};
	pthread_t other;

	if (nthreads == 2)
		pthread_create(&other, NULL, work, &w[1]);
	work(&w[0]);
	if (nthreads == 2)
		pthread_join(other, NULL);
	*ret_p50 = 0;
	for (unsigned i = 0; i < nthreads; i++)
		*ret_p50 += percentile(w[i].batches, BATCHES, 50) / nthreads;
	return (w[0].cpu + w[1].cpu) / nthreads;
}

/* The bare loop with a buffer of the thread's own, for two of them. */
static void run_bare_alone(unsigned n)
{
	uint64_t buffer[8192] __attribute__((aligned(4096)));
	unsigned at = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t t = binlog_counter();
		volatile uint64_t *p = buffer + at;

		p[0] = t;
		p[1] = i;
		p[2] = i;
		p[3] = i;
		at = (at + 4) % 8192;
	}
}

/* Time per call of a thread with everything that follows: open to close, or fopen to fclose. */
static double sustained(const char *path, unsigned nthreads, double *ret_cpu, double *ret_p50)
{
	uint64_t t;

	open_log(path);
	t = now_ns();
	*ret_cpu = in_threads(run_2, nthreads, ret_p50);
	binlog_close();
	t = now_ns() - t;
	unlink(path);
	return (double)t / SUSTAINED;
}

/* CPU time per call of two processes that write a log each. */
static double sustained_apart(const char *path)
{
	double *cpu = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char other[4200];
	pid_t pid;
	double ret, p50;

	if (cpu == MAP_FAILED)
		abort();
	snprintf(other, sizeof(other), "%s.other", path);
	pid = fork();
	if (pid == 0) {
		sustained(other, 1, cpu, &p50);
		_exit(0);
	}
	sustained(path, 1, cpu + 1, &p50);
	while (waitpid(pid, NULL, 0) < 0)
		;
	ret = (cpu[0] + cpu[1]) / 2;
	munmap(cpu, 4096);
	return ret;
}

static double sustained_fprintf(const char *path)
{
	uint64_t t;

	text = fopen(path, "w");
	if (!text)
		exit(1);
	t = now_ns();
	run_fprintf(SUSTAINED / 4);
	fclose(text);
	t = now_ns() - t;
	unlink(path);
	return (double)t / (SUSTAINED / 4);
}

#define TURNS 25

static void print_ratio(const char *row, double *pairs, double least, bool is_bar)
{
	double p50 = percentile(pairs, TURNS, 50);

	printf("{\"bench\": \"binlog\", \"row\": \"%s\", \"ratio\": %.3f, \"of_least\": %.3f", row,
	       p50, least);
	if (is_bar)
		printf(", \"bar\": 1.0, \"ok\": %s", p50 <= 1.0 ? "true" : "false");
	printf("}\n");
}

static void measure_sustained(const char *path)
{
	double wall[2][TURNS];
	double cpu[2][TURNS];
	double file[TURNS];
	double bare[TURNS];
	double alone[2][TURNS];
	double apart[TURNS];
	double calls[2][TURNS];
	double pairs[4][TURNS];

	for (unsigned i = 0; i < TURNS; i++) {
		uint64_t t = now_ns();
		double p50;

		run_bare(SUSTAINED);
		bare[i] = (double)(now_ns() - t) / SUSTAINED;
		/* Now the one first, now the other. */
		for (unsigned k = 0; k < 2; k++) {
			unsigned n = k ^ (i & 1);

			wall[n][i] = sustained(path, n + 1, &cpu[n][i], &calls[n][i]);
			alone[n][i] = in_threads(run_bare_alone, n + 1, &p50);
		}
		apart[i] = sustained_apart(path);
		pairs[0][i] = cpu[1][i] / cpu[0][i];
		pairs[1][i] = apart[i] / cpu[0][i];
		pairs[2][i] = alone[1][i] / alone[0][i];
		pairs[3][i] = calls[1][i] / calls[0][i];
		file[i] = sustained_fprintf(path);
	}
	report("bare, sustained", bare, TURNS, 0);
	report("sustained, one thread, 2 ints, flush included", wall[0], TURNS, 2.0);
	report("sustained, two threads, 2 ints, wall time per call of a thread", wall[1], TURNS, 0);
	report("sustained, one thread, CPU time", cpu[0], TURNS, 0);
	report("sustained, two threads, CPU time", cpu[1], TURNS, 0);
	report("call, 2 ints, one thread, p50 of its batches", calls[0], TURNS, 0);
	report("call, 2 ints, two threads, p50 of their batches", calls[1], TURNS, 0);
	report("sustained fprintf, 2 ints, flush included", file, TURNS, 0);

	report("sustained, two processes with a log each, CPU time", apart, TURNS, 0);
	report("bare, one thread, CPU time", alone[0], TURNS, 0);
	report("bare, two threads, CPU time", alone[1], TURNS, 0);
	/* report() has sorted them. */
	print_ratio("p50 of calls, two threads over one", pairs[3], calls[1][0] / calls[0][0],
		    true);
	print_ratio("CPU time per call, two threads over one", pairs[0], cpu[1][0] / cpu[0][0],
		    true);
	print_ratio("CPU time per call, two processes with a log each over one", pairs[1],
		    apart[0] / cpu[0][0], false);
	print_ratio("bare loop, two threads over one", pairs[2], alone[1][0] / alone[0][0], false);
}

static int write_calls(const char *path, unsigned n, bool killed)
{
	open_log(path);
	for (unsigned i = 0; i < n; i++)
		switch (i % 4) {
		case 0:
			BINLOG(BINLOG_DEBUG, "call %u %d\n", i, vi);
			break;
		case 1:
			BINLOG(BINLOG_INFO, "call %u read %#" PRIx64 " %u bytes\n", i, vu + i, i);
			break;
		case 2:
			BINLOG(BINLOG_DEBUG, "call %u open %s: %d\n", i, name, vi);
			break;
		default:
			BINLOG(BINLOG_DEBUG, "call %u vma %" PRIx64 "-%" PRIx64 " %u %d\n", i, vu,
			       vu + i, i, vi);
			break;
		}
	if (killed)
		kill(getpid(), SIGKILL);
	binlog_close();
	return 0;
}

int main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : "build/bench";
	char log_path[4096];
	char text_path[4096];
	struct utsname u;
	struct statfs fs;

	if (argc == 4 && (!strcmp(argv[1], "--write") || !strcmp(argv[1], "--killed")))
		return write_calls(argv[2], (unsigned)strtoul(argv[3], NULL, 0),
				   !strcmp(argv[1], "--killed"));
	if (argc == 1)
		mkdir(dir, 0777);
	snprintf(log_path, sizeof(log_path), "%s/bench.blog", dir);
	snprintf(text_path, sizeof(text_path), "%s/bench.text", dir);
	uname(&u);
	if (statfs(dir, &fs) < 0) {
		perror(dir);
		return 1;
	}
	printf("{\"bench\": \"binlog\", \"kernel\": \"%s\", \"machine\": \"%s\", \"cpus\": %ld, "
	       "\"batch\": %u, \"samples\": %u, \"file_system\": \"%s\"}\n",
	       u.release, u.machine, sysconf(_SC_NPROCESSORS_ONLN), BATCH, SAMPLES * ROUNDS,
	       fs.f_type == 0xef53	 ? "ext4"
	       : fs.f_type == 0x01021994 ? "tmpfs"
					 : "other");

	text = fopen(text_path, "w");
	text_fd = open(text_path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (!text || text_fd < 0) {
		perror(text_path);
		return 1;
	}
	open_log(log_path);
	measure_rows();
	binlog_close();
	fclose(text);
	close(text_fd);
	unlink(text_path);
	unlink(log_path);
	measure_sustained(log_path);
	return 0;
}
