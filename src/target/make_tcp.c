/* SPDX-License-Identifier: MIT */
/*
 * A TCP connection made again by TCP_REPAIR: no packet is sent until it is let go.
 *
 * The queues are filled by writing to them, which moves their sequence numbers; so they begin where
 * the first byte of each has its number. Bytes that were sent and not acknowledged count as sent,
 * which starts the timer of their being sent again: so the send queue is filled last. Those that
 * never were sent are written the ordinary way once repair mode has ended.
 *
 *	number in the image, outq_seq = 5000			of the byte after the last
 *	outq_len = 300, unsent_len = 100
 *	sequence number to begin with				4700
 *	written in repair mode	200 bytes, up to		4900
 *	written afterwards	100 bytes, up to		5000
 *
 * The end of a stream has a number, too. One that was sent is sent again. One that was received
 * comes again where the peer is in the tree; else the other side will not repeat it: the numbers
 * count it, and reading is shut down, which is all that the program sees of it.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "src/target/make_row.h"
#include "src/target/sockets.h"

enum { OPT_TIMESTAMPS = 1, OPT_SACK = 2, OPT_WSCALE = 4 };
/* TCPOPT_* of the protocol */
enum { OPTION_MSS = 2, OPTION_WINDOW = 3, OPTION_SACK = 4, OPTION_TIMESTAMP = 8 };

static int fail(const struct m_file *f, int error, const char *what, struct err *err)
{
	err_set(err, -error, "%s of connection %s", what, make_name(f));
	if (error == -EPERM)
		err_hint(err, "run as root or with CAP_NET_ADMIN");
	if (error == -ECONNRESET || error == -EPIPE || error == -ETIMEDOUT || error == -ENOTCONN)
		err_hint(err,
			 "the other side has given it up: restore with --tcp-close, which brings "
			 "back such connections as closed ones");
	return error;
}

static int set_queue(int sk, int queue)
{
	return make_sk_int(sk, SOL_TCP, TCP_REPAIR_QUEUE, queue);
}

static int set_seq(int sk, int queue, uint32_t seq)
{
	int ret = set_queue(sk, queue);

	return ret ? ret : make_sk_int(sk, SOL_TCP, TCP_QUEUE_SEQ, (int)seq);
}

static bool in_tree(const struct model *m, const struct m_inet *i)
{
	for (uint32_t k = 0; k < m->nfiles; k++) {
		const struct m_inet *other = m->files[k].isk;

		if (other && other != i && m_inet_connected(other) && inet_are_peers(i, other))
			return true;
	}
	return false;
}

/* The end of the other side's stream. */
static bool comes_again(const struct model *m, const struct m_inet *i)
{
	return m_inet_fin_got(i) && in_tree(m, i);
}

static uint32_t receive_begin(const struct model *m, const struct m_inet *i)
{
	return i->tcp->inq_seq - i->tcp->inq_len - comes_again(m, i);
}

static uint32_t send_begin(const struct m_inet *i)
{
	return i->tcp->outq_seq - i->tcp->outq_len - m_inet_fin_sent(i);
}

/* How far the window may ever open is settled when a connection is made, by the room there is. */
static void set_room(int sk, uint32_t rcvbuf)
{
	if (make_sk_int(sk, SOL_SOCKET, SO_RCVBUFFORCE, (int)(rcvbuf / 2)) < 0)
		make_sk_int(sk, SOL_SOCKET, SO_RCVBUF, (int)(rcvbuf / 2));
}

/* The size of packets is settled when a connection is made, by what it is told before. */
static void set_segment_size(int sk, uint32_t size)
{
	enum { MOST = 32767 };

	make_sk_int(sk, SOL_TCP, TCP_MAXSEG, (int)(size < MOST ? size : MOST));
}

int make_tcp_begin(const struct model *m, int sk, const struct m_file *f, struct err *err)
{
	const struct m_tcp *t = f->isk->tcp;
	int ret;

	if (!t)
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"%s: the image has no state of this connection: dump with "
				"--tcp-established, or restore with --tcp-close",
				make_name(f));
	ret = make_sk_int(sk, SOL_TCP, TCP_REPAIR, 1);
	if (ret == 0)
		ret = set_seq(sk, TCP_RECV_QUEUE, receive_begin(m, f->isk));
	if (ret == 0)
		ret = set_seq(sk, TCP_SEND_QUEUE, send_begin(f->isk));
	set_segment_size(sk, t->mss_clamp);
	set_room(sk, f->isk->opts.rcvbuf);
	return ret ? fail(f, ret, "TCP_REPAIR", err) : 0;
}

static int set_options(int sk, const struct m_tcp *t)
{
	struct tcp_repair_opt o[4];
	unsigned n = 0;

	o[n++] = (struct tcp_repair_opt){OPTION_MSS, t->mss_clamp};
	if (t->opt_mask & OPT_SACK)
		o[n++] = (struct tcp_repair_opt){OPTION_SACK, 0};
	if (t->opt_mask & OPT_WSCALE)
		o[n++] =
			(struct tcp_repair_opt){OPTION_WINDOW, t->snd_wscale | t->rcv_wscale << 16};
	if (t->opt_mask & OPT_TIMESTAMPS)
		o[n++] = (struct tcp_repair_opt){OPTION_TIMESTAMP, 0};
	if (setsockopt(sk, SOL_TCP, TCP_REPAIR_OPTIONS, o, (socklen_t)(n * sizeof(o[0]))) < 0)
		return -errno;
	return t->opt_mask & OPT_TIMESTAMPS
		       ? make_sk_int(sk, SOL_TCP, TCP_TIMESTAMP, (int)t->timestamp)
		       : 0;
}

