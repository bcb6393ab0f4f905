/* SPDX-License-Identifier: MIT */
/* Sockets in files.img, written. */
#include <string.h>
#include <sys/socket.h>

#include "src/image/meta.h"

static ProtobufCBinaryData binary(const uint8_t *data, uint32_t len)
{
	return (ProtobufCBinaryData){len, (uint8_t *)data};
}

static bool put_more(struct meta_out *o, const struct m_sk_opts *f, Im__SkOpts *to)
{
	Im__SkOption *items;

	to->n_more = f->nmore;
	if (!meta_array(o->scratch, f->nmore, sizeof(*items), &items, &to->more))
		return false;
	for (uint32_t i = 0; i < f->nmore; i++) {
		const struct m_sk_opt *from = &f->more[i];

		im__sk_option__init(&items[i]);
		items[i].level = from->level;
		items[i].name = from->name;
		items[i].value = binary(from->value, from->len);
	}
	return true;
}

static Im__SkOpts *put_opts(struct meta_out *o, const struct m_sk_opts *f)
{
	Im__SkOpts *to = arena_alloc(o->scratch, sizeof(*to));

	if (!to)
		return NULL;
	im__sk_opts__init(to);
	to->so_sndbuf = f->sndbuf;
	to->so_rcvbuf = f->rcvbuf;
	to->so_snd_tmo_sec = f->snd_tmo_sec;
	to->so_snd_tmo_usec = f->snd_tmo_usec;
	to->so_rcv_tmo_sec = f->rcv_tmo_sec;
	to->so_rcv_tmo_usec = f->rcv_tmo_usec;
	META_SET(to, reuseaddr, f->reuseaddr);
	META_SET(to, so_reuseport, f->reuseport);
	META_SET(to, so_priority, f->priority);
	META_SET(to, so_rcvlowat, f->rcvlowat);
	META_SET(to, so_mark, f->mark);
	META_SET(to, so_passcred, f->passcred);
	META_SET(to, so_passsec, f->passsec);
	META_SET(to, so_dontroute, f->dontroute);
	META_SET(to, so_no_check, f->no_check);
	META_SET(to, so_broadcast, f->broadcast);
	META_SET(to, so_keepalive, f->keepalive);
	META_SET_NZ(to, so_oobinline, f->oobinline);
	if (f->linger_on)
		META_SET(to, so_linger, f->linger);
	META_SET_NZ(to, so_buf_lock, f->buf_lock);
	if (f->peek_off >= 0)
		META_SET(to, peek_off, f->peek_off);
	to->so_bound_dev = f->bound_dev;
	to->n_so_filter = f->nfilter;
	to->so_filter = f->filter;
	return put_more(o, f, to) ? to : NULL;
}

static bool put_unix(struct meta_out *o, const struct m_file *f, Im__Fown *fown, Im__File *file)
{
	const struct m_unix *u = f->usk;
	Im__FilePerms *perms = arena_alloc(o->scratch, sizeof(*perms));
	Im__Ucred *cred = arena_alloc(o->scratch, sizeof(*cred));
	Im__UnixSk *to = arena_alloc(o->scratch, sizeof(*to));

	if (!to || !perms || !cred)
		return false;
	im__unix_sk__init(to);
	to->id = f->id;
	to->ino = (uint32_t)f->ino;
	to->type = u->type;
	to->state = u->state;
	to->flags = f->flags;
	to->backlog = u->backlog;
	to->peer = u->peer_ino;
	to->fown = fown;
	to->opts = put_opts(o, &u->opts);
	to->name = binary(u->name, u->name_len);
	META_SET_NZ(to, shutdown, u->shutdown);
	if (u->has_perms) {
		im__file_perms__init(perms);
		perms->mode = u->perm_mode;
		perms->uid = u->perm_uid;
		perms->gid = u->perm_gid;
		to->file_perms = perms;
	}
	to->name_dir = u->name_dir;
	META_SET_NZ(to, deleted, u->deleted);
	META_SET_NZ(to, place, u->place);
	META_SET_NZ(to, path_ino, u->path_ino);
	META_SET_NZ(to, reset, u->reset);
	to->has_peer_name = u->peer_name_len != 0;
	to->peer_name = binary(u->peer_name, u->peer_name_len);
	if (u->has_cred) {
		im__ucred__init(cred);
		cred->pid = u->cred_pid;
		cred->uid = u->cred_uid;
		cred->gid = u->cred_gid;
		to->peer_cred = cred;
	}
	file->usk = to;
	return to->opts != NULL;
}

/* --- inet ----------------------------------------------------------------------------------- */

static bool put_addr(struct meta_out *o, uint32_t family, const uint8_t addr[16], size_t *n,
		     uint32_t **ret)
{
	size_t words = family == AF_INET ? 1 : 4;

	*ret = arena_alloc(o->scratch, 4 * words);
	if (!*ret)
		return false;
	memcpy(*ret, addr, 4 * words);
	*n = words;
	return true;
}

static Im__IpOpts *put_ip(struct meta_out *o, const struct m_inet *i)
{
	Im__IpOpts *to = arena_alloc(o->scratch, sizeof(*to));
	Im__IpRaw *raw = arena_alloc(o->scratch, sizeof(*raw));

	if (!to || !raw)
		return NULL;
	im__ip_opts__init(to);
	META_SET_NZ(to, freebind, i->freebind);
	META_SET_NZ(to, pktinfo, i->pktinfo);
	META_SET_NZ(to, tos, i->tos);
	META_SET_NZ(to, ttl, i->ttl);
	if (i->hdrincl || i->nodefrag) {
		im__ip_raw__init(raw);
		META_SET_NZ(raw, hdrincl, i->hdrincl);
		META_SET_NZ(raw, nodefrag, i->nodefrag);
		to->raw = raw;
	}
	return to;
}

