/* SPDX-License-Identifier: MIT */
/* The descriptions of a tree made again, kind by kind. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"

enum { FIRST_FD = 1024, FIRST_FD_LOW = 64 };

static const struct make_row *const rows[] = {
	[M_FILE_REG] = &make_path,	    [M_FILE_PIPE] = &make_pipe,
	[M_FILE_FIFO] = &make_fifo,	    [M_FILE_EVENTFD] = &make_eventfd,
	[M_FILE_EVENTPOLL] = &make_epoll,   [M_FILE_INOTIFY] = &make_inotify,
	[M_FILE_SIGNALFD] = &make_signalfd, [M_FILE_NS] = &make_ns,
	[M_FILE_TIMERFD] = &make_timerfd,   [M_FILE_MEMFD] = &make_memfd,
	[M_FILE_PIDFD] = &make_pidfd,	    [M_FILE_UNIXSK] = &make_unix,
	[M_FILE_INETSK] = &make_inet,	    [M_FILE_NETLINKSK] = &make_netlink,
	[M_FILE_PACKETSK] = &make_packet,   [M_FILE_TTY] = &make_tty,
};

enum { NROWS = sizeof(rows) / sizeof(rows[0]) };

static const struct make_row *row_of(const struct m_file *f)
{
	return (unsigned)f->type < NROWS ? rows[f->type] : NULL;
}

static const char *type_name(enum m_file_type type)
{
	static const char *const names[] = {
		[M_FILE_UND] = "socket",
		[M_FILE_REG] = "file",
		[M_FILE_PIPE] = "pipe",
		[M_FILE_FIFO] = "FIFO",
		[M_FILE_INETSK] = "internet socket",
		[M_FILE_UNIXSK] = "unix socket",
		[M_FILE_EVENTFD] = "eventfd",
		[M_FILE_EVENTPOLL] = "epoll instance",
		[M_FILE_INOTIFY] = "inotify instance",
		[M_FILE_SIGNALFD] = "signalfd",
		[M_FILE_PACKETSK] = "packet socket",
		[M_FILE_TTY] = "terminal",
		[M_FILE_FANOTIFY] = "fanotify group",
		[M_FILE_NETLINKSK] = "netlink socket",
		[M_FILE_NS] = "namespace",
		[M_FILE_TUN] = "tun device",
		[M_FILE_EXT] = "file of a kind not known",
		[M_FILE_TIMERFD] = "timerfd",
		[M_FILE_MEMFD] = "memfd",
		[M_FILE_BPFMAP] = "bpf map",
		[M_FILE_PIDFD] = "pidfd",
	};

	if ((unsigned)type >= sizeof(names) / sizeof(names[0]) || !names[type])
		return "file of a kind not known";
	return names[type];
}

const char *make_name(const struct m_file *f)
{
	static char text[300];

	snprintf(text, sizeof(text), "file %u (%s)", f->id,
		 f->path && *f->path ? f->path : type_name(f->type));
	return text;
}

/* --- what refers to what -------------------------------------------------------------------- */

static struct made *made_of(const struct make *mk, uint32_t file_id)
{
	return file_id && file_id <= mk->m->nfiles ? &mk->made[file_id - 1] : NULL;
}

static void find_uses(struct make *mk)
{
	const struct model *m = mk->m;
	struct made *e;

	for (uint32_t i = 0; i < m->nfdtables; i++)
		for (uint32_t k = 0; k < m->fdtables[i].n; k++)
			if ((e = made_of(mk, m->fdtables[i].fds[k].file_id)))
				e->wanted = e->in_table = true;
	for (uint32_t i = 0; i < m->nprocs; i++) {
		const struct m_proc *p = &m->procs[i];

		for (uint32_t k = 0; k < p->mm.nvmas; k++)
			if ((e = made_of(mk, p->mm.vmas[k].file_id))) {
				e->wanted = true;
				/* Shared ones are the program's to change, ever since the dump. */
				e->mapped |= p->mm.vmas[k].kind == M_VMA_FILE_PRIVATE;
			}
		if ((e = made_of(mk, p->mm.exe_file_id)))
			e->wanted = e->mapped = true;
		if ((e = made_of(mk, p->cwd_file_id)))
			e->wanted = true;
		if ((e = made_of(mk, p->root_file_id)))
			e->wanted = true;
	}
	/* What is under way in a queue is open there. */
	for (uint32_t i = 0; i < m->npackets; i++)
		for (uint32_t k = 0; k < m->packets[i].nrights; k++)
			if ((e = made_of(mk, m->packets[i].rights[k])))
				e->wanted = e->in_table = true;
}

/* Room above what the tool itself may open. A limit that cannot be raised may do all the same. */
static int raise_limit(const struct make *mk)
{
	struct rlimit rl, want;
	/* Of a file made by its place there may be what leads to it, too; of a deleted one there
	 * is. */
	rlim_t need = (rlim_t)FIRST_FD + mk->m->nfiles + mk->m->nghosts + mk->m->nshms +
		      mk->m->nttys + 256;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return FIRST_FD_LOW;
	if (rl.rlim_cur < need) {
		want.rlim_cur = need;
		want.rlim_max = rl.rlim_max < need ? need : rl.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &want) == 0)
			return FIRST_FD;
		want.rlim_cur = want.rlim_max = rl.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &want) == 0)
			rl = want;
	}
	return rl.rlim_cur >= need ? FIRST_FD : FIRST_FD_LOW;
}