static int write_all(int sk, const uint8_t *data, uint32_t len)
{
	/* One piece of the receive queue is one allocation. */
	enum { PIECE = 32 << 10 };

	for (uint32_t done = 0; done < len;) {
		uint32_t n = len - done < PIECE ? len - done : PIECE;
		ssize_t sent = send(sk, data + done, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		done += (uint32_t)sent;
	}
	return 0;
}

static int fill_queue(int sk, int queue, const uint8_t *data, uint32_t len)
{
	int ret = len ? set_queue(sk, queue) : 0;

	return ret ? ret : write_all(sk, data, len);
}

static int set_window(const struct model *m, int sk, const struct m_inet *i)
{
	const struct m_tcp *t = i->tcp;
	struct tcp_repair_window w = {
		.snd_wl1 = t->snd_wl1,
		.snd_wnd = t->snd_wnd,
		.max_window = t->max_window,
		.rcv_wnd = t->rcv_wnd,
		.rcv_wup = t->rcv_wup,
	};

	if (!t->has_window)
		return 0;
	/* A window that begins with what comes again: it ends where it ended. */
	if (comes_again(m, i) && w.rcv_wup == t->inq_seq) {
		w.rcv_wup--;
		w.rcv_wnd++;
	}
	return setsockopt(sk, SOL_TCP, TCP_REPAIR_WINDOW, &w, sizeof(w)) < 0 ? -errno : 0;
}

int make_tcp_connect(int sk, const struct m_file *f, struct err *err)
{
	const struct m_tcp *t = f->isk->tcp;
	int ret = set_options(sk, t);

	if (ret < 0)
		return fail(f, ret, "options", err);
	make_sk_int(sk, SOL_TCP, TCP_MAXSEG, (int)f->isk->maxseg);
	/* Has no options of IP set, and the size of packets counted again: up to all of it. */
	setsockopt(sk, SOL_IP, IP_OPTIONS, NULL, 0);
	make_sk_room(sk, SO_RCVBUF, t->inq_len);
	make_sk_room(sk, SO_SNDBUF, t->outq_len);
	ret = fill_queue(sk, TCP_RECV_QUEUE, t->inq, t->inq_len);
	if (ret == 0)
		ret = set_queue(sk, TCP_NO_QUEUE);
	return ret < 0 ? fail(f, ret, "bytes not read", err) : 0;
}

/* Nothing is left to be sent before it, and it is not to come once more by itself. */
static bool fin_under_way(const struct model *m, const struct m_inet *i)
{
	return m_inet_fin_sent(i) && !i->tcp->unsent_len && !in_tree(m, i);
}

int make_tcp_refill(const struct model *m, int sk, const struct m_file *f, struct err *err)
{
	const struct m_inet *i = f->isk;
	const struct m_tcp *t = i->tcp;
	int ret = fill_queue(sk, TCP_SEND_QUEUE, t->outq, t->outq_len - t->unsent_len);

	if (ret == 0 && fin_under_way(m, i)) {
		ret = set_queue(sk, TCP_SEND_QUEUE);
		if (ret == 0 && shutdown(sk, SHUT_WR) < 0)
			ret = -errno;
	}
	if (ret < 0)
		return fail(f, ret, "bytes not acknowledged", err);
	ret = set_queue(sk, TCP_NO_QUEUE);
	if (ret == 0)
		ret = set_window(m, sk, i);
	return ret ? fail(f, ret, "windows", err) : 0;
}

/*
 * The end of repair mode sends a probe, to which the peer answers with its window: the packet that
 * told it may have been lost while nobody was there.
 */
int make_tcp_let_go(const struct model *m, int sk, const struct m_file *f, struct err *err)
{
	int ret = make_sk_int(sk, SOL_TCP, TCP_REPAIR, 0);

	return ret ? fail(f, ret, "end of TCP_REPAIR", err) : 0;
}

/* The peer has gone in the meantime: that is for the program to find out. */
static bool is_over(int error)
{
	return error == -ECONNRESET || error == -EPIPE || error == -ENOTCONN ||
	       error == -ETIMEDOUT || error == -EHOSTUNREACH || error == -ENETUNREACH;
}

int make_tcp_rest(const struct model *m, int sk, const struct m_file *f, struct err *err)
{
	const struct m_inet *i = f->isk;
	const struct m_tcp *t = i->tcp;
	int ret = write_all(sk, t->outq + (t->outq_len - t->unsent_len), t->unsent_len);

	if (ret == 0 && m_inet_fin_sent(i) && !fin_under_way(m, i) && shutdown(sk, SHUT_WR) < 0)
		ret = -errno;
	if (is_over(ret))
		return 0;
	if (ret == 0 && ((m_inet_fin_got(i) && !in_tree(m, i)) ||
			 (!m_inet_fin_got(i) && i->shutdown & M_SK_SHUT_READ)))
		shutdown(sk, SHUT_RD);
	return ret ? fail(f, ret, "bytes not sent", err) : 0;
}