static Im__TcpOpts *put_tcp_opts(struct meta_out *o, const struct m_inet *i)
{
	Im__TcpOpts *to = arena_alloc(o->scratch, sizeof(*to));

	if (!to)
		return NULL;
	im__tcp_opts__init(to);
	META_SET_NZ(to, cork, i->cork);
	META_SET_NZ(to, nodelay, i->nodelay);
	META_SET_NZ(to, keepcnt, i->keepcnt);
	META_SET_NZ(to, keepidle, i->keepidle);
	META_SET_NZ(to, keepintvl, i->keepintvl);
	META_SET_NZ(to, user_timeout, i->user_timeout);
	META_SET_NZ(to, defer_accept, i->defer_accept);
	META_SET_NZ(to, maxseg, i->maxseg);
	to->congestion = i->congestion;
	return to;
}

static bool put_groups(struct meta_out *o, const struct m_inet *i, Im__InetSk *to)
{
	Im__SkGroup *items;

	to->n_groups = i->ngroups;
	if (!meta_array(o->scratch, i->ngroups, sizeof(*items), &items, &to->groups))
		return false;
	for (uint32_t k = 0; k < i->ngroups; k++) {
		im__sk_group__init(&items[k]);
		items[k].addr = binary(i->groups[k].addr, i->groups[k].len);
		items[k].ifname = i->groups[k].ifname;
	}
	return true;
}

static bool put_inet(struct meta_out *o, const struct m_file *f, Im__Fown *fown, Im__File *file)
{
	const struct m_inet *i = f->isk;
	Im__InetSk *to = arena_alloc(o->scratch, sizeof(*to));

	if (!to)
		return false;
	im__inet_sk__init(to);
	to->id = f->id;
	to->ino = (uint32_t)f->ino;
	to->family = i->family;
	to->type = i->type;
	to->proto = i->proto;
	to->state = i->state;
	to->src_port = i->src_port;
	to->dst_port = i->dst_port;
	to->flags = f->flags;
	to->backlog = i->backlog;
	to->fown = fown;
	to->opts = put_opts(o, &i->opts);
	to->ip_opts = put_ip(o, i);
	META_SET(to, v6only, i->v6only);
	to->has_v6only = i->family == AF_INET6;
	to->ifname = i->ifname;
	META_SET_NZ(to, shutdown, i->shutdown);
	if (i->has_tcp)
		to->tcp_opts = put_tcp_opts(o, i);
	file->isk = to;
	return to->opts && to->ip_opts && (to->tcp_opts || !i->has_tcp) && put_groups(o, i, to) &&
	       put_addr(o, i->family, i->src_addr, &to->n_src_addr, &to->src_addr) &&
	       put_addr(o, i->family, i->dst_addr, &to->n_dst_addr, &to->dst_addr);
}

/* --- netlink, packet ------------------------------------------------------------------------ */

static bool put_netlink(struct meta_out *o, const struct m_file *f, Im__Fown *fown, Im__File *file)
{
	const struct m_netlink *n = f->nlsk;
	Im__NetlinkSk *to = arena_alloc(o->scratch, sizeof(*to));

	if (!to)
		return false;
	im__netlink_sk__init(to);
	to->id = f->id;
	to->ino = (uint32_t)f->ino;
	to->protocol = n->protocol;
	to->state = n->state;
	to->flags = f->flags;
	to->portid = n->portid;
	to->n_groups = n->ngroups;
	to->groups = n->groups;
	to->dst_portid = n->dst_portid;
	to->dst_group = n->dst_group;
	to->fown = fown;
	to->opts = put_opts(o, &n->opts);
	META_SET_NZ(to, type, n->type);
	META_SET_NZ(to, pktinfo, n->pktinfo);
	META_SET_NZ(to, broadcast_error, n->broadcast_error);
	META_SET_NZ(to, no_enobufs, n->no_enobufs);
	META_SET_NZ(to, cap_ack, n->cap_ack);
	META_SET_NZ(to, ext_ack, n->ext_ack);
	META_SET_NZ(to, strict, n->strict);
	file->nlsk = to;
	return to->opts != NULL;
}

static bool put_packet(struct meta_out *o, const struct m_file *f, Im__Fown *fown, Im__File *file)
{
	const struct m_packet_sk *p = f->psk;
	Im__PacketSk *to = arena_alloc(o->scratch, sizeof(*to));

	if (!to)
		return false;
	im__packet_sk__init(to);
	to->id = f->id;
	to->type = p->type;
	to->protocol = p->protocol;
	to->flags = f->flags;
	to->ifindex = p->ifindex;
	to->fown = fown;
	to->opts = put_opts(o, &p->opts);
	to->version = p->version;
	to->reserve = p->reserve;
	to->aux_data = p->aux_data;
	to->orig_dev = p->orig_dev;
	to->vnet_hdr = p->vnet_hdr;
	to->loss = p->loss;
	to->timestamp = p->timestamp;
	to->copy_thresh = p->copy_thresh;
	file->psk = to;
	return to->opts != NULL;
}

int meta_put_socket(struct meta_out *o, const struct m_file *f, Im__Fown *fown, Im__File *to)
{
	bool fits;

	if (f->usk)
		fits = put_unix(o, f, fown, to);
	else if (f->isk)
		fits = put_inet(o, f, fown, to);
	else if (f->nlsk)
		fits = put_netlink(o, f, fown, to);
	else if (f->psk)
		fits = put_packet(o, f, fown, to);
	else
		return 0;
	return fits ? 1 : -ENOMEM;
}
