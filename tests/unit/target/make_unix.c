/* SPDX-License-Identifier: MIT */
/* Unix sockets collected and made again: pairs, names, queues with descriptors, who waits. */
#include "tests/unit/target/made.h"

#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static char dir[] = "/tmp/stasis-unix-XXXXXX";

enum { A, B, C, D, E, F, G, H, PIPE, NFDS };

static void want(bool ok)
{
	if (!ok)
		_exit(97);
}

static socklen_t name_in(struct sockaddr_un *a, const char *name)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (*name == '@') {
		snprintf(a->sun_path + 1, sizeof(a->sun_path) - 1, "%s", dir + 5);
		strcat(a->sun_path + 1, name);
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				   strlen(a->sun_path + 1));
	}
	snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s", dir, name);
	return sizeof(*a);
}

static uint64_t bound(int type, const char *name)
{
	struct sockaddr_un a;
	socklen_t len = name_in(&a, name);
	int sk = socket(AF_UNIX, type, 0);

	want(sk >= 0 && bind(sk, (void *)&a, len) == 0);
	return (uint64_t)sk;
}

static bool connect_name(uint64_t sk, const char *name)
{
	struct sockaddr_un a;
	socklen_t len = name_in(&a, name);

	return connect((int)sk, (void *)&a, len) == 0;
}

static void put(uint64_t sk, const char *text)
{
	want(send((int)sk, text, strlen(text), 0) == (ssize_t)strlen(text));
}

