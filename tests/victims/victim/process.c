/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of several processes, and of processes with unusual rights.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

static char *page;

static void task_fact(const char *state)
{
	v_fact("task %d %d %d %d %s", getpid(), getppid(), getpgid(0), getsid(0), state);
}

/* A process that looks at its own page and its own family until the end. */
static void live(uint64_t seed)
{
	pid_t parent = getppid(), group = getpgid(0), session = getsid(0);

	fill(page, PAGE, seed);
	fact_memory("region", page, PAGE, "page-of-a-process");
	task_fact("alive");
	v_tick();
	while (!v_quitting()) {
		expect_filled(page, PAGE, seed, "the page of a process");
		if (getpgid(0) != group || getsid(0) != session)
			v_bad("tree: process %d is in another group or session", getpid());
		if (getppid() != parent)
			v_bad("tree: process %d has another parent", getpid());
		sleep_ms(20);
	}
	_exit(0);
}

static pid_t spawn(void)
{
	pid_t pid = fork();

	if (pid < 0)
		v_die("fork");
	return pid;
}

/* --- tree: two generations, a group, a session, a zombie, a stopped child
 * --------------------------------- */

static pid_t zombie, stopped;

static void tree_setup(void)
{
	siginfo_t si;
	int n = 0;

	page = map_at(HOME(1), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fill(page, PAGE, 1);
	fact_memory("region", page, PAGE, "page-of-the-root");
	task_fact("alive");
	if (spawn() == 0) {
		setpgid(0, 0);
		if (spawn() == 0)
			live(21);
		if (spawn() == 0)
			live(22);
		live(2);
	}
	if (spawn() == 0) {
		setsid();
		if (spawn() == 0)
			live(31);
		live(3);
	}
	n = 5;
	zombie = spawn();
	if (zombie == 0)
		_exit(42);
	v_fact("task %d %d %d %d dead 42", zombie, getpid(), getpgid(0), getsid(0));
	stopped = spawn();
	if (stopped == 0) {
		fill(page, PAGE, 5);
		fact_memory("region", page, PAGE, "page-of-the-stopped");
		task_fact("stopped");
		raise(SIGSTOP);
		_exit(0);
	}
	v_await_ticks((unsigned)n);
	if (waitid(P_PID, (id_t)zombie, &si, WEXITED | WNOWAIT) ||
	    waitid(P_PID, (id_t)stopped, &si, WSTOPPED | WNOWAIT))
		v_die("waitid");
}

static char state_of(pid_t pid)
{
	char path[64], buf[512], *p;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return '?';
	buf[n] = '\0';
	p = strrchr(buf, ')');
	return p ? p[2] : '?';
}

static void tree_check(void)
{
	siginfo_t si = {};
	char c;

	expect_filled(page, PAGE, 1, "the root's page");
	if (waitid(P_PID, (id_t)zombie, &si, WEXITED | WNOWAIT | WNOHANG) || si.si_status != 42)
		v_bad("tree: the zombie's status is lost");
	/* Processes are let go one after another: it may be on its way back into the stop. */
	for (int i = 0; (c = state_of(stopped)) != 'T' && i < 200; i++)
		sleep_ms(10);
	if (c != 'T')
		v_bad("tree: the stopped child is in state %c", c);
}

static void tree_finish(void)
{
	siginfo_t si = {};

	if (state_of(stopped) != 'T')
		v_bad("tree: the stopped child is in state %c", state_of(stopped));
	if (waitid(P_PID, (id_t)stopped, &si, WSTOPPED | WNOHANG) || si.si_pid != stopped ||
	    si.si_status != SIGSTOP)
		v_bad("tree: the stop cannot be waited for any more");
	kill(stopped, SIGCONT);
	if (waitid(P_PID, (id_t)stopped, &si, WEXITED) || si.si_code != CLD_EXITED)
		v_bad("tree: the stopped child did not go on to its end");
}

/* --- wide: --n processes below the root, a chain of groups of ten
 * ----------------------------------------- */

static void wide_setup(void)
{
	uint64_t n = opt_u64("n", 50);

	page = map_at(HOME(1), PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (uint64_t i = 0; i < n; i += 10) {
		if (spawn())
			continue;
		for (uint64_t k = i + 1; k < i + 10 && k < n; k++)
			if (spawn() == 0)
				live(k + 100);
		live(i + 100);
	}
	v_await_ticks((unsigned)n);
}

/* --- seccomp: a filter that answers one call with an error of its own
 * --------------------------------------- */

enum { ODD_ERRNO = 91 };

static void seccomp_setup(void)
{
	/* The kernel hands the call number at offset 0 of struct seccomp_data. */
	struct sock_filter code[] = {
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
		{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_getpgid},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ODD_ERRNO},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
	};
	struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		v_skip("no seccomp filters here");
	v_fact("seccomp %d 2", getpid());
}

static void seccomp_check(void)
{
	if (syscall(SYS_getpgid, 0) != -1 || errno != ODD_ERRNO)
		v_bad("seccomp: the filter does not answer any more");
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		v_bad("seccomp: no_new_privs is lost");
}

/* --- narrow: a filter that refuses what a batch would call, mmap above all
 * ---------------------------- */

/* May sleep and nothing else: what is injected must live with that. */
static void *narrow_thread(void *arg)
{
	struct sock_filter code[] = {
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
		{BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_clock_nanosleep},
		{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_restart_syscall},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
	};
	struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		v_skip("no seccomp filters here");
	for (;;)
		sleep_ms(5);
	return NULL;
}

static void narrow_setup(void)
{
	start_thread(narrow_thread, NULL);
	sleep_ms(50);
}

/* --- creds: another user, with groups and without most capabilities
 * ------------------------------------------ */

static void creds_setup(void)
{
	gid_t groups[] = {100, 65534, 1000};

	if (getuid() != 0)
		v_skip("changing the user needs root");
	/* The control file and the directory must stay reachable. */
	if (chown(v_dir(), 65534, 65534))
		v_die("chown");
	if (setgroups(3, groups) || setresgid(1000, 1000, 1000) || setresuid(65534, 65534, 65534))
		v_die("setresuid");
	prctl(PR_SET_DUMPABLE, 1);
	v_fact("creds %d 65534 1000", getpid());
	v_fact("groups %d 100,1000,65534", getpid());
}

static void creds_check(void)
{
	gid_t groups[8];

	if (getuid() != 65534 || geteuid() != 65534 || getgid() != 1000)
		v_bad("creds: another user or group");
	if (getgroups(8, groups) != 3)
		v_bad("creds: other groups");
}

/* --- habits: what a process and its threads have asked the kernel for, and nobody sees
 * ------------------------- */

enum {
	GET_IO_FLUSHER = 58,
	GET_MDWE = 66,
	GET_MEMORY_MERGE = 68,
	SET_IO_FLUSHER = 57,
	SET_MDWE = 65,
	SET_MEMORY_MERGE = 67,
	IDLE_CLASS = 3 << 13,
	BEST_EFFORT_6 = 2 << 13 | 6,
	INTERLEAVE = 3,
	BIND = 2,
	KILL_EARLY = 1,
};

/* What the kernel here does not know or allow is as before, and as wanted. */
struct habits {
	long ioprio, mode, mce, tsc, flusher, spec[2];
	unsigned long nodes[16];
};

struct mm_habits {
	long mdwe, merge, thp, filter, future;
};

static struct habits habits_of_main, habits_of_other;
static struct mm_habits habits_of_mm;

static struct habits look_habits(void)
{
	struct habits h = {0};
	int mode = 0, tsc = 0;

	h.ioprio = syscall(SYS_ioprio_get, 1, 0);
	syscall(SYS_get_mempolicy, &mode, h.nodes, 1024, 0, 0);
	h.mode = mode;
	h.mce = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
	prctl(PR_GET_TSC, &tsc);
	h.tsc = tsc;
	h.flusher = prctl(GET_IO_FLUSHER, 0, 0, 0, 0);
	for (int i = 0; i < 2; i++)
		h.spec[i] = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
	return h;
}

/* Kilobytes that are locked, when a page has been mapped and touched. */
static long locked_by_mapping(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char line[128];
	long kb = -1;
	FILE *f;

	*p = 1;
	f = fopen("/proc/self/smaps", "r");
	while (f && fgets(line, sizeof(line), f)) {
		uintptr_t start;

		if (sscanf(line, "%" SCNxPTR "-", &start) == 1 && strchr(line, '-'))
			kb = start == (uintptr_t)p ? 0 : kb == 0 ? -1 : kb;
		if (kb == 0 && sscanf(line, "Locked: %ld", &kb) == 1 && kb)
			break;
	}
	if (f)
		fclose(f);
	munmap(p, PAGE);
	return kb > 0;
}

static struct mm_habits look_mm_habits(void)
{
	char text[32] = "";
	int fd = open("/proc/self/coredump_filter", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		v_bad("habits: no core dump filter");
	close(fd);
	return (struct mm_habits){
		.mdwe = prctl(GET_MDWE, 0, 0, 0, 0),
		.merge = prctl(GET_MEMORY_MERGE, 0, 0, 0, 0),
		.thp = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0),
		.filter = strtol(text, NULL, 16),
		.future = locked_by_mapping(),
	};
}

static void *habits_thread(void *arg)
{
	const unsigned long nodes[16] = {1};

	syscall(SYS_ioprio_set, 1, 0, BEST_EFFORT_6);
	syscall(SYS_set_mempolicy, BIND, nodes, 1025);
	prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0);
	/* It does not ask for the time. */
	prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
	habits_of_other = look_habits();
	for (;;) {
		struct habits now = look_habits();

		if (memcmp(&now, &habits_of_other, sizeof(now)) != 0)
			v_bad("habits: those of a thread have changed");
		sleep_ms(10);
	}
	return NULL;
}

