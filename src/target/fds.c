/* SPDX-License-Identifier: MIT */
/* The descriptors of a process: what is open, how, and what of it is shared with whom. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/fdinfo.h"
#include "src/target/fdtype.h"
#include "src/target/files.h"
#include "src/target/procfs.h"
#include "src/target/sockets.h"

/* Linux 6.9: a pidfd of one thread */
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

/* CONFIG_CHECKPOINT_RESTORE: the real and effective user that set the owner. */
#ifndef F_GETOWNER_UIDS
#define F_GETOWNER_UIDS 17
#endif

/* One descriptor while it is looked at. */
struct look {
	struct files *f;
	const struct proc_at *at;
	int pidfd; /* of the process, -1: not to be had */
	uint32_t fd;
	char name[24]; /* "fd/7" */
	struct statx stx;
	struct fdinfo info;
	const char *lost;
	struct m_file file;
};

static int look_fail(const struct look *l, int error, const char *step, struct err *err)
{
	return err_set(err, error == -ENOENT ? ESRCH : -error, "%s fd %u of pid %u", step, l->fd,
		       l->at->pid);
}

static int look_nomem(const struct look *l, struct err *err)
{
	return err_set(err, ENOMEM, "fd %u of pid %u", l->fd, l->at->pid);
}

/*
 * A descriptor of our own of the same file. Closing it again must have no effect on the target:
 * files whose driver or server hears of every close are left alone.
 */
static int look_dup(const struct look *l)
{
	if (l->pidfd < 0 || l->f->hands_off)
		return -1;
	return (int)syscall(SYS_pidfd_getfd, l->pidfd, l->fd, 0);
}

static bool wants_dup(const struct look *l)
{
	const struct m_file *file = &l->file;

	switch (file->type) {
	case M_FILE_PIPE:
	case M_FILE_FIFO:
	case M_FILE_INETSK:
	case M_FILE_UNIXSK:
	case M_FILE_NETLINKSK:
	case M_FILE_PACKETSK:
	case M_FILE_TTY:
		return true;
	case M_FILE_REG:
		/* Files have no signal-driven I/O, but leases have an owner; devices may. */
		return (file->flags & O_ASYNC && S_ISCHR(file->mode)) ||
		       strstr(l->f->text.data, ": LEASE ");
	case M_FILE_INOTIFY:
	case M_FILE_TIMERFD:
		return true;
	case M_FILE_TUN:
		return file->flags & O_ASYNC;
	default:
		return false;
	}
}

static void read_owner(int dup, struct m_fown *own)
{
	struct f_owner_ex ex = {0};
	uint32_t uids[2];
	int signum;

	if (fcntl(dup, F_GETOWN_EX, &ex) < 0)
		return;
	signum = fcntl(dup, F_GETSIG);
	own->signum = signum > 0 ? (uint32_t)signum : 0;
	if (!ex.pid)
		return;
	own->pid = ex.pid;
	own->pid_type = (uint32_t)ex.type;
	if (fcntl(dup, F_GETOWNER_UIDS, uids) == 0) {
		own->uid = uids[0];
		own->euid = uids[1];
	}
}

/*
 * A periodic timer that has expired stands still until somebody reads or asks it: the kernel then
 * counts the periods that have passed and goes on. Asked before, fdinfo has the true numbers.
 */
static int settle_timer(struct look *l, int dup)
{
	struct itimerspec drop;
	char info[32];
	ssize_t n;

	if (dup < 0 || timerfd_gettime(dup, &drop) < 0)
		return 0;
	snprintf(info, sizeof(info), "fdinfo/%u", l->fd);
	n = proctext_read(&l->f->text, l->at->dir, info);
	return n < 0 ? (int)n : 0;
}

static int lost_events(struct look *l, int dup)
{
	int n = 0;

	if (dup < 0 || ioctl(dup, FIONREAD, &n) < 0 || !n)
		return 0;
	return finding_add(l->f->m, l->at->pid,
			   "fd %u: inotify: %d bytes of events not read yet are not carried", l->fd,
			   n);
}

