/* SPDX-License-Identifier: MIT */
/* The model to and from the files of an image: which file comes when. */
#include "src/image/meta.h"

#include <string.h>

#include "src/image/check.h"
#include "src/image/misc.pb-c.h"

/* --- shared by the groups ------------------------------------------------------------------- */

bool meta_array(struct arena *a, size_t n, size_t size, void *items, void *ptrs)
{
	char *item;
	void **ptr;

	if (n > SIZE_MAX / 2 / (size + sizeof(*ptr)))
		return false;
	item = arena_alloc(a, n * size);
	ptr = arena_alloc(a, n * sizeof(*ptr));
	if (!item || !ptr)
		return false;
	for (size_t i = 0; i < n; i++)
		ptr[i] = item + i * size;
	memcpy(items, &item, sizeof(item));
	memcpy(ptrs, &ptr, sizeof(ptr));
	return true;
}

int meta_nomem(struct err *err, const char *what)
{
	return err_set(err, ENOMEM, "%s", what);
}

int meta_get_str(struct meta_in *in, const char *from, char **to)
{
	if (!from)
		return 0;
	*to = model_strdup(in->m, from);
	return *to ? 0 : meta_nomem(in->err, "text in image");
}

int meta_get_bytes(struct meta_in *in, const ProtobufCBinaryData *from, uint8_t **to,
		   uint32_t *to_len)
{
	uint8_t *p = model_alloc(in->m, from->len);

	if (!p)
		return meta_nomem(in->err, "bytes in image");
	if (from->len)
		memcpy(p, from->data, from->len);
	*to = p;
	*to_len = (uint32_t)from->len;
	return 0;
}

int meta_load(struct meta_in *in, enum frame_id id, const char *name, struct store_in *ret)
{
	struct err err = {0};
	int e = store_load(in->dirfd, id, name, ret, &err);

	if (e == -ENOENT)
		return 0;
	return e < 0 ? err_take(in->err, &err) : 1;
}

/* --- small files ---------------------------------------------------------------------------- */

static void put_timespec(Im__Timespec *to, uint64_t ns)
{
	im__timespec__init(to);
	to->tv_sec = ns / 1000000000;
	to->tv_nsec = ns % 1000000000;
}

int meta_put_timens(struct meta_out *o)
{
	Im__Timens timens = IM__TIMENS__INIT;
	Im__Timespec monotonic, boottime;

	put_timespec(&monotonic, o->m->monotonic_ns);
	put_timespec(&boottime, o->m->boottime_ns);
	timens.monotonic = &monotonic;
	timens.boottime = &boottime;
	frame_begin(&o->img->out, FRAME_TIMENS);
	frame_add(&o->img->out, &timens.base);
	return store_put(o->img, "timens-0.img", o->err);
}

/* Stock images only: ours have the clocks in the inventory, to the nanosecond. */
int meta_get_timens(struct meta_in *in)
{
	struct store_in file;
	ProtobufCMessage *msg;
	int ret;

	ret = store_load(in->dirfd, FRAME_TIMENS, "timens-0.img", &file, NULL);
	if (ret == -ENOENT)
		return 0;
	if (ret)
		return store_load(in->dirfd, FRAME_TIMENS, "timens-0.img", &file, in->err);
	ret = frame_single(&file.f, &msg, in->err);
	if (!ret) {
		const Im__Timens *t = (const Im__Timens *)msg;

		in->m->monotonic_ns = t->monotonic->tv_sec * 1000000000 + t->monotonic->tv_nsec;
		in->m->boottime_ns = t->boottime->tv_sec * 1000000000 + t->boottime->tv_nsec;
	}
	store_unload(&file);
	return ret;
}

/* --- writing -------------------------------------------------------------------------------- */

