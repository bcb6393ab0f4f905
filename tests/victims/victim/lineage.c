/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of who belongs to whom: dead leaders, orphans, pidfds, locks of several processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { MAX_KIN = 16 };

/* Shared by all: who is who. */
static struct kin {
	pid_t pid[MAX_KIN];
	int asked, answered[MAX_KIN];
} * kin;

static void kin_map(void)
{
	kin = map_at(HOME(9), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
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

/* Looks at its own place among the others for ever. */
static void stay(const char *who)
{
	pid_t parent = getppid(), group = getpgid(0), session = getsid(0);

	v_tick();
	while (!v_quitting()) {
		if (getppid() != parent || getpgid(0) != group || getsid(0) != session)
			v_bad("lineage: %s: parent %d, group %d, session %d, not %d, %d, %d", who,
			      getppid(), getpgid(0), getsid(0), parent, group, session);
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

static void await_orphan(pid_t parent)
{
	for (int ms = 0; getppid() == parent && ms < 10000; ms++)
		sleep_ms(1);
}

/* --- deadleaders: groups and sessions whose leaders have ended -----------------------------------
 *
 *	victim ── reaper (subreaper)
 *	    └── orphan of a session, whose leader ended and was collected
 *	    ├── orphan of a group in it: leader ended too
 *	    └── zombie leader of a session, a member of which lives:  (not collected)
 */

enum { REAPER, OF_SESSION, OF_GROUP, LEADER, MEMBER, NESTED, KILLED };

static void run_session(void)
{
	pid_t me = getpid(), leader;

	setsid();
	if (spawn() == 0) {
		await_orphan(me);
		kin->pid[OF_SESSION] = getpid();
		stay("orphan of a session");
	}
	leader = spawn();
	if (leader == 0) {
		leader = getpid();
		setpgid(0, 0);
		if (spawn() == 0) {
			await_orphan(leader);
			kin->pid[OF_GROUP] = getpid();
			/* A session in the session, of an orphan. */
			if (spawn() == 0) {
				setsid();
				kin->pid[NESTED] = getpid();
				stay("leader of a nested session");
			}
			stay("orphan of a group");
		}
		_exit(0);
	}
	waitpid(leader, NULL, 0);
	_exit(0);
}

static void run_reaper(void)
{
	pid_t pid;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	kin->pid[REAPER] = getpid();
	pid = spawn();
	if (!pid)
		run_session();
	waitpid(pid, NULL, 0);
	pid = spawn();
	if (!pid) {
		pid_t me = getpid();

		setsid();
		if (spawn() == 0) {
			await_orphan(me);
			kin->pid[MEMBER] = getpid();
			stay("member of a dead leader's session");
		}
		_exit(23);
	}
	kin->pid[LEADER] = pid;
	pid = spawn();
	if (!pid) {
		struct rlimit none = {0, 0};

		setrlimit(RLIMIT_CORE, &none);
		setpgid(0, 0);
		raise(SIGSEGV);
	}
	kin->pid[KILLED] = pid;
	for (int i = LEADER; i <= KILLED; i += KILLED - LEADER) {
		siginfo_t si;

		if (waitid(P_PID, (id_t)kin->pid[i], &si, WEXITED | WNOWAIT))
			v_die("waitid");
	}
	v_tick();
	while (!v_quitting()) {
		siginfo_t si = {0};

		if (waitid(P_PID, (id_t)kin->pid[LEADER], &si, WEXITED | WNOWAIT | WNOHANG) ||
		    si.si_code != CLD_EXITED || si.si_status != 23)
			v_bad("deadleaders: the dead leader's status is %d, code %d", si.si_status,
			      si.si_code);
		si = (siginfo_t){0};
		if (waitid(P_PID, (id_t)kin->pid[KILLED], &si, WEXITED | WNOWAIT | WNOHANG) ||
		    si.si_status != SIGSEGV ||
		    (si.si_code != CLD_KILLED && si.si_code != CLD_DUMPED))
			v_bad("deadleaders: the killed one's status is %d, code %d", si.si_status,
			      si.si_code);
		sleep_ms(20);
	}
	_exit(0);
}

static void deadleaders_setup(void)
{
	kin_map();
	if (spawn() == 0)
		run_reaper();
	v_await_ticks(5);
}

static void deadleaders_check(void)
{
	pid_t session = getsid(kin->pid[OF_SESSION]);

	if (session == getsid(0) || getsid(kin->pid[OF_GROUP]) != session)
		v_bad("deadleaders: the orphans are in sessions %d and %d", session,
		      getsid(kin->pid[OF_GROUP]));
	if (getpgid(kin->pid[OF_GROUP]) == getpgid(kin->pid[OF_SESSION]))
		v_bad("deadleaders: the orphans are in one group");
	if (getsid(kin->pid[MEMBER]) != kin->pid[LEADER])
		v_bad("deadleaders: the member is in session %d, not %d", getsid(kin->pid[MEMBER]),
		      kin->pid[LEADER]);
	if (getsid(kin->pid[NESTED]) != kin->pid[NESTED])
		v_bad("deadleaders: the nested session is %d", getsid(kin->pid[NESTED]));
	/* A group without a leader gets signals, and a session a group. */
	if (kill(-getpgid(kin->pid[OF_GROUP]), 0))
		v_bad("deadleaders: the orphan's group: %s", strerrordesc_np(errno));
	if (state_of(kin->pid[LEADER]) != 'Z' || state_of(kin->pid[KILLED]) != 'Z')
		v_bad("deadleaders: a dead one is %c, %c", state_of(kin->pid[LEADER]),
		      state_of(kin->pid[KILLED]));
}

/* --- pidfds: of a child, the parent, a dead child, oneself, a stopped one
 * -------------------------
 */

static int to_child, to_self, to_dead, poll_dead, to_stopped;
static pid_t child, dead, stopped;

static void pidfds_child(void)
{
	int to_parent = (int)syscall(SYS_pidfd_open, getppid(), 0);
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN};
	pid_t parent = getppid();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (to_parent < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, to_parent, &ev))
		v_die("pidfd_open");
	v_tick();
	for (;;) {
		if (syscall(SYS_pidfd_send_signal, to_parent, 0, NULL, 0) || getppid() != parent)
			v_bad("pidfds: the child cannot signal its parent: %s",
			      strerrordesc_np(errno));
		if (epoll_wait(ep, &ev, 1, 0))
			v_bad("pidfds: the parent has ended, says epoll");
		sleep_ms(10);
	}
}

/* Two threads, both stopped by job control. */
static void *idle_thread(void *arg)
{
	for (;;)
		sleep_ms(1000);
	return NULL;
}

static void pidfds_stopped(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Without a parent in another group of the session SIGTSTP stops nobody. */
	setpgid(0, 0);
	start_thread(idle_thread, NULL);
	start_thread(idle_thread, NULL);
	v_tick();
	raise(SIGTSTP);
	_exit(44);
}

static void pidfds_setup(void)
{
	siginfo_t si;
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 4};

	child = spawn();
	if (!child)
		pidfds_child();
	dead = spawn();
	if (!dead)
		_exit(66);
	stopped = spawn();
	if (!stopped)
		pidfds_stopped();
	setpgid(stopped, stopped);
	v_await_ticks(2);
	to_child = (int)syscall(SYS_pidfd_open, child, O_NONBLOCK);
	to_self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	to_dead = (int)syscall(SYS_pidfd_open, dead, 0);
	to_stopped = (int)syscall(SYS_pidfd_open, stopped, 0);
	poll_dead = epoll_create1(0);
	if (to_child < 0 || to_self < 0 || to_dead < 0 || to_stopped < 0 ||
	    epoll_ctl(poll_dead, EPOLL_CTL_ADD, to_dead, &ev) ||
	    epoll_ctl(poll_dead, EPOLL_CTL_ADD, to_child, &ev))
		v_skip("pidfds: %s", strerrordesc_np(errno));
	if (waitid(P_PID, (id_t)dead, &si, WEXITED | WNOWAIT) ||
	    waitid(P_PID, (id_t)stopped, &si, WSTOPPED | WNOWAIT))
		v_die("waitid");
}

static void pidfds_check(void)
{
	struct epoll_event ev[2];
	siginfo_t si = {0};
	char c;

	if (syscall(SYS_pidfd_send_signal, to_child, 0, NULL, 0) ||
	    syscall(SYS_pidfd_send_signal, to_self, 0, NULL, 0) ||
	    syscall(SYS_pidfd_send_signal, to_stopped, 0, NULL, 0))
		v_bad("pidfds: signal 0: %s", strerrordesc_np(errno));
	if (!(fcntl(to_child, F_GETFL) & O_NONBLOCK) || fcntl(to_self, F_GETFL) & O_NONBLOCK ||
	    fcntl(to_child, F_GETFD) != FD_CLOEXEC)
		v_bad("pidfds: other flags");
	if (waitid(P_PIDFD, (id_t)to_dead, &si, WEXITED | WNOWAIT | WNOHANG) || si.si_pid != dead ||
	    si.si_status != 66)
		v_bad("pidfds: the dead child is %d, status %d", si.si_pid, si.si_status);
	if (epoll_wait(poll_dead, ev, 2, 0) != 1 || ev[0].data.u64 != 4)
		v_bad("pidfds: epoll does not tell of the dead child, or of the living one");
	si = (siginfo_t){0};
	if (waitid(P_PIDFD, (id_t)to_child, &si, WEXITED | WNOHANG) || si.si_pid)
		v_bad("pidfds: the living child: %s", strerrordesc_np(errno));
	for (int i = 0; (c = state_of(stopped)) != 'T' && i < 200; i++)
		sleep_ms(10);
	if (c != 'T')
		v_bad("pidfds: the stopped child is in state %c", c);
}

static void pidfds_finish(void)
{
	struct pollfd p = {.fd = to_child, .events = POLLIN};
	siginfo_t si = {0};

	if (waitid(P_PIDFD, (id_t)to_stopped, &si, WSTOPPED | WNOHANG) || si.si_pid != stopped ||
	    si.si_status != SIGTSTP)
		v_bad("pidfds: the stop cannot be waited for: %d", si.si_status);
	syscall(SYS_pidfd_send_signal, to_stopped, SIGCONT, NULL, 0);
	if (waitid(P_PIDFD, (id_t)to_stopped, &si, WEXITED) || si.si_status != 44)
		v_bad("pidfds: the stopped child ended with %d", si.si_status);
	syscall(SYS_pidfd_send_signal, to_child, SIGTERM, NULL, 0);
	/* It does not block, which waitid() knows. */
	if (poll(&p, 1, 10000) != 1)
		v_bad("pidfds: the child does not end");
	if (waitid(P_PIDFD, (id_t)to_child, &si, WEXITED) || si.si_code != CLD_KILLED)
		v_bad("pidfds: the child ended with code %d", si.si_code);
	if (waitid(P_PIDFD, (id_t)to_dead, &si, WEXITED) || si.si_status != 66)
		v_bad("pidfds: the dead child's status was %d", si.si_status);
}

/* --- famlocks: locks of descriptions that a child shares, of parent and child, and who waits
 * ------
 */

static int ofd, flocked, mine, probe, waited_for, leased;
static _Atomic int got_it;

static int open_locked(const char *name)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%.4000s/%s", v_dir(), name);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		v_die("open %s", path);
	return fd;
}