static int read_by_dup(struct look *l, int dup, struct err *err)
{
	struct m_file *file = &l->file;
	int ret = 0;

	if (dup >= 0)
		read_owner(dup, &file->fown);
	switch (file->type) {
	case M_FILE_PIPE:
	case M_FILE_FIFO:
		ret = dup < 0 ? 0 : fcntl(dup, F_GETPIPE_SZ);
		if (ret > 0)
			file->pipe_size = (uint32_t)ret;
		return files_pipe(l->f, l->at, l->fd, dup, file, err);
	case M_FILE_TIMERFD:
		ret = settle_timer(l, dup);
		return ret < 0 ? look_fail(l, ret, "read fdinfo of", err) : 0;
	case M_FILE_INOTIFY:
		return lost_events(l, dup) < 0 ? look_nomem(l, err) : 0;
	case M_FILE_UNIXSK:
	case M_FILE_INETSK:
	case M_FILE_NETLINKSK:
	case M_FILE_PACKETSK:
		return socket_look(l->f, l->at, l->fd, dup, file, err);
	case M_FILE_TTY:
		return tty_look(l->f, l->at, l->fd, dup, file, err);
	default:
		return 0;
	}
}

/* Harmless: the caller's own namespaces, by which a restored tree finds its own again. */
static bool is_own_ns(const struct look *l)
{
	const struct m_ns *own = &l->f->m->tool_ns;
	const uint64_t all[] = {own->pid, own->net,  own->ipc,	  own->uts,
				own->mnt, own->user, own->cgroup, own->time};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i] && all[i] == l->file.ino)
			return true;
	return false;
}

static int look_lost(struct look *l, struct err *err)
{
	struct files *f = l->f;
	int ret = 0;

	if (l->lost && *f->link.data == '/')
		ret = finding_fatal(f->m, l->at->pid, "fd %u: %s %s: not supported", l->fd, l->lost,
				    f->link.data);
	else if (l->lost)
		ret = finding_fatal(f->m, l->at->pid, "fd %u: %s: not supported", l->fd, l->lost);
	else if (l->file.type == M_FILE_EXT || l->file.type == M_FILE_TUN)
		ret = finding_fatal(f->m, l->at->pid,
				    "fd %u: %s of a kind not known: not supported", l->fd,
				    f->link.data);
	else if (l->file.type == M_FILE_NS && !is_own_ns(l))
		ret = finding_fatal(f->m, l->at->pid,
				    "fd %u: namespace %s, which is not ours: not supported", l->fd,
				    f->link.data);
	return ret < 0 ? look_nomem(l, err) : 0;
}

/* By path, and its path is gone or leads elsewhere. */
static int look_gone(struct look *l, struct err *err)
{
	char what[24];

	snprintf(what, sizeof(what), "fd %u", l->fd);
	if (!l->lost && files_astray(l->f, l->at, what, &l->file, &l->stx) < 0)
		return look_nomem(l, err);
	if (!l->file.deleted || (l->file.type != M_FILE_REG && l->file.type != M_FILE_FIFO))
		return 0;
	return files_gone(l->f, l->at, l->name, what, &l->stx, &l->file, err);
}

/* A description not seen before: all of it. Its id, or -errno. */
static int look_closer(struct look *l, struct err *err)
{
	struct files *f = l->f;
	struct m_file *file = &l->file;
	bool is_socket = file->type == M_FILE_UND;
	cleanup_fd int dup = is_socket || wants_dup(l) ? look_dup(l) : -1;
	uint32_t id;
	int ret;

	if (is_socket)
		file->type = fdtype_socket(dup, l->at->dir, l->name);
	ret = read_by_dup(l, dup, err);
	if (ret == 0 && file->type == M_FILE_MEMFD)
		ret = files_segment(f, l->at, l->name, f->link.data, file->dev, file->ino, NULL,
				    &file->shm_id, err);
	if (ret < 0)
		return ret;
	file->deleted = files_deleted(l->at, f->link.data, &l->stx);
	file->path = model_strdup(f->m, f->link.data);
	file->fdinfo = model_strdup(f->m, f->text.data);
	if (!file->path || !file->fdinfo || fdinfo_fill(f->m, f->text.data, file) < 0)
		return look_nomem(l, err);
	ret = look_gone(l, err);
	if (ret == 0)
		ret = look_lost(l, err);
	if (ret < 0)
		return ret;
	files_checksum(f, l->at, l->name, file);
	id = files_add(f, file);
	return id ? (int)id : look_nomem(l, err);
}

