/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of what threads of one process may have each for itself: users, filters, policies.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

/* --- eachuser: a user, groups, capabilities and bits for every thread ----------------------- */

enum { EACH = 4 };

struct own {
	uint32_t uids[3], gids[3], groups[4];
	int ngroups;
	struct __user_cap_data_struct caps[2];
	int bits, death, no_new, slack, bounded, ambient, nice;
	char name[16];
};

static void look_at_own(struct own *o)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};

	memset(o, 0, sizeof(*o));
	syscall(SYS_getresuid, &o->uids[0], &o->uids[1], &o->uids[2]);
	syscall(SYS_getresgid, &o->gids[0], &o->gids[1], &o->gids[2]);
	o->ngroups = (int)syscall(SYS_getgroups, 4, o->groups);
	syscall(SYS_capget, &h, o->caps);
	o->bits = prctl(PR_GET_SECUREBITS);
	prctl(PR_GET_PDEATHSIG, &o->death);
	o->no_new = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	o->slack = prctl(PR_GET_TIMERSLACK);
	o->bounded = prctl(PR_CAPBSET_READ, CAP_SYS_BOOT, 0, 0, 0);
	o->ambient = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0);
	o->nice = getpriority(PRIO_PROCESS, (id_t)gettid_());
	prctl(PR_GET_NAME, o->name);
}

static void expect_own(const struct own *want, unsigned who)
{
	struct own now;

	look_at_own(&now);
	if (memcmp(now.uids, want->uids, sizeof(now.uids)) ||
	    memcmp(now.gids, want->gids, sizeof(now.gids)))
		v_bad("eachuser: thread %u is user %u/%u/%u, group %u/%u/%u", who, now.uids[0],
		      now.uids[1], now.uids[2], now.gids[0], now.gids[1], now.gids[2]);
	if (now.ngroups != want->ngroups || memcmp(now.groups, want->groups, sizeof(now.groups)))
		v_bad("eachuser: thread %u is in %d groups", who, now.ngroups);
	if (memcmp(now.caps, want->caps, sizeof(now.caps)) || now.bounded != want->bounded ||
	    now.ambient != want->ambient)
		v_bad("eachuser: thread %u has capabilities %#x of %#x, bounded %d, ambient %d",
		      who, now.caps[0].effective, now.caps[0].permitted, now.bounded, now.ambient);
	if (now.bits != want->bits || now.no_new != want->no_new)
		v_bad("eachuser: thread %u has secure bits %#x, no_new_privs %d", who, now.bits,
		      now.no_new);
	if (now.death != want->death || now.slack != want->slack || now.nice != want->nice ||
	    strcmp(now.name, want->name) != 0)
		v_bad("eachuser: thread %u: death signal %d, slack %d, nice %d, name %s", who,
		      now.death, now.slack, now.nice, now.name);
}

static void lose_some_caps(void)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[2];

	if (syscall(SYS_capget, &h, caps))
		v_die("capget");
	caps[0].effective &= ~(1U << CAP_SYS_TIME);
	caps[0].permitted &= ~(1U << CAP_SYS_MODULE);
	caps[0].effective &= caps[0].permitted;
	caps[0].inheritable = 1U << CAP_NET_RAW | 1U << CAP_CHOWN;
	if (syscall(SYS_capset, &h, caps) || prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT) ||
	    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0))
		v_die("capabilities");
}

/* By the kernel's calls, which change the calling thread alone. */
static void become(unsigned who)
{
	static const gid_t groups[] = {7001, 7002, 7003};

	setpriority(PRIO_PROCESS, (id_t)gettid_(), (int)who * 2 + 1);
	prctl(PR_SET_TIMERSLACK, 70000 + who);
	switch (who) {
	case 1:
		if (prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP))
			v_die("secure bits");
		lose_some_caps();
		break;
	case 2:
		if (syscall(SYS_setgroups, 3, groups) || syscall(SYS_setresgid, 7010, 7011, 7012) ||
		    syscall(SYS_setresuid, 7020, 7021, 7022))
			v_die("setresuid");
		break;
	case 3:
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_setresuid, 0, 7030, 0) ||
		    prctl(PR_SET_SECUREBITS, 0))
			errno = 0; /* without CAP_SETPCAP by now: that is the state */
		break;
	}
	/* After a change of users, which takes it away. */
	prctl(PR_SET_PDEATHSIG, SIGUSR1 + (int)who % 2);
	prctl(PR_SET_DUMPABLE, 1);
}

static void *each_thread(void *arg)
{
	unsigned who = (unsigned)(uintptr_t)arg;
	struct own own;
	char name[16];

	snprintf(name, sizeof(name), "each \n%u)", who);
	prctl(PR_SET_NAME, name);
	become(who);
	look_at_own(&own);
	v_tick();
	while (!v_quitting()) {
		expect_own(&own, who);
		sleep_ms(5);
	}
	return NULL;
}

