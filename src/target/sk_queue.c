/* SPDX-License-Identifier: MIT */
/*
 * What a unix socket has received and nobody has read, with the descriptors that travel with it.
 *
 * Nothing is taken out: MSG_PEEK. Where one look does not show everything, messages or bytes behind
 * descriptors, SO_PEEK_OFF moves it on; the socket is the target's, so the offset is put back on
 * every way out. Should the guardian be killed in between, a later MSG_PEEK of the program, and
 * nothing else, would begin further on: the descriptors make it rare that an offset is needed.
 *
 * Two things are asked for by poll(2), for a look would take or miss them: an error that waits, and
 * the mark of urgent data.
 *
 * Bytes of a stream that were written before descriptors come out in one piece with them, as a
 * program that reads with a large buffer gets them.
 */
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "src/target/sockets.h"

enum { FDS_MAX = 253 }; /* the kernel's SCM_MAX_FD */

struct queue {
	struct files *f;
	uint32_t pid, fd, id;
	int dup;
	uint8_t *buf;
	size_t room;
	struct err *err;
};

static int nomem(struct queue *q)
{
	return err_set(q->err, ENOMEM, "queue of fd %u of pid %u", q->fd, q->pid);
}

static void close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

static int take_rights(struct queue *q, const struct cmsghdr *c, uint32_t packet)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	int fds[FDS_MAX], ret = 0;
	size_t i;

	n = n < FDS_MAX ? n : FDS_MAX;
	memcpy(fds, CMSG_DATA(c), n * sizeof(int));
	for (i = 0; ret == 0 && i < n; i++) {
		uint32_t id, *to;

		ret = files_passed(q->f, q->pid, fds[i], &id, q->err);
		if (ret < 0)
			continue;
		to = model_push(q->f->m, &q->f->m->packets[packet].rights,
				&q->f->m->packets[packet].nrights, sizeof(*to));
		if (to)
			*to = id;
		else
			ret = nomem(q);
	}
	close_all(fds + i, n - i);
	return ret;
}

/* The socket of the tree that is bound to @name; 0 when there is none. */
static uint32_t sender_id(const struct files *f, const struct sockaddr_un *name, socklen_t len)
{
	size_t n = len > sizeof(sa_family_t) ? len - sizeof(sa_family_t) : 0;

	for (uint32_t i = 0; n && i < f->m->nfiles; i++) {
		const struct m_unix *u = f->m->files[i].usk;

		if (u && u->name_len == n && !memcmp(u->name, name->sun_path, n))
			return i + 1;
	}
	return 0;
}

static int take_message(struct queue *q, const struct msghdr *mh, size_t len, bool name)
{
	struct model *m = q->f->m;
	struct m_packet *p = model_push(m, &m->packets, &m->npackets, sizeof(*p));
	uint32_t at = m->npackets - 1;
	int ret = 0;

	if (!p)
		return nomem(q);
	p->file_id = q->id;
	if (name)
		p->from_id = sender_id(q->f, mh->msg_name, mh->msg_namelen);
	if (len) {
		p->data = model_alloc(m, len);
		if (!p->data)
			return nomem(q);
		memcpy(p->data, q->buf, len);
		p->len = (uint32_t)len;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR((struct msghdr *)mh, c)) {
		struct ucred cred;

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS && ret == 0)
			ret = take_rights(q, c, at);
		if (c->cmsg_type != SCM_CREDENTIALS)
			continue;
		memcpy(&cred, CMSG_DATA(c), sizeof(cred));
		p = &m->packets[at];
		p->has_cred = true;
		p->pid = (uint32_t)cred.pid;
		p->uid = cred.uid;
		p->gid = cred.gid;
	}
	return ret;
}

static int queue_fatal(struct queue *q, const char *why)
{
	return finding_fatal(q->f->m, q->pid, "fd %u: unix socket: its queue cannot be read: %s",
			     q->fd, why) < 0
		       ? nomem(q)
		       : 0;
}

/* One look: 1 with *@ret_len, 0 when there is no more. */
static int look_once(struct queue *q, bool stream, size_t *ret_len)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_MAX * sizeof(int)) + 256];
	struct sockaddr_un from;
	struct iovec iov = {q->buf, q->room};
	struct msghdr mh = {.msg_name = &from,
			    .msg_namelen = sizeof(from),
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control)};
	ssize_t n;
	int ret;

	do {
		n = recvmsg(q->dup, &mh, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n < 0)
		return -errno;
	/* The end of a stream; a datagram may be empty, and then has a sender or is in the queue.
	 */
	if (!n && stream)
		return 0;
	ret = take_message(q, &mh, (size_t)n, !stream);
	if (ret < 0)
		return ret;
	if (mh.msg_flags & (MSG_CTRUNC | MSG_TRUNC))
		ret = queue_fatal(q, mh.msg_flags & MSG_TRUNC ? "a message is larger than it says"
							      : "too many descriptors");
	*ret_len = (size_t)n;
	return ret < 0 ? ret : 1;
}