static int lock(int fd, int cmd, short type, off_t at, off_t len)
{
	struct flock fl = {.l_type = type, .l_start = at, .l_len = len};

	return fcntl(fd, cmd, &fl);
}

/* Has a lock of its own, and what it has inherited; answers whether both are still there. */
static void famlocks_child(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (lock(mine, F_SETLK, F_RDLCK, 300, 5) || lock(mine, F_SETLK, F_WRLCK, 305, 5))
		v_die("lock of the child");
	v_tick();
	for (;;) {
		int n = __atomic_load_n(&kin->asked, __ATOMIC_ACQUIRE);

		if (n != kin->answered[0]) {
			/* The same description: no conflict with itself, and its type may change.
			 */
			if (lock(ofd, F_OFD_SETLK, F_WRLCK, 0, 10) ||
			    flock(flocked, LOCK_EX | LOCK_NB))
				v_bad("famlocks: the child has lost what it shares: %s",
				      strerrordesc_np(errno));
			if (lock(mine, F_SETLK, F_WRLCK, 0, 5) != -1)
				v_bad("famlocks: the child gets what its parent has locked");
			__atomic_store_n(&kin->answered[0], n, __ATOMIC_RELEASE);
		}
		sleep_ms(1);
	}
}

static void *waiting_thread(void *arg)
{
	v_tick();
	if (lock(waited_for, F_OFD_SETLKW, F_WRLCK, 0, 0))
		v_bad("famlocks: waiting ended: %s", strerrordesc_np(errno));
	got_it = 1;
	return NULL;
}

