/* SPDX-License-Identifier: MIT */
/* Internet sockets of a tree: addresses and options. */
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "src/target/sockets.h"

enum {
	NODEFRAG = 22 /* IP_NODEFRAG */,
	UDPLITE = 136,
	ULP = 31 /* TCP_ULP */,
	CORK = 1 /* UDP_CORK */
};

union any_addr {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static int nomem(uint32_t pid, uint32_t fd, struct err *err)
{
	return err_set(err, ENOMEM, "socket fd %u of pid %u", fd, pid);
}

/* --- addresses ------------------------------------------------------------------------------ */

static void take_addr(const union any_addr *a, uint8_t to[16], uint32_t *port, uint32_t *scope)
{
	if (a->any.sa_family == AF_INET) {
		memcpy(to, &a->in.sin_addr, 4);
		*port = ntohs(a->in.sin_port);
	} else if (a->any.sa_family == AF_INET6) {
		memcpy(to, &a->in6.sin6_addr, 16);
		*port = ntohs(a->in6.sin6_port);
		*scope = a->in6.sin6_scope_id;
	}
}

/* True when it has a peer. */
static bool read_addrs(int sk, struct m_inet *i, uint32_t *ret_scope)
{
	union any_addr a = {0};
	socklen_t len = sizeof(a);

	if (getsockname(sk, &a.any, &len) == 0)
		take_addr(&a, i->src_addr, &i->src_port, ret_scope);
	memset(&a, 0, sizeof(a));
	len = sizeof(a);
	if (getpeername(sk, &a.any, &len) < 0)
		return false;
	take_addr(&a, i->dst_addr, &i->dst_port, ret_scope);
	return true;
}

const char *inet_printed(const struct m_inet *i, bool dst, char ret[64])
{
	char addr[INET6_ADDRSTRLEN];

	inet_ntop((int)i->family, dst ? i->dst_addr : i->src_addr, addr, sizeof(addr));
	snprintf(ret, 64, i->family == AF_INET ? "%s:%u" : "[%s]:%u", addr,
		 dst ? i->dst_port : i->src_port);
	return ret;
}

/* IPv4 inside IPv6 is IPv4 to the other side. */
static const uint8_t *plain(const struct m_inet *i, const uint8_t addr[16], size_t *ret_len)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	*ret_len = i->family == AF_INET ? 4 : 16;
	if (i->family == AF_INET || memcmp(addr, mapped, sizeof(mapped)) != 0)
		return addr;
	*ret_len = 4;
	return addr + 12;
}

static bool same_addr(const struct m_inet *a, const uint8_t x[16], const struct m_inet *b,
		      const uint8_t y[16])
{
	size_t n, m;
	const uint8_t *p = plain(a, x, &n), *q = plain(b, y, &m);

	return n == m && !memcmp(p, q, n);
}

bool inet_are_peers(const struct m_inet *a, const struct m_inet *b)
{
	return a->proto == b->proto && a->src_port == b->dst_port && a->dst_port == b->src_port &&
	       same_addr(a, a->src_addr, b, b->dst_addr) &&
	       same_addr(a, a->dst_addr, b, b->src_addr);
}

/* --- options -------------------------------------------------------------------------------- */

static bool is_set(int sk, int level, int name)
{
	return sk_int(sk, level, name) != 0;
}

static int read_tcp_opts(struct files *f, int sk, struct m_inet *i)
{
	char name[32] = "";
	socklen_t len = sizeof(name) - 1;

	i->has_tcp = true;
	i->cork = is_set(sk, SOL_TCP, TCP_CORK);
	i->nodelay = is_set(sk, SOL_TCP, TCP_NODELAY);
	i->keepcnt = (uint32_t)sk_int(sk, SOL_TCP, TCP_KEEPCNT);
	i->keepidle = (uint32_t)sk_int(sk, SOL_TCP, TCP_KEEPIDLE);
	i->keepintvl = (uint32_t)sk_int(sk, SOL_TCP, TCP_KEEPINTVL);
	i->user_timeout = (uint32_t)sk_int(sk, SOL_TCP, TCP_USER_TIMEOUT);
	i->defer_accept = (uint32_t)sk_int(sk, SOL_TCP, TCP_DEFER_ACCEPT);
	if (getsockopt(sk, SOL_TCP, TCP_CONGESTION, name, &len) < 0 || !*name)
		return 0;
	i->congestion = model_strdup(f->m, name);
	return i->congestion ? 0 : -ENOMEM;
}

static void read_ip_opts(int sk, struct m_inet *i)
{
	i->freebind = is_set(sk, SOL_IP, IP_FREEBIND);
	i->pktinfo = is_set(sk, SOL_IP, IP_PKTINFO);
	i->tos = (uint32_t)sk_int(sk, SOL_IP, IP_TOS);
	i->ttl = (uint32_t)sk_int(sk, SOL_IP, IP_TTL);
	if (i->family == AF_INET6)
		i->v6only = is_set(sk, SOL_IPV6, IPV6_V6ONLY);
	if (i->type != SOCK_RAW)
		return;
	i->hdrincl = is_set(sk, SOL_IP, IP_HDRINCL);
	i->nodefrag = is_set(sk, SOL_IP, NODEFRAG);
}

