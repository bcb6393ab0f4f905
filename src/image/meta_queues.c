/* SPDX-License-Identifier: MIT */
/* What is in the queues of sockets: sk-queues.img, and a tcp-stream for each connection. */
#include <string.h>

#include "src/image/meta.h"

enum { SCM_TYPE_RIGHTS = 1 };

/* --- sk-queues.img -------------------------------------------------------------------------- */

static void put_queued(struct meta_out *o, const struct m_packet *p)
{
	Im__SkPacket to = IM__SK_PACKET__INIT;
	Im__Ucred cred = IM__UCRED__INIT;
	Im__Scm scm = IM__SCM__INIT, *scms[1] = {&scm};

	to.id_for = p->file_id;
	to.length = p->len;
	if (p->nrights) {
		scm.type = SCM_TYPE_RIGHTS;
		scm.n_rights = p->nrights;
		scm.rights = p->rights;
		to.n_scm = 1;
		to.scm = scms;
	}
	if (p->has_cred) {
		cred.pid = p->pid;
		cred.uid = p->uid;
		cred.gid = p->gid;
		to.ucred = &cred;
	}
	META_SET_NZ(&to, from_id, p->from_id);
	frame_add(&o->img->out, &to.base);
	frame_bytes(&o->img->out, p->data, p->len);
}

int meta_put_queues(struct meta_out *o)
{
	frame_begin(&o->img->out, FRAME_SK_QUEUES);
	for (uint32_t i = 0; i < o->m->npackets; i++)
		put_queued(o, &o->m->packets[i]);
	return o->m->npackets ? store_put(o->img, "sk-queues.img", o->err) : 0;
}

static int get_rights(struct meta_in *in, const Im__Scm *from, struct m_packet *p)
{
	if (from->type != SCM_TYPE_RIGHTS)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"sk-queues.img: file %u: what travels with a message is of type %u",
				p->file_id, from->type);
	for (size_t i = 0; i < from->n_rights; i++) {
		uint32_t *id = model_push(in->m, &p->rights, &p->nrights, sizeof(*id));

		if (!id)
			return meta_nomem(in->err, "sk-queues.img");
		*id = meta_file_id(in, from->rights[i]);
	}
	return 0;
}

static int get_queued(struct meta_in *in, const Im__SkPacket *from, const struct bytes *payload)
{
	struct m_packet *p = model_push(in->m, &in->m->packets, &in->m->npackets, sizeof(*p));
	ProtobufCBinaryData data = {payload->len, (uint8_t *)payload->start};
	int ret = 0;

	if (!p)
		return meta_nomem(in->err, "sk-queues.img");
	p->file_id = meta_file_id(in, from->id_for);
	p->from_id = from->has_from_id ? meta_file_id(in, from->from_id) : 0;
	if (from->ucred) {
		p->has_cred = true;
		p->pid = from->ucred->pid;
		p->uid = from->ucred->uid;
		p->gid = from->ucred->gid;
	}
	for (size_t i = 0; !ret && i < from->n_scm; i++)
		ret = get_rights(in, from->scm[i], p);
	return ret || !data.len ? ret : meta_get_bytes(in, &data, &p->data, &p->len);
}

static int get_queues(struct meta_in *in)
{
	struct store_in file;
	struct bytes payload;
	ProtobufCMessage *msg;
	int ret = meta_load(in, FRAME_SK_QUEUES, "sk-queues.img", &file);

	if (ret <= 0)
		return ret;
	while ((ret = frame_next(&file.f, &msg, &payload, in->err)) > 0) {
		ret = get_queued(in, (const Im__SkPacket *)msg, &payload);
		if (ret)
			break;
	}
	store_unload(&file);
	return ret;
}

/* --- tcp-stream-INODE.img ------------------------------------------------------------------- */

static const char *stream_name(char name[STORE_NAME], const struct m_file *f)
{
	return store_name(name, "tcp-stream-%x.img", (uint32_t)f->ino);
}

