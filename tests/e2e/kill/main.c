/* SPDX-License-Identifier: MIT */
/*
 * Kills the tool, the guardian or both, a few hundred times, and looks whether the victim minds.
 *
 *	kill [KILLS [SEED]]
 *
 * Three ways to choose the instant: at random, one system call of the guardian after another (it is
 * traced itself, and killed at the n-th stop), and aimed: one request after another by which it
 * changes a thread or lets it run (see aim()). Fewer than 40 kills are four at random, the rest
 * aimed. The victim's threads check themselves; afterwards all of them must run, be traced by
 * nobody, and make progress without a mistake.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "src/target/target.h"
#include "tests/e2e/kill/aim.h"
#include "tests/e2e/kill/kill.h"

enum victim_kind { KILL_TOOL, KILL_GUARDIAN, KILL_BOTH, KILL_NOBODY };

static const char *const kinds[] = {"tool", "guardian", "both", "nobody"};

/* The tool's end of the shared page. */
struct control {
	atomic_int guardian; /* its pid, once there is one */
	atomic_int go;	     /* the tool waits for it when @wait is set */
	atomic_int frozen;   /* rounds so far */
	char error[480];
};

static struct kill_shared *shared;
static struct control *control;
static pid_t victim;
static unsigned failures;
static bool aimed; /* the tool's requests of ptrace() are to be seen */

static void fail(const char *what, const char *name, const char *text)
{
	fprintf(stderr, "FAIL %s: %s: %s\n", what, name, text);
	failures++;
}

static void sleep_us(long us)
{
	struct timespec ts = {us / 1000000, us % 1000000 * 1000};

	nanosleep(&ts, NULL);
}

static long now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* --- the tool: freeze, collect, thaw, again and again ----------------------------------------- */

static pid_t own_child(void)
{
	char path[64], text[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", getpid(), getpid());
	f = fopen(path, "r");
	if (!f || !fgets(text, sizeof(text), f))
		text[0] = '\0';
	if (f)
		fclose(f);
	return atoi(text);
}

static _Noreturn void tool(bool wait, int rounds)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (aimed)
		aim_show();
	for (int i = 0; i < rounds; i++) {
		struct err err = {0};
		struct model *m = model_new(MODEL_SHARED);
		struct target *t = target_open(victim, m, NULL, &err);
		int ret = t ? 0 : -err.errnum;

		atomic_store(&control->guardian, own_child());
		while (wait && !atomic_load(&control->go))
			sleep_us(100);
		if (ret == 0)
			ret = target_freeze(t, &err);
		if (ret == 0)
			ret = target_collect(t, &err);
		atomic_fetch_add(&control->frozen, 1);
		if (ret == 0 && !m->procs[0].sigactions[SIGUSR1 - 1].handler)
			ret = err_set(&err, EPROTO, "signal actions were not read");
		/* Both ways out: by command, and by hanging up. */
		if (ret == 0 && i % 4)
			ret = target_thaw(t, TARGET_RUN, &err);
		target_release(t);
		model_free(m);
		if (ret < 0 && err.class != ERR_GUARDIAN) {
			snprintf(control->error, sizeof(control->error), "%s", err.msg);
			_exit(1);
		}
	}
	_exit(0);
}

static pid_t start_tool(bool wait, int rounds)
{
	pid_t pid;

	atomic_store(&control->guardian, 0);
	atomic_store(&control->go, 0);
	fflush(stderr);
	pid = fork();
	if (pid == 0)
		tool(wait, rounds);
	return pid;
}

static const char *status_of(pid_t pid)
{
	static char text[256];
	char path[64];
	size_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (f) {
		n = fread(text, 1, 60, f);
		fclose(f);
	}
	text[n] = '\0';
	return text;
}

/* We are the subreaper: the guardian comes to us when the tool has gone first. */
static void reap(pid_t pid)
{
	for (int i = 0; i < 30000 && kill(pid, 0) == 0; i++) {
		waitpid(pid, NULL, WNOHANG | __WALL);
		sleep_us(i < 100 ? 100 : 2000);
	}
	if (kill(pid, 0) == 0)
		fail("afterwards", status_of(pid), "does not end");
}

/* --- the victim afterwards -------------------------------------------------------------------- */

static unsigned long count_of(const struct kill_slot *s)
{
	struct iovec l, r;
	uint64_t v = 0;

	if (!s->far)
		return atomic_load(&s->count);
	l = (struct iovec){&v, sizeof(v)};
	r = (struct iovec){(void *)(uintptr_t)s->far, sizeof(v)};
	return process_vm_readv(victim, &l, 1, &r, 1, 0) == (ssize_t)sizeof(v) ? v : 0;
}

static void check_task(const char *what, const char *tid)
{
	char path[64], line[256], state = '?';
	int tracer = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%.10s/status", victim, tid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		sscanf(line, "State: %c", &state);
		sscanf(line, "TracerPid: %d", &tracer);
	}
	if (f)
		fclose(f);
	if (state == 't' || state == 'T' || state == '?')
		fail(what, tid, "is stopped");
	if (tracer)
		fail(what, tid, "is traced");
}

