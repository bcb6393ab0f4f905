/* SPDX-License-Identifier: MIT */
/* The descriptors of a process: kinds, contents of fdinfo, what is shared with whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <time.h>

#include "src/target/fdtype.h"
#include "src/target/files.h"
#include "tests/unit/target/child.h"

/* One model of several processes. */
struct view {
	struct model *m;
	struct files *f;
	struct err err;
};

static void view_open(struct view *v)
{
	*v = (struct view){.m = model_new(0)};
	v->f = files_new(v->m, &v->err);
	assert_non_null(v->f);
}

static struct m_proc *view_collect(struct view *v, pid_t pid)
{
	struct m_proc *p = model_push(v->m, &v->m->procs, &v->m->nprocs, sizeof(*p));

	p->pid = (uint32_t)pid;
	assert_int_equal(proc_collect(v->m, p, &v->err), 0);
	assert_int_equal(files_collect(v->f, p, &v->err), 0);
	return p;
}

static void view_close(struct view *v)
{
	files_free(v->f);
	model_free(v->m);
}

static const struct m_fd *fd_of(const struct view *v, const struct m_proc *p, uint32_t fd)
{
	const struct m_fdtable *t = model_fdtable(v->m, p->fdtable_id);

	for (uint32_t i = 0; t && i < t->n; i++)
		if (t->fds[i].fd == fd)
			return &t->fds[i];
	return NULL;
}

static const struct m_file *file_of(const struct view *v, const struct m_proc *p, uint64_t fd)
{
	const struct m_fd *e = fd_of(v, p, (uint32_t)fd);

	return e ? model_file(v->m, e->file_id) : NULL;
}

static bool has_finding(const struct view *v, const char *part)
{
	for (uint32_t i = 0; i < v->m->nfindings; i++)
		if (strstr(v->m->findings[i].text, part))
			return true;
	return false;
}

static char dir[] = "/tmp/stasis-files-XXXXXX";

static int open_in(const char *name, int flags)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return open(path, flags, 0600);
}

enum {
	REG = 1,
	REG_DUP,
	REG_AGAIN,
	GONE,
	FAKE_GONE,
	DIRECTORY,
	PATH_ONLY,
	NUL,
	PIPE_R,
	PIPE_W,
	FIFO,
	TCP,
	UDP6,
	UNIX,
	UNIX_OWNED,
	NETLINK,
	PACKET,
	EVENT,
	SEMAPHORE,
	EPOLL,
	INOTIFY,
	SIGNAL,
	TIMER,
	PTY,
	NS,
	MEMFD,
	PIDFD,
	DEAD_PIDFD,
	VSOCK,
	KINDS,
};

/* Another one than a pipe has by itself, on pages of any size. */
static int pipe_size(void)
{
	return (int)(2 * sysconf(_SC_PAGESIZE));
}

static void build_files(uint64_t *fd)
{
	int p[2];

	fd[REG] = open_in("reg", O_RDWR | O_CREAT | O_APPEND);
	if (write((int)fd[REG], "hello", 5) != 5)
		_exit(97);
	fd[REG_DUP] = fcntl((int)fd[REG], F_DUPFD_CLOEXEC, 100);
	fd[REG_AGAIN] = open_in("reg", O_RDWR | O_APPEND);
	lseek((int)fd[REG_AGAIN], 5, SEEK_SET);
	fd[GONE] = open_in("gone", O_WRONLY | O_CREAT);
	fd[FAKE_GONE] = open_in("here (deleted)", O_WRONLY | O_CREAT);
	fd[DIRECTORY] = open(dir, O_RDONLY | O_DIRECTORY);
	unlinkat((int)fd[DIRECTORY], "gone", 0);
	fd[PATH_ONLY] = open_in("fifo", O_PATH);
	fd[NUL] = open("/dev/null", O_RDONLY);
	if (pipe2(p, O_NONBLOCK | O_CLOEXEC))
		_exit(97);
	fd[PIPE_R] = p[0];
	fd[PIPE_W] = p[1];
	fcntl(p[1], F_SETPIPE_SZ, pipe_size());
	fd[FIFO] = open_in("fifo", O_RDWR);
	fd[PTY] = posix_openpt(O_RDWR | O_NOCTTY);
	fd[NS] = open("/proc/self/ns/uts", O_RDONLY);
	fd[MEMFD] = memfd_create("m", MFD_ALLOW_SEALING);
	fcntl((int)fd[MEMFD], F_ADD_SEALS, F_SEAL_WRITE);
}

