/* SPDX-License-Identifier: MIT */
/* One file of an image as JSON: an open description, or something mapped or executed. */
#include "src/inspect/show.h"

static const char *const type_names[] = {
	[M_FILE_UND] = "unknown",
	[M_FILE_REG] = "file",
	[M_FILE_PIPE] = "pipe",
	[M_FILE_FIFO] = "fifo",
	[M_FILE_INETSK] = "inet_socket",
	[M_FILE_UNIXSK] = "unix_socket",
	[M_FILE_EVENTFD] = "eventfd",
	[M_FILE_EVENTPOLL] = "epoll",
	[M_FILE_INOTIFY] = "inotify",
	[M_FILE_SIGNALFD] = "signalfd",
	[M_FILE_PACKETSK] = "packet_socket",
	[M_FILE_TTY] = "tty",
	[M_FILE_FANOTIFY] = "fanotify",
	[M_FILE_NETLINKSK] = "netlink_socket",
	[M_FILE_NS] = "namespace",
	[M_FILE_TUN] = "tun",
	[M_FILE_EXT] = "external",
	[M_FILE_TIMERFD] = "timerfd",
	[M_FILE_MEMFD] = "memfd",
	[M_FILE_BPFMAP] = "bpf_map",
	[M_FILE_PIDFD] = "pidfd",
};

const char *show_file_type(enum m_file_type type)
{
	if ((unsigned)type >= sizeof(type_names) / sizeof(type_names[0]))
		type = M_FILE_UND;
	return type_names[type];
}

static void show_epoll(struct doc *d, const struct m_file *f)
{
	doc_array(d, "targets");
	for (uint32_t i = 0; i < f->ntargets; i++) {
		doc_inline_object(d, NULL);
		doc_u64(d, "fd", f->targets[i].fd);
		doc_hex(d, "events", f->targets[i].events);
		doc_hex(d, "data", f->targets[i].data);
		doc_end(d);
	}
	doc_end(d);
}

static void show_details(struct doc *d, const struct m_file *f)
{
	switch (f->type) {
	case M_FILE_EVENTPOLL:
		show_epoll(d, f);
		break;
	case M_FILE_EVENTFD:
		doc_u64(d, "count", f->eventfd_count);
		doc_bool(d, "semaphore", f->eventfd_semaphore);
		break;
	case M_FILE_SIGNALFD:
		doc_hex(d, "mask", f->signalfd_mask);
		break;
	case M_FILE_TIMERFD:
		doc_u64(d, "clock", f->timerfd.clockid);
		doc_u64(d, "ticks", f->timerfd.ticks);
		doc_u64(d, "value_ns", f->timerfd.value_ns);
		doc_u64(d, "interval_ns", f->timerfd.interval_ns);
		break;
	case M_FILE_PIDFD:
		doc_i64(d, "of_pid", f->pidfd_pid);
		break;
	case M_FILE_MEMFD:
		doc_u64(d, "segment", f->shm_id);
		break;
	case M_FILE_PIPE:
	case M_FILE_FIFO:
		doc_u64(d, "pipe_bytes", f->pipe_size);
		break;
	default:
		break;
	}
}

void show_file(struct doc *d, const struct m_file *f)
{
	doc_object(d, NULL);
	doc_u64(d, "id", f->id);
	doc_str(d, "type", show_file_type(f->type));
	doc_str(d, "path", f->path);
	doc_bool(d, "deleted", f->deleted);
	doc_hex(d, "flags", f->flags);
	doc_u64(d, "pos", f->pos);
	doc_u64(d, "dev", f->dev);
	doc_u64(d, "ino", f->ino);
	doc_hex(d, "mode", f->mode);
	doc_u64(d, "size", f->size);
	doc_i64(d, "mtime_ns", f->mtime_ns);
	if (f->build_id_len)
		doc_bytes(d, "build_id", f->build_id, f->build_id_len);
	show_details(d, f);
	doc_end(d);
}
