/* SPDX-License-Identifier: MIT */
/* The block file writer: io_uring denied, O_DIRECT, limits of file size and locked memory. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/unit/memdump/made.h"

enum { NBLOCKS = 64, BLOCK_PAGES = 16 };

/* 64 blocks of 16 pages: a third zero, a third text, a third noise. */
static const struct made_block *blocks(void)
{
	static struct made_block b[NBLOCKS];

	for (unsigned i = 0; i < NBLOCKS; i++)
		b[i] = (struct made_block){1, 1, {{i * 65536ull, BLOCK_PAGES * MADE_PAGE}}};
	return b;
}

static struct md_verify verified(int dirfd, const char *name)
{
	struct err err = {0};
	struct md_verify v;

	if (md_file_verify(dirfd, name, 1, NULL, NULL, &v, &err))
		fail_msg("%s", err.msg);
	return v;
}

/* A child, because what it is denied it is denied for ever. Exits with 0 when all is well. */
static void in_child(int (*fn)(int dirfd, long arg), long arg)
{
	struct made_dir d = made_dir();
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn(d.fd, arg));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlinkat(d.fd, "f", 0);
	made_dir_remove(&d);
	assert_int_equal(status, 0);
}

static bool deny(long nr, int errnum)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)errnum),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {4, f};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static int write_denied(int dirfd, long nr, int errnum, const char *reason)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct err err = {0};
	struct md_stats st;
	struct md_verify v;

	if (!deny(nr, errnum))
		return 2;
	if (made_file(dirfd, "f", blocks(), NBLOCKS, MD_CODEC_LZ4, &fo, &st, &err))
		return 3;
	if (st.io_uring || !strstr(st.io_uring_reason, reason))
		return 4;
	return md_file_verify(dirfd, "f", 1, NULL, NULL, &v, &err) || v.blocks != NBLOCKS;
}

static int no_setup(int dirfd, long errnum)
{
	return write_denied(dirfd, SYS_io_uring_setup, (int)errnum,
			    errnum == ENOSYS   ? "no io_uring"
			    : errnum == ENOMEM ? ""
					       : "forbid");
}

static int no_enter(int dirfd, long errnum)
{
	return write_denied(dirfd, SYS_io_uring_enter, (int)errnum, "");
}

/* Registered buffers refused: writes go on without. */
static int no_register(int dirfd, long errnum)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct err err = {0};
	struct md_stats st;
	struct md_verify v;

	if (!deny(SYS_io_uring_register, (int)errnum))
		return 2;
	if (made_file(dirfd, "f", blocks(), NBLOCKS, MD_CODEC_LZ4, &fo, &st, &err))
		return 3;
	return md_file_verify(dirfd, "f", 1, NULL, NULL, &v, &err) || v.blocks != NBLOCKS;
}

static void test_uring_denied(void **state)
{
	in_child(no_setup, ENOSYS);
	in_child(no_setup, EPERM);
	in_child(no_setup, EACCES);
	in_child(no_setup, ENOMEM);
	in_child(no_enter, EPERM);
	in_child(no_enter, ENOSYS);
	in_child(no_register, ENOMEM);
}

/* The file may grow to @limit bytes: a write stops short, the next one fails. */
static int limited(int dirfd, long limit)
{
	bool no_uring = limit & 1;
	struct rlimit rl = {(rlim_t)limit, (rlim_t)limit};
	struct md_file_opts fo = {.page_size = MADE_PAGE, .no_uring = no_uring};
	struct err err = {0};
	struct md_stats st;

	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &rl))
		return 2;
	if (made_file(dirfd, "f", blocks(), NBLOCKS, MD_CODEC_NONE, &fo, &st, &err) != -EFBIG)
		return 3;
	if (err.class != ERR_NOSPACE || !strstr(err.msg, "at offset 0x") ||
	    !strstr(err.msg, " of f"))
		return 4;
	return 0;
}

static void test_file_size_limit(void **state)
{
	for (unsigned no_uring = 0; no_uring < 2; no_uring++)
		for (long limit = 32; limit < 2 << 20; limit = limit * 3 / 2)
			in_child(limited, (limit & ~1L) | no_uring);
}

/* What survives a write that failed is a torn file whose blocks are good. */
static int torn(int dirfd, long limit)
{
	struct err err = {0};
	struct md_file *f;
	struct md_extent e;
	int ret = limited(dirfd, limit);

	if (ret)
		return ret;
	f = md_file_open(dirfd, "f", MD_FILE_REBUILD, &err);
	if (!f)
		return 5;
	for (uint64_t addr = 0; md_file_extent(f, 1, addr, &e); addr = e.addr + e.len) {
		for (uint64_t a = 0; a < e.len; a += MADE_PAGE) {
			uint8_t want[MADE_PAGE], got[MADE_PAGE];

			made_page(1, e.addr + a, want);
			if (md_file_read(f, 1, e.addr + a, got, MADE_PAGE, &err) != MADE_PAGE ||
			    memcmp(want, got, MADE_PAGE))
				return 6;
		}
	}
	md_file_close(f);
	return 0;
}

