/* SPDX-License-Identifier: MIT */
/*
 * TCP connections of a tree that stands still: which are carried, and how the two ends of one fit.
 *
 * The kernel goes on sending and acknowledging what is queued, so no two sockets are read at the
 * same instant. What makes an image right all the same:
 *
 *	peer outside	nothing of the connection arrives any more when it is read (hold.c)
 *	peer inside	all send queues are read before all receive queues: what a sender has
 *			forgotten by then, because it was acknowledged, the receiver has for sure.
 *			What both have is cut off the sender's queue afterwards (settle()).
 *
 *	A sends to B	A is read: 1000 to 5000 not acknowledged, 1000 to 3000 sent
 *			B is read later, when it has got more: it waits for 4000
 *	in the image	A: 4000 to 5000, nothing of it sent		B: waits for 4000
 */
#include <netinet/in.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>

#include "src/target/sockets.h"

static int nomem(uint32_t pid, uint32_t fd, struct err *err)
{
	return err_set(err, ENOMEM, "socket fd %u of pid %u", fd, pid);
}

static struct m_inet *peer_in_tree(const struct files *f, const struct m_inet *i)
{
	for (uint32_t k = 0; k < f->m->nfiles; k++) {
		struct m_inet *other = f->m->files[k].isk;

		if (other && other != i && inet_are_peers(i, other))
			return other;
	}
	return NULL;
}

static bool is_connection(const struct m_inet *i)
{
	return i->proto == IPPROTO_TCP && i->state != M_SK_CLOSE && i->state != M_SK_LISTEN;
}

bool inet_held(const struct files *f, const struct m_inet *i)
{
	return f->tcp_established && !f->tcp_close && is_connection(i) && m_inet_connected(i) &&
	       !peer_in_tree(f, i);
}

static const char *state_name(uint32_t state)
{
	static const char *const names[] = {
		[TCP_SYN_SENT] = "being made",
		[TCP_SYN_RECV] = "being made",
		[TCP_TIME_WAIT] = "being closed",
	};

	return state < sizeof(names) / sizeof(names[0]) && names[state] ? names[state]
									: "in an unknown state";
}

/* As it will be found after a restore: gone, as if the other side had reset it. */
static void forget_connection(struct m_inet *i)
{
	i->tcp = NULL;
	i->state = M_SK_CLOSE;
	i->shutdown = M_SK_SHUT_READ | M_SK_SHUT_WRITE;
}

static int unreadable(struct files *f, const struct m_proc *p, uint32_t fd, struct m_inet *i,
		      int error, struct err *err)
{
	char src[64], dst[64];

	i->tcp = NULL;
	if (error == -ENOMEM)
		return nomem(p->pid, fd, err);
	return finding_fatal(f->m, p->pid, "fd %u: TCP connection %s to %s cannot be read: %s%s",
			     fd, inet_printed(i, false, src), inet_printed(i, true, dst),
			     strerrordesc_np(-error),
			     error == -EPERM ? ": CAP_NET_ADMIN is needed" : "") < 0
		       ? nomem(p->pid, fd, err)
		       : 0;
}

static int inet_outside(struct files *f, const struct m_proc *p, uint32_t fd,
			const struct m_inet *i, struct err *err)
{
	char src[64], dst[64];

	return finding_fatal(f->m, p->pid,
			     "fd %u: TCP connection %s to %s, which is outside of the tree: "
			     "--tcp-established carries it, --tcp-close closes it",
			     fd, inet_printed(i, false, src), inet_printed(i, true, dst)) < 0
		       ? nomem(p->pid, fd, err)
		       : 0;
}

/* Why a connection that is to be carried cannot be; NULL: it can. */
static const char *hindrance(const struct m_inet *i)
{
	if (!m_inet_connected(i))
		return state_name(i->state);
	/* To look at its bytes would move what the program has set. */
	return i->opts.peek_off >= 0 ? "with an offset to peek at (SO_PEEK_OFF)" : NULL;
}

static int refuse(struct files *f, const struct m_proc *p, uint32_t fd, const struct m_inet *i,
		  const char *why, bool inside, struct err *err)
{
	char src[64], dst[64];

	return finding_fatal(f->m, p->pid, "fd %u: TCP connection %s to %s, %s: not supported%s",
			     fd, inet_printed(i, false, src), inet_printed(i, true, dst), why,
			     inside ? "" : ", but --tcp-close drops it") < 0
		       ? nomem(p->pid, fd, err)
		       : 0;
}

int inet_connection(struct files *f, const struct m_proc *p, uint32_t fd, const struct m_inet *i,
		    bool inside, struct err *err)
{
	if (!inside && f->tcp_close)
		return 0;
	if (!inside && !f->tcp_established)
		return inet_outside(f, p, fd, i, err);
	return m_inet_connected(i) ? 0 : refuse(f, p, fd, i, state_name(i->state), inside, err);
}

