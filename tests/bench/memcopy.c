/* SPDX-License-Identifier: MIT */
/*
 * How fast the memory phase is, against the least it could cost, in one run on one machine.
 *
 *	memcopy [-m MIB] [-r ROUNDS] [-d DIR] [-t THREADS] [-S] [-R]
 *
 * A child holds the heap; this process holds the same bytes (shared since the fork) for the codecs
 * that run alone. All measurements of a table take turns round by round, so that a slow minute of
 * the machine hits all of them. -S sweeps block and pool sizes, -R prints the peak memory of a run
 * for a series of heap sizes. Output: one JSON object per line.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lz4.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "memdump/memdump.h"
#include "tests/bench/heaps.h"

enum {
	ROUNDS_MAX = 101,
	TEMPLATE = 64 << 20,
	BARE_CHUNK = 256 << 10,
};

static struct {
	size_t mib;
	unsigned rounds, threads;
	const char *dir;
	char machine[80];
	struct utsname uts;
} cfg = {.rounds = 5, .dir = "/dev/shm"};

static void die(const char *what)
{
	fprintf(stderr, "memcopy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Of all threads of this process, the kernel's io_uring workers included. */
static double cpu_time(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
	       (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

/* --- heaps --------------------------------------------------------------------------------- */

static const struct pattern {
	const char *name;
	void (*fill)(uint8_t *p, size_t len);
} patterns[] = {
	{"mixed", fill_mixed},
	{"random", fill_random},
	{"half-zero", fill_half},
	{"zero", fill_zero},
};

static void fill_heap(const struct pattern *pat, uint8_t *heap, size_t len)
{
	size_t first = len < TEMPLATE ? len : TEMPLATE;

	pat->fill(heap, first);
	for (size_t at = first; at < len; at += first)
		memcpy(heap + at, heap, len - at < first ? len - at : first);
}

static void *map_heap(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static pid_t hold_heap(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	if (pid < 0)
		die("fork");
	return pid;
}

/* --- what is measured ---------------------------------------------------------------------- */

struct job {
	const char *what;
	void (*run)(const struct job *j);
	/* of md_run */
	enum md_codec_id codec;
	int level;
	uint32_t block_size;
	size_t pool_bytes;
	bool no_uring;
	/* measured */
	double s[ROUNDS_MAX], cpu[ROUNDS_MAX];
	unsigned n;
};

static struct {
	pid_t pid;
	uint8_t *heap;
	size_t len;
	int dirfd;
} victim;

static struct md_stats last_stats;

static void bare_loop(const struct job *j)
{
	uint8_t *buf = map_heap(BARE_CHUNK);
	int fd = openat(victim.dirfd, "memcopy.out", O_WRONLY | O_CREAT | O_EXCL, 0600);

	if (fd < 0)
		die("create output");
	for (size_t at = 0; at < victim.len; at += BARE_CHUNK) {
		struct iovec local = {buf, BARE_CHUNK}, remote = {victim.heap + at, BARE_CHUNK};

		if (process_vm_readv(victim.pid, &local, 1, &remote, 1, 0) != BARE_CHUNK)
			die("process_vm_readv");
		if (write(fd, buf, BARE_CHUNK) != BARE_CHUNK)
			die("write");
	}
	close(fd);
	munmap(buf, BARE_CHUNK);
}

static void whole_run(const struct job *j)
{
	struct md_range range = {
		.space = MD_SPACE_PROC(victim.pid),
		.addr = (uintptr_t)victim.heap,
		.len = victim.len,
		.pid = victim.pid,
		.fd = -1,
		.pick = MD_PICK_PRESENT,
	};
	struct md_file_opts fo = {.page_size = 4096, .no_uring = j->no_uring};
	struct md_opts o = {
		.codec = j->codec,
		.level = j->level,
		.threads = cfg.threads,
		.block_size = j->block_size,
		.pool_bytes = j->pool_bytes,
	};
	struct err err = {0};
	struct md_reader *r = md_reader_vm_new(&range, 1, &err);
	struct md_writer *w =
		r ? md_writer_file_open(victim.dirfd, "memcopy.out", &fo, &err) : NULL;

	if (!w || md_run(r, w, &o, &last_stats, &err) < 0) {
		fprintf(stderr, "memcopy: %s\n", err.msg);
		exit(1);
	}
	r->close(r);
	w->close(w);
}

struct alone {
	const struct job *job;
	size_t next;	/* atomic */
	size_t written; /* atomic */
	int fd;
};

static void *alone_thread(void *arg)
{
	struct alone *a = arg;
	size_t bs = a->job->block_size ? a->job->block_size : MD_DEFAULT_BLOCK_SIZE;
	size_t cap = bs + bs / 128 + 1024;
	char *dst = malloc(cap);
	ZSTD_CCtx *zc = ZSTD_createCCtx();

	for (;;) {
		size_t at = __atomic_fetch_add(&a->next, bs, __ATOMIC_RELAXED);
		const char *src = (char *)victim.heap + at;

		if (at >= victim.len)
			break;
		if (a->job->codec == MD_CODEC_LZ4)
			LZ4_compress_fast(src, dst, (int)bs, (int)cap, a->job->level);
		else
			ZSTD_compressCCtx(zc, dst, cap, src, bs, a->job->level);
	}
	ZSTD_freeCCtx(zc);
	free(dst);
	return NULL;
}

static void in_threads(void *(*fn)(void *arg), struct alone *a)
{
	pthread_t t[256];
	unsigned n = cfg.threads < 256 ? cfg.threads : 256;

	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&t[i], NULL, fn, a))
			die("pthread_create");
	for (unsigned i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

static void codec_alone(const struct job *j)
{
	struct alone a = {.job = j};

	in_threads(alone_thread, &a);
}

/*
 * The least that reading, packing and writing can take together: as many threads, each with a
 * block that stays in its cache, and nothing else: no sums, no index, no order in the file.
 */
static void *floor_thread(void *arg)
{
	struct alone *a = arg;
	const size_t bs = MD_DEFAULT_BLOCK_SIZE, cap = bs + bs / 128 + 1024;
	char *src = malloc(bs), *dst = malloc(cap);
	ZSTD_CCtx *zc = ZSTD_createCCtx();
	size_t at;

	while ((at = __atomic_fetch_add(&a->next, bs, __ATOMIC_RELAXED)) < victim.len) {
		struct iovec local = {src, bs}, remote = {victim.heap + at, bs};
		size_t n, off;

		if (process_vm_readv(victim.pid, &local, 1, &remote, 1, 0) != (ssize_t)bs)
			die("process_vm_readv");
		/* A run's blocks of zeros and of noise cost it next to nothing, so here, too. */
		if (*src == 0 && !memcmp(src, src + 1, bs - 1))
			continue;
		if (a->job->codec == MD_CODEC_LZ4)
			n = (size_t)LZ4_compress_fast(src, dst, (int)bs, (int)cap, a->job->level);
		else
			n = ZSTD_compressCCtx(zc, dst, cap, src, bs, a->job->level);
		off = __atomic_fetch_add(&a->written, n, __ATOMIC_RELAXED);
		if (pwrite(a->fd, n < bs ? dst : src, n < bs ? n : bs, (off_t)off) < 0)
			die("pwrite");
	}
	ZSTD_freeCCtx(zc);
	free(dst);
	free(src);
	return NULL;
}

static void floor_run(const struct job *j)
{
	struct alone a = {.job = j};

	a.fd = openat(victim.dirfd, "memcopy.out", O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (a.fd < 0)
		die("create output");
	in_threads(floor_thread, &a);
	close(a.fd);
}

/* --- taking turns, and telling -------------------------------------------------------------- */

static void take_turns(struct job *jobs, unsigned n)
{
	/* Round 0 warms up and is not counted. */
	for (unsigned round = 0; round <= cfg.rounds; round++) {
		for (unsigned i = 0; i < n; i++) {
			double t0 = now(), c0 = cpu_time();

			jobs[i].run(&jobs[i]);
			if (round) {
				jobs[i].s[jobs[i].n] = now() - t0;
				jobs[i].cpu[jobs[i].n++] = cpu_time() - c0;
			}
			unlinkat(victim.dirfd, "memcopy.out", 0);
		}
	}
}

static int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), cmp_double);
	return v[n / 2];
}

static void tell(const char *pattern, struct job *j)
{
	double m = median(j->s, j->n);

	printf("{\"bench\":\"memcopy\",\"machine\":\"%s\",\"kernel\":\"%s\",\"threads\":%u,"
	       "\"pattern\":\"%s\",\"mib\":%zu,\"what\":\"%s\",\"rounds\":%u,\"median_s\":%.4f,"
	       "\"min_s\":%.4f,\"max_s\":%.4f,\"gb_per_s\":%.3f,\"cpu_s\":%.4f",
	       cfg.machine, cfg.uts.release, cfg.threads, pattern, victim.len >> 20, j->what, j->n,
	       m, j->s[0], j->s[j->n - 1], (double)victim.len / 1e9 / m, median(j->cpu, j->n));
	if (j->block_size || j->pool_bytes)
		printf(",\"block_kib\":%u,\"pool_mib\":%zu", j->block_size >> 10,
		       j->pool_bytes >> 20);
	printf("}\n");
}

/* @ratio against @bar: at most when @most, else at least. */
static void tell_bar(const char *what, double ratio, double bar, bool most)
{
	printf("{\"bench\":\"memcopy\",\"bar\":\"%s\",\"mib\":%zu,\"ratio\":%.3f,\"%s\":%.2f,"
	       "\"met\":%s}\n",
	       what, victim.len >> 20, ratio, most ? "at_most" : "at_least", bar,
	       (most ? ratio <= bar : ratio >= bar) ? "true" : "false");
}

/* What of the bar can be had at all, and how near a run comes to it. */
static void tell_floor(const char *codec, const struct job *alone, const struct job *run,
		       const struct job *least)
{
	const unsigned m = run->n / 2;

	printf("{\"bench\":\"memcopy\",\"floor\":\"%s\",\"mib\":%zu,\"most_that_can_be_had\":%.3f,"
	       "\"run_against_floor\":%.3f,\"cpu_against_floor\":%.3f}\n",
	       codec, victim.len >> 20, alone->s[m] / least->s[m], least->s[m] / run->s[m],
	       least->cpu[m] / run->cpu[m]);
}

static void tell_stages(const char *pattern, const char *what)
{
	const struct md_stats *s = &last_stats;

	printf("{\"bench\":\"memcopy\",\"stages\":\"%s\",\"pattern\":\"%s\",\"raw\":%" PRIu64
	       ",\"packed\":%" PRIu64 ",\"blocks\":[%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
	       "],\"read_busy_s\":%.3f,\"pack_busy_s\":%.3f,\"write_busy_s\":%.3f,"
	       "\"bottleneck\":\"%s\",\"io_uring\":%s}\n",
	       what, pattern, s->raw_bytes, s->packed_bytes, s->blocks[0], s->blocks[1],
	       s->blocks[2], s->blocks[3], (double)s->read.busy_ns / 1e9,
	       (double)s->pack.busy_ns / 1e9, (double)s->write.busy_ns / 1e9, s->bottleneck,
	       s->io_uring ? "true" : "false");
}

static void start_victim(const struct pattern *pat)
{
	victim.len = cfg.mib << 20;
	victim.heap = map_heap(victim.len);
	fill_heap(pat, victim.heap, victim.len);
	victim.pid = hold_heap();
}

static void end_victim(void)
{
	kill(victim.pid, SIGKILL);
	waitpid(victim.pid, NULL, 0);
	munmap(victim.heap, victim.len);
}

static void table(const struct pattern *pat)
{
	struct job jobs[] = {
		{.what = "bare-loop", .run = bare_loop},
		{.what = "run-none", .run = whole_run, .codec = MD_CODEC_NONE},
		{.what = "alone-lz4", .run = codec_alone, .codec = MD_CODEC_LZ4, .level = 1},
		{.what = "run-lz4", .run = whole_run, .codec = MD_CODEC_LZ4, .level = 1},
		{.what = "alone-zstd1", .run = codec_alone, .codec = MD_CODEC_ZSTD, .level = 1},
		{.what = "run-zstd1", .run = whole_run, .codec = MD_CODEC_ZSTD, .level = 1},
		{.what = "run-none-pwrite", .run = whole_run, .no_uring = true},
		{.what = "floor-lz4", .run = floor_run, .codec = MD_CODEC_LZ4, .level = 1},
		{.what = "floor-zstd1", .run = floor_run, .codec = MD_CODEC_ZSTD, .level = 1},
	};
	enum { N = sizeof(jobs) / sizeof(jobs[0]) };

	start_victim(pat);
	take_turns(jobs, N);
	for (unsigned i = 0; i < N; i++)
		tell(pat->name, &jobs[i]);
	/* Once more, for the stages. */
	for (unsigned i = 0; i < N; i++) {
		if (jobs[i].run != whole_run)
			continue;
		jobs[i].run(&jobs[i]);
		unlinkat(victim.dirfd, "memcopy.out", 0);
		tell_stages(pat->name, jobs[i].what);
	}
	if (pat->fill == fill_mixed) {
		tell_bar("none against a bare loop",
			 jobs[1].s[jobs[1].n / 2] / jobs[0].s[jobs[0].n / 2], 1.15, true);
		tell_bar("lz4 against the codec alone, speed",
			 jobs[2].s[jobs[2].n / 2] / jobs[3].s[jobs[3].n / 2], 0.9, false);
		tell_bar("zstd:1 against the codec alone, speed",
			 jobs[4].s[jobs[4].n / 2] / jobs[5].s[jobs[5].n / 2], 0.9, false);
		tell_floor("lz4", &jobs[2], &jobs[3], &jobs[7]);
		tell_floor("zstd:1", &jobs[4], &jobs[5], &jobs[8]);
	}
	if (pat->fill == fill_random)
		tell_bar("incompressible, lz4 against none",
			 jobs[3].s[jobs[3].n / 2] / jobs[1].s[jobs[1].n / 2], 1.15, true);
	end_victim();
}

/* --- sweeps -------------------------------------------------------------------------------- */

static void sweep(void)
{
	static const enum md_codec_id codecs[] = {MD_CODEC_NONE, MD_CODEC_LZ4, MD_CODEC_ZSTD};
	struct job jobs[64] = {0};
	unsigned n = 0;

	start_victim(&patterns[0]);
	for (unsigned c = 0; c < 3; c++)
		for (uint32_t bs = MD_BLOCK_MIN; bs <= 1 << 20; bs *= 2)
			for (size_t pool = 8; pool <= 64; pool *= 2)
				jobs[n++] = (struct job){
					.what = md_codec_name(codecs[c]),
					.run = whole_run,
					.codec = codecs[c],
					.level = codecs[c] ? 1 : 0,
					.block_size = bs,
					.pool_bytes = pool << 20,
				};
	take_turns(jobs, n);
	for (unsigned i = 0; i < n; i++)
		tell(patterns[0].name, &jobs[i]);
	end_victim();
}

/* --- peak memory --------------------------------------------------------------------------- */

/* The run in a process of its own, which never had the heap. */
static long peak_kib(enum md_codec_id codec)
{
	struct job j = {.codec = codec, .level = codec ? 1 : 0};
	struct rusage ru;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		whole_run(&j);
		_exit(0);
	}
	if (pid < 0 || wait4(pid, &status, 0, &ru) < 0 || status)
		die("measured child");
	unlinkat(victim.dirfd, "memcopy.out", 0);
	return ru.ru_maxrss;
}

