/* SPDX-License-Identifier: MIT */
/*
 * A process that writes at a steady rate and notices when it is kept from it.
 *
 *	ticker run CTL [--size MiB] [--pattern text|random|half] [--rate MB/s] [--threads N]
 *		[--idle N] [--vmas N] [--calm 1]
 *	ticker ask CTL wait|reset|read|trace|fork|write|quit [MS, with write: pages]
 *
 * Its first thread spins on the clock. Every 4096 bytes of the rate it writes one word to a page
 * at random, which dirties one page: 100 MB/s are 24,414 pages a second. Between any two looks at
 * the clock there is a gap; the longest one is the longest stop. Ticks are 100 us apart; a tick is
 * late by the time from when it was due to the next look. What it could not write in time it
 * leaves out, so that a stop is missing from the rate.
 *
 * With --calm it does not spin: it sleeps a millisecond, writes what has become due, and sleeps
 * again. A gap is then how late it woke up, so that up to a millisecond of a stop is not seen.
 *
 * With --threads the rate is shared; the others write in bursts of a millisecond's worth. --idle
 * threads wake every 10 ms, --vmas mappings of a page each lie beside the heap. It is asked through
 * CTL, a file that it maps shared.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	TICK_NS = 100000,
	NBUCKETS = 6000, /* of the trace, 10 ms each */
	BUCKET_NS = 10000000,
	CALM_NS = 1000000,
	NCLASSES = 64 * 16, /* of lateness: sixteen to each power of two */
	ANSWER = 256 << 10,
	MAX_THREADS = 256,
};

struct ctl {
	_Atomic uint32_t request, reply; /* futexes: a counter; the one that was answered last */
	_Atomic uint32_t pid;
	uint32_t ms;
	char command[16];
	char answer[ANSWER];
};

/* Written by the spinning thread alone, but for the asking one, which resets it by raising @reset.
 */
struct stats {
	uint64_t begin_ns, longest_ns, ticks, pages;
	uint64_t late[NCLASSES];
	uint64_t over[5];
	uint32_t bucket_pages[NBUCKETS], bucket_longest_us[NBUCKETS];
};

static const uint64_t over_ns[] = {200000, 1000000, 5000000, 20000000, 100000000};
static struct ctl *ctl;
static struct stats stats, shown;
static _Atomic uint32_t reset_asked, reset_done, show_asked, show_done;
static _Atomic uint64_t others_pages;
static char *heap;
static uint64_t npages, rate_mb, nthreads, idle, nvmas;
static bool calm;
static const char *pattern;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

__attribute__((noreturn)) static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long futex(_Atomic uint32_t *word, int op, uint32_t val, unsigned ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	return syscall(SYS_futex, word, op, val, op == FUTEX_WAIT ? &ts : NULL, NULL, 0);
}

static uint64_t rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x2545f4914f6cdd1dULL;
}

/* --- contents */

static void text_page(char *p, uint64_t *s)
{
	static const char *const words[] = {"session ", "GET /index.html ",  "200 ", "expires ",
					    "user=",	"2024-01-01T00:00:", "\n",   "cache "};
	size_t at = 0;

	while (at + 48 < PAGE) {
		uint64_t r = rnd(s);

		at += (size_t)sprintf(p + at, "%s%u ", words[r >> 61], (unsigned)(r & 0xfff));
	}
	memset(p + at, ' ', PAGE - at);
}

static void fill_page(char *p, uint64_t *s)
{
	uint64_t *w = (uint64_t *)p;
	size_t n = !strcmp(pattern, "half") ? PAGE / 16 : PAGE / 8;

	if (!strcmp(pattern, "text")) {
		text_page(p, s);
		return;
	}
	for (size_t i = 0; i < n; i++)
		w[i] = rnd(s);
	/* A zero page is there as well: it has to be touched. */
	if (n < PAGE / 8)
		w[PAGE / 8 - 1] = 0;
}

static void heap_make(uint64_t mib)
{
	uint64_t s = 88172645463325252ULL;

	npages = (mib << 20) / PAGE;
	heap = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (heap == MAP_FAILED)
		die("mmap");
	for (uint64_t i = 0; i < npages; i++)
		fill_page(heap + i * PAGE, &s);
	/* Neighbours of another protection do not become one mapping. */
	for (uint64_t i = 0; i < nvmas; i++) {
		char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);

		if (p == MAP_FAILED)
			die("mmap of a small mapping");
		p[0] = (char)i;
		if (mprotect(p + PAGE, PAGE, PROT_NONE))
			die("mprotect");
	}
}

