/* SPDX-License-Identifier: MIT */
/* What the kernel says of a unix socket by its inode number: its peer, its queue, its path. */
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "src/target/sockets.h"

static int diag_open(struct files *f)
{
	struct timeval tv = {.tv_sec = 5};

	if (f->diag >= 0)
		return 0;
	f->diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (f->diag < 0)
		return -errno;
	setsockopt(f->diag, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return 0;
}

static int diag_ask(struct files *f, uint32_t ino)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} q = {
		.h = {.nlmsg_len = sizeof(q),
		      .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		      .nlmsg_flags = NLM_F_REQUEST,
		      .nlmsg_seq = ++f->diag_seq},
		.r = {.sdiag_family = AF_UNIX,
		      .udiag_states = UINT32_MAX,
		      .udiag_ino = ino,
		      .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER |
				    UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN,
		      .udiag_cookie = {UINT32_MAX, UINT32_MAX}},
	};

	return send(f->diag, &q, sizeof(q), 0) < 0 ? -errno : 0;
}

static void take_attr(struct unix_diag *d, const struct rtattr *a)
{
	const void *p = RTA_DATA(a);
	size_t len = RTA_PAYLOAD(a);

	switch (a->rta_type) {
	case UNIX_DIAG_NAME:
		d->name_len = len < sizeof(d->name) ? (uint32_t)len : sizeof(d->name);
		memcpy(d->name, p, d->name_len);
		break;
	case UNIX_DIAG_VFS:
		if (len >= sizeof(struct unix_diag_vfs))
			d->path_ino = ((const struct unix_diag_vfs *)p)->udiag_vfs_ino;
		break;
	case UNIX_DIAG_PEER:
		memcpy(&d->peer, p, len < 4 ? len : 4);
		break;
	case UNIX_DIAG_ICONS:
		len = len < sizeof(d->pending) ? len : sizeof(d->pending);
		memcpy(d->pending, p, len);
		d->npending = (uint32_t)(len / 4);
		break;
	case UNIX_DIAG_RQLEN:
		if (len >= sizeof(struct unix_diag_rqlen)) {
			d->rqueue = ((const struct unix_diag_rqlen *)p)->udiag_rqueue;
			d->wqueue = ((const struct unix_diag_rqlen *)p)->udiag_wqueue;
		}
		break;
	case UNIX_DIAG_SHUTDOWN:
		d->shutdown = *(const uint8_t *)p;
		break;
	default:
		break;
	}
}

static int take_answer(const struct nlmsghdr *h, struct unix_diag *ret)
{
	const struct unix_diag_msg *msg = NLMSG_DATA(h);
	const struct rtattr *a = (const struct rtattr *)(msg + 1);
	int left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*msg)));

	*ret = (struct unix_diag){.type = msg->udiag_type, .state = msg->udiag_state};
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		take_attr(ret, a);
	return 0;
}

int unix_diag_get(struct files *f, uint32_t ino, struct unix_diag *ret)
{
	static _Alignas(struct nlmsghdr) char buf[16384];
	const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
	int e = diag_open(f);

	if (e == 0)
		e = diag_ask(f, ino);
	while (e == 0) {
		ssize_t n = recv(f->diag, buf, sizeof(buf), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!NLMSG_OK(h, (size_t)n))
			return -EBADMSG;
		/* A late answer to an earlier question. */
		if (h->nlmsg_seq != f->diag_seq)
			continue;
		if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
		    h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct unix_diag_msg)))
			return take_answer(h, ret);
		if (h->nlmsg_type == NLMSG_ERROR &&
		    h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr)))
			return ((const struct nlmsgerr *)NLMSG_DATA(h))->error ?: -EBADMSG;
		return -EBADMSG;
	}
	return e;
}
