/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of sockets at their ends: closed, shut down or reset by the other side, what they still
 * have to say.
 *
 * Most of it can be read only once: by the last check.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/victims/victim/victim.h"

static void make_pair(int type, int pair[2])
{
	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair))
		v_die("socketpair");
}

static void say(int sk, const char *text)
{
	if (send(sk, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text))
		v_die("send");
}

static void expect(int sk, const char *text, const char *what)
{
	char buf[64] = "";
	ssize_t n = recv(sk, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	if (n != (ssize_t)strlen(text) || strcmp(buf, text) != 0)
		v_bad("edges: %s: %zd bytes, '%s', not '%s'", what, n, buf, text);
}

static void expect_error(int sk, int error, const char *what)
{
	char b;
	ssize_t n = recv(sk, &b, 1, MSG_DONTWAIT);

	if (n >= 0 || errno != error)
		v_bad("edges: %s: %zd, %s, not %s", what, n, n < 0 ? strerrordesc_np(errno) : "",
		      strerrordesc_np(error));
}

/* --- ends of unix sockets ------------------------------------------------------------------- */

static int reset_full[2], reset_empty[2], shut_seq[2], closed_seq[2], empty_seq[2], empty_dgram[2];

static void unixends_setup(void)
{
	make_pair(SOCK_STREAM, reset_full);
	say(reset_full[1], "not read");
	say(reset_full[0], "unread");
	close(reset_full[1]);
	make_pair(SOCK_STREAM, reset_empty);
	say(reset_empty[0], "unread");
	close(reset_empty[1]);
	make_pair(SOCK_SEQPACKET, shut_seq);
	say(shut_seq[1], "one");
	say(shut_seq[1], "two");
	shutdown(shut_seq[1], SHUT_WR);
	make_pair(SOCK_SEQPACKET, closed_seq);
	say(closed_seq[1], "last");
	close(closed_seq[1]);
	make_pair(SOCK_SEQPACKET, empty_seq);
	say(empty_seq[1], "");
	say(empty_seq[1], "between");
	say(empty_seq[1], "");
	make_pair(SOCK_DGRAM, empty_dgram);
	say(empty_dgram[1], "first");
	say(empty_dgram[1], "");
}

static void expect_events(int sk, short want, const char *what)
{
	struct pollfd p = {.fd = sk, .events = POLLIN | POLLRDHUP};

	if (poll(&p, 1, 0) != 1 || p.revents != want)
		v_bad("edges: %s: events %#x, not %#x", what, p.revents, want);
}

static void unixends_check(void)
{
	expect_events(reset_full[0], POLLIN | POLLRDHUP | POLLHUP | POLLERR, "a reset stream");
	expect_events(reset_empty[0], POLLIN | POLLRDHUP | POLLHUP | POLLERR,
		      "an empty reset stream");
	expect_events(shut_seq[0], POLLIN | POLLRDHUP, "messages of one that is shut down");
	expect_events(closed_seq[0], POLLIN | POLLRDHUP | POLLHUP,
		      "messages of one that is closed");
	expect_events(empty_seq[0], POLLIN, "empty messages");
}

static void unixends_finish(void)
{
	expect(reset_full[0], "not read", "a reset stream");
	expect_error(reset_full[0], ECONNRESET, "a reset stream");
	expect(reset_full[0], "", "a reset stream, at its end");
	expect_error(reset_empty[0], ECONNRESET, "an empty reset stream");
	expect(shut_seq[0], "one", "messages of one that is shut down");
	expect(shut_seq[0], "two", "messages of one that is shut down");
	expect(shut_seq[0], "", "the end of one that is shut down");
	say(shut_seq[0], "back");
	expect(shut_seq[1], "back", "the other way");
	expect(closed_seq[0], "last", "a message of one that is closed");
	expect(closed_seq[0], "", "the end of one that is closed");
	expect(empty_seq[0], "", "an empty message");
	expect(empty_seq[0], "between", "a message between empty ones");
	expect(empty_seq[0], "", "an empty message at the end");
	expect_error(empty_seq[0], EAGAIN, "nothing behind an empty message");
	expect(empty_dgram[0], "first", "a datagram");
	expect(empty_dgram[0], "", "an empty datagram");
	expect_error(empty_dgram[0], EAGAIN, "nothing behind an empty datagram");
}

/* --- paths of unix sockets that have gone --------------------------------------------------- */

static int relative, removed, twice[2], twice_client[2], twice_server[2], orphan, orphan_client,
	orphan_server, loose[2];
static char twice_path[108], gone_path[3][108];

static void at_path(struct sockaddr_un *a, const char *name)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s", v_dir(), name) >=
	    (int)sizeof(a->sun_path))
		v_skip("the directory's name is too long for a socket");
	unlink(a->sun_path);
}

static int bound_to(int type, const struct sockaddr_un *a)
{
	int sk = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (sk < 0 || bind(sk, (const void *)a, sizeof(*a)))
		v_die("bind %s", a->sun_path);
	return sk;
}

static int connected_to(int type, const struct sockaddr_un *a)
{
	int sk = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (sk < 0 || connect(sk, (const void *)a, sizeof(*a)))
		v_die("connect %s", a->sun_path);
	return sk;
}