static void write_one(uint64_t *s)
{
	uint64_t r = rnd(s);

	*(volatile uint64_t *)(heap + r % npages * PAGE + (r >> 48 & 0x7f) * 8) = r;
}

/* --- the spinning thread */

/* Until @ns, or as long as it is kept from it. */
static void sleep_until(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static unsigned class_of(uint64_t ns)
{
	unsigned log;

	if (ns < 16)
		return (unsigned)ns;
	log = 63 - (unsigned)__builtin_clzll(ns);
	return (log - 3) * 16 + (unsigned)(ns >> (log - 4) & 15);
}

static uint64_t class_end(unsigned c)
{
	if (c < 16)
		return c;
	return ((uint64_t)(c % 16 + 17) << (c / 16 - 1)) - 1;
}

static void note_gap(uint64_t before, uint64_t now)
{
	uint64_t gap = now - before, b = (now - stats.begin_ns) / BUCKET_NS;

	if (gap > stats.longest_ns)
		stats.longest_ns = gap;
	if (b < NBUCKETS && gap / 1000 > stats.bucket_longest_us[b])
		stats.bucket_longest_us[b] = (uint32_t)(gap / 1000);
	for (unsigned i = 0; i < 5; i++)
		stats.over[i] += gap > over_ns[i];
}

static void note_page(uint64_t now)
{
	uint64_t b = (now - stats.begin_ns) / BUCKET_NS;

	stats.pages++;
	if (b < NBUCKETS)
		stats.bucket_pages[b]++;
}

static void serve_asker(uint64_t *tick, uint64_t now)
{
	if (atomic_load_explicit(&reset_asked, memory_order_relaxed) != atomic_load(&reset_done)) {
		memset(&stats, 0, sizeof(stats));
		stats.begin_ns = now;
		*tick = now + TICK_NS;
		atomic_store(&others_pages, 0);
		atomic_store(&reset_done, atomic_load(&reset_asked));
	}
	if (atomic_load_explicit(&show_asked, memory_order_relaxed) != atomic_load(&show_done)) {
		shown = stats;
		atomic_store(&show_done, atomic_load(&show_asked));
	}
}

static void *spin_thread(void *arg)
{
	uint64_t per_page_ns = rate_mb ? PAGE * 1000ULL * nthreads / rate_mb : 0;
	uint64_t before = now_ns(), tick = before + TICK_NS, due = before, s = 4711;

	prctl(PR_SET_TIMERSLACK, 1);
	for (;;) {
		uint64_t now = now_ns();

		note_gap(before, now);
		before = now;
		for (; tick <= now; tick += TICK_NS) {
			stats.ticks++;
			stats.late[class_of(now - tick)]++;
		}
		if (per_page_ns && now >= due) {
			write_one(&s);
			note_page(now);
			due += per_page_ns;
			if (due + (calm ? 2 * CALM_NS : 0) < now)
				due = now;
			if (calm && due <= now)
				continue;
		}
		if (atomic_load_explicit(&reset_asked, memory_order_relaxed) != reset_done ||
		    atomic_load_explicit(&show_asked, memory_order_relaxed) != show_done) {
			serve_asker(&tick, now);
			/* Its own copying is not a stop. */
			before = now_ns();
			for (; tick <= before; tick += TICK_NS)
				;
		}
		if (calm) {
			sleep_until(now + CALM_NS);
			/* What it slept of its own will is no gap, and no tick was due. */
			before = now + CALM_NS;
			for (; tick <= before; tick += TICK_NS)
				stats.ticks++, stats.late[0]++;
		}
	}
	return NULL;
}

static void *burst_thread(void *arg)
{
	uint64_t s = 99 + (uint64_t)(uintptr_t)arg, next = now_ns();
	uint64_t per_ms = rate_mb * 1000 / PAGE / nthreads + 1;
	uint64_t burst_ns = rate_mb ? per_ms * PAGE * 1000ULL * nthreads / rate_mb : 1000000;

	for (;;) {
		uint64_t now = now_ns();

		for (uint64_t i = 0; i < (rate_mb ? per_ms : 0); i++)
			write_one(&s);
		atomic_fetch_add_explicit(&others_pages, rate_mb ? per_ms : 0,
					  memory_order_relaxed);
		next += burst_ns;
		if (next < now)
			next = now;
		sleep_until(next);
	}
	return NULL;
}

static void *idle_thread(void *arg)
{
	for (;;)
		usleep(10000);
	return NULL;
}

/* --- the asking thread */

static size_t say(size_t at, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(ctl->answer + at, ANSWER - at, fmt, ap);
	va_end(ap);
	return n < 0 || at + (size_t)n >= ANSWER ? ANSWER - 1 : at + (size_t)n;
}

/* The lateness that @part of all ticks do not go above. */
static uint64_t late_at(double part)
{
	uint64_t want = (uint64_t)((double)shown.ticks * part), seen = 0;

	for (unsigned c = 0; c < NCLASSES; c++) {
		seen += shown.late[c];
		if (seen > want)
			return class_end(c);
	}
	return shown.longest_ns;
}

static void show(void)
{
	atomic_fetch_add(&show_asked, 1);
	while (atomic_load(&show_asked) != atomic_load(&show_done))
		sched_yield();
}

static void answer_read(void)
{
	uint64_t now = now_ns(), others, pages;
	double seconds;

	show();
	others = atomic_load(&others_pages);
	pages = shown.pages + others;
	seconds = (double)(now - shown.begin_ns) / 1e9;
	say(0,
	    "{\"seconds\":%.4f,\"longest_ns\":%llu,\"ticks\":%llu,\"p50_ns\":%llu,\"p99_ns\":%llu,"
	    "\"p999_ns\":%llu,\"over_200us\":%llu,\"over_1ms\":%llu,\"over_5ms\":%llu,"
	    "\"over_20ms\":%llu,\"over_100ms\":%llu,\"pages\":%llu,\"mb_per_s\":%.2f}\n",
	    seconds, (unsigned long long)shown.longest_ns, (unsigned long long)shown.ticks,
	    (unsigned long long)late_at(0.5), (unsigned long long)late_at(0.99),
	    (unsigned long long)late_at(0.999), (unsigned long long)shown.over[0],
	    (unsigned long long)shown.over[1], (unsigned long long)shown.over[2],
	    (unsigned long long)shown.over[3], (unsigned long long)shown.over[4],
	    (unsigned long long)pages, (double)pages * PAGE / 1e6 / seconds);
}

static void answer_trace(void)
{
	uint64_t n = (now_ns() - stats.begin_ns) / BUCKET_NS;
	size_t at;

	show();
	if (n > NBUCKETS)
		n = NBUCKETS;
	at = say(0, "{\"bucket_ms\":%d,\"pages\":[", BUCKET_NS / 1000000);
	for (uint64_t i = 0; i < n; i++)
		at = say(at, "%s%u", i ? "," : "", shown.bucket_pages[i]);
	at = say(at, "],\"longest_us\":[");
	for (uint64_t i = 0; i < n; i++)
		at = say(at, "%s%u", i ? "," : "", shown.bucket_longest_us[i]);
	say(at, "]}\n");
}

/* As a program that forks for a snapshot: the child lives for a while, the heap is copied on write.
 */
static void answer_fork(void)
{
	uint64_t t0 = now_ns(), t1;
	pid_t pid = fork();

	if (pid == 0) {
		usleep(ctl->ms * 1000);
		_exit(0);
	}
	t1 = now_ns();
	if (pid > 0)
		waitpid(pid, NULL, 0);
	say(0, "{\"fork_ns\":%llu,\"pid\":%d}\n", (unsigned long long)(t1 - t0), pid);
}

/* So many pages at random, some of them perhaps twice. */
static void answer_write(void)
{
	uint64_t s = now_ns() | 1;

	for (uint32_t i = 0; i < ctl->ms; i++)
		write_one(&s);
}

static void answer(void)
{
	ctl->answer[0] = '\0';
	if (!strcmp(ctl->command, "reset")) {
		atomic_fetch_add(&reset_asked, 1);
		while (atomic_load(&reset_asked) != atomic_load(&reset_done))
			sched_yield();
	} else if (!strcmp(ctl->command, "read")) {
		answer_read();
	} else if (!strcmp(ctl->command, "trace")) {
		answer_trace();
	} else if (!strcmp(ctl->command, "fork")) {
		answer_fork();
	} else if (!strcmp(ctl->command, "write")) {
		answer_write();
	} else if (!strcmp(ctl->command, "quit")) {
		_exit(0);
	} else if (strcmp(ctl->command, "wait") != 0) {
		say(0, "{\"error\":\"not known\"}\n");
	}
}

static struct ctl *ctl_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct ctl *c;

	if (fd < 0 || ftruncate(fd, sizeof(struct ctl)))
		die(path);
	c = mmap(NULL, sizeof(struct ctl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c == MAP_FAILED)
		die(path);
	close(fd);
	return c;
}

static void thread(void *(*fn)(void *), uintptr_t arg)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	if (pthread_create(&t, &attr, fn, (void *)arg))
		die("pthread_create");
	pthread_attr_destroy(&attr);
}

