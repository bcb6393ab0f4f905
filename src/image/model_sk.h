/* SPDX-License-Identifier: MIT */
/*
 * Sockets and terminals of a model, as plain data: part of model.h, which includes this.
 *
 * A socket has one open file description, so its struct hangs on its m_file and is named by the
 * file's inode number. Addresses are bytes as in memory; ports are in host order. Socket states are
 * TCP's numbers for every family: 1 established, 7 closed, 10 listening.
 */
#ifndef IMAGE_MODEL_SK_H
#define IMAGE_MODEL_SK_H

#include <stdbool.h>
#include <stdint.h>

enum m_sk_state {
	M_SK_ESTABLISHED = 1,
	M_SK_FIN_WAIT1 = 4,
	M_SK_FIN_WAIT2 = 5,
	M_SK_CLOSE = 7,
	M_SK_CLOSE_WAIT = 8,
	M_SK_LAST_ACK = 9,
	M_SK_LISTEN = 10,
	M_SK_CLOSING = 11,
};

/* What holds back packets of connections from the dump on; CRIU's numbers. */
enum m_net_lock {
	M_NET_LOCK_IPTABLES = 0, /* rules of iptables; also: nothing had to be held */
	M_NET_LOCK_NFTABLES = 1, /* a table that is named after the run */
	M_NET_LOCK_SKIP = 2,	 /* nothing, as was asked for */
};

/* Bits of what was shut down. */
enum { M_SK_SHUT_READ = 1, M_SK_SHUT_WRITE = 2 };

/* An option that is a plain value, of any level, as getsockopt(2) gives it. */
struct m_sk_opt {
	uint32_t level, name, len;
	uint8_t value[40];
};

/* Options of level SOL_SOCKET, as getsockopt(2) gives them: buffers with the kernel's double. */
struct m_sk_opts {
	uint32_t sndbuf, rcvbuf, buf_lock;
	uint64_t snd_tmo_sec, snd_tmo_usec, rcv_tmo_sec, rcv_tmo_usec;
	uint32_t priority, rcvlowat, mark;
	bool reuseaddr, reuseport, passcred, passsec, dontroute, no_check, broadcast, keepalive,
		oobinline, linger_on;
	uint32_t linger;  /* seconds */
	int32_t peek_off; /* SO_PEEK_OFF, -1: off */
	char *bound_dev;  /* NULL: none */
	uint32_t nfilter;
	uint64_t *filter; /* classic BPF: code << 48 | jt << 40 | jf << 32 | k */
	uint32_t nmore;	  /* of all levels: what is not as in a new socket */
	struct m_sk_opt *more;
};

struct m_unix {
	uint32_t type; /* SOCK_* */
	uint32_t state;
	uint32_t backlog;  /* of a listening one */
	uint32_t peer_ino; /* 0: none; of one that waits to be accepted: the listening one's */
	uint32_t place;	   /* of one that waits: among those that do, from 1 */
	uint32_t shutdown; /* M_SK_SHUT_* */
	bool reset;	   /* ECONNRESET is the next thing that it says */
	uint32_t name_len;
	uint8_t *name;		/* sun_path: a first byte 0 is an abstract name */
	uint32_t peer_name_len; /* only of a peer outside of the tree, which is found by it */
	uint8_t *peer_name;
	char *name_dir; /* where a relative name begins, NULL */
	bool has_perms; /* of the path */
	uint32_t perm_mode, perm_uid, perm_gid;
	bool deleted;	   /* the path leads elsewhere by now */
	uint64_t path_ino; /* what it leads to */
	bool has_cred;
	uint32_t cred_pid, cred_uid, cred_gid; /* SO_PEERCRED */
	struct m_sk_opts opts;
};

/*
 * What TCP_REPAIR shows of a connection. The end of a stream, where this side has sent or got it,
 * has a number of its own: inq_seq and outq_seq count it, the lengths do not.
 */
struct m_tcp {
	uint32_t inq_len, inq_seq;
	uint8_t *inq;
	uint32_t outq_len, outq_seq, unsent_len;
	uint8_t *outq;	   /* the last unsent_len bytes of it were never sent */
	uint32_t opt_mask; /* TCPI_OPT_* */
	uint32_t snd_wscale, rcv_wscale, mss_clamp;
	uint32_t timestamp;
	bool has_window;
	uint32_t snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup;
};

