/* SPDX-License-Identifier: MIT */
/* Files whose path is gone: remap-fpath.img, and a ghost-file for each inode without a name. */
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "src/image/meta.h"

enum { LEGACY_GHOST = 1u << 31 };

/* --- writing -------------------------------------------------------------------------------- */

static void put_remap(struct meta_out *o, uint32_t orig, uint32_t remap, Im__RemapType type)
{
	Im__RemapPath to = IM__REMAP_PATH__INIT;

	to.orig_id = orig;
	to.remap_id = remap;
	META_SET(&to, remap_type, type);
	frame_add(&o->img->out, &to.base);
}

static int put_remaps(struct meta_out *o)
{
	uint32_t n = 0;

	frame_begin(&o->img->out, FRAME_REMAP);
	for (uint32_t i = 0; i < o->m->nfiles; i++) {
		const struct m_file *f = &o->m->files[i];

		if (f->ghost_id)
			put_remap(o, f->id, f->ghost_id, IM__REMAP_TYPE__GHOST);
		else if (f->link_path)
			put_remap(o, f->id, meta_link_helper(o->m, f->id), IM__REMAP_TYPE__LINKED);
		n += f->ghost_id || f->link_path;
	}
	return n ? store_put(o->img, "remap-fpath.img", o->err) : 0;
}

/* What the kernel has inside: 12 bits and 20. */
static uint32_t kernel_dev(uint64_t dev)
{
	return (uint32_t)(major(dev) << 20 | minor(dev));
}

static void put_time(Im__Timeval *to, int64_t ns)
{
	im__timeval__init(to);
	if (ns < 0)
		return;
	to->tv_sec = (uint64_t)ns / 1000000000;
	to->tv_usec = (uint64_t)ns % 1000000000 / 1000;
}

static bool put_xattrs(struct meta_out *o, const struct m_ghost *g, Im__GhostFile *to)
{
	Im__Xattr *items;

	to->n_xattrs = g->nxattrs;
	if (!meta_array(o->scratch, g->nxattrs, sizeof(*items), &items, &to->xattrs))
		return false;
	for (uint32_t i = 0; i < g->nxattrs; i++) {
		im__xattr__init(&items[i]);
		items[i].name = g->xattrs[i].name;
		items[i].value.data = g->xattrs[i].value;
		items[i].value.len = g->xattrs[i].len;
	}
	return true;
}

static int put_ghost(struct meta_out *o, const struct m_ghost *g)
{
	Im__GhostFile to = IM__GHOST_FILE__INIT;
	Im__Timeval atim, mtim;
	char name[STORE_NAME];

	to.uid = g->uid;
	to.gid = g->gid;
	to.mode = g->mode;
	META_SET(&to, dev, kernel_dev(g->dev));
	META_SET(&to, ino, g->ino);
	META_SET_NZ(&to, rdev, kernel_dev(g->rdev));
	put_time(&atim, g->atime_ns);
	put_time(&mtim, g->mtime_ns);
	to.atim = &atim;
	to.mtim = &mtim;
	META_SET(&to, chunks, true);
	META_SET(&to, size, g->size);
	to.symlnk_target = g->target;
	META_SET(&to, atime_ns, g->atime_ns);
	META_SET(&to, mtime_ns, g->mtime_ns);
	META_SET(&to, st_dev, g->dev);
	META_SET_NZ(&to, st_rdev, g->rdev);
	if (!put_xattrs(o, g, &to))
		return meta_nomem(o->err, "ghost-file");
	frame_begin(&o->img->out, FRAME_GHOST);
	frame_add(&o->img->out, &to.base);
	for (uint32_t i = 0; i < g->nextents; i++) {
		Im__GhostChunk chunk = IM__GHOST_CHUNK__INIT;

		chunk.off = g->extents[i].off;
		chunk.len = g->extents[i].len;
		frame_add(&o->img->out, &chunk.base);
		frame_bytes(&o->img->out, g->extents[i].data, g->extents[i].len);
	}
	return store_put(o->img, store_name(name, "ghost-file-%x.img", g->id), o->err);
}

int meta_put_ghosts(struct meta_out *o)
{
	int ret = put_remaps(o);

	for (uint32_t i = 0; !ret && i < o->m->nghosts; i++)
		ret = put_ghost(o, &o->m->ghosts[i]);
	return ret;
}

/* --- reading -------------------------------------------------------------------------------- */

static int64_t get_time(const Im__Timeval *t)
{
	return t ? (int64_t)(t->tv_sec * 1000000000 + t->tv_usec * 1000) : 0;
}

static uint64_t from_kernel_dev(uint32_t dev)
{
	return makedev(dev >> 20, dev & 0xfffff);
}

static int get_extent(struct meta_in *in, const char *name, struct m_ghost *g, uint64_t off,
		      const struct bytes *data)
{
	struct m_extent *e = model_push(in->m, &g->extents, &g->nextents, sizeof(*e));
	ProtobufCBinaryData bytes = {data->len, (uint8_t *)data->start};
	uint32_t len;

	if (!e)
		return meta_nomem(in->err, name);
	e->off = off;
	e->len = data->len;
	return meta_get_bytes(in, &bytes, &e->data, &len);
}

static int get_xattrs(struct meta_in *in, const char *name, const Im__GhostFile *from,
		      struct m_ghost *g)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < from->n_xattrs; i++) {
		const Im__Xattr *x = from->xattrs[i];
		struct m_xattr *to = model_push(in->m, &g->xattrs, &g->nxattrs, sizeof(*g->xattrs));

		if (!to)
			return meta_nomem(in->err, name);
		if (!*x->name || strlen(x->name) > XATTR_NAME_MAX || x->value.len > XATTR_SIZE_MAX)
			return err_fail(in->err, EBADMSG, ERR_IMAGE,
					"%s: an extended attribute whose name or value is none",
					name);
		ret = meta_get_str(in, x->name, &to->name);
		if (ret == 0)
			ret = meta_get_bytes(in, &x->value, &to->value, &to->len);
	}
	return ret;
}

