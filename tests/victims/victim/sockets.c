/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of sockets: what is in their queues, who is connected to whom, who waits.
 *
 * Queues are looked at with MSG_PEEK in every check and read in the last one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

static void fact_fd(int fd, const char *type)
{
	v_fact("fd %d %d %s", getpid(), fd, type);
}

static void put(int sk, const char *text)
{
	if (send(sk, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		v_die("send");
}

static void expect_flags(int sk, const char *text, const char *what, int flags)
{
	char buf[256] = "";
	ssize_t n = recv(sk, buf, sizeof(buf) - 1, MSG_DONTWAIT | flags);

	if (n != (ssize_t)strlen(text) || strcmp(buf, text) != 0)
		v_bad("sockets: %s: %zd bytes, '%s', not '%s'", what, n, buf, text);
}

static void expect_queued(int sk, const char *text, const char *what)
{
	expect_flags(sk, text, what, MSG_PEEK);
}

static void expect(int sk, const char *text, const char *what)
{
	expect_flags(sk, text, what, 0);
}

static void expect_empty(int sk, const char *what)
{
	char b;

	if (recv(sk, &b, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN)
		v_bad("sockets: %s: something is left in the queue", what);
}

static void echo(int from, int to, const char *what)
{
	static uint8_t serial;
	struct pollfd p = {.fd = to, .events = POLLIN};
	uint8_t got = 0;

	serial++;
	if (send(from, &serial, 1, MSG_NOSIGNAL) != 1 || poll(&p, 1, 5000) != 1 ||
	    recv(to, &got, 1, MSG_DONTWAIT) != 1 || got != serial)
		v_bad("sockets: %s does not carry bytes any more: %s", what,
		      strerrordesc_np(errno));
}

static int number(int sk, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	getsockopt(sk, level, name, &v, &len);
	return v;
}

static void set_number(int sk, int level, int name, int v)
{
	if (setsockopt(sk, level, name, &v, sizeof(v)))
		v_die("setsockopt %d %d", level, name);
}

static void expect_number(int sk, int level, int name, int want, const char *what)
{
	int v = number(sk, level, name);

	if (v != want)
		v_bad("sockets: %s is %d, not %d", what, v, want);
}

/* --- unixpairs ------------------------------------------------------------------------------ */

static int stream[2], seq[2], dgram[2], widow[2], half[2], busy[2];

static void pair_of(int sv[2], int type)
{
	if (socketpair(AF_UNIX, type, 0, sv))
		v_die("socketpair");
	fact_fd(sv[0], "unix");
	fact_fd(sv[1], "unix");
}

static void unixpairs_setup(void)
{
	pair_of(stream, SOCK_STREAM);
	put(stream[0], "stream to one");
	put(stream[1], "stream to zero");
	set_number(stream[0], SOL_SOCKET, SO_PASSCRED, 1);
	set_number(stream[1], SOL_SOCKET, SO_RCVBUF, 70000);
	if (fcntl(stream[1], F_SETFL, O_NONBLOCK))
		v_die("fcntl");
	pair_of(seq, SOCK_SEQPACKET | SOCK_CLOEXEC);
	put(seq[0], "first");
	put(seq[0], "second message");
	put(seq[1], "back");
	pair_of(dgram, SOCK_DGRAM);
	put(dgram[0], "datagram");
	put(dgram[0], "d");
	put(dgram[1], "other way");
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, widow))
		v_die("socketpair");
	fact_fd(widow[0], "unix");
	put(widow[1], "testament");
	close(widow[1]);
	pair_of(half, SOCK_STREAM);
	shutdown(half[0], SHUT_WR);
	pair_of(busy, SOCK_STREAM);
}

static void unixpairs_check(void)
{
	char b;

	expect_queued(stream[1], "stream to one", "stream");
	expect_queued(stream[0], "stream to zero", "stream, back");
	expect_queued(seq[1], "first", "seqpacket");
	expect_queued(seq[0], "back", "seqpacket, back");
	expect_queued(dgram[1], "datagram", "datagram");
	expect_queued(dgram[0], "other way", "datagram, back");
	expect_queued(widow[0], "testament", "stream of a closed end");
	expect_number(stream[0], SOL_SOCKET, SO_PASSCRED, 1, "SO_PASSCRED");
	expect_number(stream[1], SOL_SOCKET, SO_PASSCRED, 0, "SO_PASSCRED of the other end");
	expect_number(stream[1], SOL_SOCKET, SO_RCVBUF, 140000, "SO_RCVBUF");
	if (!(fcntl(stream[1], F_GETFL) & O_NONBLOCK))
		v_bad("sockets: O_NONBLOCK is off");
	if (recv(half[1], &b, 1, MSG_DONTWAIT) != 0)
		v_bad("sockets: the end of a stream that was shut down has gone");
	echo(half[1], half[0], "a pair that is half shut down");
	echo(busy[0], busy[1], "a pair");
	echo(busy[1], busy[0], "a pair, back");
}

static void unixpairs_finish(void)
{
	char b;

	expect(stream[1], "stream to one", "stream");
	expect_empty(stream[1], "stream");
	expect(seq[1], "first", "seqpacket");
	expect(seq[1], "second message", "seqpacket");
	expect_empty(seq[1], "seqpacket");
	expect(dgram[1], "datagram", "datagram");
	expect(dgram[1], "d", "datagram");
	expect_empty(dgram[1], "datagram");
	expect(widow[0], "testament", "stream of a closed end");
	if (recv(widow[0], &b, 1, MSG_DONTWAIT) != 0)
		v_bad("sockets: the closed end is open again");
}

/* --- unixnamed: listening, accepted, waiting; a path, a name without a path, a relative path  */

static int listening, client, server, waits, named, sender, abstract, relative;

static socklen_t in_dir(struct sockaddr_un *a, const char *name)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s", v_dir(), name) >=
	    (int)sizeof(a->sun_path))
		v_skip("the directory's name is too long for a socket");
	return sizeof(*a);
}