/*
 * What a socket that is not connected any more, or never was, still has to say: an error that can
 * only be asked for by taking it, bytes from before the end.
 */
static int unheard(struct files *f, const struct m_proc *p, uint32_t fd, int dup,
		   const struct m_inet *i, struct err *err)
{
	char src[64];
	int n = 0, ret = 0;

	if (i->proto == IPPROTO_TCP && f->tcp_close)
		return 0;
	if (sk_has_error(dup))
		ret = finding_passing(
			f->m, p->pid,
			"fd %u: socket %s: an error that the program has not seen yet "
			"(SO_ERROR, or its error queue): not supported: try again when "
			"it has",
			fd, inet_printed(i, false, src));
	else if (i->proto == IPPROTO_TCP && i->state == M_SK_CLOSE &&
		 ioctl(dup, SIOCINQ, &n) == 0 && n)
		ret = finding_passing(
			f->m, p->pid,
			"fd %u: TCP socket %s: %d bytes of a connection that is over, "
			"which the program has not read: not supported: try again when "
			"it has",
			fd, inet_printed(i, false, src), n);
	return ret < 0 ? nomem(p->pid, fd, err) : 0;
}

static int connection_sent(struct files *f, const struct m_proc *p, uint32_t fd, int dup,
			   struct m_inet *i, struct err *err)
{
	const char *why = hindrance(i);
	int ret;

	if (why)
		return refuse(f, p, fd, i, why, peer_in_tree(f, i) != NULL, err);
	i->tcp = model_alloc(f->m, sizeof(*i->tcp));
	if (!i->tcp)
		return nomem(p->pid, fd, err);
	ret = tcp_read_sent(f, dup, i);
	return ret < 0 ? unreadable(f, p, fd, i, ret, err) : 0;
}

int inet_sent(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, int dup,
	      struct err *err)
{
	struct m_inet *i = f->m->files[id - 1].isk;
	bool inside;

	if (!is_connection(i))
		return unheard(f, p, fd, dup, i, err);
	inside = peer_in_tree(f, i) != NULL;
	if (!inside && f->tcp_close) {
		forget_connection(i);
		return 0;
	}
	/* It may have been closed by the other side since the first look. */
	inet_read_state(dup, i, true);
	if (i->state == M_SK_CLOSE || sk_has_error(dup))
		return unheard(f, p, fd, dup, i, err);
	if (!inside && !f->tcp_established)
		return inet_outside(f, p, fd, i, err);
	return connection_sent(f, p, fd, dup, i, err);
}

int inet_finish(struct files *f, const struct m_proc *p, uint32_t fd, uint32_t id, int dup,
		struct err *err)
{
	struct m_inet *i = f->m->files[id - 1].isk;
	int ret;

	if (!i->tcp)
		return 0;
	ret = tcp_read_got(f, dup, i);
	if (ret < 0)
		return unreadable(f, p, fd, i, ret, err);
	if (ret == TCP_URGENT) {
		i->tcp = NULL;
		return refuse(f, p, fd, i, "with urgent data (MSG_OOB) that was not read",
			      peer_in_tree(f, i) != NULL, err);
	}
	if (i->state == M_SK_CLOSE || sk_has_error(dup))
		ret = unheard(f, p, fd, dup, i, err);
	if (i->state == M_SK_CLOSE)
		forget_connection(i);
	return ret;
}

/* What @from has sent and @to has is done with: nothing of the rest has been sent. */
static void settle(const struct m_inet *from, const struct m_inet *to)
{
	struct m_tcp *s = from->tcp;
	const struct m_tcp *r = to->tcp;
	uint32_t want = r->inq_seq - m_inet_fin_got(to);
	uint32_t first = s->outq_seq - m_inet_fin_sent(from) - s->outq_len;
	uint32_t have = want - first;

	if (have > s->outq_len)
		return;
	if (have)
		s->outq += have;
	s->outq_len -= have;
	s->unsent_len = s->outq_len;
	if (!s->has_window || !r->has_window)
		return;
	s->snd_wnd = r->rcv_wup + r->rcv_wnd - want;
	if (s->max_window < s->snd_wnd)
		s->max_window = s->snd_wnd;
}

void inet_settle(struct files *f)
{
	for (uint32_t k = 0; k < f->m->nfiles; k++) {
		const struct m_inet *i = f->m->files[k].isk;
		const struct m_inet *peer = i && i->tcp ? peer_in_tree(f, i) : NULL;

		if (peer && peer->tcp)
			settle(i, peer);
	}
}