static void habits_setup(void)
{
	const unsigned long nodes[16] = {1};
	int fd = open("/proc/self/coredump_filter", O_WRONLY);

	if (fd < 0 || write(fd, "0x7f", 4) != 4)
		v_skip("no core dump filter");
	close(fd);
	start_thread(habits_thread, NULL);
	syscall(SYS_ioprio_set, 1, 0, IDLE_CLASS);
	syscall(SYS_set_mempolicy, INTERLEAVE, nodes, 1025);
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, KILL_EARLY, 0, 0);
	prctl(SET_IO_FLUSHER, 1, 0, 0, 0);
	prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_DISABLE, 0, 0);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	prctl(SET_MEMORY_MERGE, 1, 0, 0, 0);
	mlockall(MCL_FUTURE);
	prctl(SET_MDWE, 1, 0, 0, 0);
	sleep_ms(50);
	habits_of_main = look_habits();
	habits_of_mm = look_mm_habits();
	printf("habits: io %#lx mode %ld mce %ld tsc %ld flusher %ld spec %ld %ld mdwe %ld merge %ld "
	       "thp %ld filter %#lx future %ld\n",
	       habits_of_main.ioprio, habits_of_main.mode, habits_of_main.mce, habits_of_main.tsc,
	       habits_of_main.flusher, habits_of_main.spec[0], habits_of_main.spec[1],
	       habits_of_mm.mdwe, habits_of_mm.merge, habits_of_mm.thp, habits_of_mm.filter,
	       habits_of_mm.future);
	fflush(stdout);
}

