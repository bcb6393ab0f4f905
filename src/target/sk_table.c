/* SPDX-License-Identifier: MIT */
/* The table of socket options that are plain values. */
#include "src/target/sk_table.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

/* By number: headers are older than kernels. */
enum {
	UDPLITE = 136,
	LEVEL_PACKET = 263,
	LEVEL_ICMPV6 = 58,
	LEVEL_RAW = 255,
};

#define SOCK(number)                     \
	{                                \
		SOL_SOCKET, number, 4, 0 \
	}
#define TCP(number, when)                               \
	{                                               \
		SOL_TCP, number, 4, SK_STREAMS | (when) \
	}
#define IP(number, when)                \
	{                               \
		SOL_IP, number, 4, when \
	}
#define IP6(number, when)                 \
	{                                 \
		SOL_IPV6, number, 4, when \
	}
#define UDP(number)                                \
	{                                          \
		IPPROTO_UDP, number, 4, SK_PACKETS \
	}

/* In the order in which they are set: a filter is locked last. */
static const struct sk_row table[] = {
	SOCK(29),		       /* SO_TIMESTAMP */
	SOCK(35),		       /* SO_TIMESTAMPNS */
	SOCK(37),		       /* SO_TIMESTAMPING */
	SOCK(63),		       /* SO_TIMESTAMP_NEW, Linux 5.1 */
	SOCK(64),		       /* SO_TIMESTAMPNS_NEW */
	SOCK(65),		       /* SO_TIMESTAMPING_NEW */
	SOCK(40),		       /* SO_RXQ_OVFL */
	SOCK(41),		       /* SO_WIFI_STATUS */
	SOCK(43),		       /* SO_NOFCS */
	SOCK(45),		       /* SO_SELECT_ERR_QUEUE */
	SOCK(46),		       /* SO_BUSY_POLL */
	{SOL_SOCKET, 47, 8, 0},	       /* SO_MAX_PACING_RATE */
	SOCK(49),		       /* SO_INCOMING_CPU */
	SOCK(60),		       /* SO_ZEROCOPY */
	{SOL_SOCKET, 61, 8, 0},	       /* SO_TXTIME */
	SOCK(69),		       /* SO_PREFER_BUSY_POLL */
	SOCK(70),		       /* SO_BUSY_POLL_BUDGET */
	SOCK(74),		       /* SO_TXREHASH, Linux 5.18 */
	SOCK(75),		       /* SO_RCVMARK, Linux 5.19 */
	SOCK(76),		       /* SO_PASSPIDFD, Linux 6.5 */
	SOCK(82),		       /* SO_RCVPRIORITY, Linux 6.14 */
	SOCK(83),		       /* SO_PASSRIGHTS, Linux 6.16 */
	SOCK(84),		       /* SO_INQ, Linux 6.17 */
	IP(10, 0),		       /* IP_MTU_DISCOVER */
	IP(11, 0),		       /* IP_RECVERR */
	IP(12, 0),		       /* IP_RECVTTL */
	IP(6, 0),		       /* IP_RECVOPTS */
	IP(7, 0),		       /* IP_RETOPTS */
	IP(13, 0),		       /* IP_RECVTOS */
	IP(18, 0),		       /* IP_PASSSEC */
	IP(19, SK_EARLY),	       /* IP_TRANSPARENT */
	IP(20, 0),		       /* IP_RECVORIGDSTADDR */
	IP(21, 0),		       /* IP_MINTTL */
	IP(23, 0),		       /* IP_CHECKSUM */
	IP(24, SK_EARLY),	       /* IP_BIND_ADDRESS_NO_PORT */
	IP(25, 0),		       /* IP_RECVFRAGSIZE */
	IP(26, 0),		       /* IP_RECVERR_RFC4884 */
	IP(32, SK_DATAGRAMS),	       /* IP_MULTICAST_IF, an address */
	IP(33, SK_DATAGRAMS),	       /* IP_MULTICAST_TTL */
	IP(34, 0),		       /* IP_MULTICAST_LOOP */
	IP(49, 0),		       /* IP_MULTICAST_ALL */
	IP(50, 0),		       /* IP_UNICAST_IF */
	IP(51, SK_EARLY),	       /* IP_LOCAL_PORT_RANGE, Linux 6.3 */
	{SOL_IP, 4, 40, 0},	       /* IP_OPTIONS */
	IP6(16, 0),		       /* IPV6_UNICAST_HOPS */
	IP6(17, SK_DATAGRAMS),	       /* IPV6_MULTICAST_IF */
	IP6(18, SK_DATAGRAMS),	       /* IPV6_MULTICAST_HOPS */
	IP6(19, 0),		       /* IPV6_MULTICAST_LOOP */
	IP6(23, 0),		       /* IPV6_MTU_DISCOVER */
	IP6(25, 0),		       /* IPV6_RECVERR */
	IP6(29, 0),		       /* IPV6_MULTICAST_ALL */
	IP6(31, 0),		       /* IPV6_RECVERR_RFC4884 */
	IP6(33, 0),		       /* IPV6_FLOWINFO_SEND */
	IP6(49, 0),		       /* IPV6_RECVPKTINFO */
	IP6(51, 0),		       /* IPV6_RECVHOPLIMIT */
	IP6(53, 0),		       /* IPV6_RECVHOPOPTS */
	IP6(56, 0),		       /* IPV6_RECVRTHDR */
	IP6(58, 0),		       /* IPV6_RECVDSTOPTS */
	IP6(60, 0),		       /* IPV6_RECVPATHMTU */
	IP6(62, 0),		       /* IPV6_DONTFRAG */
	IP6(66, 0),		       /* IPV6_RECVTCLASS */
	IP6(67, 0),		       /* IPV6_TCLASS */
	IP6(70, 0),		       /* IPV6_AUTOFLOWLABEL */
	IP6(72, 0),		       /* IPV6_ADDR_PREFERENCES */
	IP6(73, 0),		       /* IPV6_MINHOPCOUNT */
	IP6(74, 0),		       /* IPV6_RECVORIGDSTADDR */
	IP6(75, SK_EARLY),	       /* IPV6_TRANSPARENT */
	IP6(76, 0),		       /* IPV6_UNICAST_IF */
	IP6(77, 0),		       /* IPV6_RECVFRAGSIZE */
	IP6(78, SK_EARLY),	       /* IPV6_FREEBIND */
	IP6(7, SK_RAW),		       /* IPV6_CHECKSUM */
	TCP(2, SK_EARLY | SK_UNMADE),  /* TCP_MAXSEG */
	TCP(7, 0),		       /* TCP_SYNCNT */
	TCP(8, 0),		       /* TCP_LINGER2 */
	TCP(9, SK_UNMADE),	       /* TCP_DEFER_ACCEPT */
	TCP(10, SK_EARLY | SK_UNMADE), /* TCP_WINDOW_CLAMP */
	TCP(12, SK_UNMADE),	       /* TCP_QUICKACK */
	TCP(16, 0),		       /* TCP_THIN_LINEAR_TIMEOUTS */
	TCP(17, 0),		       /* TCP_THIN_DUPACK */
	TCP(23, SK_UNMADE),	       /* TCP_FASTOPEN */
	TCP(25, 0),		       /* TCP_NOTSENT_LOWAT */
	TCP(27, 0),		       /* TCP_SAVE_SYN */
	TCP(30, SK_EARLY | SK_UNMADE), /* TCP_FASTOPEN_CONNECT */
	TCP(34, SK_UNMADE),	       /* TCP_FASTOPEN_NO_COOKIE */
	TCP(36, 0),		       /* TCP_INQ */
	TCP(37, 0),		       /* TCP_TX_DELAY */
	TCP(44, 0),		       /* TCP_RTO_MAX_MS, Linux 6.15 */
	TCP(45, 0),		       /* TCP_RTO_MIN_US, Linux 6.17 */
	TCP(46, 0),		       /* TCP_DELACK_MAX_US, Linux 6.17 */
	UDP(1),			       /* UDP_CORK */
	UDP(100),		       /* UDP_ENCAP */
	UDP(101),		       /* UDP_NO_CHECK6_TX */
	UDP(102),		       /* UDP_NO_CHECK6_RX */
	UDP(103),		       /* UDP_SEGMENT */
	UDP(104),		       /* UDP_GRO */
	{UDPLITE, 10, 4, SK_PACKETS},  /* UDPLITE_SEND_CSCOV */
	{UDPLITE, 11, 4, SK_PACKETS},  /* UDPLITE_RECV_CSCOV */
	{LEVEL_RAW, 1, 4, SK_RAW},     /* ICMP_FILTER */
	{LEVEL_ICMPV6, 1, 32, SK_RAW}, /* ICMPV6_FILTER */
	{LEVEL_PACKET, 20, 4, 0},      /* PACKET_QDISC_BYPASS */
	{LEVEL_PACKET, 23, 4, 0},      /* PACKET_IGNORE_OUTGOING */
	SOCK(44),		       /* SO_LOCK_FILTER */
};

