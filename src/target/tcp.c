/* SPDX-License-Identifier: MIT */
/*
 * A TCP connection, read by TCP_REPAIR.
 *
 * Only sequence numbers, the send queue and the windows need repair mode, for which there is no
 * other way; it is on for as long as a dozen system calls take, in the guardian, which outlives a
 * tool that is killed. What it leaves behind if the guardian itself is killed in these microseconds
 * is a connection that does not send until somebody takes it out again, so it is asked for only
 * when the connection is to be carried. Two things make it invisible afterwards:
 *
 *	TCP_REPAIR_OFF_NO_WP (Linux 4.19)	plain "off" would send a window probe to the peer
 *	SO_REUSEADDR put back			"on" sets it, and "off" clears it
 */
#include "src/target/sockets.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { OFF_NO_WP = -1, OPT_TIMESTAMPS = 1, OPT_WSCALE = 4 };

static int set_int(int sk, int level, int name, int v)
{
	return setsockopt(sk, level, name, &v, sizeof(v)) < 0 ? -errno : 0;
}

static int get_queue_seq(int sk, int queue, uint32_t *ret)
{
	socklen_t len = sizeof(*ret);
	int e = set_int(sk, SOL_TCP, TCP_REPAIR_QUEUE, queue);

	if (e < 0)
		return e;
	return getsockopt(sk, SOL_TCP, TCP_QUEUE_SEQ, ret, &len) < 0 ? -errno : 0;
}