static void eachuser_setup(void)
{
	if (getuid() != 0)
		v_skip("changing the user needs root");
	/* Whoever of them asks whether the control file is still there must be told. */
	chmod(v_dir(), 0755);
	for (uintptr_t i = 0; i < EACH; i++)
		start_thread(each_thread, (void *)i);
	v_await_ticks(EACH);
}

/* --- filters: seccomp filters on filters, other ones in every thread ------------------------ */

/* The lower half of args[1] in struct seccomp_data. */
enum { ARGS1 = 24 + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0) };

/* getpriority(9, @key): nobody asks for that. Answers with @error; @over: only for that key. */
static void add_filter(uint32_t key, uint16_t error)
{
	struct sock_filter code[] = {
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
		{BPF_JMP | BPF_JEQ | BPF_K, 0, 3, SYS_getpriority},
		{BPF_LD | BPF_W | BPF_ABS, 0, 0, ARGS1},
		{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, key},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | error},
		{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
	};
	struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog))
		v_skip("no seccomp filters here");
}

static void expect_answer(uint32_t key, int error, const char *who)
{
	int got = syscall(SYS_getpriority, 9, key) == -1 ? errno : 0;

	/* Without a filter the kernel says EINVAL. */
	if (got != error)
		v_bad("filters: %s: %u is answered by %d, not %d", who, key, got, error);
}

static void *filter_thread(void *arg)
{
	uint32_t n = (uint32_t)(uintptr_t)arg;

	for (uint32_t i = 0; i < n; i++)
		add_filter(10 * n + i, (uint16_t)(100 + i));
	v_tick();
	while (!v_quitting()) {
		/* What all have from their parent, by the last of two filters that answer it. */
		expect_answer(1, 91, "a thread");
		for (uint32_t i = 0; i < n; i++)
			expect_answer(10 * n + i, 100 + (int)i, "a thread");
		expect_answer(10 * (n + 1), EINVAL, "a thread");
		sleep_ms(5);
	}
	return NULL;
}

static void filtered_child(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	add_filter(500, 95);
	v_tick();
	for (;;) {
		expect_answer(1, 91, "the child");
		expect_answer(500, 95, "the child");
		expect_answer(10, EINVAL, "the child");
		sleep_ms(5);
	}
}

/* May read, write and end itself, and does nothing at all. */
static void *strict_thread(void *arg)
{
	uint64_t b;
	int *ends = arg;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		v_die("no_new_privs");
	v_tick();
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	while (read(ends[0], &b, 1) == 1)
		if (write(ends[1], &b, 1) != 1)
			break;
	syscall(SYS_exit, 0);
	return NULL;
}

static int strict_in[2], strict_out[2], strict_ends[2];

static void filters_setup(void)
{
	pid_t pid;

	if (pipe2(strict_in, O_CLOEXEC) || pipe2(strict_out, O_CLOEXEC))
		v_die("pipe");
	strict_ends[0] = strict_in[0];
	strict_ends[1] = strict_out[1];
	start_thread(strict_thread, strict_ends);
	v_await_ticks(1);
	add_filter(1, 90);
	add_filter(1, 91);
	for (uintptr_t n = 0; n < 4; n++)
		start_thread(filter_thread, (void *)n);
	pid = fork();
	if (!pid)
		filtered_child();
	if (pid < 0)
		v_die("fork");
	v_await_ticks(6);
}

static void filters_check(void)
{
	static uint8_t serial;
	uint8_t got = 0;

	expect_answer(1, 91, "the first thread");
	expect_answer(20, EINVAL, "the first thread");
	expect_answer(500, EINVAL, "the first thread");
	serial++;
	if (write(strict_in[1], &serial, 1) != 1 || read(strict_out[0], &got, 1) != 1 ||
	    got != serial)
		v_bad("filters: the strict thread does not answer");
}

/* --- policies: who runs how, when and where ------------------------------------------------- */

