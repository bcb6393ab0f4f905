/* SPDX-License-Identifier: MIT */
/*
 * Two ends of a TCP connection that send each other numbered bytes as fast as they can, each of
 * which checks every byte that it gets.
 *
 *	stream serve DIR/NAME -p DIR/PORT		writes its port into a file, accepts one
 *	stream connect DIR/NAME -p DIR/PORT		connects to it
 *	stream pair DIR/NAME				a parent and its child: NAME.a and NAME.b
 *		-f 4|6|mapped	addresses; mapped: an IPv6 socket that speaks IPv4
 *		-n BYTES	the connecting end sends so many and says that there are no more
 *		-F		the accepting end has a socket filter of its own, that lets all pass
 *	stream look DIR/NAME				"SENT GOT ENDED ERROR"
 *
 * What an end knows of itself is in the file it is named after, which it maps: that is looked at
 * without asking it. Ends when that file is gone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 64 << 10, FILTER_LEN = 3 };

struct face {
	uint64_t sent, got;
	uint64_t ended; /* 1: the other side has said that there is no more */
	char error[200];
};

struct end {
	struct face *face;
	int sk;
	uint64_t own, their; /* whose numbers */
	uint64_t limit;	     /* 0: for ever */
	bool filter, silent; /* silent: has sent all */
	uint64_t word_in[PIECE / 8], word_out[PIECE / 8];
	uint32_t have; /* bytes of word_in that are not checked */
};

static const char *path;
static struct face *own_face;

static _Noreturn void fail(const char *what)
{
	snprintf(own_face->error, sizeof(own_face->error),
		 "%s: %s (sent %" PRIu64 ", got %" PRIu64 ")", what, strerror(errno),
		 own_face->sent, own_face->got);
	exit(1);
}

static struct face *show(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct face *f;

	if (fd < 0 || ftruncate(fd, sizeof(*f)) < 0)
		exit(3);
	f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (f == MAP_FAILED)
		exit(3);
	close(fd);
	path = name;
	return own_face = f;
}

/* The bytes of a stream, eight by eight. */
static uint64_t word(uint64_t seed, uint64_t n)
{
	uint64_t x = (n + seed) * 0x9e3779b97f4a7c15u;

	x ^= x >> 29;
	return x * 0xbf58476d1ce4e5b9u;
}