static void habits_check(void)
{
	struct habits now = look_habits();
	struct mm_habits mm = look_mm_habits();

	if (now.ioprio != habits_of_main.ioprio)
		v_bad("habits: I/O priority %#lx, it was %#lx", now.ioprio, habits_of_main.ioprio);
	if (now.mode != habits_of_main.mode || memcmp(now.nodes, habits_of_main.nodes, 128) != 0)
		v_bad("habits: memory policy %ld, it was %ld", now.mode, habits_of_main.mode);
	if (now.mce != habits_of_main.mce)
		v_bad("habits: PR_MCE_KILL %ld, it was %ld", now.mce, habits_of_main.mce);
	if (now.tsc != habits_of_main.tsc)
		v_bad("habits: PR_GET_TSC %ld, it was %ld", now.tsc, habits_of_main.tsc);
	if (now.flusher != habits_of_main.flusher)
		v_bad("habits: PR_GET_IO_FLUSHER %ld, it was %ld", now.flusher,
		      habits_of_main.flusher);
	if (memcmp(now.spec, habits_of_main.spec, sizeof(now.spec)) != 0)
		v_bad("habits: speculation %ld %ld, it was %ld %ld", now.spec[0], now.spec[1],
		      habits_of_main.spec[0], habits_of_main.spec[1]);
	if (mm.mdwe != habits_of_mm.mdwe || mm.merge != habits_of_mm.merge ||
	    mm.thp != habits_of_mm.thp)
		v_bad("habits: mdwe %ld merge %ld thp %ld, they were %ld %ld %ld", mm.mdwe,
		      mm.merge, mm.thp, habits_of_mm.mdwe, habits_of_mm.merge, habits_of_mm.thp);
	if (mm.filter != habits_of_mm.filter)
		v_bad("habits: core dump filter %#lx, it was %#lx", mm.filter, habits_of_mm.filter);
	if (mm.future != habits_of_mm.future)
		v_bad("habits: MCL_FUTURE %ld, it was %ld", mm.future, habits_of_mm.future);
}

