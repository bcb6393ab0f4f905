/* SPDX-License-Identifier: MIT */
/*
 * An established TCP connection, read by TCP_REPAIR.
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

static int peek(struct files *f, int sk, uint32_t len, uint8_t **ret)
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
		return -errno;
	*ret = p;
	return (size_t)n == len ? 0 : -EIO;
}

static int read_queues(struct files *f, int sk, struct m_tcp *t)
{
	int in = 0, out = 0, unsent = 0, ret;

	/* The other side may still send: length and number must be of one moment. */
	ret = get_queue_seq(sk, TCP_RECV_QUEUE, &t->inq_seq);
	if (ret == 0 && ioctl(sk, SIOCINQ, &in) < 0)
		ret = -errno;
	if (ret == 0)
		ret = peek(f, sk, (uint32_t)in, &t->inq);
	if (ret == 0)
		ret = get_queue_seq(sk, TCP_SEND_QUEUE, &t->outq_seq);
	if (ret == 0 && (ioctl(sk, SIOCOUTQ, &out) < 0 || ioctl(sk, SIOCOUTQNSD, &unsent) < 0))
		ret = -errno;
	if (ret == 0)
		ret = peek(f, sk, (uint32_t)out, &t->outq);
	t->inq_len = (uint32_t)in;
	t->outq_len = (uint32_t)out;
	t->unsent_len = (uint32_t)(unsent < out ? unsent : out);
	return ret;
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

/* Numbers that belong together: what came in between two looks makes a third one needed. */
static int read_steadily(struct files *f, int sk, struct m_tcp *t)
{
	enum { TRIES = 20 };
	uint32_t seq = 0;
	int ret = -EAGAIN;

	for (unsigned i = 0; ret == -EAGAIN && i < TRIES; i++) {
		memset(t, 0, sizeof(*t));
		ret = read_queues(f, sk, t);
		if (ret == 0)
			ret = read_window(sk, t);
		if (ret == 0)
			ret = get_queue_seq(sk, TCP_RECV_QUEUE, &seq);
		if (ret == -EIO || (ret == 0 && seq != t->inq_seq))
			ret = -EAGAIN;
	}
	return ret;
}

int tcp_silence(int sk, bool on)
{
	return set_int(sk, SOL_TCP, TCP_REPAIR, on ? 1 : OFF_NO_WP);
}

int tcp_read(struct files *f, int sk, struct m_tcp *ret)
{
	int reuse = sk_int(sk, SOL_SOCKET, SO_REUSEADDR);
	int e = tcp_silence(sk, true);

	if (e < 0)
		return e;
	e = read_steadily(f, sk, ret);
	if (e == 0)
		e = read_options(sk, ret);
	set_int(sk, SOL_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
	tcp_silence(sk, false);
	set_int(sk, SOL_SOCKET, SO_REUSEADDR, reuse);
	return e;
}
