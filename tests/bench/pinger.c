/* SPDX-License-Identifier: MIT */
/*
 * A client of redis that reads and writes all the time, and says how long it had to wait at worst.
 *
 *	pinger PORT KEYS PAUSE_US	until standard input ends; then one JSON object
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NCLASSES = 100000, CLASS_NS = 10000 };

static uint32_t waits[NCLASSES];

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

static int dial(unsigned port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		perror("pinger: connect");
		exit(1);
	}
	return fd;
}

/* One command of @len bytes; its answer is a line, or a length and so many bytes. */
static void talk(int fd, const char *command, size_t len)
{
	char buf[65536];
	size_t have = 0;

	if (write(fd, command, len) != (ssize_t)len) {
		perror("pinger: write");
		exit(1);
	}
	for (;;) {
		ssize_t n = read(fd, buf + have, sizeof(buf) - 1 - have);
		char *end;

		if (n <= 0) {
			fprintf(stderr, "pinger: the server has closed the connection\n");
			exit(1);
		}
		have += (size_t)n;
		buf[have] = '\0';
		end = strstr(buf, "\r\n");
		if (!end)
			continue;
		if (buf[0] != '$' || buf[1] == '-' ||
		    have >= (size_t)(end - buf) + 2 + (size_t)atol(buf + 1) + 2)
			return;
	}
}

static void ask(int fd, uint64_t key, bool put)
{
	char name[32], command[256];
	int n = snprintf(name, sizeof(name), "key:%llu", (unsigned long long)key), len;

	if (put)
		len = snprintf(command, sizeof(command),
			       "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$20\r\n%020llu\r\n", n, name,
			       (unsigned long long)now_ns());
	else
		len = snprintf(command, sizeof(command), "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", n,
			       name);
	talk(fd, command, (size_t)len);
}

int main(int argc, char **argv)
{
	uint64_t keys, pause_us, s = 42, worst = 0, n = 0, seen = 0, begin = now_ns();
	struct pollfd in = {.fd = 0, .events = POLLIN};
	unsigned c = 0;
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: pinger PORT KEYS PAUSE_US\n");
		return 2;
	}
	fd = dial((unsigned)atoi(argv[1]));
	keys = strtoull(argv[2], NULL, 10);
	pause_us = strtoull(argv[3], NULL, 10);
	prctl(PR_SET_TIMERSLACK, 1000);
	for (; n % 64 || poll(&in, 1, 0) == 0; n++) {
		uint64_t t0 = now_ns(), wait;

		s = s * 6364136223846793005ULL + 1442695040888963407ULL;
		ask(fd, (s >> 33) % keys, n % 2);
		wait = now_ns() - t0;
		if (wait > worst)
			worst = wait;
		waits[wait / CLASS_NS < NCLASSES ? wait / CLASS_NS : NCLASSES - 1]++;
		if (pause_us)
			usleep((useconds_t)pause_us);
	}
	for (seen = waits[0]; c < NCLASSES - 1 && seen * 100 < n * 99; seen += waits[c])
		c++;
	printf("{\"worst_ns\":%llu,\"p99_ns\":%llu,\"requests\":%llu,\"seconds\":%.3f}\n",
	       (unsigned long long)worst, (unsigned long long)(c + 1) * CLASS_NS,
	       (unsigned long long)n, (double)(now_ns() - begin) / 1e9);
	return 0;
}
