/* SPDX-License-Identifier: MIT */
/* Open files, read: files.img, and memfd.img of images that are not ours. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "src/image/meta.h"

/* --- what CRIU's messages say --------------------------------------------------------------- */

enum { RDWR = 2 };

static void get_fown(const Im__Fown *from, struct m_fown *to)
{
	if (!from)
		return;
	to->uid = from->uid;
	to->euid = from->euid;
	to->signum = from->signum;
	to->pid_type = from->pid_type;
	to->pid = (int32_t)from->pid;
}

/* Its bytes four in a word of the dumping machine's. */
static int get_build_id(struct meta_in *in, const Im__RegFile *from, struct m_file *f)
{
	uint8_t *p = model_alloc(in->m, 4 * from->n_build_id);

	if (!p)
		return meta_nomem(in->err, "files.img");
	for (size_t i = 0; i < from->n_build_id; i++) {
		uint32_t w = in->big_endian != META_HOST_BIG_ENDIAN
				     ? __builtin_bswap32(from->build_id[i])
				     : from->build_id[i];

		memcpy(p + 4 * i, &w, 4);
	}
	f->build_id = p;
	f->build_id_len = (uint32_t)(4 * from->n_build_id);
	return 0;
}

static int get_reg(struct meta_in *in, const Im__RegFile *from, struct m_file *f)
{
	f->flags = from->flags;
	f->pos = from->pos;
	get_fown(from->fown, &f->fown);
	if (from->has_size)
		f->size = from->size;
	if (from->has_mode)
		f->mode = from->mode;
	if (from->has_checksum && META_GET(from, checksum_config) <= M_CHECKSUM_PERIOD) {
		f->checksum = from->checksum;
		f->checksum_kind = (enum m_checksum)META_GET(from, checksum_config);
		f->checksum_n = META_GET(from, checksum_parameter);
	}
	if (!f->build_id && from->n_build_id && get_build_id(in, from, f))
		return -ENOMEM;
	return meta_get_str(in, from->name, &f->path);
}

static int get_epoll(struct meta_in *in, const Im__EpollFile *from, struct m_file *f)
{
	f->flags = from->flags;
	get_fown(from->fown, &f->fown);
	f->ntargets = (uint32_t)from->n_tfd;
	f->targets = model_alloc(in->m, from->n_tfd * sizeof(*f->targets));
	if (!f->targets)
		return meta_nomem(in->err, "files.img");
	for (uint32_t i = 0; i < f->ntargets; i++) {
		const Im__EpollTarget *t = from->tfd[i];

		f->targets[i] = (struct m_epoll_target){
			.fd = t->tfd,
			.events = t->events,
			.data = t->data,
			.pos = META_GET(t, pos),
			.ino = META_GET(t, inode),
			.dev = META_GET(t, dev),
			.file_id = META_GET(t, file_id),
		};
	}
	return 0;
}

static int get_watch(struct meta_in *in, const Im__InotifyWatch *from, struct m_watch *to)
{
	const Im__FileHandle *h = from->f_handle;
	size_t len = h->n_handle * sizeof(*h->handle);

	to->wd = from->wd;
	to->mask = from->mask;
	to->ignored_mask = from->ignored_mask;
	to->ino = from->i_ino;
	to->dev = from->s_dev;
	to->handle_type = h->type;
	if (len > sizeof(to->handle))
		len = sizeof(to->handle);
	if (h->bytes > len)
		return err_fail(in->err, EBADMSG, ERR_IMAGE,
				"files.img: a handle of %u bytes of which %zu are there", h->bytes,
				len);
	to->handle_len = h->bytes;
	if (len)
		memcpy(to->handle, h->handle, len);
	return meta_get_str(in, h->path, &to->path);
}

static int get_inotify(struct meta_in *in, const Im__InotifyFile *from, struct m_file *f)
{
	int ret = 0;

	f->flags = from->flags;
	get_fown(from->fown, &f->fown);
	f->nwatches = (uint32_t)from->n_wd;
	f->watches = model_alloc(in->m, from->n_wd * sizeof(*f->watches));
	if (!f->watches)
		return meta_nomem(in->err, "files.img");
	for (uint32_t i = 0; !ret && i < f->nwatches; i++)
		ret = get_watch(in, from->wd[i], &f->watches[i]);
	return ret;
}