static int bound_to(int type, const struct sockaddr_un *a, socklen_t len)
{
	int sk = socket(AF_UNIX, type, 0);

	if (a->sun_path[0])
		unlink(a->sun_path);
	if (sk < 0 || bind(sk, (const void *)a, len))
		v_die("bind %s", a->sun_path);
	fact_fd(sk, "unix");
	return sk;
}

static int connected_to(int type, const struct sockaddr_un *a, socklen_t len)
{
	int sk = socket(AF_UNIX, type, 0);

	if (sk < 0 || connect(sk, (const void *)a, len))
		v_die("connect");
	fact_fd(sk, "unix");
	return sk;
}

static void unixnamed_setup(void)
{
	struct sockaddr_un a;
	socklen_t len = in_dir(&a, "listening");

	listening = bound_to(SOCK_STREAM, &a, len);
	if (chmod(a.sun_path, 0640) || listen(listening, 5))
		v_die("listen");
	client = connected_to(SOCK_STREAM, &a, len);
	server = accept(listening, NULL, NULL);
	fact_fd(server, "unix");
	put(client, "question");
	waits = connected_to(SOCK_STREAM, &a, len);
	len = in_dir(&a, "datagrams");
	named = bound_to(SOCK_DGRAM, &a, len);
	sender = connected_to(SOCK_DGRAM, &a, len);
	put(sender, "by path");
	a = (struct sockaddr_un){.sun_family = AF_UNIX};
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			  (size_t)snprintf(a.sun_path + 1, 64, "victim-%d-named", getpid()));
	abstract = bound_to(SOCK_STREAM, &a, len);
	if (listen(abstract, 1) || chdir(v_dir()))
		v_die("abstract");
	a = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "relative"};
	relative = bound_to(SOCK_DGRAM, &a, sizeof(a));
}