/* --- tables: descriptors and working directories that processes have in common -------------------
 *
 *	victim ── both ── grandchild   descriptors and directory, all three the same
 *	    └── files                  descriptors
 *	    └── fs                     directory and umask
 */

enum { BOTH, GRANDCHILD, FILES, FS, NSHARERS, PROBE = 300 };

static struct sharers {
	pid_t pid[NSHARERS];
	_Atomic unsigned asked, answered[NSHARERS];
	_Atomic unsigned mask, opened;
} * sharers;

static const unsigned shared_by[NSHARERS] = {CLONE_FILES | CLONE_FS, CLONE_FILES | CLONE_FS,
					     CLONE_FILES, CLONE_FS};

static void sharer_look(int who)
{
	const unsigned open = sharers->opened, mask = sharers->mask;
	const bool has = fcntl(PROBE, F_GETFD) >= 0;
	const mode_t old = umask(mask);

	if (shared_by[who] & CLONE_FILES && has != open)
		v_bad("tables: process %d of them %s descriptor %d", who, has ? "has" : "has not",
		      PROBE);
	if (shared_by[who] & CLONE_FS && old != mask)
		v_bad("tables: process %d of them has umask %o, not %o", who, old, mask);
}

static void sharer_start(int who);

static void sharer_live(int who)
{
	sharers->pid[who] = getpid();
	if (who == BOTH)
		sharer_start(GRANDCHILD);
	v_tick();
	while (!v_quitting()) {
		const unsigned asked = sharers->asked;

		if (asked != sharers->answered[who]) {
			sharer_look(who);
			sharers->answered[who] = asked;
		}
		sleep_ms(2);
	}
	_exit(0);
}

static void sharer_start(int who)
{
	const long pid = syscall(SYS_clone, SIGCHLD | shared_by[who], 0, 0, 0, 0);

	if (pid < 0)
		v_die("clone");
	if (!pid)
		sharer_live(who);
}

static void tables_setup(void)
{
	sharers = map_at(HOME(9), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sharers->mask = 022;
	umask(022);
	sharer_start(BOTH);
	sharer_start(FILES);
	sharer_start(FS);
	v_await_ticks(NSHARERS);
}

static void tables_ask(void)
{
	const unsigned asked = ++sharers->asked;

	for (int who = 0; who < NSHARERS; who++) {
		for (int i = 0; sharers->answered[who] != asked && i < 5000; i++)
			sleep_ms(1);
		if (sharers->answered[who] != asked)
			v_bad("tables: process %d of them does not answer", who);
	}
}

static void tables_check(void)
{
	sharers->mask = 027;
	umask(027);
	sharers->opened = dup2(2, PROBE) == PROBE;
	tables_ask();
	sharers->mask = 022;
	umask(022);
	close(PROBE);
	sharers->opened = 0;
	tables_ask();
}

const struct scenario process_scenarios[] = {
	{"tree", "groups, sessions, a zombie, a stopped child", tree_setup, tree_check,
	 tree_finish},
	{"wide", "--n 50 processes", wide_setup},
	{"seccomp", "a seccomp filter", seccomp_setup, seccomp_check},
	{"narrow", "a thread whose seccomp filter refuses nearly everything", narrow_setup},
	{"creds", "another user and groups", creds_setup, creds_check},
	{"habits", "priorities, policies and switches that only prctl and its like tell",
	 habits_setup, habits_check},
	{"tables", "descriptors and working directories that processes have in common",
	 tables_setup, tables_check},
	{},
};