static void get_timerfd(const Im__TimerfdFile *from, struct m_file *f)
{
	f->flags = from->flags;
	get_fown(from->fown, &f->fown);
	f->timerfd.clockid = from->clockid;
	f->timerfd.ticks = from->ticks;
	f->timerfd.settime_flags = from->settime_flags;
	f->timerfd.value_ns = from->vsec * 1000000000 + from->vnsec;
	f->timerfd.interval_ns = from->isec * 1000000000 + from->insec;
}

/* A memfd of CRIU's names an inode of memfd.img, which became the segment with that place. */
static void get_memfd(struct meta_in *in, const Im__MemfdFile *from, struct m_file *f)
{
	f->flags = from->flags;
	f->pos = from->pos;
	get_fown(from->fown, &f->fown);
	if (in->stock)
		f->shm_id = meta_stock_inode(in, from->inode_id);
}

static void get_small(const Im__File *from, struct m_file *f)
{
	if (from->pipe) {
		f->flags = from->pipe->flags;
		get_fown(from->pipe->fown, &f->fown);
		f->ino = f->ino ? f->ino : from->pipe->pipe_id;
	} else if (from->fifo) {
		f->ino = f->ino ? f->ino : from->fifo->pipe_id;
	} else if (from->efd) {
		f->flags = from->efd->flags;
		get_fown(from->efd->fown, &f->fown);
		f->eventfd_count = from->efd->counter;
	} else if (from->sgfd) {
		f->flags = from->sgfd->flags;
		get_fown(from->sgfd->fown, &f->fown);
		f->signalfd_mask = from->sgfd->sigmask;
	} else if (from->pidfd) {
		f->flags = from->pidfd->flags | RDWR;
		get_fown(from->pidfd->fown, &f->fown);
		f->pidfd_pid = from->pidfd->nspid;
		f->ino = f->ino ? f->ino : from->pidfd->ino;
	}
}

/* --- what ours say -------------------------------------------------------------------------- */

static int get_more(struct meta_in *in, const Im__FileMore *from, struct m_file *f)
{
	int ret;

	f->deleted = META_GET(from, deleted);
	f->flags = META_GET(from, flags);
	f->pos = META_GET(from, pos);
	get_fown(from->fown, &f->fown);
	f->dev = META_GET(from, dev);
	f->ino = META_GET(from, ino);
	f->rdev = META_GET(from, rdev);
	f->mode = META_GET(from, mode);
	f->size = META_GET(from, size);
	f->mtime_ns = META_GET(from, mtime_ns);
	f->mnt_id = from->has_mnt_id ? from->mnt_id : -1;
	f->eventfd_semaphore = META_GET(from, eventfd_semaphore);
	f->pipe_size = META_GET(from, pipe_size);
	f->shm_id = META_GET(from, segment_id);
	f->link_made = META_GET(from, link_made);
	ret = from->has_build_id
		      ? meta_get_bytes(in, &from->build_id, &f->build_id, &f->build_id_len)
		      : 0;
	if (!ret)
		ret = meta_get_str(in, from->fdinfo, &f->fdinfo);
	if (!ret)
		ret = meta_get_str(in, from->link_path, &f->link_path);
	return ret ? ret : meta_get_str(in, from->path, &f->path);
}

/* What readlink said is not in CRIU's messages, but for most it can be told. */
static int made_up_path(struct meta_in *in, struct m_file *f)
{
	char text[48] = "";

	if (f->type == M_FILE_PIPE)
		snprintf(text, sizeof(text), "pipe:[%" PRIu64 "]", f->ino);
	else if (f->type == M_FILE_MEMFD && model_shm(in->m, f->shm_id))
		return meta_get_str(in, model_shm(in->m, f->shm_id)->name, &f->path);
	return meta_get_str(in, text, &f->path);
}

static int get_tty(struct meta_in *in, const Im__TtyFile *from, struct m_file *f)
{
	f->flags = from->flags;
	get_fown(from->fown, &f->fown);
	f->tty = meta_tty(in, from->tty_info_id);
	return 0;
}

