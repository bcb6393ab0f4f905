/* SPDX-License-Identifier: MIT */
/* Netlink and packet sockets made again. */
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"

static int no_state(const struct m_file *f, struct err *err)
{
	return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
			"%s: a socket of which the image has no state", make_name(f));
}

/* Only what is to be on, and packet options that are not as they are anyway. */
static int set_if(int sk, int level, int name, int value, const struct m_file *f, struct err *err)
{
	int ret = value ? make_sk_int(sk, level, name, value) : 0;

	return ret ? err_set(err, -ret, "set option %d of %s", name, make_name(f)) : 0;
}

static int join_groups(int sk, const struct m_file *f, struct err *err)
{
	const struct m_netlink *n = f->nlsk;

	for (uint32_t i = 0; i < n->ngroups * 32; i++) {
		if (!(n->groups[i / 32] >> i % 32 & 1))
			continue;
		if (make_sk_int(sk, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int)i + 1) < 0)
			return err_set(err, errno, "join group %u with %s", i + 1, make_name(f));
	}
	return 0;
}

static int netlink_bind(int sk, const struct m_file *f, struct err *err)
{
	const struct m_netlink *n = f->nlsk;
	struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_pid = n->portid};
	struct sockaddr_nl dst = {
		.nl_family = AF_NETLINK, .nl_pid = n->dst_portid, .nl_groups = n->dst_group};

	if (n->portid && bind(sk, (struct sockaddr *)&own, sizeof(own)) < 0) {
		err_set(err, errno, "bind %s to netlink port %u", make_name(f), n->portid);
		err_hint(err, "another program has this port: end it and try again");
		return -err->errnum;
	}
	if ((n->dst_portid || n->dst_group) &&
	    connect(sk, (struct sockaddr *)&dst, sizeof(dst)) < 0)
		return err_set(err, errno, "connect %s to netlink port %u", make_name(f),
			       n->dst_portid);
	return 0;
}

static int netlink_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	const struct m_netlink *n = f->nlsk;
	cleanup_fd int sk = -1;
	int ret;

	if (!n)
		return no_state(f, err);
	sk = socket(AF_NETLINK, (int)n->type | SOCK_CLOEXEC, (int)n->protocol);
	if (sk < 0)
		return err_set(err, errno, "make %s", make_name(f));
	ret = netlink_bind(sk, f, err);
	if (ret == 0)
		ret = join_groups(sk, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_NETLINK, NETLINK_PKTINFO, n->pktinfo, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_NETLINK, NETLINK_BROADCAST_ERROR, n->broadcast_error, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_NETLINK, NETLINK_NO_ENOBUFS, n->no_enobufs, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_NETLINK, NETLINK_CAP_ACK, n->cap_ack, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_NETLINK, NETLINK_EXT_ACK, n->ext_ack, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_NETLINK, NETLINK_GET_STRICT_CHK, n->strict, f, err);
	return ret ? ret : make_put(mk, f->id, take_fd(&sk), err);
}

static int netlink_late(struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	int ret = make_sk_opts(fd, f, &f->nlsk->opts, err);

	return ret ? ret : make_set_flags(fd, f, err);
}

const struct make_row make_netlink = {.open = netlink_open, .late = netlink_late};

/* --- packet --------------------------------------------------------------------------------- */

static int packet_open(struct make *mk, const struct m_file *f, bool late, struct err *err)
{
	const struct m_packet_sk *p = f->psk;
	struct sockaddr_ll addr = {.sll_family = AF_PACKET};
	cleanup_fd int sk = -1;
	int ret;

	if (!p)
		return no_state(f, err);
	/* Without a protocol nothing is received until it is bound. */
	sk = socket(AF_PACKET, (int)p->type | SOCK_CLOEXEC, 0);
	if (sk < 0)
		return err_set(err, errno, "make %s", make_name(f));
	ret = set_if(sk, SOL_PACKET, PACKET_RESERVE, (int)p->reserve, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_PACKET, PACKET_AUXDATA, p->aux_data, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_PACKET, PACKET_ORIGDEV, p->orig_dev, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_PACKET, PACKET_VNET_HDR, p->vnet_hdr, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_PACKET, PACKET_LOSS, p->loss, f, err);
	if (ret == 0)
		ret = set_if(sk, SOL_PACKET, PACKET_TIMESTAMP, (int)p->timestamp, f, err);
	if (ret < 0)
		return ret;
	addr.sll_protocol = (uint16_t)p->protocol;
	addr.sll_ifindex = (int)p->ifindex;
	if ((p->protocol || p->ifindex) && bind(sk, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set(err, errno, "bind %s to network interface %u", make_name(f),
			       p->ifindex);
	return make_put(mk, f->id, take_fd(&sk), err);
}

static int packet_late(struct make *mk, const struct m_file *f, int fd, struct err *err)
{
	int ret = make_sk_opts(fd, f, &f->psk->opts, err);

	return ret ? ret : make_set_flags(fd, f, err);
}

const struct make_row make_packet = {.open = packet_open, .late = packet_late};
