/* SPDX-License-Identifier: MIT */
/*
 * Internet sockets made again.
 *
 * All at once and those that listen first: a connection takes its port whoever has it (TCP_REPAIR),
 * but a port that a connection has is not given to one that wants to listen. Connections stay in
 * repair mode, in which nothing is sent, until the tree is about to run.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "binlog/pr.h"
#include "src/target/make_row.h"
#include "src/target/netlock.h"

enum { IPV4_NODEFRAG = 22 };

union any_addr {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static socklen_t addr_of(const struct m_inet *i, bool dst, union any_addr *ret)
{
	const uint8_t *addr = dst ? i->dst_addr : i->src_addr;
	uint16_t port = htons((uint16_t)(dst ? i->dst_port : i->src_port));

	memset(ret, 0, sizeof(*ret));
	if (i->family == AF_INET) {
		ret->in.sin_family = AF_INET;
		ret->in.sin_port = port;
		memcpy(&ret->in.sin_addr, addr, 4);
		return sizeof(ret->in);
	}
	ret->in6.sin6_family = AF_INET6;
	ret->in6.sin6_port = port;
	memcpy(&ret->in6.sin6_addr, addr, 16);
	if (i->ifname && IN6_IS_ADDR_LINKLOCAL(&ret->in6.sin6_addr))
		ret->in6.sin6_scope_id = if_nametoindex(i->ifname);
	return sizeof(ret->in6);
}

static const char *printed(const struct m_inet *i, bool dst, char ret[64])
{
	char addr[INET6_ADDRSTRLEN];

	inet_ntop((int)i->family, dst ? i->dst_addr : i->src_addr, addr, sizeof(addr));
	snprintf(ret, 64, i->family == AF_INET ? "%s:%u" : "[%s]:%u", addr,
		 dst ? i->dst_port : i->src_port);
	return ret;
}

static bool has_addr(const struct m_inet *i)
{
	for (size_t k = 0; k < sizeof(i->src_addr); k++)
		if (i->src_addr[k])
			return true;
	return i->src_port != 0;
}

static bool is_tcp(const struct m_inet *i)
{
	return i->proto == IPPROTO_TCP;
}

static bool is_connection(const struct make *mk, const struct m_inet *i)
{
	return is_tcp(i) && m_inet_connected(i) && !mk->opts->tcp_close;
}

/* That was one, and is over. */
static bool is_dead(const struct make *mk, const struct m_inet *i)
{
	return is_tcp(i) && ((i->state == M_SK_CLOSE && i->shutdown) ||
			     (m_inet_connected(i) && mk->opts->tcp_close));
}

/* --- options -------------------------------------------------------------------------------- */

struct option {
	int level, name;
	int64_t value; /* -1: none */
};

static int set_options(int sk, const struct m_file *f, const struct option *o, size_t n,
		       struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		int now = 0;
		socklen_t len = sizeof(now);

		if (o[i].value < 0)
			continue;
		if (getsockopt(sk, o[i].level, o[i].name, &now, &len) == 0 && now == o[i].value)
			continue;
		if (make_sk_int(sk, o[i].level, o[i].name, (int)o[i].value) < 0)
			return err_set(err, errno, "set option %d of level %d of %s", o[i].name,
				       o[i].level, make_name(f));
	}
	return 0;
}

static int early_options(int sk, const struct m_file *f, struct err *err)
{
	const struct m_inet *i = f->isk;
	const struct option o[] = {
		{SOL_IPV6, IPV6_V6ONLY, i->family == AF_INET6 ? i->v6only : -1},
		{SOL_IP, IP_FREEBIND, i->freebind},
		{SOL_IP, IP_HDRINCL, i->type == SOCK_RAW ? i->hdrincl : -1},
		/* What is left of old connections must not be in the way. */
		{SOL_SOCKET, SO_REUSEADDR, is_tcp(i) ? 1 : i->opts.reuseaddr},
	};
	int ret = make_sk_early(sk, f, &i->opts, err);

	return ret ? ret : set_options(sk, f, o, sizeof(o) / sizeof(o[0]), err);
}

static int some(uint32_t v)
{
	return v ? (int)v : -1;
}