/* The first @len bytes of a queue, or what there is of them. */
static ssize_t peek(struct files *f, int sk, uint32_t len, uint8_t **ret)
{
	uint8_t *p = len ? model_alloc(f->m, len) : NULL;
	ssize_t n;

	if (!len)
		return 0;
	if (!p)
		return -ENOMEM;
	do {
		n = recv(sk, p, len, MSG_PEEK | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	*ret = p;
	return n;
}

/*
 * The end of the queue stands still, and one call takes all of it: where it begins follows from
 * what came. Acknowledgements shorten it, the kernel sends what was not sent: of a number that is
 * read too late some bytes count as sent that were not, and they are sent again.
 */
static int read_send_queue(struct files *f, int sk, bool fin, struct m_tcp *t)
{
	int out = 0, unsent = 0, ret;
	ssize_t n;

	ret = get_queue_seq(sk, TCP_SEND_QUEUE, &t->outq_seq);
	if (ret == 0 && ioctl(sk, SIOCOUTQ, &out) < 0)
		ret = -errno;
	n = ret < 0 ? ret : peek(f, sk, (uint32_t)out, &t->outq);
	/* While this queue is chosen what the kernel would send only counts as sent. */
	set_int(sk, SOL_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
	if (n < 0)
		return (int)n;
	if (ioctl(sk, SIOCOUTQNSD, &unsent) < 0)
		return -errno;
	/* The end of the stream counts as one byte there. */
	if (fin && unsent)
		unsent--;
	t->outq_len = (uint32_t)n;
	t->unsent_len = unsent < n ? (uint32_t)unsent : t->outq_len;
	return 0;
}

static int read_window(int sk, struct m_tcp *t)
{
	struct tcp_repair_window w;
	socklen_t len = sizeof(w);

	if (getsockopt(sk, SOL_TCP, TCP_REPAIR_WINDOW, &w, &len) < 0)
		return errno == ENOPROTOOPT ? 0 : -errno;
	t->has_window = true;
	t->snd_wl1 = w.snd_wl1;
	t->snd_wnd = w.snd_wnd;
	t->max_window = w.max_window;
	t->rcv_wnd = w.rcv_wnd;
	t->rcv_wup = w.rcv_wup;
	return 0;
}

/*
 * Is there a mark of urgent data in the queue, or on its way to it? @in is what SIOCINQ says. A
 * byte that was read with MSG_OOB stays in its place, unseen, until the rest is read.
 */
static bool has_mark(int sk, const struct m_inet *i, int in)
{
	struct pollfd p = {.fd = sk, .events = POLLPRI};
	uint32_t received;
	int at = 0;
	char b;

	if (poll(&p, 1, 0) == 1 && p.revents & POLLPRI)
		return true;
	if (ioctl(sk, SIOCATMARK, &at) == 0 && at)
		return true;
	if (recv(sk, &b, 1, MSG_OOB | MSG_PEEK | MSG_DONTWAIT) >= 0 || errno == EAGAIN)
		return true;
	/* The end of the stream has a number, too. */
	return inet_diag_received(i, &received) == 0 && received > (uint32_t)in + m_inet_fin_got(i);
}

/* Numbers of one moment, for more may come in: between two looks at the number nothing came. */
static int read_receive_queue(struct files *f, int sk, struct m_inet *i)
{
	enum { TRIES = 10000 };
	struct m_tcp *t = i->tcp;
	uint32_t before = 0;
	bool mark = false;
	int in = 0, ret = 0;
	ssize_t n;

	for (unsigned k = 0; ret == 0; k++) {
		ret = get_queue_seq(sk, TCP_RECV_QUEUE, &before);
		if (ret == 0 && ioctl(sk, SIOCINQ, &in) < 0)
			ret = -errno;
		if (ret == 0)
			ret = read_window(sk, t);
		if (ret == 0)
			inet_read_state(sk, i, true);
		mark = ret == 0 && has_mark(sk, i, in);
		if (ret == 0)
			ret = get_queue_seq(sk, TCP_RECV_QUEUE, &t->inq_seq);
		if (ret == 0 && before == t->inq_seq)
			break;
		if (ret == 0 && k == TRIES)
			ret = -EBUSY;
	}
	if (ret < 0 || mark)
		return ret < 0 ? ret : TCP_URGENT;
	n = peek(f, sk, (uint32_t)in, &t->inq);
	t->inq_len = (uint32_t)in;
	if (n >= 0 && n != in)
		return -EIO;
	return n < 0 ? (int)n : 0;
}

static int read_options(int sk, struct m_tcp *t)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	if (getsockopt(sk, SOL_TCP, TCP_INFO, &info, &len) < 0)
		return -errno;
	t->opt_mask = info.tcpi_options;
	if (t->opt_mask & OPT_WSCALE) {
		t->snd_wscale = info.tcpi_snd_wscale;
		t->rcv_wscale = info.tcpi_rcv_wscale;
	}
	/* In repair mode this is what both sides agreed on. */
	len = sizeof(t->mss_clamp);
	if (getsockopt(sk, SOL_TCP, TCP_MAXSEG, &t->mss_clamp, &len) < 0)
		return -errno;
	len = sizeof(t->timestamp);
	if (t->opt_mask & OPT_TIMESTAMPS &&
	    getsockopt(sk, SOL_TCP, TCP_TIMESTAMP, &t->timestamp, &len) < 0)
		return -errno;
	return 0;
}

int tcp_silence(int sk)
{
	return set_int(sk, SOL_TCP, TCP_REPAIR, 1);
}

/* What repair mode was good for has been read, or not. */
static void leave_repair(int sk, int reuse)
{
	set_int(sk, SOL_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
	set_int(sk, SOL_TCP, TCP_REPAIR, OFF_NO_WP);
	set_int(sk, SOL_SOCKET, SO_REUSEADDR, reuse);
}

int tcp_read_sent(struct files *f, int sk, struct m_inet *i)
{
	int reuse = sk_int(sk, SOL_SOCKET, SO_REUSEADDR);
	int e = set_int(sk, SOL_TCP, TCP_REPAIR, 1);

	if (e < 0)
		return e;
	e = read_send_queue(f, sk, m_inet_fin_sent(i), i->tcp);
	leave_repair(sk, reuse);
	return e;
}

int tcp_read_got(struct files *f, int sk, struct m_inet *i)
{
	int reuse = sk_int(sk, SOL_SOCKET, SO_REUSEADDR);
	int e = set_int(sk, SOL_TCP, TCP_REPAIR, 1);

	if (e < 0)
		return e;
	e = read_receive_queue(f, sk, i);
	if (e == 0)
		e = read_options(sk, i->tcp);
	leave_repair(sk, reuse);
	return e;
}
