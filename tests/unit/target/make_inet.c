/* SPDX-License-Identifier: MIT */
/* Internet and netlink sockets collected and made again; connections with bytes under way. */
#include "tests/unit/target/made.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "src/target/sockets.h"

enum { A, B, C, D, E, F, G, H };
enum { BIG = 3000000 };

static void want(bool ok)
{
	if (!ok)
		_exit(97);
}

static int get(int sk, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	assert_int_equal(getsockopt(sk, level, name, &v, &len), 0);
	return v;
}

static void set(uint64_t sk, int level, int name, int v)
{
	want(setsockopt((int)sk, level, name, &v, sizeof(v)) == 0);
}

static bool made_late(struct made_test *t)
{
	return !make_files(t->mk, &t->err) && !make_late(t->mk, &t->err) &&
	       !make_finish(t->mk, &t->err) && !make_release(t->mk, &t->err);
}

static void made_all(struct made_test *t, void (*build)(struct child *c))
{
	made_collect(t, build);
	for (uint32_t i = 0; i < t->m->nfindings; i++)
		if (t->m->findings[i].fatal)
			fail_msg("%s", t->m->findings[i].text);
	made_end_early(t);
	made_new(t);
	if (!made_late(t))
		fail_msg("%s", t->err.msg);
}

static int fd_of(const struct made_test *t, int i)
{
	return made_fd(t, t->child.shared[i]);
}

static uint64_t loopback(int family, int type, int listens)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	int sk = socket(family, type, 0);

	want(sk >= 0 &&
	     !bind(sk, family == AF_INET ? (void *)&in : (void *)&in6,
		   family == AF_INET ? sizeof(in) : sizeof(in6)) &&
	     (!listens || !listen(sk, listens)));
	return (uint64_t)sk;
}

static int connect_to(int from, int to)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	return getsockname(to, (void *)&a, &len) || connect(from, (void *)&a, len);
}

/* --- those without a connection ------------------------------------------------------------- */

static void build_plain(struct child *c)
{
	uint64_t *fd = c->shared;

	fd[A] = loopback(AF_INET, SOCK_STREAM, 9);
	set(fd[A], SOL_TCP, TCP_NODELAY, 1);
	set(fd[A], SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd[A], SOL_TCP, TCP_KEEPIDLE, 33);
	set(fd[A], SOL_IP, IP_TTL, 17);
	fd[B] = loopback(AF_INET6, SOCK_STREAM, 3);
	fd[C] = loopback(AF_INET, SOCK_DGRAM, 0);
	set(fd[C], SOL_SOCKET, SO_REUSEADDR, 1);
	fd[D] = (uint64_t)socket(AF_INET, SOCK_DGRAM, 0);
	want(!connect_to((int)fd[D], (int)fd[C]));
	fd[E] = loopback(AF_INET6, SOCK_DGRAM, 0);
	fd[F] = (uint64_t)socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	fd[G] = (uint64_t)socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	want(!bind((int)fd[G],
		   (void *)&(struct sockaddr_nl){.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK},
		   sizeof(struct sockaddr_nl)));
}

static void same_names(const struct made_test *t, int i)
{
	const struct m_inet *want_sk = made_file(t, t->child.shared[i])->isk;
	struct sockaddr_storage a = {0};
	socklen_t len = sizeof(a);

	assert_int_equal(getsockname(fd_of(t, i), (void *)&a, &len), 0);
	assert_int_equal(ntohs(((struct sockaddr_in *)&a)->sin_port), want_sk->src_port);
	assert_true(want_sk->src_port != 0);
}

