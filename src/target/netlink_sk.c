/* SPDX-License-Identifier: MIT */
/* Netlink and packet sockets of a tree. */
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "src/target/sockets.h"

static int nomem(const struct proc_at *at, uint32_t fd, struct err *err)
{
	return err_set(err, ENOMEM, "socket fd %u of pid %u", fd, at->pid);
}

static bool is_set(int sk, int name)
{
	return sk_int(sk, SOL_NETLINK, name) != 0;
}

static int read_groups(struct files *f, int sk, struct m_netlink *n)
{
	socklen_t len = 0;

	if (getsockopt(sk, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, NULL, &len) < 0 || !len)
		return 0;
	n->groups = model_alloc(f->m, len + 4);
	if (!n->groups)
		return -ENOMEM;
	if (getsockopt(sk, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, n->groups, &len) < 0)
		return 0;
	/* There are words behind the last group, and CRIU takes one word. */
	n->ngroups = len / 4;
	while (n->ngroups && !n->groups[n->ngroups - 1])
		n->ngroups--;
	return 0;
}

/* The kernel's answers to what was asked before: whoever asks again gets them again. */
static int netlink_findings(struct files *f, const struct proc_at *at, uint32_t fd, int sk,
			    struct err *err)
{
	char byte;
	ssize_t n = recv(sk, &byte, 1, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC);

	return n > 0 && finding_passing(f->m, at->pid,
					"fd %u: netlink socket with messages that nobody has read: "
					"not supported: try again later",
					fd) < 0
		       ? nomem(at, fd, err)
		       : 0;
}

int netlink_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		 struct m_file *file, struct err *err)
{
	struct m_netlink *n = model_alloc(f->m, sizeof(*n));
	struct sockaddr_nl addr = {0};
	socklen_t len = sizeof(addr);
	int ret;

	if (!n || read_groups(f, dup, n) < 0)
		return nomem(at, fd, err);
	n->type = (uint32_t)sk_int(dup, SOL_SOCKET, SO_TYPE);
	n->protocol = (uint32_t)sk_int(dup, SOL_SOCKET, SO_PROTOCOL);
	n->state = M_SK_CLOSE;
	if (getsockname(dup, (struct sockaddr *)&addr, &len) == 0)
		n->portid = addr.nl_pid;
	len = sizeof(addr);
	if (getpeername(dup, (struct sockaddr *)&addr, &len) == 0) {
		n->dst_portid = addr.nl_pid;
		n->dst_group = addr.nl_groups;
	}
	n->pktinfo = is_set(dup, NETLINK_PKTINFO);
	n->broadcast_error = is_set(dup, NETLINK_BROADCAST_ERROR);
	n->no_enobufs = is_set(dup, NETLINK_NO_ENOBUFS);
	n->cap_ack = is_set(dup, NETLINK_CAP_ACK);
	n->ext_ack = is_set(dup, NETLINK_EXT_ACK);
	n->strict = is_set(dup, NETLINK_GET_STRICT_CHK);
	file->nlsk = n;
	ret = sk_opts_read(f, at, fd, dup, &n->opts, err);
	if (ret == 0)
		ret = sk_error_finding(f, at->pid, fd, dup, err);
	return ret ? ret : netlink_findings(f, at, fd, dup, err);
}

static const char *packet_lost(int sk)
{
	struct tpacket_req3 req;
	socklen_t len = sizeof(req);

	if (sk_int(sk, SOL_PACKET, PACKET_FANOUT))
		return "packet socket in a fanout group";
	/* A ring cannot be asked for, but what it takes is not the plain version. */
	if (sk_int(sk, SOL_PACKET, PACKET_VERSION) != TPACKET_V1 ||
	    getsockopt(sk, SOL_PACKET, PACKET_RX_RING, &req, &len) == 0)
		return "packet socket that may have a ring";
	return NULL;
}

int packet_look(struct files *f, const struct proc_at *at, uint32_t fd, int dup,
		struct m_file *file, struct err *err)
{
	struct m_packet_sk *p = model_alloc(f->m, sizeof(*p));
	const char *lost = packet_lost(dup);
	struct sockaddr_ll addr = {0};
	socklen_t len = sizeof(addr);
	int ret;

	if (!p)
		return nomem(at, fd, err);
	p->type = (uint32_t)sk_int(dup, SOL_SOCKET, SO_TYPE);
	if (getsockname(dup, (struct sockaddr *)&addr, &len) == 0) {
		p->protocol = addr.sll_protocol;
		p->ifindex = addr.sll_ifindex > 0 ? (uint32_t)addr.sll_ifindex : 0;
	}
	p->version = (uint32_t)sk_int(dup, SOL_PACKET, PACKET_VERSION);
	p->reserve = (uint32_t)sk_int(dup, SOL_PACKET, PACKET_RESERVE);
	p->aux_data = sk_int(dup, SOL_PACKET, PACKET_AUXDATA) != 0;
	p->orig_dev = sk_int(dup, SOL_PACKET, PACKET_ORIGDEV) != 0;
	p->vnet_hdr = sk_int(dup, SOL_PACKET, PACKET_VNET_HDR) != 0;
	p->loss = sk_int(dup, SOL_PACKET, PACKET_LOSS) != 0;
	p->timestamp = (uint32_t)sk_int(dup, SOL_PACKET, PACKET_TIMESTAMP);
	file->psk = p;
	if (lost && finding_fatal(f->m, at->pid, "fd %u: %s: not supported", fd, lost) < 0)
		return nomem(at, fd, err);
	ret = sk_error_finding(f, at->pid, fd, dup, err);
	return ret ? ret : sk_opts_read(f, at, fd, dup, &p->opts, err);
}