static void build_sockets(uint64_t *fd)
{
	struct f_owner_ex own = {.type = F_OWNER_PGRP, .pid = getpgrp()};
	int s[2];

	fd[TCP] = socket(AF_INET, SOCK_STREAM, 0);
	fd[UDP6] = socket(AF_INET6, SOCK_DGRAM, 0);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s))
		_exit(97);
	fd[UNIX] = s[0];
	fd[UNIX_OWNED] = s[1];
	if (getuid() == 0 && seteuid(4321))
		_exit(97);
	fcntl(s[1], F_SETOWN_EX, &own);
	fcntl(s[1], F_SETSIG, SIGUSR2);
	if (getuid() == 0 && (seteuid(0) || prctl(PR_SET_DUMPABLE, 1)))
		_exit(97);
	fd[NETLINK] = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	fd[PACKET] = socket(AF_PACKET, SOCK_DGRAM, 0);
	fd[VSOCK] = socket(AF_VSOCK, SOCK_STREAM, 0);
}

static void build_events(uint64_t *fd)
{
	struct itimerspec it = {.it_interval = {3, 500}, .it_value = {1000, 0}};
	struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u64 = 0x123456789abcdef0};
	sigset_t set;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	fd[DEAD_PIDFD] = syscall(SYS_pidfd_open, pid, 0);
	waitpid(pid, NULL, 0);
	fd[PIDFD] = syscall(SYS_pidfd_open, getppid(), 0);
	fd[EVENT] = eventfd(0xabcdef, 0);
	fd[SEMAPHORE] = eventfd(1, EFD_SEMAPHORE | EFD_NONBLOCK);
	fd[EPOLL] = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl((int)fd[EPOLL], EPOLL_CTL_ADD, (int)fd[EVENT], &e);
	e.data.u64 = 1;
	epoll_ctl((int)fd[EPOLL], EPOLL_CTL_ADD, (int)fd[PIPE_R], &e);
	fd[INOTIFY] = inotify_init1(0);
	inotify_add_watch((int)fd[INOTIFY], dir, IN_CREATE);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMAX);
	fd[SIGNAL] = signalfd(-1, &set, 0);
	fd[TIMER] = timerfd_create(CLOCK_MONOTONIC, 0);
	timerfd_settime((int)fd[TIMER], 0, &it, NULL);
}

static void build_all(struct child *c)
{
	if (chdir(dir))
		_exit(97);
	build_files(c->shared);
	build_sockets(c->shared);
	build_events(c->shared);
}

static void check_types(const struct view *v, const struct m_proc *p, const uint64_t *fd)
{
	static const struct {
		int which;
		enum m_file_type type;
	} want[] = {
		{REG, M_FILE_REG},	   {GONE, M_FILE_REG},	      {DIRECTORY, M_FILE_REG},
		{PATH_ONLY, M_FILE_REG},   {NUL, M_FILE_REG},	      {PIPE_R, M_FILE_PIPE},
		{PIPE_W, M_FILE_PIPE},	   {FIFO, M_FILE_FIFO},	      {TCP, M_FILE_INETSK},
		{UDP6, M_FILE_INETSK},	   {UNIX, M_FILE_UNIXSK},     {NETLINK, M_FILE_NETLINKSK},
		{PACKET, M_FILE_PACKETSK}, {EVENT, M_FILE_EVENTFD},   {EPOLL, M_FILE_EVENTPOLL},
		{INOTIFY, M_FILE_INOTIFY}, {SIGNAL, M_FILE_SIGNALFD}, {TIMER, M_FILE_TIMERFD},
		{PTY, M_FILE_TTY},	   {NS, M_FILE_NS},	      {MEMFD, M_FILE_MEMFD},
		{PIDFD, M_FILE_PIDFD},	   {VSOCK, M_FILE_EXT},
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		const struct m_file *file;

		/* Not every kernel has every family. */
		if ((int64_t)fd[want[i].which] < 0)
			continue;
		file = file_of(v, p, fd[want[i].which]);
		assert_non_null(file);
		if (file->type != want[i].type)
			fail_msg("%s: type %d, not %d", file->path, file->type, want[i].type);
		assert_non_null(strstr(file->fdinfo, "flags:"));
		assert_true(file->mnt_id >= 0);
	}
}