static void famlocks_setup(void)
{
	pid_t pid;

	kin_map();
	ofd = open_locked("ofd");
	flocked = open_locked("flocked");
	mine = open_locked("mine");
	leased = open_locked("leased");
	if (lock(ofd, F_OFD_SETLK, F_WRLCK, 0, 10) || lock(ofd, F_OFD_SETLK, F_RDLCK, 100, 0) ||
	    flock(flocked, LOCK_EX) || lock(mine, F_SETLK, F_WRLCK, 0, 100) ||
	    lock(mine, F_SETLK, F_UNLCK, 50, 10))
		v_die("locks");
	if (fcntl(leased, F_SETLEASE, F_WRLCK))
		leased = -1; /* not on every file system */
	pid = spawn();
	if (!pid)
		famlocks_child();
	kin->pid[0] = pid;
	v_await_ticks(1);
	probe = open_locked("ofd");
	waited_for = open_locked("ofd");
	start_thread(waiting_thread, NULL);
	v_await_ticks(2);
}

/* What another description would run into, in file @name. */
static void expect_lock(const char *name, off_t at, short type, off_t start, off_t len, pid_t pid)
{
	struct flock fl = {.l_type = F_WRLCK, .l_start = at, .l_len = 1};
	int fd = open_locked(name);

	if (fcntl(fd, F_OFD_GETLK, &fl) || fl.l_type != type ||
	    (type != F_UNLCK && (fl.l_start != start || fl.l_len != len || fl.l_pid != pid)))
		v_bad("famlocks: %s at %lld: type %d, %lld+%lld of %d", name, (long long)at,
		      fl.l_type, (long long)fl.l_start, (long long)fl.l_len, fl.l_pid);
	close(fd);
}