static int bound_relative(const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	strcpy(a.sun_path, name);
	unlink(name);
	return bound_to(SOCK_DGRAM, &a);
}

/* Two sockets, one path. */
static void twice_setup(void)
{
	struct sockaddr_un a;

	for (int i = 0; i < 2; i++) {
		at_path(&a, "twice");
		twice[i] = bound_to(SOCK_STREAM, &a);
		if (listen(twice[i], 3))
			v_die("listen");
		twice_client[i] = connected_to(SOCK_STREAM, &a);
		twice_server[i] = accept(twice[i], NULL, NULL);
		say(twice_client[i], i ? "second" : "first");
	}
	strcpy(twice_path, a.sun_path);
}

static void orphans_setup(void)
{
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};
	struct sockaddr_un a;
	int one;

	at_path(&a, "listened");
	strcpy(gone_path[0], a.sun_path);
	one = bound_to(SOCK_STREAM, &a);
	if (listen(one, 1))
		v_die("listen");
	orphan_client = connected_to(SOCK_STREAM, &a);
	orphan_server = accept(one, NULL, NULL);
	close(one);
	unlink(a.sun_path);
	at_path(&a, "orphan");
	strcpy(gone_path[1], a.sun_path);
	orphan = bound_to(SOCK_DGRAM, &a);
	one = connected_to(SOCK_DGRAM, &a);
	say(one, "from nobody");
	close(one);
	unlink(a.sun_path);
	make_pair(SOCK_DGRAM, loose);
	if (connect(loose[1], &nobody, sizeof(nobody)))
		v_die("disconnect");
	say(loose[0], "loose");
}

static void unixpaths_setup(void)
{
	struct sockaddr_un a;

	at_path(&a, "removed");
	strcpy(gone_path[2], a.sun_path);
	if (chdir(v_dir()))
		v_die("chdir");
	relative = bound_relative("relative");
	removed = bound_relative("removed");
	unlink("removed");
	if (chdir("/"))
		v_die("chdir");
	twice_setup();
	orphans_setup();
}

static void expect_name(int sk, const char *name)
{
	struct sockaddr_un a = {0};
	socklen_t len = sizeof(a);

	if (getsockname(sk, (void *)&a, &len) || strcmp(a.sun_path, name) != 0)
		v_bad("edges: a socket is called '%s', not '%s'", a.sun_path, name);
}

static void unixpaths_check(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int sk = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	expect_name(relative, "relative");
	expect_name(removed, "removed");
	expect_name(twice[0], twice_path);
	expect_name(twice[1], twice_path);
	snprintf(a.sun_path, sizeof(a.sun_path), "%.90s/relative", v_dir());
	if (connect(sk, (void *)&a, sizeof(a)))
		v_bad("edges: what was bound by a relative name is not there: %s",
		      strerrordesc_np(errno));
	close(sk);
	for (int i = 0; i < 3; i++)
		if (access(gone_path[i], F_OK) == 0)
			v_bad("edges: %s is there again", gone_path[i]);
}

static void unixpaths_finish(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct pollfd p[2] = {{.fd = twice[0], .events = POLLIN},
			      {.fd = twice[1], .events = POLLIN}};

	expect(twice_server[0], "first", "of the one that was bound first");
	expect(twice_server[1], "second", "of the one that was bound again");
	strcpy(a.sun_path, twice_path);
	connected_to(SOCK_STREAM, &a);
	if (poll(p, 2, 0) != 1 || !p[1].revents)
		v_bad("edges: a path that was bound twice leads to the wrong socket");
	say(orphan_client, "ping");
	expect(orphan_server, "ping", "a connection whose listening socket is gone");
	expect(orphan, "from nobody", "one whose path is gone");
	expect(loose[1], "loose", "one that has let go of its peer");
	say(loose[0], "again");
	expect(loose[1], "again", "one that has let go of its peer, later");
}

/* --- options -------------------------------------------------------------------------------- */

enum { SK_LISTENS, SK_UDP, SK_UDP6, SK_UNIX, SK_PAIR, SK_COUNT };