static void check_regular(const struct view *v, const struct m_proc *p, const uint64_t *fd)
{
	const struct m_file *file = file_of(v, p, fd[REG]);
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/reg", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_string_equal(file->path, path);
	assert_int_equal(file->pos, 5);
	assert_int_equal(file->size, 5);
	assert_int_equal(file->flags & (O_ACCMODE | O_APPEND | O_CREAT), O_RDWR | O_APPEND);
	assert_int_equal(file->ino, st.st_ino);
	assert_int_equal(file->dev, st.st_dev);
	assert_int_equal(file->mode, st.st_mode);
	assert_false(file->deleted);
	/* dup() is the same description; a second open() with equal looks is not. */
	assert_ptr_equal(file_of(v, p, fd[REG_DUP]), file);
	assert_true(fd_of(v, p, (uint32_t)fd[REG_DUP])->cloexec);
	assert_false(fd_of(v, p, (uint32_t)fd[REG])->cloexec);
	assert_int_equal(file->flags & O_CLOEXEC, 0);
	assert_ptr_not_equal(file_of(v, p, fd[REG_AGAIN]), file);
	assert_int_equal(file_of(v, p, fd[REG_AGAIN])->pos, 5);

	snprintf(path, sizeof(path), "%s/gone", dir);
	assert_string_equal(file_of(v, p, fd[GONE])->path, path);
	assert_true(file_of(v, p, fd[GONE])->deleted);
	assert_non_null(model_ghost(v->m, file_of(v, p, fd[GONE])->ghost_id));
	snprintf(path, sizeof(path), "%s/here (deleted)", dir);
	assert_string_equal(file_of(v, p, fd[FAKE_GONE])->path, path);
	assert_false(file_of(v, p, fd[FAKE_GONE])->deleted);
	assert_true(file_of(v, p, fd[PATH_ONLY])->flags & O_PATH);
	assert_int_equal(file_of(v, p, fd[NUL])->rdev, makedev(1, 3));
	assert_string_equal(model_file(v->m, p->cwd_file_id)->path, dir);
	assert_string_equal(model_file(v->m, p->root_file_id)->path, "/");
}

static void check_owner_and_pipe(const struct view *v, const struct m_proc *p, const uint64_t *fd)
{
	const struct m_file *file = file_of(v, p, fd[UNIX_OWNED]);

	assert_int_equal(file->fown.pid, getpgrp());
	assert_int_equal(file->fown.pid_type, F_OWNER_PGRP);
	assert_int_equal(file->fown.signum, SIGUSR2);
	assert_int_equal(file->fown.uid, getuid());
	assert_int_equal(file->fown.euid, getuid() ? getuid() : 4321);
	assert_int_equal(file_of(v, p, fd[UNIX])->fown.pid, 0);
	assert_int_equal(file_of(v, p, fd[PIPE_R])->pipe_size, pipe_size());
	assert_int_equal(file_of(v, p, fd[PIPE_W])->pipe_size, pipe_size());
	assert_true(file_of(v, p, fd[PIPE_W])->flags & O_NONBLOCK);
	assert_int_equal(file_of(v, p, fd[PIPE_W])->flags & O_ACCMODE, O_WRONLY);
	assert_int_equal(file_of(v, p, fd[PIPE_R])->ino, file_of(v, p, fd[PIPE_W])->ino);
	assert_true(file_of(v, p, fd[FIFO])->pipe_size >= 4096);
}

static void check_fdinfo(const struct view *v, const struct m_proc *p, const uint64_t *fd)
{
	const struct m_file *file = file_of(v, p, fd[EPOLL]);
	const struct m_shm *s;

	assert_int_equal(file_of(v, p, fd[EVENT])->eventfd_count, 0xabcdef);
	assert_int_equal(file_of(v, p, fd[SEMAPHORE])->eventfd_count, 1);
	if (strstr(file_of(v, p, fd[SEMAPHORE])->fdinfo, "eventfd-semaphore"))
		assert_true(file_of(v, p, fd[SEMAPHORE])->eventfd_semaphore);
	assert_false(file_of(v, p, fd[EVENT])->eventfd_semaphore);
	assert_int_equal(file->ntargets, 2);
	for (int i = 0; i < 2; i++) {
		const struct m_epoll_target *t = &file->targets[i];

		assert_int_equal(t->events & (EPOLLIN | EPOLLET), EPOLLIN | (uint32_t)EPOLLET);
		if (t->fd == fd[EVENT]) {
			assert_true(t->data == 0x123456789abcdef0);
		} else {
			assert_int_equal(t->fd, fd[PIPE_R]);
			assert_int_equal(t->data, 1);
			assert_int_equal(t->ino, file_of(v, p, fd[PIPE_R])->ino);
		}
	}
	file = file_of(v, p, fd[SIGNAL]);
	assert_true(file->signalfd_mask ==
		    (1ULL << (SIGUSR1 - 1) | 1ULL << ((unsigned)SIGRTMAX - 1)));
	file = file_of(v, p, fd[TIMER]);
	assert_int_equal(file->timerfd.clockid, CLOCK_MONOTONIC);
	assert_true(file->timerfd.interval_ns == 3000000500ULL);
	assert_in_range(file->timerfd.value_ns, 900000000000ULL, 1000000000000ULL);
	assert_int_equal(file_of(v, p, fd[PIDFD])->pidfd_pid, getpid());
	assert_int_equal(file_of(v, p, fd[DEAD_PIDFD])->pidfd_pid, -1);
	s = model_shm(v->m, file_of(v, p, fd[MEMFD])->shm_id);
	assert_non_null(s);
	assert_string_equal(s->name, "m");
	assert_true(s->memfd && s->seals_known && s->seals == F_SEAL_WRITE);
	assert_int_equal(s->map_len, 0);
}