/* Closing a description of that file would drop the locks of this process. */
static int probe_mine = -1;

static void expect_mine(off_t at, short type, off_t start, off_t len, pid_t pid)
{
	struct flock fl = {.l_type = F_WRLCK, .l_start = at, .l_len = 1};

	if (probe_mine < 0)
		probe_mine = open_locked("mine");
	if (fcntl(probe_mine, F_OFD_GETLK, &fl) || fl.l_type != type ||
	    (type != F_UNLCK && (fl.l_start != start || fl.l_len != len || fl.l_pid != pid)))
		v_bad("famlocks: mine at %lld: type %d, %lld+%lld of %d", (long long)at, fl.l_type,
		      (long long)fl.l_start, (long long)fl.l_len, fl.l_pid);
}

static void famlocks_check(void)
{
	int n = kin->asked + 1;

	expect_lock("ofd", 5, F_WRLCK, 0, 10, -1);
	expect_lock("ofd", 50, F_UNLCK, 0, 0, 0);
	expect_lock("ofd", 1L << 40, F_RDLCK, 100, 0, -1);
	if (flock(probe, LOCK_SH | LOCK_NB))
		v_bad("famlocks: another file is locked");
	expect_mine(10, F_WRLCK, 0, 50, getpid());
	expect_mine(55, F_UNLCK, 0, 0, 0);
	expect_mine(99, F_WRLCK, 60, 40, getpid());
	expect_mine(301, F_RDLCK, 300, 5, kin->pid[0]);
	expect_mine(305, F_WRLCK, 305, 5, kin->pid[0]);
	__atomic_store_n(&kin->asked, n, __ATOMIC_RELEASE);
	for (int i = 0; i < 10000 && __atomic_load_n(&kin->answered[0], __ATOMIC_ACQUIRE) != n; i++)
		sleep_ms(1);
	if (kin->answered[0] != n)
		v_bad("famlocks: the child does not answer");
	if (got_it)
		v_bad("famlocks: whoever waits has got a lock that is held");
	if (leased >= 0 && fcntl(leased, F_GETLEASE) != F_WRLCK)
		v_bad("famlocks: the lease is %d", fcntl(leased, F_GETLEASE));
}

