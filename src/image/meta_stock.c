/* SPDX-License-Identifier: MIT */
/* Images that are not ours: memfd.img, and what mappings say of segments and files. */
#include <fcntl.h>

#include "src/image/meta.h"

int meta_get_memfd(struct meta_in *in)
{
	struct store_in file;
	ProtobufCMessage *msg;
	int ret;

	ret = store_load(in->dirfd, FRAME_MEMFD, "memfd.img", &file, NULL);
	if (ret == -ENOENT)
		return 0;
	if (ret)
		return store_load(in->dirfd, FRAME_MEMFD, "memfd.img", &file, in->err);
	while ((ret = frame_next(&file.f, &msg, NULL, in->err)) > 0) {
		const Im__MemfdInode *from = (const Im__MemfdInode *)msg;
		struct m_shm *s = model_push(in->m, &in->m->shms, &in->m->nshms, sizeof(*s));

		ret = s ? meta_get_str(in, from->name, &s->name) : meta_nomem(in->err, "memfd.img");
		if (ret)
			break;
		s->id = in->m->nshms;
		s->ino = from->shmid;
		s->dev = from->inode_id;
		s->size = from->size;
		s->uid = from->uid;
		s->gid = from->gid;
		s->mode = META_GET(from, mode);
		s->seals = from->seals;
		s->seals_known = true;
		s->memfd = true;
		s->hugetlb = META_GET(from, hugetlb_flag) != 0;
		s->fd = -1;
	}
	store_unload(&file);
	return ret;
}

uint32_t meta_stock_inode(const struct meta_in *in, uint32_t inode_id)
{
	for (uint32_t i = 0; i < in->m->nshms; i++)
		if (in->m->shms[i].memfd && in->m->shms[i].dev == inode_id)
			return i + 1;
	return 0;
}

void meta_stock_mapped(struct meta_in *in, uint32_t file_id, uint32_t fdflags)
{
	struct m_file *f = file_id && file_id <= in->m->nfiles ? &in->m->files[file_id - 1] : NULL;

	if (f && (f->flags & O_ACCMODE) == O_RDONLY)
		f->flags |= fdflags & O_RDWR;
}

int meta_stock_segment(struct meta_in *in, uint32_t file_id, uint64_t shmid, uint64_t end,
		       bool sysv, uint32_t *ret)
{
	const struct m_file *f = model_file(in->m, file_id);
	struct m_shm *s;

	if (file_id) {
		*ret = f ? f->shm_id : 0;
		return 0;
	}
	for (uint32_t i = 0; i < in->m->nshms; i++) {
		s = &in->m->shms[i];
		if (s->memfd || s->ino != shmid)
			continue;
		s->size = s->size > end ? s->size : end;
		*ret = i + 1;
		return 0;
	}
	s = model_push(in->m, &in->m->shms, &in->m->nshms, sizeof(*s));
	if (!s || meta_get_str(in, sysv ? "SYSV" : "/dev/zero", &s->name))
		return meta_nomem(in->err, "shared segment");
	s->id = in->m->nshms;
	s->ino = shmid;
	s->size = end;
	s->sysv = sysv;
	s->fd = -1;
	*ret = s->id;
	return 0;
}