static void expect(int sk, const char *text)
{
	char buf[256] = "";
	ssize_t n = recv(sk, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	assert_int_equal(n, strlen(text));
	assert_string_equal(buf, text);
}

static void expect_nothing(int sk)
{
	char b;

	assert_int_equal(recv(sk, &b, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void expect_through(int from, int to)
{
	assert_int_equal(send(from, "new", 3, MSG_DONTWAIT | MSG_NOSIGNAL), 3);
	expect(to, "new");
}

static void made_all(struct made_test *t, void (*build)(struct child *c))
{
	made_collect(t, build);
	for (uint32_t i = 0; i < t->m->nfindings; i++)
		if (t->m->findings[i].fatal)
			fail_msg("%s", t->m->findings[i].text);
	/* Names are free again, as after the end of the original. */
	made_end_early(t);
	made_new(t);
	if (make_files(t->mk, &t->err) || make_late(t->mk, &t->err) || make_finish(t->mk, &t->err))
		fail_msg("%s", t->err.msg);
}

static int fd_of(const struct made_test *t, int i)
{
	return made_fd(t, t->child.shared[i]);
}

/* --- pairs ---------------------------------------------------------------------------------- */

static int pair(uint64_t *fd, int type)
{
	int sv[2];

	want(socketpair(AF_UNIX, type, 0, sv) == 0);
	fd[0] = (uint64_t)sv[0];
	fd[1] = (uint64_t)sv[1];
	return sv[0];
}

static void build_pairs(struct child *c)
{
	uint64_t *fd = c->shared;
	struct timeval tv = {3, 248000};
	int one = 1, size = 300000;

	pair(fd + A, SOCK_STREAM);
	put(fd[A], "to b ");
	put(fd[A], "in two");
	put(fd[B], "to a");
	want(!setsockopt((int)fd[A], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) &&
	     !setsockopt((int)fd[A], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) &&
	     !setsockopt((int)fd[A], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) &&
	     fcntl((int)fd[A], F_SETFL, O_NONBLOCK) == 0);
	pair(fd + C, SOCK_SEQPACKET);
	put(fd[C], "one");
	put(fd[C], "three");
	pair(fd + E, SOCK_DGRAM);
	put(fd[E], "a");
	put(fd[E], "bc");
	put(fd[F], "back");
	/* One whose other end is closed, with something left to read. */
	pair(fd + G, SOCK_STREAM);
	put(fd[H], "last words");
	close((int)fd[H]);
	pair(fd + H, SOCK_STREAM);
	shutdown((int)fd[H], SHUT_WR);
}

static void pairs(void **state)
{
	struct made_test t;
	struct timeval tv;
	socklen_t len = sizeof(tv);
	int size = 0, one = 0;
	char c;

	made_all(&t, build_pairs);
	assert_int_equal(fcntl(fd_of(&t, A), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(fcntl(fd_of(&t, B), F_GETFL) & O_NONBLOCK, 0);
	expect(fd_of(&t, B), "to b in two");
	expect(fd_of(&t, A), "to a");
	expect_through(fd_of(&t, B), fd_of(&t, A));
	assert_int_equal(getsockopt(fd_of(&t, A), SOL_SOCKET, SO_RCVTIMEO, &tv, &len), 0);
	assert_int_equal(tv.tv_sec, 3);
	assert_int_equal(tv.tv_usec, 248000);
	len = sizeof(size);
	getsockopt(fd_of(&t, A), SOL_SOCKET, SO_SNDBUF, &size, &len);
	assert_int_equal(size, 600000);
	getsockopt(fd_of(&t, A), SOL_SOCKET, SO_PASSCRED, &one, &len);
	assert_int_equal(one, 1);
	expect(fd_of(&t, D), "one");
	expect(fd_of(&t, D), "three");
	expect_nothing(fd_of(&t, D));
	expect(fd_of(&t, F), "a");
	expect(fd_of(&t, F), "bc");
	expect(fd_of(&t, E), "back");
	expect_nothing(fd_of(&t, E));
	expect(fd_of(&t, G), "last words");
	assert_int_equal(recv(fd_of(&t, G), &c, 1, MSG_DONTWAIT), 0);
	assert_int_equal(send(fd_of(&t, H), "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	made_close(&t);
}

/* --- names ---------------------------------------------------------------------------------- */

static void build_named(struct child *c)
{
	uint64_t *fd = c->shared;

	fd[A] = bound(SOCK_STREAM, "listen");
	want(!listen((int)fd[A], 7));
	fd[B] = (uint64_t)socket(AF_UNIX, SOCK_STREAM, 0);
	want(connect_name(fd[B], "listen"));
	fd[C] = (uint64_t)accept((int)fd[A], NULL, NULL);
	put(fd[B], "to server");
	put(fd[C], "to client");
	/* Two that wait to be accepted. */
	fd[D] = bound(SOCK_STREAM, "first");
	want(connect_name(fd[D], "listen"));
	fd[E] = (uint64_t)socket(AF_UNIX, SOCK_STREAM, 0);
	want(connect_name(fd[E], "listen"));
	/* Datagrams to a name. */
	fd[F] = bound(SOCK_DGRAM, "@dgram");
	fd[G] = bound(SOCK_DGRAM, "sender");
	want(connect_name(fd[G], "@dgram"));
	put(fd[G], "by name");
	fd[H] = (uint64_t)socket(AF_UNIX, SOCK_DGRAM, 0);
	want(connect_name(fd[H], "@dgram"));
	put(fd[H], "by nobody");
}

static void names(void **state)
{
	struct made_test t;
	struct sockaddr_un from = {0}, own;
	socklen_t len = sizeof(from);
	char buf[32];
	int s;

	made_all(&t, build_named);
	expect(fd_of(&t, C), "to server");
	expect(fd_of(&t, B), "to client");
	expect_through(fd_of(&t, C), fd_of(&t, B));
	assert_int_equal(getpeername(fd_of(&t, B), (void *)&from, &len), 0);
	name_in(&own, "listen");
	assert_string_equal(from.sun_path, own.sun_path);
	len = sizeof(from);
	s = accept4(fd_of(&t, A), (void *)&from, &len, SOCK_NONBLOCK);
	assert_true(s >= 0);
	name_in(&own, "first");
	assert_string_equal(from.sun_path, own.sun_path);
	expect_through(fd_of(&t, D), s);
	close(s);
	s = accept4(fd_of(&t, A), NULL, NULL, SOCK_NONBLOCK);
	assert_true(s >= 0);
	expect_through(fd_of(&t, E), s);
	close(s);
	len = sizeof(from);
	assert_int_equal(
		recvfrom(fd_of(&t, F), buf, sizeof(buf), MSG_DONTWAIT, (void *)&from, &len), 7);
	name_in(&own, "sender");
	assert_string_equal(from.sun_path, own.sun_path);
	expect(fd_of(&t, F), "by nobody");
	expect_through(fd_of(&t, G), fd_of(&t, F));
	expect_through(fd_of(&t, H), fd_of(&t, F));
	made_close(&t);
}

/* --- descriptors under way ------------------------------------------------------------------ */

static void send_fd(uint64_t sk, uint64_t fd, const char *text)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
	int n = (int)fd;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &n, sizeof(n));
	want(sendmsg((int)sk, &mh, 0) == (ssize_t)strlen(text));
}

static int receive_fd(int sk, const char *text)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char buf[64] = "";
	struct iovec iov = {buf, sizeof(buf) - 1};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control)};
	int fd;

	assert_int_equal(recvmsg(sk, &mh, MSG_DONTWAIT), strlen(text));
	assert_string_equal(buf, text);
	assert_non_null(CMSG_FIRSTHDR(&mh));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(fd));
	return fd;
}

static void build_passed(struct child *c)
{
	uint64_t *fd = c->shared, inner[2];
	int p[2];

	want(!pipe(p));
	fd[PIPE] = (uint64_t)p[1];
	pair(fd + A, SOCK_STREAM);
	/* The reading end is nowhere but in the queue; so is a socket that holds a message itself.
	 */
	send_fd(fd[A], (uint64_t)p[0], "with a pipe");
	close(p[0]);
	pair(inner, SOCK_DGRAM);
	put(inner[0], "inside");
	send_fd(fd[A], inner[1], "with a socket");
	close((int)inner[1]);
	fd[C] = inner[0];
	send_fd(fd[A], fd[A], "with itself");
	put(fd[A], "and the rest");
}

static void passed(void **state)
{
	struct made_test t;
	int fd;

	made_all(&t, build_passed);
	fd = receive_fd(fd_of(&t, B), "with a pipe");
	assert_int_equal(write(fd_of(&t, PIPE), "x", 1), 1);
	assert_int_equal(read(fd, (char[2]){0}, 2), 1);
	close(fd);
	fd = receive_fd(fd_of(&t, B), "with a socket");
	expect(fd, "inside");
	expect_through(fd_of(&t, C), fd);
	close(fd);
	fd = receive_fd(fd_of(&t, B), "with itself");
	expect(fd_of(&t, B), "and the rest");
	expect_through(fd, fd_of(&t, B));
	close(fd);
	made_close(&t);
}

/* --- what is refused ------------------------------------------------------------------------ */

static int outside;

static void build_outside(struct child *c)
{
	/* Not at its number, which the test has, too. */
	c->shared[A] = (uint64_t)socket(AF_UNIX, SOCK_DGRAM, 0);
	c->shared[B] = bound(SOCK_STREAM, "taken");
	close(outside);
	want(connect_name(c->shared[A], "@outside"));
}

static void peers_outside(void **state)
{
	struct made_test t;
	struct sockaddr_un a;
	char path[128];

	outside = (int)bound(SOCK_DGRAM, "@outside");
	made_collect(&t, build_outside);
	assert_true(made_has_finding(&t, "outside of the tree (@", true));
	made_end_early(&t);
	/* A path that is somebody else's is left alone. */
	name_in(&a, "taken");
	unlink(a.sun_path);
	snprintf(path, sizeof(path), "%s", a.sun_path);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	t.m->files[made_id(&t, t.child.shared[A]) - 1].usk->peer_ino = 0;
	made_new(&t);
	assert_int_equal(make_files(t.mk, &t.err), -EADDRINUSE);
	assert_non_null(strstr(t.err.msg, path));
	assert_int_equal(access(path, F_OK), 0);
	close(outside);
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
		cmocka_unit_test(pairs),
		cmocka_unit_test(names),
		cmocka_unit_test(passed),
		cmocka_unit_test(peers_outside),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