static int join_groups(int sk, const struct m_file *f, struct err *err)
{
	const struct m_inet *i = f->isk;

	for (uint32_t k = 0; k < i->ngroups; k++) {
		const struct m_sk_group *g = &i->groups[k];
		struct ip_mreqn v4 = {.imr_ifindex = (int)if_nametoindex(g->ifname)};
		struct ipv6_mreq v6 = {.ipv6mr_interface = (unsigned)v4.imr_ifindex};
		int ret;

		memcpy(&v4.imr_multiaddr, g->addr, 4);
		memcpy(&v6.ipv6mr_multiaddr, g->addr, 16);
		if (!v4.imr_ifindex)
			return err_set(err, errno,
				       "%s is in a multicast group on interface %s, which is "
				       "not there",
				       make_name(f), g->ifname);
		ret = g->len == 4 ? setsockopt(sk, SOL_IP, IP_ADD_MEMBERSHIP, &v4, sizeof(v4))
				  : setsockopt(sk, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &v6, sizeof(v6));
		if (ret < 0 && errno != EADDRINUSE)
			return err_set(err, errno, "join a multicast group on %s for %s", g->ifname,
				       make_name(f));
	}
	return 0;
}

static int late_options(int sk, const struct m_file *f, struct err *err)
{
	const struct m_inet *i = f->isk;
	const struct option ip[] = {
		{SOL_IP, IP_PKTINFO, i->pktinfo},
		{SOL_IP, IP_TOS, i->tos},
		{SOL_IP, IP_TTL, some(i->ttl)},
		{SOL_IP, IPV4_NODEFRAG, i->nodefrag ? 1 : -1},
	};
	const struct option tcp[] = {
		{SOL_TCP, TCP_KEEPIDLE, some(i->keepidle)},
		{SOL_TCP, TCP_KEEPINTVL, some(i->keepintvl)},
		{SOL_TCP, TCP_KEEPCNT, some(i->keepcnt)},
		{SOL_TCP, TCP_USER_TIMEOUT, i->user_timeout},
		{SOL_TCP, TCP_DEFER_ACCEPT, i->state == M_SK_LISTEN ? (int)i->defer_accept : -1},
		{SOL_TCP, TCP_NODELAY, i->nodelay},
		{SOL_TCP, TCP_CORK, i->cork},
	};
	int ret = set_options(sk, f, ip, sizeof(ip) / sizeof(ip[0]), err);

	if (ret == 0 && i->has_tcp)
		ret = set_options(sk, f, tcp, sizeof(tcp) / sizeof(tcp[0]), err);
	if (ret == 0 && i->congestion)
		setsockopt(sk, SOL_TCP, TCP_CONGESTION, i->congestion,
			   (socklen_t)strlen(i->congestion));
	if (ret == 0)
		ret = join_groups(sk, f, err);
	if (ret == 0)
		ret = make_sk_opts(sk, f, &i->opts, err);
	return ret ? ret : make_set_flags(sk, f, err);
}

/* --- making --------------------------------------------------------------------------------- */

static int new_socket(const struct m_file *f, struct err *err)
{
	const struct m_inet *i = f->isk;
	int sk = socket((int)i->family, (int)i->type | SOCK_CLOEXEC, (int)i->proto);

	return sk < 0 ? err_set(err, errno, "make %s", make_name(f)) : sk;
}

static int bind_to(int sk, const struct m_file *f, struct err *err)
{
	union any_addr a;
	socklen_t len = addr_of(f->isk, false, &a);
	char text[64];

	if (!has_addr(f->isk) || bind(sk, &a.any, len) == 0)
		return 0;
	err_set(err, errno, "bind %s to %s %s", make_name(f),
		is_tcp(f->isk) ? "TCP address" : "address", printed(f->isk, false, text));
	if (err->errnum == EADDRINUSE)
		err_hint(err, "another program has this address: end it and try again");
	else if (err->errnum == EADDRNOTAVAIL)
		err_hint(err, "no network interface of this machine has this address");
	return -err->errnum;
}

static int connect_to(int sk, const struct m_file *f, struct err *err)
{
	union any_addr a;
	socklen_t len = addr_of(f->isk, true, &a);
	char text[64];

	if (connect(sk, &a.any, len) == 0)
		return 0;
	err_set(err, errno, "connect %s to %s", make_name(f), printed(f->isk, true, text));
	if (is_tcp(f->isk) && err->errnum == EADDRNOTAVAIL)
		err_hint(err, "what is left of the old connection is still there: it is gone "
			      "after a minute");
	return -err->errnum;
}