static int get_file(struct meta_in *in, const Im__File *from, struct m_file *f)
{
	int ret = 0;

	f->type = (enum m_file_type)from->type;
	f->mnt_id = -1;
	if (from->stasis)
		ret = get_more(in, from->stasis, f);
	if (ret)
		return ret;
	if (from->reg)
		ret = get_reg(in, from->reg, f);
	else if (from->epfd)
		ret = get_epoll(in, from->epfd, f);
	else if (from->ify)
		ret = get_inotify(in, from->ify, f);
	else if (from->tty)
		ret = get_tty(in, from->tty, f);
	else if (from->usk || from->isk || from->nlsk || from->psk)
		ret = meta_get_socket(in, from, f);
	else if (from->tfd)
		get_timerfd(from->tfd, f);
	else if (from->memfd)
		get_memfd(in, from->memfd, f);
	else
		get_small(from, f);
	get_fown(meta_socket_fown(from), &f->fown);
	return ret || f->path ? ret : made_up_path(in, f);
}

/* --- the list ------------------------------------------------------------------------------- */

/* The image's ids beside the files read, until both are in order. */
struct numbered {
	uint32_t id;
	uint32_t regf_id; /* stock images: the file that has a FIFO's or tty's path */
	struct m_file file;
};

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct numbered *)a)->id, y = ((const struct numbered *)b)->id;

	return x < y ? -1 : x > y;
}

static int renumber(struct meta_in *in, struct numbered *all, uint32_t n)
{
	if (n)
		qsort(all, n, sizeof(*all), by_id);
	in->m->files = model_alloc(in->m, n * sizeof(*in->m->files));
	in->file_ids = model_alloc(in->m, n * sizeof(*in->file_ids));
	if (!in->m->files || !in->file_ids)
		return meta_nomem(in->err, "files.img");
	for (uint32_t i = 0; i < n; i++) {
		if (!all[i].id || (i && all[i].id == all[i - 1].id))
			return err_fail(in->err, EBADMSG, ERR_IMAGE, "files.img: id %u %s",
					all[i].id, all[i].id ? "twice" : "is not allowed");
		in->file_ids[i] = all[i].id;
		in->m->files[i] = all[i].file;
		in->m->files[i].id = i + 1;
	}
	in->nfile_ids = in->m->nfiles = n;
	for (uint32_t i = 0; i < n; i++) {
		const struct m_file *reg = model_file(in->m, meta_file_id(in, all[i].regf_id));
		struct m_file *f = &in->m->files[i];

		if (!all[i].regf_id || !reg)
			continue;
		f->path = reg->path;
		f->flags = reg->flags;
		f->mode = reg->mode;
		f->fown = reg->fown;
	}
	return 0;
}

int meta_get_files(struct meta_in *in)
{
	struct numbered *all = NULL, *one;
	struct store_in file;
	ProtobufCMessage *msg;
	uint32_t n = 0;
	int ret;

	ret = store_load(in->dirfd, FRAME_FILES, "files.img", &file, in->err);
	if (ret)
		return ret;
	while ((ret = frame_next(&file.f, &msg, NULL, in->err)) > 0) {
		const Im__File *from = (const Im__File *)msg;

		if (from->stasis && META_GET(from->stasis, helper))
			continue;
		one = model_push(in->m, &all, &n, sizeof(*one));
		ret = one ? get_file(in, from, &one->file) : meta_nomem(in->err, "files.img");
		if (ret)
			break;
		one->id = from->id;
		if (from->fifo && in->stock)
			one->regf_id = META_GET(from->fifo, regf_id);
		if (from->tty && in->stock)
			one->regf_id = META_GET(from->tty, regf_id);
	}
	store_unload(&file);
	return ret ? ret : renumber(in, all, n);
}

static int cmp_id(const void *key, const void *elem)
{
	uint32_t x = *(const uint32_t *)key, y = *(const uint32_t *)elem;

	return x < y ? -1 : x > y;
}

uint32_t meta_file_id(const struct meta_in *in, uint32_t id)
{
	const uint32_t *found;

	if (!id)
		return 0;
	found = in->nfile_ids ? bsearch(&id, in->file_ids, in->nfile_ids, sizeof(id), cmp_id)
			      : NULL;
	return found ? (uint32_t)(found - in->file_ids) + 1 : UINT32_MAX;
}
