/* SPDX-License-Identifier: MIT */
/* Deleted files found or made again, locks taken again, checksums compared. */
#include "tests/unit/target/made.h"

#include <dirent.h>
#include <sys/file.h>

#include "src/target/remote.h"
#include "src/target/target.h"

static char dir[] = "/tmp/stasis-make-XXXXXX";

static const char *in_dir(const char *name)
{
	static char path[4][256];
	static int i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", dir, name);
	return path[i];
}

static uint64_t open_in(const char *name, int flags)
{
	int fd = open(in_dir(name), flags, 0640);

	if (fd < 0)
		_exit(97);
	return (uint64_t)fd;
}

/* --- deleted -------------------------------------------------------------------------------- */

enum { SPARSE, SPARSE_AGAIN, SHORT, DEEP, GONE_DIR, LINKED, RENAMED, REPLACED, GONE_PATH, NFDS };
enum { HOLE = 50 << 20 };

static void build_gone(struct child *c)
{
	uint64_t *fd = c->shared;

	mkdir(in_dir("a"), 0700);
	mkdir(in_dir("a/b"), 0750);
	fd[SPARSE] = open_in("sparse", O_RDWR | O_CREAT);
	fd[SPARSE_AGAIN] = open_in("sparse", O_RDONLY | O_APPEND);
	if (pwrite((int)fd[SPARSE], "begin", 5, 0) != 5 ||
	    pwrite((int)fd[SPARSE], "middle", 6, HOLE / 2) != 6 ||
	    ftruncate((int)fd[SPARSE], HOLE) || lseek((int)fd[SPARSE], 3, SEEK_SET) != 3)
		_exit(97);
	fd[SHORT] = open_in("short", O_WRONLY | O_CREAT);
	if (write((int)fd[SHORT], "12345", 5) != 5)
		_exit(97);
	fd[DEEP] = open_in("a/b/deep", O_RDWR | O_CREAT);
	fd[GONE_DIR] = open_in("a/b", O_RDONLY | O_DIRECTORY);
	fd[LINKED] = open_in("linked", O_RDWR | O_CREAT);
	fd[RENAMED] = open_in("renamed", O_RDWR | O_CREAT);
	fd[REPLACED] = open_in("replaced", O_RDWR | O_CREAT);
	fd[GONE_PATH] = open_in("short", O_PATH);
	if (link(in_dir("linked"), in_dir("other name")) || unlink(in_dir("linked")) ||
	    rename(in_dir("renamed"), in_dir("new name")) || unlink(in_dir("sparse")) ||
	    unlink(in_dir("short")) || chdir(in_dir("a/b")) || unlink(in_dir("a/b/deep")) ||
	    rmdir(in_dir("a/b")) || rmdir(in_dir("a")) || unlink(in_dir("replaced")))
		_exit(97);
	close((int)open_in("replaced", O_WRONLY | O_CREAT));
}