static void plain(void **state)
{
	struct made_test t;
	char buf[8];
	int sk;

	made_all(&t, build_plain);
	for (int i = A; i <= E; i++)
		same_names(&t, i);
	sk = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect_to(sk, fd_of(&t, A)), 0);
	close(sk);
	sk = accept(fd_of(&t, A), NULL, NULL);
	assert_true(sk >= 0);
	close(sk);
	sk = socket(AF_INET6, SOCK_STREAM, 0);
	assert_int_equal(connect_to(sk, fd_of(&t, B)), 0);
	close(sk);
	assert_int_equal(get(fd_of(&t, A), SOL_TCP, TCP_NODELAY), 1);
	assert_int_equal(get(fd_of(&t, A), SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(get(fd_of(&t, A), SOL_TCP, TCP_KEEPIDLE), 33);
	assert_int_equal(get(fd_of(&t, A), SOL_IP, IP_TTL), 17);
	assert_int_equal(get(fd_of(&t, A), SOL_SOCKET, SO_REUSEADDR), 0);
	assert_int_equal(get(fd_of(&t, C), SOL_SOCKET, SO_REUSEADDR), 1);
	assert_int_equal(send(fd_of(&t, D), "udp", 3, 0), 3);
	assert_int_equal(recv(fd_of(&t, C), buf, sizeof(buf), 0), 3);
	assert_int_equal(fcntl(fd_of(&t, F), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	struct sockaddr_nl nl = {0};
	socklen_t len = sizeof(nl);
	getsockname(fd_of(&t, G), (void *)&nl, &len);
	assert_int_equal(nl.nl_pid, made_file(&t, t.child.shared[G])->nlsk->portid);
	assert_int_equal(nl.nl_groups, RTMGRP_LINK);
	made_close(&t);
}

static void build_one(struct child *c)
{
	c->shared[A] = loopback(AF_INET, SOCK_STREAM, 9);
}

static void busy_port(void **state)
{
	struct made_test t;

	made_collect(&t, build_one);
	made_new(&t);
	/* The child has it still. */
	assert_int_equal(make_files(t.mk, &t.err), -EADDRINUSE);
	assert_non_null(strstr(t.err.msg, "127.0.0.1:"));
	assert_true(t.err.hint[0]);
	made_close(&t);
}

/* --- connections ---------------------------------------------------------------------------- */

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 31 + i / 251);
}

static void pair_of(struct child *c, int family, int listener, int client, int server)
{
	uint64_t *fd = c->shared;

	fd[listener] = loopback(family, SOCK_STREAM, 5);
	fd[client] = (uint64_t)socket(family, SOCK_STREAM, 0);
	want(!connect_to((int)fd[client], (int)fd[listener]));
	fd[server] = (uint64_t)accept((int)fd[listener], NULL, NULL);
	want((int)fd[server] >= 0);
}

/* A pair with both queues full to the brim in one direction, some bytes in the other. */
static void build_connections(struct child *c)
{
	uint64_t *fd = c->shared;
	static uint8_t buf[BIG];
	ssize_t n;

	pair_of(c, AF_INET, A, B, C);
	pair_of(c, AF_INET6, D, E, F);
	set(fd[B], SOL_TCP, TCP_NODELAY, 1);
	set(fd[B], SOL_SOCKET, SO_REUSEADDR, 1);
	for (size_t i = 0; i < BIG; i++)
		buf[i] = byte_at(i);
	n = send((int)fd[B], buf, BIG, MSG_DONTWAIT);
	want(n > 0);
	c->shared[G] = (uint64_t)n;
	want(send((int)fd[C], "hello", 5, 0) == 5);
	want(send((int)fd[E], "six", 3, 0) == 3);
}

static void read_all(int sk, size_t want_len)
{
	static uint8_t buf[65536];
	size_t done = 0;

	while (done < want_len) {
		struct pollfd p = {.fd = sk, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, 5000) != 1)
			fail_msg("%zu of %zu bytes came", done, want_len);
		n = recv(sk, buf, sizeof(buf), 0);
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != byte_at(done + (size_t)i))
				fail_msg("byte %zu is wrong", done + (size_t)i);
		done += (size_t)n;
	}
}

static void connections(void **state)
{
	struct made_test t;
	char buf[8] = "";
	int out = 0;

	if (geteuid() != 0)
		skip();
	made_collect(&t, build_connections);
	for (uint32_t i = 0; i < t.m->nfindings; i++)
		if (t.m->findings[i].fatal)
			fail_msg("%s", t.m->findings[i].text);
	/* Some were never sent: the other side's queue is full. */
	assert_true(made_file(&t, t.child.shared[B])->isk->tcp->unsent_len > 0);
	/* As a dump that ends the tree does it: without a word to the other side. */
	hold_grasp(t.f);
	made_end_early(&t);
	hold_end(t.f);
	made_new(&t);
	if (!made_late(&t))
		fail_msg("%s", t.err.msg);
	same_names(&t, B);
	assert_int_equal(get(fd_of(&t, B), SOL_TCP, TCP_NODELAY), 1);
	assert_int_equal(get(fd_of(&t, B), SOL_SOCKET, SO_REUSEADDR), 1);
	assert_int_equal(get(fd_of(&t, C), SOL_SOCKET, SO_REUSEADDR), 0);
	assert_int_equal(recv(fd_of(&t, B), buf, sizeof(buf), 0), 5);
	assert_memory_equal(buf, "hello", 5);
	read_all(fd_of(&t, C), t.child.shared[G]);
	assert_int_equal(recv(fd_of(&t, F), buf, sizeof(buf), 0), 3);
	assert_int_equal(send(fd_of(&t, F), "back", 4, 0), 4);
	assert_int_equal(recv(fd_of(&t, E), buf, sizeof(buf), 0), 4);
	assert_int_equal(ioctl(fd_of(&t, E), SIOCOUTQ, &out), 0);
	made_close(&t);
}