static void peak_of(size_t mib)
{
	int ready[2];
	char c;

	if (pipe(ready))
		die("pipe");
	victim.len = mib << 20;
	/* The address is reserved here, so that both sides know it, and filled in the child alone.
	 */
	victim.heap = map_heap(victim.len);
	victim.pid = fork();
	if (victim.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fill_heap(&patterns[0], victim.heap, victim.len);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		die("victim");
	close(ready[0]);
	for (unsigned codec = MD_CODEC_NONE; codec <= MD_CODEC_ZSTD; codec++)
		printf("{\"bench\":\"memcopy\",\"peak_rss_kib\":%ld,\"codec\":\"%s\",\"mib\":%zu,"
		       "\"at_most\":131072}\n",
		       peak_kib(codec), md_codec_name(codec), mib);
	end_victim();
}

static void name_machine(void)
{
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "re");

	uname(&cfg.uts);
	snprintf(cfg.machine, sizeof(cfg.machine), "%s", cfg.uts.machine);
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "model name : %79[^\n]", cfg.machine) == 1)
			break;
	if (f)
		fclose(f);
}

int main(int argc, char **argv)
{
	bool do_sweep = false, do_rss = false;
	const char *only = NULL;
	int opt;

	cfg.threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	while ((opt = getopt(argc, argv, "m:r:d:t:p:SR")) != -1) {
		switch (opt) {
		case 'm':
			cfg.mib = strtoul(optarg, NULL, 10);
			break;
		case 'r':
			cfg.rounds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'd':
			cfg.dir = optarg;
			break;
		case 't':
			cfg.threads = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'p':
			only = optarg;
			break;
		case 'S':
			do_sweep = true;
			break;
		case 'R':
			do_rss = true;
			break;
		default:
			return 2;
		}
	}
	cfg.mib = cfg.mib ?: (size_t)sysconf(_SC_AVPHYS_PAGES) >> 18 > 14 ? 4096 : 1024;
	if (!cfg.rounds || cfg.rounds >= ROUNDS_MAX || !cfg.threads)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	name_machine();
	victim.dirfd = open(cfg.dir, O_RDONLY | O_DIRECTORY);
	if (victim.dirfd < 0)
		die(cfg.dir);
	unlinkat(victim.dirfd, "memcopy.out", 0);
	if (do_sweep)
		sweep();
	for (size_t mib = 256; do_rss && mib <= cfg.mib; mib *= 2)
		peak_of(mib);
	for (unsigned i = 0; !do_sweep && !do_rss && i < sizeof(patterns) / sizeof(patterns[0]);
	     i++)
		if (!only || !strcmp(only, patterns[i].name))
			table(&patterns[i]);
	return 0;
}