static unsigned names_in(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void compare_contents(const struct made_test *t, uint64_t fd, const char *want, off_t at)
{
	char got[8] = "";

	assert_int_equal(pread(made_fd(t, fd), got, strlen(want), at), strlen(want));
	assert_string_equal(got, want);
}

static void gone_is_there_again(void **state)
{
	struct made_test t;
	uint64_t *fd;
	struct stat a, b;
	unsigned before;
	char path[64];

	made_collect(&t, build_gone);
	fd = t.child.shared;
	before = names_in(dir);
	made_new(&t);
	if (make_files(t.mk, &t.err))
		fail_msg("%s", t.err.msg);
	assert_int_equal(names_in(dir), before);
	for (int i = 0; i < NFDS; i++)
		if (i != REPLACED)
			made_same(&t, fd[i]);
	for (int i = 0; i < NFDS; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", t.child.pid, (int)fd[i]);
		assert_int_equal(stat(path, &a), 0);
		assert_int_equal(fstat(made_fd(&t, fd[i]), &b), 0);
		assert_int_equal(a.st_mode, b.st_mode);
		assert_int_equal(a.st_nlink, b.st_nlink);
		if (!S_ISDIR(a.st_mode)) {
			assert_int_equal(a.st_size, b.st_size);
			assert_int_equal(a.st_mtim.tv_nsec, b.st_mtim.tv_nsec);
		}
	}
	compare_contents(&t, fd[SPARSE], "begin", 0);
	compare_contents(&t, fd[SPARSE_AGAIN], "middle", HOLE / 2);
	/* Holes stay holes, and two descriptions of one inode are that again. */
	assert_int_equal(fstat(made_fd(&t, fd[SPARSE]), &a), 0);
	assert_true(a.st_blocks * 512 <= 8 * sysconf(_SC_PAGESIZE));
	assert_int_equal(fstat(made_fd(&t, fd[SPARSE_AGAIN]), &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(t.m->nghosts, 5);
	/* The linked one is the file itself. */
	assert_int_equal(stat(in_dir("other name"), &a), 0);
	assert_int_equal(fstat(made_fd(&t, fd[LINKED]), &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_true(fchdir(make_fd(t.mk, t.p->cwd_file_id)) == 0 && chdir("/") == 0);
	made_close(&t);
}

static void build_large(struct child *c)
{
	static char block[1 << 20];

	memset(block, 'x', sizeof(block));
	c->shared[0] = open_in("large", O_RDWR | O_CREAT);
	for (int i = 0; i < 2; i++)
		if (write((int)c->shared[0], block, sizeof(block)) != sizeof(block))
			_exit(97);
	unlink(in_dir("large"));
	c->shared[1] = open_in("moved", O_RDWR | O_CREAT);
	mkdir(in_dir("elsewhere"), 0700);
	if (link(in_dir("moved"), in_dir("elsewhere/moved")) || unlink(in_dir("moved")))
		_exit(97);
}

/* Of a second collection only what the child built. */
static void keep_second(struct made_test *t)
{
	struct m_fdtable *table = &t->m->fdtables[0];
	uint32_t n = 0;

	for (uint32_t i = 0; i < table->n; i++)
		if (table->fds[i].fd == t->child.shared[0] ||
		    table->fds[i].fd == t->child.shared[1])
			table->fds[n++] = table->fds[i];
	table->n = n;
}

static void what_is_too_large_is_told(void **state)
{
	struct target_opts opts = {.ghost_limit = 3 << 20, .link_remap = true};
	struct stat a, b;
	struct made_test t;
	struct m_proc *p;

	made_collect(&t, build_large);
	assert_true(made_has_finding(&t, "large: deleted file with 2048 KiB", true));
	assert_true(made_has_finding(&t, "moved: its name is gone, and 1 other name", true));
	made_new(&t);
	assert_true(make_files(t.mk, &t.err) < 0);
	assert_non_null(strstr(t.err.msg, "not in the image"));
	make_free(t.mk);
	files_free(t.f);
	t.f = files_new(t.m, &t.err);
	files_options(t.f, &opts);
	t.m->nfindings = t.m->nfiles = t.m->nfdtables = t.m->nprocs = 0;
	t.m->fdtables = NULL;
	p = made_add(&t, t.child.pid);
	assert_non_null(p);
	assert_int_equal(t.m->nfindings, 0);
	/* The other one has got a name, until it is made again. */
	t.p = p;
	assert_true(made_file(&t, t.child.shared[1])->link_made);
	assert_int_equal(stat(made_file(&t, t.child.shared[1])->link_path, &a), 0);
	assert_int_equal(a.st_nlink, 2);
	keep_second(&t);
	made_new(&t);
	err_clear(&t.err);
	if (make_files(t.mk, &t.err) || make_late(t.mk, &t.err) || make_finish(t.mk, &t.err))
		fail_msg("%s", t.err.msg);
	made_same(&t, t.child.shared[1]);
	assert_int_equal(fstat(made_fd(&t, t.child.shared[1]), &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(b.st_nlink, 2);
	make_done(t.mk);
	assert_int_equal(fstat(made_fd(&t, t.child.shared[1]), &b), 0);
	assert_int_equal(b.st_nlink, 1);
	made_close(&t);
}

/* --- locks ---------------------------------------------------------------------------------- */

enum { FLOCK, OFD, POSIX, POSIX_DUP, LEASE, NLOCKS };

static void build_locks(struct child *c)
{
	struct flock fl = {.l_type = F_WRLCK, .l_start = 10, .l_len = 20};
	uint64_t *fd = c->shared;

	/* Sent when somebody opens the leased file: it would end us. */
	signal(SIGIO, SIG_IGN);
	for (int i = 0; i < NLOCKS; i++)
		if (i != POSIX_DUP && i != LEASE)
			fd[i] = open_in("locked", O_RDWR | O_CREAT);
	fd[POSIX_DUP] = (uint64_t)dup((int)fd[POSIX]);
	if (flock((int)fd[FLOCK], LOCK_SH) || fcntl((int)fd[OFD], F_OFD_SETLK, &fl))
		_exit(97);
	fl.l_start = 100;
	fl.l_len = 0;
	fl.l_type = F_RDLCK;
	if (fcntl((int)fd[POSIX], F_SETLK, &fl))
		_exit(97);
	fd[LEASE] = open_in("leased", O_WRONLY | O_CREAT);
	if (fcntl((int)fd[LEASE], F_SETLEASE, F_WRLCK))
		_exit(96);
}

static void expect_lock_line(int fd, const char *part)
{
	char line[256];

	made_fdinfo(getpid(), (uint64_t)fd, "lock:", line);
	if (!strstr(line, part))
		fail_msg("\"%s\" has no \"%s\"", line, part);
}

/* What a process would do by batch, done here. */
static void run_inside(const struct made_test *t)
{
	static struct arch_call calls[4];
	static uint8_t data[256];
	struct batch b = {.max_calls = 4, .max_data = sizeof(data), .calls = calls, .data = data};
	struct err err = {0};
	uint32_t at = 0;

	b.data_addr = (uint64_t)(uintptr_t)data;
	assert_int_equal(make_inside(t->mk, t->p, &b, &at), 1);
	assert_int_equal(at, t->m->nlocks);
	assert_int_equal(calls[0].nr, SYS_fcntl);
	assert_true(calls[0].args[0] == t->child.shared[POSIX] ||
		    calls[0].args[0] == t->child.shared[POSIX_DUP]);
	calls[0].ret = syscall(SYS_fcntl, made_fd(t, calls[0].args[0]), calls[0].args[1],
			       calls[0].args[2]);
	assert_int_equal(make_inside_done(t->mk, t->p, &b, 0, 0, at, &err), 0);
	calls[0].ret = -EAGAIN;
	assert_int_equal(make_inside_done(t->mk, t->p, &b, 0, 0, at, &err), -EAGAIN);
	assert_non_null(strstr(err.msg, "POSIX lock (read, 100+0)"));
}

static void locks(void **state)
{
	struct made_test t;

	made_collect(&t, build_locks);
	assert_int_equal(t.m->nlocks, 4);
	kill(t.child.pid, SIGKILL);
	waitpid(t.child.pid, NULL, 0);
	made_new(&t);
	if (make_files(t.mk, &t.err) || make_late(t.mk, &t.err))
		fail_msg("%s", t.err.msg);
	expect_lock_line(made_fd(&t, t.child.shared[FLOCK]), "FLOCK  ADVISORY  READ");
	expect_lock_line(made_fd(&t, t.child.shared[OFD]), "OFDLCK ADVISORY  WRITE");
	expect_lock_line(made_fd(&t, t.child.shared[OFD]), " 10 29");
	expect_lock_line(made_fd(&t, t.child.shared[LEASE]), "LEASE  ACTIVE    WRITE");
	run_inside(&t);
	expect_lock_line(made_fd(&t, t.child.shared[POSIX]), "POSIX  ADVISORY  READ");
	expect_lock_line(made_fd(&t, t.child.shared[POSIX]), " 100 EOF");
	make_free(t.mk);
	files_free(t.f);
	model_free(t.m);
}

static void locked_by_another(void **state)
{
	struct made_test t;

	made_collect(&t, build_locks);
	made_new(&t);
	assert_int_equal(make_files(t.mk, &t.err), -EAGAIN); /* the child's lease */
	made_file(&t, t.child.shared[LEASE])->path = (char[]){"/dev/null"};
	made_file(&t, t.child.shared[LEASE])->mode = 0;
	for (uint32_t i = 0; i < t.m->nlocks; i++)
		if (t.m->locks[i].kind == M_LOCK_LEASE)
			t.m->locks[i].pid = 0;
	err_clear(&t.err);
	assert_int_equal(make_files(t.mk, &t.err), 0);
	assert_int_equal(make_late(t.mk, &t.err), -EAGAIN);
	assert_non_null(strstr(t.err.msg, "OFD lock (write, 10+20)"));
	made_close(&t);
}

/* --- checksums ------------------------------------------------------------------------------ */

static void build_summed(struct child *c)
{
	static char text[200000];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	c->shared[0] = open_in("summed", O_RDWR | O_CREAT | O_TRUNC);
	if (write((int)c->shared[0], text, sizeof(text)) != sizeof(text))
		_exit(97);
	c->shared[1] = open_in("check", O_RDWR | O_CREAT | O_TRUNC);
	if (write((int)c->shared[1], "123456789", 9) != 9)
		_exit(97);
}

static void flip(const char *name, off_t at)
{
	int fd = open(in_dir(name), O_RDWR);
	char b;

	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= 1;
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

/* Whether a change of the byte at @at is seen. */
static void sums(enum fileid_method method, uint32_t parameter, off_t seen, off_t unseen)
{
	struct target_opts opts = {.file_id = {method, parameter}};
	struct made_test t;

	made_collect(&t, build_summed);
	files_free(t.f);
	t.f = files_new(t.m, &t.err);
	files_options(t.f, &opts);
	t.m->nfiles = t.m->nfdtables = t.m->nprocs = 0;
	t.m->fdtables = NULL;
	t.p = made_add(&t, t.child.pid);
	t.p->fdtable_id = 2;
	/* the check value of CRC-32C */
	if (method != FILEID_CRC_PERIOD)
		assert_int_equal(made_file(&t, t.child.shared[1])->checksum, 0xe3069283);
	t.m->fdtables[0].fds[0] =
		(struct m_fd){(uint32_t)t.child.shared[0], made_id(&t, t.child.shared[0]), false};
	t.m->fdtables[0].n = 1;
	t.opts.id = opts.file_id;
	if (unseen >= 0)
		flip("summed", unseen);
	made_new(&t);
	if (make_files(t.mk, &t.err))
		fail_msg("%s", t.err.msg);
	make_free(t.mk);
	flip("summed", seen);
	made_new(&t);
	assert_true(make_files(t.mk, &t.err) < 0);
	assert_int_equal(t.err.class, ERR_CHANGED);
	assert_non_null(strstr(t.err.msg, "checksum is "));
	made_close(&t);
}

static void checksums(void **state)
{
	sums(FILEID_CRC_FIRST, 5000, 4999, 5000);
	sums(FILEID_CRC_FULL, 0, 199999, -1);
	sums(FILEID_CRC_PERIOD, 1000, 123000, 123001);
}

static int setup(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(gone_is_there_again),
		cmocka_unit_test(what_is_too_large_is_told),
		cmocka_unit_test(locks),
		cmocka_unit_test(locked_by_another),
		cmocka_unit_test(checksums),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