/* A connection that is over: reads give the end, writes fail. */
static int make_dead(const struct m_file *f, struct err *err)
{
	struct linger reset = {.l_onoff = 1};
	cleanup_fd int l = new_socket(f, err);
	cleanup_fd int sk = l < 0 ? l : new_socket(f, err);
	union any_addr a = {.any.sa_family = (sa_family_t)f->isk->family};
	socklen_t len = f->isk->family == AF_INET ? sizeof(a.in) : sizeof(a.in6);
	int other, drop = 0;

	if (sk < 0)
		return sk;
	if (f->isk->family == AF_INET)
		a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a.in6.sin6_addr = in6addr_loopback;
	if (bind(l, &a.any, len) < 0 || listen(l, 1) < 0 || getsockname(l, &a.any, &len) < 0 ||
	    connect(sk, &a.any, len) < 0)
		return err_set(err, errno, "make %s, a connection that is over", make_name(f));
	other = accept(l, NULL, NULL);
	if (other < 0)
		return err_set(err, errno, "make %s, a connection that is over", make_name(f));
	setsockopt(other, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(other);
	/* That it was reset the program knows already, or is to find out by an end. */
	len = sizeof(drop);
	getsockopt(sk, SOL_SOCKET, SO_ERROR, &drop, &len);
	return take_fd(&sk);
}

static int make_one(struct make *mk, const struct m_file *f, struct err *err)
{
	const struct m_inet *i = f->isk;
	cleanup_fd int sk = -1;
	int ret;

	if (is_dead(mk, i)) {
		sk = make_dead(f, err);
		return sk < 0 ? sk : make_put(mk, f->id, take_fd(&sk), err);
	}
	sk = new_socket(f, err);
	ret = sk < 0 ? sk : early_options(sk, f, err);
	if (ret == 0 && is_connection(mk, i))
		ret = make_tcp_begin(mk->m, sk, f, err);
	if (ret == 0)
		ret = bind_to(sk, f, err);
	if (ret == 0 && m_inet_connected(i))
		ret = connect_to(sk, f, err);
	if (ret == 0 && is_connection(mk, i))
		ret = make_tcp_connect(sk, f, err);
	if (ret == 0 && is_tcp(i) && i->state == M_SK_LISTEN && listen(sk, (int)i->backlog) < 0)
		ret = err_set(err, errno, "listen on %s", make_name(f));
	return ret ? ret : make_put(mk, f->id, take_fd(&sk), err);
}

static int inet_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	int ret = 0;

	if (!f->isk)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"%s: an internet socket of which the image has no state",
				make_name(f));
	if (mk->inet_opened)
		return err_set(err, EINVAL, "make %s", make_name(f));
	mk->inet_opened = true;
	for (int connections = 0; connections < 2; connections++) {
		for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++) {
			const struct m_file *e = &mk->m->files[i];

			if (e->type == M_FILE_INETSK && e->isk && mk->made[i].wanted &&
			    is_connection(mk, e->isk) == (connections == 1))
				ret = make_one(mk, e, err);
		}
	}
	return ret;
}

static int inet_late(struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	const struct m_inet *i = f->isk;

	/* Leaving repair mode would undo some of them. */
	if (is_connection(mk, i))
		return 0;
	if (!is_tcp(i) && i->shutdown & M_SK_SHUT_READ)
		shutdown(fd, SHUT_RD);
	return late_options(fd, f, err);
}

/* One step for every connection. */
static int each(struct make *mk,
		int (*step)(const struct model *m, int sk, const struct m_file *f, struct err *err),
		struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];

		if (f->type == M_FILE_INETSK && f->isk && mk->made[i].fd >= 0 &&
		    is_connection(mk, f->isk))
			ret = step(mk->m, mk->made[i].fd, f, err);
	}
	return ret;
}

static int go_on(const struct model *m, int sk, const struct m_file *f, struct err *err)
{
	int ret = make_tcp_rest(m, sk, f, err);

	return ret ? ret : late_options(sk, f, err);
}

/* Without the right to do so the tree comes back all the same where no connection depends on it. */
static int let_pass(const struct make *mk, struct err *err)
{
	struct err why = {0};
	int ret = netlock_release(mk->m, &why);

	if (ret == -EPERM && mk->opts->tcp_close) {
		pr_warn("%s\n", why.msg);
		return 0;
	}
	return ret < 0 ? err_take(err, &why) : 0;
}

/* All connections leave repair mode before the first byte is sent on one of them. */
int make_release(struct make *mk, struct err *err)
{
	int ret = each(mk, make_tcp_refill, err);

	if (ret == 0)
		ret = let_pass(mk, err);
	if (ret == 0)
		ret = each(mk, make_tcp_let_go, err);
	return ret ? ret : each(mk, go_on, err);
}

const struct make_row make_inet = {
	.open = inet_open,
	.late = inet_late,
};