static void test_torn_by_limit(void **state)
{
	in_child(torn, 500000);
	in_child(torn, 500001);
}

/* No right to lock memory: buffers cannot be registered. */
static int no_memlock(int dirfd, long arg)
{
	struct rlimit none = {0, 0};
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct made_reader r = made_reader(blocks(), NBLOCKS);
	struct md_opts o = {.codec = MD_CODEC_LZ4, .level = 1};
	struct err err = {0};
	struct md_stats st;
	struct md_writer *w = md_writer_file_open(dirfd, "f", &fo, &err);

	if (!w || setrlimit(RLIMIT_MEMLOCK, &none) || (getuid() == 0 && setuid(65534)))
		return 2;
	if (md_run(&r.r, w, &o, &st, &err))
		return 3;
	w->close(w);
	return 0;
}

static void test_no_memlock(void **state)
{
	in_child(no_memlock, 0);
}

static void write_direct(const char *where, bool no_uring)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE, .direct = true, .no_uring = no_uring};
	struct made_dir d;
	struct err err = {0};
	struct md_stats st;
	struct stat sb;

	if (where)
		setenv("TMPDIR", where, 1);
	d = made_dir();
	if (made_file(d.fd, "f", blocks(), NBLOCKS, MD_CODEC_LZ4, &fo, &st, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(verified(d.fd, "f").blocks, NBLOCKS);
	assert_int_equal(fstatat(d.fd, "f", &sb, 0), 0);
	assert_int_equal(sb.st_size, st.file_bytes);
	assert_int_equal(sb.st_mode & 07777, 0600);
	if (st.direct)
		assert_int_equal(sb.st_size % 4096, 0);
	else
		assert_true(st.direct_reason[0] != 0);
	unlinkat(d.fd, "f", 0);
	made_dir_remove(&d);
	unsetenv("TMPDIR");
}

static void test_direct(void **state)
{
	write_direct(NULL, false);
	write_direct(NULL, true);
	write_direct("/dev/shm", false);
	/* proc and the like refuse to create; a filesystem that refuses O_DIRECT is not at hand. */
}

static unsigned fsyncs;
static int fsync_errno;

/* In place of the C library's. */
int fsync(int fd)
{
	fsyncs++;
	errno = fsync_errno;
	return fsync_errno ? -1 : 0;
}

/* A target may stand still while a run lasts, so that no run may wait for a disk. */
static void test_no_sync_in_a_run(void **state)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct made_reader r = made_reader(blocks(), NBLOCKS);
	struct md_opts o = {.codec = MD_CODEC_LZ4, .level = 1};
	struct made_dir d = made_dir();
	struct err err = {0};
	struct md_writer *w = md_writer_file_open(d.fd, "f", &fo, &err);

	assert_non_null(w);
	fsyncs = 0;
	assert_int_equal(md_run(&r.r, w, &o, NULL, &err), 0);
	assert_int_equal(fsyncs, 0);
	assert_int_equal(w->sync(w, &err), 0);
	assert_int_equal(fsyncs, 1);
	fsync_errno = EIO;
	assert_int_equal(w->sync(w, &err), -EIO);
	assert_int_equal(err.class, ERR_IO);
	fsync_errno = 0;
	w->close(w);
	unlinkat(d.fd, "f", 0);
	made_dir_remove(&d);
}

static void test_exists(void **state)
{
	struct md_file_opts fo = {.page_size = MADE_PAGE};
	struct made_dir d = made_dir();
	struct err err = {0};

	made_spit(d.fd, "f", (const uint8_t *)"precious", 8);
	assert_null(md_writer_file_open(d.fd, "f", &fo, &err));
	assert_int_equal(err.errnum, EEXIST);
	size_t len;
	uint8_t *p = made_slurp(d.fd, "f", &len);

	assert_int_equal(len, 8);
	free(p);
	unlinkat(d.fd, "f", 0);
	made_dir_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uring_denied),	 cmocka_unit_test(test_file_size_limit),
		cmocka_unit_test(test_torn_by_limit),	 cmocka_unit_test(test_no_memlock),
		cmocka_unit_test(test_direct),		 cmocka_unit_test(test_exists),
		cmocka_unit_test(test_no_sync_in_a_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
