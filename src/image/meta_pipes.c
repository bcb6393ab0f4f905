/* SPDX-License-Identifier: MIT */
/* What is in pipes and FIFOs: pipes-data.img, fifo-data.img. */
#include "src/image/meta.h"

static int put_kind(struct meta_out *o, enum frame_id id, const char *name, bool fifo)
{
	uint32_t n = 0;

	frame_begin(&o->img->out, id);
	for (uint32_t i = 0; i < o->m->npipes; i++) {
		const struct m_pipe *p = &o->m->pipes[i];
		Im__PipeData to = IM__PIPE_DATA__INIT;

		if (p->fifo != fifo)
			continue;
		to.pipe_id = (uint32_t)p->ino;
		to.bytes = p->len;
		META_SET_NZ(&to, size, p->size);
		to.n_packets = p->npackets;
		to.packets = p->packets;
		META_SET_NZ(&to, dev, p->dev);
		META_SET(&to, ino, p->ino);
		frame_add(&o->img->out, &to.base);
		frame_bytes(&o->img->out, p->data, p->len);
		n++;
	}
	return n ? store_put(o->img, name, o->err) : 0;
}

int meta_put_pipes(struct meta_out *o)
{
	int ret = put_kind(o, FRAME_PIPES_DATA, "pipes-data.img", false);

	return ret ? ret : put_kind(o, FRAME_FIFO_DATA, "fifo-data.img", true);
}

static int get_packets(struct meta_in *in, const char *name, const Im__PipeData *from,
		       struct m_pipe *p)
{
	uint64_t sum = 0;

	if (!from->n_packets)
		return 0;
	p->packets = model_alloc(in->m, from->n_packets * sizeof(*p->packets));
	if (!p->packets)
		return meta_nomem(in->err, name);
	p->npackets = (uint32_t)from->n_packets;
	for (uint32_t i = 0; i < p->npackets; i++)
		sum += p->packets[i] = from->packets[i];
	if (sum != p->len)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"%s: pipe %u: packets of %" PRIu64 " bytes in %u", name,
				from->pipe_id, sum, p->len);
	return 0;
}

static int get_pipe(struct meta_in *in, const char *name, bool fifo, const Im__PipeData *from,
		    const struct bytes *payload)
{
	struct m_pipe *p = model_push(in->m, &in->m->pipes, &in->m->npipes, sizeof(*p));
	ProtobufCBinaryData data = {payload->len, (uint8_t *)payload->start};

	if (!p)
		return meta_nomem(in->err, name);
	p->fifo = fifo;
	p->dev = META_GET(from, dev);
	p->ino = from->has_ino ? from->ino : from->pipe_id;
	p->size = META_GET(from, size);
	if (data.len && meta_get_bytes(in, &data, &p->data, &p->len))
		return -ENOMEM;
	return get_packets(in, name, from, p);
}

static int get_kind(struct meta_in *in, enum frame_id id, const char *name, bool fifo)
{
	struct store_in file;
	struct bytes payload;
	ProtobufCMessage *msg;
	int ret = meta_load(in, id, name, &file);

	if (ret <= 0)
		return ret;
	while ((ret = frame_next(&file.f, &msg, &payload, in->err)) > 0) {
		ret = get_pipe(in, name, fifo, (const Im__PipeData *)msg, &payload);
		if (ret)
			break;
	}
	store_unload(&file);
	return ret;
}

int meta_get_pipes(struct meta_in *in)
{
	int ret = get_kind(in, FRAME_PIPES_DATA, "pipes-data.img", false);

	return ret ? ret : get_kind(in, FRAME_FIFO_DATA, "fifo-data.img", true);
}