static int scratch_mappings(void)
{
	char path[64], line[512];
	int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", victim);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, " r-xp 00000000 00:00 0 \n") != NULL;
	if (f)
		fclose(f);
	return n;
}

static unsigned long eintr_sum(void)
{
	unsigned long sum = 0;

	for (int i = 0; i < atomic_load(&shared->nslots); i++)
		sum += atomic_load(&shared->slots[i].eintr);
	return sum;
}

/* Who has seen one since the last call. */
static const char *eintr_names(void)
{
	static unsigned long known[KILL_THREADS];
	static char text[200];

	text[0] = '\0';
	for (int i = 0; i < atomic_load(&shared->nslots); i++) {
		struct kill_slot *s = &shared->slots[i];

		if (atomic_load(&s->eintr) != known[i] &&
		    strlen(text) + strlen(s->name) + 2 < sizeof(text))
			strcat(strcat(text, " "), s->name);
		known[i] = atomic_load(&s->eintr);
	}
	return text;
}

static void check_progress(const char *what)
{
	unsigned long before[KILL_THREADS];
	int n = atomic_load(&shared->nslots);

	for (int i = 0; i < n; i++)
		before[i] = count_of(&shared->slots[i]);
	for (int i = 0; i < n; i++) {
		struct kill_slot *s = &shared->slots[i];
		int ms = 0;

		while (count_of(s) == before[i] && ms++ < 60000)
			sleep_us(1000);
		/* Nor would the others: there is no need to wait for each of them. */
		if (count_of(s) == before[i]) {
			fail(what, s->name, "makes no progress");
			_exit(1);
		}
		if (s->error[0]) {
			fail(what, s->name, s->error);
			s->error[0] = '\0';
		}
	}
}

static void check_victim(const char *what)
{
	char path[64];
	struct dirent *de;
	DIR *dir;

	if (waitpid(victim, NULL, WNOHANG) == victim) {
		fail(what, "the victim", "has died");
		fprintf(stderr, "0 passed, 1 failed, 0 skipped\n");
		_exit(1);
	}
	snprintf(path, sizeof(path), "/proc/%d/task", victim);
	dir = opendir(path);
	while (dir && (de = readdir(dir)))
		if (de->d_name[0] != '.')
			check_task(what, de->d_name);
	if (dir)
		closedir(dir);
	check_progress(what);
	if (control->error[0]) {
		fail(what, "the tool", control->error);
		control->error[0] = '\0';
	}
}

/* --- killing ---------------------------------------------------------------------------------- */

static void kill_them(enum victim_kind kind, pid_t tool_pid, pid_t guardian)
{
	if (kind == KILL_GUARDIAN || kind == KILL_BOTH)
		kill(guardian, SIGKILL);
	if (kind == KILL_TOOL || kind == KILL_BOTH)
		kill(tool_pid, SIGKILL);
}

static void after(const char *what, enum victim_kind kind, pid_t tool_pid, pid_t guardian,
		  int mappings, unsigned long eintr)
{
	const char *names;
	int now;

	reap(tool_pid);
	reap(guardian);
	check_victim(what);
	names = eintr_names();
	now = scratch_mappings();
	/* Only a guardian that was killed itself may leave its area behind. */
	if (now > mappings + (kind == KILL_GUARDIAN || kind == KILL_BOTH))
		fail(what, "the victim", "has a mapping too many");
	if ((kind == KILL_TOOL || kind == KILL_NOBODY) && eintr_sum() != eintr)
		fail(what, names, "has seen EINTR");
}

static pid_t await_guardian(void)
{
	pid_t guardian;

	while (!(guardian = atomic_load(&control->guardian)))
		sleep_us(50);
	return guardian;
}

static void kill_at_random(enum victim_kind kind, long within_us)
{
	unsigned long eintr = eintr_sum();
	int mappings = scratch_mappings();
	pid_t tool_pid = start_tool(true, 1), guardian = await_guardian();
	long us = random() % within_us;
	char what[64];

	atomic_store(&control->go, 1);
	sleep_us(us);
	kill_them(kind, tool_pid, guardian);
	snprintf(what, sizeof(what), "%s killed after %ld us", kinds[kind], us);
	after(what, kind, tool_pid, guardian, mappings, eintr);
}

/*
 * Lets a traced guardian make system calls up to the @n-th stop and kills there. Returns the stops
 * there were.
 */