static int get_head(struct meta_in *in, const char *name, const Im__GhostFile *from,
		    const struct bytes *data, struct m_ghost *g)
{
	int ret = meta_get_str(in, from->symlnk_target, &g->target);

	g->uid = from->uid;
	g->gid = from->gid;
	g->mode = from->mode;
	g->dev = from->has_st_dev ? from->st_dev : from_kernel_dev(META_GET(from, dev));
	g->ino = META_GET(from, ino);
	g->rdev = from->has_st_rdev ? from->st_rdev : META_GET(from, rdev);
	g->size = from->has_size ? from->size : data->len;
	g->atime_ns = from->has_atime_ns ? from->atime_ns : get_time(from->atim);
	g->mtime_ns = from->has_mtime_ns ? from->mtime_ns : get_time(from->mtim);
	if (!ret)
		ret = get_xattrs(in, name, from, g);
	if (!ret && data->len)
		ret = get_extent(in, name, g, 0, data);
	return ret;
}

static int get_chunk(struct meta_in *in, const char *name, const Im__GhostChunk *from,
		     const struct bytes *data, struct m_ghost *g)
{
	const struct m_extent *last = g->nextents ? &g->extents[g->nextents - 1] : NULL;
	uint64_t end = last ? last->off + last->len : 0;

	if (from->off < end || from->off > INT64_MAX - data->len)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"%s: a piece at %" PRIu64
				" of which the one before ends at %" PRIu64,
				name, from->off, end);
	end = from->off + data->len;
	g->size = g->size > end ? g->size : end;
	return get_extent(in, name, g, from->off, data);
}

static int get_ghost(struct meta_in *in, uint32_t number, uint32_t *ret_id)
{
	struct m_ghost *g = model_push(in->m, &in->m->ghosts, &in->m->nghosts, sizeof(*g));
	char name[STORE_NAME];
	struct store_in file;
	struct bytes data;
	ProtobufCMessage *msg;
	int ret;

	store_name(name, "ghost-file-%x.img", number);
	if (!g)
		return meta_nomem(in->err, name);
	*ret_id = g->id = in->m->nghosts;
	ret = store_load(in->dirfd, FRAME_GHOST, name, &file, in->err);
	if (ret)
		return ret;
	while ((ret = frame_next(&file.f, &msg, &data, in->err)) > 0) {
		if (file.f.entries == 1)
			ret = get_head(in, name, (const Im__GhostFile *)msg, &data, g);
		else
			ret = get_chunk(in, name, (const Im__GhostChunk *)msg, &data, g);
		if (ret)
			break;
	}
	if (!ret && !file.f.entries)
		ret = err_fail(in->err, EBADMSG, ERR_IMAGE, "%s: has no entry", name);
	store_unload(&file);
	return ret;
}

/* Numbers of ghost files beside their ids: several files may have been one inode. */
struct numbers {
	uint32_t n;
	uint32_t *v; /* [i]: of ghost i + 1 */
};

static int ghost_of(struct meta_in *in, struct numbers *known, uint32_t number, uint32_t *ret_id)
{
	uint32_t *e;

	/* Ours are numbered in this order. */
	if (number && number <= known->n && known->v[number - 1] == number) {
		*ret_id = number;
		return 0;
	}
	for (uint32_t i = 0; i < known->n; i++) {
		if (known->v[i] != number)
			continue;
		*ret_id = i + 1;
		return 0;
	}
	e = model_push(in->m, &known->v, &known->n, sizeof(*e));
	if (!e)
		return meta_nomem(in->err, "remap-fpath.img");
	*e = number;
	return get_ghost(in, number, ret_id);
}

static int get_remap(struct meta_in *in, const Im__RemapPath *from, struct numbers *known)
{
	uint32_t id = meta_file_id(in, from->orig_id), number = from->remap_id;
	struct m_file *f = id && id <= in->m->nfiles ? &in->m->files[id - 1] : NULL;
	const struct m_file *other;
	Im__RemapType type = from->remap_type;

	if (!from->has_remap_type) {
		type = number & LEGACY_GHOST ? IM__REMAP_TYPE__GHOST : IM__REMAP_TYPE__LINKED;
		number &= ~(uint32_t)LEGACY_GHOST;
	}
	if (!f)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"remap-fpath.img: names file %u, which is not there",
				from->orig_id);
	f->deleted = true;
	if (type == IM__REMAP_TYPE__GHOST)
		return ghost_of(in, known, number, &f->ghost_id);
	if (type != IM__REMAP_TYPE__LINKED || f->link_path)
		return 0;
	other = model_file(in->m, meta_file_id(in, number));
	f->link_made = other && other->path && strstr(other->path, "/link_remap.");
	return other ? meta_get_str(in, other->path, &f->link_path)
		     : err_fail(
			       in->err, EBADMSG, ERR_IMAGE,
			       "remap-fpath.img: file %u is another name of %u, which is not there",
			       number, from->orig_id);
}

int meta_get_ghosts(struct meta_in *in)
{
	struct numbers known = {0};
	struct store_in file;
	ProtobufCMessage *msg;
	int ret = meta_load(in, FRAME_REMAP, "remap-fpath.img", &file);

	if (ret <= 0)
		return ret;
	while ((ret = frame_next(&file.f, &msg, NULL, in->err)) > 0) {
		ret = get_remap(in, (const Im__RemapPath *)msg, &known);
		if (ret)
			break;
	}
	store_unload(&file);
	return ret;
}
