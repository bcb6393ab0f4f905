/* SPDX-License-Identifier: MIT */
/* Files, directories and devices that a path leads to, made again. */
#include "tests/unit/target/made.h"

static char dir[] = "/tmp/stasis-make-XXXXXX";

static uint64_t open_in(const char *name, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, flags, 0600);
	if (fd < 0)
		_exit(97);
	return (uint64_t)fd;
}

enum { RW, RW_DUP, APPEND, WRITE, DIRECT, PATH, DIR, LINK, NUL, ZERO, NFDS };

static void build_paths(struct child *c)
{
	uint64_t *fd = c->shared;
	char path[256];

	if (chdir(dir))
		_exit(97);
	fd[RW] = open_in("file", O_RDWR | O_CREAT);
	if (write((int)fd[RW], "0123456789", 10) != 10 || lseek((int)fd[RW], 7, SEEK_SET) != 7)
		_exit(97);
	fd[RW_DUP] = (uint64_t)dup((int)fd[RW]);
	fd[APPEND] = open_in("file", O_WRONLY | O_APPEND | O_DSYNC | O_CLOEXEC);
	fd[WRITE] = open_in("other", O_WRONLY | O_CREAT | O_NONBLOCK);
	fd[DIRECT] = open_in("file", O_RDONLY | O_NOATIME);
	fd[PATH] = open_in("file", O_PATH);
	fd[DIR] = (uint64_t)open(dir, O_RDONLY | O_DIRECTORY);
	snprintf(path, sizeof(path), "%s/link", dir);
	if (symlink("file", path))
		_exit(97);
	fd[LINK] = open_in("link", O_PATH | O_NOFOLLOW);
	fd[NUL] = (uint64_t)open("/dev/null", O_RDWR);
	fd[ZERO] = (uint64_t)open("/dev/zero", O_RDONLY);
}

static void opened_as_they_were(void **state)
{
	struct made_test t;
	char text[8] = "";
	struct stat a, b;

	made_open(&t, build_paths);
	for (int i = 0; i < NFDS; i++)
		made_same(&t, t.child.shared[i]);
	assert_int_equal(made_fd(&t, t.child.shared[RW]), made_fd(&t, t.child.shared[RW_DUP]));
	assert_int_equal(read(made_fd(&t, t.child.shared[RW]), text, 3), 3);
	assert_string_equal(text, "789");
	assert_int_equal(fstat(make_fd(t.mk, t.p->cwd_file_id), &a), 0);
	assert_int_equal(stat(dir, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(make_fd(t.mk, 0), -1);
	assert_int_equal(make_fd(t.mk, 999), -1);
	made_close(&t);
}

/* What must not pass is changed in the model: that is the same as a change of the file. */
static void refused(struct made_test *t, const char *a, const char *b)
{
	made_new(t);
	err_clear(&t->err);
	assert_true(make_files(t->mk, &t->err) < 0);
	assert_int_equal(t->err.class, ERR_CHANGED);
	if (!strstr(t->err.msg, a) || !strstr(t->err.msg, b))
		fail_msg("\"%s\" has not %s and %s", t->err.msg, a, b);
	make_free(t->mk);
	t->mk = NULL;
}

static void build_one(struct child *c)
{
	c->shared[0] = open_in("one", O_RDWR | O_CREAT | O_TRUNC);
	c->shared[1] = open_in("one", O_WRONLY | O_APPEND);
	c->shared[2] = (uint64_t)open("/proc/self/exe", O_RDONLY);
	if (write((int)c->shared[0], "12345", 5) != 5)
		_exit(97);
}

static void another_file_is_refused(void **state)
{
	struct made_test t;
	struct m_file *f, *log, *exe;
	uint64_t rdev;

	made_collect(&t, build_one);
	f = made_file(&t, t.child.shared[0]);
	log = made_file(&t, t.child.shared[1]);
	exe = made_file(&t, t.child.shared[2]);
	f->size = 4;
	refused(&t, "size is 5", "was 4");
	/* Larger is what a log becomes; smaller is another file. */
	f->size = 5;
	log->size = 6;
	refused(&t, "size is 5", "was 6");
	log->size = 4;
	f->mode = S_IFDIR | 0700;
	refused(&t, "a regular file", "it was a directory");
	f->mode = S_IFREG | 0600;
	exe->build_id = (uint8_t[]){0xab, 0xcd, 1, 2, 3, 4, 5, 6};
	exe->build_id_len = 8;
	refused(&t, "build id is ", "was abcd010203040506");
	t.opts.id.method = FILEID_SIZE;
	made_new(&t);
	assert_int_equal(make_files(t.mk, &t.err), 0);
	make_free(t.mk);
	t.mk = NULL;
	f->path = (char[]){"/dev/null"};
	f->mode = S_IFCHR;
	rdev = f->rdev;
	f->rdev = 0x105;
	refused(&t, "1:3", "1:5");
	f->rdev = rdev;
	f->path = (char[]){"/nowhere/at/all"};
	made_new(&t);
	err_clear(&t.err);
	assert_int_equal(make_files(t.mk, &t.err), -ENOENT);
	assert_non_null(strstr(t.err.msg, "/nowhere/at/all"));
	made_close(&t);
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
		cmocka_unit_test(opened_as_they_were),
		cmocka_unit_test(another_file_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