static void famlocks_finish(void)
{
	if (lock(ofd, F_OFD_SETLK, F_UNLCK, 0, 0))
		v_bad("famlocks: unlock: %s", strerrordesc_np(errno));
	for (int ms = 0; !got_it && ms < 10000; ms++)
		sleep_ms(1);
	if (!got_it)
		v_bad("famlocks: whoever waits was not woken");
	close(flocked);
	flocked = open_locked("flocked");
	/* The child has its description still. */
	if (flock(flocked, LOCK_EX | LOCK_NB) != -1)
		v_bad("famlocks: flock went with the parent's descriptor");
}

/* --- endsignals: children whose end is told by another signal than SIGCHLD, or by none ------ */

static pid_t told_by[4];

static pid_t spawn_telling(int signo)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, more[6];
	} args = {.exit_signal = (uint64_t)signo};
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	if (pid < 0)
		v_die("clone3");
	return pid;
}

static void endsignals_setup(void)
{
	static const int how[] = {SIGUSR2, 0, 40, SIGUSR2};
	struct timespec now = {0};
	siginfo_t si;
	sigset_t all;

	sigemptyset(&all);
	sigaddset(&all, SIGUSR2);
	sigaddset(&all, SIGCHLD);
	sigaddset(&all, 40);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; i < 4; i++) {
		told_by[i] = spawn_telling(how[i]);
		if (told_by[i] == 0 && i == 3)
			_exit(33);
		if (told_by[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			v_tick();
			for (;;)
				pause();
		}
	}
	v_await_ticks(3);
	if (waitid(P_PID, (id_t)told_by[3], &si, WEXITED | WNOWAIT | __WCLONE))
		v_die("waitid");
	while (sigtimedwait(&all, &si, &now) > 0)
		;
}

static void endsignals_check(void)
{
	siginfo_t si = {0};
	sigset_t pending;

	sigpending(&pending);
	if (sigismember(&pending, SIGUSR2) || sigismember(&pending, 40))
		v_bad("endsignals: an end is told once more");
	if (waitid(P_PID, (id_t)told_by[0], &si, WEXITED | WNOHANG | __WCLONE) || si.si_pid)
		v_bad("endsignals: the child is no clone child: %s", strerrordesc_np(errno));
	if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD)
		v_bad("endsignals: a plain wait sees a child");
	if (waitid(P_PID, (id_t)told_by[3], &si, WEXITED | WNOHANG | WNOWAIT | __WCLONE) ||
	    si.si_pid != told_by[3] || si.si_status != 33)
		v_bad("endsignals: the dead one is %d, status %d", si.si_pid, si.si_status);
}

static void endsignals_finish(void)
{
	static const int want[] = {SIGUSR2, 0, 40};
	siginfo_t si;

	for (int i = 0; i < 3; i++) {
		sigset_t pending;

		kill(told_by[i], SIGKILL);
		if (waitid(P_PID, (id_t)told_by[i], &si, WEXITED | __WCLONE))
			v_bad("endsignals: waitid: %s", strerrordesc_np(errno));
		sigpending(&pending);
		for (int signo = 1; signo < 64; signo++)
			if (sigismember(&pending, signo) != (want[i] == signo))
				v_bad("endsignals: signal %d of child %d: %d", signo, i,
				      sigismember(&pending, signo));
		if (want[i]) {
			sigset_t one;

			sigemptyset(&one);
			sigaddset(&one, want[i]);
			sigwaitinfo(&one, &si);
		}
	}
}

const struct scenario lineage_scenarios[] = {
	{"deadleaders", "groups and sessions without leaders, orphans, zombie leaders",
	 deadleaders_setup, deadleaders_check},
	{"pidfds", "pidfds of child, parent, oneself, a dead and a stopped one", pidfds_setup,
	 pidfds_check, pidfds_finish},
	{"famlocks", "locks of parent and child, shared ones, one that is waited for",
	 famlocks_setup, famlocks_check, famlocks_finish},
	{"endsignals", "children whose end is told by another signal than SIGCHLD, or by none",
	 endsignals_setup, endsignals_check, endsignals_finish},
	{},
};