/* Numbers of headers that may be older. */
static const struct {
	int level, name, kinds;
} options[] = {
	{SOL_SOCKET, SO_TIMESTAMPNS, 1 << SK_UNIX | 1 << SK_UDP | 1 << SK_LISTENS},
	{SOL_SOCKET, 37 /* SO_TIMESTAMPING */, 1 << SK_UDP},
	{SOL_SOCKET, 40 /* SO_RXQ_OVFL */, 1 << SK_UDP | 1 << SK_UNIX},
	{SOL_SOCKET, 47 /* SO_MAX_PACING_RATE */, 1 << SK_LISTENS | 1 << SK_PAIR},
	{SOL_SOCKET, 44 /* SO_LOCK_FILTER */, 1 << SK_UDP},
	{SOL_SOCKET, 76 /* SO_PASSPIDFD */, 1 << SK_UNIX},
	{SOL_TCP, TCP_SYNCNT, 1 << SK_LISTENS | 1 << SK_PAIR},
	{SOL_TCP, TCP_LINGER2, 1 << SK_LISTENS | 1 << SK_PAIR},
	{SOL_TCP, TCP_FASTOPEN, 1 << SK_LISTENS},
	{SOL_TCP, TCP_NOTSENT_LOWAT, 1 << SK_LISTENS | 1 << SK_PAIR},
	{SOL_TCP, TCP_INQ, 1 << SK_PAIR},
	{SOL_IP, IP_RECVTTL, 1 << SK_UDP},
	{SOL_IP, IP_RECVERR, 1 << SK_UDP},
	{SOL_IP, IP_MTU_DISCOVER, 1 << SK_UDP | 1 << SK_PAIR},
	{SOL_IP, IP_TRANSPARENT, 1 << SK_UDP},
	{SOL_IP, IP_MINTTL, 1 << SK_UDP},
	{SOL_IP, IP_MULTICAST_TTL, 1 << SK_UDP},
	{SOL_IP, IP_MULTICAST_LOOP, 1 << SK_UDP},
	{SOL_IPV6, IPV6_RECVPKTINFO, 1 << SK_UDP6},
	{SOL_IPV6, IPV6_RECVTCLASS, 1 << SK_UDP6},
	{SOL_IPV6, IPV6_UNICAST_HOPS, 1 << SK_UDP6},
	{IPPROTO_UDP, 104 /* UDP_GRO */, 1 << SK_UDP | 1 << SK_UDP6},
};

enum { NOPTIONS = sizeof(options) / sizeof(options[0]) };

static int opt_sks[SK_COUNT], want[SK_COUNT][NOPTIONS];
static bool is_set[SK_COUNT][NOPTIONS], joined, joined6;
static struct ip_mreqn group = {.imr_ifindex = 1};
static struct ipv6_mreq group6 = {.ipv6mr_interface = 1};

static int get(int sk, unsigned o)
{
	int v = -1;
	socklen_t len = sizeof(v);

	getsockopt(sk, options[o].level, options[o].name, &v, &len);
	return v;
}

/* Another value than it has, whatever the kernel takes. */
static void change(int kind, unsigned o)
{
	static const int values[] = {1, 3, 0, 77};
	int before = get(opt_sks[kind], o);

	for (unsigned i = 0; i < 4 && !is_set[kind][o]; i++) {
		setsockopt(opt_sks[kind], options[o].level, options[o].name, &values[i],
			   sizeof(values[i]));
		is_set[kind][o] = get(opt_sks[kind], o) != before;
	}
	want[kind][o] = get(opt_sks[kind], o);
}

static void sockopts_setup(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	unsigned nset = 0;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	opt_sks[SK_LISTENS] = l;
	opt_sks[SK_UDP] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	opt_sks[SK_UDP6] = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	opt_sks[SK_UNIX] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	opt_sks[SK_PAIR] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(l, (void *)&a, len) || listen(l, 3) || getsockname(l, (void *)&a, &len) ||
	    connect(opt_sks[SK_PAIR], (void *)&a, len) || accept(l, NULL, NULL) < 0)
		v_die("sockets");
	for (unsigned o = 0; o < NOPTIONS; o++)
		for (int k = 0; k < SK_COUNT; k++)
			if (options[o].kinds & 1 << k) {
				change(k, o);
				nset += is_set[k][o];
			}
	if (nset < 15)
		v_skip("only %u options can be set", nset);
	inet_pton(AF_INET, "239.1.2.3", &group.imr_multiaddr);
	inet_pton(AF_INET6, "ff05::1234", &group6.ipv6mr_multiaddr);
	joined = !setsockopt(opt_sks[SK_UDP], SOL_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group));
	joined6 = !setsockopt(opt_sks[SK_UDP6], SOL_IPV6, IPV6_ADD_MEMBERSHIP, &group6,
			      sizeof(group6));
}

static void sockopts_check(void)
{
	for (unsigned o = 0; o < NOPTIONS; o++)
		for (int k = 0; k < SK_COUNT; k++)
			if (is_set[k][o] && get(opt_sks[k], o) != want[k][o])
				v_bad("edges: socket %d: option %d of level %d is %d, not %d", k,
				      options[o].name, options[o].level, get(opt_sks[k], o),
				      want[k][o]);
	/* Who is in a group cannot join it again. */
	if (joined &&
	    !setsockopt(opt_sks[SK_UDP], SOL_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)))
		v_bad("edges: no longer in the multicast group");
	if (joined6 &&
	    !setsockopt(opt_sks[SK_UDP6], SOL_IPV6, IPV6_ADD_MEMBERSHIP, &group6, sizeof(group6)))
		v_bad("edges: no longer in the multicast group of IPv6");
}

const struct scenario edge_scenarios[] = {
	{"unixends", "unix sockets whose other end is closed, shut down, or was reset",
	 unixends_setup, unixends_check, unixends_finish},
	{"unixpaths", "unix sockets whose paths are gone, or another's, or relative",
	 unixpaths_setup, unixpaths_check, unixpaths_finish},
	{"sockopts", "options of sockets that are plain values, multicast groups", sockopts_setup,
	 sockopts_check},
	{},
};