/* A multicast group that a socket is in. */
struct m_sk_group {
	uint32_t len; /* of the address: 4 or 16 */
	uint8_t addr[16];
	char *ifname;
};

struct m_inet {
	uint32_t family; /* AF_INET, AF_INET6 */
	uint32_t type, proto, state;
	uint32_t src_port, dst_port;
	uint8_t src_addr[16], dst_addr[16]; /* 4 or 16 bytes of it */
	uint32_t backlog;
	uint32_t shutdown;
	char *ifname; /* of a link-local address, NULL */
	bool v6only, freebind, pktinfo;
	bool hdrincl, nodefrag; /* raw */
	uint32_t tos, ttl;	/* ttl 0: not known */
	bool has_tcp;		/* the five below */
	bool cork, nodelay;
	uint32_t keepcnt, keepidle, keepintvl;
	uint32_t user_timeout, defer_accept, maxseg;
	char *congestion;  /* NULL: not known */
	struct m_tcp *tcp; /* of a connection, NULL: not read */
	uint32_t ngroups;
	struct m_sk_group *groups;
	struct m_sk_opts opts;
};

/* This side has said that it sends no more; the other side has. */
static inline bool m_inet_fin_sent(const struct m_inet *i)
{
	return i->state == M_SK_FIN_WAIT1 || i->state == M_SK_FIN_WAIT2 ||
	       i->state == M_SK_LAST_ACK || i->state == M_SK_CLOSING;
}

static inline bool m_inet_fin_got(const struct m_inet *i)
{
	return i->state == M_SK_CLOSE_WAIT || i->state == M_SK_LAST_ACK || i->state == M_SK_CLOSING;
}

/* Established, or half closed. */
static inline bool m_inet_connected(const struct m_inet *i)
{
	return i->state == M_SK_ESTABLISHED || m_inet_fin_sent(i) || m_inet_fin_got(i);
}

struct m_netlink {
	uint32_t type, protocol, state;
	uint32_t portid, dst_portid, dst_group;
	uint32_t ngroups;
	uint32_t *groups; /* bits */
	bool pktinfo, broadcast_error, no_enobufs, cap_ack, ext_ack, strict;
	struct m_sk_opts opts;
};

struct m_packet_sk {
	uint32_t type, protocol; /* the latter in network order */
	uint32_t ifindex, version, reserve, timestamp;
	bool aux_data, orig_dev, vnet_hdr, loss;
	uint32_t copy_thresh;
	struct m_sk_opts opts;
};

/* One message, or all bytes of a stream up to the next descriptors, in a socket's receive queue. */
struct m_packet {
	uint32_t file_id; /* whose queue */
	uint32_t len;
	uint8_t *data;
	uint32_t nrights;
	uint32_t *rights; /* file ids of descriptors that travel with it */
	bool has_cred;
	uint32_t pid, uid, gid;
	uint32_t from_id; /* the file that sent it, 0: not known, or not in the tree */
};

enum m_tty_kind {
	M_TTY_PTY = 1,
	M_TTY_CONSOLE = 2,
	M_TTY_VT = 3,
	M_TTY_CURRENT = 4, /* /dev/tty */
	M_TTY_EXTERNAL = 5,
	M_TTY_SERIAL = 6,
};

struct m_termios {
	bool known;
	uint32_t iflag, oflag, cflag, lflag, line;
	uint8_t cc[32];
};

/* One end of a terminal. */
struct m_tty {
	uint32_t id; /* CRIU's: index << 1 | master, or from 1002 on what no pty pair needs */
	enum m_tty_kind kind;
	bool master;
	uint32_t index; /* of /dev/pts/INDEX */
	bool locked, exclusive, packet_mode;
	bool inherited;	    /* held by somebody outside of the tree */
	bool hung;	    /* a master: the last slave is closed, which it sees */
	uint32_t unread;    /* while dumping only: bytes that nobody has read */
	uint32_t sid, pgrp; /* whose controlling terminal it is, 0: nobody's */
	uint64_t rdev, dev;
	uint32_t uid, gid, mode;
	struct m_termios termios, locked_termios;
	bool has_winsize;
	uint32_t row, col, xpixel, ypixel;
	uint32_t ndata; /* bytes that were written to the other end and not read yet */
	uint8_t *data;
};

#endif