static void connect_anew(int listener, const char *what)
{
	struct sockaddr_un a;
	socklen_t len = sizeof(a);
	int c = socket(AF_UNIX, SOCK_STREAM, 0), s;

	if (getsockname(listener, (void *)&a, &len) || connect(c, (void *)&a, len)) {
		v_bad("sockets: nobody listens on %s any more: %s", what, strerrordesc_np(errno));
		close(c);
		return;
	}
	s = accept(listener, NULL, NULL);
	if (s < 0)
		v_bad("sockets: %s: accept: %s", what, strerrordesc_np(errno));
	else
		echo(c, s, what);
	close(s);
	close(c);
}

static void unixnamed_check(void)
{
	struct sockaddr_un a, b;
	socklen_t len;
	struct stat st;
	int sk = socket(AF_UNIX, SOCK_DGRAM, 0);

	expect_queued(server, "question", "accepted connection");
	expect_queued(named, "by path", "named datagram socket");
	echo(server, client, "an accepted connection");
	connect_anew(abstract, "an abstract name");
	len = sizeof(b);
	in_dir(&a, "listening");
	if (getpeername(client, (void *)&b, &len) || strcmp(a.sun_path, b.sun_path) != 0)
		v_bad("sockets: the client's peer has another name");
	if (stat(a.sun_path, &st) || (st.st_mode & 07777) != 0640)
		v_bad("sockets: %s has mode %o", a.sun_path, st.st_mode);
	in_dir(&a, "relative");
	if (connect(sk, (void *)&a, sizeof(a)))
		v_bad("sockets: the relative name leads nowhere: %s", strerrordesc_np(errno));
	else
		echo(sk, relative, "a relative name");
	close(sk);
}

static void unixnamed_finish(void)
{
	int s = accept(listening, NULL, NULL);

	if (s < 0)
		v_bad("sockets: nobody waits to be accepted");
	else
		echo(waits, s, "a connection that waited");
	connect_anew(listening, "a path");
}

/* --- passedfds: descriptors that are nowhere but in a queue --------------------------------- */

static int carrier[2], outer, inner;

static void send_fd(int sk, int fd, const char *text)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {(char *)(uintptr_t)text, strlen(text)};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(sk, &mh, 0) != (ssize_t)strlen(text))
		v_die("sendmsg");
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
	int fd = -1;

	if (recvmsg(sk, &mh, MSG_DONTWAIT) < 0 || strcmp(buf, text) != 0 || !CMSG_FIRSTHDR(&mh)) {
		v_bad("sockets: '%s' came without a descriptor, or as '%s'", text, buf);
		return -1;
	}
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(fd));
	return fd;
}

static void passedfds_setup(void)
{
	int p[2], sv[2];

	pair_of(carrier, SOCK_STREAM);
	if (pipe(p) || socketpair(AF_UNIX, SOCK_DGRAM, 0, sv))
		v_die("pipe");
	outer = p[1];
	inner = sv[0];
	fact_fd(outer, "pipe");
	put(inner, "a message in a message");
	send_fd(carrier[0], p[0], "pipe ");
	send_fd(carrier[0], sv[1], "socket ");
	put(carrier[0], "rest");
	close(p[0]);
	close(sv[1]);
}

static void passedfds_check(void)
{
	int n = 0;

	if (ioctl(carrier[1], FIONREAD, &n) || n != 16)
		v_bad("sockets: the carrier holds %d bytes", n);
	echo(carrier[1], carrier[0], "the carrier");
}

static void passedfds_finish(void)
{
	int fd = receive_fd(carrier[1], "pipe ");
	char b[2];

	if (write(outer, "x", 1) != 1 || read(fd, b, 2) != 1)
		v_bad("sockets: the pipe that travelled is another one");
	fd = receive_fd(carrier[1], "socket ");
	expect(fd, "a message in a message", "the socket that travelled");
	echo(inner, fd, "the socket that travelled");
	expect(carrier[1], "rest", "what came after");
}

