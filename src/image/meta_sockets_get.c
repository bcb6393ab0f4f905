/* SPDX-License-Identifier: MIT */
/* Sockets in files.img, read. */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "src/image/meta.h"

static int get_more(struct meta_in *in, const Im__SkOpts *from, struct m_sk_opts *to)
{
	if (!from->n_more)
		return 0;
	to->more = model_alloc(in->m, from->n_more * sizeof(*to->more));
	if (!to->more)
		return meta_nomem(in->err, "files.img");
	to->nmore = (uint32_t)from->n_more;
	for (uint32_t i = 0; i < to->nmore; i++) {
		const Im__SkOption *o = from->more[i];

		if (o->value.len > sizeof(to->more[i].value))
			return err_fail(
				in->err, EBADMSG, ERR_IMAGE,
				"files.img: option %u of level %u of a socket has %zu bytes",
				o->name, o->level, o->value.len);
		to->more[i] = (struct m_sk_opt){o->level, o->name, (uint32_t)o->value.len, {0}};
		if (o->value.len)
			memcpy(to->more[i].value, o->value.data, o->value.len);
	}
	return 0;
}

static int get_opts(struct meta_in *in, const Im__SkOpts *from, struct m_sk_opts *to)
{
	*to = (struct m_sk_opts){
		.sndbuf = from->so_sndbuf,
		.rcvbuf = from->so_rcvbuf,
		.buf_lock = META_GET(from, so_buf_lock),
		.snd_tmo_sec = from->so_snd_tmo_sec,
		.snd_tmo_usec = from->so_snd_tmo_usec,
		.rcv_tmo_sec = from->so_rcv_tmo_sec,
		.rcv_tmo_usec = from->so_rcv_tmo_usec,
		.priority = META_GET(from, so_priority),
		.rcvlowat = META_GET(from, so_rcvlowat),
		.mark = META_GET(from, so_mark),
		.reuseaddr = META_GET(from, reuseaddr),
		.reuseport = META_GET(from, so_reuseport),
		.passcred = META_GET(from, so_passcred),
		.passsec = META_GET(from, so_passsec),
		.dontroute = META_GET(from, so_dontroute),
		.no_check = META_GET(from, so_no_check),
		.broadcast = META_GET(from, so_broadcast),
		.keepalive = META_GET(from, so_keepalive),
		.oobinline = META_GET(from, so_oobinline),
		.linger_on = from->has_so_linger,
		.linger = META_GET(from, so_linger),
		.peek_off = from->has_peek_off ? from->peek_off : -1,
		.nfilter = (uint32_t)from->n_so_filter,
	};
	if (to->nfilter) {
		size_t len = to->nfilter * sizeof(*to->filter);

		to->filter = model_alloc(in->m, len);
		if (!to->filter)
			return meta_nomem(in->err, "files.img");
		memcpy(to->filter, from->so_filter, len);
	}
	if (get_more(in, from, to) < 0)
		return -in->err->errnum;
	return meta_get_str(in, from->so_bound_dev, &to->bound_dev);
}

static int get_name(struct meta_in *in, const ProtobufCBinaryData *from, uint8_t **to,
		    uint32_t *to_len)
{
	enum { SUN_PATH = 108 };

	if (from->len > SUN_PATH)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"files.img: the name of a unix socket has %zu bytes", from->len);
	return from->len ? meta_get_bytes(in, from, to, to_len) : 0;
}

