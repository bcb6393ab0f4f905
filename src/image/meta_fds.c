/* SPDX-License-Identifier: MIT */
/* Descriptor tables and the directories of a process: fdinfo and fs files. */
#include "src/image/meta.h"

enum { CLOEXEC = 1 };

int meta_put_fdinfo(struct meta_out *o, const struct m_fdtable *t)
{
	char name[STORE_NAME];

	frame_begin(&o->img->out, FRAME_FDINFO);
	for (uint32_t i = 0; i < t->n; i++) {
		const struct m_file *f = model_file(o->m, t->fds[i].file_id);
		Im__Fdinfo fd = IM__FDINFO__INIT;

		fd.id = t->fds[i].file_id;
		fd.flags = t->fds[i].cloexec ? CLOEXEC : 0;
		fd.type = f ? (Im__FdType)f->type : IM__FD_TYPE__UND;
		fd.fd = t->fds[i].fd;
		frame_add(&o->img->out, &fd.base);
	}
	return store_put(o->img, store_name(name, "fdinfo-%u.img", t->id), o->err);
}

static int get_fd(struct meta_in *in, const char *name, const Im__Fdinfo *from, struct m_fdtable *t)
{
	struct m_fd *fd = model_push(in->m, &t->fds, &t->n, sizeof(*fd));
	const struct m_file *f;

	if (!fd)
		return meta_nomem(in->err, name);
	fd->fd = from->fd;
	fd->cloexec = from->flags & CLOEXEC;
	fd->file_id = meta_file_id(in, from->id);
	f = model_file(in->m, fd->file_id);
	if (f && f->type != (enum m_file_type)from->type)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"%s: descriptor %u is of type %d, its file %u of type %d", name,
				fd->fd, (int)from->type, from->id, (int)f->type);
	return 0;
}

int meta_get_fdinfo(struct meta_in *in, uint32_t id)
{
	struct m_fdtable *t = model_push(in->m, &in->m->fdtables, &in->m->nfdtables, sizeof(*t));
	char name[STORE_NAME];
	struct store_in file;
	ProtobufCMessage *msg;
	int ret;

	store_name(name, "fdinfo-%u.img", id);
	if (!t)
		return meta_nomem(in->err, name);
	t->id = id;
	ret = store_load(in->dirfd, FRAME_FDINFO, name, &file, in->err);
	if (ret)
		return ret;
	while ((ret = frame_next(&file.f, &msg, NULL, in->err)) > 0) {
		ret = get_fd(in, name, (const Im__Fdinfo *)msg, t);
		if (ret)
			break;
	}
	model_sort_fds(t);
	store_unload(&file);
	return ret;
}

int meta_put_fs(struct meta_out *o, const struct m_proc *p)
{
	char name[STORE_NAME];
	Im__Fs fs = IM__FS__INIT;

	fs.cwd_id = p->cwd_file_id;
	fs.root_id = p->root_file_id;
	META_SET(&fs, umask, p->umask);
	frame_begin(&o->img->out, FRAME_FS);
	frame_add(&o->img->out, &fs.base);
	return store_put(o->img, store_name(name, "fs-%u.img", p->pid), o->err);
}

int meta_get_fs(struct meta_in *in, struct m_proc *p)
{
	char name[STORE_NAME];
	struct store_in file;
	ProtobufCMessage *msg;
	int ret;

	ret = store_load(in->dirfd, FRAME_FS, store_name(name, "fs-%u.img", p->pid), &file,
			 in->err);
	if (ret)
		return ret;
	ret = frame_single(&file.f, &msg, in->err);
	if (!ret) {
		const Im__Fs *fs = (const Im__Fs *)msg;

		p->cwd_file_id = meta_file_id(in, fs->cwd_id);
		p->root_file_id = meta_file_id(in, fs->root_id);
		p->umask = META_GET(fs, umask);
	}
	store_unload(&file);
	return ret;
}