static int put_stream(struct meta_out *o, const struct m_file *f, const struct m_tcp *t)
{
	Im__TcpStream to = IM__TCP_STREAM__INIT;
	char name[STORE_NAME];

	to.inq_len = t->inq_len;
	to.inq_seq = t->inq_seq;
	to.outq_len = t->outq_len;
	to.outq_seq = t->outq_seq;
	to.opt_mask = t->opt_mask;
	to.snd_wscale = t->snd_wscale;
	to.mss_clamp = t->mss_clamp;
	META_SET(&to, rcv_wscale, t->rcv_wscale);
	META_SET(&to, timestamp, t->timestamp);
	META_SET(&to, unsq_len, t->unsent_len);
	if (t->has_window) {
		META_SET(&to, snd_wl1, t->snd_wl1);
		META_SET(&to, snd_wnd, t->snd_wnd);
		META_SET(&to, max_window, t->max_window);
		META_SET(&to, rcv_wnd, t->rcv_wnd);
		META_SET(&to, rcv_wup, t->rcv_wup);
	}
	frame_begin(&o->img->out, FRAME_TCP_STREAM);
	frame_add(&o->img->out, &to.base);
	frame_bytes(&o->img->out, t->inq, t->inq_len);
	frame_bytes(&o->img->out, t->outq, t->outq_len);
	return store_put(o->img, stream_name(name, f), o->err);
}

int meta_put_streams(struct meta_out *o)
{
	int ret = 0;

	for (uint32_t i = 0; !ret && i < o->m->nfiles; i++) {
		const struct m_file *f = &o->m->files[i];

		if (f->isk && f->isk->tcp)
			ret = put_stream(o, f, f->isk->tcp);
	}
	return ret;
}

static int get_bytes(struct meta_in *in, const uint8_t *from, uint32_t len, uint8_t **to)
{
	if (!len)
		return 0;
	*to = model_alloc(in->m, len);
	if (!*to)
		return meta_nomem(in->err, "bytes of a connection");
	memcpy(*to, from, len);
	return 0;
}

static int get_stream(struct meta_in *in, const char *name, const Im__TcpStream *from,
		      const struct bytes *payload, struct m_inet *i)
{
	struct m_tcp *t = model_alloc(in->m, sizeof(*t));
	int ret;

	if (!t)
		return meta_nomem(in->err, name);
	*t = (struct m_tcp){
		.inq_len = from->inq_len,
		.inq_seq = from->inq_seq,
		.outq_len = from->outq_len,
		.outq_seq = from->outq_seq,
		.unsent_len = META_GET(from, unsq_len),
		.opt_mask = from->opt_mask,
		.snd_wscale = from->snd_wscale,
		.rcv_wscale = META_GET(from, rcv_wscale),
		.mss_clamp = from->mss_clamp,
		.timestamp = META_GET(from, timestamp),
		.has_window = from->has_rcv_wup,
		.snd_wl1 = META_GET(from, snd_wl1),
		.snd_wnd = META_GET(from, snd_wnd),
		.max_window = META_GET(from, max_window),
		.rcv_wnd = META_GET(from, rcv_wnd),
		.rcv_wup = META_GET(from, rcv_wup),
	};
	if (t->unsent_len > t->outq_len)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"%s: %u bytes not sent of %u in the queue", name, t->unsent_len,
				t->outq_len);
	ret = get_bytes(in, payload->start, t->inq_len, &t->inq);
	if (!ret)
		ret = get_bytes(in, payload->start + t->inq_len, t->outq_len, &t->outq);
	i->tcp = t;
	return ret;
}

static int get_streams(struct meta_in *in)
{
	int ret = 0;

	for (uint32_t i = 0; ret >= 0 && i < in->m->nfiles; i++) {
		struct m_file *f = &in->m->files[i];
		struct store_in file;
		struct bytes payload;
		ProtobufCMessage *msg;
		char name[STORE_NAME];

		if (!f->isk)
			continue;
		ret = meta_load(in, FRAME_TCP_STREAM, stream_name(name, f), &file);
		if (ret <= 0)
			continue;
		ret = frame_next(&file.f, &msg, &payload, in->err);
		if (ret > 0)
			ret = get_stream(in, name, (const Im__TcpStream *)msg, &payload, f->isk);
		store_unload(&file);
	}
	return ret;
}

int meta_get_queues(struct meta_in *in)
{
	int ret = get_queues(in);

	return ret ? ret : get_streams(in);
}