static int set_peek_off(int sk, int off)
{
	return setsockopt(sk, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) < 0 ? -errno : 0;
}

/* A stream, most often whole at the first look. */
static int read_stream(struct queue *q, size_t want, int peek_off)
{
	size_t got = 0, len = 0;
	int ret = peek_off < 0 ? look_once(q, true, &len) : 0;

	for (got = len; ret >= 0 && got < want; got += len) {
		ret = set_peek_off(q->dup, (int)got);
		if (ret == 0)
			ret = look_once(q, true, &len);
		if (ret == 0)
			break;
	}
	if (got != len || peek_off >= 0)
		set_peek_off(q->dup, peek_off);
	if (ret >= 0 && got != want)
		return queue_fatal(q, "it is not what was announced");
	return ret < 0 ? ret : 0;
}

/* Takes back empty messages without descriptors that were the last thing: @n of them. */
static void forget_empty(struct queue *q, uint32_t n)
{
	struct model *m = q->f->m;

	while (n-- && m->npackets && !m->packets[m->npackets - 1].nrights)
		m->npackets--;
}

/*
 * Messages, @inq bytes of them: an offset of 0 makes every look go on behind the one before. The
 * kernel shows an empty message once, and the end of a connection again and again; as the program
 * sees an empty message in front of the end as that end, those are left out.
 */
static int read_messages(struct queue *q, size_t inq, int peek_off)
{
	enum { EMPTY_MAX = 1000 };
	struct pollfd p = {.fd = q->dup, .events = POLLRDHUP};
	bool ends = q->f->m->files[q->id - 1].usk->type == SOCK_SEQPACKET && poll(&p, 1, 0) == 1 &&
		    p.revents & POLLRDHUP;
	uint32_t empty = 0;
	size_t len, got = 0;
	int ret = set_peek_off(q->dup, 0);

	while (ret >= 0) {
		ret = look_once(q, false, &len);
		if (ret <= 0)
			break;
		got += len;
		empty = len ? 0 : empty + 1;
		if (empty == EMPTY_MAX || (ends && got >= inq && empty == 2))
			break;
	}
	set_peek_off(q->dup, peek_off);
	if (ret >= 0 && empty == EMPTY_MAX)
		return queue_fatal(q, "it has too many empty messages");
	if (ret >= 0 && ends)
		forget_empty(q, empty);
	return ret < 0 ? ret : 0;
}

/* What a look would take, or miss: 1 when there is nothing more to do. */
static int first_look(struct queue *q, struct m_unix *u)
{
	struct pollfd p = {.fd = q->dup, .events = POLLPRI};

	if (poll(&p, 1, 0) < 1)
		return 0;
	if (p.revents & POLLPRI)
		return queue_fatal(q, "it has urgent data (MSG_OOB)") ?: 1;
	if (!(p.revents & POLLERR))
		return 0;
	/* The only error that a stream can have. */
	u->reset = u->type == SOCK_STREAM && !u->peer_ino && u->state == M_SK_ESTABLISHED;
	return u->reset ? 0 : sk_error_finding(q->f, q->pid, q->fd, q->dup, q->err) ?: 1;
}

int sk_queue_read(struct files *f, uint32_t pid, uint32_t fd, uint32_t id, int dup, struct err *err)
{
	struct m_unix *u = f->m->files[id - 1].usk;
	struct queue q = {.f = f, .pid = pid, .fd = fd, .id = id, .dup = dup, .err = err};
	bool stream = u->type == SOCK_STREAM;
	int peek_off = u->opts.peek_off, inq = 0, ret;

	ret = first_look(&q, u);
	if (ret)
		return ret < 0 ? ret : 0;
	if (u->state == M_SK_LISTEN || ioctl(dup, SIOCINQ, &inq) < 0)
		return 0;
	if (!inq && stream)
		return 0;
	/* No message is larger than a send buffer. */
	q.room = stream ? (size_t)inq + 1 : 1 << 20;
	if (!stream && (size_t)inq + 1 > q.room)
		q.room = (size_t)inq + 1;
	q.buf = malloc(q.room);
	if (!q.buf)
		return nomem(&q);
	ret = stream ? read_stream(&q, (size_t)inq, peek_off)
		     : read_messages(&q, (size_t)inq, peek_off);
	free(q.buf);
	if (ret < 0 && !err->errnum)
		ret = queue_fatal(&q, strerrordesc_np(-ret));
	return ret;
}
