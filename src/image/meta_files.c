/* SPDX-License-Identifier: MIT */
/* Open files, written: files.img and memfd.img. */
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "src/image/meta.h"

enum { SEAL_SEAL = 1, HUGETLB_MEMFD = 4, RDWR = 2, LARGEFILE = 0x8000, UNIX_EXTERNAL = 1 };

/* One entry with everything it points to. */
struct file_msg {
	Im__File file;
	Im__FileMore more;
	Im__Fown fown;
	union {
		Im__RegFile reg;
		Im__PipeFile pipe;
		Im__FifoFile fifo;
		Im__EventfdFile efd;
		Im__EpollFile epfd;
		Im__SignalfdFile sgfd;
		Im__TimerfdFile tfd;
		Im__MemfdFile memfd;
		Im__PidfdFile pidfd;
		Im__InotifyFile ify;
		Im__TtyFile tty;
	};
};

/* What CRIU's message of a type has no field for is in ours. */
static void not_in_member(struct file_msg *msg, const struct m_file *f, bool flags, bool pos)
{
	if (flags) {
		META_SET_NZ(&msg->more, flags, f->flags);
		msg->more.fown = &msg->fown;
	}
	if (pos)
		META_SET_NZ(&msg->more, pos, f->pos);
}

/* --- by type -------------------------------------------------------------------------------- */

static uint32_t segment_helper(const struct model *m, uint32_t shm_id)
{
	return m->nfiles + shm_id;
}

static uint32_t fifo_helper(const struct model *m, uint32_t file_id)
{
	return m->nfiles + m->nshms + file_id;
}

uint32_t meta_link_helper(const struct model *m, uint32_t file_id)
{
	return m->nfiles + m->nshms + m->nfiles + file_id;
}

static bool put_reg(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	Im__RegFile *to = &msg->reg;
	size_t words = (f->build_id_len + 3) / 4;

	im__reg_file__init(to);
	to->id = f->id;
	to->flags = f->flags;
	to->pos = f->pos;
	to->fown = &msg->fown;
	to->name = f->path ? f->path : "";
	if (S_ISREG(f->mode))
		META_SET(to, size, f->size);
	META_SET_NZ(to, mode, f->mode);
	if (f->checksum_kind) {
		META_SET(to, checksum, f->checksum);
		META_SET(to, checksum_config, f->checksum_kind);
		META_SET(to, checksum_parameter, f->checksum_n);
	}
	if (words) {
		to->build_id = arena_alloc(o->scratch, 4 * words);
		if (!to->build_id)
			return false;
		to->n_build_id = words;
		memcpy(to->build_id, f->build_id, f->build_id_len);
	}
	msg->more.path = NULL;
	msg->file.reg = to;
	return true;
}

static bool put_pipe(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	im__pipe_file__init(&msg->pipe);
	msg->pipe.id = f->id;
	msg->pipe.pipe_id = (uint32_t)f->ino;
	msg->pipe.flags = f->flags;
	msg->pipe.fown = &msg->fown;
	msg->file.pipe = &msg->pipe;
	not_in_member(msg, f, false, true);
	return true;
}

static bool put_fifo(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	im__fifo_file__init(&msg->fifo);
	msg->fifo.id = f->id;
	msg->fifo.pipe_id = (uint32_t)f->ino;
	META_SET(&msg->fifo, regf_id, fifo_helper(o->m, f->id));
	msg->file.fifo = &msg->fifo;
	not_in_member(msg, f, true, true);
	return true;
}

static bool put_eventfd(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	im__eventfd_file__init(&msg->efd);
	msg->efd.id = f->id;
	msg->efd.flags = f->flags;
	msg->efd.fown = &msg->fown;
	msg->efd.counter = f->eventfd_count;
	msg->file.efd = &msg->efd;
	META_SET_NZ(&msg->more, eventfd_semaphore, f->eventfd_semaphore);
	not_in_member(msg, f, false, true);
	return true;
}

static bool put_epoll(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	Im__EpollTarget *items;

	im__epoll_file__init(&msg->epfd);
	msg->epfd.id = f->id;
	msg->epfd.flags = f->flags;
	msg->epfd.fown = &msg->fown;
	msg->epfd.n_tfd = f->ntargets;
	if (!meta_array(o->scratch, f->ntargets, sizeof(*items), &items, &msg->epfd.tfd))
		return false;
	for (uint32_t i = 0; i < f->ntargets; i++) {
		const struct m_epoll_target *t = &f->targets[i];

		im__epoll_target__init(&items[i]);
		items[i].tfd = t->fd;
		items[i].events = t->events;
		items[i].data = t->data;
		META_SET(&items[i], dev, t->dev);
		META_SET(&items[i], inode, t->ino);
		META_SET(&items[i], pos, t->pos);
		META_SET_NZ(&items[i], file_id, t->file_id);
	}
	msg->file.epfd = &msg->epfd;
	not_in_member(msg, f, false, true);
	return true;
}