/* Looks like a file in a root directory, of the kernel's own file system. */
static bool is_queue(const struct look *l)
{
	enum { MQUEUE_MAGIC = 0x19800202 }; /* ipc/mqueue.c, unchanged since 2.6.6 */
	struct statfs fs;
	char path[64];

	if (l->file.type != M_FILE_REG || strchr(l->f->link.data + 1, '/'))
		return false;
	snprintf(path, sizeof(path), "/proc/%d/%s", l->at->tid, l->name);
	return statfs(path, &fs) == 0 && fs.f_type == MQUEUE_MAGIC;
}

static int look_read(struct look *l, struct err *err)
{
	struct files *f = l->f;
	char info[32];
	ssize_t n = proctext_link(&f->link, l->at->dir, l->name);
	int ret;

	if (n < 0)
		return look_fail(l, (int)n, "read the link of", err);
	ret = proc_at_stat(l->at, l->name, &l->stx);
	if (ret < 0)
		return look_fail(l, ret, "stat", err);
	snprintf(info, sizeof(info), "fdinfo/%u", l->fd);
	n = proctext_read(&f->text, l->at->dir, info);
	if (n < 0)
		return look_fail(l, (int)n, "read fdinfo of", err);
	ret = fdinfo_parse(f->text.data, &l->info);
	if (ret < 0)
		return look_fail(l, ret, "parse fdinfo of", err);
	l->file = (struct m_file){.mnt_id = l->info.mnt_id,
				  .pos = l->info.pos,
				  .flags = l->info.flags & ~(uint32_t)O_CLOEXEC};
	files_fill(&l->file, &l->stx);
	l->file.type = fdtype_of(f, f->link.data, &l->stx, l->file.flags, &l->lost);
	if (is_queue(l)) {
		l->file.type = M_FILE_EXT;
		l->lost = "POSIX message queue";
	}
	return 0;
}

/*
 * Only descriptions with equal keys are compared. What somebody outside of the tree may change
 * while we read (position, O_NONBLOCK, a counter) is no part of it, or sharing would be missed.
 */
static uint64_t look_key(const struct look *l)
{
	const struct m_file *file = &l->file;
	uint64_t key = idmap_mix(file->dev, file->ino);

	key = idmap_mix(key, (uint64_t)file->type << 32 | (file->flags & (O_ACCMODE | O_PATH)));
	/* Files of one anonymous inode, told apart where a program may have many. */
	return idmap_mix(key, l->info.object);
}

static int fd_collect(struct look *l, struct err *err)
{
	struct files *f = l->f;
	uint32_t id = f->m->nfiles + 1;
	struct m_fd *fd;
	int ret;

	snprintf(l->name, sizeof(l->name), "fd/%u", l->fd);
	ret = look_read(l, err);
	if (ret < 0)
		return ret;
	ret = same_find(&f->same, SAME_FILE, look_key(l), l->at->tid, l->fd, id, &id);
	if (ret < 0)
		return look_fail(l, ret, "kcmp of", err);
	if (ret == 0) {
		ret = look_closer(l, err);
		if (ret < 0)
			return ret;
	}
	ret = files_locks(f, l->at, l->fd, id, f->text.data, err);
	if (ret < 0)
		return ret;
	fd = files_push(&f->fds, &f->nfds, &f->fds_room, sizeof(*fd));
	if (!fd)
		return look_nomem(l, err);
	*fd = (struct m_fd){
		.fd = l->fd, .file_id = id, .cloexec = (l->info.flags & O_CLOEXEC) != 0};
	return 0;
}