struct sched_attr_now { /* Linux 5.3 */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

enum { DEADLINE = 6, RESET = 1, MS = 1000000 };

static const struct sched_attr_now policies[] = {
	{.policy = SCHED_FIFO, .priority = 3},
	{.policy = SCHED_RR, .priority = 7, .flags = RESET},
	{.policy = SCHED_IDLE},
	{.policy = SCHED_BATCH, .nice = 13},
	{.policy = SCHED_OTHER, .nice = -7, .flags = RESET},
	{.policy = DEADLINE, .runtime = MS, .deadline = 50 * MS, .period = 100 * MS},
};
enum { NPOLICIES = sizeof(policies) / sizeof(policies[0]) };

static void *policy_thread(void *arg)
{
	const struct sched_attr_now *want = &policies[(uintptr_t)arg];
	struct sched_attr_now a = *want;
	cpu_set_t all, now;

	a.size = 48;
	sched_getaffinity(0, sizeof(all), &all);
	if (syscall(SYS_sched_setattr, 0, &a, 0)) {
		if (want->policy == SCHED_OTHER || want->policy == SCHED_BATCH)
			v_die("sched_setattr");
		v_tick();
		return NULL;
	}
	v_tick();
	while (!v_quitting()) {
		memset(&a, 0, sizeof(a));
		if (syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) || a.policy != want->policy ||
		    (a.flags & RESET) != want->flags || a.priority != want->priority ||
		    (want->nice && a.nice != want->nice))
			v_bad("policies: policy %u flags %#llx priority %u nice %d, not policy %u",
			      a.policy, (unsigned long long)a.flags, a.priority, a.nice,
			      want->policy);
		if (want->policy == DEADLINE &&
		    (a.runtime != want->runtime || a.deadline != want->deadline ||
		     a.period != want->period))
			v_bad("policies: deadline %llu/%llu/%llu", (unsigned long long)a.runtime,
			      (unsigned long long)a.deadline, (unsigned long long)a.period);
		sched_getaffinity(0, sizeof(now), &now);
		if (!CPU_EQUAL(&all, &now))
			v_bad("policies: another affinity");
		sleep_ms(20);
	}
	return NULL;
}

static void policies_setup(void)
{
	if (getuid() != 0)
		v_skip("real-time policies need root");
	for (uintptr_t i = 0; i < NPOLICIES; i++)
		start_thread(policy_thread, (void *)i);
	v_await_ticks(NPOLICIES);
}

/* --- rooted: another root, a working directory outside of it, limits of the child's own ----- */

static struct {
	int asked, answered;
} * rooted;

static void rooted_child(void)
{
	struct rlimit rl = {.rlim_cur = 5 << 20, .rlim_max = 6 << 20};
	struct stat root, cwd, st;
	mode_t mask;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	umask(0751);
	if (chroot("jail") || chdir("/inside") || setrlimit(RLIMIT_FSIZE, &rl) ||
	    stat("/", &root) || stat("/inside", &cwd))
		v_die("chroot");
	v_tick();
	for (;;) {
		int n = __atomic_load_n(&rooted->asked, __ATOMIC_ACQUIRE);
		char path[64];

		if (n == rooted->answered) {
			sleep_ms(1);
			continue;
		}
		if (stat("/", &st) || st.st_ino != root.st_ino || st.st_dev != root.st_dev)
			v_bad("rooted: another root");
		if (stat(".", &st) || st.st_ino != cwd.st_ino)
			v_bad("rooted: another working directory");
		if (!getcwd(path, sizeof(path)) || strcmp(path, "/inside") != 0)
			v_bad("rooted: the working directory is called otherwise");
		if (stat("/../../inside/mark", &st) || st.st_size != 4)
			v_bad("rooted: a file in there is not found");
		mask = umask(0751);
		if (mask != 0751)
			v_bad("rooted: umask %o", mask);
		getrlimit(RLIMIT_FSIZE, &rl);
		if (rl.rlim_cur != 5 << 20 || rl.rlim_max != 6 << 20)
			v_bad("rooted: RLIMIT_FSIZE has changed");
		__atomic_store_n(&rooted->answered, n, __ATOMIC_RELEASE);
	}
}

static void rooted_setup(void)
{
	pid_t pid;
	int fd;

	if (getuid() != 0)
		v_skip("chroot needs root");
	if (chdir(v_dir()))
		v_die("chdir");
	mkdir("jail", 0755);
	mkdir("jail/inside", 0755);
	mkdir("outside", 0755);
	fd = open("jail/inside/mark", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	rooted = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (write(fd, "mark", 4) != 4 || rooted == MAP_FAILED)
		v_die("mark");
	close(fd);
	pid = fork();
	if (!pid)
		rooted_child();
	v_await_ticks(1);
	if (pid < 0 || chdir("outside"))
		v_die("chdir");
}

static void rooted_check(void)
{
	int n = rooted->asked + 1;
	struct stat a, b;

	__atomic_store_n(&rooted->asked, n, __ATOMIC_RELEASE);
	for (int i = 0; i < 10000 && __atomic_load_n(&rooted->answered, __ATOMIC_ACQUIRE) != n; i++)
		sleep_ms(1);
	if (rooted->answered != n)
		v_bad("rooted: the child does not answer");
	if (stat("../jail", &a) || stat("/proc/self/cwd", &b) || a.st_ino == b.st_ino)
		v_bad("rooted: the parent has moved");
}

const struct scenario attribute_scenarios[] = {
	{"eachuser", "threads of different users, groups, capabilities, names", eachuser_setup},
	{"filters", "seccomp filters on filters, strict mode", filters_setup, filters_check},
	{"policies", "real-time, deadline, idle and batch threads", policies_setup},
	{"rooted", "a child in a chroot, with a umask and limits of its own", rooted_setup,
	 rooted_check},
	{},
};