static bool put_signalfd(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	im__signalfd_file__init(&msg->sgfd);
	msg->sgfd.id = f->id;
	msg->sgfd.flags = f->flags;
	msg->sgfd.fown = &msg->fown;
	msg->sgfd.sigmask = f->signalfd_mask;
	msg->file.sgfd = &msg->sgfd;
	not_in_member(msg, f, false, true);
	return true;
}

static bool put_timerfd(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	im__timerfd_file__init(&msg->tfd);
	msg->tfd.id = f->id;
	msg->tfd.flags = f->flags;
	msg->tfd.fown = &msg->fown;
	msg->tfd.clockid = f->timerfd.clockid;
	msg->tfd.ticks = f->timerfd.ticks;
	msg->tfd.settime_flags = f->timerfd.settime_flags;
	msg->tfd.vsec = f->timerfd.value_ns / 1000000000;
	msg->tfd.vnsec = f->timerfd.value_ns % 1000000000;
	msg->tfd.isec = f->timerfd.interval_ns / 1000000000;
	msg->tfd.insec = f->timerfd.interval_ns % 1000000000;
	msg->file.tfd = &msg->tfd;
	not_in_member(msg, f, false, true);
	return true;
}

/* At least 16 words, as CRIU reads them. */
static bool put_handle(struct meta_out *o, const struct m_watch *w, Im__FileHandle *to)
{
	enum { WORDS = sizeof(w->handle) / 8 };

	im__file_handle__init(to);
	to->bytes = w->handle_len;
	to->type = w->handle_type;
	to->n_handle = WORDS;
	to->handle = arena_alloc(o->scratch, WORDS * sizeof(*to->handle));
	if (!to->handle)
		return false;
	memcpy(to->handle, w->handle, sizeof(w->handle));
	to->path = w->path;
	return true;
}

static bool put_inotify(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	Im__InotifyWatch *items;
	Im__FileHandle *handles;
	void **unused;

	im__inotify_file__init(&msg->ify);
	msg->ify.id = f->id;
	msg->ify.flags = f->flags;
	msg->ify.fown = &msg->fown;
	msg->ify.n_wd = f->nwatches;
	if (!meta_array(o->scratch, f->nwatches, sizeof(*items), &items, &msg->ify.wd) ||
	    !meta_array(o->scratch, f->nwatches, sizeof(*handles), &handles, &unused))
		return false;
	for (uint32_t i = 0; i < f->nwatches; i++) {
		const struct m_watch *w = &f->watches[i];

		im__inotify_watch__init(&items[i]);
		items[i].i_ino = w->ino;
		items[i].mask = w->mask;
		items[i].ignored_mask = w->ignored_mask;
		items[i].s_dev = w->dev;
		items[i].wd = w->wd;
		items[i].f_handle = &handles[i];
		if (!put_handle(o, w, &handles[i]))
			return false;
	}
	msg->file.ify = &msg->ify;
	not_in_member(msg, f, false, true);
	return true;
}

static bool put_memfd(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	im__memfd_file__init(&msg->memfd);
	msg->memfd.id = f->id;
	msg->memfd.flags = f->flags;
	msg->memfd.pos = f->pos;
	msg->memfd.fown = &msg->fown;
	msg->memfd.inode_id = f->shm_id;
	msg->file.memfd = &msg->memfd;
	return true;
}

static bool put_pidfd(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	im__pidfd_file__init(&msg->pidfd);
	msg->pidfd.id = f->id;
	msg->pidfd.ino = (uint32_t)f->ino;
	/* CRIU hands them to pidfd_open(), which opens for both in any case. */
	msg->pidfd.flags = f->flags & ~(uint32_t)RDWR;
	msg->pidfd.nspid = f->pidfd_pid;
	msg->pidfd.fown = &msg->fown;
	msg->file.pidfd = &msg->pidfd;
	not_in_member(msg, f, false, true);
	return true;
}

static bool put_socket(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	int ret = meta_put_socket(o, f, &msg->fown, &msg->file);

	not_in_member(msg, f, !ret, true);
	return ret >= 0;
}

