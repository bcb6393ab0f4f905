/* SPDX-License-Identifier: MIT */
/* What unix sockets had received and nobody had read, sent to them again. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "src/target/make_row.h"

enum { FDS_MAX = 253 }; /* the kernel's SCM_MAX_FD */

/* Who sends @p, and where to when it is not connected there. */
struct way {
	int sk;
	struct sockaddr_un to;
	socklen_t to_len; /* 0: to its peer */
};

static uint32_t file_of(const struct make *mk, uint32_t ino)
{
	for (uint32_t i = 0; ino && i < mk->m->nfiles; i++)
		if (mk->m->files[i].usk && (uint32_t)mk->m->files[i].ino == ino)
			return i + 1;
	return 0;
}

static bool sends_to(const struct make *mk, uint32_t from, const struct m_file *to)
{
	const struct m_file *f = model_file(mk->m, from);

	return f && f->usk && make_fd(mk, from) >= 0 && f->usk->peer_ino == (uint32_t)to->ino;
}

/* Somebody who is connected to @to, whether that is to him or not; 0: nobody. */
static uint32_t sender_of(const struct make *mk, const struct m_file *to)
{
	for (uint32_t i = 1; i <= mk->m->nfiles; i++)
		if (sends_to(mk, i, to))
			return i;
	return 0;
}

static void way_by_name(struct way *w, const struct m_unix *to, int path)
{
	if (path >= 0) {
		w->to_len = make_unix_addr(path, &w->to);
		return;
	}
	w->to.sun_family = AF_UNIX;
	memcpy(w->to.sun_path, to->name, to->name_len);
	w->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + to->name_len);
}

static int find_way(const struct make *mk, const struct m_packet *p, struct way *w, struct err *err)
{
	const struct m_file *to = model_file(mk->m, p->file_id);
	uint32_t peer;

	*w = (struct way){.sk = -1};
	if (!to || !to->usk || make_fd(mk, p->file_id) < 0)
		return 0;
	peer = file_of(mk, to->usk->peer_ino);
	if (mk->peers[to->id - 1] >= 0) {
		w->sk = mk->peers[to->id - 1];
	} else if (sends_to(mk, p->from_id, to)) {
		w->sk = make_fd(mk, p->from_id);
	} else if (!p->from_id && sends_to(mk, peer, to)) {
		w->sk = make_fd(mk, peer);
	} else if (!p->from_id && !to->usk->name_len && sender_of(mk, to)) {
		w->sk = make_fd(mk, sender_of(mk, to));
	} else if (to->usk->type == SOCK_DGRAM && to->usk->name_len) {
		w->sk = make_fd(mk, p->from_id);
		way_by_name(w, to->usk, mk->paths[to->id - 1]);
	} else {
		return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
				"%s: who sent what it has not read is not in the image",
				make_name(to));
	}
	return 0;
}

/* A sender that is gone, or never had a name: somebody without one. */
static int send_as_nobody(const struct way *w, const struct msghdr *mh)
{
	int sk = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t n;

	if (sk < 0)
		return -errno;
	make_sk_room(sk, SO_SNDBUF, mh->msg_iov->iov_len);
	n = sendmsg(sk, mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	n = n < 0 ? -errno : n;
	close(sk);
	return (int)n;
}

static ssize_t send_once(const struct way *w, const struct msghdr *mh)
{
	ssize_t n;

	if (w->sk < 0)
		return send_as_nobody(w, mh);
	n = sendmsg(w->sk, mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

static int add_rights(const struct make *mk, const struct m_packet *p, struct cmsghdr *c,
		      struct err *err)
{
	int fds[FDS_MAX];

	for (uint32_t i = 0; i < p->nrights; i++) {
		fds[i] = make_fd(mk, p->rights[i]);
		if (fds[i] < 0)
			return err_fail(err, EBADMSG, ERR_IMAGE,
					"file %u: file %u, which travels to it, is not there",
					p->file_id, p->rights[i]);
	}
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(p->nrights * sizeof(int));
	memcpy(CMSG_DATA(c), fds, p->nrights * sizeof(int));
	return 0;
}

static void add_cred(const struct m_packet *p, struct cmsghdr *c)
{
	struct ucred cred = {.pid = (pid_t)p->pid, .uid = p->uid, .gid = p->gid};

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_CREDENTIALS;
	c->cmsg_len = CMSG_LEN(sizeof(cred));
	memcpy(CMSG_DATA(c), &cred, sizeof(cred));
}

/* A sender that has ended has no pid any more: the message is from us then. */
static ssize_t send_with_cred(const struct way *w, const struct m_packet *p, struct msghdr *mh,
			      size_t rights_len)
{
	char *control = mh->msg_control;
	ssize_t n;

	if (p->has_cred) {
		add_cred(p, (struct cmsghdr *)(control + rights_len));
		mh->msg_controllen = rights_len + CMSG_SPACE(sizeof(struct ucred));
		n = send_once(w, mh);
		if (n != -EPERM && n != -ESRCH)
			return n;
	}
	mh->msg_controllen = rights_len;
	if (!rights_len)
		mh->msg_control = NULL;
	n = send_once(w, mh);
	mh->msg_control = control;
	return n;
}

static int send_packet(const struct make *mk, const struct m_packet *p, struct err *err)
{
	_Alignas(struct cmsghdr) char
		control[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))] = {0};
	const struct m_file *to = model_file(mk->m, p->file_id);
	size_t rights_len = p->nrights ? CMSG_SPACE(p->nrights * sizeof(int)) : 0, done = 0;
	struct iovec iov;
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
	struct way w;
	int ret = p->nrights > FDS_MAX ? err_set(err, EBADMSG, "descriptors in a queue")
				       : find_way(mk, p, &w, err);

	if (ret < 0 || !to || make_fd(mk, p->file_id) < 0)
		return ret;
	if (w.to_len) {
		mh.msg_name = &w.to;
		mh.msg_namelen = w.to_len;
	}
	if (rights_len)
		ret = add_rights(mk, p, (struct cmsghdr *)control, err);
	while (ret == 0) {
		ssize_t n;

		iov = (struct iovec){p->data + done, p->len - done};
		n = send_with_cred(&w, p, &mh, rights_len);
		if (n < 0)
			return err_set(err, (int)-n, "fill the queue of %s", make_name(to));
		done += (size_t)n;
		rights_len = 0;
		if (done >= p->len)
			break;
	}
	return ret;
}

/* Bytes that each sender will have under way. */
static int make_room(const struct make *mk, struct err *err)
{
	uint64_t *sum = calloc(mk->m->nfiles + 1, sizeof(*sum));

	if (!sum)
		return err_set(err, ENOMEM, "sizes of queues");
	for (uint32_t i = 0; i < mk->m->npackets; i++)
		if (mk->m->packets[i].file_id <= mk->m->nfiles)
			sum[mk->m->packets[i].file_id] += mk->m->packets[i].len + 1024u;
	for (uint32_t i = 0; i < mk->m->npackets; i++) {
		const struct m_packet *p = &mk->m->packets[i];
		struct way w;
		struct err drop = {0};

		if (find_way(mk, p, &w, &drop) == 0 && w.sk >= 0 && sum[p->file_id])
			make_sk_room(w.sk, SO_SNDBUF, sum[p->file_id]);
	}
	free(sum);
	return 0;
}

int make_unix_feed(struct make *mk, struct err *err)
{
	int ret = make_room(mk, err);

	for (uint32_t i = 0; ret == 0 && i < mk->m->npackets; i++)
		ret = send_packet(mk, &mk->m->packets[i], err);
	return ret;
}