/* --- inet: listening, UDP ------------------------------------------------------------------- */

static int l4, l6, u4, c4, u6, plain;

static int inet_bound(int family, int type, int backlog)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	int sk = socket(family, type | SOCK_CLOEXEC, 0);

	if (sk < 0 || bind(sk, family == AF_INET ? (void *)&in : (void *)&in6,
			   family == AF_INET ? sizeof(in) : sizeof(in6)))
		v_skip("no loopback address of family %d", family);
	if (backlog && listen(sk, backlog))
		v_die("listen");
	fact_fd(sk, "inet");
	return sk;
}

static int inet_connect(int sk, int to)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	return getsockname(to, (void *)&a, &len) || connect(sk, (void *)&a, len);
}

static void inet_setup(void)
{
	l4 = inet_bound(AF_INET, SOCK_STREAM, 6);
	set_number(l4, SOL_TCP, TCP_KEEPIDLE, 77);
	set_number(l4, SOL_SOCKET, SO_KEEPALIVE, 1);
	l6 = inet_bound(AF_INET6, SOCK_STREAM, 6);
	u4 = inet_bound(AF_INET, SOCK_DGRAM, 0);
	set_number(u4, SOL_SOCKET, SO_BROADCAST, 1);
	u6 = inet_bound(AF_INET6, SOCK_DGRAM, 0);
	c4 = socket(AF_INET, SOCK_DGRAM, 0);
	if (inet_connect(c4, u4))
		v_die("connect");
	plain = socket(AF_INET, SOCK_STREAM, 0);
	set_number(plain, SOL_TCP, TCP_NODELAY, 1);
	fact_fd(c4, "inet");
	fact_fd(plain, "inet");
}

/* The side that asks is reset in the end: what is left of it must not be in the way of a restore.
 */
static void inet_anew(int listener, int family, const char *what)
{
	struct linger reset = {.l_onoff = 1};
	int c = socket(family, SOCK_STREAM, 0), s;

	setsockopt(c, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (inet_connect(c, listener)) {
		v_bad("sockets: nobody listens on %s: %s", what, strerrordesc_np(errno));
		close(c);
		return;
	}
	s = accept(listener, NULL, NULL);
	if (s < 0)
		v_bad("sockets: %s: accept: %s", what, strerrordesc_np(errno));
	else
		echo(c, s, what);
	close(c);
	close(s);
}

static void inet_check(void)
{
	int sk = socket(AF_INET6, SOCK_DGRAM, 0);

	inet_anew(l4, AF_INET, "TCP over IPv4");
	inet_anew(l6, AF_INET6, "TCP over IPv6");
	echo(c4, u4, "connected UDP");
	if (inet_connect(sk, u6))
		v_bad("sockets: UDP over IPv6: %s", strerrordesc_np(errno));
	else
		echo(sk, u6, "UDP over IPv6");
	close(sk);
	expect_number(l4, SOL_TCP, TCP_KEEPIDLE, 77, "TCP_KEEPIDLE");
	expect_number(l4, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
	expect_number(l4, SOL_SOCKET, SO_REUSEADDR, 0, "SO_REUSEADDR");
	expect_number(u4, SOL_SOCKET, SO_BROADCAST, 1, "SO_BROADCAST");
	expect_number(plain, SOL_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
}

/* --- tcp: connections inside of the tree, bytes under way ----------------------------------- */

static int tcp_l, big[2], small[2];
static size_t under_way;

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 31 + i / 251);
}

static void tcp_pair(int sv[2])
{
	sv[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (inet_connect(sv[0], tcp_l))
		v_die("connect");
	sv[1] = accept(tcp_l, NULL, NULL);
	if (sv[1] < 0)
		v_die("accept");
	fact_fd(sv[0], "inet");
	fact_fd(sv[1], "inet");
}

static void tcp_setup(void)
{
	static uint8_t buf[4 << 20];
	ssize_t n;

	if (geteuid() != 0)
		v_skip("a connection is read with CAP_NET_ADMIN");
	tcp_l = inet_bound(AF_INET, SOCK_STREAM, 5);
	tcp_pair(big);
	tcp_pair(small);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = byte_at(i);
	n = send(big[0], buf, sizeof(buf), MSG_DONTWAIT);
	if (n <= 0)
		v_die("send");
	under_way = (size_t)n;
	put(big[1], "against the stream");
	put(small[0], "in between");
	set_number(small[1], SOL_TCP, TCP_NODELAY, 1);
}

static void tcp_check(void)
{
	expect_queued(big[0], "against the stream", "TCP");
	expect_queued(small[1], "in between", "TCP");
	echo(small[1], small[0], "a TCP connection");
	expect_number(small[1], SOL_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
	inet_anew(tcp_l, AF_INET, "TCP beside connections");
}

static void tcp_finish(void)
{
	static uint8_t buf[65536];
	size_t done = 0;

	while (done < under_way) {
		struct pollfd p = {.fd = big[1], .events = POLLIN};
		ssize_t n = poll(&p, 1, 10000) == 1 ? recv(big[1], buf, sizeof(buf), 0) : -1;

		if (n <= 0) {
			v_bad("sockets: %zu of %zu bytes came", done, under_way);
			return;
		}
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != byte_at(done + (size_t)i)) {
				v_bad("sockets: byte %zu under way is wrong", done + (size_t)i);
				return;
			}
		done += (size_t)n;
	}
	expect_empty(big[1], "TCP");
	expect(small[1], "in between", "TCP");
	echo(small[0], small[1], "a TCP connection, at the end");
}

/* --- netlink -------------------------------------------------------------------------------- */

static int netlink;
static uint32_t port;

static void netlink_setup(void)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR};
	socklen_t len = sizeof(a);

	netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (netlink < 0 || bind(netlink, (void *)&a, sizeof(a)) ||
	    getsockname(netlink, (void *)&a, &len))
		v_skip("netlink: %s", strerrordesc_np(errno));
	port = a.nl_pid;
}

