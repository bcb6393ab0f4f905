/* SPDX-License-Identifier: MIT */
/*
 * The control page: how a victim says ready, is asked and reports, by futex in a shared file.
 *
 * DIR/ctl is mapped shared at a fixed address by every process of the victim. A client writes a
 * request and bumps request_seq; the victim's main thread answers and sets reply_seq to it. Nothing
 * about this lives in descriptors, so a restored victim goes on answering.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

enum ctl_state { CTL_STARTING, CTL_READY, CTL_ENDED, CTL_SKIPPED, CTL_DIED };
enum ctl_request { CTL_CHECK = 1, CTL_QUIT };

struct ctl {
	_Atomic uint32_t state; /* futex */
	_Atomic uint32_t pid;
	_Atomic uint32_t request_seq, reply_seq; /* futexes */
	_Atomic uint32_t request;
	_Atomic uint32_t quit;
	_Atomic uint32_t ticks;	 /* futex */
	_Atomic uint32_t failed; /* 1 being written, 2 written */
	_Atomic uint64_t checks;
	char why[512];
};

static struct ctl *ctl;
static char ctl_path[PATH_MAX];
static int facts_fd = -1;

static long futex(_Atomic uint32_t *word, int op, uint32_t val, unsigned timeout_ms)
{
	struct timespec ts = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};

	return syscall(SYS_futex, word, op, val, op == FUTEX_WAIT ? &ts : NULL, NULL, 0);
}

static void set_and_wake(_Atomic uint32_t *word, uint32_t val)
{
	atomic_store(word, val);
	futex(word, FUTEX_WAKE, INT_MAX, 0);
}

static struct ctl *ctl_map(const char *dir, uint64_t addr)
{
	struct ctl *c;
	int fd;

	if (snprintf(ctl_path, sizeof(ctl_path), "%s/ctl", dir) >= (int)sizeof(ctl_path))
		return NULL;
	fd = open(ctl_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return NULL;
	if (ftruncate(fd, PAGE)) {
		close(fd);
		return NULL;
	}
	c = mmap((void *)addr, PAGE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | (addr ? MAP_FIXED_NOREPLACE : 0), fd, 0);
	close(fd);
	return c == MAP_FAILED ? NULL : c;
}

void v_bad(const char *fmt, ...)
{
	uint32_t none = 0;
	va_list ap;

	if (!atomic_compare_exchange_strong(&ctl->failed, &none, 1))
		return;
	va_start(ap, fmt);
	vsnprintf(ctl->why, sizeof(ctl->why), fmt, ap);
	va_end(ap);
	atomic_store(&ctl->failed, 2);
}

static void end(enum ctl_state state, int err, const char *fmt, va_list ap)
{
	int len = vsnprintf(ctl->why, sizeof(ctl->why), fmt, ap);

	if (err && len >= 0 && len < (int)sizeof(ctl->why))
		snprintf(ctl->why + len, sizeof(ctl->why) - (size_t)len, ": %s",
			 strerrordesc_np(err));
	fprintf(stderr, "victim: %s\n", ctl->why);
	set_and_wake(&ctl->state, state);
}

void v_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end(CTL_SKIPPED, 0, fmt, ap);
	va_end(ap);
	_exit(77);
}

void v_die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	end(CTL_DIED, err, fmt, ap);
	va_end(ap);
	_exit(1);
}

void v_fact(const char *fmt, ...)
{
	char line[8192];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (len >= (int)sizeof(line) - 1)
		v_die("a fact of %d bytes", len);
	line[len++] = '\n';
	/* One write: several processes may add facts. */
	if (write(facts_fd, line, (size_t)len) != len)
		v_die("write facts");
}

bool v_quitting(void)
{
	return atomic_load(&ctl->quit) || access(ctl_path, F_OK);
}

void v_tick(void)
{
	atomic_fetch_add(&ctl->ticks, 1);
	futex(&ctl->ticks, FUTEX_WAKE, INT_MAX, 0);
}

void v_await_ticks(unsigned n)
{
	uint32_t seen;

	while ((seen = atomic_load(&ctl->ticks)) < n) {
		if (atomic_load(&ctl->state) != CTL_STARTING)
			_exit(1);
		futex(&ctl->ticks, FUTEX_WAIT, seen, 100);
	}
}

static void open_facts(const char *dir)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/facts", dir) >= (int)sizeof(path))
		v_die("path too long");
	facts_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	if (facts_fd < 0)
		v_die("open %s", path);
}