static int write_proc(struct meta_out *o, const struct m_proc *p)
{
	int ret = meta_put_core(o, p, 0);

	if (ret || p->state == M_DEAD)
		return ret;
	for (uint32_t i = 1; !ret && i < p->nthreads; i++) {
		arena_reset(o->scratch);
		ret = meta_put_core(o, p, i);
	}
	arena_reset(o->scratch);
	if (!ret)
		ret = meta_put_ids(o, p);
	if (!ret)
		ret = meta_put_fs(o, p);
	return ret ? ret : meta_put_mm(o, p);
}

int meta_write(struct image *img, const struct model *m, struct err *err)
{
	static int (*const global[])(struct meta_out *) = {
		meta_put_pstree, meta_put_files,  meta_put_memfd,   meta_put_pipes,
		meta_put_ghosts, meta_put_locks,  meta_put_queues,  meta_put_streams,
		meta_put_ttys,	 meta_put_timens, meta_put_seccomp,
	};
	struct meta_out o = {.img = img, .m = m, .err = err};
	int ret = 0;

	o.scratch = arena_new((size_t)4 << 30, false);
	if (!o.scratch)
		return meta_nomem(err, "metadata");
	for (uint32_t i = 0; !ret && i < m->nprocs; i++) {
		arena_reset(o.scratch);
		ret = write_proc(&o, &m->procs[i]);
	}
	for (uint32_t i = 0; !ret && i < m->nfdtables; i++)
		ret = meta_put_fdinfo(&o, &m->fdtables[i]);
	for (unsigned i = 0; !ret && i < sizeof(global) / sizeof(global[0]); i++) {
		arena_reset(o.scratch);
		ret = global[i](&o);
	}
	arena_free(o.scratch);
	return ret;
}

/* --- reading -------------------------------------------------------------------------------- */

static int read_proc(struct meta_in *in, struct m_proc *p)
{
	int ret = meta_get_core(in, p, 0);

	if (ret || p->state == M_DEAD)
		return ret;
	for (uint32_t i = 1; !ret && i < p->nthreads; i++)
		ret = meta_get_core(in, p, i);
	if (!ret)
		ret = meta_get_ids(in, p);
	if (!ret)
		ret = meta_get_fs(in, p);
	if (!ret)
		ret = meta_get_mm(in, p);
	if (!ret && !model_fdtable(in->m, p->fdtable_id))
		ret = meta_get_fdinfo(in, p->fdtable_id);
	return ret;
}

static void first_finding(void *err, const char *line)
{
	err_fail(err, EBADMSG, ERR_IMAGE, "%s", line);
}

static int read_all(struct meta_in *in)
{
	struct store_in inv;
	int ret = meta_load_inventory(in->dirfd, &inv, in->err);

	if (ret)
		return ret;
	ret = meta_get_inventory(in, meta_inventory(&inv));
	store_unload(&inv);
	if (!ret)
		ret = meta_get_pstree(in);
	/* Before that is known to be sane, one number could make us read one file a million times.
	 */
	if (!ret && check_tree(in->m, first_finding, in->err))
		ret = -EBADMSG;
	if (!ret && in->stock)
		ret = meta_get_memfd(in);
	if (!ret && in->stock)
		ret = meta_get_timens(in);
	if (!ret)
		ret = meta_get_ttys(in);
	if (!ret)
		ret = meta_get_files(in);
	if (!ret)
		ret = meta_get_pipes(in);
	if (!ret)
		ret = meta_get_queues(in);
	if (!ret)
		ret = meta_get_ghosts(in);
	for (uint32_t i = 0; !ret && i < in->m->nprocs; i++)
		ret = read_proc(in, &in->m->procs[i]);
	if (!ret)
		ret = meta_get_locks(in);
	return ret ? ret : meta_get_seccomp(in);
}

struct model *meta_read(int dirfd, struct err *err)
{
	struct meta_in in = {.dirfd = dirfd, .err = err, .m = model_new(0)};
	int ret;

	if (!in.m) {
		meta_nomem(err, "model");
		return NULL;
	}
	ret = read_all(&in);
	if (ret) {
		model_free(in.m);
		return NULL;
	}
	return in.m;
}