static_assert(sizeof(table) / sizeof(table[0]) <= SK_ROWS_MAX, "callers have room for so many");

const struct sk_row *sk_rows(size_t *ret_n)
{
	*ret_n = sizeof(table) / sizeof(table[0]);
	return table;
}

const struct sk_row *sk_row_find(uint32_t level, uint32_t name)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if ((uint32_t)table[i].level == level && (uint32_t)table[i].name == name)
			return &table[i];
	return NULL;
}

bool sk_row_read(const struct sk_row *row, int sk, struct m_sk_opt *ret)
{
	socklen_t len = row->len;

	*ret = (struct m_sk_opt){.level = (uint32_t)row->level, .name = (uint32_t)row->name};
	if (getsockopt(sk, row->level, row->name, ret->value, &len) < 0)
		return false;
	/* Some of IP's are given as one byte where there is room for more. */
	ret->len = len;
	return true;
}

bool sk_row_fits(const struct sk_row *row, int family, int type, int proto)
{
	bool inet = family == AF_INET || family == AF_INET6;

	if (row->level == SOL_SOCKET)
		return true;
	if (row->level == LEVEL_PACKET)
		return family == AF_PACKET;
	if (!inet || (row->level == SOL_IPV6 && family != AF_INET6))
		return false;
	if (row->when & SK_DATAGRAMS && type == SOCK_STREAM)
		return false;
	if (row->when & SK_STREAMS)
		return proto == IPPROTO_TCP;
	if (row->when & SK_PACKETS)
		return type == SOCK_DGRAM &&
		       (proto == row->level || (proto == UDPLITE && row->level == IPPROTO_UDP));
	return !(row->when & SK_RAW) || type == SOCK_RAW;
}