static void send_some(struct end *e)
{
	uint64_t at = e->face->sent, first = at / 8;
	size_t skip = at % 8, len = sizeof(e->word_out) - skip;
	ssize_t n;

	if (e->limit && at + len > e->limit)
		len = e->limit - at;
	for (size_t i = 0; i < sizeof(e->word_out) / 8; i++)
		e->word_out[i] = word(e->own, first + i);
	n = send(e->sk, (char *)e->word_out + skip, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		fail("send");
	if (n > 0)
		e->face->sent += (uint64_t)n;
	if (e->limit && e->face->sent == e->limit) {
		if (shutdown(e->sk, SHUT_WR) < 0)
			fail("shutdown");
		e->silent = true;
	}
}

static void check(struct end *e, size_t len)
{
	uint64_t at = e->face->got;

	for (size_t i = 0; i < len; i++, at++) {
		uint64_t w = word(e->their, at / 8);

		if (((uint8_t *)e->word_in)[i] != ((uint8_t *)&w)[at % 8]) {
			errno = EILSEQ;
			fail("a wrong byte");
		}
	}
	e->face->got = at;
}

static void receive_some(struct end *e)
{
	ssize_t n = recv(e->sk, e->word_in, sizeof(e->word_in), MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		fail("recv");
	if (n > 0)
		check(e, (size_t)n);
	if (n == 0)
		e->face->ended = 1;
}

static void look_at_filter(const struct end *e)
{
	socklen_t n = 0;

	if (e->filter &&
	    (getsockopt(e->sk, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0 || n != FILTER_LEN)) {
		errno = EINVAL;
		fail("the filter is not what it was");
	}
}

static _Noreturn void run(struct end *e)
{
	for (unsigned k = 0;; k++) {
		struct pollfd p = {.fd = e->sk,
				   .events = (short)((e->silent ? 0 : POLLOUT) |
						     (e->face->ended ? 0 : POLLIN))};
		struct stat st;

		if (k % 256 == 0 && stat(path, &st) < 0)
			exit(0);
		if (k % 16 == 0)
			look_at_filter(e);
		if (poll(&p, 1, 200) < 0 && errno != EINTR)
			fail("poll");
		if (e->silent && e->face->ended)
			pause();
		if (!e->silent && p.revents & (POLLOUT | POLLERR))
			send_some(e);
		if (!e->face->ended && p.revents & (POLLIN | POLLERR | POLLHUP))
			receive_some(e);
	}
}

static void own_filter(struct end *e)
{
	/* Lets everything pass, in a way that is known again. */
	static struct sock_filter insns[FILTER_LEN] = {
		{BPF_LD | BPF_W | BPF_LEN, 0, 0, 0},
		{BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 0},
		{BPF_RET | BPF_K, 0, 0, 0x40000},
	};
	struct sock_fprog prog = {FILTER_LEN, insns};

	e->filter = true;
	if (setsockopt(e->sk, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0)
		fail("filter");
}

union any {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static socklen_t address(const char *family, uint16_t port, union any *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (*family == '4') {
		ret->in = (struct sockaddr_in){AF_INET, port, {htonl(INADDR_LOOPBACK)}, {0}};
		return sizeof(ret->in);
	}
	ret->in6.sin6_family = AF_INET6;
	ret->in6.sin6_port = port;
	inet_pton(AF_INET6, *family == '6' ? "::1" : "::ffff:127.0.0.1", &ret->in6.sin6_addr);
	return sizeof(ret->in6);
}

static int listener(const char *family, uint16_t *ret_port)
{
	union any a;
	socklen_t len = address(family, 0, &a);
	int l = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (l < 0 || bind(l, &a.any, len) < 0 || listen(l, 1) < 0 ||
	    getsockname(l, &a.any, &len) < 0)
		exit(77);
	*ret_port = a.any.sa_family == AF_INET ? a.in.sin_port : a.in6.sin6_port;
	return l;
}

static int connected(const char *family, uint16_t port)
{
	union any a;
	socklen_t len = address(family, port, &a);
	int sk = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sk < 0 || connect(sk, &a.any, len) < 0)
		exit(3);
	return sk;
}

static struct end the_end;

static _Noreturn void serve(const char *name, int l, bool filter)
{
	struct end *e = &the_end;

	*e = (struct end){.face = show(name), .own = 1, .their = 1u << 30};
	e->sk = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	if (e->sk < 0)
		fail("accept");
	close(l);
	if (filter)
		own_filter(e);
	run(e);
}

static _Noreturn void use(const char *name, int sk, uint64_t limit)
{
	struct end *e = &the_end;

	*e = (struct end){
		.face = show(name), .own = 1u << 30, .their = 1, .limit = limit, .sk = sk};
	run(e);
}

static int look(const char *name)
{
	const struct face *f = show(name);

	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n", f->sent, f->got, f->ended, f->error);
	return 0;
}

static void tell_port(const char *file, uint16_t port)
{
	char tmp[4096];
	FILE *f;

	snprintf(tmp, sizeof(tmp), "%s.new", file);
	f = fopen(tmp, "w");
	if (!f || fprintf(f, "%u\n", ntohs(port)) < 0 || fclose(f) || rename(tmp, file) < 0)
		exit(3);
}

static uint16_t read_port(const char *file)
{
	FILE *f = fopen(file, "r");
	unsigned port = 0;

	if (!f || fscanf(f, "%u", &port) != 1)
		exit(3);
	fclose(f);
	return htons((uint16_t)port);
}

static _Noreturn void pair(const char *name, const char *family, uint64_t limit, bool filter)
{
	static char a[4096], b[4096];
	uint16_t port;
	int l = listener(family, &port);

	snprintf(a, sizeof(a), "%s.a", name);
	snprintf(b, sizeof(b), "%s.b", name);
	if (fork() == 0) {
		close(l);
		use(b, connected(family, port), limit);
	}
	serve(a, l, filter);
}

int main(int argc, char **argv)
{
	const char *family = "4", *port_file = NULL, *name = argc > 2 ? argv[2] : "";
	uint64_t limit = 0;
	bool filter = false;
	uint16_t port;
	int c, l;

	signal(SIGPIPE, SIG_IGN);
	optind = 3;
	while ((c = getopt(argc, argv, "f:n:p:F")) != -1) {
		if (c == 'f')
			family = optarg;
		else if (c == 'n')
			limit = strtoull(optarg, NULL, 0);
		else if (c == 'p')
			port_file = optarg;
		else if (c == 'F')
			filter = true;
		else
			return 2;
	}
	if (argc > 2 && !strcmp(argv[1], "look"))
		return look(name);
	if (argc > 2 && !strcmp(argv[1], "pair"))
		pair(name, family, limit, filter);
	if (argc > 2 && port_file && !strcmp(argv[1], "connect"))
		use(name, connected(family, read_port(port_file)), limit);
	if (argc > 2 && port_file && !strcmp(argv[1], "serve")) {
		l = listener(family, &port);
		tell_port(port_file, port);
		serve(name, l, filter);
	}
	fprintf(stderr, "usage: stream serve|connect|pair|look FILE [-p PORTFILE] [-f 4|6|mapped] "
			"[-n BYTES] [-F]\n");
	return 2;
}