static bool put_tty(struct file_msg *msg, struct meta_out *o, const struct m_file *f)
{
	const struct m_tty *t = model_tty(o->m, f->tty);

	not_in_member(msg, f, true, true);
	if (!t)
		return true;
	im__tty_file__init(&msg->tty);
	msg->tty.id = f->id;
	msg->tty.tty_info_id = t->id;
	msg->tty.flags = f->flags;
	msg->tty.fown = &msg->fown;
	if (t->kind != M_TTY_EXTERNAL)
		META_SET(&msg->tty, regf_id, fifo_helper(o->m, f->id));
	msg->file.tty = &msg->tty;
	return true;
}

/* A type without a row has no message of CRIU's here: ours says everything. */
static bool (*const put_member[])(struct file_msg *, struct meta_out *, const struct m_file *) = {
	[M_FILE_REG] = put_reg,		 [M_FILE_PIPE] = put_pipe,
	[M_FILE_FIFO] = put_fifo,	 [M_FILE_EVENTFD] = put_eventfd,
	[M_FILE_EVENTPOLL] = put_epoll,	 [M_FILE_SIGNALFD] = put_signalfd,
	[M_FILE_TIMERFD] = put_timerfd,	 [M_FILE_MEMFD] = put_memfd,
	[M_FILE_PIDFD] = put_pidfd,	 [M_FILE_INOTIFY] = put_inotify,
	[M_FILE_UNIXSK] = put_socket,	 [M_FILE_INETSK] = put_socket,
	[M_FILE_NETLINKSK] = put_socket, [M_FILE_PACKETSK] = put_socket,
	[M_FILE_TTY] = put_tty,
};

enum { NMEMBERS = sizeof(put_member) / sizeof(put_member[0]) };

/* --- all types ------------------------------------------------------------------------------ */

static void put_more(struct file_msg *msg, const struct m_file *f)
{
	Im__FileMore *to = &msg->more;

	im__file_more__init(to);
	to->path = f->path;
	META_SET_NZ(to, deleted, f->deleted);
	META_SET_NZ(to, dev, f->dev);
	META_SET_NZ(to, ino, f->ino);
	META_SET_NZ(to, rdev, f->rdev);
	META_SET_NZ(to, mode, f->mode);
	META_SET_NZ(to, size, f->size);
	META_SET_NZ(to, mtime_ns, f->mtime_ns);
	META_SET(to, mnt_id, f->mnt_id);
	to->has_build_id = f->build_id_len != 0;
	to->build_id.data = f->build_id;
	to->build_id.len = f->build_id_len;
	to->fdinfo = f->fdinfo;
	META_SET_NZ(to, pipe_size, f->pipe_size);
	META_SET_NZ(to, segment_id, f->shm_id);
	to->link_path = f->link_path;
	META_SET_NZ(to, link_made, f->link_made);
	msg->file.stasis = to;
}

static void put_fown(const struct m_fown *from, Im__Fown *to)
{
	im__fown__init(to);
	to->uid = from->uid;
	to->euid = from->euid;
	to->signum = from->signum;
	to->pid_type = from->pid_type;
	to->pid = (uint32_t)from->pid;
}

static int add_file(struct meta_out *o, const struct m_file *f, bool helper)
{
	struct file_msg msg;

	im__file__init(&msg.file);
	msg.file.type = (Im__FdType)f->type;
	msg.file.id = f->id;
	put_fown(&f->fown, &msg.fown);
	put_more(&msg, f);
	META_SET_NZ(&msg.more, helper, helper);
	if ((unsigned)f->type < NMEMBERS && put_member[f->type]) {
		if (!put_member[f->type](&msg, o, f))
			return meta_nomem(o->err, "files.img");
		if (helper && msg.file.usk)
			msg.file.usk->uflags = UNIX_EXTERNAL;
	} else {
		not_in_member(&msg, f, true, true);
	}
	frame_add(&o->img->out, &msg.file.base);
	return 0;
}

/* --- helpers -------------------------------------------------------------------------------- */

uint32_t meta_memfd_file(const struct model *m, const struct m_vma *v)
{
	const struct m_file *f = model_file(m, v->file_id);

	return f && f->type == M_FILE_MEMFD ? f->id : segment_helper(m, v->shm_id);
}

