/* SPDX-License-Identifier: MIT */
/* Pipes and FIFOs made again: contents, packets, sizes, what is shared, and nothing taken out. */
#include "tests/unit/target/made.h"

#include <sys/ioctl.h>

static char dir[] = "/tmp/stasis-make-XXXXXX";

static void open_fifo(uint64_t *ret, int flags)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/fifo", dir);
	mkfifo(path, 0600);
	*ret = (uint64_t)open(path, flags);
}

enum { R, W, W_DUP, W_AGAIN, PACKET_R, PACKET_W, BIG_R, BIG_W, LONE_R, LONE_W, NFDS };

static uint8_t big[300000];

static void build_pipes(struct child *c)
{
	uint64_t *fd = c->shared;
	char path[64];
	int p[2];

	if (pipe2(p, O_CLOEXEC) || write(p[1], "stream", 6) != 6 || write(p[1], "ed", 2) != 2)
		_exit(97);
	fd[R] = (uint64_t)p[0], fd[W] = (uint64_t)p[1];
	fd[W_DUP] = (uint64_t)dup(p[1]);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p[1]);
	fd[W_AGAIN] = (uint64_t)open(path, O_WRONLY | O_NONBLOCK);
	if (pipe2(p, O_DIRECT | O_NONBLOCK) || write(p[1], "one", 3) != 3 ||
	    write(p[1], "second", 6) != 6)
		_exit(97);
	fd[PACKET_R] = (uint64_t)p[0], fd[PACKET_W] = (uint64_t)p[1];
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	if (pipe(p) || fcntl(p[0], F_SETPIPE_SZ, 1 << 19) < 0 ||
	    write(p[1], big, sizeof(big)) != sizeof(big))
		_exit(97);
	fd[BIG_R] = (uint64_t)p[0], fd[BIG_W] = (uint64_t)p[1];
	if (pipe(p) || write(p[1], "left", 4) != 4 || close(p[1]))
		_exit(97);
	fd[LONE_R] = (uint64_t)p[0];
	if (pipe(p) || close(p[0]))
		_exit(97);
	fd[LONE_W] = (uint64_t)p[1];
}

static void expect_read(int fd, const char *want, size_t at_once)
{
	char got[64] = "";

	assert_int_equal(read(fd, got, at_once), strlen(want));
	assert_string_equal(got, want);
}

static int held_by_child(const struct made_test *t, uint64_t fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, t->child.pid, 0);
	int dup = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0), n = -1;

	assert_int_equal(ioctl(dup, FIONREAD, &n), 0);
	close(dup);
	close(pidfd);
	return n;
}

static void contents_and_sharing(void **state)
{
	static uint8_t got[sizeof(big)];
	struct made_test t;
	uint64_t *fd;

	made_open(&t, build_pipes);
	fd = t.child.shared;
	for (int i = 0; i < NFDS; i++)
		made_same(&t, fd[i]);
	assert_int_equal(held_by_child(&t, fd[R]), 8);
	assert_int_equal(held_by_child(&t, fd[PACKET_R]), 9);
	assert_int_equal(made_fd(&t, fd[W]), made_fd(&t, fd[W_DUP]));
	assert_int_not_equal(made_fd(&t, fd[W]), made_fd(&t, fd[W_AGAIN]));
	expect_read(made_fd(&t, fd[R]), "streamed", 60);
	assert_int_equal(write(made_fd(&t, fd[W_AGAIN]), "again", 5), 5);
	expect_read(made_fd(&t, fd[R]), "again", 60);
	expect_read(made_fd(&t, fd[PACKET_R]), "on", 2);
	expect_read(made_fd(&t, fd[PACKET_R]), "second", 60);
	assert_int_equal(write(made_fd(&t, fd[PACKET_W]), "a", 1), 1);
	assert_int_equal(write(made_fd(&t, fd[PACKET_W]), "b", 1), 1);
	expect_read(made_fd(&t, fd[PACKET_R]), "a", 60);
	assert_int_equal(fcntl(made_fd(&t, fd[BIG_W]), F_GETPIPE_SZ), 1 << 19);
	for (size_t at = 0; at < sizeof(got);) {
		ssize_t n = read(made_fd(&t, fd[BIG_R]), got + at, sizeof(got) - at);

		assert_true(n > 0);
		at += (size_t)n;
	}
	for (size_t i = 0; i < sizeof(got); i++)
		assert_int_equal(got[i], (uint8_t)(i * 7 + i / 251));
	expect_read(made_fd(&t, fd[LONE_R]), "left", 60);
	/* No writer is left: not even one of ours. */
	assert_int_equal(read(made_fd(&t, fd[LONE_R]), got, 1), 0);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(write(made_fd(&t, fd[LONE_W]), "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	made_close(&t);
}

/* Its FIFO is still in use: nothing is mixed. */
static void build_fifo(struct child *c)
{
	open_fifo(&c->shared[0], O_RDWR);
	open_fifo(&c->shared[1], O_WRONLY | O_NONBLOCK);
	open_fifo(&c->shared[2], O_RDONLY);
	if (write((int)c->shared[0], "in the fifo", 11) != 11)
		_exit(97);
}

static void fifo_in_use(void **state)
{
	struct made_test t;

	made_collect(&t, build_fifo);
	made_new(&t);
	assert_int_equal(make_files(t.mk, &t.err), -EBUSY);
	assert_non_null(strstr(t.err.msg, "11 bytes"));
	make_free(t.mk);
	kill(t.child.pid, SIGKILL);
	waitpid(t.child.pid, NULL, 0);
	err_clear(&t.err);
	made_new(&t);
	assert_int_equal(make_files(t.mk, &t.err), 0);
	for (int i = 0; i < 3; i++) {
		unsigned flags = made_file(&t, t.child.shared[i])->flags;

		assert_int_equal(fcntl(made_fd(&t, t.child.shared[i]), F_GETFL), flags);
	}
	expect_read(made_fd(&t, t.child.shared[0]), "in the fifo", 60);
	assert_int_equal(write(made_fd(&t, t.child.shared[1]), "more", 4), 4);
	expect_read(made_fd(&t, t.child.shared[2]), "more", 60);
	make_free(t.mk);
	files_free(t.f);
	model_free(t.m);
}

/* A pipe to somebody else, here to the test. */
static void build_outside(struct child *c)
{
	close(c->up[0]);
	c->shared[0] = (uint64_t)dup(c->up[1]);
}

static void outside_end_is_told(void **state)
{
	struct made_test t;

	made_open(&t, build_outside);
	assert_true(made_has_finding(&t, "reading end is held by a process outside", false));
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
		cmocka_unit_test(contents_and_sharing),
		cmocka_unit_test(fifo_in_use),
		cmocka_unit_test(outside_end_is_told),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