/* Reading a connection leaves it as it was. */
static void build_echo(struct child *c)
{
	uint64_t *fd = c->shared;
	char buf[8];

	pair_of(c, AF_INET, A, B, C);
	set(fd[B], SOL_SOCKET, SO_REUSEADDR, 1);
	want(send((int)fd[B], "to c", 4, 0) == 4);
	child_sync(c);
	/* Collected by now. */
	fd[D] = recv((int)fd[C], buf, sizeof(buf), 0) == 4 && !memcmp(buf, "to c", 4) &&
		send((int)fd[C], "to b", 4, 0) == 4 && recv((int)fd[B], buf, 4, 0) == 4 &&
		!memcmp(buf, "to b", 4);
	fd[E] = (uint64_t)get((int)fd[B], SOL_SOCKET, SO_REUSEADDR);
	fd[F] = (uint64_t)get((int)fd[C], SOL_SOCKET, SO_REUSEADDR);
}

static void untouched(void **state)
{
	struct made_test t;

	if (geteuid() != 0)
		skip();
	made_collect(&t, build_echo);
	assert_non_null(made_file(&t, t.child.shared[B])->isk->tcp);
	child_next(&t.child);
	assert_int_equal(t.child.shared[D], 1);
	assert_int_equal(t.child.shared[E], 1);
	assert_int_equal(t.child.shared[F], 0);
	made_close(&t);
}

static int outside = -1;

static void build_outside(struct child *c)
{
	c->shared[A] = (uint64_t)socket(AF_INET, SOCK_STREAM, 0);
	c->shared[A] = (uint64_t)fcntl((int)c->shared[A], F_DUPFD, 100);
	want(!connect_to((int)c->shared[A], outside));
	close(outside);
}

static void peers_outside(void **state)
{
	struct made_test t;
	char buf[8];

	outside = (int)loopback(AF_INET, SOCK_STREAM, 5);
	made_collect(&t, build_outside);
	assert_true(made_has_finding(&t, "--tcp-established carries it", true));
	assert_true(made_has_finding(&t, "TCP connection 127.0.0.1:", true));
	/* As if --tcp-close had been given: over, but a socket. */
	made_file(&t, t.child.shared[A])->isk->state = M_SK_CLOSE;
	made_file(&t, t.child.shared[A])->isk->shutdown = M_SK_SHUT_READ | M_SK_SHUT_WRITE;
	made_end_early(&t);
	made_new(&t);
	if (!made_late(&t))
		fail_msg("%s", t.err.msg);
	assert_int_equal(recv(fd_of(&t, A), buf, sizeof(buf), 0), 0);
	assert_int_equal(send(fd_of(&t, A), "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	close(outside);
	made_close(&t);
}

/* A connection that was never made: in repair mode no packet is sent, and it stays there. */
static void build_far(struct child *c)
{
	struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(80)};
	uint64_t *fd = c->shared;

	pair_of(c, AF_INET, A, B, C);
	fd[D] = loopback(AF_INET, SOCK_STREAM, 0);
	set(fd[D], SOL_TCP, TCP_REPAIR, 1);
	inet_pton(AF_INET, "127.254.1.2", &far.sin_addr);
	want(!connect((int)fd[D], (void *)&far, sizeof(far)));
}

static void seen_while_running(void **state)
{
	struct made_test t = {0};
	struct m_proc *p;

	if (geteuid() != 0)
		skip();
	child_start(&t.child, build_far);
	t.m = model_new(0);
	t.f = files_new(t.m, &t.err);
	files_hands_off(t.f);
	p = model_push(t.m, &t.m->procs, &t.m->nprocs, sizeof(*p));
	p->pid = (uint32_t)t.child.pid;
	assert_int_equal(proc_collect(t.m, p, &t.err), 0);
	assert_int_equal(files_collect(t.f, p, &t.err), 0);
	assert_int_equal(files_finish(t.f, &t.err), 0);
	assert_true(made_has_finding(&t, "to 127.254.1.2:80, which is outside", true));
	/* Those between two descriptors of this machine are left to a closer look. */
	for (uint32_t i = 0, n = 0; i < t.m->nfindings; i++)
		assert_true((n += strstr(t.m->findings[i].text, "TCP connection") != NULL) <= 1);
	files_free(t.f);
	model_free(t.m);
	child_end(&t.child);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),	 cmocka_unit_test(busy_port),
		cmocka_unit_test(connections),	 cmocka_unit_test(untouched),
		cmocka_unit_test(peers_outside), cmocka_unit_test(seen_while_running),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
