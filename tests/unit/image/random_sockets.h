/* SPDX-License-Identifier: MIT */
/* Random sockets, terminals and messages. */
#ifndef TESTS_RANDOM_SOCKETS_H
#define TESTS_RANDOM_SOCKETS_H

#include "tests/unit/image/random.h"

static void rnd_blob(struct model *m, uint32_t max, uint8_t **ret, uint32_t *ret_len)
{
	*ret_len = below(max + 1);
	*ret = *ret_len ? model_alloc(m, *ret_len) : NULL;
	rnd_bytes(*ret, *ret_len);
}

static void rnd_words(struct model *m, uint32_t **ret, uint32_t *ret_n)
{
	for (uint32_t n = below(4); n; n--)
		*(uint32_t *)model_push(m, ret, ret_n, 4) = rnd32();
}

static struct m_sk_opts rnd_opts(struct model *m)
{
	struct m_sk_opts o = {.sndbuf = rnd32(), .rcvbuf = rnd32(), .buf_lock = rnd32()};

	o.snd_tmo_sec = rnd64(), o.snd_tmo_usec = rnd64();
	o.rcv_tmo_sec = rnd64(), o.rcv_tmo_usec = rnd64();
	o.priority = rnd32(), o.rcvlowat = rnd32(), o.mark = rnd32();
	o.reuseaddr = coin(), o.reuseport = coin(), o.passcred = coin(), o.passsec = coin();
	o.dontroute = coin(), o.no_check = coin(), o.broadcast = coin(), o.keepalive = coin();
	o.oobinline = coin(), o.linger_on = coin();
	o.linger = o.linger_on ? rnd32() : 0;
	o.peek_off = coin() ? -1 : (int32_t)below(1000);
	o.bound_dev = rnd_str_or_null(m);
	for (uint32_t n = below(4); n; n--)
		*(uint64_t *)model_push(m, &o.filter, &o.nfilter, 8) = rnd64();
	return o;
}

static void rnd_unix(struct model *m, struct m_file *f)
{
	struct m_unix *u = f->usk = model_alloc(m, sizeof(*u));

	u->type = rnd32(), u->state = rnd32(), u->backlog = rnd32(), u->peer_ino = rnd32();
	u->place = rnd32(), u->shutdown = below(4);
	rnd_blob(m, 108, &u->name, &u->name_len);
	rnd_blob(m, 108, &u->peer_name, &u->peer_name_len);
	u->name_dir = rnd_str_or_null(m);
	u->deleted = coin(), u->path_ino = rnd64();
	u->has_perms = coin();
	if (u->has_perms)
		u->perm_mode = rnd32(), u->perm_uid = rnd32(), u->perm_gid = rnd32();
	u->has_cred = coin();
	if (u->has_cred)
		u->cred_pid = rnd32(), u->cred_uid = rnd32(), u->cred_gid = rnd32();
	u->opts = rnd_opts(m);
}

static struct m_tcp *rnd_tcp(struct model *m)
{
	struct m_tcp *t = model_alloc(m, sizeof(*t));

	rnd_blob(m, 3000, &t->inq, &t->inq_len);
	rnd_blob(m, 3000, &t->outq, &t->outq_len);
	t->unsent_len = below(t->outq_len + 1);
	t->inq_seq = rnd32(), t->outq_seq = rnd32(), t->opt_mask = rnd32();
	t->snd_wscale = rnd32(), t->rcv_wscale = rnd32(), t->mss_clamp = rnd32();
	t->timestamp = rnd32();
	t->has_window = coin();
	if (t->has_window) {
		t->snd_wl1 = rnd32(), t->snd_wnd = rnd32(), t->max_window = rnd32();
		t->rcv_wnd = rnd32(), t->rcv_wup = rnd32();
	}
	return t;
}