static int *no_fds(uint32_t n)
{
	int *fds = malloc((n + 1) * sizeof(*fds));

	for (uint32_t i = 0; fds && i < n; i++)
		fds[i] = -1;
	return fds;
}

static void close_all(int *fds, uint32_t n)
{
	for (uint32_t i = 0; fds && i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(fds);
}

/* The number differs from CPU to CPU, and the C library hides it. */
static uint32_t largefile_bit(void)
{
	cleanup_fd int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int flags = fd < 0 ? 0 : fcntl(fd, F_GETFL);

	return flags < 0 ? 0 : (uint32_t)flags & ~(uint32_t)(O_ACCMODE | O_DIRECTORY);
}

struct make *make_new(const struct model *m, const struct make_opts *opts, struct err *err)
{
	struct make *mk = calloc(1, sizeof(*mk));

	if (mk) {
		*mk = (struct make){.m = m,
				    .opts = opts,
				    .made = calloc(m->nfiles + 1, sizeof(*mk->made)),
				    .segments = no_fds(m->nshms),
				    .sysv = calloc(m->nshms + 1, sizeof(*mk->sysv)),
				    .ghosts = no_fds(m->nghosts),
				    .peers = no_fds(m->nfiles),
				    .paths = no_fds(m->nfiles),
				    .ttys = no_fds(m->nttys),
				    .bound = calloc(m->nfiles + 1, sizeof(*mk->bound))};
		for (uint32_t i = 0; mk->made && i < m->nfiles; i++)
			mk->made[i].fd = -1;
	}
	if (!mk || !mk->made || !mk->segments || !mk->sysv || !mk->ghosts || !mk->peers ||
	    !mk->paths || !mk->ttys || !mk->bound) {
		make_free(mk);
		err_set(err, ENOMEM, "table of %u files", m->nfiles);
		return NULL;
	}
	find_uses(mk);
	mk->first_fd = raise_limit(mk);
	mk->largefile = largefile_bit();
	return mk;
}

void make_free(struct make *mk)
{
	if (!mk)
		return;
	for (uint32_t i = 0; mk->made && i < mk->m->nfiles; i++)
		if (mk->made[i].fd >= 0)
			close(mk->made[i].fd);
	make_sysv_remove(mk);
	free(mk->sysv);
	free(mk->watches);
	close_all(mk->segments, mk->m->nshms);
	close_all(mk->ghosts, mk->m->nghosts);
	close_all(mk->peers, mk->m->nfiles);
	close_all(mk->paths, mk->m->nfiles);
	close_all(mk->ttys, mk->m->nttys);
	if (!mk->finished)
		make_unix_undo(mk);
	free(mk->bound);
	free(mk->made);
	free(mk);
}

uint32_t make_unsummed(const struct make *mk, const char **ret_path)
{
	if (mk->nunsummed)
		*ret_path = make_name(mk->unsummed);
	return mk->nunsummed;
}

int make_fd(const struct make *mk, uint32_t file_id)
{
	const struct made *e = made_of(mk, file_id);

	return e ? e->fd : -1;
}

int make_put(struct make *mk, uint32_t file_id, int fd, struct err *err)
{
	cleanup_fd int given = fd;
	const struct m_file *f = model_file(mk->m, file_id);
	int moved;

	if (!f || mk->made[file_id - 1].fd >= 0)
		return err_set(err, EINVAL, "file %u made twice", file_id);
	moved = fcntl(given, F_DUPFD_CLOEXEC, mk->first_fd);
	if (moved < 0) {
		err_set(err, errno, "keep %s open", make_name(f));
		err_hint(err, "the limit of open files (ulimit -n) must be above %u",
			 (unsigned)mk->first_fd + mk->m->nfiles);
		return -err->errnum;
	}
	mk->made[file_id - 1].fd = moved;
	return 0;
}

int make_set_flags(int fd, const struct m_file *f, struct err *err)
{
	const int settable = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
	int now = fcntl(fd, F_GETFL);

	if (now < 0)
		return err_set(err, errno, "flags of %s", make_name(f));
	if (((unsigned)now ^ f->flags) & (unsigned)settable &&
	    fcntl(fd, F_SETFL, (now & ~settable) | ((int)f->flags & settable)) < 0)
		return err_set(err, errno, "set flags %#o of %s", f->flags, make_name(f));
	return 0;
}

/* --- the three rounds ----------------------------------------------------------------------- */

static int open_all(struct make *mk, bool late, struct err *err)
{
	for (uint32_t i = 0; i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];
		const struct make_row *row = row_of(f);
		int ret;

		if (!mk->made[i].wanted || mk->made[i].fd >= 0)
			continue;
		if (!row || !row->open)
			return err_fail(err, EOPNOTSUPP, ERR_UNSUPPORTED,
					"%s: a %s cannot be restored", make_name(f),
					type_name(f->type));
		ret = row->open(mk, f, late, err);
		if (ret < 0)
			return ret;
		if (late && mk->made[i].fd < 0)
			return err_set(err, ENOENT, "make %s", make_name(f));
	}
	return 0;
}