static int get_unix(struct meta_in *in, const Im__UnixSk *from, struct m_file *f)
{
	struct m_unix *u = f->usk = model_alloc(in->m, sizeof(*u));
	int ret;

	if (!u)
		return meta_nomem(in->err, "files.img");
	f->flags = from->flags;
	f->ino = f->ino ? f->ino : from->ino;
	*u = (struct m_unix){
		.type = from->type,
		.state = from->state,
		.backlog = from->backlog,
		.peer_ino = from->peer,
		.place = META_GET(from, place),
		.shutdown = META_GET(from, shutdown),
		.deleted = META_GET(from, deleted),
		.path_ino = META_GET(from, path_ino),
		.reset = META_GET(from, reset),
	};
	if (from->file_perms) {
		u->has_perms = true;
		u->perm_mode = from->file_perms->mode;
		u->perm_uid = from->file_perms->uid;
		u->perm_gid = from->file_perms->gid;
	}
	if (from->peer_cred) {
		u->has_cred = true;
		u->cred_pid = from->peer_cred->pid;
		u->cred_uid = from->peer_cred->uid;
		u->cred_gid = from->peer_cred->gid;
	}
	ret = get_name(in, &from->name, &u->name, &u->name_len);
	if (!ret)
		ret = get_name(in, &from->peer_name, &u->peer_name, &u->peer_name_len);
	if (!ret)
		ret = meta_get_str(in, from->name_dir, &u->name_dir);
	return ret ? ret : get_opts(in, from->opts, &u->opts);
}

/* --- inet ----------------------------------------------------------------------------------- */

static int get_addr(struct meta_in *in, const Im__InetSk *from, size_t n, const uint32_t *words,
		    uint8_t to[16])
{
	size_t want = from->family == AF_INET ? 1 : 4;

	if (!n)
		return 0;
	if (n != want)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"files.img: socket %u of family %u has an address of %zu words",
				from->id, from->family, n);
	for (size_t i = 0; i < n; i++) {
		uint32_t w = in->big_endian != META_HOST_BIG_ENDIAN ? __builtin_bswap32(words[i])
								    : words[i];

		memcpy(to + 4 * i, &w, 4);
	}
	return 0;
}

static int get_tcp_opts(struct meta_in *in, const Im__InetSk *from, struct m_inet *i)
{
	const Im__TcpOpts *t = from->tcp_opts;

	/* Stock images have them, as zeros, for UDP, too. */
	if (!t || (in->stock && i->proto != IPPROTO_TCP))
		return 0;
	i->has_tcp = true;
	i->cork = META_GET(t, cork);
	i->nodelay = META_GET(t, nodelay);
	i->keepcnt = META_GET(t, keepcnt);
	i->keepidle = META_GET(t, keepidle);
	i->keepintvl = META_GET(t, keepintvl);
	i->user_timeout = META_GET(t, user_timeout);
	i->defer_accept = META_GET(t, defer_accept);
	i->maxseg = META_GET(t, maxseg);
	return meta_get_str(in, t->congestion, &i->congestion);
}

static int get_groups(struct meta_in *in, const Im__InetSk *from, struct m_inet *i)
{
	int ret = 0;

	if (!from->n_groups)
		return 0;
	i->groups = model_alloc(in->m, from->n_groups * sizeof(*i->groups));
	if (!i->groups)
		return meta_nomem(in->err, "files.img");
	i->ngroups = (uint32_t)from->n_groups;
	for (uint32_t k = 0; !ret && k < i->ngroups; k++) {
		const Im__SkGroup *g = from->groups[k];

		if (g->addr.len != 4 && g->addr.len != 16)
			return err_fail(in->err, EBADMSG, ERR_IMAGE,
					"files.img: socket %u is in a group with an address of "
					"%zu bytes",
					from->id, g->addr.len);
		i->groups[k].len = (uint32_t)g->addr.len;
		memcpy(i->groups[k].addr, g->addr.data, g->addr.len);
		ret = meta_get_str(in, g->ifname, &i->groups[k].ifname);
	}
	return ret;
}