/* A memfd that is mapped but no longer open has no file in the model; CRIU wants one. */
static int add_segment_helpers(struct meta_out *o)
{
	const struct model *m = o->m;
	bool *wanted = arena_alloc(o->scratch, m->nshms + 1);

	if (!wanted)
		return meta_nomem(o->err, "files.img");
	for (uint32_t i = 0; i < m->nprocs; i++) {
		for (uint32_t k = 0; k < m->procs[i].mm.nvmas; k++) {
			const struct m_vma *v = &m->procs[i].mm.vmas[k];
			const struct m_shm *shm = model_shm(m, v->shm_id);

			if (v->kind == M_VMA_SHMEM && shm && shm->memfd &&
			    meta_memfd_file(m, v) > m->nfiles)
				wanted[shm->id] = true;
		}
	}
	for (uint32_t id = 1; id <= m->nshms; id++) {
		struct m_file f = {
			.id = segment_helper(m, id),
			.type = M_FILE_MEMFD,
			.flags = RDWR | LARGEFILE,
			.mnt_id = -1,
			.shm_id = id,
		};
		int ret = wanted[id] ? add_file(o, &f, true) : 0;

		if (ret)
			return ret;
	}
	return 0;
}

/* The path and flags of a FIFO or a terminal are in a file of their own. */
static int add_fifo_helpers(struct meta_out *o)
{
	for (uint32_t i = 0; i < o->m->nfiles; i++) {
		const struct m_file *from = &o->m->files[i];
		struct m_file f = {
			.id = fifo_helper(o->m, from->id),
			.type = M_FILE_REG,
			.path = from->path,
			.flags = from->flags,
			.mode = from->mode,
			.mnt_id = -1,
		};
		const struct m_tty *t = model_tty(o->m, from->tty);
		bool wanted = from->type == M_FILE_FIFO || (t && t->kind != M_TTY_EXTERNAL);
		int ret = wanted ? add_file(o, &f, true) : 0;

		if (ret)
			return ret;
	}
	return 0;
}

/* A socket outside of the tree to which one inside is connected: CRIU wants its name. */
static int add_peer_helpers(struct meta_out *o)
{
	for (uint32_t i = 0; i < o->m->nfiles; i++) {
		const struct m_file *from = &o->m->files[i];
		struct m_unix peer = {.opts.peek_off = -1};
		struct m_file f = {
			.id = fifo_helper(o->m, from->id),
			.type = M_FILE_UNIXSK,
			.mnt_id = -1,
			.usk = &peer,
		};
		int ret;

		if (!from->usk || !from->usk->peer_name_len)
			continue;
		f.ino = from->usk->peer_ino;
		peer.type = from->usk->type;
		peer.state = from->usk->type == SOCK_DGRAM ? M_SK_CLOSE : M_SK_LISTEN;
		peer.name_len = from->usk->peer_name_len;
		peer.name = from->usk->peer_name;
		ret = add_file(o, &f, true);
		if (ret)
			return ret;
	}
	return 0;
}

/* A file whose name is gone is found by CRIU under another one, which is a file of its own. */
static int add_link_helpers(struct meta_out *o)
{
	for (uint32_t i = 0; i < o->m->nfiles; i++) {
		const struct m_file *from = &o->m->files[i];
		struct m_file f = {
			.id = meta_link_helper(o->m, from->id),
			.type = M_FILE_REG,
			.path = from->link_path,
			.flags = from->flags,
			.mode = from->mode,
			.size = from->size,
			.mnt_id = -1,
		};
		int ret = from->link_path ? add_file(o, &f, true) : 0;

		if (ret)
			return ret;
	}
	return 0;
}

int meta_put_files(struct meta_out *o)
{
	int ret = 0;

	frame_begin(&o->img->out, FRAME_FILES);
	for (uint32_t i = 0; !ret && i < o->m->nfiles; i++)
		ret = add_file(o, &o->m->files[i], false);
	if (!ret)
		ret = add_segment_helpers(o);
	if (!ret)
		ret = add_fifo_helpers(o);
	if (!ret)
		ret = add_link_helpers(o);
	if (!ret)
		ret = add_peer_helpers(o);
	return ret ? ret : store_put(o->img, "files.img", o->err);
}

int meta_put_memfd(struct meta_out *o)
{
	uint32_t n = 0;

	frame_begin(&o->img->out, FRAME_MEMFD);
	for (uint32_t i = 0; i < o->m->nshms; i++) {
		const struct m_shm *s = &o->m->shms[i];
		Im__MemfdInode to = IM__MEMFD_INODE__INIT;

		if (!s->memfd)
			continue;
		to.name = s->name ? s->name : "";
		to.uid = s->uid;
		to.gid = s->gid;
		to.size = s->size;
		to.shmid = s->id;
		to.seals = s->seals_known ? s->seals : SEAL_SEAL;
		to.inode_id = s->id;
		if (s->hugetlb)
			META_SET(&to, hugetlb_flag, HUGETLB_MEMFD);
		META_SET(&to, mode, s->mode);
		frame_add(&o->img->out, &to.base);
		n++;
	}
	return n ? store_put(o->img, "memfd.img", o->err) : 0;
}