static void rnd_inet(struct model *m, struct m_file *f)
{
	struct m_inet *i = f->isk = model_alloc(m, sizeof(*i));
	uint32_t len;

	/* Which names the file of a connection. */
	f->ino = rnd() << 32 | f->id;
	i->family = coin() ? 2 : 10;
	len = i->family == 2 ? 4 : 16;
	i->type = rnd32(), i->proto = rnd32(), i->state = rnd32();
	i->src_port = below(65536), i->dst_port = below(65536);
	rnd_bytes(i->src_addr, len);
	rnd_bytes(i->dst_addr, len);
	i->backlog = rnd32(), i->shutdown = rnd32(), i->ifname = rnd_str_or_null(m);
	i->v6only = i->family == 10 && coin();
	i->freebind = coin(), i->pktinfo = coin(), i->hdrincl = coin(), i->nodefrag = coin();
	i->tos = rnd32(), i->ttl = rnd32();
	i->has_tcp = coin();
	if (i->has_tcp) {
		i->cork = coin(), i->nodelay = coin();
		i->keepcnt = rnd32(), i->keepidle = rnd32(), i->keepintvl = rnd32();
		i->user_timeout = rnd32(), i->defer_accept = rnd32(), i->maxseg = rnd32();
		i->congestion = rnd_str_or_null(m);
	}
	i->tcp = coin() ? rnd_tcp(m) : NULL;
	i->opts = rnd_opts(m);
}

static void rnd_netlink(struct model *m, struct m_file *f)
{
	struct m_netlink *n = f->nlsk = model_alloc(m, sizeof(*n));

	n->type = 1 + rnd32() / 2, n->protocol = rnd32(), n->state = rnd32();
	n->portid = rnd32(), n->dst_portid = rnd32(), n->dst_group = rnd32();
	rnd_words(m, &n->groups, &n->ngroups);
	n->pktinfo = coin(), n->broadcast_error = coin(), n->no_enobufs = coin();
	n->cap_ack = coin(), n->ext_ack = coin(), n->strict = coin();
	n->opts = rnd_opts(m);
}

static void rnd_packet_sk(struct model *m, struct m_file *f)
{
	struct m_packet_sk *p = f->psk = model_alloc(m, sizeof(*p));

	p->type = rnd32(), p->protocol = rnd32(), p->ifindex = rnd32(), p->version = rnd32();
	p->reserve = rnd32(), p->timestamp = rnd32(), p->copy_thresh = rnd32();
	p->aux_data = coin(), p->orig_dev = coin(), p->vnet_hdr = coin(), p->loss = coin();
	p->opts = rnd_opts(m);
}

static struct m_termios rnd_termios(void)
{
	struct m_termios t = {.known = coin()};

	if (!t.known)
		return t;
	t.iflag = rnd32(), t.oflag = rnd32(), t.cflag = rnd32(), t.lflag = rnd32();
	t.line = rnd32();
	rnd_bytes(t.cc, sizeof(t.cc));
	return t;
}

static void rnd_tty(struct model *m)
{
	struct m_tty *t = model_push(m, &m->ttys, &m->nttys, sizeof(*t));

	t->kind = (enum m_tty_kind)(1 + below(6));
	t->id = 2 * m->nttys + coin();
	t->index = t->kind == M_TTY_PTY ? rnd32() : 0;
	t->master = coin(), t->locked = coin(), t->exclusive = coin(), t->packet_mode = coin();
	t->inherited = coin(), t->sid = rnd32(), t->pgrp = rnd32();
	t->rdev = rnd64(), t->dev = rnd64();
	t->uid = rnd32(), t->gid = rnd32(), t->mode = rnd32();
	t->termios = rnd_termios();
	t->locked_termios = rnd_termios();
	t->has_winsize = coin();
	if (t->has_winsize)
		t->row = rnd32(), t->col = rnd32(), t->xpixel = rnd32(), t->ypixel = rnd32();
	rnd_blob(m, 100, &t->data, &t->ndata);
}

static void rnd_packet(struct model *m)
{
	struct m_packet *p = model_push(m, &m->packets, &m->npackets, sizeof(*p));

	p->file_id = 1 + below(m->nfiles), p->from_id = below(m->nfiles + 1);
	rnd_blob(m, 300, &p->data, &p->len);
	for (uint32_t n = below(3); n; n--)
		*(uint32_t *)model_push(m, &p->rights, &p->nrights, 4) = 1 + below(m->nfiles);
	p->has_cred = coin();
	if (p->has_cred)
		p->pid = rnd32(), p->uid = rnd32(), p->gid = rnd32();
}

#endif