/* --- one socket ----------------------------------------------------------------------------- */

static uint32_t shut_down(int sk)
{
	struct pollfd p = {.fd = sk, .events = POLLRDHUP};

	if (poll(&p, 1, 0) < 1)
		return 0;
	return p.revents & POLLRDHUP ? M_SK_SHUT_READ : 0;
}

void inet_read_state(int sk, struct m_inet *i, bool has_peer)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	i->state = has_peer ? M_SK_ESTABLISHED : M_SK_CLOSE;
	i->shutdown = shut_down(sk);
	if (i->proto != IPPROTO_TCP || getsockopt(sk, SOL_TCP, TCP_INFO, &info, &len) < 0)
		return;
	i->state = info.tcpi_state;
	/* Of a listening one: room for connections and how many wait. */
	if (i->state == M_SK_LISTEN)
		i->backlog = info.tcpi_sacked;
	/* One that never was connected is not shut down. */
	if (i->state == M_SK_CLOSE && i->shutdown)
		i->shutdown = M_SK_SHUT_READ | M_SK_SHUT_WRITE;
}

static int waiting(int sk)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	return getsockopt(sk, SOL_TCP, TCP_INFO, &info, &len) < 0 ? 0 : (int)info.tcpi_unacked;
}

static const char *not_supported(const struct m_inet *i, int sk, bool *ret_passing)
{
	char ulp[16] = "";
	socklen_t len = sizeof(ulp) - 1;
	int n;

	*ret_passing = false;
	switch (i->proto) {
	case IPPROTO_TCP:
		if (getsockopt(sk, SOL_TCP, ULP, ulp, &len) == 0 && *ulp)
			return "TCP socket with an upper layer protocol (TLS in the kernel)";
		*ret_passing = true;
		return i->state == M_SK_LISTEN && waiting(sk)
			       ? "listening TCP socket with connections that wait to be accepted"
			       : NULL;
	case IPPROTO_UDP:
	case UDPLITE:
		*ret_passing = true;
		return sk_int(sk, IPPROTO_UDP, CORK) && ioctl(sk, SIOCOUTQ, &n) == 0 && n
			       ? "UDP socket with a datagram that is not complete (UDP_CORK)"
			       : NULL;
	default:
		return i->type == SOCK_RAW || i->type == SOCK_DGRAM ? NULL : INET_NOT_KNOWN;
	}
}

static int inet_findings(struct files *f, const struct proc_at *at, uint32_t fd, int sk,
			 const struct m_inet *i, struct err *err)
{
	bool passing;
	const char *what = not_supported(i, sk, &passing);
	char src[64];
	int n = 0, ret = 0;

	if (what)
		ret = (passing ? finding_passing
			       : finding_fatal)(f->m, at->pid, "fd %u: %s, %s: not supported", fd,
						what, inet_printed(i, false, src));
	else if (i->type != SOCK_STREAM && ioctl(sk, SIOCINQ, &n) == 0 && n)
		ret = finding_add(
			f->m, at->pid,
			"fd %u: socket %s: datagrams that nobody has read are not carried", fd,
			inet_printed(i, false, src));
	return ret < 0 ? nomem(at->pid, fd, err) : 0;
}

int inet_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup, struct m_file *file,
	      struct err *err)
{
	struct m_inet *i = model_alloc(f->m, sizeof(*i));
	char name[IF_NAMESIZE];
	uint32_t scope = 0;
	int ret = 0;

	if (!i)
		return nomem(at->pid, fd, err);
	i->family = (uint32_t)sk_int(dup, SOL_SOCKET, SO_DOMAIN);
	i->type = (uint32_t)sk_int(dup, SOL_SOCKET, SO_TYPE);
	i->proto = (uint32_t)sk_int(dup, SOL_SOCKET, SO_PROTOCOL);
	inet_read_state(dup, i, read_addrs(dup, i, &scope));
	if (scope && if_indextoname(scope, name)) {
		i->ifname = model_strdup(f->m, name);
		if (!i->ifname)
			return nomem(at->pid, fd, err);
	}
	read_ip_opts(dup, i);
	if (i->proto == IPPROTO_TCP)
		ret = read_tcp_opts(f, dup, i);
	else
		ret = sk_groups_read(f, at->pid, fd, dup, i);
	if (ret < 0)
		return nomem(at->pid, fd, err);
	file->isk = i;
	ret = sk_opts_read(f, at, fd, dup, &i->opts, err);
	return ret ? ret : inet_findings(f, at, fd, dup, i, err);
}
