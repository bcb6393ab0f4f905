/* SPDX-License-Identifier: MIT */
/* Packets of connections held back and let go again, in a net namespace of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/target/netlock.h"

static struct model model = {.net_lock = M_NET_LOCK_NFTABLES,
			     .run_id = "01234567-89ab-4cde-8f01-23456789abcd"};
static struct err err;

/* A connection; both ends, and what the model has of @sk[0]. */
struct conn {
	int sk[2];
	struct m_inet i;
};

union any {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static void take(const union any *a, uint8_t addr[16], uint32_t *port)
{
	if (a->any.sa_family == AF_INET)
		memcpy(addr, &a->in.sin_addr, 4);
	else
		memcpy(addr, &a->in6.sin6_addr, 16);
	*port = ntohs(a->any.sa_family == AF_INET ? a->in.sin_port : a->in6.sin6_port);
}

static struct conn connection(int family, const char *addr)
{
	struct conn c = {.i = {.family = (uint32_t)family, .proto = IPPROTO_TCP}};
	int l = socket(family, SOCK_STREAM, 0);
	union any a = {.any.sa_family = (sa_family_t)family};
	socklen_t len = sizeof(a);

	assert_int_equal(
		inet_pton(family, addr,
			  family == AF_INET ? (void *)&a.in.sin_addr : (void *)&a.in6.sin6_addr),
		1);
	assert_int_equal(bind(l, &a.any, family == AF_INET ? sizeof(a.in) : sizeof(a.in6)), 0);
	assert_int_equal(listen(l, 1), 0);
	assert_int_equal(getsockname(l, &a.any, &len), 0);
	c.sk[0] = socket(family, SOCK_STREAM, 0);
	assert_int_equal(connect(c.sk[0], &a.any, len), 0);
	c.sk[1] = accept(l, NULL, NULL);
	assert_true(c.sk[1] >= 0);
	close(l);
	take(&a, c.i.dst_addr, &c.i.dst_port);
	len = sizeof(a);
	assert_int_equal(getsockname(c.sk[0], &a.any, &len), 0);
	take(&a, c.i.src_addr, &c.i.src_port);
	return c;
}

static void end(struct conn *c)
{
	close(c->sk[0]);
	close(c->sk[1]);
}

static bool comes(int sk, int ms)
{
	struct pollfd p = {.fd = sk, .events = POLLIN};
	char byte;

	return poll(&p, 1, ms) == 1 && recv(sk, &byte, 1, 0) == 1;
}

/* Both ways; one byte each. */
static void passes(const struct conn *c, bool wanted)
{
	assert_int_equal(send(c->sk[0], "x", 1, 0), 1);
	assert_int_equal(send(c->sk[1], "x", 1, 0), 1);
	assert_int_equal(comes(c->sk[1], wanted ? 5000 : 100), wanted);
	assert_int_equal(comes(c->sk[0], wanted ? 5000 : 100), wanted);
}

/* What was sent in vain is sent again. */
static void arrives(const struct conn *c)
{
	assert_true(comes(c->sk[1], 5000));
	assert_true(comes(c->sk[0], 5000));
}

static void each_family(int family, const char *addr)
{
	struct conn held = connection(family, addr), other = connection(family, addr);
	const struct m_inet *list[] = {&held.i};
	int fd;

	passes(&held, true);
	fd = netlock_hold(&model, list, 1, &err);
	if (fd < 0)
		fail_msg("%s", err.msg);
	passes(&held, false);
	passes(&other, true);
	/* From the one to the other without a gap. */
	assert_int_equal(netlock_keep(&model, list, 1, &err), 0);
	close(fd);
	assert_false(comes(held.sk[1], 400));
	passes(&other, true);
	assert_int_equal(netlock_release(&model, &err), 0);
	arrives(&held);
	passes(&held, true);
	/* The first alone ends with its descriptor. */
	fd = netlock_hold(&model, list, 1, &err);
	assert_true(fd >= 0);
	passes(&held, false);
	close(fd);
	arrives(&held);
	assert_int_equal(netlock_release(&model, &err), 0);
	end(&held);
	end(&other);
}

static void families(void **state)
{
	each_family(AF_INET, "127.0.0.1");
	each_family(AF_INET6, "::1");
	each_family(AF_INET6, "::ffff:127.0.0.1");
}

/* More than go into one message, of both families. */
static void many(void **state)
{
	enum { N = 3000 };
	struct conn a = connection(AF_INET, "127.0.0.1"), b = connection(AF_INET6, "::1");
	struct m_inet *far = calloc(N, sizeof(*far));
	const struct m_inet **list = calloc(N, sizeof(*list));
	int fd;

	assert_non_null(far);
	assert_non_null(list);
	for (uint32_t i = 0; i < N; i++) {
		far[i] = i % 2 ? a.i : b.i;
		far[i].dst_addr[3] = (uint8_t)(i >> 8);
		far[i].dst_addr[2] = (uint8_t)i;
		far[i].dst_addr[1] = 9;
		list[i] = &far[i];
	}
	list[N - 1] = &a.i;
	list[N - 2] = &b.i;
	fd = netlock_hold(&model, list, N, &err);
	if (fd < 0)
		fail_msg("%s", err.msg);
	passes(&a, false);
	passes(&b, false);
	close(fd);
	arrives(&a);
	arrives(&b);
	end(&a);
	end(&b);
	free(far);
	free(list);
}

static void names(void **state)
{
	struct m_proc root = {.pid = 4711};
	struct model m = {.nprocs = 1, .procs = &root, .net_lock = M_NET_LOCK_NFTABLES};
	char name[NETLOCK_NAME_MAX];

	netlock_name(&model, name);
	assert_string_equal(name, "CRIU-01234567-89ab-4cde-8f01-23456789abcd");
	netlock_name(&m, name);
	assert_string_equal(name, "CRIU-4711");
	m.net_lock = M_NET_LOCK_SKIP;
	netlock_name(&m, name);
	assert_string_equal(name, "");
	assert_int_equal(netlock_release(&m, &err), 0);
}

static void twice(void **state)
{
	struct conn a = connection(AF_INET, "127.0.0.1");
	const struct m_inet *list[] = {&a.i};

	assert_int_equal(netlock_keep(&model, list, 1, &err), 0);
	assert_int_equal(netlock_keep(&model, list, 1, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "table inet CRIU-01234567"));
	assert_int_equal(netlock_release(&model, &err), 0);
	assert_int_equal(netlock_release(&model, &err), 0);
	passes(&a, true);
	end(&a);
}

static int own_net(void **state)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int sk;

	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	sk = socket(AF_INET, SOCK_DGRAM, 0);
	if (sk < 0 || ioctl(sk, SIOCSIFFLAGS, &lo) < 0)
		return -1;
	close(sk);
	return 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(families),
		cmocka_unit_test(many),
		cmocka_unit_test(twice),
	};

	if (geteuid() != 0 || netlock_probe() < 0) {
		puts("needs root and nf_tables");
		return 77;
	}
	return cmocka_run_group_tests(tests, own_net, NULL);
}