static int get_inet(struct meta_in *in, const Im__InetSk *from, struct m_file *f)
{
	struct m_inet *i = f->isk = model_alloc(in->m, sizeof(*i));
	int ret;

	if (!i)
		return meta_nomem(in->err, "files.img");
	if (from->family != AF_INET && from->family != AF_INET6)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"files.img: internet socket %u is of family %u", from->id,
				from->family);
	f->flags = from->flags;
	f->ino = f->ino ? f->ino : from->ino;
	*i = (struct m_inet){
		.family = from->family,
		.type = from->type,
		.proto = from->proto,
		.state = from->state,
		.src_port = from->src_port & 0xffff,
		.dst_port = from->dst_port & 0xffff,
		.backlog = from->backlog,
		.v6only = META_GET(from, v6only),
		.shutdown = META_GET(from, shutdown),
	};
	if (from->ip_opts) {
		const Im__IpRaw *raw = from->ip_opts->raw;

		i->freebind = META_GET(from->ip_opts, freebind);
		i->pktinfo = META_GET(from->ip_opts, pktinfo);
		i->tos = META_GET(from->ip_opts, tos);
		i->ttl = META_GET(from->ip_opts, ttl);
		i->hdrincl = raw && META_GET(raw, hdrincl);
		i->nodefrag = raw && META_GET(raw, nodefrag);
	}
	ret = get_addr(in, from, from->n_src_addr, from->src_addr, i->src_addr);
	if (!ret)
		ret = get_addr(in, from, from->n_dst_addr, from->dst_addr, i->dst_addr);
	if (!ret)
		ret = get_tcp_opts(in, from, i);
	if (!ret)
		ret = meta_get_str(in, from->ifname, &i->ifname);
	if (!ret)
		ret = get_groups(in, from, i);
	return ret ? ret : get_opts(in, from->opts, &i->opts);
}

/* --- netlink, packet ------------------------------------------------------------------------ */

static int get_netlink(struct meta_in *in, const Im__NetlinkSk *from, struct m_file *f)
{
	struct m_netlink *n = f->nlsk = model_alloc(in->m, sizeof(*n));

	if (!n)
		return meta_nomem(in->err, "files.img");
	f->flags = from->flags;
	f->ino = f->ino ? f->ino : from->ino;
	*n = (struct m_netlink){
		.type = from->has_type ? from->type : SOCK_RAW,
		.protocol = from->protocol,
		.state = from->state,
		.portid = from->portid,
		.dst_portid = from->dst_portid,
		.dst_group = from->dst_group,
		.pktinfo = META_GET(from, pktinfo),
		.broadcast_error = META_GET(from, broadcast_error),
		.no_enobufs = META_GET(from, no_enobufs),
		.cap_ack = META_GET(from, cap_ack),
		.ext_ack = META_GET(from, ext_ack),
		.strict = META_GET(from, strict),
	};
	if (from->n_groups) {
		n->ngroups = (uint32_t)from->n_groups;
		n->groups = model_alloc(in->m, n->ngroups * sizeof(*n->groups));
		if (!n->groups)
			return meta_nomem(in->err, "files.img");
		memcpy(n->groups, from->groups, n->ngroups * sizeof(*n->groups));
	}
	return get_opts(in, from->opts, &n->opts);
}

static int get_packet(struct meta_in *in, const Im__PacketSk *from, struct m_file *f)
{
	struct m_packet_sk *p = f->psk = model_alloc(in->m, sizeof(*p));

	if (!p)
		return meta_nomem(in->err, "files.img");
	f->flags = from->flags;
	*p = (struct m_packet_sk){
		.type = from->type,
		.protocol = from->protocol,
		.ifindex = from->ifindex,
		.version = from->version,
		.reserve = from->reserve,
		.aux_data = from->aux_data,
		.orig_dev = from->orig_dev,
		.vnet_hdr = from->vnet_hdr,
		.loss = from->loss,
		.timestamp = from->timestamp,
		.copy_thresh = from->copy_thresh,
	};
	return get_opts(in, from->opts, &p->opts);
}

const Im__Fown *meta_socket_fown(const Im__File *from)
{
	if (from->usk)
		return from->usk->fown;
	if (from->isk)
		return from->isk->fown;
	if (from->nlsk)
		return from->nlsk->fown;
	return from->psk ? from->psk->fown : NULL;
}

int meta_get_socket(struct meta_in *in, const Im__File *from, struct m_file *f)
{
	if (from->usk)
		return get_unix(in, from->usk, f);
	if (from->isk)
		return get_inet(in, from->isk, f);
	if (from->nlsk)
		return get_netlink(in, from->nlsk, f);
	return get_packet(in, from->psk, f);
}
