/* SPDX-License-Identifier: MIT */
/*
 * Scenarios of sockets at their ends: closed, shut down or reset by the other side, what they still
 * have to say.
 *
 * Most of it can be read only once: by the last check.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
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

/* --- ends of unix sockets ------------------------------------------------------------------------
 */

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

const struct scenario edge_scenarios[] = {
	{"unixends", "unix sockets whose other end is closed, shut down, or was reset",
	 unixends_setup, unixends_check, unixends_finish},
	{},
};
