/* SPDX-License-Identifier: MIT */
/*
 * How much a TCP connection has received that its program has not, by the kernel's numbers.
 *
 * SIOCINQ and a look at the queue end at the mark of urgent data; this counts on:
 *
 *	"ab", "!" urgent, "cd"		SIOCINQ 2, received 5
 */
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/sockets.h"

struct question {
	struct nlmsghdr h;
	struct inet_diag_req_v2 r;
};

static void fill_question(const struct m_inet *i, struct question *q)
{
	*q = (struct question){
		.h = {.nlmsg_len = sizeof(*q),
		      .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		      .nlmsg_flags = NLM_F_REQUEST},
		.r = {.sdiag_family = (uint8_t)i->family,
		      .sdiag_protocol = IPPROTO_TCP,
		      .idiag_states = UINT32_MAX,
		      .id = {.idiag_sport = htons((uint16_t)i->src_port),
			     .idiag_dport = htons((uint16_t)i->dst_port),
			     .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
	};
	memcpy(q->r.id.idiag_src, i->src_addr, sizeof(q->r.id.idiag_src));
	memcpy(q->r.id.idiag_dst, i->dst_addr, sizeof(q->r.id.idiag_dst));
	if (i->opts.bound_dev)
		q->r.id.idiag_if = if_nametoindex(i->opts.bound_dev);
	else if (i->ifname)
		q->r.id.idiag_if = if_nametoindex(i->ifname);
}

int inet_diag_received(const struct m_inet *i, uint32_t *ret)
{
	cleanup_fd int sk = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	_Alignas(struct nlmsghdr) char buf[4096];
	const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
	struct timeval tv = {.tv_sec = 5};
	struct question q;
	ssize_t n;

	if (sk < 0)
		return -errno;
	fill_question(i, &q);
	setsockopt(sk, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (send(sk, &q, sizeof(q), 0) < 0)
		return -errno;
	do {
		n = recv(sk, buf, sizeof(buf), 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (!NLMSG_OK(h, (size_t)n) || h->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    h->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
		return -ENOENT;
	*ret = ((const struct inet_diag_msg *)NLMSG_DATA(h))->idiag_rqueue;
	return 0;
}
