/* SPDX-License-Identifier: MIT */
/* The descriptions of a tree made again, kind by kind. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "src/target/make_row.h"

enum { FIRST_FD = 1024, FIRST_FD_LOW = 64 };

static const struct make_row *const rows[] = {
	[M_FILE_REG] = &make_path,
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

/* --- what refers to what ------------------------------------------------------------------------
 */

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
			if ((e = made_of(mk, p->mm.vmas[k].file_id)))
				e->wanted = e->mapped = true;
		if ((e = made_of(mk, p->mm.exe_file_id)))
			e->wanted = e->mapped = true;
		if ((e = made_of(mk, p->cwd_file_id)))
			e->wanted = true;
		if ((e = made_of(mk, p->root_file_id)))
			e->wanted = true;
	}
}

/* Room above what the tool itself may open. A limit that cannot be raised may do all the same. */
static int raise_limit(const struct make *mk)
{
	struct rlimit rl, want;
	rlim_t need = (rlim_t)FIRST_FD + mk->m->nfiles + mk->m->nshms + 256;

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

struct make *make_new(const struct model *m, const struct make_opts *opts, struct err *err)
{
	struct make *mk = calloc(1, sizeof(*mk));
	struct made *made = calloc(m->nfiles + 1, sizeof(*made));

	if (!mk || !made) {
		free(mk);
		free(made);
		err_set(err, ENOMEM, "table of %u files", m->nfiles);
		return NULL;
	}
	*mk = (struct make){.m = m, .opts = opts, .made = made};
	for (uint32_t i = 0; i < m->nfiles; i++)
		made[i].fd = -1;
	find_uses(mk);
	mk->first_fd = raise_limit(mk);
	return mk;
}

void make_free(struct make *mk)
{
	if (!mk)
		return;
	for (uint32_t i = 0; i < mk->m->nfiles; i++)
		if (mk->made[i].fd >= 0)
			close(mk->made[i].fd);
	free(mk->made);
	free(mk);
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

/* --- the three rounds ---------------------------------------------------------------------------
 */

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
	return open_all(mk, false, err);
}

int make_late(struct make *mk, struct err *err)
{
	int ret = open_all(mk, true, err);

	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];
		const struct make_row *row = row_of(f);

		if (mk->made[i].fd >= 0 && row->late)
			ret = row->late(mk, f, mk->made[i].fd, err);
	}
	return ret;
}

int make_finish(struct make *mk, struct err *err)
{
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < mk->m->nfiles; i++) {
		const struct m_file *f = &mk->m->files[i];
		const struct make_row *row = row_of(f);

		if (mk->made[i].fd >= 0 && row->finish)
			ret = row->finish(mk, f, mk->made[i].fd, err);
	}
	return ret;
}