void v_serve(const struct scenario *s)
{
	/* --rest 0: runs all the time, so that it shows when it has run. */
	const unsigned rest_ms = (unsigned)opt_u64("rest", 10);
	unsigned rounds = 0;

	while (!atomic_load(&ctl->quit)) {
		uint32_t seq = atomic_load(&ctl->request_seq);

		if (s->check)
			s->check();
		atomic_fetch_add(&ctl->checks, 1);
		if (seq != atomic_load(&ctl->reply_seq)) {
			if (atomic_load(&ctl->request) == CTL_QUIT) {
				atomic_store(&ctl->quit, 1);
				break;
			}
			set_and_wake(&ctl->reply_seq, seq);
		}
		if (rest_ms)
			futex(&ctl->request_seq, FUTEX_WAIT, seq, rest_ms);
		if (++rounds % 64 == 0 && v_quitting())
			break;
	}
	if (s->finish)
		s->finish();
	set_and_wake(&ctl->state, CTL_ENDED);
	_exit(atomic_load(&ctl->failed) ? 1 : 0);
}

int ctl_run(const struct scenario *s, const char *dir)
{
	ctl = ctl_map(dir, HOME(0));
	if (!ctl) {
		perror("victim: control file");
		return 1;
	}
	if (v_resumed()) {
		facts_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
		s->setup();
		v_serve(s);
	}
	memset(ctl, 0, sizeof(*ctl));
	atomic_store(&ctl->pid, (uint32_t)getpid());
	open_facts(dir);
	v_fact("scenario %s", s->name);
	v_fact("pid %d", getpid());
	s->setup();
	if (s->check)
		s->check();
	close(facts_fd);
	facts_fd = -1;
	printf("ready %d\n", getpid());
	fflush(stdout);
	set_and_wake(&ctl->state, CTL_READY);
	v_serve(s);
}

/* --- the client ----------------------------------------------------------------------------- */

static bool victim_lives(void)
{
	char path[64], buf[512], state, *p;
	uint32_t pid = atomic_load(&ctl->pid);
	int nthreads;
	ssize_t n;
	int fd;

	if (!pid)
		return true; /* not started yet */
	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	p = strrchr(buf, ')');
	if (!p || sscanf(p + 1,
			 " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d"
			 " %*d %d",
			 &state, &nthreads) != 2)
		return false;
	/* A leader that has ended stays as a zombie while other threads live. */
	return nthreads > 1 || (state != 'Z' && state != 'X');
}

/* Waits until *@word is no longer @old. */
static bool await_change(_Atomic uint32_t *word, uint32_t old, uint64_t deadline)
{
	while (atomic_load(word) == old) {
		if (now_ns() > deadline || !victim_lives())
			return atomic_load(word) != old;
		futex(word, FUTEX_WAIT, old, 100);
	}
	return true;
}

/* Until it is @wanted: a victim that was restored from before an earlier question may set it back
 * first. */
static bool await_value(_Atomic uint32_t *word, uint32_t wanted, uint64_t deadline)
{
	uint32_t seen;

	while ((seen = atomic_load(word)) != wanted && atomic_load(&ctl->failed) != 2)
		if (!await_change(word, seen, deadline))
			return false;
	return true;
}

static int client_wait(uint64_t deadline)
{
	if (!await_change(&ctl->state, CTL_STARTING, deadline)) {
		printf("bad: the victim %s\n", victim_lives() ? "is not ready in time" : "died");
		return 1;
	}
	switch (atomic_load(&ctl->state)) {
	case CTL_READY:
		printf("%u\n", atomic_load(&ctl->pid));
		return 0;
	case CTL_SKIPPED:
		printf("%s\n", ctl->why);
		return 77;
	default:
		printf("bad: %s\n", ctl->why);
		return 1;
	}
}

/* The check that answers began after the question, so it saw the state after what was done to it.
 */
static int client_ask(enum ctl_request request, uint64_t deadline)
{
	uint32_t seq = atomic_load(&ctl->request_seq) + 1;
	bool quit = request == CTL_QUIT;

	atomic_store(&ctl->request, request);
	set_and_wake(&ctl->request_seq, seq);
	if (!(quit ? await_change(&ctl->state, CTL_READY, deadline)
		   : await_value(&ctl->reply_seq, seq, deadline))) {
		printf("bad: the victim %s\n", victim_lives() ? "does not answer in time" : "died");
		return 1;
	}
	if (atomic_load(&ctl->failed)) {
		printf("bad: %s\n", ctl->why);
		return 1;
	}
	printf("ok: %llu checks\n", (unsigned long long)atomic_load(&ctl->checks));
	return 0;
}

int ctl_client(const char *what, const char *dir, unsigned timeout_s)
{
	uint64_t deadline = now_ns() + timeout_s * 1000000000ULL;

	/* It may not have got that far yet. */
	mkdir(dir, 0755);
	ctl = ctl_map(dir, 0);
	if (!ctl) {
		perror("victim: control file");
		return 2;
	}
	if (!strcmp(what, "wait"))
		return client_wait(deadline);
	if (!strcmp(what, "check"))
		return client_ask(CTL_CHECK, deadline);
	if (!strcmp(what, "quit"))
		return client_ask(CTL_QUIT, deadline);
	fprintf(stderr, "victim: --%s is not known\n", what);
	return 2;
}