static const char *opt(int argc, char **argv, const char *name, const char *fallback)
{
	for (int i = 3; i + 1 < argc; i += 2)
		if (!strcmp(argv[i], name))
			return argv[i + 1];
	return fallback;
}

__attribute__((noreturn)) static void run(int argc, char **argv)
{
	/* Not longer than whoever measures it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ctl = ctl_map(argv[2]);
	pattern = opt(argc, argv, "--pattern", "text");
	rate_mb = strtoull(opt(argc, argv, "--rate", "100"), NULL, 10);
	nthreads = strtoull(opt(argc, argv, "--threads", "1"), NULL, 10);
	idle = strtoull(opt(argc, argv, "--idle", "0"), NULL, 10);
	nvmas = strtoull(opt(argc, argv, "--vmas", "0"), NULL, 10);
	calm = atoi(opt(argc, argv, "--calm", "0")) != 0;
	if (nthreads < 1 || nthreads > MAX_THREADS)
		nthreads = 1;
	heap_make(strtoull(opt(argc, argv, "--size", "256"), NULL, 10));
	stats.begin_ns = now_ns();
	thread(spin_thread, 0);
	for (uint64_t i = 1; i < nthreads; i++)
		thread(burst_thread, i);
	for (uint64_t i = 0; i < idle; i++)
		thread(idle_thread, i);
	atomic_store(&ctl->pid, (uint32_t)getpid());
	for (;;) {
		uint32_t seen = atomic_load(&ctl->request);

		if (seen == atomic_load(&ctl->reply)) {
			futex(&ctl->request, FUTEX_WAIT, seen, 10000);
			continue;
		}
		answer();
		atomic_store(&ctl->reply, seen);
		futex(&ctl->reply, FUTEX_WAKE, INT_MAX, 0);
	}
}

static int ask(int argc, char **argv)
{
	uint64_t deadline = now_ns() + 600000000000ULL;
	bool quit = !strcmp(argv[3], "quit");
	uint32_t seq, seen;

	ctl = ctl_map(argv[2]);
	snprintf(ctl->command, sizeof(ctl->command), "%s", argv[3]);
	ctl->ms = argc > 4 ? (uint32_t)atoi(argv[4]) : 0;
	seq = atomic_fetch_add(&ctl->request, 1) + 1;
	futex(&ctl->request, FUTEX_WAKE, INT_MAX, 0);
	while ((seen = atomic_load(&ctl->reply)) != seq && !quit) {
		uint32_t pid = atomic_load(&ctl->pid);

		futex(&ctl->reply, FUTEX_WAIT, seen, 100);
		if (now_ns() > deadline || (pid && kill((pid_t)pid, 0) && errno == ESRCH)) {
			fprintf(stderr, "ticker: no answer\n");
			return 1;
		}
	}
	fputs(quit ? "" : ctl->answer, stdout);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 3 && !strcmp(argv[1], "run"))
		run(argc, argv);
	if (argc >= 4 && !strcmp(argv[1], "ask"))
		return ask(argc, argv);
	fprintf(stderr,
		"usage: ticker run CTL [--OPTION VALUE]... | ticker ask CTL COMMAND [MS]\n");
	return 2;
}