static long walk(enum victim_kind kind, long n)
{
	unsigned long eintr = eintr_sum();
	int mappings = scratch_mappings();
	pid_t tool_pid = start_tool(true, 1), guardian = await_guardian();
	long stops = 0;
	int status;
	char what[64];

	if (ptrace(PTRACE_SEIZE, guardian, 0, PTRACE_O_TRACESYSGOOD) < 0 ||
	    ptrace(PTRACE_INTERRUPT, guardian, 0, 0) < 0)
		fail("walk", "ptrace", strerror(errno));
	while (waitpid(guardian, &status, __WALL) == guardian && WIFSTOPPED(status)) {
		int signo = WSTOPSIG(status);

		atomic_store(&control->go, 1);
		if (signo == (SIGTRAP | 0x80) && stops++ == n)
			kill_them(kind, tool_pid, guardian);
		signo = status >> 16 || signo == (SIGTRAP | 0x80) ? 0 : signo;
		ptrace(PTRACE_SYSCALL, guardian, 0, signo);
	}
	snprintf(what, sizeof(what), "%s killed at stop %ld of the guardian", kinds[kind], n);
	after(what, kind, tool_pid, guardian, mappings, eintr);
	return stops;
}

/* --- aimed ------------------------------------------------------------------------------------ */

/*
 * One round under a tracer that sees the requests of the guardian. At the @n-th for thread @tid,
 * when it has been done, it is killed. Returns how many of that thread's there were.
 */
static int aim(enum victim_kind kind, pid_t tid, int n)
{
	unsigned long eintr = eintr_sum();
	int mappings = scratch_mappings(), seen = 0, status;
	pid_t tool_pid, guardian;
	char what[96], request[24] = "none";

	aimed = true;
	tool_pid = start_tool(true, 1);
	aimed = false;
	guardian = await_guardian();
	if (ptrace(PTRACE_SEIZE, guardian, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP) < 0)
		fail("aim", "ptrace", strerror(errno));
	atomic_store(&control->go, 1);
	while (waitpid(guardian, &status, __WALL) == guardian && WIFSTOPPED(status)) {
		bool hit = aim_request(guardian, status, tid, request) && seen++ == n;
		int signo = WSTOPSIG(status);

		if (signo == (SIGTRAP | 0x80))
			kill_them(kind, tool_pid, guardian);
		signo = status >> 16 || signo == (SIGTRAP | 0x80) ? 0 : signo;
		/* On to the end of the one that it is. */
		ptrace(hit ? PTRACE_SYSCALL : PTRACE_CONT, guardian, 0, signo);
	}
	snprintf(what, sizeof(what), "%s killed after request %d for thread %d (%s)", kinds[kind],
		 n, tid, request);
	after(what, kind, tool_pid, guardian, mappings, eintr);
	return seen;
}

/* Kills at @n of a thread's requests, all over them: the code is left to itself by most. */
static void aim_all(const char *name, int n)
{
	static const enum victim_kind turns[] = {KILL_GUARDIAN, KILL_GUARDIAN, KILL_BOTH,
						 KILL_TOOL};
	pid_t tid = 0;
	int requests;

	for (int i = 0; i < atomic_load(&shared->nslots); i++)
		if (!strcmp(shared->slots[i].name, name))
			tid = shared->slots[i].tid;
	requests = aim(KILL_NOBODY, tid, -1);
	if (!requests)
		fail("aimed", name, "has no request of ptrace()");
	for (int i = 0; i < n; i++)
		aim(turns[i % 4], tid, i * requests / n);
	printf("%d kills aimed at %s, which has %d requests\n", n, name, requests);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	int kills = argc > 1 ? atoi(argv[1]) : 300, rounds = kills < 40 ? 4 : 40,
	    walks = kills < 40 ? 0 : kills / 2 - kills / 8,
	    aims = kills < 40 ? kills - 4 : kills / 8;
	unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : (unsigned)time(NULL);
	unsigned long eintr;
	long stops = 0, began, round_us;

	srandom(seed);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	shared = mmap(NULL, sizeof(*shared) + sizeof(*control), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	control = (struct control *)(shared + 1);
	victim = fork();
	if (victim == 0)
		kill_victim(shared);
	while (!atomic_load(&shared->ready))
		sleep_us(1000);
	sleep_us(20000);
	check_victim("before anything");

	eintr = eintr_sum();
	began = now_us();
	reap(start_tool(false, rounds));
	round_us = (now_us() - began) / rounds + 500;
	/* Whoever runs out of time is seen to. */
	printf("a round takes %ld us\n", round_us);
	fflush(stdout);
	check_victim("nobody killed");
	if (eintr_sum() != eintr || scratch_mappings())
		fail("nobody killed", "the victim", "has seen EINTR or kept a mapping");

	for (int i = 0; i < kills - walks - aims; i++)
		kill_at_random((enum victim_kind)(i % 3), round_us);
	if (walks)
		stops = walk(KILL_NOBODY, -1);
	printf("%d kills at random; the guardian makes %ld stops\n", kills - walks - aims, stops);
	fflush(stdout);
	aim_all("registers0", aims - aims / 2);
	/* The main thread: the first call and the last, too. */
	aim_all("registers2", aims / 2);
	for (int i = 0; i < walks; i++)
		walk((enum victim_kind)(i % 3), (stops * i + random() % stops) / walks);
	kill(victim, SIGKILL);
	printf("%d kills, seed %u: %u failures; the guardian makes %ld stops; EINTR seen %lu "
	       "times, %d mappings left\n",
	       kills, seed, failures, stops, eintr_sum(), scratch_mappings());
	return failures != 0;
}