int make_files(struct make *mk, struct err *err)
{
	int ret = make_segments(mk, err);

	return ret < 0 ? ret : open_all(mk, false, err);
}

/* --- owners: who gets signals --------------------------------------------------------------- */

/* The kernel keeps who set the owner, and later asks whether that one may send the signal. */
static int set_owner_as(int fd, const struct m_fown *own)
{
	struct f_owner_ex ex = {.type = (int)own->pid_type, .pid = own->pid};
	uid_t ruid, euid, suid;
	int ret;

	if (getresuid(&ruid, &euid, &suid) < 0)
		return -errno;
	/* The system call and not the library's: of this thread alone. */
	if ((own->uid != ruid || own->euid != euid) &&
	    syscall(SYS_setresuid, own->uid, own->euid, -1) < 0)
		return -errno;
	ret = fcntl(fd, F_SETOWN_EX, &ex) < 0 ? -errno : 0;
	if (own->uid == ruid && own->euid == euid)
		return ret;
	if (syscall(SYS_setresuid, ruid, euid, -1) < 0)
		return -errno;
	/* Which a change of user takes away. */
	prctl(PR_SET_DUMPABLE, 1);
	return ret;
}

static int set_owner(const struct m_file *f, int fd, struct err *err)
{
	int ret = 0;

	if (f->flags & O_PATH)
		return 0;
	if (f->fown.signum && fcntl(fd, F_SETSIG, f->fown.signum) < 0)
		return err_set(err, errno, "signal %u for %s", f->fown.signum, make_name(f));
	if (f->fown.pid)
		ret = set_owner_as(fd, &f->fown);
	/* An owner that has ended gets no signals: that is what no owner does. */
	if (ret < 0 && ret != -ESRCH)
		return err_set(err, -ret, "owner %d of %s", f->fown.pid, make_name(f));
	return 0;
}

/* The first number that somebody has it under, -1. */
static int number_of(const struct model *m, const struct m_file *f)
{
	for (uint32_t i = 0; i < m->nfdtables; i++)
		for (uint32_t k = 0; k < m->fdtables[i].n; k++)
			if (m->fdtables[i].fds[k].file_id == f->id)
				return (int)m->fdtables[i].fds[k].fd;
	return -1;
}

static int turn_on(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_ASYNC) < 0 ? -errno : 0;
}

/* Descriptor @number of ours is @fd for this one call. */
static int turn_on_as(int fd, int number)
{
	int flags = fcntl(number, F_GETFD), ret;
	cleanup_fd int kept = flags < 0 ? -1 : fcntl(number, F_DUPFD_CLOEXEC, 0);

	/* Where our own limit is lower, the number is what has to go. */
	if (number == fd || (flags >= 0 && kept < 0) || dup3(fd, number, O_CLOEXEC) < 0)
		return turn_on(fd);
	ret = turn_on(number);
	if (kept < 0)
		close(number);
	else if (dup3(kept, number, flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0)
		ret = ret < 0 ? ret : -errno;
	return ret;
}

/* Signals begin with this flag, and tell of the number that it was set by. */
static int set_async(const struct model *m, const struct m_file *f, int fd, struct err *err)
{
	int number, ret;

	if (!(f->flags & O_ASYNC) || f->flags & O_PATH)
		return 0;
	number = number_of(m, f);
	ret = number < 0 ? turn_on(fd) : turn_on_as(fd, number);
	return ret < 0 ? err_set(err, -ret, "turn on signals of %s", make_name(f)) : 0;
}

/* --- with the processes there --------------------------------------------------------------- */

int make_late(struct make *mk, struct err *err)
{
	int ret = open_all(mk, true, err);

	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];
		const struct make_row *row = row_of(f);

		if (mk->made[i].fd >= 0 && row->late)
			ret = row->late(mk, f, mk->made[i].fd, err);
	}
	if (ret == 0)
		ret = make_epoll_items(mk, err);
	/* A lease makes whoever took it the owner: that is put right after it. */
	if (ret == 0)
		ret = make_locks(mk, err);
	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++)
		if (mk->made[i].fd >= 0)
			ret = set_owner(&mk->m->files[i], mk->made[i].fd, err);
	return ret;
}

int make_finish(struct make *mk, struct err *err)
{
	int ret = make_seal_rest(mk, err);

	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];
		const struct make_row *row = row_of(f);

		if (mk->made[i].fd < 0)
			continue;
		if (row->finish)
			ret = row->finish(mk, f, mk->made[i].fd, err);
		if (ret == 0)
			ret = set_async(mk->m, f, mk->made[i].fd, err);
	}
	return ret;
}

void make_done(struct make *mk)
{
	make_forget_links(mk);
	mk->finished = true;
}
