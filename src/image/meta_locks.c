/* SPDX-License-Identifier: MIT */
/* Locks on files: filelocks.img. */
#include "src/image/meta.h"

int meta_put_locks(struct meta_out *o)
{
	frame_begin(&o->img->out, FRAME_FILELOCKS);
	for (uint32_t i = 0; i < o->m->nlocks; i++) {
		const struct m_lock *l = &o->m->locks[i];
		Im__FileLock to = IM__FILE_LOCK__INIT;

		to.flag = l->kind;
		to.type = l->type;
		to.pid = (int32_t)l->pid;
		to.fd = (int32_t)l->fd;
		to.start = l->start;
		to.len = l->len;
		frame_add(&o->img->out, &to.base);
	}
	return o->m->nlocks ? store_put(o->img, "filelocks.img", o->err) : 0;
}

int meta_get_locks(struct meta_in *in)
{
	struct store_in file;
	ProtobufCMessage *msg;
	int ret = meta_load(in, FRAME_FILELOCKS, "filelocks.img", &file);

	if (ret <= 0)
		return ret;
	while ((ret = frame_next(&file.f, &msg, NULL, in->err)) > 0) {
		const Im__FileLock *from = (const Im__FileLock *)msg;
		struct m_lock *l = model_push(in->m, &in->m->locks, &in->m->nlocks, sizeof(*l));

		ret = l ? 0 : meta_nomem(in->err, "filelocks.img");
		if (ret)
			break;
		/* A broken lease has its state beside the kind. */
		l->kind = (enum m_lock_kind)from->flag;
		l->type = from->type;
		l->pid = (uint32_t)from->pid;
		l->fd = (uint32_t)from->fd;
		l->start = from->start;
		l->len = from->len;
	}
	store_unload(&file);
	return ret;
}