static void netlink_check(void)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} q = {.h = {.nlmsg_len = sizeof(q),
		     .nlmsg_type = RTM_GETLINK,
		     .nlmsg_flags = NLM_F_REQUEST},
	       .i = {.ifi_index = 1}};
	static char buf[16384];
	struct sockaddr_nl a = {0};
	socklen_t len = sizeof(a);
	struct pollfd p = {.fd = netlink, .events = POLLIN};

	if (getsockname(netlink, (void *)&a, &len) || a.nl_pid != port ||
	    a.nl_groups != RTMGRP_IPV4_IFADDR)
		v_bad("sockets: netlink port %u, groups %#x", a.nl_pid, a.nl_groups);
	if (send(netlink, &q, sizeof(q), 0) < 0 || poll(&p, 1, 5000) != 1 ||
	    recv(netlink, buf, sizeof(buf), MSG_DONTWAIT) < (ssize_t)sizeof(struct nlmsghdr))
		v_bad("sockets: netlink does not answer: %s", strerrordesc_np(errno));
}

const struct scenario socket_scenarios[] = {
	{"unixpairs", "unix socket pairs with messages that nobody has read", unixpairs_setup,
	 unixpairs_check, unixpairs_finish},
	{"unixnamed", "unix sockets with names, a connection that waits", unixnamed_setup,
	 unixnamed_check, unixnamed_finish},
	{"passedfds", "descriptors under way in a unix socket", passedfds_setup, passedfds_check,
	 passedfds_finish},
	{"inet", "TCP that listens and UDP, IPv4 and IPv6", inet_setup, inet_check},
	{"tcp", "TCP connections inside of the tree, megabytes under way", tcp_setup, tcp_check,
	 tcp_finish},
	{"netlink", "a netlink socket in a group", netlink_setup, netlink_check},
	{},
};