int files_passed(struct files *f, uint32_t pid, int own, uint32_t *ret_id, struct err *err)
{
	cleanup_fd int fd = own;
	cleanup_fd int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	struct proc_at at = {
		.pid = pid,
		.tid = getpid(),
		.dir = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	struct look l = {.f = f, .at = &at, .pidfd = self, .fd = (uint32_t)own};
	uint32_t id = f->m->nfiles + 1;
	struct passed *e;
	int ret;

	snprintf(l.name, sizeof(l.name), "fd/%d", own);
	ret = look_read(&l, err);
	if (ret == 0) {
		ret = same_find(&f->same, SAME_FILE, look_key(&l), at.tid, l.fd, id, &id);
		if (ret < 0)
			look_fail(&l, ret, "kcmp of", err);
	}
	if (ret == 0) {
		ret = look_closer(&l, err);
		e = ret < 0 ? NULL
			    : files_push(&f->passed, &f->npassed, &f->passed_room, sizeof(*e));
		if (e)
			*e = (struct passed){.id = id, .own = take_fd(&fd)};
		else if (ret >= 0)
			ret = look_nomem(&l, err);
	}
	if (at.dir >= 0)
		close(at.dir);
	*ret_id = id;
	return ret < 0 ? ret : 0;
}

static int open_pidfd(const struct proc_at *at)
{
	return (int)syscall(SYS_pidfd_open, at->tid,
			    (uint32_t)at->tid == at->pid ? 0 : PIDFD_THREAD);
}

static int fds_read(struct files *f, const struct proc_at *at, struct err *err)
{
	cleanup_fd int pidfd = open_pidfd(at);
	cleanup_fd int dirfd = openat(at->dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *dir = dirfd < 0 ? NULL : fdopendir(dirfd);
	struct dirent *de;
	int ret = 0;

	if (!dir)
		return files_fail(err, -errno, at, "list of descriptors");
	take_fd(&dirfd);
	f->nfds = 0;
	while (ret == 0 && (errno = 0, de = readdir(dir))) {
		struct look l = {.f = f, .at = at, .pidfd = pidfd};
		const char *p = de->d_name;
		uint64_t fd;

		if (!procfs_dec(&p, &fd) || *p || fd > INT32_MAX)
			continue;
		l.fd = (uint32_t)fd;
		ret = fd_collect(&l, err);
	}
	if (ret == 0 && errno)
		return files_fail(err, -errno, at, "list of descriptors");
	return ret;
}

static int fdtable_collect(struct files *f, struct m_proc *p, const struct proc_at *at,
			   struct err *err)
{
	uint32_t id = f->next_files;
	struct m_fdtable *t;
	struct m_fd *fds;
	int ret = same_find(&f->same, SAME_FILES, 0, at->tid, 0, id, &id);

	if (ret < 0)
		return files_fail(err, ret, at, "kcmp of descriptors");
	p->fdtable_id = id;
	if (ret)
		return 0;
	f->next_files++;
	ret = fds_read(f, at, err);
	if (ret < 0)
		return ret;
	fds = model_alloc(f->m, f->nfds * sizeof(*fds));
	t = model_push(f->m, &f->m->fdtables, &f->m->nfdtables, sizeof(*t));
	if (!fds || !t)
		return err_set(err, ENOMEM, "%u descriptors of pid %u", f->nfds, p->pid);
	if (f->nfds)
		memcpy(fds, f->fds, f->nfds * sizeof(*fds));
	*t = (struct m_fdtable){.id = id, .n = f->nfds, .fds = fds};
	model_sort_fds(t);
	return 0;
}

static int fs_collect(struct files *f, struct m_proc *p, const struct proc_at *at, struct err *err)
{
	uint32_t index = (uint32_t)(p - f->m->procs), first;
	int ret = same_find(&f->same, SAME_FS, 0, at->tid, 0, index, &first);

	if (ret < 0)
		return files_fail(err, ret, at, "kcmp of directories");
	if (ret) {
		p->fs_id = f->m->procs[first].fs_id;
		p->cwd_file_id = f->m->procs[first].cwd_file_id;
		p->root_file_id = f->m->procs[first].root_file_id;
		return 0;
	}
	p->fs_id = f->next_fs++;
	ret = files_link(f, at, "cwd", &p->cwd_file_id, err);
	return ret < 0 ? ret : files_link(f, at, "root", &p->root_file_id, err);
}

static int sighand_collect(struct files *f, struct m_proc *p, const struct proc_at *at,
			   struct err *err)
{
	uint32_t id = f->next_sighand;
	int ret = same_find(&f->same, SAME_SIGHAND, 0, at->tid, 0, id, &id);

	if (ret < 0)
		return files_fail(err, ret, at, "kcmp of signal handlers");
	f->next_sighand += ret == 0;
	p->sighand_id = id;
	return 0;
}

int files_collect(struct files *f, struct m_proc *p, struct err *err)
{
	struct proc_at at;
	int ret;

	if (p->state == M_DEAD)
		return 0;
	ret = proc_at_open(f, p, &at, err);
	if (ret < 0)
		return ret;
	if (at.dir < 0)
		return err_set(err, ESRCH, "descriptors of pid %u", p->pid);
	ret = fdtable_collect(f, p, &at, err);
	if (ret == 0)
		ret = fs_collect(f, p, &at, err);
	if (ret == 0)
		ret = sighand_collect(f, p, &at, err);
	if (ret == 0)
		ret = shares_collect(f, p, err);
	if (ret == 0 && f->same.blind && !f->told_blind) {
		f->told_blind = true;
		ret = finding_add(f->m, p->pid,
				  "kcmp is not there or not permitted: what descriptors and "
				  "processes share is not known");
	}
	proc_at_close(&at);
	return ret;
}

static int fd_finish(struct files *f, const struct m_proc *p, uint32_t fd, struct m_file *file,
		     struct err *err)
{
	switch (file->type) {
	case M_FILE_EVENTPOLL:
		return epoll_finish(f, p, fd, file, err);
	case M_FILE_TTY:
		return tty_finish(f, p, fd, file->id, err);
	case M_FILE_INOTIFY:
		return watches_finish(f, p, fd, file, err);
	case M_FILE_EVENTFD:
		/* Told since Linux 6.5. Reading would tell, too, and wake whoever waits for it. */
		if (!file->fdinfo || strstr(file->fdinfo, "eventfd-semaphore:"))
			return 0;
		return finding_add(
			       f->m, p->pid,
			       "fd %u: an eventfd: this kernel (before Linux 6.5) does not tell "
			       "whether it is a semaphore; a restore makes it a counter",
			       fd) < 0
			       ? err_set(err, ENOMEM, "findings of pid %u", p->pid)
			       : 0;
	case M_FILE_PIDFD:
		if (file->pidfd_pid < 0 || model_proc(f->m, (uint32_t)file->pidfd_pid))
			return 0;
		return finding_add(f->m, p->pid,
				   "fd %u: pidfd of process %d, which is not in the tree", fd,
				   file->pidfd_pid) < 0
			       ? err_set(err, ENOMEM, "findings of pid %u", p->pid)
			       : 0;
	default:
		return 0;
	}
}

/* What was found in queues is open in no process of the tree, but in this one. */
static int passed_finish(struct files *f, struct err *err)
{
	const struct m_proc self = {.pid = (uint32_t)getpid()};
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < f->npassed; i++)
		ret = fd_finish(f, &self, (uint32_t)f->passed[i].own,
				&f->m->files[f->passed[i].id - 1], err);
	return ret;
}

int files_finish(struct files *f, struct err *err)
{
	bool *seen = calloc(f->m->nfiles + 1, sizeof(*seen));
	int ret = seen ? sockets_finish(f, err) : err_set(err, ENOMEM, "list of files");

	/* Ends of pipes are found in queues, too. */
	if (ret == 0)
		ret = pipes_finish(f, err);
	for (uint32_t i = 0; ret == 0 && i < f->m->nprocs; i++) {
		const struct m_proc *p = &f->m->procs[i];
		const struct m_fdtable *t = model_fdtable(f->m, p->fdtable_id);

		for (uint32_t k = 0; ret == 0 && t && k < t->n; k++) {
			uint32_t id = t->fds[k].file_id;

			if (seen[id])
				continue;
			seen[id] = true;
			ret = fd_finish(f, p, t->fds[k].fd, &f->m->files[id - 1], err);
		}
	}
	free(seen);
	if (ret == 0)
		ret = passed_finish(f, err);
	return ret ? ret : ttys_finish(f, err);
}