static void kinds_of_descriptors(void **state)
{
	struct child c;
	struct view v;
	const struct m_proc *p;

	child_start(&c, build_all);
	view_open(&v);
	p = view_collect(&v, c.pid);
	check_types(&v, p, c.shared);
	check_regular(&v, p, c.shared);
	check_owner_and_pipe(&v, p, c.shared);
	check_fdinfo(&v, p, c.shared);
	for (uint32_t i = 0; i < v.m->nfiles; i++)
		assert_int_equal(v.m->files[i].id, i + 1);
	view_close(&v);
	child_end(&c);
}

static int sleeper(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

enum { PLAIN_PID, FILES_PID, ALL_PID, SAME_FD, OWN_FD, NPIDS };

static void share_tables(struct child *c)
{
	static char stack[2][65536] __attribute__((aligned(16)));
	pid_t pid;

	/* Looks the same in parent and child, and is the same only if inherited. */
	c->shared[SAME_FD] = (uint64_t)open("/dev/null", O_RDONLY);
	pid = fork();
	if (!pid) {
		c->shared[OWN_FD] = (uint64_t)open("/dev/null", O_RDONLY);
		sleeper(NULL);
	}
	c->shared[PLAIN_PID] = (uint64_t)pid;
	c->shared[FILES_PID] =
		(uint64_t)clone(sleeper, stack[0] + sizeof(stack[0]), CLONE_FILES | SIGCHLD, NULL);
	c->shared[ALL_PID] =
		(uint64_t)clone(sleeper, stack[1] + sizeof(stack[1]),
				CLONE_FILES | CLONE_FS | CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL);
	while (!__atomic_load_n(&c->shared[OWN_FD], __ATOMIC_ACQUIRE))
		sched_yield();
}

static void shared_tables(void **state)
{
	const struct m_proc *p[4];
	struct child c;
	struct view v;

	child_start(&c, share_tables);
	view_open(&v);
	v.m->procs = model_alloc(v.m, 16 * sizeof(*v.m->procs));
	p[0] = view_collect(&v, c.pid);
	for (int i = PLAIN_PID; i <= ALL_PID; i++)
		p[i + 1] = view_collect(&v, (pid_t)c.shared[i]);
	p[0] = &v.m->procs[0];

	assert_int_equal(v.m->nfdtables, 2);
	assert_int_equal(p[0]->fdtable_id, 2);
	assert_int_equal(p[1]->fdtable_id, 3);
	assert_int_equal(p[2]->fdtable_id, 2);
	assert_int_equal(p[3]->fdtable_id, 2);
	assert_int_equal(p[0]->fs_id, 2);
	assert_int_equal(p[1]->fs_id, 3);
	assert_int_equal(p[2]->fs_id, 4);
	assert_int_equal(p[3]->fs_id, 2);
	assert_int_equal(p[3]->cwd_file_id, p[0]->cwd_file_id);
	assert_int_equal(p[1]->cwd_file_id, p[0]->cwd_file_id);
	assert_int_equal(p[0]->sighand_id, 2);
	assert_int_equal(p[1]->sighand_id, 3);
	assert_int_equal(p[3]->sighand_id, 2);
	assert_ptr_equal(file_of(&v, p[0], c.shared[SAME_FD]),
			 file_of(&v, p[1], c.shared[SAME_FD]));
	assert_ptr_not_equal(file_of(&v, p[1], c.shared[OWN_FD]),
			     file_of(&v, p[1], c.shared[SAME_FD]));
	for (int i = PLAIN_PID; i <= ALL_PID; i++)
		kill((pid_t)c.shared[i], SIGKILL);
	view_close(&v);
	child_end(&c);
}

enum { MANY = 200 };

/* Many that look the same, half of them the same: found without comparing all with all. */
static void build_many(struct child *c)
{
	for (int i = 0; i < MANY; i++)
		c->shared[i] = (uint64_t)open("/dev/null", O_RDWR);
	for (int i = 0; i < MANY; i++)
		c->shared[MANY + i] = (uint64_t)dup((int)c->shared[i]);
}

static void many_descriptors(void **state)
{
	struct child c;
	struct view v;
	const struct m_proc *p;

	child_start(&c, build_many);
	view_open(&v);
	p = view_collect(&v, c.pid);
	assert_true(model_fdtable(v.m, p->fdtable_id)->n >= 2 * MANY);
	for (int i = 0; i < MANY; i++) {
		const struct m_file *file = file_of(&v, p, c.shared[i]);

		assert_ptr_equal(file_of(&v, p, c.shared[MANY + i]), file);
		if (i)
			assert_ptr_not_equal(file, file_of(&v, p, c.shared[0]));
	}
	assert_in_range(v.m->nfiles, MANY, MANY + 30);
	/* About 2 log2(200) for each; all with all would be 40,000. */
	assert_in_range(v.f->same.calls, 2 * MANY, 2 * MANY * 40);
	view_close(&v);
	child_end(&c);
}

static void build_unsupported(struct child *c)
{
	char params[256] = {0};

	c->shared[0] = (uint64_t)syscall(SYS_io_uring_setup, 4, params);
	c->shared[1] = (uint64_t)syscall(SYS_userfaultfd, 0);
}

static void findings(void **state)
{
	static const char *const names[] = {"io_uring instance", "userfaultfd"};
	struct child c;
	struct view v;
	const struct m_proc *p;
	char text[200];

	child_start(&c, build_unsupported);
	view_open(&v);
	p = view_collect(&v, c.pid);
	for (int i = 0; i < 2; i++) {
		if ((int64_t)c.shared[i] < 0)
			continue;
		assert_int_equal(file_of(&v, p, c.shared[i])->type, M_FILE_EXT);
		snprintf(text, sizeof(text), "fd %d: %s: not supported", (int)c.shared[i],
			 names[i]);
		assert_true(has_finding(&v, text));
	}
	assert_false(has_finding(&v, "kcmp"));
	view_close(&v);
	child_end(&c);
}

/* Without kcmp and pidfd_getfd: nothing fails, everything is its own, and it is told once. */
static void without_kcmp(void **state)
{
	struct child c;
	struct view v;
	const struct m_proc *p;

	child_start(&c, build_all);
	view_open(&v);
	v.f->same.blind = true;
	p = view_collect(&v, c.pid);
	assert_ptr_not_equal(file_of(&v, p, c.shared[REG]), file_of(&v, p, c.shared[REG_DUP]));
	assert_true(has_finding(&v, "kcmp"));
	assert_int_equal(v.f->same.calls, 0);
	view_close(&v);
	child_end(&c);
}

static void sockets_without_duplicate(void **state)
{
	const struct {
		int domain, type;
		enum m_file_type want;
	} rows[] = {
		{AF_INET, SOCK_STREAM, M_FILE_INETSK},	  {AF_INET6, SOCK_DGRAM, M_FILE_INETSK},
		{AF_UNIX, SOCK_STREAM, M_FILE_UNIXSK},	  {AF_UNIX, SOCK_DGRAM, M_FILE_UNIXSK},
		{AF_NETLINK, SOCK_RAW, M_FILE_NETLINKSK},
	};
	int self = open("/proc/self", O_PATH | O_DIRECTORY);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int s = socket(rows[i].domain, rows[i].type, 0);
		char name[32];

		if (s < 0)
			continue;
		snprintf(name, sizeof(name), "fd/%d", s);
		assert_int_equal(fdtype_socket(-1, self, name), rows[i].want);
		assert_int_equal(fdtype_socket(s, self, "nonsense"), rows[i].want);
		close(s);
	}
	assert_int_equal(fdtype_socket(-1, self, "nonsense"), M_FILE_EXT);
	close(self);
}

static int setup(void **state)
{
	char path[256];

	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/fifo", dir);
	return mkfifo(path, 0600);
}

static int teardown(void **state)
{
	static const char *const names[] = {"reg", "here (deleted)", "fifo"};
	char path[256];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds_of_descriptors), cmocka_unit_test(shared_tables),
		cmocka_unit_test(many_descriptors),	cmocka_unit_test(findings),
		cmocka_unit_test(without_kcmp),		cmocka_unit_test(sockets_without_duplicate),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
